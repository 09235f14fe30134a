/* replay.c - an hour of real traffic through real donors: the exact hits, and no wrong byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/rig.h"

/* Counted from the trace itself; see its README. */
#define TRACE_REFERENCES 288500
#define TRACE_DISTINCT   182790
#define TRACE_HITS       105710

static void
replay(struct rig *rig, const char *l1_size, struct rig_run *run)
{
	const char *const argv[] = {FAR_TEST_FARPOOL,   "replay",  "--config",
				    rig->client_config, "--trace", FAR_TEST_TRACE,
				    "--block",          "4KiB",    "--json",
				    "--quiet",          NULL};

	rig_client_config(rig, l1_size, NULL);
	rig_run(run, 500, argv);
	if (run->status != 0)
		fail_msg("replay ended with %d: %s", run->status, run->err);
}

static void
donors_that_hold_everything_give_the_exact_hits(void **state)
{
	struct rig rig;
	struct rig_run *run = malloc(sizeof(*run));

	(void)state;
	assert_non_null(run);
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "768MiB", "block_min: 4KiB\n");
	rig_donor_add(&rig, "donor-b", "768MiB", "block_min: 4KiB\n");
	replay(&rig, "64MiB", run);
	assert_int_equal(rig_json_number(run->out, "references"), TRACE_REFERENCES);
	assert_int_equal(rig_json_number(run->out, "distinct_blocks"), TRACE_DISTINCT);
	assert_int_equal(rig_json_number(run->out, "perfect_hits"), TRACE_HITS);
	assert_int_equal(rig_json_number(run->out, "hits"), TRACE_HITS);
	assert_int_equal(rig_json_number(run->out, "blocks_committed"), TRACE_DISTINCT);
	assert_int_equal(rig_json_number(run->out, "wrong_bytes"), 0);
	assert_int_equal(rig_json_number(run->out, "stores_dropped"), 0);
	rig_close(&rig);
	free(run);
}

static void
donors_a_tenth_of_that_evict_and_serve_no_wrong_byte(void **state)
{
	static const char small[] = "segment: 8MiB\nlane: 4MiB\nblock_min: 4KiB\n";
	struct rig rig;
	struct rig_run *run = malloc(sizeof(*run));

	(void)state;
	assert_non_null(run);
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "40MiB", small);
	rig_donor_add(&rig, "donor-b", "40MiB", small);
	replay(&rig, "16MiB", run);
	assert_int_equal(rig_json_number(run->out, "references"), TRACE_REFERENCES);
	assert_true(rig_json_number(run->out, "hits") > 0);
	assert_true(rig_json_number(run->out, "hits") < TRACE_HITS);
	assert_true(rig_json_number(run->out, "donor_evicted_blocks") > 0);
	assert_int_equal(rig_json_number(run->out, "wrong_bytes"), 0);
	rig_close(&rig);
	free(run);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(donors_that_hold_everything_give_the_exact_hits),
		cmocka_unit_test(donors_a_tenth_of_that_evict_and_serve_no_wrong_byte),
	};

	if (access(FAR_TEST_TRACE, R_OK) != 0) {
		printf("skipped: no trace at %s; set -DFARPOOL_TRACE=FILE\n", FAR_TEST_TRACE);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
