/*
 * Sessions: connect and log in, write what waits, read frames and compare each with the request
 * that it answers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "loadgen.h"

enum {
    EVENTS_MAX = 512,
    CHUNK_SIZE_MAX = 256 * 1024,
    OPENING_MAX = 64, /* well below the smallest usual listen backlog: no SYN is dropped */
    FIRST_SOURCE = 0x7f000065, /* 127.0.0.101 */
};

static const uint64_t OPEN_TIMEOUT_NS = 60000000000u;

const dialect_t *dialect;
void (*on_logged_in)(session_t *session, uint64_t now_ns);
void (*on_answered)(session_t *session, uint64_t now_ns);

static int epoll_fd = -1;
static int opening_count; /* dialled and not ready yet */
static char chunk[CHUNK_SIZE_MAX];

void append(buffer_t *buffer, const void *bytes, size_t size) {
    if (size == 0) {
        return;
    }
    if (buffer->size + size > buffer->capacity) {
        buffer->capacity = (buffer->size + size) * 2;
        buffer->bytes = realloc(buffer->bytes, buffer->capacity);
        if (buffer->bytes == NULL) {
            die("out of memory");
        }
    }
    memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
}

/* ---- connect ---- */

static void connect_unix(session_t *session, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    session->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    /* Blocking: a unix socket whose backlog is full answers EAGAIN instead of EINPROGRESS. */
    if (connect(session->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        die("connect to %s: %s", path, strerror(errno));
    }
    fcntl(session->fd, F_SETFL, O_NONBLOCK);
}

static void bind_source(int fd, int index) {
    int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl((uint32_t)(FIRST_SOURCE + index % options.source_count));
    /* The port is chosen at connect, so each source has the whole port range per server. */
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&source, sizeof source) != 0) {
        die("bind: %s", strerror(errno));
    }
}

static void connect_tcp(session_t *session, const char *target) {
    char host[64];
    int port = 0;
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (sscanf(target, "%63[^:]:%d", host, &port) != 2 ||
        inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        die("target %s: want IPV4:PORT or unix:/path", target);
    }
    address.sin_port = htons((uint16_t)port);
    session->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (session->fd < 0) {
        die("socket: %s", strerror(errno));
    }
    setsockopt(session->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bind_source(session->fd, session->index);
    if (connect(session->fd, (struct sockaddr *)&address, sizeof address) != 0 &&
        errno != EINPROGRESS) {
        die("connect to %s: %s", target, strerror(errno));
    }
}

/* The login waits in `out` and leaves with the first event that says "writable". */
void dial(session_t *session) {
    if (strncmp(options.target, "unix:", 5) == 0) {
        connect_unix(session, options.target + 5);
    } else {
        connect_tcp(session, options.target);
    }
    session->state = CONNECTING;
    session->watches_writes = true;
    session->started_ns = monotonic_ns();
    opening_count += 1;
    if (options.username != NULL) {
        char username[256];
        bool is_numbered = options.login_count > 0;
        snprintf(username, sizeof username, is_numbered ? "%s-%d" : "%s", options.username,
                 is_numbered ? session->index % options.login_count : 0);
        put_login(&session->out, username);
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = session};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, session->fd, &event);
}

void hang_up(session_t *session) {
    close(session->fd);
    session->in.size = 0;
    session->out.size = 0;
    session->out_sent = 0;
}

session_t *new_sessions(int count) {
    epoll_fd = epoll_create1(0);
    session_t *sessions = calloc((size_t)count, sizeof(session_t));
    if (sessions == NULL) {
        die("out of memory");
    }
    for (int i = 0; i < count; i++) {
        sessions[i].index = i;
    }
    return sessions;
}

session_t *open_sessions(int count) {
    session_t *sessions = new_sessions(count);
    uint64_t deadline_ns = monotonic_ns() + OPEN_TIMEOUT_NS;
    int dialled = 0;
    while (dialled < count || opening_count > 0) {
        if (monotonic_ns() > deadline_ns) {
            die("%d of %d sessions are not open after 60 s", opening_count, count);
        }
        while (dialled < count && opening_count < OPENING_MAX) {
            dial(&sessions[dialled]);
            dialled += 1;
        }
        poll_sessions(10000000);
    }
    return sessions;
}

static void become_ready(session_t *session, uint64_t now_ns) {
    session->state = READY;
    opening_count -= 1;
    if (on_logged_in != NULL) {
        on_logged_in(session, now_ns);
    }
}

/* ---- write ---- */

static void watch_writes(session_t *session, bool wanted) {
    if (session->watches_writes == wanted) {
        return;
    }
    session->watches_writes = wanted;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};
    if (wanted) {
        event.events |= EPOLLOUT;
    }
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, session->fd, &event);
}

