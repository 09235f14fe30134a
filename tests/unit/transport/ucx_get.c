/* ucx_get.c - READs over RDMA from another process: one that stands still, and one that dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/pages.h"
#include "transport/transport.h"

#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"
#define REGION_BYTES  (16U << 20)
#define SEED_STEP     0x9e3779b97f4a7c15ULL
#define CANARY        0x5a
#define WAIT_NS       (30 * FAR_NS_PER_S)
#define OPS           256U
#define OP_BYTES      65536U

static uint64_t
now_ns(void)
{
	return far_clock_now(far_clock_real());
}

/* ---- the donor: a process of its own ---- */

static void
words_fill(uint64_t *words, size_t size_bytes)
{
	for (size_t i = 0; i < size_bytes / sizeof(*words); i++)
		words[i] = (i + 1) * SEED_STEP;
}

static bool
words_are_right(const uint8_t *bytes, uint64_t offset, size_t size_bytes)
{
	const uint64_t *words = (const uint64_t *)(const void *)bytes;

	for (size_t i = 0; i < size_bytes / sizeof(*words); i++)
		if (words[i] != (offset / sizeof(*words) + i + 1) * SEED_STEP)
			return false;
	return true;
}

struct donor {
	struct far_link_handler handler;
	struct far_transport *tp;
	struct far_mem *mem;
};

static void
donor_event(struct far_link_handler *handler, const struct far_event *event)
{
	(void)handler;
	if (event->kind == FAR_EV_LOST)
		far_transport_disconnect(event->link);
}

static struct far_link_handler *
donor_accept(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	struct donor *donor = arg;
	(void)hello;
	(void)hello_bytes;

	if (far_transport_mem_expose(donor->mem, link) < 0 ||
	    far_transport_send(link, &donor->mem->remote, sizeof(donor->mem->remote)) < 0)
		_exit(4);
	return &donor->handler;
}

static void
donor_run(const char *address, int ready)
{
	struct far_transport_config config = {.clock = far_clock_real(), .trust = FAR_TRUST_FABRIC};
	struct donor donor = {.handler.event = donor_event};
	struct far_mem_source source = {.size_bytes = REGION_BYTES, .fd = -1};
	struct far_listener *listener;
	struct far_pages pages;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (far_pages_map_shared("donor", REGION_BYTES, FAR_PAGES_HUGE_OFF, -1, &pages) < 0)
		_exit(1);
	words_fill(pages.base, REGION_BYTES);
	source.base = pages.base;
	if (far_transport_open("ucx", &config, &donor.tp) < 0 ||
	    far_transport_mem_reg(donor.tp, &source, FAR_RIGHT_REMOTE_READ, NULL, &donor.mem) < 0)
		_exit(2);
	if (far_transport_listen(donor.tp, address, donor_accept, &donor, &listener) < 0)
		_exit(3);
	(void)!write(ready, "r", 1);
	for (;;)
		if (far_transport_poll(donor.tp, 64) == 0)
			far_clock_sleep_until(now_ns() + 100 * FAR_NS_PER_US);
}

static pid_t
donor_start(const char *address)
{
	char byte;
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		donor_run(address, fds[1]);
		_exit(0);
	}
	(void)close(fds[1]);
	if (read(fds[0], &byte, 1) != 1)
		fail_msg("the donor does not listen at %s", address);
	(void)close(fds[0]);
	return pid;
}

/* ---- the client ---- */

struct world {
	struct far_link_handler handler;
	struct far_transport *tp;
	struct far_link *link;
	struct far_pages pages;
	struct far_mem *local;
	struct far_remote remote;
	pid_t donor;
	bool greeted;
	uint32_t done;
	uint32_t failed;
	uint32_t wrong; /* successful, with other bytes than the donor's */
	uint32_t lost;
	uint32_t closed;
};

/* A token says which op it is; what it brought is looked at when it is told. */
static void
client_event(struct far_link_handler *handler, const struct far_event *event)
{
	struct world *w = FAR_CONTAINER_OF(handler, struct world, handler);
	uint64_t op = event->token - 1;

	switch (event->kind) {
	case FAR_EV_MESSAGE:
		memcpy(&w->remote, event->msg, sizeof(w->remote));
		w->greeted = true;
		break;
	case FAR_EV_DONE:
		w->done++;
		if (event->status < 0)
			w->failed++;
		else if (!words_are_right((uint8_t *)w->pages.base + op * OP_BYTES, op * OP_BYTES,
					  OP_BYTES))
			w->wrong++;
		break;
	case FAR_EV_LOST:
		w->lost++;
		break;
	case FAR_EV_CLOSED:
		w->closed++;
		break;
	default:
		break;
	}
}

