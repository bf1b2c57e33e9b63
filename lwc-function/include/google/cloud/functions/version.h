/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The interface of the Functions Framework for C++, as far as functions use it,
 * for functions that lwc runs: see the page "building" of the documentation.
 * Its own text: nothing here is of that project.
 */

#ifndef LWC_GOOGLE_CLOUD_FUNCTIONS_VERSION_H
#define LWC_GOOGLE_CLOUD_FUNCTIONS_VERSION_H

/* The version whose interface it is. */
#define FUNCTIONS_FRAMEWORK_CPP_VERSION_MAJOR 1
#define FUNCTIONS_FRAMEWORK_CPP_VERSION_MINOR 1
#define FUNCTIONS_FRAMEWORK_CPP_VERSION_PATCH 0

#endif
