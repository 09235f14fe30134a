/* config.c - UCX as we need it: settings that are applied and read back, its log, its codes. */
#include "transport/ucx/ucx_priv.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/log.h"

#define LINE_BYTES  512
#define PRINT_BYTES 65536 /* more than UCX has to say of itself */
#define VALUE_BYTES 120   /* UCX prints no more of a value than 127 bytes */

struct setting {
	const char *name;    /* without UCX_ */
	const char *in_file; /* the name that ucp_config_modify() knows, if it is another */
	const char *value;
	bool essential; /* without it there is no transport */
	bool fixed;     /* not for an operator to choose: his choice is not used, and he is told */
	bool final;     /* nor this: nothing is opened until he takes his choice back */
	unsigned minor_min, minor_max; /* of UCX, where it is wanted; 0: no bound */
};

/*
 * Only TCP: shared memory does not see a peer die, and RDMA has a transport of its own. No
 * rendezvous: it lets the peer name memory. Nothing is cut into fragments that UCX would put
 * together in memory of its own: segments hold a frame, on both sides alike, or UCX stops the
 * process that is sent a longer one. One device: the one that has the address; ports on those alone
 * that device.c finds to be needed.
 */
static const struct setting tcp_settings[] = {
	{.name = "TLS", .value = "tcp", .essential = true},
	{.name = "SOCKADDR_TLS_PRIORITY", .value = "tcp", .essential = true},
	{.name = "RNDV_THRESH", .value = "inf", .essential = true},
	{.name = "ZCOPY_THRESH", .value = "4096"},
	{.name = "TCP_RX_SEG_SIZE",
	 .in_file = "RX_SEG_SIZE",
	 .value = "128k",
	 .essential = true,
	 .fixed = true},
	{.name = "CM_USE_ALL_DEVICES", .value = "n", .essential = true, .fixed = true},
	{.name = "KEEPALIVE_INTERVAL", .value = "2s"},
	{.name = "TCP_CM_REUSEADDR", .in_file = "CM_REUSEADDR", .value = "y"},
	{.name = "TCP_KEEPIDLE", .in_file = "KEEPIDLE", .value = "2s"},
	{.name = "TCP_KEEPINTVL", .in_file = "KEEPINTVL", .value = "1s"},
	{.name = "TCP_KEEPCNT", .in_file = "KEEPCNT", .value = "4"},
	/* Up to 1.14 the new protocols fail an assertion when a connection is made, up to 1.18 they
	 * change what works with peer errors: the old ones are known. */
	{.name = "PROTO_ENABLE", .value = "n", .fixed = true, .minor_max = 18},
};

/*
 * Only RDMA: with shared memory, copies or TCP beside it, UCX would emulate a GET there, which
 * looks at no key and needs the target awake; and nobody listens at a TCP port. A frame fits a
 * segment; a slice of a GET may be larger, and UCX fetches it a segment at a time where it has no
 * handle. A queue pair gives up after (5 + 1) * 268 ms without an answer, and after 0.7 s without a
 * buffer: seven retries, the default, are for ever on some devices. No relaxed ordering: an index
 * is read here. No cache of registrations, whatever the host lets UCX hook: mem_dereg() ends one
 * there and then, or its key would work on.
 */
static const struct setting fabric_settings[] = {
	{.name = "TLS", .value = "rc,dc", .essential = true, .final = true},
	{.name = "SOCKADDR_TLS_PRIORITY", .value = "rdmacm", .essential = true, .final = true},
	{.name = "RNDV_THRESH", .value = "inf", .essential = true},
	{.name = "PROTO_ENABLE", .value = "n", .fixed = true, .minor_max = 18},
	{.name = "CM_USE_ALL_DEVICES", .value = "n"},
	{.name = "KEEPALIVE_INTERVAL", .value = "2s"},
	{.name = "RC_TIMEOUT", .value = "200ms", .essential = true},
	{.name = "RC_RETRY_COUNT", .value = "5", .essential = true},
	{.name = "RC_RNR_TIMEOUT", .value = "100ms"},
	{.name = "RC_RNR_RETRY_COUNT", .value = "6", .essential = true},
	{.name = "RC_SEG_SIZE", .value = "131072", .essential = true, .fixed = true},
	{.name = "RC_RX_QUEUE_LEN", .value = "256"},
	{.name = "RC_TX_BUFS_GROW", .value = "32"},
	{.name = "IB_REG_METHODS",
	 .in_file = "REG_METHODS",
	 .value = "direct",
	 .essential = true,
	 .fixed = true,
	 .minor_max = 14},
	{.name = "RCACHE_ENABLE", .value = "n", .essential = true, .fixed = true},
	{.name = "IB_PCI_RELAXED_ORDERING", .in_file = "PCI_RELAXED_ORDERING", .value = "n"},
	/* Without a cache of registrations UCX registers anew, for each operation, what it has no
	 * handle of. Up to 1.13 a GET takes no handle, so all bytes go through UCX's own registered
	 * segments. Later ones take it, for what is larger than any frame. */
	{.name = "ZCOPY_THRESH", .value = "inf", .essential = true, .minor_max = 13},
	{.name = "ZCOPY_THRESH", .value = "131072", .essential = true, .minor_min = 14},
};

