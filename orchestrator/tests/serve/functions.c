/*
 * Two functions whose answer tells whether it is right.  orchestrator/tests/
 * serve runs them as a chain, beside those of tests/hostile.
 */

#include "lwc_function.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Upper case. */
LWC_HANDLER(upper)
{
	for (size_t i = 0; i < inv->input_len; i++)
		inv->output[i] = (uint8_t)toupper(inv->input[i]);
	inv->output_len = inv->input_len;
	return (lwc_log(inv, LWC_DEBUG, "%zu bytes", inv->input_len), 0);
}

/* The last byte first. */
LWC_HANDLER(reverse)
{
	size_t n = inv->input_len;

	for (size_t i = 0; i < n; i++)
		inv->output[i] = inv->input[n - 1 - i];
	inv->output_len = n;
	return (0);
}

/* How often it has been called, and the process that it is in. */
LWC_HANDLER(whoami)
{
	static int calls;
	char text[64];
	int n = snprintf(text, sizeof(text), "%d %ld", ++calls,
	    (long)getpid());

	return (lwc_append(inv, text, (size_t)n));
}

static int
list_attributes(lwc_invocation *inv)
{
	const char *name, *value;
	size_t i;

	for (i = 0; (value = inv->calls->attribute(inv->host, i, &name)) !=
	    NULL; i++) {
		if (lwc_append(inv, name, strlen(name)) != 0 ||
		    lwc_append(inv, "=", 1) != 0 ||
		    lwc_append(inv, value, strlen(value)) != 0 ||
		    lwc_append(inv, "\n", 1) != 0)
			return (inv->status);
	}
	return (0);
}

/*
 * Says what its input's lines say: NAME=VALUE, of which `:status` is a number.
 * It writes a body in any case.
 */
LWC_HANDLER(says)
{
	static char text[4096];
	char *line, *value, *rest = text;
	int rc = 0;

	if (inv->input_len >= sizeof(text))
		return (lwc_fail(inv, 400, "too long"));
	memcpy(text, inv->input, inv->input_len);
	text[inv->input_len] = '\0';
	lwc_reply_type(inv, "text/plain");
	while (rc == 0 && (line = strtok_r(NULL, "\n", &rest)) != NULL) {
		if ((value = strchr(line, '=')) == NULL)
			return (lwc_fail(inv, 400, "no value"));
		*value++ = '\0';
		if (strcmp(line, ":status") == 0)
			rc = lwc_reply_status(inv, atoi(value));
		else
			rc = lwc_reply_attribute(inv, line, value);
	}
	return (rc != 0 ? inv->status : lwc_append(inv, "something", 9));
}

/* Answers after a while. */
LWC_HANDLER(slow)
{
	struct timespec begun, now;

	clock_gettime(CLOCK_MONOTONIC, &begun);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - begun.tv_sec) * 1000 +
	    (now.tv_nsec - begun.tv_nsec) / 1000000 < 300);
	return (lwc_append(inv, "late", 4));
}

/* Answers with the input's attributes, and sets some. */
LWC_HANDLER(mirror)
{

	lwc_reply_type(inv, "text/plain");
	if (lwc_reply_status(inv, 201) != 0 ||
	    lwc_reply_attribute(inv, "x-made", "by mirror") != 0 ||
	    lwc_reply_attribute(inv, "content-length", "7") != 0)
		return (inv->status);
	return (list_attributes(inv));
}

/* An event's attributes and data; for a type of "ask", another event. */
LWC_EVENT_HANDLER(event)
{
	const char *type = lwc_attribute(inv, "ce-type");

	if (type != NULL && strcmp(type, "ask") == 0) {
		if (lwc_reply_attribute(inv, "ce-type", "answer") != 0 ||
		    lwc_reply_attribute(inv, "ce-subject", "Z\303\274rich") != 0)
			return (inv->status);
		lwc_reply_type(inv, "application/json");
		return (lwc_append(inv, "{\"n\":1}", 7));
	}
	lwc_reply_type(inv, "text/plain");
	if (list_attributes(inv) != 0)
		return (inv->status);
	if (lwc_append(inv, inv->input_type, strlen(inv->input_type)) != 0 ||
	    lwc_append(inv, "\n", 1) != 0)
		return (inv->status);
	return (lwc_append(inv, inv->input, inv->input_len));
}
