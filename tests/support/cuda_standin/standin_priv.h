/* standin_priv.h - what the files of the stand-in owe each other: one state, one lock. */
#ifndef FAR_TESTS_SUPPORT_CUDA_STANDIN_PRIV_H
#define FAR_TESTS_SUPPORT_CUDA_STANDIN_PRIV_H

#include <pthread.h>

#include "tests/support/cuda_standin/standin.h"
#include "transport/mem/cuda/lib.h" /* for cuda.h */

#define STANDIN_ATTRIBUTES 256

struct CUctx_st {
	unsigned retained;
};

struct standin_state {
	pthread_mutex_t lock;
	pthread_cond_t moved; /* any stream, or hold */

	bool ready, strict, access;
	int version, devices;
	int attributes[STANDIN_ATTRIBUTES];
	CUresult failed; /* stays */

	unsigned misuses;
	char misuse[160];

	unsigned delay_us, random_us;
	uint64_t seed;
	bool held[2]; /* in, out */
	unsigned allowed;
	uint64_t copy_fails_in;
	CUresult copy_fails_with;

	struct CUctx_st primary, foreign;
};
extern struct standin_state standin;

/* Needs: the lock. */
void standin_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Every function of CUDA begins with one of these and ends with standin_leave(): they take the lock,
 * count, and answer what shall be answered. @call is __func__. enter: a result other than
 * CUDA_SUCCESS is returned at once. outside: for those without a context, which an error of it does
 * not reach.
 */
CUresult standin_enter(const char *call);
CUresult standin_enter_outside(const char *call);
CUresult standin_leave(CUresult result);

/* ---- driver.c ---- */

unsigned standin_depth(void);

/* ---- memory.c; all of it needs the lock ---- */

/* Where the bytes of @address lie; NULL: not all are there. */
uint8_t *standin_bytes(uint64_t address, size_t size_bytes);
/* Says what is left, and counts it; or gives it up. */
unsigned standin_memory_left(bool say);

/* ---- pin.c; all of it needs the lock ---- */

/* All of it is pinned, for writing if @write. *@pinned: some is. */
bool standin_is_pinned(const void *host, size_t size_bytes, bool write, bool *some);
/* As above. */
unsigned standin_pins_left(bool say);

/* ---- stream.c; all of it needs the lock ---- */

/* A copy that waits or runs names a byte of the range. */
bool standin_device_in_use(uint64_t address, size_t size_bytes);
bool standin_host_in_use(const void *host, size_t size_bytes);
unsigned standin_streams_left(bool say);
/* These let go of the lock while they wait. */
void standin_streams_give_up(void);
void standin_streams_settle(void);

#endif
