/*
 * Clock, latency histogram, and what the processes under test have used.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "loadgen.h"

/*
 * Log-linear buckets: latencies below 64 ns have a bucket each; above, every power of two is cut
 * into 32, so a quantile is at most 3 % too low.
 */
enum {
    SUB_BITS = 5,
    SUB_COUNT = 1 << SUB_BITS,
    EXPONENT_MAX = 40, /* 2^45 ns are ten hours */
    BUCKET_COUNT = (EXPONENT_MAX + 2) * SUB_COUNT,
};

static uint64_t buckets[BUCKET_COUNT];
static uint64_t recorded_count;

static double seconds_of(struct timespec time) {
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

uint64_t monotonic_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int bucket_of(uint64_t ns) {
    if (ns < 2 * SUB_COUNT) {
        return (int)ns;
    }
    int exponent = 63 - __builtin_clzll(ns) - SUB_BITS;
    if (exponent > EXPONENT_MAX) {
        return BUCKET_COUNT - 1;
    }
    return exponent * SUB_COUNT + (int)(ns >> exponent);
}

static uint64_t bucket_start_ns(int bucket) {
    if (bucket < 2 * SUB_COUNT) {
        return (uint64_t)bucket;
    }
    int exponent = bucket / SUB_COUNT - 1;
    return (uint64_t)(bucket - exponent * SUB_COUNT) << exponent;
}

void record_latency(uint64_t ns) {
    buckets[bucket_of(ns)] += 1;
    recorded_count += 1;
}

double latency_us(double quantile) {
    uint64_t rank = (uint64_t)((double)recorded_count * quantile);
    uint64_t seen = 0;
    for (int bucket = 0; bucket < BUCKET_COUNT; bucket++) {
        seen += buckets[bucket];
        if (seen > rank) {
            return (double)bucket_start_ns(bucket) / 1e3;
        }
    }
    return 0;
}

/* The process CPU clock counts user and system time of all threads, dead ones too, in ns. */
double cpu_seconds_of_pids(void) {
    double sum = 0;
    for (int i = 0; i < options.pid_count; i++) {
        clockid_t clock;
        struct timespec time;
        if (clock_getcpuclockid(options.pids[i], &clock) != 0 || clock_gettime(clock, &time) != 0) {
            die("process %d is gone", options.pids[i]);
        }
        sum += seconds_of(time);
    }
    return sum;
}

double cpu_seconds_of_self(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return seconds_of(time);
}

static long rss_kb_of(int pid) {
    char line[256];
    snprintf(line, sizeof line, "/proc/%d/status", pid);
    FILE *file = fopen(line, "r");
    if (file == NULL) {
        die("process %d is gone", pid);
    }
    long kb = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmRSS: %ld kB", &kb) == 1) {
            break;
        }
    }
    fclose(file);
    return kb;
}

long rss_kb_of_pids(void) {
    long sum = 0;
    for (int i = 0; i < options.pid_count; i++) {
        sum += rss_kb_of(options.pids[i]);
    }
    return sum;
}
