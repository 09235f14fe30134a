/* cuda_arena.c - device memory: ours, the caller's, and what others get of it. */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/log_capture.h"
#include "tests/unit/transport/cuda_world.h"

static struct far_device *device;

static void
device_open(void)
{
	char error[256] = "";

	assert_int_equal(cuda_world_device(&device, error), 0);
}

/* A caller's own memory: plain, as cudaMalloc() gives it; the driver is asked for it by a device
 * without virtual memory. */
static void
plain_open(uint64_t size_bytes, struct far_device_arena *arena)
{
	cuda_driver->attribute(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0);
	device_open();
	assert_int_equal(far_device_arena_alloc(device, size_bytes, arena), 0);
}

/* ---- ours ---- */

static void
an_arena_is_aligned_rounded_up_and_has_a_descriptor(void **state)
{
	struct far_device_arena arena;
	struct stat file;
	(void)state;

	device_open();
	assert_int_equal(far_device_arena_alloc(device, (2ULL << 20) + 1, &arena), 0);
	assert_int_equal((uintptr_t)arena.base % 65536, 0);
	assert_int_equal(arena.size_bytes, 4ULL << 20);
	assert_false(arena.adopted);
	assert_true(arena.fd >= 0);
	assert_int_equal(fstat(arena.fd, &file), 0);
	assert_int_equal(file.st_size, 4ULL << 20);
	assert_non_null(cuda_driver->bytes(arena.base, arena.size_bytes));
	far_device_arena_free(device, &arena);
	assert_null(arena.base);
	assert_int_equal(arena.fd, -1);
	far_device_close(device);
}

static void
without_virtual_memory_an_arena_is_a_plain_allocation(void **state)
{
	struct far_device_arena arena;
	(void)state;

	plain_open(4ULL << 20, &arena);
	assert_int_equal((uintptr_t)arena.base % 65536, 0);
	assert_int_equal(arena.size_bytes, 4ULL << 20);
	assert_int_equal(arena.fd, -1);
	assert_int_equal(cuda_driver->calls("cuMemCreate"), 0);
	far_device_arena_free(device, &arena);
	far_device_close(device);
}

static void
a_small_plain_arena_is_aligned_too(void **state)
{
	struct far_device_arena arena;
	(void)state;

	plain_open(4096, &arena);
	assert_int_equal((uintptr_t)arena.base % 65536, 0);
	assert_true(arena.size_bytes >= 4096);
	far_device_arena_free(device, &arena);
	far_device_close(device);
}

static void
an_arena_without_a_descriptor_is_still_one(void **state)
{
	struct far_device_arena arena;
	(void)state;

	device_open();
	cuda_driver->fail_call("cuMemExportToShareableHandle", 1, CUDA_ERROR_OPERATING_SYSTEM);
	assert_int_equal(far_device_arena_alloc(device, 2ULL << 20, &arena), 0);
	assert_int_equal(arena.fd, -1);
	far_device_arena_free(device, &arena);
	far_device_close(device);
}

static void
a_zeroed_arena_is_freed_without_a_call(void **state)
{
	struct far_device_arena arena = {.fd = -1};
	uint64_t calls;
	(void)state;

	device_open();
	calls = cuda_driver->calls(NULL);
	far_device_arena_free(device, &arena);
	assert_int_equal(cuda_driver->calls(NULL), calls);
	far_device_close(device);
}

/* ---- the caller's ---- */

static void
a_range_within_one_allocation_is_adopted_and_left(void **state)
{
	struct far_device_arena own, arena;
	(void)state;

	plain_open(4ULL << 20, &own);
	assert_int_equal(far_device_arena_adopt(device, (char *)own.base + 4096, 8192, &arena), 0);
	assert_ptr_equal(arena.base, (char *)own.base + 4096);
	assert_int_equal(arena.size_bytes, 8192);
	assert_int_equal(arena.fd, -1);
	assert_true(arena.adopted);
	far_device_arena_free(device, &arena);
	assert_non_null(cuda_driver->bytes(own.base, own.size_bytes));
	far_device_arena_free(device, &own);
	far_device_close(device);
}

static void
what_is_not_wholly_in_one_allocation_is_not_adopted(void **state)
{
	struct far_device_arena own, arena = {.fd = -1};
	char *base;
	int host = 0;
	(void)state;

	plain_open(4ULL << 20, &own);
	base = own.base;
	assert_int_equal(far_device_arena_adopt(device, base, (4ULL << 20) + 65537, &arena),
			 -EINVAL);
	assert_int_equal(far_device_arena_adopt(device, base + 65537, 4ULL << 20, &arena), -EINVAL);
	assert_int_equal(far_device_arena_adopt(device, base + 4096, UINT64_MAX, &arena), -EINVAL);
	assert_int_equal(far_device_arena_adopt(device, base - 1, 4096, &arena), -EINVAL);
	assert_int_equal(far_device_arena_adopt(device, base, 0, &arena), -EINVAL);
	assert_int_equal(far_device_arena_adopt(device, &host, 1, &arena), -EINVAL);
	assert_int_equal(far_device_arena_adopt(device, NULL, 1, &arena), -EINVAL);
	assert_int_equal(far_device_arena_adopt(device, base, 4ULL << 20, &arena), 0);
	far_device_arena_free(device, &own);
	assert_int_equal(far_device_arena_adopt(device, base, 4096, &arena), -EINVAL);
	far_device_close(device);
}

