/*
 * The three dialects: how a request is written and what a frame that comes back means. Nothing
 * here knows sockets. Sources: memcached's protocol.txt ("Retrieval command", "Meta Get"), and
 * protocol-binary.txt for header, opcodes and SASL.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen.h"

enum {
    HEADER_SIZE = 24,
    MAGIC_REQUEST = 0x80,
    MAGIC_REPLY = 0x81,
    OPCODE_GET = 0x00,
    OPCODE_SET = 0x01,
    OPCODE_NOOP = 0x0a,
    OPCODE_GETKQ = 0x0d,
    OPCODE_SASL_AUTH = 0x21,
    SET_EXTRAS_SIZE = 8, /* flags and exptime */
    STATUS_OK = 0x0000,
    STATUS_NOT_FOUND = 0x0001,
};

typedef struct __attribute__((packed)) {
    uint8_t magic;
    uint8_t opcode;
    uint16_t key_size;
    uint8_t extras_size;
    uint8_t data_type;
    uint16_t status; /* vbucket in a request */
    uint32_t body_size;
    uint32_t opaque;
    uint64_t cas;
} header_t;

static char *value_bytes; /* what every value holds after the name of its key */

void prepare_values(void) {
    value_bytes = malloc((size_t)options.value_size);
    if (value_bytes == NULL) {
        die("out of memory");
    }
    for (int i = 0; i < options.value_size; i++) {
        value_bytes[i] = (char)('a' + i % 26);
    }
}

static void put_string(buffer_t *out, const char *string) {
    append(out, string, strlen(string));
}

static size_t key_size(void) {
    return strlen(options.prefix) + KEY_NUMBER_DIGITS;
}

static void put_key(buffer_t *out, uint32_t key) {
    char digits[KEY_NUMBER_DIGITS + 1];
    for (int i = KEY_NUMBER_DIGITS - 1; i >= 0; i--) {
        digits[i] = (char)('0' + key % 10);
        key /= 10;
    }
    put_string(out, options.prefix);
    append(out, digits, KEY_NUMBER_DIGITS);
}

static void put_value(buffer_t *out, uint32_t key) {
    char name[VALUE_NAME_SIZE + 1];
    snprintf(name, sizeof name, "%08x", key);
    append(out, name, VALUE_NAME_SIZE);
    append(out, value_bytes + VALUE_NAME_SIZE, (size_t)options.value_size - VALUE_NAME_SIZE);
}

/* The number of the key that starts at `bytes`; UINT32_MAX when it is none of ours. */
static uint32_t read_key(const char *bytes, size_t size) {
    size_t prefix_size = strlen(options.prefix);
    if (size < key_size() || memcmp(bytes, options.prefix, prefix_size) != 0) {
        return UINT32_MAX;
    }
    uint32_t key = 0;
    for (size_t i = prefix_size; i < key_size(); i++) {
        key = key * 10 + (uint32_t)(bytes[i] - '0');
    }
    return key;
}

bool value_is_of_key(const reply_t *reply, uint32_t key) {
    if (reply->names_key && reply->key != key) {
        return false;
    }
    if (reply->value_size != (size_t)options.value_size) {
        return false;
    }
    char name[VALUE_NAME_SIZE + 1];
    memcpy(name, reply->value, VALUE_NAME_SIZE);
    name[VALUE_NAME_SIZE] = '\0';
    if (strtoul(name, NULL, 16) != key) {
        return false;
    }
    const char *rest = reply->value + VALUE_NAME_SIZE;
    return memcmp(rest, value_bytes + VALUE_NAME_SIZE, reply->value_size - VALUE_NAME_SIZE) == 0;
}

/* ---- text ---- */

static void text_put_get(buffer_t *out, uint32_t key) {
    put_string(out, "get ");
    put_key(out, key);
    put_string(out, "\r\n");
}

static void text_put_set(buffer_t *out, uint32_t key) {
    char rest[32];
    snprintf(rest, sizeof rest, " 0 0 %d\r\n", options.value_size);
    put_string(out, "set ");
    put_key(out, key);
    put_string(out, rest);
    put_value(out, key);
    put_string(out, "\r\n");
}

static void text_put_multiget(buffer_t *out, const request_t *requests, int count) {
    put_string(out, "get");
    for (int i = 0; i < count; i++) {
        put_string(out, " ");
        put_key(out, requests[i].key);
    }
    put_string(out, "\r\n");
}

