/* config.c - a client's configuration: the example is read, what contradicts itself is refused. */
#include "client/config.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "client/arena.h"
#include "l1/l1.h"
#include "transport/transport.h"

static char error[FAR_PARAM_ERROR_BYTES];

static int
load(const char *text, struct far_client_config *config)
{
	int rc;

	memset(config, 0, sizeof(*config));
	rc = far_param_load_text(&far_client_params, "test.yaml", text, strlen(text), config,
				 error);
	if (rc == 0)
		rc = far_client_config_check(config, error);
	return rc;
}

static void
refused(const char *text, const char *cause)
{
	struct far_client_config config;

	assert_int_equal(load(text, &config), -EINVAL);
	if (strstr(error, cause) == NULL)
		fail_msg("'%s' does not say '%s'", error, cause);
	far_client_config_fini(&config);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
example_configuration_is_read(void **state)
{
	struct far_client_config config;

	(void)state;
	memset(&config, 0, sizeof(config));
	if (far_param_load(&far_client_params, FAR_TEST_CONFIGS "/client.yaml", &config, error) !=
	    0)
		fail_msg("%s", error);
	assert_int_equal(far_client_config_check(&config, error), 0);
	assert_int_equal(config.donor_count, 2);
	assert_string_equal(config.donors[1].name, "donor-b");
	assert_int_equal(config.l1_bytes, 256 << 20);
	far_client_config_fini(&config);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

static void
example_of_a_gpu_is_read(void **state)
{
	struct far_client_config config;

	(void)state;
	memset(&config, 0, sizeof(config));
	if (far_param_load(&far_client_params, FAR_TEST_CONFIGS "/client-gpu.yaml", &config,
			   error) != 0)
		fail_msg("%s", error);
	assert_int_equal(far_client_config_check(&config, error), 0);
	assert_int_equal(config.l1_memory, FAR_MEMORY_CUDA);
	assert_int_equal(config.l1_bytes, 40ULL << 30);
	far_client_config_fini(&config);
}

#define ON_GPU "l1: {size: 64MiB, memory: cuda"

static void
keys_of_one_kind_of_memory_are_refused_with_the_other(void **state)
{
	(void)state;
	refused(ON_GPU ", huge_pages: on}\n", "l1.huge_pages is given and l1.memory is cuda");
	refused(ON_GPU ", numa_node: 0}\n", "l1.numa_node is given and l1.memory is cuda");
	refused(ON_GPU ", gpu_stage: 1MiB, gpu_slice: 512KiB}\n", "l1.gpu_slice is 524288");
	refused("l1: {size: 64MiB, memory: vram}\n", "host, cuda");
	refused("l1: {size: 64MiB, device: 1}\n", "l1.device is given and l1.memory is host");
	refused("l1: {size: 64MiB, gpu_direct: never}\n", "l1.gpu_direct is given");
	refused("l1: {size: 64MiB, gpu_mapped: never}\n", "l1.gpu_mapped is given");
	refused("l1: {size: 64MiB, gpu_stage: 1MiB}\n", "l1.gpu_stage is given");
	refused("l1: {size: 64MiB, gpu_slice: 1MiB}\n", "l1.gpu_slice is given");
}

static void
verify_on_a_gpu_is_refused_and_says_why(void **state)
{
	(void)state;
	refused(ON_GPU "}\nverify: always\n", "the processor that would check their CRC");
}

static void
options_of_a_gpu_are_those_of_the_file(void **state)
{
	struct far_client_options options = {
		.size_bytes = sizeof(options),
		.l1_bytes = 64 << 20,
		.l1_memory = "cuda",
		.l1_device = 3,
		.l1_gpu_direct = "always",
		.l1_gpu_mapped = "never",
		.l1_gpu_stage_bytes = 8 << 20,
		.l1_gpu_slice_bytes = 1 << 20,
	};
	struct far_client_config from_options;
	struct far_client_config from_file;

	(void)state;
	assert_int_equal(far_client_config_from_options(&options, &from_options, error), 0);
	assert_int_equal(load(ON_GPU ", device: 3, gpu_direct: always, gpu_mapped: never, "
				     "gpu_stage: 8MiB, gpu_slice: 1MiB}\n",
			      &from_file),
			 0);
	assert_memory_equal(&from_options, &from_file, sizeof(from_file));
	options.l1_memory = "rocm";
	assert_int_equal(far_client_config_from_options(&options, &from_options, error), -EINVAL);
	assert_non_null(strstr(error, "l1.memory"));
	/* Memory of the caller's own is a device's. */
	options = (struct far_client_options){
		.size_bytes = sizeof(options), .l1_bytes = 64 << 20, .l1_base = &options};
	assert_int_equal(far_client_config_from_options(&options, &from_options, error), 0);
	assert_int_equal(far_client_config_check(&from_options, error), -EINVAL);
	assert_non_null(strstr(error, "l1_base is given"));
}

static void
defaults_of_file_and_options_agree(void **state)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = 64 << 20};
	struct far_client_config from_options;
	struct far_client_config from_file;

	(void)state;
	assert_int_equal(far_client_config_from_options(&options, &from_options, error), 0);
	assert_int_equal(load("l1:\n  size: 64MiB\n", &from_file), 0);
	assert_memory_equal(&from_options, &from_file, sizeof(from_file));
	far_client_config_fini(&from_options);
	far_client_config_fini(&from_file);
}

