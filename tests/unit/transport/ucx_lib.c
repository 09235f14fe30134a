/* ucx_lib.c - UCX is loaded where it is used, and leaves the process as it was. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "tests/support/log_capture.h"
#include "tests/unit/transport/ucx_host.h"
#include "tests/unit/transport/ucx_world.h"
#include "transport/ucx/lib.h"

static struct ucx_host before; /* of this process, before UCX was loaded; seen inside a test */

static int
open_alone(struct far_transport **out)
{
	static const char *const here = "127.0.0.1:1"; /* ports of this host's own, and no others */
	struct far_transport_config config = {
		.clock = far_clock_real(), .peers = &here, .peer_count = 1};

	return far_transport_open("ucx", &config, out);
}

static void
talk(void)
{
	struct ucx_world w;

	assert_int_equal(ucx_world_listen(&w), 0);
	assert_int_equal(ucx_world_connect(&w), 0);
	assert_int_equal(ucx_world_ask(&w), 0);
	ucx_world_close(&w);
}

/* ---- this process ---- */

static struct far_link_handler *
accept_nobody(void *arg, struct far_link *link, const void *hello, size_t hello_bytes)
{
	(void)arg;
	(void)link;
	(void)hello;
	(void)hello_bytes;
	return NULL;
}

static void
shared_memory_alone_never_loads_ucx(void **state)
{
	struct far_transport_config config = {.clock = far_clock_real()};
	char dir[] = "/tmp/far-ucx-XXXXXX", path[64];
	struct far_listener *listener;
	struct far_transport *tp;
	(void)state;

	ucx_host_look(&before);
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/donor", dir);
	assert_int_equal(far_transport_open("shm", &config, &tp), 0);
	assert_int_equal(far_transport_listen(tp, path, accept_nobody, NULL, &listener), 0);
	assert_false(ucx_host_has_ucx());
	far_transport_unlisten(tp, listener);
	far_transport_close(tp);
	assert_int_equal(rmdir(dir), 0);
	assert_false(ucx_host_has_ucx());
	assert_null(far_ucx_lib);
}

static void
a_library_that_is_not_there_is_said_with_the_next_step(void **state)
{
	struct ucx_lib lib = {.ucp_cleanup = NULL};
	char why[256] = "";
	(void)state;

	assert_int_equal(far_ucx_lib_find("libfar-no-such.so.0", &lib, why, sizeof(why)), -ENODEV);
	assert_non_null(strstr(why, "libfar-no-such.so.0"));
	assert_non_null(strstr(why, "install libucx0"));
	assert_non_null(strstr(why, "shm:"));
	assert_null(strchr(why, '\n'));
}

static void
a_library_that_lacks_a_function_is_refused_whole(void **state)
{
	struct ucx_lib lib, untouched;
	char why[256] = "";
	(void)state;

	memset(&lib, 0x5a, sizeof(lib));
	untouched = lib;
	assert_int_equal(far_ucx_lib_find("libc.so.6", &lib, why, sizeof(why)), -ENODEV);
	assert_non_null(strstr(why, "ucp_am_send_nbx"));
	assert_non_null(strstr(why, "install libucx0"));
	assert_memory_equal(&lib, &untouched, sizeof(lib));
}

static void
loading_and_talking_changes_no_code_and_no_signal(void **state)
{
	static void *volatile planted =
		&before; /* not zero, so that it lies where relocations do */
	(void)state;

	talk();
	assert_true(ucx_host_has_ucx());
	assert_int_equal(ucx_host_code_changes(&before), 0);
	assert_int_equal(ucx_host_ways_to_ucm(&before), 0);
	planted = dlsym(dlopen("libucm.so.0", RTLD_NOW | RTLD_NOLOAD), "ucm_madvise");
	assert_non_null(planted);
	assert_int_equal(ucx_host_ways_to_ucm(&before), 1); /* it would be seen */
	planted = &before;
	assert_int_equal(ucx_host_signal_changes(&before), 0);
}

static void
what_it_was_told_is_not_in_the_environment_afterwards(void **state)
{
	(void)state;
	assert_non_null(far_ucx_lib);
	assert_null(far_env_get("UCX_MEM_EVENTS"));
	assert_null(far_env_get("UCX_HANDLE_ERRORS"));
	assert_null(far_env_get("UCX_DEBUG_SIGNO"));
}

