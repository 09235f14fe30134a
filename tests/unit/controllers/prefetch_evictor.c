/* prefetch_evictor.c - an evictor that runs after every single L1 call must find nothing to take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/controllers_rig.h"

#include "base/err.h"

static struct ctl_rig rig;
static struct ctl_req req;
static struct ctl_req second;
static bool evicting;
static uint64_t evicted;

/* The linker sends every call to far_l1_X to __wrap_X; __real_X is the function itself. */
size_t __real_far_l1_reserve_read(struct far_l1 *, far_l1_session, const struct far_key *,
				  const uint32_t *, size_t, uint32_t, struct far_l1_grant *);
size_t __wrap_far_l1_reserve_read(struct far_l1 *, far_l1_session, const struct far_key *,
				  const uint32_t *, size_t, uint32_t, struct far_l1_grant *);
size_t __real_far_l1_reserve_write(struct far_l1 *, far_l1_session, const struct far_l1_want *,
				   size_t, struct far_l1_grant *);
size_t __wrap_far_l1_reserve_write(struct far_l1 *, far_l1_session, const struct far_l1_want *,
				   size_t, struct far_l1_grant *);
size_t __real_far_l1_finish_write_and_reserve_read(struct far_l1 *, far_l1_session,
						   const uint64_t *, size_t, uint32_t,
						   far_l1_session, int *);
size_t __wrap_far_l1_finish_write_and_reserve_read(struct far_l1 *, far_l1_session,
						   const uint64_t *, size_t, uint32_t,
						   far_l1_session, int *);
size_t __real_far_l1_finish_read(struct far_l1 *, far_l1_session, const uint64_t *, size_t,
				 uint32_t, int *);
size_t __wrap_far_l1_finish_read(struct far_l1 *, far_l1_session, const uint64_t *, size_t,
				 uint32_t, int *);
size_t __real_far_l1_abort_write(struct far_l1 *, far_l1_session, const uint64_t *, size_t, int *);
size_t __wrap_far_l1_abort_write(struct far_l1 *, far_l1_session, const uint64_t *, size_t, int *);

static void
evict(struct far_l1 *l1)
{
	if (evicting)
		evicted += far_l1_clear(l1, false);
}

size_t
__wrap_far_l1_reserve_read(struct far_l1 *l1, far_l1_session session, const struct far_key *keys,
			   const uint32_t *sizes, size_t count, uint32_t readers,
			   struct far_l1_grant *grants)
{
	size_t rc = __real_far_l1_reserve_read(l1, session, keys, sizes, count, readers, grants);

	evict(l1);
	return rc;
}

size_t
__wrap_far_l1_reserve_write(struct far_l1 *l1, far_l1_session session,
			    const struct far_l1_want *wants, size_t count,
			    struct far_l1_grant *grants)
{
	size_t rc = __real_far_l1_reserve_write(l1, session, wants, count, grants);

	evict(l1);
	return rc;
}

size_t
__wrap_far_l1_finish_write_and_reserve_read(struct far_l1 *l1, far_l1_session session,
					    const uint64_t *loans, size_t count, uint32_t readers,
					    far_l1_session reader, int *rcs)
{
	size_t rc = __real_far_l1_finish_write_and_reserve_read(l1, session, loans, count, readers,
								reader, rcs);

	evict(l1);
	return rc;
}

size_t
__wrap_far_l1_finish_read(struct far_l1 *l1, far_l1_session session, const uint64_t *loans,
			  size_t count, uint32_t readers, int *rcs)
{
	size_t rc = __real_far_l1_finish_read(l1, session, loans, count, readers, rcs);

	evict(l1);
	return rc;
}

size_t
__wrap_far_l1_abort_write(struct far_l1 *l1, far_l1_session session, const uint64_t *loans,
			  size_t count, int *rcs)
{
	size_t rc = __real_far_l1_abort_write(l1, session, loans, count, rcs);

	evict(l1);
	return rc;
}

static void
open_with(uint32_t fakes)
{
	struct ctl_options options = {.fakes = fakes, .prefetch = {.window_keys = 4}};

	evicted = 0;
	ctl_rig_open(&rig, &options);
}

static void
racing_evictor_never_shrinks_a_reported_prefix(void **state)
{
	(void)state;
	open_with(2);
	/* Keys of L1 among keys of both stores, and a load that fails and comes from elsewhere. */
	ctl_rig_put(&rig, 0, 0, 6);
	ctl_rig_write(&rig, 6, CTL_BLOCK_BYTES);
	ctl_rig_write(&rig, 7, CTL_BLOCK_BYTES);
	ctl_rig_put(&rig, 1, 4, 12);
	ctl_rig_fail(&rig, 0, 4, FAR_L2_LOAD, -ESTALE, 1);
	ctl_req_init(&req, &rig, 0, 16);
	ctl_req_submit(&req);
	ctl_req_init(&second, &rig, 2, 8);
	second.req.session = rig.other;
	second.req.readers = 3;
	ctl_req_submit(&second);
	evicting = true;
	ctl_rig_run(&rig);
	evicting = false;
	assert_int_equal(req.advanced_to, 16);
	assert_int_equal(ctl_rig_loans(&rig), 24);
	ctl_req_expect(&req, 0, 16);
	ctl_req_expect(&second, 0, 8);
	ctl_rig_close(&rig);
}

static void
evictor_takes_what_was_loaded_behind_a_gap_and_nothing_else(void **state)
{
	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 12);
	ctl_rig_fail(&rig, 0, 5, FAR_L2_LOAD, -EBADMSG, 1);
	ctl_req_init(&req, &rig, 0, 12);
	ctl_req_submit(&req);
	evicting = true;
	ctl_rig_run(&rig);
	evicting = false;
	assert_true(evicted > 0);
	ctl_req_expect(&req, 0, 5);
	ctl_rig_close(&rig);
}

static void
warm_blocks_are_there_when_the_request_ends(void **state)
{
	uint64_t before;

	(void)state;
	open_with(1);
	ctl_rig_put(&rig, 0, 0, 12);
	ctl_req_init(&req, &rig, 0, 12);
	req.req.mode = FAR_PREFETCH_WARM;
	ctl_req_submit(&req);
	evicting = true;
	before = evicted;
	while (req.advanced_to < 12) {
		(void)far_l2_tick(&rig.fakes[0].l2, far_clock_now(&rig.clock.clock));
		assert_int_equal(evicted, before);
		(void)far_prefetch_tick(rig.prefetch, far_clock_now(&rig.clock.clock));
	}
	evicting = false;
	ctl_rig_run(&rig);
	ctl_req_expect(&req, 0, 12);
	ctl_rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(racing_evictor_never_shrinks_a_reported_prefix),
		cmocka_unit_test(evictor_takes_what_was_loaded_behind_a_gap_and_nothing_else),
		cmocka_unit_test(warm_blocks_are_there_when_the_request_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
