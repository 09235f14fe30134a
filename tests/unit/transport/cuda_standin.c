/* cuda_standin.c - the stand-in notices what it says that it notices. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/transport/cuda_world.h"
#include "transport/mem/cuda/lib.h"

static struct cuda_lib lib;
static CUcontext context;
static CUdeviceptr memory;
static CUstream stream;
static uint8_t *host;

static int
setup(void **state)
{
	char error[256] = "";

	assert_int_equal(cuda_world_setup(state), 0);
	assert_int_equal(far_cuda_lib_load(CUDA_STANDIN, &lib, error), 0);
	cuda_driver->strict(false);
	assert_int_equal(lib.cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
	assert_int_equal(lib.cuCtxPushCurrent(context), CUDA_SUCCESS);
	assert_int_equal(lib.cuMemAlloc(&memory, 1U << 20), CUDA_SUCCESS);
	assert_int_equal(lib.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
	host = cuda_world_host_map(1U << 20);
	assert_int_equal(lib.cuMemHostRegister(host, 1U << 20, 0), CUDA_SUCCESS);
	return 0;
}

static int
teardown(void **state)
{
	CUcontext ours;
	(void)state;

	while (cuda_driver->depth() != 0)
		(void)lib.cuCtxPopCurrent(&ours);
	cuda_driver->reset();
	return munmap(host, 1U << 20);
}

static void
expect_misuse(const char *part)
{
	if (strstr(cuda_driver->last_misuse(), part) == NULL)
		fail_msg("not \"%s\" but \"%s\"", part, cuda_driver->last_misuse());
}

static void
memory_that_is_not_there_is_a_misuse(void **state)
{
	(void)state;
	(void)lib.cuMemcpyHtoDAsync(memory + (1U << 20) - 1, host, 2, stream);
	expect_misuse("are not there");
	assert_int_equal(lib.cuMemFree(memory), CUDA_SUCCESS);
	(void)lib.cuMemFree(memory);
	expect_misuse("was freed before");
}

static void
a_call_outside_the_context_is_a_misuse(void **state)
{
	CUcontext ours;
	(void)state;

	assert_int_equal(lib.cuCtxPushCurrent(cuda_driver->foreign_context()), CUDA_SUCCESS);
	(void)lib.cuStreamQuery(stream);
	expect_misuse("cuStreamQuery outside the device's context");
	assert_int_equal(lib.cuCtxPopCurrent(&ours), CUDA_SUCCESS);
	assert_int_equal(lib.cuCtxPopCurrent(&ours), CUDA_SUCCESS);
	(void)lib.cuCtxPopCurrent(&ours);
	expect_misuse("there is none");
}

static void
what_is_given_back_under_a_copy_is_a_misuse(void **state)
{
	CUevent event;
	(void)state;

	assert_int_equal(lib.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
	cuda_driver->hold(true, true);
	assert_int_equal(lib.cuMemcpyHtoDAsync(memory, host, 4096, stream), CUDA_SUCCESS);
	assert_int_equal(lib.cuEventRecord(event, stream), CUDA_SUCCESS);
	(void)lib.cuEventDestroy(event);
	expect_misuse("an event is destroyed");
	(void)lib.cuMemHostUnregister(host);
	expect_misuse("let go of under a copy");
	cuda_driver->hold(false, false);
	cuda_driver->settle();
	cuda_driver->hold(true, true);
	assert_int_equal(lib.cuMemHostRegister(host, 1U << 20, 0), CUDA_SUCCESS);
	assert_int_equal(lib.cuMemcpyHtoDAsync(memory, host, 4096, stream), CUDA_SUCCESS);
	(void)lib.cuStreamDestroy(stream);
	expect_misuse("a stream is destroyed with 1");
}

static void
an_event_behind_pageable_memory_is_a_misuse(void **state)
{
	static uint8_t page[4096];
	CUevent event;
	(void)state;

	assert_int_equal(lib.cuMemcpyHtoDAsync(memory, page, sizeof(page), stream), CUDA_SUCCESS);
	assert_string_equal(cuda_driver->last_misuse(), "");
	assert_int_equal(lib.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
	(void)lib.cuEventRecord(event, stream);
	expect_misuse("pageable");
	cuda_driver->settle();
}

static void
what_is_left_is_counted(void **state)
{
	(void)state;
	assert_int_equal(cuda_driver->check(), 5); /* memory, addresses, a pin, stream, context */
}

static void
a_device_address_cannot_be_touched(void **state)
{
	int status = 0;
	pid_t child;
	(void)state;

	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)signal(SIGSEGV, SIG_DFL);
		*(volatile uint8_t *)(uintptr_t)memory = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
}

int
main(void)
{
#define STANDIN_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		STANDIN_TEST(memory_that_is_not_there_is_a_misuse),
		STANDIN_TEST(a_call_outside_the_context_is_a_misuse),
		STANDIN_TEST(what_is_given_back_under_a_copy_is_a_misuse),
		STANDIN_TEST(an_event_behind_pageable_memory_is_a_misuse),
		STANDIN_TEST(what_is_left_is_counted),
		STANDIN_TEST(a_device_address_cannot_be_touched),
	};
#undef STANDIN_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
