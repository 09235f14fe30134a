/* block.c - single blocks: put, reserve and commit, get and release, on the caller's thread. */
#include "client/client_priv.h"

#include <errno.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "wire/index.h"

#define BLOCKS_RESTING 64U /* released structs that are not reused yet */

/* A loan of one block. Who takes the loan out ends it: of several callers at once, one. */
struct far_block {
	struct far_client *client;
	struct far_list node; /* in blocks_live or blocks_free, under pool_lock */
	void *addr;
	_Atomic uint64_t loan; /* 0: ended */
	uint32_t size_bytes;
	_Atomic bool writing;
};

/* Acquire and release: what others did with the bytes comes before the loan's end. */
static uint64_t
loan_take(struct far_block *block)
{
	return atomic_exchange_explicit(&block->loan, 0, memory_order_acq_rel);
}

static bool
is_writing(const struct far_block *block)
{
	return atomic_load_explicit(&block->writing, memory_order_relaxed);
}

static void
loan_set(struct far_block *block, uint64_t loan, bool writing)
{
	atomic_store_explicit(&block->writing, writing, memory_order_relaxed);
	atomic_store_explicit(&block->loan, loan, memory_order_release);
}

static int
block_take(struct far_client *client, struct far_block **out)
{
	struct far_block *block = NULL;
	struct far_list *node;

	pthread_mutex_lock(&client->pool_lock);
	node = far_resting_take(&client->blocks_free, BLOCKS_RESTING);
	pthread_mutex_unlock(&client->pool_lock);
	if (node != NULL) {
		block = FAR_CONTAINER_OF(node, struct far_block, node);
	} else {
		block = far_zalloc(sizeof(*block));
		if (block == NULL)
			return -ENOMEM;
		far_list_init(&block->node);
	}
	block->client = client;
	pthread_mutex_lock(&client->pool_lock);
	far_list_push_back(&client->blocks_live, &block->node);
	pthread_mutex_unlock(&client->pool_lock);
	*out = block;
	return 0;
}

static void
block_put(struct far_block *block)
{
	struct far_client *client = block->client;

	loan_set(block, 0, false);
	pthread_mutex_lock(&client->pool_lock);
	far_resting_give(&client->blocks_free, &block->node);
	pthread_mutex_unlock(&client->pool_lock);
}

int
far_put(struct far_client *client, const struct far_key *key, const void *data, uint32_t size_bytes)
{
	struct far_l1_grant grant;
	struct far_l1_want want;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (key == NULL || data == NULL || size_bytes == 0 || size_bytes > FAR_BLOCK_BYTES_MAX)
		return -EINVAL;
	want = (struct far_l1_want){.key = *key, .size_bytes = size_bytes};
	if (far_l1_reserve_write(client->l1, client->session, &want, 1, &grant) != 1)
		return grant.rc;
	rc = far_client_arena_write(&client->arena, grant.addr, data, size_bytes);
	if (rc < 0) {
		int ended;

		/* Nobody ever sees what is in it. */
		(void)far_l1_abort_write(client->l1, client->session, &grant.loan, 1, &ended);
		return rc;
	}
	if (far_l1_finish_write(client->l1, client->session, &grant.loan, 1, &rc) == 1)
		return 0;
	FAR_ASSERT(rc == -ENOENT); /* the loan is ours alone: far_clear() by force */
	return rc;
}

int
far_reserve(struct far_client *client, const struct far_key *key, uint32_t size_bytes,
	    struct far_block **out)
{
	struct far_l1_grant grant;
	struct far_l1_want want;
	struct far_block *block;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (key == NULL || out == NULL || size_bytes == 0 || size_bytes > FAR_BLOCK_BYTES_MAX)
		return -EINVAL;
	rc = block_take(client, &block);
	if (rc < 0)
		return rc;
	want = (struct far_l1_want){.key = *key, .size_bytes = size_bytes};
	if (far_l1_reserve_write(client->l1, client->session, &want, 1, &grant) != 1) {
		block_put(block);
		return grant.rc;
	}
	block->addr = grant.addr;
	block->size_bytes = size_bytes;
	loan_set(block, grant.loan, true);
	*out = block;
	return 0;
}

static int
write_end(struct far_block *block,
	  size_t (*end)(struct far_l1 *, far_l1_session, const uint64_t *, size_t, int *))
{
	uint64_t loan;
	int rc;

	if (block == NULL || !is_writing(block))
		return -EINVAL;
	rc = far_client_enter(block->client);
	if (rc < 0)
		return rc;
	loan = loan_take(block);
	if (loan == 0)
		return -EINVAL; /* another thread ends it just now */
	/* Cleared by force meanwhile: the loan is over all the same. */
	if (end(block->client->l1, block->client->session, &loan, 1, &rc) != 1)
		FAR_ASSERT(rc == -ENOENT);
	block_put(block);
	return rc;
}

int
far_commit(struct far_block *block)
{
	return write_end(block, far_l1_finish_write);
}

