/*
 * loadgen: a single-threaded epoll load generator for servers and proxies that speak memcached.
 *
 *   main.c      the command line and the JSON line that comes out
 *   load.c      the four commands: fill, run (closed loop or fixed rate), idle, logins
 *   session.c   sockets: dial, write, read, one epoll
 *   dialect.c   text, meta and binary: requests to bytes, bytes to replies
 *   measure.c   clock, histogram, CPU time and RSS of the processes under test
 *
 * Invariant: every reply is compared with what was asked. A value names its key in its first
 * bytes, so a reply that went to the wrong session or came in the wrong order is counted `wrong`.
 */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BATCH_MAX = 64,
    PIDS_MAX = 64,
    KEY_SIZE_MAX = 250,
    KEY_NUMBER_DIGITS = 7,
    VALUE_NAME_SIZE = 8, /* the first bytes of a value: its key's number in hexadecimal */
};

typedef struct {
    const char *target; /* HOST:PORT or unix:/path */
    const char *dialect;
    const char *username; /* NULL: no login */
    int login_count;      /* sessions log in as NAME-0, NAME-1, ... in turn; 0: as NAME */
    const char *password; /* from LOADGEN_PASSWORD; an argument would show in `ps` */
    const char *prefix;
    int session_count;
    int source_count; /* sessions are spread over this many addresses 127.0.0.101.. */
    int batch_size;
    bool multiget;
    int set_percent;
    int key_count;
    int value_size;
    double seconds;
    double warmup_seconds;
    double rate; /* keys per second; 0: closed loop */
    int seed;
    int pids[PIDS_MAX];
    int pid_count;
} options_t;

typedef struct {
    char *bytes;
    size_t size;
    size_t capacity;
} buffer_t;

typedef struct {
    uint32_t key;
    bool is_set;
    bool answered;
} request_t;

/* What one frame from the server means. */
typedef enum { VALUE, MISS, STORED, END, LOGGED_IN, FAILURE } reply_kind_t;

typedef struct {
    reply_kind_t kind;
    bool names_key; /* the frame said which key it answers */
    uint32_t key;
    const char *value;
    size_t value_size;
    bool completes; /* the request it belongs to has its whole answer */
} reply_t;

typedef enum { CONNECTING, LOGGING_IN, READY } session_state_t;

typedef struct {
    int index;
    int fd;
    session_state_t state;
    bool busy; /* a batch is sent and not answered */
    bool watches_writes;
    buffer_t in; /* the start of a frame whose rest has not come yet */
    buffer_t out;
    size_t out_sent;
    uint64_t started_ns; /* when the batch was sent, or was due to be sent */
    bool multiget;       /* the batch is one multi-get with one answer */
    request_t requests[BATCH_MAX];
    int request_count;
    int next; /* the request whose answer comes next */
    int values_seen;
} session_t;

typedef struct {
    void (*put_get)(buffer_t *out, uint32_t key);
    void (*put_set)(buffer_t *out, uint32_t key);
    void (*put_multiget)(buffer_t *out, const request_t *requests, int count);
    /* The size of the frame at `bytes`, or 0 when it is not complete yet. */
    size_t (*parse)(const session_t *session, const char *bytes, size_t size, reply_t *reply);
} dialect_t;

/* Everything that is counted inside the measured time; wrong and failures always. */
typedef struct {
    uint64_t operations; /* keys, or logins */
    uint64_t hits;
    uint64_t misses;
    uint64_t failures; /* error replies */
    uint64_t wrong;    /* values of another key, of the wrong size, or never asked for */
    uint64_t lost;     /* batches still unanswered one second after the end */
    double seconds;
    double cpu_seconds; /* user and system time of the pids */
    double generator_cpu_seconds;
    long rss_kb_before;
    long rss_kb;
} counts_t;

extern options_t options;
extern counts_t counts;
extern bool measuring;

/* main.c */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* dialect.c */
const dialect_t *find_dialect(const char *name);
void prepare_values(void);
bool value_is_of_key(const reply_t *reply, uint32_t key);
void put_login(buffer_t *out, const char *username);

/* session.c */
extern const dialect_t *dialect;
/* What a command does when a session has logged in, and when its batch is answered. */
extern void (*on_logged_in)(session_t *session, uint64_t now_ns);
extern void (*on_answered)(session_t *session, uint64_t now_ns);
void append(buffer_t *buffer, const void *bytes, size_t size);
session_t *new_sessions(int count);
session_t *open_sessions(int count);
void dial(session_t *session);
void hang_up(session_t *session);
void flush_session(session_t *session);
void poll_sessions(uint64_t wait_ns);

/* load.c */
void run_fill(void);
void run_load(void);
void run_idle(void);
void run_logins(void);

/* measure.c */
uint64_t monotonic_ns(void);
void record_latency(uint64_t ns);
double latency_us(double quantile);
double cpu_seconds_of_pids(void);
double cpu_seconds_of_self(void);
long rss_kb_of_pids(void);

#endif
