/* notes.c - touches are few and never cost a COMMIT its credit; deletes and counters are answered. */
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

static struct {
	int calls;
	int rc;
	uint32_t count;
	uint64_t first;
} stats;

static int
setup(void **state)
{
	(void)state;
	far_log_capture_start();
	fake_rig_open(&rig);
	fake_rig_up(&rig);
	memset(&stats, 0, sizeof(stats));
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
load_once(uint32_t first, uint32_t count)
{
	fake_task_make(&rig, &task, FAR_L2_LOAD, first, count, 64);
	fake_task_run(&rig, &task);
	assert_int_equal(task.items[0].rc, 0);
}

static void
touches_of_a_tenth_of_a_second_travel_in_one_frame(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 300; i++)
		(void)fake_donor_put(&rig.donor, i, i * 64ULL, 64);
	for (int i = 0; i < 10; i++)
		load_once(0, 20);
	assert_int_equal(rig.donor.counts[FAR_FRAME_TOUCH], 0);
	fake_rig_run(&rig, 110 * FAR_NS_PER_MS);
	assert_int_equal(rig.donor.counts[FAR_FRAME_TOUCH], 1);
	assert_int_equal(rig.donor.frame.count, 200);
	assert_int_equal(rig.status.touch_notes, 1);
	/* More than a frame holds: the rest is dropped, it was a hint. */
	load_once(0, 300);
	fake_rig_run(&rig, 110 * FAR_NS_PER_MS);
	assert_int_equal(rig.donor.counts[FAR_FRAME_TOUCH], 2);
	assert_int_equal(rig.donor.frame.count, 256);
}

static void
a_stopped_donor_is_not_sent_touches_for_ever(void **state)
{
	uint64_t notes;

	(void)state;
	(void)fake_donor_put(&rig.donor, 1, 0, 64);
	far_loop_host_pause(rig.fabric, "fake", true);
	for (int i = 0; i < 100; i++) {
		load_once(1, 1);
		fake_rig_run(&rig, 110 * FAR_NS_PER_MS);
	}
	notes = rig.status.touch_notes;
	assert_true(notes <= 17); /* of 32 credits */
	far_loop_host_pause(rig.fabric, "fake", false);
	rig.donor.mute = true;
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.donor.counts[FAR_FRAME_STATUS_ASK], 1);
	/* One word from it, and they travel again. */
	fake_donor_send(&rig.donor, FAR_FRAME_STATUS, 0, &(struct far_frame_status){.count = 0},
			NULL, 0);
	load_once(1, 1);
	fake_rig_run(&rig, 110 * FAR_NS_PER_MS);
	assert_int_equal(rig.status.touch_notes, notes + 1);
}

static void
deletes_are_answered_per_key(void **state)
{
	struct far_frame_results body = {.count = 3};
	int32_t results[3] = {0, -ENOENT, 0};

	(void)state;
	fake_task_make(&rig, &task, FAR_L2_DELETE, 1, 3, 0);
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.donor.counts[FAR_FRAME_DELETE], 1);
	assert_int_equal(task.ended, 0);
	fake_donor_send(&rig.donor, FAR_FRAME_DELETED, rig.donor.tags[FAR_FRAME_DELETE], &body,
			results, 3);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(task.ended, 1);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(task.items[i].rc, results[i]);
}

static void
a_delete_that_nobody_answers_ends_at_its_deadline_and_a_late_answer_is_ignored(void **state)
{
	struct far_frame_results body = {.count = 1};
	int32_t results[1] = {0};

	(void)state;
	fake_task_make(&rig, &task, FAR_L2_DELETE, 1, 1, 0);
	task.task.deadline_ns = far_clock_now(rig.clock) + FAR_NS_PER_MS;
	far_l2_submit(rig.l2, &task.task);
	fake_rig_run(&rig, 2 * FAR_NS_PER_MS);
	assert_int_equal(task.ended, 1);
	assert_int_equal(task.items[0].rc, -ETIMEDOUT);
	fake_donor_send(&rig.donor, FAR_FRAME_DELETED, rig.donor.tags[FAR_FRAME_DELETE], &body,
			results, 1);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(rig.status.state, FAR_L2_UP);
}

static void
stats_got(void *arg, int rc, const uint64_t *values, uint32_t count)
{
	assert_ptr_equal(arg, &stats);
	stats.calls++;
	stats.rc = rc;
	stats.count = count;
	stats.first = count > 0 ? values[0] : 0;
}

