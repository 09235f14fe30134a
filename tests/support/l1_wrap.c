/* l1_wrap.c - a seam around L1: code of ours that runs before and after each call that changes anything. */
#include "tests/support/l1_wrap.h"

static _Thread_local struct l1_wrap hooks;
static _Thread_local uint64_t calls[L1_CALL_COUNT];
static _Thread_local bool inside;

void
l1_wrap_set(const struct l1_wrap *wrap)
{
	hooks = wrap != NULL ? *wrap : (struct l1_wrap){0};
	for (int i = 0; wrap != NULL && i < L1_CALL_COUNT; i++)
		calls[i] = 0;
}

uint64_t
l1_wrap_calls(enum l1_call call)
{
	return calls[call];
}

static void
hook(void (*fn)(void *, struct far_l1 *, enum l1_call), struct far_l1 *l1, enum l1_call call)
{
	if (fn == NULL || inside)
		return;
	inside = true;
	fn(hooks.arg, l1, call);
	inside = false;
}

static void
enter(struct far_l1 *l1, enum l1_call call)
{
	calls[call] += !inside;
	hook(hooks.before, l1, call);
}

static void
leave(struct far_l1 *l1, enum l1_call call)
{
	hook(hooks.after, l1, call);
}

/* With --wrap=X the linker sends calls of X to __wrap_X; __real_X is X itself. */
#define WRAP(name, call, params, args) WRAP_AS(size_t, name, call, params, args)

#define WRAP_AS(type, name, call, params, args)                                                    \
	type __real_far_l1_##name params;                                                          \
	type __wrap_far_l1_##name params;                                                          \
	type __wrap_far_l1_##name params                                                           \
	{                                                                                          \
		type count_out;                                                                    \
                                                                                                   \
		enter(l1, call);                                                                   \
		count_out = __real_far_l1_##name args;                                             \
		leave(l1, call);                                                                   \
		return count_out;                                                                  \
	}

#define WRAP_VOID(name, call, params, args)                                                        \
	void __real_far_l1_##name params;                                                          \
	void __wrap_far_l1_##name params;                                                          \
	void __wrap_far_l1_##name params                                                           \
	{                                                                                          \
		enter(l1, call);                                                                   \
		__real_far_l1_##name args;                                                         \
		leave(l1, call);                                                                   \
	}

WRAP(reserve_write, L1_CALL_RESERVE_WRITE,
     (struct far_l1 * l1, far_l1_session session, const struct far_l1_want *wants, size_t count,
      struct far_l1_grant *grants_out),
     (l1, session, wants, count, grants_out))

WRAP(finish_write, L1_CALL_FINISH_WRITE,
     (struct far_l1 * l1, far_l1_session session, const uint64_t *loans, size_t count,
      int *rcs_out),
     (l1, session, loans, count, rcs_out))

WRAP(abort_write, L1_CALL_ABORT_WRITE,
     (struct far_l1 * l1, far_l1_session session, const uint64_t *loans, size_t count,
      int *rcs_out),
     (l1, session, loans, count, rcs_out))

WRAP(finish_write_and_reserve_read, L1_CALL_FLIP,
     (struct far_l1 * l1, far_l1_session session, const uint64_t *loans, size_t count,
      uint32_t readers, far_l1_session reader_session, int *rcs_out),
     (l1, session, loans, count, readers, reader_session, rcs_out))

WRAP(reserve_read, L1_CALL_RESERVE_READ,
     (struct far_l1 * l1, far_l1_session session, const struct far_key *keys, const uint32_t *sizes,
      size_t count, uint32_t readers, struct far_l1_grant *grants_out),
     (l1, session, keys, sizes, count, readers, grants_out))

WRAP(reserve_read_prefix, L1_CALL_RESERVE_READ_PREFIX,
     (struct far_l1 * l1, far_l1_session session, const struct far_key *keys, const uint32_t *sizes,
      size_t count, uint32_t readers, struct far_l1_grant *grants_out),
     (l1, session, keys, sizes, count, readers, grants_out))

WRAP(finish_read, L1_CALL_FINISH_READ,
     (struct far_l1 * l1, far_l1_session session, const uint64_t *loans, size_t count,
      uint32_t readers, int *rcs_out),
     (l1, session, loans, count, readers, rcs_out))

WRAP(delete, L1_CALL_DELETE,
     (struct far_l1 * l1, const struct far_key *keys, size_t count, bool force, int *rcs_out),
     (l1, keys, count, force, rcs_out))

WRAP(retain, L1_CALL_RETAIN,
     (struct far_l1 * l1, far_l1_session session, const uint64_t *loans, size_t count,
      int *rcs_out),
     (l1, session, loans, count, rcs_out))

WRAP(let_go, L1_CALL_LET_GO,
     (struct far_l1 * l1, far_l1_session session, const uint64_t *loans, size_t count,
      int *rcs_out),
     (l1, session, loans, count, rcs_out))

WRAP_AS(uint64_t, evict, L1_CALL_EVICT,
	(struct far_l1 * l1, uint64_t bytes, uint32_t blocks_max, uint32_t *blocks_out),
	(l1, bytes, blocks_max, blocks_out))

WRAP(clear, L1_CALL_CLEAR, (struct far_l1 * l1, bool force), (l1, force))

WRAP_VOID(touch, L1_CALL_TOUCH, (struct far_l1 * l1, const struct far_key *keys, size_t count),
	  (l1, keys, count))

WRAP_VOID(session_close, L1_CALL_SESSION_CLOSE, (struct far_l1 * l1, far_l1_session session),
	  (l1, session))
