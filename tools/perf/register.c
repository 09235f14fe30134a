/* register.c - what it takes to lend memory: mapping it, registering it, and taking that back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/pages.h"
#include "tools/perf/pool.h"
#include "transport/transport.h"

#define ROUNDS_DEFAULT 5U
#define ROUNDS_MAX     1000U
#define THREADS_AUTO   8U
#define GIB            1073741824.0

enum phase { PHASE_MAP, PHASE_REGISTER, PHASE_DEREGISTER, PHASE_COUNT };

static const char *const phase_names[] = {"map", "register", "deregister"};

struct region {
	struct regions *all;
	pthread_t thread;
	struct far_transport *tp; /* of its own: a transport has one thread */
	struct far_pages pages;
	uint64_t start_ns[PHASE_COUNT], end_ns[PHASE_COUNT];
	bool unmapped; /* there were no such pages */
	int rc;
};

/* One line of each phase. */
struct regions {
	const struct pool_options *options;
	enum far_pages_huge huge;
	uint32_t count;
	uint64_t page_bytes;
	pthread_barrier_t gate;
	struct region regions[POOL_THREADS_MAX];
	uint64_t ns[PHASE_COUNT][ROUNDS_MAX]; /* sorted at the end */
	uint64_t rounds;
	bool unmapped; /* there were no such pages */
};

struct report {
	const struct pool_options *options;
	struct perf_place place;
	json_t *rows;
	bool headed;
};

/* ---- one thread ---- */

static int
transport_open(struct region *region)
{
	const struct pool_options *options = region->all->options;
	char scheme[FAR_SCHEME_BYTES_MAX];
	const char *rest = NULL;
	struct far_transport_config config = {.clock = far_clock_real(),
					      .spin_ns_max = FAR_SPIN_NS_DEFAULT};

	snprintf(scheme, sizeof(scheme), "%.15s", options->over);
	if (options->address_count > 0) {
		if (far_address_split(options->addresses[0], scheme, &rest) < 0)
			return -EINVAL;
		config.listens = &rest;
		config.listen_count = 1;
	}
	return far_transport_open(scheme, &config, &region->tp);
}

/* All at once, whatever failed in one of them: a phase begins at the gate. */
static void *
region_run(void *arg)
{
	struct region *region = arg;
	struct regions *all = region->all;
	struct far_mem_source source = {.relaxed = true};
	struct far_mem *mem = NULL;
	size_t bytes = all->options->set_bytes / all->count;

	region->rc = transport_open(region);
	for (int phase = 0; phase < PHASE_COUNT; phase++) {
		pthread_barrier_wait(&all->gate);
		region->start_ns[phase] = far_now_ns();
		if (region->rc == 0 && phase == PHASE_MAP) {
			region->rc = far_pages_map_shared("farpool-perf", bytes, all->huge, -1,
							  &region->pages);
		} else if (region->rc == 0 && phase == PHASE_REGISTER) {
			source.base = region->pages.base;
			source.size_bytes = region->pages.size_bytes;
			source.fd = region->pages.fd;
			region->rc = far_transport_mem_reg(region->tp, &source,
							   FAR_RIGHT_REMOTE_READ, NULL, &mem);
		} else if (mem != NULL) {
			far_transport_mem_dereg(mem);
		}
		region->end_ns[phase] = far_now_ns();
		region->unmapped =
			region->unmapped || (phase == PHASE_MAP && region->rc == -ENOMEM);
	}
	if (region == all->regions)
		all->page_bytes = region->pages.page_bytes;
	far_pages_unmap(&region->pages);
	far_transport_close(region->tp);
	return NULL;
}

/* From the first that begins to the last that ends. */
static uint64_t
phase_ns(const struct regions *all, int phase)
{
	uint64_t start_ns = UINT64_MAX, end_ns = 0;

	for (uint32_t i = 0; i < all->count; i++) {
		const struct region *region = &all->regions[i];

		if (region->start_ns[phase] < start_ns)
			start_ns = region->start_ns[phase];
		if (region->end_ns[phase] > end_ns)
			end_ns = region->end_ns[phase];
	}
	return end_ns - start_ns;
}

static int
round_run(struct regions *all, bool counts)
{
	int rc = 0;

	memset(all->regions, 0, sizeof(all->regions));
	if (pthread_barrier_init(&all->gate, NULL, all->count) != 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < all->count; i++) {
		all->regions[i].all = all;
		all->regions[i].pages.fd = -1;
		if (pthread_create(&all->regions[i].thread, NULL, region_run, &all->regions[i]) !=
		    0) {
			/* Those before wait at the gate for ever. */
			perf_fail("no more than %u threads; next: fewer --threads", i);
			_exit(1);
		}
	}
	for (uint32_t i = 0; i < all->count; i++) {
		pthread_join(all->regions[i].thread, NULL);
		all->unmapped = all->unmapped || all->regions[i].unmapped;
		if (rc == 0)
			rc = all->regions[i].rc;
	}
	pthread_barrier_destroy(&all->gate);
	for (int phase = 0; phase < PHASE_COUNT && rc == 0 && counts; phase++)
		all->ns[phase][all->rounds] = phase_ns(all, phase);
	all->rounds += counts;
	return rc;
}

/* ---- lines ---- */

