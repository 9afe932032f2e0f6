/*
 * The command line, and the one JSON line that comes out.
 *
 *   cc -O2 -o loadgen *.c
 *   loadgen fill --target 127.0.0.1:11211
 *   loadgen run --target 127.0.0.1:11211 --sessions 50 --seconds 5 --pids 4711
 *
 * Exit status: 0 when the load ran (look at `wrong`, `failures`, `misses` and `lost`), 1 when it
 * could not (the reason is on standard error), 2 for a wrong command line.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "loadgen.h"

options_t options = {
    .target = "127.0.0.1:11211",
    .dialect = "text",
    .prefix = "key:",
    .session_count = 50,
    .source_count = 1,
    .batch_size = 1,
    .key_count = 10000,
    .value_size = 100,
    .seconds = 5,
    .warmup_seconds = 1,
};
counts_t counts;
bool measuring;

typedef enum { TEXT, INTEGER, REAL, FLAG, PIDS } option_kind_t;

static const struct {
    const char *name;
    option_kind_t kind;
    void *field;
    const char *help;
} option_rows[] = {
    {"--target", TEXT, &options.target, "HOST:PORT or unix:/path (127.0.0.1:11211)"},
    {"--dialect", TEXT, &options.dialect, "text, meta or binary (text)"},
    {"--username", TEXT, &options.username, "a login; the password is in LOADGEN_PASSWORD"},
    {"--logins", INTEGER, &options.login_count, "that many logins in turn: NAME-0, NAME-1, ... (0)"},
    {"--sessions", INTEGER, &options.session_count, "connections, one batch outstanding each (50)"},
    {"--sources", INTEGER, &options.source_count, "spread over addresses 127.0.0.101.. (1)"},
    {"--batch", INTEGER, &options.batch_size, "pipelined requests per batch, at most 64 (1)"},
    {"--multiget", FLAG, &options.multiget, "a batch is one multi-get instead"},
    {"--set-percent", INTEGER, &options.set_percent, "share of sets (0)"},
    {"--keys", INTEGER, &options.key_count, "how many keys there are (10000)"},
    {"--prefix", TEXT, &options.prefix, "what every key begins with (key:)"},
    {"--value-size", INTEGER, &options.value_size, "bytes, at least 8 (100)"},
    {"--rate", REAL, &options.rate, "keys per second; latency counts from the due time"},
    {"--warmup", REAL, &options.warmup_seconds, "seconds before measuring (1)"},
    {"--seconds", REAL, &options.seconds, "measured seconds (5)"},
    {"--pids", PIDS, NULL, "processes whose CPU time and memory are sampled"},
    {"--seed", INTEGER, &options.seed, "of the choice of keys (0)"},
};
enum { OPTION_COUNT = sizeof option_rows / sizeof option_rows[0] };

static const struct {
    const char *name;
    void (*run)(void);
    const char *help;
} commands[] = {
    {"fill", run_fill, "write every key once"},
    {"run", run_load, "a closed loop, or a fixed rate with --rate"},
    {"idle", run_idle, "open the sessions, hold them, sample the memory of --pids"},
    {"logins", run_logins, "connect, log in, close, again and again"},
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

__attribute__((noreturn)) static void refuse(const char *problem, const char *word) {
    fprintf(stderr, "loadgen: %s%s\nusage: loadgen COMMAND [OPTION VALUE]...\n", problem, word);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        fprintf(stderr, "  %-14s %s\n", commands[i].name, commands[i].help);
    }
    for (int i = 0; i < OPTION_COUNT; i++) {
        fprintf(stderr, "  %-14s %s\n", option_rows[i].name, option_rows[i].help);
    }
    exit(2);
}

static void read_pids(char *list) {
    for (char *pid = strtok(list, ","); pid != NULL; pid = strtok(NULL, ",")) {
        if (options.pid_count == PIDS_MAX) {
            refuse("too many --pids", "");
        }
        options.pids[options.pid_count] = atoi(pid);
        options.pid_count += 1;
    }
}

static void read_value(int row, char *text) {
    if (text == NULL) {
        refuse("no value for ", option_rows[row].name);
    }
    switch (option_rows[row].kind) {
    case TEXT:
        *(const char **)option_rows[row].field = text;
        break;
    case INTEGER:
        *(int *)option_rows[row].field = atoi(text);
        break;
    case REAL:
        *(double *)option_rows[row].field = atof(text);
        break;
    case PIDS:
        read_pids(text);
        break;
    case FLAG:
        break;
    }
}

static int find_option(const char *name) {
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (strcmp(option_rows[i].name, name) == 0) {
            return i;
        }
    }
    refuse("unknown option ", name);
}

/* `arguments` ends with NULL, as those of main do. */
static void read_options(char **arguments) {
    while (*arguments != NULL) {
        int row = find_option(*arguments);
        if (option_rows[row].kind == FLAG) {
            *(bool *)option_rows[row].field = true;
            arguments += 1;
        } else {
            read_value(row, arguments[1]);
            arguments += 2;
        }
    }
}

