/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * lwSyscall(): one system call with a mixture of two contexts' resources.
 *
 * The target's resources that the mask names are put in place of the
 * caller's, the call is made, and they are put back; whatever the call made
 * of them (it may have changed credentials, or the table) is the target's
 * then.  The target has a name of ours for that time, so that nobody destroys
 * it.
 *
 * Since one call may touch all of a resource, the right to all of it is
 * needed.  Which calls it makes is a list (LWC_MIX in lwc_calls.c): none that
 * never returns here, that changes whose resources are whose, or that leaves
 * something behind which works on p_vmspace later.  What the caller could not
 * call by itself, for its list or its guards, it cannot call in this way.  The
 * call leaves the records that it would leave otherwise: audit(4), ktrace(1),
 * dtrace(1).
 */

#include "opt_ktrace.h"

#include "lwc_allow.h"
#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_cred.h"
#include "lwc_trap.h"

#include <sys/capsicum.h>
#include <sys/imgact.h>
#ifdef KTRACE
#include <sys/ktrace.h>
#endif
#include <sys/sysent.h>

#include <security/audit/audit.h>

#include <vm/vm_param.h>

static bool
lwc_syscall_allowed(const struct lwc_rights *rg, int mask)
{

	if ((mask & LWC_MEMORY) != 0 &&
	    !lwc_rights_mem(rg, 0, VM_MAXUSER_ADDRESS))
		return (false);
	if ((mask & LWC_FILES) != 0 &&
	    !lwc_rights_files(rg, 0, LWC_FILES_END))
		return (false);
	return ((mask & LWC_CREDENTIALS) == 0 || rg->rg_cred);
}

/*
 * Exchange what the mask names between the process and the target.  Whoever
 * relies on what the process has (execve_block(9)) is let pass first.  Who looks
 * at it during the call, with the caller's credentials, sees what the caller has
 * every right to.
 */
static void
lwc_mix(struct thread *td, struct lwc_ctx *lc, int mask)
{
	struct filedesc *fdp;
	struct proc *p;
	struct pwddesc *pdp;
	struct vmspace *vm;

	p = td->td_proc;
	PROC_LOCK(p);
	execve_block_pass(td);
	if ((mask & LWC_MEMORY) != 0) {
		vm = p->p_vmspace;
		p->p_vmspace = lc->lc_vm;
		lc->lc_vm = vm;
	}
	if ((mask & LWC_FILES) != 0) {
		fdp = p->p_fd;
		atomic_store_ptr(&p->p_fd, lc->lc_fd);
		lc->lc_fd = fdp;
		pdp = p->p_pd;
		atomic_store_ptr(&p->p_pd, lc->lc_pd);
		lc->lc_pd = pdp;
	}
	PROC_UNLOCK(p);
	if ((mask & LWC_MEMORY) != 0)
		pmap_activate(td);
	if ((mask & LWC_CREDENTIALS) != 0)
		lwc_cred_exchange(td, &lc->lc_cred, &lc->lc_credref);
}

/* Make a system call, and record it, as the kernel would have. */
static int
lwc_syscall_run(struct thread *td, struct syscall_args *sa)
{
	struct sysent *se;
	int error;
	bool audited, fixed;

	se = sa->callp;
#ifdef KTRACE
	if (KTRPOINT(td, KTR_SYSCALL))
		ktrsyscall(sa->code, se->sy_narg, sa->args);
#endif
	td->td_retval[0] = 0;
	td->td_retval[1] = 0;
	error = 0;
	if ((se->sy_flags & SYF_CAPENABLED) == 0 && IN_CAPABILITY_MODE(td))
		error = ECAPMODE;
	fixed = (se->sy_thrcnt & SY_THR_STATIC) != 0;
	if (error == 0 && !fixed) {
		error = syscall_thread_enter(td, &se);
		fixed = (se->sy_thrcnt & SY_THR_STATIC) != 0;
	}
	if (error == 0) {
		audited = AUDIT_SYSCALL_ENTER(sa->code, td) != 0;
#ifdef KDTRACE_HOOKS
		if (se->sy_entry != 0)
			(*systrace_probe_func)(sa, SYSTRACE_ENTRY, 0);
#endif
		error = (se->sy_call)(td, sa->args);
#ifdef KDTRACE_HOOKS
		if (se->sy_return != 0)
			(*systrace_probe_func)(sa, SYSTRACE_RETURN,
			    error != 0 ? -1 : td->td_retval[0]);
#endif
		if (audited)
			AUDIT_SYSCALL_EXIT(error, td);
		if (!fixed)
			syscall_thread_exit(td, se);
	}
#ifdef KTRACE
	if (KTRPOINT(td, KTR_SYSRET))
		ktrsysret(sa->code, error, td->td_retval[0]);
#endif
	return (error);
}

