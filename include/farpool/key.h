/* farpool/key.h - the name of a block. */
#ifndef FARPOOL_KEY_H
#define FARPOOL_KEY_H

#include <stdint.h>

#define FAR_KEY_BYTES 16

/**
 * struct far_key - the name of a block: a BLAKE2b-128 digest, see far_key_make().
 *
 * All 16 bytes zero is no key: every call refuses it with -EINVAL.
 */
struct far_key {
	uint8_t bytes[FAR_KEY_BYTES];
};

#endif
