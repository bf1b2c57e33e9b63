/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The switch.
 *
 * One function moves a process from its current context into another, for
 * lwSwitch(), lwDiscardSwitch(), traps and ends alike.  The target is claimed
 * first (state CURRENT under lp_mtx: from then on nobody's close destroys
 * it); then the caller's descriptor gets into the target's table, the only
 * step that can fail; then the resources change hands, under the process
 * lock, where other processes look at them; last the target gets its words,
 * in its own memory.
 *
 * That last step may fault and sleep, so it holds nothing, and its failure is
 * the target's: the call that resumes there returns EFAULT.
 *
 * Cost does not depend on how many contexts there are nor how large they are:
 * pointers move, and a hash finds the descriptor.
 */

#include "lwc_var.h"

#include <sys/jail.h>
#include <sys/racct.h>
#include <sys/resourcevar.h>
#include <sys/sx.h>
#include <sys/ucred.h>


SDT_PROBE_DEFINE3(lwc, , , switch, "uint64_t", "uint64_t", "int");

/*
 * Exchange p_ucred; the caller gets the old reference, and calls
 * thread_cow_update() when it has let go of the process lock.
 */
static struct ucred *
lwc_cred_swap(struct proc *p, struct ucred *new)
{
	struct ucred *old;

	PROC_LOCK_ASSERT(p, MA_OWNED);
	old = p->p_ucred;
	if (old != new)
		proc_set_cred(p, new);
	return (old);
}

/* A process is on the list of its prison, which follows the credentials. */
static void
lwc_prison_move(struct proc *p, struct ucred *from, struct ucred *to)
{

	sx_xlock(&allproc_lock);
	prison_proc_unlink(from->cr_prison, p);
	prison_proc_link(to->cr_prison, p);
	sx_xunlock(&allproc_lock);
	prison_proc_hold(to->cr_prison);
	prison_proc_free(from->cr_prison);
}

static void
lwc_cred_changed(struct thread *td, struct ucred *from, struct ucred *to)
{

	thread_cow_update(td);
	if (from->cr_prison != to->cr_prison)
		lwc_prison_move(td->td_proc, from, to);
#ifdef RACCT
	if (from->cr_ruidinfo != to->cr_ruidinfo ||
	    from->cr_prison != to->cr_prison ||
	    from->cr_loginclass != to->cr_loginclass)
		racct_proc_ucred_changed(td->td_proc, from, to);
#endif
}

/* Give the process other credentials; takes a reference, returns one. */
void
lwc_cred_install(struct thread *td, struct ucred *new, struct ucred **oldp)
{
	struct proc *p;

	p = td->td_proc;
	PROC_LOCK(p);
	*oldp = lwc_cred_swap(p, new);
	PROC_UNLOCK(p);
	if (*oldp != new)
		lwc_cred_changed(td, *oldp, new);
}

#define	LWC_TDP		(TDP_ALTSTACK | TDP_SIGFASTBLOCK)
#define	LWC_TDP2	TDP2_UEXTERR

static __always_inline void
lwc_thread_save(struct thread *td, struct lwc_thread *lt)
{

	lt->lt_sigmask = td->td_sigmask;
	lt->lt_sigstk = td->td_sigstk;
	lt->lt_pflags = td->td_pflags & LWC_TDP;
	lt->lt_pflags2 = td->td_pflags2 & LWC_TDP2;
	lt->lt_sigblock_ptr = td->td_sigblock_ptr;
	lt->lt_sigblock_val = td->td_sigblock_val;
	lt->lt_exterr_ptr = td->td_exterr_ptr;
	lt->lt_rb_list = td->td_rb_list;
	lt->lt_rbp_list = td->td_rbp_list;
	lt->lt_rb_inact = td->td_rb_inact;
}

static __always_inline void
lwc_thread_load(struct thread *td, const struct lwc_thread *lt)
{

	td->td_sigmask = lt->lt_sigmask;
	td->td_sigstk = lt->lt_sigstk;
	td->td_pflags = (td->td_pflags & ~LWC_TDP) | lt->lt_pflags;
	td->td_pflags2 = (td->td_pflags2 & ~LWC_TDP2) | lt->lt_pflags2;
	td->td_sigblock_ptr = lt->lt_sigblock_ptr;
	td->td_sigblock_val = lt->lt_sigblock_val;
	td->td_exterr_ptr = lt->lt_exterr_ptr;
	td->td_rb_list = lt->lt_rb_list;
	td->td_rbp_list = lt->lt_rbp_list;
	td->td_rb_inact = lt->lt_rb_inact;
}

