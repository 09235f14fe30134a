/* perf_pool.c - what farpool-perf says of clients and donors: options, bytes of blocks, the report. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "tools/perf/pool.h"

static struct pool_options options;

/* Of words that are options of @mode. */
static void
parse(enum pool_mode mode, const char *a, const char *b, const char *c, const char *d)
{
	char words[5][64] = {"farpool-perf test"};
	const char *given[] = {a, b, c, d};
	char *argv[6] = {words[0]};
	int argc = 1;

	for (int i = 0; i < 4 && given[i] != NULL; i++) {
		snprintf(words[argc], sizeof(words[argc]), "%s", given[i]);
		argv[argc] = words[argc];
		argc++;
	}
	pool_options_parse(mode, argc, argv, &options);
}

static void
lists_of_sizes_and_batches_are_swept(void **state)
{
	(void)state;
	parse(POOL_PREFETCH, "-s", "4096,64KiB", "-b1,8,256", NULL);
	assert_int_equal(options.size_count, 2);
	assert_int_equal(options.sizes[0], 4096);
	assert_int_equal(options.sizes[1], 65536);
	assert_int_equal(options.batch_count, 3);
	assert_int_equal(options.batches[2], 256);
	parse(POOL_STORE, "-a", NULL, NULL, NULL);
	assert_int_equal(options.size_count, 13);
	assert_int_equal(options.sizes[12], 16 << 20);
}

static void
a_mode_has_defaults_of_its_own(void **state)
{
	(void)state;
	parse(POOL_PREFETCH, NULL, NULL, NULL, NULL);
	assert_int_equal(options.clients, 1);
	assert_int_equal(options.duration_ns, 0);
	assert_int_equal(options.set_bytes, 512 << 20);
	parse(POOL_MIXED, NULL, NULL, NULL, NULL);
	assert_int_equal(options.duration_ns, 5 * FAR_NS_PER_S);
	parse(POOL_MIXED, "-n", "10", NULL, NULL);
	assert_int_equal(options.duration_ns, 0);
	parse(POOL_INCAST, NULL, NULL, NULL, NULL);
	assert_int_equal(options.clients, 4);
}

/* 2^64 nanoseconds and a third of a second. */
static void
a_duration_beyond_an_hour_is_refused_however_long(void **state)
{
	int status = 0;
	pid_t pid = fork();
	(void)state;

	if (pid == 0) {
		(void)freopen("/dev/null", "w", stderr);
		parse(POOL_PREFETCH, "-D", "18446744074", NULL, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), 0);
}

static void
a_block_is_known_by_its_bytes(void **state)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	uint64_t words[64];
	struct far_key a, b;
	(void)state;

	pool->nonce = 99;
	pool->size_bytes = sizeof(words);
	pool_block_fill(pool, 5, words, true);
	assert_true(pool_block_is(pool, 5, words, true));
	assert_false(pool_block_is(pool, 6, words, false));
	words[30] ^= 1;
	assert_true(pool_block_is(pool, 5, words, false));
	assert_false(pool_block_is(pool, 5, words, true));
	words[63] ^= 1;
	assert_false(pool_block_is(pool, 5, words, false));
	pool_block_fill(pool, 5, words, false);
	assert_true(pool_block_is(pool, 5, words, false));
	/* Nor are keys those of another run. */
	pool_key(pool, 5, &a);
	pool->nonce = 100;
	pool_key(pool, 5, &b);
	assert_memory_not_equal(&a, &b, sizeof(a));
	free(pool);
}

