/* pages.c - whole mappings, populated before use: no page fault and no SIGBUS on the data path. */
#include "base/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/pages_limit.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define NODE_COUNT_MAX  1024

#ifndef MADV_POPULATE_READ /* Linux 5.14; older headers, newer kernels */
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE /* Linux 6.1 */
#define MADV_COLLAPSE 25
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* A counter only: relaxed. */
static atomic_uint_fast64_t live_bytes;

/* Foreign errnos become ours: no descriptors, bad argument, or no memory for whatever reason. */
static int
errno_map(int code)
{
	if (code == EMFILE || code == ENFILE)
		return -EMFILE;
	return code == EINVAL || code == EOVERFLOW || code == EFBIG ? -EINVAL : -ENOMEM;
}

static void
pages_reset(struct far_pages *pages)
{
	*pages = (struct far_pages){.fd = -1};
}

/* Advice that keeps the pages ours: children and core dumps have no use for them. */
static void
advise_ours(void *base, size_t size_bytes)
{
	/* Both fail only for a range that is not mapped. */
	int rc = madvise(base, size_bytes, MADV_DONTFORK);

	FAR_ASSERT(rc == 0);
	(void)madvise(base, size_bytes, MADV_DONTDUMP);
}

/* Strict: pages come from the node or not at all, so a wrong one is noticed here and not in a
 * bandwidth figure. Where the kernel forbids it (containers often do), one warning says so. */
static int
node_bind(void *base, size_t size_bytes, int numa_node)
{
	unsigned long mask[NODE_COUNT_MAX / (8 * sizeof(unsigned long))] = {0};
	const size_t word_bits = 8 * sizeof(mask[0]);

	if (numa_node < 0)
		return 0;
	mask[(size_t)numa_node / word_bits] = 1UL << ((size_t)numa_node % word_bits);
	if (syscall(SYS_mbind, base, size_bytes, MPOL_BIND, mask, NODE_COUNT_MAX + 1, 0) == 0)
		return 0;
	if (errno == EINVAL)
		return -EINVAL;
	far_log_warn(
		"numa node %d not bound: the kernel refuses mbind (%s); memory comes from any node",
		numa_node, strerror(errno));
	return 0;
}

static int
populate_try(void *base, size_t size_bytes)
{
	int rc;

	do {
		rc = madvise(base, size_bytes, MADV_POPULATE_WRITE);
	} while (rc < 0 && (errno == EINTR || errno == EAGAIN));
	return rc;
}

/* 2 MiB pages out of ordinary ones, until the kernel has none left: the rest stays as it is. A run of pages that
 * has none yet is not collapsed, so each gets its first. */
static void
collapse(void *base, size_t size_bytes)
{
	size_t whole_bytes = size_bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;

	for (size_t at = 0; at < whole_bytes; at += HUGE_PAGE_BYTES) {
		if (populate_try((char *)base + at, 1) < 0)
			return;
	}
	if (whole_bytes > 0 && madvise(base, whole_bytes, MADV_COLLAPSE) < 0)
		far_log_info("of %zu MiB not all got 2 MiB pages (%s): slower to read, no more",
			     whole_bytes >> 20, strerror(errno));
}

/* Every page now, or an answer: never a signal. */
static int
populate(int fd, void *base, size_t size_bytes)
{
	int rc = populate_try(base, size_bytes);

	if (rc == 0)
		return 0;
	if (errno != EINVAL)
		return -ENOMEM;
	/* Before Linux 5.14: the file's pages first, then nothing is left that could fail. */
	if (fallocate(fd, 0, 0, (off_t)size_bytes) < 0)
		return -ENOMEM;
	for (size_t at = 0; at < size_bytes; at += 4096)
		(void)__atomic_fetch_or((char *)base + at, 0,
					__ATOMIC_RELAXED); /* keeps what is there */
	return 0;
}

/* The descriptor as peers will see it: of one size for ever, and theirs to read only. */
static int
seal(int fd)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

	return fcntl(fd, F_ADD_SEALS, seals) < 0 ? errno_map(errno) : 0;
}

/* Finds where there is room, and asks for that place: whoever else maps there meanwhile has it, and this
 * mapping lies elsewhere. Nothing is forced, so nobody's memory can be replaced. */
