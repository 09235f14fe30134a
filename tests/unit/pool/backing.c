/* backing.c - tests: the folder that outlives a donor: what is in it is looked at before it is used. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "pool/pool.h"
#include "tests/support/log_capture.h"
#include "tools/farpoold/backing.h"
#include "transport/loop/loop.h"
#include "wire/index.h"

#define MIB        (1024L * 1024L)
#define SEGMENTS   4U
#define TMPFS      0x01021994
#define PATH_BYTES 300
#define NOBODY     65534

static struct farpoold_config config;
static char folder[64];

static void
path_make(char out[PATH_BYTES], const char *name)
{
	(void)snprintf(out, PATH_BYTES, "%s/%s", folder, name);
}

static int
setup(void **state)
{
	char backing[80], error[FAR_PARAM_ERROR_BYTES];
	const char *const settings[] = {"name=donor-a", "listen=shm:/tmp/unused.sock",
					"memory=64MiB", "segment=16MiB",
					"lane=4MiB",    backing};
	struct statfs fs;

	(void)state;
	if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS) {
		printf("/dev/shm is no tmpfs\n");
		return -1;
	}
	(void)snprintf(folder, sizeof(folder), "/dev/shm/farpool-unit-%d", (int)getpid());
	(void)snprintf(backing, sizeof(backing), "backing=%s", folder);
	return farpoold_config_load(NULL, settings, 6, &config, error);
}

static int
teardown(void **state)
{
	char command[100];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

/* A donor's start and end, over loop instead of a rail; how many segments it found. */
static uint32_t
start_and_end(void)
{
	struct far_loop_config fabric_config = {0};
	struct far_transport_config tp_config = {.host = "donor"};
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct farpoold_backing backing;
	struct farpoold_memory memory;
	struct far_loop_fabric *fabric;
	struct far_pool_rails rails = {.count = 1};
	struct far_mem_source index = {.fd = -1};
	struct far_transport *tp;
	struct far_pool *pool;
	struct far_rng rng;
	uint32_t found;

	if (farpoold_backing_open(&config, 1, &backing, error) < 0)
		fail_msg("%s", error);
	found = backing.found_count;
	assert_int_equal(farpoold_memory_open(&config, 1, &backing, &memory, error), 0);
	assert_int_equal(far_loop_fabric_open(&fabric_config, &fabric), 0);
	tp_config.fabric = fabric;
	tp_config.clock = far_loop_clock(fabric);
	assert_int_equal(far_transport_open("loop", &tp_config, &tp), 0);
	rails.tps = &tp;
	index.base = memory.index.base;
	index.size_bytes = memory.index.size_bytes;
	far_rng_init(&rng, 1);
	assert_int_equal((backing.over ? far_pool_reopen : far_pool_open)(
				 &config.pool, &rails, &index, tp_config.clock, &rng, NULL, &pool),
			 0);
	assert_int_equal(farpoold_backing_own(&backing, &memory.index), 0);
	while (farpoold_memory_next_bytes(&memory) > 0) {
		struct far_mem_source source = {.size_bytes = farpoold_memory_next_bytes(&memory),
						.fd = -1};
		uint32_t number = farpoold_memory_next_number(&memory);
		struct far_pages pages;

		assert_int_equal(farpoold_memory_map(&memory, &pages), 0);
		source.base = pages.base;
		if (number != 0)
			assert_int_equal(far_pool_segment_restore(pool, &source, number), 0);
		else
			assert_int_equal(far_pool_segment_add(pool, &source, &number), 0);
		assert_int_equal(number,
				 backing.number_last > number ? number : backing.number_last);
		farpoold_memory_keep(&memory, &pages);
	}
	assert_int_equal(memory.mapped_bytes, config.pool.capacity_bytes);
	far_pool_shutdown(pool);
	far_pool_close(pool);
	farpoold_memory_close(&memory);
	far_transport_close(tp);
	far_loop_fabric_close(fabric);
	farpoold_backing_close(&backing);
	return found;
}

/* The line that a donor would end with. */
static void
assert_refused(int rc, const char *part)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct farpoold_backing backing;

	assert_int_equal(farpoold_backing_open(&config, 1, &backing, error), rc);
	assert_int_equal(backing.folder_fd, -1);
	if (strstr(error, part) == NULL)
		fail_msg("'%s' lacks '%s'", error, part);
}

static void
index_change(size_t offset, uint64_t value)
{
	char path[PATH_BYTES];
	int fd;

	path_make(path, "index");
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &value, sizeof(value), (off_t)offset), sizeof(value));
	close(fd);
}

