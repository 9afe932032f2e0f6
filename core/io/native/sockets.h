/*
 * Sockets behind one epoll: what native.ts cannot do itself. It reads into memory that it is given,
 * writes from memory that it is given, and keeps nothing; it knows neither Node nor protocols.
 */
#ifndef MEMWARD_SOCKETS_H
#define MEMWARD_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Events of one delivery at most; also sockets that one turn looks at. */
#define EVENTS_MAX 1024
/* Fields of an event: id, what, value. */
#define EVENT_FIELDS 3
/* One read of one socket; what is left over comes in the next turn, so that others get theirs. */
#define READ_SIZE_MAX (64 * 1024)
/* The same while there is a limit of reads: what one read brings is done before others get on. */
#define LIMITED_READ_SIZE_MAX (8 * 1024)
/* An IPv6 address as text. */
#define PEER_SIZE_MAX 64
#define GROUPS_MAX (1 << 20)

/*
 * `what` of an event. From 0 on it is the place in memory where `value` bytes were read; with a
 * value of 0 the other side sends no more, and a negative one is the error that ended the socket.
 * ACCEPTED has the id of the new socket. DROPPED has 0 when the connection was closed as it came,
 * and a negative errno when not even that could be done: it will be told again and again.
 */
enum { OPENED = -1, WRITABLE = -2, ACCEPTED = -3, DROPPED = -4 };

typedef struct {
    int fd; /* -1: free */
    int32_t id; /* of the socket that has it now, or had it last */
    int32_t next_free;
    uint8_t kind;
    bool is_reading;
    bool is_writing; /* waits until the kernel takes more */
    int32_t group; /* whose it is, -1: nobody's */
} slot_t;

/* Reads that a group has had, and in which turn. */
typedef struct {
    uint32_t turn;
    int32_t read_count;
} group_t;

typedef struct {
    int epoll;
    int spare; /* a descriptor to live on when there are no others */
    slot_t *slots;
    int32_t slot_count;
    int32_t first_free; /* -1: none */
    int32_t open_count;
    uint8_t *memory;
    size_t read_from;
    size_t read_to;
    uint32_t turn;
    int32_t group_reads_max; /* 0: no limit */
    group_t *groups;
    int32_t group_count;
} sockets_t;

typedef struct {
    const char *host; /* a numeric address; NULL: `path` is meant */
    const char *path;
    int port;
} endpoint_t;

/* Called with events that wait; `is_last` once at the end of each turn that had any. */
typedef void deliver_t(void *context, int count, bool is_last);

/* Those that return an int return a negative errno when they fail. */
int sockets_open(sockets_t *sockets);
void sockets_close_all(sockets_t *sockets);
void sockets_turn(sockets_t *sockets, int32_t *events, deliver_t *deliver, void *context);
/* The id of a listening socket. `keep_alive_s` 0: the kernel does not ask. */
int sockets_listen(sockets_t *sockets, endpoint_t endpoint, int backlog, bool reuse_port,
                   int keep_alive_s);
/* The id of a socket that tells OPENED or how it failed. */
int sockets_connect(sockets_t *sockets, endpoint_t endpoint);
int sockets_port(sockets_t *sockets, int32_t id);
/* Writes the numeric address of the other side; "" for a unix socket, or when it is gone. */
void sockets_peer(sockets_t *sockets, int32_t id, char text[PEER_SIZE_MAX]);
/* How much the kernel took; when it was not all, WRITABLE follows. */
int sockets_send(sockets_t *sockets, int32_t id, const uint8_t *bytes, size_t size);
void sockets_read(sockets_t *sockets, int32_t id, bool is_wanted);
/* Accepted sockets begin in group 0, others in none. False when there is no memory for it. */
bool sockets_group(sockets_t *sockets, int32_t id, int32_t group);
/* So many sockets of a group are read in a turn; 0: all. What is left over comes in the next. */
void sockets_limit(sockets_t *sockets, int32_t group_reads_max);
void sockets_shut(sockets_t *sockets, int32_t id);
/* With `is_reset` what was sent and is not delivered yet is taken back (TCP only). */
void sockets_close(sockets_t *sockets, int32_t id, bool is_reset);

#endif
