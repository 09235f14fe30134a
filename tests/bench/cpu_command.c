/* cpu_command.c - a row of farpool-bench-cpu as a mover: the program is run once a turn. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "tests/bench/process.h"

#define RUN_NS     (60 * FAR_NS_PER_S)
#define JSON_BYTES 16384

struct bench_mover {
	const struct bench_plan *plan; /* borrowed */
	char *why;                     /* borrowed */
	const char *row;
};

/* The row's own reason, if it has one, goes to @why. */
static int
answer_read(struct bench_mover *mover, const char *text, struct bench_pass *out)
{
	json_t *root = json_loads(text, 0, NULL), *row;
	size_t idx;
	int rc = -EPROTO;

	json_array_foreach(json_object_get(root, "rows"), idx, row)
	{
		const char *name = json_string_value(json_object_get(row, "name"));
		const char *why = json_string_value(json_object_get(row, "not_measured"));
		double us = json_number_value(json_object_get(row, "us_p50"));

		if (name == NULL || why == NULL || strcmp(name, mover->row) != 0)
			continue;
		if (why[0] != '\0')
			snprintf(mover->why, BENCH_TEXT_BYTES, "%.190s", why);
		else if (us > 0)
			rc = 0;
		out->cpu_ns = (uint64_t)(us * 1e3);
	}
	json_decref(root);
	return rc;
}

static int
cpu_pass(struct bench_mover *mover, uint64_t keys, struct bench_pass *out)
{
	const char *argv[] = {FAR_BENCH_CPU, "--rounds",   "1",  "--row",  mover->row, "--json",
			      "-",           "--farpoold", NULL, "--keys", NULL,       NULL};
	uint64_t until_ns = far_clock_now(far_clock_real()) + RUN_NS;
	struct bench_process process;
	char text[JSON_BYTES], keys_text[24];
	int rc;

	snprintf(keys_text, sizeof(keys_text), "%llu", (unsigned long long)keys);
	argv[8] = mover->plan->farpoold;
	argv[10] = keys_text;
	bench_pass_begin(out, 0);
	rc = bench_process_start(&process, argv, NULL, true);
	if (rc == 0)
		rc = bench_process_read(&process, text, sizeof(text), until_ns);
	if (rc < 0) {
		bench_process_kill(&process);
		return rc;
	}
	(void)bench_process_wait(&process, until_ns, NULL);
	bench_pass_end(out, 0, 0);
	out->count = 1;
	return answer_read(mover, text, out);
}

static int
cpu_open(const struct bench_plan *plan, const char *row, char *why, struct bench_mover **out)
{
	struct bench_mover *mover = far_zalloc(sizeof(*mover));

	why[0] = '\0';
	if (mover == NULL)
		return -ENOMEM;
	*mover = (struct bench_mover){.plan = plan, .why = why, .row = row};
	*out = mover;
	return 0;
}

static int
room_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return cpu_open(plan, "instant-room", why, out);
}

static int
instant_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return cpu_open(plan, "instant", why, out);
}

static int
memory_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return cpu_open(plan, "memory", why, out);
}

static int
donor_open(const struct bench_plan *plan, char *why, struct bench_mover **out)
{
	return cpu_open(plan, "donor", why, out);
}

static void
cpu_close(struct bench_mover *mover)
{
	far_free(mover);
}

#define OPS(name_, text_, open_)                                                                   \
	{                                                                                          \
		.name = (name_), .text = (text_), .role = BENCH_SUBJECT, .required = true,         \
		.open = (open_), .pass = cpu_pass, .close = cpu_close,                             \
	}

const struct bench_mover_ops bench_cpu_room = OPS(
	"room",
	"./dev bench cpu: an adapter that moves nothing; L1 has room, as evicting ahead keeps it",
	room_open);
const struct bench_mover_ops bench_cpu_instant =
	OPS("instant", "the same, L1 full: it evicts for each block", instant_open);
const struct bench_mover_ops bench_cpu_memory =
	OPS("memory", "the same: the memory adapter, blocks of 64 bytes", memory_open);
const struct bench_mover_ops bench_cpu_donor =
	OPS("donor", "the same: a farpoold over shm, blocks of 64 bytes, validated", donor_open);
