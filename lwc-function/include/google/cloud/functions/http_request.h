/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The interface of the Functions Framework for C++, as far as functions use it,
 * for functions that lwc runs: see the page "building" of the documentation.
 * Its own text: nothing here is of that project.
 */

#ifndef LWC_GOOGLE_CLOUD_FUNCTIONS_HTTP_REQUEST_H
#define LWC_GOOGLE_CLOUD_FUNCTIONS_HTTP_REQUEST_H

#include "google/cloud/functions/version.h"

#include <map>
#include <string>
#include <utility>

namespace google::cloud::functions {

/*
 * A request. Its headers are those that the chain file selects, their names in
 * small letters; without a method it is a POST to "/".
 */
class HttpRequest {
public:
	using HeadersType = std::multimap<std::string, std::string>;

	HttpRequest() = default;

	[[nodiscard]] const std::string &verb() const { return method_; }
	[[nodiscard]] const std::string &target() const { return where_; }
	[[nodiscard]] const std::string &payload() const & { return body_; }
	[[nodiscard]] std::string &&payload() && { return std::move(body_); }
	[[nodiscard]] const HeadersType &headers() const { return lines_; }
	[[nodiscard]] int version_major() const { return version_.first; }
	[[nodiscard]] int version_minor() const { return version_.second; }

	/* Each on a request that is kept, and on one that is just made. */
#define LWC_BOTH_(signature, ...)				\
	HttpRequest &signature & { __VA_ARGS__; return *this; }	\
	HttpRequest &&signature && { __VA_ARGS__; return std::move(*this); }
	LWC_BOTH_(set_verb(std::string v), method_ = std::move(v))
	LWC_BOTH_(set_target(std::string v), where_ = std::move(v))
	LWC_BOTH_(set_payload(std::string v), body_ = std::move(v))
	LWC_BOTH_(clear_headers(), lines_.clear())
	LWC_BOTH_(add_header(std::string name, std::string value),
	    lines_.emplace(std::move(name), std::move(value)))
	LWC_BOTH_(remove_header(const std::string &name),
	    lines_.erase(name))
	LWC_BOTH_(set_version(int major, int minor),
	    version_ = {major, minor})
#undef LWC_BOTH_

private:
	std::string method_, where_, body_;
	HeadersType lines_;
	std::pair<int, int> version_{1, 1};
};

} /* namespace google::cloud::functions */

#endif
