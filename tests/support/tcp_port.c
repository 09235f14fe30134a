/* tcp_port.c - ports below those that the kernel hands out. */
#include "tests/support/tcp_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_MIN     10000U
#define HANDED_OUT   32768U /* from here on, where the kernel does not say */
#define PROCESS_STEP 97U    /* tests that run at the same time begin at different ones */

static unsigned
handed_out_from(void)
{
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	char line[32] = "";
	unsigned long first;

	if (file == NULL)
		return HANDED_OUT;
	first = fgets(line, sizeof(line), file) != NULL ? strtoul(line, NULL, 10) : 0;
	(void)fclose(file);
	return first > PORT_MIN && first <= UINT16_MAX ? (unsigned)first : HANDED_OUT;
}

static bool
is_free(unsigned port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool bound;

	if (fd < 0)
		return false;
	bound = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0;
	(void)close(fd);
	return bound;
}

unsigned
far_test_tcp_port(void)
{
	static unsigned tried;
	unsigned span = handed_out_from() - PORT_MIN;

	for (unsigned i = 0; i < span; i++) {
		unsigned port = PORT_MIN + ((unsigned)getpid() * PROCESS_STEP + tried++) % span;

		if (is_free(port))
			return port;
	}
	return 0;
}
