/* farpoold.c - the donor daemon: a loop, signals and timers around a pool. It never forks. */
#include "tools/farpoold/farpoold.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "tools/farpoold/backing.h"
#include "tools/farpoold/rails.h"

#define SETTINGS_MAX   64
#define POLL_BUDGET    256
#define TURNS_MAX      64                 /* of poll and tick before signals are looked at */
#define CLOSING_NS_MAX (5 * FAR_NS_PER_S) /* then the process ends without its links' consent */

const char *argp_program_version = "farpoold " FAR_VERSION;

struct arguments {
	const char *config;
	bool check;
	bool document;
	int ready_fd;
	const char *settings[SETTINGS_MAX];
	size_t setting_count;
};

struct farpoold {
	struct farpoold_config config;
	struct farpoold_backing backing; /* closed: memfds */
	struct farpoold_memory memory;
	struct farpoold_rails rails;
	struct far_pool *pool;
	struct far_rng rng;

	uv_loop_t loop;
	uv_poll_t polls[FAR_ADDRESSES_MAX]; /* one per transport */
	uint32_t poll_count;
	uv_timer_t timer;
	uv_signal_t signals[2];
	uv_work_t mapping;
	struct far_pages mapped; /* by the worker, until it is kept */
	int mapped_rc;
	bool is_mapping;
	bool ready; /* all is lent, and what a predecessor left was looked at */
	bool closing;
	uint64_t closing_ns;
	int ready_fd;
	int status; /* of the process */
};

static void drive(struct farpoold *daemon);

static void
shutdown_begin(struct farpoold *daemon)
{
	if (daemon->closing)
		return;
	daemon->closing = true;
	daemon->closing_ns = far_clock_now(far_clock_real());
	farpoold_rails_unlisten(&daemon->rails);
	far_pool_shutdown(daemon->pool);
	drive(daemon);
}

static void
handle_close(uv_handle_t *handle)
{
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

/* Closes what keeps the loop alive, once nothing of the pool is outstanding. */
static void
shutdown_finish(struct farpoold *daemon)
{
	uv_handle_t *handles[] = {(uv_handle_t *)&daemon->timer, (uv_handle_t *)&daemon->signals[0],
				  (uv_handle_t *)&daemon->signals[1]};

	for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++)
		handle_close(handles[i]);
	for (uint32_t i = 0; i < daemon->poll_count; i++)
		handle_close((uv_handle_t *)&daemon->polls[i]);
}

/* ---- memory ---- */

static int
segment_lend(struct farpoold *daemon, const struct far_pages *pages)
{
	struct far_mem_source source = {
		.base = pages->base,
		.size_bytes = farpoold_memory_next_bytes(&daemon->memory),
		.fd = pages->fd,
		.relaxed = true,
	};
	uint32_t number = farpoold_memory_next_number(&daemon->memory);
	int rc;

	if (number != 0)
		rc = far_pool_segment_restore(daemon->pool, &source, number);
	else
		rc = far_pool_segment_add(daemon->pool, &source, &number);
	if (rc < 0)
		return rc;
	farpoold_memory_keep(&daemon->memory, pages);
	return 0;
}

static void
ready_tell(struct farpoold *daemon)
{
	char text[FARPOOLD_SIZE_TEXT_BYTES];

	daemon->ready = true;
	farpoold_size_format(daemon->memory.mapped_bytes, text);
	far_log_info("%s serves %s at %s, epoch %016" PRIx64, daemon->config.pool.name, text,
		     daemon->config.listen, far_pool_epoch(daemon->pool));
	if (daemon->ready_fd < 0)
		return;
	if (write(daemon->ready_fd, "\n", 1) < 0)
		far_log_warn("descriptor %d: nobody could be told that this donor is ready: %s",
			     daemon->ready_fd, strerror(errno));
	if (daemon->ready_fd > STDERR_FILENO)
		close(daemon->ready_fd);
	daemon->ready_fd = -1;
}

