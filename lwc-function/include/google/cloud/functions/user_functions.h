/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The interface of the Functions Framework for C++, as far as functions use it,
 * for functions that lwc runs: see the page "building" of the documentation.
 * Its own text: nothing here is of that project.
 */

#ifndef LWC_GOOGLE_CLOUD_FUNCTIONS_USER_FUNCTIONS_H
#define LWC_GOOGLE_CLOUD_FUNCTIONS_USER_FUNCTIONS_H

#include "google/cloud/functions/cloud_event.h"
#include "google/cloud/functions/http_request.h"
#include "google/cloud/functions/http_response.h"

#include <functional>

namespace google::cloud::functions {

using UserHttpFunction = std::function<HttpResponse(HttpRequest)>;
using UserCloudEventFunction = std::function<void(CloudEvent)>;

} /* namespace google::cloud::functions */

#endif
