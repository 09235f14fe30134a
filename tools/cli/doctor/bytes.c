/* bytes.c - blocks stored at a donor, read back past L1 and compared: how fast, and at whose cost. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "farpool/memory.h"
#include "tools/cli/doctor/trip.h"
#include "tools/cli/fill.h"

#define L1_SIZE     "32MiB"
#define SIZES       ((size_t)3)
#define ROUNDS      ((size_t)7) /* medians of so many */
#define BUFFER_SIZE (1U << 20)
#define LISTED_MAX  64U
#define POISON      0xA5
#define CLOSE_NS    (2 * FAR_NS_PER_S)

static const uint32_t sizes[SIZES] = {4096, 65536, BUFFER_SIZE};
static const char *const size_names[SIZES] = {"4 KiB", "64 KiB", "1 MiB"};

struct bytes {
	const struct far_doctor_trip *trip;
	const struct far_address *address;
	struct far_doctor_report *report;
	struct far_client *client;
	struct far_memory *memory;
	uint8_t *buffer; /* owned: BUFFER_SIZE, registered for reads */
	uint8_t *source; /* owned: BUFFER_SIZE */
	struct far_key keys[SIZES][ROUNDS];
	size_t stored; /* of them, in the order of their storing */
	uint64_t reads;
	uint64_t read_ns; /* all of them together */
};

static uint64_t
deadline_of(const struct bytes *bytes)
{
	return far_now_ns() + bytes->trip->timeout_ns;
}

