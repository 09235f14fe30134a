/* verbs_inspect.c - what is said of devices and ways, over libraries that are made up: each call may fail. */
#include "transport/verbs/inspect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/pages.h"
#include "transport/verbs/lib.h"

#define ADDRESS "10.0.0.3:7471"

static const struct verbs_lib *real;
static struct verbs_lib table;

/* One device, and what RDMA CM answers. */
static struct {
	struct ibv_device handle;
	struct ibv_context context;
	struct ibv_pd pd;
	struct ibv_mr mr;
	struct rdma_event_channel channel;
	struct rdma_cm_id id;
	struct rdma_cm_event event;
	enum rdma_cm_event_type address_answer, route_answer;
	bool no_device; /* behind the address */
	bool silent;
	int live;      /* contexts, domains, regions, channels, ids, events, lists */
	unsigned left; /* calls until one fails; 0: none does */
	const char *failed;
} world;

static bool
fails(const char *name)
{
	if (world.left == 0 || --world.left != 0)
		return false;
	world.failed = name;
	errno = ENOMEM;
	return true;
}

/* ---- devices ---- */

static struct ibv_device *device_list[2] = {&world.handle, NULL};

static struct ibv_device **
fake_list(int *count)
{
	if (fails("ibv_get_device_list"))
		return NULL;
	*count = 1;
	world.live++;
	return device_list;
}

static void
fake_list_free(struct ibv_device **list)
{
	assert_ptr_equal(list, device_list);
	world.live--;
}

static const char *
fake_name(struct ibv_device *device)
{
	(void)device;
	return "mlx5_0";
}

static struct ibv_context *
fake_open(struct ibv_device *device)
{
	(void)device;
	if (fails("ibv_open_device"))
		return NULL;
	world.live++;
	return &world.context;
}

static int
fake_close(struct ibv_context *context)
{
	(void)context;
	world.live--;
	return 0;
}

static int
fake_query(struct ibv_context *context, struct ibv_device_attr *attr)
{
	(void)context;
	if (fails("ibv_query_device"))
		return ENOMEM;
	*attr = (struct ibv_device_attr){.max_qp_init_rd_atom = 16,
					 .max_qp_rd_atom = 8,
					 .max_mr_size = 1ULL << 31,
					 .max_sge = -1,
					 .phys_port_cnt = 1};
	return 0;
}

static int
fake_port(struct ibv_context *context, uint8_t port, struct _compat_ibv_port_attr *attr)
{
	struct ibv_port_attr seen = {.active_mtu = IBV_MTU_1024, .max_mtu = IBV_MTU_4096};
	(void)context;
	(void)port;

	if (fails("ibv_query_port"))
		return EINVAL;
	memcpy((void *)attr, &seen, sizeof(seen));
	return 0;
}

static struct ibv_pd *
fake_pd(struct ibv_context *context)
{
	(void)context;
	if (fails("ibv_alloc_pd"))
		return NULL;
	world.live++;
	return &world.pd;
}

static int
fake_pd_free(struct ibv_pd *pd)
{
	(void)pd;
	world.live--;
	return 0;
}

static struct ibv_mr *
fake_reg(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned int access)
{
	(void)pd;
	(void)addr;
	(void)iova;
	(void)access;
	assert_int_equal(length, FAR_VERBS_INSPECT_BYTES);
	if (fails("ibv_reg_mr_iova2"))
		return NULL;
	world.live++;
	return &world.mr;
}

static int
fake_dereg(struct ibv_mr *mr)
{
	(void)mr;
	world.live--;
	return 0;
}

/* The address stands in the table for RoCE v1 first. */
static int
fake_gid(struct ibv_context *context, uint32_t port, uint32_t idx, struct ibv_gid_entry *entry,
	 uint32_t flags, size_t entry_bytes)
{
	(void)context;
	(void)port;
	(void)flags;
	(void)entry_bytes;
	if (idx > 2)
		return ENODATA;
	memset(entry, 0, sizeof(*entry));
	if (idx > 0)
		entry->gid = world.id.route.addr.addr.ibaddr.sgid;
	entry->gid_type = idx == 1 ? IBV_GID_TYPE_ROCE_V1 : IBV_GID_TYPE_ROCE_V2;
	return 0;
}

/* ---- RDMA CM ---- */

static struct rdma_event_channel *
fake_channel(void)
{
	if (fails("rdma_create_event_channel"))
		return NULL;
	world.channel.fd = eventfd(0, EFD_CLOEXEC);
	assert_true(world.channel.fd >= 0);
	world.live++;
	return &world.channel;
}

