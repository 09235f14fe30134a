/* aims_report.c - the table for people: where it was measured, then a line for each row. */
#include <inttypes.h>
#include <stdio.h>

#include "farpool/farpool.h"
#include "tests/bench/aims.h"
#include "transport/transport.h"

#define MIB    ((uint64_t)1 << 20)
#define LOADED 0.7 /* of the processors, by others: what is measured then says little */

const char *
aims_unit(enum aims_quantity quantity)
{
	static const char *const units[] = {
		[AIMS_GBPS] = "GB/s",          [AIMS_MKEYS] = "M keys/s",
		[AIMS_DONOR_CPU] = "CPU s/GB", [AIMS_MESSAGES] = "messages",
		[AIMS_CPU_US] = "CPU us",      [AIMS_IDLE_US] = "us",
	};

	return units[quantity];
}

static const char *
aim_text(const struct aims_row *row, char out[24])
{
	bool least = row->kind == AIMS_RATIO || row->kind == AIMS_AT_LEAST;

	if (row->quantity == AIMS_DONOR_CPU)
		snprintf(out, 24, "0.00");
	else if (row->quantity == AIMS_MESSAGES)
		snprintf(out, 24, "<= %.0f", row->aim);
	else
		snprintf(out, 24, "%s %.2f", least ? ">=" : "<=", row->aim);
	return out;
}

static void
head_print(const struct aims *aims)
{
	static const char *const transports[] = {"shm", "ucx", "verbs"};
	const struct bench_plan *plan = &aims->plan;
	struct bench_machine machine;

	bench_machine_read(&machine);
	printf("%s, %ld processors, caches %ld KiB and %ld MiB, %s %s\nfarpool %s", machine.cpu,
	       machine.cpu_count, machine.cache2_bytes >> 10, machine.cache_bytes >> 20,
	       machine.system, machine.release, far_version());
	for (uint32_t i = 0; i < aims->version_count; i++)
		printf(", %s", aims->versions[i]);
	printf("\ntransports in this build:");
	for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++)
		if (far_transport_find(transports[i]) != NULL)
			printf(" %s", transports[i]);
	printf("; %s; helpers of farpool's thread: %u; verify never\n", bench_pages_text(plan),
	       bench_helpers(plan));
	printf("%u interleaved rounds in %.0f s, medians\n", plan->round_count, aims->seconds);
	printf("cold: each pass moves %" PRIu64 " MiB, %.1f times the last-level cache; prefetches "
	       "of %" PRIu64 " MiB, %u in flight\n",
	       plan->set_bytes / MIB, (double)plan->set_bytes / (double)machine.cache_bytes,
	       plan->request_bytes / MIB, plan->in_flight);
	printf("load average %.2f before it began; others used %.2f processors meanwhile, the "
	       "hypervisor took %.2f\n",
	       aims->load, aims->others, aims->stolen);
	if (aims->load > LOADED * (double)machine.cpu_count ||
	    aims->others + aims->stolen > LOADED * (double)machine.cpu_count)
		printf("LOADED: others had more than %.0f %% of this machine; run it again when it "
		       "is "
		       "quiet\n",
		       LOADED * 100);
	putchar('\n');
}

static void
spread_print(const struct aims_row *row, const struct bench_spread *spread,
	     const struct aims_run *run)
{
	int digits = row->quantity == AIMS_DONOR_CPU                        ? 4
		     : row->quantity == AIMS_MESSAGES || spread->max >= 100 ? 1
									    : 2;

	printf(" %-12s %*.*f (%.*f..%.*f)", run->ops->name, digits > 2 ? 6 : 5, digits,
	       spread->median, digits, spread->min, digits, spread->max);
}

static void
row_print(const struct aims *aims, const struct aims_row *row)
{
	struct aims_value value;
	char aim[24];

	aims_value_get(aims, row, &value);
	printf("%-17s %8s ", row->name, aim_text(row, aim));
	if (!value.known) {
		printf("not measured: %s\n", value.why);
		return;
	}
	printf("%7.2f %-10s", value.value, value.met ? "" : "below aim");
	spread_print(row, &value.of, value.of_run);
	if (value.than_run != NULL)
		spread_print(row, &value.than, value.than_run);
	printf(" %s\n", aims_unit(row->quantity));
}

/* What moving a GB costs, here and in the process at the other end, for each size of a mover. */
static void
cpu_print(const struct aims *aims, const struct bench_mover_ops *ops)
{
	uint32_t count = aims->plan.round_count;
	bool any = false;

	for (uint32_t i = 0; i < aims->run_count; i++) {
		const struct aims_run *run = &aims->runs[i];
		double here[AIMS_ROUNDS_MAX], there[AIMS_ROUNDS_MAX];

		if (run->ops != ops || run->idle || run->why[0] != '\0' || run->pass[0].bytes == 0)
			continue;
		for (uint32_t r = 0; r < count; r++) {
			const struct bench_pass *pass = &run->pass[r];

			here[r] = (double)pass->cpu_ns / (double)pass->bytes;
			there[r] = (double)pass->peer_cpu_ns / (double)pass->bytes;
		}
		if (!any)
			printf("  %-14s CPU s/GB here and there:", "");
		printf("%s %" PRIu64 " KiB %.2f + %.2f", any ? "," : "", run->size >> 10,
		       bench_spread_of(here, count).median, bench_spread_of(there, count).median);
		any = true;
	}
	if (any)
		putchar('\n');
}

/* How each mover was used and what it cost, once. */
static void
movers_print(const struct aims *aims)
{
	putchar('\n');
	for (uint32_t i = 0; i < aims->run_count; i++) {
		const struct aims_run *run = &aims->runs[i];
		bool seen = false;

		for (uint32_t before = 0; before < i; before++)
			seen = seen || aims->runs[before].ops == run->ops;
		if (seen)
			continue;
		printf("  %-14s %s\n", run->ops->name, run->ops->text);
		if (run->note[0] != '\0')
			printf("  %-14s %s\n", "", run->note);
		if (run->why[0] != '\0')
			printf("  %-14s NOT MEASURED: %s\n", "", run->why);
		cpu_print(aims, run->ops);
	}
}

void
aims_report(const struct aims *aims)
{
	const char *text = NULL;

	head_print(aims);
	printf("%-17s %8s %8s %-15s  median (least..most of the rounds), and of the best "
	       "yardstick\n",
	       "row", "aim", "is", "");
	for (size_t r = 0; r < aims_row_count; r++) {
		if (!aims_is_wanted(aims, &aims_rows[r]))
			continue;
		if (text != aims_row_text(&aims_rows[r]))
			printf("  -- %s\n", aims_row_text(&aims_rows[r]));
		text = aims_row_text(&aims_rows[r]);
		row_print(aims, &aims_rows[r]);
	}
	movers_print(aims);
}

void
aims_list(void)
{
	char aim[24];

	for (size_t r = 0; r < aims_row_count; r++)
		printf("%-17s %8s  %s\n", aims_rows[r].name, aim_text(&aims_rows[r], aim),
		       aims_row_text(&aims_rows[r]));
}
