/* verbs_gpu.c - a GPU's memory with an RDMA device: DMA-BUF, else peer memory, else told why not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/log_capture.h"
#include "transport/mem/device.h"
#include "transport/verbs/verbs_priv.h"

#define SLICE_BYTES (1ULL << 20)
#define SLICES      3U
#define BASE        0x7f0000000000ULL
#define BUF_OFFSET  0x10000ULL

/* Stands for device and libraries: what they were asked, and where they fail. */
static struct {
	int export_rc;
	int dma_buf_errno, peer_errno; /* 0: none */
	uint32_t fails_at;             /* the slice that does */
	uint32_t live, dma_bufs, peers;
	int fd;
	struct ibv_mr mrs[SLICES];
} fake;

static int
fake_dma_buf(struct far_device *gpu, const void *base, uint64_t size_bytes, int *fd,
	     uint64_t *offset)
{
	(void)gpu;
	assert_int_equal((uintptr_t)base, BASE);
	assert_int_equal(size_bytes, SLICES * SLICE_BYTES - 4096);
	if (fake.export_rc < 0)
		return fake.export_rc;
	fake.fd = *fd = dup(0);
	*offset = BUF_OFFSET;
	return 0;
}

static struct ibv_mr *
mr_make(uint32_t slice, int error)
{
	if (error != 0 && slice == fake.fails_at) {
		errno = error;
		return NULL;
	}
	fake.live++;
	return &fake.mrs[slice];
}

static uint32_t
slice_of(uint64_t iova, size_t size_bytes)
{
	uint32_t slice = (uint32_t)((iova - BASE) / SLICE_BYTES);

	assert_int_equal((iova - BASE) % SLICE_BYTES, 0);
	assert_int_equal(size_bytes, slice == SLICES - 1 ? SLICE_BYTES - 4096 : SLICE_BYTES);
	return slice;
}

static struct ibv_mr *
fake_reg_dmabuf(struct ibv_pd *pd, uint64_t offset, size_t size_bytes, uint64_t iova, int fd,
		int access)
{
	uint32_t slice = slice_of(iova, size_bytes);
	(void)pd;

	assert_int_equal(offset, BUF_OFFSET + slice * SLICE_BYTES);
	assert_int_equal(fd, fake.fd);
	assert_int_equal(access, IBV_ACCESS_LOCAL_WRITE);
	fake.dma_bufs++;
	return mr_make(slice, fake.dma_buf_errno);
}

static struct ibv_mr *
fake_reg(struct ibv_pd *pd, void *addr, size_t size_bytes, uint64_t iova, unsigned access)
{
	(void)pd;
	(void)access;
	assert_int_equal((uintptr_t)addr, iova);
	fake.peers++;
	return mr_make(slice_of(iova, size_bytes), fake.peer_errno);
}

static int
fake_dereg(struct ibv_mr *mr)
{
	(void)mr;
	fake.live--;
	return 0;
}

static const char *
fake_name(struct ibv_device *device)
{
	(void)device;
	return "no_such_device";
}

/* Registers; the table of keys is left for the test to look at. */
static int
register_gpu(struct ibv_mr *mrs[SLICES])
{
	static const struct far_device_ops ops = {.kind = "fake", .dma_buf = fake_dma_buf};
	static const struct verbs_lib table = {
		.ibv_reg_dmabuf_mr = fake_reg_dmabuf,
		.ibv_reg_mr_iova2 = fake_reg,
		.ibv_dereg_mr = fake_dereg,
		.ibv_get_device_name = fake_name,
	};
	const struct verbs_lib *before = far_verbs_lib;
	struct far_device gpu = {.ops = &ops, .info.name = "GPU of a test"};
	struct verbs_transport tp = {.slice_bytes = SLICE_BYTES};
	struct verbs_device device = {.tp = &tp};
	struct verbs_mem mem = {
		.mem = {.base = (void *)(uintptr_t)BASE, .size_bytes = SLICES * SLICE_BYTES - 4096},
		.slice_count = SLICES,
		.gpu = &gpu,
	};
	int rc;

	memset(mrs, 0, SLICES * sizeof(mrs[0]));
	far_log_capture_start();
	if (fake.peer_errno != 0)
		far_log_capture_expect("does not reach the memory of");
	far_verbs_lib = &table;
	rc = far_verbs_gpu_register(&mem, &device, mrs, IBV_ACCESS_LOCAL_WRITE);
	far_verbs_lib = before;
	if (rc < 0) {
		assert_int_equal(far_log_capture_count("kernel of 5.12"), 1);
		assert_int_equal(far_log_capture_count("nvidia_peermem is not loaded"), 1);
	}
	far_log_capture_finish();
	if (fake.fd > 0)
		assert_int_equal(close(fake.fd), -1); /* it was, when the slices had it */
	return rc;
}

static void
memory_goes_to_the_nic_as_a_dma_buf_slice_by_slice(void **state)
{
	struct ibv_mr *mrs[SLICES];
	(void)state;

	memset(&fake, 0, sizeof(fake));
	assert_int_equal(register_gpu(mrs), 0);
	assert_int_equal(fake.live, SLICES);
	assert_int_equal(fake.peers, 0);
	for (uint32_t i = 0; i < SLICES; i++)
		assert_ptr_equal(mrs[i], &fake.mrs[i]);
}

static void
without_dma_buf_peer_memory_is_tried(void **state)
{
	struct ibv_mr *mrs[SLICES];
	(void)state;

	memset(&fake, 0, sizeof(fake));
	fake.export_rc = -EOPNOTSUPP;
	assert_int_equal(register_gpu(mrs), 0);
	assert_int_equal(fake.dma_bufs, 0);
	assert_int_equal(fake.peers, SLICES);
	/* A slice in the middle that fails leaves none of those before it. */
	memset(&fake, 0, sizeof(fake));
	fake.dma_buf_errno = ENOMEM;
	fake.fails_at = 1;
	assert_int_equal(register_gpu(mrs), 0);
	assert_int_equal(fake.dma_bufs, 2);
	assert_int_equal(fake.peers, SLICES);
	assert_int_equal(fake.live, SLICES);
}

static void
neither_is_an_answer_that_says_why_and_leaves_nothing(void **state)
{
	struct ibv_mr *mrs[SLICES];
	(void)state;

	memset(&fake, 0, sizeof(fake));
	fake.dma_buf_errno = EOPNOTSUPP;
	fake.peer_errno = EFAULT;
	fake.fails_at = 2;
	assert_int_equal(register_gpu(mrs), -EOPNOTSUPP);
	assert_int_equal(fake.live, 0);
	for (uint32_t i = 0; i < SLICES; i++)
		assert_null(mrs[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_goes_to_the_nic_as_a_dma_buf_slice_by_slice),
		cmocka_unit_test(without_dma_buf_peer_memory_is_tried),
		cmocka_unit_test(neither_is_an_answer_that_says_why_and_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
