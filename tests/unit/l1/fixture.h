/* fixture.h - an L1 over a small arena for the tests, and the proof at the end that nothing is left. */
#ifndef FAR_TESTS_UNIT_L1_FIXTURE_H
#define FAR_TESTS_UNIT_L1_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/err.h"
#include "base/rng.h"
#include "l1/l1.h"

#define UNIT 4096u

struct fixture {
	struct far_clock_fake clock;
	struct far_l1_config config;
	struct far_l1 *l1;
	far_l1_session session;
	_Atomic int publishes;
};

static inline struct far_key
key_n(uint64_t n)
{
	struct far_key key;
	uint64_t half[2] = {far_mix64(n), n + 1};

	memcpy(key.bytes, half, sizeof(half));
	return key;
}

static inline void
fixture_publish(void *arg)
{
	((struct fixture *)arg)->publishes++;
}

/* An arena of @units; what is set in @config is kept. */
static inline void
fixture_open(struct fixture *f, uint64_t units, struct far_l1_config config)
{
	memset(f, 0, sizeof(*f));
	far_clock_fake_init(&f->clock, 1000);
	f->config = config;
	f->config.size_bytes = units * UNIT;
	f->config.base = far_zalloc_aligned(UNIT, units * UNIT);
	f->config.align_bytes = UNIT;
	if (f->config.block_bytes_min == 0)
		f->config.block_bytes_min = UNIT;
	f->config.publish = fixture_publish;
	f->config.publish_arg = f;
	f->config.clock = &f->clock.clock;
	assert_non_null(f->config.base);
	assert_int_equal(far_l1_open(&f->config, &f->l1), 0);
	assert_int_equal(far_l1_session_open(f->l1, "test", &f->session), 0);
}

static inline void
fixture_close(struct fixture *f)
{
	struct far_l1_usage usage;

	far_l1_check(f->l1);
	far_l1_usage_get(f->l1, &usage);
	assert_int_equal(usage.loan_count, 0);
	assert_int_equal(usage.locked_bytes, 0);
	assert_int_equal(usage.quarantine_bytes, 0);
	far_l1_session_close(f->l1, f->session);
	far_l1_clear(f->l1, false);
	far_l1_check(f->l1);
	far_l1_usage_get(f->l1, &usage);
	assert_int_equal(usage.used_bytes, 0);
	assert_int_equal(usage.block_count, 0);
	far_l1_close(f->l1);
	far_free(f->config.base);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static inline struct far_l1_usage
usage_of(struct fixture *f)
{
	struct far_l1_usage usage;

	far_l1_usage_get(f->l1, &usage);
	return usage;
}

/* One key at a time: the code, and the grant. */
static inline int
write_one(struct fixture *f, uint64_t n, uint32_t size_bytes, struct far_l1_grant *grant)
{
	struct far_l1_want want = {.key = key_n(n), .size_bytes = size_bytes};

	far_l1_reserve_write(f->l1, f->session, &want, 1, grant);
	return grant->rc;
}

static inline int
finish_one(struct fixture *f, uint64_t loan)
{
	int rc;

	far_l1_finish_write(f->l1, f->session, &loan, 1, &rc);
	return rc;
}

static inline int
abort_one(struct fixture *f, uint64_t loan)
{
	int rc;

	far_l1_abort_write(f->l1, f->session, &loan, 1, &rc);
	return rc;
}

static inline int
flip_one(struct fixture *f, uint64_t loan, uint32_t readers)
{
	int rc;

	far_l1_finish_write_and_reserve_read(f->l1, f->session, &loan, 1, readers, f->session, &rc);
	return rc;
}

static inline int
read_one(struct fixture *f, uint64_t n, uint32_t readers, struct far_l1_grant *grant)
{
	struct far_key key = key_n(n);

	far_l1_reserve_read(f->l1, f->session, &key, NULL, 1, readers, grant);
	return grant->rc;
}

static inline int
release_one(struct fixture *f, uint64_t loan, uint32_t readers)
{
	int rc;

	far_l1_finish_read(f->l1, f->session, &loan, 1, readers, &rc);
	return rc;
}

static inline int
delete_one(struct fixture *f, uint64_t n, bool force)
{
	struct far_key key = key_n(n);
	int rc;

	far_l1_delete(f->l1, &key, 1, force, &rc);
	return rc;
}

static inline enum far_l1_state
state_of(struct fixture *f, uint64_t n)
{
	struct far_key key = key_n(n);

	return far_l1_state_get(f->l1, &key);
}

/* A ready block. */
static inline void
put(struct fixture *f, uint64_t n, uint32_t size_bytes)
{
	struct far_l1_grant grant;

	assert_int_equal(write_one(f, n, size_bytes, &grant), 0);
	assert_int_equal(finish_one(f, grant.loan), 0);
}

static inline void
touch_one(struct fixture *f, uint64_t n)
{
	struct far_key key = key_n(n);

	far_l1_touch(f->l1, &key, 1);
}

#endif