static void check_options(void) {
    options.password = getenv("LOADGEN_PASSWORD");
    if (options.username != NULL && options.password == NULL) {
        refuse("--username needs LOADGEN_PASSWORD in the environment", "");
    }
    if (options.username != NULL && strcmp(options.dialect, "meta") == 0) {
        refuse("--username needs --dialect binary or text", "");
    }
    if (options.batch_size < 1 || options.batch_size > BATCH_MAX) {
        refuse("--batch is 1 to 64", "");
    }
    if (options.multiget && options.set_percent > 0) {
        refuse("--multiget has no sets", "");
    }
    if (options.value_size < VALUE_NAME_SIZE) {
        refuse("--value-size is at least 8", "");
    }
    if (strlen(options.prefix) + KEY_NUMBER_DIGITS > KEY_SIZE_MAX || options.key_count < 1) {
        refuse("--prefix is too long or --keys too small", "");
    }
    if (options.session_count < 1 || options.source_count < 1) {
        refuse("--sessions and --sources are at least 1", "");
    }
}

static void print_counts(void) {
    double operations = counts.operations > 0 ? (double)counts.operations : 1;
    double seconds = counts.seconds > 0 ? counts.seconds : 1;
    printf("{\"seconds\":%.3f,\"operations\":%lu,\"perSecond\":%.0f,", counts.seconds,
           counts.operations, (double)counts.operations / seconds);
    printf("\"p50Us\":%.1f,\"p99Us\":%.1f,\"p999Us\":%.1f,", latency_us(0.5), latency_us(0.99),
           latency_us(0.999));
    printf("\"hits\":%lu,\"misses\":%lu,\"failures\":%lu,\"wrong\":%lu,\"lost\":%lu,", counts.hits,
           counts.misses, counts.failures, counts.wrong, counts.lost);
    printf("\"cpuUs\":%.3f,\"generatorCpuUs\":%.3f,", counts.cpu_seconds * 1e6 / operations,
           counts.generator_cpu_seconds * 1e6 / operations);
    printf("\"rssKbBefore\":%ld,\"rssKb\":%ld}\n", counts.rss_kb_before, counts.rss_kb);
}

static void prepare_process(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    /* The kernel may delay a wake-up by 50 us; at a fixed rate that would count as latency. */
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
}

static void (*find_command(const char *name))(void) {
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return commands[i].run;
        }
    }
    refuse("unknown command ", name);
}

int main(int argument_count, char **arguments) {
    if (argument_count < 2) {
        refuse("no command", "");
    }
    void (*run)(void) = find_command(arguments[1]);
    read_options(arguments + 2);
    check_options();
    dialect = find_dialect(options.dialect);
    prepare_values();
    prepare_process();
    run();
    print_counts();
    return 0;
}