static void
second_start_finds_what_the_first_left(void **state)
{
	(void)state;
	assert_int_equal(start_and_end(), 0);
	assert_int_equal(start_and_end(), SEGMENTS);
	assert_int_equal(far_pages_live_bytes(), 0);
}

static void
segment_that_cannot_be_one_is_removed(void **state)
{
	char path[PATH_BYTES], other[PATH_BYTES];
	struct stat st;

	(void)state;
	far_log_capture_start();
	assert_int_equal(start_and_end(), 0);
	path_make(path, "segment-000002");
	assert_int_equal(truncate(path, 15 * MIB), 0); /* not of whole lanes */
	path_make(other, "segment-000003");
	assert_int_equal(unlink(other), 0);
	assert_int_equal(symlink(path, other), 0);
	far_log_capture_expect("segment-000002 removed");
	far_log_capture_expect("segment-000003 removed");
	assert_int_equal(start_and_end(), SEGMENTS - 2);
	/* New ones have new numbers: no slot of before can mean them. */
	assert_int_equal(stat(path, &st), -1);
	path_make(path, "segment-000006");
	assert_int_equal(stat(path, &st), 0);
	/* One of fewer lanes is of use, and more than there is room for is not. */
	path_make(path, "segment-000004");
	assert_int_equal(truncate(path, 8 * MIB), 0);
	assert_int_equal(start_and_end(), SEGMENTS);
	path_make(path, "segment-000099");
	assert_int_equal(close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600)), 0);
	assert_int_equal(truncate(path, 16 * MIB), 0);
	far_log_capture_expect("segment-000099 removed");
	assert_int_equal(start_and_end(), SEGMENTS + 1);
	far_log_capture_finish();
}

/* As a user who is not above rights. 0: it is kept, whatever comes of it when it is mapped. */
static int
unopenable_open(const char *path)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct farpoold_backing backing;

	if (geteuid() == 0 && seteuid(NOBODY) < 0)
		return 1;
	if (open(path, O_RDWR | O_CLOEXEC) >= 0)
		return 2;
	if (farpoold_backing_open(&config, 1, &backing, error) < 0)
		return 3;
	if (backing.found_count != SEGMENTS)
		return 4;
	return access(path, F_OK) == 0 ? 0 : 5;
}

static void
segment_that_cannot_be_opened_now_is_kept(void **state)
{
	char path[PATH_BYTES], command[120];
	int status = 0;
	pid_t child;

	(void)state;
	assert_int_equal(start_and_end(), 0);
	path_make(path, "segment-000002");
	assert_int_equal(chmod(path, 0), 0);
	(void)snprintf(command, sizeof(command), "chown -R %d %s", NOBODY, folder);
	if (geteuid() == 0)
		assert_int_equal(system(command), 0);
	child = fork();
	if (child == 0)
		_exit(unopenable_open(path));
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* A pool has room for a few more segments than its memory makes, not for any number of small ones. */
static void
too_many_small_segments_are_removed(void **state)
{
	char path[PATH_BYTES], name[32];

	(void)state;
	far_log_capture_start();
	far_log_capture_expect("removed: of a size");
	assert_int_equal(start_and_end(), 0);
	for (int number = 1; number <= 16; number++) {
		(void)snprintf(name, sizeof(name), "segment-%06d", number);
		path_make(path, name);
		assert_int_equal(close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600)), 0);
		assert_int_equal(truncate(path, 4 * MIB), 0);
	}
	/* 10 of 4 MiB, and two new ones for what is missing of 64 MiB. */
	assert_int_equal(start_and_end(), 10);
	assert_int_equal(start_and_end(), 12);
	far_log_capture_finish();
}

static void
folder_that_others_may_write_is_refused(void **state)
{
	(void)state;
	assert_int_equal(start_and_end(), 0);
	assert_int_equal(chmod(folder, 0770), 0);
	assert_refused(-EPERM, "somebody else may write to it");
	assert_int_equal(chmod(folder, 0700), 0);
}

static void
index_of_another_kind_is_refused_by_name(void **state)
{
	struct farpoold_config was = config;
	char path[PATH_BYTES];

	(void)state;
	assert_int_equal(start_and_end(), 0);
	(void)snprintf(config.pool.name, sizeof(config.pool.name), "donor-b");
	assert_refused(-EINVAL, "another donor's");
	config = was;
	index_change(offsetof(struct far_index_header, set_count), 7);
	assert_refused(-EINVAL, "does not match its checksum");
	index_change(offsetof(struct far_index_header, magic), 7);
	assert_refused(-EINVAL, "no index of a donor");
	path_make(path, "index");
	assert_int_equal(truncate(path, 100), 0);
	assert_refused(-EINVAL, "cut short");
	assert_int_equal(chmod(path, 0666), 0);
	assert_refused(-EPERM, "no file of this user's alone");
}

