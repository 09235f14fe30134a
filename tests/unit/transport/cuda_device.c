/* cuda_device.c - a CUDA device says what it is, what is missing, and leaves the caller's context. */
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/log_capture.h"
#include "tests/unit/transport/cuda_world.h"

static int
open_from(const char *library, uint32_t ordinal, char error[256])
{
	const struct far_device_config config = {
		.kind = "cuda", .ordinal = ordinal, .library = library};
	struct far_device *device = NULL;
	int rc = far_device_open(&config, &device, error);

	assert_null(device);
	return rc;
}

/* ---- opening ---- */

static void
a_device_says_what_it_is(void **state)
{
	struct far_device *device;
	char error[256] = "";
	(void)state;

	assert_int_equal(cuda_world_device(&device, error), 0);
	assert_string_equal(device->info.kind, "cuda");
	assert_string_equal(device->info.name, STANDIN_NAME);
	assert_string_equal(device->info.pci, "ffff:ff:00.0");
	assert_non_null(strstr(device->info.driver, "CUDA 13.0"));
	assert_int_equal(device->info.numa_node, -1);
	assert_int_equal(device->info.memory_bytes, 80ULL << 30);
	assert_int_equal(device->info.flags, FAR_DEVICE_DMA_BUF | FAR_DEVICE_RDMA |
						     FAR_DEVICE_MAP_READONLY | FAR_DEVICE_EXPORT);
	far_device_close(device);
}

static void
no_driver_is_said_with_what_was_tried(void **state)
{
	char error[256] = "";
	(void)state;

	assert_int_equal(open_from("libfar-no-cuda.so.9", 0, error), -ENODEV);
	assert_non_null(strstr(error, "libfar-no-cuda.so.9"));
	assert_non_null(strstr(error, "memory: host"));
}

static void
a_driver_without_a_symbol_is_said_with_it(void **state)
{
	char error[256] = "";
	(void)state;

	assert_int_equal(open_from("libm.so.6", 0, error), -ENODEV);
	assert_non_null(strstr(error, "cuInit"));
	assert_non_null(strstr(error, "10.2"));
}

static void
a_driver_that_is_too_old_is_said_with_its_version(void **state)
{
	char error[256] = "";
	(void)state;

	cuda_driver->version(9020);
	assert_int_equal(open_from(CUDA_STANDIN, 0, error), -ENODEV);
	assert_non_null(strstr(error, "9.2"));
	assert_non_null(strstr(error, "10.2"));
}

static void
a_driver_that_does_not_start_is_said_with_its_reason(void **state)
{
	char error[256] = "";
	(void)state;

	cuda_driver->fail_call("cuInit", 1, CUDA_ERROR_NO_DEVICE);
	assert_int_equal(open_from(CUDA_STANDIN, 0, error), -ENODEV);
	assert_non_null(strstr(error, "CUDA_ERROR_NO_DEVICE"));
	assert_non_null(strstr(error, "nvidia-smi"));
}

static void
an_ordinal_too_large_is_said_with_how_many_there_are(void **state)
{
	char error[256] = "";
	(void)state;

	cuda_driver->devices(2);
	assert_int_equal(open_from(CUDA_STANDIN, 2, error), -ENODEV);
	assert_non_null(strstr(error, "no GPU 2"));
	assert_non_null(strstr(error, "sees 2"));
	assert_non_null(strstr(error, "CUDA_VISIBLE_DEVICES"));
}

static void
another_kind_is_unknown(void **state)
{
	const struct far_device_config config = {.kind = "cud"};
	struct far_device *device = NULL;
	char error[256] = "";
	(void)state;

	assert_int_equal(far_device_open(&config, &device, error), -EINVAL);
	assert_null(device);
	assert_true(error[0] != '\0');
}

/* ---- what attributes say ---- */

static uint32_t
flags_with(int attribute, int value)
{
	struct far_device *device;
	char error[256] = "";
	uint32_t flags;

	cuda_driver->attribute(attribute, value);
	assert_int_equal(cuda_world_device(&device, error), 0);
	flags = device->info.flags;
	far_device_close(device);
	cuda_driver->reset();
	return flags;
}