struct profile {
	const struct setting *settings;
	size_t count;
	uint64_t features;
};

#define SETTINGS(array) .settings = (array), .count = sizeof(array) / sizeof((array)[0])
#define SETTINGS_MAX    32
_Static_assert(sizeof(fabric_settings) / sizeof(fabric_settings[0]) <= SETTINGS_MAX, "fits");
_Static_assert(sizeof(tcp_settings) / sizeof(tcp_settings[0]) <= SETTINGS_MAX, "fits");

/* Over TCP active messages alone. RMA is never enabled there: UCX emulates it without looking at
 * keys or bounds, which gives every byte of this process to whoever connects. */
static const struct profile tcp_profile = {
	SETTINGS(tcp_settings),
	.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
};
/* Over RDMA the target of a GET needs no RMA of its own: it is the device that answers. Without it
 * a process does not listen to UCX's emulation either, which comes over any transport. */
static const struct profile target_profile = {
	SETTINGS(fabric_settings),
	.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
};
static const struct profile fabric_profile = {
	SETTINGS(fabric_settings),
	.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP | UCP_FEATURE_RMA,
};

/* ---- log ---- */

static _Thread_local int depth; /* of calls of ours into UCX */
static pthread_once_t log_once = PTHREAD_ONCE_INIT;

void
far_ucx_enter(void)
{
	depth++;
}

void
far_ucx_leave(void)
{
	FAR_ASSERT(depth > 0);
	depth--;
}

/*
 * What UCX says about our links is said better by us, so it stands in our log for those who look
 * for it. What it says to others in this process is none of our business.
 */
static ucs_log_func_rc_t
on_log(const char *file, unsigned line, const char *function, ucs_log_level_t level,
       const ucs_log_component_config_t *component, const char *message, va_list ap)
{
	char text[LINE_BYTES];
	(void)file;
	(void)line;
	(void)function;
	(void)component;

	if (depth == 0)
		return UCS_LOG_FUNC_RC_CONTINUE;
	(void)vsnprintf(text, sizeof(text), message, ap);
	if (level == UCS_LOG_LEVEL_FATAL)
		far_log_error("ucx: %s", text);
	else if (strstr(text, "invalid configurations") != NULL)
		far_log_warn("ucx: %s", text);
	else
		far_log_debug("ucx: %s", text);
	return UCS_LOG_FUNC_RC_STOP;
}

static void
log_take(void)
{
	if (far_env_get("UCX_LOG_LEVEL") == NULL && far_env_get("UCX_LOG_FILE") == NULL)
		far_ucx_lib->ucs_log_push_handler(on_log);
}

void
far_ucx_log_take(void)
{
	(void)pthread_once(&log_once, log_take);
}

/* ---- settings ---- */

static const char *
name_in_file(const struct setting *setting)
{
	unsigned major, minor, release;

	far_ucx_lib->ucp_get_version(&major, &minor, &release);
	/* Up to 1.13 UCX looks its transports' settings up without the transport's name. */
	if (setting->in_file != NULL && major == 1 && minor <= 13)
		return setting->in_file;
	return setting->name;
}

/* Whether what UCX prints of its configuration has that value; names of transports' settings are
 * printed as they were given. */
static bool
is_set(const char *printed, const struct setting *setting)
{
	const char *name = name_in_file(setting);
	size_t name_bytes = strlen(name);
	const char *at = printed;

	for (; (at = strstr(at, name)) != NULL; at += name_bytes) {
		const char *value = at + name_bytes + 1;
		size_t value_bytes = strnlen(setting->value, VALUE_BYTES);
		bool begins = at == printed || at[-1] == '\n' || at[-1] == '_';

		if (!begins || at[name_bytes] != '=')
			continue;
		/* "2s" is printed as microseconds: that it was taken is all one can see. */
		if (strncmp(value, setting->value, value_bytes) == 0 || strstr(name, "KEEP") ||
		    strstr(name, "THRESH"))
			return true;
	}
	return false;
}

/* Whether an operator chose something else, which is to hold. */
static bool
is_exported(const struct setting *setting)
{
	char name[64];
	const char *value;

	(void)snprintf(name, sizeof(name), "UCX_%s", setting->name);
	value = far_env_get(name);
	if (value == NULL || strcmp(value, setting->value) == 0)
		return false;
	if (setting->fixed) {
		far_log_warn("%s is exported as '%s': not used, farpool works with '%s' alone",
			     name, value, setting->value);
		return false;
	}
	if (setting->final) {
		far_log_error("ucx: trust: fabric is for %s=%s alone: unset %s", name,
			      setting->value, name);
		return true;
	}
	far_log_warn("%s is exported as '%s': used instead of '%s'", name, value, setting->value);
	return true;
}

