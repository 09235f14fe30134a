/* l1_wrap.h - a seam around L1: code of ours that runs before and after each call that changes anything. */
#ifndef FAR_TESTS_SUPPORT_L1_WRAP_H
#define FAR_TESTS_SUPPORT_L1_WRAP_H

#include "l1/l1.h"

/*
 * A program that links far_l1_wrap (far_wrap_l1() in tests/support/l1_wrap.cmake) has every call to
 * these functions sent through here by the linker, from whatever folder but l1 itself. What the hooks
 * call of L1 goes to it directly: they are not entered again from within.
 */
enum l1_call {
	L1_CALL_RESERVE_WRITE,
	L1_CALL_FINISH_WRITE,
	L1_CALL_ABORT_WRITE,
	L1_CALL_FLIP, /* far_l1_finish_write_and_reserve_read */
	L1_CALL_RESERVE_READ,
	L1_CALL_RESERVE_READ_PREFIX,
	L1_CALL_FINISH_READ,
	L1_CALL_DELETE,
	L1_CALL_TOUCH,
	L1_CALL_CLEAR,
	L1_CALL_EVICT,
	L1_CALL_RETAIN,
	L1_CALL_LET_GO,
	L1_CALL_SESSION_CLOSE,
	L1_CALL_COUNT,
};

struct l1_wrap {
	void (*before)(void *arg, struct far_l1 *l1, enum l1_call call); /* NULL: none */
	void (*after)(void *arg, struct far_l1 *l1, enum l1_call call);  /* NULL: none */
	void *arg;
};

/* Of the calling thread; copied. NULL: none. */
void l1_wrap_set(const struct l1_wrap *wrap);
/* Calls of the calling thread since hooks were set, those of the hooks not counted. */
uint64_t l1_wrap_calls(enum l1_call call);

#endif
