/* copy.c - the yardsticks: memcpy, and the copy with non-temporal stores that farpool uses. */
#include "base/copy.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/publish.h"
#include "tests/bench/bench.h"
#include "tests/bench/process.h"

/* Blocks lie on page boundaries on both sides, as farpool's do. */
struct bench_mover {
	const struct bench_plan *plan; /* borrowed */
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

static int
memcpy_pass(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out)
{
	const char *from = mover->plan->from.base;
	char *to = mover->plan->arena.base;
	uint64_t set_bytes = mover->plan->set_bytes;

	bench_pass_begin(out, 0);
	for (uint64_t at = 0; at < set_bytes; at += block_bytes)
		memcpy(to + at, from + at, block_bytes);
	bench_pass_end(out, 0, set_bytes);
	return copy_check(mover, block_bytes);
}

static int
stream_pass(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out)
{
	const char *from = mover->plan->from.base;
	char *to = mover->plan->arena.base;
	uint64_t set_bytes = mover->plan->set_bytes;

	bench_pass_begin(out, 0);
	for (uint64_t at = 0; at < set_bytes; at += block_bytes) {
		far_copy_stream(to + at, from + at, block_bytes);
		far_mem_publish();
	}
	bench_pass_end(out, 0, set_bytes);
	return copy_check(mover, block_bytes);
}

const struct bench_mover_ops bench_memcpy = {
	.name = "memcpy",
	.text = "the C library's copy, out of a shared mapping",
	.role = BENCH_YARDSTICK,
	.required = true,
	.open = copy_open,
	.pass = memcpy_pass,
	.close = copy_close,
};

const struct bench_mover_ops bench_stream = {
	.name = "stream",
	.text = "non-temporal stores, out of a shared mapping",
	.required = true,
	.open = copy_open,
	.pass = stream_pass,
	.close = copy_close,
};