/* Of DeepSeek-AI, «Insights into DeepSeek-V3», table 1: KB per token, in bfloat16. */
static void
models_have_the_sizes_that_were_published(void **state)
{
	struct model_shape shape;
	(void)state;

	assert_int_equal(model_find("deepseek-v3", &shape), 0);
	assert_int_equal(model_layer_bytes(&shape, 1) * shape.layers, 70272);
	/* What is compressed is the same for each rank. */
	assert_int_equal(model_layer_bytes(&shape, 8) * shape.layers, 70272);
	assert_int_equal(model_find("Qwen2.5-72B", &shape), 0);
	assert_int_equal(model_layer_bytes(&shape, 1) * shape.layers, 327680);
	assert_int_equal(model_find("llama-3.1-405b", &shape), 0);
	assert_int_equal(model_layer_bytes(&shape, 1) * shape.layers, 516096);
	/* Heads are split, and repeated where there are fewer than ranks. */
	assert_int_equal(model_layer_bytes(&shape, 8) * shape.layers, 516096 / 8);
	assert_int_equal(model_layer_bytes(&shape, 16) * shape.layers, 516096 / 8);
	assert_int_equal(model_find("llama-3.1-8b", &shape), 0);
	assert_int_equal(model_layer_bytes(&shape, 1) * shape.layers, 128 << 10);
	assert_int_equal(model_find("llama", &shape), -ENOENT);
}

static void
a_shape_is_four_numbers(void **state)
{
	struct model_shape shape;
	(void)state;

	assert_int_equal(model_parse("32,8,128,2", &shape), 0);
	assert_int_equal(model_layer_bytes(&shape, 1) * shape.layers, 128 << 10);
	assert_int_equal(model_parse("32,8,128", &shape), -EINVAL);
	assert_int_equal(model_parse("32,8,128,2,9", &shape), -EINVAL);
	assert_int_equal(model_parse("32,8,128,", &shape), -EINVAL);
	assert_int_equal(model_parse("0,8,128,2", &shape), -EINVAL);
	assert_int_equal(model_parse("32,-8,128,2", &shape), -EINVAL);
	assert_int_equal(model_parse("32,8,128,99999999999", &shape), -EINVAL);
}

static double
real(json_t *row, const char *name)
{
	return json_number_value(json_object_get(row, name));
}

static void
the_report_says_what_arithmetic_says_and_nothing_it_does_not_know(void **state)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	struct pool_row *row;
	json_t *root, *result;
	(void)state;

	parse(POOL_PREFETCH, NULL, NULL, NULL, NULL);
	pool->options = &options;
	pool->rows = calloc(1, sizeof(*pool->rows));
	row = pool->rows;
	pool->row_count = 1;
	row->what = "prefetch";
	row->hist = calloc(1, sizeof(*row->hist));
	row->size_bytes = 1 << 20;
	row->batch = 4;
	row->requests = 250;
	row->keys = 1000;
	row->bytes = 1000ULL << 20;
	row->ns = FAR_NS_PER_S / 2;
	row->counts.loaded_bytes = row->bytes;
	row->counts.cpu_ns = row->bytes / 8;
	row->counts.messages = 3;
	row->phases.lookups = 10;
	row->phases.lookup_ns = 25000;
	perf_hist_add(row->hist, 200000);
	root = pool_report_json(pool);
	assert_non_null(root);
	result = json_array_get(json_object_get(root, "results"), 0);
	assert_int_equal((int)real(result, "BW_average"), 2000);
	assert_true(real(result, "MsgRate") > 0.00199 && real(result, "MsgRate") < 0.00201);
	assert_true(real(result, "client_cpu_s_per_gb") > 0.1249);
	assert_true(real(result, "client_cpu_s_per_gb") < 0.1251);
	assert_int_equal((int)(real(result, "lookup_us") * 10), 25);
	assert_int_equal((int)real(result, "t_typical"), 200);
	assert_int_equal((int)real(result, "messages"), 3);
	/* No donor said what it used, and nothing was loaded in a time that is known. */
	assert_true(json_is_null(json_object_get(result, "donor_cpu_s_per_gb")));
	assert_true(json_is_null(json_object_get(result, "data_us")));
	assert_int_equal(json_array_size(json_object_get(result, "histogram_ns")), 1);
	json_decref(root);
	free(row->hist);
	free(pool->rows);
	free(pool);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_of_sizes_and_batches_are_swept),
		cmocka_unit_test(a_mode_has_defaults_of_its_own),
		cmocka_unit_test(a_duration_beyond_an_hour_is_refused_however_long),
		cmocka_unit_test(a_block_is_known_by_its_bytes),
		cmocka_unit_test(models_have_the_sizes_that_were_published),
		cmocka_unit_test(a_shape_is_four_numbers),
		cmocka_unit_test(the_report_says_what_arithmetic_says_and_nothing_it_does_not_know),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
