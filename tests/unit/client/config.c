/* config.c - a client's configuration: the example is read, what contradicts itself is refused. */
#include "client/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
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
		cmocka_unit_test(defaults_of_file_and_options_agree),
		cmocka_unit_test(contradictions_are_refused_with_their_cause),
		cmocka_unit_test(options_of_another_size_are_refused),
		cmocka_unit_test(trust_is_none_unless_it_is_asked_for),
		cmocka_unit_test(reference_page_is_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
