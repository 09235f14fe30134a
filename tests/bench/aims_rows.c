/* aims_rows.c - the table of aims itself. A row more is an entry here, and a mover where none measures it. */
#include <string.h>

#include "tests/bench/aims.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

#define COPIES                                                                                     \
	{                                                                                          \
		&bench_memcpy, &bench_stream, &bench_past                                          \
	}
#define REDIS                                                                                      \
	{                                                                                          \
		&bench_redis, &bench_redis_direct                                                  \
	}
#ifdef FAR_BENCH_UCX
#define UCX_SHM                                                                                    \
	{                                                                                          \
		&bench_ucx_posix, &bench_ucx_sysv, &bench_ucx_all                                  \
	}
#define UCX_TCP                                                                                    \
	{                                                                                          \
		&bench_ucx_tcp, &bench_ucx_tcp64                                                   \
	}
#else
#define UCX_SHM                                                                                    \
	{                                                                                          \
		NULL                                                                               \
	}
#define UCX_TCP                                                                                    \
	{                                                                                          \
		NULL                                                                               \
	}
#endif
#define SHM bench_prefetch
#define TCP bench_tcp_prefetch

/* name, text, group, quantity, kind, aim, size, of, than */
/* clang-format off */
const struct aims_row aims_rows[] = {
	{"prefetch-4k", "prefetch over shm, of the best cold copy", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 0.50, 4 * KIB, &SHM, COPIES, 0},
	{"prefetch-64k", "the same", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 0.90, 64 * KIB, &SHM, COPIES, 0},
	{"prefetch-1m", "the same", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 0.95, MIB, &SHM, COPIES, 0},
	{"prefetch-4m", "the same", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 0.95, 4 * MIB, &SHM, COPIES, 0},
	{"ucx-4k", "prefetch over shm, of UCX's GET over its shared memory", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 1.30, 4 * KIB, &SHM, UCX_SHM, 0},
	{"ucx-64k", "the same", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 1.30, 64 * KIB, &SHM, UCX_SHM, 0},
	{"ucx-1m", "the same", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 1.30, MIB, &SHM, UCX_SHM, 0},
	{"ucx-4m", "the same", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 1.30, 4 * MIB, &SHM, UCX_SHM, 0},
	{"redis-64k", "prefetch over shm, of Redis on a Unix socket", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 6.00, 64 * KIB, &SHM, REDIS, 0},
	{"redis-1m", "the same", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 5.00, MIB, &SHM, REDIS, 0},
	{"store-64k", "blocks until the donor has committed them, of the best cold copy", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 0.80, 64 * KIB, &bench_store, COPIES, 0},
	{"store-1m", "the same", AIMS_SHM, AIMS_GBPS, AIMS_RATIO, 0.80, MIB, &bench_store, COPIES, 0},
	{"idle-1m", "one block from submit to readable, microseconds above its copy", AIMS_SHM, AIMS_IDLE_US, AIMS_ABOVE_AT_MOST, 5.0, MIB, &SHM, COPIES, 0},
	{"donor-cpu-64k", "the donor's processor while blocks are prefetched over shm", AIMS_SHM, AIMS_DONOR_CPU, AIMS_AT_MOST, 0.005, 64 * KIB, &SHM, {NULL}, 0},
	{"donor-cpu-1m", "the same", AIMS_SHM, AIMS_DONOR_CPU, AIMS_AT_MOST, 0.005, MIB, &SHM, {NULL}, 0},
	{"messages-prefetch", "messages of a prefetch", AIMS_SHM, AIMS_MESSAGES, AIMS_AT_MOST, 0, MIB, &SHM, {NULL}, 0},
	{"messages-store", "messages of a stored batch: COMMIT and its answer", AIMS_SHM, AIMS_MESSAGES, AIMS_AT_MOST, 2, 64 * KIB, &bench_store_batch, {NULL}, 0},
	{"tcp-64k", "prefetch over ucx, TCP on loopback, of ucp_get", AIMS_TCP, AIMS_GBPS, AIMS_RATIO, 1.10, 64 * KIB, &TCP, UCX_TCP, 0},
	{"tcp-1m", "the same", AIMS_TCP, AIMS_GBPS, AIMS_RATIO, 1.10, MIB, &TCP, UCX_TCP, 0},
	{"tcp-4m", "the same", AIMS_TCP, AIMS_GBPS, AIMS_RATIO, 1.10, 4 * MIB, &TCP, UCX_TCP, 0},
	{"tcp-reads-64k", "READs over one link of the same transport, of ucp_get", AIMS_TCP, AIMS_GBPS, AIMS_RATIO, 1.10, 64 * KIB, &bench_raw, UCX_TCP, 0},
	{"tcp-reads-1m", "the same", AIMS_TCP, AIMS_GBPS, AIMS_RATIO, 1.10, MIB, &bench_raw, UCX_TCP, 0},
	{"tcp-reads-4m", "the same", AIMS_TCP, AIMS_GBPS, AIMS_RATIO, 1.10, 4 * MIB, &bench_raw, UCX_TCP, 0},
	{"lookup", "keys looked up over shm, 256 at a time, on one processor", AIMS_LOOKUP, AIMS_MKEYS, AIMS_AT_LEAST, 1.5, 10000, &bench_lookup, {NULL}, 0},
	{"lookup-index", "keys looked up with 3 million in the index, of the rate with 10 thousand", AIMS_LOOKUP, AIMS_MKEYS, AIMS_RATIO, 0.60, 3000000, &bench_lookup, {&bench_lookup}, 10000},
	{"cpu-room", "processor time of a prefetch of 128 keys, an adapter that answers at once, room in L1", AIMS_CPU, AIMS_CPU_US, AIMS_AT_MOST, 20, 128, &bench_cpu_room, {NULL}, 0},
	{"cpu-instant", "processor time of a prefetch of 128 keys, the same, each evicts a block", AIMS_CPU, AIMS_CPU_US, AIMS_AT_MOST, 20, 128, &bench_cpu_instant, {NULL}, 0},
	{"cpu-memory", "processor time of a prefetch of 128 keys, the memory adapter", AIMS_CPU, AIMS_CPU_US, AIMS_AT_MOST, 20, 128, &bench_cpu_memory, {NULL}, 0},
	{"cpu-donor", "processor time of a prefetch of 128 keys, a donor over shm", AIMS_CPU, AIMS_CPU_US, AIMS_AT_MOST, 20, 128, &bench_cpu_donor, {NULL}, 0},
};
/* clang-format on */

const size_t aims_row_count = sizeof(aims_rows) / sizeof(aims_rows[0]);
_Static_assert(sizeof(aims_rows) / sizeof(aims_rows[0]) <= AIMS_ROWS_MAX, "room for each");

const char *
aims_row_text(const struct aims_row *row)
{
	while (strcmp(row->text, "the same") == 0)
		row--;
	return row->text;
}
