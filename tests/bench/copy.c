/* copy.c - the yardsticks: memcpy, and the copies with non-temporal stores that farpool uses. */
#include "base/copy.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/copy_priv.h"
#include "base/publish.h"
#include "tests/bench/bench.h"
#include "tests/bench/process.h"

/* Blocks lie on page boundaries on both sides, as farpool's do. */
struct bench_mover {
	const struct bench_plan *plan; /* borrowed */
	uint64_t once_at;              /* where the next single copy reads */
};

static int
copy_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	struct bench_mover *mover = far_zalloc(sizeof(*mover));

	why[0] = '\0';
	if (mover == NULL)
		return -ENOMEM;
	mover->plan = plan;
	*out = mover;
	return 0;
}

static void
copy_close(struct bench_mover *mover)
{
	far_free(mover);
}

static int
copy_check(const struct bench_mover *mover, uint64_t block_bytes)
{
	const char *to = mover->plan->arena.base;

	for (uint64_t at = 0; at < mover->plan->set_bytes; at += block_bytes) {
		if (!bench_ends_are(to + at, 0, at / sizeof(uint64_t), block_bytes))
			return -EBADMSG;
	}
	return 0;
}

typedef void copy_fn(void *to, const void *from, size_t size_bytes);

static void
copy_memcpy(void *to, const void *from, size_t size_bytes)
{
	memcpy(to, from, size_bytes);
}

static void
copy_stream(void *to, const void *from, size_t size_bytes)
{
	far_copy_stream(to, from, size_bytes);
	far_mem_publish();
}

static void
copy_past(void *to, const void *from, size_t size_bytes)
{
	far_copy_with(far_copy_kernel()->copy_past, to, from, size_bytes);
	far_mem_publish();
}

static int
pass(struct bench_mover *mover, copy_fn *copy, uint64_t block_bytes, struct bench_pass *out)
{
	const char *from = mover->plan->from.base;
	char *to = mover->plan->arena.base;
	uint64_t set_bytes = mover->plan->set_bytes;

	bench_pass_begin(out, 0);
	for (uint64_t at = 0; at < set_bytes; at += block_bytes)
		copy(to + at, from + at, block_bytes);
	bench_pass_end(out, 0, set_bytes);
	return copy_check(mover, block_bytes);
}

/* A block of each set, and the next one the next time: it is in no cache by then. */
static int
once(struct bench_mover *mover, copy_fn *copy, uint64_t block_bytes, uint64_t *ns_out)
{
	uint64_t at = mover->once_at + block_bytes <= mover->plan->set_bytes ? mover->once_at : 0;
	const char *from = (const char *)mover->plan->from.base + at;
	char *to = (char *)mover->plan->arena.base + at;
	uint64_t start_ns = far_clock_now(far_clock_real());

	mover->once_at = at + block_bytes;
	copy(to, from, block_bytes);
	*ns_out = far_clock_now(far_clock_real()) - start_ns;
	return bench_ends_are(to, 0, at / sizeof(uint64_t), block_bytes) ? 0 : -EBADMSG;
}

#define MOVES(copy)                                                                                \
	static int copy##_pass(struct bench_mover *mover, uint64_t block_bytes,                    \
			       struct bench_pass *out)                                             \
	{                                                                                          \
		return pass(mover, copy, block_bytes, out);                                        \
	}                                                                                          \
                                                                                                   \
	static int copy##_once(struct bench_mover *mover, uint64_t block_bytes, uint64_t *ns_out)  \
	{                                                                                          \
		return once(mover, copy, block_bytes, ns_out);                                     \
	}

MOVES(copy_memcpy)
MOVES(copy_stream)
MOVES(copy_past)

const struct bench_mover_ops bench_memcpy = {
	.name = "memcpy",
	.text = "the C library's copy, out of a shared mapping",
	.role = BENCH_YARDSTICK,
	.required = true,
	.open = copy_open,
	.pass = copy_memcpy_pass,
	.once = copy_memcpy_once,
	.close = copy_close,
};

const struct bench_mover_ops bench_stream = {
	.name = "stream",
	.text = "non-temporal stores, out of a shared mapping",
	.required = true,
	.open = copy_open,
	.pass = copy_stream_pass,
	.once = copy_stream_once,
	.close = copy_close,
};

const struct bench_mover_ops bench_past = {
	.name = "past",
	.text = "the same, and the source is read past the last-level cache",
	.required = true,
	.open = copy_open,
	.pass = copy_past_pass,
	.once = copy_past_once,
	.close = copy_close,
};
