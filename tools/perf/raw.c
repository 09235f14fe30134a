/* raw.c - READs and WRITEs over links of a transport, to a process that only serves. */
#include "tools/perf/raw.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"

#define LIST_BYTES    ((uint64_t)1 << 20) /* of a list whose length was not chosen */
#define LIST_OPS_MAX  64
#define WARM_UP_SHARE 10 /* of the operations that are counted, a tenth goes before them */
#define SAMPLES_MAX   10000000U
#define ALL_SIZE_MIN  2U
#define RESULTS_MAX   32
#define PROGRESS_NS   (200 * FAR_NS_PER_MS)

/* A wait that was too long has a next step of its own here. */
static const char *
why(int rc)
{
	return rc == -ETIMEDOUT ? "nothing came back in the --timeout; next: see whether the "
				  "server's process runs, or give it more time"
				: far_err_text(rc);
}

/* ---- a pass ---- */

/* Links begin at different places; the pass that counts goes on where the one before it ended, so that
 * what it reads is not in the cache. */
static void
links_place(struct raw *raw, bool first)
{
	uint64_t places = raw->place.set_bytes / raw->size_bytes;

	for (uint32_t i = 0; i < raw->link_count; i++) {
		struct raw_link *link = &raw->links[i];

		if (first)
			link->at = i * places / raw->link_count;
		link->start = link->at;
	}
}

/* The next list of a link: neighbours in the set, from its end back to its start. */
static int
list_post(struct raw *raw, struct raw_link *link)
{
	const struct perf_options *options = raw->options;
	struct far_op ops[LIST_OPS_MAX];
	struct far_piece pieces[LIST_OPS_MAX];
	uint64_t at = link->at, places = raw->place.set_bytes / raw->size_bytes;
	int rc;

	for (uint64_t i = 0; i < raw->list_ops; i++) {
		uint64_t offset = options->hot ? 0 : at % places * raw->size_bytes;

		at++;
		pieces[i] = (struct far_piece){
			.addr = (char *)raw->pages.base + offset,
			.size_bytes = (uint32_t)raw->size_bytes,
			.mem = raw->mem,
		};
		ops[i] = (struct far_op){
			.kind = options->test == PERF_WRITE ? FAR_OP_WRITE : FAR_OP_READ,
			.remote_addr = link->remote.addr + offset,
			.rkey = link->remote.rkey,
			.pieces = &pieces[i],
			.piece_count = 1,
			.token = i + 1 == raw->list_ops ? raw->lists_posted + 1 : 0,
		};
	}
	if (raw->posted_ns != NULL && raw->lists_posted < raw->lists_kept)
		raw->posted_ns[raw->lists_posted] = raw_now();
	rc = far_transport_post(link->link, ops, (int)raw->list_ops);
	if (rc < 0)
		return rc;
	link->at = at;
	link->posted++;
	raw->lists_posted++;
	return 0;
}

/* Keeps every link as full as it may be. */
static int
links_fill(struct raw *raw, uint64_t lists)
{
	uint64_t depth = raw->options->test == PERF_LAT ? 1 : raw->options->depth / raw->list_ops;

	for (uint32_t i = 0; i < raw->link_count; i++) {
		struct raw_link *link = &raw->links[i];

		while (!link->blocked && link->posted - link->done < depth &&
		       raw->lists_posted < lists) {
			int rc = list_post(raw, link);

			if (rc == -EAGAIN)
				link->blocked = true;
			else if (rc < 0)
				return rc;
		}
	}
	return 0;
}

/* How far it is, a few times a second. */
static void
progress(struct raw *raw, uint64_t lists, uint64_t until_ns)
{
	uint64_t now_ns = raw_now();

	if (now_ns < raw->shown_ns + PROGRESS_NS)
		return;
	raw->shown_ns = now_ns;
	if (until_ns != FAR_TIME_NEVER)
		perf_progress(raw->options->quiet, "%llu bytes, %.0f s to go ...",
			      (unsigned long long)raw->size_bytes,
			      until_ns > now_ns ? (double)(until_ns - now_ns) / 1e9 : 0);
	else
		perf_progress(raw->options->quiet, "%llu bytes, %.0f %% ...",
			      (unsigned long long)raw->size_bytes,
			      100 * (double)raw->lists_done / (double)lists);
}

