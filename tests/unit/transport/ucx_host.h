/* ucx_host.h - what a library could change in the process that loads it. */
#ifndef FAR_TESTS_UNIT_TRANSPORT_UCX_HOST_H
#define FAR_TESTS_UNIT_TRANSPORT_UCX_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UCX_HOST_OBJECTS_MAX 128
#define UCX_HOST_SIGNALS     65

/* The process at one moment: the code of each object that is loaded, and who handles each signal. */
struct ucx_host {
	size_t object_count;
	struct {
		uintptr_t base;
		uint64_t code; /* a sum over every byte that can be executed */
	} objects[UCX_HOST_OBJECTS_MAX];
	void *handlers[UCX_HOST_SIGNALS];
	void *signal_stack;
};

void ucx_host_look(struct ucx_host *out);
/* How much is different now; each is printed. What was loaded since does not count. */
unsigned ucx_host_code_changes(const struct ucx_host *before);
unsigned ucx_host_signal_changes(const struct ucx_host *before);
/* Words of the data of those objects, where relocations lie, that point at code of libucm. */
unsigned ucx_host_ways_to_ucm(const struct ucx_host *before);
/* Whether any library of UCX is mapped here. */
bool ucx_host_has_ucx(void);

#endif
