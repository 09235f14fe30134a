/* report.c - the table that a replay ends with, and the same as JSON. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/cli.h"
#include "tools/cli/memory.h"
#include "tools/cli/replay.h"
#include "wire/frame.h"

/* A reason why a block that was asked for was not served. */
struct miss {
	const char *name;
	const char *text;
	uint64_t count;
};

#define MISS_COUNT 9

#define DELTA(field) (result->after.field - result->before.field)

static void
misses_of(const struct far_replay_result *result, struct miss out[MISS_COUNT])
{
	const struct miss all[MISS_COUNT] = {
		{"not_found", "new, or evicted", DELTA(missed_not_found)},
		{"donor_down", "a donor that may hold it was down", DELTA(missed_donor_down)},
		{"stale", "changed while it was read", DELTA(missed_stale)},
		{"checksum", "CRC32C did not match", DELTA(missed_checksum)},
		{"length", "stored with another length", DELTA(missed_length)},
		{"no_memory", "L1 was full of locked blocks", DELTA(missed_no_memory)},
		{"deadline", "not here by the deadline", DELTA(missed_deadline)},
		{"busy", "being written at the time", DELTA(missed_busy)},
		{"error", "transport errors", DELTA(missed_error)},
	};

	memcpy(out, all, sizeof(all));
}

static double
ratio(uint64_t part, uint64_t whole)
{
	return whole == 0 ? 0 : (double)part / (double)whole;
}

/* 1234567 -> "1,234,567" */
static const char *
grouped(uint64_t value, char out[32])
{
	char digits[24];
	int size = snprintf(digits, sizeof(digits), "%" PRIu64, value);
	char *to = out;

	for (int i = 0; i < size; i++) {
		if (i > 0 && (size - i) % 3 == 0)
			*to++ = ',';
		*to++ = digits[i];
	}
	*to = '\0';
	return out;
}

static void
print_count(FILE *out, const char *name, uint64_t count, uint64_t bytes, const char *note)
{
	char number[32];
	char size[32];

	fprintf(out, "  %-24s %12s %14s  %s\n", name, grouped(count, number),
		far_cli_bytes(bytes, size), note);
}

static void
print_head(const struct far_replay_result *result, const struct far_replay_context *context,
	   FILE *out)
{
	const struct far_trace_summary *summary = context->summary;
	char a[32];
	char b[32];
	char c[32];

	fprintf(out, "farpool %s replay, %s\n", far_version(), context->trace->source);
	fprintf(out, "  %s requests, %s block references, %s distinct blocks\n",
		grouped(result->requests, a), grouped(summary->references, b),
		grouped(summary->distinct, c));
	fprintf(out, "  block %s, L1 %s, ", far_cli_bytes(context->config->block_bytes, a),
		far_cli_bytes(context->l1_bytes, b));
	if (context->config->speed == 0)
		fprintf(out, "one request after the other");
	else
		fprintf(out, "by timestamp, %g times real time", context->config->speed);
	fprintf(out, ", verify: slot and epoch of every read%s\n",
		context->verify ? ", CRC32C of every block" : "; CRC32C never");
	far_cli_memory_print(&result->memory, out);
	for (size_t i = 0; i < result->donor_count; i++) {
		const struct far_donor_status *donor = &result->donors_after[i];

		fprintf(out, "  %s: %s, %s\n", donor->name, donor->state, donor->text);
		if (donor->times_down > result->donors_before[i].times_down)
			fprintf(out, "  %s was lost %" PRIu64 " times during the replay\n",
				donor->name,
				donor->times_down - result->donors_before[i].times_down);
	}
	fputc('\n', out);
}

/* Who does the work of a lookup and a read: nobody at the donor, or its process. */
struct manner {
	const char *reads;
	const char *messages;
};

static const struct manner *
manner_of(const struct far_replay_result *result)
{
	static const struct manner one_sided = {"one-sided, into L1", "none per lookup or read"};
	static const struct manner served = {"served by the donor, into L1",
					     "lookups and reads ask the donor besides"};
	static const struct manner both = {"one-sided or served by the donor, into L1",
					   "lookups and reads ask donors that serve besides"};
	size_t count = 0;

	for (size_t i = 0; i < result->donor_count; i++)
		count += result->donors_after[i].one_sided != 0;
	if (count == result->donor_count)
		return &one_sided;
	return count == 0 ? &served : &both;
}