/* Lists until so many have ended, or until a moment; whichever is first. */
static int
lists_run(struct raw *raw, uint64_t lists, uint64_t until_ns)
{
	uint64_t done = 0, stuck_ns = raw_now() + raw->options->timeout_ns;

	raw->lists_posted = raw->lists_done = 0;
	for (uint32_t i = 0; i < raw->link_count; i++)
		raw->links[i].posted = raw->links[i].done = 0;
	while (raw->rc == 0 && raw->lists_done < lists) {
		int rc = links_fill(raw, lists);

		if (rc < 0)
			return rc;
		perf_raw_turn(raw->tp, raw->options->events);
		progress(raw, lists, until_ns);
		if (raw->lists_done != done) {
			done = raw->lists_done;
			stuck_ns = raw_now() + raw->options->timeout_ns;
		} else if (raw_now() >= stuck_ns) {
			return -ETIMEDOUT;
		}
		/* What is in flight then still counts. */
		if (until_ns != FAR_TIME_NEVER && raw_now() >= until_ns)
			lists = raw->lists_posted;
	}
	return raw->rc;
}

static uint64_t
list_ops(const struct perf_options *options, uint64_t size_bytes)
{
	uint64_t ops = options->post_list;

	if (options->test == PERF_LAT)
		return 1;
	if (ops == 0) {
		ops = size_bytes < LIST_BYTES ? LIST_BYTES / size_bytes : 1;
		if (ops > options->depth / 4)
			ops = options->depth / 4;
	}
	if (ops > LIST_OPS_MAX)
		ops = LIST_OPS_MAX;
	return ops > 0 ? ops : 1;
}

/* READs whose bytes are not what the server has there; the first and the last whole word of each. */
static uint64_t
wrong_count(const struct raw *raw)
{
	uint64_t places = raw->options->hot ? 1 : raw->place.set_bytes / raw->size_bytes, wrong = 0;
	const uint64_t *words = raw->pages.base;

	if (raw->options->test == PERF_WRITE || raw->size_bytes % sizeof(*words) != 0)
		return 0;
	for (uint32_t i = 0; i < raw->link_count; i++) {
		uint64_t start = raw->links[i].start, end = raw->links[i].at;

		for (uint64_t at = start; at < end && at < start + places; at++) {
			uint64_t first = at % places * raw->size_bytes / sizeof(*words);
			uint64_t last = first + raw->size_bytes / sizeof(*words) - 1;

			if (words[first] != perf_raw_word(first) ||
			    words[last] != perf_raw_word(last))
				wrong++;
		}
	}
	return wrong;
}

static void
result_fill(struct raw *raw, uint64_t start_ns, struct perf_result *result)
{
	uint64_t kept = raw->lists_done < raw->lists_kept ? raw->lists_done : raw->lists_kept;

	result->iterations = raw->lists_done * raw->list_ops;
	result->ns = raw_now() - start_ns;
	result->wrong = wrong_count(raw);
	if (raw->options->test != PERF_LAT) {
		/* Of more than one link completions are not in the order of posts. */
		if (raw->lists_done <= raw->lists_kept && raw->link_count == 1)
			result->peak_bytes_per_s = perf_peak(raw->posted_ns, raw->done_ns, kept,
							     raw->list_ops * raw->size_bytes);
		return;
	}
	for (uint64_t i = 0; i < kept; i++)
		raw->done_ns[i] -= raw->posted_ns[i];
	result->samples = raw->done_ns;
	result->sample_count = kept;
	raw->done_ns = NULL;
	perf_samples_sort(result->samples, kept);
}

static int
times_make(struct raw *raw, uint64_t lists)
{
	raw->lists_kept = lists < SAMPLES_MAX ? lists : SAMPLES_MAX;
	raw->posted_ns = far_zalloc_array(raw->lists_kept, sizeof(*raw->posted_ns));
	raw->done_ns = far_zalloc_array(raw->lists_kept, sizeof(*raw->done_ns));
	return raw->posted_ns == NULL || raw->done_ns == NULL ? -ENOMEM : 0;
}