static void
it_is_loaded_once(void **state)
{
	const struct ucx_lib *lib = far_ucx_lib;
	(void)state;

	far_log_capture_start();
	talk();
	assert_ptr_equal(far_ucx_lib, lib);
	assert_int_equal(far_log_capture_count("loaded"), 0);
	far_log_capture_finish();
}

/* ---- versions ---- */

static unsigned version_told[3];

static void
version_tell(unsigned *major, unsigned *minor, unsigned *release)
{
	*major = version_told[0];
	*minor = version_told[1];
	*release = version_told[2];
}

static void
a_version_that_is_not_known_to_work_is_refused(void **state)
{
	static const unsigned versions[][3] = {{1, 12, 1}, {0, 99, 0}, {2, 13, 0}};
	const struct ucx_lib *real = far_ucx_lib;
	struct ucx_lib lib = *real;
	(void)state;

	lib.ucp_get_version = version_tell;
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		struct far_transport *tp = NULL;

		memcpy(version_told, versions[i], sizeof(version_told));
		far_log_capture_start();
		far_log_capture_expect("install 1.13 or newer, or use shm:");
		far_ucx_lib = &lib;
		assert_int_equal(open_alone(&tp), -ENODEV);
		far_ucx_lib = real;
		assert_null(tp);
		assert_int_equal(far_log_capture_count("install 1.13 or newer, or use shm:"), 1);
		far_log_capture_finish();
	}
}

/* ---- what an operator exported ---- */

/* With the first at one end alone UCX 1.13 stops the client, and so it does with the second. */
static void
an_exported_value_that_stops_processes_is_not_used(void **state)
{
	struct ucx_world w;
	(void)state;

	far_log_capture_start();
	far_log_capture_expect("UCX_CM_USE_ALL_DEVICES is exported as 'y': not used");
	far_log_capture_expect("UCX_PROTO_ENABLE is exported as 'y': not used");
	assert_int_equal(setenv("UCX_CM_USE_ALL_DEVICES", "y", 1), 0);
	assert_int_equal(ucx_world_listen(&w), 0);
	assert_int_equal(unsetenv("UCX_CM_USE_ALL_DEVICES"), 0);
	assert_int_equal(setenv("UCX_PROTO_ENABLE", "y", 1), 0);
	assert_int_equal(ucx_world_connect(&w), 0);
	assert_int_equal(unsetenv("UCX_PROTO_ENABLE"), 0);
	assert_int_equal(ucx_world_ask(&w), 0);
	ucx_world_close(&w);
	assert_int_equal(far_log_capture_count("not used"), 2);
	far_log_capture_finish();
}

static int
open_fabric(struct far_transport **out)
{
	struct far_transport_config config = {.clock = far_clock_real(), .trust = FAR_TRUST_FABRIC};

	return far_transport_open("ucx", &config, out);
}

static void
an_exported_value_that_is_ours_anyway_is_not_spoken_of(void **state)
{
	struct far_transport *tp;
	(void)state;

	far_log_capture_start();
	assert_int_equal(setenv("UCX_TLS", "tcp", 1), 0);
	assert_int_equal(open_alone(&tp), 0);
	assert_int_equal(unsetenv("UCX_TLS"), 0);
	assert_int_equal(far_log_capture_count("is exported"), 0);
	far_log_capture_finish();
	far_transport_close(tp);
}

static void
with_trust_in_the_fabric_nobody_exports_another_way_in(void **state)
{
	static const char *const names[] = {"UCX_TLS", "UCX_SOCKADDR_TLS_PRIORITY"};
	(void)state;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct far_transport *tp = NULL;

		far_log_capture_start();
		far_log_capture_expect("alone: unset UCX_");
		assert_int_equal(setenv(names[i], "tcp", 1), 0);
		assert_int_equal(open_fabric(&tp), -ENODEV);
		assert_int_equal(unsetenv(names[i]), 0);
		assert_null(tp);
		assert_int_equal(far_log_capture_count("alone: unset UCX_"), 1);
		assert_int_equal(far_log_capture_count(names[i]), 1);
		far_log_capture_finish();
	}
}

