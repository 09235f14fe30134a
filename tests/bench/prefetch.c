/*
 * prefetch.c - farpool through its public interface: prefetches from a farpoold process.
 *
 * Each block size has a donor and a client of its own, made when the size is first asked for: an L1 of one
 * set, and more than that at the donor, read round and round: what L1 still holds is never what is asked
 * for next, so every block comes from the donor, and L1 evicts all the time, as it does in use.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "farpool/farpool.h"
#include "tests/bench/lend.h"
#include "tests/bench/process.h"
#include "transport/transport.h"

#define BATCH_BLOCKS_MAX 4096
#define STORE_NS         (60 * FAR_NS_PER_S)
#define PREFETCH_NS      (20 * FAR_NS_PER_S)
#define IN_FLIGHT_MAX    16
#define KEYS_MAX         4096
#define ONCE_TRIES       64
/* Blocks that are too small for a pass have a small L1: they are read one at a time. */
#define SMALL_BYTES     BENCH_BESIDE_SMALL_BYTES
#define SMALL_SET_BYTES ((uint64_t)16 << 20)
#define BORROWERS_MAX   8

/* The borrower of one block size. */
struct borrower {
	struct bench_lend lend;
	uint64_t block_bytes;
	uint64_t set_bytes;   /* of its L1 */
	uint64_t block_count; /* at the donor */
	uint64_t next;        /* where the ring goes on */
	uint32_t pass_count;
};

struct request {
	struct far_prefetch_handle *handle;
	uint64_t first;
	uint64_t count;
};

struct bench_mover {
	const struct bench_plan *plan; /* borrowed */
	const char *over;              /* the transport */
	bool apart;                    /* both sides stand for two hosts */
	char *why;                     /* borrowed */
	struct borrower borrowers[BORROWERS_MAX];
	int borrower_count;
	struct far_key *keys; /* of the request being made; KEYS_MAX */
};

static void
key_of(const struct borrower *borrower, uint64_t idx, struct far_key *out)
{
	uint64_t words[2] = {bench_word(borrower->block_bytes, idx), idx};

	memcpy(out->bytes, words, sizeof(out->bytes));
}

/* The bytes of a block are a pattern of its own, so that a wrong block is seen. */
static uint64_t
seed_of(const struct borrower *borrower, uint64_t idx)
{
	return borrower->block_bytes + idx * 8;
}

/* ---- before: the blocks get to the donor ---- */

static int
block_store(struct borrower *borrower, uint64_t idx)
{
	struct far_block *block;
	struct far_key key;
	int rc;

	key_of(borrower, idx, &key);
	rc = far_reserve(borrower->lend.client, &key, (uint32_t)borrower->block_bytes, &block);
	if (rc < 0)
		return rc;
	bench_fill(far_block_buffer(block), seed_of(borrower, idx), borrower->block_bytes);
	return far_commit(block);
}

/* L1 holds a block until the donor has it: an eighth of it is stored at a time, and no more than the
 * store controller's queue takes. */
static int
blocks_store(struct borrower *borrower, char *why)
{
	struct far_flush_result result = {.size_bytes = sizeof(result)};
	uint64_t batch = borrower->set_bytes / 8 / borrower->block_bytes;
	int rc = 0;

	if (batch == 0)
		batch = 1;
	if (batch > BATCH_BLOCKS_MAX)
		batch = BATCH_BLOCKS_MAX;
	for (uint64_t i = 0; i < borrower->block_count && rc == 0; i++) {
		rc = block_store(borrower, i);
		if (rc == 0 && (i % batch == batch - 1 || i == borrower->block_count - 1))
			rc = far_flush(borrower->lend.client, far_now_ns() + STORE_NS, &result);
	}
	if (rc < 0) {
		snprintf(why, BENCH_TEXT_BYTES, "storing: %s", far_strerror(rc));
	} else if (result.stored != borrower->block_count) {
		snprintf(why, BENCH_TEXT_BYTES, "the donor took %" PRIu64 " of %" PRIu64 " blocks",
			 result.stored, borrower->block_count);
		rc = -EIO;
	}
	return rc;
}

