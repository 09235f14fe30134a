/* cuda_copier.c - copies: merged, bounded, told when they are done, and given up with their device. */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/support/log_capture.h"
#include "tests/unit/transport/cuda_world.h"

#define BLOCK_BYTES 4096ULL
#define IN_COPY     "cuMemcpyHtoDAsync_v2"
#define OUT_COPY    "cuMemcpyDtoHAsync_v2"

static struct cuda_world w;

/* The @idx-th block of either side. */
static uint8_t *
host(size_t idx)
{
	return w.host + idx * BLOCK_BYTES;
}

static uint8_t *
device(size_t idx)
{
	return (uint8_t *)w.arena.base + idx * BLOCK_BYTES;
}

static uint64_t
add_in(size_t to, size_t from)
{
	uint64_t seq = 0;

	assert_int_equal(
		far_copier_add(w.copier, FAR_COPY_IN, device(to), host(from), BLOCK_BYTES, &seq),
		0);
	return seq;
}

static uint64_t
add_out(size_t to, size_t from)
{
	uint64_t seq = 0;

	assert_int_equal(
		far_copier_add(w.copier, FAR_COPY_OUT, host(to), device(from), BLOCK_BYTES, &seq),
		0);
	return seq;
}

static uint64_t
done_of(enum far_copy_way way)
{
	uint64_t done = UINT64_MAX;

	assert_int_equal(far_copier_poll(w.copier, way, &done), 0);
	return done;
}

static bool
was_written(int fd, int timeout_ms)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN};

	return poll(&entry, 1, timeout_ms) == 1;
}

/* ---- copies ---- */

static void
bytes_arrive_both_ways(void **state)
{
	(void)state;
	cuda_world_open(&w);
	memset(host(0), 0xA7, BLOCK_BYTES);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 0), 0);
	(void)add_in(5, 0);
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 1), 0);
	assert_memory_equal(cuda_driver->bytes(device(5), BLOCK_BYTES), host(0), BLOCK_BYTES);
	(void)add_out(9, 5);
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_OUT, 1), 0);
	assert_memory_equal(host(9), host(0), BLOCK_BYTES);
	cuda_world_close(&w);
}

static void
what_continues_on_both_sides_is_one_copy(void **state)
{
	(void)state;
	cuda_world_open(&w);
	for (size_t i = 0; i < 16; i++)
		memset(host(i), (int)i + 1, BLOCK_BYTES);
	for (size_t i = 0; i < 16; i++)
		assert_int_equal(add_in(i, i), i + 1);
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(cuda_driver->calls(IN_COPY), 1);
	assert_int_equal(cuda_driver->calls("cuEventRecord"), 1);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 16), 0);
	assert_memory_equal(cuda_driver->bytes(device(0), 16 * BLOCK_BYTES), host(0),
			    16 * BLOCK_BYTES);
	cuda_world_close(&w);
}

static void
what_continues_on_one_side_is_another_copy(void **state)
{
	(void)state;
	cuda_world_open(&w);
	(void)add_in(0, 0);
	(void)add_in(1, 2); /* the device's side alone */
	(void)add_in(3, 3); /* the host's side alone */
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(cuda_driver->calls(IN_COPY), 3);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 3), 0);
	cuda_world_close(&w);
}

static void
what_was_started_is_not_continued(void **state)
{
	(void)state;
	cuda_world_open(&w);
	(void)add_out(0, 0);
	assert_int_equal(far_copier_submit(w.copier), 0);
	(void)add_out(1, 1);
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(cuda_driver->calls(OUT_COPY), 2);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_OUT, 2), 0);
	cuda_world_close(&w);
}

static void
a_merged_copy_has_an_end(void **state)
{
	const size_t mib = 1U << 20;
	uint8_t *long_host = cuda_world_host_map(24 * mib);
	uint64_t seq = 0;
	(void)state;

	cuda_world_open(&w);
	assert_int_equal(far_device_pin(w.device, long_host, 24 * mib, false), 0);
	for (size_t i = 0; i < 24; i++)
		assert_int_equal(far_copier_add(w.copier, FAR_COPY_IN,
						(uint8_t *)w.arena.base + i * mib,
						long_host + i * mib, mib, &seq),
				 0);
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(cuda_driver->calls(IN_COPY), 2);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 24), 0);
	far_device_unpin(w.device, long_host);
	cuda_world_close(&w);
}

static void
nothing_to_submit_is_no_call(void **state)
{
	uint64_t calls;
	(void)state;

	cuda_world_open(&w);
	calls = cuda_driver->calls(NULL);
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(done_of(FAR_COPY_IN), 0);
	assert_int_equal(cuda_driver->calls(NULL), calls);
	cuda_world_close(&w);
}

/* ---- how far they are ---- */

