/*
 * A function that switches to whomever it can name, lies about its time, and
 * takes long.  The tests in orchestrator/tests/relay.rs run it.
 */

#define _GNU_SOURCE
#include "lwc_function.h"
#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#ifdef __FreeBSD__
#include <sys/param.h>
#include <sys/module.h>

static int lw_switch, lw_discard, lw_control;

/* Sandboxes come later: until then the module says what its numbers are. */
static int
number(const char *name)
{
	struct module_stat st;

	st.version = sizeof(st);
	if (modstat(modfind(name), &st) != 0)
		return (0);
	return (st.data.intval);
}
#endif

LWC_INIT(switcher)
{

	(void)setup;
#ifdef __FreeBSD__
	lw_switch = number("sys/lwSwitch");
	lw_discard = number("sys/lwDiscardSwitch");
	lw_control = number("sys/lwControl");
#endif
	return (0);
}

/* Where the root looks for the time, on the page that has the identity. */
#define	BEGAN	1184

LWC_HANDLER(switcher)
{
	uint64_t now = inv->calls->now(inv->host);
	char text[256];

	/* What goes to the next in the chain. */
	if (is(inv, "keep "))
		return (lwc_append(inv, inv->input + 5, inv->input_len - 5));
	(void)snprintf(text, sizeof(text), "%.*s", (int)inv->input_len,
	    (const char *)inv->input);
	if (is(inv, "spin ")) {
		uint64_t end = now + strtoull(text + 5, NULL, 10) * 1000000;

		while (inv->calls->now(inv->host) < end)
			;
		return (say(inv, "keep keep fine"));
	}
	if (is(inv, "sleep ")) {
		long ms = strtol(text + 6, NULL, 10);
		struct timespec left;

		left.tv_sec = ms / 1000;
		left.tv_nsec = ms % 1000 * 1000000;
		/* The root, looking in, may wake it. */
		while (nanosleep(&left, &left) != 0)
			if (errno != EINTR)
				return (lwc_fail(inv, errno, "nanosleep"));
		now = inv->calls->now(inv->host) - now;
		/* What is left is told by a coarse clock. */
		if (now < (uint64_t)(ms - 50) * 1000000)
			return (lwc_fail(inv, 500, "slept %ju ms",
			    (uintmax_t)now / 1000000));
		return (say(inv, "keep keep fine"));
	}
	if (is(inv, "lie and loop")) {
		uintptr_t page = (uintptr_t)inv->id & ~(uintptr_t)4095;

		for (;;)
			*(volatile uint64_t *)(page + BEGAN) =
			    inv->calls->now(inv->host);
	}
	if (is(inv, "type ")) {
		lwc_reply_type(inv, text + 5);
		return (say(inv, "keep tell type"));
	}
	if (is(inv, "tell type"))
		return (say(inv, inv->input_type));
	if (is(inv, "attribute")) {
		/* The second is for HTTP alone, and goes no further. */
		if (lwc_reply_attribute(inv, "x-one", "1") != 0 ||
		    lwc_reply_attribute(inv, ":status", "201") != 0)
			return (lwc_fail(inv, 500, "no attribute"));
		return (say(inv, is(inv, "attribute then keep") ?
		    "keep tell attributes" : "tell attributes"));
	}
	if (is(inv, "tell attributes")) {
		const char *name, *value;
		size_t i;

		(void)say(inv, "keep has:");
		for (i = 0; (value = inv->calls->attribute(inv->host, i,
		    &name)) != NULL; i++) {
			(void)snprintf(text, sizeof(text), " %s=%s", name,
			    value);
			(void)say(inv, text);
		}
		return (0);
	}
#ifdef __FreeBSD__
	if (is(inv, "switch ")) {
		char *rest;
		uint64_t word;
		long fd;

		fd = strtol(text + 7, &rest, 10);
		word = strtoull(rest, NULL, 10);
		if (syscall(lw_switch, fd, &word, 1L, NULL, NULL, NULL) == -1)
			return (lwc_fail(inv, errno, "lwSwitch"));
		return (say(inv, "back"));
	}
	if (is(inv, "discard ")) {
		(void)syscall(lw_discard, strtol(text + 8, NULL, 10), NULL,
		    0L);
		return (lwc_fail(inv, errno, "lwDiscardSwitch"));
	}
	if (is(inv, "introduce")) {
		long a, b;

		/* Everybody to everybody. */
		for (a = 0; a < 64; a++)
			for (b = 0; b < 64; b++)
				(void)syscall(lw_control, a, 3L, b);
		return (say(inv, "keep keep fine"));
	}
#endif
	if (is(inv, "forge")) {
		/* The header for the next function is around the bytes of the answer. */
		memset(inv->output - 256, 0xff, 256);
		memset(inv->output + inv->output_capacity, 0xff, 8192);
#ifdef __FreeBSD__
		/* And past the host, which would write the length anew. */
		if (is(inv, "forge "))
			(void)syscall(lw_switch, strtol(text + 6, NULL, 10),
			    NULL, 0L, NULL, NULL, NULL);
#endif
		return (0);
	}
	return (say(inv, "fine"));
}