/* Steps until @cond holds; fails the test when it never does. */
#define wait_for(w, cond)                                                                          \
	do {                                                                                       \
		uint64_t until_ns = now_ns() + WAIT_NS;                                            \
		while (!(cond)) {                                                                  \
			if (far_transport_poll((w)->tp, 64) == 0)                                  \
				far_clock_sleep_until(now_ns() + 20 * FAR_NS_PER_US);              \
			if (now_ns() > until_ns)                                                   \
				fail_msg("never: %s", #cond);                                      \
		}                                                                                  \
	} while (0)

static struct world *
world_open(void)
{
	static unsigned port;
	struct far_transport_config config = {.clock = far_clock_real(), .trust = FAR_TRUST_FABRIC};
	struct far_mem_source source = {.size_bytes = REGION_BYTES, .fd = -1};
	struct world *w = calloc(1, sizeof(*w));
	char address[FAR_ADDRESS_BYTES_MAX];

	assert_non_null(w);
	if (port == 0)
		port = 20000U + (unsigned)getpid() * 37U % 10000U;
	snprintf(address, sizeof(address), "%s:%u", getenv(HOST_VARIABLE), port++);
	w->donor = donor_start(address);
	w->handler.event = client_event;
	assert_int_equal(
		far_pages_map_shared("client", REGION_BYTES, FAR_PAGES_HUGE_OFF, -1, &w->pages), 0);
	source.base = w->pages.base;
	assert_int_equal(far_transport_open("ucx", &config, &w->tp), 0);
	assert_int_equal(far_transport_mem_reg(w->tp, &source, FAR_RIGHT_LOCAL, NULL, &w->local),
			 0);
	assert_int_equal(far_transport_connect(w->tp, address, "", 0, now_ns() + WAIT_NS,
					       &w->handler, &w->link),
			 0);
	wait_for(w, w->greeted);
	return w;
}

static void
world_close(struct world *w)
{
	if (w->donor != 0) {
		(void)kill(w->donor, SIGKILL);
		(void)waitpid(w->donor, NULL, 0);
	}
	if (w->closed == 0) {
		far_transport_disconnect(w->link);
		wait_for(w, w->closed == 1);
	}
	if (w->local != NULL)
		far_transport_mem_dereg(w->local);
	far_transport_close(w->tp);
	far_pages_unmap(&w->pages);
	free(w);
}

static void
donor_kill(struct world *w)
{
	assert_int_equal(kill(w->donor, SIGKILL), 0);
	assert_int_equal(waitpid(w->donor, NULL, 0), w->donor);
	w->donor = 0;
}

/* All of the region, an op each for @count slices of it. */
static void
reads_post(struct world *w, uint32_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		struct far_piece piece = {
			.addr = (uint8_t *)w->pages.base + i * OP_BYTES,
			.size_bytes = OP_BYTES,
			.mem = w->local,
		};
		struct far_op op = {
			.kind = FAR_OP_READ,
			.remote_addr = w->remote.addr + i * OP_BYTES,
			.rkey = w->remote.rkey,
			.pieces = &piece,
			.piece_count = 1,
			.token = i + 1,
		};

		assert_int_equal(far_transport_post(w->link, &op, 1), 0);
	}
}

/* The memory is ours again: whatever is written there now is a late one. */
static void
canary_watch(struct world *w)
{
	const uint8_t *bytes = w->pages.base;
	uint64_t until_ns;

	memset(w->pages.base, CANARY, REGION_BYTES);
	until_ns = now_ns() + 300 * FAR_NS_PER_MS;
	while (now_ns() < until_ns)
		(void)far_transport_poll(w->tp, 64);
	for (size_t i = 0; i < REGION_BYTES; i++)
		if (bytes[i] != CANARY)
			fail_msg("byte %zu was written late", i);
}

/* ---- the tests ---- */

