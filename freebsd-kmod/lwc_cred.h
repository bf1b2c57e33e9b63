/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Credentials and resource limits of contexts. */

#ifndef _LWC_CRED_H_
#define	_LWC_CRED_H_

#include "lwc_context.h"

#include <sys/ucred.h>

void	lwc_cow_copy(struct thread *td, struct lwc_ctx *lc);
void	lwc_cow_free(struct lwc_ctx *lc);
void	lwc_cred_replace(struct lwc_ctx *lc, struct ucred *new);
void	lwc_cow_sync_slow(struct thread *td);
void	lwc_cred_recount(struct proc *p, struct ucred *from, struct ucred *to);
void	lwc_cred_exchange(struct thread *td, struct ucred **credp, long *refp);
void	lwc_cred_install(struct thread *td, struct ucred *new);

/*
 * Are these of the same jail?  A process is counted by its jail and is on its
 * list, so nobody enters a context of another one.
 */
static inline bool
lwc_cred_jailed_alike(const struct ucred *a, const struct ucred *b)
{

	return (a == b || a->cr_prison == b->cr_prison);
}

/* What is counted by credentials follows them.  Called without locks. */
static inline void
lwc_cred_changed(struct proc *p, struct ucred *from, struct ucred *to)
{

	if (from != to && (from->cr_ruidinfo != to->cr_ruidinfo ||
	    from->cr_loginclass != to->cr_loginclass))
		lwc_cred_recount(p, from, to);
}

/*
 * Let the thread catch up with its process, whose lock is let go meanwhile, and
 * let pass whoever relies on its credentials and memory (execve_block(9)) and
 * may change its limits before that is over.  Both hold when it returns, and as
 * long as the lock is kept.
 */
static inline void
lwc_cow_sync(struct thread *td, struct proc *p)
{

	PROC_LOCK_ASSERT(p, MA_OWNED);
	if (__predict_false(td->td_cowgen != p->p_cowgen ||
	    p->p_execblock != 0))
		lwc_cow_sync_slow(td);
}

/* Exchange the process's and its thread's for a suspended context's. */
static inline void
lwc_cred_swap(struct thread *td, struct proc *p, struct ucred **credp,
    long *refp)
{
	struct ucred *cred;
	long ref;

	PROC_LOCK_ASSERT(p, MA_OWNED);
	cred = p->p_ucred;
	ref = td->td_ucredref;
	KASSERT(td->td_realucred == cred && td->td_ucred == cred,
	    ("lwc: the thread has other credentials than its process"));
	KASSERT(lwc_cred_jailed_alike(cred, *credp),
	    ("lwc: into another jail"));
	p->p_ucred = td->td_ucred = td->td_realucred = *credp;
	td->td_ucredref = *refp;
	*credp = cred;
	*refp = ref;
}

#endif /* !_LWC_CRED_H_ */
