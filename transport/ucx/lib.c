/* lib.c - UCX is loaded where it is used: what it may do to this process, and its functions. */
#include "transport/ucx/lib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/log.h"

#define WHY_BYTES 512
#define NEXT_STEP "install libucx0 (Debian) or ucx 1.13 or newer, or use shm:"

/* Its constructors read them, and never again. Without the first libucm writes jumps into the C
 * library's mmap(), madvise() and their kin; the others keep its hands off signals. */
static char mem_events[] = "UCX_MEM_EVENTS=no";
static char handle_errors[] = "UCX_HANDLE_ERRORS=none";
static char debug_signo[] = "UCX_DEBUG_SIGNO=0";
static char *const manners[] = {mem_events, handle_errors, debug_signo, NULL};

const struct ucx_lib *far_ucx_lib;

static pthread_once_t load_once = PTHREAD_ONCE_INIT;
static struct ucx_lib found;
static int load_rc;
static char load_why[WHY_BYTES];

/* ---- functions ---- */

static int
function_find(void *handle, const char *name, void *out, char *why, size_t why_bytes)
{
	void *function = dlsym(handle, name);

	if (function == NULL) {
		(void)snprintf(why, why_bytes, "%s: %s", dlerror(), NEXT_STEP);
		return -ENODEV;
	}
	/* POSIX says that a pointer to a function can be kept in one to an object; C does not. */
	memcpy(out, &function, sizeof(function));
	return 0;
}

int
far_ucx_lib_find(const char *soname, struct ucx_lib *out, char *why, size_t why_bytes)
{
	void *handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
	struct ucx_lib lib;
	int rc = 0;

	if (handle == NULL) {
		(void)snprintf(why, why_bytes, "%s: %s", dlerror(), NEXT_STEP);
		return -ENODEV;
	}
	/* Functions of libucs are found behind libucp: those of the very libucs that it uses. */
#define UCX_LIB_FIND(name)                                                                         \
	if (rc == 0)                                                                               \
		rc = function_find(handle, #name, &lib.name, why, why_bytes);
	UCX_LIB_FUNCTIONS(UCX_LIB_FIND)
#undef UCX_LIB_FIND
	/* Never unloaded, whatever came out: its threads and handlers may have been set up. */
	if (rc == 0)
		*out = lib;
	return rc;
}

/* ---- loading ---- */

static void
load(void *arg)
{
	(void)arg;
	load_rc = far_ucx_lib_find(UCX_LIB_SONAME, &found, load_why, sizeof(load_why));
}

static void
exported_log(const char *assignment)
{
	const char *equals = strchr(assignment, '=');
	char name[32];
	const char *value;

	(void)snprintf(name, sizeof(name), "%.*s", (int)(equals - assignment), assignment);
	value = far_env_get(name);
	if (value != NULL)
		far_log_warn("%s is exported as '%s': used instead of '%s'", name, value,
			     equals + 1);
}

static void
load_politely(void)
{
	sigset_t all, before;
	int rc;

	for (size_t i = 0; manners[i] != NULL; i++)
		exported_log(manners[i]);
	/* A thread that a constructor starts leaves signals to those of the host. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = far_env_call_with(manners, load, NULL);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc < 0) {
		load_rc = rc;
		(void)snprintf(load_why, sizeof(load_why), "not loaded: no memory");
	}
}

/* UCX stays and holds our log handler: where we are a library ourselves, we stay as well. */
static void
self_keep(void)
{
	Dl_info info = {.dli_fname = NULL};

	if (dladdr((void *)&load_once, &info) != 0 && info.dli_fname != NULL)
		(void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

static void
load_first(void)
{
	/* Settings are read by libucs: who has that has decided for this process. */
	bool present = dlopen("libucs.so.0", RTLD_NOW | RTLD_NOLOAD) != NULL;
	Dl_info info = {.dli_fname = NULL};

	if (present)
		load(NULL);
	else
		load_politely();
	if (load_rc < 0)
		return;
	(void)dladdr((void *)(uintptr_t)found.ucp_get_version, &info);
	far_log_info("ucx %s: %s",
		     present ? "was loaded by this process, its settings hold" : "loaded",
		     info.dli_fname != NULL ? info.dli_fname : UCX_LIB_SONAME);
	self_keep();
	far_ucx_lib = &found;
}

int
far_ucx_lib_load_quietly(char *why, size_t why_bytes)
{
	(void)pthread_once(&load_once, load_first);
	if (load_rc < 0)
		(void)snprintf(why, why_bytes, "%s", load_why);
	return load_rc;
}

int
far_ucx_lib_load(void)
{
	char why[WHY_BYTES];
	int rc = far_ucx_lib_load_quietly(why, sizeof(why));

	if (rc < 0)
		far_log_error("ucx: %s", why);
	return rc;
}
