/* checksum.h - CRC32C for blocks, XXH64 for slots and table lines; libraries or portable, equal. */
#ifndef FAR_BASE_CHECKSUM_H
#define FAR_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli, RFC 3720: reflected, initial and final all ones). Start with crc 0; pass the
 * last result to go on with the next piece. ISA-L's, or the portable one. Thread: any. */
uint32_t far_crc32c(uint32_t crc, const void *data, size_t size_bytes);
uint32_t far_crc32c_portable(uint32_t crc, const void *data, size_t size_bytes);

/* XXH64 (xxHash's specification 0.1.1). libxxhash's, or the portable one. Thread: any. */
uint64_t far_xxh64(const void *data, size_t size_bytes, uint64_t seed);
uint64_t far_xxh64_portable(const void *data, size_t size_bytes, uint64_t seed);

#endif
