/* assert.c - the last line that a broken process writes. */
#include "base/assert.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

_Noreturn void
far_assert_failed(const char *cond, const char *file, int line, const char *func)
{
	static _Thread_local bool failing;

	/* A sink that asserts must not bring us back here for ever. */
	if (failing)
		abort();
	failing = true;
	far_log_error(
		"assertion '%s' failed in %s, %s:%d: this is a bug of farpool, please report it",
		cond, func, file, line);
	fflush(stderr); /* a sink of the caller's may buffer there */
	abort();
}
