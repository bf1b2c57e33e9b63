/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Credentials and limits of contexts.
 *
 * A process and its thread both point to them and hold them, and the thread
 * counts further references to its credentials by itself, in td_ucredref,
 * until it changes to others.  A suspended context holds what both held when
 * it left, and keeps that count: to the rest of the kernel it looks as if a
 * thread with these credentials slept.  So a switch exchanges pointers, and
 * takes neither locks nor references.
 *
 * That wants a thread which has caught up with its process (p_cowgen), as it
 * has but after a call that changed either, or if another process did.
 *
 * The jail is one for all contexts of a process: the calls that enter one are
 * refused (lwc_calls.c), and a context that got into another one all the same
 * can neither be entered nor left (lwc_switch.c).
 */

#include "lwc_cred.h"

#include <sys/imgact.h>
#include <sys/racct.h>
#include <sys/resourcevar.h>

/* A new context has what the current one has. */
void
lwc_cow_copy(struct thread *td, struct lwc_ctx *lc)
{
	struct proc *p;

	p = td->td_proc;
	PROC_LOCK(p);
	lc->lc_cred = crcowget(crcowget(p->p_ucred));
	lc->lc_credref = 0;
	lc->lc_limit = lim_hold(lim_hold(p->p_limit));
	lc->lc_cpulimit = p->p_cpulimit;
	lc->lc_umtx_min = p->p_umtx_min_timeout;
	PROC_UNLOCK(p);
}

static void
lwc_cred_free(struct ucred *cred, long ref)
{

	mtx_lock(&cred->cr_mtx);
	KASSERT(cred->cr_users >= 2, ("lwc: %u users", cred->cr_users));
	cred->cr_users -= 2;
	cred->cr_ref += ref - 1;
	mtx_unlock(&cred->cr_mtx);
	crfree(cred);
}

/* Give back what a suspended context has. */
void
lwc_cow_free(struct lwc_ctx *lc)
{

	if (lc->lc_cred != NULL)
		lwc_cred_free(lc->lc_cred, lc->lc_credref);
	lc->lc_cred = NULL;
	if (lc->lc_limit != NULL)
		lim_freen(lc->lc_limit, 2);
	lc->lc_limit = NULL;
}

/* A suspended context has these credentials from now on. */
void
lwc_cred_replace(struct lwc_ctx *lc, struct ucred *new)
{

	lwc_cred_free(lc->lc_cred, lc->lc_credref);
	lc->lc_cred = crcowget(crcowget(new));
	lc->lc_credref = 0;
}

void
lwc_cow_sync_slow(struct thread *td)
{
	struct proc *p;

	p = td->td_proc;
	PROC_LOCK_ASSERT(p, MA_OWNED);
	for (;;) {
		if (p->p_execblock != 0) {
			execve_block_pass(td);
		} else if (td->td_cowgen != p->p_cowgen) {
			PROC_UNLOCK(p);
			thread_cow_update(td);
			PROC_LOCK(p);
		} else {
			break;
		}
	}
}

void
lwc_cred_recount(struct proc *p, struct ucred *from, struct ucred *to)
{

	if (from->cr_ruidinfo != to->cr_ruidinfo) {
		(void)chgproccnt(to->cr_ruidinfo, 1, 0);
		(void)chgproccnt(from->cr_ruidinfo, -1, 0);
	}
#ifdef RACCT
	PROC_LOCK(p);
	racct_proc_ucred_changed(p, from, to);
	PROC_UNLOCK(p);
#endif
}

/* The process gets what a suspended context has, and that one ours. */
void
lwc_cred_exchange(struct thread *td, struct ucred **credp, long *refp)
{
	struct proc *p;

	p = td->td_proc;
	PROC_LOCK(p);
	lwc_cow_sync(td, p);
	lwc_cred_swap(td, p, credp, refp);
	PROC_UNLOCK(p);
	lwc_cred_changed(p, *credp, p->p_ucred);
}

/* The process has the same as somebody else from now on. */
void
lwc_cred_install(struct thread *td, struct ucred *new)
{
	long ref;

	new = crcowget(crcowget(new));
	ref = 0;
	lwc_cred_exchange(td, &new, &ref);
	lwc_cred_free(new, ref);
}
