/* trace.c - reading a trace: every line is checked, the first bad one is named. */
#include "tools/cli/trace.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"

#define TIMESTAMP_MS_MAX 1e12

static int
grow(void **items, size_t *capacity, size_t needed, size_t item_bytes)
{
	size_t wanted = *capacity == 0 ? 1024 : *capacity;
	void *bigger;

	if (needed <= *capacity)
		return 0;
	while (wanted < needed)
		wanted *= 2;
	bigger = far_zalloc_array(wanted, item_bytes);
	if (bigger == NULL)
		return -ENOMEM;
	if (*items != NULL)
		memcpy(bigger, *items, *capacity * item_bytes);
	far_free(*items);
	*items = bigger;
	*capacity = wanted;
	return 0;
}

static int
append(struct far_trace *trace, uint64_t at_ns, const json_t *ids)
{
	size_t count = json_array_size(ids);
	int rc = grow((void **)&trace->ids, &trace->id_capacity, trace->id_count + count,
		      sizeof(*trace->ids));

	if (rc == 0)
		rc = grow((void **)&trace->requests, &trace->request_capacity,
			  trace->request_count + 1, sizeof(*trace->requests));
	if (rc < 0)
		return rc;
	trace->requests[trace->request_count++] = (struct far_trace_request){
		.at_ns = at_ns,
		.first = trace->id_count,
		.count = (uint32_t)count,
	};
	for (size_t i = 0; i < count; i++)
		trace->ids[trace->id_count++] =
			(uint64_t)json_integer_value(json_array_get(ids, i));
	return 0;
}

static int
check_ids(const json_t *ids, char error[FAR_TRACE_ERROR_BYTES])
{
	if (!json_is_array(ids)) {
		snprintf(error, FAR_TRACE_ERROR_BYTES,
			 "no list 'hash_ids': each request lists its blocks as numbers");
		return -EINVAL;
	}
	if (json_array_size(ids) == 0 || json_array_size(ids) > FAR_TRACE_IDS_MAX) {
		snprintf(error, FAR_TRACE_ERROR_BYTES, "%zu hash_ids: 1 to %u are allowed",
			 json_array_size(ids), FAR_TRACE_IDS_MAX);
		return -EINVAL;
	}
	for (size_t i = 0; i < json_array_size(ids); i++) {
		const json_t *id = json_array_get(ids, i);

		if (!json_is_integer(id) || json_integer_value(id) < 0) {
			snprintf(error, FAR_TRACE_ERROR_BYTES,
				 "hash_ids[%zu] is no whole number from 0 on", i);
			return -EINVAL;
		}
	}
	return 0;
}

int
far_trace_parse_line(struct far_trace *trace, const char *line, size_t size_bytes,
		     char error[FAR_TRACE_ERROR_BYTES])
{
	json_error_t cause;
	json_t *object = json_loadb(line, size_bytes, 0, &cause);
	const json_t *at;
	const json_t *ids;
	int rc;

	if (object == NULL) {
		snprintf(error, FAR_TRACE_ERROR_BYTES, "no JSON object (%.120s): %s", cause.text,
			 "the line is damaged, or the file ends in the middle of it");
		return -EINVAL;
	}
	at = json_object_get(object, "timestamp");
	ids = json_object_get(object, "hash_ids");
	rc = check_ids(ids, error);
	if (rc == 0 && (!json_is_number(at) || !isfinite(json_number_value(at)) ||
			json_number_value(at) < 0 || json_number_value(at) > TIMESTAMP_MS_MAX)) {
		snprintf(error, FAR_TRACE_ERROR_BYTES,
			 "no number 'timestamp': milliseconds from the start, 0 or more");
		rc = -EINVAL;
	}
	if (rc == 0) {
		rc = append(trace, (uint64_t)(json_number_value(at) * (double)FAR_NS_PER_MS), ids);
		if (rc < 0)
			snprintf(error, FAR_TRACE_ERROR_BYTES, "no memory for the trace");
	}
	json_decref(object);
	return rc;
}

/* Why reading stopped: 0 at the end of a whole file, else -EINVAL with the cause. */
static int
read_end(gzFile file, char error[FAR_TRACE_ERROR_BYTES])
{
	int code;
	const char *cause = gzerror(file, &code);

	if (code == Z_OK || code == Z_STREAM_END)
		return 0;
	snprintf(error, FAR_TRACE_ERROR_BYTES,
		 "%.200s: the file is truncated or damaged, fetch it again",
		 code == Z_BUF_ERROR ? "the compressed data ends too early" : cause);
	return -EINVAL;
}

