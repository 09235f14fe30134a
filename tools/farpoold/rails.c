/* rails.c - the daemon's transports and listeners: one transport per scheme that is listened at. */
#include "tools/farpoold/rails.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"

static int
address_explain(int rc, const struct far_address *address, const char *next,
		char error[FAR_PARAM_ERROR_BYTES])
{
	snprintf(error, FAR_PARAM_ERROR_BYTES, "listen: '%s': %s (%s)", address->text, next,
		 far_err_name(rc));
	return rc;
}

/* The transport of @address: the one that another address of its scheme opened, or its own. */
static int
rail_open(struct farpoold_rails *rails, const struct far_address *address,
	  const struct far_transport_config *like, char error[FAR_PARAM_ERROR_BYTES])
{
	const char *listens[FAR_ADDRESSES_MAX];
	struct far_transport_config config = *like;
	struct far_transport *tp;
	int rc;

	if (farpoold_rails_find(rails, address->scheme) != NULL)
		return 0;
	config.clock = far_clock_real();
	config.posts_no_reads = true; /* clients do */
	config.listens = listens;
	for (uint32_t i = 0; i < rails->addresses.count; i++) {
		const struct far_address *other = &rails->addresses.items[i];

		if (strcmp(other->scheme, address->scheme) == 0)
			listens[config.listen_count++] = far_address_rest(other);
	}
	rc = far_transport_open(address->scheme, &config, &tp);
	if (rc < 0)
		return address_explain(rc, address, far_err_text(rc), error);
	rails->tps[rails->tp_count++] = tp;
	if (tp->fd < 0) /* nothing to sleep on */
		return address_explain(-EOPNOTSUPP, address,
				       "this transport is for simulations: use another one", error);
	return 0;
}

struct far_transport *
farpoold_rails_find(const struct farpoold_rails *rails, const char *scheme)
{
	for (uint32_t i = 0; i < rails->tp_count; i++) {
		if (strcmp(rails->tps[i]->ops->name, scheme) == 0)
			return rails->tps[i];
	}
	return NULL;
}

int
farpoold_rails_open(const char *listen, const struct far_transport_config *like,
		    struct farpoold_rails *rails, char error[FAR_PARAM_ERROR_BYTES])
{
	char cause[192];

	*rails = (struct farpoold_rails){.tp_count = 0};
	if (far_address_list_parse(listen, &rails->addresses, cause) < 0) {
		snprintf(error, FAR_PARAM_ERROR_BYTES, "listen: %s", cause);
		return -EINVAL;
	}
	/* Whoever finds one of them open finds those that it would rather take open, too. */
	far_address_list_rank(&rails->addresses);
	for (uint32_t i = 0; i < rails->addresses.count; i++) {
		int rc = rail_open(rails, &rails->addresses.items[i], like, error);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static const char *
listen_next_step(int rc)
{
	switch (rc) {
	case -EADDRINUSE:
		return "another process listens there: stop it, or choose another address";
	case -EACCES:
		return "no permission: give this user write access to the folder, or choose "
		       "another address";
	case -EINVAL:
		return "nothing can listen there: for shm use an absolute path of less than 100 "
		       "bytes in a folder that exists, else an address and a port of this host";
	default:
		return far_err_text(rc);
	}
}

int
farpoold_rails_listen(struct farpoold_rails *rails, far_accept_fn *accept, void *arg,
		      char error[FAR_PARAM_ERROR_BYTES])
{
	for (uint32_t i = 0; i < rails->addresses.count; i++) {
		const struct far_address *address = &rails->addresses.items[i];
		struct far_transport *tp = farpoold_rails_find(rails, address->scheme);
		int rc;

		FAR_ASSERT(tp != NULL);
		rc = far_transport_listen(tp, far_address_rest(address), accept, arg,
					  &rails->listeners[i]);
		if (rc < 0)
			return address_explain(rc, address, listen_next_step(rc), error);
	}
	return 0;
}

void
farpoold_rails_unlisten(struct farpoold_rails *rails)
{
	for (uint32_t i = 0; i < rails->addresses.count; i++) {
		if (rails->listeners[i] == NULL)
			continue;
		far_transport_unlisten(farpoold_rails_find(rails, rails->addresses.items[i].scheme),
				       rails->listeners[i]);
		rails->listeners[i] = NULL;
	}
}

void
farpoold_rails_close(struct farpoold_rails *rails)
{
	farpoold_rails_unlisten(rails);
	while (rails->tp_count > 0)
		far_transport_close(rails->tps[--rails->tp_count]);
}

int
farpoold_rails_poll(struct farpoold_rails *rails, int budget)
{
	int done = 0;

	for (uint32_t i = 0; i < rails->tp_count; i++)
		done += far_transport_poll(rails->tps[i], budget);
	return done;
}

bool
farpoold_rails_arm(struct farpoold_rails *rails)
{
	for (uint32_t i = 0; i < rails->tp_count; i++) {
		if (far_transport_arm(rails->tps[i]) != 0)
			return false;
	}
	return true;
}