/* May the current context make this call, with these arguments? */
static int
lwc_syscall_guards(struct thread *td, struct lwc_proc *lp,
    const struct syscall_args *sa)
{
	struct lwc_ctx *cur;

	cur = lp->lp_current;
	if (!lwc_allowed(cur->lc_allow, sa->code, (u_int)sa->args[0]))
		return (EPERM);
	if ((cur->lc_flags & LWC_TRAP_EXIT) != 0 &&
	    lwc_call_guard(td, cur, sa) != NULL)
		return (EPERM);
	return (0);
}

int
sys_lwSyscall(struct thread *td, struct lwSyscall_args *uap)
{
	struct syscall_args sa;
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	struct lwc_rights *rg, *self;
	struct sysent *callp;
	int error, mask;

	mask = uap->mask;
	memset(&sa, 0, sizeof(sa));
	sa.code = sa.original_code = uap->number;
	if ((mask & ~LWC_TYPES) != 0 ||
	    sa.code >= (u_int)td->td_proc->p_sysent->sv_size ||
	    (lwc_call_class(sa.code) & LWC_MIX) == 0)
		return (EINVAL);
	sa.callp = &td->td_proc->p_sysent->sv_table[sa.code];
	error = lwc_proc_check(td);
	if (error == 0)
		error = lwc_proc_get(td, &lp);
	if (error == 0 && uap->args != NULL)
		error = copyin(uap->args, sa.args,
		    LWC_CALL_NARGS * sizeof(sa.args[0]));
	if (error == 0)
		error = lwc_ctx_get(td, uap->target, &lc, &rg);
	if (error != 0)
		return (error);
	error = lwc_syscall_guards(td, lp, &sa);
	mtx_lock(&lp->lp_mtx);
	self = lwc_rights_hold(lc->lc_self);
	if (error != 0)
		;
	else if (lc->lc_state == LWC_STATE_DEAD)
		error = ESRCH;
	else if (lc == lp->lp_current)
		error = EINVAL;
	else if (!lwc_syscall_allowed(rg, mask) ||
	    !lwc_syscall_allowed(self, mask))
		error = EACCES;
	else if (!lwc_cred_jailed_alike(lc->lc_cred, td->td_proc->p_ucred))
		error = EPERM;
	else
		lc->lc_names++;
	if (error == 0) {
		lc->lc_clean = false;
		lc->lc_changed = true;
	}
	mtx_unlock(&lp->lp_mtx);
	if (error == 0) {
		lwc_mix(td, lc, mask);
		if ((lwc_call_class(sa.code) & LWC_LOOK) != 0) {
			callp = lwc_call_look(td, lp, &sa);
			if (callp != NULL)
				sa.callp = callp;
		}
		error = lwc_syscall_run(td, &sa);
		lwc_mix(td, lc, mask);
		lwc_ctx_unname(lc);
	}
	lwc_rights_free(rg);
	lwc_rights_free(self);
	lwc_ctx_rele(lc);
	/* It would begin again with the first half of a frame. */
	return (error == EJUSTRETURN ? EINVAL : error);
}
