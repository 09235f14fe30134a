/* env.c - the environment, read in one place, and lent to those who read it while they are loaded. */
#include "base/env.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An array that was in force. Reachable for ever: another thread may still read it. */
struct lent {
	struct lent *next;
	char **entries; /* what the process saw, and could change */
	char **copy;    /* what we wrote there */
	size_t bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct lent *lent_all; /* under @lock */

const char *
far_env_get(const char *name)
{
	return getenv(name);
}

static bool
is_exported(char *const *entries, const char *assignment)
{
	size_t name_bytes = (size_t)(strchr(assignment, '=') - assignment) + 1;

	for (; *entries != NULL; entries++)
		if (strncmp(*entries, assignment, name_bytes) == 0)
			return true;
	return false;
}

static size_t
count_of(char *const *entries)
{
	size_t count = 0;

	while (entries[count] != NULL)
		count++;
	return count;
}

/* Not far_zalloc(): what is kept for ever is not what its callers leak. */
static struct lent *
lent_make(char *const *before, char *const *more)
{
	size_t before_count = count_of(before);
	size_t entries_max = before_count + count_of(more) + 1;
	struct lent *lent = calloc(1, sizeof(*lent));
	size_t count = 0;

	if (lent == NULL)
		return NULL;
	lent->entries = calloc(entries_max, sizeof(*lent->entries));
	lent->copy = calloc(entries_max, sizeof(*lent->copy));
	if (lent->entries == NULL || lent->copy == NULL) {
		free(lent->entries);
		free(lent->copy);
		free(lent);
		return NULL;
	}
	for (; *more != NULL; more++)
		if (!is_exported(before, *more))
			lent->entries[count++] = *more;
	memcpy(lent->entries + count, before, before_count * sizeof(*before));
	lent->bytes = entries_max * sizeof(*lent->entries);
	memcpy(lent->copy, lent->entries, lent->bytes);
	return lent;
}

int
far_env_call_with(char *const *more, void (*call)(void *arg), void *arg)
{
	static char *nothing[] = {NULL};
	struct lent *lent;
	char **before, **ours;

	(void)pthread_mutex_lock(&lock);
	before = __atomic_load_n(&environ, __ATOMIC_ACQUIRE);
	lent = lent_make(before != NULL ? before : nothing, more);
	if (lent == NULL) {
		(void)pthread_mutex_unlock(&lock);
		return -ENOMEM;
	}
	lent->next = lent_all;
	lent_all = lent;
	/* The entries are written before anybody can find them: pairs with the load in getenv(). */
	__atomic_store_n(&environ, lent->entries, __ATOMIC_RELEASE);
	call(arg);
	/* setenv() writes a new array, or into this one: with ours gone its change would be, too. */
	ours = lent->entries;
	if (memcmp(lent->entries, lent->copy, lent->bytes) == 0)
		(void)__atomic_compare_exchange_n(&environ, &ours, before, false, __ATOMIC_ACQ_REL,
						  __ATOMIC_ACQUIRE);
	(void)pthread_mutex_unlock(&lock);
	return 0;
}
