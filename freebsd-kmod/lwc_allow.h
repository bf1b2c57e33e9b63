/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* The system calls that a context can make: lwControl(LWC_CONTROL_ALLOW). */

#ifndef _LWC_ALLOW_H_
#define	_LWC_ALLOW_H_

#include "lwc_var.h"

struct lwc_allow {
	u_int		al_refs;	/* (a) */
	struct lwc_calls al_calls;	/* (c) */
};

struct lwc_allow *lwc_allow_hold(struct lwc_allow *al);
void	lwc_allow_free(struct lwc_allow *al);

/* No list: every call. */
static inline bool
lwc_allowed(const struct lwc_allow *al, u_int number)
{

	return (al == NULL || (number < LWC_CALLS_MAX &&
	    (al->al_calls.calls[number / 64] & (1ULL << (number % 64))) != 0));
}

#endif /* !_LWC_ALLOW_H_ */
