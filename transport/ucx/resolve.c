/* resolve.c - names of hosts, looked up by the C library's own thread: nothing waits for it. */
#include "transport/ucx/ucx_priv.h"

#include <netdb.h>
#include <string.h>

#include "base/alloc.h"

struct ucx_resolve {
	struct far_list node; /* in tp->resolving once it was dropped */
	struct ucx_transport *tp;
	struct gaicb query;
	struct addrinfo hints;
	char host[FAR_ADDRESS_BYTES_MAX];
	char port[6];
};

static void
resolve_free(struct ucx_resolve *resolve)
{
	if (resolve->query.ar_result != NULL)
		freeaddrinfo(resolve->query.ar_result);
	far_list_remove(&resolve->node);
	far_free(resolve);
}

int
far_ucx_resolve_open(struct ucx_transport *tp, const char *address, struct ucx_resolve **out)
{
	struct ucx_resolve *resolve = far_zalloc(sizeof(*resolve));
	struct gaicb *queries[1];
	int rc;

	if (resolve == NULL)
		return -ENOMEM;
	resolve->tp = tp;
	far_list_init(&resolve->node);
	rc = far_ucx_address_cut(address, resolve->host, resolve->port);
	if (rc < 0) {
		far_free(resolve);
		return rc;
	}
	resolve->hints.ai_socktype = SOCK_STREAM;
	resolve->query.ar_name = resolve->host;
	resolve->query.ar_service = resolve->port;
	resolve->query.ar_request = &resolve->hints;
	queries[0] = &resolve->query;
	rc = getaddrinfo_a(GAI_NOWAIT, queries, 1, NULL);
	if (rc != 0) {
		resolve_free(resolve);
		return -ENOMEM;
	}
	*out = resolve;
	return 0;
}

int
far_ucx_resolve_get(struct ucx_resolve *resolve, struct sockaddr_storage *out, socklen_t *bytes_out)
{
	const struct addrinfo *found;
	int rc = gai_error(&resolve->query);

	if (rc == EAI_INPROGRESS)
		return -EAGAIN;
	found = resolve->query.ar_result;
	if (rc != 0 || found == NULL)
		return -EINVAL;
	memcpy(out, found->ai_addr, found->ai_addrlen);
	*bytes_out = found->ai_addrlen;
	return 0;
}

void
far_ucx_resolve_drop(struct ucx_resolve *resolve)
{
	if (resolve == NULL)
		return;
	(void)gai_cancel(&resolve->query);
	if (gai_error(&resolve->query) != EAI_INPROGRESS)
		resolve_free(resolve);
	else /* its thread still writes there */
		far_list_push_back(&resolve->tp->resolving, &resolve->node);
}

void
far_ucx_resolve_reap(struct ucx_transport *tp, bool wait)
{
	struct far_list *it, *next;

	FAR_LIST_FOR_EACH_SAFE(it, next, &tp->resolving)
	{
		struct ucx_resolve *resolve = FAR_CONTAINER_OF(it, struct ucx_resolve, node);
		const struct gaicb *queries[1] = {&resolve->query};

		while (wait && gai_error(&resolve->query) == EAI_INPROGRESS)
			(void)gai_suspend(queries, 1, NULL);
		if (gai_error(&resolve->query) != EAI_INPROGRESS)
			resolve_free(resolve);
	}
}
