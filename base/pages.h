/* pages.h - whole mappings: memfds that peers can map, anonymous memory, huge pages, NUMA nodes. */
#ifndef FAR_BASE_PAGES_H
#define FAR_BASE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum far_pages_huge {
	FAR_PAGES_HUGE_AUTO, /* 2 MiB pages if they can be had now, else ordinary ones */
	FAR_PAGES_HUGE_OFF,
	FAR_PAGES_HUGE_ON, /* 2 MiB pages or -ENOMEM */
	/* As AUTO; else ordinary ones that the kernel puts together as far as it has room for that
	 * (MADV_COLLAPSE, Linux 6.1): 1.4 s per GiB instead of 0.6, for memory that is read all over. */
	FAR_PAGES_HUGE_MAKE,
};

struct far_pages {
	void *base;        /* NULL: nothing mapped */
	size_t size_bytes; /* rounded up to whole pages */
	size_t page_bytes; /* 4096 or 2 MiB */
	int fd;            /* close-on-exec memfd, sealed against shrinking and growing; -1: none */
};

/**
 * far_pages_map_shared - a sealed memfd, mapped read-write here and populated.
 *
 * @name:       for /proc; copied.
 * @size_bytes: > 0; rounded up to whole pages.
 * @huge:       see above.
 * @numa_node:  -1: any.
 * @out:        set only on success; the caller owns it: far_pages_unmap().
 *
 * The descriptor is sealed F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL: a peer
 * can map it for reading only. The mapping is MADV_DONTFORK and MADV_DONTDUMP.
 * Every page is there on return (MADV_POPULATE_WRITE): no SIGBUS later.
 *
 * Thread:  any; takes 0.3 to 0.6 s per GiB of ordinary pages.
 * Returns: 0, or -EINVAL, -ENOMEM (nothing is mapped then), -EMFILE.
 */
int far_pages_map_shared(const char *name, size_t size_bytes, enum far_pages_huge huge,
			 int numa_node, struct far_pages *out);

/**
 * far_pages_map_file - a whole file of ours on tmpfs or hugetlbfs, mapped read-write here and populated.
 *
 * @fd:         opened for reading and writing; taken: the caller's again in @out, or closed.
 * @size_bytes: > 0; rounded up to whole pages of the file system. An empty file grows to it, any other
 *              has to have just that size.
 * @huge:       FAR_PAGES_HUGE_MAKE, or its file system alone decides.
 *
 * Files cannot be sealed: whoever may write to this one can shrink it, and a touch is a SIGBUS then.
 *
 * Thread:  any.
 * Returns: 0, or -EINVAL (size, or another file system), -ENOMEM.
 */
int far_pages_map_file(int fd, size_t size_bytes, enum far_pages_huge huge, int numa_node,
		       struct far_pages *out);

/* Maps a peer's descriptor for reading. Refuses (-EPERM) one that can still shrink, and (-EINVAL)
 * one smaller than @size_bytes. @fd is taken: closed on return, whatever the answer. @populate
 * reads every page in, so that no fault is left for the data path. */
int far_pages_map_peer(int fd, size_t size_bytes, bool populate, struct far_pages *out);

/* mmap() of a file from its start, shared, where its 2 MiB pages would be such in our table as well, if there is
 * room. Thread: any. Returns: the address, or MAP_FAILED and errno. */
void *far_pages_mmap(size_t size_bytes, int protection, int fd);

/* Unmaps and closes; takes a zeroed struct; leaves it zeroed with fd -1. */
void far_pages_unmap(struct far_pages *pages);

/* Bytes mapped by the functions above and not unmapped. Tests compare with zero. */
uint64_t far_pages_live_bytes(void);

/* MemAvailable of /proc/meminfo in bytes; 0 if it cannot be read. */
uint64_t far_pages_available_bytes(void);

/* Free pages of 2 MiB that were reserved (vm.nr_hugepages): no part of the available memory. */
uint64_t far_pages_reserved_bytes(void);

#endif
