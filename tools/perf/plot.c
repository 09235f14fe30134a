/* plot.c - a picture of the results, by gnuplot: bandwidth by size, or the latency of each percentile. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/perf/pool.h"

#define POINTS_MAX 400U /* of a line whose samples are many */

/* Its standard input; @pid_out ends when that is closed. No shell sees the file's name. */
static FILE *
gnuplot_start(pid_t *pid_out)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) != 0)
		return NULL;
	*pid_out = fork();
	if (*pid_out == 0) {
		if (dup2(fds[0], STDIN_FILENO) < 0)
			_exit(126);
		execlp("gnuplot", "gnuplot", "-", (char *)NULL);
		_exit(127);
	}
	close(fds[0]);
	if (*pid_out < 0) {
		close(fds[1]);
		return NULL;
	}
	return fdopen(fds[1], "w");
}

/* As gnuplot quotes: a quote in single quotes is two of them. */
static void
quoted(FILE *out, const char *text)
{
	fputc('\'', out);
	for (; *text != '\0'; text++) {
		if (*text == '\'')
			fputc('\'', out);
		fputc(*text, out);
	}
	fputc('\'', out);
}

static void
sizes_draw(const struct pool *pool, FILE *out)
{
	fprintf(out, "set logscale x 2\nset xlabel 'bytes of a block'\nset ylabel 'MiB/sec'\n"
		     "set yrange [0:*]\nplot '-' using 1:2 with linespoints title 'bandwidth'\n");
	for (uint32_t i = 0; i < pool->row_count; i++) {
		const struct pool_row *row = &pool->rows[i];

		if (row->bytes > 0)
			fprintf(out, "%llu %.3f\n", (unsigned long long)row->size_bytes,
				(double)row->bytes / (double)row->ns * 1e9 / 1048576);
	}
	fprintf(out, "e\n");
}

static void
latency_draw(const struct pool *pool, FILE *out)
{
	fprintf(out, "set logscale x 10\nset xlabel '1 / (1 - percentile)'\nset ylabel 'usec'\n"
		     "set yrange [0:*]\nplot ");
	for (uint32_t i = 0; i < pool->row_count; i++) {
		fprintf(out, "%s'-' using 1:2 with steps title ", i > 0 ? ", " : "");
		quoted(out, pool->rows[i].what);
	}
	fputc('\n', out);
	for (uint32_t i = 0; i < pool->row_count; i++) {
		const struct perf_hist *hist = pool->rows[i].hist;
		uint64_t seen = 0;

		for (uint32_t b = 0; b < PERF_HIST_BUCKETS; b++) {
			if (hist->buckets[b] == 0)
				continue;
			seen += hist->buckets[b];
			fprintf(out, "%.6g %.3f\n",
				(double)hist->count / (double)(hist->count - seen + 1),
				(double)perf_hist_upper(b) / 1e3);
		}
		fprintf(out, "e\n");
	}
}

/* ---- a picture from its begin to its end ---- */

struct picture {
	const char *path;
	pid_t pid;
	FILE *out;
};

bool
perf_plot_path_ok(const char *path)
{
	size_t length = strlen(path);

	return length >= 5 &&
	       (strcmp(path + length - 4, ".png") == 0 || strcmp(path + length - 4, ".svg") == 0);
}

static int
picture_begin(struct picture *picture, const char *path, const char *title)
{
	bool svg = strcmp(path + strlen(path) - 4, ".svg") == 0;

	picture->path = path;
	(void)signal(SIGPIPE, SIG_IGN); /* without gnuplot there is nobody at the other end */
	picture->out = gnuplot_start(&picture->pid);
	if (picture->out == NULL)
		return perf_fail("gnuplot cannot be started: %s", strerror(errno));
	fprintf(picture->out, "set terminal %s size 900,540\nset output ",
		svg ? "svg" : "pngcairo");
	quoted(picture->out, path);
	fprintf(picture->out, "\nset grid\nset key left top\nset title ");
	quoted(picture->out, title);
	fputc('\n', picture->out);
	return 0;
}

static int
picture_end(struct picture *picture)
{
	int status = 0;

	(void)fclose(picture->out);
	if (waitpid(picture->pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return perf_fail("%s was not drawn; next: apt-get install gnuplot-nox",
				 picture->path);
	return 0;
}

int
pool_plot(const struct pool *pool)
{
	struct picture picture = {0};
	bool sizes = false;

	for (uint32_t i = 1; i < pool->row_count; i++)
		sizes = sizes || pool->rows[i].size_bytes != pool->rows[0].size_bytes;
	if (picture_begin(&picture, pool->options->plot_path, pool->place.address) != 0)
		return 1;
	if (sizes)
		sizes_draw(pool, picture.out);
	else
		latency_draw(pool, picture.out);
	return picture_end(&picture);
}

/* ---- raw ---- */

static void
raw_bandwidth_draw(const struct perf_options *options, const struct perf_result *results,
		   size_t count, FILE *out)
{
	fprintf(out,
		"set logscale x 2\nset xlabel 'bytes of an operation'\nset ylabel '%s'\n"
		"set yrange [0:*]\nplot '-' using 1:2 with linespoints title 'bandwidth'\n",
		options->gbits ? "Gb/sec" : "MiB/sec");
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%llu %.3f\n", (unsigned long long)results[i].size_bytes,
			(double)results[i].iterations * (double)results[i].size_bytes /
				(double)results[i].ns * 1e9 /
				(options->gbits ? 125000000.0 : 1048576.0));
	fprintf(out, "e\n");
}

static void
raw_sizes_draw(const struct perf_result *results, size_t count, FILE *out)
{
	static const double shares[] = {0.5, 0.99};

	fprintf(out, "set logscale xy\nset xlabel 'bytes of an operation'\nset ylabel 'usec'\n"
		     "plot '-' using 1:2 with linespoints title 'typical', "
		     "'-' using 1:2 with linespoints title '99 %%'\n");
	for (size_t s = 0; s < sizeof(shares) / sizeof(shares[0]); s++) {
		for (size_t i = 0; i < count; i++)
			fprintf(out, "%llu %.3f\n", (unsigned long long)results[i].size_bytes,
				(double)perf_samples_rank(results[i].samples,
							  results[i].sample_count, shares[s]) /
					1e3);
		fprintf(out, "e\n");
	}
}

/* From the median up, closer and closer to the last sample. */
static void
raw_percentiles_draw(const struct perf_result *result, FILE *out)
{
	fprintf(out,
		"set logscale x 10\nset xlabel '1 / (1 - percentile)'\nset ylabel 'usec'\n"
		"set yrange [0:*]\nplot '-' using 1:2 with steps title '%llu bytes'\n",
		(unsigned long long)result->size_bytes);
	for (uint32_t i = 0; i <= POINTS_MAX; i++) {
		double beyond = pow((double)result->sample_count, (double)i / POINTS_MAX);

		fprintf(out, "%.6g %.3f\n", beyond,
			(double)perf_samples_rank(result->samples, result->sample_count,
						  1 - 1 / beyond) /
				1e3);
	}
	fprintf(out, "e\n");
}

int
perf_plot(const struct perf_options *options, const struct perf_place *place,
	  const struct perf_result *results, size_t count)
{
	struct picture picture = {0};

	if (picture_begin(&picture, options->plot_path, place->address) != 0)
		return 1;
	if (options->test != PERF_LAT)
		raw_bandwidth_draw(options, results, count, picture.out);
	else if (count > 1)
		raw_sizes_draw(results, count, picture.out);
	else
		raw_percentiles_draw(&results[0], picture.out);
	return picture_end(&picture);
}
