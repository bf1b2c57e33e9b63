/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * lwCreate(): a context out of the current one.
 *
 * Each resource is made in a step of its own and hung into the new context as
 * soon as it exists; so at whatever step it fails, destroying what there is
 * undoes all.  The descriptor comes last: nothing can fail after it, and
 * nobody knows the context before.
 */

#include "lwc_var.h"

#include <sys/resourcevar.h>


SDT_PROBE_DEFINE3(lwc, , , create, "uint64_t", "uint64_t", "int");

/* Admit one more context, within the limits. */
static int
lwc_ctx_admit(struct lwc_proc *lp, struct lwc_ctx *lc, struct lwc_ctx *cur,
    int flags)
{

	if (atomic_fetchadd_int(&lwc_live, 1) >= (u_int)lwc_max_contexts) {
		atomic_subtract_int(&lwc_live, 1);
		return (EAGAIN);
	}
	mtx_lock(&lp->lp_mtx);
	if (lp->lp_nctx >= lwc_max_per_proc) {
		mtx_unlock(&lp->lp_mtx);
		atomic_subtract_int(&lwc_live, 1);
		return (EAGAIN);
	}
	lc->lc_id = ++lp->lp_nextid;
	lc->lc_flags = flags;
	lc->lc_creator = cur;
	lwc_ctx_ref(cur);
	/*
	 * Who gets its trapped calls; a child of a trapped context is trapped
	 * as well, or it would be a way out.  That one, and who gets its end,
	 * are named by this child.
	 */
	if ((flags & LWC_TRAP_SYSCALL) != 0)
		lc->lc_monitor = cur;
	else if (cur->lc_monitor != NULL &&
	    (cur->lc_flags & LWC_TRAP_SYSCALL) != 0)
		lc->lc_monitor = cur->lc_monitor;
	else if ((flags & LWC_GUARD) != 0)
		lc->lc_monitor = cur;
	if (lc->lc_monitor != NULL) {
		if (lc->lc_monitor != cur ||
		    (flags & LWC_TRAP_SYSCALL) != 0)
			lc->lc_flags |= LWC_TRAP_SYSCALL;
		lwc_ctx_ref(lc->lc_monitor);
		lc->lc_monitor->lc_names++;
	}
	lp->lp_nctx++;
	lwc_ctx_ref(lc);
	LIST_INSERT_HEAD(&lp->lp_ctxs, lc, lc_link);
	mtx_unlock(&lp->lp_mtx);
	return (0);
}

/* Per-thread state, as lwc_thread_load() will want it. */
static void
lwc_thread_copy(struct thread *td, struct lwc_thread *lt)
{

	lt->lt_sigmask = td->td_sigmask;
	lt->lt_sigstk = td->td_sigstk;
	lt->lt_pflags = td->td_pflags & (TDP_ALTSTACK | TDP_SIGFASTBLOCK);
	lt->lt_pflags2 = td->td_pflags2 & TDP2_UEXTERR;
	lt->lt_sigblock_ptr = td->td_sigblock_ptr;
	lt->lt_sigblock_val = td->td_sigblock_val;
	lt->lt_exterr_ptr = td->td_exterr_ptr;
	lt->lt_rb_list = td->td_rb_list;
	lt->lt_rbp_list = td->td_rbp_list;
	lt->lt_rb_inact = td->td_rb_inact;
}

static int
lwc_create(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *lc,
    const struct lwc_specs *sp, int flags)
{
	struct lwc_ctx *cur;
	struct proc *p;
	int error;
	bool traps;

	p = td->td_proc;
	cur = lp->lp_current;
	error = lwc_vm_fork(p->p_vmspace, sp, flags, &lc->lc_vm);
	if (error != 0)
		return (error);
	lwc_rights_free(lc->lc_back);
	lc->lc_back = lwc_rights_from(sp);
	error = lwc_files_fork(td, lp, sp, lc);
	if (error != 0)
		return (error);
	lwc_cow_copy(td, lc);
	lc->lc_allow = lwc_allow_hold(cur->lc_allow);
	lc->lc_sigacts = sigacts_alloc();
	sigacts_copy(lc->lc_sigacts, p->p_sigacts);
	lwc_trap_disarm(lc->lc_sigacts);
	lwc_thread_copy(td, &lc->lc_thread);
	traps = (lc->lc_flags & (LWC_TRAP_SYSCALL | LWC_GUARD)) != 0 ||
	    lc->lc_allow != NULL;
	lc->lc_sysent = lp->lp_sysent;
	if (!lwc_sysent_install(lp, lc, traps) && traps)
		return (EINVAL);
	if (cur->lc_sysent == lp->lp_sysent)
		(void)lwc_sysent_install(lp, cur, false);
	if ((flags & LWC_GUARD) != 0) {
		lwc_trap_arm(lc->lc_sigacts, flags, true);
		SIGSETNAND(lc->lc_thread.lt_sigmask, lwc_trap_mask());
		lc->lc_thread.lt_pflags &= ~TDP_SIGFASTBLOCK;
		lc->lc_thread.lt_sigblock_val = 0;
	}
	lwc_md_save(td, &lc->lc_md);
	SDT_PROBE3(lwc, , , create, cur->lc_id, lc->lc_id, flags);
	return (0);
}

int
sys_lwCreate(struct thread *td, struct lwCreate_args *uap)
{
	struct lwc_ctx *lc;
	struct lwc_out out;
	struct lwc_proc *lp;
	struct lwc_specs sp;
	int error, fd, flags;

	if ((uap->flags & ~LWC_CREATE_FLAGS) != 0)
		return (EINVAL);
	error = lwc_proc_check(td);
	if (error != 0)
		return (error);
	error = lwc_out_copyin(&out, uap->src, uap->src_args, uap->num_args,
	    false);
	if (error != 0)
		return (error);
	error = lwc_specs_copyin(uap->specs, uap->nspecs,
	    &td->td_proc->p_vmspace->vm_map, true, &sp);
	if (error != 0)
		return (error);
	lp = lwc_proc_get(td);
	if (lp == NULL) {
		lwc_specs_free(&sp);
		return (EBUSY);
	}
	/* Guards are inherited: a child of a guarded context is no way out. */
	flags = uap->flags | (lp->lp_current->lc_flags & LWC_GUARD);
	lc = lwc_ctx_alloc(lp);
	error = lwc_ctx_admit(lp, lc, lp->lp_current, flags);
	if (error != 0) {
		lwc_ctx_rele(lc);
		lwc_specs_free(&sp);
		return (error);
	}
	lc->lc_out = out;
	error = lwc_create(td, lp, lc, &sp, flags);
	lwc_specs_free(&sp);
	if (error == 0)
		error = lwc_desc_install(td, lc, lwc_rights_all(), &fd);
	if (error == 0) {
		atomic_add_long(&lwc_ncreate, 1);
		td->td_retval[0] = fd;
	} else {
		/* A failed install may have named, unnamed and reaped it. */
		mtx_lock(&lp->lp_mtx);
		if (lc->lc_state != LWC_STATE_DEAD) {
			lc->lc_state = LWC_STATE_DEAD;
			mtx_unlock(&lp->lp_mtx);
			lwc_reap(lp, lc);
		} else {
			mtx_unlock(&lp->lp_mtx);
		}
	}
	lwc_ctx_rele(lc);
	return (error);
}
