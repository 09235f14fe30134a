/* plot.c - a picture of the results, by gnuplot: bandwidth by size, or the latency of each percentile. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/perf/pool.h"

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

int
pool_plot(const struct pool *pool)
{
	const char *path = pool->options->plot_path;
	bool svg = strcmp(path + strlen(path) - 4, ".svg") == 0;
	bool sizes = false;
	pid_t pid = 0;
	FILE *out;
	int status = 0;

	for (uint32_t i = 1; i < pool->row_count; i++)
		sizes = sizes || pool->rows[i].size_bytes != pool->rows[0].size_bytes;
	(void)signal(SIGPIPE, SIG_IGN); /* without gnuplot there is nobody at the other end */
	out = gnuplot_start(&pid);
	if (out == NULL)
		return perf_fail("gnuplot cannot be started: %s", strerror(errno));
	fprintf(out, "set terminal %s size 900,540\nset output ", svg ? "svg" : "pngcairo");
	quoted(out, path);
	fprintf(out, "\nset grid\nset key left top\nset title ");
	quoted(out, pool->place.address);
	fputc('\n', out);
	if (sizes)
		sizes_draw(pool, out);
	else
		latency_draw(pool, out);
	(void)fclose(out);
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return perf_fail("%s was not drawn; next: apt-get install gnuplot-nox", path);
	return 0;
}