static void
what_an_attribute_denies_is_no_flag(void **state)
{
	const int vmm = CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED;
	const int rdma_vmm = CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED;
	(void)state;

	assert_false(flags_with(CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED, 0) & FAR_DEVICE_DMA_BUF);
	assert_false(flags_with(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED, 0) &
		     FAR_DEVICE_RDMA);
	assert_false(flags_with(rdma_vmm, 0) & FAR_DEVICE_RDMA);
	assert_false(flags_with(CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, 0) &
		     FAR_DEVICE_MAP_READONLY);
	assert_false(flags_with(vmm, 0) & FAR_DEVICE_EXPORT);
	assert_true(flags_with(vmm, 0) & FAR_DEVICE_RDMA);
	assert_false(
		flags_with(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 0) &
		FAR_DEVICE_EXPORT);
}

static void
nic_writes_are_flushed_where_they_are_not_in_order(void **state)
{
	const int ordering = CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING;
	struct far_device *device;
	char error[256] = "";
	(void)state;

	assert_int_equal(cuda_world_device(&device, error), 0);
	assert_int_equal(far_device_publish(device), 0);
	far_device_close(device);
	assert_int_equal(cuda_driver->calls("cuFlushGPUDirectRDMAWrites"), 0);

	cuda_driver->attribute(ordering, 0);
	assert_int_equal(cuda_world_device(&device, error), 0);
	assert_true(device->info.flags & FAR_DEVICE_FLUSH);
	assert_int_equal(far_device_publish(device), 0);
	far_device_close(device);
	assert_int_equal(cuda_driver->calls("cuFlushGPUDirectRDMAWrites"), 1);
}

/* ---- pinning ---- */

