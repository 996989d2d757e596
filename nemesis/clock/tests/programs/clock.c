// Answers each line with the wall clock and the monotonic clock, in nanoseconds. With an argument
// N it also has N threads that read clocks all the time; with `raw` it asks the kernel itself.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int raw;

static long long ns(clockid_t id) {
    struct timespec t;
    if (raw) syscall(SYS_clock_gettime, id, &t);
    else clock_gettime(id, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void *spin(void *unused) {
    struct timeval tv;
    long long last = 0;
    for (;;) {
        long long now = ns(CLOCK_MONOTONIC);
        if (now < last) { fprintf(stderr, "backwards by %lld\n", last - now); exit(3); }
        last = now;
        ns(CLOCK_REALTIME);
        gettimeofday(&tv, 0);
        time(0);
    }
    return unused;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 0;
    raw = argc > 1 && !strcmp(argv[1], "raw");
    for (int i = 0; i < threads; i++) { pthread_t t; pthread_create(&t, 0, spin, 0); }
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        struct timeval tv;
        long long wall = ns(CLOCK_REALTIME), mono = ns(CLOCK_MONOTONIC);
        if (raw) { printf("%lld %lld\n", wall, mono); fflush(stdout); continue; }
        gettimeofday(&tv, 0);
        long long other = tv.tv_sec * 1000000000LL + tv.tv_usec * 1000LL;
        long long seconds = time(0);
        // All the ways to the wall clock must agree; microseconds are rounded down twice, and the
        // kernel's own time() is a tick late.
        long long gap = other - wall, sgap = seconds - wall / 1000000000LL;
        if (gap < -2000 || gap > 200000000 || sgap < -1 || sgap > 1) { printf("disagree %lld %lld\n", gap, sgap); }
        else printf("%lld %lld\n", wall, mono);
        fflush(stdout);
    }
    return 0;
}
