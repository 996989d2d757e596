# Answers each line with the wall clock and the monotonic clock, in nanoseconds.
import sys, time
for line in sys.stdin:
    print(time.time_ns(), time.monotonic_ns(), flush=True)
