/* backing.c - the folder that outlives its donor: locked, looked through, mapped file by file. */
#include "tools/farpoold/backing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define INDEX_NAME     "index"
#define INDEX_NEW_NAME "index.new"
#define SEGMENT_FORMAT "segment-%06" PRIu32
#define NAME_BYTES     32
#define FILES_MAX      65536U
/* A process that was killed takes a while to give its memory back. */
#define GONE_WAIT_MS 10000
#define LOCK_TRY_MS  20

static int
refuse(char error[FAR_PARAM_ERROR_BYTES], int rc, const char *path, const char *why)
{
	snprintf(error, FAR_PARAM_ERROR_BYTES, "backing: %.200s: %.300s", path, why);
	return rc;
}

/* ---- the folder ---- */

static int
folder_check(struct farpoold_backing *backing, char error[FAR_PARAM_ERROR_BYTES])
{
	struct statfs fs;
	struct stat st;

	if (fstat(backing->folder_fd, &st) < 0 || fstatfs(backing->folder_fd, &fs) < 0)
		return refuse(error, -EIO, backing->path, strerror(errno));
	if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return refuse(error, -EPERM, backing->path,
			      "somebody else may write to it: give it to this user, mode 0700");
	backing->is_huge = fs.f_type == HUGETLBFS_MAGIC;
	if (!backing->is_huge && fs.f_type != TMPFS_MAGIC)
		return refuse(
			error, -EINVAL, backing->path,
			"its files do not stay in memory: use a folder on tmpfs or hugetlbfs, "
			"/dev/shm/NAME for example");
	backing->page_bytes =
		backing->is_huge ? (uint64_t)fs.f_bsize : (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

static int
folder_lock(struct farpoold_backing *backing, char error[FAR_PARAM_ERROR_BYTES])
{
	struct timespec pause = {.tv_nsec = LOCK_TRY_MS * (long)FAR_NS_PER_MS};

	for (int waited_ms = 0; flock(backing->folder_fd, LOCK_EX | LOCK_NB) < 0;
	     waited_ms += LOCK_TRY_MS) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return refuse(error, -EIO, backing->path, strerror(errno));
		if (waited_ms >= GONE_WAIT_MS)
			return refuse(error, -EBUSY, backing->path,
				      "another donor has it open: stop it first, or choose another "
				      "folder");
		if (waited_ms == 0)
			far_log_info("backing: %s: in use, waiting for its donor to end",
				     backing->path);
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

static int
folder_open(struct farpoold_backing *backing, char error[FAR_PARAM_ERROR_BYTES])
{
	int rc;

	if (mkdir(backing->path, 0700) < 0 && errno != EEXIST)
		return refuse(error, -errno, backing->path, strerror(errno));
	backing->folder_fd = open(backing->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (backing->folder_fd < 0)
		return refuse(error, -errno, backing->path, strerror(errno));
	rc = folder_check(backing, error);
	return rc == 0 ? folder_lock(backing, error) : rc;
}

/* ---- its files ---- */

static bool
file_is_ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid() &&
	       (st->st_mode & (S_IWGRP | S_IWOTH)) == 0 && st->st_nlink == 1;
}

/* A file of this user's that nobody else may write to; -1: it is none, or not there. */
static int
file_open(const struct farpoold_backing *backing, const char *name, struct stat *st)
{
	int fd = openat(backing->folder_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return -1;
	if (fstat(fd, st) == 0 && file_is_ours(st))
		return fd;
	(void)close(fd);
	return -1;
}

static int
number_compare(const void *left, const void *right)
{
	const struct farpoold_segment_file *a = left;
	const struct farpoold_segment_file *b = right;

	return a->number < b->number ? -1 : a->number > b->number;
}

/* The number in a segment's name; 0: it is no segment's. */
static uint32_t
name_number(const char *name)
{
	const char *digits = strchr(name, '-');
	unsigned long number = digits == NULL ? 0 : strtoul(digits + 1, NULL, 10);
	char again[NAME_BYTES];

	if (number >= UINT32_MAX)
		return 0;
	(void)snprintf(again, sizeof(again), SEGMENT_FORMAT, (uint32_t)number);
	return strcmp(again, name) == 0 ? (uint32_t)number : 0;
}

static void
segment_name(uint32_t number, char out[NAME_BYTES])
{
	(void)snprintf(out, NAME_BYTES, SEGMENT_FORMAT, number);
}

static int
segments_list(struct farpoold_backing *backing, char error[FAR_PARAM_ERROR_BYTES])
{
	int fd = openat(backing->folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (folder == NULL) {
		if (fd >= 0)
			(void)close(fd);
		return refuse(error, -EIO, backing->path, strerror(errno));
	}
	backing->found = far_zalloc_array(FILES_MAX, sizeof(*backing->found));
	while (backing->found != NULL && backing->found_count < FILES_MAX &&
	       (entry = readdir(folder)) != NULL) {
		uint32_t number = name_number(entry->d_name);

		if (number != 0)
			backing->found[backing->found_count++].number = number;
	}
	(void)closedir(folder);
	if (backing->found == NULL)
		return refuse(error, -ENOMEM, backing->path, "no memory for the list of its files");
	qsort(backing->found, backing->found_count, sizeof(*backing->found), number_compare);
	return 0;
}

/* One more of @size_bytes, then as many as @left_bytes need: no more than the pool has room for. */
static bool
segment_has_room(const struct far_pool_config *pool, uint32_t kept, uint64_t left_bytes,
		 uint64_t size_bytes)
{
	uint64_t rest = left_bytes - size_bytes;
	uint64_t missing = rest / pool->segment_bytes + (rest % pool->segment_bytes != 0);

	return kept + 1 + missing <= far_pool_segments_max(pool);
}

/* Whether it can be a segment of this configuration; what is there already is counted. It is not
 * opened: a lack of descriptors, say, is no reason to lose it, and ends the start when it is mapped. */
static bool
segment_is_sound(struct farpoold_backing *backing, const struct far_pool_config *pool,
		 uint64_t left_bytes, uint32_t kept, struct farpoold_segment_file *file)
{
	char name[NAME_BYTES];
	struct stat st;

	segment_name(file->number, name);
	if (fstatat(backing->folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !file_is_ours(&st))
		return false;
	file->size_bytes = (uint64_t)st.st_size;
	if (st.st_size <= 0 || file->size_bytes % pool->lane_bytes != 0 ||
	    file->size_bytes % backing->page_bytes != 0 || file->size_bytes > pool->segment_bytes ||
	    file->size_bytes > left_bytes ||
	    !segment_has_room(pool, kept, left_bytes, file->size_bytes))
		return false;
	backing->there_bytes += (uint64_t)st.st_blocks * 512;
	return true;
}

/* Those that cannot be used are removed: with an index beside them, or they are nobody's. */
static void
segments_sift(struct farpoold_backing *backing, const struct far_pool_config *pool)
{
	uint64_t left_bytes = pool->capacity_bytes;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < backing->found_count; i++) {
		struct farpoold_segment_file file = backing->found[i];
		char name[NAME_BYTES];

		if (backing->over && segment_is_sound(backing, pool, left_bytes, kept, &file)) {
			left_bytes -= file.size_bytes;
			backing->number_last = file.number;
			backing->found[kept++] = file;
			continue;
		}
		segment_name(file.number, name);
		if (backing->over)
			far_log_warn("backing: %s/%s removed: of a size or owner that cannot be, "
				     "or too many; its blocks are lost",
				     backing->path, name);
		(void)unlinkat(backing->folder_fd, name, 0);
	}
	backing->found_count = kept;
}

/* ---- the index ---- */

/* The file's first page, for a moment. hugetlbfs has no write(2). */
static struct far_index_header *
header_map(const struct farpoold_backing *backing, int fd)
{
	void *base = mmap(NULL, backing->page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return base == MAP_FAILED ? NULL : base;
}

static void
owner_load(const struct far_index_header *header, struct farpoold_owner *out)
{
	*out = (struct farpoold_owner){
		.pid = header->owner_pid,
		.pidns_inode = header->owner_pidns_inode,
		.start_ticks = header->owner_start,
	};
	memcpy(out->boot_id, header->owner_boot_id, sizeof(out->boot_id));
}

static void
owner_store(struct far_index_header *header, const struct farpoold_owner *owner)
{
	header->owner_pidns_inode = owner->pidns_inode;
	header->owner_start = owner->start_ticks;
	memcpy(header->owner_boot_id, owner->boot_id, sizeof(header->owner_boot_id));
	/* Last: a process that dies in between is not taken for somebody else. */
	__atomic_store_n(&header->owner_pid, owner->pid, __ATOMIC_SEQ_CST);
}

static int
index_check(struct farpoold_backing *backing, const struct far_pool_config *pool,
	    uint32_t rail_count, char error[FAR_PARAM_ERROR_BYTES])
{
	char why[FAR_PARAM_ERROR_BYTES];
	struct far_index_header *header, copy;
	struct farpoold_owner owner;
	struct stat st;
	int fd;

	(void)unlinkat(backing->folder_fd, INDEX_NEW_NAME, 0);
	if (faccessat(backing->folder_fd, INDEX_NAME, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno == ENOENT)
		return 0;
	fd = file_open(backing, INDEX_NAME, &st);
	if (fd < 0)
		return refuse(error, -EPERM, backing->path,
			      "index: no file of this user's alone: remove it to start empty");
	if (st.st_size < (off_t)sizeof(copy) || (header = header_map(backing, fd)) == NULL) {
		(void)close(fd);
		return refuse(error, -EINVAL, backing->path,
			      "index: cut short: remove the folder to start empty");
	}
	memcpy(&copy, header, sizeof(copy));
	(void)munmap(header, backing->page_bytes);
	(void)close(fd);
	if (far_pool_backing_check(pool, rail_count, &copy, (uint64_t)st.st_size, why) < 0)
		return refuse(error, -EINVAL, backing->path, why);
	owner_load(&copy, &owner);
	backing->over = true;
	backing->there_bytes += (uint64_t)st.st_blocks * 512;
	return farpoold_owner_gone(&owner, GONE_WAIT_MS, error);
}

/* ---- opened, mapped, owned, closed ---- */

static int
room_check(const struct farpoold_backing *backing, uint64_t asked_bytes,
	   char error[FAR_PARAM_ERROR_BYTES])
{
	char asked[FARPOOLD_SIZE_TEXT_BYTES], there[FARPOOLD_SIZE_TEXT_BYTES];
	uint64_t there_bytes;
	struct statfs fs;

	if (fstatfs(backing->folder_fd, &fs) < 0 || fs.f_blocks == 0)
		return 0; /* no limit of its own */
	there_bytes = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	if (asked_bytes <= there_bytes)
		return 0;
	farpoold_size_format(asked_bytes, asked);
	farpoold_size_format(there_bytes, there);
	snprintf(error, FAR_PARAM_ERROR_BYTES,
		 "backing: %s: %s are needed, its file system has %s left: lower 'memory:', or "
		 "mount "
		 "it with a larger size",
		 backing->path, asked, there);
	return -ENOMEM;
}

/* A file is of whole pages: one of a part of a page would be no segment to the next donor. */
static int
pages_check(const struct farpoold_backing *backing, const struct far_pool_config *pool,
	    char error[FAR_PARAM_ERROR_BYTES])
{
	char page[FARPOOLD_SIZE_TEXT_BYTES];

	if (pool->segment_bytes % backing->page_bytes == 0 &&
	    pool->capacity_bytes % backing->page_bytes == 0)
		return 0;
	farpoold_size_format(backing->page_bytes, page);
	snprintf(error, FAR_PARAM_ERROR_BYTES,
		 "backing: %s: its pages are of %s: make 'segment' and 'memory' multiples of that, "
		 "or use a folder with smaller pages",
		 backing->path, page);
	return -EINVAL;
}

int
farpoold_backing_open(const struct farpoold_config *config, uint32_t rail_count,
		      struct farpoold_backing *out, char error[FAR_PARAM_ERROR_BYTES])
{
	uint64_t needed =
		config->pool.capacity_bytes + far_pool_index_bytes(&config->pool, rail_count);
	int rc;

	*out = (struct farpoold_backing){.folder_fd = -1};
	(void)snprintf(out->path, sizeof(out->path), "%s", config->backing);
	rc = folder_open(out, error);
	if (rc == 0 && config->huge_pages == FAR_PAGES_HUGE_ON && !out->is_huge)
		rc = refuse(error, -EINVAL, out->path,
			    "huge_pages: on, and this is no hugetlbfs: choose a folder on one");
	if (rc == 0)
		rc = pages_check(out, &config->pool, error);
	if (rc == 0)
		rc = index_check(out, &config->pool, rail_count, error);
	if (rc == 0)
		rc = segments_list(out, error);
	if (rc == 0) {
		segments_sift(out, &config->pool);
		rc = room_check(out, needed > out->there_bytes ? needed - out->there_bytes : 0,
				error);
	}
	if (rc < 0)
		farpoold_backing_close(out);
	return rc;
}

int
farpoold_backing_index_map(struct farpoold_backing *backing, uint64_t size_bytes,
			   enum far_pages_huge huge, int numa_node, struct far_pages *out)
{
	const char *name = backing->over ? INDEX_NAME : INDEX_NEW_NAME;
	int fd = openat(backing->folder_fd, name,
			O_RDWR | O_CLOEXEC | O_NOFOLLOW | (backing->over ? 0 : O_CREAT | O_EXCL),
			0600);

	return fd < 0 ? -errno : far_pages_map_file(fd, size_bytes, huge, numa_node, out);
}

int
farpoold_backing_segment_map(struct farpoold_backing *backing, uint32_t number, uint64_t size_bytes,
			     int numa_node, struct far_pages *out)
{
	bool is_new = number == 0;
	char name[NAME_BYTES];
	int fd, rc;

	if (is_new)
		number = backing->number_last + 1;
	segment_name(number, name);
	fd = openat(backing->folder_fd, name,
		    O_RDWR | O_CLOEXEC | O_NOFOLLOW | (is_new ? O_CREAT | O_EXCL : 0), 0600);
	if (fd < 0)
		return -errno;
	rc = far_pages_map_file(fd, size_bytes, FAR_PAGES_HUGE_OFF, numa_node, out);
	if (rc < 0 && is_new)
		(void)unlinkat(backing->folder_fd, name, 0);
	else if (is_new)
		backing->number_last = number;
	return rc;
}

int
farpoold_backing_own(struct farpoold_backing *backing, const struct far_pages *index)
{
	struct farpoold_owner self;

	farpoold_owner_self(&self);
	owner_store(index->base, &self);
	backing->owned = true;
	if (!backing->over &&
	    renameat(backing->folder_fd, INDEX_NEW_NAME, backing->folder_fd, INDEX_NAME) < 0)
		return -errno;
	return 0;
}

static void
owner_clear(const struct farpoold_backing *backing)
{
	int fd = openat(backing->folder_fd, INDEX_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct far_index_header *header = fd < 0 ? NULL : header_map(backing, fd);

	if (header != NULL) {
		__atomic_store_n(&header->owner_pid, 0, __ATOMIC_SEQ_CST);
		(void)munmap(header, backing->page_bytes);
	}
	if (fd >= 0)
		(void)close(fd);
}

void
farpoold_backing_close(struct farpoold_backing *backing)
{
	if (backing->folder_fd >= 0) {
		if (backing->owned)
			owner_clear(backing);
		(void)close(backing->folder_fd); /* and with it the lock */
	}
	far_free(backing->found);
	*backing = (struct farpoold_backing){.folder_fd = -1};
}
