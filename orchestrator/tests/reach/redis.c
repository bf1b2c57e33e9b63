/*
 * A client of a server that speaks the protocol of Redis, as simple ones are: blocking
 * sockets, a connection each time.  Its input is "GET KEY" or "SET KEY VALUE"; its
 * output what the server says.  The tests in connect.rs run it.
 */

#include "lwc_function.h"

#include <sys/socket.h>
#include <sys/types.h>

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
reach(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all, *one;
	int fd = -1;

	if (getaddrinfo(host, port, &hints, &all) != 0)
		return (-1);
	for (one = all; one != NULL; one = one->ai_next) {
		fd = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
		if (fd >= 0 && connect(fd, one->ai_addr, one->ai_addrlen) == 0)
			break;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(all);
	return (fd);
}

LWC_HANDLER(redis)
{
	char input[512], out[1024], in[1024], *word, *rest = input;
	const char *port = getenv("REDIS_PORT");
	int fd, count = 1, len = 0;
	size_t have = 0;
	FILE *stream;

	snprintf(input, sizeof(input), "%.*s", (int)inv->input_len,
	    (const char *)inv->input);
	for (const char *c = input; *c != '\0'; c++)
		count += *c == ' ';
	len = snprintf(out, sizeof(out), "*%d\r\n", count);
	while ((word = strsep(&rest, " ")) != NULL)
		len += snprintf(out + len, sizeof(out) - (size_t)len,
		    "$%zu\r\n%s\r\n", strlen(word), word);
	fd = reach("localhost", port == NULL ? "6379" : port);
	if (fd < 0)
		return (lwc_fail(inv, 502, "connect: errno %d", errno));
	stream = fdopen(fd, "r+");
	if (stream == NULL || fwrite(out, 1, (size_t)len, stream) != (size_t)len ||
	    fflush(stream) != 0 || fgets(in, sizeof(in), stream) == NULL)
		return (lwc_fail(inv, 502, "talk: errno %d", errno));
	if (in[0] == '$' && in[1] != '-') {
		have = (size_t)atoi(in + 1);
		if (have > sizeof(in) - 2 || fread(in, 1, have + 2, stream) != have + 2)
			return (lwc_fail(inv, 502, "answer: errno %d", errno));
	} else
		have = strcspn(in, "\r");
	lwc_append(inv, in, have);
	fclose(stream);
	return (0);
}
