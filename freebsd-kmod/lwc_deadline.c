/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Deadlines: lwSwitch() that comes back by itself.
 *
 * A context that asked for it (LWC_UNTIL) has a deadline from when it leaves.
 * If nobody resumed it by then, the current context is suspended where it is,
 * between two instructions, and the one whose deadline passed is resumed, in
 * lwSwitch(), with ETIMEDOUT.  The suspended one is not told and not harmed:
 * somebody may switch to it, and it goes on; or its creator destroys it.
 *
 * A deadline is for what one has made: it suspends a context that the waiting
 * one created, or that such a one created, and so on, and no other.  A function
 * cannot take the processor from whoever runs it.  While another is current a
 * deadline that has passed stands, and is looked at once a second.
 *
 * One callout a process looks after the earliest deadline.  To set one and to
 * stop it again would be dear beside a switch, so it is left alone while it
 * goes off no later than it has to, and finds out then how long there is still
 * to wait, if at all.  It looks at the contexts that ever had a deadline, and
 * takes care not to come again sooner than LWC_GRAIN for each of them.
 *
 * It runs in a thread of the kernel's and changes nothing: when the time is
 * over it sets an AST for the process's thread, and wakes it if it sleeps where
 * a signal would wake it.  That may come a moment before the thread falls
 * asleep, so it is done again, after 10 ms, then 20, up to a second, until the
 * context was resumed.  What is to be done is decided by the thread itself, on
 * its way to user mode, with nothing held.  Signals play no part: a context
 * that blocks them all is suspended just the same.
 */

#include "lwc_deadline.h"
#include "lwc_switch.h"
#include "lwc_trap.h"

#include <sys/callout.h>
#include <sys/sleepqueue.h>
#include <sys/smp.h>
#include <sys/time.h>

/* Between two attempts to get hold of the thread: at first, at most. */
#define	LWC_AGAIN_MIN	(10 * SBT_1MS)
#define	LWC_AGAIN_MAX	SBT_1S
/* Between two looks, for each context that is looked at. */
#define	LWC_GRAIN	(2 * SBT_1US)

static void
lwc_deadline_kick(struct proc *p)
{
	struct thread *td;

	PROC_LOCK_ASSERT(p, MA_OWNED);
	/* No switch is possible while there are more: 1.5. */
	td = FIRST_THREAD_IN_PROC(p);
	if (td == NULL || p->p_numthreads != 1)
		return;
	ast_sched(td, LWC_AST);
	thread_lock(td);
	if (TD_ON_SLEEPQ(td) && (td->td_flags & TDF_SINTR) != 0 &&
	    ((td->td_flags & TDF_SBDRY) == 0 ||
	    (td->td_flags & (TDF_SEINTR | TDF_SERESTART)) != 0)) {
		sleepq_abort(td, ERESTART);	/* and unlocks it */
		return;
	}
#ifdef SMP
	if (TD_IS_RUNNING(td) && td != curthread)
		forward_signal(td);
#endif
	thread_unlock(td);
}

static void	lwc_deadline_over(void *arg);

static void
lwc_deadline_arm(struct lwc_proc *lp, sbintime_t when)
{

	mtx_assert(&lp->lp_mtx, MA_OWNED);
	lp->lp_armed = when;
	callout_reset_sbt(&lp->lp_callout, when, 0, lwc_deadline_over, lp,
	    C_ABSOLUTE);
}

/*
 * Of those that made the current context, and those that made them: the one
 * whose deadline has passed; of several the one that was made first.
 */
static struct lwc_ctx *
lwc_deadline_passed(struct lwc_proc *lp, sbintime_t now, int *depthp)
{
	struct lwc_ctx *lc, *waiting;
	sbintime_t due;

	mtx_assert(&lp->lp_mtx, MA_OWNED);
	waiting = NULL;
	for (lc = lp->lp_current->lc_creator; lc != NULL;
	    lc = lc->lc_creator) {
		++*depthp;
		due = *(volatile sbintime_t *)&lc->lc_deadline;
		if (due != 0 && due <= now &&
		    lc->lc_state == LWC_STATE_SUSPENDED)
			waiting = lc;
	}
	return (waiting);
}

