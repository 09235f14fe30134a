/* aims_value.c - what the rounds of a row come to: medians, the best yardstick, and whether the aim is met. */
#include <stdio.h>

#include "tests/bench/aims.h"

/* What is printed as the aim is the aim: 1.4996 beside 1.50 would only puzzle. */
#define HAIR 0.005

double
aims_quantity_of(enum aims_quantity quantity, const struct aims_run *run, uint32_t round)
{
	const struct bench_pass *pass = &run->pass[round];

	switch (quantity) {
	case AIMS_GBPS:
		return (double)pass->bytes / (double)pass->ns;
	case AIMS_MKEYS:
		/* Of its own processor's time: what others take of it is not the adapter's. */
		return pass->cpu_ns > 0 ? (double)pass->count / (double)pass->cpu_ns * 1e3 : 0;
	case AIMS_DONOR_CPU:
		return pass->bytes > 0 ? (double)pass->peer_cpu_ns / (double)pass->bytes : 0;
	case AIMS_MESSAGES:
		return pass->count > 0 ? (double)pass->messages / (double)pass->count : 0;
	case AIMS_CPU_US:
		return (double)pass->cpu_ns / 1e3;
	case AIMS_IDLE_US:
		return run->idle_us[round];
	}
	return 0;
}

static void
values_fill(const struct aims *aims, const struct aims_row *row, const struct aims_run *run,
	    double out[AIMS_ROUNDS_MAX])
{
	for (uint32_t i = 0; i < aims->plan.round_count; i++)
		out[i] = aims_quantity_of(row->quantity, run, i);
}

static double
combined(enum aims_kind kind, double of, double than)
{
	switch (kind) {
	case AIMS_RATIO:
		return than > 0 ? of / than : 0;
	case AIMS_ABOVE_AT_MOST:
		return of - than;
	case AIMS_AT_LEAST:
	case AIMS_AT_MOST:
		break;
	}
	return of;
}

/* The yardstick with the best median. */
static void
than_find(const struct aims *aims, const struct aims_row *row, double values[AIMS_ROUNDS_MAX],
	  struct aims_value *out)
{
	bool idle = row->quantity == AIMS_IDLE_US;

	for (int t = 0; t < AIMS_THAN_MAX && row->than[t] != NULL; t++) {
		const struct aims_run *run = aims_run_find(
			aims, row->than[t], row->than_size != 0 ? row->than_size : row->size, idle);
		double these[AIMS_ROUNDS_MAX];
		struct bench_spread spread;

		if (run == NULL || run->why[0] != '\0') {
			if (run != NULL && out->why[0] == '\0')
				snprintf(out->why, sizeof(out->why), "%s: %.180s", run->ops->name,
					 run->why);
			continue;
		}
		values_fill(aims, row, run, these);
		spread = bench_spread_of(these, aims->plan.round_count);
		if (out->than_run != NULL &&
		    (idle ? spread.median >= out->than.median : spread.median <= out->than.median))
			continue;
		out->than_run = run;
		out->than = spread;
		for (uint32_t i = 0; i < aims->plan.round_count; i++)
			values[i] = these[i];
	}
}

static bool
is_met(const struct aims_row *row, double value)
{
	if (row->kind == AIMS_RATIO || row->kind == AIMS_AT_LEAST)
		return value >= row->aim - HAIR;
	/* Of very little a hair is much. */
	return value <= row->aim + (row->aim >= 1 ? HAIR : 0);
}

void
aims_value_get(const struct aims *aims, const struct aims_row *row, struct aims_value *out)
{
	bool compared = row->kind == AIMS_RATIO || row->kind == AIMS_ABOVE_AT_MOST;
	double of[AIMS_ROUNDS_MAX] = {0}, than[AIMS_ROUNDS_MAX] = {0}, each[AIMS_ROUNDS_MAX] = {0};
	uint32_t count = aims->plan.round_count;
	const struct aims_run *run =
		aims_run_find(aims, row->of, row->size, row->quantity == AIMS_IDLE_US);
	struct bench_spread spread;

	*out = (struct aims_value){.of_run = run};
	if (run == NULL || run->why[0] != '\0') {
		snprintf(out->why, sizeof(out->why), "%s",
			 run == NULL ? "it did not run" : run->why);
		return;
	}
	values_fill(aims, row, run, of);
	out->of = bench_spread_of(of, count);
	if (compared) {
		than_find(aims, row, than, out);
		if (out->than_run == NULL) {
			if (out->why[0] == '\0')
				snprintf(out->why, sizeof(out->why),
					 "this build has nothing to compare it with");
			return;
		}
		out->why[0] = '\0';
	}
	for (uint32_t i = 0; i < count; i++)
		each[i] = combined(row->kind, of[i], than[i]);
	spread = bench_spread_of(each, count);
	/* Of medians: a value per round would weigh a disturbed round twice. */
	out->value = combined(row->kind, out->of.median, out->than.median);
	out->min = spread.min;
	out->max = spread.max;
	out->met = is_met(row, out->value);
	out->known = true;
}
