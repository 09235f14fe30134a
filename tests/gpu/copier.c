/* copier.c - copies that a real copy engine makes: whole, in order, told when done, past a busy GPU. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/pages.h"
#include "base/rng.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/runner.h"
#include "tests/gpu/tests.h"
#include "transport/mem/device.h"

#define BYTES       (32ULL << 20)
#define PIECE_BYTES (64ULL << 10)
#define PIECES      (BYTES / PIECE_BYTES)
#define WAIT_NS     (20 * FAR_NS_PER_S)

/* Host and device memory of the same size, and who copies between them. */
struct bench {
	struct gpu gpu;
	struct far_pages host;
	struct far_device_arena arena;
	struct far_copier *copier;
};

static void
bench_open(struct bench *bench)
{
	gpu_open(&bench->gpu);
	CHECK_EQ(far_pages_map_shared("copier", BYTES, FAR_PAGES_HUGE_OFF, -1, &bench->host), 0);
	CHECK_EQ(far_device_arena_alloc(bench->gpu.device, BYTES, &bench->arena), 0);
	CHECK_EQ(far_device_pin(bench->gpu.device, bench->host.base, BYTES, false), 0);
	CHECK_EQ(far_copier_open(bench->gpu.device, &bench->copier), 0);
}

static void
bench_close(struct bench *bench)
{
	far_copier_close(bench->copier);
	far_device_unpin(bench->gpu.device, bench->host.base);
	far_device_arena_free(bench->gpu.device, &bench->arena);
	far_pages_unmap(&bench->host);
	gpu_close(&bench->gpu);
}

static uint8_t *
host_at(const struct bench *bench, uint64_t idx)
{
	return (uint8_t *)bench->host.base + idx * PIECE_BYTES;
}

static uint8_t *
device_at(const struct bench *bench, uint64_t idx)
{
	return (uint8_t *)bench->arena.base + idx * PIECE_BYTES;
}

static void
done_wait(struct bench *bench, enum far_copy_way way, uint64_t seq)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + WAIT_NS, done = 0;

	while (done < seq) {
		CHECK_EQ(far_copier_poll(bench->copier, way, &done), 0);
		CHECK(far_clock_now(far_clock_real()) < until_ns);
	}
}

/* As add, but for a copier that is full. */
static uint64_t
add(struct bench *bench, enum far_copy_way way, void *to, const void *from, uint64_t size_bytes)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + WAIT_NS;
	uint64_t seq, done;
	int rc;

	while ((rc = far_copier_add(bench->copier, way, to, from, size_bytes, &seq)) == -EAGAIN) {
		CHECK_EQ(far_copier_submit(bench->copier), 0);
		CHECK_EQ(far_copier_poll(bench->copier, way, &done), 0);
		CHECK(far_clock_now(far_clock_real()) < until_ns);
	}
	CHECK_EQ(rc, 0);
	return seq;
}

/* Pieces in any order, some of them neighbours: piece i goes to place places[i]. */
static void
places_shuffle(uint32_t places[PIECES], uint64_t seed)
{
	struct far_rng rng;

	far_rng_init(&rng, seed);
	for (uint32_t i = 0; i < PIECES; i++)
		places[i] = i;
	for (uint32_t n = 0; n < PIECES / 4; n++) {
		uint64_t a = far_rng_below(&rng, PIECES), b = far_rng_below(&rng, PIECES);
		uint32_t kept = places[a];

		places[a] = places[b];
		places[b] = kept;
	}
}

void
copies_arrive_whole_both_ways(void)
{
	static struct gpu_range ranges[PIECES];
	uint32_t places[PIECES];
	uint64_t in = 0, out = 0;
	struct bench bench;

	bench_open(&bench);
	places_shuffle(places, 7);
	for (uint32_t i = 0; i < PIECES; i++)
		gpu_pattern_fill(host_at(&bench, i), PIECE_BYTES, i);
	for (uint32_t i = 0; i < PIECES; i++) {
		uint64_t seq = add(&bench, FAR_COPY_IN, device_at(&bench, places[i]),
				   host_at(&bench, i), PIECE_BYTES);

		CHECK_EQ(seq, in + 1);
		in = seq;
		ranges[i] = (struct gpu_range){
			.at = device_at(&bench, places[i]), .size_bytes = PIECE_BYTES, .seed = i};
	}
	CHECK_EQ(far_copier_submit(bench.copier), 0);
	done_wait(&bench, FAR_COPY_IN, in);
	CHECK_EQ(gpu_ranges_wrong(&bench.gpu, ranges, PIECES), 0);
	/* And back, each to where it came from: here the targets continue, and the sources do not. */
	memset(bench.host.base, 0, BYTES);
	for (uint32_t i = 0; i < PIECES; i++)
		out = add(&bench, FAR_COPY_OUT, host_at(&bench, i), device_at(&bench, places[i]),
			  PIECE_BYTES);
	CHECK_EQ(far_copier_submit(bench.copier), 0);
	done_wait(&bench, FAR_COPY_OUT, out);
	for (uint32_t i = 0; i < PIECES; i++)
		CHECK_EQ(gpu_pattern_wrong(host_at(&bench, i), PIECE_BYTES, i), 0);
	bench_close(&bench);
}