static void
index_cut_behind_its_header_is_refused(void **state)
{
	char path[PATH_BYTES];

	(void)state;
	assert_int_equal(start_and_end(), 0);
	path_make(path, "index");
	assert_int_equal(truncate(path, 8192), 0);
	assert_refused(-EINVAL, "cut short");
}

static void
disk_is_no_place_for_it(void **state)
{
	struct farpoold_config was = config;
	struct statfs fs;
	char cwd[200];

	(void)state;
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	if (statfs(cwd, &fs) < 0 || fs.f_type == TMPFS)
		skip();
	(void)snprintf(config.backing, sizeof(config.backing), "%s/backing-%d", cwd, (int)getpid());
	assert_refused(-EINVAL, "do not stay in memory");
	assert_int_equal(rmdir(config.backing), 0);
	config = was;
}

/* In a mount namespace of its own. What it ends with: 0: refused as it should be; 77: no such pages. */
static int
gigantic_open(void)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct farpoold_backing backing;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mkdir(folder, 0700) < 0 ||
	    mount("none", folder, "hugetlbfs", 0, "pagesize=1G,mode=0700") < 0)
		return 77;
	if (farpoold_backing_open(&config, 1, &backing, error) != -EINVAL)
		return 1;
	return strstr(error, "its pages are of 1.0 GiB") == NULL;
}

static void
pages_larger_than_a_segment_are_refused(void **state)
{
	pid_t child = fork();
	int status = 0;

	(void)state;
	if (child == 0)
		_exit(gigantic_open());
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		printf("hugetlbfs with pages of 1 GiB cannot be mounted here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
owner_is_gone_only_when_that_is_proved(void **state)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct farpoold_owner self, owner;
	pid_t child;

	(void)state;
	farpoold_owner_self(&self);
	assert_int_equal(self.pid, getpid());
	assert_true(self.start_ticks > 0);
	assert_true(self.pidns_inode > 0);
	assert_int_equal(farpoold_owner_gone(&self, 0, error), -EBUSY);
	assert_non_null(strstr(error, "still runs"));
	owner = self;
	owner.pid = 0; /* closed as it should be */
	assert_int_equal(farpoold_owner_gone(&owner, 0, error), 0);
	owner = self;
	owner.start_ticks++; /* its number was given to us */
	assert_int_equal(farpoold_owner_gone(&owner, 0, error), 0);
	owner = self;
	owner.boot_id[0] ^= 1;
	assert_int_equal(farpoold_owner_gone(&owner, 0, error), 0);
	owner = self;
	owner.pidns_inode ^= 1;
	assert_int_equal(farpoold_owner_gone(&owner, 0, error), -EBUSY);
	assert_non_null(strstr(error, "pid namespace"));
	/* What cannot be read, here or there, proves nothing: not another boot, nor the same namespace. */
	owner = self;
	memset(owner.boot_id, 0, sizeof(owner.boot_id));
	assert_int_equal(farpoold_owner_gone(&owner, 0, error), -EBUSY);
	owner = self;
	owner.pidns_inode = 0;
	assert_int_equal(farpoold_owner_gone(&owner, 0, error), -EBUSY);

	child = fork();
	if (child == 0)
		_exit(0);
	assert_true(child > 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	owner = self;
	owner.pid = (uint64_t)child;
	owner.start_ticks = 0;
	assert_int_equal(farpoold_owner_gone(&owner, 0, error), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(second_start_finds_what_the_first_left, teardown),
		cmocka_unit_test_teardown(segment_that_cannot_be_one_is_removed, teardown),
		cmocka_unit_test_teardown(segment_that_cannot_be_opened_now_is_kept, teardown),
		cmocka_unit_test_teardown(too_many_small_segments_are_removed, teardown),
		cmocka_unit_test_teardown(folder_that_others_may_write_is_refused, teardown),
		cmocka_unit_test_teardown(index_of_another_kind_is_refused_by_name, teardown),
		cmocka_unit_test_teardown(index_cut_behind_its_header_is_refused, teardown),
		cmocka_unit_test(disk_is_no_place_for_it),
		cmocka_unit_test_teardown(pages_larger_than_a_segment_are_refused, teardown),
		cmocka_unit_test(owner_is_gone_only_when_that_is_proved),
	};

	if (setup(NULL) != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
