/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The interface of the Functions Framework for C++, as far as functions use it,
 * for functions that lwc runs: see the page "building" of the documentation.
 * Its own text: nothing here is of that project.
 */

#ifndef LWC_GOOGLE_CLOUD_FUNCTIONS_HTTP_RESPONSE_H
#define LWC_GOOGLE_CLOUD_FUNCTIONS_HTTP_RESPONSE_H

#include "google/cloud/functions/version.h"

#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace google::cloud::functions {

/* An answer: 200, without headers, empty, until something else is said. */
class HttpResponse {
public:
	using HeadersType = std::map<std::string, std::string>;

	HttpResponse() = default;

	[[nodiscard]] const std::string &payload() const { return body_; }
	[[nodiscard]] int result() const { return status_; }
	[[nodiscard]] HeadersType headers() const { return lines_; }
	[[nodiscard]] int version_major() const { return version_.first; }
	[[nodiscard]] int version_minor() const { return version_.second; }

#define LWC_BOTH_(signature, ...)					\
	HttpResponse &signature & { __VA_ARGS__; return *this; }	\
	HttpResponse &&signature && { __VA_ARGS__; return std::move(*this); }
	LWC_BOTH_(set_payload(std::string v), body_ = std::move(v))
	LWC_BOTH_(set_result(int code), status_ = code)
	LWC_BOTH_(set_header(std::string_view name, std::string_view value),
	    lines_[std::string(name)] = std::string(value))
	LWC_BOTH_(set_version(int major, int minor), version_ = {major, minor})
#undef LWC_BOTH_

#define LWC_STATUS_(name, code) static constexpr int name = code;
	LWC_STATUS_(kContinue, 100)
	LWC_STATUS_(kSwitchingProtocol, 101)
	LWC_STATUS_(kProcessing, 102)
	LWC_STATUS_(kEarlyHints, 103)
	LWC_STATUS_(kOkay, 200)
	LWC_STATUS_(kCreated, 201)
	LWC_STATUS_(kAccepted, 202)
	LWC_STATUS_(kNonAuthoritativeInformation, 203)
	LWC_STATUS_(kNoContent, 204)
	LWC_STATUS_(kResetContent, 205)
	LWC_STATUS_(kPartialContent, 206)
	LWC_STATUS_(kMultiStatus, 207)
	LWC_STATUS_(kAlreadyReported, 208)
	LWC_STATUS_(kIMUsed, 226)
	LWC_STATUS_(kMultipleChoice, 300)
	LWC_STATUS_(kMovedPermanently, 301)
	LWC_STATUS_(kFound, 302)
	LWC_STATUS_(kSeeOther, 303)
	LWC_STATUS_(kNotModified, 304)
	LWC_STATUS_(kUseProxy, 305)
	LWC_STATUS_(kTemporaryRedirect, 307)
	LWC_STATUS_(kPermanentRedirect, 308)
	LWC_STATUS_(kBadRequest, 400)
	LWC_STATUS_(kUnauthorized, 401)
	LWC_STATUS_(kPaymentRequired, 402)
	LWC_STATUS_(kForbidden, 403)
	LWC_STATUS_(kNotFound, 404)
	LWC_STATUS_(kMethodNotAllowed, 405)
	LWC_STATUS_(kNotAcceptable, 406)
	LWC_STATUS_(kProxyAuthenticationRequired, 407)
	LWC_STATUS_(kRequestTimeout, 408)
	LWC_STATUS_(kConflict, 409)
	LWC_STATUS_(kGone, 410)
	LWC_STATUS_(kLengthRequired, 411)
	LWC_STATUS_(kPreconditionFailed, 412)
	LWC_STATUS_(kPayloadTooLarge, 413)
	LWC_STATUS_(kURITooLong, 414)
	LWC_STATUS_(kUnsupportedMediaType, 415)
	LWC_STATUS_(kRangeNotSatisfiable, 416)
	LWC_STATUS_(kExpectationFailed, 417)
	LWC_STATUS_(kTeapot, 418)
	LWC_STATUS_(kMisdirectedRequest, 421)
	LWC_STATUS_(kUnprocessableEntity, 422)
	LWC_STATUS_(kLocked, 423)
	LWC_STATUS_(kFailedDependency, 424)
	LWC_STATUS_(kTooEarly, 425)
	LWC_STATUS_(kUpgradeRequired, 426)
	LWC_STATUS_(kPreconditionRequired, 428)
	LWC_STATUS_(kTooManyRequests, 429)
	LWC_STATUS_(kRequestHeaderFieldsTooLarge, 431)
	LWC_STATUS_(kUnavailableForLegalReasons, 451)
	LWC_STATUS_(kInternalServerError, 500)
	LWC_STATUS_(kNotImplemented, 501)
	LWC_STATUS_(kBadGateway, 502)
	LWC_STATUS_(kServiceUnavailable, 503)
	LWC_STATUS_(kGatewayTimeout, 504)
	LWC_STATUS_(kHTTPVersionNotSupported, 505)
	LWC_STATUS_(kVariantAlsoNegotiates, 506)
	LWC_STATUS_(kInsufficientStorage, 507)
	LWC_STATUS_(kLoopDetected, 508)
	LWC_STATUS_(kNotExtended, 510)
	LWC_STATUS_(kNetworkAuthenticationRequired, 511)
#undef LWC_STATUS_

private:
	std::string body_;
	int status_ = kOkay;
	HeadersType lines_;
	std::pair<int, int> version_{1, 1};
};

} /* namespace google::cloud::functions */

#endif
