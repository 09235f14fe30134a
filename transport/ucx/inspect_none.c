/* inspect_none.c - a build without UCX's headers has no UCX: said to whoever asks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "transport/ucx/inspect.h"

void
far_ucx_inspect(struct far_ucx_inspection *out)
{
	memset(out, 0, sizeof(*out));
	out->rc = -EOPNOTSUPP;
	(void)snprintf(out->error, sizeof(out->error),
		       "this farpool was built without UCX: its headers were not there");
}
