/*
 * The sockets as an addon: plain functions over one handle (native.ts says what they mean), and one
 * call of a JavaScript function for each delivery of events. Node-API only, so that one build fits
 * every Node; each thread that loads it has handles of its own.
 *
 * The epoll of the sockets is watched by one uv_poll of Node's own loop. While no socket is open
 * that handle does not keep the process alive, and the JavaScript side may be collected; then, or
 * when its thread ends, everything is freed.
 */
#define NAPI_VERSION 8
#include <errno.h>
#include <node_api.h>
#include <stdlib.h>
#include <string.h>

#include "sockets.h"

/* What we use of uv.h, which not every installation of Node has; all of it is stable. */
typedef struct uv_handle_s uv_handle_t;
typedef struct uv_poll_s uv_poll_t;
enum { UV_POLL_HANDLE = 8, UV_READABLE_EVENT = 1 };
size_t uv_handle_size(int type);
void *uv_handle_get_data(const uv_handle_t *handle);
void uv_handle_set_data(uv_handle_t *handle, void *data);
int uv_poll_init(struct uv_loop_s *loop, uv_poll_t *handle, int fd);
int uv_poll_start(uv_poll_t *handle, int events, void (*ready)(uv_poll_t *, int, int));
void uv_close(uv_handle_t *handle, void (*closed)(uv_handle_t *));
void uv_ref(uv_handle_t *handle);
void uv_unref(uv_handle_t *handle);

#define PATH_SIZE_MAX 256

typedef struct {
    sockets_t sockets;
    napi_env env;
    uv_handle_t *poll; /* NULL when it is closed */
    napi_ref turn; /* strong while a socket is open */
    napi_async_context context;
    napi_async_cleanup_hook_handle cleanup;
    int32_t *events;
    int32_t *writes;
    size_t write_count_max;
    bool is_held; /* by open sockets */
    bool is_closing;
    bool is_collected; /* nobody in JavaScript has it any more */
} io_t;

/* ---- life ------------------------------------------------------------------------------------ */

/* Follows the number of open sockets. */
static void hold(io_t *io) {
    bool is_held = io->sockets.open_count > 0;
    if (is_held == io->is_held || io->is_closing) return;
    io->is_held = is_held;
    if (is_held) {
        uv_ref(io->poll);
        napi_reference_ref(io->env, io->turn, NULL);
    } else {
        uv_unref(io->poll);
        napi_reference_unref(io->env, io->turn, NULL);
    }
}

static void free_when_done(io_t *io) {
    if (io->poll == NULL && io->is_collected) free(io);
}

static void poll_closed(uv_handle_t *handle) {
    io_t *io = uv_handle_get_data(handle);
    free(handle);
    io->poll = NULL;
    sockets_close_all(&io->sockets);
    if (io->cleanup != NULL) napi_remove_async_cleanup_hook(io->cleanup);
    free_when_done(io);
}

static void begin_close(io_t *io) {
    if (io->is_closing) return;
    io->is_closing = true;
    uv_close(io->poll, poll_closed);
}

static void thread_ends(napi_async_cleanup_hook_handle handle, void *data) {
    (void)handle;
    begin_close(data);
}

static void collected(napi_env env, void *data, void *hint) {
    (void)hint;
    io_t *io = data;
    io->is_collected = true;
    if (io->is_closing) return free_when_done(io); /* With its thread, which frees the rest. */
    napi_delete_reference(env, io->turn);
    napi_async_destroy(env, io->context);
    begin_close(io);
}

/* ---- a turn ---------------------------------------------------------------------------------- */

static void call_turn(void *context, int count, bool is_last) {
    io_t *io = context;
    napi_env env = io->env;
    napi_handle_scope scope;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return;
    napi_value turn, global, arguments[2];
    napi_get_reference_value(env, io->turn, &turn);
    napi_get_global(env, &global);
    napi_create_int32(env, count, &arguments[0]);
    napi_get_boolean(env, is_last, &arguments[1]);
    napi_status status =
        napi_make_callback(env, io->context, global, turn, 2, arguments, NULL);
    if (status == napi_pending_exception) {
        napi_value error;
        if (napi_get_and_clear_last_exception(env, &error) == napi_ok) {
            napi_fatal_exception(env, error);
        }
    }
    napi_close_handle_scope(env, scope);
}