static bool starts_with(const char *line, size_t size, const char *word) {
    return size >= strlen(word) && memcmp(line, word, strlen(word)) == 0;
}

/* The value block after a reply line. False while its last byte has not come. */
static bool take_value(reply_t *reply, const char *bytes, size_t size, size_t line_size) {
    if (size < line_size + reply->value_size + 2) {
        return false;
    }
    reply->kind = VALUE;
    reply->value = bytes + line_size;
    return true;
}

/* VALUE <key> <flags> <bytes>, any number of times, then END. */
static size_t text_parse(const session_t *session, const char *bytes, size_t size,
                         reply_t *reply) {
    (void)session;
    const char *line_end = memchr(bytes, '\n', size);
    if (line_end == NULL) {
        return 0;
    }
    size_t line_size = (size_t)(line_end - bytes) + 1;
    reply->completes = true;
    if (starts_with(bytes, line_size, "VALUE ")) {
        const char *last_blank = memrchr(bytes, ' ', line_size);
        reply->completes = false;
        reply->names_key = true;
        reply->key = read_key(bytes + strlen("VALUE "), line_size - strlen("VALUE "));
        reply->value_size = strtoul(last_blank + 1, NULL, 10);
        return take_value(reply, bytes, size, line_size) ? line_size + reply->value_size + 2 : 0;
    }
    if (starts_with(bytes, line_size, "END\r")) {
        reply->kind = END;
    } else if (starts_with(bytes, line_size, "STORED\r")) {
        reply->kind = STORED;
    } else {
        reply->kind = FAILURE;
    }
    return line_size;
}

/* ---- meta ---- */

static void meta_put_get(buffer_t *out, uint32_t key) {
    put_string(out, "mg ");
    put_key(out, key);
    put_string(out, " v\r\n");
}

static void meta_put_set(buffer_t *out, uint32_t key) {
    char rest[32];
    snprintf(rest, sizeof rest, " %d\r\n", options.value_size);
    put_string(out, "ms ");
    put_key(out, key);
    put_string(out, rest);
    put_value(out, key);
    put_string(out, "\r\n");
}

/* Quiet gets that name their key, and mn to know when the last answer has come. */
static void meta_put_multiget(buffer_t *out, const request_t *requests, int count) {
    for (int i = 0; i < count; i++) {
        put_string(out, "mg ");
        put_key(out, requests[i].key);
        put_string(out, " v k q\r\n");
    }
    put_string(out, "mn\r\n");
}

/* VA <bytes> [k<key>], EN for a miss, HD for a set, MN for mn. */
static size_t meta_parse(const session_t *session, const char *bytes, size_t size,
                         reply_t *reply) {
    const char *line_end = memchr(bytes, '\n', size);
    if (line_end == NULL) {
        return 0;
    }
    size_t line_size = (size_t)(line_end - bytes) + 1;
    reply->completes = true;
    if (starts_with(bytes, line_size, "VA ")) {
        const char *flag = memmem(bytes, line_size, " k", 2);
        reply->completes = !session->multiget;
        reply->names_key = flag != NULL;
        if (flag != NULL) {
            reply->key = read_key(flag + 2, (size_t)(line_end - flag) - 2);
        }
        reply->value_size = strtoul(bytes + strlen("VA "), NULL, 10);
        return take_value(reply, bytes, size, line_size) ? line_size + reply->value_size + 2 : 0;
    }
    if (starts_with(bytes, line_size, "EN\r")) {
        reply->kind = MISS;
    } else if (starts_with(bytes, line_size, "HD\r")) {
        reply->kind = STORED;
    } else if (starts_with(bytes, line_size, "MN\r")) {
        reply->kind = END;
    } else {
        reply->kind = FAILURE;
    }
    return line_size;
}

/* ---- binary ---- */

/* The opaque is the key's number: it must come back unchanged. */
static void put_header(buffer_t *out, int opcode, size_t key, size_t extras, size_t body,
                       uint32_t opaque) {
    header_t header = {
        .magic = MAGIC_REQUEST,
        .opcode = (uint8_t)opcode,
        .key_size = htons((uint16_t)key),
        .extras_size = (uint8_t)extras,
        .body_size = htonl((uint32_t)body),
        .opaque = htonl(opaque),
    };
    append(out, &header, sizeof header);
}

static void binary_put_get(buffer_t *out, uint32_t key) {
    put_header(out, OPCODE_GET, key_size(), 0, key_size(), key);
    put_key(out, key);
}

