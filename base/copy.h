/* copy.h - block copies at memory speed: bytes that nobody here reads soon do not pass the cache. */
#ifndef FAR_BASE_COPY_H
#define FAR_BASE_COPY_H

#include <stddef.h>
#include <stdint.h>

/**
 * far_copy_stream - copies with non-temporal stores where the processor has them and the size is
 * worth it; memcpy otherwise. The regions do not overlap.
 *
 * The bytes are visible to other threads only after far_mem_publish().
 *
 * Thread:  any.
 */
void far_copy_stream(void *to, const void *from, size_t size_bytes);

/**
 * far_copy_once - the same, for a source that nobody here reads again soon either: it passes the
 * last-level cache by, on processors that are faster so. Not for bytes that somebody checksums
 * meanwhile.
 */
void far_copy_once(void *to, const void *from, size_t size_bytes);

/**
 * far_copy_crc32c - far_copy_once(), with the CRC-32C of the bytes computed on their way: of those that
 * were written, whoever changes the source meanwhile.
 *
 * @crc: 0, or what the piece before returned, as far_crc32c() has it.
 *
 * Thread:  any.
 * Returns: the CRC-32C of all pieces so far.
 */
uint32_t far_copy_crc32c(uint32_t crc, void *to, const void *from, size_t size_bytes);

#endif