/* Large donors take minutes to be lent whole: they are of use before. */
static void
first_tell(const struct farpoold *daemon)
{
	char first[FARPOOLD_SIZE_TEXT_BYTES], all[FARPOOLD_SIZE_TEXT_BYTES];

	if (farpoold_memory_next_bytes(&daemon->memory) == 0)
		return;
	farpoold_size_format(daemon->memory.mapped_bytes, first);
	farpoold_size_format(daemon->config.pool.capacity_bytes, all);
	far_log_info("%s listens at %s with %s of %s, the rest is on its way",
		     daemon->config.pool.name, daemon->config.listen, first, all);
}

static void
on_mapping(uv_work_t *work)
{
	struct farpoold *daemon = work->data;

	daemon->mapped_rc = farpoold_memory_map(&daemon->memory, &daemon->mapped);
}

static void mapping_start(struct farpoold *daemon);

static void
on_mapped(uv_work_t *work, int status)
{
	struct farpoold *daemon = work->data;
	char error[FAR_PARAM_ERROR_BYTES];
	int rc = daemon->mapped_rc;

	(void)status; /* never cancelled */
	daemon->is_mapping = false;
	if (rc == 0 && !daemon->closing)
		rc = segment_lend(daemon, &daemon->mapped);
	if (rc < 0 && !daemon->closing) {
		farpoold_memory_explain(&daemon->memory, rc, error);
		far_log_error("%s", error);
		daemon->status = EXIT_FAILURE;
	}
	if (daemon->mapped_rc == 0 && (rc < 0 || daemon->closing))
		far_pages_unmap(&daemon->mapped);
	if (rc < 0)
		shutdown_begin(daemon);
	else if (!daemon->closing)
		mapping_start(daemon);
	drive(daemon);
}

/* The next segment is populated beside the loop, which serves those that are there. */
static void
mapping_start(struct farpoold *daemon)
{
	int rc;

	if (farpoold_memory_next_bytes(&daemon->memory) == 0) {
		far_pool_growing_set(daemon->pool, false);
		return;
	}
	daemon->is_mapping = true;
	daemon->mapping.data = daemon;
	rc = uv_queue_work(&daemon->loop, &daemon->mapping, on_mapping, on_mapped);
	FAR_ASSERT(rc == 0); /* fails without a function only */
}

/* ---- the loop ---- */

static void
on_timer(uv_timer_t *timer)
{
	drive(timer->data);
}

static void
on_readable(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	drive(poll->data);
}

static void
on_signal(uv_signal_t *handle, int signum)
{
	struct farpoold *daemon = handle->data;

	if (daemon->closing) {
		far_log_warn("signal %d again: ended at once", signum);
		_exit(EXIT_FAILURE);
	}
	far_log_info("signal %d: giving the memory back", signum);
	shutdown_begin(daemon);
}

static void
sleep_until(struct farpoold *daemon, uint64_t next_ns)
{
	uint64_t now_ns = far_clock_now(far_clock_real());
	uint64_t ms = 0;

	if (next_ns > now_ns)
		ms = (next_ns - now_ns + FAR_NS_PER_MS - 1) / FAR_NS_PER_MS;
	uv_update_time(&daemon->loop);
	(void)uv_timer_start(&daemon->timer, on_timer, ms, 0); /* fails once it is being closed */
}

/* Events, then a tick, as long as there is something to do; then sleep, or let signals in. */
static void
drive(struct farpoold *daemon)
{
	uint64_t next_ns = 0;

	for (int turn = 0; turn < TURNS_MAX; turn++) {
		int done = farpoold_rails_poll(&daemon->rails, POLL_BUDGET);
		uint64_t now_ns = far_clock_now(far_clock_real());

		next_ns = far_pool_tick(daemon->pool, now_ns);
		if (!daemon->ready && !daemon->closing && far_pool_is_whole(daemon->pool))
			ready_tell(daemon);
		if (daemon->closing && far_pool_closing_done(daemon->pool)) {
			if (!daemon->is_mapping)
				shutdown_finish(daemon);
			return;
		}
		if (daemon->closing && now_ns - daemon->closing_ns > CLOSING_NS_MAX) {
			far_log_error("links did not close in %d s: ended without them",
				      (int)(CLOSING_NS_MAX / FAR_NS_PER_S));
			_exit(EXIT_FAILURE);
		}
		if (done == 0 && next_ns > now_ns && farpoold_rails_arm(&daemon->rails)) {
			sleep_until(daemon, next_ns);
			return;
		}
	}
	sleep_until(daemon, 0);
}

