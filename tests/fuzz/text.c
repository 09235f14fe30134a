/* text.c - any bytes as one of the small texts that people, files and the environment hand us. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/key.h"
#include "base/log.h"
#include "base/pages_limit.h"
#include "base/param.h"
#include "controllers/policy.h"
#include "controllers/store_policy.h"
#include "tools/perf/models.h"
#include "tools/perf/perf.h"
#include "transport/address.h"
#include "transport/host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

/* One line for people: there is one, and it is one. */
static void
line_check(const char *line, size_t room)
{
	FAR_ASSERT(line[0] != '\0');
	FAR_ASSERT(memchr(line, '\0', room) != NULL);
}

static void
address_take(const char *text)
{
	struct far_address_list list;
	char error[192] = "";
	char scheme[FAR_SCHEME_BYTES_MAX];
	const char *rest;

	if (far_address_list_parse(text, &list, error) < 0) {
		line_check(error, sizeof(error));
	} else {
		FAR_ASSERT(list.count > 0);
		FAR_ASSERT(list.count <= FAR_ADDRESSES_MAX);
		far_address_list_rank(&list);
		for (uint32_t i = 0; i < list.count; i++) {
			FAR_ASSERT(list.items[i].rest_at <= strlen(list.items[i].text));
			FAR_ASSERT(list.items[i].scheme[0] != '\0');
			(void)far_transport_rank(list.items[i].scheme);
		}
	}
	if (far_address_split(text, scheme, &rest) == 0)
		FAR_ASSERT(rest >= text && rest <= text + strlen(text));
}

static void
host_take(const char *text)
{
	char host[FAR_ADDRESS_BYTES_MAX], port[6], shown[FAR_ADDRESS_BYTES_MAX];
	struct sockaddr_storage addr = {0}, again = {0};
	socklen_t addr_bytes = 0, again_bytes = 0;

	if (far_host_cut(text, host, port) == 0)
		FAR_ASSERT(strlen(host) + strlen(port) < strlen(text));
	/* What was taken is taken again as it is shown; a scope is not shown. */
	if (strchr(text, '%') != NULL || far_host_parse(text, &addr, &addr_bytes) < 0)
		return;
	far_host_format(&addr, shown);
	FAR_ASSERT(far_host_parse(shown, &again, &again_bytes) == 0);
	FAR_ASSERT(addr_bytes == again_bytes);
	FAR_ASSERT(memcmp(&addr, &again, addr_bytes) == 0);
}

static void
policy_take(const char *text)
{
	struct far_policy policy = {.replicas = 1};
	struct far_store_policy_config config = {.text = text,
						 .placement = &policy,
						 .replicas = 1,
						 .admit_after = 2,
						 .admit_keys = 64};
	struct far_store_policy store = {0};
	char error[256] = "";

	if (far_policy_parse(text, &policy, error) < 0)
		line_check(error, sizeof(error));
	else
		FAR_ASSERT(policy.route != NULL && policy.place != NULL && policy.plan != NULL &&
			   policy.retain != NULL);
	FAR_ASSERT(far_policy_parse("default", &policy, error) == 0);
	if (far_store_policy_init(&store, &config, error) < 0) {
		line_check(error, sizeof(error));
		return;
	}
	FAR_ASSERT(store.admits != NULL && store.places != NULL && store.keeps != NULL);
	far_store_policy_fini(&store);
}

static void
number_take(const char *text)
{
	enum far_log_level level;
	struct far_key key;
	uint64_t bytes = 0, value = 0;

	if (far_size_parse(text, &bytes) == 0)
		FAR_ASSERT(perf_size_parse(text, &value) == 0 && value == bytes);
	(void)far_duration_parse(text, &value);
	(void)far_log_level_parse(text, &level);
	if (far_key_parse(text, &key) == 0)
		FAR_ASSERT(strlen(text) == 2 * sizeof(key.bytes));
}

static void
model_take(const char *text)
{
	struct model_shape shape;

	if (model_find(text, &shape) == 0)
		FAR_ASSERT(model_token_bytes(&shape, 1) > 0);
	if (model_parse(text, &shape) < 0)
		return;
	for (uint32_t tp = 1; tp <= 64; tp *= 4)
		FAR_ASSERT(model_token_bytes(&shape, tp) >= model_layer_bytes(&shape, tp));
	FAR_ASSERT(model_layer_bytes(&shape, 1) > 0);
}

/* The text of /proc/meminfo, and of a node's. */
static void
meminfo_take(const char *text)
{
	uint64_t bytes = 0;

	(void)far_meminfo_find(text, "MemAvailable:", &bytes);
	(void)far_meminfo_find(text, "MemFree:", &bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
	static void (*const takes[])(const char *) = {address_take, host_take,  policy_take,
						      number_take,  model_take, meminfo_take};
	char text[2048];

	if (size_bytes == 0 || size_bytes > sizeof(text))
		return 0;
	memcpy(text, data + 1, size_bytes - 1);
	text[size_bytes - 1] = '\0';
	takes[data[0] % (sizeof(takes) / sizeof(takes[0]))](text);
	return 0;
}
