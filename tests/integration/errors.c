/* errors.c - what goes wrong at an operator's hands: one line that names the cause and a next step. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/support/rig.h"

static struct rig_run run; /* large */

static void
write_file(const struct rig *rig, const char *name, const char *text, char path_out[160])
{
	FILE *file;

	snprintf(path_out, 160, "%s/%s", rig->dir, name);
	file = fopen(path_out, "w");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

/* The run failed and said so in one line that has both words. */
static void
assert_said(const char *cause, const char *next)
{
	const char *newline = strchr(run.err, '\n');

	if (run.status == 0 || strstr(run.err, cause) == NULL || strstr(run.err, next) == NULL ||
	    newline == NULL || newline[1] != '\0')
		fail_msg("status %d; wanted one line with '%s' and '%s'; said: %s", run.status,
			 cause, next, run.err);
}

#define RUN(...)                                                                                   \
	do {                                                                                       \
		const char *const argv[] = {__VA_ARGS__, NULL};                                    \
		rig_run(&run, 60, argv);                                                           \
	} while (0)

static void
wrong_address_names_the_donor_and_what_to_do(void **state)
{
	(void)state;
	RUN(FAR_TEST_FARPOOL, "replay", "--donor", "donor-a=shm:/nonexistent/donor.sock",
	    "--timeout", "300ms", "--quiet");
	assert_said("donor donor-a: shm:/nonexistent/donor.sock", "start the donor");
	RUN(FAR_TEST_FARPOOL, "get", "--donor", "donor-a=tcp:somewhere", "key");
	assert_said("tcp:somewhere", "shm:/run/farpool/donor.sock");
}

static void
donor_with_another_name_is_refused(void **state)
{
	char spec[256];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-b", "64MiB", NULL);
	snprintf(spec, sizeof(spec), "donor-a=%s", rig.donors[0].address);
	RUN(FAR_TEST_FARPOOL, "get", "--donor", spec, "--timeout", "3s", "key");
	assert_said("donor-b", "correct");
	rig_close(&rig);
}

static void
two_donors_with_one_name_are_an_error(void **state)
{
	(void)state;
	RUN(FAR_TEST_FARPOOL, "get", "--donor", "a=shm:/tmp/1", "--donor", "a=shm:/tmp/2", "key");
	assert_said("both named 'a'", "rename");
}

static void
second_donor_at_one_address_does_not_start(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	RUN(FAR_TEST_FARPOOLD, "--config", rig.donors[0].config);
	assert_int_not_equal(run.status, 0);
	assert_non_null(strstr(run.err, "another process listens there"));
	rig_close(&rig);
}

static void
trace_that_is_empty_truncated_or_missing_names_file_and_line(void **state)
{
	char path[160];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	write_file(&rig, "empty.jsonl", "", path);
	RUN(FAR_TEST_FARPOOL, "replay", "--donor", "a=shm:/tmp/none", "--trace", path);
	assert_said("empty.jsonl: holds no request", "one JSON object a line");
	write_file(&rig, "cut.jsonl",
		   "{\"timestamp\": 0, \"hash_ids\": [1, 2]}\n{\"timestamp\": 1, \"hash_i", path);
	RUN(FAR_TEST_FARPOOL, "replay", "--donor", "a=shm:/tmp/none", "--trace", path);
	assert_said("cut.jsonl:2:", "ends in the middle");
	RUN(FAR_TEST_FARPOOL, "replay", "--donor", "a=shm:/tmp/none", "--trace", "/nonexistent");
	assert_said("/nonexistent", "No such file");
	rig_close(&rig);
}

static void
truncated_gzip_trace_is_refused(void **state)
{
	char path[160];
	char packed[170];
	char command[512];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	write_file(&rig, "t.jsonl", "", path);
	snprintf(packed, sizeof(packed), "%s.gz", path);
	snprintf(command, sizeof(command),
		 "i=0; while [ $i -lt 2000 ]; do echo "
		 "\"{\\\"timestamp\\\": $i, \\\"hash_ids\\\": [$i, $((i * 7919 %% 100003))]}\"; "
		 "i=$((i + 1)); done | gzip | head -c 4000 > %s",
		 packed);
	assert_int_equal(system(command), 0);
	RUN(FAR_TEST_FARPOOL, "replay", "--donor", "a=shm:/tmp/none", "--trace", packed);
	assert_said("t.jsonl.gz:", "truncated");
	rig_close(&rig);
}

static void
configuration_that_cannot_be_read_or_is_wrong_names_file_line_and_key(void **state)
{
	char path[160];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	RUN(FAR_TEST_FARPOOL, "get", "--config", "/nonexistent.yaml", "key");
	assert_said("/nonexistent.yaml", "farpool:");
	RUN(FAR_TEST_FARPOOLD, "--config", "/nonexistent.yaml");
	assert_said("/nonexistent.yaml", "farpoold:");
	write_file(&rig, "d.yaml", "name: donor-a\nlisten: shm:/tmp/x.sock\nmemory: 64\n", path);
	RUN(FAR_TEST_FARPOOLD, "--config", path);
	assert_said("d.yaml:3: key 'memory'", "64GiB");
	write_file(&rig, "e.yaml", "name: donor-a\nmemroy: 64MiB\n", path);
	RUN(FAR_TEST_FARPOOLD, "--config", path);
	assert_said("e.yaml:2: key 'memroy'", "memory");
	write_file(&rig, "c.yaml", "l1:\n  size: 64MiB\n  colour: red\n", path);
	RUN(FAR_TEST_FARPOOL, "get", "--config", path, "key");
	assert_said("c.yaml:3: key 'l1.colour'", "farpool:");
	rig_close(&rig);
}

static void
donor_that_cannot_get_its_memory_says_what_to_do(void **state)
{
	char path[160];
	char text[256];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	snprintf(text, sizeof(text), "name: donor-a\nlisten: shm:%s/a.sock\nmemory: 500GiB\n",
		 rig.dir);
	write_file(&rig, "d.yaml", text, path);
	RUN(FAR_TEST_FARPOOLD, "--config", path);
	assert_int_not_equal(run.status, 0);
	assert_non_null(strstr(run.err, "memory"));
	assert_non_null(strstr(run.err, "available"));
	rig_close(&rig);
}

static void
full_donor_evicts_or_says_that_it_is_full(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "16MiB", "segment: 8MiB\nlane: 4MiB\n");
	rig_client_config(&rig, "64MiB", NULL);
	RUN(FAR_TEST_FARPOOL, "replay", "--config", rig.client_config, "--generate", "100",
	    "--block", "64KiB", "--json", "--quiet");
	assert_int_equal(run.status, 0);
	assert_int_equal(rig_json_number(run.out, "wrong_bytes"), 0);
	assert_true(rig_json_number(run.out, "donor_evicted_blocks") > 0);
	rig_close(&rig);
}

