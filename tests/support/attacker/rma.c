/* rma.c - GET and PUT at addresses that nobody gave us, under a key of our own memory. */
#include "tests/support/attacker/attacker.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define OPS_MAX       16
#define GET_BYTES_MAX 256
#define UNTOUCHED     0xee

static uint8_t arena[OPS_MAX][GET_BYTES_MAX];

/* UCX's emulation puts no key on the wire, so any will do: that of our own arena. */
static ucp_rkey_h
own_key(struct attacker *attacker)
{
	ucp_mem_map_params_t params = {
		.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
		.address = arena,
		.length = sizeof(arena),
	};
	ucp_rkey_h rkey = NULL;
	size_t packed_bytes;
	ucp_mem_h memory;
	void *packed;

	if (ucp_mem_map(attacker->context, &params, &memory) != UCS_OK ||
	    ucp_rkey_pack(attacker->context, memory, &packed, &packed_bytes) != UCS_OK ||
	    ucp_ep_rkey_unpack(attacker->ep, packed, &rkey) != UCS_OK) {
		fprintf(stderr, "attacker: no key of its own memory\n");
		exit(2);
	}
	ucp_rkey_buffer_release(packed);
	return rkey;
}

static const char *
outcome(bool ended, ucs_status_t status)
{
	return ended ? ucs_status_string(status) : "no answer";
}

int
attacker_get(struct attacker *attacker, size_t size_bytes, const char *const *addresses, int count)
{
	ucp_request_param_t none = {.op_attr_mask = 0};
	uint64_t deadline_ns = attacker_deadline_ns(ATTACKER_WAIT_S);
	ucp_rkey_h rkey = own_key(attacker);
	ucs_status_ptr_t requests[OPS_MAX];

	if (count > OPS_MAX || size_bytes > GET_BYTES_MAX)
		return 2;
	memset(arena, UNTOUCHED, sizeof(arena));
	for (int i = 0; i < count; i++)
		requests[i] = ucp_get_nbx(attacker->ep, arena[i], size_bytes,
					  strtoull(addresses[i], NULL, 16), rkey, &none);
	for (int i = 0; i < count; i++) {
		ucs_status_t status;
		bool ended = attacker_wait(attacker, requests[i], deadline_ns, &status);

		printf("get %s: %s:", addresses[i], outcome(ended, status));
		for (size_t b = 0; b < size_bytes; b++)
			printf("%02x", arena[i][b]);
		putchar('\n');
	}
	return 0;
}

int
attacker_put(struct attacker *attacker, const char *text, const char *const *addresses, int count)
{
	ucp_request_param_t none = {.op_attr_mask = 0};
	uint64_t deadline_ns = attacker_deadline_ns(ATTACKER_WAIT_S);
	ucp_rkey_h rkey = own_key(attacker);
	ucs_status_ptr_t requests[OPS_MAX];
	ucs_status_t status;
	bool ended;

	if (count > OPS_MAX)
		return 2;
	for (int i = 0; i < count; i++)
		requests[i] = ucp_put_nbx(attacker->ep, text, strlen(text),
					  strtoull(addresses[i], NULL, 16), rkey, &none);
	for (int i = 0; i < count; i++) {
		ended = attacker_wait(attacker, requests[i], deadline_ns, &status);
		printf("put %s: %s\n", addresses[i], outcome(ended, status));
	}
	ended = attacker_wait(attacker, ucp_ep_flush_nbx(attacker->ep, &none), deadline_ns,
			      &status);
	printf("flush: %s\n", outcome(ended, status));
	return 0;
}

/* ---- the victim of a control ---- */

static char secret[] = "nobody was given this string, and no memory was registered";

static void
on_request(ucp_conn_request_h request, void *arg)
{
	struct attacker *victim = arg;
	ucp_ep_params_t params = {
		.field_mask =
			UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_CONN_REQUEST,
		.err_mode = UCP_ERR_HANDLING_MODE_PEER,
		.conn_request = request,
	};
	ucp_ep_h ep;

	if (ucp_ep_create(victim->worker, &params, &ep) != UCS_OK)
		fprintf(stderr, "victim: no endpoint\n");
}

int
attacker_be_victim(struct attacker *victim, const char *port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
	};
	ucp_listener_params_t params = {
		.field_mask =
			UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
		.sockaddr = {.addr = (const struct sockaddr *)&addr, .addrlen = sizeof(addr)},
		.conn_handler = {.cb = on_request, .arg = victim},
	};
	ucp_listener_h listener;

	if (ucp_listener_create(victim->worker, &params, &listener) != UCS_OK) {
		fprintf(stderr, "victim: port %s is taken\n", port);
		return 2;
	}
	printf("%p %s\n", (void *)secret, secret);
	fflush(stdout);
	for (;;)
		attacker_progress(victim);
}
