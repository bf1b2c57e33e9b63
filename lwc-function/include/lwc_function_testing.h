/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * lwc_function_testing.h: a host for unit tests of functions in C and C++.  It
 * calls a handler in the test's own process, without a context, and shows all
 * that it answered, logged and asked for.
 *
 *	#include "lwc_function_testing.h"
 *
 *	int greet(lwc_invocation *);	(of the function; in C++: extern "C")
 *
 *	static void
 *	rates(void *cookie, const lwc_test_request *request,
 *	    lwc_test_response *response)
 *	{
 *		response->data = "1.07";
 *		response->len = 4;
 *	}
 *
 *	lwc_test test;
 *
 *	lwc_test_begin(&test);
 *	lwc_test_secret(&test, "key", "abc", 3);
 *	lwc_test_callee(&test, "rates", rates, NULL);
 *	assert(lwc_test_call(&test, greet, "world", 5) == 0);
 *	assert(test.answer_len == 13);
 *	assert(strstr(test.log, "5 bytes") != NULL);
 *	lwc_test_end(&test);
 *
 * Nothing is to be linked.  A mistake of the test's (more than LWC_TEST_MOST of
 * something, no memory) ends it by abort(3).  What a call lends is overwritten
 * as soon as the function may no longer use it, and a started call runs when it
 * is started, as with the host of the Rust crate.  C11 and C++17.
 */

#ifndef LWC_FUNCTION_TESTING_H
#define LWC_FUNCTION_TESTING_H

#include <errno.h>
#include <stdlib.h>

#include "lwc_function.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Secrets, attributes, callees; calls of one invocation. */
#define LWC_TEST_MOST 64

/* Nanoseconds that the clock of a test shows, always. */
#define LWC_TEST_NOW UINT64_C(1000000000)

/* Names and texts. */
typedef struct lwc_test_texts {
	char *names[LWC_TEST_MOST];
	char *values[LWC_TEST_MOST];
	size_t count;
} lwc_test_texts;

/* What a function sends to a callee. */
typedef struct lwc_test_request {
	const char *function;
	const uint8_t *data;
	size_t len;
	const char *type;		/* content type, never NULL */
	const lwc_test_texts *attributes;
} lwc_test_request;

/*
 * What a stand-in makes of it; all zero is an empty answer.  It is copied when
 * the stand-in returns.
 */
typedef struct lwc_test_response {
	int32_t outcome;		/* LWC_ANSWERED, ... */
	int32_t code;			/* of LWC_REPORTED */
	const char *message;		/* NULL: none */
	const char *function;		/* who failed; NULL: the callee */
	const void *data;
	size_t len;
	const char *type;		/* NULL: none */
	lwc_test_texts attributes;	/* lwc_test_set() */
} lwc_test_response;

typedef void (*lwc_test_stand_in)(void *cookie, const lwc_test_request *,
    lwc_test_response *);

/* The host's own. */
struct lwc_test_callee_ {
	char *name;
	lwc_test_stand_in run;
	void *cookie;
	uint8_t *buffer;
	lwc_test_texts attributes;
	size_t last;			/* its last reply, from 1 on */
};
struct lwc_test_reply_ {
	lwc_reply reply;
	uint8_t *data;
	char *type, *function, *message;
	lwc_test_texts attributes;
	int finished;			/* of a started call */
};

typedef struct lwc_test {
	/* To be set before a call, where it is to differ. */
	const char *type;		/* the input's content type: "" */
	const char *id;			/* "" */
	const char *caller;		/* NULL: none */
	size_t capacity;		/* bytes of a region: 1 MiB */
	uint64_t remaining;		/* ns to the deadline; 0: none */
	int ends_request;		/* whether it may: 0 */

	/* What came of the last call. */
	int code;			/* as lwc_test_call() returned */
	char message[512];		/* of an error; else "" */
	uint8_t *answer;		/* and a NUL behind it */
	size_t answer_len;
	char answer_type[128];		/* "" if none was named */
	lwc_test_texts answer_attributes; /* lwc_test_get() */
	char *log;			/* lines "LEVEL text\n", never NULL */
	size_t calls;			/* how many it made */
	int ended;			/* whether it ended the request */

	/* The host's own. */
	size_t log_len_;
	lwc_test_texts attributes_;
	char *secret_names_[LWC_TEST_MOST];
	uint8_t *secrets_[LWC_TEST_MOST];
	size_t secret_lens_[LWC_TEST_MOST];
	size_t secret_count_;
	struct lwc_test_callee_ callees_[LWC_TEST_MOST];
	size_t callee_count_;
	struct lwc_test_reply_ replies_[LWC_TEST_MOST];
	size_t failed_;			/* the last that failed, from 1 on */
} lwc_test;