static void
contradictions_are_refused_with_their_cause(void **state)
{
	(void)state;
	refused("name: x\n", "l1.size");
	refused("l1: {size: 64MiB, align: 100B}\n", "l1.align");
	refused("l1: {size: 64MiB}\nretry_min: 3s\nretry_max: 1s\n", "retry_min");
	refused("l1: {size: 64MiB}\ndonors:\n  - {name: a, address: 'shm:/1'}\n"
		"  - {name: a, address: 'shm:/2'}\n",
		"both named 'a'");
	refused("l1: {size: 64MiB}\ndonors:\n  - {name: a, address: '/1'}\n", "no transport");
	refused("l1: {size: 64MiB}\ndonors:\n  - {name: a}\n", "address");
}

static void
policies_are_read_and_what_they_cannot_be_is_refused(void **state)
{
	struct far_client_config config;

	(void)state;
	assert_int_equal(
		load("l1: {size: 64MiB, eviction: s3fifo, evict_high: 0.5, evict_low: 0.25}\n"
		     "prefetch: {policy: 'placement,fastest'}\n"
		     "store: {policy: 'placement,admit_after_n', admit_after: 3}\n",
		     &config),
		0);
	assert_int_equal(config.l1_eviction, FAR_L1_S3FIFO);
	assert_true(config.l1_evict_high == 0.5 && config.l1_evict_low == 0.25);
	assert_string_equal(config.prefetch_policy, "placement,fastest");
	assert_string_equal(config.store_policy, "placement,admit_after_n");
	assert_int_equal(config.store_admit_after, 3);
	far_client_config_fini(&config);
	/* Off, whatever the low one says. */
	assert_int_equal(load("l1: {size: 64MiB, evict_high: 1, evict_low: 1}\n", &config), 0);
	far_client_config_fini(&config);
	refused("l1: {size: 64MiB, eviction: fifo}\n", "lru, s3fifo, none");
	refused("l1:\n  size: 64MiB\n  evict_high: 1.5\n", "test.yaml:3");
	refused("l1: {size: 64MiB, evict_high: 0.5}\n",
		"l1.evict_low is 0.9 and l1.evict_high 0.5");
	refused("l1: {size: 64MiB, evict_high: 0, evict_low: 0}\n", "l1.evict_high: 1");
	refused("l1: {size: 64MiB}\nprefetch: {policy: nearest}\n", "prefetch.policy");
	refused("l1: {size: 64MiB}\npolicy: placement\n", "policy");
	refused("l1: {size: 64MiB}\nstore: {policy: never}\n", "store.policy");
	refused("l1: {size: 64MiB}\nstore: {policy: 'skip_l1,skip_l1'}\n", "store.policy");
	refused("l1: {size: 64MiB}\nevents: 100\n", "a power of two");
	refused("l1: {size: 64MiB}\nevents: 32\n", "a power of two");
}

