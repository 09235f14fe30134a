/* verbs_calls.c - each call of the verbs libraries that can fail does: what is left is an answer. */
#include "base/alloc.h"
#include "tests/support/log_capture.h"
#include "tests/unit/transport/verbs_world.h"

#define LIFE_TRIES      3
#define CALLS_MAX       1000 /* more than a whole life has */
#define ALLOCATIONS_MIN 20   /* fewer than it has */

static const struct verbs_lib *real;
static struct {
	unsigned left; /* calls until the one that fails */
	int error;
	const char *failed; /* the one that did; NULL: none yet */
	int live;           /* objects of the libraries */
} fault;

static bool
fails(const char *name)
{
	if (fault.failed != NULL || --fault.left > 0)
		return false;
	fault.failed = name;
	errno = fault.error;
	return true;
}

/* ---- the table: what makes an object, what ends one, and the rest ---- */

#define MAKES(type, name, params, ...)                                                             \
	static __typeof__(type) *fake_##name params                                                \
	{                                                                                          \
		__typeof__(type) *made = fails(#name) ? NULL : (real->name)(__VA_ARGS__);          \
                                                                                                   \
		fault.live += made != NULL;                                                        \
		return made;                                                                       \
	}

MAKES(struct ibv_context, ibv_open_device, (struct ibv_device * device), device)
MAKES(struct ibv_pd, ibv_alloc_pd, (struct ibv_context * context), context)
MAKES(struct ibv_comp_channel, ibv_create_comp_channel, (struct ibv_context * context), context)
MAKES(struct ibv_cq, ibv_create_cq,
      (struct ibv_context * context, int size, void *arg, struct ibv_comp_channel *channel,
       int vector),
      context, size, arg, channel, vector)
MAKES(struct ibv_qp, ibv_create_qp, (struct ibv_pd * pd, struct ibv_qp_init_attr *attr), pd, attr)
MAKES(struct ibv_mr, ibv_reg_mr_iova2,
      (struct ibv_pd * pd, void *addr, size_t size, uint64_t iova, unsigned access), pd, addr, size,
      iova, access)
MAKES(struct rdma_event_channel, rdma_create_event_channel, (void), )

static int
fake_rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **out, void *context,
		    enum rdma_port_space space)
{
	int rc = fails("rdma_create_id") ? -1 : real->rdma_create_id(channel, out, context, space);

	fault.live += rc == 0;
	return rc;
}

/* What ends something fails only where the device has failed, and then it is gone as well. */
#define ENDS(name, type, failure)                                                                  \
	static int fake_##name(__typeof__(type) *object)                                           \
	{                                                                                          \
		int rc = (real->name)(object);                                                     \
                                                                                                   \
		assert_int_equal(rc, 0);                                                           \
		fault.live--;                                                                      \
		return fails(#name) ? (failure) : 0;                                               \
	}

ENDS(ibv_close_device, struct ibv_context, -1)
ENDS(ibv_dealloc_pd, struct ibv_pd, fault.error)
ENDS(ibv_destroy_comp_channel, struct ibv_comp_channel, fault.error)
ENDS(ibv_destroy_cq, struct ibv_cq, fault.error)
ENDS(ibv_destroy_qp, struct ibv_qp, fault.error)
ENDS(ibv_dereg_mr, struct ibv_mr, fault.error)
ENDS(rdma_destroy_id, struct rdma_cm_id, -1)

static void
fake_rdma_destroy_event_channel(struct rdma_event_channel *channel)
{
	real->rdma_destroy_event_channel(channel);
	fault.live--;
}

/* Those that are not made at all when they fail. */
#define CALLS(name, params, failure, ...)                                                          \
	static int fake_##name params                                                              \
	{                                                                                          \
		return fails(#name) ? (failure) : (real->name)(__VA_ARGS__);                       \
	}

CALLS(ibv_query_device, (struct ibv_context * c, struct ibv_device_attr *a), fault.error, c, a)
CALLS(ibv_query_port, (struct ibv_context * c, uint8_t p, struct _compat_ibv_port_attr *a),
      fault.error, c, p, a)
CALLS(ibv_modify_qp, (struct ibv_qp * q, struct ibv_qp_attr *a, int m), fault.error, q, a, m)
CALLS(ibv_req_notify_cq, (struct ibv_cq * q, int s), fault.error, q, s)
CALLS(rdma_accept, (struct rdma_cm_id * i, struct rdma_conn_param *p), -1, i, p)
CALLS(rdma_bind_addr, (struct rdma_cm_id * i, struct sockaddr *a), -1, i, a)
CALLS(rdma_connect, (struct rdma_cm_id * i, struct rdma_conn_param *p), -1, i, p)
CALLS(rdma_disconnect, (struct rdma_cm_id * i), -1, i)
CALLS(rdma_establish, (struct rdma_cm_id * i), -1, i)
CALLS(rdma_init_qp_attr, (struct rdma_cm_id * i, struct ibv_qp_attr *a, int *m), -1, i, a, m)
CALLS(rdma_listen, (struct rdma_cm_id * i, int b), -1, i, b)
CALLS(rdma_resolve_addr, (struct rdma_cm_id * i, struct sockaddr *s, struct sockaddr *d, int t), -1,
      i, s, d, t)
CALLS(rdma_resolve_route, (struct rdma_cm_id * i, int t), -1, i, t)
CALLS(rdma_set_option, (struct rdma_cm_id * i, int l, int o, void *v, size_t n), -1, i, l, o, v, n)

/* Who is asked for a connection is given an id for it. */
static int
fake_rdma_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **out)
{
	int rc = fails("rdma_get_cm_event") ? -1 : real->rdma_get_cm_event(channel, out);

	fault.live += rc == 0 && (*out)->event == RDMA_CM_EVENT_CONNECT_REQUEST;
	return rc;
}

static struct ibv_context **
fake_rdma_get_devices(int *count)
{
	return fails("rdma_get_devices") ? NULL : real->rdma_get_devices(count);
}

/* A part of a chain may have been taken. */
static int
fake_ibv_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_out)
{
	struct ibv_send_wr *second = wr->next;
	int rc;

	if (!fails("ibv_post_send"))
		return real->ibv_post_send(qp, wr, bad_out);
	*bad_out = wr;
	if (second == NULL)
		return fault.error;
	wr->next = NULL;
	rc = real->ibv_post_send(qp, wr, bad_out);
	assert_int_equal(rc, 0);
	wr->next = second;
	*bad_out = second;
	return fault.error;
}

