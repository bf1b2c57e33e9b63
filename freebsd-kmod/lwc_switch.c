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
 *
 * Nearly every switch is between two that have switched before, in tables that
 * no other process shares.  Then each names the other in a place where nobody
 * but this thread can close it: neither can die meanwhile, nothing can fail,
 * and the states change without a lock.  sys_lwSwitch() does that by itself.
 */

#include "lwc_var.h"


SDT_PROBE_DEFINE3(lwc, , , switch, "uint64_t", "uint64_t", "int");

#define	LWC_TDP		(TDP_ALTSTACK | TDP_SIGFASTBLOCK)
#define	LWC_TDP2	TDP2_UEXTERR
/* Both words of flags at once. */
#define	LWC_TDP_BOTH	((uint64_t)(u_int)LWC_TDP2 << 32 | (u_int)LWC_TDP)
CTASSERT(offsetof(struct thread, td_pflags2) ==
    offsetof(struct thread, td_pflags) + sizeof(int));
CTASSERT(offsetof(struct lwc_thread, lt_pflags2) ==
    offsetof(struct lwc_thread, lt_pflags) + sizeof(int));
CTASSERT(BYTE_ORDER == LITTLE_ENDIAN);

static __always_inline void
lwc_thread_save(struct thread *td, struct lwc_thread *lt)
{
	uint64_t flags;

	lt->lt_sigmask = td->td_sigmask;
	lt->lt_sigstk = td->td_sigstk;
	memcpy(&flags, &td->td_pflags, sizeof(flags));
	flags &= LWC_TDP_BOTH;
	memcpy(&lt->lt_pflags, &flags, sizeof(flags));
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
	uint64_t flags, mine;

	td->td_sigmask = lt->lt_sigmask;
	td->td_sigstk = lt->lt_sigstk;
	memcpy(&flags, &td->td_pflags, sizeof(flags));
	memcpy(&mine, &lt->lt_pflags, sizeof(mine));
	flags = (flags & ~LWC_TDP_BOTH) | mine;
	memcpy(&td->td_pflags, &flags, sizeof(flags));
	td->td_sigblock_ptr = lt->lt_sigblock_ptr;
	td->td_sigblock_val = lt->lt_sigblock_val;
	td->td_exterr_ptr = lt->lt_exterr_ptr;
	td->td_rb_list = lt->lt_rb_list;
	td->td_rbp_list = lt->lt_rbp_list;
	td->td_rb_inact = lt->lt_rb_inact;
}

/* Is a signal waiting that the other mask may let through? */
static __always_inline bool
lwc_signals_wait(const struct thread *td, const struct proc *p)
{
	uint64_t w[4];

	CTASSERT(sizeof(sigset_t) == 2 * sizeof(w[0]));
	memcpy(&w[0], &td->td_siglist, sizeof(sigset_t));
	memcpy(&w[2], &p->p_siglist, sizeof(sigset_t));
	return ((w[0] | w[1] | w[2] | w[3]) != 0);
}

/*
 * Exchange everything that the process and the thread have of a context.
 * lwc_md_switch() follows, and makes the memory and the registers its own.
 */
