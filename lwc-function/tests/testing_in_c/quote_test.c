/*
 * A function in C, and its unit test: cc -I include quote_test.c && ./a.out
 *
 * In a project of one's own the function is a file of its own, which the test is
 * linked with or includes.
 */

#undef NDEBUG
#include <assert.h>

#include "lwc_function_testing.h"

/* The function. */

static char unit[8];

LWC_INIT(quote)
{
	size_t len;
	const uint8_t *key = lwc_setup_secret(setup, "unit", &len);

	if (key == NULL || len >= sizeof(unit))
		return (lwc_setup_fail(setup, 3, "no unit"));
	memcpy(unit, key, len);
	return (0);
}

LWC_HANDLER(quote)
{
	lwc_reply price, stock;
	uint64_t started;
	char line[64];

	lwc_log(inv, LWC_INFO, "%zu bytes of %s", inv->input_len, inv->input_type);
	if (inv->input_len == 0)
		return (lwc_fail(inv, 400, "no article"));
	started = lwc_call_start(inv, "stock", inv->input, inv->input_len, NULL);
	if (lwc_call_attribute(inv, "prices", "x-tenant",
	    lwc_attribute(inv, "x-tenant")) != 0)
		return (inv->status);
	if (lwc_call(inv, "prices", inv->input, inv->input_len, &price) != 0)
		return (LWC_UNHANDLED);
	if (lwc_call_finish(inv, started, &stock) != 0)
		lwc_log(inv, LWC_WARN, "stock: %s", stock.message);
	snprintf(line, sizeof(line), "%.*s %s", (int)price.len,
	    (const char *)price.data, unit);
	lwc_reply_type(inv, "text/plain");
	if (lwc_reply_attribute(inv, "x-from", lwc_reply_attribute_of(inv, &price,
	    "x-list")) != 0)
		return (inv->status);
	return (lwc_append(inv, line, strlen(line)));
}

/* Its test. */

static void
prices(void *cookie, const lwc_test_request *request, lwc_test_response *response)
{
	int *asked = (int *)cookie;

	*asked += 1;
	assert(strcmp(lwc_test_get(request->attributes, "x-tenant"), "a") == 0);
	if (request->len == 4 && memcmp(request->data, "tree", 4) == 0) {
		response->outcome = LWC_REPORTED;
		response->code = 404;
		response->message = "no such article";
		return;
	}
	response->data = "12.50";
	response->len = 5;
	lwc_test_set(&response->attributes, "x-list", "summer");
}

static void
no_stock(void *cookie, const lwc_test_request *request,
    lwc_test_response *response)
{

	(void)cookie;
	(void)request;
	response->outcome = LWC_TIMED_OUT;
	response->message = "too late";
}

int
main(void)
{
	int asked = 0;
	lwc_test test;

	lwc_test_begin(&test);
	assert(lwc_test_call_init(&test, quote_init) == 3);
	assert(strcmp(test.message, "no unit") == 0);
	lwc_test_secret(&test, "unit", "EUR", 3);
	assert(lwc_test_call_init(&test, quote_init) == 0);

	test.type = "text/plain";
	lwc_test_attribute(&test, "x-tenant", "a");
	/* What is not granted is refused. */
	assert(lwc_test_call(&test, quote, "lamp", 4) != 0);
	lwc_test_callee(&test, "prices", prices, &asked);
	lwc_test_callee(&test, "stock", no_stock, NULL);
	assert(lwc_test_call(&test, quote, "lamp", 4) == 0);
	assert(strcmp((const char *)test.answer, "12.50 EUR") == 0);
	assert(test.answer_len == 9 && test.calls == 2 && asked == 1);
	assert(strcmp(test.answer_type, "text/plain") == 0);
	assert(strcmp(lwc_test_get(&test.answer_attributes, "x-from"),
	    "summer") == 0);
	assert(strcmp(test.log, "INFO 4 bytes of text/plain\n"
	    "WARN stock: too late\n") == 0);

	/* Errors: its own, of what it calls, of its region. */
	assert(lwc_test_call(&test, quote, "", 0) == 400);
	assert(strcmp(test.message, "no article") == 0 && test.calls == 0);
	assert(lwc_test_call(&test, quote, "tree", 4) == LWC_UNHANDLED);
	assert(strcmp(test.message, "prices: no such article") == 0);
	test.capacity = 8;
	assert(lwc_test_call(&test, quote, "lamp", 4) == 413);
	lwc_test_end(&test);
	return (0);
}