/* A kernel that is launched as soon as poll says so, on another stream, sees all of the bytes. */
void
what_is_done_is_there_for_a_kernel(void)
{
	uint64_t size_bytes = 4ULL << 20;
	struct bench bench;

	bench_open(&bench);
	for (uint64_t round = 1; round <= 64; round++) {
		uint64_t seq;

		gpu_pattern_fill(bench.host.base, size_bytes, round);
		seq = add(&bench, FAR_COPY_IN, bench.arena.base, bench.host.base, size_bytes);
		CHECK_EQ(far_copier_submit(bench.copier), 0);
		done_wait(&bench, FAR_COPY_IN, seq);
		CHECK_EQ(gpu_wrong(&bench.gpu, bench.arena.base, size_bytes, round), 0);
	}
	bench_close(&bench);
}

void
a_copier_that_is_full_says_so_and_goes_on(void)
{
	uint64_t seq = 0, last = 0, done;
	struct bench bench;
	uint64_t i;
	int rc = 0;

	bench_open(&bench);
	for (i = 0; i < PIECES; i++)
		gpu_pattern_fill(host_at(&bench, i), PIECE_BYTES, i);
	/* Every second piece backwards: none continues another. Nobody polls. */
	for (i = 0; i < 100000 && rc == 0; i++) {
		uint64_t at = (PIECES - 1 - 2 * i % PIECES) % PIECES;

		last = seq;
		rc = far_copier_add(bench.copier, FAR_COPY_IN, device_at(&bench, at),
				    host_at(&bench, at), PIECE_BYTES, &seq);
	}
	CHECK_EQ(rc, -EAGAIN);
	CHECK_EQ(seq, last);
	CHECK_EQ(far_copier_submit(bench.copier), 0);
	done_wait(&bench, FAR_COPY_IN, last);
	CHECK_EQ(far_copier_poll(bench.copier, FAR_COPY_IN, &done), 0);
	CHECK_EQ(done, last);
	seq = add(&bench, FAR_COPY_IN, bench.arena.base, bench.host.base, PIECE_BYTES);
	CHECK_EQ(far_copier_submit(bench.copier), 0);
	done_wait(&bench, FAR_COPY_IN, seq);
	CHECK_EQ(gpu_wrong(&bench.gpu, bench.arena.base, PIECE_BYTES, 0), 0);
	bench_close(&bench);
}

void
a_copier_wakes_who_sleeps(void)
{
	int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct bench bench;

	CHECK(event_fd >= 0);
	bench_open(&bench);
	CHECK_EQ(far_copier_arm(bench.copier, event_fd), -EAGAIN);
	for (uint64_t round = 0; round < 50; round++) {
		enum far_copy_way way = round % 2 == 0 ? FAR_COPY_IN : FAR_COPY_OUT;
		uint64_t seq = way == FAR_COPY_IN
				       ? add(&bench, way, bench.arena.base, bench.host.base, BYTES)
				       : add(&bench, way, bench.host.base, bench.arena.base, BYTES);
		uint64_t done = 0;

		CHECK_EQ(far_copier_submit(bench.copier), 0);
		while (done < seq) {
			struct pollfd wait = {.fd = event_fd, .events = POLLIN};
			eventfd_t value;
			int rc = far_copier_arm(bench.copier, event_fd);

			CHECK(rc == 0 || rc == -EAGAIN);
			/* One that is lost would sleep for ever. */
			if (rc == 0)
				CHECK_EQ(poll(&wait, 1, 20000), 1);
			(void)eventfd_read(event_fd, &value);
			CHECK_EQ(far_copier_poll(bench.copier, way, &done), 0);
		}
	}
	bench_close(&bench);
	close(event_fd);
}

/* Copies wait for nobody's kernels: not for one that has every processor of the GPU. */
void
copies_pass_a_busy_gpu(void)
{
	struct bench bench;
	CUstream busy = NULL;
	uint64_t seq;

	bench_open(&bench);
	gpu_kernels_needed(&bench.gpu);
	gpu_pattern_fill(bench.host.base, BYTES, 3);
	/* A stream that waits for the default one, as an engine's may. */
	CU(&bench.gpu, bench.gpu.lib.cuStreamCreate(&busy, CU_STREAM_DEFAULT));
	gpu_spin(&bench.gpu, busy, gpu_spin_fill(&bench.gpu));
	seq = add(&bench, FAR_COPY_IN, bench.arena.base, bench.host.base, BYTES);
	CHECK_EQ(far_copier_submit(bench.copier), 0);
	done_wait(&bench, FAR_COPY_IN, seq);
	CHECK_EQ(bench.gpu.lib.cuStreamQuery(busy), CUDA_ERROR_NOT_READY);
	gpu_spin_end(&bench.gpu);
	CU(&bench.gpu, bench.gpu.lib.cuStreamSynchronize(busy));
	CHECK_EQ(gpu_wrong(&bench.gpu, bench.arena.base, BYTES, 3), 0);
	CU(&bench.gpu, bench.gpu.lib.cuStreamDestroy(busy));
	bench_close(&bench);
}
