/* prefetch_steady.c - controller, L1, donor adapter and transport together: prefetching allocates nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "controllers/prefetch.h"
#include "tests/support/fake_donor.h"
#include "tests/support/log_capture.h"

#define KEYS        128U /* of a request */
#define DONOR_KEYS  512U /* twice as many as L1 holds */
#define L1_BLOCKS   256U
#define BLOCK_BYTES 4096U
#define REQUESTS    24U
#define TURNS_MAX   2000U
#define TURN_NS     (20 * FAR_NS_PER_US)

static struct fake_rig rig;
static struct far_l1 *l1;
static far_l1_session session;
static struct far_l2_set set;
static struct far_policy policy;
static struct far_prefetch *prefetch;
static struct far_key keys[KEYS];
static struct far_prefetch_view views[KEYS];
static bool ended;

static void
on_ended(struct far_prefetch_req *req)
{
	(void)req;
	ended = true;
}

static void
open_all(void)
{
	struct far_prefetch_config config = {
		.requests_max = 4,
		.keys_max = KEYS,
		.loads_max = 256,
		.bytes_in_flight_max = 16U << 20,
		.window_keys = 64,
		.windows_ahead = 4,
	};
	struct far_l1_config l1_config = {
		.size_bytes = (uint64_t)L1_BLOCKS * BLOCK_BYTES,
		.align_bytes = BLOCK_BYTES,
		.block_bytes_min = BLOCK_BYTES,
	};
	char error[256];

	far_log_capture_start();
	fake_rig_open(&rig);
	fake_rig_up(&rig);
	l1_config.base = rig.arena;
	l1_config.clock = rig.clock;
	assert_int_equal(far_l1_open(&l1_config, &l1), 0);
	assert_int_equal(far_l1_session_open(l1, "test", &session), 0);
	memset(&set, 0, sizeof(set));
	assert_int_equal(far_l2_set_add(&set, rig.l2), 0);
	policy.replicas = 1;
	assert_int_equal(far_policy_parse("placement,fastest,retain", &policy, error), 0);
	assert_int_equal(far_prefetch_open(&config, l1, &set, &policy, rig.clock, &prefetch), 0);
	for (uint32_t i = 0; i < DONOR_KEYS; i++)
		(void)fake_donor_put(&rig.donor, i, i * 8192ULL, BLOCK_BYTES);
}

static void
close_all(void)
{
	struct far_l1_usage usage;

	far_prefetch_quiesce(prefetch);
	assert_true(far_prefetch_idle(prefetch));
	far_prefetch_close(prefetch);
	far_l1_usage_get(l1, &usage);
	assert_int_equal(usage.loan_count, 0);
	far_l1_session_close(l1, session);
	far_l1_close(l1);
	fake_rig_close(&rig);
	far_log_capture_finish();
}

static void
prefetch_and_release(uint32_t first)
{
	struct far_prefetch_req req = {
		.keys = keys,
		.views = views,
		.count = KEYS,
		.mode = FAR_PREFETCH_LOOKUP,
		.readers = 1,
		.deadline_ns = far_clock_now(rig.clock) + FAR_NS_PER_S,
		.session = session,
		.ended = on_ended,
	};

	for (uint32_t i = 0; i < KEYS; i++)
		keys[i] = fake_key((first + i) % DONOR_KEYS);
	ended = false;
	assert_int_equal(far_prefetch_submit(prefetch, &req), 0);
	for (uint32_t i = 0; i < TURNS_MAX && !ended; i++) {
		fake_rig_run(&rig, TURN_NS);
		(void)far_prefetch_tick(prefetch, far_clock_now(rig.clock));
	}
	assert_true(ended);
	assert_int_equal(req.rc, 0);
	assert_int_equal(req.prefix_count, KEYS);
	for (uint32_t i = 0; i < KEYS; i++) {
		const uint8_t *bytes = views[i].addr;
		int rc;

		assert_int_equal(views[i].size_bytes, BLOCK_BYTES);
		for (uint32_t at = 0; at < BLOCK_BYTES; at += 97)
			assert_int_equal(bytes[at], fake_byte((first + i) % DONOR_KEYS, at));
		(void)far_l1_finish_read(l1, session, &views[i].loan, 1, 1, &rc);
		assert_int_equal(rc, 0);
	}
}

static void
prefetch_and_release_allocate_nothing_from_the_first_request_on(void **state)
{
	struct far_l1_usage usage;
	uint64_t live_bytes;

	(void)state;
	open_all();
	live_bytes = far_alloc_live_bytes();
	/* An allocation on this thread is a failed assertion from here on: all layers run on it. */
	far_alloc_lock();
	for (uint32_t i = 0; i < REQUESTS; i++)
		prefetch_and_release(i * KEYS);
	far_alloc_unlock();
	assert_int_equal(far_alloc_live_bytes(), live_bytes);
	/* L1 was full most of the time, and evicted for each block. */
	far_l1_usage_get(l1, &usage);
	assert_true(usage.evicted_blocks >= (REQUESTS - 3) * KEYS);
	close_all();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prefetch_and_release_allocate_nothing_from_the_first_request_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
