/*
 * Hands its input to "f" and then to "g", appends what they answer, and then what it
 * can read of the file "c".  For orchestrator/tests/reach/files.rs.
 */

#define _GNU_SOURCE
#include "lwc_function.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

LWC_HANDLER(ask)
{
	static const char *const names[] = { "f", "g" };
	lwc_reply reply;
	char text[8] = "[";
	ssize_t n;
	int fd;

	for (size_t i = 0; i < 2; i++) {
		if (lwc_call(inv, names[i], inv->input, inv->input_len,
		    &reply) != 0)
			return (LWC_UNHANDLED);
		lwc_append(inv, reply.data, reply.len);
	}
	fd = open("c", O_RDONLY);
	n = fd < 0 ? -1 : read(fd, text + 1, 1);
	text[n == 1 ? 2 : 1] = ']';
	lwc_append(inv, text, strlen(text));
	return (0);
}
