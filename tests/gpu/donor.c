/* donor.c - lends memory until its standard input ends. */
#include "tests/gpu/donor.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/pages.h"
#include "pool/pool.h"

#define SEGMENT_BYTES (256ULL << 20)
#define SEGMENTS_MAX  64
#define POLL_BUDGET   64
#define WAIT_MS       100
#define READY_SECONDS 30

/* ---- the process ---- */

struct donor {
	struct far_pool_config config;
	struct far_transport *tp;
	struct far_listener *listener;
	struct far_pool *pool;
	struct far_rng rng;
	struct far_pages index;
	struct far_pages segments[SEGMENTS_MAX];
	uint32_t segment_count;
};

static void
source_of(const struct far_pages *pages, struct far_mem_source *out)
{
	*out = (struct far_mem_source){
		.base = pages->base, .size_bytes = pages->size_bytes, .fd = pages->fd};
}

static void
segments_lend(struct donor *donor)
{
	uint64_t left = donor->config.capacity_bytes;

	while (left > 0) {
		struct far_pages *pages = &donor->segments[donor->segment_count++];
		uint64_t size =
			left < donor->config.segment_bytes ? left : donor->config.segment_bytes;
		struct far_mem_source source;
		uint32_t number;

		CHECK(donor->segment_count <= SEGMENTS_MAX);
		CHECK_EQ(far_pages_map_shared("segment", size, FAR_PAGES_HUGE_AUTO, -1, pages), 0);
		source_of(pages, &source);
		source.relaxed = true;
		CHECK_EQ(far_pool_segment_add(donor->pool, &source, &number), 0);
		left -= size;
	}
}

static void
donor_open(struct donor *donor, const char *path, const struct gpu_donor_config *config)
{
	struct far_transport_config tp_config = {.clock = far_clock_real(),
						 .spin_ns_max = FAR_SPIN_NS_DEFAULT,
						 .posts_no_reads = true};
	struct far_pool_rails rails = {.tps = &donor->tp, .count = 1};
	struct far_mem_source index;
	char error[FAR_PARAM_ERROR_BYTES];

	donor->config = (struct far_pool_config){
		.name_space = "default",
		.capacity_bytes = config->bytes,
		.segment_bytes = config->bytes < SEGMENT_BYTES ? config->bytes : SEGMENT_BYTES,
		.lane_bytes = config->lane_bytes,
		.block_bytes_min = 65536,
		.grace_ns = config->grace_ns,
		.lanes_free_min = config->lanes_free,
		.lane_idle_ns = 30 * FAR_NS_PER_S,
		.recall_ns = 5 * FAR_NS_PER_S,
		.hot_share_max = 25,
		.links_max = 16,
	};
	snprintf(donor->config.name, sizeof(donor->config.name), "%s", config->name);
	far_pool_config_fit(&donor->config);
	CHECK_EQ(far_pool_config_check(&donor->config, error), 0);
	CHECK_EQ(far_transport_open("shm", &tp_config, &donor->tp), 0);
	far_rng_init(&donor->rng, (uint64_t)getpid());
	CHECK_EQ(far_pages_map_shared("index", far_pool_index_bytes(&donor->config, 1),
				      FAR_PAGES_HUGE_AUTO, -1, &donor->index),
		 0);
	source_of(&donor->index, &index);
	CHECK_EQ(far_pool_open(&donor->config, &rails, &index, far_clock_real(), &donor->rng, NULL,
			       &donor->pool),
		 0);
	segments_lend(donor);
	CHECK_EQ(far_transport_listen(donor->tp, path, far_pool_accept, donor->pool,
				      &donor->listener),
		 0);
}