static void
head_print(struct report *report)
{
	const struct pool_options *options = report->options;

	if (report->headed || options->json)
		return;
	report->headed = true;
	if (options->csv) {
		printf("test,page_bytes,threads,rounds,s_per_gib,s_per_gib_min,s_per_gib_max\n");
		return;
	}
	printf("farpool-perf register, farpool %s\n", far_version());
	printf(" Transport  : %s, each thread with one of its own\n",
	       options->address_count > 0 ? options->addresses[0] : options->over);
	printf(" Memory     : %llu MiB, in as many parts as threads\n",
	       (unsigned long long)(options->set_bytes >> 20));
	printf(" CPU        : %s, %s\n", report->place.cpu, report->place.kernel);
	printf(" Time       : CLOCK_MONOTONIC, first thread's begin to last one's end; median of "
	       "rounds\n");
	printf(" %-12s %12s %8s %8s %14s %10s %10s\n", "test", "page[bytes]", "threads", "rounds",
	       "median[s/GiB]", "min", "max");
}

static void
lines_add(struct report *report, struct regions *all)
{
	const struct pool_options *options = report->options;

	head_print(report);
	for (int phase = 0; phase < PHASE_COUNT; phase++) {
		double gib = (double)options->set_bytes / GIB, s[3];

		perf_samples_sort(all->ns[phase], all->rounds);
		s[0] = (double)perf_samples_rank(all->ns[phase], all->rounds, 0.5) / 1e9 / gib;
		s[1] = (double)all->ns[phase][0] / 1e9 / gib;
		s[2] = (double)all->ns[phase][all->rounds - 1] / 1e9 / gib;
		json_array_append_new(
			report->rows,
			json_pack("{s:s, s:I, s:i, s:I, s:I, s:f, s:f, s:f}", "test",
				  phase_names[phase], "page_bytes", (json_int_t)all->page_bytes,
				  "threads", (int)all->count, "n_iterations",
				  (json_int_t)all->rounds, "bytes", (json_int_t)options->set_bytes,
				  "s_per_gib", s[0], "s_per_gib_min", s[1], "s_per_gib_max", s[2]));
		if (!options->json)
			printf(options->csv ? "%s,%llu,%u,%llu,%.6f,%.6f,%.6f\n"
					    : " %-12s %12llu %8u %8llu %14.6f %10.6f %10.6f\n",
			       phase_names[phase], (unsigned long long)all->page_bytes, all->count,
			       (unsigned long long)all->rounds, s[0], s[1], s[2]);
	}
	fflush(stdout);
}

/* 2 MiB pages may not be there: that is said, and is no failure. */
static int
pages_run(struct report *report, enum far_pages_huge huge, uint32_t threads)
{
	const struct pool_options *options = report->options;
	uint64_t rounds = options->requests > 0 ? options->requests : ROUNDS_DEFAULT;
	struct regions *all = far_zalloc(sizeof(*all));
	int rc = all == NULL ? -ENOMEM : 0;
	bool unmapped;

	for (uint64_t i = 0; i < rounds + 1 && rc == 0; i++) {
		all->options = options;
		all->huge = huge;
		all->count = threads;
		rc = round_run(all, i > 0);
	}
	if (rc == 0)
		lines_add(report, all);
	unmapped = all != NULL && all->unmapped;
	far_free(all);
	if (unmapped && huge == FAR_PAGES_HUGE_ON) {
		if (threads == 1)
			fprintf(stderr,
				"farpool-perf: no 2 MiB pages for %llu MiB; next: more in "
				"/proc/sys/vm/nr_hugepages\n",
				(unsigned long long)(options->set_bytes >> 20));
		return 0;
	}
	return rc < 0 ? perf_fail("%s, %u threads: %s; next: farpool doctor, a smaller --set, or a "
				  "higher limit of locked memory (ulimit -l)",
				  options->address_count > 0 ? options->addresses[0]
							     : options->over,
				  threads, far_strerror(rc))
		      : 0;
}

static int
report_end(struct report *report)
{
	const struct pool_options *options = report->options;
	size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
	json_t *root = json_pack("{s:{s:s, s:s, s:s, s:s, s:s}, s:o}", "test_info", "test",
				 "register", "version", far_version(), "transport",
				 options->address_count > 0 ? options->addresses[0] : options->over,
				 "cpu", report->place.cpu, "kernel", report->place.kernel,
				 "results", report->rows);
	int status = 0;

	if (options->json && json_dumpf(root, stdout, flags) != 0)
		status = perf_fail("the report cannot be written: %s", strerror(errno));
	if (options->json)
		putchar('\n');
	if (options->json_path != NULL && json_dump_file(root, options->json_path, flags) != 0)
		status = perf_fail("%s cannot be written: %s", options->json_path, strerror(errno));
	json_decref(root);
	return status;
}

int
perf_register(int argc, char **argv)
{
	struct pool_options options;
	struct report report = {.options = &options, .rows = json_array()};
	uint32_t most;
	int status = 0;

	pool_options_parse(POOL_REGISTER, argc, argv, &options);
	perf_place_read(&report.place);
	most = options.threads;
	if (most == 0) {
		long cpus = sysconf(_SC_NPROCESSORS_ONLN);

		most = cpus < 1 ? 1 : cpus > (long)THREADS_AUTO ? THREADS_AUTO : (uint32_t)cpus;
	}
	for (int huge = 0; huge < 2; huge++)
		for (uint32_t threads = 1; threads <= most && status == 0; threads *= 2)
			status = pages_run(&report, huge ? FAR_PAGES_HUGE_ON : FAR_PAGES_HUGE_OFF,
					   threads);
	if (json_array_size(report.rows) > 0)
		return report_end(&report) != 0 ? 1 : status;
	json_decref(report.rows);
	return status;
}