void flush_session(session_t *session) {
    while (session->out_sent < session->out.size) {
        size_t rest = session->out.size - session->out_sent;
        const char *bytes = session->out.bytes + session->out_sent;
        ssize_t written = send(session->fd, bytes, rest, MSG_NOSIGNAL);
        if (written < 0 && errno == EAGAIN) {
            watch_writes(session, true);
            return;
        }
        if (written < 0) {
            die("write: %s", strerror(errno));
        }
        session->out_sent += (size_t)written;
    }
    session->out.size = 0;
    session->out_sent = 0;
    watch_writes(session, false);
}

static void writable(session_t *session) {
    if (session->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(session->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) {
            die("connect to %s: %s", options.target, strerror(error));
        }
        session->state = LOGGING_IN;
        if (options.username == NULL) {
            become_ready(session, monotonic_ns());
        }
    }
    flush_session(session);
}

/* ---- read ---- */

/* The asked and not yet answered request of a multi-get; servers may regroup the keys. */
static request_t *find_request(session_t *session, uint32_t key) {
    for (int i = 0; i < session->request_count; i++) {
        int index = (session->values_seen + i) % session->request_count;
        request_t *request = &session->requests[index];
        if (request->key == key && !request->answered) {
            return request;
        }
    }
    return NULL;
}

static void settle_value(session_t *session, const reply_t *reply) {
    request_t *request = &session->requests[session->next];
    if (session->multiget) {
        request = find_request(session, reply->key);
    }
    if (request == NULL || request->is_set || request->answered ||
        !value_is_of_key(reply, request->key)) {
        counts.wrong += 1;
        return;
    }
    request->answered = true;
    session->values_seen += 1;
    if (measuring) {
        counts.hits += 1;
    }
}

static void complete_request(session_t *session, const reply_t *reply, uint64_t now_ns) {
    const request_t *request = &session->requests[session->next];
    if (reply->kind == FAILURE) {
        counts.failures += 1;
    } else if (request->is_set != (reply->kind == STORED)) {
        counts.wrong += 1;
    } else if (measuring && session->multiget) {
        counts.misses += (uint64_t)(session->request_count - session->values_seen);
    } else if (measuring && !request->is_set && !request->answered) {
        counts.misses += 1;
    }
    session->next += 1;
    if (session->multiget || session->next == session->request_count) {
        session->busy = false;
        on_answered(session, now_ns);
    }
}

static void settle(session_t *session, const reply_t *reply, uint64_t now_ns) {
    if (session->state == LOGGING_IN) {
        if (reply->kind != LOGGED_IN && reply->kind != STORED) {
            die("the login of %s was refused", options.username);
        }
        become_ready(session, now_ns);
        return;
    }
    if (!session->busy) {
        die("a reply that nobody asked for");
    }
    if (reply->kind == VALUE) {
        settle_value(session, reply);
    }
    if (reply->completes) {
        complete_request(session, reply, now_ns);
    }
}

/* Settles all complete frames; answers how many bytes they were. */
static size_t consume(session_t *session, const char *bytes, size_t size, uint64_t now_ns) {
    size_t used = 0;
    while (used < size) {
        reply_t reply = {.kind = FAILURE};
        size_t frame_size = dialect->parse(session, bytes + used, size - used, &reply);
        if (frame_size == 0) {
            break;
        }
        used += frame_size;
        settle(session, &reply, now_ns);
    }
    return used;
}

/* Frames are read where they arrived; only the start of an incomplete one is copied aside. */
static void readable(session_t *session) {
    ssize_t count = read(session->fd, chunk, sizeof chunk);
    if (count < 0 && errno == EAGAIN) {
        return;
    }
    if (count <= 0) {
        die("connection closed by %s: %s", options.target, count == 0 ? "EOF" : strerror(errno));
    }
    uint64_t now_ns = monotonic_ns();
    if (session->in.size == 0) {
        size_t used = consume(session, chunk, (size_t)count, now_ns);
        append(&session->in, chunk + used, (size_t)count - used);
        return;
    }
    append(&session->in, chunk, (size_t)count);
    size_t used = consume(session, session->in.bytes, session->in.size, now_ns);
    session->in.size -= used;
    memmove(session->in.bytes, session->in.bytes + used, session->in.size);
}

void poll_sessions(uint64_t wait_ns) {
    struct epoll_event events[EVENTS_MAX];
    struct timespec wait = {
        .tv_sec = (time_t)(wait_ns / 1000000000u),
        .tv_nsec = (long)(wait_ns % 1000000000u),
    };
    int count = epoll_pwait2(epoll_fd, events, EVENTS_MAX, &wait, NULL);
    for (int i = 0; i < count; i++) {
        session_t *session = events[i].data.ptr;
        if ((events[i].events & EPOLLOUT) != 0) {
            writable(session);
        }
        if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
            readable(session);
        }
    }
}
