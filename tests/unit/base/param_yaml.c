/* param_yaml.c - configuration files: read whole, or refused with file, line and key. */
#include "base/param.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "tests/unit/base/param_fixture.h"

static int
nothing_is_left(void **state)
{
	(void)state;
	assert_int_equal(far_alloc_live_bytes(), 0);
	return 0;
}

static int
load(const char *text, struct fixture_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	return far_param_load_text(&fixture_table, "farpoold.yaml", text, strlen(text), config,
				   error);
}

/* The message behind "farpoold.yaml:". */
static void
refused(const char *text, const char *message)
{
	char error[FAR_PARAM_ERROR_BYTES], whole[FAR_PARAM_ERROR_BYTES];
	struct fixture_config config;

	memset(&config, 0xee, sizeof(config));
	assert_int_equal(load(text, &config, error), -EINVAL);
	(void)snprintf(whole, sizeof(whole), "farpoold.yaml:%s", message);
	assert_string_equal(error, whole);
	/* Nothing to free after a refusal, and freeing does no harm. */
	assert_int_equal(far_alloc_live_bytes(), 0);
	far_param_fini(&fixture_table, &config);
}

static void
a_whole_file_is_read(void **state)
{
	static const char text[] = "# a comment\n"
				   "memory: 4GiB\n"
				   "grace: 20ms\n"
				   "rails: 2\n"
				   "name: \"rack 7: a\"\n"
				   "verify: true\n"
				   "ratio: 0.5\n"
				   "l1:\n"
				   "  size: 2GiB\n"
				   "  policy: s3fifo\n"
				   "  evict: {low: 70}\n"
				   "donors:\n"
				   "  - name: a\n"
				   "  - {name: b, weight: 7}\n"
				   "  - name: c\n"
				   "    weight: 9\n";
	char error[FAR_PARAM_ERROR_BYTES] = "x";
	struct fixture_config config;
	(void)state;

	memset(&config, 0xee, sizeof(config));
	assert_int_equal(load(text, &config, error), 0);
	assert_string_equal(error, "");
	assert_int_equal(config.memory, UINT64_C(4) << 30);
	assert_int_equal(config.grace_ns, 20000000);
	assert_int_equal(config.rails, 2);
	assert_string_equal(config.name, "rack 7: a");
	assert_true(config.verify);
	assert_true(config.ratio == 0.5);
	assert_int_equal(config.l1_size, UINT64_C(2) << 30);
	assert_int_equal(config.l1_policy, 1);
	assert_int_equal(config.l1_evict_low, 70);
	assert_int_equal(config.donor_count, 3);
	assert_string_equal(config.donors[0].name, "a");
	assert_int_equal(config.donors[0].weight, 1);
	assert_string_equal(config.donors[1].name, "b");
	assert_int_equal(config.donors[1].weight, 7);
	assert_string_equal(config.donors[2].name, "c");
	assert_int_equal(config.donors[2].weight, 9);
	far_param_fini(&fixture_table, &config);
	assert_null(config.donors);
	far_param_fini(&fixture_table, &config);
}

static void
other_spellings_of_the_same_file_are_read(void **state)
{
	static const char *const texts[] = {
		"{memory: 4GiB, l1: {policy: none}}",
		"---\nmemory: 4GiB\nl1.policy: none\n...\n",
		"\xef\xbb\xbfmemory: '4GiB'\r\nl1:\r\n    policy: \"none\"\r\n",
		"memory: 4GiB\ndonors: []\nl1: {\"policy\": none}\n",
	};
	char error[FAR_PARAM_ERROR_BYTES];
	struct fixture_config config;
	(void)state;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(load(texts[i], &config, error), 0);
		assert_int_equal(config.memory, UINT64_C(4) << 30);
		assert_int_equal(config.l1_policy, 2);
		assert_int_equal(config.donor_count, 0);
	}
}

