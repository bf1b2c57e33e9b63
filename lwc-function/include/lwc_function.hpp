/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * lwc_function.hpp: what the author of a function in C++17 includes.
 *
 *	#include "lwc_function.hpp"
 *
 *	LWC_FUNCTION(greet, [](lwc::Invocation &inv) {
 *		inv.append("Hello, ");
 *		inv.append(inv.input());
 *	})
 *
 * An exception that leaves the callable becomes the function's error:
 * lwc::Error with its code, std::bad_alloc as 507, any other as 500.
 */

#ifndef LWC_FUNCTION_HPP
#define LWC_FUNCTION_HPP

#include "lwc_function.h"

#include <exception>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace lwc {

/* An error for the caller: a code and a message. */
class Error : public std::runtime_error {
public:
	Error(int code, const std::string &message)
	    : std::runtime_error(message), code_(code) {}
	int code() const noexcept { return code_; }

private:
	int code_;
};

/* One invocation, by reference: nothing here owns memory. */
class Invocation {
public:
	explicit Invocation(lwc_invocation &raw) noexcept : raw_(raw) {}
	Invocation(const Invocation &) = delete;
	Invocation &operator=(const Invocation &) = delete;

	/* The input, in place; read-only memory. */
	std::string_view input() const noexcept {
		return {reinterpret_cast<const char *>(raw_.input),
		    raw_.input_len};
	}
	std::string_view input_type() const noexcept { return raw_.input_type; }
	std::string_view id() const noexcept { return raw_.id; }

	/* Where the answer grows, in place, and the room that is left there. */
	uint8_t *spare() noexcept { return raw_.output + raw_.output_len; }
	size_t room() const noexcept {
		return raw_.output_capacity - raw_.output_len;
	}
	/* Counts bytes written at spare() as part of the answer. */
	void commit(size_t len) {
		if (len > room())
			throw Error(413, "the answer does not fit its region");
		raw_.output_len += len;
	}
	/* Appends to the answer; Error 413 when the region is full. */
	void append(std::string_view bytes) {
		if (lwc_append(&raw_, bytes.data(), bytes.size()) != 0)
			throw Error(raw_.status, raw_.error);
	}
	/* Names the answer's content type (the input's, if never called). */
	void reply_type(const std::string &type) noexcept {
		lwc_reply_type(&raw_, type.c_str());
	}
	/* An attribute of the input, in place; see lwc_function.h. */
	std::optional<std::string_view> attribute(const std::string &name) const {
		const char *value = lwc_attribute(&raw_, name.c_str());
		if (value == nullptr)
			return std::nullopt;
		return std::string_view(value);
	}
	/* Sets an attribute of the answer; Error 500 for one that cannot be. */
	void reply_attribute(const std::string &name, const std::string &value) {
		if (lwc_reply_attribute(&raw_, name.c_str(), value.c_str()) != 0)
			throw Error(raw_.status, raw_.error);
	}
	/* Sets the status of an HTTP answer, 200 to 599. */
	void reply_status(int status) {
		if (lwc_reply_status(&raw_, status) != 0)
			throw Error(raw_.status, raw_.error);
	}
	/* A secret granted in the chain file, in place; do not copy it. */
	std::optional<std::string_view> secret(const std::string &name) const {
		size_t len = 0;
		const uint8_t *p = lwc_secret(&raw_, name.c_str(), &len);
		if (p == nullptr)
			return std::nullopt;
		return std::string_view(reinterpret_cast<const char *>(p), len);
	}
	void log(int level, const std::string &text) const {
		raw_.calls->log(raw_.host, level, text.data(), text.size());
	}
	/* Nanoseconds left; UINT64_MAX without a deadline. */
	uint64_t remaining() const noexcept { return lwc_remaining(&raw_); }

private:
	lwc_invocation &raw_;
};

/* Runs a callable and turns what it throws into an error. */
template <typename F>
int
run(lwc_invocation *raw, F &&f) noexcept
{
	try {
		Invocation inv(*raw);
		f(inv);
		return 0;
	} catch (const Error &e) {
		return lwc_fail(raw, e.code(), "%s", e.what());
	} catch (const std::bad_alloc &) {
		return lwc_fail(raw, 507, "out of memory; raise `memory' in "
		    "the chain file");
	} catch (const std::exception &e) {
		return lwc_fail(raw, 500, "%s", e.what());
	} catch (...) {
		return lwc_fail(raw, 500, "an exception of unknown type");
	}
}

/*
 * A handler of values instead of bytes: `parse' makes a value of the input (an
 * exception of its is the caller's fault: 400), `f' an answer of it, `format'
 * bytes of that.
 */
template <typename Parse, typename F, typename Format>
void
typed(Invocation &inv, Parse &&parse, F &&f, Format &&format)
{
	auto value = [&] {
		try {
			return parse(inv.input());
		} catch (const Error &) {
			throw;
		} catch (const std::exception &e) {
			throw Error(400, std::string("the input: ") + e.what());
		}
	}();
	inv.append(format(f(std::move(value))));
}

} /* namespace lwc */

/* Makes a callable of lwc::Invocation & the handler `name'. */
#define LWC_FUNCTION(name, ...)						\
	LWC_HANDLER(name) { return lwc::run(inv, __VA_ARGS__); }

/* The same for one that takes CloudEvents alone. */
#define LWC_EVENT_FUNCTION(name, ...)					\
	LWC_EVENT_HANDLER(name) { return lwc::run(inv, __VA_ARGS__); }

/*
 * Makes `f', of one type to another, the handler `name'; its answer's content
 * type is `type'.  See lwc::typed.
 */
#define LWC_TYPED_FUNCTION(name, type, parse, f, format)		\
	LWC_FUNCTION(name, [](lwc::Invocation &inv_) {			\
		inv_.reply_type(type);					\
		lwc::typed(inv_, parse, f, format);			\
	})

#endif /* !LWC_FUNCTION_HPP */
