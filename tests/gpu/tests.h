/* tests.h - the claims, by the file that proves them. */
#ifndef FAR_TESTS_GPU_TESTS_H
#define FAR_TESTS_GPU_TESTS_H

/* ---- device.c ---- */
void the_gpu_and_its_ways_are_named(void);
void an_arena_keeps_what_kernels_write(void);
void an_arena_is_given_to_nics_as_a_dma_buf(void);
void another_process_reads_an_arena_by_its_descriptor(void);
void memory_of_the_caller_is_adopted_within_its_allocation(void);
void the_callers_context_stays_current(void);
void host_memory_mapped_read_only_is_pinned(void);

/* An arena of another process: --importer BYTES SEED, its descriptor is 3. */
int gpu_importer(int argc, char **argv);

/* ---- copier.c ---- */
void copies_arrive_whole_both_ways(void);
void what_is_done_is_there_for_a_kernel(void);
void a_copier_that_is_full_says_so_and_goes_on(void);
void a_copier_wakes_who_sleeps(void);
void copies_pass_a_busy_gpu(void);

/* ---- client.c ---- */
void staged_blocks_are_whole_when_they_flip(void);
void mapped_blocks_are_whole_when_they_flip(void);
void a_donor_of_this_host_is_read_by_the_copy_engine(void);
void a_kernel_launched_at_the_flip_sees_a_staged_block(void);
void a_kernel_launched_at_the_flip_sees_a_mapped_block(void);
void what_a_kernel_stored_comes_back_to_host_memory(void);
void blocks_land_in_the_callers_own_memory(void);
void a_block_lands_in_pages_of_the_callers_pool(void);
void a_donor_that_overwrites_what_is_staged_costs_no_byte(void);
void a_donor_that_overwrites_what_is_mapped_costs_no_byte(void);
void a_prefetch_ends_beside_a_kernel_that_does_not(void);
void a_first_prefetch_ends_beside_a_kernel_that_does_not(void);

/* ---- endings.c ---- */
void a_cancelled_prefetch_writes_into_no_block_of_others(void);
void an_overdue_prefetch_writes_into_no_block_of_others(void);
void a_client_that_is_closed_has_let_go_of_the_callers_memory(void);
void a_donor_that_dies_while_it_is_read_is_a_miss(void);
void a_client_whose_gpu_failed_answers_and_closes(void);

/* ---- failed.c ---- */
struct gpu;
/* Ruins the context of this process: skips the test where there are no kernels. */
void gpu_break(struct gpu *gpu);
void a_gpu_that_failed_answers_eio_and_nothing_hangs(void);

#endif