static void
unknown_keys_are_refused_with_a_suggestion(void **state)
{
	(void)state;
	refused("memory: 4GiB\nralis: 2\n",
		"2: key 'ralis': unknown; did you mean 'rails'? known keys: memory, grace, rails, "
		"name, verify, ratio, l1, donors");
	refused("memory: 4GiB\nl1:\n  size: 1GiB\n  polcy: lru\n",
		"4: key 'l1.polcy': unknown; did you mean 'l1.policy'? known keys: l1.size, "
		"l1.policy, l1.evict");
	refused("memory: 4GiB\ndonors:\n  - name: a\n  - name: b\n    wieght: 1\n",
		"5: key 'donors[1].wieght': unknown; did you mean 'weight'? known keys: name, "
		"weight");
	refused("memory: 4GiB\n<<: {rails: 1}\n",
		"2: key '<<': unknown; known keys: memory, grace, rails, name, verify, ratio, l1, "
		"donors");
}

static void
keys_given_twice_are_refused(void **state)
{
	(void)state;
	refused("memory: 4GiB\nrails: 1\nmemory: 5GiB\n",
		"3: key 'memory': given twice, first in line 1; remove one");
	refused("memory: 4GiB\nl1: {size: 1GiB}\nl1: {policy: lru}\n",
		"3: key 'l1': given twice, first in line 2; remove one");
	refused("memory: 4GiB\nl1: {size: 1GiB}\nl1.size: 2GiB\n",
		"3: key 'l1.size': given twice, first in line 2; remove one");
	refused("memory: 4GiB\ndonors: []\ndonors: []\n",
		"3: key 'donors': given twice, first in line 2; remove one");
	refused("memory: 4GiB\ndonors:\n- name: a\n  name: b\n",
		"4: key 'donors[0].name': given twice, first in line 3; remove one");
	refused("memory: 4GiB\nl1:\n evict: {low: 1}\n evict: {}\n",
		"4: key 'l1.evict': given twice, first in line 3; remove one");
}

static void
missing_keys_are_named_with_an_example(void **state)
{
	(void)state;
	refused("", "1: key 'memory': missing; add it, for example 'memory: 2MiB': What this donor "
		    "lends.");
	refused("# nothing\n---\n# but comments\n",
		"1: key 'memory': missing; add it, for example 'memory: 2MiB': What this donor "
		"lends.");
	refused("memory: 4GiB\ndonors:\n  - name: a\n  - weight: 2\n",
		"4: key 'donors[1].name': missing; add it, for example 'name: TEXT': Unique in the "
		"rack.");
	refused("memory: 4GiB\ndonors:\n  - {}\n",
		"3: key 'donors[0].name': missing; add it, for example 'name: TEXT': Unique in the "
		"rack.");
}

static void
values_of_a_wrong_shape_are_refused(void **state)
{
	(void)state;
	refused("memory: {a: b}\n",
		"1: key 'memory': takes one value, not a mapping; write for example 2MiB");
	refused("memory: 4GiB\ngrace: [1s]\n",
		"2: key 'grace': takes one value, not a list; write for example 50ms");
	refused("memory:\nrails: 1\n", "1: key 'memory': has no value; write for example 2MiB");
	refused("memory: 4GiB\ngrace: ~\n",
		"2: key 'grace': has no value; write for example 50ms, or remove the line");
	refused("memory: 4GiB\nl1: 7\n",
		"2: key 'l1': is a group of keys; write below it, indented: size, policy, evict");
	refused("memory: 4GiB\nl1:\n",
		"2: key 'l1': is a group of keys; write below it, indented: size, policy, evict");
	refused("memory: 4GiB\ndonors: a\n", "2: key 'donors': takes a list; begin each item with "
					     "'- ' and its keys: name, weight");
	refused("memory: 4GiB\ndonors:\n  - a\n",
		"3: key 'donors[0]': not a mapping; write its keys: name, weight");
	refused("memory: 4GiB\n? [a]\n: b\n",
		"2: a key is a mapping or a list; write 'key: value'");
	refused("- memory\n", "1: not a mapping; write lines 'key: value', with the keys memory, "
			      "grace, rails, name, verify, ratio, l1, donors");
	refused("memory: 12\n", "1: key 'memory': '12' has no unit; write for example 12GiB");
	refused("memory: 4GiB\nrails: '9'\n", "2: key 'rails': '9' is too large; write 1 to 4");
}