/* Exchange everything; afterwards the thread is in the other context. */
static __always_inline void
lwc_swap(struct thread *td, struct lwc_ctx *from, struct lwc_ctx *to)
{
	struct proc *p;
	bool cred, limits;

	p = td->td_proc;
	PROC_LOCK(p);
	from->lc_vm = p->p_vmspace;
	p->p_vmspace = to->lc_vm;
	to->lc_vm = NULL;
	from->lc_fd = p->p_fd;
	atomic_store_ptr(&p->p_fd, to->lc_fd);
	to->lc_fd = NULL;
	from->lc_pd = p->p_pd;
	atomic_store_ptr(&p->p_pd, to->lc_pd);
	to->lc_pd = NULL;
	from->lc_sigacts = p->p_sigacts;
	p->p_sigacts = to->lc_sigacts;
	to->lc_sigacts = NULL;
	from->lc_cred = lwc_cred_swap(p, to->lc_cred);
	cred = from->lc_cred != to->lc_cred;
	to->lc_cred = NULL;
	from->lc_limit = p->p_limit;
	limits = from->lc_limit != to->lc_limit;
	if (limits) {
		p->p_limit = to->lc_limit;
		PROC_UPDATE_COW(p);
	}
	to->lc_limit = NULL;
	p->p_sysent = to->lc_sysent;
	lwc_thread_save(td, &from->lc_thread);
	lwc_thread_load(td, &to->lc_thread);
	if (!SIGISEMPTY(td->td_siglist) || !SIGISEMPTY(p->p_siglist))
		signotify(td);
	PROC_UNLOCK(p);
	pmap_activate(td);
	if (cred)
		lwc_cred_changed(td, from->lc_cred, p->p_ucred);
	else if (limits)
		thread_cow_update(td);
}

static inline int
lwc_left_state(int how)
{

	return (how == LWC_HOW_TRAP ? LWC_STATE_REPLY : LWC_STATE_SUSPENDED);
}

static void
lwc_leave(struct lwc_proc *lp, struct lwc_ctx *from, struct lwc_ctx *to,
    int state)
{

	mtx_assert(&lp->lp_mtx, MA_OWNED);
	lp->lp_current = to;
	from->lc_state = state;
}

/*
 * Who switched here last time, or where we went last time: one of the two
 * remembers the caller's number in nearly every pattern of switching.  A table
 * that nobody shares needs no lock to be looked at, and what it names stays
 * named while we are in the kernel.
 */
static __always_inline bool
lwc_known(struct lwc_ctx *from, struct lwc_ctx *to, int *srcp)
{
	struct filedesc *fdp;
	int fd;

	if (to->lc_caller == from->lc_id)
		fd = to->lc_caller_fd;
	else if (from->lc_callee == to->lc_id)
		fd = from->lc_callee_fd;
	else
		return (false);
	/* Dead or current it has none: lwc_claim() says so. */
	fdp = to->lc_fd;
	if (fdp == NULL || fdp->fd_refcnt != 1 ||
	    !lwc_desc_names(fdp, fd, from))
		return (false);
	*srcp = fd;
	to->lc_caller = from->lc_id;
	to->lc_caller_fd = fd;
	return (true);
}

/*
 * May the current context go to this one in this way?  If so it is ours.
 * An answer to a trap comes from whom the trap went to, and from nobody else.
 * With nothing left that can fail (known), the current one is left as well.
 */
static __always_inline int
lwc_claim(struct lwc_proc *lp, struct lwc_ctx *to, const struct lwc_event *ev,
    int how, bool known, int *statep)
{
	int error;

	error = 0;
	mtx_lock(&lp->lp_mtx);
	*statep = to->lc_state;
	switch (to->lc_state) {
	case LWC_STATE_SUSPENDED:
	case LWC_STATE_NEW:
		break;
	case LWC_STATE_REPLY:
		if (ev->ev_kind != LWC_SWITCHED ||
		    to->lc_monitor != lp->lp_current)
			error = EBUSY;
		break;
	case LWC_STATE_CURRENT:
		error = EINVAL;
		break;
	default:
		error = ESRCH;
		break;
	}
	if (error == 0) {
		to->lc_state = LWC_STATE_CURRENT;
		if (known)
			lwc_leave(lp, lp->lp_current, to,
			    lwc_left_state(how));
	}
	mtx_unlock(&lp->lp_mtx);
	return (error);
}

