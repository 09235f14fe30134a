/* ucx_proof.c - the proof of one-sidedness: what is emulated does not pass, and nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>

#include "base/pages.h"
#include "transport/ucx/ucx_priv.h"

#define HOST_VARIABLE "FAR_TEST_RDMA_HOST"

static void
host_parse(const char *host, struct sockaddr_storage *out)
{
	struct sockaddr_in in = {.sin_family = AF_INET};

	assert_int_equal(inet_pton(AF_INET, host, &in.sin_addr), 1);
	memset(out, 0, sizeof(*out));
	memcpy(out, &in, sizeof(in));
}

/* A context such as nobody of ours has: RMA beside TCP. */
static ucp_context_h
context_open(const char *transports, const char *managers)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES,
		.features = UCP_FEATURE_AM | UCP_FEATURE_RMA,
	};
	ucp_context_h context = NULL;
	ucp_config_t *config;

	assert_int_equal(far_ucx_lib_load(), 0);
	assert_int_equal(far_ucx_lib->ucp_config_read(NULL, NULL, &config), UCS_OK);
	assert_int_equal(far_ucx_lib->ucp_config_modify(config, "TLS", transports), UCS_OK);
	assert_int_equal(far_ucx_lib->ucp_config_modify(config, "SOCKADDR_TLS_PRIORITY", managers),
			 UCS_OK);
	assert_int_equal(far_ucx_lib->ucp_init_version(UCX_LIB_MAJOR, UCX_LIB_MINOR, &params,
						       config, &context),
			 UCS_OK);
	far_ucx_lib->ucp_config_release(config);
	return context;
}

static void
a_get_that_is_emulated_is_not_one_sided(void **state)
{
	ucp_context_h context = context_open("tcp", "tcp");
	struct sockaddr_storage local;
	char why[256] = "";
	(void)state;

	host_parse("127.0.0.1", &local);
	assert_int_equal(
		far_ucx_prove_with(context, context, &local, 2 * FAR_NS_PER_S, why, sizeof(why)),
		-ENODEV);
	assert_non_null(strstr(why, "waits for its target"));
	assert_int_equal(far_pages_live_bytes(), 0);
	far_ucx_lib->ucp_cleanup(context);
}

static void
an_address_of_nobody_here_is_not_proved(void **state)
{
	ucp_context_h context = context_open("tcp", "tcp");
	struct sockaddr_storage local;
	char why[256] = "";
	(void)state;

	host_parse("192.0.2.1", &local);
	assert_int_equal(
		far_ucx_prove_with(context, context, &local, 200 * FAR_NS_PER_MS, why, sizeof(why)),
		-ENODEV);
	assert_non_null(strstr(why, "no listener"));
	assert_int_equal(far_pages_live_bytes(), 0);
	far_ucx_lib->ucp_cleanup(context);
}

static uint32_t workers_made;
static __typeof__(&ucp_worker_create) ucp_worker_create_real;

static ucs_status_t
worker_create_counted(ucp_context_h context, const ucp_worker_params_t *params, ucp_worker_h *out)
{
	workers_made++;
	return ucp_worker_create_real(context, params, out);
}

/* Whoever asks has other donors to see to. */
static void
a_refusal_is_not_tried_again_at_once(void **state)
{
	ucp_context_h context = context_open("tcp", "tcp");
	struct ucx_transport tp = {.context = context, .fabric = true};
	const struct ucx_lib *before = far_ucx_lib;
	struct ucx_lib counted = *before;
	struct sockaddr_storage local;
	(void)state;

	ucp_worker_create_real = before->ucp_worker_create;
	counted.ucp_worker_create = worker_create_counted;
	far_ucx_lib = &counted;
	host_parse("127.0.0.1", &local);
	assert_int_equal(far_ucx_prove(&tp, &local), -ENODEV);
	assert_int_equal(workers_made, 2);
	assert_int_equal(far_ucx_prove(&tp, &local), -ENODEV);
	assert_int_equal(workers_made, 2);
	host_parse("0.0.0.0", &local);
	assert_int_equal(far_ucx_prove(&tp, &local), -EINVAL); /* of which port? */
	assert_int_equal(workers_made, 2);
	far_ucx_lib = before;
	far_ucx_lib->ucp_cleanup(context);
}

static ucs_status_t
worker_create_refused(ucp_context_h context, const ucp_worker_params_t *params, ucp_worker_h *out)
{
	(void)context;
	(void)params;
	(void)out;
	return UCS_ERR_IO_ERROR;
}

/* It is this process that has nothing left, and soon has again. */
static void
what_we_lack_is_not_held_against_an_address(void **state)
{
	ucp_context_h context = context_open("tcp", "tcp");
	struct ucx_transport tp = {.context = context, .fabric = true};
	const struct ucx_lib *before = far_ucx_lib;
	struct ucx_lib refusing = *before, counted = *before;
	struct sockaddr_storage local;
	struct rlimit limit, none;
	char why[256] = "what was there before";
	uint32_t workers_before = workers_made;
	int rc;
	(void)state;

	host_parse("127.0.0.2", &local);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rc = far_ucx_prove_with(context, context, &local, FAR_NS_PER_S, why, sizeof(why));
	assert_int_equal(far_ucx_prove(&tp, &local), rc);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(rc, -EMFILE);
	assert_non_null(strstr(why, "no two pages"));
	refusing.ucp_worker_create = worker_create_refused;
	far_ucx_lib = &refusing;
	assert_int_equal(far_ucx_prove(&tp, &local), -ENOMEM);
	ucp_worker_create_real = before->ucp_worker_create;
	counted.ucp_worker_create = worker_create_counted;
	far_ucx_lib = &counted;
	assert_int_equal(far_ucx_prove(&tp, &local), -ENODEV); /* now it was tried */
	assert_int_equal(workers_made, workers_before + 2);
	assert_int_equal(far_pages_live_bytes(), 0);
	far_ucx_lib = before;
	far_ucx_lib->ucp_cleanup(context);
}

/* However far it came before its time was over. */
static void
a_proof_out_of_time_leaves_nothing_behind(void **state)
{
	const char *host = getenv(HOST_VARIABLE);
	struct sockaddr_storage local;
	ucp_context_h context;
	bool proved = false;
	(void)state;

	if (host == NULL) {
		print_message("skipped: " HOST_VARIABLE " names no address of an RDMA port\n");
		skip();
	}
	context = context_open("rc", "rdmacm");
	host_parse(host, &local);
	for (uint64_t ms = 0; ms < 100 && !proved; ms += 5) {
		char why[256] = "";
		int rc = far_ucx_prove_with(context, context, &local, ms * FAR_NS_PER_MS, why,
					    sizeof(why));

		assert_true(rc == 0 || rc == -ENODEV);
		assert_true((rc == 0) == (why[0] == '\0'));
		assert_int_equal(far_pages_live_bytes(), 0);
		proved = rc == 0;
	}
	if (!proved) {
		char why[256] = "";

		assert_int_equal(far_ucx_prove_with(context, context, &local, 10 * FAR_NS_PER_S,
						    why, sizeof(why)),
				 0);
	}
	far_ucx_lib->ucp_cleanup(context);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_get_that_is_emulated_is_not_one_sided),
		cmocka_unit_test(an_address_of_nobody_here_is_not_proved),
		cmocka_unit_test(a_refusal_is_not_tried_again_at_once),
		cmocka_unit_test(what_we_lack_is_not_held_against_an_address),
		cmocka_unit_test(a_proof_out_of_time_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
