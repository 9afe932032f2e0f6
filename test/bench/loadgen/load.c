/*
 * The four commands: fill every key once, run a load, hold idle sessions, log in again and again.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>

#include "loadgen.h"

static const uint64_t SECOND_NS = 1000000000u;
static const uint64_t WAIT_MAX_NS = 5000000u;

static uint64_t random_state = 88172645463325252u;
static bool stopping;
static uint32_t keys_filled;

/* Sessions without a batch, oldest first; only a fixed rate leaves sessions without one. */
static session_t **free_sessions;
static int free_first;
static int free_count;

static uint64_t interval_ns; /* between two batches of a fixed rate */
static uint64_t next_due_ns;

/* xorshift64: chance must cost nothing here */
static uint32_t random_below(uint32_t bound) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) % bound);
}

static void send_batch(session_t *session, uint64_t started_ns) {
    session->busy = true;
    session->started_ns = started_ns;
    session->next = 0;
    session->values_seen = 0;
    if (session->multiget) {
        dialect->put_multiget(&session->out, session->requests, session->request_count);
    } else {
        for (int i = 0; i < session->request_count; i++) {
            const request_t *request = &session->requests[i];
            (request->is_set ? dialect->put_set : dialect->put_get)(&session->out, request->key);
        }
    }
    flush_session(session);
}

static void start_batch(session_t *session, uint64_t started_ns) {
    session->multiget = options.multiget;
    session->request_count = options.batch_size;
    for (int i = 0; i < options.batch_size; i++) {
        session->requests[i] = (request_t){
            .key = random_below((uint32_t)options.key_count),
            .is_set = (int)random_below(100) < options.set_percent,
        };
    }
    send_batch(session, started_ns);
}

static void record_batch(const session_t *session, uint64_t now_ns) {
    if (measuring) {
        counts.operations += (uint64_t)session->request_count;
        record_latency(now_ns - session->started_ns);
    }
}

/* ---- measured time ---- */

static void begin_measuring(void) {
    counts.cpu_seconds = -cpu_seconds_of_pids();
    counts.generator_cpu_seconds = -cpu_seconds_of_self();
    measuring = true;
}

static void end_measuring(uint64_t ns) {
    measuring = false;
    counts.cpu_seconds += cpu_seconds_of_pids();
    counts.generator_cpu_seconds += cpu_seconds_of_self();
    counts.seconds = (double)ns / (double)SECOND_NS;
    counts.rss_kb = rss_kb_of_pids();
}

/* Warm-up, then the measured time. `send` starts what is due and answers how long to wait. */
static void drive(uint64_t (*send)(uint64_t now_ns)) {
    uint64_t now_ns = monotonic_ns();
    uint64_t begin_ns = now_ns + (uint64_t)(options.warmup_seconds * (double)SECOND_NS);
    uint64_t end_ns = begin_ns + (uint64_t)(options.seconds * (double)SECOND_NS);
    while (now_ns < end_ns) {
        if (!measuring && now_ns >= begin_ns) {
            begin_ns = now_ns;
            begin_measuring();
        }
        poll_sessions(send(now_ns));
        now_ns = monotonic_ns();
    }
    end_measuring(now_ns - begin_ns);
    stopping = true;
}

static uint64_t send_nothing(uint64_t now_ns) {
    (void)now_ns;
    return WAIT_MAX_NS;
}

/* ---- fill ---- */

static void fill_next(session_t *session, uint64_t now_ns) {
    if (keys_filled == (uint32_t)options.key_count) {
        return;
    }
    session->requests[0] = (request_t){.key = keys_filled, .is_set = true};
    session->request_count = 1;
    keys_filled += 1;
    send_batch(session, now_ns);
}

static int busy_count(const session_t *sessions) {
    int count = 0;
    for (int i = 0; i < options.session_count; i++) {
        count += sessions[i].busy;
    }
    return count;
}

void run_fill(void) {
    session_t *sessions = open_sessions(options.session_count);
    on_answered = fill_next;
    for (int i = 0; i < options.session_count; i++) {
        fill_next(&sessions[i], monotonic_ns());
    }
    while (busy_count(sessions) > 0) {
        poll_sessions(WAIT_MAX_NS);
    }
    counts.operations = keys_filled;
}

/* ---- run ---- */

static void answered_in_closed_loop(session_t *session, uint64_t now_ns) {
    record_batch(session, now_ns);
    if (!stopping) {
        start_batch(session, now_ns);
    }
}

static void free_session(session_t *session) {
    int last = (free_first + free_count) % options.session_count;
    free_sessions[last] = session;
    free_count += 1;
}

static void answered_at_fixed_rate(session_t *session, uint64_t now_ns) {
    record_batch(session, now_ns);
    free_session(session);
}

/*
 * Sends what is due. When no session is free the batch waits and goes out late, but its latency
 * counts from the moment it was due: a stalled server cannot hide behind requests that were
 * never sent ("coordinated omission").
 */
static uint64_t send_due(uint64_t now_ns) {
    while (next_due_ns <= now_ns) {
        if (free_count == 0) {
            return WAIT_MAX_NS;
        }
        session_t *session = free_sessions[free_first];
        free_first = (free_first + 1) % options.session_count;
        free_count -= 1;
        start_batch(session, next_due_ns);
        next_due_ns += interval_ns;
    }
    return next_due_ns - now_ns;
}

/* Every answer that is owed must come, or it counts as lost. */
static void await_rest(const session_t *sessions) {
    uint64_t deadline_ns = monotonic_ns() + SECOND_NS;
    while (busy_count(sessions) > 0 && monotonic_ns() < deadline_ns) {
        poll_sessions(WAIT_MAX_NS);
    }
    counts.lost = (uint64_t)busy_count(sessions);
}

void run_load(void) {
    random_state ^= (uint64_t)options.seed * 0x9e3779b97f4a7c15u;
    session_t *sessions = open_sessions(options.session_count);
    if (options.rate > 0) {
        on_answered = answered_at_fixed_rate;
        free_sessions = calloc((size_t)options.session_count, sizeof(session_t *));
        for (int i = 0; i < options.session_count; i++) {
            free_session(&sessions[i]);
        }
        interval_ns = (uint64_t)((double)SECOND_NS * options.batch_size / options.rate);
        next_due_ns = monotonic_ns();
        drive(send_due);
    } else {
        on_answered = answered_in_closed_loop;
        for (int i = 0; i < options.session_count; i++) {
            start_batch(&sessions[i], monotonic_ns());
        }
        drive(send_nothing);
    }
    await_rest(sessions);
}

/* ---- idle ---- */

void run_idle(void) {
    counts.rss_kb_before = rss_kb_of_pids();
    open_sessions(options.session_count);
    counts.operations = (uint64_t)options.session_count;
    drive(send_nothing);
}

/* ---- logins ---- */

static void log_in_again(session_t *session, uint64_t now_ns) {
    if (measuring) {
        counts.operations += 1;
        record_latency(now_ns - session->started_ns);
    }
    hang_up(session);
    if (!stopping) {
        dial(session);
    }
}

void run_logins(void) {
    if (options.username == NULL) {
        die("logins need --username");
    }
    on_logged_in = log_in_again;
    session_t *sessions = new_sessions(options.session_count);
    for (int i = 0; i < options.session_count; i++) {
        dial(&sessions[i]);
    }
    drive(send_nothing);
}
