/*
 * A socket is known by its id: the index of its slot and a generation, so that an id outlives its
 * socket without harm. Whoever comes with an old one (an event that was fetched before, a write
 * that was noted before) finds nobody.
 *
 *     id:  | generation: 11 bits | index: 20 bits |    never negative
 *
 * Reading is level-triggered: what one turn leaves comes again in the next. A socket that nobody
 * reads is watched edge-triggered: its end is told once and not again and again.
 *
 * Sockets may belong to groups, and a group may have a limit of reads in a turn: those above it are
 * not even looked into, at the price of being told again. So whoever has a thousand sockets that bring
 * something keeps nobody waiting for a thousand reads.
 */
#define _GNU_SOURCE
#include "sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define INDEX_BITS 20
#define INDEX_MASK ((1 << INDEX_BITS) - 1)
#define GENERATION_STEP (1 << INDEX_BITS)
#define SLOT_COUNT_START 64
#define SLOT_COUNT_MAX (1 << INDEX_BITS)
/*
 * Connections that one listening socket accepts in one turn: few, as all others wait for them. The
 * socket stays readable while more are there, so the next turn takes the next ones.
 */
#define ACCEPT_COUNT_MAX 4
#define GROUPS_MIN 64

enum { STREAM, CONNECTING, LISTENING };
enum { NOBODYS = -1, STRANGERS = 0 };

typedef union {
    struct sockaddr any;
    struct sockaddr_un path;
    struct sockaddr_storage storage;
} address_t;

/* The events of this turn that were not delivered yet. */
typedef struct {
    int32_t *events;
    int count;
    size_t read_at;
    deliver_t *deliver;
    void *context;
} turn_t;

/* ---- slots ----------------------------------------------------------------------------------- */

static bool grow(sockets_t *sockets) {
    int32_t count = sockets->slot_count == 0 ? SLOT_COUNT_START : sockets->slot_count * 2;
    if (count > SLOT_COUNT_MAX) return false;
    slot_t *slots = realloc(sockets->slots, (size_t)count * sizeof *slots);
    if (slots == NULL) return false;
    for (int32_t index = count - 1; index >= sockets->slot_count; index--) {
        slots[index] = (slot_t){.fd = -1, .id = index, .next_free = sockets->first_free};
        sockets->first_free = index;
    }
    sockets->slots = slots;
    sockets->slot_count = count;
    return true;
}

/* The slot of a socket that is still open, else NULL. */
static slot_t *find(sockets_t *sockets, int32_t id) {
    int32_t index = id & INDEX_MASK;
    if (id < 0 || index >= sockets->slot_count) return NULL;
    slot_t *slot = &sockets->slots[index];
    return slot->fd >= 0 && slot->id == id ? slot : NULL;
}

static int watch(sockets_t *sockets, slot_t *slot, int operation) {
    struct epoll_event event = {.data.u32 = (uint32_t)slot->id};
    event.events = (slot->is_reading ? EPOLLIN : EPOLLET) | (slot->is_writing ? EPOLLOUT : 0);
    return epoll_ctl(sockets->epoll, operation, slot->fd, &event);
}

/* Takes the descriptor over, in success and failure. */
static int adopt(sockets_t *sockets, int fd, uint8_t kind) {
    if (sockets->first_free < 0 && !grow(sockets)) {
        close(fd);
        return -ENOMEM;
    }
    slot_t *slot = &sockets->slots[sockets->first_free];
    slot->kind = kind;
    slot->fd = fd;
    slot->group = NOBODYS;
    slot->is_reading = true;
    slot->is_writing = kind == CONNECTING;
    if (watch(sockets, slot, EPOLL_CTL_ADD) != 0) {
        int error = errno;
        close(fd);
        slot->fd = -1;
        return -error;
    }
    sockets->first_free = slot->next_free;
    sockets->open_count++;
    return slot->id;
}

