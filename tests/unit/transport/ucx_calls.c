/* ucx_calls.c - each call of UCX that can fail does: what is left is an answer, and nothing else. */
#include "base/alloc.h"
#include "tests/support/log_capture.h"
#include "tests/unit/transport/ucx_world.h"
#include "transport/ucx/lib.h"

#define CALLS_MAX       400 /* more than a whole life has */
#define ALLOCATIONS_MIN 20  /* fewer than it has: two transports, two links, two connections */

/* The functions that can fail. Those that free or only look cannot; progress says how much it did. */
enum call {
	CALL_CONFIG_READ,
	CALL_CONFIG_MODIFY,
	CALL_INIT,
	CALL_WORKER_CREATE,
	CALL_SET_HANDLER,
	CALL_GET_EFD,
	CALL_LISTEN,
	CALL_EP_CREATE,
	CALL_REQUEST_QUERY,
	CALL_SEND,
	CALL_ARM,
	CALL_EP_CLOSE,
	CALL_COUNT,
};

static const struct ucx_lib *real;
static ucp_listener_h listener_last;
static struct {
	unsigned left; /* calls until the one that fails */
	ucs_status_t status;
	bool done;
	unsigned failed[CALL_COUNT];
	enum call last; /* that failed */
	int live;       /* objects of UCX, with its requests */
} fault;

static bool
fails(enum call call)
{
	if (fault.done || --fault.left > 0)
		return false;
	fault.done = true;
	fault.failed[call]++;
	fault.last = call;
	return true;
}

/* An object more, where there is one. */
static ucs_status_t
made(ucs_status_t status)
{
	fault.live += status == UCS_OK;
	return status;
}

static ucs_status_ptr_t
asked(ucs_status_ptr_t request)
{
	fault.live += UCS_PTR_IS_PTR(request);
	return request;
}

/* ---- the table ---- */

static ucs_status_t
config_read(const char *prefix, const char *file, ucp_config_t **out)
{
	return fails(CALL_CONFIG_READ) ? fault.status
				       : made(real->ucp_config_read(prefix, file, out));
}

static ucs_status_t
config_modify(ucp_config_t *config, const char *name, const char *value)
{
	return fails(CALL_CONFIG_MODIFY) ? fault.status
					 : real->ucp_config_modify(config, name, value);
}

static ucs_status_t
init_version(unsigned major, unsigned minor, const ucp_params_t *params, const ucp_config_t *config,
	     ucp_context_h *out)
{
	return fails(CALL_INIT) ? fault.status
				: made(real->ucp_init_version(major, minor, params, config, out));
}

static ucs_status_t
worker_create(ucp_context_h context, const ucp_worker_params_t *params, ucp_worker_h *out)
{
	return fails(CALL_WORKER_CREATE) ? fault.status
					 : made(real->ucp_worker_create(context, params, out));
}

static ucs_status_t
set_handler(ucp_worker_h worker, const ucp_am_handler_param_t *param)
{
	return fails(CALL_SET_HANDLER) ? fault.status
				       : real->ucp_worker_set_am_recv_handler(worker, param);
}

static ucs_status_t
get_efd(ucp_worker_h worker, int *out)
{
	return fails(CALL_GET_EFD) ? fault.status : real->ucp_worker_get_efd(worker, out);
}

static ucs_status_t
listener_create(ucp_worker_h worker, const ucp_listener_params_t *params, ucp_listener_h *out)
{
	ucs_status_t status = fails(CALL_LISTEN)
				      ? fault.status
				      : made(real->ucp_listener_create(worker, params, out));

	if (status == UCS_OK)
		listener_last = *out;
	return status;
}

/* A request that is not accepted is gone, and its peer is told. */
static ucs_status_t
ep_create(ucp_worker_h worker, const ucp_ep_params_t *params, ucp_ep_h *out)
{
	if (!fails(CALL_EP_CREATE))
		return made(real->ucp_ep_create(worker, params, out));
	if (params->field_mask & UCP_EP_PARAM_FIELD_CONN_REQUEST)
		(void)real->ucp_listener_reject(listener_last, params->conn_request);
	return fault.status;
}

static ucs_status_t
request_query(ucp_conn_request_h request, ucp_conn_request_attr_t *attr)
{
	return fails(CALL_REQUEST_QUERY) ? fault.status
					 : real->ucp_conn_request_query(request, attr);
}

static ucs_status_ptr_t
am_send(ucp_ep_h ep, unsigned id, const void *header, size_t header_bytes, const void *buffer,
	size_t count, const ucp_request_param_t *param)
{
	if (fails(CALL_SEND))
		return UCS_STATUS_PTR(fault.status);
	return asked(real->ucp_am_send_nbx(ep, id, header, header_bytes, buffer, count, param));
}

static ucs_status_t
arm(ucp_worker_h worker)
{
	return fails(CALL_ARM) ? fault.status : real->ucp_worker_arm(worker);
}

/* Closing by force fails only where the endpoint is closed already. */
static ucs_status_ptr_t
ep_close(ucp_ep_h ep, const ucp_request_param_t *param)
{
	bool failing = fails(CALL_EP_CLOSE);
	ucs_status_ptr_t request = asked(real->ucp_ep_close_nbx(ep, param));

	fault.live--;
	return failing && !UCS_PTR_IS_PTR(request) ? UCS_STATUS_PTR(fault.status) : request;
}

