// Runs the stub by itself: argv holds the 18 words of a block of settings. For each function one
// line: the clock, the true time before, the time told, the true time after.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

extern char duress_stub_start[], duress_stub_end[];
extern char duress_stub_clock_gettime[], duress_stub_gettimeofday[], duress_stub_time[];

static long long true_ns(clockid_t id) {
    struct timespec t;
    syscall(SYS_clock_gettime, id, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc != 19) return 2;
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, duress_stub_start, duress_stub_end - duress_stub_start);
    __builtin___clear_cache(page, page + 4096);
    long long *data = (long long *)(page + 4096);
    data[3] = 512;
    for (int clock = 0; clock < 3; clock++)
        for (int word = 0; word < 6; word++) data[64 + clock * 8 + word] = atoll(argv[1 + clock * 6 + word]);

    int (*get)(clockid_t, struct timespec *) = (void *)(page + (duress_stub_clock_gettime - duress_stub_start));
    int (*day)(struct timeval *, void *) = (void *)(page + (duress_stub_gettimeofday - duress_stub_start));
    clockid_t ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    struct timespec t;
    for (int clock = 0; clock < 3; clock++) {
        long long before = true_ns(ids[clock]);
        if (get(ids[clock], &t)) return 3;
        long long after = true_ns(ids[clock]);
        if (t.tv_nsec < 0 || t.tv_nsec > 999999999) return 4;
        printf("%d %lld %lld %lld\n", clock, before, t.tv_sec * 1000000000LL + t.tv_nsec, after);
    }
    struct timeval tv;
    struct timezone tz;
    long long before = true_ns(CLOCK_REALTIME);
    if (day(&tv, &tz)) return 5;
    long long after = true_ns(CLOCK_REALTIME);
    if (tv.tv_usec < 0 || tv.tv_usec > 999999) return 6;
    printf("3 %lld %lld %lld\n", before, tv.tv_sec * 1000000000LL + tv.tv_usec * 1000LL, after);
    if (day(0, &tz)) return 7;
#ifdef __x86_64__
    time_t (*seconds)(time_t *) = (void *)(page + (duress_stub_time - duress_stub_start));
    time_t kept;
    before = true_ns(CLOCK_REALTIME);
    long long told = seconds(&kept);
    after = true_ns(CLOCK_REALTIME);
    if (kept != told || seconds(0) < told) return 8;
    printf("4 %lld %lld %lld\n", before, told * 1000000000LL, after);
#endif
    // Other clocks are true, and what the kernel refuses is refused.
    before = true_ns(CLOCK_MONOTONIC_RAW);
    if (get(CLOCK_MONOTONIC_RAW, &t)) return 9;
    if (t.tv_sec * 1000000000LL + t.tv_nsec < before) return 10;
    if (get(12345, &t) >= 0) return 11;
    printf("reads %lld %lld %lld\n", data[4], data[5], data[6]);
    return 0;
}