static int
setting_apply(ucp_config_t *config, const struct setting *setting, bool *applied)
{
	ucs_status_t status;

	*applied = !is_exported(setting);
	if (!*applied)
		return setting->final ? -ENODEV : 0;
	status = far_ucx_lib->ucp_config_modify(config, name_in_file(setting), setting->value);
	if (status != UCS_OK)
		far_log_warn("ucx: %s=%s was not taken: %s", setting->name, setting->value,
			     far_ucx_lib->ucs_status_string(status));
	return 0;
}

static int
setting_check(const struct setting *setting, const char *printed)
{
	if (is_set(printed, setting))
		return 0;
	far_log_warn("ucx: %s=%s is not in force%s", setting->name, setting->value,
		     setting->essential ? ": the transport is not opened" : "");
	return setting->essential ? -ENODEV : 0;
}

/* @devices: beside those of the profile; applied[SETTINGS_MAX] is its. */
static int
settings_check(const struct profile *profile, const struct setting *devices,
	       const ucp_config_t *config, const bool *applied)
{
	char *printed = far_zalloc(PRINT_BYTES);
	FILE *stream = printed == NULL ? NULL : fmemopen(printed, PRINT_BYTES - 1, "w");
	int rc = 0;

	if (stream == NULL) {
		far_free(printed);
		return -ENOMEM;
	}
	far_ucx_lib->ucp_config_print(config, stream, NULL, UCS_CONFIG_PRINT_CONFIG);
	(void)fclose(stream);
	for (size_t i = 0; i < profile->count; i++)
		if (applied[i] && setting_check(&profile->settings[i], printed) < 0)
			rc = -ENODEV;
	if (applied[SETTINGS_MAX] && setting_check(devices, printed) < 0)
		rc = -ENODEV;
	far_free(printed);
	return rc;
}

/* Whether this UCX, and this transport, can do what is wanted of it. */
static int
version_check(struct ucx_transport *tp, unsigned *minor_out)
{
	unsigned major, minor, release;

	far_ucx_lib->ucp_get_version(&major, &minor, &release);
	if (major != UCX_LIB_MAJOR || minor < UCX_LIB_MINOR) {
		far_log_error(
			"ucx %u.%u.%u is too old or of another kind: install %u.%u or newer, or "
			"use shm:",
			major, minor, release, UCX_LIB_MAJOR, UCX_LIB_MINOR);
		return -ENODEV;
	}
	if (tp->fabric && minor >= UCX_EMULATES_FIRST && minor <= UCX_EMULATES_LAST) {
		far_log_error("ucx %u.%u.%u emulates GETs towards a peer that may die: with trust: "
			      "fabric install %u.%u or older, or %u.%u or newer",
			      major, minor, release, UCX_LIB_MAJOR, UCX_EMULATES_FIRST - 1,
			      UCX_LIB_MAJOR, UCX_EMULATES_LAST + 1);
		return -ENODEV;
	}
	tp->handles = tp->fabric && minor >= UCX_HANDLES_FIRST;
	*minor_out = minor;
	return 0;
}

static int
config_make(struct ucx_transport *tp, const struct profile *profile, ucp_config_t **out)
{
	struct setting devices = {.name = "NET_DEVICES", .value = tp->devices, .essential = true};
	bool applied[SETTINGS_MAX + 1] = {false};
	ucs_status_t status;
	unsigned minor;
	int rc;

	rc = version_check(tp, &minor);
	if (rc < 0)
		return rc;
	status = far_ucx_lib->ucp_config_read(NULL, NULL, out);
	if (status != UCS_OK) {
		far_log_error(
			"ucx: its configuration was not read: %s: see the UCX_ variables that "
			"are exported",
			far_ucx_lib->ucs_status_string(status));
		return status == UCS_ERR_NO_MEMORY ? -ENOMEM : -ENODEV;
	}
	for (size_t i = 0; i < profile->count && rc == 0; i++) {
		const struct setting *setting = &profile->settings[i];

		if (minor >= setting->minor_min &&
		    (setting->minor_max == 0 || minor <= setting->minor_max))
			rc = setting_apply(*out, setting, &applied[i]);
	}
	if (rc == 0 && tp->devices[0] != '\0')
		rc = setting_apply(*out, &devices, &applied[SETTINGS_MAX]);
	if (rc == 0)
		rc = settings_check(profile, &devices, *out, applied);
	if (rc < 0)
		far_ucx_lib->ucp_config_release(*out);
	return rc;
}

/* ---- opening ---- */