static void
lists_end_at_their_bound(void **state)
{
	char error[FAR_PARAM_ERROR_BYTES];
	struct fixture_config config;
	(void)state;

	assert_int_equal(load("memory: 4GiB\ndonors: [{name: a}, {name: b}, {name: c}, {name: d}, "
			      "{name: e}]\n",
			      &config, error),
			 0);
	assert_int_equal(config.donor_count, 5);
	assert_string_equal(config.donors[0].name, "a");
	assert_string_equal(config.donors[4].name, "e");
	far_param_fini(&fixture_table, &config);
	refused("memory: 4GiB\ndonors: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e},\n"
		"  {name: f}]\n",
		"3: key 'donors': more than 5 items; remove some");
}

static void
text_that_is_no_yaml_names_its_line(void **state)
{
	(void)state;
	refused("memory: 4GiB\n\tgrace: 1s\n",
		"2: not YAML: found a tab character that violates indentation; check indentation "
		"(blanks, no tabs), colons and quotes");
	refused("memory: 4GiB\ngrace\n",
		"3: not YAML: could not find expected ':'; check indentation (blanks, no tabs), "
		"colons and quotes");
	refused("memory: 4GiB\nname: \"open\n",
		"3: not YAML: found unexpected end of stream; check "
		"indentation (blanks, no tabs), colons and quotes");
	refused("memory: 4GiB\nname: \xff\n",
		"2: invalid leading UTF-8 octet at byte 19; save the file as plain UTF-8 text");
	refused("memory: 4GiB\n---\nmemory: 4GiB\n",
		"2: a second document begins; write one file for each");
}

static void
anchors_aliases_and_tags_are_refused(void **state)
{
	(void)state;
	refused("memory: &a 4GiB\n",
		"1: anchors (&) and aliases (*) are not used here; write the value out");
	refused("memory: 4GiB\nl1: &x {size: 1GiB}\n",
		"2: anchors (&) and aliases (*) are not used here; write the value out");
	refused("memory: 4GiB\ngrace: *a\n",
		"2: anchors (&) and aliases (*) are not used here; write the value out");
	refused("memory: !!str 4GiB\n", "1: tags (!) are not used here; write the value out");
}

static void
any_length_of_key_and_value_is_refused_in_one_bounded_line(void **state)
{
	static char text[9000];
	char error[FAR_PARAM_ERROR_BYTES];
	struct fixture_config config;
	(void)state;

	for (size_t size = 1; size < 4000; size = size * 2 + 1) {
		(void)snprintf(text, sizeof(text), "memory: 4GiB\nname: %0*d\n", (int)size + 40, 0);
		assert_int_equal(load(text, &config, error), -EINVAL);
		assert_int_equal(strncmp(error, "farpoold.yaml:2: key 'name': ", 29), 0);
		(void)snprintf(text, sizeof(text), "memory: 4GiB\n? k%0*d\n: 1\n", (int)size, 0);
		assert_int_equal(load(text, &config, error), -EINVAL);
		assert_int_equal(strncmp(error, "farpoold.yaml:2: key 'k0", 24), 0);
		assert_non_null(strstr(error, "known keys: memory"));
	}
	refused("memory: 4GiB\n? \"rails\\0x\"\n: 1\n",
		"2: key 'rails': longer than 1024 bytes, or with a NUL byte; known keys: memory, "
		"grace, rails, name, verify, ratio, l1, donors");
	refused("memory: 4GiB\nname: \"a\\0b\"\n",
		"2: key 'name': longer than 1024 bytes, or with a NUL byte; shorten it");
	refused("memory: 4GiB\nname: \"a\\nb\"\n",
		"2: key 'name': 'a?b' has a control character at byte 2; remove it");
}

