/* attacker.h - a peer over UCX that keeps to no rule: its own context, raw RMA, frames as it likes. */
#ifndef FAR_TESTS_SUPPORT_ATTACKER_ATTACKER_H
#define FAR_TESTS_SUPPORT_ATTACKER_ATTACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucp/api/ucp.h>

#include "transport/ucx/frame.h"

#define ATTACKER_CONNECT_S 5
#define ATTACKER_WAIT_S    2 /* for what should never come */
#define ATTACKER_CLOSE_S   5 /* for what should: the end of the link */

/* One process, one connection at a time. */
struct attacker {
	ucp_context_h context;
	ucp_worker_h worker;
	ucp_ep_h ep;
	bool lost; /* the other side ended the connection */
	uint32_t seq;
	/* Frames of a farpool that came, the last of them in full. */
	uint32_t frame_count;
	size_t frame_bytes;
	uint8_t frame[UCX_FRAME_BYTES_MAX];
	/* Records of answers to READs: how many, and how many of them had bytes or no failure. */
	uint32_t answer_count;
	uint32_t answers_with_bytes;
	struct ucx_frame_hello welcome;
};

/* RMA and active messages over TCP, the very thing that farpool does not ask UCX for. All of these
 * end the process with a line on stderr where UCX itself fails. */
void attacker_open(struct attacker *attacker);
/* "HOST:PORT", IPv4. Returns whether the other side answered. */
bool attacker_connect(struct attacker *attacker, const char *address);
void attacker_disconnect(struct attacker *attacker);
/* Whether @request ended before the deadline; then *status_out is how. Takes the request. */
bool attacker_wait(struct attacker *attacker, ucs_status_ptr_t request, uint64_t deadline_ns,
		   ucs_status_t *status_out);
void attacker_progress(struct attacker *attacker);
uint64_t attacker_now_ns(void);
uint64_t attacker_deadline_ns(unsigned seconds);
/* An active message under farpool's number. */
void attacker_say(struct attacker *attacker, const void *header, size_t header_bytes,
		  const void *data, size_t data_bytes, uint32_t flags);

/* ---- rma.c ---- */
/* GETs of @count addresses, each of @size_bytes; prints what lies in its buffers afterwards. */
int attacker_get(struct attacker *attacker, size_t size_bytes, const char *const *addresses,
		 int count);
/* PUTs @text at each. */
int attacker_put(struct attacker *attacker, const char *text, const char *const *addresses,
		 int count);
/* The victim of a control: a process that lets UCX do RMA over TCP. Serves until it is killed. */
int attacker_be_victim(struct attacker *attacker, const char *port);

/* ---- garbage.c ---- */
/* Says hello as a farpool does, and waits for the answer. */
bool attacker_greet(struct attacker *attacker);
/* Sends each kind of garbage over a connection of its own. Returns how many of them did not end as
 * they have to. */
int attacker_throw(struct attacker *attacker, const char *address);
/* Opens @count connections that say nothing and holds them for @seconds. */
int attacker_crowd(struct attacker *attacker, const char *address, unsigned count,
		   unsigned seconds);

#endif
