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

#include "lwc_allow.h"
#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_cred.h"
#include "lwc_files.h"
#include "lwc_switch.h"
#include "lwc_trap.h"
#include "lwc_vm.h"

#include <sys/resourcevar.h>

SDT_PROBE_DEFINE3(lwc, , , create, "uint64_t", "uint64_t", "int");

/* Is there room for one more in the process? */
static int
lwc_ctx_enlist(struct lwc_proc *lp, struct lwc_ctx *lc, struct lwc_ctx *cur,
    int flags)
{
	struct lwc_ctx *monitor;

	mtx_lock(&lp->lp_mtx);
	if (lp->lp_nctx >= lwc_max_per_proc) {
		mtx_unlock(&lp->lp_mtx);
		return (EAGAIN);
	}
	lc->lc_id = ++lp->lp_nextid;
	lc->lc_flags = flags;
	lc->lc_creator_id = cur->lc_id;
	lc->lc_creator = cur;
	LIST_INSERT_HEAD(&cur->lc_children, lc, lc_sibling);
	/*
	 * Who gets its trapped calls; a child of a trapped context is trapped
	 * as well, or it would be a way out.  That one, and who gets its end,
	 * are named by this child.
	 */
	if ((flags & LWC_TRAP_SYSCALL) != 0) {
		monitor = cur;
	} else if ((cur->lc_flags & LWC_TRAP_SYSCALL) != 0) {
		monitor = cur->lc_monitor;
		lc->lc_flags |= LWC_TRAP_SYSCALL;
	} else {
		monitor = (flags & LWC_GUARD) != 0 ? cur : NULL;
	}
	if (monitor != NULL)
		lwc_ctx_watch(monitor, lc);
	lp->lp_nctx++;
	lwc_ctx_ref(lc);
	LIST_INSERT_HEAD(&lp->lp_ctxs, lc, lc_link);
	mtx_unlock(&lp->lp_mtx);
	return (0);
}

/* Admit one more context, within the limits. */
static int
lwc_ctx_admit(struct lwc_proc *lp, struct lwc_ctx *lc, struct lwc_ctx *cur,
    int flags)
{
	int error;

	if (!lwc_user_contexts(lc->lc_user, 1))
		return (EAGAIN);
	error = 0;
	if (atomic_fetchadd_int(&lwc_live, 1) >= (u_int)lwc_max_contexts)
		error = EAGAIN;
	if (error == 0)
		error = lwc_ctx_enlist(lp, lc, cur, flags);
	if (error != 0) {
		atomic_subtract_int(&lwc_live, 1);
		(void)lwc_user_contexts(lc->lc_user, -1);
	}
	return (error);
}

static int
lwc_create(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *lc,
    struct lwc_specs *sp, int flags)
{
	struct lwc_ctx *cur;
	struct lwc_rights *back;
	struct proc *p;
	int error;
	bool traps;

	p = td->td_proc;
	cur = lp->lp_current;
	error = lwc_rights_from(lp->lp_user, sp, &back);
	if (error != 0)
		return (error);
	lwc_rights_free(lc->lc_back);
	lc->lc_back = back;
	lwc_specs_merge(sp);
	error = lwc_vm_fork(p->p_vmspace, sp, flags, &lc->lc_vm);
	if (error != 0)
		return (error);
	error = lwc_files_fork(td, lp, sp, lc);
	if (error != 0)
		return (error);
	lwc_cow_copy(td, lc);
	lc->lc_allow = lwc_allow_hold(cur->lc_allow);
	lc->lc_sigacts = sigacts_alloc();
	sigacts_copy(lc->lc_sigacts, p->p_sigacts);
	lwc_signals_disarm(lc->lc_sigacts);
	lwc_thread_save(td, &lc->lc_thread);
	traps = (lc->lc_flags & (LWC_TRAP_SYSCALL | LWC_GUARD)) != 0 ||
	    lc->lc_allow != NULL;
	if (!lwc_sysent_install(lp, lc, traps))
		return (EINVAL);
	if ((flags & LWC_GUARD) != 0) {
		lwc_signals_arm(lc->lc_sigacts, flags, true);
		SIGSETNAND(lc->lc_thread.lt_sigmask, lwc_fault_signals());
		lc->lc_thread.lt_pflags &= ~TDP_SIGFASTBLOCK;
		lc->lc_thread.lt_sigblock_val = 0;
	}
	lwc_md_save(td, &lc->lc_md);
	SDT_PROBE3(lwc, , , create, cur->lc_id, lc->lc_id, flags);
	return (0);
}

/* One more context for the current one, named by a new descriptor. */
static int
lwc_create_named(struct thread *td, struct lwc_proc *lp, struct lwc_specs *sp,
    int flags, const struct lwc_out *out, int *fdp)
{
	struct lwc_ctx *lc;
	int error;

	lc = lwc_ctx_alloc(lp, lwc_user_get(td->td_ucred->cr_ruid));
	error = lwc_ctx_admit(lp, lc, lp->lp_current, flags);
	if (error != 0) {
		lwc_ctx_rele(lc);
		return (error);
	}
	lc->lc_out = *out;
	error = lwc_create(td, lp, lc, sp, flags);
	LWC_FAIL(create, error);
	if (error == 0)
		error = lwc_desc_install(td, lc, lwc_rights_all(), false,
		    fdp);
	if (error != 0) {
		/* A failed install may have named, unnamed and reaped it. */
		mtx_lock(&lp->lp_mtx);
		if (lc->lc_state != LWC_STATE_DEAD)
			lwc_reap(lp, lc);	/* and lets go of the lock */
		else
			mtx_unlock(&lp->lp_mtx);
	}
	lwc_ctx_rele(lc);
	return (error);
}

int
sys_lwCreate(struct thread *td, struct lwCreate_args *uap)
{
	struct lwc_out out;
	struct lwc_proc *lp;
	struct lwc_specs sp;
	int error, fd, flags;

	if ((uap->flags & ~LWC_CREATE_FLAGS) != 0)
		return (EINVAL);
	error = lwc_proc_check(td);
	if (error == 0)
		error = lwc_out_copyin(&out, uap->src, uap->src_args,
		    uap->num_args, false);
	if (error == 0)
		error = lwc_specs_copyin(uap->specs, uap->nspecs,
		    &td->td_proc->p_vmspace->vm_map, true, &sp);
	if (error != 0)
		return (error);
	error = lwc_proc_get(td, &lp);
	if (error == 0 && !lwc_vm_create_ok(td, lp))
		error = ENOMEM;
	if (error == 0) {
		/* Guards are inherited: a child is no way out of one. */
		flags = uap->flags | (lp->lp_current->lc_flags & LWC_GUARD);
		error = lwc_create_named(td, lp, &sp, flags, &out, &fd);
	}
	lwc_specs_free(&sp);
	if (error == 0) {
		counter_u64_add(lwc_ncreate, 1);
		td->td_retval[0] = fd;
	}
	return (error);
}
