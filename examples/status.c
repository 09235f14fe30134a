/* status.c - the counters of a client and the state of its donors; opened from a struct. */
#include <farpool/farpool.h>

#include <stdio.h>

#define SECOND 1000000000ULL

int
main(int argc, char **argv)
{
	struct far_donor_options donor = {.size_bytes = sizeof(donor), .weight = 1};
	struct far_client_options options = {
		.size_bytes = sizeof(options),
		.name = "example",
		.l1_bytes = 16u << 20,
		.donors = &donor,
		.donor_count = 1,
	};
	struct far_donor_status status = {.size_bytes = sizeof(status)};
	struct far_stats stats = {.size_bytes = sizeof(stats)};
	struct far_client *client;
	char error[512];
	int rc;

	if (argc != 3) {
		fprintf(stderr, "usage: example-status NAME ADDRESS\n");
		return 2;
	}
	donor.name = argv[1];
	donor.address = argv[2];
	rc = far_client_open(&options, &client);
	if (rc < 0) {
		fprintf(stderr, "%s\n", far_strerror(rc));
		return 1;
	}
	rc = far_client_wait_donors(client, far_now_ns() + 5 * SECOND, error, sizeof(error));
	if (rc < 0)
		fprintf(stderr, "%s\n", error);
	if (far_donor_status_get(client, 0, far_now_ns() + SECOND, &status) == 0)
		printf("%s is %s (%s), one-sided %u, %llu counters\n", status.name, status.state,
		       status.text, status.one_sided, (unsigned long long)status.donor_value_count);
	far_stats_get(client, &stats);
	printf("farpool %s: L1 %llu of %llu bytes used, %llu messages sent\n", far_version(),
	       (unsigned long long)stats.l1_used_bytes, (unsigned long long)stats.l1_capacity_bytes,
	       (unsigned long long)stats.messages_sent);
	far_client_close(client);
	return rc < 0;
}
