/* fill.h - block bytes made from the key, so that every byte that is read back can be checked. */
#ifndef FAR_TOOLS_CLI_FILL_H
#define FAR_TOOLS_CLI_FILL_H

#include <stddef.h>
#include <stdint.h>

#include "farpool/key.h"

/* The key of a trace's block number. */
void far_fill_key(uint64_t id, uint32_t block_bytes, struct far_key *out);
/* Fills a block; every 8 bytes depend on the key and on their place. */
void far_fill_block(const struct far_key *key, void *data, size_t size_bytes);
/* Number of bytes that differ from what far_fill_block() writes. */
size_t far_fill_check(const struct far_key *key, const void *data, size_t size_bytes);

#endif
