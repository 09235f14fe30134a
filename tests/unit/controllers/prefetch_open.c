/* prefetch_open.c - what open and submit refuse, and that a half-built controller leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

#include "base/alloc.h"

static struct ctl_rig rig;
static struct ctl_req req;
static struct ctl_req second;

static void
open_and_close_without_requests_leaves_nothing(void **state)
{
	static const uint32_t fakes[] = {1, 4, FAR_L2_SET_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(fakes) / sizeof(fakes[0]); i++) {
		struct ctl_options options = {.fakes = fakes[i], .store = true};

		ctl_rig_open(&rig, &options);
		ctl_rig_run(&rig);
		assert_int_equal(rig.next_ns, FAR_TIME_NEVER);
		ctl_rig_close(&rig);
	}
}

static void
open_when_an_allocation_fails_leaves_nothing(void **state)
{
	struct far_prefetch_config config = {
		.requests_max = 4,
		.keys_max = 8,
		.loads_max = 8,
		.bytes_in_flight_max = 1U << 20,
		.window_keys = 4,
		.windows_ahead = 2,
	};
	struct far_store_config store_config = {
		.queue_max = 4,
		.queue_bytes_max = 1U << 20,
		.bytes_in_flight_max = 1U << 20,
		.batch_max = 2,
		.tries_max = 1,
		.deadline_ns = 1,
	};
	int rc = -ENOMEM;

	(void)state;
	ctl_rig_open(&rig, NULL);
	far_alloc_unlock();
	for (uint64_t n = 1; rc != 0; n++) {
		uint64_t before = far_alloc_live_bytes();
		struct far_prefetch *ctl = NULL;

		far_alloc_fail_nth(n);
		rc = far_prefetch_open(&config, rig.l1, &rig.set, &rig.policy, &rig.clock.clock,
				       &ctl);
		far_alloc_fail_nth(0);
		if (rc != 0) {
			assert_int_equal(rc, -ENOMEM);
			assert_null(ctl);
			assert_int_equal(far_alloc_live_bytes(), before);
		}
		far_prefetch_close(ctl);
	}
	rc = -ENOMEM;
	for (uint64_t n = 1; rc != 0; n++) {
		uint64_t before = far_alloc_live_bytes();
		struct far_store *ctl = NULL;

		far_alloc_fail_nth(n);
		rc = far_store_open(&store_config, rig.l1, &rig.set, &rig.policy, &rig.clock.clock,
				    NULL, NULL, &ctl);
		far_alloc_fail_nth(0);
		if (rc != 0) {
			assert_int_equal(rc, -ENOMEM);
			assert_null(ctl);
			assert_int_equal(far_alloc_live_bytes(), before);
			continue;
		}
		far_store_quiesce(ctl);
		far_store_close(ctl);
	}
	far_alloc_lock();
	ctl_rig_close(&rig);
}

static void
open_refuses_bounds_of_zero(void **state)
{
	const struct far_prefetch_config good = {
		.requests_max = 4,
		.keys_max = 8,
		.loads_max = 8,
		.bytes_in_flight_max = 1U << 20,
		.window_keys = 4,
		.windows_ahead = 2,
	};
	struct far_prefetch_config bad[6];
	struct far_prefetch *ctl = NULL;

	(void)state;
	ctl_rig_open(&rig, NULL);
	for (size_t i = 0; i < 6; i++)
		bad[i] = good;
	bad[0].requests_max = 0;
	bad[1].keys_max = 0;
	bad[2].loads_max = 0;
	bad[3].bytes_in_flight_max = 0;
	bad[4].window_keys = 0;
	bad[5].windows_ahead = 0;
	for (size_t i = 0; i < 6; i++) {
		assert_int_equal(far_prefetch_open(&bad[i], rig.l1, &rig.set, &rig.policy,
						   &rig.clock.clock, &ctl),
				 -EINVAL);
		assert_null(ctl);
	}
	ctl_rig_close(&rig);
}

static void
submit_refuses_what_it_cannot_end(void **state)
{
	(void)state;
	ctl_rig_open(&rig, NULL);
	ctl_req_init(&req, &rig, 0, 4);
	req.req.readers = 0;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	req.req.readers = 65536;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	ctl_req_init(&req, &rig, 0, 4);
	req.req.session = 0;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	ctl_req_init(&req, &rig, 0, 4);
	req.req.l1_prefix_count = 5;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	ctl_req_init(&req, &rig, 0, 4);
	req.req.ended = NULL;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	ctl_req_init(&req, &rig, 0, 4);
	req.req.views = NULL;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	ctl_req_init(&req, &rig, 0, 4);
	req.req.mode = (enum far_prefetch_mode)7;
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -EINVAL);
	ctl_rig_run(&rig);
	assert_int_equal(req.ended_count, 0);
	ctl_rig_close(&rig);
}

static void
requests_and_keys_beyond_their_bounds_are_refused(void **state)
{
	struct ctl_options options = {.prefetch = {.requests_max = 1, .keys_max = 8}};

	(void)state;
	ctl_rig_open(&rig, &options);
	ctl_req_init(&req, &rig, 0, 9);
	assert_int_equal(far_prefetch_submit(rig.prefetch, &req.req), -E2BIG);
	ctl_req_init(&req, &rig, 0, 8);
	ctl_req_submit(&req);
	ctl_req_init(&second, &rig, 0, 1);
	assert_int_equal(far_prefetch_submit(rig.prefetch, &second.req), -E2BIG);
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 0);
	ctl_req_submit(&second);
	assert_int_equal(second.req.request_id, req.req.request_id + 1);
	ctl_rig_run(&rig);
	ctl_req_expect(&second, 0, 0);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_and_close_without_requests_leaves_nothing),
		cmocka_unit_test(open_when_an_allocation_fails_leaves_nothing),
		cmocka_unit_test(open_refuses_bounds_of_zero),
		cmocka_unit_test(submit_refuses_what_it_cannot_end),
		cmocka_unit_test(requests_and_keys_beyond_their_bounds_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