void sockets_close(sockets_t *sockets, int32_t id, bool is_reset) {
    slot_t *slot = find(sockets, id);
    if (slot == NULL) return;
    if (is_reset) {
        struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        setsockopt(slot->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    close(slot->fd); /* Which also ends its watch. */
    slot->fd = -1;
    slot->id = (int32_t)(((uint32_t)slot->id + GENERATION_STEP) & INT32_MAX);
    slot->next_free = sockets->first_free;
    sockets->first_free = slot->id & INDEX_MASK;
    sockets->open_count--;
}

/* ---- listening and connecting ---------------------------------------------------------------- */

/* The size of the address, or a negative errno. */
static int resolve(endpoint_t endpoint, address_t *address) {
    memset(address, 0, sizeof *address);
    if (endpoint.host == NULL) {
        size_t size = strlen(endpoint.path);
        if (size >= sizeof address->path.sun_path) return -ENAMETOOLONG;
        address->path.sun_family = AF_UNIX;
        memcpy(address->path.sun_path, endpoint.path, size + 1);
        return sizeof address->path;
    }
    char port[8];
    snprintf(port, sizeof port, "%d", endpoint.port & 0xffff);
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    if (getaddrinfo(endpoint.host, port, &hints, &found) != 0) return -EADDRNOTAVAIL;
    int size = (int)found->ai_addrlen;
    memcpy(&address->storage, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return size;
}

static void set(int fd, int level, int name, int value) {
    setsockopt(fd, level, name, &value, sizeof value);
}

static int new_socket(const address_t *address) {
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (address->any.sa_family != AF_UNIX) set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return fd;
}

int sockets_listen(sockets_t *sockets, endpoint_t endpoint, int backlog, bool reuse_port,
                   int keep_alive_s) {
    address_t address;
    int size = resolve(endpoint, &address);
    if (size < 0) return size;
    int fd = new_socket(&address);
    if (fd < 0) return fd;
    if (endpoint.host != NULL) {
        set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        if (reuse_port) set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
        if (address.any.sa_family == AF_INET6) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        /* Accepted sockets inherit these, and TCP_NODELAY: three calls less for each of them. */
        if (keep_alive_s > 0) {
            set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
            set(fd, IPPROTO_TCP, TCP_KEEPIDLE, keep_alive_s);
        }
    }
    if (bind(fd, &address.any, (socklen_t)size) != 0 || listen(fd, backlog) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return adopt(sockets, fd, LISTENING);
}

int sockets_port(sockets_t *sockets, int32_t id) {
    slot_t *slot = find(sockets, id);
    if (slot == NULL) return -EBADF;
    address_t address;
    socklen_t size = sizeof address;
    if (getsockname(slot->fd, &address.any, &size) != 0) return -errno;
    /* The port stands at the same place in both families. */
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

void sockets_peer(sockets_t *sockets, int32_t id, char text[PEER_SIZE_MAX]) {
    text[0] = '\0';
    slot_t *slot = find(sockets, id);
    address_t address;
    socklen_t size = sizeof address;
    if (slot == NULL || getpeername(slot->fd, &address.any, &size) != 0) return;
    if (address.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &((struct sockaddr_in *)&address)->sin_addr, text, PEER_SIZE_MAX);
    } else if (address.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&address)->sin6_addr, text, PEER_SIZE_MAX);
    }
}

int sockets_connect(sockets_t *sockets, endpoint_t endpoint) {
    address_t address;
    int size = resolve(endpoint, &address);
    if (size < 0) return size;
    int fd = new_socket(&address);
    if (fd < 0) return fd;
    if (endpoint.host != NULL) set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (connect(fd, &address.any, (socklen_t)size) != 0 && errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        return -error;
    }
    return adopt(sockets, fd, CONNECTING);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void await_room(sockets_t *sockets, slot_t *slot, bool is_wanted) {
    if (slot->is_writing == is_wanted || slot->kind != STREAM) return;
    slot->is_writing = is_wanted;
    watch(sockets, slot, EPOLL_CTL_MOD);
}

int sockets_send(sockets_t *sockets, int32_t id, const uint8_t *bytes, size_t size) {
    slot_t *slot = find(sockets, id);
    if (slot == NULL) return -EBADF;
    ssize_t taken = 0;
    if (slot->kind == STREAM) {
        do {
            taken = send(slot->fd, bytes, size, MSG_NOSIGNAL);
        } while (taken < 0 && errno == EINTR);
        if (taken < 0 && errno != EAGAIN) return -errno;
        if (taken < 0) taken = 0;
    }
    await_room(sockets, slot, (size_t)taken < size);
    return (int)taken;
}

void sockets_read(sockets_t *sockets, int32_t id, bool is_wanted) {
    slot_t *slot = find(sockets, id);
    if (slot == NULL || slot->is_reading == is_wanted) return;
    slot->is_reading = is_wanted;
    watch(sockets, slot, EPOLL_CTL_MOD);
}

bool sockets_group(sockets_t *sockets, int32_t id, int32_t group) {
    if (group < 0 || group >= GROUPS_MAX) return false;
    if (group >= sockets->group_count) {
        int32_t count = group * 2 < GROUPS_MIN ? GROUPS_MIN : group * 2;
        group_t *groups = realloc(sockets->groups, (size_t)count * sizeof *groups);
        if (groups == NULL) return false;
        memset(groups + sockets->group_count, 0,
               (size_t)(count - sockets->group_count) * sizeof *groups);
        sockets->groups = groups;
        sockets->group_count = count;
    }
    slot_t *slot = find(sockets, id);
    if (slot != NULL) slot->group = group;
    return true;
}

void sockets_limit(sockets_t *sockets, int32_t group_reads_max) {
    sockets->group_reads_max = group_reads_max;
}

/* Counts one more read of its group; true when that is one too many in this turn. */
static bool is_over(sockets_t *sockets, const slot_t *slot) {
    if (slot->group < 0) return false;
    group_t *group = &sockets->groups[slot->group];
    if (group->turn != sockets->turn) *group = (group_t){.turn = sockets->turn};
    return ++group->read_count > sockets->group_reads_max;
}

void sockets_shut(sockets_t *sockets, int32_t id) {
    slot_t *slot = find(sockets, id);
    if (slot != NULL) shutdown(slot->fd, SHUT_WR);
}

/* ---- a turn ---------------------------------------------------------------------------------- */

static void deliver(sockets_t *sockets, turn_t *turn, bool is_last) {
    int count = turn->count;
    turn->count = 0;
    turn->read_at = sockets->read_from;
    turn->deliver(turn->context, count, is_last);
}

static void tell(sockets_t *sockets, turn_t *turn, int32_t id, int32_t what, int32_t value) {
    int32_t *event = &turn->events[turn->count++ * EVENT_FIELDS];
    event[0] = id;
    event[1] = what;
    event[2] = value;
    if (turn->count == EVENTS_MAX) deliver(sockets, turn, false);
}

/* The error that waits at a socket, 0 when there is none. */
static int pending_error(int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

static void finish_connecting(sockets_t *sockets, turn_t *turn, slot_t *slot) {
    int error = pending_error(slot->fd);
    if (error != 0) return tell(sockets, turn, slot->id, 0, -error);
    slot->kind = STREAM;
    slot->is_writing = false;
    watch(sockets, slot, EPOLL_CTL_MOD);
    tell(sockets, turn, slot->id, OPENED, 0);
}

/*
 * Without descriptors a connection cannot even be refused, and would be told again and again. With
 * the spare one it can be accepted and closed at once.
 */
static bool drop_one(sockets_t *sockets, int listener) {
    if (sockets->spare >= 0) close(sockets->spare);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) close(fd);
    sockets->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return fd >= 0;
}

static void accept_some(sockets_t *sockets, turn_t *turn, int32_t id, int listener) {
    for (int count = 0; count < ACCEPT_COUNT_MAX; count++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            int accepted = adopt(sockets, fd, STREAM);
            if (accepted >= 0) sockets_group(sockets, accepted, STRANGERS);
            tell(sockets, turn, id, accepted < 0 ? DROPPED : ACCEPTED, accepted);
        } else if (errno == EMFILE || errno == ENFILE) {
            int32_t value = drop_one(sockets, listener) ? 0 : -EMFILE;
            tell(sockets, turn, id, DROPPED, value);
            if (value != 0) return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return; /* EAGAIN, nearly always. */
        }
        /* Whoever was told may have closed the listening socket. */
        if (find(sockets, id) == NULL) return;
    }
}

static void read_some(sockets_t *sockets, turn_t *turn, slot_t *slot) {
    if (turn->read_at + READ_SIZE_MAX > sockets->read_to) {
        int32_t id = slot->id;
        deliver(sockets, turn, false);
        slot = find(sockets, id);
        if (slot == NULL || !slot->is_reading) return;
    }
    size_t most = sockets->group_reads_max > 0 ? LIMITED_READ_SIZE_MAX : READ_SIZE_MAX;
    ssize_t size;
    do {
        size = recv(slot->fd, sockets->memory + turn->read_at, most, 0);
    } while (size < 0 && errno == EINTR);
    if (size < 0 && errno == EAGAIN) return;
    int32_t value = size < 0 ? -errno : (int32_t)size;
    size_t at = turn->read_at;
    if (size > 0) turn->read_at += (size_t)size;
    else sockets_read(sockets, slot->id, false);
    tell(sockets, turn, slot->id, (int32_t)at, value);
}

static void look(sockets_t *sockets, turn_t *turn, int32_t id, uint32_t ready) {
    slot_t *slot = find(sockets, id);
    if (slot == NULL) return;
    if (slot->kind == LISTENING) return accept_some(sockets, turn, id, slot->fd);
    if (slot->kind == CONNECTING) return finish_connecting(sockets, turn, slot);
    if ((ready & EPOLLOUT) != 0 && slot->is_writing) {
        tell(sockets, turn, id, WRITABLE, 0);
        /* `tell` may have delivered, and whoever was told may have closed it. */
        slot = find(sockets, id);
        if (slot == NULL) return;
    }
    if (slot->is_reading && (ready & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        if (sockets->group_reads_max > 0 && is_over(sockets, slot)) return;
        read_some(sockets, turn, slot);
    } else if ((ready & EPOLLERR) != 0) {
        int error = pending_error(slot->fd);
        if (error != 0) tell(sockets, turn, id, 0, -error);
    }
}

void sockets_turn(sockets_t *sockets, int32_t *events, deliver_t *told, void *context) {
    struct epoll_event ready[EVENTS_MAX];
    int count = epoll_wait(sockets->epoll, ready, EVENTS_MAX, 0);
    if (count <= 0) return;
    sockets->turn++;
    turn_t turn = {events, 0, sockets->read_from, told, context};
    for (int i = 0; i < count; i++) {
        look(sockets, &turn, (int32_t)ready[i].data.u32, ready[i].events);
    }
    deliver(sockets, &turn, true);
}

/* ---- begin and end --------------------------------------------------------------------------- */

int sockets_open(sockets_t *sockets) {
    sockets->first_free = -1;
    sockets->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sockets->epoll = epoll_create1(EPOLL_CLOEXEC);
    return sockets->epoll < 0 ? -errno : 0;
}

void sockets_close_all(sockets_t *sockets) {
    for (int32_t index = 0; index < sockets->slot_count; index++) {
        if (sockets->slots[index].fd >= 0) close(sockets->slots[index].fd);
    }
    free(sockets->slots);
    free(sockets->groups);
    sockets->groups = NULL;
    sockets->group_count = 0;
    sockets->slots = NULL;
    sockets->slot_count = 0;
    sockets->first_free = -1;
    sockets->open_count = 0;
    if (sockets->spare >= 0) close(sockets->spare);
    if (sockets->epoll >= 0) close(sockets->epoll);
    sockets->spare = sockets->epoll = -1;
}