/* Reads the lines of an open file; @number is the line that an error is about. */
static int
load_lines(gzFile file, size_t requests_max, struct far_trace *trace, char *line, size_t *number,
	   char error[FAR_TRACE_ERROR_BYTES])
{
	while (requests_max == 0 || trace->request_count < requests_max) {
		size_t size;
		int rc;

		++*number;
		if (gzgets(file, line, FAR_TRACE_LINE_MAX) == NULL)
			return read_end(file, error);
		size = strlen(line);
		if (size + 1 == FAR_TRACE_LINE_MAX) {
			snprintf(error, FAR_TRACE_ERROR_BYTES,
				 "longer than %u bytes: is it a trace?", FAR_TRACE_LINE_MAX);
			return -EINVAL;
		}
		/* A last line without its end may have been cut off with the rest of the file. */
		rc = size > 0 && line[size - 1] == '\n' ? 0 : read_end(file, error);
		if (rc == 0 && strspn(line, " \t\r\n") < size)
			rc = far_trace_parse_line(trace, line, size, error);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int
far_trace_load(const char *path, size_t requests_max, struct far_trace *out,
	       char error[FAR_TRACE_ERROR_BYTES])
{
	char cause[FAR_TRACE_ERROR_BYTES] = "";
	size_t number = 0;
	char *line;
	gzFile file;
	int rc;

	memset(out, 0, sizeof(*out));
	snprintf(out->source, sizeof(out->source), "%s", path);
	errno = 0;
	file = gzopen(path, "rb");
	if (file == NULL) {
		rc = errno != 0 ? -errno : -ENOMEM;
		snprintf(error, FAR_TRACE_ERROR_BYTES, "%.300s: cannot be read: %s", path,
			 strerror(-rc));
		return rc;
	}
	(void)gzbuffer(file, 1U << 18);
	line = far_zalloc(FAR_TRACE_LINE_MAX);
	rc = line == NULL ? -ENOMEM : load_lines(file, requests_max, out, line, &number, cause);
	far_free(line);
	(void)gzclose_r(file);
	if (rc < 0)
		snprintf(error, FAR_TRACE_ERROR_BYTES, "%.240s:%zu: %.240s", path, number,
			 cause[0] != '\0' ? cause : "no memory");
	if (rc == 0 && out->request_count == 0) {
		snprintf(error, FAR_TRACE_ERROR_BYTES,
			 "%.300s: holds no request: expected one JSON object a line", path);
		rc = -EINVAL;
	}
	if (rc < 0)
		far_trace_fini(out);
	return rc;
}

void
far_trace_fini(struct far_trace *trace)
{
	far_free(trace->requests);
	far_free(trace->ids);
	trace->requests = NULL;
	trace->ids = NULL;
	trace->request_count = 0;
	trace->id_count = 0;
	trace->request_capacity = 0;
	trace->id_capacity = 0;
}

/* ---- what perfect memory would hit ---- */

/* Adds to an open-addressing set of ids; true if it was new. 0 marks an empty place. */
static bool
set_add(uint64_t *set, size_t mask, uint64_t id)
{
	size_t at = far_mix64(id) & mask;

	while (set[at] != 0) {
		if (set[at] == id + 1)
			return false;
		at = (at + 1) & mask;
	}
	set[at] = id + 1;
	return true;
}

static bool
set_has(const uint64_t *set, size_t mask, uint64_t id)
{
	size_t at = far_mix64(id) & mask;

	while (set[at] != 0) {
		if (set[at] == id + 1)
			return true;
		at = (at + 1) & mask;
	}
	return false;
}

int
far_trace_summarise(const struct far_trace *trace, struct far_trace_summary *out)
{
	size_t capacity = 64;
	uint64_t *set;

	while (capacity < trace->id_count * 2)
		capacity *= 2;
	set = far_zalloc_array(capacity, sizeof(*set));
	if (set == NULL)
		return -ENOMEM;
	memset(out, 0, sizeof(*out));
	for (size_t r = 0; r < trace->request_count; r++) {
		const struct far_trace_request *request = &trace->requests[r];
		const uint64_t *ids = &trace->ids[request->first];
		uint32_t prefix = 0;

		while (prefix < request->count && set_has(set, capacity - 1, ids[prefix]))
			prefix++;
		for (uint32_t i = prefix; i < request->count; i++)
			out->distinct += set_add(set, capacity - 1, ids[i]);
		out->references += request->count;
		out->prefix_hits += prefix;
		if (request->count > out->request_blocks_max)
			out->request_blocks_max = request->count;
	}
	far_free(set);
	return 0;
}