static void
fake_channel_free(struct rdma_event_channel *channel)
{
	assert_int_equal(close(channel->fd), 0);
	world.live--;
}

static int
fake_id(struct rdma_event_channel *channel, struct rdma_cm_id **out, void *context,
	enum rdma_port_space space)
{
	(void)channel;
	(void)context;
	(void)space;
	if (fails("rdma_create_id"))
		return -1;
	memset(&world.id, 0, sizeof(world.id));
	*out = &world.id;
	world.live++;
	return 0;
}

static int
fake_id_free(struct rdma_cm_id *id)
{
	(void)id;
	world.live--;
	return 0;
}

static void
answer(enum rdma_cm_event_type kind)
{
	uint64_t one = 1;

	world.event.event = kind;
	if (!world.silent)
		assert_int_equal(write(world.channel.fd, &one, sizeof(one)), sizeof(one));
}

static int
fake_resolve(struct rdma_cm_id *id, struct sockaddr *source, struct sockaddr *to, int timeout_ms)
{
	struct sockaddr_in addr;

	assert_null(source);
	assert_true(timeout_ms > 0);
	memcpy(&addr, to, sizeof(addr));
	assert_int_equal(ntohs(addr.sin_port), 7471);
	if (fails("rdma_resolve_addr"))
		return -1;
	id->verbs = world.no_device ? NULL : &world.context;
	id->port_num = 2;
	id->route.addr.addr.ibaddr.sgid.raw[15] = 3;
	answer(world.address_answer);
	return 0;
}

static int
fake_route(struct rdma_cm_id *id, int timeout_ms)
{
	(void)id;
	(void)timeout_ms;
	if (fails("rdma_resolve_route"))
		return -1;
	answer(world.route_answer);
	return 0;
}

static int
fake_event(struct rdma_event_channel *channel, struct rdma_cm_event **out)
{
	uint64_t count;

	if (fails("rdma_get_cm_event"))
		return -1;
	assert_int_equal(read(channel->fd, &count, sizeof(count)), sizeof(count));
	*out = &world.event;
	world.live++;
	return 0;
}

static int
fake_ack(struct rdma_cm_event *event)
{
	(void)event;
	world.live--;
	return 0;
}

static int
setup(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	world.context.device = &world.handle;
	world.address_answer = RDMA_CM_EVENT_ADDR_RESOLVED;
	world.route_answer = RDMA_CM_EVENT_ROUTE_RESOLVED;
	table = *real;
	(table.ibv_get_device_list) = fake_list;
	(table.ibv_free_device_list) = fake_list_free;
	table.ibv_get_device_name = fake_name;
	table.ibv_open_device = fake_open;
	table.ibv_close_device = fake_close;
	table.ibv_query_device = fake_query;
	(table.ibv_query_port) = fake_port;
	table.ibv_alloc_pd = fake_pd;
	table.ibv_dealloc_pd = fake_pd_free;
	table.ibv_reg_mr_iova2 = fake_reg;
	table.ibv_dereg_mr = fake_dereg;
	table._ibv_query_gid_ex = fake_gid;
	table.rdma_create_event_channel = fake_channel;
	table.rdma_destroy_event_channel = fake_channel_free;
	table.rdma_create_id = fake_id;
	table.rdma_destroy_id = fake_id_free;
	table.rdma_resolve_addr = fake_resolve;
	table.rdma_resolve_route = fake_route;
	table.rdma_get_cm_event = fake_event;
	table.rdma_ack_cm_event = fake_ack;
	far_verbs_lib = &table;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	far_verbs_lib = real;
	assert_int_equal(world.live, 0);
	assert_int_equal(far_pages_live_bytes(), 0);
	return 0;
}

/* ---- claims ---- */

static void
a_device_is_shown_with_what_it_can(void **state)
{
	struct far_verbs_inspection seen;
	(void)state;

	far_verbs_inspect(&seen);
	assert_int_equal(seen.rc, 0);
	assert_int_equal(seen.device_count, 1);
	assert_string_equal(seen.devices[0].name, "mlx5_0");
	assert_int_equal(seen.devices[0].rc, 0);
	assert_int_equal(seen.devices[0].reads_asked_max, 16);
	assert_int_equal(seen.devices[0].reads_served_max, 8);
	assert_int_equal(seen.devices[0].sges_max, 0); /* it says -1 */
	assert_int_equal(seen.devices[0].register_rc, 0);
	assert_int_equal(seen.devices[0].port_count, 1);
	assert_int_equal(seen.devices[0].ports[0].mtu_bytes, 1024);
	assert_int_equal(seen.devices[0].ports[0].mtu_bytes_max, 4096);
}

