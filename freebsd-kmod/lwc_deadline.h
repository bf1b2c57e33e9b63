/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* lwSwitch() that comes back by itself (LWC_UNTIL). */

#ifndef _LWC_DEADLINE_H_
#define	_LWC_DEADLINE_H_

#include "lwc_context.h"

void	lwc_deadline_init(struct lwc_proc *lp);
void	lwc_deadline_fini(struct lwc_proc *lp);
void	lwc_deadline_forget(struct lwc_ctx *lc);
void	lwc_deadline_advance(struct lwc_ctx *lc, sbintime_t until);
bool	lwc_deadline_check(struct thread *td, struct lwc_proc *lp);

/* The current context leaves, until then at most. */
static inline void
lwc_deadline_begin(struct lwc_ctx *lc, sbintime_t until)
{
	sbintime_t armed;

	lc->lc_deadline = until;
	/* Either we see that the callout is over, or it sees the deadline. */
	atomic_thread_fence_seq_cst();
	armed = *(volatile sbintime_t *)&lc->lc_lp->lp_armed;
	if (armed == 0 || armed > until || !lc->lc_waits)
		lwc_deadline_advance(lc, until);
}

/* User mode's CLOCK_MONOTONIC, in nanoseconds, as the kernel has it. */
static inline sbintime_t
lwc_deadline_from(uint64_t ns)
{

	/* The clock does not get there. */
	if (ns >= (uint64_t)INT32_MAX * 1000000000)
		return (SBT_MAX);
	return (ns == 0 ? 1 : nstosbt(ns));
}

#endif /* !_LWC_DEADLINE_H_ */
