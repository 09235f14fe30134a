/* aims_run.c - what the wanted rows need, opened group by group, given turns in interleaved rounds, closed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "farpool/farpool.h"
#include "tests/bench/aims.h"
#include "tests/bench/process.h"

#define MOVERS_MAX 16
#define IDLE_WARM  5

/* One group while it runs. */
struct group {
	enum aims_group which;
	const struct bench_mover_ops *ops[MOVERS_MAX];
	struct bench_mover *open[MOVERS_MAX];
	char why[MOVERS_MAX][BENCH_TEXT_BYTES];
	uint32_t mover_count;
	struct aims_run *runs[AIMS_RUNS_MAX]; /* in the order of the rows */
	uint32_t run_count;
};

/* What movers of a group hold at the same time, in sets; see bench_regions_open(). */
static const struct {
	const char *name;
	uint32_t sets_needed;
	bool regions, apart;
} groups[AIMS_GROUPS] = {
	[AIMS_SHM] = {"shm", AIMS_SETS_MAX, true, false},
	[AIMS_TCP] = {"tcp", 20, true, true},
	[AIMS_LOOKUP] = {"lookup", 8, false, false},
	[AIMS_CPU] = {"cpu", 0, false, false},
};

bool
aims_is_wanted(const struct aims *aims, const struct aims_row *row)
{
	for (uint32_t i = 0; i < aims->only_count; i++)
		if (strncmp(row->name, aims->only[i], strlen(aims->only[i])) == 0)
			return true;
	return aims->only_count == 0;
}

struct aims_run *
aims_run_find(const struct aims *aims, const struct bench_mover_ops *ops, uint64_t size, bool idle)
{
	for (uint32_t i = 0; i < aims->run_count; i++) {
		struct aims_run *run = &aims->runs[i];

		if (run->ops == ops && run->size == size && run->idle == idle)
			return run;
	}
	return NULL;
}

/* ---- what is needed ---- */

static void
run_add(struct aims *aims, struct group *group, const struct bench_mover_ops *ops, uint64_t size,
	bool idle)
{
	struct aims_run *run;

	if (aims_run_find(aims, ops, size, idle) != NULL)
		return;
	FAR_ASSERT(aims->run_count < AIMS_RUNS_MAX);
	run = &aims->runs[aims->run_count++];
	run->ops = ops;
	run->size = size;
	run->idle = idle;
	group->runs[group->run_count++] = run;
	for (uint32_t m = 0; m < group->mover_count; m++)
		if (group->ops[m] == ops)
			return;
	FAR_ASSERT(group->mover_count < MOVERS_MAX);
	group->ops[group->mover_count++] = ops;
}

static void
group_fill(struct aims *aims, struct group *group)
{
	for (size_t r = 0; r < aims_row_count; r++) {
		const struct aims_row *row = &aims_rows[r];
		bool idle = row->quantity == AIMS_IDLE_US;

		if (row->group != group->which || !aims_is_wanted(aims, row))
			continue;
		run_add(aims, group, row->of, row->size, idle);
		for (int t = 0; t < AIMS_THAN_MAX && row->than[t] != NULL; t++)
			run_add(aims, group, row->than[t],
				row->than_size != 0 ? row->than_size : row->size, idle);
	}
}

/* ---- turns; a run that fails is out, with the reason; @round < 0 is not counted ---- */

static uint32_t
mover_of(const struct group *group, const struct aims_run *run)
{
	uint32_t m = 0;

	while (group->ops[m] != run->ops)
		m++;
	return m;
}

static int
idle_turn(struct aims_run *run, struct bench_mover *mover, int round)
{
	static struct bench_samples samples;
	int rc = run->ops->once != NULL ? 0 : -EOPNOTSUPP;

	samples.count = 0;
	for (int i = -IDLE_WARM; i < BENCH_IDLE_COUNT && rc == 0; i++) {
		uint64_t ns;

		far_clock_sleep_until(far_clock_now(far_clock_real()) + BENCH_IDLE_NS);
		rc = run->ops->once(mover, run->size, &ns);
		if (rc == 0 && i >= 0)
			samples.us[samples.count++] = (double)ns / 1e3;
	}
	if (rc == 0 && round >= 0)
		run->idle_us[round] = bench_quantile(&samples, 0.5);
	return rc;
}

static int
pass_turn(struct aims_run *run, struct bench_mover *mover, int round)
{
	struct bench_pass pass = {0};
	int rc = run->ops->pass(mover, run->size, &pass);

	if (rc == 0 && pass.ns == 0)
		rc = -EIO;
	if (rc == 0 && round >= 0)
		run->pass[round] = pass;
	return rc;
}

