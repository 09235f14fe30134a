/* inspect.c - what UCX would have here, by its own settings: asked, and taken apart as it prints it. */
#include "transport/ucx/inspect.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "transport/ucx/ucx_priv.h"

#define PRINT_BYTES 65536

/* A line of it: "#      resource 2  :  md 1  dev 2  flags -- tcp/eth0". */
static void
line_take(struct far_ucx_inspection *out, const char *line, size_t length)
{
	const char *end = line + length, *slash = NULL, *begin;
	struct far_ucx_way *way;

	while (end > line && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	for (begin = end; begin > line && begin[-1] != ' '; begin--)
		if (begin[-1] == '/')
			slash = begin - 1;
	if (memmem(line, length, " resource ", strlen(" resource ")) == NULL || slash == NULL ||
	    slash == begin || out->way_count == FAR_UCX_INSPECT_WAYS)
		return;
	way = &out->ways[out->way_count++];
	(void)snprintf(way->transport, sizeof(way->transport), "%.*s", (int)(slash - begin), begin);
	(void)snprintf(way->device, sizeof(way->device), "%.*s", (int)(end - slash - 1), slash + 1);
}

static void
text_take(struct far_ucx_inspection *out, const char *text)
{
	while (*text != '\0') {
		size_t length = strcspn(text, "\n");

		line_take(out, text, length);
		text += length + (text[length] == '\n');
	}
}

static ucs_status_t
context_open(ucp_context_h *out)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES,
		.features = UCP_FEATURE_AM | UCP_FEATURE_RMA,
	};
	sigset_t all, before;
	ucp_config_t *config;
	ucs_status_t status = far_ucx_lib->ucp_config_read(NULL, NULL, &config);

	if (status != UCS_OK)
		return status;
	/* A thread that it starts leaves signals to those of the host. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	far_ucx_enter();
	status = far_ucx_lib->ucp_init_version(UCX_LIB_MAJOR, UCX_LIB_MINOR, &params, config, out);
	far_ucx_leave();
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	far_ucx_lib->ucp_config_release(config);
	return status;
}

static int
ways_find(struct far_ucx_inspection *out)
{
	char *text = far_zalloc(PRINT_BYTES);
	FILE *stream = text == NULL ? NULL : fmemopen(text, PRINT_BYTES - 1, "w");
	ucp_context_h context = NULL;
	ucs_status_t status;

	if (stream == NULL) {
		far_free(text);
		return -ENOMEM;
	}
	status = context_open(&context);
	if (status == UCS_OK) {
		far_ucx_lib->ucp_context_print_info(context, stream);
		far_ucx_close_asker(context);
	}
	(void)fclose(stream);
	if (status == UCS_OK)
		text_take(out, text);
	else
		(void)snprintf(
			out->error, sizeof(out->error),
			"it finds nothing to use: %s: see the UCX_ variables that are exported",
			far_ucx_lib->ucs_status_string(status));
	far_free(text);
	return status == UCS_OK ? 0 : -ENODEV;
}

void
far_ucx_inspect(struct far_ucx_inspection *out)
{
	Dl_info info = {.dli_fname = NULL};

	memset(out, 0, sizeof(*out));
	out->rc = far_ucx_lib_load_quietly(out->error, sizeof(out->error));
	if (out->rc < 0)
		return;
	far_ucx_lib->ucp_get_version(&out->major, &out->minor, &out->release);
	if (dladdr((void *)(uintptr_t)far_ucx_lib->ucp_get_version, &info) != 0 &&
	    info.dli_fname != NULL)
		(void)snprintf(out->path, sizeof(out->path), "%s", info.dli_fname);
	out->emulates = out->minor >= UCX_EMULATES_FIRST && out->minor <= UCX_EMULATES_LAST;
	if (out->major != UCX_LIB_MAJOR || out->minor < UCX_LIB_MINOR) {
		out->rc = -ENODEV;
		(void)snprintf(out->error, sizeof(out->error),
			       "ucx %u.%u.%u is too old or of another kind: install %u.%u or newer",
			       out->major, out->minor, out->release, UCX_LIB_MAJOR, UCX_LIB_MINOR);
		return;
	}
	far_ucx_log_take();
	out->rc = ways_find(out);
}
