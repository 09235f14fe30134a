/* replay.c - the loop: submit in order of the trace, check what arrived, store what was missing. */
#include "tools/cli/replay.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "tools/cli/fill.h"
#include "wire/frame.h"

#define STATUS_NS        (5 * FAR_NS_PER_S)
#define PROGRESS_NS      (500 * FAR_NS_PER_MS)
#define PROGRESS_NS_PIPE (5 * FAR_NS_PER_S)

/* A request whose prefetch is on its way. */
struct flight {
	struct far_prefetch_handle *handle; /* NULL: free */
	const struct far_trace_request *request;
};

struct replay {
	struct far_client *client;
	const struct far_trace *trace;
	const struct far_replay_config *config;
	struct far_replay_result *result;
	struct far_key *keys; /* of one request */
	void *scratch;        /* NULL: L1 is the host's; else a block is made and checked in here */
	struct flight flights[FAR_REPLAY_LIVE_MAX];
	size_t live_count;
	uint64_t start_ns;
	uint64_t progress_at_ns;
	char *error;
};

static void
keys_of(struct replay *replay, const struct far_trace_request *request)
{
	for (uint32_t i = 0; i < request->count; i++)
		far_fill_key(replay->trace->ids[request->first + i], replay->config->block_bytes,
			     &replay->keys[i]);
}

/* How many bytes of a block are not those of its key, wherever L1 lies. */
static size_t
check_block(struct replay *replay, const struct far_key *key, const void *data)
{
	uint32_t size_bytes = replay->config->block_bytes;

	if (replay->scratch == NULL)
		return far_fill_check(key, data, size_bytes);
	if (far_memory_read(replay->client, replay->scratch, data, size_bytes) < 0)
		return size_bytes; /* nobody can say that they are right */
	return far_fill_check(key, replay->scratch, size_bytes);
}

static int
fill_block(struct replay *replay, const struct far_key *key, void *buffer)
{
	uint32_t size_bytes = replay->config->block_bytes;

	if (replay->scratch == NULL) {
		far_fill_block(key, buffer, size_bytes);
		return 0;
	}
	far_fill_block(key, replay->scratch, size_bytes);
	return far_memory_write(replay->client, buffer, replay->scratch, size_bytes);
}

static void
check_prefix(struct replay *replay, struct far_prefetch_handle *handle, uint64_t prefix)
{
	struct far_replay_result *result = replay->result;
	uint64_t cpu_ns = far_clock_thread_cpu_ns();

	for (size_t i = 0; i < prefix; i++) {
		uint32_t size_bytes = 0;
		const void *data = NULL;
		size_t wrong;
		int rc = far_prefetch_block(handle, i, &data, &size_bytes);

		FAR_ASSERT(rc == 0); /* a reported prefix is held */
		wrong = size_bytes != replay->config->block_bytes
				? replay->config->block_bytes
				: check_block(replay, &replay->keys[i], data);
		result->wrong_bytes += wrong;
		result->wrong_blocks += wrong > 0;
		result->bytes_hit += size_bytes;
	}
	result->data_cpu_ns += far_clock_thread_cpu_ns() - cpu_ns;
}

/* One block into L1, from where it goes to the donors. A full L1 may be full of stores on their way:
 * wait for them once. */
static int
put_block(struct replay *replay, const struct far_key *key)
{
	struct far_replay_result *result = replay->result;
	struct far_block *block;
	uint64_t cpu_ns;
	int rc = far_reserve(replay->client, key, replay->config->block_bytes, &block);

	if (rc == -ENOMEM) {
		(void)far_flush(replay->client, far_now_ns() + replay->config->store_ns, NULL);
		rc = far_reserve(replay->client, key, replay->config->block_bytes, &block);
	}
	if (rc == -EEXIST) {
		result->put_present++;
		return 0;
	}
	if (rc == -ENOMEM) {
		result->put_no_memory++;
		return 0;
	}
	if (rc < 0)
		return rc;
	cpu_ns = far_clock_thread_cpu_ns();
	rc = fill_block(replay, key, far_block_buffer(block));
	result->data_cpu_ns += far_clock_thread_cpu_ns() - cpu_ns;
	if (rc < 0) {
		(void)far_abort(block);
		return rc;
	}
	result->put_blocks++;
	result->put_bytes += replay->config->block_bytes;
	return far_commit(block);
}

