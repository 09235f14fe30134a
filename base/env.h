/* env.h - the environment, for what an operator sets there for a library below us. */
#ifndef FAR_BASE_ENV_H
#define FAR_BASE_ENV_H

/* The value of an exported variable, or NULL. Borrowed until the environment is changed. Thread:
 * any, as long as nobody changes the environment. */
const char *far_env_get(const char *name);

/**
 * far_env_call_with - calls a function while more variables are exported, without setenv().
 *
 * For libraries that read their settings while they are loaded. The process sees another array of
 * the same strings with @more in front, and afterwards its own again; setenv() might give back
 * memory that another thread's getenv() reads, a store of one pointer does not.
 *
 * @more:  "NAME=value", NULL behind the last; borrowed for ever, like each string. A name that is
 *         exported already is left out: the operator's value holds.
 * @call:  called once, on this thread, with @arg. Must not come here again.
 *
 * The array is kept for ever, since others may be reading it: a call costs a few bytes for each
 * variable that is exported, so this is for what happens once in a process.
 * A process that is started by another thread meanwhile is given @more as well. If another thread
 * changes the environment meanwhile, its change stays, and so does @more.
 *
 * Thread:  any; calls wait for each other.
 * Returns: 0, or -ENOMEM: @call was not called.
 */
int far_env_call_with(char *const *more, void (*call)(void *arg), void *arg);

#endif
