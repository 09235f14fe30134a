/* env.c - the environment, read in one place. */
#include "base/env.h"

#include <stdlib.h>

const char *
far_env_get(const char *name)
{
	return getenv(name);
}
