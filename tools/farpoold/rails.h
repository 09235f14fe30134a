/* rails.h - the transports that a donor serves at once, and the addresses that it listens at. */
#ifndef FAR_TOOLS_FARPOOLD_RAILS_H
#define FAR_TOOLS_FARPOOLD_RAILS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/param.h"
#include "transport/transport.h"

struct farpoold_rails {
	struct far_address_list addresses;
	struct far_listener *listeners[FAR_ADDRESSES_MAX]; /* owned; by address; NULL: none */
	struct far_transport *tps[FAR_ADDRESSES_MAX];      /* owned; one per scheme */
	uint32_t tp_count;
};

/* Opens a transport for each scheme in the list, with what @like says of trust, spinning and RDMA. On
 * failure one line in @error, and the rails can be closed. */
int farpoold_rails_open(const char *listen, const struct far_transport_config *like,
			struct farpoold_rails *rails, char error[FAR_PARAM_ERROR_BYTES]);
/* Listens at every address, those first that clients prefer; all of them, or an error. */
int farpoold_rails_listen(struct farpoold_rails *rails, far_accept_fn *accept, void *arg,
			  char error[FAR_PARAM_ERROR_BYTES]);
void farpoold_rails_unlisten(struct farpoold_rails *rails);
/* Every link is closed before: asserted by the transports. Takes half-opened ones. */
void farpoold_rails_close(struct farpoold_rails *rails);
/* NULL: none of that scheme. */
struct far_transport *farpoold_rails_find(const struct farpoold_rails *rails, const char *scheme);
int farpoold_rails_poll(struct farpoold_rails *rails, int budget);
/* False: one of them has something to do already. */
bool farpoold_rails_arm(struct farpoold_rails *rails);

#endif
