# Answers each line with the wall clock and the monotonic clock, in nanoseconds.
use Time::HiRes qw(clock_gettime gettimeofday CLOCK_MONOTONIC);
$| = 1;
while (<STDIN>) {
    my ($s, $us) = gettimeofday();
    printf "%d%06d000 %.0f\n", $s, $us, clock_gettime(CLOCK_MONOTONIC) * 1e9;
}
