/* redis.h - the peer that keeps blocks in another process and sends them: what its two readers share. */
#ifndef FAR_TESTS_BENCH_REDIS_H
#define FAR_TESTS_BENCH_REDIS_H

#include <hiredis/hiredis.h>

#include "tests/bench/process.h"

#define REDIS_KEYS_MAX  64 /* of one MGET */
#define REDIS_KEY_BYTES 32

/* Commands that are sent before their answers are read. */
struct redis_way {
	uint32_t keys;   /* of one command; 1: GET, more: MGET */
	uint32_t window; /* commands at a time */
};

/* Reads the values of the next command's answer, @count of @block_bytes each, which belong at @to; checks
 * both ends of each, as words of the pattern from @first_word on. Returns 0 or a negative errno. */
typedef int redis_read_fn(redisContext *redis, char *to, uint32_t count, uint64_t block_bytes,
			  uint64_t first_word);

/* redis_direct.c: past hiredis, from the socket to where they belong. */
int redis_read_direct(redisContext *redis, char *to, uint32_t count, uint64_t block_bytes,
		      uint64_t first_word);

#endif
