/* lend.c - a farpoold of a mover's own, and a client of it through the public interface. */
#include "tests/bench/lend.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/bench/process.h"

#define CONNECT_NS  (60 * FAR_NS_PER_S)
#define LANES_BYTES ((uint64_t)256 << 20) /* that writers hold open, and that stay free */

static int
donor_start(const struct bench_plan *plan, const struct bench_lend_config *config, char *why,
	    struct bench_lend *lend)
{
	struct perf_donor_config donor = {
		.program = plan->farpoold,
		.name = BENCH_DONOR_NAME,
		.over = config->over,
		/* A quarter more than the blocks: lanes that are not full. */
		.memory_bytes = config->held_bytes / 4 * 5 / 4096 * 4096 + LANES_BYTES,
		.block_bytes_min = config->block_bytes,
		.huge = plan->huge_pages,
		.ordinary = !plan->huge_pages,
	};
	int rc;

	if (config->index_blocks > 0)
		donor.block_bytes_min = donor.memory_bytes / config->index_blocks;
	if (config->apart)
		bench_side_take(plan, BENCH_SIDE_DONOR);
	rc = perf_donor_start(&lend->donor, &donor);
	if (config->apart)
		bench_side_take(plan, BENCH_SIDE_CLIENT);
	if (rc < 0)
		perf_donor_last_words(&lend->donor, why, BENCH_TEXT_BYTES);
	return rc;
}

static int
config_write(const struct bench_plan *plan, const struct bench_lend_config *config,
	     const struct bench_lend *lend, const char *path)
{
	FILE *file = fopen(path, "w");

	if (file == NULL)
		return -EACCES;
	fprintf(file,
		"l1:\n"
		"  size: %" PRIu64 "KiB\n"
		"  block_min: %" PRIu64 "B\n"
		"  align: %s\n"
		"  huge_pages: %s\n"
		"busy_poll: %" PRIu32 "us\n"
		"helpers: %" PRIu32 "\n"
		"donors:\n"
		"  - name: " BENCH_DONOR_NAME "\n"
		"    address: %s\n",
		config->l1_bytes >> 10, config->block_bytes,
		config->block_bytes < 4096 ? "64B" : "4KiB", plan->huge_pages ? "on" : "off",
		plan->busy_poll_us, plan->helpers, lend->donor.address);
	return fclose(file) == 0 ? 0 : -EIO;
}

int
bench_lend_open(const struct bench_plan *plan, const struct bench_lend_config *config, char *why,
		struct bench_lend *lend)
{
	char path[96];
	int rc = donor_start(plan, config, why, lend);

	if (rc < 0)
		return rc;
	snprintf(path, sizeof(path), "%s/client.yaml", lend->donor.folder);
	rc = config_write(plan, config, lend, path);
	if (rc == 0)
		rc = far_client_open_file(path, why, BENCH_TEXT_BYTES, &lend->client);
	unlink(path);
	if (rc < 0)
		return rc;
	rc = far_client_wait_donors(lend->client, far_now_ns() + CONNECT_NS, why, BENCH_TEXT_BYTES);
	if (rc < 0)
		perf_donor_last_words(&lend->donor, why, BENCH_TEXT_BYTES);
	else
		why[0] = '\0';
	return rc;
}

void
bench_lend_close(struct bench_lend *lend)
{
	far_client_close(lend->client);
	perf_donor_stop(&lend->donor);
	lend->client = NULL;
}

uint64_t
bench_lend_messages(const struct bench_lend *lend)
{
	struct far_stats stats = {.size_bytes = sizeof(stats)};

	far_stats_get(lend->client, &stats);
	return stats.messages_sent + stats.messages_received - stats.touch_notes;
}