static const char *modify_forgets; /* a setting that is taken, and not kept */
static __typeof__(&ucp_config_modify) ucp_config_modify_real;

static ucs_status_t
config_modify_forgetful(ucp_config_t *config, const char *name, const char *value)
{
	return strcmp(name, modify_forgets) == 0 ? UCS_OK
						 : ucp_config_modify_real(config, name, value);
}

static void
a_setting_that_is_needed_and_not_in_force_opens_nothing(void **state)
{
	static const char *const listens[] = {"127.0.0.1:1"};
	static const struct {
		const char *name, *said;
		enum far_trust trust;
	} settings[] = {
		{"TLS", "ucx: TLS=tcp is not in force", FAR_TRUST_NONE},
		{"NET_DEVICES", "ucx: NET_DEVICES=lo is not in force", FAR_TRUST_NONE},
		{"RCACHE_ENABLE", "ucx: RCACHE_ENABLE=n is not in force", FAR_TRUST_FABRIC},
	};
	const struct ucx_lib *real = far_ucx_lib;
	struct ucx_lib lib = *real;
	(void)state;

	ucp_config_modify_real = real->ucp_config_modify;
	lib.ucp_config_modify = config_modify_forgetful;
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		struct far_transport_config config = {
			.clock = far_clock_real(),
			.trust = settings[i].trust,
			.listens = listens,
			.listen_count = 1,
		};
		struct far_transport *tp = NULL;

		modify_forgets = settings[i].name;
		far_log_capture_start();
		far_log_capture_expect(settings[i].said);
		far_ucx_lib = &lib;
		assert_int_equal(far_transport_open("ucx", &config, &tp), -ENODEV);
		far_ucx_lib = real;
		assert_null(tp);
		assert_int_equal(far_log_capture_count(settings[i].said), 1);
		far_log_capture_finish();
	}
}

/* ---- other processes: this program once more, with one test ---- */

struct child {
	const char *name;
	CMUnitTestFunction test;
	const char *variable; /* exported for it */
	const char *value;
};

/* Hooks are what an operator may ask for: it shows that the comparison sees them. The thread
 * sanitizer does not bear them. */
static void
child_exported_hooks(void **state)
{
	struct far_transport *tp;
	(void)state;

	ucx_host_look(&before);
	far_log_capture_start();
	far_log_capture_expect("UCX_MEM_EVENTS is exported as 'yes': used instead of 'no'");
	assert_int_equal(open_alone(&tp), 0);
	assert_int_equal(far_log_capture_count("UCX_MEM_EVENTS is exported"), 1);
	far_log_capture_finish();
	assert_true(ucx_host_code_changes(&before) > 0);
	assert_int_equal(ucx_host_signal_changes(&before), 0);
	far_transport_close(tp);
}

static void
child_exported_signals(void **state)
{
	struct far_transport *tp;
	(void)state;

	ucx_host_look(&before);
	far_log_capture_start();
	far_log_capture_expect("UCX_DEBUG_SIGNO is exported as 'SIGUSR2': used instead of '0'");
	assert_int_equal(open_alone(&tp), 0);
	assert_int_equal(far_log_capture_count("is exported"), 1);
	far_log_capture_finish();
	assert_int_equal(ucx_host_code_changes(&before), 0);
	assert_int_equal(ucx_host_signal_changes(&before), 1);
	far_transport_close(tp);
}

static void
child_present(void **state)
{
	struct ucx_host host;
	(void)state;

	ucx_host_look(&before);
	/* What the host wants of its own UCX: its signal handlers, and no hooks. */
	assert_int_equal(setenv("UCX_MEM_EVENTS", "no", 1), 0);
	assert_non_null(dlopen(UCX_LIB_SONAME, RTLD_NOW | RTLD_LOCAL));
	assert_int_equal(unsetenv("UCX_MEM_EVENTS"), 0);
	assert_true(ucx_host_signal_changes(&before) > 0);
	ucx_host_look(&host);
	far_log_capture_start();
	talk();
	assert_int_equal(far_log_capture_count("was loaded by this process"), 1);
	far_log_capture_finish();
	assert_int_equal(ucx_host_signal_changes(&host), 0);
}