static void
lwc_unclaim(struct lwc_proc *lp, struct lwc_ctx *to, int state)
{

	mtx_lock(&lp->lp_mtx);
	to->lc_state = state;
	to->lc_names++;
	mtx_unlock(&lp->lp_mtx);
	lwc_ctx_unname(to);	/* its last name may have gone meanwhile */
}

/*
 * 3.3: the number under which the target knows the caller.  A new one is put
 * into the target's table, for which it must be the process's for a moment.
 */
static int
lwc_introduce(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *from,
    struct lwc_ctx *to, int *srcp)
{
	struct filedesc *fdp;
	struct lwc_rights *rg;
	struct proc *p;
	int error;

	*srcp = lwc_desc_find(lp, to->lc_fd, from);
	if (*srcp >= 0)
		goto found;
	rg = to->lc_creator == from ? lwc_rights_hold(to->lc_back) :
	    lwc_rights_none();
	p = td->td_proc;
	PROC_LOCK(p);
	fdp = p->p_fd;
	atomic_store_ptr(&p->p_fd, to->lc_fd);
	PROC_UNLOCK(p);
	error = lwc_desc_install(td, from, rg, srcp);
	PROC_LOCK(p);
	atomic_store_ptr(&p->p_fd, fdp);
	PROC_UNLOCK(p);
	if (error != 0)
		return (error);
found:
	to->lc_caller = from->lc_id;
	to->lc_caller_fd = *srcp;
	from->lc_callee = to->lc_id;
	from->lc_callee_fd = *srcp;
	return (0);
}

/* Tell the context that is now the current one who came and with what. */
static __always_inline int
lwc_deliver(struct thread *td, struct lwc_ctx *lc, const struct lwc_event *ev,
    int src)
{
	const struct lwc_out *ou;
	int error, n;

	ou = &lc->lc_out;
	error = 0;
	n = MIN(ev->ev_n, ou->ou_cap);
	if (ou->ou_src != NULL && suword32(ou->ou_src, src) != 0)
		error = EFAULT;
	if (n > 0 && error == 0)
		error = copyout(ev->ev_words, ou->ou_args,
		    n * sizeof(ev->ev_words[0]));
	if (ou->ou_num != NULL && error == 0 && suword32(ou->ou_num, n) != 0)
		error = EFAULT;
	if (error != 0) {
		lwc_md_result(td, error, 0);
		return (EJUSTRETURN);
	}
	td->td_retval[0] = ev->ev_kind;
	td->td_retval[1] = 0;
	return (0);
}

/*
 * Go to another context.  0: we are there, and td_retval has what the call
 * returns in which it left.  EJUSTRETURN: we are there, and its registers have
 * it.  Else we are where we were.  The caller has a reference on the target
 * and has done lwc_proc_check().
 */