static int
put_rest(struct replay *replay, const struct far_trace_request *request, uint64_t prefix)
{
	for (uint64_t i = prefix; i < request->count; i++) {
		int rc = put_block(replay, &replay->keys[i]);

		if (rc < 0)
			return rc;
	}
	/* The next request looks up when these are committed: so hits are exact. */
	if (replay->config->speed == 0 && prefix < request->count &&
	    far_flush(replay->client, far_now_ns() + replay->config->store_ns, NULL) < 0)
		replay->result->flush_late++;
	return 0;
}

static int
flight_end(struct replay *replay, struct flight *flight)
{
	struct far_prefetch_status status = {.size_bytes = sizeof(status)};
	struct far_replay_result *result = replay->result;

	far_prefetch_poll(flight->handle, &status);
	keys_of(replay, flight->request);
	check_prefix(replay, flight->handle, status.prefix_count);
	far_prefetch_release(flight->handle);
	flight->handle = NULL;
	replay->live_count--;
	result->requests++;
	result->references += flight->request->count;
	result->hits += status.prefix_count;
	result->hits_l1 += status.l1_prefix_hit_count < status.prefix_count
				   ? status.l1_prefix_hit_count
				   : status.prefix_count;
	result->bytes_from_l2 += status.l2_bytes;
	result->cut_by_deadline += status.rc == -ETIMEDOUT;
	if (status.l2_bytes > 0) {
		result->latency_ns[result->latency_count++] = status.latency_ns;
		result->prefetch_ns += status.latency_ns;
	}
	return put_rest(replay, flight->request, status.prefix_count);
}

static int
flight_start(struct replay *replay, const struct far_trace_request *request, uint32_t flags)
{
	struct far_prefetch_options options = {
		.size_bytes = sizeof(options),
		.flags = flags,
		.deadline_ns = far_now_ns() + replay->config->deadline_ns,
	};

	for (size_t i = 0; i < FAR_REPLAY_LIVE_MAX; i++) {
		struct flight *flight = &replay->flights[i];
		int rc;

		if (flight->handle != NULL)
			continue;
		keys_of(replay, request);
		rc = far_prefetch(replay->client, replay->keys, request->count, &options,
				  &flight->handle);
		if (rc == 0) {
			flight->request = request;
			replay->live_count++;
		}
		return rc;
	}
	FAR_ASSERT(false); /* the caller waits while all are live */
	return -E2BIG;
}

/* Ends what has arrived; waits for something until @until_ns if nothing has. */
static int
flights_serve(struct replay *replay, uint64_t until_ns)
{
	struct pollfd fds[FAR_REPLAY_LIVE_MAX];
	struct timespec timeout;
	uint64_t now_ns;
	nfds_t count = 0;
	bool ended = false;

	for (size_t i = 0; i < FAR_REPLAY_LIVE_MAX; i++) {
		struct far_prefetch_status status = {.size_bytes = sizeof(status)};
		struct flight *flight = &replay->flights[i];
		int rc;

		if (flight->handle == NULL)
			continue;
		far_prefetch_poll(flight->handle, &status);
		if (status.ended == 0) {
			fds[count++] = (struct pollfd){
				.fd = far_prefetch_event_fd(flight->handle),
				.events = POLLIN,
			};
			continue;
		}
		ended = true;
		rc = flight_end(replay, flight);
		if (rc < 0)
			return rc;
	}
	now_ns = far_now_ns();
	if (ended || until_ns <= now_ns)
		return 0;
	timeout.tv_sec = (time_t)((until_ns - now_ns) / FAR_NS_PER_S);
	timeout.tv_nsec = (long)((until_ns - now_ns) % FAR_NS_PER_S);
	(void)ppoll(fds, count, &timeout, NULL);
	return 0;
}

static void
progress(struct replay *replay, size_t done)
{
	const struct far_replay_result *result = replay->result;
	bool terminal = isatty(STDERR_FILENO) == 1;
	uint64_t now_ns = far_now_ns();
	bool last = done == replay->trace->request_count;

	if (!replay->config->progress || (!last && now_ns < replay->progress_at_ns))
		return;
	fprintf(stderr, "%sreplay: %zu of %zu requests, %llu hits of %llu blocks, %.1f s%s",
		terminal ? "\r" : "", done, replay->trace->request_count,
		(unsigned long long)result->hits, (unsigned long long)result->references,
		(double)(now_ns - replay->start_ns) / 1e9, !terminal || last ? "\n" : "   ");
	fflush(stderr);
	replay->progress_at_ns = now_ns + (terminal ? PROGRESS_NS : PROGRESS_NS_PIPE);
}

