/* raw.h - what the two ends of the measure of a bare transport share. */
#ifndef FAR_TESTS_BENCH_RAW_H
#define FAR_TESTS_BENCH_RAW_H

#include <stdint.h>

#include "base/list.h"
#include "transport/transport.h"

/* The one message: where the memory is that is read. */
struct bench_raw_hello {
	struct far_remote remote;
};

/* Gives the transport a turn, and sleeps at most @wait_ms when there is nothing to do. */
void bench_raw_turn(struct far_transport *tp, int wait_ms);

#endif
