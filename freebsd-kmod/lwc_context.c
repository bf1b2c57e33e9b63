/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Contexts: how they begin and end.
 *
 * A struct lwc_ctx is memory, counted by everything that points to it: it may
 * outlive what it stands for.  That ends (LWC_STATE_DEAD) when no name is
 * left while it is suspended, or with the process.  Names are descriptors,
 * and children whose traps or ends resume it: those need it as much as a
 * holder of a descriptor does.
 *
 * What is dead holds nothing: resources, rights, the vector registers' area and
 * the hold on its monitor go when it is destroyed, and its children forget it.
 * They keep its number.
 */

#include "lwc_allow.h"
#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_cred.h"
#include "lwc_deadline.h"
#include "lwc_files.h"
#include "lwc_snapshot.h"
#include "lwc_trap.h"
#include "lwc_vm.h"

#include <vm/vm_extern.h>
#include <vm/uma.h>

SDT_PROBE_DEFINE2(lwc, , , destroy, "uint64_t", "pid_t");

static uma_zone_t lwc_ctx_zone;

void
lwc_context_init(void)
{

	lwc_ctx_zone = uma_zcreate("lwc context", sizeof(struct lwc_ctx),
	    NULL, NULL, NULL, NULL, UMA_ALIGN_PTR, 0);
}

void
lwc_context_fini(void)
{

	uma_zdestroy(lwc_ctx_zone);
}

/*
 * An empty context of a process, referenced once, not yet among the living.
 * Takes over the reference on the user.
 */
struct lwc_ctx *
lwc_ctx_alloc(struct lwc_proc *lp, struct lwc_user *us)
{
	struct lwc_ctx *lc;

	lc = uma_zalloc(lwc_ctx_zone, M_WAITOK | M_ZERO);
	refcount_init(&lc->lc_refs, 1);
	refcount_acquire(&lp->lp_refs);
	lc->lc_lp = lp;
	lc->lc_user = us;
	lc->lc_state = LWC_STATE_NEW;
	lc->lc_back = lwc_rights_none();
	lc->lc_self = lwc_rights_all();
	LIST_INIT(&lc->lc_children);
	LIST_INIT(&lc->lc_monitored);
	STAILQ_INIT(&lc->lc_kept);
	sigqueue_init(&lc->lc_sigqueue, NULL);	/* see lwc_signals.c */
	lwc_md_init(&lc->lc_md);
	atomic_add_int(&lwc_nctxs, 1);
	return (lc);
}

void
lwc_ctx_ref(struct lwc_ctx *lc)
{

	refcount_acquire(&lc->lc_refs);
}

/* Forget the events that wait for a context. */
void
lwc_kept_drop(struct lwc_ctx *lc)
{
	struct lwc_kept *ke;

	while ((ke = STAILQ_FIRST(&lc->lc_kept)) != NULL) {
		STAILQ_REMOVE_HEAD(&lc->lc_kept, ke_link);
		free(ke, M_LWCSTAGE);
	}
	lc->lc_nkept = 0;
}

/* Give back what a context has beside its process's resources. */
static void
lwc_ctx_strip(struct lwc_ctx *lc)
{

	lwc_kept_drop(lc);
	lwc_signals_drop(lc);
	lwc_md_fini(&lc->lc_md);
	lwc_allow_free(lc->lc_allow);
	lc->lc_allow = NULL;
}

/*
 * The last one lets go of the process's record as well, and without records the
 * module may go (lwc_process_close_gate()): it is the last thing done.
 */
void
lwc_ctx_rele(struct lwc_ctx *lc)
{
	struct lwc_proc *lp;

	if (!refcount_release(&lc->lc_refs))
		return;
	KASSERT(lc->lc_vm == NULL && lc->lc_fd == NULL,
	    ("lwc: context %ju is freed with resources",
	    (uintmax_t)lc->lc_id));
	KASSERT(lc->lc_monitor == NULL && lc->lc_creator == NULL &&
	    LIST_EMPTY(&lc->lc_children) && LIST_EMPTY(&lc->lc_monitored) &&
	    !lc->lc_waits && lc->lc_snapshot == NULL,
	    ("lwc: context %ju is freed, and others know it",
	    (uintmax_t)lc->lc_id));
	lwc_ctx_strip(lc);	/* of one that never lived */
	lwc_rights_free(lc->lc_back);
	lwc_rights_free(lc->lc_self);
	lwc_user_rele(lc->lc_user);
	lp = lc->lc_lp;
	uma_zfree(lwc_ctx_zone, lc);
	atomic_subtract_int(&lwc_nctxs, 1);
	lwc_proc_rele(lp);
}

