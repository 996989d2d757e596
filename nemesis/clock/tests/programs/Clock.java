// Answers each line with the wall clock and the monotonic clock, in nanoseconds.
import java.io.*;
import java.time.Instant;

public class Clock {
    public static void main(String[] args) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        while (in.readLine() != null) {
            Instant now = Instant.now();
            System.out.println((now.getEpochSecond() * 1_000_000_000L + now.getNano()) + " " + System.nanoTime());
        }
    }
}