static const struct profile *
profile_of(const struct ucx_transport *tp)
{
	if (!tp->fabric)
		return &tcp_profile;
	return tp->posts_no_reads ? &target_profile : &fabric_profile;
}

static ucs_status_t
context_make(const struct profile *profile, const ucp_config_t *config, ucp_context_h *out)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES,
		.features = profile->features,
	};

	return far_ucx_lib->ucp_init_version(UCX_LIB_MAJOR, UCX_LIB_MINOR, &params, config, out);
}

static int
worker_make(struct ucx_transport *tp, const struct profile *profile, ucp_config_t *config)
{
	ucp_worker_params_t worker = {
		.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
		/* One thread at a time: the one that opens may hand over to the one that polls. */
		.thread_mode = UCS_THREAD_MODE_SERIALIZED,
	};
	ucp_am_handler_param_t handler = {
		.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
			      UCP_AM_HANDLER_PARAM_FIELD_ARG,
		.id = 1,
		.cb = far_ucx_on_frame,
		.arg = tp,
	};
	ucs_status_t status = context_make(profile, config, &tp->context);

	if (status == UCS_OK)
		status = far_ucx_lib->ucp_worker_create(tp->context, &worker, &tp->worker);
	if (status == UCS_OK)
		status = far_ucx_lib->ucp_worker_set_am_recv_handler(tp->worker, &handler);
	if (status == UCS_OK)
		status = far_ucx_lib->ucp_worker_get_efd(tp->worker, &tp->worker_fd);
	if (status == UCS_OK)
		return 0;
	if (tp->fabric && status == UCS_ERR_NO_DEVICE)
		far_log_error(
			"ucx: trust: fabric needs an RDMA device, and UCX finds none here: see "
			"ibv_devices, or leave trust: none");
	else
		far_log_error("ucx: not opened: %s", far_ucx_lib->ucs_status_string(status));
	return status == UCS_ERR_NO_MEMORY ? -ENOMEM : -ENODEV;
}

int
far_ucx_open_worker(struct ucx_transport *tp)
{
	const struct profile *profile = profile_of(tp);
	ucp_config_t *config;
	sigset_t all, before;
	int rc;

	rc = far_ucx_lib_load();
	if (rc < 0)
		return rc;
	far_ucx_log_take();
	rc = config_make(tp, profile, &config);
	if (rc < 0)
		return rc;
	/* UCX starts a thread for its connection manager: signals are for those of the host. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	far_ucx_enter();
	rc = worker_make(tp, profile, config);
	far_ucx_leave();
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	far_ucx_lib->ucp_config_release(config);
	return rc;
}

int
far_ucx_open_asker(struct ucx_transport *tp, ucp_context_h *out)
{
	ucp_config_t *config;
	ucs_status_t status;
	int rc = config_make(tp, &fabric_profile, &config);

	if (rc < 0)
		return rc;
	far_ucx_enter();
	status = context_make(&fabric_profile, config, out);
	far_ucx_leave();
	far_ucx_lib->ucp_config_release(config);
	if (status == UCS_OK)
		return 0;
	far_log_error("ucx: no second context: %s", far_ucx_lib->ucs_status_string(status));
	return status == UCS_ERR_NO_MEMORY ? -ENOMEM : -ENODEV;
}

void
far_ucx_close_worker(struct ucx_transport *tp)
{
	far_ucx_enter();
	if (tp->worker != NULL)
		far_ucx_lib->ucp_worker_destroy(tp->worker);
	if (tp->context != NULL)
		far_ucx_lib->ucp_cleanup(tp->context);
	far_ucx_leave();
}

void
far_ucx_close_asker(ucp_context_h asker)
{
	far_ucx_enter();
	far_ucx_lib->ucp_cleanup(asker);
	far_ucx_leave();
}

/* ---- codes ---- */

int
far_ucx_link_rc(ucs_status_t status, bool connecting)
{
	if (status == UCS_ERR_NO_MEMORY)
		return -ECONNRESET;
	return connecting ? -ECONNREFUSED : -ECONNRESET;
}

int
far_ucx_call_rc(ucs_status_t status)
{
	switch (status) {
	case UCS_OK:
		return 0;
	case UCS_ERR_NO_MEMORY:
	case UCS_ERR_NO_RESOURCE:
		return -ENOMEM;
	case UCS_ERR_INVALID_PARAM:
	case UCS_ERR_INVALID_ADDR:
		return -EINVAL;
	case UCS_ERR_BUSY:
		return -EADDRINUSE;
	case UCS_ERR_REJECTED:
	case UCS_ERR_UNREACHABLE:
	case UCS_ERR_NOT_CONNECTED:
		return -ECONNREFUSED;
	case UCS_ERR_EXCEEDS_LIMIT:
		return -EMFILE;
	default:
		return -EIO;
	}
}
