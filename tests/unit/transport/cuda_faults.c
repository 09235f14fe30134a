/* cuda_faults.c - whichever call of the driver fails: an error that is listed, nothing left, no hang. */
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/log_capture.h"
#include "tests/unit/transport/cuda_world.h"

#define BLOCK_BYTES 4096ULL

static const char *where; /* of the round that runs, for who reads the failure */

static void
expect_listed(int rc)
{
	switch (rc) {
	case 0:
	case -EOPNOTSUPP:
	case -ENODEV:
	case -EINVAL:
	case -ENOMEM:
	case -EIO:
	case -EMFILE:
	case -EAGAIN:
		return;
	default:
		fail_msg("%s: %d", where, rc);
	}
}

/* All that a copier does. */
static void
copies_use(struct far_device *device, struct far_device_arena *arena, uint8_t *host)
{
	struct far_copier *copier = NULL;
	uint64_t seq = 0, added[FAR_COPY_WAYS] = {0}, done;
	int rc;

	where = "copier";
	expect_listed(rc = far_copier_open(device, &copier));
	if (rc < 0) {
		assert_null(copier);
		return;
	}
	for (uint64_t i = 0; i < 6; i++) {
		enum far_copy_way way = i % 2 == 0 ? FAR_COPY_IN : FAR_COPY_OUT;
		uint8_t *near = host + i * 2 * BLOCK_BYTES;
		uint8_t *far = (uint8_t *)arena->base + i * 2 * BLOCK_BYTES;

		rc = far_copier_add(copier, way, way == FAR_COPY_IN ? far : near,
				    way == FAR_COPY_IN ? near : far, BLOCK_BYTES, &seq);
		expect_listed(rc);
		if (rc == 0)
			added[way] = seq;
	}
	expect_listed(far_copier_submit(copier));
	cuda_driver->settle();
	for (int way = 0; way < FAR_COPY_WAYS; way++)
		do {
			rc = far_copier_poll(copier, (enum far_copy_way)way, &done);
			expect_listed(rc);
			expect_listed(far_copier_submit(copier));
			cuda_driver->settle();
		} while (rc == 0 && done < added[way]);
	/* A device that failed after it gave up one way gives up both. */
	for (int way = 0; way < FAR_COPY_WAYS; way++)
		do {
			rc = far_copier_poll(copier, (enum far_copy_way)way, &done);
		} while (rc == 0 && done < added[way]);
	far_copier_close(copier);
}

static void
memory_use(struct far_device *device, uint8_t *host)
{
	struct far_device_arena arena = {.fd = -1}, part = {.fd = -1};
	uint64_t offset = 0;
	int fd = -1;
	int rc, pinned;

	where = "arena";
	expect_listed(rc = far_device_arena_alloc(device, 2ULL << 20, &arena));
	if (rc < 0) {
		assert_null(arena.base);
		return;
	}
	where = "adopt";
	expect_listed(far_device_arena_adopt(device, arena.base, 4096, &part));
	far_device_arena_free(device, &part);
	where = "dma-buf";
	expect_listed(rc = far_device_dma_buf(device, arena.base, 4096, &fd, &offset));
	if (rc == 0)
		assert_int_equal(close(fd), 0);
	where = "pin";
	expect_listed(pinned = far_device_pin(device, host, 1U << 20, false));
	if (pinned == 0) {
		copies_use(device, &arena, host);
		where = "copy";
		expect_listed(far_device_copy(device, FAR_COPY_IN, arena.base, host, 4096));
		where = "publish";
		expect_listed(far_device_publish(device));
		far_device_unpin(device, host);
	}
	far_device_arena_free(device, &arena);
}

/* Everything once, with the @nth call failing. Returns whether there was such a call. */
static bool
round_run(uint64_t nth, int result, bool vmm, uint8_t *host)
{
	struct far_device *device = NULL;
	char error[256] = "";
	bool reached, gave_up;
	int rc;

	cuda_driver->reset();
	cuda_driver->attribute(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING, 0);
	cuda_driver->attribute(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, vmm);
	far_log_capture_start();
	far_log_capture_expect("GPU");
	cuda_driver->fail_call(NULL, nth, result);
	where = "open";
	rc = cuda_world_device(&device, error);
	expect_listed(rc);
	if (rc < 0) {
		assert_null(device);
		assert_true(error[0] != '\0');
	} else {
		memory_use(device, host);
		far_device_close(device);
	}
	reached = cuda_driver->calls(NULL) >= nth;
	gave_up = far_log_capture_count("nothing moves to or from it any more") != 0;
	far_log_capture_finish();
	assert_int_equal(cuda_driver->depth(), 0);
	/* A device that failed gives nothing back by hand: its context takes it along. */
	if (!gave_up)
		assert_int_equal(cuda_driver->check(), 0);
	return reached;
}

static void
each_fails_once(int result, bool vmm)
{
	uint8_t *host = cuda_world_host_map(1U << 20);
	uint64_t nth = 1;

	while (round_run(nth, result, vmm, host))
		nth++;
	assert_true(nth > 200); /* two hundred events alone */
	cuda_driver->reset();
	assert_int_equal(munmap(host, 1U << 20), 0);
}

static void
any_call_may_want_for_memory(void **state)
{
	(void)state;
	each_fails_once(CUDA_ERROR_OUT_OF_MEMORY, true);
	each_fails_once(CUDA_ERROR_OUT_OF_MEMORY, false);
}

static void
any_call_may_be_refused(void **state)
{
	(void)state;
	each_fails_once(CUDA_ERROR_NOT_SUPPORTED, true);
}

static void
any_call_may_tell_of_a_context_that_is_lost(void **state)
{
	(void)state;
	each_fails_once(CUDA_ERROR_ILLEGAL_ADDRESS, true);
}

int
main(void)
{
#define CUDA_TEST(name) cmocka_unit_test_setup_teardown(name, cuda_world_setup, cuda_world_teardown)
	const struct CMUnitTest tests[] = {
		CUDA_TEST(any_call_may_want_for_memory),
		CUDA_TEST(any_call_may_be_refused),
		CUDA_TEST(any_call_may_tell_of_a_context_that_is_lost),
	};
#undef CUDA_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
