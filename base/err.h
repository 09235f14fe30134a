/* err.h - the closed list of errors: negative errno, with what each one broke. */
#ifndef FAR_BASE_ERR_H
#define FAR_BASE_ERR_H

#include <errno.h>
#include <stdbool.h>

/* What has to be rebuilt after an error, from least to most. */
enum far_err_scope {
	FAR_ERR_CALL,
	FAR_ERR_OP,
	FAR_ERR_LINK,
	FAR_ERR_DONOR,
	FAR_ERR_HOST,
};

/**
 * far_err_scope - how much an error broke.
 *
 * @rc: a negative errno.
 *
 * Thread:  any.
 * Returns: its scope; FAR_ERR_HOST for a code outside base/err.def.
 */
enum far_err_scope far_err_scope(int rc);

/**
 * far_err_text - one sentence for people: what happened and what to do next.
 *
 * Thread:  any.
 * Returns: a static string, never NULL.
 */
const char *far_err_text(int rc);

/**
 * far_err_name - the symbolic name, "ENOENT" for -ENOENT; "0" for 0.
 */
const char *far_err_name(int rc);

/**
 * far_err_listed - whether base/err.def has the code; foreign codes are mapped at the seam.
 */
bool far_err_listed(int rc);

#endif
