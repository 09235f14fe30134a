/* main.c - the suite for a real GPU: ./dev gpu. */
#include "tests/gpu/donor.h"
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
	TEST(staged_blocks_are_whole_when_they_flip, RUNNER_QUICK),
	TEST(mapped_blocks_are_whole_when_they_flip, RUNNER_QUICK),
	TEST(a_donor_of_this_host_is_read_by_the_copy_engine, 0),
	TEST(a_kernel_launched_at_the_flip_sees_a_staged_block, 0),
	TEST(a_kernel_launched_at_the_flip_sees_a_mapped_block, 0),
	TEST(what_a_kernel_stored_comes_back_to_host_memory, RUNNER_QUICK),
	TEST(blocks_land_in_the_callers_own_memory, RUNNER_QUICK),
	TEST(a_block_lands_in_pages_of_the_callers_pool, RUNNER_QUICK),
	TEST(a_donor_that_overwrites_what_is_staged_costs_no_byte, 0),
	TEST(a_donor_that_overwrites_what_is_mapped_costs_no_byte, 0),
	TEST(a_prefetch_ends_beside_a_kernel_that_does_not, 0),
	TEST(a_first_prefetch_ends_beside_a_kernel_that_does_not, 0),
	TEST(a_cancelled_prefetch_writes_into_no_block_of_others, 0),
	TEST(an_overdue_prefetch_writes_into_no_block_of_others, 0),
	TEST(a_client_that_is_closed_has_let_go_of_the_callers_memory, 0),
	TEST(a_donor_that_dies_while_it_is_read_is_a_miss, 0),
	TEST(a_client_whose_gpu_failed_answers_and_closes, RUNNER_ALONE),
	{0},
};

const struct runner_helper runner_helpers[] = {
	{"--importer", gpu_importer},
	{"--donor", gpu_donor_run},
	{0},
};

int
main(int argc, char **argv)
{
	return runner_main(argc, argv);
}