static void
a_copy_is_not_done_before_it_is(void **state)
{
	(void)state;
	cuda_world_open(&w);
	cuda_driver->hold(true, true);
	(void)add_in(0, 0);
	assert_int_equal(done_of(FAR_COPY_IN), 0); /* added, not submitted */
	assert_int_equal(far_copier_submit(w.copier), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(done_of(FAR_COPY_IN), 0);
	cuda_driver->hold(false, false);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 1), 0);
	cuda_world_close(&w);
}

static void
the_ways_do_not_wait_for_one_another(void **state)
{
	(void)state;
	cuda_world_open(&w);
	cuda_driver->hold(true, false);
	(void)add_in(0, 0);
	(void)add_out(8, 8);
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_OUT, 1), 0);
	assert_int_equal(done_of(FAR_COPY_IN), 0);
	cuda_driver->hold(false, false);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 1), 0);
	cuda_world_close(&w);
}

static void
more_submits_than_events_are_all_told(void **state)
{
	(void)state;
	cuda_world_open(&w);
	cuda_driver->hold(true, true);
	for (size_t i = 0; i < 200; i++) {
		assert_int_equal(add_in(2 * i, 2 * i), i + 1);
		assert_int_equal(far_copier_submit(w.copier), 0);
	}
	assert_int_equal(done_of(FAR_COPY_IN), 0);
	cuda_driver->allow(10);
	cuda_driver->settle();
	assert_int_equal(done_of(FAR_COPY_IN), 10);
	cuda_driver->allow(130); /* those behind the last event are told with the last one */
	cuda_driver->settle();
	assert_in_range(done_of(FAR_COPY_IN), 63, 140);
	cuda_driver->hold(false, false);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 200), 0);
	cuda_world_close(&w);
}

static void
too_many_outstanding_is_eagain_until_some_are_done(void **state)
{
	uint64_t seq = 0, added = 0;
	int rc = 0;
	(void)state;

	cuda_world_open(&w);
	cuda_driver->hold(true, true);
	while (rc == 0 && added < 900) {
		/* Every second block: none continues another. */
		rc = far_copier_add(w.copier, FAR_COPY_IN, device(2 * added), host(2 * added),
				    BLOCK_BYTES, &seq);
		added += rc == 0;
	}
	assert_int_equal(rc, -EAGAIN);
	assert_in_range(added, 2, 899);
	assert_int_equal(seq, added);
	assert_int_equal(far_copier_submit(w.copier), 0);
	cuda_driver->hold(false, false);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, added), 0);
	assert_int_equal(add_in(0, 0), added + 1);
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, added + 1), 0);
	cuda_world_close(&w);
}

/* Each round trips through the device; what poll tells is there is there. TSan looks on. */
static void
bytes_are_there_when_poll_says_so(void **state)
{
	uint64_t in = 0, out = 0;
	(void)state;

	cuda_world_open(&w);
	cuda_driver->delay(0, 200, 20261126);
	for (int round = 1; round <= 40; round++) {
		for (size_t i = 0; i < 8; i++) {
			memset(host(i), round + (int)i, BLOCK_BYTES);
			in = add_in(i * (size_t)(1 + round % 2), i);
		}
		assert_int_equal(far_copier_submit(w.copier), 0);
		assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, in), 0);
		for (size_t i = 0; i < 8; i++)
			out = add_out(100 + i, i * (size_t)(1 + round % 2));
		assert_int_equal(far_copier_submit(w.copier), 0);
		assert_int_equal(cuda_world_wait(&w, FAR_COPY_OUT, out), 0);
		assert_memory_equal(host(100), host(0), 8 * BLOCK_BYTES);
	}
	cuda_world_close(&w);
}

/* ---- sleeping ---- */

static void
an_armed_copier_wakes_when_the_oldest_is_done(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	(void)state;

	cuda_world_open(&w);
	assert_int_equal(far_copier_arm(w.copier, fd), -EAGAIN); /* nothing is outstanding */
	cuda_driver->hold(true, true);
	(void)add_in(0, 0);
	assert_int_equal(far_copier_arm(w.copier, fd), 0); /* it starts what was added */
	assert_int_equal(far_copier_arm(w.copier, fd), 0);
	assert_int_equal(cuda_driver->calls("cuLaunchHostFunc"), 1);
	assert_false(was_written(fd, 0));
	cuda_driver->hold(false, false);
	assert_true(was_written(fd, 60000));
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 1), 0);
	assert_int_equal(far_copier_arm(w.copier, fd), -EAGAIN);
	cuda_world_close(&w);
	(void)close(fd);
}

static void
who_sleeps_is_woken_for_the_first_of_several(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	eventfd_t value;
	(void)state;

	cuda_world_open(&w);
	cuda_driver->hold(true, true);
	for (uint32_t i = 0; i < 3; i++) {
		(void)add_in(2 * i, 2 * i); /* not neighbours */
		assert_int_equal(far_copier_submit(w.copier), 0);
	}
	for (uint64_t done = 1; done <= 3; done++) {
		assert_int_equal(far_copier_arm(w.copier, fd), 0);
		assert_false(was_written(fd, 0));
		cuda_driver->allow(1);
		assert_true(was_written(fd, 60000));
		assert_int_equal(eventfd_read(fd, &value), 0);
		assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, done), 0);
	}
	cuda_driver->hold(false, false);
	cuda_world_close(&w);
	(void)close(fd);
}