/* Those that cannot fail, and end what was made. */
#define ENDS(name, type)                                                                           \
	static void count_##name(type object)                                                      \
	{                                                                                          \
		real->name(object);                                                                \
		fault.live--;                                                                      \
	}

ENDS(ucp_config_release, ucp_config_t *)
ENDS(ucp_cleanup, ucp_context_h)
ENDS(ucp_worker_destroy, ucp_worker_h)
ENDS(ucp_listener_destroy, ucp_listener_h)
ENDS(ucp_request_free, void *)

static void
table_fill(struct ucx_lib *lib)
{
	*lib = *real;
	lib->ucp_config_read = config_read;
	lib->ucp_config_modify = config_modify;
	lib->ucp_init_version = init_version;
	lib->ucp_worker_create = worker_create;
	lib->ucp_worker_set_am_recv_handler = set_handler;
	lib->ucp_worker_get_efd = get_efd;
	lib->ucp_listener_create = listener_create;
	lib->ucp_ep_create = ep_create;
	lib->ucp_conn_request_query = request_query;
	lib->ucp_am_send_nbx = am_send;
	lib->ucp_worker_arm = arm;
	lib->ucp_ep_close_nbx = ep_close;
	lib->ucp_config_release = count_ucp_config_release;
	lib->ucp_cleanup = count_ucp_cleanup;
	lib->ucp_worker_destroy = count_ucp_worker_destroy;
	lib->ucp_listener_destroy = count_ucp_listener_destroy;
	lib->ucp_request_free = count_ucp_request_free;
}

/* ---- lives ---- */

/* Opens, listens, connects, asks, disconnects, closes. Returns how far that went: 0 or an error. */
static int
live(void)
{
	struct ucx_world w;
	int rc = ucx_world_listen(&w);

	if (rc == 0)
		rc = ucx_world_connect(&w);
	if (rc == 0)
		rc = ucx_world_ask(&w);
	ucx_world_close(&w);
	return rc;
}

/* Fails the calls of a life one after the other, until there is none left that could. */
static void
fail_each(ucs_status_t status)
{
	unsigned survived = 0;
	struct ucx_lib lib;

	table_fill(&lib);
	memset(&fault, 0, sizeof(fault));
	fault.status = status;
	far_ucx_lib = &lib;
	for (unsigned n = 1; n < CALLS_MAX; n++) {
		int rc;

		fault.left = n;
		fault.done = false;
		far_log_capture_start();
		far_log_capture_expect("ucx: ");
		rc = live();
		far_log_capture_finish();
		if (fault.live != 0)
			fail_msg("call %u, of kind %d: %d objects left", n, fault.last, fault.live);
		if (!fault.done) {
			assert_int_equal(rc, 0);
			print_message("%u calls failed, %u lives did without\n", n - 1, survived);
			far_ucx_lib = real;
			return;
		}
		if (rc != 0 && (rc > 0 || !far_err_listed(rc)))
			fail_msg("call %u: %d is not listed", n, rc);
		survived += rc == 0;
	}
	fail_msg("no life got by without the call that fails");
}

static void
each_was_failed(void)
{
	for (int call = 0; call < CALL_COUNT; call++)
		if (fault.failed[call] == 0)
			fail_msg("call %d was never made", call);
}

static void
any_call_may_find_no_memory(void **state)
{
	(void)state;
	fail_each(UCS_ERR_NO_MEMORY);
	each_was_failed();
}

static void
any_call_may_fail_for_a_reason_of_its_own(void **state)
{
	(void)state;
	fail_each(UCS_ERR_IO_ERROR);
	each_was_failed();
}

static void
any_call_may_say_that_it_is_not_possible_now(void **state)
{
	(void)state;
	fail_each(UCS_ERR_BUSY);
	each_was_failed();
}

/* Each allocation that is missing costs the life that needed it: the first whole one needed fewer. */
static void
any_allocation_of_ours_may_fail_as_well(void **state)
{
	unsigned n = 0;
	int rc;
	(void)state;

	do {
		far_log_capture_start();
		far_alloc_fail_nth(++n);
		rc = live();
		far_alloc_fail_nth(0);
		far_log_capture_finish();
		if (rc != 0 && (rc > 0 || !far_err_listed(rc)))
			fail_msg("allocation %u: %d is not listed", n, rc);
	} while (rc != 0 && n < CALLS_MAX);
	assert_int_equal(rc, 0);
	assert_true(n > ALLOCATIONS_MIN);
}

static void
after_all_that_a_life_is_whole(void **state)
{
	(void)state;
	far_log_capture_start();
	assert_int_equal(live(), 0);
	far_log_capture_finish();
}

static int
lib_load(void **state)
{
	(void)state;
	if (far_ucx_lib_load() < 0)
		return -1;
	real = far_ucx_lib;
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_call_may_find_no_memory),
		cmocka_unit_test(any_call_may_fail_for_a_reason_of_its_own),
		cmocka_unit_test(any_call_may_say_that_it_is_not_possible_now),
		cmocka_unit_test(any_allocation_of_ours_may_fail_as_well),
		cmocka_unit_test(after_all_that_a_life_is_whole),
	};

	return cmocka_run_group_tests(tests, lib_load, NULL);
}
