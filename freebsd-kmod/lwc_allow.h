/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* The system calls that a context can make: lwControl(LWC_CONTROL_ALLOW). */

#ifndef _LWC_ALLOW_H_
#define	_LWC_ALLOW_H_

#include "lwc_var.h"

#include <sys/limits.h>

/* A call of al_calls is in no other set; one of the other two may be in both. */
struct lwc_allow {
	u_int		al_refs;	/* (a) */
	u_int		al_limit;	/* (c) at most INT_MAX */
	u_int		al_least;	/* (c) at most INT_MAX */
	struct lwc_calls al_calls;	/* (c) whatever their arguments */
	struct lwc_calls al_below;	/* (c) if the first is below the limit */
	struct lwc_calls al_from;	/* (c) if the first is at least that */
};

struct lwc_allow *lwc_allow_hold(struct lwc_allow *al);
void	lwc_allow_free(struct lwc_allow *al);

static inline bool
lwc_calls_have(const struct lwc_calls *calls, u_int number)
{

	return ((calls->calls[number / 64] & (1ULL << (number % 64))) != 0);
}

/*
 * No list: every call.  The first argument is the one that the call gets, which
 * has been fetched for good, also by syscall(2); of its register the kernel
 * reads an int where a descriptor is meant, so the high half says nothing, and
 * what is negative is neither below a limit nor from any number on.
 */
static inline bool
lwc_allowed(const struct lwc_allow *al, u_int number, u_int first)
{

	if (al == NULL)
		return (true);
	if (number >= LWC_CALLS_MAX)
		return (false);
	if (lwc_calls_have(&al->al_calls, number))
		return (true);
	if (lwc_calls_have(&al->al_from, number))
		return (first >= al->al_least && first <= INT_MAX &&
		    (!lwc_calls_have(&al->al_below, number) ||
		    first < al->al_limit));
	return (lwc_calls_have(&al->al_below, number) &&
	    first < al->al_limit);
}

#endif /* !_LWC_ALLOW_H_ */
