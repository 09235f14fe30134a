/* registered.c - memory of the caller's own that blocks may be loaded into: its registrations. */
#include "client/load.h"

#include <errno.h>
#include <string.h>

struct memory_ask {
	struct far_call call;
	struct far_memory *memory;
	uint64_t number; /* of what the caller means: the place may be another's by then */
};

static uint32_t
place_of(const struct far_memory *memory)
{
	return (uint32_t)(memory - memory->client->memories);
}

/* ---- the client's thread ---- */

static int
register_with(struct far_client *client, const struct far_memory *memory, size_t transport)
{
	struct far_l2_memory *item = &client->l2_memories.items[place_of(memory)];
	struct far_mem_source source = {
		.base = memory->base,
		.size_bytes = memory->size_bytes,
		.fd = -1,
		.relaxed = true,
	};

	if (memory->is_device)
		far_client_arena_source(&client->arena, &client->config, &source);
	return far_client_arena_register(&client->arena, &source, client->transports[transport],
					 &item->mems[transport]);
}

static void
dereg_from(struct far_l2_memory *item, size_t transport)
{
	if (item->mems[transport] != NULL)
		far_transport_mem_dereg(item->mems[transport]);
	item->mems[transport] = NULL;
}

int
far_client_memories_register(struct far_client *client, size_t transport)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < FAR_L2_MEMORIES_MAX; i++) {
		if (client->l2_memories.items[i].base != NULL)
			rc = register_with(client, &client->memories[i], transport);
	}
	if (rc < 0)
		far_client_memories_dereg(client, transport);
	return rc;
}

void
far_client_memories_dereg(struct far_client *client, size_t transport)
{
	for (uint32_t i = 0; i < FAR_L2_MEMORIES_MAX; i++)
		dereg_from(&client->l2_memories.items[i], transport);
}

/* Its place stays taken until the caller who asked lets go of it. */
static void
memory_leave(struct far_client *client, struct far_memory *memory)
{
	struct far_l2_memory *item = &client->l2_memories.items[place_of(memory)];

	for (size_t i = 0; i < client->transport_count; i++)
		dereg_from(item, i);
	item->base = NULL;
	if (memory->memory.base != NULL)
		far_device_arena_free(client->arena.device, &memory->memory);
}

static int
memory_enter(struct far_client *client, struct far_memory *memory)
{
	struct far_l2_memory *item = &client->l2_memories.items[place_of(memory)];
	int rc = 0;

	/* The device says whether it is its own, and wholly so. */
	if (memory->is_device)
		rc = far_device_arena_adopt(client->arena.device, memory->base, memory->size_bytes,
					    &memory->memory);
	for (size_t i = 0; rc == 0 && i < client->transport_count; i++)
		rc = register_with(client, memory, i);
	if (rc == 0) {
		item->base = memory->base;
		item->size_bytes = memory->size_bytes;
		pthread_mutex_lock(&client->pool_lock);
		memory->leaving = false;
		pthread_mutex_unlock(&client->pool_lock);
	}
	return rc;
}

static void
register_start(struct far_client *client, struct far_call *call)
{
	struct memory_ask *ask = FAR_CONTAINER_OF(call, struct memory_ask, call);

	call->rc = atomic_load_explicit(&client->stop, memory_order_acquire) != 0
			   ? -ECANCELED
			   : memory_enter(client, ask->memory);
	if (call->rc < 0)
		memory_leave(client, ask->memory);
}

static void
unregister_start(struct far_client *client, struct far_call *call)
{
	struct memory_ask *ask = FAR_CONTAINER_OF(call, struct memory_ask, call);

	bool is_meant;

	pthread_mutex_lock(&client->pool_lock);
	is_meant = ask->memory->number == ask->number;
	pthread_mutex_unlock(&client->pool_lock);
	if (is_meant)
		memory_leave(client, ask->memory); /* more than once is once */
	call->rc = 0;
}

void
far_client_memories_free(struct far_client *client)
{
	for (uint32_t i = 0; i < FAR_L2_MEMORIES_MAX; i++) {
		if (client->memories[i].base != NULL)
			memory_leave(client, &client->memories[i]);
	}
}

