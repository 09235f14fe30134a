/* bench.h - ways to move blocks between host and GPU, measured side by side in one run. */
#ifndef FAR_TESTS_GPU_BENCH_H
#define FAR_TESTS_GPU_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/gpu/gpu.h"

#define BENCH_ROUNDS_MAX 51
#define BENCH_SIZES      6
#define BENCH_BLOCK_MAX  (64ULL << 20)
#define BENCH_ONCE_COUNT 200
#define BENCH_ONCE_BYTES 65536ULL
#define BENCH_SEED       0xb10cULL /* of the bytes that are loaded: one pattern over the set */

extern const uint64_t bench_sizes[BENCH_SIZES];

struct bench {
	struct gpu gpu;
	uint64_t set_bytes; /* moved per pass */
	uint32_t rounds;
	struct far_device_arena arena; /* set_bytes on the device; of those without an L1 */
	uint8_t *pinned;               /* set_bytes of the driver's own pinned memory */
	const char *only;              /* NULL, or a part of movers' names */
};

struct bench_mover;

enum bench_way {
	BENCH_LOAD,  /* to the GPU */
	BENCH_STORE, /* from it */
	BENCH_HOST,  /* neither: what one processor does in the host's memory */
};

/* Opened once, run for each size in each round, closed. What fails ends the run. */
struct bench_mover_ops {
	const char *name;
	const char *text;
	enum bench_way way;
	double aim; /* of the driver's own copies, at 1 MiB and more; 0: none */
	/* False, with the reason: this machine does not have it. */
	bool (*open)(struct bench *bench, struct bench_mover **out, char why[160]);
	/* Moves the set in blocks of so many bytes. Returns nanoseconds; 0: not in such blocks. */
	uint64_t (*pass)(struct bench_mover *mover, uint64_t block_bytes);
	/* One block, with nothing else on its way; NULL: not measured. */
	uint64_t (*once)(struct bench_mover *mover);
	/* Fails the run if what the last pass moved is wrong; NULL: it cannot be seen. */
	void (*check)(struct bench_mover *mover);
	void (*close)(struct bench_mover *mover);
};

extern const struct bench_mover_ops bench_driver_load, bench_driver_store, bench_memcpy;
extern const struct bench_mover_ops bench_mapped_load, bench_free_load, bench_staged_load;
extern const struct bench_mover_ops bench_free_store, bench_staged_store;
extern const struct bench_mover_ops bench_client_mapped, bench_client_awake, bench_client_staged,
	bench_client_store;

/* --exposer PATH BYTES: a process whose memory is read and written over shm, with the set's pattern. */
int bench_exposer_run(int argc, char **argv);

struct bench_result {
	const struct bench_mover_ops *ops;
	char why[160]; /* empty: it ran */
	double gbps[BENCH_SIZES][BENCH_ROUNDS_MAX];
	double us[BENCH_ONCE_COUNT];
	uint32_t once_count;
};

double bench_median(const double *values, uint32_t count);
/* Tables on stdout. */
void bench_report(const struct bench *bench, const struct bench_result *results, size_t count);
/* "-": stdout. Returns 0, or -EIO. */
int bench_json_write(const struct bench *bench, const struct bench_result *results, size_t count,
		     const char *path);

#endif