/* One request after the other. */
static int
run_in_turn(struct replay *replay)
{
	for (size_t i = 0; i < replay->trace->request_count; i++) {
		struct flight *flight = &replay->flights[0];
		int rc = flight_start(replay, &replay->trace->requests[i],
				      FAR_PREFETCH_WAIT_FOLLOWS);

		if (rc < 0)
			return rc;
		/* It ends by itself at its deadline; the slack is for a thread that is starved. */
		rc = far_prefetch_wait(
			flight->handle,
			far_now_ns() + replay->config->deadline_ns + 10 * FAR_NS_PER_S, NULL);
		if (rc == 0)
			rc = flight_end(replay, flight);
		if (rc < 0)
			return rc;
		progress(replay, i + 1);
	}
	return 0;
}

/* Each at its time, divided by the speed; late ones are not dropped. */
static int
run_by_time(struct replay *replay)
{
	size_t next = 0;

	while (next < replay->trace->request_count || replay->live_count > 0) {
		uint64_t at_ns = far_now_ns() + FAR_NS_PER_S;
		int rc = 0;

		if (next < replay->trace->request_count) {
			const struct far_trace_request *request = &replay->trace->requests[next];

			at_ns = replay->start_ns +
				(uint64_t)((double)request->at_ns / replay->config->speed);
			if (at_ns <= far_now_ns() && replay->live_count < FAR_REPLAY_LIVE_MAX) {
				rc = flight_start(replay, request, 0);
				next++;
			}
		}
		if (rc == 0)
			rc = flights_serve(replay, replay->live_count < FAR_REPLAY_LIVE_MAX
							   ? at_ns
							   : far_now_ns() + FAR_NS_PER_S);
		if (rc < 0)
			return rc;
		progress(replay, replay->result->requests);
	}
	return 0;
}

static size_t
donors_look(struct far_client *client, struct far_donor_status *donors, size_t max)
{
	size_t count = 0;

	while (count < max) {
		int rc;

		donors[count].size_bytes = sizeof(donors[count]);
		rc = far_donor_status_get(client, count, far_now_ns() + STATUS_NS, &donors[count]);
		if (rc == -ENOENT)
			break;
		/* One that cannot be asked is still on the list. */
		count++;
	}
	return count;
}

static int
result_init(struct replay *replay)
{
	struct far_replay_result *result = replay->result;
	int rc;

	memset(result, 0, sizeof(*result));
	result->latency_ns =
		far_zalloc_array(replay->trace->request_count, sizeof(*result->latency_ns));
	result->donors_before = far_zalloc_array(64, sizeof(*result->donors_before));
	result->donors_after = far_zalloc_array(64, sizeof(*result->donors_after));
	replay->keys = far_zalloc_array(FAR_TRACE_IDS_MAX, sizeof(*replay->keys));
	result->memory.size_bytes = sizeof(result->memory);
	rc = far_client_memory_get(replay->client, &result->memory);
	if (rc < 0)
		return rc;
	if (strcmp(result->memory.kind, "host") != 0) {
		replay->scratch = far_zalloc(replay->config->block_bytes);
		if (replay->scratch == NULL)
			return -ENOMEM;
	}
	if (result->latency_ns == NULL || result->donors_before == NULL ||
	    result->donors_after == NULL || replay->keys == NULL)
		return -ENOMEM;
	return 0;
}

int
far_replay_run(struct far_client *client, const struct far_trace *trace,
	       const struct far_replay_config *config, struct far_replay_result *out,
	       char error[FAR_TRACE_ERROR_BYTES])
{
	struct replay replay = {
		.client = client,
		.trace = trace,
		.config = config,
		.result = out,
		.error = error,
	};
	uint64_t cpu_ns;
	int rc = result_init(&replay);

	if (rc == 0) {
		out->before.size_bytes = sizeof(out->before);
		out->after.size_bytes = sizeof(out->after);
		out->donor_count = donors_look(client, out->donors_before, 64);
		far_stats_get(client, &out->before);
		cpu_ns = far_clock_cpu_ns();
		replay.start_ns = far_now_ns();
		rc = config->speed == 0 ? run_in_turn(&replay) : run_by_time(&replay);
		out->wall_ns = far_now_ns() - replay.start_ns;
		out->client_cpu_ns = far_clock_cpu_ns() - cpu_ns;
		(void)far_flush(client, far_now_ns() + config->store_ns, NULL);
		far_stats_get(client, &out->after);
		(void)donors_look(client, out->donors_after, out->donor_count);
		(void)far_client_memory_get(client, &out->memory);
	}
	far_free(replay.scratch);
	far_free(replay.keys);
	if (rc < 0)
		snprintf(error, FAR_TRACE_ERROR_BYTES, "request %llu: %s",
			 (unsigned long long)out->requests + 1, far_strerror(rc));
	return rc;
}
