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
 * Nearly every switch is between two that have switched before.  Then each
 * names the other in a table of this process, where nobody but this thread
 * can close it: neither can die meanwhile, nothing can fail, and the states
 * change without a lock.  sys_lwSwitch() does that by itself.
 *
 * What is switched, of struct proc: p_vmspace, p_fd, p_pd, p_sigacts, p_ucred,
 * p_limit and with it p_cpulimit, p_umtx_min_timeout, p_sysent.  Of struct
 * thread: td_ucred, td_realucred, td_ucredref, td_limit; td_sigqueue
 * (lwc_signals.c); all of struct lwc_thread; the frame, the bases and vector
 * registers (lwc_md.h).
 *
 * What is not:
 *  p_fdtol		NULL, or no switch: lwc_proc_check().
 *  p_sigqueue		the process's; lwc_signals.c takes what is not.
 *  p_aioinfo		none in flight, or no switch.
 *  p_stats->p_prof	profil(2) is refused; it counts in user memory.
 *  p_mqnotifier	mq_notify(2) is refused; it goes by a number.
 *  p_realtimer, p_itimers, p_stats->p_timer, p_sigiolst, p_pdeathsig
 *			the process's; their signals act on who is current.
 *  p_limco		looks at p_cpulimit, which is switched.
 *  p_textvp, p_comm, p_args, p_osrel, p_elf_flags, p_md (LDT, paging mode)
 *			of the program, which is one; execve(2) ends the rest.
 *  p_pgrp, p_peers, p_leader, p_nice, p_fibnum, cpuset, scheduling class
 *			the process's, for all contexts; documented.
 *  td_oldsigmask	of ppoll(2), sigsuspend(2): put back before (LWC_AST).
 *  td_kexterr		of the last call; cleared by the next (TDP2_EXTERR).
 *  td_sa, td_retval, td_errno	of the call that is being made.
 *  td_dbgflags, td_si, td_xsig, debug registers	the debugger's.
 *  td_ru, td_rux, td_pticks, p_rux	accounting is the process's.
 *  td_rfppwait_p	vfork(2) is a fork(2) here, so there is none.
 *  td_ma, td_sel, td_vp_reserved, td_fpop, td_ar	of a call; none is open.
 *  td_ktr_io_lim, p_ktrioparms, p_traceflag	ktrace(2) is of the process.
 * Asynchronous system traps that may run between two contexts' instructions
 * all run before LWC_AST, for the context that is left; of those after it,
 * TDA_MOD4 and TDA_SCHED_PRIV, neither knows of user memory.
 */

#include "lwc_allow.h"
#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_cred.h"
#include "lwc_deadline.h"
#include "lwc_snapshot.h"
#include "lwc_switch.h"
#include "lwc_trap.h"

#include <sys/resourcevar.h>
#include <sys/signalvar.h>

SDT_PROBE_DEFINE3(lwc, , , switch, "uint64_t", "uint64_t", "int");

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
 * The kernel's callout that watches p_cpulimit, once a second, comes no more
 * when it finds no limit; then nobody would look after the next context's.
 */
