/* copy_priv.h - the kernels behind far_copy_stream(), for tests and yardsticks that want each of them. */
#ifndef FAR_BASE_COPY_PRIV_H
#define FAR_BASE_COPY_PRIV_H

#include <stdbool.h>
#include <stddef.h>

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

#endif
