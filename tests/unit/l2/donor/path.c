/* path.c - a donor of several addresses: the first that answers is used, and it is said why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/fake_donor.h"
#include "tests/support/log_capture.h"

static struct fake_rig rig;
static struct fake_task task;
static char error[256];

static int
setup(void **state)
{
	(void)state;
	far_log_capture_start();
	fake_rig_open(&rig);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	fake_rig_close(&rig);
	far_log_capture_finish();
	return 0;
}

static void
the_only_address_is_used_and_called_that(void **state)
{
	(void)state;
	fake_rig_up(&rig);
	assert_string_equal(rig.status.transport, "loop");
	assert_string_equal(rig.status.why, "its only address");
}

static void
the_first_that_answers_is_used_without_a_pause_or_a_warning(void **state)
{
	(void)state;
	assert_int_equal(fake_rig_client_at(&rig, false, "loop:nobody,loop:fake", NULL, error), 0);
	assert_string_equal(rig.status.why, "");
	fake_rig_run(&rig, FAR_NS_PER_MS); /* as long as one failed attempt would pause */
	assert_int_equal(rig.status.state, FAR_L2_UP);
	assert_non_null(strstr(rig.status.text, "loop:fake"));
	assert_non_null(strstr(rig.status.why, "auto: not loop:nobody: nobody listens"));
}

static void
a_first_choice_that_answers_is_called_that(void **state)
{
	(void)state;
	assert_int_equal(fake_rig_client_at(&rig, false, "loop:fake,loop:nobody", "auto", error),
			 0);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	assert_string_equal(rig.status.why, "auto: the first choice answers");
}

static void
an_address_of_a_transport_that_is_not_here_is_passed_over(void **state)
{
	(void)state;
	assert_int_equal(
		fake_rig_client_at(&rig, false, "pigeon:coop,shm:/x,loop:fake", "auto", error), 0);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	assert_string_equal(rig.status.transport, "loop");
	assert_string_equal(rig.status.why, "auto: not shm:/x: not to be had on this host");
}

static void
a_transport_that_is_configured_is_never_replaced(void **state)
{
	(void)state;
	assert_int_equal(fake_rig_client_at(&rig, false, "loop:fake,shm:/x", "shm", error),
			 -EINVAL);
	assert_non_null(strstr(error, "transport is shm"));
	assert_null(rig.l2);
	assert_int_equal(fake_rig_client_at(&rig, false, "shm:/x,loop:fake", "loop", error), 0);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	assert_string_equal(rig.status.why, "configured: transport: loop");
}

/* Hosts of a rack have their donors at the same path: another's is no reason to give up. */
static void
another_donor_at_the_first_address_is_passed_over(void **state)
{
	(void)state;
	far_log_capture_expect("answers as 'other'");
	memcpy(rig.donor.welcome_name, "other", 6);
	assert_int_equal(fake_rig_client_at(&rig, false, "loop:fake,loop:nobody", NULL, error), 0);
	fake_rig_run(&rig, 30 * FAR_NS_PER_MS);
	/* Down, and not refused: the second may come up at any time. */
	assert_int_equal(rig.status.state, FAR_L2_DOWN);
	assert_non_null(strstr(rig.status.text, "loop:fake: answers as 'other'"));
	assert_non_null(strstr(rig.status.text, "loop:nobody: nobody listens"));
	/* All of them tried at the ordinary pace: more than twice in the time of ten pauses. */
	assert_true(rig.donor.links > 2);
}

static void
refused_wherever_it_can_be_reached_is_refused(void **state)
{
	(void)state;
	far_log_capture_expect("answers as 'other'");
	memcpy(rig.donor.welcome_name, "other", 6);
	assert_int_equal(fake_rig_client_at(&rig, false, "loop:fake,pigeon:coop", NULL, error), 0);
	fake_rig_run(&rig, 30 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_REFUSED);
	assert_int_equal(rig.donor.links, 1); /* once, then a long pause */
}

static void
a_lost_link_begins_again_with_the_first_address(void **state)
{
	uint32_t links;

	(void)state;
	far_log_capture_expect("the donor closes");
	assert_int_equal(fake_rig_client_at(&rig, false, "loop:nobody,loop:fake", NULL, error), 0);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	links = rig.donor.links;
	fake_donor_send(&rig.donor, FAR_FRAME_BYE, 0, NULL, NULL, 0);
	fake_rig_run(&rig, 20 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	assert_int_equal(rig.donor.links, links + 1);
	assert_non_null(strstr(rig.status.why, "not loop:nobody"));
}

static void
blocks_are_read_and_stored_over_whichever_was_taken(void **state)
{
	(void)state;
	assert_int_equal(fake_rig_client_at(&rig, false, "loop:nobody,loop:fake", NULL, error), 0);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	(void)fake_donor_put(&rig.donor, 7, 4096, 8192);
	fake_task_make(&rig, &task, FAR_L2_LOAD, 7, 1, 8192);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
	assert_true(fake_bytes_are(&task, 0, 7));
	fake_task_make(&rig, &task, FAR_L2_STORE, 8, 1, 4096);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
}

static void
addresses_that_make_no_sense_are_refused_with_their_cause(void **state)
{
	(void)state;
	assert_int_equal(fake_rig_client_at(&rig, false, "/run/a.sock", NULL, error), -EINVAL);
	assert_non_null(strstr(error, "'/run/a.sock' names no transport"));
	assert_int_equal(fake_rig_client_at(&rig, false, "loop:fake,", NULL, error), -EINVAL);
	assert_int_equal(fake_rig_client_at(&rig, false, "pigeon:a", NULL, error), -EINVAL);
	assert_non_null(strstr(error, "none of its addresses"));
	assert_null(rig.l2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_only_address_is_used_and_called_that),
		TEST(the_first_that_answers_is_used_without_a_pause_or_a_warning),
		TEST(a_first_choice_that_answers_is_called_that),
		TEST(an_address_of_a_transport_that_is_not_here_is_passed_over),
		TEST(a_transport_that_is_configured_is_never_replaced),
		TEST(another_donor_at_the_first_address_is_passed_over),
		TEST(refused_wherever_it_can_be_reached_is_refused),
		TEST(a_lost_link_begins_again_with_the_first_address),
		TEST(blocks_are_read_and_stored_over_whichever_was_taken),
		TEST(addresses_that_make_no_sense_are_refused_with_their_cause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
