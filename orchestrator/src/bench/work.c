/*
 * The functions that the benchmarks run, by every way of running one.
 */

#include "lwc_function.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

/* Answers with its input: reads and writes every byte. */
LWC_HANDLER(copy)
{

	memcpy(inv->output, inv->input, inv->input_len);
	inv->output_len = inv->input_len;
	return (0);
}

/* Pages of so many bytes at most, and so many of them: see work.rs. */
#define	PAGE	4096
#define	DIRTIED	10

static volatile unsigned char pages[PAGE * DIRTIED] = { 1 };

/* Writes to each page of some memory. */
LWC_HANDLER(dirty)
{

	for (size_t at = 0; at < sizeof(pages); at += PAGE)
		pages[at]++;
	inv->output_len = inv->input_len;
	return (0);
}

/* Answers with as many bytes as it got, and touches none of them. */
LWC_HANDLER(relay)
{

	inv->output_len = inv->input_len;
	return (0);
}

/*
 * Calls the last of these with as many bytes as it got, written in place, so
 * often as the first four of them say.
 */
LWC_HANDLER(call)
{
	lwc_reply reply;
	size_t room;
	uint8_t *arguments;
	uint32_t count;

	memcpy(&count, inv->input, sizeof(count));
	while (count-- > 0) {
		arguments = lwc_call_buffer(inv, "relay", &room);
		if (arguments == NULL || inv->input_len > room)
			return (lwc_fail(inv, 500, "no room for arguments"));
		if (lwc_call(inv, "relay", arguments, inv->input_len,
		    &reply) != 0)
			return (LWC_UNHANDLED);
		if (reply.len != inv->input_len)
			return (lwc_fail(inv, 500, "%zu bytes came back",
			    reply.len));
	}
	inv->output_len = inv->input_len;
	return (0);
}

/*
 * Opens the file of this name, which it is granted, or reads from it, so often as the
 * first four bytes of its input say; which of the two says the fifth.
 */
LWC_HANDLER(files)
{
	char bytes[16];
	uint32_t count;
	int fd = -1;

	memcpy(&count, inv->input, sizeof(count));
	if (inv->input[4] == 'r' && (fd = open("work.c", O_RDONLY)) < 0)
		return (lwc_fail(inv, 500, "open: errno %d", errno));
	while (count-- > 0) {
		if (inv->input[4] == 'r') {
			if (pread(fd, bytes, sizeof(bytes), 0) != sizeof(bytes))
				return (lwc_fail(inv, 500, "errno %d", errno));
			continue;
		}
		if ((fd = open("work.c", O_RDONLY)) < 0)
			return (lwc_fail(inv, 500, "errno %d", errno));
		close(fd);
	}
	if (inv->input[4] == 'r')
		close(fd);
	inv->output_len = inv->input_len;
	return (0);
}

/*
 * The same of the socket of this name, which it is granted: connects to it, or looks at
 * the byte that whoever listens there sends.
 */
LWC_HANDLER(connects)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "work.sock" };
	uint32_t count;
	char byte;
	int fd = -1;

	memcpy(&count, inv->input, sizeof(count));
	count += inv->input[4] == 'r';
	while (count-- > 0) {
		if (inv->input[4] == 'r' && fd >= 0) {
			if (recv(fd, &byte, 1, MSG_PEEK) != 1)
				return (lwc_fail(inv, 500, "recv: errno %d", errno));
			continue;
		}
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
			return (lwc_fail(inv, 500, "connect: errno %d", errno));
		if (inv->input[4] != 'r')
			close(fd);
	}
	if (inv->input[4] == 'r')
		close(fd);
	inv->output_len = inv->input_len;
	return (0);
}

static void *
nothing(void *arg)
{

	return (arg);
}

/* Makes a thread and waits for its end, so often as the first four bytes say. */
LWC_HANDLER(threads)
{
	pthread_t thread;
	uint32_t count;
	int error;

	memcpy(&count, inv->input, sizeof(count));
	while (count-- > 0) {
		if ((error = pthread_create(&thread, NULL, nothing, NULL)) != 0)
			return (lwc_fail(inv, 500, "pthread_create: errno %d", error));
		pthread_join(thread, NULL);
	}
	inv->output_len = inv->input_len;
	return (0);
}
