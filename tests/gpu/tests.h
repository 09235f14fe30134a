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

/* ---- failed.c ---- */
struct gpu;
/* Ruins the context of this process: skips the test where there are no kernels. */
void gpu_break(struct gpu *gpu);
void a_gpu_that_failed_answers_eio_and_nothing_hangs(void);

#endif