static void
policies_of_options_are_those_of_a_file(void **state)
{
	struct far_client_options options = {
		.size_bytes = sizeof(options),
		.l1_bytes = 64 << 20,
		.prefetch_policy = "default",
		.store_policy = "admit_after_n",
		.store_admit_after = 5,
		.l1_eviction = "s3fifo",
		.l1_evict_high = 0.5,
		.l1_evict_low = 0.25,
		.helpers = FAR_HELPERS_NONE,
	};
	struct far_client_config from_options;
	struct far_client_config from_file;

	(void)state;
	assert_int_equal(far_client_config_from_options(&options, &from_options, error), 0);
	assert_int_equal(
		load("l1: {size: 64MiB, eviction: s3fifo, evict_high: 0.5, evict_low: 0.25}\n"
		     "prefetch: {policy: default}\n"
		     "store: {policy: admit_after_n, admit_after: 5}\n"
		     "helpers: 0\n",
		     &from_file),
		0);
	assert_memory_equal(&from_options, &from_file, sizeof(from_file));
	options.l1_eviction = "fifo";
	assert_int_equal(far_client_config_from_options(&options, &from_options, error), -EINVAL);
	assert_non_null(strstr(error, "l1.eviction"));
	options.l1_eviction = NULL;
	options.helpers = 17;
	assert_int_equal(far_client_config_from_options(&options, &from_options, error), -EINVAL);
	assert_non_null(strstr(error, "helpers"));
	options.helpers = 0;
	options.l1_evict_high = NAN;
	assert_int_equal(far_client_config_from_options(&options, &from_options, error), 0);
	assert_int_equal(far_client_config_check(&from_options, error), -EINVAL);
	far_client_config_fini(&from_options);
	far_client_config_fini(&from_file);
}

/* Up to where the options were first published. */
static void
options_of_an_older_caller_are_taken(void **state)
{
	struct far_client_options options = {
		.size_bytes = offsetof(struct far_client_options, prefetch_policy),
		.l1_bytes = 64 << 20,
		.l1_eviction = "not there for it",
	};
	struct far_client_config config;

	(void)state;
	assert_int_equal(far_client_config_from_options(&options, &config, error), 0);
	assert_int_equal(config.l1_eviction, FAR_L1_LRU);
	far_client_config_fini(&config);
}

static void
options_of_another_size_are_refused(void **state)
{
	struct far_client_options options = {.l1_bytes = 64 << 20};
	struct far_client_config config;

	(void)state;
	assert_int_equal(far_client_config_from_options(&options, &config, error), -EINVAL);
	assert_non_null(strstr(error, "size_bytes"));
	far_client_config_fini(&config);
}

static void
trust_is_none_unless_it_is_asked_for(void **state)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = 64 << 20};
	struct far_client_config config;

	(void)state;
	assert_int_equal(far_client_config_from_options(&options, &config, error), 0);
	assert_int_equal(config.trust, FAR_TRUST_NONE);
	far_client_config_fini(&config);
	options.trust = "fabric";
	assert_int_equal(far_client_config_from_options(&options, &config, error), 0);
	assert_int_equal(config.trust, FAR_TRUST_FABRIC);
	far_client_config_fini(&config);
	options.trust = "everybody";
	assert_int_equal(far_client_config_from_options(&options, &config, error), -EINVAL);
	assert_non_null(strstr(error, "trust"));
	far_client_config_fini(&config);
	refused("l1: {size: 64MiB}\ntrust: everybody\n", "trust");
}

