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
 * It calls other functions that the chain file grants it:
 *
 *	auto rates = inv.call("rates", inv.input());
 *	inv.append(rates.bytes);
 *
 * An exception that leaves the callable becomes the function's error:
 * lwc::CallError, of a call that failed, makes the request fail as that call
 * did; lwc::Error with its code, std::bad_alloc as 507, any other as 500.
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
#include <type_traits>
#include <utility>
#include <vector>

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

/* An answer of another function, copied. */
struct Reply {
	std::string bytes;
	std::string type;	/* content type */
	std::vector<std::pair<std::string, std::string>> attributes;

	std::optional<std::string> attribute(std::string_view name) const {
		for (const auto &a : attributes)
			if (a.first == name)
				return a.second;
		return std::nullopt;
	}
};

/*
 * An answer in place: valid as lwc_function.h says of lwc_reply.  Of
 * Callee::call() until the next call to that function, of Pending::finish()
 * until the end of the invocation.
 */
class ReplyView {
public:
	ReplyView(const lwc_invocation &inv, const lwc_reply &raw) noexcept
	    : inv_(&inv), raw_(raw) {}

	std::string_view bytes() const noexcept {
		return {reinterpret_cast<const char *>(raw_.data), raw_.len};
	}
	std::string_view type() const noexcept { return raw_.type; }
	std::optional<std::string_view>
	attribute(const std::string &name) const noexcept {
		const char *value = lwc_reply_attribute_of(inv_, &raw_,
		    name.c_str());
		if (value == nullptr)
			return std::nullopt;
		return std::string_view(value);
	}
	/* A copy that stays. */
	Reply copy() const {
		Reply reply{std::string(bytes()), std::string(type()), {}};
		const char *name, *value;
		for (size_t i = 0; (value = inv_->calls->attribute_of_reply(
		    inv_->host, &raw_, i, &name)) != nullptr; i++)
			reply.attributes.emplace_back(name, value);
		return reply;
	}

private:
	const lwc_invocation *inv_;
	lwc_reply raw_;
};

/* A call that brought no answer; it owns all that it tells. */
class CallError : public Error {
public:
	CallError(const lwc_invocation &inv, std::string callee,
	    const lwc_reply &raw)
	    : Error(raw.code, text(callee, raw)), callee_(std::move(callee)),
	      function_(raw.function[0] != 0 ? raw.function : callee_),
	      message_(raw.message), outcome_(raw.outcome),
	      reply_(ReplyView(inv, raw).copy()) {}

	/* LWC_REPORTED, with code(); LWC_CRASHED, ... */
	int outcome() const noexcept { return outcome_; }
	/* The function that was called. */
	const std::string &callee() const noexcept { return callee_; }
	/* Who failed: it, or a function that it called, directly or not. */
	const std::string &function() const noexcept { return function_; }
	/* What went wrong. */
	const std::string &message() const noexcept { return message_; }
	/* What came beside an error of its own. */
	const Reply &reply() const noexcept { return reply_; }

private:
	static std::string text(const std::string &callee,
	    const lwc_reply &raw) {
		std::string s = raw.function[0] != 0 ? raw.function : callee;
		s += " failed";
		if (raw.message[0] != 0)
			(s += ": ") += raw.message;
		return s;
	}

	std::string callee_, function_, message_;
	int outcome_;
	Reply reply_;
};

/* A call that was started; one that is not finished may or may not run. */
class Pending {
public:
	Pending(const lwc_invocation &inv, std::string function,
	    uint64_t ticket) noexcept
	    : inv_(&inv), function_(std::move(function)), ticket_(ticket) {}
	Pending(Pending &&) = default;
	Pending &operator=(Pending &&) = default;

	/* Waits for the answer, once; CallError if there is none. */
	ReplyView finish() {
		lwc_reply raw;
		if (lwc_call_finish(inv_, ticket_, &raw) != 0)
			throw CallError(*inv_, function_, raw);
		return {*inv_, raw};
	}

private:
	const lwc_invocation *inv_;
	std::string function_;
	uint64_t ticket_;
};

