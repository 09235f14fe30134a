/* fake_device.h - no GPU: a far_device whose memory is the host's, and whose copies take their time. */
#ifndef FAR_TESTS_SUPPORT_FAKE_DEVICE_H
#define FAR_TESTS_SUPPORT_FAKE_DEVICE_H

#include "transport/mem/device.h"

/*
 * Device memory is any memory of the process, so that a test can look at it. A copy's target is
 * scribbled over when it is added, and holds the bytes only when poll tells so, some polls later: who
 * takes it for done before sees garbage. Copies from or to memory that is not pinned fail the test.
 */
struct far_device *fake_device_open(uint64_t seed);
/* Nothing may be pinned any more. */
void fake_device_close(struct far_device *device);

/* How many polls a copy takes at the most; default 4. */
void fake_device_delay(struct far_device *device, uint32_t polls);
/* From now on no copy ends, until it is let go. */
void fake_device_hold(struct far_device *device, bool hold);
/* It fails for good: what is outstanding ends with -EIO. */
void fake_device_fail(struct far_device *device);
/* Pins fail with this; 0: they do not. */
void fake_device_pin_rc(struct far_device *device, int rc);
/* Copies added, of both ways, since open; pins that are there. */
uint64_t fake_device_copies(const struct far_device *device);
uint32_t fake_device_pins(struct far_device *device);

#endif