static void
turn_give(struct group *group, struct aims_run *run, int round)
{
	uint32_t m = mover_of(group, run);
	struct bench_mover *mover = group->open[m];
	int rc = 0;

	if (run->why[0] != '\0')
		return;
	if (run->ops->busy != NULL)
		rc = run->ops->busy(mover, true);
	if (rc == 0)
		rc = run->idle ? idle_turn(run, mover, round) : pass_turn(run, mover, round);
	if (rc == 0 && run->ops->busy != NULL)
		rc = run->ops->busy(mover, false);
	if (rc < 0)
		snprintf(run->why, sizeof(run->why), "%s",
			 group->why[m][0] != '\0' ? group->why[m] : far_strerror(rc));
	else if (run->ops->note != NULL)
		snprintf(run->note, sizeof(run->note), "%s", run->ops->note(mover));
}

/* There and back, so that nobody always follows the same one, and what is compared stays together. */
static void
rounds_run(const struct aims *aims, struct group *group)
{
	const char *name = groups[group->which].name;

	for (int round = -1; round < (int)aims->plan.round_count; round++) {
		for (uint32_t i = 0; i < group->run_count; i++) {
			uint32_t at = (round & 1) != 0 ? i : group->run_count - 1 - i;

			bench_progress("%s: round %d of %u, %s", name, round + 1,
				       aims->plan.round_count, group->runs[at]->ops->name);
			turn_give(group, group->runs[at], round);
		}
	}
	bench_progress("%s", "");
}

/* ---- a group ---- */

static void
movers_open(struct aims *aims, struct group *group)
{
	for (uint32_t m = 0; m < group->mover_count; m++) {
		int rc;

		bench_progress("%s: opening %s", groups[group->which].name, group->ops[m]->name);
		rc = group->ops[m]->open(&aims->plan, group->why[m], &group->open[m]);
		if (rc == 0)
			continue;
		if (group->why[m][0] == '\0')
			snprintf(group->why[m], sizeof(group->why[m]), "%s", far_strerror(rc));
		for (uint32_t i = 0; i < group->run_count; i++) {
			struct aims_run *run = group->runs[i];

			if (run->ops != group->ops[m])
				continue;
			run->absent = rc == -ENODEV;
			snprintf(run->why, sizeof(run->why), "%s", group->why[m]);
		}
	}
}

static int
group_run(struct aims *aims, enum aims_group which)
{
	struct group *group = far_zalloc(sizeof(*group));
	int rc = group != NULL ? 0 : -ENOMEM;

	if (rc < 0)
		return rc;
	group->which = which;
	group_fill(aims, group);
	if (group->run_count > 0 && groups[which].regions)
		rc = bench_regions_open(&aims->plan, groups[which].sets_needed);
	for (uint32_t i = 0; i < group->run_count && rc < 0; i++)
		snprintf(group->runs[i]->why, sizeof(group->runs[i]->why),
			 "no memory for its sets: %s", far_strerror(rc));
	if (group->run_count > 0 && rc == 0) {
		if (groups[which].apart)
			bench_side_take(&aims->plan, BENCH_SIDE_CLIENT);
		movers_open(aims, group);
		rounds_run(aims, group);
		for (uint32_t m = group->mover_count; m-- > 0;)
			if (group->open[m] != NULL)
				group->ops[m]->close(group->open[m]);
		if (groups[which].apart)
			bench_side_take(&aims->plan, BENCH_SIDE_BOTH);
	}
	for (uint32_t i = 0; i < group->run_count; i++)
		if (rc == 0 && group->runs[i]->why[0] != '\0' && !group->runs[i]->absent &&
		    group->runs[i]->ops->required)
			rc = -EIO;
	bench_regions_close(&aims->plan);
	far_free(group);
	return rc;
}

/* ---- all of them ---- */

static double
rusage_s(int who)
{
	struct rusage usage = {0};

	(void)getrusage(who, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Ours and that of what we started, once it has been waited for. */
static double
ours_s(void)
{
	return rusage_s(RUSAGE_SELF) + rusage_s(RUSAGE_CHILDREN);
}

int
aims_run_all(struct aims *aims)
{
	uint64_t start_ns = far_clock_now(far_clock_real());
	struct bench_busy before, after;
	double ours = ours_s();
	int rc = 0;

	aims->load = bench_load();
	bench_busy_read(&before);
	for (int which = 0; which < AIMS_GROUPS; which++) {
		int rc_one = group_run(aims, (enum aims_group)which);

		rc = rc == 0 ? rc_one : rc;
	}
	bench_busy_read(&after);
	aims->seconds = (double)(far_clock_now(far_clock_real()) - start_ns) / 1e9;
	aims->stolen = (after.stolen_s - before.stolen_s) / aims->seconds;
	aims->others = (after.used_s - before.used_s - (ours_s() - ours)) / aims->seconds;
	if (aims->others < 0)
		aims->others = 0;
	return rc;
}
