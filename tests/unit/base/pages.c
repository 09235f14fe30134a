/* pages.c - populated, sealed, counted; more than the machine has is an answer, not a killer. */
#include "base/pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static void
pages_map(size_t size_bytes, struct far_pages *out)
{
	assert_int_equal(far_pages_map_shared("far-test", size_bytes, FAR_PAGES_HUGE_OFF, -1, out),
			 0);
}

static int
nothing_stays_mapped(void **state)
{
	(void)state;
	assert_int_equal(far_pages_live_bytes(), 0);
	return 0;
}

static void
every_page_is_there_on_return(void **state)
{
	static unsigned char there[1024];
	struct far_pages pages;
	(void)state;

	pages_map(3 * MIB + 1, &pages);
	assert_int_equal(pages.size_bytes, 3 * MIB + 4096);
	assert_int_equal(pages.page_bytes, 4096);
	assert_int_equal(far_pages_live_bytes(), pages.size_bytes);
	assert_int_equal(mincore(pages.base, pages.size_bytes, there), 0);
	for (size_t i = 0; i < pages.size_bytes / 4096; i++)
		assert_int_equal(there[i] & 1, 1);
	memset(pages.base, 0x11, pages.size_bytes);
	far_pages_unmap(&pages);
	assert_null(pages.base);
	assert_int_equal(pages.fd, -1);
}

