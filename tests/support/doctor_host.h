/* doctor_host.h - a host for the doctor, made up: a folder with /proc, /sys and /dev, and what drivers say. */
#ifndef FAR_TESTS_SUPPORT_DOCTOR_HOST_H
#define FAR_TESTS_SUPPORT_DOCTOR_HOST_H

#include "tools/cli/doctor/doctor.h"

/* A healthy host without RDMA: 16 GiB, 8 MiB to be locked by this user. One at a time. */
struct far_doctor_host *doctor_host_open(void);
void doctor_host_close(void);

/* Writes, or with @text NULL removes, a file of the folder. */
void doctor_host_file(const char *path, const char *text);
/* A link whose last part is what counts. */
void doctor_host_link(const char *path, const char *target);

/* A device with one port that is up: RoCE v2 at 10.0.0.3 on eth1, MTU 4096, 16 reads in flight; its
 * modules, its files, and what the libraries say of it. */
struct far_verbs_device_seen *doctor_host_device(const char *name);
/* An address of an interface of the host. */
void doctor_host_address(const char *interface, const char *text);

/* ---- what came of it ---- */

/* The check of that name; fails the test if there is not exactly one. */
const struct far_doctor_check *doctor_host_check(const struct far_doctor_report *report,
						 const char *name);
/* It has that verdict, and both texts are in what was found and in the fix ("": there is none). */
void doctor_host_expect(const struct far_doctor_report *report, const char *name,
			enum far_doctor_verdict verdict, const char *found, const char *fix);

#endif
