/* session_order.c - a session ends its prefetches first, then its loans, and waits for nobody else. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/pages.h"
#include "client/handle.h"
#include "farpool/farpool.h"
#include "tests/support/log_capture.h"

/*
 * The linker sends calls of the client's thread through here (--wrap): what the prefetch controller is
 * given; its tick, which is held back so that this stays under way; the closing of the session in L1, which
 * must not come before that prefetch has ended; and what is pushed to the thread's ring, which is full
 * for the thread itself: it would wait for a place that nobody but itself can make.
 */
#define TICKS_HELD   3U   /* after the session began to end */
#define REFUSALS_MAX 100U /* a thread that insists is let go, so that the test ends */

static struct {
	_Atomic bool holds;
	_Atomic bool submitted;
	_Atomic bool ring_is_full;
	_Atomic bool ended_before_close;
	_Atomic uint32_t closes;
	_Atomic uint32_t refusals;
	uint32_t ticks; /* the client's thread */
	struct far_session *session;
	struct far_prefetch_handle *handle;
} seam;

static _Thread_local bool is_client_thread;

int __real_far_prefetch_submit(struct far_prefetch *ctl, struct far_prefetch_req *req);
int __wrap_far_prefetch_submit(struct far_prefetch *ctl, struct far_prefetch_req *req);
uint64_t __real_far_prefetch_tick(struct far_prefetch *ctl, uint64_t now_ns);
uint64_t __wrap_far_prefetch_tick(struct far_prefetch *ctl, uint64_t now_ns);
void __real_far_l1_session_close(struct far_l1 *l1, far_l1_session session);
void __wrap_far_l1_session_close(struct far_l1 *l1, far_l1_session session);
bool __real_far_client_push(struct far_client *client, struct far_command *command);
bool __wrap_far_client_push(struct far_client *client, struct far_command *command);

int
__wrap_far_prefetch_submit(struct far_prefetch *ctl, struct far_prefetch_req *req)
{
	int rc = __real_far_prefetch_submit(ctl, req);

	atomic_store(&seam.submitted, rc == 0);
	return rc;
}

uint64_t
__wrap_far_prefetch_tick(struct far_prefetch *ctl, uint64_t now_ns)
{
	is_client_thread = true;
	if (!atomic_load(&seam.holds))
		return __real_far_prefetch_tick(ctl, now_ns);
	if (!far_session_is_open(seam.session) && ++seam.ticks > TICKS_HELD)
		atomic_store(&seam.holds, false);
	return now_ns + FAR_NS_PER_MS;
}

void
__wrap_far_l1_session_close(struct far_l1 *l1, far_l1_session session)
{
	if (seam.handle != NULL) {
		atomic_fetch_add(&seam.closes, 1);
		atomic_store(&seam.ended_before_close,
			     (atomic_load(&seam.handle->state) & FAR_HANDLE_ENDED) != 0);
	}
	__real_far_l1_session_close(l1, session);
}

bool
__wrap_far_client_push(struct far_client *client, struct far_command *command)
{
	if (atomic_load(&seam.ring_is_full) && is_client_thread &&
	    atomic_fetch_add(&seam.refusals, 1) < REFUSALS_MAX)
		return false;
	return __real_far_client_push(client, command);
}

static uint64_t
soon(void)
{
	return far_now_ns() + 10 * FAR_NS_PER_S;
}

/* A session with one prefetch that does not end by itself. */
static struct far_client *
open_held(void)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = 1 << 20};
	struct far_prefetch_options ask = {.size_bytes = sizeof(ask), .deadline_ns = soon()};
	struct far_key key = {{1}};
	struct far_client *client = NULL;
	uint64_t until_ns = soon();

	memset(&seam, 0, sizeof(seam));
	far_log_capture_start();
	assert_int_equal(far_client_open(&options, &client), 0);
	assert_int_equal(far_session_open(client, "held", 0, &seam.session), 0);
	atomic_store(&seam.holds, true);
	ask.session = seam.session;
	assert_int_equal(far_prefetch(client, &key, 1, &ask, &seam.handle), 0);
	while (!atomic_load(&seam.submitted)) {
		assert_true(far_now_ns() < until_ns);
		sched_yield();
	}
	return client;
}

static void
close_held(struct far_client *client)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};

	assert_int_equal(far_prefetch_wait(seam.handle, soon(), &status), 0);
	assert_int_equal(status.rc, -ECANCELED);
	far_prefetch_release(seam.handle);
	seam.handle = NULL;
	far_client_close(client);
	far_log_capture_finish();
	assert_int_equal(far_alloc_live_bytes(), 0);
	assert_int_equal(far_pages_live_bytes(), 0);
}

static void
loans_of_a_session_end_behind_its_prefetches(void **state)
{
	struct far_client *client = open_held();

	(void)state;
	far_session_close(seam.session);
	assert_int_equal(atomic_load(&seam.closes), 1);
	assert_true(atomic_load(&seam.ended_before_close));
	close_held(client);
}

static void
session_ends_while_the_ring_of_commands_is_full(void **state)
{
	struct far_client *client = open_held();

	(void)state;
	atomic_store(&seam.ring_is_full, true);
	far_session_close(seam.session);
	atomic_store(&seam.ring_is_full, false);
	assert_int_equal(atomic_load(&seam.closes), 1);
	assert_int_equal(atomic_load(&seam.refusals), 0);
	close_held(client);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loans_of_a_session_end_behind_its_prefetches),
		cmocka_unit_test(session_ends_while_the_ring_of_commands_is_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