/* ---- any thread ---- */

static bool
answered(struct far_client *client, struct far_call *call, bool late)
{
	(void)client;
	(void)call;
	(void)late;
	return true;
}

static int
ask_thread(struct far_memory *memory, uint64_t number,
	   void (*start)(struct far_client *, struct far_call *), uint64_t deadline_ns)
{
	struct memory_ask *ask = far_call_new(sizeof(*ask));
	int rc;

	if (ask == NULL)
		return -ENOMEM;
	ask->memory = memory;
	ask->number = number;
	ask->call.start = start;
	ask->call.answered = answered;
	rc = far_call_wait(memory->client, &ask->call, deadline_ns);
	far_call_release(&ask->call);
	return rc;
}

static void
place_release(struct far_memory *memory, uint64_t number)
{
	pthread_mutex_lock(&memory->client->pool_lock);
	if (memory->number == number)
		memory->base = NULL;
	pthread_mutex_unlock(&memory->client->pool_lock);
}

static bool
overlap(const void *a, uint64_t a_bytes, const void *b, uint64_t b_bytes)
{
	return (uintptr_t)a < (uintptr_t)b + b_bytes && (uintptr_t)b < (uintptr_t)a + a_bytes;
}

/* Under pool_lock: a free place, for memory that is not registered yet. */
static int
place_take(struct far_client *client, void *base, uint64_t size_bytes, struct far_memory **out)
{
	struct far_memory *found = NULL;

	if (overlap(base, size_bytes, client->arena.base, client->arena.size_bytes))
		return -EEXIST;
	for (uint32_t i = 0; i < FAR_L2_MEMORIES_MAX; i++) {
		struct far_memory *memory = &client->memories[i];

		if (memory->base == NULL)
			found = found != NULL ? found : memory;
		else if (overlap(base, size_bytes, memory->base, memory->size_bytes))
			return -EEXIST;
	}
	if (found == NULL)
		return -E2BIG;
	*found = (struct far_memory){
		.client = client,
		.base = base,
		.size_bytes = size_bytes,
		.leaving = true, /* until it is registered */
		.number = found->number + 1,
		.memory.fd = -1,
	};
	*out = found;
	return 0;
}

int
far_memory_register(struct far_client *client, void *base, uint64_t size_bytes, const char *kind,
		    uint64_t deadline_ns, struct far_memory **out)
{
	bool is_device = kind != NULL && strcmp(kind, "cuda") == 0;
	struct far_memory *memory;
	uint64_t number = 0;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (base == NULL || size_bytes == 0 || size_bytes > UINTPTR_MAX - (uintptr_t)base ||
	    kind == NULL || (!is_device && strcmp(kind, "host") != 0) || deadline_ns == 0 ||
	    out == NULL)
		return -EINVAL;
	if (is_device && client->arena.device == NULL)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&client->pool_lock);
	rc = place_take(client, base, size_bytes, &memory);
	if (rc == 0) {
		memory->is_device = is_device;
		number = memory->number;
	}
	pthread_mutex_unlock(&client->pool_lock);
	if (rc < 0)
		return rc;
	rc = ask_thread(memory, number, register_start, deadline_ns);
	if (rc == 0)
		*out = memory;
	else if (rc != -ETIMEDOUT) /* the thread may come to it yet: then it stays until close */
		place_release(memory, number);
	return rc;
}

int
far_memory_unregister(struct far_memory *memory, uint64_t deadline_ns)
{
	struct far_client *client;
	uint64_t number;
	int rc;

	if (memory == NULL || deadline_ns == 0)
		return -EINVAL;
	client = memory->client;
	rc = far_client_enter(client);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&client->pool_lock);
	number = memory->number;
	if (memory->base == NULL)
		rc = -EBADF;
	else if (memory->refs > 0)
		rc = -EBUSY;
	else
		memory->leaving = true;
	pthread_mutex_unlock(&client->pool_lock);
	if (rc == 0)
		rc = ask_thread(memory, number, unregister_start, deadline_ns);
	if (rc == 0)
		place_release(memory, number);
	return rc;
}