static inline LWC_UNUSED void *
lwc_test_copy_(const void *from, size_t len)
{
	char *copy = (char *)malloc(len + 1);

	if (copy == NULL)
		abort();
	if (len != 0)
		memcpy(copy, from, len);
	copy[len] = 0;
	return (copy);
}

static inline LWC_UNUSED char *
lwc_test_text_(const char *text)
{

	if (text == NULL)
		text = "";
	return ((char *)lwc_test_copy_(text, strlen(text)));
}

/* The text of a name; NULL: there is none. */
static inline LWC_UNUSED const char *
lwc_test_get(const lwc_test_texts *texts, const char *name)
{

	for (size_t i = 0; i < texts->count; i++)
		if (strcmp(texts->names[i], name) == 0)
			return (texts->values[i]);
	return (NULL);
}

/* Sets one; again, it replaces. */
static inline LWC_UNUSED void
lwc_test_set(lwc_test_texts *texts, const char *name, const char *value)
{
	size_t i;

	for (i = 0; i < texts->count; i++) {
		if (strcmp(texts->names[i], name) == 0) {
			free(texts->values[i]);
			texts->values[i] = lwc_test_text_(value);
			return;
		}
	}
	if (i == LWC_TEST_MOST)
		abort();
	texts->names[i] = lwc_test_text_(name);
	texts->values[i] = lwc_test_text_(value);
	texts->count++;
}

static inline LWC_UNUSED void
lwc_test_clear_(lwc_test_texts *texts)
{

	for (size_t i = 0; i < texts->count; i++) {
		free(texts->names[i]);
		free(texts->values[i]);
	}
	texts->count = 0;
}

/* A host that grants nothing. */
static inline LWC_UNUSED void
lwc_test_begin(lwc_test *test)
{

	memset(test, 0, sizeof(*test));
	test->type = test->id = "";
	test->capacity = (size_t)1 << 20;
	test->log = lwc_test_text_("");
	test->answer = (uint8_t *)lwc_test_text_("");
}

/* Grants a secret. */
static inline LWC_UNUSED void
lwc_test_secret(lwc_test *test, const char *name, const void *bytes, size_t len)
{
	size_t i = test->secret_count_++;

	if (i >= LWC_TEST_MOST)
		abort();
	test->secret_names_[i] = lwc_test_text_(name);
	test->secrets_[i] = (uint8_t *)lwc_test_copy_(bytes, len);
	test->secret_lens_[i] = len;
}

/* Gives the input an attribute. */
static inline LWC_UNUSED void
lwc_test_attribute(lwc_test *test, const char *name, const char *value)
{

	lwc_test_set(&test->attributes_, name, value);
}

/* Grants calls to a function, which `run' stands in for. */
static inline LWC_UNUSED void
lwc_test_callee(lwc_test *test, const char *name, lwc_test_stand_in run,
    void *cookie)
{
	size_t i = test->callee_count_++;

	if (i >= LWC_TEST_MOST)
		abort();
	test->callees_[i].name = lwc_test_text_(name);
	test->callees_[i].run = run;
	test->callees_[i].cookie = cookie;
}

/* The host's calls. */

static inline LWC_UNUSED lwc_test *
lwc_test_of_(const struct lwc_host *host)
{

	return ((lwc_test *)(uintptr_t)host);
}

static inline LWC_UNUSED struct lwc_test_callee_ *
lwc_test_callee_of_(lwc_test *test, const char *name)
{

	for (size_t i = 0; i < test->callee_count_; i++)
		if (strcmp(test->callees_[i].name, name) == 0)
			return (&test->callees_[i]);
	return (NULL);
}