static void
memory_that_is_mapped_read_only_is_pinned_for_reading(void **state)
{
	struct far_device *device;
	char error[256] = "";
	void *host;
	(void)state;

	assert_int_equal(cuda_world_device(&device, error), 0);
	host = mmap(NULL, 1 << 16, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(host != MAP_FAILED);
	assert_int_equal(far_device_pin(device, host, 1 << 16, false), -EINVAL);
	assert_int_equal(far_device_pin(device, host, 1 << 16, true), 0);
	assert_int_equal(far_device_pin(device, host, 1 << 16, true), -EINVAL);
	far_device_unpin(device, host);
	assert_int_equal(far_device_pin(device, host, 1 << 16, true), 0);
	far_device_unpin(device, host);
	far_device_close(device);

	cuda_driver->attribute(CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, 0);
	assert_int_equal(cuda_world_device(&device, error), 0);
	assert_int_equal(far_device_pin(device, host, 1 << 16, true), -EOPNOTSUPP);
	far_device_close(device);
	assert_int_equal(munmap(host, 1 << 16), 0);
}

static void
pins_that_the_driver_refuses_say_why(void **state)
{
	struct far_device *device;
	char error[256] = "";
	void *host = cuda_world_host_map(4096);
	(void)state;

	assert_int_equal(cuda_world_device(&device, error), 0);
	cuda_driver->fail_call("cuMemHostRegister_v2", 1, CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(far_device_pin(device, host, 4096, false), -ENOMEM);
	cuda_driver->fail_call("cuMemHostRegister_v2", 1, CUDA_ERROR_NOT_SUPPORTED);
	assert_int_equal(far_device_pin(device, host, 4096, false), -EOPNOTSUPP);
	assert_int_equal(far_device_pin(device, host, 0, false), -EINVAL);
	assert_int_equal(far_device_pin(device, host, 4096, false), 0);
	far_device_unpin(device, host);
	far_device_close(device);
	assert_int_equal(munmap(host, 4096), 0);
}

/* ---- contexts ---- */

static void *
driver_symbol(const char *name)
{
	void *found = dlsym(dlopen(CUDA_STANDIN, RTLD_NOW | RTLD_NOLOAD), name);

	assert_non_null(found);
	return found;
}

static void
the_callers_context_is_current_after_every_call(void **state)
{
	__typeof__(&cuCtxPushCurrent) push;
	__typeof__(&cuCtxPopCurrent) pop;
	struct cuda_world w;
	uint64_t seq, offset;
	CUcontext top = NULL;
	int fd;
	void *found;
	(void)state;

	found = driver_symbol("cuCtxPushCurrent_v2");
	memcpy(&push, &found, sizeof(found));
	found = driver_symbol("cuCtxPopCurrent_v2");
	memcpy(&pop, &found, sizeof(found));
	assert_int_equal(push(cuda_driver->foreign_context()), CUDA_SUCCESS);
	cuda_world_open(&w);
	assert_int_equal(cuda_driver->depth(), 1);
	assert_int_equal(
		far_device_dma_buf(w.device, w.arena.base, CUDA_WORLD_ARENA_BYTES, &fd, &offset),
		0);
	(void)close(fd);
	assert_int_equal(far_device_copy(w.device, FAR_COPY_IN, w.arena.base, w.host, 4096), 0);
	assert_int_equal(far_copier_add(w.copier, FAR_COPY_OUT, w.host, w.arena.base, 4096, &seq),
			 0);
	assert_int_equal(far_copier_submit(w.copier), 0);
	assert_int_equal(cuda_world_wait(&w, FAR_COPY_OUT, seq), 0);
	assert_int_equal(cuda_driver->depth(), 1);
	cuda_world_close(&w);
	assert_int_equal(cuda_driver->depth(), 1);
	assert_int_equal(pop(&top), CUDA_SUCCESS);
	assert_ptr_equal(top, cuda_driver->foreign_context());
}

/* ---- single copies, and the end ---- */

static void
one_copy_takes_any_host_memory(void **state)
{
	uint8_t in[300], out[300] = {0};
	struct cuda_world w;
	(void)state;

	cuda_world_open(&w);
	memset(in, 0x5C, sizeof(in));
	assert_int_equal(far_device_copy(w.device, FAR_COPY_IN, w.arena.base, in, sizeof(in)), 0);
	assert_memory_equal(cuda_driver->bytes(w.arena.base, sizeof(in)), in, sizeof(in));
	assert_int_equal(far_device_copy(w.device, FAR_COPY_OUT, out, w.arena.base, sizeof(out)),
			 0);
	assert_memory_equal(out, in, sizeof(in));
	cuda_world_close(&w);
}

static void
a_device_that_failed_answers_so_for_good(void **state)
{
	struct far_device_arena arena = {.fd = -1};
	struct cuda_world w;
	uint64_t seq, offset;
	int fd = -1;
	(void)state;

	far_log_capture_start();
	far_log_capture_expect("failed: CUDA_ERROR_ILLEGAL_ADDRESS");
	cuda_world_open(&w);
	cuda_driver->fail_copy(1, CUDA_ERROR_ILLEGAL_ADDRESS);
	assert_int_equal(far_device_copy(w.device, FAR_COPY_IN, w.arena.base, w.host, 4096), -EIO);
	assert_int_equal(far_device_copy(w.device, FAR_COPY_IN, w.arena.base, w.host, 4096), -EIO);
	assert_int_equal(far_device_arena_alloc(w.device, 4096, &arena), -EIO);
	assert_int_equal(far_device_arena_adopt(w.device, w.arena.base, 4096, &arena), -EIO);
	assert_int_equal(far_device_dma_buf(w.device, w.arena.base, 4096, &fd, &offset), -EIO);
	assert_int_equal(far_device_pin(w.device, w.host, 4096, false), -EIO);
	assert_int_equal(far_copier_add(w.copier, FAR_COPY_IN, w.arena.base, w.host, 4096, &seq),
			 -EIO);
	cuda_world_close(&w);
	assert_int_equal(far_log_capture_count("failed: CUDA_ERROR_ILLEGAL_ADDRESS"), 1);
	far_log_capture_finish();
}

int
main(void)
{
#define CUDA_TEST(name) cmocka_unit_test_setup_teardown(name, cuda_world_setup, cuda_world_teardown)
	const struct CMUnitTest tests[] = {
		CUDA_TEST(a_device_says_what_it_is),
		CUDA_TEST(no_driver_is_said_with_what_was_tried),
		CUDA_TEST(a_driver_without_a_symbol_is_said_with_it),
		CUDA_TEST(a_driver_that_is_too_old_is_said_with_its_version),
		CUDA_TEST(a_driver_that_does_not_start_is_said_with_its_reason),
		CUDA_TEST(an_ordinal_too_large_is_said_with_how_many_there_are),
		CUDA_TEST(another_kind_is_unknown),
		CUDA_TEST(what_an_attribute_denies_is_no_flag),
		CUDA_TEST(nic_writes_are_flushed_where_they_are_not_in_order),
		CUDA_TEST(memory_that_is_mapped_read_only_is_pinned_for_reading),
		CUDA_TEST(pins_that_the_driver_refuses_say_why),
		CUDA_TEST(the_callers_context_is_current_after_every_call),
		CUDA_TEST(one_copy_takes_any_host_memory),
		CUDA_TEST(a_device_that_failed_answers_so_for_good),
	};
#undef CUDA_TEST

	return cmocka_run_group_tests(tests, NULL, NULL);
}