/* One name less.  May destroy the context, so the caller has a reference. */
void
lwc_ctx_unname(struct lwc_ctx *lc)
{
	struct lwc_proc *lp;

	lp = lc->lc_lp;
	mtx_lock(&lp->lp_mtx);
	KASSERT(lc->lc_names > 0, ("lwc: context %ju has no name to lose",
	    (uintmax_t)lc->lc_id));
	lc->lc_names--;
	if (lc->lc_names == 0 && lc != lp->lp_current &&
	    lc->lc_state != LWC_STATE_DEAD &&
	    lc->lc_state != LWC_STATE_CURRENT)
		lwc_reap(lp, lc);	/* and lets go of the lock */
	else
		mtx_unlock(&lp->lp_mtx);
}

/* One context takes another's calls from now on. */
void
lwc_ctx_watch(struct lwc_ctx *monitor, struct lwc_ctx *lc)
{

	mtx_assert(&lc->lc_lp->lp_mtx, MA_OWNED);
	lwc_ctx_ref(monitor);
	monitor->lc_names++;
	lc->lc_monitor = monitor;
	LIST_INSERT_HEAD(&monitor->lc_monitored, lc, lc_monitored_link);
}

/*
 * Whoever it took the calls of gets its own monitor: a child is no way out.
 * Without one they go on with a monitor that is dead, and their calls fail.
 */
static void
lwc_ctx_unwatch(struct lwc_ctx *lc)
{
	struct lwc_ctx *next, *monitored;

	mtx_assert(&lc->lc_lp->lp_mtx, MA_OWNED);
	if (lc->lc_monitor == NULL)
		return;
	LIST_FOREACH_SAFE(monitored, &lc->lc_monitored, lc_monitored_link, next) {
		LIST_REMOVE(monitored, lc_monitored_link);
		lwc_ctx_watch(lc->lc_monitor, monitored);
		lc->lc_names--;
		/* Not the last one: whoever destroys it has another. */
		refcount_release(&lc->lc_refs);
	}
}

/* Did one context make the other, or one that did, and so on? */
bool
lwc_ctx_descends(const struct lwc_ctx *lc, const struct lwc_ctx *ancestor)
{

	mtx_assert(&lc->lc_lp->lp_mtx, MA_OWNED);
	do {
		lc = lc->lc_creator;
	} while (lc != NULL && lc != ancestor);
	return (lc != NULL);
}

/*
 * Nobody finds it any more: not the living, no deadline, not its children,
 * whose end its own creator is told of from now on.  (Their lc_creator_id
 * stays.)
 */
static void
lwc_ctx_unlink(struct lwc_proc *lp, struct lwc_ctx *lc)
{
	struct lwc_ctx *child, *heir, *next;

	mtx_assert(&lp->lp_mtx, MA_OWNED);
	LIST_REMOVE(lc, lc_link);
	lp->lp_nctx--;
	lwc_deadline_forget(lc);
	lwc_ctx_unwatch(lc);
	heir = lc->lc_creator;
	if (heir != NULL)
		LIST_REMOVE(lc, lc_sibling);
	lc->lc_creator = NULL;
	LIST_FOREACH_SAFE(child, &lc->lc_children, lc_sibling, next) {
		LIST_REMOVE(child, lc_sibling);
		child->lc_creator = heir;
		if (heir != NULL)
			LIST_INSERT_HEAD(&heir->lc_children, child,
			    lc_sibling);
	}
	if (lp->lp_root == lc)
		lwc_vm_root_gone(lp);
}

/*
 * Give back all that a dead context owned.  Called by its process, with none
 * of our locks, never from within itself (see lwc_reap()).
 */
