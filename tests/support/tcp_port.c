/* tcp_port.c - ports below those that the kernel hands out. */
#include "tests/support/tcp_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_MIN     10000U
#define HANDED_OUT   32768U /* from here on, where the kernel does not say */
#define FDS_MAX      256    /* descriptors of a process that are looked at */
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

/* The local address of an inode's listening socket as /proc has it, "0100007F:1D2F"; "": it is none, or
 * this host has no such table. */
static void
listening_address(pid_t pid, const char *table, unsigned long inode, char out[48])
{
	char path[64], line[256];
	FILE *file;

	out[0] = '\0';
	(void)snprintf(path, sizeof(path), "/proc/%d/net/%s", (int)pid, table);
	file = fopen(path, "re");
	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL) {
		/* sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode */
		char *words[10] = {NULL}, *rest = line;
		size_t count = 0;

		while (count < 10 && (words[count] = strtok_r(rest, " \n", &rest)) != NULL)
			count++;
		if (count == 10 && strtoul(words[9], NULL, 10) == inode &&
		    strcmp(words[3], "0A") == 0)
			(void)snprintf(out, 48, "%.47s", words[1]);
	}
	(void)fclose(file);
}

unsigned
far_test_tcp_listens(pid_t pid, unsigned *ports, unsigned ports_max, unsigned *elsewhere)
{
	static const char *const tables[] = {"tcp", "tcp6"};
	unsigned count = 0;
	char here[16];

	*elsewhere = 0;
	(void)snprintf(here, sizeof(here), "%08X:", htonl(INADDR_LOOPBACK));
	for (int fd = 0; fd < FDS_MAX; fd++) {
		char path[64], target[64] = "", address[48];
		unsigned long inode;

		(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		if (readlink(path, target, sizeof(target) - 1) < 0 ||
		    strncmp(target, "socket:[", 8) != 0)
			continue;
		inode = strtoul(target + 8, NULL, 10);
		for (size_t i = 0; i < 2; i++) {
			listening_address(pid, tables[i], inode, address);
			if (address[0] == '\0')
				continue;
			if (strncmp(address, here, strlen(here)) != 0)
				(*elsewhere)++;
			if (count < ports_max)
				ports[count] =
					(unsigned)strtoul(strchr(address, ':') + 1, NULL, 16);
			count++;
		}
	}
	return count;
}
