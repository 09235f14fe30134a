/* link.c - the link to a donor: welcomed or refused, lost, made again; a bad peer costs the link. */
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
a_welcome_brings_the_link_up_and_says_who_and_where(void **state)
{
	const struct far_frame_hello *hello;

	(void)state;
	far_log_capture_expect("no welcome in time");
	fake_rig_client(&rig, false);
	assert_int_equal(rig.status.state, FAR_L2_CONNECTING);
	rig.donor.welcomes = false;
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	hello = rig.donor.frame.body;
	assert_int_equal(rig.donor.frame.head.type, FAR_FRAME_HELLO);
	assert_string_equal(hello->donor, "fake");
	assert_string_equal(hello->name_space, "default");
	assert_string_equal(hello->client, "test");
	rig.donor.welcomes = true;
	fake_rig_run(&rig, 100 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	assert_int_equal(rig.status.rc, 0);
	assert_int_equal(rig.status.epoch, FAKE_EPOCH);
	assert_true(rig.status.one_sided);
	assert_non_null(strstr(rig.status.text, "loop:fake"));
}

static void
before_it_is_up_tasks_end_at_once(void **state)
{
	(void)state;
	fake_rig_client(&rig, false);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 3, 0);
	far_l2_submit(rig.l2, &task.task);
	assert_int_equal(task.ended, 0);
	(void)far_l2_tick(rig.l2, far_clock_now(rig.clock));
	assert_int_equal(task.ended, 1);
	assert_int_equal(task.items[2].rc, -EHOSTDOWN);
}

static void
a_welcome_over_a_rail_that_is_not_there_costs_the_link(void **state)
{
	(void)state;
	far_log_capture_expect("names a rail that it does not have");
	rig.donor.welcome_rail = 1; /* of one: number 0 */
	fake_rig_client(&rig, false);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_DOWN);
	rig.donor.welcome_rail = 70000;
	fake_rig_run(&rig, 20 * FAR_NS_PER_MS);
	assert_int_not_equal(rig.status.state, FAR_L2_UP);
	rig.donor.welcome_rail = 0;
	fake_rig_run(&rig, 20 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
}

