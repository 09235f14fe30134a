/* params.c - tests: parameters are fitted to small donors, and wrong ones are named in one line. */
#include "tests/unit/pool/test.h"

#include "tools/farpoold/farpoold.h"

static void
fitted(uint64_t memory, uint64_t segment, uint64_t lane)
{
	struct far_pool_config config = {.capacity_bytes = memory};

	far_pool_config_fit(&config);
	assert_int_equal(config.segment_bytes, segment);
	assert_int_equal(config.lane_bytes, lane);
	assert_int_equal(config.capacity_bytes, memory - memory % lane);
}

static void
sizes_follow_the_memory(void **state)
{
	(void)state;
	fitted(64ULL << 30, 256 << 20, 16 << 20);
	fitted(1ULL << 30, 256 << 20, 16 << 20);
	fitted((1ULL << 30) - 1, 128 << 20, 16 << 20);
	fitted(128 << 20, 32 << 20, 4 << 20);
	fitted(16 << 20, 4 << 20, 4 << 20);
	fitted((16 << 20) + 5, 4 << 20, 4 << 20);
}

static void
sizes_that_were_asked_for_stay(void **state)
{
	struct far_pool_config config = {
		.capacity_bytes = 64 << 20, .segment_bytes = 20 << 20, .lane_bytes = 0};

	(void)state;
	far_pool_config_fit(&config);
	assert_int_equal(config.segment_bytes, 20 << 20);
	assert_int_equal(config.lane_bytes, 4 << 20);
	config = (struct far_pool_config){.capacity_bytes = 64 << 20, .lane_bytes = 16 << 20};
	far_pool_config_fit(&config);
	assert_int_equal(config.segment_bytes, 16 << 20);
	assert_int_equal(config.lane_bytes, 16 << 20);
}

static void
refused(const struct far_pool_config *config, const char *part)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";

	assert_int_equal(far_pool_config_check(config, error), -EINVAL);
	if (strncmp(error, part, strlen(part)) != 0)
		fail_msg("'%s' does not begin with '%s'", error, part);
	assert_null(strchr(error, '\n'));
}

#define REFUSED(field, value, part)                                                                \
	do {                                                                                       \
		rig_config(&config);                                                               \
		config.field = (value);                                                            \
		refused(&config, part);                                                            \
	} while (0)

static void
wrong_parameters_are_named(void **state)
{
	char error[FAR_PARAM_ERROR_BYTES];
	struct far_pool_config config;

	(void)state;
	rig_config(&config);
	assert_int_equal(far_pool_config_check(&config, error), 0);
	REFUSED(name[0], '\0', "name: ");
	REFUSED(name[0], '/', "name: ");
	REFUSED(name_space[0], ' ', "namespace: ");
	REFUSED(lane_bytes, 3 << 20, "lane: ");
	REFUSED(lane_bytes, 2 << 20, "lane: ");
	REFUSED(segment_bytes, 6 << 20, "segment: ");
	REFUSED(segment_bytes, 0, "segment: ");
	REFUSED(capacity_bytes, 3 * RIG_LANE_BYTES, "memory: ");
	REFUSED(capacity_bytes, 4 * RIG_LANE_BYTES + 1, "memory: ");
	REFUSED(capacity_bytes, 1ULL << 60, "memory: ");
	REFUSED(block_bytes_min, 0, "block_min: ");
	REFUSED(block_bytes_min, RIG_LANE_BYTES + 1, "block_min: ");
	REFUSED(lanes_free_min, 4, "lanes_free: ");
	REFUSED(lanes_free_min, 0, "lanes_free: ");
	REFUSED(hot_share_max, 51, "hot_share: ");
	REFUSED(links_max, 0, "max_links: ");
	REFUSED(recall_ns, 0, "recall, lane_idle: ");
	rig_config(&config);
	config.capacity_bytes = 64ULL << 40 >> 4;
	config.lane_bytes = FAR_LANE_BYTES_MAX;
	config.segment_bytes = FAR_LANE_BYTES_MAX;
	refused(&config, "memory: more segments");
	config.segment_bytes = 8ULL << 30;
	config.block_bytes_min = 64;
	refused(&config, "block_min: ");
}

static int
load(const char *const *settings, size_t count, char error[FAR_PARAM_ERROR_BYTES])
{
	struct farpoold_config config;

	return farpoold_config_load(NULL, settings, count, &config, error);
}

static void
daemon_says_which_parameter_is_missing_or_wrong(void **state)
{
	static const char *const good[] = {"name=a", "listen=shm:/tmp/a.sock", "memory=64MiB"};
	static const char *const cases[][2] = {
		{"name=a b", "name: "},
		{"listen=tcp:x", "listen: 'tcp:x': this build has no transport 'tcp'"},
		{"listen=shm:", "listen: 'shm:' names no transport"},
		{"memory=64", "'64' has no unit"},
		{"memory=0", "key 'memory'"},
		{"memroy=1GiB", "did you mean 'memory'?"},
		{"lane=3MiB", "lane: "},
		{"huge_pages=maybe", "huge_pages"},
		{"numa_node=99", "numa_node"},
		{"memory", "not a setting"},
	};
	char error[FAR_PARAM_ERROR_BYTES] = "";

	(void)state;
	far_log_capture_start();
	assert_int_equal(load(good, 3, error), 0);
	for (size_t i = 0; i < 3; i++) {
		const char *const two[] = {good[i], good[(i + 1) % 3]};

		assert_true(load(two, 2, error) < 0);
		assert_non_null(strstr(error, "missing"));
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *const four[] = {good[0], good[1], good[2], cases[i][0]};

		assert_true(load(four, 4, error) < 0);
		if (strstr(error, cases[i][1]) == NULL)
			fail_msg("'%s' lacks '%s'", error, cases[i][1]);
		assert_null(strchr(error, '\n'));
	}
	far_log_capture_finish();
}

static void
sample_configuration_is_good_as_it_is(void **state)
{
	struct farpoold_config config;
	char error[FAR_PARAM_ERROR_BYTES] = "";

	(void)state;
	far_log_capture_start();
	if (farpoold_config_load(FAR_TEST_CONFIG, NULL, 0, &config, error) < 0)
		fail_msg("%s", error);
	assert_string_equal(config.pool.name, "donor-a");
	assert_string_equal(config.pool.name_space, "default");
	assert_int_equal(config.pool.capacity_bytes, 4ULL << 30);
	assert_int_equal(config.pool.grace_ns, 50 * FAR_NS_PER_MS);
	far_log_capture_finish();
}

static void
settings_go_over_the_file(void **state)
{
	static const char *const settings[] = {"name=other", "grace=1s"};
	struct farpoold_config config;
	char error[FAR_PARAM_ERROR_BYTES] = "";

	(void)state;
	far_log_capture_start();
	assert_int_equal(farpoold_config_load(FAR_TEST_CONFIG, settings, 2, &config, error), 0);
	assert_string_equal(config.pool.name, "other");
	assert_int_equal(config.pool.grace_ns, FAR_NS_PER_S);
	assert_int_equal(config.pool.capacity_bytes, 4ULL << 30);
	far_log_capture_finish();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_follow_the_memory),
		cmocka_unit_test(sizes_that_were_asked_for_stay),
		cmocka_unit_test(wrong_parameters_are_named),
		cmocka_unit_test(daemon_says_which_parameter_is_missing_or_wrong),
		cmocka_unit_test(sample_configuration_is_good_as_it_is),
		cmocka_unit_test(settings_go_over_the_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