static void
a_donor_that_stands_still_is_read(void **state)
{
	struct world *w = world_open();
	(void)state;

	assert_int_equal(kill(w->donor, SIGSTOP), 0);
	for (uint32_t round = 1; round <= 4; round++) {
		memset(w->pages.base, CANARY, REGION_BYTES);
		reads_post(w, OPS);
		wait_for(w, w->done == round * OPS);
	}
	assert_int_equal(w->failed, 0);
	assert_int_equal(w->wrong, 0);
	assert_int_equal(w->lost, 0);
	world_close(w);
}

/* However many of its READs have come back when it dies. */
static void
a_donor_that_dies_ends_every_read_and_nothing_lands_later(void **state)
{
	uint32_t cut = 0;
	(void)state;

	for (uint32_t after = 0; after < OPS; after += OPS / 8) {
		struct world *w = world_open();

		reads_post(w, OPS);
		wait_for(w, w->done >= after);
		donor_kill(w);
		wait_for(w, w->lost == 1); /* READs that UCX has not given back may still end */
		far_transport_disconnect(w->link);
		wait_for(w, w->closed == 1);
		assert_int_equal(w->lost, 1);
		assert_int_equal(w->done, OPS);
		assert_int_equal(w->wrong, 0);
		cut += w->failed > 0;
		far_transport_mem_dereg(w->local);
		w->local = NULL;
		canary_watch(w);
		world_close(w);
	}
	assert_true(cut > 0); /* else it died too late each time, and nothing was shown */
}

static void
a_link_that_is_given_up_closes_when_nothing_lands_any_more(void **state)
{
	(void)state;
	for (uint32_t after = 0; after < OPS; after += OPS / 8) {
		struct world *w = world_open();

		reads_post(w, OPS);
		wait_for(w, w->done >= after);
		assert_int_equal(kill(w->donor, SIGSTOP), 0); /* nobody is there to agree */
		far_transport_disconnect(w->link);
		wait_for(w, w->closed == 1);
		assert_int_equal(w->done, OPS);
		assert_int_equal(w->wrong, 0);
		canary_watch(w);
		world_close(w);
	}
}

/* The kernel numbers regions one after the other: the last number that is ours. */
static unsigned long
region_number_last(void)
{
	FILE *list = popen("rdma resource show mr 2>/dev/null", "r");
	unsigned long last = 0;
	char line[512];

	assert_non_null(list);
	while (fgets(line, sizeof(line), list) != NULL) {
		const char *mrn = strstr(line, "mrn ");
		const char *pid = strstr(line, " pid ");

		if (mrn == NULL || pid == NULL || strtol(pid + 5, NULL, 10) != (long)getpid())
			continue;
		if (strtoul(mrn + 4, NULL, 10) > last)
			last = strtoul(mrn + 4, NULL, 10);
	}
	(void)pclose(list);
	return last;
}

static void
a_read_registers_nothing(void **state)
{
	struct world *w = world_open();
	unsigned long before;
	(void)state;

	/* UCX's own segments are there from the first rounds on. */
	for (uint32_t round = 1; round <= 2; round++) {
		reads_post(w, OPS);
		wait_for(w, w->done == round * OPS);
	}
	before = region_number_last();
	if (before == 0) {
		world_close(w);
		skip(); /* no rdma command */
		return;
	}
	for (uint32_t round = 3; round <= 6; round++) {
		reads_post(w, OPS);
		wait_for(w, w->done == round * OPS);
	}
	{
		/* One more, to see what number is next. */
		struct far_mem_source source = {
			.base = w->pages.base, .size_bytes = 4096, .fd = -1};
		struct far_mem *mem;

		assert_int_equal(
			far_transport_mem_reg(w->tp, &source, FAR_RIGHT_REMOTE_READ, NULL, &mem),
			0);
		printf("region %lu before 1024 READs, %lu after\n", before, region_number_last());
		assert_true(region_number_last() > before);
		assert_true(region_number_last() <= before + 2); /* one per device */
		far_transport_mem_dereg(mem);
	}
	assert_int_equal(w->failed, 0);
	assert_int_equal(w->wrong, 0);
	world_close(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_donor_that_stands_still_is_read),
		cmocka_unit_test(a_donor_that_dies_ends_every_read_and_nothing_lands_later),
		cmocka_unit_test(a_link_that_is_given_up_closes_when_nothing_lands_any_more),
		cmocka_unit_test(a_read_registers_nothing),
	};

	if (getenv(HOST_VARIABLE) == NULL) {
		printf("skipped: %s names no address of an RDMA port of this host\n",
		       HOST_VARIABLE);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
