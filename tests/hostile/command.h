/*
 * Functions that do what their input says.
 */

#ifndef COMMAND_H
#define COMMAND_H

#include "lwc_function.h"

static int
is(const lwc_invocation *inv, const char *command)
{
	size_t n = strlen(command);

	return (inv->input_len >= n && memcmp(inv->input, command, n) == 0);
}

static int
say(lwc_invocation *inv, const char *text)
{

	return (lwc_append(inv, text, strlen(text)));
}

#endif
