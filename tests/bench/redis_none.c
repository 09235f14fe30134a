/* redis_none.c - in the place of redis.c where hiredis was missing when this was built. */
#include <errno.h>
#include <stdio.h>

#include "tests/bench/bench.h"

static int
none_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	(void)plan;
	(void)out;
	snprintf(why, BENCH_TEXT_BYTES,
		 "this build has no hiredis; next: apt-get install libhiredis-dev, and configure "
		 "again");
	return -ENODEV;
}

const struct bench_mover_ops bench_redis = {
	.name = "redis",
	.text = "redis-server on a Unix socket",
	.open = none_open,
};

const struct bench_mover_ops bench_redis_direct = {
	.name = "redis-direct",
	.text = "the same",
	.open = none_open,
};
