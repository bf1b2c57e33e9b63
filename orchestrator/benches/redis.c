/*
 * A function that asks Redis for a key, its input, by blocking sockets, as simple
 * clients do.  A thread's connection is kept as long as its memory is, or closed, if
 * REDIS_ONCE is there.  benches/redis.rs runs it, with and without contexts.
 */

#include "lwc_function.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Thread_local int kept = -1;

static int
reach(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	const char *port = getenv("REDIS_PORT");
	int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	at.sin_port = htons((unsigned short)atoi(port == NULL ? "6379" : port));
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
		close(fd);
		return (-1);
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return (fd);
}

LWC_HANDLER(get)
{
	char text[4096];
	size_t have = 0, len;
	const char *end;
	int n;

	if (kept < 0 && (kept = reach()) < 0)
		return (lwc_fail(inv, 502, "connect: errno %d", errno));
	n = snprintf(text, sizeof(text), "*2\r\n$3\r\nGET\r\n$%zu\r\n%.*s\r\n",
	    inv->input_len, (int)inv->input_len, (const char *)inv->input);
	if (send(kept, text, (size_t)n, MSG_NOSIGNAL) != n)
		return (lwc_fail(inv, 502, "send: errno %d", errno));
	/* "$LENGTH\r\n", so many bytes, "\r\n". */
	for (;;) {
		ssize_t more = recv(kept, text + have, sizeof(text) - 1 - have, 0);
		if (more <= 0)
			return (lwc_fail(inv, 502, "recv: errno %d", errno));
		have += (size_t)more;
		text[have] = '\0';
		if ((end = strstr(text, "\r\n")) == NULL)
			continue;
		len = strtoul(text + 1, NULL, 10);
		if (text[0] != '$' || len > sizeof(text) - 64)
			return (lwc_fail(inv, 502, "it says %.100s", text));
		if (have >= (size_t)(end + 2 - text) + len + 2)
			break;
	}
	if (getenv("REDIS_ONCE") != NULL) {
		close(kept);
		kept = -1;
	}
	return (lwc_append(inv, end + 2, len));
}