static __always_inline void
lwc_swap(struct thread *td, struct lwc_ctx *from, struct lwc_ctx *to)
{
	struct proc *p;

	p = td->td_proc;
	if (from->lc_shared != to->lc_shared)
		lwc_shared_swap(from, to, p->p_fd);
	PROC_LOCK(p);
	lwc_cow_sync(td, p);
	from->lc_vm = p->p_vmspace;
	p->p_vmspace = to->lc_vm;
	from->lc_fd = p->p_fd;
	atomic_store_ptr(&p->p_fd, to->lc_fd);
	from->lc_pd = p->p_pd;
	atomic_store_ptr(&p->p_pd, to->lc_pd);
	from->lc_sigacts = p->p_sigacts;
	p->p_sigacts = to->lc_sigacts;
	from->lc_limit = p->p_limit;
	p->p_limit = td->td_limit = to->lc_limit;
	from->lc_cred = to->lc_cred;
	from->lc_credref = to->lc_credref;
	/* If they are the same it does not matter who counts what. */
	if (from->lc_cred != p->p_ucred)
		lwc_cred_swap(td, p, &from->lc_cred, &from->lc_credref);
	p->p_sysent = to->lc_sysent;
	lwc_thread_save(td, &from->lc_thread);
	lwc_thread_load(td, &to->lc_thread);
	if (__predict_false(lwc_signals_wait(td, p)))
		signotify(td);
	PROC_UNLOCK(p);
	lwc_cred_changed(p, from->lc_cred, p->p_ucred);
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

static inline bool
lwc_rests(const struct lwc_ctx *lc)
{

	return (lc->lc_state == LWC_STATE_SUSPENDED ||
	    lc->lc_state == LWC_STATE_NEW || lc->lc_state == LWC_STATE_REPLY);
}

/*
 * Who switched here last time, or where we went last time: one of the two
 * remembers the caller's number in nearly every pattern of switching.  A table
 * that no other process shares needs no lock to be looked at, and what it
 * names stays named while we are in the kernel.  It may be the table that the
 * process has now (mine), which the caller may have looked at (ours).
 *
 * The target has resources, so it is neither dead nor current; that cannot
 * change behind our back where this returns true.
 */
static __always_inline bool
lwc_known(struct filedesc *mine, bool ours, struct lwc_ctx *from,
    struct lwc_ctx *to, int *srcp)
{
	struct filedesc *fdp;
	int fd;

	if (to->lc_caller == from->lc_id)
		fd = to->lc_caller_fd;
	else if (from->lc_callee == to->lc_id)
		fd = from->lc_callee_fd;
	else
		return (false);
	fdp = to->lc_fd;
	if (fdp != mine)
		ours = lwc_table_ours(fdp, to->lc_shared, 0);
	else if (!ours)
		ours = lwc_table_ours(mine, from->lc_shared, 1);
	if (!ours || !lwc_desc_names(fdp, fd, from))
		return (false);
	*srcp = fd;
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
 * 3.3: the number under which one context (to) knows another one (from), which
 * switches there, now or later.  A new one is put into the table of the first,
 * for which it must be the process's for a moment.  Neither can die meanwhile:
 * it is claimed, current, or named by us.
 *
 * Both remember the number, so that it is the one that a switch finds.
 */
int
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
		lwc_md_result(td, error, 0, 0);
		return (EJUSTRETURN);
	}
	td->td_retval[0] = ev->ev_kind;
	td->td_retval[1] = (register_t)n << 32 | (u_int)src;
	return (0);
}

/* The current context is another now: what is left to do, and what it gets. */
static __always_inline int
lwc_arrive(struct thread *td, struct lwc_ctx *from, struct lwc_ctx *to,
    const struct lwc_event *ev, int how, int state, int src)
{

	if (how == LWC_HOW_SUSPEND && ev->ev_until != 0)
		lwc_patience_begin(from, ev->ev_until);
	to->lc_deadline = 0;
	atomic_add_long(&lwc_nswitch, 1);
	SDT_PROBE3(lwc, , , switch, from->lc_id, to->lc_id, how);
	if (how == LWC_HOW_PREEMPT) {
		from->lc_preempted = true;
		lwc_md_result(td, ETIMEDOUT, 0, 0);
		return (EJUSTRETURN);
	}
	if (to->lc_preempted) {
		to->lc_preempted = false;
		return (EJUSTRETURN);
	}
	if (state == LWC_STATE_REPLY) {
		lwc_md_result(td,
		    ev->ev_n > 0 ? (int)ev->ev_words[LWC_REPLY_ERRNO] : 0,
		    ev->ev_n > 1 ? ev->ev_words[LWC_REPLY_VALUE] : 0, 0);
		return (EJUSTRETURN);
	}
	return (lwc_deliver(td, to, ev, src));
}

/*
 * Go to another context.  0: we are there, and td_retval has what the call
 * returns in which it left.  EJUSTRETURN: we are there, and its registers have
 * it.  Else we are where we were.  The caller has a reference on the target
 * and has done lwc_proc_check().
 */
int
lwc_enter(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *to,
    const struct lwc_event *ev, int how)
{
	struct lwc_ctx *from;
	struct filedesc *fdp;
	int error, src, state;
	bool dead, known;

	from = lp->lp_current;
	fdp = td->td_proc->p_fd;
	src = -1;
	/* Not claimed yet: it must be named where nobody else can close it. */
	known = lwc_rests(to) && ((how == LWC_HOW_TRAP &&
	    lwc_known(fdp, false, from, to, &src)) ||
	    (how == LWC_HOW_SUSPEND &&
	    lwc_table_ours(fdp, from->lc_shared, 1) &&
	    lwc_known(fdp, true, from, to, &src)));
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
		/*
		 * Another process may close, or have closed, its last name in
		 * a shared table.
		 */
		lwc_ctx_ref(from);
		mtx_lock(&lp->lp_mtx);
		dead = how == LWC_HOW_DISCARD || from->lc_names == 0;
		lwc_leave(lp, from, to,
		    dead ? LWC_STATE_DEAD : lwc_left_state(how));
		mtx_unlock(&lp->lp_mtx);
	}
	error = lwc_arrive(td, from, to, ev, how, state, src);
	if (dead)
		lwc_reap(lp, from);
	if (!known)
		lwc_ctx_rele(from);
	return (error);
}

