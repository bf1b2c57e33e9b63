/*
 * The functions that the Functions Framework's public conformance client asks
 * for: http, cloudevent and typed, and one that takes a second.
 *
 * The client reads what a function was given from a file that the function
 * writes.  Ours have no files: they answer with it, and adapter.py writes it.
 */

#include "lwc_function.hpp"

#include <time.h>

/* JSON string of a text without control characters. */
static std::string
quote(std::string_view text)
{
	std::string out = "\"";

	for (char c : text) {
		if (c == '"' || c == '\\')
			out += '\\';
		out += c;
	}
	return out + "\"";
}

LWC_FUNCTION(http, [](lwc::Invocation &inv) {
	inv.append(inv.input());
})

/* The event in the JSON format, the attributes in the order they came. */
LWC_EVENT_FUNCTION(cloudevent, [](lwc::Invocation &inv) {
	static const char *const names[] = { "specversion", "type", "source",
	    "subject", "id", "time" };
	std::string out = "{";

	for (const char *name : names) {
		auto value = inv.attribute(std::string("ce-") + name);
		if (value)
			out += quote(name) + ":" + quote(*value) + ",";
	}
	out += "\"datacontenttype\":" + quote(inv.input_type()) + ",\"data\":";
	out += inv.input().empty() ? "null" : inv.input();
	inv.append(out + "}");
})

static std::string
object(std::string_view in)
{

	if (in.empty() || in.front() != '{' || in.back() != '}')
		throw std::invalid_argument("not a JSON object");
	return std::string(in);
}

LWC_TYPED_FUNCTION(typed, "application/json", object,
    [](const std::string &request) { return "{\"payload\":" + request + "}"; },
    [](const std::string &response) { return response; })

static void
wait_a_second()
{
	struct timespec left = { 1, 50000000 };

	while (nanosleep(&left, &left) != 0)
		continue;
}

LWC_FUNCTION(slow, [](lwc::Invocation &) { wait_a_second(); })
LWC_EVENT_FUNCTION(slow_event, [](lwc::Invocation &) { wait_a_second(); })
