/* iperf.c - iperf3, one stream over loopback, sent by its server: what the kernel's TCP does here. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tests/bench/bench.h"
#include "tests/bench/process.h"
#include "tools/perf/donor.h"

#define PROGRAM      "iperf3"
#define WRITE_MAX    ((uint64_t)1 << 20) /* that iperf3 takes */
#define PASS_NS      (30 * FAR_NS_PER_S)
#define OPEN_NS      (5 * FAR_NS_PER_S)
#define TRY_STEP_NS  (50 * FAR_NS_PER_MS)
#define OUTPUT_BYTES (256U * 1024U)

struct bench_mover {
	const struct bench_plan *plan; /* borrowed */
	struct bench_process server;
	char port[8];
	char *output; /* owned: OUTPUT_BYTES */
};

static int
output_parse(const char *text, struct bench_pass *out)
{
	json_t *root = json_loads(text, 0, NULL);
	double bytes = 0, seconds = 0;
	int rc;

	if (root == NULL)
		return -EIO;
	rc = json_unpack(root, "{s:{s:{s:F, s:F}}}", "end", "sum_received", "bytes", &bytes,
			 "seconds", &seconds);
	json_decref(root);
	if (rc != 0 || bytes <= 0 || seconds <= 0)
		return -EIO;
	out->bytes = (uint64_t)bytes;
	out->ns = (uint64_t)(seconds * 1e9);
	return 0;
}

static int
iperf_run(struct bench_mover *mover, uint64_t block_bytes, uint64_t bytes, struct bench_pass *out)
{
	uint64_t deadline_ns = far_clock_now(far_clock_real()) + PASS_NS;
	char bytes_text[24], write_text[24];
	const char *argv[] = {PROGRAM, "-c", "127.0.0.1", "-p", mover->port, "-R",
			      "-J",    "-n", bytes_text,  "-l", write_text,  NULL};
	struct bench_process client;
	uint64_t peer_ns = bench_cpu_ns(mover->server.pid), cpu_ns = 0;
	int rc, status;

	snprintf(bytes_text, sizeof(bytes_text), "%" PRIu64, bytes);
	snprintf(write_text, sizeof(write_text), "%" PRIu64,
		 block_bytes < WRITE_MAX ? block_bytes : WRITE_MAX);
	rc = bench_process_start(&client, argv, NULL, true);
	if (rc < 0)
		return rc;
	rc = bench_process_read(&client, mover->output, OUTPUT_BYTES, deadline_ns);
	status = bench_process_wait(&client, deadline_ns, &cpu_ns);
	*out = (struct bench_pass){.cpu_ns = cpu_ns,
				   .peer_cpu_ns = bench_cpu_ns(mover->server.pid) - peer_ns};
	if (rc == 0)
		rc = status < 0 ? status : output_parse(mover->output, out);
	return rc;
}

static int
iperf_pass(struct bench_mover *mover, uint64_t block_bytes, struct bench_pass *out)
{
	return iperf_run(mover, block_bytes, mover->plan->set_bytes, out);
}

static void
iperf_close(struct bench_mover *mover)
{
	bench_process_kill(&mover->server);
	far_free(mover->output);
	far_free(mover);
}

/* It does not say when it listens: what is moved first shows it. */
static int
server_open(struct bench_mover *mover)
{
	const char *argv[] = {PROGRAM, "-s", "-B", "127.0.0.1", "-p", mover->port, NULL};
	uint64_t until_ns = far_clock_now(far_clock_real()) + OPEN_NS;
	struct bench_pass pass;
	int rc;

	bench_side_take(mover->plan, BENCH_SIDE_DONOR);
	rc = bench_process_start(&mover->server, argv, NULL, false);
	bench_side_take(mover->plan, BENCH_SIDE_CLIENT);
	if (rc < 0)
		return rc;
	while ((rc = iperf_run(mover, WRITE_MAX, WRITE_MAX, &pass)) < 0) {
		uint64_t now_ns = far_clock_now(far_clock_real());

		if (now_ns >= until_ns)
			return rc;
		far_clock_sleep_until(now_ns + TRY_STEP_NS);
	}
	return 0;
}

static int
iperf_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	struct bench_mover *mover = far_zalloc(sizeof(*mover));
	int rc;

	if (mover == NULL)
		return -ENOMEM;
	mover->plan = plan;
	mover->server.out_fd = -1;
	mover->output = far_zalloc(OUTPUT_BYTES);
	snprintf(mover->port, sizeof(mover->port), "%u", perf_port());
	rc = mover->output == NULL ? -ENOMEM : server_open(mover);
	if (rc < 0) {
		if (rc == -ENOENT)
			snprintf(why, BENCH_TEXT_BYTES,
				 PROGRAM " is not installed: ./dev setup bench");
		iperf_close(mover);
		return rc;
	}
	*out = mover;
	return 0;
}

const struct bench_mover_ops bench_iperf = {
	.name = "iperf3",
	.text = "one TCP stream out of one small buffer, writes of at most 1 MiB: the kernel's "
		"share",
	.open = iperf_open,
	.pass = iperf_pass,
	.close = iperf_close,
};
