/* recorder.c - what one record costs: alone, beside another thread, and as a share of a prefetch's CPU. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/recorder.h"

#define ROUNDS      9
#define RECORDS     1000000U
#define THREADS_MAX 2

/* An estimate from above for a prefetch of 128 keys in two windows, each of which is looked up, reserved,
 * loaded and flipped: nothing of it is counted here. */
#define RECORDS_PER_PREFETCH 24

static struct far_recorder *recorder;

static void *
work(void *arg)
{
	double *ns_out = arg;
	struct far_record record = {
		.keys = 32,
		.bytes = 32 * 65536,
		.kind = FAR_RECORD_STORE_DONE,
	};
	uint64_t start_ns = far_clock_thread_cpu_ns();

	for (uint32_t i = 1; i <= RECORDS; i++) {
		record.at_ns = i;
		far_recorder_add(recorder, &record);
	}
	*ns_out = (double)(far_clock_thread_cpu_ns() - start_ns) / RECORDS;
	return NULL;
}

static int
ns_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The median over rounds of CPU nanoseconds per record, of the slowest thread. */
static double
measure(int threads)
{
	double rounds[ROUNDS];

	for (int r = 0; r < ROUNDS; r++) {
		pthread_t ids[THREADS_MAX];
		double ns[THREADS_MAX] = {0};

		for (int i = 1; i < threads; i++) {
			if (pthread_create(&ids[i], NULL, work, &ns[i]) != 0)
				exit(1);
		}
		(void)work(&ns[0]);
		rounds[r] = ns[0];
		for (int i = 1; i < threads; i++) {
			(void)pthread_join(ids[i], NULL);
			if (ns[i] > rounds[r])
				rounds[r] = ns[i];
		}
	}
	qsort(rounds, ROUNDS, sizeof(rounds[0]), ns_compare);
	return rounds[ROUNDS / 2];
}

/* One argument: microseconds of CPU of a prefetch of 128 keys, as ./dev bench cpu prints them. */
int
main(int argc, char **argv)
{
	double prefetch_us = argc > 1 ? strtod(argv[1], NULL) : 0;
	double alone;

	if (far_recorder_open(16384, far_clock_real(), &recorder) != 0)
		return 1;
	alone = measure(1);
	printf("one thread        %6.1f ns a record\n", alone);
	printf("two threads       %6.1f ns a record\n", measure(2));
	if (prefetch_us > 0)
		printf("128-key prefetch  %6.2f %% of its %.1f us of CPU, with %d records\n",
		       100 * alone * RECORDS_PER_PREFETCH / (prefetch_us * 1000), prefetch_us,
		       RECORDS_PER_PREFETCH);
	far_recorder_close(recorder);
	recorder = NULL;
	printf("without recorder  %6.1f ns a record\n", measure(1));
	return 0;
}