int
far_abort(struct far_block *block)
{
	int rc = write_end(block, far_l1_abort_write);

	return rc == -ENOENT ? 0 : rc;
}

/* Takes a read loan of a key that is resident. */
static int
block_read(struct far_block *block, const struct far_key *key)
{
	struct far_l1_grant grant;

	if (far_l1_reserve_read(block->client->l1, block->client->session, key, NULL, 1, 1,
				&grant) != 1)
		return grant.rc;
	block->addr = grant.addr;
	block->size_bytes = grant.size_bytes;
	loan_set(block, grant.loan, false);
	return 0;
}

/* Fetches the key and takes a loan of its own while the prefetch still holds the block. */
static int
block_fetch(struct far_block *block, const struct far_key *key, uint64_t deadline_ns)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.deadline_ns = deadline_ns,
		.flags = FAR_PREFETCH_WAIT_FOLLOWS,
	};
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_prefetch_handle *handle;
	int rc = far_prefetch(block->client, key, 1, &options, &handle);

	if (rc < 0)
		return rc;
	rc = far_prefetch_wait(handle, far_time_after(deadline_ns, 100 * FAR_NS_PER_MS), &status);
	if (rc == 0 && status.prefix_count == 1)
		rc = block_read(block, key);
	else if (rc == 0)
		rc = status.rc < 0 ? status.rc : status.gap_rc;
	far_prefetch_release(handle);
	return rc;
}

int
far_get(struct far_client *client, const struct far_key *key, uint64_t deadline_ns,
	struct far_block **out)
{
	struct far_block *block;
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (key == NULL || out == NULL || deadline_ns == 0)
		return -EINVAL;
	rc = block_take(client, &block);
	if (rc < 0)
		return rc;
	rc = block_read(block, key);
	if (rc == -ENOENT)
		rc = block_fetch(block, key, deadline_ns);
	if (rc < 0) {
		block_put(block);
		return rc;
	}
	*out = block;
	return 0;
}

const void *
far_block_data(const struct far_block *block)
{
	return block->addr;
}

void *
far_block_buffer(struct far_block *block)
{
	return is_writing(block) ? block->addr : NULL;
}

uint64_t
far_block_offset(const struct far_block *block)
{
	return (uint64_t)((const char *)block->addr - (const char *)block->client->arena.base);
}

uint32_t
far_block_size(const struct far_block *block)
{
	return block->size_bytes;
}

void
far_release(struct far_block *block)
{
	uint64_t loan = 0;
	bool writing;
	int rc;

	if (block == NULL || far_client_enter(block->client) < 0)
		return;
	writing = is_writing(block);
	if (!writing)
		loan = loan_take(block);
	if (loan == 0) {
		far_log_error("a block was released %s: the release is ignored",
			      writing ? "that is reserved: commit or abort it" : "twice");
		return;
	}
	if (far_l1_finish_read(block->client->l1, block->client->session, &loan, 1, 1, &rc) != 1)
		FAR_ASSERT(rc == -EPERM); /* the client's session ends with its last call */
	block_put(block);
}

/* ---- L1 as a whole ---- */

_Static_assert(FAR_BLOCK_ABSENT == FAR_L1_ABSENT && FAR_BLOCK_WRITING == FAR_L1_WRITE_LOCKED &&
		       FAR_BLOCK_READY == FAR_L1_READY &&
		       FAR_BLOCK_READ_LOCKED == FAR_L1_READ_LOCKED,
	       "the public names are those of l1");

int
far_l1_query(struct far_client *client, const struct far_key *keys, size_t count, uint32_t *states)
{
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (count > 0 && (keys == NULL || states == NULL))
		return -EINVAL;
	for (size_t i = 0; i < count; i++)
		states[i] = (uint32_t)far_l1_state_get(client->l1, &keys[i]);
	return 0;
}

int
far_touch(struct far_client *client, const struct far_key *keys, size_t count)
{
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	if (count > 0 && keys == NULL)
		return -EINVAL;
	if (count > 0)
		far_l1_touch(client->l1, keys, count);
	return 0;
}

int64_t
far_clear(struct far_client *client, int force)
{
	int rc = far_client_enter(client);

	if (rc < 0)
		return rc;
	return (int64_t)far_l1_clear(client->l1, force != 0);
}

/* Close: what its owner has not ended is ended for it. */
void
far_client_blocks_end(struct far_client *client)
{
	while (!far_list_empty(&client->blocks_live)) {
		struct far_block *block =
			FAR_CONTAINER_OF(client->blocks_live.next, struct far_block, node);

		if (is_writing(block))
			(void)far_abort(block);
		else
			far_release(block);
	}
}

void
far_client_blocks_free(struct far_client *client)
{
	struct far_list *node;

	while ((node = far_resting_take(&client->blocks_free, 0)) != NULL)
		far_free(FAR_CONTAINER_OF(node, struct far_block, node));
}
