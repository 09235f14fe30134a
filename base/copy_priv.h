/* copy_priv.h - the kernels behind copy.h, for tests and yardsticks that want each of them. */
#ifndef FAR_BASE_COPY_PRIV_H
#define FAR_BASE_COPY_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Takes a destination that is line-aligned (64 bytes) and a size in whole lines. */
typedef void far_copy_kernel_fn(char *to, const char *from, size_t size_bytes);

struct far_copy_kernel {
	const char *name;
	bool (*supported)(void);
	far_copy_kernel_fn *copy;
	far_copy_kernel_fn *copy_past;  /* the source passes the last-level cache by */
	far_copy_kernel_fn *copy_pages; /* four pages at a time */
};

/* The best first; ends with a NULL name. The last one before it runs everywhere. */
extern const struct far_copy_kernel far_copy_kernels[];

/* The best that runs here. Any thread. */
const struct far_copy_kernel *far_copy_kernel(void);

/* Any alignment, any size: head and tail by memcpy, the lines between by the kernel. */
void far_copy_with(far_copy_kernel_fn *kernel, char *to, const char *from, size_t size_bytes);

/* Whether this processor copies fastest with the source read past the last-level cache. Any thread. */
bool far_copy_reads_past(void);

#define FAR_COPY_CRC_GROUP_BYTES ((size_t)128)

/* Takes a destination that is line-aligned and a size in whole groups, one at least. @crc and what is returned
 * are the sum's state, which is what far_crc32c() has, inverted. @past: the source is read past the last-level cache. */
typedef uint32_t far_copy_crc_kernel_fn(uint32_t crc, char *to, const char *from, size_t size_bytes,
					bool past);

struct far_copy_crc_kernel {
	const char *name;
	bool (*supported)(void);
	far_copy_crc_kernel_fn *copy;
};

/* As far_copy_kernels. */
extern const struct far_copy_crc_kernel far_copy_crc_kernels[];

/* Any alignment, any size; @crc and what is returned as far_crc32c() has them. */
uint32_t far_copy_crc_with(far_copy_crc_kernel_fn *kernel, uint32_t crc, char *to, const char *from,
			   size_t size_bytes, bool past);

#endif