static void binary_put_set(buffer_t *out, uint32_t key) {
    static const char extras[SET_EXTRAS_SIZE];
    size_t body_size = sizeof extras + key_size() + (size_t)options.value_size;
    put_header(out, OPCODE_SET, key_size(), sizeof extras, body_size, key);
    append(out, extras, sizeof extras);
    put_key(out, key);
    put_value(out, key);
}

static void binary_put_multiget(buffer_t *out, const request_t *requests, int count) {
    for (int i = 0; i < count; i++) {
        put_header(out, OPCODE_GETKQ, key_size(), 0, key_size(), requests[i].key);
        put_key(out, requests[i].key);
    }
    put_header(out, OPCODE_NOOP, 0, 0, 0, 0);
}

/* The first set of a text connection; the value is the password. */
static void put_text_login(buffer_t *out, const char *username) {
    char rest[32];
    snprintf(rest, sizeof rest, " 0 0 %zu\r\n", strlen(options.password));
    put_string(out, "set ");
    put_string(out, username);
    put_string(out, rest);
    put_string(out, options.password);
    put_string(out, "\r\n");
}

/* SASL PLAIN (RFC 4616): no authorization identity, NUL, username, NUL, password. */
void put_login(buffer_t *out, const char *username) {
    if (strcmp(options.dialect, "text") == 0) {
        put_text_login(out, username);
        return;
    }
    static const char mechanism[] = "PLAIN";
    size_t mechanism_size = strlen(mechanism);
    size_t message_size = 2 + strlen(username) + strlen(options.password);
    put_header(out, OPCODE_SASL_AUTH, mechanism_size, 0, mechanism_size + message_size, 0);
    put_string(out, mechanism);
    append(out, "", 1);
    put_string(out, username);
    append(out, "", 1);
    put_string(out, options.password);
}

static reply_kind_t kind_of(int opcode, int status) {
    if (opcode == OPCODE_SASL_AUTH && status == STATUS_OK) {
        return LOGGED_IN;
    }
    if (opcode == OPCODE_GET && status == STATUS_NOT_FOUND) {
        return MISS;
    }
    if (status != STATUS_OK) {
        return FAILURE;
    }
    switch (opcode) {
    case OPCODE_GET:
    case OPCODE_GETKQ:
        return VALUE;
    case OPCODE_SET:
        return STORED;
    case OPCODE_NOOP:
        return END;
    default:
        return FAILURE;
    }
}

static size_t binary_parse(const session_t *session, const char *bytes, size_t size,
                           reply_t *reply) {
    (void)session;
    header_t header;
    if (size < HEADER_SIZE) {
        return 0;
    }
    memcpy(&header, bytes, sizeof header);
    if (header.magic != MAGIC_REPLY) {
        die("binary reply with magic 0x%02x", header.magic);
    }
    size_t frame_size = HEADER_SIZE + ntohl(header.body_size);
    if (size < frame_size) {
        return 0;
    }
    size_t value_start = HEADER_SIZE + header.extras_size + ntohs(header.key_size);
    if (value_start > frame_size) {
        die("binary reply whose lengths contradict each other");
    }
    reply->kind = kind_of(header.opcode, ntohs(header.status));
    reply->completes = header.opcode != OPCODE_GETKQ;
    reply->names_key = true;
    reply->key = ntohl(header.opaque);
    reply->value = bytes + value_start;
    reply->value_size = frame_size - value_start;
    if (header.opcode == OPCODE_GETKQ) {
        const char *key = bytes + HEADER_SIZE + header.extras_size;
        uint32_t named = read_key(key, ntohs(header.key_size));
        reply->key = named == reply->key ? named : UINT32_MAX;
    }
    return frame_size;
}

static const struct {
    const char *name;
    dialect_t functions;
} dialects[] = {
    {"text", {text_put_get, text_put_set, text_put_multiget, text_parse}},
    {"meta", {meta_put_get, meta_put_set, meta_put_multiget, meta_parse}},
    {"binary", {binary_put_get, binary_put_set, binary_put_multiget, binary_parse}},
};

const dialect_t *find_dialect(const char *name) {
    for (size_t i = 0; i < sizeof dialects / sizeof dialects[0]; i++) {
        if (strcmp(dialects[i].name, name) == 0) {
            return &dialects[i].functions;
        }
    }
    die("unknown dialect %s: text, meta or binary", name);
}
