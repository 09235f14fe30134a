/* list.c - a page of a donor that is not there, or of nothing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "farpool/farpool.h"

static void
donor_that_is_not_there_lists_nothing(void **state)
{
	struct far_client_options options = {.size_bytes = sizeof(options), .l1_bytes = 1 << 20};
	uint64_t until_ns = far_now_ns() + 10 * FAR_NS_PER_S;
	struct far_client *client = NULL;
	struct far_listed block;
	uint64_t cursor = 5;
	size_t count = 77;

	(void)state;
	assert_int_equal(far_client_open(&options, &client), 0);
	assert_int_equal(far_list(client, 0, &cursor, &block, 1, &count, until_ns), -ENOENT);
	assert_int_equal(far_list(client, SIZE_MAX, &cursor, &block, 1, &count, until_ns), -ENOENT);
	assert_int_equal(far_list(client, 0, &cursor, &block, 0, &count, until_ns), -EINVAL);
	assert_int_equal(
		far_list(client, 0, &cursor, &block, FAR_LIST_BLOCKS_MAX + 1, &count, until_ns),
		-EINVAL);
	assert_int_equal(far_list(client, 0, NULL, &block, 1, &count, until_ns), -EINVAL);
	assert_int_equal(far_list(client, 0, &cursor, NULL, 1, &count, until_ns), -EINVAL);
	assert_int_equal(far_list(client, 0, &cursor, &block, 1, NULL, until_ns), -EINVAL);
	assert_int_equal(far_list(NULL, 0, &cursor, &block, 1, &count, until_ns), -EINVAL);
	assert_int_equal(cursor, 5);
	assert_int_equal(count, 77);
	far_client_close(client);
	assert_int_equal(far_alloc_live_bytes(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(donor_that_is_not_there_lists_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