static void
a_peer_can_neither_resize_nor_write_nor_punch(void **state)
{
	struct far_pages pages;
	(void)state;

	pages_map(MIB, &pages);
	assert_int_equal(fcntl(pages.fd, F_GET_SEALS),
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | 0x10 /* FUTURE_WRITE */);
	assert_int_equal(fcntl(pages.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(ftruncate(pages.fd, 4096), -1);
	assert_int_equal(ftruncate(pages.fd, 2 * MIB), -1);
	assert_int_equal(fallocate(pages.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
			 -1);
	assert_int_equal(write(pages.fd, "x", 1), -1);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, pages.fd, 0),
			 MAP_FAILED);
	far_pages_unmap(&pages);
}

static void
a_peer_sees_what_the_owner_writes(void **state)
{
	struct far_pages pages, peer;
	(void)state;

	pages_map(MIB, &pages);
	assert_int_equal(far_pages_map_peer(dup(pages.fd), MIB, true, &peer), 0);
	assert_int_equal(peer.fd, -1);
	assert_int_equal(far_pages_live_bytes(), 2 * MIB);
	memcpy((char *)pages.base + MIB - 4, "far", 4);
	assert_string_equal((char *)peer.base + MIB - 4, "far");
	far_pages_unmap(&pages);
	assert_string_equal((char *)peer.base + MIB - 4, "far"); /* outlives the owner */
	far_pages_unmap(&peer);
}

/* Descriptors that are open; none may be lost on any way out. */
static int
descriptor_count(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void
a_descriptor_that_can_shrink_or_is_too_small_is_refused_and_closed(void **state)
{
	struct far_pages pages, peer = {.fd = -7};
	int before = descriptor_count(), fd;
	(void)state;

	fd = memfd_create("far-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, MIB), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_int_equal(far_pages_map_peer(fd, MIB, false, &peer), -EPERM);
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	assert_int_equal(far_pages_map_peer(fd, MIB, false, &peer), -EPERM);
	pages_map(MIB, &pages);
	assert_int_equal(far_pages_map_peer(dup(pages.fd), MIB + 1, false, &peer), -EINVAL);
	assert_int_equal(far_pages_map_peer(dup(pages.fd), 0, false, &peer), -EINVAL);
	assert_int_equal(far_pages_map_peer(dup(pages.fd), SIZE_MAX, false, &peer), -EINVAL);
	assert_int_equal(peer.fd, -7); /* untouched on failure */
	far_pages_unmap(&pages);
	assert_int_equal(far_pages_map_peer(-1, MIB, false, &peer), -EPERM);
	assert_int_equal(descriptor_count(), before);
}

static void
more_than_the_machine_has_is_no_memory(void **state)
{
	uint64_t available = far_pages_available_bytes();
	int before = descriptor_count();
	struct far_pages pages;
	(void)state;

	assert_true(available > 0);
	assert_int_equal(far_pages_map_shared("far-test", available + 64 * MIB, FAR_PAGES_HUGE_AUTO,
					      -1, &pages),
			 -ENOMEM);
	assert_int_equal(far_pages_map_shared("far-test", SIZE_MAX, FAR_PAGES_HUGE_OFF, -1, &pages),
			 -ENOMEM);
	assert_int_equal(
		far_pages_map_shared("far-test", SIZE_MAX / 2, FAR_PAGES_HUGE_ON, -1, &pages),
		-ENOMEM);
	assert_int_equal(descriptor_count(), before);
}

static void
nonsense_is_refused(void **state)
{
	struct far_pages pages;
	(void)state;

	assert_int_equal(far_pages_map_shared("x", 0, FAR_PAGES_HUGE_OFF, -1, &pages), -EINVAL);
	assert_int_equal(far_pages_map_shared("x", MIB, FAR_PAGES_HUGE_OFF, -2, &pages), -EINVAL);
	assert_int_equal(far_pages_map_shared("x", MIB, FAR_PAGES_HUGE_OFF, 1 << 20, &pages),
			 -EINVAL);
	assert_int_equal(far_pages_map_shared("x", MIB, FAR_PAGES_HUGE_OFF, 1023, &pages),
			 -EINVAL); /* no such node */
}

static void
huge_pages_are_there_or_refused_and_automatic_ones_always_succeed(void **state)
{
	struct far_pages pages;
	int rc;
	(void)state;

	rc = far_pages_map_shared("far-test", MIB, FAR_PAGES_HUGE_ON, -1, &pages);
	if (rc == 0) {
		struct far_pages peer;

		assert_int_equal(pages.page_bytes, 2 * MIB);
		assert_int_equal(pages.size_bytes, 2 * MIB);
		assert_int_equal(far_pages_map_peer(dup(pages.fd), MIB, true, &peer), 0);
		assert_int_equal(peer.page_bytes, 2 * MIB);
		far_pages_unmap(&peer);
		far_pages_unmap(&pages);
	} else {
		assert_int_equal(rc, -ENOMEM);
	}
	assert_int_equal(far_pages_map_shared("far-test", MIB, FAR_PAGES_HUGE_AUTO, -1, &pages), 0);
	memset(pages.base, 1, pages.size_bytes);
	far_pages_unmap(&pages);
}

/* How much of the mapping at @base the kernel has as 2 MiB entries of its table. */
static size_t
huge_bytes(const void *base)
{
	static const char key[] = "ShmemPmdMapped:";
	FILE *smaps = fopen("/proc/self/smaps", "re");
	char line[256], start[32];
	bool inside = false;
	size_t kib = 0;

	assert_non_null(smaps);
	(void)snprintf(start, sizeof(start), "%" PRIxPTR "-", (uintptr_t)base);
	while (fgets(line, sizeof(line), smaps) != NULL) {
		if (strncmp(line, start, strlen(start)) == 0)
			inside = true;
		else if (strncmp(line, "VmFlags", 7) == 0)
			inside = false;
		else if (inside && strncmp(line, key, strlen(key)) == 0)
			kib = strtoul(line + strlen(key), NULL, 10);
	}
	(void)fclose(smaps);
	return kib << 10;
}

/* Whether the kernel makes any is its affair; who maps them after that has them as well. */
static void
huge_pages_that_were_made_are_the_peers_too(void **state)
{
	struct far_pages pages, peer;
	size_t made;
	(void)state;

	assert_int_equal(
		far_pages_map_shared("far-test", 4 * MIB + 4096, FAR_PAGES_HUGE_MAKE, -1, &pages),
		0);
	assert_int_equal(far_pages_map_peer(dup(pages.fd), 4 * MIB + 4096, true, &peer), 0);
	assert_int_equal((uintptr_t)pages.base % (2 * MIB), 0);
	assert_int_equal((uintptr_t)peer.base % (2 * MIB), 0);
	for (size_t at = 0; at < pages.size_bytes; at += 4096)
		assert_int_equal(((const char *)peer.base)[at], 0);
	((char *)pages.base)[4 * MIB] = 1;
	assert_int_equal(((const char *)peer.base)[4 * MIB], 1);
	made = huge_bytes(pages.base);
	print_message("%zu MiB of 4 were made of 2 MiB pages\n", made / MIB);
	if (pages.page_bytes == 4096)
		assert_int_equal(huge_bytes(peer.base), made);
	far_pages_unmap(&peer);
	far_pages_unmap(&pages);
}

/* A donor's backing on tmpfs: new, and as its successor finds it. */
static void
huge_pages_for_a_file_keep_what_is_in_it(void **state)
{
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct far_pages pages;
	(void)state;

	if (fd < 0)
		skip();
	for (int start = 0; start < 2; start++) {
		assert_int_equal(far_pages_map_file(dup(fd), 4 * MIB + 4096, FAR_PAGES_HUGE_MAKE,
						    -1, &pages),
				 0);
		assert_int_equal((uintptr_t)pages.base % (2 * MIB), 0);
		for (size_t at = 0; at < pages.size_bytes; at += 4096) {
			char *byte = (char *)pages.base + at;

			assert_int_equal(*byte, start == 0 ? 0 : (char)(at >> 12));
			*byte = (char)(at >> 12);
		}
		far_pages_unmap(&pages);
	}
	assert_int_equal(close(fd), 0);
}

static void
a_child_does_not_inherit_the_mapping(void **state)
{
	struct far_pages pages;
	int status;
	pid_t pid;
	(void)state;

	pages_map(MIB, &pages);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		unsigned char there;

		/* ENOMEM: the range is not mapped. */
		_exit(mincore(pages.base, 4096, &there) < 0 && errno == ENOMEM ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	far_pages_unmap(&pages);
}

static void
no_descriptor_left_is_named(void **state)
{
	struct rlimit before, none;
	struct far_pages pages;
	(void)state;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(far_pages_map_shared("far-test", MIB, FAR_PAGES_HUGE_AUTO, -1, &pages),
			 -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void
unmapping_nothing_is_fine(void **state)
{
	struct far_pages pages = {0};
	(void)state;

	far_pages_unmap(&pages);
	assert_int_equal(pages.fd, -1);
	far_pages_unmap(&pages);
	assert_true(fcntl(0, F_GETFD) >= 0); /* descriptor 0 of the zeroed struct is not ours */
}

static void
a_long_name_is_cut(void **state)
{
	char name[400];
	struct far_pages pages;
	(void)state;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(far_pages_map_shared(name, 1, FAR_PAGES_HUGE_OFF, 0, &pages), 0);
	far_pages_unmap(&pages);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_page_is_there_on_return),
		cmocka_unit_test(a_peer_can_neither_resize_nor_write_nor_punch),
		cmocka_unit_test(a_peer_sees_what_the_owner_writes),
		cmocka_unit_test(
			a_descriptor_that_can_shrink_or_is_too_small_is_refused_and_closed),
		cmocka_unit_test(more_than_the_machine_has_is_no_memory),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(huge_pages_are_there_or_refused_and_automatic_ones_always_succeed),
		cmocka_unit_test(huge_pages_that_were_made_are_the_peers_too),
		cmocka_unit_test(huge_pages_for_a_file_keep_what_is_in_it),
		cmocka_unit_test(a_child_does_not_inherit_the_mapping),
		cmocka_unit_test(no_descriptor_left_is_named),
		cmocka_unit_test(unmapping_nothing_is_fine),
		cmocka_unit_test(a_long_name_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, nothing_stays_mapped);
}
