/* pages_limit.h - whether memory that is asked for is there, before asking wakes the OOM killer. */
#ifndef FAR_BASE_PAGES_LIMIT_H
#define FAR_BASE_PAGES_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

/* Whether ordinary pages of this size can be had now: of the machine, of the node (-1: any) and of
 * every control group above us. A number that cannot be read refuses nothing. Thread: any. */
bool far_pages_fit(uint64_t size_bytes, int numa_node);

/* For tests: the value in bytes behind "@key" in the text of a meminfo file, kB multiplied; for
 * example "MemAvailable:". False if it is not there. */
bool far_meminfo_find(const char *text, const char *key, uint64_t *bytes_out);

#endif