/* The callout; its lock is lp_mtx. */
static void
lwc_deadline_over(void *arg)
{
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	sbintime_t due, first, now;
	int looked;

	lp = arg;
	mtx_assert(&lp->lp_mtx, MA_OWNED);
	*(volatile sbintime_t *)&lp->lp_armed = 0;
	atomic_thread_fence_seq_cst();	/* see lwc_deadline_begin() */
	if (lp->lp_proc == NULL)
		return;
	now = sbinuptime();
	first = SBT_MAX;
	LIST_FOREACH(lc, &lp->lp_waiters, lc_waiter) {
		due = *(volatile sbintime_t *)&lc->lc_deadline;
		if (due != 0 && due < first)
			first = due;
	}
	looked = lp->lp_nwaiters;
	if (first > now) {
		lp->lp_again = LWC_AGAIN_MIN;
	} else if (lwc_deadline_passed(lp, now, &looked) != NULL) {
		PROC_LOCK(lp->lp_proc);
		lwc_deadline_kick(lp->lp_proc);
		PROC_UNLOCK(lp->lp_proc);
		first = now + lp->lp_again;
		lp->lp_again = MIN(2 * lp->lp_again, LWC_AGAIN_MAX);
	} else {
		first = now + LWC_AGAIN_MAX;
	}
	if (first != SBT_MAX)
		lwc_deadline_arm(lp, MAX(first, now + looked * LWC_GRAIN));
}

void
lwc_deadline_init(struct lwc_proc *lp)
{

	LIST_INIT(&lp->lp_waiters);
	lp->lp_again = LWC_AGAIN_MIN;
	callout_init_mtx(&lp->lp_callout, &lp->lp_mtx, 0);
}

/* The process is about to lose its record: lp_proc is NULL. */
void
lwc_deadline_fini(struct lwc_proc *lp)
{

	KASSERT(lp->lp_proc == NULL, ("lwc: callout drained, record lives"));
	callout_drain(&lp->lp_callout);
}

/* The context dies. */
void
lwc_deadline_forget(struct lwc_ctx *lc)
{

	mtx_assert(&lc->lc_lp->lp_mtx, MA_OWNED);
	lc->lc_deadline = 0;
	if (!lc->lc_waits)
		return;
	LIST_REMOVE(lc, lc_waiter);
	lc->lc_lp->lp_nwaiters--;
	lc->lc_waits = false;
}

/* The current context has left, and the callout would be too late. */
void
lwc_deadline_advance(struct lwc_ctx *lc, sbintime_t until)
{
	struct lwc_proc *lp;

	lp = lc->lc_lp;
	mtx_lock(&lp->lp_mtx);
	if (lc->lc_state != LWC_STATE_DEAD) {
		if (!lc->lc_waits) {
			LIST_INSERT_HEAD(&lp->lp_waiters, lc, lc_waiter);
			lp->lp_nwaiters++;
			lc->lc_waits = true;
		}
		if (lp->lp_armed == 0 || lp->lp_armed > until) {
			lp->lp_again = LWC_AGAIN_MIN;
			lwc_deadline_arm(lp, until);
		}
	}
	mtx_unlock(&lp->lp_mtx);
}

/*
 * On the way to user mode: has somebody waited long enough?  Returns true if
 * the thread is in another context now.
 */
bool
lwc_deadline_check(struct thread *td, struct lwc_proc *lp)
{
	struct lwc_ctx *waiting;
	struct lwc_event ev;
	int depth, error;

	depth = 0;
	mtx_lock(&lp->lp_mtx);
	waiting = lwc_deadline_passed(lp, sbinuptime(), &depth);
	if (waiting != NULL)
		lwc_ctx_ref(waiting);
	mtx_unlock(&lp->lp_mtx);
	if (waiting == NULL)
		return (false);
	error = lwc_proc_check(td);
	if (error == 0 && lp->lp_shared)
		error = EBUSY;
	LWC_FAIL(deadline, error);
	if (error == 0) {
		ev.ev_kind = LWC_SWITCHED;
		ev.ev_n = 0;
		ev.ev_until = 0;
		error = lwc_enter(td, lp, waiting, &ev, LWC_HOW_PREEMPT);
	}
	lwc_ctx_rele(waiting);
	return (error == EJUSTRETURN);
}