static void
print_blocks(const struct far_replay_result *result, const struct far_replay_context *context,
	     FILE *out)
{
	uint64_t block = context->config->block_bytes;
	uint64_t from_l2 = result->bytes_from_l2 / block;
	uint64_t failed = DELTA(stores_failed_down) + DELTA(stores_failed_full) +
			  DELTA(stores_failed_deadline) + DELTA(stores_failed_other);
	char note[96];

	fprintf(out, "  %-24s %12s %14s\n", "", "blocks", "bytes");
	snprintf(note, sizeof(note), "%.3f %% of references; perfect memory: %.3f %%",
		 100 * ratio(result->hits, result->references),
		 100 * ratio(context->summary->prefix_hits, context->summary->references));
	print_count(out, "prefix hits", result->hits, result->bytes_hit, note);
	print_count(out, "  already in L1", result->hits - from_l2,
		    result->bytes_hit - result->bytes_from_l2, "");
	print_count(out, "  read from donors", from_l2, result->bytes_from_l2,
		    manner_of(result)->reads);
	print_count(out, "put into L1", result->put_blocks, result->put_bytes,
		    "the rest of each request");
	print_count(out, "committed by donors", DELTA(blocks_stored), DELTA(bytes_stored), "");
	print_count(out, "donors had already", DELTA(blocks_had), DELTA(blocks_had) * block, "");
	if (failed + DELTA(stores_dropped) > 0) {
		snprintf(note, sizeof(note),
			 "full %llu, down %llu, late %llu, other %llu, queue %llu",
			 (unsigned long long)DELTA(stores_failed_full),
			 (unsigned long long)DELTA(stores_failed_down),
			 (unsigned long long)DELTA(stores_failed_deadline),
			 (unsigned long long)DELTA(stores_failed_other),
			 (unsigned long long)DELTA(stores_dropped));
		print_count(out, "not stored", failed + DELTA(stores_dropped),
			    (failed + DELTA(stores_dropped)) * block, note);
	}
	if (result->put_no_memory > 0)
		print_count(out, "not put", result->put_no_memory, result->put_no_memory * block,
			    "L1 was full of locked blocks: raise l1.size");
	snprintf(note, sizeof(note), "ahead of need %llu; rounds cut by locks %llu",
		 (unsigned long long)DELTA(l1_evicted_ahead_blocks),
		 (unsigned long long)DELTA(l1_evict_starved));
	print_count(out, "evicted from L1", DELTA(l1_evicted_blocks), DELTA(l1_evicted_bytes),
		    DELTA(l1_evict_rounds) > 0 ? note : "");
	print_count(out, "evicted by donors",
		    far_replay_donor_delta(result, FAR_STATUS_blocks_evicted),
		    far_replay_donor_delta(result, FAR_STATUS_blocks_evicted) * block, "");
	fputc('\n', out);
}

static void
print_latency(const struct far_replay_result *result, FILE *out)
{
	static const double percents[] = {50, 90, 99, 99.9, 100};
	char bytes[32];
	char number[32];

	fprintf(out, "  prefetch, submit to readable, of the %s requests that read from donors\n",
		grouped(result->latency_count, number));
	fprintf(out, "  %12s %12s %12s %12s %12s\n", "p50", "p90", "p99", "p99.9", "max");
	fprintf(out, " ");
	for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++)
		fprintf(out, " %9.1f us",
			(double)far_replay_percentile(result->latency_ns, result->latency_count,
						      percents[i]) /
				1e3);
	fprintf(out, "\n  read bandwidth %s/s while prefetching; %.2f s in all\n\n",
		far_cli_bytes(result->prefetch_ns == 0
				      ? 0
				      : (uint64_t)((double)result->bytes_from_l2 * 1e9 /
						   (double)result->prefetch_ns),
			      bytes),
		(double)result->wall_ns / 1e9);
}