void *
far_pages_mmap(size_t size_bytes, int protection, int fd)
{
	size_t room_bytes = size_bytes + HUGE_PAGE_BYTES;
	char *at = NULL;

	if (size_bytes >= HUGE_PAGE_BYTES && room_bytes > size_bytes) {
		char *room = mmap(NULL, room_bytes, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (room != MAP_FAILED) {
			(void)munmap(room, room_bytes);
			at = room + (-(uintptr_t)room & (HUGE_PAGE_BYTES - 1));
		}
	}
	return mmap(at, size_bytes, protection, MAP_SHARED, fd, 0);
}

static int
map_memfd(const char *name, size_t size_bytes, size_t page_bytes, int numa_node, bool make,
	  struct far_pages *out)
{
	struct far_pages pages = {.page_bytes = page_bytes};
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int rc;

	if (size_bytes > (size_t)INT64_MAX - page_bytes)
		return -ENOMEM;
	pages.size_bytes = (size_bytes + page_bytes - 1) / page_bytes * page_bytes;
	if (page_bytes == HUGE_PAGE_BYTES)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	else if (!far_pages_fit(pages.size_bytes, numa_node))
		return -ENOMEM; /* the out-of-memory killer would answer otherwise */
	pages.fd = memfd_create(name, flags);
	if (pages.fd < 0)
		return errno_map(errno);
	if (ftruncate(pages.fd, (off_t)pages.size_bytes) < 0) {
		rc = errno_map(errno);
		goto err_close;
	}
	pages.base = far_pages_mmap(pages.size_bytes, PROT_READ | PROT_WRITE, pages.fd);
	if (pages.base == MAP_FAILED) {
		rc = -ENOMEM;
		goto err_close;
	}
	advise_ours(pages.base, pages.size_bytes);
	if (page_bytes != HUGE_PAGE_BYTES) /* where shmem may have them; refused at no cost */
		(void)madvise(pages.base, pages.size_bytes, MADV_HUGEPAGE);
	rc = node_bind(pages.base, pages.size_bytes, numa_node);
	if (rc == 0 && make && page_bytes != HUGE_PAGE_BYTES)
		collapse(pages.base, pages.size_bytes);
	if (rc == 0)
		rc = populate(pages.fd, pages.base, pages.size_bytes);
	if (rc == 0)
		rc = seal(pages.fd);
	if (rc < 0)
		goto err_unmap;
	atomic_fetch_add_explicit(&live_bytes, pages.size_bytes, memory_order_relaxed);
	*out = pages;
	return 0;

err_unmap:
	(void)munmap(pages.base, pages.size_bytes);
err_close:
	(void)close(pages.fd);
	return rc;
}

int
far_pages_map_shared(const char *name, size_t size_bytes, enum far_pages_huge huge, int numa_node,
		     struct far_pages *out)
{
	char short_name[200]; /* the kernel's bound is 249 bytes */

	FAR_ASSERT(name != NULL);
	if (size_bytes == 0 || numa_node < -1 || numa_node >= NODE_COUNT_MAX)
		return -EINVAL;
	(void)snprintf(short_name, sizeof(short_name), "%s", name);
	if (huge != FAR_PAGES_HUGE_OFF) {
		int rc = map_memfd(short_name, size_bytes, HUGE_PAGE_BYTES, numa_node, false, out);

		if (rc == 0)
			return 0;
		if (huge == FAR_PAGES_HUGE_ON) /* a kernel without them says EINVAL, or ENOSYS */
			return rc == -EMFILE ? rc : -ENOMEM;
	}
	return map_memfd(short_name, size_bytes, (size_t)sysconf(_SC_PAGESIZE), numa_node,
			 huge == FAR_PAGES_HUGE_MAKE, out);
}

/* The page size of a file system whose files stay in memory; 0: of another one. */
static size_t
memory_fs_page(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return 0;
	if (fs.f_type == HUGETLBFS_MAGIC)
		return (size_t)fs.f_bsize;
	return fs.f_type == TMPFS_MAGIC ? (size_t)sysconf(_SC_PAGESIZE) : 0;
}

int
far_pages_map_file(int fd, size_t size_bytes, enum far_pages_huge huge, int numa_node,
		   struct far_pages *out)
{
	struct far_pages pages = {.fd = fd, .page_bytes = memory_fs_page(fd)};
	struct stat st;
	int rc = -EINVAL;

	if (size_bytes == 0 || pages.page_bytes == 0 || numa_node < -1 ||
	    numa_node >= NODE_COUNT_MAX || size_bytes > (size_t)INT64_MAX - pages.page_bytes ||
	    fstat(fd, &st) < 0)
		goto err_close;
	pages.size_bytes =
		(size_bytes + pages.page_bytes - 1) / pages.page_bytes * pages.page_bytes;
	if (st.st_size != 0 && (uint64_t)st.st_size != pages.size_bytes)
		goto err_close;
	rc = -ENOMEM;
	if (st.st_size == 0 && ftruncate(fd, (off_t)pages.size_bytes) < 0)
		goto err_close;
	pages.base = far_pages_mmap(pages.size_bytes, PROT_READ | PROT_WRITE, fd);
	if (pages.base == MAP_FAILED)
		goto err_close;
	advise_ours(pages.base, pages.size_bytes);
	rc = node_bind(pages.base, pages.size_bytes, numa_node);
	if (rc == 0 && huge == FAR_PAGES_HUGE_MAKE && pages.page_bytes < HUGE_PAGE_BYTES)
		collapse(pages.base, pages.size_bytes);
	if (rc == 0)
		rc = populate(fd, pages.base, pages.size_bytes);
	if (rc < 0) {
		(void)munmap(pages.base, pages.size_bytes);
		goto err_close;
	}
	atomic_fetch_add_explicit(&live_bytes, pages.size_bytes, memory_order_relaxed);
	*out = pages;
	return 0;

err_close:
	(void)close(fd);
	return rc;
}

/* What a peer could still do to a descriptor decides whether touching its pages can kill us. */
static int
peer_check(int fd, size_t size_bytes, size_t *page_bytes_out)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct statfs fs;
	struct stat st;
	bool hugetlb;

	if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
		return -EPERM;
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -EPERM;
	hugetlb = fs.f_type == HUGETLBFS_MAGIC;
	/* A hole punched into huge pages can be SIGBUS; only a write seal forbids punching. */
	if (hugetlb && (seals & (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE)) == 0)
		return -EPERM;
	if (size_bytes == 0 || st.st_size < 0 || (uint64_t)st.st_size < size_bytes)
		return -EINVAL;
	*page_bytes_out = hugetlb ? (size_t)fs.f_bsize : (size_t)sysconf(_SC_PAGESIZE);
	return 0;
}

