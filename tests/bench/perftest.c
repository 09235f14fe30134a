/* perftest.c - ucx_perftest -t ucp_get over TCP: the figure that others quote. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/process.h"
#include "tools/perf/donor.h"

#define PROGRAM      "ucx_perftest"
#define WINDOW       "16" /* GETs at a time */
#define PASS_NS      (30 * FAR_NS_PER_S)
#define OPEN_NS      (2 * FAR_NS_PER_S)
#define TRY_STEP_NS  (50 * FAR_NS_PER_MS)
#define OUTPUT_BYTES 4096U
#define FIELD        5 /* bandwidth, of all, in the last line */

struct bench_mover {
	const struct bench_plan *plan; /* borrowed */
};

static const char *const environment[] = {"UCX_TLS=tcp", "UCX_NET_DEVICES=lo", NULL};

/* Numbers with commas between them; MB are MiB there. */
static int
output_parse(const char *text, struct bench_pass *out)
{
	const char *line = strrchr(text, '\n');
	double mib_per_s;

	while (line != NULL && line > text && line[1] == '\0') {
		const char *end = line;

		for (line--; line > text && *line != '\n'; line--)
			;
		if (end - line > 1)
			break;
	}
	for (int i = 0; line != NULL && i < FIELD; i++) {
		line = strchr(line, ',');
		line = line != NULL ? line + 1 : NULL;
	}
	if (line == NULL)
		return -EIO;
	mib_per_s = strtod(line, NULL);
	if (!(mib_per_s > 0))
		return -EIO;
	out->ns = (uint64_t)((double)out->bytes / (mib_per_s * 1048576.0) * 1e9);
	return 0;
}

static int
client_run(const char *port, uint64_t block_bytes, struct bench_pass *out)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + PASS_NS;
	char size_text[24], count_text[24], output[OUTPUT_BYTES] = "";
	const char *argv[] = {PROGRAM, "127.0.0.1", "-p", port,       "-t", "ucp_get",
			      "-s",    size_text,   "-n", count_text, "-w", "10",
			      "-O",    WINDOW,      "-v", "-f",       NULL};
	struct bench_process client;
	int rc, status;

	snprintf(size_text, sizeof(size_text), "%" PRIu64, block_bytes);
	snprintf(count_text, sizeof(count_text), "%" PRIu64, out->bytes / block_bytes);
	rc = bench_process_start(&client, argv, environment, true);
	if (rc < 0)
		return rc;
	rc = bench_process_read(&client, output, sizeof(output), deadline_ns);
	status = bench_process_wait(&client, deadline_ns, NULL);
	if (rc == 0 && status != 0)
		rc = status < 0 ? status : -ECONNREFUSED;
	return rc == 0 ? output_parse(output, out) : rc;
}

/* A server ends with its test, so each pass has one; it does not say when it listens. */
static int
perftest_pass(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out)
{
	uint64_t until_ns = far_clock_now(far_clock_real()) + OPEN_NS;
	struct bench_process server;
	char port[8];
	const char *argv[] = {PROGRAM, "-p", port, NULL};
	int rc;

	*out = (struct bench_pass){.bytes = mover->plan->set_bytes};
	snprintf(port, sizeof(port), "%u", perf_port());
	bench_side_take(mover->plan, BENCH_SIDE_DONOR);
	rc = bench_process_start(&server, argv, environment, false);
	bench_side_take(mover->plan, BENCH_SIDE_CLIENT);
	if (rc < 0)
		return rc;
	while ((rc = client_run(port, block_bytes, out)) == -ECONNREFUSED) {
		uint64_t now_ns = far_clock_now(far_clock_real());

		if (now_ns >= until_ns)
			break;
		far_clock_sleep_until(now_ns + TRY_STEP_NS);
	}
	bench_process_kill(&server);
	return rc;
}

static void
perftest_close(struct bench_mover *mover)
{
	far_free(mover);
}

static int
perftest_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	struct bench_mover *mover = far_zalloc(sizeof(*mover));
	struct bench_pass pass;
	int rc;

	if (mover == NULL)
		return -ENOMEM;
	mover->plan = plan;
	rc = perftest_pass(mover, bench_sizes[0], &pass);
	if (rc < 0) {
		if (rc == -ENOENT)
			snprintf(why, BENCH_TEXT_BYTES,
				 PROGRAM " is not installed: ./dev setup bench");
		far_free(mover);
		return rc;
	}
	*out = mover;
	return 0;
}

const struct bench_mover_ops bench_perftest = {
	.name = "perftest",
	.text = "ucx_perftest -t ucp_get -O " WINDOW
		" out of one hot buffer; its target wakes only "
		"every millisecond",
	.role = BENCH_YARDSTICK,
	.open = perftest_open,
	.pass = perftest_pass,
	.close = perftest_close,
};