static void
counters_come_or_the_deadline_does(void **state)
{
	struct far_frame_status body = {.count = 2};
	uint64_t values[2] = {4711, 1};
	uint64_t deadline_ns = far_clock_now(rig.clock) + 5 * FAR_NS_PER_MS;

	(void)state;
	assert_int_equal(rig.l2->ops->stats_ask(rig.l2, stats_got, &stats, deadline_ns), 0);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	fake_donor_send(&rig.donor, FAR_FRAME_STATUS, rig.donor.tags[FAR_FRAME_STATUS_ASK], &body,
			values, 2);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(stats.calls, 1);
	assert_int_equal(stats.rc, 0);
	assert_int_equal(stats.count, 2);
	assert_int_equal(stats.first, 4711);

	assert_int_equal(rig.l2->ops->stats_ask(rig.l2, stats_got, &stats, deadline_ns), 0);
	fake_rig_run(&rig, 10 * FAR_NS_PER_MS);
	assert_int_equal(stats.calls, 2);
	assert_int_equal(stats.rc, -ETIMEDOUT);
}

static void
counters_of_a_lost_donor_are_answered_too(void **state)
{
	(void)state;
	far_log_capture_expect("donor fake");
	assert_int_equal(rig.l2->ops->stats_ask(rig.l2, stats_got, &stats, FAR_TIME_NEVER), 0);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	far_transport_disconnect(rig.donor.link);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(stats.calls, 1);
	assert_int_equal(stats.rc, -EHOSTDOWN);
}

static struct {
	uint32_t calls;
	int rc;
	struct far_l2_usage usage;
} usage;

static void
usage_got(void *arg, int rc, const struct far_l2_usage *is)
{
	assert_ptr_equal(arg, &usage);
	assert_true((rc == 0) == (is != NULL));
	usage.calls++;
	usage.rc = rc;
	if (is != NULL)
		usage.usage = *is;
}

static int
usage_of(const uint64_t *values, uint32_t count)
{
	struct far_frame_status body = {.count = count};

	usage.calls = 0;
	assert_int_equal(far_l2_usage_ask(rig.l2, usage_got, &usage, FAR_TIME_NEVER), 0);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	fake_donor_send(&rig.donor, FAR_FRAME_STATUS, rig.donor.tags[FAR_FRAME_STATUS_ASK], &body,
			values, count);
	fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_int_equal(usage.calls, 1);
	return usage.rc;
}

static void
a_donor_says_how_full_it_is(void **state)
{
	static const uint64_t values[] = {1000, 300, 7, 650};
	static const uint64_t absurd[] = {1000, 1001, 7, 650};

	(void)state;
	assert_int_equal(usage_of(values, 4), 0);
	assert_int_equal(usage.usage.capacity_bytes, 1000);
	assert_int_equal(usage.usage.used_bytes, 700);
	assert_int_equal(usage.usage.block_count, 7);
	assert_int_equal(usage.usage.block_bytes, 650);
	assert_int_equal(usage_of(values, 3), -EPROTO);
	assert_int_equal(usage_of(absurd, 4), -EPROTO);
}

static void
a_question_is_answered_before_the_adapter_is_quiesced(void **state)
{
	(void)state;
	usage.calls = 0;
	rig.donor.mute = true;
	assert_int_equal(far_l2_usage_ask(rig.l2, usage_got, &usage, FAR_TIME_NEVER), 0);
	far_l2_quiesce(rig.l2);
	assert_int_equal(far_l2_usage_ask(rig.l2, usage_got, &usage, FAR_TIME_NEVER), -ECANCELED);
	for (int i = 0; i < 1000 && !far_l2_quiesced(rig.l2); i++)
		fake_rig_run(&rig, FAR_NS_PER_MS);
	assert_true(far_l2_quiesced(rig.l2));
	assert_int_equal(usage.calls, 1);
	assert_int_equal(usage.rc, -EHOSTDOWN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		CLAIM(touches_of_a_tenth_of_a_second_travel_in_one_frame),
		CLAIM(a_stopped_donor_is_not_sent_touches_for_ever),
		CLAIM(deletes_are_answered_per_key),
		CLAIM(a_delete_that_nobody_answers_ends_at_its_deadline_and_a_late_answer_is_ignored),
		CLAIM(counters_come_or_the_deadline_does),
		CLAIM(counters_of_a_lost_donor_are_answered_too),
		CLAIM(a_donor_says_how_full_it_is),
		CLAIM(a_question_is_answered_before_the_adapter_is_quiesced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