static int
borrower_open(struct bench_mover *mover, uint64_t block_bytes, struct borrower **out)
{
	bool small = mover->apart && block_bytes <= SMALL_BYTES;
	struct borrower *borrower = &mover->borrowers[mover->borrower_count];
	struct bench_lend_config config = {
		.over = mover->over,
		.apart = mover->apart,
		.block_bytes = block_bytes,
	};
	int rc;

	if (mover->borrower_count == BORROWERS_MAX)
		return -E2BIG;
	mover->borrower_count++;
	borrower->block_bytes = block_bytes;
	borrower->set_bytes = small ? SMALL_SET_BYTES : mover->plan->set_bytes;
	/* Blocks of one request leave L1 in any order: where single ones are read between requests, so
	 * many more are needed until the next one is surely gone. */
	borrower->block_count = borrower->set_bytes / block_bytes * (mover->apart ? 4 : 3) / 2;
	config.held_bytes = borrower->block_count * block_bytes;
	config.l1_bytes = borrower->set_bytes;
	rc = bench_lend_open(mover->plan, &config, mover->why, &borrower->lend);
	if (rc == 0)
		rc = blocks_store(borrower, mover->why);
	*out = borrower;
	return rc;
}

static int
borrower_get(struct bench_mover *mover, uint64_t block_bytes, struct borrower **out)
{
	for (int i = 0; i < mover->borrower_count; i++) {
		*out = &mover->borrowers[i];
		if (mover->borrowers[i].block_bytes == block_bytes)
			return 0;
	}
	return borrower_open(mover, block_bytes, out);
}

static void
prefetch_close(struct bench_mover *mover)
{
	for (int i = 0; i < mover->borrower_count; i++)
		bench_lend_close(&mover->borrowers[i].lend);
	far_free(mover->keys);
	far_free(mover);
}

static int
prefetch_open(const struct bench_plan *plan, const char *over, char *why, struct bench_mover **out)
{
	struct bench_mover *mover = far_zalloc(sizeof(*mover));

	if (mover == NULL)
		return -ENOMEM;
	mover->plan = plan;
	mover->over = over;
	mover->apart = strcmp(over, "shm") != 0;
	mover->why = why;
	mover->keys = far_zalloc_array(KEYS_MAX, sizeof(*mover->keys));
	if (mover->keys == NULL) {
		prefetch_close(mover);
		return -ENOMEM;
	}
	*out = mover;
	return 0;
}

static int
shm_open_mover(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return prefetch_open(plan, "shm", why, out);
}

static int
tcp_open_mover(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	if (far_transport_find("ucx") == NULL) {
		snprintf(why, BENCH_TEXT_BYTES,
			 "this build has no ucx transport; next: apt-get install libucx-dev, and "
			 "configure again");
		return -ENODEV;
	}
	return prefetch_open(plan, "ucx", why, out);
}

/* ---- the pass ---- */

static int
request_submit(struct bench_mover *mover, struct borrower *borrower, uint64_t count, uint32_t flags,
	       struct request *request)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.flags = flags,
		.deadline_ns = far_now_ns() + PREFETCH_NS,
	};

	for (uint64_t i = 0; i < count; i++)
		key_of(borrower, (borrower->next + i) % borrower->block_count, &mover->keys[i]);
	request->first = borrower->next;
	request->count = count;
	borrower->next = (borrower->next + count) % borrower->block_count;
	return far_prefetch(borrower->lend.client, mover->keys, count, &options, &request->handle);
}

/* In the round that is not counted every word is compared; later both ends of one block. */
static int
request_check(const struct borrower *borrower, const struct request *request)
{
	uint64_t words = borrower->block_bytes / sizeof(uint64_t);

	for (uint64_t i = 0; i < request->count; i++) {
		uint64_t idx = (request->first + i) % borrower->block_count;
		const void *data;
		uint32_t size_bytes;
		int rc = far_prefetch_block(request->handle, i, &data, &size_bytes);

		if (rc < 0)
			return rc;
		if (size_bytes != borrower->block_bytes ||
		    !bench_ends_are(data, seed_of(borrower, idx), 0, size_bytes))
			return -EBADMSG;
		if (borrower->pass_count != 0)
			return 0;
		for (uint64_t w = 0; w < words; w++) {
			if (((const uint64_t *)data)[w] != bench_word(seed_of(borrower, idx), w))
				return -EBADMSG;
		}
	}
	return 0;
}

