/* cuda_world.c - a CUDA device over the stand-in, with host memory that is pinned. */
#include "tests/unit/transport/cuda_world.h"

#include <dlfcn.h>
#include <sched.h>
#include <sys/mman.h>

const struct standin *cuda_driver;

int
cuda_world_setup(void **state)
{
	const struct standin *(*control)(void);
	void *handle = dlopen(CUDA_STANDIN, RTLD_NOW | RTLD_LOCAL);
	void *found;
	(void)state;

	assert_non_null(handle);
	found = dlsym(handle, "standin_control");
	assert_non_null(found);
	memcpy(&control, &found, sizeof(found));
	cuda_driver = control();
	cuda_driver->reset();
	return 0;
}

int
cuda_world_teardown(void **state)
{
	(void)state;
	assert_int_equal(cuda_driver->depth(), 0);
	assert_int_equal(cuda_driver->check(), 0);
	return 0;
}

int
cuda_world_device(struct far_device **out, char error[256])
{
	const struct far_device_config config = {.kind = "cuda", .library = CUDA_STANDIN};

	return far_device_open(&config, out, error);
}

void *
cuda_world_host_map(size_t size_bytes)
{
	void *host =
		mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(host != MAP_FAILED);
	return host;
}

void
cuda_world_open(struct cuda_world *w)
{
	char error[256] = "";

	memset(w, 0, sizeof(*w));
	assert_int_equal(cuda_world_device(&w->device, error), 0);
	assert_int_equal(far_device_arena_alloc(w->device, CUDA_WORLD_ARENA_BYTES, &w->arena), 0);
	w->host = cuda_world_host_map(CUDA_WORLD_HOST_BYTES);
	assert_int_equal(far_device_pin(w->device, w->host, CUDA_WORLD_HOST_BYTES, false), 0);
	assert_int_equal(far_copier_open(w->device, &w->copier), 0);
}

void
cuda_world_close(struct cuda_world *w)
{
	far_copier_close(w->copier);
	far_device_unpin(w->device, w->host);
	far_device_arena_free(w->device, &w->arena);
	far_device_close(w->device);
	assert_int_equal(munmap(w->host, CUDA_WORLD_HOST_BYTES), 0);
}

int
cuda_world_wait(struct cuda_world *w, enum far_copy_way way, uint64_t seq)
{
	uint64_t done = 0;
	int rc;

	for (;;) {
		rc = far_copier_poll(w->copier, way, &done);
		if (rc < 0 || done >= seq)
			return rc;
		(void)sched_yield();
	}
}
