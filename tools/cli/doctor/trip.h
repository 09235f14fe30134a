/* trip.h - proving a path: to a donor and back with bytes, one step after the other. */
#ifndef FAR_TOOLS_CLI_DOCTOR_TRIP_H
#define FAR_TOOLS_CLI_DOCTOR_TRIP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "client/config.h"
#include "tools/cli/doctor/doctor.h"
#include "transport/address.h"
#include "wire/frame.h"

struct far_doctor_trip {
	const struct far_doctor_host *host;     /* borrowed */
	const struct far_client_config *config; /* borrowed; its donors are not used */
	uint64_t timeout_ns;                    /* of each step */
	bool read_only;                         /* nothing is stored */
};

/* Goes to one donor and back, and adds a check for each step; what follows a step that failed is left
 * out. Blocks for a few timeouts at the most. Thread: one at a time; the log goes into the report
 * meanwhile. */
void far_doctor_prove(const struct far_doctor_trip *trip, const struct far_address *address,
		      struct far_doctor_report *report);

/* ---- its parts ---- */

/* Whether bytes to that address go by RDMA: UCX does so where the fabric is trusted. */
bool far_doctor_goes_by_rdma(const struct far_doctor_trip *trip, const struct far_address *address);

/* route.c: which way packets take. Adds its check. Returns whether it is worth going on. */
bool far_doctor_route(const struct far_doctor_trip *trip, const struct far_address *address,
		      struct far_doctor_report *report);

/* "HOST:PORT" as an address. Returns 0, -EINVAL (there is no such name), -ETIMEDOUT, -ENOMEM. */
int far_doctor_name_find(const char *text, uint64_t timeout_ns, struct sockaddr_storage *out);

/* Who answers at an address. */
struct far_doctor_peer {
	char name[FAR_NAME_BYTES_MAX + 1];
	char link[FAR_ADDRESS_BYTES_MAX]; /* the peer as the transport names it */
	uint64_t epoch;
	uint64_t index_bytes;
	uint64_t connect_ns; /* until the link was up */
	uint64_t answer_ns;  /* from the question to the answer */
};

/* greet.c: asks for any donor, by farpool's own first frames. Adds its checks. Returns whether one is
 * there and takes us. */
bool far_doctor_greet(const struct far_doctor_trip *trip, const struct far_address *address,
		      struct far_doctor_report *report, struct far_doctor_peer *out);

/* bytes.c: stores blocks, reads them, compares them, and says how. */
void far_doctor_bytes(const struct far_doctor_trip *trip, const struct far_address *address,
		      const struct far_doctor_peer *peer, struct far_doctor_report *report);

/* trip.c: what transports logged since the last call, as more lines of the last check. */
void far_doctor_log_add(struct far_doctor_report *report);

/* "12 us", "1.5 ms" */
#define FAR_DOCTOR_TIME_TEXT 24U
const char *far_doctor_time(uint64_t ns, char out[FAR_DOCTOR_TIME_TEXT]);

#endif
