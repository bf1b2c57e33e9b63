/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * lwc_function.h: what the author of a function in C includes.
 *
 *	#include "lwc_function.h"
 *
 *	LWC_HANDLER(greet)
 *	{
 *		lwc_log(inv, LWC_INFO, "%zu bytes", inv->input_len);
 *		if (lwc_append(inv, "Hello, ", 7) != 0 ||
 *		    lwc_append(inv, inv->input, inv->input_len) != 0)
 *			return (inv->status);
 *		return (0);
 *	}
 *
 * The input is read in place and the answer written in place: the output
 * region is the next function's input, nothing is copied between the two.
 * There is nothing to link: whoever calls the handler brings the functions
 * behind the helpers below.
 *
 * Beside its bytes a message has a content type and attributes: names and
 * texts.  What a function sees as input's are the caller's selected headers
 * (and of a CloudEvent its attributes, as "ce-id", "ce-type"); in a later step
 * of a chain, what the function before set for its answer, and nothing else.
 *
 * A function calls the functions that the chain file grants it (`calls'), each
 * of which runs in a sandbox of its own:
 *
 *	lwc_reply rates;
 *
 *	if (lwc_call(inv, "rates", inv->input, inv->input_len, &rates) != 0)
 *		return (LWC_UNHANDLED);
 *	return (lwc_append(inv, rates.data, rates.len));
 *
 * A function runs in a sandbox without descriptors.  It may compute, allocate
 * (up to its limit) and call the helpers; system calls for files, processes
 * and the network fail or end it.  C11 and C++17.
 */

#ifndef LWC_FUNCTION_H
#define LWC_FUNCTION_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Version of the structures below, in `abi' of each; 2 added attributes, 3
 * calls to other functions.  LWC_HANDLER(name) exports it as NAME_abi: a host
 * refuses a library of another version.
 */
#define LWC_FUNCTION_ABI 3

/* Levels of lwc_log(). */
enum {
	LWC_ERROR = 1,
	LWC_WARN = 2,
	LWC_INFO = 3,
	LWC_DEBUG = 4,
	LWC_TRACE = 5
};

/* The host's own; opaque to functions. */
struct lwc_host;

/* What came of a call to another function: `outcome' of its reply. */
enum {
	LWC_ANSWERED = 0,
	LWC_REPORTED = 1,	/* an error of its own, with its `code' */
	LWC_CRASHED = 2,
	LWC_TIMED_OUT = 3,	/* it took longer than it may */
	LWC_DEADLINE_PASSED = 4, /* the request's, before or while it ran */
	LWC_REFUSED = 5,	/* not granted, or no such ticket */
	LWC_TOO_BIG = 6,	/* arguments or reply, for their region */
	LWC_TOO_MANY = 7,	/* calls that were started and not finished */
	LWC_UNAVAILABLE = 8	/* it cannot be reached now */
};

/*
 * What a handler returns (or leaves in `status') when a call failed and it
 * does nothing about it: the request fails as that call did, and the host
 * names the path to who failed.  That call is the last of whose failure it was
 * told, or if `error' is the name of a function, the last to that one
 * (lwc_unhandled()).  When none failed, it is an error with code 500.
 */
#define LWC_UNHANDLED (-1)

/*
 * What a call brought.  All of it stays where it is, and as it is, until the
 * next call to the same function (lwc_call_start() is one, lwc_call_finish()
 * is not) or the end of the invocation; what lwc_call_finish() gave until the
 * end of the invocation.  A copy of this structure is as good as the original.
 */
typedef struct lwc_reply {
	int32_t outcome;		/* LWC_ANSWERED, ... */
	int32_t code;			/* LWC_REPORTED: > 0; else 0 */
	const char *function;		/* who failed: the callee, or below */
	const char *message;		/* what went wrong; else "" */
	const uint8_t *data;		/* also beside an error of its own */
	size_t len;			/* bytes */
	const char *type;		/* content type, never NULL */
	const void *attributes;		/* the host's own */
	uint64_t reserved[2];
} lwc_reply;

/*
 * Of `features' below: where the chain file grants `threads', any thread of the
 * function's may log, call others and ask for secrets; they take turns.  What
 * lwc_call() gives holds until any of them calls the same function: threads use
 * lwc_call_start() and lwc_call_finish().  The answer, and what is looked up of
 * the request, are the one thread's that the handler was called on.
 */
#define LWC_HOST_THREADS 1

/* What the host does for a function.  Use the helpers below instead. */
struct lwc_host_calls {
	uint32_t abi;
	uint32_t features;		/* LWC_HOST_THREADS, or 0 */
	/* The bytes of a secret and their number, or NULL if not granted. */
	const void *(*secret)(const struct lwc_host *host, const char *name,
	    size_t *len);
	/* A line for the log, LWC_ERROR to LWC_TRACE. */
	void (*log)(const struct lwc_host *host, int level, const char *text,
	    size_t len);
	/* Nanoseconds of CLOCK_MONOTONIC. */
	uint64_t (*now)(const struct lwc_host *host);
	/* The index-th attribute of the input: its value, and its name. */
	const char *(*attribute)(const struct lwc_host *host, size_t index,
	    const char **name);
	/* Sets an attribute of the answer: 0, or EINVAL, ENOSPC. */
	int (*reply_attribute)(const struct lwc_host *host, const char *name,
	    const char *value);
	/*
	 * From here on: calls to other functions.  In an initialiser, and to a
	 * function that is not granted, all of them are refused.
	 *
	 * Where arguments for the next call to `function' can be written, and
	 * how many bytes: the same place until that call.  NULL if refused.
	 */
	uint8_t *(*call_buffer)(const struct lwc_host *host,
	    const char *function, size_t *capacity);
	/*
	 * Sets an attribute of the next call to `function': 0, or EINVAL,
	 * ENOSPC, EACCES.
	 */
	int (*call_attribute)(const struct lwc_host *host,
	    const char *function, const char *name, const char *value);
	/*
	 * Calls it and fills the reply, all of it.  Nothing is copied of `data'
	 * that begins where call_buffer() said; from elsewhere it is copied to
	 * there.  It is not read if the call is refused or `len' is more than
	 * the region has.  `type' is its content type, NULL: none.
	 */
	void (*call)(const struct lwc_host *host, const char *function,
	    const void *data, size_t len, const char *type,
	    struct lwc_reply *reply);
	/*
	 * The same, but it may run at any time up to call_finish().  A ticket,
	 * also for one that fails; 0 is never one.
	 */
	uint64_t (*call_start)(const struct lwc_host *host,
	    const char *function, const void *data, size_t len,
	    const char *type);
	/* Waits for it, once a ticket: a second time is LWC_REFUSED. */
	void (*call_finish)(const struct lwc_host *host, uint64_t ticket,
	    struct lwc_reply *reply);
	/* The index-th attribute of a reply: its value, and its name. */
	const char *(*attribute_of_reply)(const struct lwc_host *host,
	    const struct lwc_reply *reply, size_t index, const char **name);
	/* The function that called this one; NULL: none, it is a step. */
	const char *(*caller)(const struct lwc_host *host);
	/*
	 * The answer of this invocation is that of the request: no step behind
	 * this one runs.  0, or EACCES: the chain file does not grant it, or
	 * another function called this one; always in an initialiser.
	 */
	int (*end_request)(const struct lwc_host *host);
};

/* One invocation. */
typedef struct lwc_invocation {
	uint32_t abi;
	int32_t status;			/* as a handler returns, see there */
	const struct lwc_host *host;
	const struct lwc_host_calls *calls;
	const uint8_t *input;		/* read-only memory */
	size_t input_len;		/* bytes */
	const char *input_type;		/* content type, never NULL */
	uint8_t *output;
	size_t output_capacity;		/* bytes */
	size_t output_len;		/* bytes written so far */
	const char *id;			/* of this invocation */
	uint64_t deadline;		/* ns, CLOCK_MONOTONIC; 0: none */
	char output_type[128];		/* content type of the answer */
	char error[256];
} lwc_invocation;

/* The one call of an initialiser. */
typedef struct lwc_setup {
	uint32_t abi;
	int32_t status;
	const struct lwc_host *host;
	const struct lwc_host_calls *calls;
	char error[256];
} lwc_setup;

/* A handler: 0, an error code > 0 (see lwc_fail()), or LWC_UNHANDLED. */
typedef int (*lwc_handler)(lwc_invocation *);

/*
 * An initialiser, the optional symbol NAME_init for handler NAME.  Called
 * once, before the first invocation and before the sandbox is entered: what
 * it leaves in memory every invocation starts with.  On Linux a function
 * whose constructors or initialiser leave a thread, a child process or shared
 * memory that can be written (MAP_SHARED) behind is not loaded: no copy has
 * it, and no sandbox holds it.
 */
typedef int (*lwc_initialiser)(lwc_setup *);

#ifdef __cplusplus
#define LWC_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define LWC_EXPORT __attribute__((visibility("default")))
#endif

/* Defines the handler of a function; its body follows and sees `inv'. */
#define LWC_HANDLER(name)						\
	LWC_EXPORT const uint32_t name##_abi;				\
	LWC_EXPORT const uint32_t name##_abi = LWC_FUNCTION_ABI;	\
	LWC_EXPORT int name(lwc_invocation *);				\
	LWC_EXPORT int name(__attribute__((unused)) lwc_invocation *inv)

/*
 * The same for a handler that takes CloudEvents alone: what is none is refused
 * before it gets here, and the input is the event's data, however it came.
 */
#define LWC_EVENT_HANDLER(name)						\
	LWC_EXPORT const int name##_cloudevent;				\
	LWC_EXPORT const int name##_cloudevent = 1;			\
	LWC_HANDLER(name)

/* Defines the initialiser of handler `name'; its body sees `setup'. */
#define LWC_INIT(name)							\
	LWC_EXPORT int name##_init(lwc_setup *);			\
	LWC_EXPORT int name##_init(lwc_setup *setup)

#if defined(__GNUC__)
#define LWC_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define LWC_UNUSED __attribute__((unused))
#else
#define LWC_PRINTF(f, a)
#define LWC_UNUSED
#endif

/*
 * The bytes of a secret granted in the chain file, or NULL.  They stay where
 * they are; do not copy them.
 */
static inline LWC_UNUSED const uint8_t *
lwc_secret(const lwc_invocation *inv, const char *name, size_t *len)
{

	return ((const uint8_t *)inv->calls->secret(inv->host, name, len));
}

/* The same for an initialiser. */
static inline LWC_UNUSED const uint8_t *
lwc_setup_secret(const lwc_setup *setup, const char *name, size_t *len)
{

	return ((const uint8_t *)setup->calls->secret(setup->host, name, len));
}

static void lwc_log(const lwc_invocation *, int, const char *, ...)
    LWC_UNUSED LWC_PRINTF(3, 4);
static int lwc_fail(lwc_invocation *, int, const char *, ...)
    LWC_UNUSED LWC_PRINTF(3, 4);
static int lwc_setup_fail(lwc_setup *, int, const char *, ...)
    LWC_UNUSED LWC_PRINTF(3, 4);

/*
 * Writes a line to the log (up to 511 bytes; the rest is cut).  What printf(3)
 * and its like write is in the log, too; this costs less.
 */
static void
lwc_log(const lwc_invocation *inv, int level, const char *format, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (n < 0)
		return;
	inv->calls->log(inv->host, level, line,
	    (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/*
 * Reports an error: a code (> 0; others become 1) and a message.  Returns the
 * code, so that a handler can say `return (lwc_fail(inv, 3, "..."));'.
 */
static int
lwc_fail(lwc_invocation *inv, int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(inv->error, sizeof(inv->error), format, ap);
	va_end(ap);
	inv->status = code > 0 ? code : 1;
	return (inv->status);
}

/* The same for an initialiser: the function is not loaded then. */
static int
lwc_setup_fail(lwc_setup *setup, int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(setup->error, sizeof(setup->error), format, ap);
	va_end(ap);
	setup->status = code > 0 ? code : 1;
	return (setup->status);
}

/*
 * Appends to the answer.  0, or an error code (set with lwc_fail()) when the
 * region is full.
 */
static inline LWC_UNUSED int
lwc_append(lwc_invocation *inv, const void *data, size_t len)
{

	if (inv->output_len > inv->output_capacity ||
	    len > inv->output_capacity - inv->output_len)
		return (lwc_fail(inv, 413, "the answer does not fit its region "
		    "of %zu bytes; raise `region' in the chain file",
		    inv->output_capacity));
	if (len != 0)	/* nothing may be a null pointer */
		memcpy(inv->output + inv->output_len, data, len);
	inv->output_len += len;
	return (0);
}

/* Names the answer's content type (the input's, if never called). */
static inline LWC_UNUSED void
lwc_reply_type(lwc_invocation *inv, const char *type)
{

	(void)snprintf(inv->output_type, sizeof(inv->output_type), "%s", type);
}

/* The value of the input's attribute `name' (lower case), or NULL. */
static inline LWC_UNUSED const char *
lwc_attribute(const lwc_invocation *inv, const char *name)
{
	const char *found, *value;
	size_t i;

	for (i = 0; (value = inv->calls->attribute(inv->host, i, &found)) !=
	    NULL; i++) {
		if (strcmp(found, name) == 0)
			return (value);
	}
	return (NULL);
}

/*
 * Sets an attribute of the answer; set again it replaces.  Names are lower
 * case letters, digits and `-'; values are text without control characters.
 * As the last step's they are the headers of an HTTP answer; "ce-type",
 * "ce-source" and their like make the answer a CloudEvent.  0, or an error
 * code (set with lwc_fail()): a bad name or value, or no room (8 KiB in all).
 */
static inline LWC_UNUSED int
lwc_reply_attribute(lwc_invocation *inv, const char *name, const char *value)
{

	if (inv->calls->reply_attribute(inv->host, name, value) != 0)
		return (lwc_fail(inv, 500, "attribute %.64s of the answer: a "
		    "bad name or value, or no room", name));
	return (0);
}

/* Sets the status of an HTTP answer, 200 to 599; 200 if never called. */
static inline LWC_UNUSED int
lwc_reply_status(lwc_invocation *inv, int status)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", status);
	return (lwc_reply_attribute(inv, ":status", text));
}

/*
 * Ends the request with what this invocation answers, its bytes, content type,
 * attributes and status, as if this were the last step: those behind it do not
 * run.  The handler goes on, and may write its answer before or afterwards:
 *
 *	(void)lwc_reply_status(inv, 401);
 *	(void)lwc_reply_attribute(inv, "www-authenticate", "Bearer");
 *	return (lwc_end_request(inv));
 *
 * If it then reports an error, the request fails as without this.  The chain
 * file grants it with `ends_request = true': nobody else can see to it that the
 * steps behind do not run.  A function that another one called cannot end the
 * request (see lwc_caller()): its caller decides, with its reply.  0, or an
 * error code (set with lwc_fail()).
 */
static inline LWC_UNUSED int
lwc_end_request(lwc_invocation *inv)
{

	if (inv->calls->end_request(inv->host) != 0)
		return (lwc_fail(inv, 500, "this function may not end the "
		    "request: another one called it, or the chain file does "
		    "not say `ends_request = true'"));
	return (0);
}

/* Nanoseconds left before the deadline; UINT64_MAX without one. */
static inline LWC_UNUSED uint64_t
lwc_remaining(const lwc_invocation *inv)
{
	uint64_t now;

	if (inv->deadline == 0)
		return (UINT64_MAX);
	now = inv->calls->now(inv->host);
	return (now >= inv->deadline ? 0 : inv->deadline - now);
}

/*
 * Where arguments for the next call to `function' go, to write them in place:
 * give this place as `data' then, and nothing is copied.  It is the same until
 * that call; `capacity' becomes its size in bytes.  NULL if the chain file
 * grants no call to that function.  The callee can see all that is written
 * there, also behind what is sent, until this invocation ends.
 */
static inline LWC_UNUSED uint8_t *
lwc_call_buffer(const lwc_invocation *inv, const char *function,
    size_t *capacity)
{

	return (inv->calls->call_buffer(inv->host, function, capacity));
}

/*
 * Sets an attribute of the next call to `function', which finds it with
 * lwc_attribute(); set again it replaces.  Names and values are as in
 * lwc_reply_attribute().  0, or an error code (set with lwc_fail()).
 */
static inline LWC_UNUSED int
lwc_call_attribute(lwc_invocation *inv, const char *function, const char *name,
    const char *value)
{

	if (inv->calls->call_attribute(inv->host, function, name, value) != 0)
		return (lwc_fail(inv, 500, "attribute %.64s of a call to %.64s: "
		    "a bad name or value, no room, or the call is not granted",
		    name, function));
	return (0);
}

/*
 * Calls a function that the chain file grants (`calls') with so many bytes of
 * arguments: its input.  0 when it answered.  Otherwise LWC_UNHANDLED, and
 * `reply' says what came of it; `status' stays as it was, so that a handler
 * either does without the answer or says
 *
 *	if (lwc_call(inv, "rates", data, len, &reply) != 0)
 *		return (LWC_UNHANDLED);
 *
 * The callee finds itself as its initialiser left it, also at a second call.
 * The deadline of this invocation holds for it too.
 */
static inline LWC_UNUSED int
lwc_call(const lwc_invocation *inv, const char *function, const void *data,
    size_t len, lwc_reply *reply)
{

	inv->calls->call(inv->host, function, data, len, NULL, reply);
	return (reply->outcome == LWC_ANSWERED ? 0 : LWC_UNHANDLED);
}

/* The same with a content type of the arguments; NULL: none. */
static inline LWC_UNUSED int
lwc_call_typed(const lwc_invocation *inv, const char *function,
    const void *data, size_t len, const char *type, lwc_reply *reply)
{

	inv->calls->call(inv->host, function, data, len, type, reply);
	return (reply->outcome == LWC_ANSWERED ? 0 : LWC_UNHANDLED);
}

/*
 * Starts a call and goes on: what comes of it is learnt, in any order, from
 * lwc_call_finish() with the ticket that this returns (never 0), also if it
 * was refused.  `data' may be changed afterwards; `type' NULL: none.  Whether
 * calls that are started run side by side is the host's decision, and so is
 * when; what comes of them is the same.  One that is never finished may or may
 * not have run.
 */
static inline LWC_UNUSED uint64_t
lwc_call_start(const lwc_invocation *inv, const char *function,
    const void *data, size_t len, const char *type)
{

	return (inv->calls->call_start(inv->host, function, data, len, type));
}

/*
 * Waits for a call that was started.  Returns what lwc_call() would have; a
 * second time, and for what is no ticket, the outcome is LWC_REFUSED.
 */
static inline LWC_UNUSED int
lwc_call_finish(const lwc_invocation *inv, uint64_t ticket, lwc_reply *reply)
{

	inv->calls->call_finish(inv->host, ticket, reply);
	return (reply->outcome == LWC_ANSWERED ? 0 : LWC_UNHANDLED);
}

/*
 * Where several calls failed: the request is to fail as the last to `function'
 * did.  Returns LWC_UNHANDLED, for the handler to return.
 */
static inline LWC_UNUSED int
lwc_unhandled(lwc_invocation *inv, const char *function)
{

	(void)snprintf(inv->error, sizeof(inv->error), "%s", function);
	inv->status = LWC_UNHANDLED;
	return (LWC_UNHANDLED);
}

/* The value of a reply's attribute `name' (lower case), or NULL. */
static inline LWC_UNUSED const char *
lwc_reply_attribute_of(const lwc_invocation *inv, const lwc_reply *reply,
    const char *name)
{
	const char *found, *value;
	size_t i;

	for (i = 0; (value = inv->calls->attribute_of_reply(inv->host, reply, i,
	    &found)) != NULL; i++) {
		if (strcmp(found, name) == 0)
			return (value);
	}
	return (NULL);
}

/*
 * The name of the function that calls this one; NULL when it is a step of the
 * chain, or a workflow's entry: the request itself calls it.
 */
static inline LWC_UNUSED const char *
lwc_caller(const lwc_invocation *inv)
{

	return (inv->calls->caller(inv->host));
}

#ifdef __cplusplus
}
#endif

#endif /* !LWC_FUNCTION_H */
