/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * An end of patience: lwSwitch() that comes back by itself.
 *
 * A context that asked for it (LWC_UNTIL) has a deadline from when it leaves.
 * If nobody resumed it by then, whichever context is current is suspended where
 * it is, between two instructions, and the one whose patience ended is resumed,
 * in lwSwitch(), with ETIMEDOUT.  The suspended one is not told and not harmed:
 * somebody may switch to it, and it goes on; or its creator destroys it.
 *
 * A callout looks after the deadline.  To set one and to stop it again would be
 * dear beside a switch, so it is left alone while it goes off no later than it
 * has to, and finds out then how long there is still to wait, if at all.
 *
 * It runs in a thread of the kernel's and changes nothing: when the time is
 * over it sets an AST for the process's thread, and wakes it if it sleeps where
 * a signal would wake it.  That may come a moment before the thread falls
 * asleep, so it is done again and again until the context was resumed.  What is
 * to be done is decided by the thread itself, on its way to user mode, with
 * nothing held.  Signals play no part: a context that blocks them all is
 * suspended just the same.
 *
 * The callout has no reference on the context; lwc_ctx_destroy() drains it.
 */

#include "lwc_var.h"

#include <sys/callout.h>
#include <sys/sleepqueue.h>
#include <sys/smp.h>
#include <sys/time.h>

/* Between two attempts to get hold of the thread. */
#define	LWC_AGAIN	(10 * SBT_1MS)

static void	lwc_patience_arm(struct lwc_ctx *lc, sbintime_t when);

static void
lwc_patience_kick(struct proc *p)
{
	struct thread *td;

	PROC_LOCK_ASSERT(p, MA_OWNED);
	FOREACH_THREAD_IN_PROC(p, td) {
		ast_sched(td, LWC_AST);
		thread_lock(td);
		if (TD_ON_SLEEPQ(td) && (td->td_flags & TDF_SINTR) != 0) {
			sleepq_abort(td, ERESTART);	/* and unlocks it */
			continue;
		}
#ifdef SMP
		if (TD_IS_RUNNING(td) && td != curthread)
			forward_signal(td);
#endif
		thread_unlock(td);
	}
}

static void
lwc_patience_over(void *arg)
{
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	sbintime_t due, now;

	lc = arg;
	lp = lc->lc_lp;
	mtx_lock(&lp->lp_mtx);
	*(volatile sbintime_t *)&lc->lc_armed = 0;
	atomic_thread_fence_seq_cst();	/* see lwc_patience_begin() */
	due = *(volatile sbintime_t *)&lc->lc_deadline;
	if (lp->lp_proc != NULL && lc->lc_state != LWC_STATE_DEAD &&
	    due != 0) {
		now = sbinuptime();
		if (due <= now) {
			PROC_LOCK(lp->lp_proc);
			lwc_patience_kick(lp->lp_proc);
			PROC_UNLOCK(lp->lp_proc);
			due = now + LWC_AGAIN;
		}
		lwc_patience_arm(lc, due);
	}
	mtx_unlock(&lp->lp_mtx);
}

static void
lwc_patience_arm(struct lwc_ctx *lc, sbintime_t when)
{

	mtx_assert(&lc->lc_lp->lp_mtx, MA_OWNED);
	lc->lc_armed = when;
	callout_reset_sbt(&lc->lc_callout, when, 0, lwc_patience_over, lc,
	    C_ABSOLUTE);
}

/* The current context leaves, and the callout would be too late. */
void
lwc_patience_advance(struct lwc_ctx *lc, sbintime_t until)
{
	struct lwc_proc *lp;

	lp = lc->lc_lp;
	mtx_lock(&lp->lp_mtx);
	/* Its end drains the callout, once. */
	if (lc->lc_state != LWC_STATE_DEAD &&
	    (lc->lc_armed == 0 || lc->lc_armed > until))
		lwc_patience_arm(lc, until);
	mtx_unlock(&lp->lp_mtx);
}

/*
 * On the way to user mode: has somebody waited long enough?  Of several the
 * one that was made first: it is, in practice, the other's creator.  Returns
 * true if the thread is in another context now.
 */
bool
lwc_patience_check(struct thread *td, struct lwc_proc *lp)
{
	struct lwc_ctx *lc, *waiting;
	struct lwc_event ev;
	sbintime_t now;
	int error;

	now = sbinuptime();
	waiting = NULL;
	mtx_lock(&lp->lp_mtx);
	LIST_FOREACH(lc, &lp->lp_ctxs, lc_link) {
		if (lc->lc_deadline == 0 || lc->lc_deadline > now ||
		    lc->lc_state != LWC_STATE_SUSPENDED)
			continue;
		if (waiting == NULL || lc->lc_id < waiting->lc_id)
			waiting = lc;
	}
	if (waiting != NULL)
		lwc_ctx_ref(waiting);
	mtx_unlock(&lp->lp_mtx);
	if (waiting == NULL)
		return (false);
	error = lwc_proc_check(td);
	if (error == 0) {
		ev.ev_kind = LWC_SWITCHED;
		ev.ev_n = 0;
		ev.ev_until = 0;
		error = lwc_enter(td, lp, waiting, &ev, LWC_HOW_PREEMPT);
	}
	lwc_ctx_rele(waiting);
	return (error == EJUSTRETURN);
}