static void
another_name_is_refused_and_asked_again_slowly(void **state)
{
	(void)state;
	far_log_capture_expect("answers as 'other'");
	memcpy(rig.donor.welcome_name, "other", 6);
	fake_rig_client(&rig, false);
	fake_rig_run(&rig, 30 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_REFUSED);
	assert_non_null(strstr(rig.status.text, "other"));
	assert_int_equal(rig.donor.links, 1); /* back-off alone would have tried about five times */
	memcpy(rig.donor.welcome_name, "fake", 5);
	fake_rig_run(&rig, 100 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
}

static void
a_refusal_is_told_in_the_donors_words_without_control_characters(void **state)
{
	struct far_frame_refused refused = {.rc = -EACCES, .reason = "no such\nnamespace"};

	(void)state;
	far_log_capture_expect("no such?namespace");
	rig.donor.welcomes = false;
	fake_rig_client(&rig, false);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	fake_donor_send(&rig.donor, FAR_FRAME_REFUSED, 0, &refused, NULL, 0);
	fake_rig_run(&rig, 100 * FAR_NS_PER_US);
	assert_int_equal(rig.status.state, FAR_L2_REFUSED);
	assert_int_equal(rig.status.rc, -EACCES);
	assert_non_null(strstr(rig.status.text, "no such?namespace"));
}

static void
a_stopped_donor_is_given_up_on_time_and_logged_once(void **state)
{
	(void)state;
	far_log_capture_expect("donor fake");
	rig.donor.mute = true;
	fake_rig_client(&rig, false);
	fake_rig_run(&rig, 100 * FAR_NS_PER_MS);
	assert_true(rig.status.state == FAR_L2_DOWN);
	assert_int_equal(rig.status.rc, -ETIMEDOUT);
	assert_true(rig.donor.links > 2);
	assert_int_equal(far_log_capture_count("donor fake"), 1);
	rig.donor.mute = false;
	fake_rig_run(&rig, 100 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
}

static void
a_lost_link_ends_what_was_posted_and_comes_back(void **state)
{
	(void)state;
	far_log_capture_expect("donor fake");
	fake_rig_up(&rig);
	(void)fake_donor_put(&rig.donor, 1, 0, 5000);
	far_loop_host_pause(rig.fabric, "fake", true);
	fake_task_make(&rig, &task, FAR_L2_STORE, 9, 1, 5000);
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(task.ended, 0);
	far_loop_host_pause(rig.fabric, "fake", false);
	far_transport_disconnect(rig.donor.link);
	fake_rig_run(&rig, 10 * FAR_NS_PER_US);
	assert_int_equal(task.ended, 1);
	assert_int_equal(task.items[0].rc, -EHOSTDOWN);
	assert_int_equal(rig.status.times_down, 1);
	fake_rig_run(&rig, 20 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	fake_task_make(&rig, &task, FAR_L2_LOAD, 1, 1, 5000);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
	assert_true(fake_bytes_are(&task, 0, 1));
}

static void
a_donor_that_says_bye_is_down(void **state)
{
	(void)state;
	far_log_capture_expect("the donor closes");
	fake_rig_up(&rig);
	fake_donor_send(&rig.donor, FAR_FRAME_BYE, 0, NULL, NULL, 0);
	fake_rig_run(&rig, 10 * FAR_NS_PER_US);
	assert_int_equal(rig.status.state, FAR_L2_DOWN);
	assert_int_equal(rig.status.rc, -EHOSTDOWN);
}

static void
frames_that_make_no_sense_cost_the_link_and_nothing_else(void **state)
{
	struct far_frame_lane_grant grant = {
		.serial = 1, .segment = FAKE_SEGMENT, .size_bytes = FAKE_LANE_BYTES};
	struct far_frame_committed committed = {.serial = 1, .count = 1};
	int32_t results[1] = {0};
	uint64_t garbage[4] = {0x6f6f6f6f, 1, 2, 3};

	(void)state;
	far_log_capture_expect("donor fake");
	fake_rig_up(&rig);
	assert_int_equal(far_transport_send(rig.donor.link, garbage, sizeof(garbage)), 0);
	fake_rig_run(&rig, 10 * FAR_NS_PER_US);
	assert_int_equal(rig.status.state, FAR_L2_DOWN);
	assert_int_equal(rig.status.rc, -EPROTO);
	fake_rig_run(&rig, 20 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);

	/* A lane that nobody asked for. */
	fake_donor_send(&rig.donor, FAR_FRAME_LANE_GRANT, 0, &grant, NULL, 0);
	fake_rig_run(&rig, 10 * FAR_NS_PER_US);
	assert_int_equal(rig.status.rc, -EPROTO);
	fake_rig_run(&rig, 20 * FAR_NS_PER_MS);

	/* An answer to a COMMIT that was never sent. */
	fake_donor_send(&rig.donor, FAR_FRAME_COMMITTED, 99, &committed, results, 1);
	fake_rig_run(&rig, 10 * FAR_NS_PER_US);
	assert_int_equal(rig.status.rc, -EPROTO);
	fake_rig_run(&rig, 20 * FAR_NS_PER_MS);

	/* A frame that only clients send. */
	fake_donor_send(&rig.donor, FAR_FRAME_STATUS_ASK, 0, NULL, NULL, 0);
	fake_rig_run(&rig, 10 * FAR_NS_PER_US);
	assert_int_equal(rig.status.rc, -EPROTO);
	fake_rig_run(&rig, 40 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
	assert_int_equal(rig.status.times_down, 4);
	assert_int_equal(far_log_capture_count("LANE_GRANT"), 1);
	assert_int_equal(far_log_capture_count("COMMITTED"), 1);
	assert_int_equal(far_log_capture_count("STATUS_ASK"), 1);
}

static void
quiesce_says_bye_and_takes_nothing_new(void **state)
{
	(void)state;
	fake_rig_up(&rig);
	far_l2_quiesce(rig.l2);
	fake_task_make(&rig, &task, FAR_L2_LOOKUP, 1, 1, 0);
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(task.items[0].rc, -ECANCELED);
	assert_int_equal(rig.donor.counts[FAR_FRAME_BYE], 1);
	assert_true(far_l2_quiesced(rig.l2));
	assert_int_equal(rig.status.state, FAR_L2_QUIESCED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		CLAIM(a_welcome_brings_the_link_up_and_says_who_and_where),
		CLAIM(before_it_is_up_tasks_end_at_once),
		CLAIM(a_welcome_over_a_rail_that_is_not_there_costs_the_link),
		CLAIM(another_name_is_refused_and_asked_again_slowly),
		CLAIM(a_refusal_is_told_in_the_donors_words_without_control_characters),
		CLAIM(a_stopped_donor_is_given_up_on_time_and_logged_once),
		CLAIM(a_lost_link_ends_what_was_posted_and_comes_back),
		CLAIM(a_donor_that_says_bye_is_down),
		CLAIM(frames_that_make_no_sense_cost_the_link_and_nothing_else),
		CLAIM(quiesce_says_bye_and_takes_nothing_new),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