/*
 * Whom a descriptor names.  In a table that no other process shares nobody can
 * close it until the target runs, and then it lives: no reference is needed
 * (held).
 */
static __always_inline int
lwc_target(struct thread *td, int fd, struct lwc_ctx **top, bool *held)
{
	struct file *fp;
	struct filedesc *fdp;
	struct lwc_proc *lp;

	fdp = td->td_proc->p_fd;
	*held = (fdp->fd_refcnt != 1 &&
	    ((lp = lwc_proc_find(td->td_proc)) == NULL ||
	    !lwc_table_ours(fdp, lp->lp_current->lc_shared, 1))) ||
	    (u_int)fd >= (u_int)fdp->fd_nfiles || (fp = fdp->fd_ofiles[fd].fde_file) == NULL ||
	    fp->f_ops != &lwc_fileops;
	if (*held)
		return (lwc_ctx_get(td, fd, top, NULL));
	*top = ((struct lwc_desc *)fp->f_data)->ld_ctx;
	return ((*top)->lc_lp->lp_proc == td->td_proc ? 0 : EPERM);
}

/* The words, and the end of patience that may follow them. */
static __always_inline int
lwc_words_copyin(struct lwc_event *ev, const uint64_t *args, int n, int flags)
{
	int all, error;

	ev->ev_kind = LWC_SWITCHED;
	ev->ev_until = 0;
	ev->ev_n = n & ~flags;
	if ((u_int)ev->ev_n > LWC_MAX_ARGS)
		return (EINVAL);
	all = ev->ev_n + ((n & flags & LWC_UNTIL) != 0);
	if (all == 0)
		return (0);
	error = copyin(args, ev->ev_words, all * sizeof(ev->ev_words[0]));
	if (error == 0 && all != ev->ev_n)
		ev->ev_until = lwc_patience_until(ev->ev_words[ev->ev_n]);
	return (error);
}

int
sys_lwSwitch(struct thread *td, struct lwSwitch_args *uap)
{
	struct filedesc *fdp;
	struct lwc_ctx *from, *to;
	struct lwc_event ev;
	struct lwc_proc *lp;
	int error, src, state;
	bool held;

	td = curthread;		/* which the locks ask for all the time */
	error = lwc_proc_check(td);
	if (error == 0)
		error = lwc_words_copyin(&ev, uap->to_args, uap->n,
		    LWC_UNTIL | LWC_ROOM);
	if (error == 0)
		error = lwc_target(td, uap->to, &to, &held);
	if (error != 0)
		return (error);
	lp = to->lc_lp;
	from = lp->lp_current;
	if (__predict_false(!lwc_allowed(from->lc_allow, lwSwitch_number))) {
		error = lwc_call_deny(td, NULL);
		goto out;
	}
	/* If it does not leave after all, nobody reads this. */
	error = lwc_out_copyin(&from->lc_out, uap->src, uap->src_args,
	    uap->num_args, (uap->n & LWC_ROOM) != 0);
	if (error != 0)
		goto out;
	fdp = td->td_proc->p_fd;
	state = to->lc_state;
	/*
	 * Without lp_mtx: others change a state only to DEAD, when the last
	 * name goes, and the two name each other where only we can close.
	 */
	if ((state == LWC_STATE_SUSPENDED || state == LWC_STATE_NEW) &&
	    lwc_table_ours(fdp, from->lc_shared, 1) &&
	    lwc_known(fdp, true, from, to, &src)) {
		to->lc_state = LWC_STATE_CURRENT;
		from->lc_state = LWC_STATE_SUSPENDED;
		lp->lp_current = to;
		lwc_swap(td, from, to);
		lwc_md_switch(td, &from->lc_md, &to->lc_md, true);
		error = lwc_arrive(td, from, to, &ev, LWC_HOW_SUSPEND, state,
		    src);
	} else {
		error = lwc_enter(td, lp, to, &ev, LWC_HOW_SUSPEND);
	}
out:
	if (held)
		lwc_ctx_rele(to);
	/* What returns is the call in which the target left. */
	return (error);
}

int
sys_lwDiscardSwitch(struct thread *td, struct lwDiscardSwitch_args *uap)
{
	struct lwc_ctx *to;
	struct lwc_event ev;
	int error;

	error = lwc_proc_check(td);
	if (error == 0)
		error = lwc_words_copyin(&ev, uap->to_args, uap->n, 0);
	if (error == 0)
		error = lwc_ctx_get(td, uap->to, &to, NULL);
	if (error != 0)
		return (error);
	error = lwc_enter(td, to->lc_lp, to, &ev, LWC_HOW_DISCARD);
	lwc_ctx_rele(to);
	return (error);
}
