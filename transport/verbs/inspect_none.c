/* inspect_none.c - a build without the verbs headers has no verbs: said to whoever asks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "transport/verbs/inspect.h"

void
far_verbs_inspect(struct far_verbs_inspection *out)
{
	memset(out, 0, sizeof(*out));
	out->rc = -EOPNOTSUPP;
	(void)snprintf(out->error, sizeof(out->error),
		       "this farpool was built without verbs: its headers were not there");
}

int
far_verbs_route_find(const char *address, uint64_t wait_ns, struct far_verbs_route *out)
{
	(void)address;
	(void)wait_ns;
	memset(out, 0, sizeof(*out));
	out->gid_idx = -1;
	return -EOPNOTSUPP;
}
