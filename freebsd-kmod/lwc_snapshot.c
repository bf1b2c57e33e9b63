/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Rollback (contract 10).
 *
 * A snapshot is a twin of the context that never runs: an address space that
 * shares all private memory with the context's copy-on-write, a copy of the
 * descriptor table, and copies of all else that a suspended context owns.  It
 * holds what it needs by references of its own, so nobody else has to live for
 * it.  It is the process's thread's alone, and no other part of the module
 * knows of it: it is in no list, nobody enters it.
 *
 * Rollback looks at what the context has and at the twin, and puts back what
 * differs.  It asks neither the context's memory nor anything that the context
 * said.  Memory is lwc_vm_rollback.c's.
 *
 * What can fail is made before anything is put back; but memory may be put
 * back by then, so a failure destroys the context.
 */

#include "lwc_allow.h"
#include "lwc_calls.h"
#include "lwc_cred.h"
#include "lwc_deadline.h"
#include "lwc_files.h"
#include "lwc_snapshot.h"
#include "lwc_trap.h"
#include "lwc_vm.h"

#include <sys/resourcevar.h>

/* All of it is (c) but what is marked. */
struct lwc_snapshot {
	int		sn_count;	/* its user has so many contexts more */
	uint64_t	sn_nextid;	/* those made since have more */
	int		sn_state;
	struct vmspace	*sn_vm;		/* its pmap is empty */
	struct lwc_seen	sn_seen;	/* (t) of the context's space */
	struct filedesc	*sn_fd;		/* a copy; or, shared ... */
	struct pwddesc	*sn_pd;
	bool		sn_shared;	/* ... the context's and others' own */
	struct ucred	*sn_cred;
	struct plimit	*sn_limit;
	rlim_t		sn_cpulimit;
	sbintime_t	sn_umtx_min;
	sbintime_t	sn_deadline;
	struct sigacts	*sn_sigacts;
	struct sysentvec *sn_sysent;
	struct lwc_allow *sn_allow;
	struct lwc_thread sn_thread;
	struct lwc_out	sn_out;
	struct lwc_md	sn_md;
	sigqueue_t	sn_sigqueue;
	bool		sn_pending;
	bool		sn_preempted;
};

struct vmspace *
lwc_snapshot_vm(const struct lwc_ctx *lc)
{

	return (lc->lc_snapshot == NULL ? NULL : lc->lc_snapshot->sn_vm);
}

/* Give back what there is of a snapshot.  Called by the process. */
static void
lwc_snapshot_drop(struct lwc_ctx *lc, struct lwc_snapshot *sn)
{
	struct proc *p;

	if (sn->sn_vm != NULL)
		lwc_vm_free(sn->sn_vm);
	if (sn->sn_fd != NULL)
		lwc_table_free(lc->lc_lp, sn->sn_fd, sn->sn_pd);
	if (sn->sn_cred != NULL)
		crfree(sn->sn_cred);
	if (sn->sn_limit != NULL)
		lim_free(sn->sn_limit);
	if (sn->sn_sigacts != NULL)
		sigacts_free(sn->sn_sigacts);
	if (sn->sn_pending) {
		p = curproc;
		PROC_LOCK(p);
		sigqueue_flush(&sn->sn_sigqueue);
		PROC_UNLOCK(p);
	}
	lwc_allow_free(sn->sn_allow);
	lwc_md_fini(&sn->sn_md);
	(void)lwc_user_contexts(lc->lc_user, -sn->sn_count);
	free(sn, M_LWC);
}

/* The context has none any more. */
void
lwc_snapshot_free(struct lwc_ctx *lc)
{
	struct lwc_snapshot *sn;

	sn = lc->lc_snapshot;
	if (sn == NULL)
		return;
	mtx_lock(&lc->lc_lp->lp_mtx);
	lc->lc_snapshot = NULL;
	lc->lc_lp->lp_nsnapshots--;
	lc->lc_clean = false;
	mtx_unlock(&lc->lc_lp->lp_mtx);
	lwc_snapshot_drop(lc, sn);
}

/*
 * The table and the directory.  A table that others have as well is like
 * shared memory: the context has it again after a rollback, as it is then.
 */
static int
lwc_snapshot_files(struct thread *td, struct lwc_proc *lp,
    struct lwc_ctx *lc, struct lwc_snapshot *sn)
{
	int error;

	sn->sn_shared = lc->lc_fd->fd_refcnt != 1;
	if (sn->sn_shared) {
		sn->sn_fd = fdshare(lc->lc_fd);
		sn->sn_pd = pdshare(lc->lc_pd);
		return (0);
	}
	error = lwc_files_twin(td, lp, lc->lc_fd, &sn->sn_fd);
	if (error == 0)
		sn->sn_pd = pdcopy(lc->lc_pd);
	return (error);
}

