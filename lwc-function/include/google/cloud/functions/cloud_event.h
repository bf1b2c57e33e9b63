/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The interface of the Functions Framework for C++, as far as functions use it,
 * for functions that lwc runs: see the page "building" of the documentation.
 * Its own text: nothing here is of that project.
 */

#ifndef LWC_GOOGLE_CLOUD_FUNCTIONS_CLOUD_EVENT_H
#define LWC_GOOGLE_CLOUD_FUNCTIONS_CLOUD_EVENT_H

#include "google/cloud/functions/version.h"

#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace google::cloud::functions {

/* A CloudEvent: what every one has, and what one may have. */
class CloudEvent {
public:
	static constexpr auto kDefaultSpecVersion = "1.0";
	using ClockType = std::chrono::system_clock;
	using time_point = ClockType::time_point;

	CloudEvent(std::string id, std::string source, std::string type,
	    std::string spec_version = kDefaultSpecVersion)
	    : id_(std::move(id)), source_(std::move(source)),
	      type_(std::move(type)), version_(std::move(spec_version)) {}

	[[nodiscard]] std::string id() const { return id_; }
	[[nodiscard]] std::string source() const { return source_; }
	[[nodiscard]] std::string type() const { return type_; }
	[[nodiscard]] std::string spec_version() const { return version_; }

#define LWC_OPTIONAL_(T, name)						\
	[[nodiscard]] std::optional<T> name() const { return name##_; }	\
	void set_##name(T v) { name##_ = std::move(v); }		\
	void reset_##name() { name##_.reset(); }
	LWC_OPTIONAL_(std::string, data_content_type)
	LWC_OPTIONAL_(std::string, data_schema)
	LWC_OPTIONAL_(std::string, subject)
	LWC_OPTIONAL_(time_point, time)
#undef LWC_OPTIONAL_

	[[nodiscard]] std::optional<std::string> data() const & { return data_; }
	[[nodiscard]] std::optional<std::string> data() && {
		return std::move(data_);
	}
	void set_data(std::string v) { data_ = std::move(v); }
	void reset_data() { data_.reset(); }

private:
	std::string id_, source_, type_, version_;
	std::optional<std::string> data_content_type_, data_schema_, subject_;
	std::optional<time_point> time_;
	std::optional<std::string> data_;
};

} /* namespace google::cloud::functions */

#endif