static void
l1_that_cannot_hold_a_request_is_refused_before_the_first(void **state)
{
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	rig_client_config(&rig, "1MiB", NULL);
	RUN(FAR_TEST_FARPOOL, "replay", "--config", rig.client_config, "--generate", "50",
	    "--block", "256KiB", "--quiet");
	assert_said("L1 has 1.00 MiB", "raise --l1");
	rig_close(&rig);
}

static void
full_l1_says_so_and_loses_nothing(void **state)
{
	struct far_block *blocks[16];
	struct far_client *client;
	struct far_block *more;
	struct far_key key = {.bytes = {1}};
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	client = rig_client(&rig, "1MiB", NULL);
	for (size_t i = 0; i < 16; i++) {
		key.bytes[1] = (uint8_t)i;
		assert_int_equal(far_reserve(client, &key, 65536, &blocks[i]), 0);
		memset(far_block_buffer(blocks[i]), (int)i, 65536);
	}
	key.bytes[1] = 16;
	assert_int_equal(far_reserve(client, &key, 65536, &more), -ENOMEM);
	assert_int_equal(far_put(client, &key, "x", 1), -ENOMEM);
	for (size_t i = 0; i < 16; i++)
		assert_int_equal(far_commit(blocks[i]), 0);
	for (size_t i = 0; i < 16; i++) {
		key.bytes[1] = (uint8_t)i;
		assert_int_equal(far_get(client, &key, far_now_ns() + FAR_NS_PER_S, &more), 0);
		assert_int_equal(*(const uint8_t *)far_block_data(more), i);
		far_release(more);
	}
	far_client_close(client);
	rig_close(&rig);
}