static void ready(uv_poll_t *poll, int status, int events) {
    (void)events;
    io_t *io = uv_handle_get_data((uv_handle_t *)poll);
    if (status != 0 || io->is_closing) return;
    sockets_turn(&io->sockets, io->events, call_turn, io);
    hold(io);
}

/* ---- arguments ------------------------------------------------------------------------------- */

#define ARGUMENTS_MAX 6

typedef struct {
    napi_env env;
    io_t *io; /* the first argument */
    napi_value values[ARGUMENTS_MAX];
} call_t;

static call_t begin_call(napi_env env, napi_callback_info info) {
    call_t call = {.env = env};
    size_t count = ARGUMENTS_MAX;
    napi_get_cb_info(env, info, &count, call.values, NULL, NULL);
    void *io = NULL;
    napi_get_value_external(env, call.values[0], &io);
    call.io = io;
    return call;
}

static int32_t integer(const call_t *call, int index) {
    int32_t value = 0;
    napi_get_value_int32(call->env, call->values[index], &value);
    return value;
}

static bool boolean(const call_t *call, int index) {
    bool value = false;
    napi_get_value_bool(call->env, call->values[index], &value);
    return value;
}

static napi_value result(const call_t *call, int32_t value) {
    napi_value number;
    napi_create_int32(call->env, value, &number);
    return number;
}

/* Two arguments: a host and its port, or a path and -1. `text` holds what the endpoint names. */
static endpoint_t endpoint_of(const call_t *call, int index, char text[PATH_SIZE_MAX]) {
    text[0] = '\0';
    napi_get_value_string_utf8(call->env, call->values[index], text, PATH_SIZE_MAX, NULL);
    int port = integer(call, index + 1);
    if (port < 0) return (endpoint_t){.path = text};
    return (endpoint_t){.host = text, .port = port};
}

/* ---- functions ------------------------------------------------------------------------------- */

/* (io, endpoint, endpoint, backlog, reusePort, keepAliveSeconds): an id or a negative errno. */
static napi_value listen_at(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    char text[PATH_SIZE_MAX];
    endpoint_t endpoint = endpoint_of(&call, 1, text);
    int id = sockets_listen(&call.io->sockets, endpoint, integer(&call, 3), boolean(&call, 4),
                            integer(&call, 5));
    hold(call.io);
    return result(&call, id);
}

/* (io, endpoint, endpoint): an id or a negative errno. */
static napi_value connect_to(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    char text[PATH_SIZE_MAX];
    int id = sockets_connect(&call.io->sockets, endpoint_of(&call, 1, text));
    hold(call.io);
    return result(&call, id);
}

/* (io, id): the port that a socket is bound to. */
static napi_value port_of(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    return result(&call, sockets_port(&call.io->sockets, integer(&call, 1)));
}

/* (io, id): the numeric address of the other side, or "". */
static napi_value peer_of(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    char text[PEER_SIZE_MAX];
    sockets_peer(&call.io->sockets, integer(&call, 1), text);
    napi_value address;
    napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &address);
    return address;
}

/* (io, id, buffer): how many bytes were taken, or a negative errno. */
static napi_value send_bytes(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    void *bytes = NULL;
    size_t size = 0;
    napi_get_buffer_info(env, call.values[2], &bytes, &size);
    return result(&call, sockets_send(&call.io->sockets, integer(&call, 1), bytes, size));
}

/*
 * (io, count): sends what stands in the table of writes, rows of id, place in memory and size. The
 * place moves on by what was taken; the size becomes what is left, or a negative errno. Answers how
 * many rows were not taken whole.
 */
static napi_value send_table(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    io_t *io = call.io;
    int32_t left_count = 0;
    size_t count = (size_t)integer(&call, 1);
    if (count > io->write_count_max) count = io->write_count_max;
    for (size_t i = 0; i < count; i++) {
        int32_t *row = &io->writes[i * EVENT_FIELDS];
        int taken = sockets_send(&io->sockets, row[0], io->sockets.memory + row[1], (size_t)row[2]);
        if (taken < 0) {
            row[2] = taken;
        } else {
            row[1] += taken;
            row[2] -= taken;
        }
        if (row[2] != 0) left_count++;
    }
    return result(&call, left_count);
}

