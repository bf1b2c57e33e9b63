/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The handler of a program that knows nothing of functions: it calls main()
 * with the input on stdin, and takes what is written to stdout for the answer,
 * what is written to stderr for lines of the log.  Exit codes other than 0 are
 * errors, with the last of what stderr was told.
 *
 * A function has no descriptors, so the streams end here: stdin, stdout and
 * stderr are others, the program's own calls of read(), write() and exit() are
 * linked with those below (--wrap), and C++'s streams are handed on to stdio.
 * One invocation is one run: whatever it leaves behind is rolled back.
 */

#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "lwc_function.h"
#include "lwc_program.h"

extern int main(int, char **, char **);

/* Of C++ programs alone. */
extern void lwc_program_streams(void) __attribute__((weak));

ssize_t __real_read(int, void *, size_t);
ssize_t __real_write(int, const void *, size_t);
void __real_exit(int) __attribute__((noreturn));
ssize_t __wrap_read(int, void *, size_t);
ssize_t __wrap___read_chk(int, void *, size_t, size_t);
ssize_t __wrap_write(int, const void *, size_t);
void __wrap_exit(int) __attribute__((noreturn));
void __wrap__exit(int) __attribute__((noreturn));
void __wrap__Exit(int) __attribute__((noreturn));

/* The run; NULL: none, as while constructors run, and after its end: what is
 * written then goes nowhere. */
static lwc_invocation *run;
static size_t taken;
static int code;
static jmp_buf end;
/* The last line that stderr was told, which may go on; and the one before. */
static char line[512], last[160];
static size_t line_len;

static ssize_t
take(void *to, size_t len)
{
	size_t left = run == NULL ? 0 : run->input_len - taken;

	if (len > left)
		len = left;
	if (len > 0)
		memcpy(to, run->input + taken, len);
	taken += len;
	return ((ssize_t)len);
}

static ssize_t
answer(const void *from, size_t len)
{
	if (run == NULL)
		return ((ssize_t)len);
	if (lwc_append(run, from, len) != 0) {
		errno = ENOSPC;
		return (-1);
	}
	return ((ssize_t)len);
}

static void
end_line(void)
{
	if (line_len == 0)
		return;
	lwc_log(run, LWC_INFO, "%.*s", (int)line_len, line);
	snprintf(last, sizeof(last), "%.*s", (int)line_len, line);
	line_len = 0;
}

static ssize_t
complain(const void *from, size_t len)
{
	const char *text = from;

	for (size_t i = 0; run != NULL && i < len; i++) {
		if (text[i] != '\n' && line_len < sizeof(line))
			line[line_len++] = text[i];
		if (text[i] == '\n' || line_len == sizeof(line))
			end_line();
	}
	return ((ssize_t)len);
}

/* Streams: of C, as the GNU and FreeBSD C libraries let one make them. */

#ifdef __GLIBC__
typedef size_t amount;
typedef ssize_t result;
#else
typedef int amount;
typedef int result;
#endif

static result
from_input(void *cookie, char *to, amount len)
{
	(void)cookie;
	return ((result)take(to, (size_t)len));
}

static result
to_answer(void *cookie, const char *from, amount len)
{
	(void)cookie;
	/* In glibc nothing written means an error, and a negative number is none. */
	return ((result)(answer(from, (size_t)len) < 0 ? 0 : (ssize_t)len));
}

static result
to_log(void *cookie, const char *from, amount len)
{
	(void)cookie;
	return ((result)complain(from, (size_t)len));
}

static FILE *
stream(int number)
{
#ifdef __GLIBC__
	cookie_io_functions_t calls = { .read = number == 0 ? from_input : NULL,
		.write = number == 1 ? to_answer : number == 2 ? to_log : NULL };

	return (fopencookie(NULL, number == 0 ? "r" : "w", calls));
#else
	return (funopen(NULL, number == 0 ? from_input : NULL,
	    number == 1 ? to_answer : number == 2 ? to_log : NULL, NULL, NULL));
#endif
}

/* The program's own calls. */

ssize_t
__wrap_read(int fd, void *to, size_t len)
{
	return (run != NULL && fd == 0 ? take(to, len) : __real_read(fd, to, len));
}

ssize_t
__wrap___read_chk(int fd, void *to, size_t len, size_t room)
{
	if (len > room)
		abort();
	return (__wrap_read(fd, to, len));
}

ssize_t
__wrap_write(int fd, const void *from, size_t len)
{
	if (run == NULL || (fd != 1 && fd != 2))
		return (__real_write(fd, from, len));
	return (fd == 1 ? answer(from, len) : complain(from, len));
}

void
__wrap_exit(int status)
{
	if (run == NULL)
		__real_exit(status);
	fflush(stdout);
	__wrap__exit(status);
}

void
__wrap__exit(int status)
{
	if (run == NULL)
		__real_exit(status);
	code = status & 0xff;
	_longjmp(end, 1);
}

void
__wrap__Exit(int status)
{
	__wrap__exit(status);
}

/* The headers of the request that the file grants, as the classic watchdog of
 * OpenFaaS names them: x-tenant is Http_X_Tenant. */
static int
set_headers(void)
{
	char variable[160];
	const char *name, *value;

	for (size_t i = 0;
	    (value = run->calls->attribute(run->host, i, &name)) != NULL; i++) {
		size_t len = (size_t)snprintf(variable, sizeof(variable), "Http_%s", name);

		if (len >= sizeof(variable))
			continue;
		for (size_t c = 5; c < len; c++) {
			if (variable[c] == '-')
				variable[c] = '_';
			else if (variable[c - 1] == '_')
				variable[c] = (char)toupper((unsigned char)variable[c]);
		}
		if (setenv(variable, value, 1) != 0)
			return (-1);
	}
	return (0);
}

LWC_HANDLER(lwc_program)
{
	static char name[] = "program";
	char *arguments[] = { name, NULL }, *none[] = { NULL };

	run = inv;
	stdin = stream(0);
	stdout = stream(1);
	stderr = stream(2);
	if (stdin == NULL || stdout == NULL || stderr == NULL || set_headers() != 0)
		return (lwc_fail(inv, 500, "no memory for the streams of a program"));
	setvbuf(stderr, NULL, _IONBF, 0);
	if (lwc_program_streams != NULL)
		lwc_program_streams();
	if (_setjmp(end) == 0) {
		code = main(1, arguments, none) & 0xff;
		fflush(stdout);
	}
	end_line();
	run = NULL;
	if (code != 0) {
		inv->output_len = 0;
		return (lwc_fail(inv, code, "exited with status %d%s%s", code,
		    last[0] == 0 ? "" : ": ", last));
	}
	return (inv->status);
}

/* Calls of other functions. */

static char rpc_error[256];

const char *
lwc_rpc_error(void)
{
	return (rpc_error);
}

char *
make_rpc(const char *function, const char *text)
{
	lwc_reply reply;
	char *copy;

	rpc_error[0] = 0;
	if (run == NULL) {
		snprintf(rpc_error, sizeof(rpc_error), "no request is served");
		return (NULL);
	}
	if (lwc_call(run, function, text, strlen(text), &reply) != 0) {
		snprintf(rpc_error, sizeof(rpc_error), "%s: %s", reply.function,
		    reply.message);
		return (NULL);
	}
	copy = malloc(reply.len + 1);
	if (copy == NULL) {
		snprintf(rpc_error, sizeof(rpc_error), "no memory for the answer");
		return (NULL);
	}
	memcpy(copy, reply.data, reply.len);
	copy[reply.len] = 0;
	return (copy);
}
