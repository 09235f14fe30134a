/* faults.c - what a test does to the fabric: stop, kill, cut, and give old keys to new memory. */
#include "transport/loop/loop_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

/* A path that is cut, in both directions. */
struct loop_cut {
	struct far_list node;
	char a[LOOP_HOST_BYTES_MAX];
	char b[LOOP_HOST_BYTES_MAX];
};

static bool
host_is(const struct loop_host *host, const char *name)
{
	return strcmp(host->name, name) == 0;
}

void
far_loop_host_pause(struct far_loop_fabric *fabric, const char *name, bool paused)
{
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &fabric->hosts)
	{
		struct loop_host *host = FAR_CONTAINER_OF(it, struct loop_host, node);

		if (host_is(host, name))
			host->paused = paused;
	}
}

static void
host_die(struct loop_host *host)
{
	struct far_list *it;
	struct far_list *tmp;

	host->dead = true;
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &host->links)
	{
		struct loop_link *link = FAR_CONTAINER_OF(it, struct loop_link, node);

		far_loop_timer_cancel(host->fabric, &link->setup);
		far_loop_timer_cancel(host->fabric, &link->deadline);
		far_loop_ops_freeze(link);
		if (link->peer == NULL)
			continue;
		link->peer->peer_dead = true;
		far_loop_link_doom(link->peer, -ECONNRESET);
	}
}

void
far_loop_host_kill(struct far_loop_fabric *fabric, const char *name)
{
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &fabric->hosts)
	{
		struct loop_host *host = FAR_CONTAINER_OF(it, struct loop_host, node);

		if (host_is(host, name) && !host->dead)
			host_die(host);
	}
}

void
far_loop_host_bury(struct far_transport *tp)
{
	struct loop_host *host = loop_host(tp);
	struct far_list *it;
	struct far_list *tmp;

	FAR_ASSERT(host->dead);
	/* Links first: their ops pin the registrations. */
	while (!far_list_empty(&host->links))
		far_loop_link_free(FAR_CONTAINER_OF(host->links.next, struct loop_link, node));
	FAR_LIST_FOR_EACH_SAFE(it, tmp, &host->fabric->listeners)
	{
		struct loop_listener *listener = FAR_CONTAINER_OF(it, struct loop_listener, node);

		if (listener->host == host)
			far_transport_unlisten(tp, (struct far_listener *)listener);
	}
	while (!far_list_empty(&host->mems)) {
		struct loop_mem *mem = FAR_CONTAINER_OF(host->mems.next, struct loop_mem, node);

		mem->pins = 0;
		far_loop_mem_dereg(&mem->mem);
	}
	far_transport_close(tp);
}

/* ---- partitions ---- */

static struct loop_cut *
cut_find(const struct far_loop_fabric *fabric, const char *a, const char *b)
{
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &fabric->cuts)
	{
		struct loop_cut *cut = FAR_CONTAINER_OF(it, struct loop_cut, node);

		if (strcmp(cut->a, a) == 0 && strcmp(cut->b, b) == 0)
			return cut;
		if (strcmp(cut->a, b) == 0 && strcmp(cut->b, a) == 0)
			return cut;
	}
	return NULL;
}

bool
far_loop_is_cut(const struct far_loop_fabric *fabric, const char *a, const char *b)
{
	return cut_find(fabric, a, b) != NULL;
}

void
far_loop_cuts_free(struct far_loop_fabric *fabric)
{
	struct far_list *node;

	while ((node = far_list_pop_front(&fabric->cuts)) != NULL)
		far_free(FAR_CONTAINER_OF(node, struct loop_cut, node));
}

/* Links that were on the path do not come back when it heals: each end finds out by itself. */
static void
links_cut(struct far_loop_fabric *fabric, const char *a, const char *b)
{
	struct far_list *it;
	struct far_list *tmp;

	FAR_LIST_FOR_EACH_SAFE(it, tmp, &fabric->hosts)
	{
		struct loop_host *host = FAR_CONTAINER_OF(it, struct loop_host, node);
		const char *other = host_is(host, a) ? b : a;
		struct far_list *link_it;
		struct far_list *link_tmp;

		if (!host_is(host, a) && !host_is(host, b))
			continue;
		FAR_LIST_FOR_EACH_SAFE(link_it, link_tmp, &host->links)
		{
			struct loop_link *link = FAR_CONTAINER_OF(link_it, struct loop_link, node);

			if (link->peer == NULL || !host_is(link->peer->host, other))
				continue;
			link->cut = true;
			far_loop_link_doom(link, -ECONNRESET);
		}
	}
}

void
far_loop_partition(struct far_loop_fabric *fabric, const char *a, const char *b, bool cut)
{
	struct loop_cut *found = cut_find(fabric, a, b);

	if (!cut) {
		if (found == NULL)
			return;
		far_list_remove(&found->node);
		far_free(found);
		return;
	}
	if (found == NULL) {
		found = far_zalloc(sizeof(*found));
		FAR_ASSERT(found != NULL); /* a test's own memory */
		snprintf(found->a, sizeof(found->a), "%s", a);
		snprintf(found->b, sizeof(found->b), "%s", b);
		far_list_push_back(&fabric->cuts, &found->node);
	}
	links_cut(fabric, a, b);
}

void
far_loop_landing_set(struct far_loop_fabric *fabric, far_loop_landing_fn *landing, void *arg)
{
	fabric->landing = landing;
	fabric->landing_arg = arg;
}
