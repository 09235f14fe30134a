/* arena.h - the memory that L1 lies in: the host's, or a GPU's. */
#ifndef FAR_CLIENT_ARENA_H
#define FAR_CLIENT_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/pages.h"
#include "client/config.h"
#include "transport/mem/device.h"
#include "transport/transport.h"

#define FAR_CLIENT_MEMORY_CHOICES "host|cuda"
#define FAR_CLIENT_DIRECT_CHOICES "near|always|never"
#define FAR_CLIENT_MAPPED_CHOICES "auto|never"

enum far_client_memory {
	FAR_MEMORY_HOST,
	FAR_MEMORY_CUDA,
};

enum far_client_direct {
	FAR_DIRECT_NEAR,
	FAR_DIRECT_ALWAYS,
	FAR_DIRECT_NEVER,
};

/*
 * Mapped before and unmapped after everything that points in. On a GPU @base is a device address: a
 * number that is counted with, and never dereferenced.
 */
struct far_client_arena {
	void *base; /* NULL: not open */
	uint64_t size_bytes;
	int fd;                         /* for other processes; -1: none; the arena's */
	struct far_device *device;      /* owned; NULL: the host's memory */
	struct far_pages pages;         /* the host's */
	struct far_device_arena memory; /* the device's */
	_Atomic bool direct;            /* a NIC writes into it by itself */
};

/* What a configuration says of a GPU, and what does not go together with one. One line in @error.
 * Returns 0, -EINVAL. */
int far_client_arena_check(const struct far_client_config *config,
			   char error[FAR_PARAM_ERROR_BYTES]);

/* The device first, then its memory. One line in @error. Returns 0, or as far_client_open(). */
int far_client_arena_open(const struct far_client_config *config, struct far_client_arena *arena,
			  char error[FAR_PARAM_ERROR_BYTES]);
/* Nothing is registered, copied or read any more. Takes one that was never opened. */
void far_client_arena_close(struct far_client_arena *arena);

/* Makes a transport take the arena: on a GPU it is wrapped. @tp is another one on success. */
int far_client_arena_wrap(const struct far_client_arena *arena,
			  const struct far_client_config *config, struct far_clock *clock,
			  struct far_transport **tp);
/* What is to be registered lies where the arena does: on its device, if there is one. */
void far_client_arena_source(const struct far_client_arena *arena,
			     const struct far_client_config *config, struct far_mem_source *source);
/* Registers memory for READs into it, and sees whether a NIC writes to the device by itself. */
int far_client_arena_register(struct far_client_arena *arena, const struct far_mem_source *source,
			      struct far_transport *tp, struct far_mem **out);

/* What was written is visible to whoever is told of it now. 0, or -EIO: the device failed. */
int far_client_arena_flush(struct far_client_arena *arena);
/* The same before blocks become readable: far_l1_config.publish. */
void far_client_arena_publish(void *arena);

/* Bytes of the caller's, host memory, into a block and out of it. Blocks; any thread. 0, or -EIO:
 * the target holds any bytes. */
int far_client_arena_write(struct far_client_arena *arena, void *to, const void *from,
			   size_t size_bytes);
int far_client_arena_read(struct far_client_arena *arena, void *to, const void *from,
			  size_t size_bytes);

#endif