static void
put_of_an_empty_file_is_refused(void **state)
{
	(void)state;
	RUN(FAR_TEST_FARPOOL, "put", "--donor", "a=shm:/tmp/none", "key", "/dev/null");
	assert_said("empty", "1 byte");
}

static void
put_get_status_and_delete_work_as_one_expects(void **state)
{
	char path[160];
	struct rig rig;

	(void)state;
	rig_open(&rig);
	rig_donor_add(&rig, "donor-a", "64MiB", NULL);
	rig_client_config(&rig, "4MiB", NULL);
	write_file(&rig, "block", "the bytes of a block", path);
	RUN(FAR_TEST_FARPOOL, "put", "--config", rig.client_config, "my key", path);
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, "stored"));
	RUN(FAR_TEST_FARPOOL, "get", "--config", rig.client_config, "my key");
	assert_int_equal(run.status, 0);
	assert_string_equal(run.out, "the bytes of a block");
	RUN(FAR_TEST_FARPOOL, "status", "--config", rig.client_config);
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, "donor-a: up"));
	assert_non_null(strstr(run.out, "L1 evicts lru, from 95 % full down to 90 %"));
	assert_non_null(strstr(run.out, "of 64.00 MiB"));
	assert_non_null(strstr(run.out, "block_count"));
	RUN(FAR_TEST_FARPOOL, "status", "--config", rig.client_config, "--json");
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, "\"block_count\": 1"));
	assert_non_null(strstr(run.out, "\"prefetch_policy\": \"placement,retain\""));
	assert_non_null(strstr(run.out, "\"l1_evict_high\": 0.95"));
	assert_non_null(strstr(run.out, "\"used_bytes\": "));
	assert_null(strstr(run.out, "\"used_bytes\": null"));
	RUN(FAR_TEST_FARPOOL, "status", "--config", rig.client_config, "--set",
	    "l1.eviction=s3fifo", "--set", "l1.evict_high=1", "--set", "store.policy=skip_l1");
	assert_int_equal(run.status, 0);
	assert_non_null(strstr(run.out, "store policy skip_l1; L1 evicts s3fifo, only when it is"));
	RUN(FAR_TEST_FARPOOL, "delete", "--config", rig.client_config, "my key");
	assert_int_equal(run.status, 0);
	RUN(FAR_TEST_FARPOOL, "get", "--config", rig.client_config, "my key");
	assert_said("my key", "a miss");
	rig_donor_signal(&rig.donors[0], SIGKILL);
	RUN(FAR_TEST_FARPOOL, "status", "--config", rig.client_config, "--timeout", "300ms");
	assert_int_equal(run.status, 1);
	rig_close(&rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_address_names_the_donor_and_what_to_do),
		cmocka_unit_test(donor_with_another_name_is_refused),
		cmocka_unit_test(two_donors_with_one_name_are_an_error),
		cmocka_unit_test(second_donor_at_one_address_does_not_start),
		cmocka_unit_test(trace_that_is_empty_truncated_or_missing_names_file_and_line),
		cmocka_unit_test(truncated_gzip_trace_is_refused),
		cmocka_unit_test(
			configuration_that_cannot_be_read_or_is_wrong_names_file_line_and_key),
		cmocka_unit_test(donor_that_cannot_get_its_memory_says_what_to_do),
		cmocka_unit_test(full_donor_evicts_or_says_that_it_is_full),
		cmocka_unit_test(l1_that_cannot_hold_a_request_is_refused_before_the_first),
		cmocka_unit_test(full_l1_says_so_and_loses_nothing),
		cmocka_unit_test(put_of_an_empty_file_is_refused),
		cmocka_unit_test(put_get_status_and_delete_work_as_one_expects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