static void
child_missing(void **state)
{
	struct far_transport_config config = {.clock = far_clock_real()};
	struct far_transport *tp = NULL;
	(void)state;

	far_log_capture_start();
	far_log_capture_expect("install libucx0");
	for (unsigned i = 1; i <= 2; i++) {
		assert_int_equal(open_alone(&tp), -ENODEV);
		assert_null(tp);
		assert_int_equal(far_log_capture_count("or use shm:"), i);
	}
	far_log_capture_finish();
	assert_int_equal(far_transport_open("shm", &config, &tp), 0);
	far_transport_close(tp);
}

static const struct child children[] = {
	{"hooks", child_exported_hooks, "UCX_MEM_EVENTS", "yes"},
	{"signals", child_exported_signals, "UCX_DEBUG_SIGNO", "SIGUSR2"},
	{"present", child_present, NULL, NULL},
	{"missing", child_missing, "LD_LIBRARY_PATH", NULL},
};
#define CHILD_COUNT (sizeof(children) / sizeof(children[0]))

static const struct child *
child_find(const char *name)
{
	for (size_t i = 0; i < CHILD_COUNT; i++)
		if (strcmp(children[i].name, name) == 0)
			return &children[i];
	return NULL;
}

static int
child_main(const char *name)
{
	const struct child *child = child_find(name);
	const struct CMUnitTest tests[] = {
		{name, child != NULL ? child->test : NULL, NULL, NULL, NULL},
	};

	return child != NULL ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}

static void
child_run(const char *name, const char *value)
{
	const struct child *child = child_find(name);
	int status = 0;
	pid_t pid;

	assert_non_null(child);
	(void)fflush(stdout);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (child->variable != NULL)
			(void)setenv(child->variable, value != NULL ? value : child->value, 1);
		(void)execl("/proc/self/exe", "ucx_lib", name, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
what_an_operator_exported_holds_and_is_named(void **state)
{
	(void)state;
	child_run("signals", NULL);
#ifndef __SANITIZE_THREAD__
	child_run("hooks", NULL);
#endif
}

static void
a_ucx_that_was_there_first_is_used_as_it_is(void **state)
{
	(void)state;
	child_run("present", NULL);
}

/* As on a host that has no UCX: what is found under its name is none. */
static void
without_ucx_the_transport_is_refused_and_the_others_are_not(void **state)
{
	char dir[] = "/tmp/far-ucx-XXXXXX", path[64];
	FILE *file;
	(void)state;

	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/%s", dir, UCX_LIB_SONAME);
	file = fopen(path, "we");
	assert_non_null(file);
	(void)fprintf(file,
		      "This is not a library, and longer than the header of one would be: %s.\n",
		      path);
	assert_int_equal(fclose(file), 0);
	child_run("missing", dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shared_memory_alone_never_loads_ucx),
		cmocka_unit_test(a_library_that_is_not_there_is_said_with_the_next_step),
		cmocka_unit_test(a_library_that_lacks_a_function_is_refused_whole),
		cmocka_unit_test(loading_and_talking_changes_no_code_and_no_signal),
		cmocka_unit_test(what_it_was_told_is_not_in_the_environment_afterwards),
		cmocka_unit_test(it_is_loaded_once),
		cmocka_unit_test(a_version_that_is_not_known_to_work_is_refused),
		cmocka_unit_test(an_exported_value_that_stops_processes_is_not_used),
		cmocka_unit_test(an_exported_value_that_is_ours_anyway_is_not_spoken_of),
		cmocka_unit_test(with_trust_in_the_fabric_nobody_exports_another_way_in),
		cmocka_unit_test(a_setting_that_is_needed_and_not_in_force_opens_nothing),
		cmocka_unit_test(what_an_operator_exported_holds_and_is_named),
		cmocka_unit_test(a_ucx_that_was_there_first_is_used_as_it_is),
		cmocka_unit_test(without_ucx_the_transport_is_refused_and_the_others_are_not),
	};

	if (argc > 1)
		return child_main(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