static int
u64_compare(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

static uint64_t
median(uint64_t *values, size_t count)
{
	qsort(values, count, sizeof(*values), u64_compare);
	return values[count / 2];
}

/* "4 KiB 8.1 us, 64 KiB 22 us, 1 MiB 210 us" */
static void
times_format(uint64_t times[SIZES][ROUNDS], char *out, size_t out_bytes)
{
	out[0] = '\0';
	for (size_t i = 0; i < SIZES; i++) {
		size_t used = strlen(out);
		char text[FAR_DOCTOR_TIME_TEXT];

		(void)snprintf(out + used, out_bytes - used, "%s%s %s%s", i > 0 ? ", " : "",
			       size_names[i], far_doctor_time(median(times[i], ROUNDS), text),
			       i + 1 == SIZES ? " (medians)" : "");
	}
}

/* Where small things pass and large ones are lost: a switch, or the peer, has a smaller MTU. */
static void
mtu_fix(struct bytes *bytes, int rc)
{
	if ((rc != -ETIMEDOUT && rc != -EHOSTDOWN) || strcmp(bytes->address->scheme, "shm") == 0)
		return;
	far_doctor_more(bytes->report,
			"where small packets arrive and large ones do not, the MTU is "
			"smaller on the way");
	far_doctor_fix(bytes->report, "ping -M do -s 8972 HOST    (MTU 9000; -s 4072: 4100)");
}

/* ---- a client with one donor ---- */

static int
config_make(const struct bytes *bytes, const struct far_doctor_peer *peer,
	    struct far_client_config *config, char error[FAR_PARAM_ERROR_BYTES])
{
	const struct far_client_config *given = bytes->trip->config;
	int rc;

	memset(config, 0, sizeof(*config));
	far_param_defaults(&far_client_params, config);
	rc = far_param_set(&far_client_params, config, "l1.size", L1_SIZE, error);
	if (rc == 0)
		rc = far_param_set(&far_client_params, config, "transport", bytes->address->scheme,
				   error);
	if (rc < 0)
		return rc;
	(void)snprintf(config->name, sizeof(config->name), "farpool doctor");
	/* What decides whether, and how, a donor is reached. Policies of whoever uses the
	 * configuration are not: each block is to be stored. */
	memcpy(config->name_space, given->name_space, sizeof(config->name_space));
	config->trust = given->trust;
	config->rdma = given->rdma;
	config->busy_poll_ns = given->busy_poll_ns;
	config->message_credits = given->message_credits;
	config->connect_timeout_ns = bytes->trip->timeout_ns;
	config->donors = far_zalloc_array(1, sizeof(*config->donors));
	if (config->donors == NULL)
		return -ENOMEM;
	config->donor_count = 1;
	config->donors[0].weight = 1;
	(void)snprintf(config->donors[0].name, sizeof(config->donors[0].name), "%s", peer->name);
	(void)snprintf(config->donors[0].address, sizeof(config->donors[0].address), "%s",
		       bytes->address->text);
	return far_client_config_check(config, error);
}

static bool
client_check(struct bytes *bytes, const struct far_doctor_peer *peer)
{
	char error[FAR_PARAM_ERROR_BYTES] = "";
	struct far_client_config config;
	int rc = config_make(bytes, peer, &config, error);

	if (rc == 0)
		rc = far_client_open_config(&config, &bytes->client, error);
	else
		far_client_config_fini(&config);
	if (rc < 0) {
		far_doctor_add(bytes->report, FAR_DOCTOR_FAIL, "client", "%s",
			       error[0] != '\0' ? error : strerror(-rc));
		far_doctor_log_add(bytes->report);
		far_doctor_fix(bytes->report, "see the checks above");
		return false;
	}
	rc = far_client_wait_donors(bytes->client, deadline_of(bytes), error, sizeof(error));
	if (rc == 0)
		return true;
	far_doctor_add(bytes->report, FAR_DOCTOR_FAIL, "index", "%s", error);
	far_doctor_fix(bytes->report, "on the donor's host: pgrep -a farpoold, and its log");
	mtu_fix(bytes, rc);
	return false;
}

static bool
buffer_check(struct bytes *bytes)
{
	int rc = far_memory_register(bytes->client, bytes->buffer, BUFFER_SIZE, "host",
				     deadline_of(bytes), &bytes->memory);

	if (rc == 0)
		return true;
	far_doctor_add(bytes->report, FAR_DOCTOR_FAIL, "registration",
		       "1 MiB cannot be registered for reads: %s", strerror(-rc));
	far_doctor_log_add(bytes->report);
	far_doctor_fix(bytes->report, "ulimit -l unlimited    (see locked memory above)");
	return false;
}

/* ---- reads ---- */

/* Reads one block. Returns its result; -EBUSY: the buffer may still be written, and is used no more. */
static int
block_read(struct bytes *bytes, const struct far_key *key, uint32_t size_bytes, uint64_t *ns_out)
{
	struct far_load_piece piece = {.addr = bytes->buffer, .size_bytes = size_bytes};
	struct far_load_key wanted = {.key = *key, .pieces = &piece, .piece_count = 1};
	uint64_t begin_ns, deadline_ns = deadline_of(bytes);
	struct far_load *load;
	int rc;

	memset(bytes->buffer, POISON, size_bytes);
	begin_ns = far_now_ns();
	rc = far_load(bytes->client, &wanted, 1, deadline_ns, &load);
	if (rc < 0)
		return rc;
	(void)far_load_wait(load, deadline_ns + CLOSE_NS);
	*ns_out = far_now_ns() - begin_ns;
	rc = far_load_result(load, 0);
	bytes->reads++;
	bytes->read_ns += *ns_out;
	if (far_load_release(load, far_now_ns() + CLOSE_NS) != 0)
		return -EBUSY;
	return rc;
}

static void
read_failed(struct bytes *bytes, const char *name, int rc)
{
	far_doctor_add(bytes->report, FAR_DOCTOR_FAIL, name, "%s",
		       rc == -ETIMEDOUT || rc == -EBUSY ? "no answer in time"
		       : rc == -EHOSTDOWN               ? "the donor went away meanwhile"
		       : rc == -ENOENT ? "the donor does not have it any more: it evicts"
				       : strerror(-rc));
	far_doctor_log_add(bytes->report);
	if (rc == -ENOENT)
		far_doctor_fix(bytes->report, "lend more: memory: in the donor's configuration");
	else
		far_doctor_fix(bytes->report,
			       "on the donor's host: pgrep -a farpoold, and its log");
	mtu_fix(bytes, rc);
}

/* A key that nobody has: what is read is the index. */
static bool
index_check(struct bytes *bytes)
{
	uint64_t times[ROUNDS];
	char text[FAR_DOCTOR_TIME_TEXT];

	for (size_t i = 0; i < ROUNDS; i++) {
		struct far_key key;
		int rc;

		far_random_bytes(&key, sizeof(key));
		rc = block_read(bytes, &key, sizes[0], &times[i]);
		if (rc != -ENOENT) {
			read_failed(bytes, "index", rc == 0 ? -EIO : rc);
			return false;
		}
	}
	far_doctor_add(bytes->report, FAR_DOCTOR_OK, "index",
		       "read; a key that is not there is known to be missing in %s",
		       far_doctor_time(median(times, ROUNDS), text));
	return true;
}

/* ---- storing ---- */

static int
block_store(struct bytes *bytes, const struct far_key *key, uint32_t size_bytes, uint64_t *ns_out)
{
	struct far_flush_result before = {.size_bytes = sizeof(before)};
	struct far_flush_result after = {.size_bytes = sizeof(after)};
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	uint64_t begin_ns;
	int rc = far_flush(bytes->client, deadline_of(bytes), &before);

	if (rc < 0)
		return rc;
	far_fill_block(key, bytes->source, size_bytes);
	begin_ns = far_now_ns();
	rc = far_put(bytes->client, key, bytes->source, size_bytes);
	if (rc == 0)
		rc = far_flush(bytes->client, deadline_of(bytes), &after);
	*ns_out = far_now_ns() - begin_ns;
	if (rc < 0)
		return rc;
	if (after.stored > before.stored)
		return 0;
	/* It has no room, or it is out of reach. */
	(void)far_donor_status_get(bytes->client, 0, deadline_of(bytes), &status);
	return strcmp(status.state, "up") == 0 && status.times_down == 0 ? -ENOSPC : -EHOSTDOWN;
}

static bool
store_check(struct bytes *bytes)
{
	uint64_t times[SIZES][ROUNDS];
	char text[128];
	int rc = 0;

	for (size_t i = 0; i < SIZES * ROUNDS && rc == 0; i++) {
		struct far_key *key = &bytes->keys[i / ROUNDS][i % ROUNDS];

		far_random_bytes(key, sizeof(*key));
		rc = block_store(bytes, key, sizes[i / ROUNDS], &times[i / ROUNDS][i % ROUNDS]);
		bytes->stored += rc == 0;
	}
	if (rc == 0) {
		times_format(times, text, sizeof(text));
		far_doctor_add(bytes->report, FAR_DOCTOR_OK, "store", "%s", text);
		return true;
	}
	if (rc == -ENOSPC) {
		far_doctor_add(bytes->report, FAR_DOCTOR_FAIL, "store",
			       "the donor took no block: it "
			       "is full, or its lanes are "
			       "smaller than the block");
		far_doctor_fix(bytes->report, "farpool status    (free_bytes, lanes_free, "
					      "grants_full); or --read-only");
	} else {
		far_doctor_add(bytes->report, FAR_DOCTOR_FAIL, "store", "%s",
			       rc == -ETIMEDOUT   ? "the donor did not confirm it in time"
			       : rc == -EHOSTDOWN ? "the connection broke"
						  : strerror(-rc));
		far_doctor_fix(bytes->report,
			       "on the donor's host: pgrep -a farpoold, and its log");
		mtu_fix(bytes, rc);
	}
	far_doctor_log_add(bytes->report);
	return false;
}

/* ---- reading back ---- */

static bool
stored_read(struct bytes *bytes)
{
	uint64_t times[SIZES][ROUNDS];
	char text[128];

	for (size_t i = 0; i < SIZES * ROUNDS; i++) {
		const struct far_key *key = &bytes->keys[i / ROUNDS][i % ROUNDS];
		uint32_t size_bytes = sizes[i / ROUNDS];
		int rc = block_read(bytes, key, size_bytes, &times[i / ROUNDS][i % ROUNDS]);
		size_t wrong = rc == 0 ? far_fill_check(key, bytes->buffer, size_bytes) : 0;

		if (rc < 0) {
			read_failed(bytes, "read", rc);
			return false;
		}
		if (wrong > 0) {
			far_doctor_add(bytes->report, FAR_DOCTOR_FAIL, "read",
				       "%zu of %" PRIu32 " bytes are wrong", wrong, size_bytes);
			far_doctor_fix(bytes->report,
				       "use this path no more: dmesg, ethtool -S and "
				       "memory tests on both hosts; report it");
			return false;
		}
	}
	times_format(times, text, sizeof(text));
	far_doctor_add(bytes->report, FAR_DOCTOR_OK, "read", "%s", text);
	far_doctor_more(bytes->report, "every byte is what was stored");
	return true;
}

/* Without storing: some of what others stored. That it is one whole block is proved by the read. */
static bool
others_read(struct bytes *bytes)
{
	static struct far_listed listed[LISTED_MAX];
	uint64_t cursor = 0, total = 0, ns;
	size_t count = 0, read = 0;
	int rc =
		far_list(bytes->client, 0, &cursor, listed, LISTED_MAX, &count, deadline_of(bytes));

	if (rc < 0) {
		read_failed(bytes, "list", rc);
		return false;
	}
	for (size_t i = 0; i < count && read < ROUNDS; i++) {
		if (listed[i].block_bytes > BUFFER_SIZE)
			continue;
		rc = block_read(bytes, &listed[i].key, listed[i].block_bytes, &ns);
		if (rc == -ENOENT || rc == -ESTALE)
			continue; /* evicted meanwhile */
		if (rc < 0) {
			read_failed(bytes, "read", rc);
			return false;
		}
		total += listed[i].block_bytes;
		read++;
	}
	if (read == 0)
		far_doctor_add(bytes->report, FAR_DOCTOR_NONE, "read",
			       "it holds no block that could be read: only the index was");
	else
		far_doctor_add(bytes->report, FAR_DOCTOR_OK, "read",
			       "%zu blocks that it held, %" PRIu64 " bytes", read, total);
	return true;
}

/* ---- how ---- */

static bool
cpu_between(const struct far_donor_status *before, const struct far_donor_status *after,
	    uint64_t *ns_out)
{
	if (before->donor_value_count <= FAR_STATUS_cpu_ns ||
	    after->donor_value_count <= FAR_STATUS_cpu_ns)
		return false;
	*ns_out = after->donor_values[FAR_STATUS_cpu_ns] - before->donor_values[FAR_STATUS_cpu_ns];
	return true;
}

/* What the donor's process did while blocks were read, and in as much time without. Its own work for
 * other clients, and for being asked, is in both. */
static void
cost_add(struct bytes *bytes, const struct far_donor_status *before,
	 const struct far_donor_status *after)
{
	struct far_donor_status control = {.size_bytes = sizeof(control)};
	uint64_t busy_ns = 0, idle_ns = 0;
	char busy[FAR_DOCTOR_TIME_TEXT], idle[FAR_DOCTOR_TIME_TEXT];
	uint64_t messages = after->messages_sent - before->messages_sent;
	uint64_t rest_ns = bytes->read_ns < FAR_NS_PER_S ? bytes->read_ns : FAR_NS_PER_S;

	/* The second question for its counters is one itself. Over TCP all else is, below them. */
	messages -= messages > 0;
	if (after->one_sided != 0)
		far_doctor_more(bytes->report, "messages during %" PRIu64 " reads: %" PRIu64 "%s",
				bytes->reads, messages,
				messages > 0 ? ", about which blocks were used" : "");
	(void)poll(NULL, 0, (int)(rest_ns / FAR_NS_PER_MS) + 1);
	if (far_donor_status_get(bytes->client, 0, deadline_of(bytes), &control) < 0 ||
	    !cpu_between(before, after, &busy_ns) || !cpu_between(after, &control, &idle_ns))
		return;
	far_doctor_more(bytes->report,
			"CPU time of the donor's process: %s during %" PRIu64 " reads, %s in as "
			"much time without",
			far_doctor_time(busy_ns, busy), bytes->reads,
			far_doctor_time(idle_ns, idle));
}

static void
path_check(struct bytes *bytes, const struct far_donor_status *before)
{
	struct far_donor_status after = {.size_bytes = sizeof(after)};
	bool rdma = far_doctor_rdma_count(bytes->trip->host) > 0;
	int rc = far_donor_status_get(bytes->client, 0, deadline_of(bytes), &after);

	if (rc < 0 || strcmp(after.state, "up") != 0) {
		far_doctor_add(bytes->report, FAR_DOCTOR_FAIL, "path", "the donor went away: %s",
			       rc == 0 ? after.text : strerror(-rc));
		far_doctor_fix(bytes->report, "see the donor's log");
		return;
	}
	if (after.one_sided != 0) {
		far_doctor_add(bytes->report, FAR_DOCTOR_OK, "path",
			       "one-sided over %s: reads cost "
			       "the donor's process nothing",
			       after.transport);
	} else {
		far_doctor_add(bytes->report, FAR_DOCTOR_OK, "path",
			       "served over %s, by TCP: each "
			       "read is work for the donor's "
			       "process",
			       after.transport);
		if (rdma) {
			far_doctor_worsen(bytes->report, FAR_DOCTOR_WARN);
			far_doctor_more(bytes->report,
					"this host has RDMA devices, and they are not "
					"used for it");
			far_doctor_fix(bytes->report,
				       "let the donor listen at verbs:HOST:PORT too, and use that");
		}
	}
	if (bytes->reads > 0)
		cost_add(bytes, before, &after);
}

/* ---- all of it ---- */

static void
tidy_up(struct bytes *bytes)
{
	size_t left = 0;

	for (size_t i = 0; i < bytes->stored; i++) {
		int rc = far_delete(bytes->client, &bytes->keys[i / ROUNDS][i % ROUNDS],
				    deadline_of(bytes));

		left += rc != 0 && rc != -ENOENT;
		/* One that does not answer is not asked for each of them. */
		if (rc == -ETIMEDOUT || rc == -EHOSTDOWN) {
			left = bytes->stored - i;
			break;
		}
	}
	if (left > 0)
		far_doctor_add(bytes->report, FAR_DOCTOR_WARN, "tidying up",
			       "%zu blocks of this trial stay at the donor until it evicts them",
			       left);
}

static void
steps_run(struct bytes *bytes, const struct far_doctor_peer *peer)
{
	struct far_donor_status before = {.size_bytes = sizeof(before)};
	bool good;

	if (!client_check(bytes, peer) || !buffer_check(bytes) || !index_check(bytes))
		return;
	good = bytes->trip->read_only || store_check(bytes);
	if (good) {
		(void)far_donor_status_get(bytes->client, 0, deadline_of(bytes), &before);
		bytes->reads = 0;
		bytes->read_ns = 0;
		good = bytes->trip->read_only ? others_read(bytes) : stored_read(bytes);
	}
	if (good)
		path_check(bytes, &before);
	tidy_up(bytes);
}

void
far_doctor_bytes(const struct far_doctor_trip *trip, const struct far_address *address,
		 const struct far_doctor_peer *peer, struct far_doctor_report *report)
{
	struct bytes bytes = {.trip = trip, .address = address, .report = report};

	bytes.buffer = far_zalloc(BUFFER_SIZE);
	bytes.source = far_zalloc(BUFFER_SIZE);
	if (bytes.buffer == NULL || bytes.source == NULL) {
		far_doctor_add(report, FAR_DOCTOR_FAIL, "memory", "there are no 2 MiB left");
		far_doctor_fix(report, "free -m");
	} else {
		steps_run(&bytes, peer);
	}
	/* The buffer is written by nobody once the client is closed: else it stays. */
	if (bytes.client == NULL || far_client_try_close(bytes.client) == 0)
		far_free(bytes.buffer);
	else
		far_client_close(bytes.client);
	far_free(bytes.source);
}