static void
print_cost(const struct far_replay_result *result, FILE *out)
{
	struct miss misses[MISS_COUNT];
	uint64_t donor_cpu = far_replay_donor_delta(result, FAR_STATUS_cpu_ns);
	char a[32];
	char b[32];
	char c[32];

	fprintf(out, "  messages     sent %s (touch notes: %s), received %s; %s\n",
		grouped(DELTA(messages_sent), a), grouped(DELTA(touch_notes), b),
		grouped(DELTA(messages_received), c), manner_of(result)->messages);
	fprintf(out,
		"  CPU seconds  client %.2f (of them %.2f making and checking bytes), donors %.2f",
		(double)result->client_cpu_ns / 1e9, (double)result->data_cpu_ns / 1e9,
		(double)donor_cpu / 1e9);
	if (DELTA(bytes_loaded) > 0)
		fprintf(out, ", %.3f s/GB read with stores",
			far_replay_per_gb(donor_cpu, DELTA(bytes_loaded)));
	fputc('\n', out);
	misses_of(result, misses);
	fprintf(out, "  misses       ");
	for (size_t i = 0; i < MISS_COUNT; i++) {
		if (misses[i].count > 0)
			fprintf(out, "%s %s (%s), ", misses[i].name, grouped(misses[i].count, a),
				misses[i].text);
	}
	fprintf(out, "behind a miss %s\n", grouped(DELTA(behind_gap), a));
	fprintf(out,
		"  rejected     stale reads %" PRIu64 ", torn lines read again %" PRIu64
		", blocks followed %" PRIu64 ", CRC %" PRIu64 "\n",
		DELTA(stale_rejects), DELTA(torn_rereads), DELTA(moved_followed),
		DELTA(crc_rejects));
	if (result->cut_by_deadline + result->flush_late > 0)
		fprintf(out,
			"  late         %" PRIu64 " requests cut by their deadline, %" PRIu64
			" waited too long for stores\n",
			result->cut_by_deadline, result->flush_late);
	fprintf(out, "  wrong bytes  %" PRIu64 "\n", result->wrong_bytes);
}

static int
compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void
sort_latency(const struct far_replay_result *result)
{
	qsort(result->latency_ns, result->latency_count, sizeof(*result->latency_ns), compare_u64);
}

void
far_replay_print(const struct far_replay_result *result, const struct far_replay_context *context,
		 FILE *out)
{
	sort_latency(result);
	print_head(result, context, out);
	print_blocks(result, context, out);
	print_latency(result, out);
	print_cost(result, out);
}

static json_t *
integer(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *
latency_json(const struct far_replay_result *result)
{
	static const struct {
		const char *name;
		double percent;
	} rows[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}, {"max", 100}};
	json_t *out = json_object();

	json_object_set_new(out, "samples", integer(result->latency_count));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		json_object_set_new(
			out, rows[i].name,
			integer(far_replay_percentile(result->latency_ns, result->latency_count,
						      rows[i].percent)));
	return out;
}

static json_t *
donors_json(const struct far_replay_result *result)
{
	json_t *out = json_array();

	for (size_t i = 0; i < result->donor_count; i++) {
		const struct far_donor_status *donor = &result->donors_after[i];
		json_t *row = json_object();

		json_object_set_new(row, "name", json_string(donor->name));
		json_object_set_new(row, "state", json_string(donor->state));
		json_object_set_new(row, "path", json_string(donor->text));
		json_object_set_new(row, "memory_path", json_string(donor->memory_path));
		json_object_set_new(row, "one_sided", json_boolean(donor->one_sided != 0));
		json_object_set_new(
			row, "times_lost",
			integer(donor->times_down - result->donors_before[i].times_down));
		json_array_append_new(out, row);
	}
	return out;
}

