/* main.c - the suite for a real GPU: ./dev gpu. */
#include "tests/gpu/runner.h"
#include "tests/gpu/tests.h"

#define TEST(name, flags)                                                                          \
	{                                                                                          \
#name, name, flags                                                                 \
	}

const struct runner_test runner_tests[] = {
	TEST(the_gpu_and_its_ways_are_named, RUNNER_QUICK | RUNNER_GATE),
	TEST(an_arena_keeps_what_kernels_write, RUNNER_QUICK),
	TEST(an_arena_is_given_to_nics_as_a_dma_buf, RUNNER_QUICK),
	TEST(another_process_reads_an_arena_by_its_descriptor, 0),
	TEST(memory_of_the_caller_is_adopted_within_its_allocation, RUNNER_QUICK),
	TEST(the_callers_context_stays_current, RUNNER_QUICK),
	TEST(host_memory_mapped_read_only_is_pinned, RUNNER_QUICK),
	TEST(copies_arrive_whole_both_ways, RUNNER_QUICK),
	TEST(what_is_done_is_there_for_a_kernel, RUNNER_QUICK),
	TEST(a_copier_that_is_full_says_so_and_goes_on, RUNNER_QUICK),
	TEST(a_copier_wakes_who_sleeps, RUNNER_QUICK),
	TEST(copies_pass_a_busy_gpu, 0),
	TEST(a_gpu_that_failed_answers_eio_and_nothing_hangs, RUNNER_ALONE),
	{0},
};

const struct runner_helper runner_helpers[] = {
	{"--importer", gpu_importer},
	{0},
};

int
main(int argc, char **argv)
{
	return runner_main(argc, argv);
}
