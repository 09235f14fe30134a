/* versions.c - what is compared with, in which version. */
#include <stdio.h>
#include <string.h>

#ifdef FAR_BENCH_UCX
#include <ucp/api/ucp.h>
#endif
#ifdef FAR_BENCH_HIREDIS
#include <hiredis/hiredis.h>
#endif

#include "tests/bench/process.h"

#define PROGRAM_NS (5 * FAR_NS_PER_S)

/* "Redis server v=7.0.15 sha=..." */
static void
redis_version(char out[BENCH_VERSION_BYTES])
{
	const char *const argv[] = {"redis-server", "--version", NULL};
	uint64_t until_ns = far_clock_now(far_clock_real()) + PROGRAM_NS;
	struct bench_process process;
	char text[512] = "", *at;

	snprintf(out, BENCH_VERSION_BYTES, "no redis-server");
	if (bench_process_start(&process, argv, NULL, true) < 0)
		return;
	if (bench_process_read(&process, text, sizeof(text), until_ns) == 0) {
		at = strstr(text, "v=");
		if (at != NULL)
			snprintf(out, BENCH_VERSION_BYTES, "redis %.*s", (int)strcspn(at + 2, " "),
				 at + 2);
	}
	(void)bench_process_wait(&process, until_ns, NULL);
}

void
bench_versions_get(char out[BENCH_VERSIONS_MAX][BENCH_VERSION_BYTES], uint32_t *count_out)
{
	uint32_t count = 0;

	snprintf(out[count++], BENCH_VERSION_BYTES, "gcc %s", __VERSION__);
#ifdef FAR_BENCH_UCX
	snprintf(out[count++], BENCH_VERSION_BYTES, "UCX %s", ucp_get_version_string());
#endif
#ifdef FAR_BENCH_HIREDIS
	snprintf(out[count++], BENCH_VERSION_BYTES, "hiredis %d.%d.%d", HIREDIS_MAJOR,
		 HIREDIS_MINOR, HIREDIS_PATCH);
#endif
	redis_version(out[count++]);
	*count_out = count;
}
