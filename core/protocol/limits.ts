/** Every size that bounds what a peer may send us. Sources: memcached 1.6 and its protocol.txt. */

/** protocol.txt, "Keys": at most 250 bytes. */
export const KEY_SIZE_MAX = 250;
/** Largest value that we carry to a shard; the shard's own item limit is a little lower. */
export const VALUE_SIZE_MAX = 1024 * 1024;
/** A command line that is not a retrieval; memcached closes at 2048 without a line end. */
export const LINE_SIZE_MAX = 2048;
/** A retrieval line: thousands of keys in one `get`. */
export const RETRIEVAL_LINE_SIZE_MAX = 1024 * 1024;
/** Before login nobody needs more than a username and a password. */
export const LOGIN_SIZE_MAX = 2048;
/** Words of a meta line, all flags included: memcached 1.6 refuses more. */
export const META_TOKEN_COUNT_MAX = 19;
/** Digits of a number on a line; 20 hold 2^64. */
export const DIGITS_MAX = 20;
/** Announced bytes that we read and drop after refusing a command; above it we close. */
export const SKIP_SIZE_MAX = 64 * 1024 * 1024;
/** The memcached whose commands and words we speak; clients read it to know what they may send. */
export const MEMCACHED_VERSION = "1.6.18";