static int
fake_ibv_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_out)
{
	if (!fails("ibv_post_recv"))
		return real->ibv_post_recv(qp, wr, bad_out);
	*bad_out = wr;
	return fault.error;
}

static void
table_fill(struct verbs_lib *lib)
{
	*lib = *real;
#define FAKE(name) lib->name = fake_##name
	FAKE(ibv_open_device);
	FAKE(ibv_alloc_pd);
	FAKE(ibv_create_comp_channel);
	FAKE(ibv_create_cq);
	FAKE(ibv_create_qp);
	FAKE(ibv_reg_mr_iova2);
	FAKE(rdma_create_event_channel);
	FAKE(rdma_create_id);
	FAKE(ibv_close_device);
	FAKE(ibv_dealloc_pd);
	FAKE(ibv_destroy_comp_channel);
	FAKE(ibv_destroy_cq);
	FAKE(ibv_destroy_qp);
	FAKE(ibv_dereg_mr);
	FAKE(rdma_destroy_id);
	FAKE(rdma_destroy_event_channel);
	FAKE(ibv_query_device);
	FAKE(ibv_query_port);
	FAKE(ibv_modify_qp);
	FAKE(ibv_req_notify_cq);
	FAKE(rdma_accept);
	FAKE(rdma_bind_addr);
	FAKE(rdma_connect);
	FAKE(rdma_disconnect);
	FAKE(rdma_establish);
	FAKE(rdma_get_cm_event);
	FAKE(rdma_init_qp_attr);
	FAKE(rdma_listen);
	FAKE(rdma_resolve_addr);
	FAKE(rdma_resolve_route);
	FAKE(rdma_set_option);
	FAKE(rdma_get_devices);
	FAKE(ibv_post_send);
	FAKE(ibv_post_recv);
#undef FAKE
}

/* ---- lives ---- */

/* Opens, listens, connects, reads, writes, asks, disconnects, closes. Returns how far that went: 0 or
 * an error. */
static int
live(void)
{
	struct verbs_world *w = calloc(1, sizeof(*w));
	int rc;

	assert_non_null(w);
	rc = verbs_world_begin(w);
	if (rc == 0)
		rc = verbs_world_use(w);
	verbs_world_close(w);
	free(w);
	return rc;
}

/* Fails the calls of a life one after the other, until there is none left that could. */
static void
fail_each(int error)
{
	static struct verbs_lib lib; /* a test that fails here leaves it in use */
	unsigned survived = 0;

	table_fill(&lib);
	memset(&fault, 0, sizeof(fault));
	fault.error = error;
	far_verbs_lib = &lib;
	for (unsigned n = 1; n < CALLS_MAX; n++) {
		int rc;

		fault.left = n;
		fault.failed = NULL;
		far_log_capture_start();
		far_log_capture_expect("verbs: ");
		far_log_capture_expect("link refused: ");
		far_log_capture_expect(" lost: its device says nothing"); /* a slow guest's */
		rc = live();
		far_log_capture_finish();
		if (fault.live != 0)
			fail_msg("call %u, %s: %d objects left", n, fault.failed, fault.live);
		if (fault.failed == NULL) {
			assert_int_equal(rc, 0);
			print_message("%u calls failed, %u lives did without\n", n - 1, survived);
			far_verbs_lib = real;
			return;
		}
		if (rc != 0 && (rc > 0 || !far_err_listed(rc)))
			fail_msg("call %u, %s: %d is not listed", n, fault.failed, rc);
		survived += rc == 0;
	}
	fail_msg("no life got by without the call that fails");
}

static void
any_call_may_find_no_memory(void **state)
{
	(void)state;
	fail_each(ENOMEM);
}

static void
any_call_may_fail_for_a_reason_of_its_own(void **state)
{
	(void)state;
	fail_each(EREMOTEIO);
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
		far_log_capture_expect("verbs: ");
		far_log_capture_expect("link refused: ");
		far_log_capture_expect(" dropped: ");
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
	int rc = -ECONNRESET;
	(void)state;

	/* A slow guest may lose a link, and a number of a queue pair that comes again too soon is
	 * refused as stale: users of a transport try again. */
	for (int tries = 0; rc == -ECONNRESET && tries < LIFE_TRIES; tries++) {
		far_log_capture_start();
		rc = live();
		far_log_capture_finish();
		if (rc == -ECONNRESET)
			print_message("a link was lost: once more\n");
	}
	assert_int_equal(rc, 0);
}

/* An argument is a pattern of names of tests. */
int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_all_that_a_life_is_whole),
		cmocka_unit_test(any_call_may_find_no_memory),
		cmocka_unit_test(any_call_may_fail_for_a_reason_of_its_own),
		cmocka_unit_test(any_allocation_of_ours_may_fail_as_well),
		cmocka_unit_test(after_all_that_a_life_is_whole),
	};

	if (!verbs_world_is_possible())
		return 77;
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (far_verbs_lib_load() < 0)
		return 1;
	real = far_verbs_lib;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
