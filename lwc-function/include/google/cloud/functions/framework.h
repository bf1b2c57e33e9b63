/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The interface of the Functions Framework for C++, as far as functions use it,
 * for functions that lwc runs: see the page "building" of the documentation.
 * Its own text: nothing here is of that project.
 */

#ifndef LWC_GOOGLE_CLOUD_FUNCTIONS_FRAMEWORK_H
#define LWC_GOOGLE_CLOUD_FUNCTIONS_FRAMEWORK_H

#include "google/cloud/functions/function.h"

#include <cstdio>

namespace google::cloud::functions {

/* A server of its own; here the orchestrator is the server, and calls no main(). */
inline int Run(int, const char *const[], Function)
{
	std::fputs("name the function by target in the chain file\n", stderr);
	return 1;
}
inline int Run(int argc, const char *const argv[], UserHttpFunction function)
{
	return Run(argc, argv, MakeFunction(std::move(function)));
}
inline int Run(int argc, const char *const argv[], UserCloudEventFunction function)
{
	return Run(argc, argv, MakeFunction(std::move(function)));
}

} /* namespace google::cloud::functions */

#endif