int
far_pages_map_peer(int fd, size_t size_bytes, bool populated, struct far_pages *out)
{
	struct far_pages pages = {.fd = -1};
	int rc;

	rc = peer_check(fd, size_bytes, &pages.page_bytes);
	if (rc < 0)
		goto close_fd;
	/* Within the file's last page: its size was checked above. */
	pages.size_bytes =
		(size_bytes + pages.page_bytes - 1) / pages.page_bytes * pages.page_bytes;
	pages.base = far_pages_mmap(pages.size_bytes, PROT_READ, fd);
	if (pages.base == MAP_FAILED) {
		rc = -ENOMEM;
		goto close_fd;
	}
	advise_ours(pages.base, pages.size_bytes);
	/* EINVAL: before Linux 5.14. The pages are there, only our table lacks them. */
	if (populated && madvise(pages.base, pages.size_bytes, MADV_POPULATE_READ) < 0 &&
	    errno != EINVAL) {
		(void)munmap(pages.base, pages.size_bytes);
		rc = -ENOMEM;
		goto close_fd;
	}
	atomic_fetch_add_explicit(&live_bytes, pages.size_bytes, memory_order_relaxed);
	*out = pages;

close_fd:
	(void)close(fd); /* a mapping outlives its descriptor */
	return rc;
}

void
far_pages_unmap(struct far_pages *pages)
{
	if (pages->base != NULL) {
		int rc = munmap(pages->base, pages->size_bytes);

		FAR_ASSERT(rc == 0);
		atomic_fetch_sub_explicit(&live_bytes, pages->size_bytes, memory_order_relaxed);
		if (pages->fd >= 0)
			(void)close(pages->fd);
	}
	pages_reset(pages);
}

uint64_t
far_pages_live_bytes(void)
{
	return atomic_load_explicit(&live_bytes, memory_order_relaxed);
}