/* (io, id, isWanted) */
static napi_value read_or_not(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    sockets_read(&call.io->sockets, integer(&call, 1), boolean(&call, 2));
    return NULL;
}

/* (io, id, group) */
static napi_value group_socket(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    sockets_group(&call.io->sockets, integer(&call, 1), integer(&call, 2));
    return NULL;
}

/* (io, readsMax) */
static napi_value limit_groups(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    sockets_limit(&call.io->sockets, integer(&call, 1));
    return NULL;
}

/* (io, id) */
static napi_value shut(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    sockets_shut(&call.io->sockets, integer(&call, 1));
    return NULL;
}

/* (io, id, isReset) */
static napi_value close_socket(napi_env env, napi_callback_info info) {
    call_t call = begin_call(env, info);
    sockets_close(&call.io->sockets, integer(&call, 1), boolean(&call, 2));
    hold(call.io);
    return NULL;
}

/* ---- begin ----------------------------------------------------------------------------------- */

static int start(io_t *io) {
    struct uv_loop_s *loop;
    if (napi_get_uv_event_loop(io->env, &loop) != napi_ok) return -EINVAL;
    int error = sockets_open(&io->sockets);
    if (error != 0) return error;
    io->poll = calloc(1, uv_handle_size(UV_POLL_HANDLE));
    if (io->poll == NULL) return -ENOMEM;
    error = uv_poll_init(loop, (uv_poll_t *)io->poll, io->sockets.epoll);
    if (error != 0) {
        free(io->poll);
        io->poll = NULL;
        return error;
    }
    uv_handle_set_data(io->poll, io);
    uv_poll_start((uv_poll_t *)io->poll, UV_READABLE_EVENT, ready);
    uv_unref(io->poll);
    return 0;
}

/*
 * (memory, readFrom, readTo, events, writes, turn): the handle that all others take, or a negative
 * errno. Memory and tables belong to JavaScript, which has to keep them as long as the handle;
 * `turn(count, isLast)` is called with `count` events in their table.
 */
static napi_value open_io(napi_env env, napi_callback_info info) {
    call_t call = {.env = env};
    size_t count = ARGUMENTS_MAX;
    napi_get_cb_info(env, info, &count, call.values, NULL, NULL);
    io_t *io = calloc(1, sizeof *io);
    if (io == NULL) return result(&call, -ENOMEM);
    io->env = env;
    void *memory, *events, *writes;
    size_t length;
    napi_get_buffer_info(env, call.values[0], &memory, &length);
    napi_get_typedarray_info(env, call.values[3], NULL, NULL, &events, NULL, NULL);
    napi_get_typedarray_info(env, call.values[4], NULL, &length, &writes, NULL, NULL);
    io->sockets.memory = memory;
    io->sockets.read_from = (size_t)integer(&call, 1);
    io->sockets.read_to = (size_t)integer(&call, 2);
    io->events = events;
    io->writes = writes;
    io->write_count_max = length / EVENT_FIELDS;
    int error = start(io);
    if (error != 0) {
        sockets_close_all(&io->sockets);
        free(io);
        return result(&call, error);
    }
    napi_value name, handle;
    napi_create_string_utf8(env, "memward:io", NAPI_AUTO_LENGTH, &name);
    napi_async_init(env, NULL, name, &io->context);
    napi_create_reference(env, call.values[5], 0, &io->turn);
    napi_add_async_cleanup_hook(env, thread_ends, io, &io->cleanup);
    napi_create_external(env, io, collected, NULL, &handle);
    return handle;
}

NAPI_MODULE_INIT() {
    static const struct {
        const char *name;
        napi_callback function;
    } rows[] = {
        {"open", open_io},      {"listen", listen_at},   {"connect", connect_to},
        {"port", port_of},      {"peer", peer_of},       {"send", send_bytes},
        {"read", read_or_not},  {"shut", shut},          {"sendTable", send_table},
        {"close", close_socket}, {"group", group_socket}, {"limit", limit_groups},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        napi_value function;
        napi_create_function(env, rows[i].name, NAPI_AUTO_LENGTH, rows[i].function, NULL,
                             &function);
        napi_set_named_property(env, exports, rows[i].name, function);
    }
    return exports;
}