static inline rlim_t
lwc_cpulimit(rlim_t limit)
{

	return (limit == RLIM_INFINITY ? (rlim_t)1 << 31 : limit);
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
	KASSERT((td->td_pflags & TDP_OLDMASK) == 0,
	    ("lwc: a temporary signal mask is in force"));
	KASSERT(p->p_numthreads == 1, ("lwc: %d threads", p->p_numthreads));
	KASSERT(p->p_fdtol == NULL, ("lwc: another process has the table"));
	KASSERT(to->lc_vm != NULL && to->lc_fd != NULL,
	    ("lwc: into context %ju, which has nothing",
	    (uintmax_t)to->lc_id));
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
	from->lc_cpulimit = p->p_cpulimit;
	if (__predict_false(to->lc_cpulimit != p->p_cpulimit))
		p->p_cpulimit = lwc_cpulimit(to->lc_cpulimit);
	from->lc_umtx_min = p->p_umtx_min_timeout;
	p->p_umtx_min_timeout = to->lc_umtx_min;
	from->lc_cred = to->lc_cred;
	from->lc_credref = to->lc_credref;
	/* If they are the same it does not matter who counts what. */
	if (from->lc_cred != p->p_ucred)
		lwc_cred_swap(td, p, &from->lc_cred, &from->lc_credref);
	p->p_sysent = to->lc_sysent;
	if (__predict_false(to->lc_pending || lwc_signals_wait(td, p))) {
		lwc_signals_switch(td, p, from, to);
		lwc_thread_save(td, &from->lc_thread);
		lwc_thread_load(td, &to->lc_thread);
		signotify(td);
	} else {
		lwc_thread_save(td, &from->lc_thread);
		lwc_thread_load(td, &to->lc_thread);
	}
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
 * remembers the caller's number in nearly every pattern of switching.  No
 * other process has the target's table, so it needs no lock to be looked at,
 * and what it names stays named while we are in the kernel.
 *
 * The target has resources, so it is neither dead nor current; that cannot
 * change behind our back where this returns true.
 */
static __always_inline bool
lwc_known(struct lwc_ctx *from, struct lwc_ctx *to, int *srcp)
{
	int fd;

	if (to->lc_caller == from->lc_id)
		fd = to->lc_caller_fd;
	else if (from->lc_callee == to->lc_id)
		fd = from->lc_callee_fd;
	else
		return (false);
	if (!lwc_desc_names(to->lc_fd, fd, from, false))
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
	if (error == 0 &&
	    !lwc_cred_jailed_alike(to->lc_cred, curproc->p_ucred))
		error = EPERM;
	LWC_FAIL(claim, error);
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
 * By which limits a table has room for a name: of those of the caller, of whose
 * it is and of the root the ones with most descriptors.  Held.
 */
static struct plimit *
lwc_names_limit(struct lwc_proc *lp, struct plimit *own,
    const struct lwc_ctx *to)
{
	struct plimit *limit, *root;

	mtx_lock(&lp->lp_mtx);
	limit = own;
	KASSERT(to->lc_limit != NULL, ("lwc: a suspended context has no limits"));
	if (to->lc_limit->pl_rlimit[RLIMIT_NOFILE].rlim_cur >
	    limit->pl_rlimit[RLIMIT_NOFILE].rlim_cur)
		limit = to->lc_limit;
	root = NULL;
	if (lp->lp_root != NULL && lp->lp_root != lp->lp_current)
		root = lp->lp_root->lc_limit;
	if (root != NULL && root->pl_rlimit[RLIMIT_NOFILE].rlim_cur >
	    limit->pl_rlimit[RLIMIT_NOFILE].rlim_cur)
		limit = root;
	lim_hold(limit);
	mtx_unlock(&lp->lp_mtx);
	return (limit);
}

/*
 * 3.3: the number under which one context (to) knows another one (from), which
 * switches there, now or later.  A new one is put into the table of the first,
 * for which it must be the process's for a moment.  Neither can die meanwhile:
 * it is claimed, current, or named by us.
 *
 * Both remember the number, so that it is the one that a switch finds; but a
 * name for clean ones alone (10.3) is no name to answer by.
 *
 * The table has room by the limit of its own context, by that of who comes, or
 * by the root's: neither a context that has little left for itself is kept from
 * a table with much, nor is one that has filled its own kept from who goes
 * there.
 */
int
lwc_introduce(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *from,
    struct lwc_ctx *to, bool clean_only, int *srcp)
{
	struct filedesc *fdp;
	struct lwc_rights *rg;
	struct plimit *limit, *own;
	struct proc *p;
	int error;
	bool inexec;

	*srcp = lwc_desc_find(lp, to->lc_fd, from, clean_only);
	if (*srcp >= 0)
		goto found;
	rg = to->lc_creator_id == from->lc_id ? lwc_rights_hold(to->lc_back) :
	    lwc_rights_none();
	p = td->td_proc;
	PROC_LOCK(p);
	inexec = lwc_borrow(td);
	fdp = p->p_fd;
	atomic_store_ptr(&p->p_fd, to->lc_fd);
	PROC_UNLOCK(p);
	own = td->td_limit;
	limit = lwc_names_limit(lp, own, to);
	td->td_limit = limit;
	error = lwc_desc_install(td, from, rg, clean_only, srcp);
	td->td_limit = own;
	lim_free(limit);
	PROC_LOCK(p);
	atomic_store_ptr(&p->p_fd, fdp);
	lwc_borrow_end(p, inexec);
	PROC_UNLOCK(p);
	if (error != 0)
		return (error);
	to->lc_changed = true;
found:
	if (clean_only)
		return (0);
	to->lc_caller = from->lc_id;
	to->lc_caller_fd = *srcp;
	from->lc_callee = to->lc_id;
	from->lc_callee_fd = *srcp;
	return (0);
}

/* Where the caller wants what comes when it is resumed. */
int
lwc_out_copyin(struct lwc_out *ou, int *src, uint64_t *args, int *num,
    bool room)
{
	int error;

	ou->ou_src = src;
	ou->ou_args = args;
	ou->ou_num = num;
	if (room) {
		ou->ou_cap = args == NULL ? 0 : LWC_MAX_ARGS;
		return (num == NULL ? 0 : EINVAL);
	}
	ou->ou_cap = 0;
	if (num == NULL)
		return (args == NULL ? 0 : EINVAL);
	error = copyin(num, &ou->ou_cap, sizeof(ou->ou_cap));
	if (error != 0)
		return (error);
	if (ou->ou_cap < 0)
		return (EINVAL);
	if (args == NULL)
		ou->ou_cap = 0;
	ou->ou_cap = MIN(ou->ou_cap, LWC_MAX_ARGS);
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

/*
 * An event that comes to a preempted context is not lost: it goes on where it
 * was, and its next lwSwitch() returns the event.  It need not ever call that,
 * so there is an end to it: of LWC_KEPT_EVENTS and more a trapped call fails,
 * and an end is not told.
 */
static struct lwc_kept *
lwc_keep(const struct lwc_event *ev)
{
	struct lwc_kept *ke;

	ke = malloc(sizeof(*ke), M_LWCSTAGE, M_WAITOK);
	ke->ke_event = *ev;
	return (ke);
}

/* The current context asks for the first of those. */
static int
lwc_kept_deliver(struct thread *td, struct lwc_ctx *lc)
{
	struct lwc_kept *ke;
	int error;

	ke = STAILQ_FIRST(&lc->lc_kept);
	STAILQ_REMOVE_HEAD(&lc->lc_kept, ke_link);
	lc->lc_nkept--;
	error = lwc_deliver(td, lc, &ke->ke_event, ke->ke_src);
	free(ke, M_LWCSTAGE);
	return (error);
}

/* The current context is another now: what is left to do, and what it gets. */
static __always_inline int
lwc_arrive(struct thread *td, struct lwc_ctx *from, struct lwc_ctx *to,
    const struct lwc_event *ev, int how, int state, int src)
{

	if (how == LWC_HOW_SUSPEND && ev->ev_until != 0)
		lwc_deadline_begin(from, ev->ev_until);
	to->lc_deadline = 0;
	counter_u64_add(lwc_nswitch, 1);
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
 * it.  Else we are where we were.  The caller has a reference on the target,
 * has done lwc_proc_check(), and has found the process not shared.
 */
int
lwc_enter(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *to,
    const struct lwc_event *ev, int how)
{
	struct lwc_ctx *from;
	struct lwc_kept *ke;
	uint64_t pages;
	int error, src, state;
	bool dead, known;

	KASSERT(!lp->lp_shared, ("lwc: a switch in a shared process"));
	from = lp->lp_current;
	src = -1;
	ke = NULL;
	if (__predict_false(to->lc_preempted) && ev->ev_kind == LWC_TRAPPED) {
		if (to->lc_nkept < LWC_KEPT_EVENTS)
			ke = lwc_keep(ev);
		else if (how == LWC_HOW_TRAP)
			return (EAGAIN);
	}
	/* Not claimed yet: it must be named where nobody else can close it. */
	known = lwc_rests(to) &&
	    (how == LWC_HOW_TRAP || how == LWC_HOW_SUSPEND) &&
	    lwc_known(from, to, &src);
	error = lwc_claim(lp, to, ev, how, known, &state);
	if (error == 0 && !known &&
	    (how == LWC_HOW_SUSPEND || how == LWC_HOW_TRAP)) {
		LWC_FAIL(introduce, error);
		if (error == 0)
			error = lwc_introduce(td, lp, from, to, false, &src);
		if (error != 0)
			lwc_unclaim(lp, to, state);
	}
	if (error != 0) {
		free(ke, M_LWCSTAGE);
		return (error);
	}
	to->lc_clean = false;
	lwc_swap(td, from, to);
	lwc_md_switch(td, how == LWC_HOW_DISCARD || how == LWC_HOW_ROLLBACK ?
	    NULL : &from->lc_md, &to->lc_md, how == LWC_HOW_SUSPEND);
	dead = false;
	if (!known) {
		/* Its last name may have gone. */
		lwc_ctx_ref(from);
		mtx_lock(&lp->lp_mtx);
		dead = how == LWC_HOW_DISCARD || from->lc_names == 0;
		lwc_leave(lp, from, to,
		    dead ? LWC_STATE_DEAD : lwc_left_state(how));
		if (how == LWC_HOW_ROLLBACK && !dead)
			from->lc_names++;	/* ours, until it is over */
		mtx_unlock(&lp->lp_mtx);
	}
	if (ke != NULL) {
		ke->ke_src = src;
		STAILQ_INSERT_TAIL(&to->lc_kept, ke, ke_link);
		to->lc_nkept++;
	}
	error = lwc_arrive(td, from, to, ev, how, state, src);
	if (dead) {
		mtx_lock(&lp->lp_mtx);
		lwc_reap(lp, from);
	} else if (how == LWC_HOW_ROLLBACK) {
		/* If that fails it is dead, as its names will tell. */
		(void)lwc_rollback(td, lp, from, &pages);
		lwc_ctx_unname(from);
	}
	if (!known)
		lwc_ctx_rele(from);
	return (error);
}

/*
 * Whom a descriptor names.  No other process has the table and no other thread
 * is here, so nobody can close it until the target runs, and then it lives: no
 * reference is needed.  lwc_proc_check() has been done.
 */
static __always_inline int
lwc_target(struct thread *td, int fd, struct lwc_ctx **top)
{
	struct file *fp;
	struct filedesc *fdp;
	struct lwc_ctx *to;
	struct lwc_desc *ld;

	fdp = td->td_proc->p_fd;
	if ((u_int)fd >= (u_int)fdp->fd_nfiles ||
	    (fp = fdp->fd_ofiles[fd].fde_file) == NULL ||
	    fp->f_ops != &lwc_fileops)
		return (EBADF);
	ld = fp->f_data;
	to = ld->ld_ctx;
	*top = to;
	if (__predict_false(to->lc_lp->lp_proc != td->td_proc))
		return (EPERM);
	if (__predict_false(to->lc_lp->lp_shared))
		return (EBUSY);
	/* 10.3 */
	return (__predict_false(ld->ld_clean_only) && !to->lc_clean &&
	    to->lc_state != LWC_STATE_DEAD ? ESTALE : 0);
}

/* The words, and the deadline that may follow them. */
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
		ev->ev_until = lwc_deadline_from(ev->ev_words[ev->ev_n]);
	return (error);
}

int
sys_lwSwitch(struct thread *td, struct lwSwitch_args *uap)
{
	struct lwc_ctx *from, *to;
	struct lwc_event ev;
	struct lwc_proc *lp;
	int error, src, state;

	td = curthread;		/* which the locks ask for all the time */
	error = lwc_proc_check(td);
	if (error == 0)
		error = lwc_words_copyin(&ev, uap->to_args, uap->n,
		    LWC_UNTIL | LWC_ROOM);
	if (error == 0)
		error = lwc_target(td, uap->to, &to);
	if (error != 0)
		return (error);
	if (__predict_false(lwc_md_stepping(td)))
		return (EINTR);
	lp = to->lc_lp;
	from = lp->lp_current;
	if (__predict_false(!lwc_allowed(from->lc_allow, lwSwitch_number,
	    (u_int)uap->to)))
		return (lwc_call_deny(td, NULL));
	/* If it does not leave after all, nobody reads this. */
	error = lwc_out_copyin(&from->lc_out, uap->src, uap->src_args,
	    uap->num_args, (uap->n & LWC_ROOM) != 0);
	if (error != 0)
		return (error);
	if (__predict_false(!STAILQ_EMPTY(&from->lc_kept)))
		return (lwc_kept_deliver(td, from));
	state = to->lc_state;
	/*
	 * Without lp_mtx: others change a state only to DEAD, when the last
	 * name goes, and the two name each other where only we can close.
	 */
	if ((state == LWC_STATE_SUSPENDED || state == LWC_STATE_NEW) &&
	    lwc_cred_jailed_alike(to->lc_cred, td->td_proc->p_ucred) &&
	    lwc_known(from, to, &src)) {
		to->lc_state = LWC_STATE_CURRENT;
		to->lc_clean = false;
		from->lc_state = LWC_STATE_SUSPENDED;
		lp->lp_current = to;
		lwc_swap(td, from, to);
		lwc_md_switch(td, &from->lc_md, &to->lc_md, true);
		return (lwc_arrive(td, from, to, &ev, LWC_HOW_SUSPEND, state,
		    src));
	}
	/* What returns is the call in which the target left. */
	lwc_ctx_ref(to);
	error = lwc_enter(td, lp, to, &ev, LWC_HOW_SUSPEND);
	lwc_ctx_rele(to);
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
		error = lwc_target(td, uap->to, &to);
	if (error != 0)
		return (error);
	if (lwc_md_stepping(td))
		return (EINTR);
	lwc_ctx_ref(to);
	error = lwc_enter(td, to->lc_lp, to, &ev,
	    to->lc_lp->lp_current->lc_snapshot != NULL ? LWC_HOW_ROLLBACK :
	    LWC_HOW_DISCARD);
	lwc_ctx_rele(to);
	return (error);
}
