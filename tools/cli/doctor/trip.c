/* trip.c - one address proved: its steps in order, and what the transports logged meanwhile. */
#include "tools/cli/doctor/trip.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "transport/transport.h"

#define LINES_MAX 4U

/* The client's thread writes, ours reads. */
static struct {
	pthread_mutex_t mutex;
	char lines[LINES_MAX][256];
	size_t count;
} logged = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void
log_take(void *arg, enum far_log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)pthread_mutex_lock(&logged.mutex);
	/* One that is tried again says it again. */
	for (size_t i = 0; i < logged.count; i++) {
		if (strncmp(logged.lines[i], line, sizeof(logged.lines[i]) - 1) == 0) {
			(void)pthread_mutex_unlock(&logged.mutex);
			return;
		}
	}
	if (logged.count < LINES_MAX)
		(void)snprintf(logged.lines[logged.count++], sizeof(logged.lines[0]), "%s", line);
	(void)pthread_mutex_unlock(&logged.mutex);
}

void
far_doctor_log_add(struct far_doctor_report *report)
{
	(void)pthread_mutex_lock(&logged.mutex);
	for (size_t i = 0; i < logged.count; i++)
		far_doctor_more(report, "logged: %s", logged.lines[i]);
	logged.count = 0;
	(void)pthread_mutex_unlock(&logged.mutex);
}

const char *
far_doctor_time(uint64_t ns, char out[FAR_DOCTOR_TIME_TEXT])
{
	double us = (double)ns / 1e3;

	if (us < 1000)
		(void)snprintf(out, FAR_DOCTOR_TIME_TEXT, "%.*f us", us < 10 ? 1 : 0, us);
	else
		(void)snprintf(out, FAR_DOCTOR_TIME_TEXT, "%.*f ms", us < 10000 ? 1 : 0, us / 1e3);
	return out;
}

bool
far_doctor_goes_by_rdma(const struct far_doctor_trip *trip, const struct far_address *address)
{
	return strcmp(address->scheme, "verbs") == 0 ||
	       (strcmp(address->scheme, "ucx") == 0 && trip->config->trust == FAR_TRUST_FABRIC);
}

static bool
transport_check(const struct far_address *address, struct far_doctor_report *report)
{
	if (strcmp(address->scheme, "loop") != 0 && far_transport_find(address->scheme) != NULL)
		return true;
	far_doctor_add(report, FAR_DOCTOR_FAIL, "address", "'%s' is no transport of this farpool",
		       address->scheme);
	far_doctor_fix(report, "write shm:/PATH, verbs:HOST:PORT or ucx:HOST:PORT");
	return false;
}

void
far_doctor_prove(const struct far_doctor_trip *trip, const struct far_address *address,
		 struct far_doctor_report *report)
{
	enum far_log_level level = far_log_level_get();
	struct far_doctor_peer peer;

	far_doctor_group(report, "To %s", address->text);
	if (!transport_check(address, report))
		return;
	logged.count = 0;
	far_log_sink_set(log_take, NULL);
	far_log_level_set(FAR_LOG_WARN);
	if (far_doctor_route(trip, address, report) &&
	    far_doctor_greet(trip, address, report, &peer))
		far_doctor_bytes(trip, address, &peer, report);
	far_log_level_set(level);
	far_log_sink_set(NULL, NULL);
}