/* A name of a-z 0-9 - _ . with perhaps a colon in front; no control characters. */
static inline LWC_UNUSED int
lwc_test_is_attribute_(const char *name, const char *value)
{
	const char *plain = *name == ':' ? name + 1 : name;

	if (*plain == 0 ||
	    plain[strspn(plain, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] != 0)
		return (0);
	for (; *value != 0; value++)
		if (((unsigned char)*value < ' ' && *value != '\t') || *value == 127)
			return (0);
	return (1);
}

static inline LWC_UNUSED const void *
lwc_test_on_secret_(const struct lwc_host *host, const char *name, size_t *len)
{
	lwc_test *test = lwc_test_of_(host);

	for (size_t i = 0; i < test->secret_count_; i++) {
		if (strcmp(test->secret_names_[i], name) == 0) {
			*len = test->secret_lens_[i];
			return (test->secrets_[i]);
		}
	}
	return (NULL);
}

static inline LWC_UNUSED void
lwc_test_on_log_(const struct lwc_host *host, int level, const char *text,
    size_t len)
{
	static const char names[6][6] = { "?", "ERROR", "WARN", "INFO", "DEBUG",
		"TRACE" };
	lwc_test *test = lwc_test_of_(host);
	const char *name = names[level < 1 || level > 5 ? 0 : level];
	size_t head = strlen(name) + 1;
	char *log = (char *)realloc(test->log, test->log_len_ + head + len + 2);

	if (log == NULL)
		abort();
	test->log = log;
	log += test->log_len_;
	memcpy(log, name, head - 1);
	log[head - 1] = ' ';
	memcpy(log + head, text, len);
	log[head + len] = '\n';
	log[head + len + 1] = 0;
	test->log_len_ += head + len + 1;
}

static inline LWC_UNUSED uint64_t
lwc_test_on_now_(const struct lwc_host *host)
{

	(void)host;
	return (LWC_TEST_NOW);
}

static inline LWC_UNUSED const char *
lwc_test_nth_(const lwc_test_texts *texts, size_t index, const char **name)
{

	if (index >= texts->count)
		return (NULL);
	*name = texts->names[index];
	return (texts->values[index]);
}

static inline LWC_UNUSED const char *
lwc_test_on_attribute_(const struct lwc_host *host, size_t index,
    const char **name)
{

	return (lwc_test_nth_(&lwc_test_of_(host)->attributes_, index, name));
}

static inline LWC_UNUSED int
lwc_test_on_reply_attribute_(const struct lwc_host *host, const char *name,
    const char *value)
{

	if (!lwc_test_is_attribute_(name, value))
		return (EINVAL);
	lwc_test_set(&lwc_test_of_(host)->answer_attributes, name, value);
	return (0);
}

static inline LWC_UNUSED uint8_t *
lwc_test_on_call_buffer_(const struct lwc_host *host, const char *function,
    size_t *capacity)
{
	lwc_test *test = lwc_test_of_(host);
	struct lwc_test_callee_ *callee = lwc_test_callee_of_(test, function);

	if (callee == NULL)
		return (NULL);
	if (callee->buffer == NULL)
		callee->buffer = (uint8_t *)calloc(test->capacity + 1, 1);
	if (callee->buffer == NULL)
		abort();
	*capacity = test->capacity;
	return (callee->buffer);
}

static inline LWC_UNUSED int
lwc_test_on_call_attribute_(const struct lwc_host *host, const char *function,
    const char *name, const char *value)
{
	struct lwc_test_callee_ *callee =
	    lwc_test_callee_of_(lwc_test_of_(host), function);

	if (callee == NULL)
		return (EACCES);
	if (!lwc_test_is_attribute_(name, value))
		return (EINVAL);
	lwc_test_set(&callee->attributes, name, value);
	return (0);
}

static inline LWC_UNUSED void
lwc_test_spoil_(struct lwc_test_reply_ *kept)
{

	memset(kept->data, '?', kept->reply.len);
	memset(kept->type, '?', strlen(kept->type));
	memset(kept->message, '?', strlen(kept->message));
	for (size_t i = 0; i < kept->attributes.count; i++)
		memset(kept->attributes.values[i], '?',
		    strlen(kept->attributes.values[i]));
}

/* Runs a call; the number of its reply, from 1 on. */
static inline LWC_UNUSED size_t
lwc_test_run_(lwc_test *test, const char *function, const void *data, size_t len,
    const char *type)
{
	struct lwc_test_callee_ *callee = lwc_test_callee_of_(test, function);
	struct lwc_test_reply_ *kept;
	lwc_test_request request;
	lwc_test_response response;
	uint8_t *copy;

	if (test->calls == LWC_TEST_MOST)
		abort();
	kept = &test->replies_[test->calls++];
	memset(kept, 0, sizeof(*kept));
	memset(&response, 0, sizeof(response));
	if (callee == NULL) {
		response.outcome = LWC_REFUSED;
		response.message = "it is not granted";
	} else if (len > test->capacity) {
		response.outcome = LWC_TOO_BIG;
		response.message = "its arguments do not fit their region";
	} else {
		if (callee->last != 0)
			lwc_test_spoil_(&test->replies_[callee->last - 1]);
		/* Its arguments are its own, as in another context. */
		copy = (uint8_t *)lwc_test_copy_(data, len);
		request.function = callee->name;
		request.data = copy;
		request.len = len;
		request.type = type == NULL ? "" : type;
		request.attributes = &callee->attributes;
		callee->run(callee->cookie, &request, &response);
		free(copy);
		lwc_test_clear_(&callee->attributes);
		callee->last = test->calls;
		if (response.len > test->capacity) {
			response.outcome = LWC_TOO_BIG;
			response.message = "its reply does not fit its region";
			response.len = 0;
		}
	}
	if (response.outcome == LWC_REPORTED && response.code <= 0)
		response.code = 1;
	if (response.outcome != LWC_REPORTED)
		response.code = 0;
	kept->data = (uint8_t *)lwc_test_copy_(response.data, response.len);
	kept->type = lwc_test_text_(response.type);
	kept->message = lwc_test_text_(response.message);
	kept->function = lwc_test_text_(response.function == NULL ? function :
	    response.function);
	kept->attributes = response.attributes;
	kept->reply.outcome = response.outcome;
	kept->reply.code = response.code;
	kept->reply.function = kept->function;
	kept->reply.message = kept->message;
	kept->reply.data = kept->data;
	kept->reply.len = response.len;
	kept->reply.type = kept->type;
	kept->reply.attributes = &kept->attributes;
	if (response.outcome != LWC_ANSWERED)
		test->failed_ = test->calls;
	return (test->calls);
}

static inline LWC_UNUSED void
lwc_test_on_call_(const struct lwc_host *host, const char *function,
    const void *data, size_t len, const char *type, struct lwc_reply *reply)
{
	lwc_test *test = lwc_test_of_(host);
	size_t number = lwc_test_run_(test, function, data, len, type);

	test->replies_[number - 1].finished = 1;
	*reply = test->replies_[number - 1].reply;
}

static inline LWC_UNUSED uint64_t
lwc_test_on_call_start_(const struct lwc_host *host, const char *function,
    const void *data, size_t len, const char *type)
{

	return (lwc_test_run_(lwc_test_of_(host), function, data, len, type));
}

static inline LWC_UNUSED void
lwc_test_on_call_finish_(const struct lwc_host *host, uint64_t ticket,
    struct lwc_reply *reply)
{
	lwc_test *test = lwc_test_of_(host);

	if (ticket == 0 || ticket > test->calls ||
	    test->replies_[ticket - 1].finished) {
		memset(reply, 0, sizeof(*reply));
		reply->outcome = LWC_REFUSED;
		reply->function = reply->type = "";
		reply->message = "no such ticket";
		return;
	}
	test->replies_[ticket - 1].finished = 1;
	*reply = test->replies_[ticket - 1].reply;
}

static inline LWC_UNUSED const char *
lwc_test_on_attribute_of_reply_(const struct lwc_host *host,
    const struct lwc_reply *reply, size_t index, const char **name)
{

	(void)host;
	return (reply->attributes == NULL ? NULL : lwc_test_nth_(
	    (const lwc_test_texts *)reply->attributes, index, name));
}

static inline LWC_UNUSED const char *
lwc_test_on_caller_(const struct lwc_host *host)
{

	return (lwc_test_of_(host)->caller);
}

static inline LWC_UNUSED int
lwc_test_on_end_request_(const struct lwc_host *host)
{
	lwc_test *test = lwc_test_of_(host);

	if (!test->ends_request || test->caller != NULL)
		return (EACCES);
	test->ended = 1;
	return (0);
}

static inline LWC_UNUSED const struct lwc_host_calls *
lwc_test_calls_(void)
{
	static const struct lwc_host_calls calls = { LWC_FUNCTION_ABI, 0,
		lwc_test_on_secret_, lwc_test_on_log_, lwc_test_on_now_,
		lwc_test_on_attribute_, lwc_test_on_reply_attribute_,
		lwc_test_on_call_buffer_, lwc_test_on_call_attribute_,
		lwc_test_on_call_, lwc_test_on_call_start_,
		lwc_test_on_call_finish_, lwc_test_on_attribute_of_reply_,
		lwc_test_on_caller_, lwc_test_on_end_request_ };

	return (&calls);
}

/* Nothing is left of the last call. */
static inline LWC_UNUSED void
lwc_test_forget_(lwc_test *test)
{
	struct lwc_test_reply_ *kept;

	for (size_t i = 0; i < test->calls; i++) {
		kept = &test->replies_[i];
		free(kept->data);
		free(kept->type);
		free(kept->function);
		free(kept->message);
		lwc_test_clear_(&kept->attributes);
	}
	for (size_t i = 0; i < test->callee_count_; i++) {
		free(test->callees_[i].buffer);
		test->callees_[i].buffer = NULL;
		test->callees_[i].last = 0;
		lwc_test_clear_(&test->callees_[i].attributes);
	}
	test->calls = test->failed_ = 0;
	lwc_test_clear_(&test->answer_attributes);
	free(test->answer);
	free(test->log);
	test->answer = (uint8_t *)lwc_test_text_("");
	test->log = lwc_test_text_("");
	test->answer_len = test->log_len_ = 0;
	test->code = test->ended = 0;
	test->message[0] = test->answer_type[0] = 0;
}

/*
 * Calls a handler with an input: 0, the code of its error, or LWC_UNHANDLED,
 * with the message of the call that failed.
 */
static inline LWC_UNUSED int
lwc_test_call(lwc_test *test, lwc_handler handler, const void *input, size_t len)
{
	struct lwc_test_reply_ *failed;
	lwc_invocation inv;
	uint8_t *in = (uint8_t *)lwc_test_copy_(input, len);
	uint8_t *out = (uint8_t *)calloc(test->capacity + 1, 1);

	if (out == NULL)
		abort();
	lwc_test_forget_(test);
	memset(&inv, 0, sizeof(inv));
	inv.abi = LWC_FUNCTION_ABI;
	inv.host = (const struct lwc_host *)(const void *)test;
	inv.calls = lwc_test_calls_();
	inv.input = in;
	inv.input_len = len;
	inv.input_type = test->type;
	inv.output = out;
	inv.output_capacity = test->capacity;
	inv.id = test->id;
	inv.deadline = test->remaining == 0 ? 0 : LWC_TEST_NOW + test->remaining;
	test->code = handler(&inv);
	if (test->code == 0)
		test->code = inv.status;
	free(in);
	free(test->answer);
	test->answer = out;
	test->answer_len = inv.output_len;
	if (inv.output_len > test->capacity) {
		test->answer_len = 0;
		if (test->code == 0)
			(void)lwc_fail(&inv, test->code = 413, "it claims an answer of "
			    "%zu bytes, in a region of %zu", inv.output_len,
			    test->capacity);
	}
	out[test->answer_len] = 0;
	inv.output_type[sizeof(inv.output_type) - 1] = 0;
	inv.error[sizeof(inv.error) - 1] = 0;
	memcpy(test->answer_type, inv.output_type, sizeof(inv.output_type));
	if (test->code != 0)
		memcpy(test->message, inv.error, sizeof(inv.error));
	if (test->code == LWC_UNHANDLED && test->failed_ == 0) {
		test->code = 500;
		(void)snprintf(test->message, sizeof(test->message),
		    "it returned LWC_UNHANDLED, but no call failed");
	} else if (test->code == LWC_UNHANDLED) {
		failed = &test->replies_[test->failed_ - 1];
		(void)snprintf(test->message, sizeof(test->message), "%.100s: %.380s",
		    failed->function, failed->message);
	}
	if (test->code != 0)
		test->ended = 0;
	return (test->code);
}

/* Calls an initialiser: 0, or the code of its error.  It calls nobody. */
static inline LWC_UNUSED int
lwc_test_call_init(lwc_test *test, lwc_initialiser init)
{
	size_t callees = test->callee_count_;
	const char *caller = test->caller;
	lwc_setup setup;

	lwc_test_forget_(test);
	memset(&setup, 0, sizeof(setup));
	setup.abi = LWC_FUNCTION_ABI;
	setup.host = (const struct lwc_host *)(const void *)test;
	setup.calls = lwc_test_calls_();
	test->callee_count_ = 0;
	test->caller = "";
	test->code = init(&setup);
	test->callee_count_ = callees;
	test->caller = caller;
	if (test->code == 0)
		test->code = setup.status;
	setup.error[sizeof(setup.error) - 1] = 0;
	memcpy(test->message, setup.error, sizeof(setup.error));
	return (test->code);
}

/* Frees what the host has. */
static inline LWC_UNUSED void
lwc_test_end(lwc_test *test)
{

	lwc_test_forget_(test);
	free(test->answer);
	free(test->log);
	lwc_test_clear_(&test->attributes_);
	for (size_t i = 0; i < test->secret_count_; i++) {
		free(test->secret_names_[i]);
		free(test->secrets_[i]);
	}
	for (size_t i = 0; i < test->callee_count_; i++)
		free(test->callees_[i].name);
	memset(test, 0, sizeof(*test));
}

#ifdef __cplusplus
}
#endif

#endif /* !LWC_FUNCTION_TESTING_H */
