/* standin.h - a CUDA driver without a GPU: how tests slow it, fail it, and hear what was misused. */
#ifndef FAR_TESTS_SUPPORT_CUDA_STANDIN_H
#define FAR_TESTS_SUPPORT_CUDA_STANDIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STANDIN_NAME "farpool stand-in (no GPU)"

/*
 * A libcuda.so.1 of the functions in transport/mem/cuda/lib.h. What it calls device memory lies in the
 * host's, where the application's address of it is reserved and cannot be touched: who dereferences one
 * crashes. FARPOOL_STANDIN_ACCESS=1 in the environment makes it readable and writable, for who registers
 * it with a NIC. Copies run on a thread for each stream. It says nothing of the speed of a GPU.
 *
 * A misuse is a line on stderr and abort(), but not with FARPOOL_STANDIN_STRICT=0 or strict(false): then
 * it is counted. Misuse is: a call outside the context, memory that is not (or no more) there or too
 * short, an event behind a copy of pageable memory, what is freed, unpinned or destroyed in use, a
 * stack of contexts that does not balance, and what is left when check() is called.
 *
 * Thread: any.
 */
struct standin {
	/* As at the start. Nothing of it is open any more, or its device failed. */
	void (*reset)(void);
	/* What was misused since reset, and what was not given back (nothing of a device that failed). */
	unsigned (*check)(void);
	const char *(*last_misuse)(void); /* "": none */
	void (*strict)(bool on);

	void (*attribute)(int which, int value); /* CU_DEVICE_ATTRIBUTE_* */
	void (*version)(int version);
	void (*devices)(int count);

	/* Each copy takes @us, and up to @random_us more: of one seed the same, for one stream. */
	void (*delay)(unsigned us, unsigned random_us, uint64_t seed);
	/* No copy of that way starts. */
	void (*hold)(bool in, bool out);
	/* So many of what is held start all the same. */
	void (*allow)(unsigned copies);
	/* Waits until all that may start is done: how often a test polls is then the same each time. */
	void (*settle)(void);

	/*
	 * The @nth call from now (1: the next) of a symbol ("cuMemAlloc_v2"; NULL: of all) answers @result,
	 * a CUresult, without effect; what gives back has its effect. An error that stays, stays.
	 */
	void (*fail_call)(const char *symbol, uint64_t nth, int result);
	/* The @nth copy that is run fails its context, half done. 0: none. */
	void (*fail_copy)(uint64_t nth, int result);

	uint64_t (*calls)(const char *symbol); /* since reset; NULL: of all */
	bool (*failed)(void);                  /* the context has an error that stays */

	/* The bytes of device memory, for a test to look at. NULL: not all of it is there. */
	void *(*bytes)(const void *address, size_t size_bytes);
	/* Of the calling thread: how many contexts are on its stack. */
	unsigned (*depth)(void);
	/* A context that is not the device's, to push. */
	void *(*foreign_context)(void);
};

/* The library's one symbol that is not CUDA's: dlsym(handle, "standin_control"). */
const struct standin *standin_control(void);

#endif
