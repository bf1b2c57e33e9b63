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
 * then.  The target is claimed for that time, so that nobody destroys it.
 *
 * Since one call may touch all of a resource, the right to all of it is
 * needed.  Calls that never return here, that change whose resources are
 * whose, or that leave something behind which works on p_vmspace later
 * (asynchronous I/O, attached segments) are refused.
 */

#include "lwc_var.h"

#include <sys/capsicum.h>
#include <sys/syscall.h>

#include <vm/vm_param.h>

static bool
lwc_refused(int number)
{

	switch (number) {
	case SYS_syscall:
	case SYS___syscall:
	case SYS_exit:
	case SYS_abort2:
	case SYS_fork:
	case SYS_vfork:
	case SYS_rfork:
	case SYS_pdfork:
	case SYS_pdrfork:
	case SYS_execve:
	case SYS_fexecve:
	case SYS___mac_execve:
	case SYS_sigreturn:
	case SYS_setcontext:
	case SYS_swapcontext:
	case SYS_getcontext:
	case SYS_sigfastblock:
	case SYS_thr_create:
	case SYS_thr_exit:
	case SYS_thr_self:
	case SYS_thr_kill:
	case SYS_thr_kill2:
	case SYS_thr_suspend:
	case SYS_thr_wake:
	case SYS_thr_new:
	case SYS_thr_set_name:
	case SYS_shmsys:
	case SYS_shmat:
	case SYS_shmdt:
	case SYS_aio_read:
	case SYS_aio_write:
	case SYS_aio_readv:
	case SYS_aio_writev:
	case SYS_aio_fsync:
	case SYS_aio_mlock:
	case SYS_aio_cancel:
	case SYS_aio_suspend:
	case SYS_aio_return:
	case SYS_aio_error:
	case SYS_aio_waitcomplete:
	case SYS_lio_listio:
	case SYS_kldunload:
	case SYS_kldunloadf:
		return (true);
	}
	return (false);
}

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

/* Exchange what the mask names between the process and the target. */
static void
lwc_mix(struct thread *td, struct lwc_ctx *lc, int mask)
{
	struct filedesc *fdp;
	struct proc *p;
	struct pwddesc *pdp;
	struct vmspace *vm;

	p = td->td_proc;
	PROC_LOCK(p);
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

/* Make a system call, as the kernel would have. */
int
lwc_syscall_run(struct thread *td, struct sysent *se, void *args)
{
	int error;

	if ((se->sy_flags & SYF_CAPENABLED) == 0 && IN_CAPABILITY_MODE(td))
		return (ECAPMODE);
	td->td_retval[0] = 0;
	td->td_retval[1] = 0;
	if ((se->sy_thrcnt & SY_THR_STATIC) != 0)
		return ((se->sy_call)(td, args));
	error = syscall_thread_enter(td, &se);
	if (error != 0)
		return (error);
	error = (se->sy_call)(td, args);
	if ((se->sy_thrcnt & SY_THR_STATIC) == 0)
		syscall_thread_exit(td, se);
	return (error);
}

int
sys_lwSyscall(struct thread *td, struct lwSyscall_args *uap)
{
	register_t args[LWC_CALL_NARGS];
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	struct lwc_rights *rg, *self;
	struct sysent *se;
	int error, state;

	if ((uap->mask & ~LWC_TYPES) != 0)
		return (EINVAL);
	if (uap->number < 0 || uap->number >= td->td_proc->p_sysent->sv_size ||
	    lwc_refused(uap->number))
		return (EINVAL);
	se = &td->td_proc->p_sysent->sv_table[uap->number];
	if (lwc_is_ours(se->sy_call))
		return (EINVAL);
	error = lwc_proc_check(td);
	if (error != 0)
		return (error);
	lp = lwc_proc_find(td->td_proc);
	if (lp != NULL && !lwc_allowed(lp->lp_current->lc_allow, uap->number))
		return (EPERM);
	memset(args, 0, sizeof(args));
	if (uap->args != NULL) {
		error = copyin(uap->args, args, sizeof(args));
		if (error != 0)
			return (error);
	}
	error = lwc_ctx_get(td, uap->target, &lc, &rg);
	if (error != 0)
		return (error);
	lp = lc->lc_lp;
	mtx_lock(&lp->lp_mtx);
	state = lc->lc_state;
	self = lwc_rights_hold(lc->lc_self);
	if (state == LWC_STATE_DEAD)
		error = ESRCH;
	else if (lc == lp->lp_current)
		error = EINVAL;
	else if (!lwc_syscall_allowed(rg, uap->mask) ||
	    !lwc_syscall_allowed(self, uap->mask))
		error = EACCES;
	else
		lc->lc_names++;
	mtx_unlock(&lp->lp_mtx);
	if (error == 0) {
		lwc_mix(td, lc, uap->mask);
		error = lwc_syscall_run(td, se, args);
		lwc_mix(td, lc, uap->mask);
		lwc_ctx_unname(lc);
	}
	lwc_rights_free(rg);
	lwc_rights_free(self);
	lwc_ctx_rele(lc);
	/* It would begin again with the first half of a frame. */
	return (error == EJUSTRETURN ? EINVAL : error);
}
