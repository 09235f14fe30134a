/* host.c - "HOST:PORT", and names of hosts looked up without anybody's waiting for it. */
#include "transport/host.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/err.h"

/* Cuts "HOST:PORT" and "[HOST]:PORT". Returns 0, -EINVAL. */
int
far_host_cut(const char *address, char host[FAR_ADDRESS_BYTES_MAX], char port[6])
{
	const char *colon = strrchr(address, ':');
	size_t host_bytes;

	if (colon == NULL || colon == address)
		return -EINVAL;
	host_bytes = (size_t)(colon - address);
	if (address[0] == '[') {
		if (host_bytes < 3 || address[host_bytes - 1] != ']')
			return -EINVAL;
		address++;
		host_bytes -= 2;
	} else if (memchr(address, ':', host_bytes) != NULL) {
		return -EINVAL; /* IPv6 without brackets: where does the port begin? */
	}
	if (host_bytes >= FAR_ADDRESS_BYTES_MAX)
		return -EINVAL;
	memcpy(host, address, host_bytes);
	host[host_bytes] = '\0';
	if (strlen(colon + 1) == 0 || strlen(colon + 1) > 5 ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
	    strtoul(colon + 1, NULL, 10) > UINT16_MAX)
		return -EINVAL; /* the C library would take 65537 for 1 */
	memcpy(port, colon + 1, strlen(colon + 1) + 1);
	return 0;
}

int
far_host_parse(const char *address, struct sockaddr_storage *out, socklen_t *bytes_out)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				 .ai_socktype = SOCK_STREAM};
	char host[FAR_ADDRESS_BYTES_MAX], port[6];
	struct addrinfo *found = NULL;
	int rc = far_host_cut(address, host, port);

	if (rc < 0)
		return rc;
	rc = getaddrinfo(host, port, &hints, &found);
	if (rc == EAI_NONAME)
		return -EAGAIN;
	if (rc != 0 || found == NULL)
		return -EINVAL;
	memcpy(out, found->ai_addr, found->ai_addrlen);
	*bytes_out = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

void
far_host_format(const struct sockaddr_storage *addr, char out[FAR_ADDRESS_BYTES_MAX])
{
	char host[INET6_ADDRSTRLEN] = "?";
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (addr->ss_family == AF_INET) {
		memcpy(&in, addr, sizeof(in));
		(void)inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
		(void)snprintf(out, FAR_ADDRESS_BYTES_MAX, "%s:%u", host, ntohs(in.sin_port));
	} else if (addr->ss_family == AF_INET6) {
		memcpy(&in6, addr, sizeof(in6));
		(void)inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof(host));
		(void)snprintf(out, FAR_ADDRESS_BYTES_MAX, "[%s]:%u", host, ntohs(in6.sin6_port));
	} else {
		(void)snprintf(out, FAR_ADDRESS_BYTES_MAX, "an unknown address");
	}
}

/* A name is looked up here and now: whoever listens is only starting. */
int
far_host_find(const char *address, struct sockaddr_storage *out, socklen_t *bytes_out)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
	char host[FAR_ADDRESS_BYTES_MAX], port[6];
	struct addrinfo *found = NULL;
	int rc = far_host_parse(address, out, bytes_out);

	if (rc != -EAGAIN)
		return rc;
	(void)far_host_cut(address, host, port);
	if (getaddrinfo(host, port, &hints, &found) != 0 || found == NULL)
		return -EINVAL;
	memcpy(out, found->ai_addr, found->ai_addrlen);
	*bytes_out = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

/* ---- without blocking: by the C library's own thread ---- */

struct far_resolve {
	struct far_list node; /* in @dropped once it was */
	struct far_list *dropped;
	struct gaicb query;
	struct addrinfo hints;
	char host[FAR_ADDRESS_BYTES_MAX];
	char port[6];
};

static void
resolve_free(struct far_resolve *resolve)
{
	if (resolve->query.ar_result != NULL)
		freeaddrinfo(resolve->query.ar_result);
	far_list_remove(&resolve->node);
	far_free(resolve);
}

int
far_resolve_open(struct far_list *dropped, const char *address, struct far_resolve **out)
{
	struct far_resolve *resolve = far_zalloc(sizeof(*resolve));
	struct gaicb *queries[1];
	int rc;

	if (resolve == NULL)
		return -ENOMEM;
	resolve->dropped = dropped;
	far_list_init(&resolve->node);
	rc = far_host_cut(address, resolve->host, resolve->port);
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
far_resolve_get(struct far_resolve *resolve, struct sockaddr_storage *out, socklen_t *bytes_out)
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
far_resolve_drop(struct far_resolve *resolve)
{
	if (resolve == NULL)
		return;
	(void)gai_cancel(&resolve->query);
	if (gai_error(&resolve->query) != EAI_INPROGRESS)
		resolve_free(resolve);
	else /* its thread still writes there */
		far_list_push_back(resolve->dropped, &resolve->node);
}

void
far_resolve_reap(struct far_list *dropped, bool wait)
{
	struct far_list *it, *next;

	FAR_LIST_FOR_EACH_SAFE(it, next, dropped)
	{
		struct far_resolve *resolve = FAR_CONTAINER_OF(it, struct far_resolve, node);
		const struct gaicb *queries[1] = {&resolve->query};

		while (wait && gai_error(&resolve->query) == EAI_INPROGRESS)
			(void)gai_suspend(queries, 1, NULL);
		if (gai_error(&resolve->query) != EAI_INPROGRESS)
			resolve_free(resolve);
	}
}