static void
what_is_done_already_is_polled_and_not_slept_on(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	(void)state;

	cuda_world_open(&w);
	cuda_driver->hold(false, true);
	(void)add_in(0, 0);
	(void)add_out(8, 8);
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 1), 0);
	(void)add_in(2, 2);
	assert_int_equal(far_copier_submit(w.copier), 0);
	/* The second may be done or not: but a wake comes, or it is said. */
	if (far_copier_arm(w.copier, fd) == 0) {
		cuda_driver->hold(false, false);
		assert_true(was_written(fd, 60000));
	}
	cuda_driver->hold(false, false);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 2), 0);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_OUT, 1), 0);
	cuda_world_close(&w);
	(void)close(fd);
}

/* ---- the device fails ---- */

static void
a_copy_that_fails_ends_them_all(void **state)
{
	uint64_t seq = 0, done = 0;
	(void)state;

	far_log_capture_start();
	far_log_capture_expect("failed: CUDA_ERROR_ILLEGAL_ADDRESS");
	cuda_world_open(&w);
	cuda_driver->hold(true, true);
	cuda_driver->fail_copy(2, CUDA_ERROR_ILLEGAL_ADDRESS);
	for (size_t i = 0; i < 4; i++)
		seq = add_in(2 * i, 2 * i);
	(void)add_out(100, 100);
	assert_int_equal(far_copier_submit(w.copier), 0);
	cuda_driver->hold(false, false);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, seq), -EIO);
	assert_int_equal(far_copier_poll(w.copier, FAR_COPY_IN, &done), -EIO);
	assert_int_equal(done, 4);
	assert_int_equal(far_copier_poll(w.copier, FAR_COPY_OUT, &done), -EIO);
	assert_int_equal(done, 1);
	assert_int_equal(far_copier_add(w.copier, FAR_COPY_IN, device(0), host(0), 1, &seq), -EIO);
	assert_int_equal(far_copier_submit(w.copier), 0); /* nothing is there to start */
	cuda_world_close(&w);
	assert_int_equal(far_log_capture_count("failed: CUDA_ERROR_ILLEGAL_ADDRESS"), 1);
	far_log_capture_finish();
}

/* Copies may be on their way when a call fails: their memory is theirs until they are through. */
static void
a_call_that_fails_gives_up_nothing_that_still_moves(void **state)
{
	uint64_t done = 77;
	(void)state;

	far_log_capture_start();
	far_log_capture_expect("GPU");
	cuda_world_open(&w);
	cuda_driver->hold(true, true);
	(void)add_in(0, 0);
	assert_int_equal(far_copier_submit(w.copier), 0);
	(void)add_in(2, 2);
	cuda_driver->fail_call("cuEventRecord", 1, CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(far_copier_submit(w.copier), -EIO);
	assert_int_equal(far_copier_poll(w.copier, FAR_COPY_IN, &done), 0);
	assert_int_equal(done, 0);
	cuda_driver->hold(false, false);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_IN, 2), -EIO);
	cuda_world_close(&w);
	far_log_capture_finish();
	/* Of a device that failed nothing is given back by hand: its context takes all of it along. */
	cuda_driver->reset();
}

int
main(void)
{
#define CUDA_TEST(name) cmocka_unit_test_setup_teardown(name, cuda_world_setup, cuda_world_teardown)
	const struct CMUnitTest tests[] = {
		CUDA_TEST(bytes_arrive_both_ways),
		CUDA_TEST(what_continues_on_both_sides_is_one_copy),
		CUDA_TEST(what_continues_on_one_side_is_another_copy),
		CUDA_TEST(what_was_started_is_not_continued),
		CUDA_TEST(a_merged_copy_has_an_end),
		CUDA_TEST(nothing_to_submit_is_no_call),
		CUDA_TEST(a_copy_is_not_done_before_it_is),
		CUDA_TEST(the_ways_do_not_wait_for_one_another),
		CUDA_TEST(more_submits_than_events_are_all_told),
		CUDA_TEST(too_many_outstanding_is_eagain_until_some_are_done),
		CUDA_TEST(bytes_are_there_when_poll_says_so),
		CUDA_TEST(an_armed_copier_wakes_when_the_oldest_is_done),
		CUDA_TEST(who_sleeps_is_woken_for_the_first_of_several),
		CUDA_TEST(what_is_done_already_is_polled_and_not_slept_on),
		CUDA_TEST(a_copy_that_fails_ends_them_all),
		CUDA_TEST(a_call_that_fails_gives_up_nothing_that_still_moves),
	};
#undef CUDA_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