static void
times_free(struct raw *raw)
{
	far_free(raw->posted_ns);
	far_free(raw->done_ns);
	raw->posted_ns = raw->done_ns = NULL;
	raw->lists_kept = 0;
}

static int
size_run(struct raw *raw, uint64_t size_bytes, struct perf_result *result)
{
	const struct perf_options *options = raw->options;
	uint64_t lists, warm, start_ns, cpu_ns = 0, peer_ns = 0;
	int rc;

	*result = (struct perf_result){.size_bytes = size_bytes};
	raw->size_bytes = size_bytes;
	raw->list_ops = list_ops(options, size_bytes);
	lists = (options->iterations * raw->link_count + raw->list_ops - 1) / raw->list_ops;
	warm = lists / WARM_UP_SHARE + 1;
	if (options->duration_ns != 0)
		lists = SAMPLES_MAX;
	links_place(raw, true);
	rc = lists_run(raw, warm, raw_now() + FAR_NS_PER_S);
	if (rc == 0)
		rc = times_make(raw,
				options->duration_ns != 0 && options->test != PERF_LAT ? 1 : lists);
	links_place(raw, false);
	if (rc == 0)
		rc = raw_peer_cpu(raw, &peer_ns);
	if (rc < 0)
		return rc;
	cpu_ns = far_clock_cpu_ns();
	start_ns = raw_now();
	rc = lists_run(raw, lists,
		       options->duration_ns != 0 ? start_ns + options->duration_ns
						 : FAR_TIME_NEVER);
	if (rc < 0)
		return rc;
	result->cpu_ns = far_clock_cpu_ns() - cpu_ns;
	result_fill(raw, start_ns, result);
	rc = raw_peer_cpu(raw, &result->peer_cpu_ns);
	result->peer_cpu_ns -= peer_ns;
	return rc;
}

/* ---- the command ---- */

static int
sizes_run(struct raw *raw, struct perf_result *results, size_t *count_out)
{
	const struct perf_options *options = raw->options;
	uint64_t size = options->all_sizes ? ALL_SIZE_MIN : options->size_bytes;
	uint64_t last = options->all_sizes ? RAW_ALL_SIZE_MAX : size;

	if (last > raw->place.set_bytes)
		return perf_fail(
			"-s %llu is more than the %llu bytes that both ends have; next: --set on "
			"both",
			(unsigned long long)last, (unsigned long long)raw->place.set_bytes);
	if (raw->tp->caps.op_bytes_max != 0 && last > raw->tp->caps.op_bytes_max)
		return perf_fail("%s moves at most %llu bytes in one operation; next: a smaller -s",
				 raw->place.transport,
				 (unsigned long long)raw->tp->caps.op_bytes_max);
	for (; size <= last; size *= 2) {
		struct perf_result *result = &results[*count_out];
		int rc = size_run(raw, size, result);

		times_free(raw);
		if (rc < 0)
			return perf_fail("%s, %llu bytes: %s", raw->place.address,
					 (unsigned long long)size, why(rc));
		(*count_out)++;
		perf_report_row(options, result);
		if (result->wrong > 0)
			return perf_fail("%llu READs had bytes that the server does not have",
					 (unsigned long long)result->wrong);
	}
	return 0;
}

int
perf_raw(enum perf_test test, int argc, char **argv)
{
	struct perf_result results[RESULTS_MAX] = {{0}};
	struct perf_options options;
	struct raw *raw = far_zalloc(sizeof(*raw));
	size_t count = 0;
	int status;

	perf_options_parse(test, argc, argv, &options);
	if (raw == NULL)
		return perf_fail("no memory");
	raw->options = &options;
	raw->pages.fd = -1;
	perf_place_read(&raw->place);
	status = raw_open(raw);
	if (status == 0) {
		perf_report_head(&options, &raw->place);
		status = sizes_run(raw, results, &count);
	}
	if (count > 0 && perf_report_end(&options, &raw->place, results, count) != 0)
		status = 1;
	for (size_t i = 0; i < count; i++)
		perf_result_fini(&results[i]);
	raw_close(raw);
	return status;
}
