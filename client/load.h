/* load.h - blocks that go straight into memory of the caller's own. */
#ifndef FAR_CLIENT_LOAD_H
#define FAR_CLIENT_LOAD_H

#include "client/client_priv.h"

/* Registered memory. */
struct far_memory {
	struct far_client *client;
	void *base;          /* pool_lock; NULL: free place */
	uint64_t size_bytes; /* pool_lock */
	bool is_device;
	bool leaving;                   /* pool_lock: nothing new may name it */
	uint32_t refs;                  /* pool_lock: loads that may still write to it */
	uint64_t number;                /* pool_lock: of this use of the place */
	struct far_device_arena memory; /* thread: what the device knows of it */
};

/* Thread: what a new transport takes, and what it gives back before it is closed. */
int far_client_memories_register(struct far_client *client, size_t transport);
void far_client_memories_dereg(struct far_client *client, size_t transport);
/* At close, behind the transports. */
void far_client_memories_free(struct far_client *client);

/* Thread: ends rounds, begins the next ones, answers those that are late. Returns when it wants to run
 * next. */
uint64_t far_loads_tick(struct far_client *client, uint64_t now_ns);
/* Thread: whether a task with that adapter has not ended. */
bool far_loads_names(const struct far_client *client, const struct far_l2 *l2);
/* At close: nobody has a use for what has not ended. */
void far_client_loads_end(struct far_client *client);
void far_client_loads_free(struct far_client *client);

#endif