static int
lwc_snapshot_fill(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *lc,
    struct lwc_snapshot *sn)
{
	int error, n;

	/* It takes as much of kernel memory as a context. */
	n = 1 + lc->lc_extra;
	if (!lwc_user_contexts(lc->lc_user, n))
		return (EAGAIN);
	sn->sn_count = n;
	error = lwc_vm_twin(lc->lc_vm, &sn->sn_vm);
	if (error != 0)
		return (error);
	/*
	 * It never runs: a copy of the page table is of no use, but for locked
	 * pages, which are counted there.
	 */
	lwc_vm_unmap(sn->sn_vm);
	error = lwc_vm_lock_alike(sn->sn_vm, lc->lc_vm);
	if (error != 0)
		return (error);
	error = lwc_snapshot_files(td, lp, lc, sn);
	if (error != 0)
		return (error);
	sn->sn_cred = crhold(lc->lc_cred);
	sn->sn_limit = lim_hold(lc->lc_limit);
	sn->sn_cpulimit = lc->lc_cpulimit;
	sn->sn_umtx_min = lc->lc_umtx_min;
	sn->sn_deadline = lc->lc_deadline;
	sn->sn_sigacts = sigacts_alloc();
	sigacts_copy(sn->sn_sigacts, lc->lc_sigacts);
	sn->sn_sysent = lc->lc_sysent;
	sn->sn_allow = lwc_allow_hold(lc->lc_allow);
	sn->sn_thread = lc->lc_thread;
	sn->sn_out = lc->lc_out;
	sn->sn_preempted = lc->lc_preempted;
	sn->sn_pending = lwc_signals_copy(&lc->lc_sigqueue, lc->lc_pending,
	    &sn->sn_sigqueue);
	return (0);
}

/*
 * What a suspended context is becomes its snapshot.  The caller has given it a
 * name of its own.
 */
int
lwc_snapshot(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *lc)
{
	struct lwc_snapshot *old, *sn;
	int error;

	if (lc->lc_nkept != 0)
		return (EBUSY);
	if (!lwc_vm_twin_ok(td, lp, lc->lc_vm))
		return (ENOMEM);
	sn = malloc(sizeof(*sn), M_LWC, M_WAITOK | M_ZERO);
	lwc_md_init(&sn->sn_md);
	sigqueue_init(&sn->sn_sigqueue, NULL);
	error = lwc_snapshot_fill(td, lp, lc, sn);
	LWC_FAIL(snapshot, error);
	if (error != 0) {
		lwc_snapshot_drop(lc, sn);
		return (error);
	}
	mtx_lock(&lp->lp_mtx);
	sn->sn_state = lc->lc_state;
	sn->sn_nextid = lp->lp_nextid;
	lwc_md_snapshot(&sn->sn_md, &lc->lc_md);
	old = lc->lc_snapshot;
	lc->lc_snapshot = sn;
	lp->lp_nsnapshots += old == NULL;
	lc->lc_clean = true;
	lc->lc_changed = lc->lc_called = false;
	mtx_unlock(&lp->lp_mtx);
	if (old != NULL)
		lwc_snapshot_drop(lc, old);
	return (0);
}

/*
 * End the contexts that one has made since its snapshot, and those that become
 * its children by that.  The current one, which rolls back whoever made it, is
 * left to whoever made that.
 */
static void
lwc_rollback_children(struct lwc_proc *lp, struct lwc_ctx *lc, uint64_t since)
{
	struct lwc_ctx *child, *heir;

	for (;;) {
		mtx_lock(&lp->lp_mtx);
		LIST_FOREACH(child, &lc->lc_children, lc_sibling)
			if (child->lc_id > since &&
			    child->lc_state != LWC_STATE_DEAD)
				break;
		if (child == NULL)
			break;
		if (child != lp->lp_current) {
			lwc_reap(lp, child);	/* and lets go of the lock */
			continue;
		}
		heir = lc->lc_creator;
		LIST_REMOVE(child, lc_sibling);
		child->lc_creator = heir;
		if (heir != NULL)
			LIST_INSERT_HEAD(&heir->lc_children, child,
			    lc_sibling);
		mtx_unlock(&lp->lp_mtx);
	}
	mtx_unlock(&lp->lp_mtx);
}

/* The table and the directory again.  May fail, and has done nothing then. */
static int
lwc_rollback_files(struct thread *td, struct lwc_proc *lp,
    struct lwc_ctx *lc, struct lwc_snapshot *sn)
{
	struct filedesc *fdp, *oldfd;
	struct pwddesc *oldpd, *pdp;
	int error;