void
lwc_ctx_destroy(struct lwc_ctx *lc)
{
	struct lwc_ctx *monitor;
	struct lwc_proc *lp;

	lp = lc->lc_lp;
	KASSERT(lc->lc_state == LWC_STATE_DEAD,
	    ("lwc: context %ju is destroyed in state %d",
	    (uintmax_t)lc->lc_id, lc->lc_state));
	KASSERT(lp->lp_proc == curproc, ("lwc: destroyed by another process"));
	SDT_PROBE2(lwc, , , destroy, lc->lc_id, curproc->p_pid);
	mtx_lock(&lp->lp_mtx);
	lwc_ctx_unlink(lp, lc);
	mtx_unlock(&lp->lp_mtx);
	if (lc->lc_creator_id != 0) {
		atomic_subtract_int(&lwc_live, 1);
		(void)lwc_user_contexts(lc->lc_user, -1 - lc->lc_extra);
	}
	lwc_snapshot_free(lc);
	if (lc->lc_vm != NULL) {
		lwc_vm_free(lc->lc_vm);
		lc->lc_vm = NULL;
	}
	if (lc->lc_fd != NULL) {
		lwc_table_free(lp, lc->lc_fd, lc->lc_pd);
		lc->lc_fd = NULL;
		lc->lc_pd = NULL;
	}
	lwc_cow_free(lc);
	if (lc->lc_sigacts != NULL) {
		sigacts_free(lc->lc_sigacts);
		lc->lc_sigacts = NULL;
	}
	lwc_ctx_strip(lc);
	mtx_lock(&lp->lp_mtx);
	monitor = lc->lc_monitor;
	if (monitor != NULL)
		LIST_REMOVE(lc, lc_monitored_link);
	lc->lc_monitor = NULL;
	mtx_unlock(&lp->lp_mtx);
	if (monitor != NULL) {
		lwc_ctx_unname(monitor);
		lwc_ctx_rele(monitor);
	}
	lwc_ctx_rele(lc);		/* the list's */
}

/*
 * 1.3: a descriptor of the current context, at most one for each call.  In a
 * table that other contexts have as well it carries the right to switch alone.
 */
int
sys_lwGetlwc(struct thread *td, struct lwGetlwc_args *uap __unused)
{
	struct lwc_proc *lp;
	struct lwc_rights *rg;
	int error, fd;

	error = lwc_proc_get(td, &lp);
	if (error != 0)
		return (error);
	mtx_lock(&lp->lp_mtx);
	rg = td->td_proc->p_fd->fd_refcnt != 1 ? lwc_rights_none() :
	    lwc_rights_hold(lp->lp_current->lc_self);
	mtx_unlock(&lp->lp_mtx);
	error = lwc_desc_install(td, lp->lp_current, rg, false, &fd);
	if (error == 0)
		td->td_retval[0] = fd;
	return (error);
}

/* 8.1: facts.  Any descriptor will do, even one whose rights are gone. */
int
sys_lwInfo(struct thread *td, struct lwInfo_args *uap)
{
	struct lwc_info li;
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	struct lwc_rights *rg, *self;
	struct vmspace *vm;
	int error;

	error = lwc_proc_get(td, &lp);
	if (error != 0)
		return (error);
	rg = NULL;
	if (uap->lwc == LWC_SELF) {
		lc = lp->lp_current;
		lwc_ctx_ref(lc);
		rg = lwc_rights_all();
	} else {
		error = lwc_ctx_get(td, uap->lwc, &lc, &rg);
		if (error != 0)
			return (error);
	}
	memset(&li, 0, sizeof(li));
	li.li_id = lc->lc_id;
	li.li_creator = lc->lc_creator_id;
	li.li_version = LWC_ABI_VERSION;
	li.li_flags = lc->lc_flags;
	vm = NULL;
	mtx_lock(&lp->lp_mtx);
	li.li_state = lc->lc_state == LWC_STATE_REPLY ?
	    LWC_STATE_SUSPENDED : lc->lc_state;
	if (li.li_state == LWC_STATE_SUSPENDED && lc->lc_preempted)
		li.li_state = LWC_STATE_PREEMPTED;
	self = lwc_rights_hold(lc->lc_self);
	li.li_contexts = lp->lp_nctx;
	if (lc->lc_snapshot != NULL)
		li.li_rollback = LWC_HAS_SNAPSHOT |
		    (lc->lc_clean ? LWC_IS_CLEAN : 0);
	if (lc == lp->lp_current)
		vm = td->td_proc->p_vmspace;
	else if (lc->lc_state != LWC_STATE_DEAD)
		vm = lc->lc_vm;
	/* Its owner could be reaped by another process that closes it. */
	if (vm != NULL)
		refcount_acquire(&vm->vm_refcnt);
	mtx_unlock(&lp->lp_mtx);
	li.li_rights = lwc_rights_types(rg, self);
	if (vm != NULL) {
		li.li_resident = vmspace_resident_count(vm);
		li.li_private = lwc_vm_private(vm);
		vmspace_free(vm);
	}
	lwc_rights_free(rg);
	lwc_rights_free(self);
	lwc_ctx_rele(lc);
	return (copyout(&li, uap->info, sizeof(li)));
}