static void
rdma_is_told_within_what_devices_know(void **state)
{
	static const char *const bad[] = {
		"traffic_class: 256", "service_level: 16", "ack_timeout: 0",
		"ack_timeout: 999us", "ack_timeout: 5s",   "ack_timeout: 300",
		"retries: 0",         "retries: 7",        "rnr_retries: 0",
		"rnr_retries: 7",     "traffic_class: -1",
	};
	struct far_client_config config;
	(void)state;

	assert_int_equal(load("l1: {size: 64MiB}\n", &config), 0);
	assert_int_equal(config.rdma.traffic_class, 0);
	assert_int_equal(config.rdma.service_level, 0);
	assert_int_equal(config.rdma.ack_timeout_ns, 268 * FAR_NS_PER_MS);
	assert_int_equal(config.rdma.retries, 6);
	assert_int_equal(config.rdma.rnr_retries, 6);
	far_client_config_fini(&config);
	assert_int_equal(load("l1: {size: 64MiB}\nverbs: {traffic_class: 255, service_level: 15, "
			      "ack_timeout: 4s, retries: 1, rnr_retries: 1}\n",
			      &config),
			 0);
	assert_int_equal(config.rdma.traffic_class, 255);
	assert_int_equal(config.rdma.service_level, 15);
	assert_int_equal(config.rdma.ack_timeout_ns, 4 * FAR_NS_PER_S);
	assert_int_equal(config.rdma.retries, 1);
	assert_int_equal(config.rdma.rnr_retries, 1);
	far_client_config_fini(&config);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[128];
		char key[32] = "verbs.";

		(void)snprintf(text, sizeof(text), "l1: {size: 64MiB}\nverbs:\n  %s\n", bad[i]);
		strncat(key, bad[i], strcspn(bad[i], ":"));
		refused(text, key);
	}
}

/* docs/configuration.md has a section per table, made by far_param_document(). */
static void
reference_page_is_the_table(void **state)
{
	char *page = NULL;
	char *docs;
	size_t page_size = 0;
	size_t docs_size;
	FILE *stream = open_memstream(&page, &page_size);
	FILE *file = fopen(FAR_TEST_DOCS "/configuration.md", "r");

	(void)state;
	assert_non_null(stream);
	far_param_document(&far_client_params, stream);
	fclose(stream);
	if (file == NULL)
		fail_msg("docs/configuration.md is missing: ./dev docs writes it");
	docs = calloc(1, 1 << 20);
	assert_non_null(docs);
	docs_size = fread(docs, 1, (1 << 20) - 1, file);
	fclose(file);
	assert_true(docs_size > 0);
	if (strstr(docs, page) == NULL)
		fail_msg("docs/configuration.md differs from the client's parameters: run ./dev "
			 "docs");
	free(page);
	free(docs);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(example_configuration_is_read),
		cmocka_unit_test(example_of_a_gpu_is_read),
		cmocka_unit_test(keys_of_one_kind_of_memory_are_refused_with_the_other),
		cmocka_unit_test(verify_on_a_gpu_is_refused_and_says_why),
		cmocka_unit_test(options_of_a_gpu_are_those_of_the_file),
		cmocka_unit_test(defaults_of_file_and_options_agree),
		cmocka_unit_test(contradictions_are_refused_with_their_cause),
		cmocka_unit_test(policies_are_read_and_what_they_cannot_be_is_refused),
		cmocka_unit_test(policies_of_options_are_those_of_a_file),
		cmocka_unit_test(options_of_an_older_caller_are_taken),
		cmocka_unit_test(options_of_another_size_are_refused),
		cmocka_unit_test(trust_is_none_unless_it_is_asked_for),
		cmocka_unit_test(rdma_is_told_within_what_devices_know),
		cmocka_unit_test(reference_page_is_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
