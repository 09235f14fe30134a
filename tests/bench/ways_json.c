/* ways_json.c - the same for programs: every round of every mover. */
#include <jansson.h>

#include "tests/bench/options.h"
#include "tests/bench/ways.h"

static json_t *
rounds_json(const double *values, uint32_t count)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < count; i++)
		json_array_append_new(array, json_real(values[i]));
	return array;
}

static json_t *
size_json(const struct bench_plan *plan, const struct bench_table *table,
	  const struct bench_result *result, int size_idx)
{
	uint32_t count = plan->round_count;
	struct bench_spread spread = bench_spread_of(result->gbps[size_idx], count);
	json_t *entry = json_pack(
		"{s:I, s:f, s:f, s:f, s:f, s:f, s:o, s:o, s:o}", "block_bytes",
		(json_int_t)bench_sizes[size_idx], "gbps_median", spread.median, "gbps_min",
		spread.min, "gbps_max", spread.max, "cpu_s_per_gb",
		bench_spread_of(result->cpu[size_idx], count).median, "donor_cpu_s_per_gb",
		bench_spread_of(result->peer_cpu[size_idx], count).median, "gbps_rounds",
		rounds_json(result->gbps[size_idx], count), "cpu_s_per_gb_rounds",
		rounds_json(result->cpu[size_idx], count), "donor_cpu_s_per_gb_rounds",
		rounds_json(result->peer_cpu[size_idx], count));

	if (bench_yardstick(plan, table, size_idx) != NULL)
		json_object_set_new(entry, "ratio",
				    json_real(bench_ratio(plan, table, result, size_idx)));
	return entry;
}

static json_t *
samples_json(struct bench_samples *samples)
{
	return json_pack("{s:I, s:f, s:f, s:f}", "count", (json_int_t)samples->count, "us_min",
			 bench_quantile(samples, 0), "us_p50", bench_quantile(samples, 0.5),
			 "us_p99", bench_quantile(samples, 0.99));
}

static json_t *
latencies_json(struct bench_result *result)
{
	json_t *array = json_array();

	for (int s = 0; s < BENCH_LATENCIES; s++)
		json_array_append_new(array, json_pack("{s:I, s:o, s:o}", "block_bytes",
						       (json_int_t)bench_latencies[s], "row",
						       samples_json(&result->row[s]), "idle",
						       samples_json(&result->idle[s])));
	return array;
}

static json_t *
mover_json(const struct bench_plan *plan, const struct bench_table *table,
	   struct bench_result *result)
{
	json_t *object =
		json_pack("{s:s, s:s}", "name", result->ops->name, "text", result->ops->text);
	json_t *sizes;

	if (result->note[0] != '\0')
		json_object_set_new(object, "note", json_string(result->note));
	if (result->why[0] != '\0') {
		json_object_set_new(object, "not_measured", json_string(result->why));
		return object;
	}
	sizes = json_array();
	for (int s = 0; s < BENCH_SIZES; s++)
		json_array_append_new(sizes, size_json(plan, table, result, s));
	json_object_set_new(object, "sizes", sizes);
	if (result->row[0].count != 0)
		json_object_set_new(object, "latencies", latencies_json(result));
	if (result->beside.count != 0)
		json_object_set_new(object, "small_beside_big", samples_json(&result->beside));
	return object;
}

static json_t *
table_json(const struct bench_plan *plan, const struct bench_table *table)
{
	const struct bench_suite *suite = table->suite;
	json_t *movers = json_array();

	for (size_t m = 0; m < suite->mover_count && table->why[0] == '\0'; m++)
		json_array_append_new(movers, mover_json(plan, table, &table->results[m]));
	return json_pack("{s:s, s:s, s:s, s:f, s:b, s:I, s:f, s:o}", "over", suite->name,
			 "not_measured", table->why, "yardstick", suite->yardstick, "aim",
			 suite->aim, "apart", suite->apart && !plan->anywhere, "set_bytes",
			 (json_int_t)table->set_bytes, "load", table->load, "movers", movers);
}

int
bench_json_write(const struct bench_plan *plan, const struct bench_table *tables, size_t count)
{
	json_t *array = json_array();
	struct bench_machine machine;

	bench_machine_read(&machine);
	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, table_json(plan, &tables[i]));
	return bench_json_put(
		json_pack("{s:s, s:o, s:I, s:I, s:I, s:s, s:o}", "farpool", FAR_VERSION, "machine",
			  bench_machine_json(&machine), "rounds", (json_int_t)plan->round_count,
			  "request_bytes", (json_int_t)plan->request_bytes, "in_flight",
			  (json_int_t)plan->in_flight, "verify", "never", "tables", array),
		plan->json);
}