static void
set_counts(json_t *out, const struct far_replay_result *result)
{
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{"requests", result->requests},
		{"references", result->references},
		{"hits", result->hits},
		{"bytes_hit", result->bytes_hit},
		{"bytes_from_donors", result->bytes_from_l2},
		{"bytes_loaded", DELTA(bytes_loaded)},
		{"put_blocks", result->put_blocks},
		{"put_present", result->put_present},
		{"put_no_memory", result->put_no_memory},
		{"blocks_committed", DELTA(blocks_stored)},
		{"bytes_committed", DELTA(bytes_stored)},
		{"blocks_had", DELTA(blocks_had)},
		{"stores_failed_full", DELTA(stores_failed_full)},
		{"stores_failed_down", DELTA(stores_failed_down)},
		{"stores_failed_deadline", DELTA(stores_failed_deadline)},
		{"stores_failed_other", DELTA(stores_failed_other)},
		{"stores_dropped", DELTA(stores_dropped)},
		{"stores_not_admitted", DELTA(stores_not_admitted)},
		{"stores_unplaced", DELTA(stores_unplaced)},
		{"stores_let_go", DELTA(stores_let_go)},
		{"copies_placed", DELTA(copies_placed)},
		{"copies_refused", DELTA(copies_refused)},
		{"l1_evicted_blocks", DELTA(l1_evicted_blocks)},
		{"l1_evicted_ahead_blocks", DELTA(l1_evicted_ahead_blocks)},
		{"l1_evict_starved", DELTA(l1_evict_starved)},
		{"donor_evicted_blocks", far_replay_donor_delta(result, FAR_STATUS_blocks_evicted)},
		{"messages_sent", DELTA(messages_sent)},
		{"messages_received", DELTA(messages_received)},
		{"touch_notes", DELTA(touch_notes)},
		{"behind_miss", DELTA(behind_gap)},
		{"stale_rejects", DELTA(stale_rejects)},
		{"torn_rereads", DELTA(torn_rereads)},
		{"moved_followed", DELTA(moved_followed)},
		{"crc_rejects", DELTA(crc_rejects)},
		{"cut_by_deadline", result->cut_by_deadline},
		{"donors_lost", DELTA(donors_lost)},
		{"wall_ns", result->wall_ns},
		{"prefetch_ns", result->prefetch_ns},
		{"client_cpu_ns", result->client_cpu_ns},
		{"data_cpu_ns", result->data_cpu_ns},
		{"donor_cpu_ns", far_replay_donor_delta(result, FAR_STATUS_cpu_ns)},
		{"wrong_blocks", result->wrong_blocks},
		{"wrong_bytes", result->wrong_bytes},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		json_object_set_new(out, rows[i].name, integer(rows[i].value));
}

void
far_replay_print_json(const struct far_replay_result *result,
		      const struct far_replay_context *context, FILE *out)
{
	struct miss misses[MISS_COUNT];
	json_t *reasons = json_object();
	json_t *root = json_object();

	sort_latency(result);
	json_object_set_new(root, "version", json_string(far_version()));
	json_object_set_new(root, "trace", json_string(context->trace->source));
	json_object_set_new(root, "block_bytes", integer(context->config->block_bytes));
	json_object_set_new(root, "l1_bytes", integer(context->l1_bytes));
	json_object_set_new(root, "speed", json_real(context->config->speed));
	json_object_set_new(root, "verify", json_string(context->verify ? "always" : "never"));
	json_object_set_new(root, "distinct_blocks", integer(context->summary->distinct));
	json_object_set_new(root, "perfect_hits", integer(context->summary->prefix_hits));
	json_object_set_new(root, "hit_ratio", json_real(ratio(result->hits, result->references)));
	set_counts(root, result);
	misses_of(result, misses);
	for (size_t i = 0; i < MISS_COUNT; i++)
		json_object_set_new(reasons, misses[i].name, integer(misses[i].count));
	json_object_set_new(root, "misses", reasons);
	json_object_set_new(root, "prefetch_latency_ns", latency_json(result));
	/* Of everything that they did, stores included; null: nothing was read. */
	json_object_set_new(root, "donor_cpu_s_per_gb_read",
			    DELTA(bytes_loaded) == 0
				    ? json_null()
				    : json_real(far_replay_per_gb(
					      far_replay_donor_delta(result, FAR_STATUS_cpu_ns),
					      DELTA(bytes_loaded))));
	json_object_set_new(root, "memory", far_cli_memory_json(&result->memory));
	json_object_set_new(root, "donors", donors_json(result));
	json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	fputc('\n', out);
	json_decref(root);
}