/* ---- for NICs ---- */

static void
a_dma_buf_is_of_the_whole_allocation(void **state)
{
	struct far_device_arena arena;
	struct stat file;
	uint64_t offset = 0;
	int fd = -1;
	(void)state;

	device_open();
	assert_int_equal(far_device_arena_alloc(device, 4ULL << 20, &arena), 0);
	assert_int_equal(far_device_dma_buf(device, (char *)arena.base + 12288, 4096, &fd, &offset),
			 0);
	assert_int_equal(offset, 12288);
	assert_int_equal(fstat(fd, &file), 0);
	assert_int_equal(file.st_size, 4ULL << 20);
	assert_int_equal(close(fd), 0);
	/* Virtual memory is made synchronous by its context. */
	assert_int_equal(cuda_driver->calls("cuCtxSetFlags"), 1);
	far_device_arena_free(device, &arena);
	far_device_close(device);
}

static void
plain_memory_is_made_synchronous_by_itself(void **state)
{
	struct far_device_arena arena;
	uint64_t offset;
	int fd;
	(void)state;

	plain_open(4ULL << 20, &arena);
	assert_int_equal(far_device_dma_buf(device, arena.base, 4096, &fd, &offset), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(cuda_driver->calls("cuPointerSetAttribute"), 1);
	assert_int_equal(cuda_driver->calls("cuCtxSetFlags"), 0);
	far_device_arena_free(device, &arena);
	far_device_close(device);
}

static void
copies_that_cannot_be_made_synchronous_are_a_warning(void **state)
{
	struct far_device_arena arena;
	uint64_t offset;
	int fd;
	(void)state;

	device_open();
	assert_int_equal(far_device_arena_alloc(device, 2ULL << 20, &arena), 0);
	far_log_capture_start();
	far_log_capture_expect("CU_CTX_SYNC_MEMOPS");
	cuda_driver->fail_call("cuCtxSetFlags", 1, CUDA_ERROR_NOT_SUPPORTED);
	assert_int_equal(far_device_dma_buf(device, arena.base, 4096, &fd, &offset), 0);
	assert_int_equal(far_log_capture_count("CU_CTX_SYNC_MEMOPS"), 1);
	far_log_capture_finish();
	assert_int_equal(close(fd), 0);
	far_device_arena_free(device, &arena);
	far_device_close(device);
}

static void
a_dma_buf_that_there_cannot_be_says_so(void **state)
{
	struct far_device_arena arena;
	uint64_t offset = 77;
	int fd = 77;
	(void)state;

	device_open();
	assert_int_equal(far_device_arena_alloc(device, 2ULL << 20, &arena), 0);
	cuda_driver->fail_call("cuMemGetHandleForAddressRange", 1, CUDA_ERROR_NOT_SUPPORTED);
	assert_int_equal(far_device_dma_buf(device, arena.base, 4096, &fd, &offset), -EOPNOTSUPP);
	cuda_driver->fail_call("cuMemGetHandleForAddressRange", 1, CUDA_ERROR_OPERATING_SYSTEM);
	assert_int_equal(far_device_dma_buf(device, arena.base, 4096, &fd, &offset), -EMFILE);
	assert_int_equal(offset, 77);
	far_device_arena_free(device, &arena);
	far_device_close(device);

	cuda_driver->attribute(CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, 0);
	device_open();
	assert_int_equal(far_device_arena_alloc(device, 2ULL << 20, &arena), 0);
	assert_int_equal(far_device_dma_buf(device, arena.base, 4096, &fd, &offset), -EOPNOTSUPP);
	far_device_arena_free(device, &arena);
	far_device_close(device);
}

int
main(void)
{
#define CUDA_TEST(name) cmocka_unit_test_setup_teardown(name, cuda_world_setup, cuda_world_teardown)
	const struct CMUnitTest tests[] = {
		CUDA_TEST(an_arena_is_aligned_rounded_up_and_has_a_descriptor),
		CUDA_TEST(without_virtual_memory_an_arena_is_a_plain_allocation),
		CUDA_TEST(a_small_plain_arena_is_aligned_too),
		CUDA_TEST(an_arena_without_a_descriptor_is_still_one),
		CUDA_TEST(a_zeroed_arena_is_freed_without_a_call),
		CUDA_TEST(a_range_within_one_allocation_is_adopted_and_left),
		CUDA_TEST(what_is_not_wholly_in_one_allocation_is_not_adopted),
		CUDA_TEST(a_dma_buf_is_of_the_whole_allocation),
		CUDA_TEST(plain_memory_is_made_synchronous_by_itself),
		CUDA_TEST(copies_that_cannot_be_made_synchronous_are_a_warning),
		CUDA_TEST(a_dma_buf_that_there_cannot_be_says_so),
	};
#undef CUDA_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