static void
a_file_that_is_too_large_is_refused_unread(void **state)
{
	static char text[(1 << 20) + 1];
	char error[FAR_PARAM_ERROR_BYTES];
	struct fixture_config config;
	(void)state;

	memset(text, '#', sizeof(text));
	assert_int_equal(
		far_param_load_text(&fixture_table, "big.yaml", text, sizeof(text), &config, error),
		-EINVAL);
	assert_string_equal(error, "big.yaml: larger than 1 MiB; this is not a configuration file");
}

static void
every_failed_allocation_is_no_memory_and_leaves_nothing(void **state)
{
	static const char text[] = "memory: 4GiB\ndonors: [{name: a}, {name: b}, {name: c}]\n";
	char error[FAR_PARAM_ERROR_BYTES];
	struct fixture_config config;
	int failures = 0;
	(void)state;

	for (uint64_t nth = 1;; nth++) {
		int rc;

		far_alloc_fail_nth(nth);
		rc = load(text, &config, error);
		far_alloc_fail_nth(0);
		if (rc == 0)
			break;
		failures++;
		assert_int_equal(rc, -ENOMEM);
		assert_string_equal(error, "farpoold.yaml: no memory to read it");
		assert_int_equal(far_alloc_live_bytes(), 0);
	}
	assert_true(failures >= 4);
	far_param_fini(&fixture_table, &config);
}

static void
a_file_is_read_from_its_path_or_the_reason_is_given(void **state)
{
	char path[] = "/tmp/far-param-XXXXXX", error[FAR_PARAM_ERROR_BYTES];
	struct fixture_config config;
	int fd = mkstemp(path);
	(void)state;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "memory: 3GiB\n", 13), 13);
	assert_int_equal(close(fd), 0);
	assert_int_equal(far_param_load(&fixture_table, path, &config, error), 0);
	assert_int_equal(config.memory, UINT64_C(3) << 30);
	assert_int_equal(chmod(path, 0), 0);
	if (geteuid() != 0) { /* root reads anything */
		assert_int_equal(far_param_load(&fixture_table, path, &config, error), -EACCES);
		assert_non_null(strstr(error, ": Permission denied; check its permissions"));
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(far_param_load(&fixture_table, "/no/such.yaml", &config, error), -ENOENT);
	assert_string_equal(
		error, "/no/such.yaml: no such file; check the path, or copy one from configs/");
	assert_int_equal(far_param_load(&fixture_table, "/", &config, error), -EINVAL);
	assert_string_equal(error, "/: a directory; name the file in it");
	assert_int_equal(config.rails, 1); /* defaults, even then */
	far_param_fini(&fixture_table, &config);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_file_is_read),
		cmocka_unit_test(other_spellings_of_the_same_file_are_read),
		cmocka_unit_test(unknown_keys_are_refused_with_a_suggestion),
		cmocka_unit_test(keys_given_twice_are_refused),
		cmocka_unit_test(missing_keys_are_named_with_an_example),
		cmocka_unit_test(values_of_a_wrong_shape_are_refused),
		cmocka_unit_test(lists_end_at_their_bound),
		cmocka_unit_test(text_that_is_no_yaml_names_its_line),
		cmocka_unit_test(anchors_aliases_and_tags_are_refused),
		cmocka_unit_test(any_length_of_key_and_value_is_refused_in_one_bounded_line),
		cmocka_unit_test(a_file_that_is_too_large_is_refused_unread),
		cmocka_unit_test(every_failed_allocation_is_no_memory_and_leaves_nothing),
		cmocka_unit_test(a_file_is_read_from_its_path_or_the_reason_is_given),
	};
	struct fixture_config config;
	char error[FAR_PARAM_ERROR_BYTES];

	if (load("memory: 4GiB\n", &config, error) == -EOPNOTSUPP) {
		(void)printf("skipped: %s\n", error);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