static void
any_call_on_a_device_may_fail_and_nothing_is_left(void **state)
{
	struct far_verbs_inspection seen;
	unsigned n = 0;
	(void)state;

	do {
		world.left = ++n;
		world.failed = NULL;
		far_verbs_inspect(&seen);
		assert_int_equal(world.live, 0);
		assert_int_equal(far_pages_live_bytes(), 0);
		if (world.failed == NULL)
			break;
		/* It is told where it matters. */
		if (strcmp(world.failed, "ibv_get_device_list") == 0)
			assert_int_equal(seen.device_count, 0);
		else if (strcmp(world.failed, "ibv_query_port") == 0)
			assert_int_equal(seen.devices[0].ports[0].rc, -EINVAL);
		else if (strcmp(world.failed, "ibv_reg_mr_iova2") == 0)
			assert_int_equal(seen.devices[0].register_rc, -ENOMEM);
		else
			assert_true(seen.devices[0].rc < 0 || seen.devices[0].register_rc < 0);
	} while (n < 100);
	assert_int_equal(n, 7);
}

static void
the_way_to_a_peer_has_a_device_a_gid_and_an_mtu(void **state)
{
	struct far_verbs_route route;
	(void)state;

	assert_int_equal(far_verbs_route_find(ADDRESS, FAR_NS_PER_S, &route), 0);
	assert_string_equal(route.step, "");
	assert_string_equal(route.device, "mlx5_0");
	assert_int_equal(route.port, 2);
	/* Not the one before it, which is for v1. */
	assert_int_equal(route.gid_idx, 2);
	assert_string_equal(route.gid_type, "RoCE v2");
	assert_int_equal(route.mtu_bytes, 1024);
}

static void
an_address_that_nobody_has_is_told_apart_from_one_without_a_device(void **state)
{
	struct far_verbs_route route;
	(void)state;

	world.address_answer = RDMA_CM_EVENT_ADDR_ERROR;
	assert_int_equal(far_verbs_route_find(ADDRESS, FAR_NS_PER_S, &route), -EHOSTDOWN);
	assert_string_equal(route.step, "address");
	world.address_answer = RDMA_CM_EVENT_ADDR_RESOLVED;
	world.no_device = true;
	assert_int_equal(far_verbs_route_find(ADDRESS, FAR_NS_PER_S, &route), -ENODEV);
	assert_string_equal(route.device, "");
	world.no_device = false;
	world.route_answer = RDMA_CM_EVENT_ROUTE_ERROR;
	assert_int_equal(far_verbs_route_find(ADDRESS, FAR_NS_PER_S, &route), -EHOSTDOWN);
	assert_string_equal(route.step, "route");
	assert_string_equal(route.device, "mlx5_0");
	assert_int_equal(far_verbs_route_find("nonsense", FAR_NS_PER_S, &route), -EINVAL);
}

static void
silence_costs_the_wait_and_no_more(void **state)
{
	struct far_verbs_route route;
	(void)state;

	world.silent = true;
	assert_int_equal(far_verbs_route_find(ADDRESS, FAR_NS_PER_MS, &route), -ETIMEDOUT);
}

static void
any_call_to_rdma_cm_may_fail_and_nothing_is_left(void **state)
{
	struct far_verbs_route route;
	unsigned n = 0;
	int rc;
	(void)state;

	do {
		world.left = ++n;
		world.failed = NULL;
		rc = far_verbs_route_find(ADDRESS, FAR_NS_PER_S, &route);
		assert_int_equal(world.live, 0);
		if (world.failed == NULL)
			break;
		/* Without its MTU a way is a way. */
		if (strcmp(world.failed, "ibv_query_port") == 0)
			assert_int_equal(rc, 0);
		else
			assert_true(rc < 0);
	} while (n < 100);
	assert_int_equal(rc, 0);
	assert_int_equal(n, 8);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_device_is_shown_with_what_it_can),
		TEST(any_call_on_a_device_may_fail_and_nothing_is_left),
		TEST(the_way_to_a_peer_has_a_device_a_gid_and_an_mtu),
		TEST(an_address_that_nobody_has_is_told_apart_from_one_without_a_device),
		TEST(silence_costs_the_wait_and_no_more),
		TEST(any_call_to_rdma_cm_may_fail_and_nothing_is_left),
	};

	if (far_verbs_lib_load() < 0)
		return 77; /* no libraries here: the log has said so */
	real = far_verbs_lib;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