static __always_inline int
lwc_go(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *to,
    const struct lwc_event *ev, const int how)
{
	struct lwc_ctx *from;
	int error, src, state;
	bool dead, known;

	from = lp->lp_current;
	src = -1;
	/* Not claimed yet: it must be named where nobody else can close it. */
	known = (how == LWC_HOW_TRAP || (how == LWC_HOW_SUSPEND &&
	    td->td_proc->p_fd->fd_refcnt == 1)) && lwc_known(from, to, &src);
	error = lwc_claim(lp, to, ev, how, known, &state);
	if (error != 0)
		return (error);
	if (how != LWC_HOW_DISCARD && how != LWC_HOW_PREEMPT && !known) {
		error = lwc_introduce(td, lp, from, to, &src);
		if (error != 0) {
			lwc_unclaim(lp, to, state);
			return (error);
		}
	}
	lwc_swap(td, from, to);
	lwc_md_switch(td, how != LWC_HOW_DISCARD ? &from->lc_md : NULL,
	    &to->lc_md, how == LWC_HOW_SUSPEND);
	dead = false;
	if (!known) {
		mtx_lock(&lp->lp_mtx);
		/* Another process may have closed the name in a shared table. */
		dead = how == LWC_HOW_DISCARD || from->lc_names == 0;
		lwc_leave(lp, from, to,
		    dead ? LWC_STATE_DEAD : lwc_left_state(how));
		mtx_unlock(&lp->lp_mtx);
	}
	if (how == LWC_HOW_SUSPEND && from->lc_patience != 0)
		lwc_patience_begin(from);
	if (to->lc_deadline != 0)
		lwc_patience_end(to);
	atomic_add_long(&lwc_nswitch, 1);
	SDT_PROBE3(lwc, , , switch, from->lc_id, to->lc_id, how);
	if (how == LWC_HOW_PREEMPT) {
		from->lc_preempted = true;
		lwc_md_result(td, ETIMEDOUT, 0);
		error = EJUSTRETURN;
	} else if (to->lc_preempted) {
		to->lc_preempted = false;
		error = EJUSTRETURN;
	} else if (state == LWC_STATE_REPLY) {
		lwc_md_result(td,
		    ev->ev_n > 0 ? (int)ev->ev_words[LWC_REPLY_ERRNO] : 0,
		    ev->ev_n > 1 ? ev->ev_words[LWC_REPLY_VALUE] : 0);
		error = EJUSTRETURN;
	} else {
		error = lwc_deliver(td, to, ev, src);
	}
	if (dead)
		lwc_reap(lp, from);
	return (error);
}

int
lwc_enter(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *to,
    const struct lwc_event *ev, int how)
{

	return (lwc_go(td, lp, to, ev, how));
}

/* Compiled once for each way out: what a switch costs is decided here. */
static __always_inline int
lwc_switch(struct thread *td, int fd, const uint64_t *args, int n,
    const struct lwc_out *out, const int how)
{
	struct file *fp;
	struct filedesc *fdp;
	struct lwc_ctx *to;
	struct lwc_event ev;
	struct lwc_proc *lp;
	int error;
	bool shared;

	error = lwc_proc_check(td);
	if (error != 0)
		return (error);
	if ((u_int)n > LWC_MAX_ARGS)
		return (EINVAL);
	ev.ev_kind = LWC_SWITCHED;
	ev.ev_n = n;
	if (n > 0) {
		error = copyin(args, ev.ev_words, n * sizeof(*args));
		if (error != 0)
			return (error);
	}
	/*
	 * In a table that nobody shares nobody can close the descriptor until
	 * the target runs, and then it lives: no reference is needed.
	 */
	fdp = td->td_proc->p_fd;
	shared = fdp->fd_refcnt != 1 || (u_int)fd >= (u_int)fdp->fd_nfiles ||
	    (fp = fdp->fd_ofiles[fd].fde_file) == NULL ||
	    fp->f_ops != &lwc_fileops;
	if (shared) {
		error = lwc_ctx_get(td, fd, &to, NULL);
		if (error != 0)
			return (error);
	} else {
		to = ((struct lwc_desc *)fp->f_data)->ld_ctx;
		if (to->lc_lp->lp_proc != td->td_proc)
			return (EPERM);
	}
	lp = to->lc_lp;
	if (how == LWC_HOW_SUSPEND)
		lp->lp_current->lc_out = *out;
	error = lwc_go(td, lp, to, &ev, how);
	if (shared)
		lwc_ctx_rele(to);
	/* What returns is the call in which the target left. */
	return (error);
}

int
sys_lwSwitch(struct thread *td, struct lwSwitch_args *uap)
{
	struct lwc_out out;
	int error;

	error = lwc_out_copyin(&out, uap->src, uap->src_args, uap->num_args);
	if (error != 0)
		return (error);
	return (lwc_switch(td, uap->to, uap->to_args, uap->n, &out,
	    LWC_HOW_SUSPEND));
}

int
sys_lwDiscardSwitch(struct thread *td, struct lwDiscardSwitch_args *uap)
{

	return (lwc_switch(td, uap->to, uap->to_args, uap->n, NULL,
	    LWC_HOW_DISCARD));
}
