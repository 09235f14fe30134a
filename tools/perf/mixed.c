/* mixed.c - readers and writers of the same clients at the same time. */
#include "tools/perf/pool.h"

int
perf_mixed(int argc, char **argv)
{
	return pool_sweep(POOL_MIXED, argc, argv);
}