/*
 * A function to call in place: arguments are written where it finds them, and
 * its answer is read where it wrote it.  Any other call to that function makes
 * invalid what this one gave.
 */
class Callee {
public:
	Callee(lwc_invocation &inv, std::string function)
	    : inv_(&inv), function_(std::move(function)) {}

	/*
	 * Where the arguments of the next call go, and how many bytes; null
	 * and 0 if the chain file grants no call to it.
	 */
	uint8_t *buffer() {
		return lwc_call_buffer(inv_, function_.c_str(), &capacity_);
	}
	size_t capacity() {
		(void)buffer();
		return capacity_;
	}
	/* Sets an attribute of the next call; Error 500 if it cannot be. */
	void attribute(const std::string &name, const std::string &value) {
		if (lwc_call_attribute(inv_, function_.c_str(), name.c_str(),
		    value.c_str()) != 0)
			throw Error(inv_->status, inv_->error);
	}
	/*
	 * Calls it with the first `len' bytes of buffer(), of a content type
	 * if one is given; CallError if it does not answer.
	 */
	ReplyView call(size_t len, const std::string &type = {}) {
		lwc_reply raw;
		if (lwc_call_typed(inv_, function_.c_str(), buffer(), len,
		    type.empty() ? nullptr : type.c_str(), &raw) != 0)
			throw CallError(*inv_, function_, raw);
		return {*inv_, raw};
	}
	/* Starts such a call and goes on. */
	Pending start(size_t len, const std::string &type = {}) {
		return {*inv_, function_, lwc_call_start(inv_,
		    function_.c_str(), buffer(), len,
		    type.empty() ? nullptr : type.c_str())};
	}

private:
	lwc_invocation *inv_;
	std::string function_;
	size_t capacity_ = 0;
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
	/*
	 * What this invocation answers is the answer of the request; see
	 * lwc_end_request().  Error 500 where it may not be.
	 */
	void end_request() {
		if (lwc_end_request(&raw_) != 0)
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
	/* Who calls this function; none: it is a step, or an entry. */
	std::optional<std::string_view> caller() const noexcept {
		const char *name = lwc_caller(&raw_);
		if (name == nullptr)
			return std::nullopt;
		return std::string_view(name);
	}
	/*
	 * Calls a function that the chain file grants (`calls'): these bytes
	 * are its input, of a content type if one is given.  CallError if it
	 * does not answer.
	 */
	Reply call(const std::string &function, std::string_view args,
	    const std::string &type = {}) {
		lwc_reply raw;
		if (lwc_call_typed(&raw_, function.c_str(), args.data(),
		    args.size(), type.empty() ? nullptr : type.c_str(),
		    &raw) != 0)
			throw CallError(raw_, function, raw);
		return ReplyView(raw_, raw).copy();
	}
	/*
	 * A call with values: `format' makes bytes of `args', and `parse' a
	 * value of the answer's.
	 */
	template <typename A, typename Format, typename Parse>
	auto call_typed(const std::string &function, const std::string &type,
	    const A &args, Format &&format, Parse &&parse) {
		Reply reply = call(function, format(args), type);
		try {
			return parse(std::string_view(reply.bytes));
		} catch (const Error &) {
			throw;
		} catch (const std::exception &e) {
			throw Error(500, "the answer of " + function + ": " +
			    e.what());
		}
	}
	/*
	 * Starts a call and goes on; calls that are started may be finished in
	 * any order.
	 */
	Pending start(const std::string &function, std::string_view args,
	    const std::string &type = {}) {
		return {raw_, function, lwc_call_start(&raw_, function.c_str(),
		    args.data(), args.size(),
		    type.empty() ? nullptr : type.c_str())};
	}
	/* A function to call in place. */
	Callee callee(const std::string &function) { return {raw_, function}; }

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
	} catch (const CallError &e) {
		return lwc_unhandled(raw, e.callee().c_str());
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
 * exception of its is the caller's fault: 400), `f' an answer of it, or of the
 * invocation and it, `format' bytes of that.
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
	if constexpr (std::is_invocable_v<F &, Invocation &, decltype(value)>)
		inv.append(format(f(inv, std::move(value))));
	else
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
