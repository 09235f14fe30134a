/* aims_json.c - the same for programs: every round of what each row was made from. */
#include <jansson.h>

#include "farpool/farpool.h"
#include "tests/bench/aims.h"
#include "tests/bench/options.h"

static const char *
kind_name(enum aims_kind kind)
{
	static const char *const names[] = {
		[AIMS_RATIO] = "ratio, at least",
		[AIMS_AT_LEAST] = "at least",
		[AIMS_AT_MOST] = "at most",
		[AIMS_ABOVE_AT_MOST] = "difference, at most",
	};

	return names[kind];
}

static json_t *
run_json(const struct aims *aims, const struct aims_row *row, const struct aims_run *run,
	 const struct bench_spread *spread)
{
	json_t *rounds = json_array();
	json_t *object;

	for (uint32_t i = 0; i < aims->plan.round_count; i++)
		json_array_append_new(rounds, json_real(aims_quantity_of(row->quantity, run, i)));
	object = json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:o}", "name", run->ops->name, "text",
			   run->ops->text, "size", (json_int_t)run->size, "median", spread->median,
			   "min", spread->min, "max", spread->max, "rounds", rounds);
	if (run->note[0] != '\0')
		json_object_set_new(object, "note", json_string(run->note));
	if (!run->idle && run->pass[0].bytes > 0) {
		double cpu[AIMS_ROUNDS_MAX];

		for (uint32_t i = 0; i < aims->plan.round_count; i++)
			cpu[i] = (double)run->pass[i].cpu_ns / (double)run->pass[i].bytes;
		json_object_set_new(object, "cpu_s_per_gb",
				    json_real(bench_spread_of(cpu, aims->plan.round_count).median));
		for (uint32_t i = 0; i < aims->plan.round_count; i++)
			cpu[i] = (double)run->pass[i].peer_cpu_ns / (double)run->pass[i].bytes;
		json_object_set_new(object, "peer_cpu_s_per_gb",
				    json_real(bench_spread_of(cpu, aims->plan.round_count).median));
	}
	return object;
}

/* All yardsticks, also those that were not the best. */
static json_t *
than_json(const struct aims *aims, const struct aims_row *row)
{
	json_t *array = json_array();

	for (int t = 0; t < AIMS_THAN_MAX && row->than[t] != NULL; t++) {
		const struct aims_run *run = aims_run_find(
			aims, row->than[t], row->than_size != 0 ? row->than_size : row->size,
			row->quantity == AIMS_IDLE_US);
		double values[AIMS_ROUNDS_MAX];
		struct bench_spread spread;

		if (run == NULL || run->why[0] != '\0')
			continue;
		for (uint32_t i = 0; i < aims->plan.round_count; i++)
			values[i] = aims_quantity_of(row->quantity, run, i);
		spread = bench_spread_of(values, aims->plan.round_count);
		json_array_append_new(array, run_json(aims, row, run, &spread));
	}
	return array;
}

static json_t *
row_json(const struct aims *aims, const struct aims_row *row)
{
	struct aims_value value;
	json_t *object;

	aims_value_get(aims, row, &value);
	object = json_pack("{s:s, s:s, s:s, s:f, s:s}", "name", row->name, "text",
			   aims_row_text(row), "kind", kind_name(row->kind), "aim", row->aim,
			   "unit", aims_unit(row->quantity));
	if (!value.known) {
		json_object_set_new(object, "not_measured", json_string(value.why));
		return object;
	}
	json_object_set_new(object, "value", json_real(value.value));
	json_object_set_new(object, "value_min", json_real(value.min));
	json_object_set_new(object, "value_max", json_real(value.max));
	json_object_set_new(object, "below_aim", json_boolean(!value.met));
	json_object_set_new(object, "of", run_json(aims, row, value.of_run, &value.of));
	if (value.than_run != NULL) {
		json_object_set_new(object, "best_yardstick",
				    json_string(value.than_run->ops->name));
		json_object_set_new(object, "yardsticks", than_json(aims, row));
	}
	return object;
}

static json_t *
machine_json(const struct aims *aims)
{
	json_t *versions = json_array(), *object;
	struct bench_machine machine;

	bench_machine_read(&machine);
	for (uint32_t i = 0; i < aims->version_count; i++)
		json_array_append_new(versions, json_string(aims->versions[i]));
	object = bench_machine_json(&machine);
	json_object_update_new(object,
			       json_pack("{s:f, s:f, s:f, s:o}", "load_before", aims->load,
					 "others_processors", aims->others, "stolen_processors",
					 aims->stolen, "versions", versions));
	return object;
}

int
aims_json_write(const struct aims *aims)
{
	const struct bench_plan *plan = &aims->plan;
	json_t *rows = json_array();

	for (size_t r = 0; r < aims_row_count; r++)
		if (aims_is_wanted(aims, &aims_rows[r]))
			json_array_append_new(rows, row_json(aims, &aims_rows[r]));
	return bench_json_put(
		json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:f, s:b, s:I, s:s, s:o}", "farpool",
			  far_version(), "machine", machine_json(aims), "rounds",
			  (json_int_t)plan->round_count, "set_bytes", (json_int_t)plan->set_bytes,
			  "request_bytes", (json_int_t)plan->request_bytes, "in_flight",
			  (json_int_t)plan->in_flight, "seconds", aims->seconds, "huge_pages",
			  plan->huge_pages, "helpers", (json_int_t)bench_helpers(plan), "verify",
			  "never", "rows", rows),
		plan->json);
}
