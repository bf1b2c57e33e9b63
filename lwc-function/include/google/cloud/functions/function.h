/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The interface of the Functions Framework for C++, as far as functions use it,
 * for functions that lwc runs: see the page "building" of the documentation.
 * Its own text: nothing here is of that project.
 */

#ifndef LWC_GOOGLE_CLOUD_FUNCTIONS_FUNCTION_H
#define LWC_GOOGLE_CLOUD_FUNCTIONS_FUNCTION_H

#include "google/cloud/functions/user_functions.h"

#include <cstdlib>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace google::cloud::functions {

/* A function of either kind; copies are the same one. */
class Function {
public:
	friend bool operator==(const Function &a, const Function &b) {
		return a.body_ == b.body_;
	}
	friend bool operator!=(const Function &a, const Function &b) {
		return !(a == b);
	}

	/* Not of that framework: what lwc calls. One of the two is there. */
	struct Body {
		UserHttpFunction http;
		UserCloudEventFunction event;
	};
	explicit Function(Body body)
	    : body_(std::make_shared<const Body>(std::move(body))) {}
	const Body &lwc_body() const { return *body_; }

private:
	std::shared_ptr<const Body> body_;
};

inline Function MakeFunction(UserHttpFunction function)
{
	return Function({std::move(function), nullptr});
}

inline Function MakeFunction(UserCloudEventFunction function)
{
	return Function({nullptr, std::move(function)});
}

/*
 * One of several, by the variable FUNCTION_TARGET, which the chain file grants
 * with `env'.
 */
inline Function MakeFunction(std::map<std::string, Function> mapping)
{
	const char *name = std::getenv("FUNCTION_TARGET");
	auto found = mapping.find(name == nullptr ? "" : name);
	if (found == mapping.end())
		throw std::invalid_argument(name == nullptr ?
		    std::string("FUNCTION_TARGET is not set: grant it with env") :
		    "FUNCTION_TARGET: no function is called " + std::string(name));
	return found->second;
}

} /* namespace google::cloud::functions */

#endif
