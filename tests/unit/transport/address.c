/* address.c - addresses begin with a transport's name; lists of them are taken apart and ranked. */
#include "transport/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void
an_address_is_split_at_its_first_colon(void **state)
{
	const char *rest = NULL;
	char name[16];
	(void)state;

	assert_int_equal(far_address_split("shm:/run/farpool/donor.sock", name, &rest), 0);
	assert_string_equal(name, "shm");
	assert_string_equal(rest, "/run/farpool/donor.sock");
	assert_int_equal(far_address_split("verbs:[fe80::1]:7471", name, &rest), 0);
	assert_string_equal(name, "verbs");
	assert_string_equal(rest, "[fe80::1]:7471");
	assert_int_equal(far_address_split("fifteen-letters:x", name, &rest), 0);
	assert_string_equal(name, "fifteen-letters");
}

static void
an_address_without_both_halves_is_refused(void **state)
{
	static const char *const bad[] = {"", ":", "shm", "shm:", ":/path", "sixteen-letters!:x"};
	const char *rest = "untouched";
	char name[16] = "untouched";
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(far_address_split(bad[i], name, &rest), -EINVAL);
	assert_string_equal(name, "untouched");
	assert_string_equal(rest, "untouched");
}

static void
a_list_is_split_at_commas_and_blanks_are_ignored(void **state)
{
	struct far_address_list list = {.count = 0};
	char error[192];
	(void)state;

	assert_int_equal(far_address_list_parse("shm:/a.sock", &list, error), 0);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.items[0].text, "shm:/a.sock");
	assert_int_equal(
		far_address_list_parse(" ucx:10.0.0.3:7471 , shm:/run/a b.sock", &list, error), 0);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[0].scheme, "ucx");
	assert_string_equal(far_address_rest(&list.items[0]), "10.0.0.3:7471");
	assert_string_equal(list.items[1].text, "shm:/run/a b.sock");
	assert_string_equal(far_address_rest(&list.items[1]), "/run/a b.sock");
}

static void
a_list_with_a_bad_item_is_refused_whole_with_the_item_named(void **state)
{
	static const struct {
		const char *text;
		const char *says;
	} bad[] = {
		{"", "'' names no transport"},
		{"shm:/a,", "'' names no transport"},
		{",shm:/a", "'' names no transport"},
		{"shm:/a,10.0.0.3", "'10.0.0.3' names no transport"},
		{"shm:/a,ucx:", "'ucx:' names no transport"},
		{"a:1,b:2,c:3,d:4,e:5", "more than 4 addresses"},
	};
	struct far_address_list list = {.count = 77};
	char error[192];
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(far_address_list_parse(bad[i].text, &list, error), -EINVAL);
		if (strstr(error, bad[i].says) == NULL)
			fail_msg("'%s' was answered with: %s", bad[i].text, error);
	}
	assert_int_equal(list.count, 77);
}

static void
an_address_of_any_length_stays_in_its_bounds(void **state)
{
	char text[FAR_ADDRESS_BYTES_MAX + 8];
	struct far_address_list list = {.count = 0};
	char error[192];
	(void)state;

	memset(text, 'x', sizeof(text));
	memcpy(text, "shm:", 4);
	text[FAR_ADDRESS_BYTES_MAX - 1] = '\0';
	assert_int_equal(far_address_list_parse(text, &list, error), 0);
	assert_string_equal(list.items[0].text, text);
	text[FAR_ADDRESS_BYTES_MAX - 1] = 'x';
	text[FAR_ADDRESS_BYTES_MAX] = '\0';
	assert_int_equal(far_address_list_parse(text, &list, error), -EINVAL);
	assert_non_null(strstr(error, "longer than 255 bytes"));
}

static void
the_same_host_comes_first_and_equals_keep_their_order(void **state)
{
	struct far_address_list list = {.count = 0};
	char error[192];
	(void)state;

	assert_int_equal(far_address_list_parse("pigeon:1,loop:a,shm:/a,loop:b", &list, error), 0);
	far_address_list_rank(&list);
	assert_int_equal(list.count, 4);
	assert_string_equal(list.items[0].text, "shm:/a");
	assert_string_equal(list.items[1].text, "loop:a");
	assert_string_equal(list.items[2].text, "loop:b");
	assert_string_equal(list.items[3].text, "pigeon:1"); /* unknown: last */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_is_split_at_its_first_colon),
		cmocka_unit_test(an_address_without_both_halves_is_refused),
		cmocka_unit_test(a_list_is_split_at_commas_and_blanks_are_ignored),
		cmocka_unit_test(a_list_with_a_bad_item_is_refused_whole_with_the_item_named),
		cmocka_unit_test(an_address_of_any_length_stays_in_its_bounds),
		cmocka_unit_test(the_same_host_comes_first_and_equals_keep_their_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