	oldfd = lc->lc_fd;
	oldpd = lc->lc_pd;
	if (sn->sn_shared) {
		if (oldfd == sn->sn_fd)
			return (0);
		fdp = fdshare(sn->sn_fd);
		pdp = pdshare(sn->sn_pd);
	} else {
		if (oldfd->fd_refcnt == 1 &&
		    lwc_files_alike(lp, oldfd, sn->sn_fd) &&
		    lwc_pwds_alike(oldpd, sn->sn_pd))
			return (0);
		error = 0;
		LWC_FAIL(rollback_files, error);
		if (error == 0)
			error = lwc_files_twin(td, lp, sn->sn_fd, &fdp);
		if (error != 0)
			return (error);
		pdp = pdcopy(sn->sn_pd);
	}
	mtx_lock(&lp->lp_mtx);
	lc->lc_fd = fdp;
	lc->lc_pd = pdp;
	mtx_unlock(&lp->lp_mtx);
	lwc_table_free(lp, oldfd, oldpd);
	return (0);
}

/*
 * What only calls change, and handlers that are called once.  A debugger's
 * calls are not counted.
 */
static bool
lwc_rollback_deep(const struct lwc_ctx *lc, const struct lwc_snapshot *sn)
{

	return (lc->lc_called || lc->lc_changed ||
	    !SIGISEMPTY(sn->sn_sigacts->ps_sigreset) ||
	    (curproc->p_flag & P_TRACED) != 0);
}

/* What is not memory, and cannot fail. */
static void
lwc_rollback_rest(struct lwc_ctx *lc, struct lwc_snapshot *sn, bool deep)
{
	struct lwc_allow *allow;

	if (lc->lc_cred != sn->sn_cred)
		lwc_cred_replace(lc, sn->sn_cred);
	if (lc->lc_limit != sn->sn_limit) {
		lim_freen(lc->lc_limit, 2);
		lc->lc_limit = lim_hold(lim_hold(sn->sn_limit));
	}
	lc->lc_cpulimit = sn->sn_cpulimit;
	lc->lc_umtx_min = sn->sn_umtx_min;
	if (deep)
		sigacts_copy(lc->lc_sigacts, sn->sn_sigacts);
	lc->lc_sysent = sn->sn_sysent;
	if (lc->lc_allow != sn->sn_allow) {
		allow = lc->lc_allow;
		lc->lc_allow = lwc_allow_hold(sn->sn_allow);
		lwc_allow_free(allow);
	}
	lc->lc_thread = sn->sn_thread;
	lc->lc_out = sn->sn_out;
	lwc_md_rollback(&lc->lc_md, &sn->sn_md);
	lc->lc_preempted = sn->sn_preempted;
	lc->lc_ending = false;
	if (lc->lc_nkept != 0)
		lwc_kept_drop(lc);
	if (lc->lc_pending)
		lwc_signals_drop(lc);
	if (sn->sn_pending)
		lc->lc_pending = lwc_signals_copy(&sn->sn_sigqueue, true,
		    &lc->lc_sigqueue);
	lc->lc_deadline = 0;
	if (sn->sn_deadline != 0)
		lwc_deadline_begin(lc, sn->sn_deadline);
}

/*
 * A suspended context becomes what its snapshot is.  The caller has given it a
 * name of its own, and may take the last one away.  If this fails, with
 * ENOMEM, the context is dead.
 */
int
lwc_rollback(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *lc,
    uint64_t *pagesp)
{
	struct lwc_rights *self;
	struct lwc_snapshot *sn;
	int error;
	bool deep;

	KASSERT(lc != lp->lp_current, ("lwc: rollback of the current context"));
	sn = lc->lc_snapshot;
	*pagesp = 0;
	if (lc->lc_clean && !lc->lc_changed)
		return (0);
	if (!LIST_EMPTY(&lc->lc_children))
		lwc_rollback_children(lp, lc, sn->sn_nextid);
	deep = lwc_rollback_deep(lc, sn);
	error = lwc_vm_rollback(lp, lc, sn->sn_vm, &sn->sn_seen, pagesp);
	LWC_FAIL(rollback_vm, error);
	if (error == 0 && deep)
		error = lwc_rollback_files(td, lp, lc, sn);
	if (error != 0) {
		mtx_lock(&lp->lp_mtx);
		if (lc->lc_state != LWC_STATE_DEAD)
			lwc_reap(lp, lc);	/* and lets go of the lock */
		else
			mtx_unlock(&lp->lp_mtx);
		return (ENOMEM);
	}
	lwc_rollback_rest(lc, sn, deep);
	mtx_lock(&lp->lp_mtx);
	/* A snapshot is made of whoever keeps nothing to himself. */
	self = lc->lc_self;
	lc->lc_self = lwc_rights_all();
	lc->lc_state = sn->sn_state;
	lc->lc_clean = true;
	lc->lc_changed = lc->lc_called = false;
	mtx_unlock(&lp->lp_mtx);
	lwc_rights_free(self);
	return (0);
}