/* First of all: a signal that comes while the daemon starts waits for the loop, which ends it as it
 * ends any other time, with its socket removed. */
static int
loop_open(struct farpoold *daemon)
{
	static const int signums[] = {SIGTERM, SIGINT};
	int rc;

	rc = uv_loop_init(&daemon->loop);
	if (rc < 0)
		return rc;
	rc = uv_timer_init(&daemon->loop, &daemon->timer);
	FAR_ASSERT(rc == 0); /* fails for a NULL only */
	daemon->timer.data = daemon;
	for (size_t i = 0; i < 2; i++) {
		rc = uv_signal_init(&daemon->loop, &daemon->signals[i]);
		if (rc < 0)
			return rc;
		daemon->signals[i].data = daemon;
		rc = uv_signal_start(&daemon->signals[i], on_signal, signums[i]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int
loop_watch(struct farpoold *daemon)
{
	for (uint32_t i = 0; i < daemon->rails.tp_count; i++) {
		uv_poll_t *poll = &daemon->polls[i];
		int rc = uv_poll_init(&daemon->loop, poll, daemon->rails.tps[i]->fd);

		if (rc < 0)
			return rc;
		daemon->poll_count++;
		poll->data = daemon;
		rc = uv_poll_start(poll, UV_READABLE, on_readable);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- start and end ---- */

static int
pool_start(struct farpoold *daemon, char error[FAR_PARAM_ERROR_BYTES])
{
	const struct far_pages *index = &daemon->memory.index;
	struct far_mem_source source = {
		.base = index->base, .size_bytes = index->size_bytes, .fd = index->fd};
	struct far_pool_rails rails = {.tps = daemon->rails.tps, .count = daemon->rails.tp_count};
	struct far_pages first = {.fd = -1};
	uint64_t seed;
	int rc;

	far_random_bytes(&seed, sizeof(seed));
	far_rng_init(&daemon->rng, seed);
	rc = (daemon->backing.over ? far_pool_reopen : far_pool_open)(
		&daemon->config.pool, &rails, &source, far_clock_real(), &daemon->rng, NULL,
		&daemon->pool);
	if (rc == 0 && daemon->memory.backing != NULL)
		rc = farpoold_backing_own(&daemon->backing, index);
	if (rc < 0) {
		snprintf(error, FAR_PARAM_ERROR_BYTES, "pool: not opened: %s (%s)",
			 far_err_text(rc), far_err_name(rc));
		return rc;
	}
	far_pool_growing_set(daemon->pool, true);
	rc = farpoold_memory_map(&daemon->memory, &first);
	if (rc == 0)
		rc = segment_lend(daemon, &first);
	if (rc < 0) {
		farpoold_memory_explain(&daemon->memory, rc, error);
		far_pages_unmap(&first);
	}
	return rc;
}

/* Reverse order: the pool's registrations go before the pages that they name. */
static void
daemon_close(struct farpoold *daemon)
{
	farpoold_rails_unlisten(&daemon->rails);
	if (daemon->pool != NULL && !far_pool_closing_done(daemon->pool))
		far_pool_shutdown(daemon->pool); /* nobody was connected yet */
	far_pool_close(daemon->pool);
	farpoold_memory_close(&daemon->memory);
	farpoold_rails_close(&daemon->rails);
	farpoold_backing_close(&daemon->backing);
}

static int
loop_explain(int rc, char error[FAR_PARAM_ERROR_BYTES])
{
	if (rc < 0)
		snprintf(error, FAR_PARAM_ERROR_BYTES,
			 "event loop: not opened: %s: raise the limit of open files",
			 uv_strerror(rc));
	return rc;
}

static int
run(struct farpoold *daemon)
{
	const struct far_transport_config like = {
		.spin_ns_max = daemon->config.busy_poll_ns,
		.trust = (enum far_trust)daemon->config.trust,
		.rdma = daemon->config.rdma,
	};
	char error[FAR_PARAM_ERROR_BYTES] = "";
	int rc;

	rc = loop_explain(loop_open(daemon), error);
	if (rc == 0)
		rc = farpoold_rails_open(daemon->config.listen, &like, &daemon->rails, error);
	if (rc == 0 && daemon->config.backing[0] != '\0')
		rc = farpoold_backing_open(&daemon->config, daemon->rails.tp_count,
					   &daemon->backing, error);
	if (rc == 0)
		rc = farpoold_memory_open(&daemon->config, daemon->rails.tp_count,
					  daemon->backing.folder_fd >= 0 ? &daemon->backing : NULL,
					  &daemon->memory, error);
	if (rc == 0)
		rc = pool_start(daemon, error);
	if (rc == 0)
		rc = farpoold_rails_listen(&daemon->rails, far_pool_accept, daemon->pool, error);
	if (rc == 0)
		rc = loop_explain(loop_watch(daemon), error);
	if (rc < 0) {
		far_log_error("%s", error);
		daemon_close(daemon);
		return EXIT_FAILURE; /* a half-made loop ends with the process */
	}
	first_tell(daemon);
	mapping_start(daemon);
	drive(daemon);
	rc = uv_run(&daemon->loop, UV_RUN_DEFAULT);
	FAR_ASSERT(rc == 0); /* every handle is closed */
	rc = uv_loop_close(&daemon->loop);
	FAR_ASSERT(rc == 0);
	daemon_close(daemon);
	return daemon->status;
}

/* ---- command line ---- */

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0, "Read the parameters from this YAML file", 0},
	{"check", 'n', NULL, 0, "Check the configuration and end", 0},
	{"document", 'D', NULL, 0, "Print the reference of all parameters and end", 0},
	{"ready-fd", 'r', "N", 0, "Write a newline to this descriptor once all memory is lent", 0},
	{0},
};

static error_t
parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *arguments = state->input;
	char *end;

	switch (key) {
	case 'c':
		arguments->config = arg;
		return 0;
	case 'n':
		arguments->check = true;
		return 0;
	case 'D':
		arguments->document = true;
		return 0;
	case 'r':
		arguments->ready_fd = (int)strtol(arg, &end, 10);
		if (end == arg || *end != '\0' || arguments->ready_fd < 0)
			argp_error(state, "ready-fd '%s': give the number of an open descriptor",
				   arg);
		return 0;
	case ARGP_KEY_ARG:
		if (arguments->setting_count == SETTINGS_MAX)
			argp_error(state, "more than %d settings: put them in a file",
				   SETTINGS_MAX);
		arguments->settings[arguments->setting_count++] = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[KEY=VALUE...]",
	.doc = "Lends this host's memory to the clients of farpool.\v"
	       "Settings on the command line go over those of the file, for example memory=8GiB. "
	       "SIGTERM gives the memory back and ends; with a backing its contents stay.",
};

int
main(int argc, char **argv)
{
	static struct farpoold daemon = {.backing = {.folder_fd = -1},
					 .memory = {.index = {.fd = -1}}};
	struct arguments arguments = {.ready_fd = -1};
	char error[FAR_PARAM_ERROR_BYTES] = "";
	int rc;

	argp_err_exit_status = 2;
	if (argp_parse(&argp, argc, argv, 0, NULL, &arguments) != 0)
		return EXIT_FAILURE;
	if (arguments.document) {
		far_param_document(farpoold_table(), stdout);
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	if (arguments.config == NULL && arguments.setting_count == 0) {
		fprintf(stderr, "farpoold: no configuration: give --config FILE, or name=, "
				"listen= and memory=\n");
		return EXIT_FAILURE;
	}
	rc = farpoold_config_load(arguments.config, arguments.settings, arguments.setting_count,
				  &daemon.config, error);
	if (rc < 0) {
		bool named = strncmp(error, "farpoold: ", 10) == 0;

		fprintf(stderr, "%s%s\n", named ? "" : "farpoold: ", error);
		return EXIT_FAILURE;
	}
	if (arguments.check) {
		printf("configuration of %s is good\n", daemon.config.pool.name);
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	/* A reader of our output that goes away is no reason to end. */
	signal(SIGPIPE, SIG_IGN);
	daemon.ready_fd = arguments.ready_fd;
	return run(&daemon);
}
