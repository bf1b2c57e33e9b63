// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The handler of a function that is written to the Functions Framework for C++:
// LWC_TARGET is its qualified name, LWC_TARGET_NAME the last part of that, and
// LWC_TARGET_OPEN and LWC_TARGET_CLOSE are what its namespace begins and ends with.
// It is one of four kinds, of which the linker knows: the others are null.

#include <google/cloud/functions/function.h>

#include <cstdio>
#include <ctime>
#include <memory>

#include "lwc_function.hpp"

namespace lwc_gcf = ::google::cloud::functions;

LWC_TARGET_OPEN
__attribute__((weak)) ::google::cloud::functions::Function LWC_TARGET_NAME();
__attribute__((weak)) ::google::cloud::functions::HttpResponse
    LWC_TARGET_NAME(::google::cloud::functions::HttpRequest);
__attribute__((weak)) ::google::cloud::functions::HttpResponse
    LWC_TARGET_NAME(const ::google::cloud::functions::HttpRequest &);
__attribute__((weak)) void LWC_TARGET_NAME(::google::cloud::functions::CloudEvent);
__attribute__((weak)) void
    LWC_TARGET_NAME(const ::google::cloud::functions::CloudEvent &);
LWC_TARGET_CLOSE

namespace {

#define LWC_TEXT_(x) #x
#define LWC_TEXT(x) LWC_TEXT_(x)
// Without the "::" that it begins with.
const char *const name = &LWC_TEXT(LWC_TARGET)[2];

// Never destroyed: it is there to the end.
const lwc_gcf::Function::Body *body;

const lwc_gcf::Function *found()
{
	auto make = static_cast<lwc_gcf::Function (*)()>(&LWC_TARGET);
	auto http = static_cast<lwc_gcf::HttpResponse (*)(lwc_gcf::HttpRequest)>(&LWC_TARGET);
	auto http_by = static_cast<lwc_gcf::HttpResponse (*)(const lwc_gcf::HttpRequest &)>(&LWC_TARGET);
	auto event = static_cast<void (*)(lwc_gcf::CloudEvent)>(&LWC_TARGET);
	auto event_by = static_cast<void (*)(const lwc_gcf::CloudEvent &)>(&LWC_TARGET);

	if (make != nullptr)
		return new lwc_gcf::Function(make());
	if (http != nullptr)
		return new lwc_gcf::Function(lwc_gcf::MakeFunction(lwc_gcf::UserHttpFunction(http)));
	if (http_by != nullptr)
		return new lwc_gcf::Function(lwc_gcf::MakeFunction(lwc_gcf::UserHttpFunction(http_by)));
	if (event != nullptr)
		return new lwc_gcf::Function(lwc_gcf::MakeFunction(lwc_gcf::UserCloudEventFunction(event)));
	if (event_by != nullptr)
		return new lwc_gcf::Function(lwc_gcf::MakeFunction(lwc_gcf::UserCloudEventFunction(event_by)));
	return nullptr;
}

std::string small(std::string_view text)
{
	std::string all(text);
	for (char &c : all)
		if (c >= 'A' && c <= 'Z')
			c = static_cast<char>(c - 'A' + 'a');
	return all;
}

// RFC 3339, such as 2026-11-27T05:24:20.5+01:00; nothing for what is none.
std::optional<lwc_gcf::CloudEvent::time_point> time_of(const std::string &text)
{
	std::tm date{};
	int at = 0;
	if (std::sscanf(text.c_str(), "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &date.tm_year,
	    &date.tm_mon, &date.tm_mday, &date.tm_hour, &date.tm_min, &date.tm_sec, &at) != 6 ||
	    at == 0)
		return std::nullopt;
	if (date.tm_mon < 1 || date.tm_mon > 12 || date.tm_mday < 1 || date.tm_mday > 31 ||
	    date.tm_year < 1583 || date.tm_hour < 0 || date.tm_hour > 23 || date.tm_min < 0 ||
	    date.tm_min > 59 || date.tm_sec < 0 || date.tm_sec > 60)
		return std::nullopt;
	date.tm_year -= 1900;
	date.tm_mon -= 1;
	std::size_t rest = static_cast<std::size_t>(at);
	long nanos = 0;
	if (rest < text.size() && text[rest] == '.') {
		long unit = 100000000;
		for (rest++; rest < text.size() && text[rest] >= '0' && text[rest] <= '9'; rest++) {
			nanos += unit * (text[rest] - '0');
			unit /= 10;
		}
	}
	long offset = 0;
	if (rest + 6 == text.size() && (text[rest] == '+' || text[rest] == '-')) {
		int hours, minutes;
		if (std::sscanf(text.c_str() + rest + 1, "%2d:%2d", &hours, &minutes) != 2)
			return std::nullopt;
		offset = (hours * 60L + minutes) * 60 * (text[rest] == '-' ? -1 : 1);
	} else if (rest + 1 != text.size() || (text[rest] != 'Z' && text[rest] != 'z')) {
		return std::nullopt;
	}
	std::time_t seconds = timegm(&date) - offset;
	return lwc_gcf::CloudEvent::ClockType::from_time_t(seconds) +
	    std::chrono::duration_cast<lwc_gcf::CloudEvent::ClockType::duration>(
	    std::chrono::nanoseconds(nanos));
}

template <class Hear>
void each_attribute(const lwc_invocation &raw, Hear hear)
{
	const char *name, *value;
	for (std::size_t i = 0; (value = raw.calls->attribute(raw.host, i, &name)) != nullptr; i++)
		hear(std::string_view(name), std::string(value));
}

[[maybe_unused]] void http(lwc_invocation &raw, lwc::Invocation &inv)
{
	lwc_gcf::HttpRequest request;
	std::string method = "POST", path = "/", query;

	each_attribute(raw, [&](std::string_view name, std::string value) {
		if (name == ":method")
			method = std::move(value);
		else if (name == ":path")
			path = std::move(value);
		else if (name == ":query")
			query = std::move(value);
		else if (!name.empty() && name[0] != ':' && name != "content-type")
			request.add_header(std::string(name), std::move(value));
	});
	if (!inv.input_type().empty())
		request.add_header("content-type", std::string(inv.input_type()));
	request.set_verb(std::move(method));
	request.set_target(query.empty() ? path : path + "?" + query);
	request.set_payload(std::string(inv.input()));
	lwc_gcf::HttpResponse response = body->http(std::move(request));
	if (response.result() != lwc_gcf::HttpResponse::kOkay)
		inv.reply_status(response.result());
	bool typed = false;
	for (const auto &[name, value] : response.headers()) {
		std::string key = small(name);
		if (key == "content-type") {
			inv.reply_type(value);
			typed = true;
		} else {
			inv.reply_attribute(key, value);
		}
	}
	if (!typed)
		inv.reply_type("application/octet-stream");
	inv.append(response.payload());
	if (response.result() >= 300)
		// As a step of a chain it is the last, if the file grants that.
		(void)raw.calls->end_request(raw.host);
}

[[maybe_unused]] void event(lwc_invocation &raw, lwc::Invocation &inv)
{
	auto text = [&](const char *name) {
		return std::string(inv.attribute(name).value_or(""));
	};
	auto version = inv.attribute("ce-specversion").value_or("1.0");
	lwc_gcf::CloudEvent event(text("ce-id"), text("ce-source"), text("ce-type"),
	    std::string(version));

	each_attribute(raw, [&](std::string_view name, std::string value) {
		if (name == "ce-subject")
			event.set_subject(std::move(value));
		else if (name == "ce-dataschema")
			event.set_data_schema(std::move(value));
		else if (name == "ce-time")
			if (auto time = time_of(value))
				event.set_time(*time);
	});
	if (!inv.input_type().empty())
		event.set_data_content_type(std::string(inv.input_type()));
	if (!inv.input().empty())
		event.set_data(std::string(inv.input()));
	body->event(std::move(event));
}

} // namespace

LWC_INIT(lwc_target)
{
	try {
		const lwc_gcf::Function *function = found();
		if (function == nullptr)
			return lwc_setup_fail(setup, 1, "no function %s(), of HttpRequest or of "
			    "CloudEvent, is defined", name);
		body = &function->lwc_body();
	} catch (const std::exception &e) {
		return lwc_setup_fail(setup, 1, "%s: %s", name, e.what());
	} catch (...) {
		return lwc_setup_fail(setup, 1, "%s: an exception of unknown type",
		    name);
	}
#ifdef LWC_TARGET_EVENT
	if (!body->event)
		return lwc_setup_fail(setup, 1, "%s takes an HttpRequest: leave out signature",
		    name);
#else
	if (!body->http)
		return lwc_setup_fail(setup, 1, "%s takes a CloudEvent: say signature = "
		    "\"cloudevent\"", name);
#endif
	return 0;
}

#ifdef LWC_TARGET_EVENT
LWC_EVENT_HANDLER(lwc_target)
{
	return lwc::run(inv, [inv](lwc::Invocation &call) { event(*inv, call); });
}
#else
LWC_HANDLER(lwc_target)
{
	return lwc::run(inv, [inv](lwc::Invocation &call) { http(*inv, call); });
}
#endif