/* Events, a tick, and sleep. Returns whether somebody still wants the donor. */
static bool
donor_turn(struct donor *donor)
{
	struct pollfd waits[] = {{.fd = donor->tp->fd, .events = POLLIN},
				 {.fd = STDIN_FILENO, .events = POLLIN}};
	int done = far_transport_poll(donor->tp, POLL_BUDGET);
	uint64_t now_ns = far_clock_now(far_clock_real());
	uint64_t next_ns = far_pool_tick(donor->pool, now_ns);
	int ms = WAIT_MS;

	if (done > 0 || next_ns <= now_ns || far_transport_arm(donor->tp) < 0)
		return true;
	if (next_ns - now_ns < WAIT_MS * FAR_NS_PER_MS)
		ms = (int)((next_ns - now_ns) / FAR_NS_PER_MS) + 1;
	(void)poll(waits, 2, ms);
	return (waits[1].revents & (POLLHUP | POLLERR)) == 0;
}

int
gpu_donor_run(int argc, char **argv)
{
	static struct donor donor = {.index = {.fd = -1}};
	struct gpu_donor_config config;

	if (argc != 8)
		return 2;
	config = (struct gpu_donor_config){
		.name = argv[2],
		.bytes = strtoull(argv[4], NULL, 10),
		.lane_bytes = strtoull(argv[5], NULL, 10),
		.lanes_free = strtoull(argv[6], NULL, 10),
		.grace_ns = strtoull(argv[7], NULL, 10),
	};
	signal(SIGPIPE, SIG_IGN);
	donor_open(&donor, argv[3], &config);
	CHECK_EQ(write(STDOUT_FILENO, "r", 1), 1);
	while (donor_turn(&donor))
		;
	far_transport_unlisten(donor.tp, donor.listener);
	far_pool_shutdown(donor.pool);
	while (!far_pool_closing_done(donor.pool))
		(void)donor_turn(&donor);
	far_pool_check(donor.pool);
	far_pool_close(donor.pool);
	far_transport_close(donor.tp);
	for (uint32_t i = 0; i < donor.segment_count; i++)
		far_pages_unmap(&donor.segments[i]);
	far_pages_unmap(&donor.index);
	CHECK_EQ(far_alloc_live_bytes(), 0);
	return 0;
}

/* ---- those who start it ---- */

static void
number_print(char out[24], uint64_t number)
{
	snprintf(out, 24, "%llu", (unsigned long long)number);
}

void
gpu_donor_start(struct gpu_donor *donor, const struct gpu_donor_config *config)
{
	char path[80], bytes[24], lane[24], lanes[24], grace[24], byte;
	const char *argv[] = {"--donor", config->name, path, bytes, lane, lanes, grace, NULL};
	struct pollfd ready;

	snprintf(donor->name, sizeof(donor->name), "%s", config->name);
	snprintf(donor->folder, sizeof(donor->folder), "/tmp/farpool-gpu-XXXXXX");
	CHECK(mkdtemp(donor->folder) != NULL);
	snprintf(path, sizeof(path), "%s/sock", donor->folder);
	snprintf(donor->address, sizeof(donor->address), "shm:%s", path);
	number_print(bytes, config->bytes);
	number_print(lane, config->lane_bytes);
	number_print(lanes, config->lanes_free);
	number_print(grace, config->grace_ns);
	runner_spawn(&donor->process, argv, -1);
	ready = (struct pollfd){.fd = donor->process.out_fd, .events = POLLIN};
	CHECK_EQ(poll(&ready, 1, READY_SECONDS * 1000), 1);
	CHECK_EQ(read(donor->process.out_fd, &byte, 1), 1);
	CHECK_EQ(byte, 'r');
}

static void
folder_remove(struct gpu_donor *donor)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/sock", donor->folder);
	(void)unlink(path);
	(void)rmdir(donor->folder);
}

void
gpu_donor_stop(struct gpu_donor *donor)
{
	CHECK_EQ(runner_join(&donor->process, READY_SECONDS), 0);
	folder_remove(donor);
}

void
gpu_donor_kill(struct gpu_donor *donor)
{
	CHECK_EQ(kill(donor->process.pid, SIGKILL), 0);
	CHECK_EQ(runner_join(&donor->process, READY_SECONDS), 128 + SIGKILL);
	folder_remove(donor);
}
