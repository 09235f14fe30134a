/* failed.c - a GPU whose context a kernel has ruined: farpool says so, everywhere, and nothing hangs. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/pages.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/runner.h"
#include "tests/gpu/tests.h"
#include "transport/mem/device.h"

#define BYTES   (16ULL << 20)
#define WAIT_NS (20 * FAR_NS_PER_S)

void
gpu_break(struct gpu *gpu)
{
	CUdeviceptr nowhere = 8;
	void *arguments[] = {&nowhere};

	gpu_kernels_needed(gpu);
	CU(gpu, gpu->more.cuLaunchKernel_fn(gpu->fault, 1, 1, 1, 1, 1, 1, 0, gpu->stream, arguments,
					    NULL));
	CHECK_EQ(gpu->lib.cuStreamSynchronize(gpu->stream), CUDA_ERROR_ILLEGAL_ADDRESS);
}

void
a_gpu_that_failed_answers_eio_and_nothing_hangs(void)
{
	int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct far_device_arena arena, other;
	struct far_copier *copier, *second;
	uint64_t seq, later, done = 0, until_ns;
	struct far_pages pages;
	struct gpu gpu;
	int rc = 0;

	gpu_open(&gpu);
	gpu_kernels_needed(&gpu);
	CHECK_EQ(far_pages_map_shared("failed", BYTES, FAR_PAGES_HUGE_OFF, -1, &pages), 0);
	CHECK_EQ(far_device_arena_alloc(gpu.device, BYTES, &arena), 0);
	CHECK_EQ(far_device_pin(gpu.device, pages.base, BYTES, false), 0);
	CHECK_EQ(far_copier_open(gpu.device, &copier), 0);
	CHECK_EQ(far_copier_add(copier, FAR_COPY_IN, arena.base, pages.base, BYTES, &seq), 0);
	CHECK_EQ(far_copier_submit(copier), 0);
	gpu_break(&gpu);
	/* What was on its way is given up, once the driver has let go of it. */
	until_ns = far_clock_now(far_clock_real()) + WAIT_NS;
	while (rc == 0) {
		rc = far_copier_add(copier, FAR_COPY_IN, arena.base, pages.base, 4096, &later);
		if (rc == 0)
			rc = far_copier_submit(copier);
		if (rc == 0)
			rc = far_copier_poll(copier, FAR_COPY_IN, &done);
		CHECK(far_clock_now(far_clock_real()) < until_ns);
	}
	CHECK_EQ(rc, -EIO);
	while ((rc = far_copier_poll(copier, FAR_COPY_IN, &done)) == 0)
		CHECK(far_clock_now(far_clock_real()) < until_ns);
	CHECK_EQ(rc, -EIO);
	CHECK(done >= seq);
	CHECK_EQ(far_copier_poll(copier, FAR_COPY_OUT, &done), -EIO);
	CHECK_EQ(far_copier_add(copier, FAR_COPY_OUT, pages.base, arena.base, 64, &seq), -EIO);
	CHECK_EQ(far_copier_arm(copier, event_fd), -EAGAIN);
	CHECK_EQ(far_copier_open(gpu.device, &second), -EIO);
	CHECK_EQ(far_device_copy(gpu.device, FAR_COPY_OUT, pages.base, arena.base, 64), -EIO);
	CHECK_EQ(far_device_arena_alloc(gpu.device, 65536, &other), -EIO);
	CHECK_EQ(far_device_pin(gpu.device, pages.base, BYTES, false), -EIO);
	/* And all of it is taken down as ever. */
	far_copier_close(copier);
	far_device_unpin(gpu.device, pages.base);
	far_device_arena_free(gpu.device, &arena);
	far_device_close(gpu.device);
	far_pages_unmap(&pages);
	close(event_fd);
}
