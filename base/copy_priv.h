/* copy_priv.h - the kernels behind far_copy_stream(), so that tests reach those not chosen here. */
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
	far_copy_kernel_fn *copy_past; /* far_copy_past() */
};

/* The best first; ends with a NULL name. The last one before it runs everywhere. */
extern const struct far_copy_kernel far_copy_kernels[];

/* Any alignment, any size: head and tail by memcpy, the lines between by the kernel. */
void far_copy_with(far_copy_kernel_fn *kernel, char *to, const char *from, size_t size_bytes);

#endif