/* Waits, checks, releases. Bytes that were in L1 already do not count. @ns_out: from @start_ns until the
 * caller has it, or NULL. */
static int
request_finish(const struct borrower *borrower, struct request *request, uint64_t start_ns,
	       uint64_t *ns_out, uint64_t *bytes)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	int rc = far_prefetch_wait(request->handle, far_now_ns() + 2 * PREFETCH_NS, &status);

	if (ns_out != NULL)
		*ns_out = far_clock_now(far_clock_real()) - start_ns;
	if (rc == 0)
		rc = status.rc;
	if (rc == 0 && status.prefix_count != request->count)
		rc = status.gap_rc < 0 ? status.gap_rc : -EIO;
	if (rc == 0)
		rc = request_check(borrower, request);
	*bytes += status.l2_bytes;
	far_prefetch_release(request->handle);
	request->handle = NULL;
	return rc;
}

static int
prefetch_pass(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out)
{
	const struct bench_plan *plan = mover->plan;
	struct request ring[IN_FLIGHT_MAX] = {{0}};
	struct borrower *borrower;
	uint64_t keys = plan->request_bytes / block_bytes;
	uint64_t left = plan->set_bytes / block_bytes;
	uint64_t head = 0, tail = 0, bytes = 0, messages;
	int rc = borrower_get(mover, block_bytes, &borrower);

	if (rc < 0)
		return rc;
	if (keys > KEYS_MAX)
		keys = KEYS_MAX;
	messages = bench_lend_messages(&borrower->lend);
	bench_pass_begin(out, borrower->lend.donor.pid);
	while (rc == 0 && (left > 0 || head < tail)) {
		while (rc == 0 && left > 0 && tail - head < plan->in_flight) {
			uint64_t count = keys < left ? keys : left;

			rc = request_submit(mover, borrower, count, 0, &ring[tail % IN_FLIGHT_MAX]);
			left -= count;
			tail += rc == 0;
		}
		if (rc == 0)
			rc = request_finish(borrower, &ring[head++ % IN_FLIGHT_MAX], 0, NULL,
					    &bytes);
	}
	bench_pass_end(out, borrower->lend.donor.pid, bytes);
	out->messages = bench_lend_messages(&borrower->lend) - messages;
	out->count = tail;
	for (; head < tail; head++)
		far_prefetch_release(ring[head % IN_FLIGHT_MAX].handle);
	borrower->pass_count++;
	/* A pass that came out of L1 would be a number about something else. */
	if (rc == 0 && bytes < plan->set_bytes / 10 * 9)
		rc = -EIO;
	return rc;
}

/* A block that is still in L1 is not what is measured. */
static int
prefetch_once(struct bench_mover *mover, uint64_t block_bytes, uint64_t *ns_out)
{
	struct borrower *borrower;
	uint64_t bytes = 0;
	int rc = borrower_get(mover, block_bytes, &borrower);

	for (int i = 0; i < ONCE_TRIES && bytes == 0 && rc == 0; i++) {
		uint64_t start_ns = far_clock_now(far_clock_real());
		struct request request;

		rc = request_submit(mover, borrower, 1, FAR_PREFETCH_WAIT_FOLLOWS, &request);
		if (rc == 0)
			rc = request_finish(borrower, &request, start_ns, ns_out, &bytes);
		borrower->pass_count++;
	}
	return rc == 0 && bytes != block_bytes ? -EIO : rc;
}

const struct bench_mover_ops bench_prefetch = {
	.name = "farpool",
	.text = "far_prefetch() from a farpoold process over shm: looked up, read, validated, "
		"flipped",
	.role = BENCH_SUBJECT,
	.required = true,
	.open = shm_open_mover,
	.pass = prefetch_pass,
	.once = prefetch_once,
	.close = prefetch_close,
};

const struct bench_mover_ops bench_tcp_prefetch = {
	.name = "farpool",
	.text = "far_prefetch() from a farpoold process over ucx: looked up, read, validated, "
		"flipped",
	.role = BENCH_SUBJECT,
	.required = true,
	.open = tcp_open_mover,
	.pass = prefetch_pass,
	.once = prefetch_once,
	.close = prefetch_close,
};
