/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Signals of contexts.
 *
 * Whose a signal is.  What is pending for the thread (td_sigqueue) was sent to
 * it by name or is the consequence of what it did: it belongs to the context,
 * and waits with it when that is left.  What is pending for the process stays
 * and acts on whoever is current (6.1).  But a context with LWC_TRAP_EXIT takes
 * along what it brought upon the process itself, by kill(2) of its own process
 * or by what the kernel signals for its calls, and blocked: its creator would
 * die of that.  What was pending when it was entered is marked as others'. 
 * SIGKILL and SIGSTOP are always the process's.
 *
 * A signal that comes when there is no room for its siginfo has no sender that
 * anybody knows.  So that none of its own is among those, such a context cannot
 * send any while LWC_KEPT_SIGNALS are pending.
 *
 * Guards.  Signals whose default would kill or stop the process are marked
 * caught in the context's own sigacts, with an address no handler can have.
 * When such a signal is delivered, the end is noted and an AST scheduled:
 * sendsig is called with the process and sigacts locked, the AST with nothing.
 */

#include "lwc_context.h"
#include "lwc_trap.h"

#include <sys/signalvar.h>
#include <sys/syscallsubr.h>
#include <sys/sysent.h>

#include <vm/vm_object.h>

/* Above user space and not canonical: nothing a program could install. */
#define	LWC_CAUGHT	((sig_t)(uintptr_t)0x8000feed8000feedULL)

static sigset_t lwc_faults;	/* (c) signals of faults */
static sigset_t lwc_fatals;	/* (c) all whose default is to terminate */
static sigset_t lwc_stops;	/* (c) ... to stop, SIGSTOP excepted */
static sigset_t lwc_absolute;	/* (c) SIGKILL and SIGSTOP */
static sigset_t lwc_following;	/* (c) see lwc_signal_follows() */

sigset_t
lwc_fault_signals(void)
{

	return (lwc_faults);
}

/* Does a guard with these flags look after this signal? */
static bool
lwc_guards_signal(int flags, int sig)
{

	if (SIGISMEMBER(lwc_faults, sig))
		return (true);
	return ((flags & LWC_TRAP_EXIT) != 0 &&
	    (SIGISMEMBER(lwc_fatals, sig) || SIGISMEMBER(lwc_stops, sig)));
}

/* Mark a signal as caught by us. */
static void
lwc_signal_mark(struct sigacts *ps, int sig)
{

	mtx_assert(&ps->ps_mtx, MA_OWNED);
	ps->ps_sigact[_SIG_IDX(sig)] = LWC_CAUGHT;
	SIGADDSET(ps->ps_sigcatch, sig);
	SIGDELSET(ps->ps_sigignore, sig);
	SIGADDSET(ps->ps_signodefer, sig);
	SIGDELSET(ps->ps_sigreset, sig);
	SIGDELSET(ps->ps_siginfo, sig);
	SIGEMPTYSET(ps->ps_catchmask[_SIG_IDX(sig)]);
}

/*
 * Mark what the flags ask for as caught by us, where nobody else does.  A new
 * context starts without its creator's handlers for faults: they speak of the
 * creator's memory, and a fault there is the context's own affair (6.2).
 */
void
lwc_signals_arm(struct sigacts *ps, int flags, bool new)
{
	sig_t action;
	int sig;

	mtx_lock(&ps->ps_mtx);
	for (sig = 1; sig <= _SIG_MAXSIG; sig++) {
		if (!lwc_guards_signal(flags, sig))
			continue;
		action = ps->ps_sigact[_SIG_IDX(sig)];
		if (action != SIG_DFL && (!SIGISMEMBER(lwc_faults, sig) ||
		    (action != SIG_IGN && !new)))
			continue;
		lwc_signal_mark(ps, sig);
	}
	mtx_unlock(&ps->ps_mtx);
}

void
lwc_signals_disarm(struct sigacts *ps)
{
	int sig;

	mtx_lock(&ps->ps_mtx);
	for (sig = 1; sig <= _SIG_MAXSIG; sig++) {
		if (ps->ps_sigact[_SIG_IDX(sig)] != LWC_CAUGHT)
			continue;
		ps->ps_sigact[_SIG_IDX(sig)] = SIG_DFL;
		SIGDELSET(ps->ps_sigcatch, sig);
		SIGDELSET(ps->ps_signodefer, sig);
	}
	mtx_unlock(&ps->ps_mtx);
}

/*
 * Fault signals are never blocked in a guarded context: not by the mask, not
 * by the one to be restored, not by the word in its memory.  sigsuspend(2) of
 * an emulation calls with the process locked.
 */
void
lwc_signals_unblock(struct thread *td)
{
	struct proc *p;
	sigset_t set;
	bool locked;

	set = td->td_sigmask;
	SIGSETOR(set, td->td_oldsigmask);
	SIGSETAND(set, lwc_faults);
	if (SIGISEMPTY(set) && (td->td_pflags & TDP_SIGFASTBLOCK) == 0)
		return;
	p = td->td_proc;
	locked = PROC_LOCKED(p);
	if (!locked)
		PROC_LOCK(p);
	SIGSETNAND(td->td_sigmask, lwc_faults);
	SIGSETNAND(td->td_oldsigmask, lwc_faults);
	td->td_pflags &= ~TDP_SIGFASTBLOCK;
	td->td_sigblock_val = 0;
	signotify(td);
	if (!locked)
		PROC_UNLOCK(p);
}

/* Did a process send itself this signal? */
static bool
lwc_sent_by(const struct proc *p, const ksiginfo_t *ksi)
{

	switch (ksi->ksi_code) {
	case SI_USER:
	case SI_LWP:
	case SI_QUEUE:
		return (ksi->ksi_pid == p->p_pid);
	default:
		return (false);
	}
}

/* Our own flag of a ksiginfo: it was pending before the context was entered. */
#define	LWC_KSI_OTHERS	0x40000000

/* Does the kernel send this signal for what a thread does? */
static bool
lwc_signal_follows(int sig)
{

	return (sig == SIGPIPE || sig == SIGXFSZ || sig == SIGSYS ||
	    sig == SIGTTIN || sig == SIGTTOU);
}

/* Did the context bring this signal about itself? */
static bool
lwc_own_signal(const struct proc *p, const struct lwc_ctx *lc,
    const ksiginfo_t *ksi)
{

	/* SIGSYS of a number without a call is not said to be a trap. */
	if ((ksi->ksi_flags & KSI_TRAP) != 0 ||
	    (ksi->ksi_signo == SIGSYS && ksi->ksi_code == SI_KERNEL))
		return (true);
	if ((lc->lc_flags & LWC_TRAP_EXIT) == 0 ||
	    (ksi->ksi_flags & LWC_KSI_OTHERS) != 0)
		return (false);
	if (lwc_sent_by(p, ksi))
		return (true);
	return ((ksi->ksi_code == SI_KERNEL || ksi->ksi_code == 0) &&
	    lwc_signal_follows(ksi->ksi_signo));
}

/* The signals of a queue of which no ksiginfo tells who sent them. */
static sigset_t
lwc_sigqueue_bare(const sigqueue_t *sq)
{
	sigset_t set;

	set = sq->sq_kill;
	SIGSETNAND(set, lwc_absolute);
	return (set);
}

/*
 * A ksiginfo leaves one queue for another.  Those of a suspended context belong
 * to no process as far as the kernel is concerned, so they do not count against
 * what it may have pending; instead a context keeps LWC_KEPT_SIGNALS at most.
 */
static void
lwc_ksi_move(ksiginfo_t *ksi, sigqueue_t *from, sigqueue_t *to)
{

	TAILQ_REMOVE(&from->sq_list, ksi, ksi_link);
	TAILQ_INSERT_TAIL(&to->sq_list, ksi, ksi_link);
	ksi->ksi_sigq = to;
	if ((ksi->ksi_flags & KSI_EXT) != 0)
		return;
	if (from->sq_proc != NULL)
		from->sq_proc->p_pendingcnt--;
	if (to->sq_proc != NULL)
		to->sq_proc->p_pendingcnt++;
}

/* What is pending follows from what is queued. */
static void
lwc_sigqueue_sum(sigqueue_t *sq)
{
	ksiginfo_t *ksi;

	sq->sq_signals = sq->sq_kill;
	SIGSETOR(sq->sq_signals, sq->sq_ptrace);
	TAILQ_FOREACH(ksi, &sq->sq_list, ksi_link)
		SIGADDSET(sq->sq_signals, ksi->ksi_signo);
}

/*
 * Move signals from one queue to another: all, or those alone that a context
 * brought about (own).
 */
static void
lwc_sigqueue_move(const struct proc *p, sigqueue_t *from, sigqueue_t *to,
    const struct lwc_ctx *own)
{
	ksiginfo_t *ksi, *next;
	sigset_t bare;

	PROC_LOCK_ASSERT(p, MA_OWNED);
	TAILQ_FOREACH_SAFE(ksi, &from->sq_list, ksi_link, next) {
		if (SIGISMEMBER(lwc_absolute, ksi->ksi_signo) ||
		    (own != NULL && !lwc_own_signal(p, own, ksi)))
			continue;
		lwc_ksi_move(ksi, from, to);
	}
	bare = lwc_sigqueue_bare(from);
	if (own != NULL)
		SIGSETAND(bare, lwc_following);
	SIGSETNAND(from->sq_kill, bare);
	SIGSETOR(to->sq_kill, bare);
	lwc_sigqueue_sum(from);
	lwc_sigqueue_sum(to);
}

/* Drop what a suspended context has more than it may keep, the latest first. */
static void
lwc_sigqueue_trim(sigqueue_t *sq)
{
	ksiginfo_t *ksi, *next;
	int n;

	n = 0;
	TAILQ_FOREACH_SAFE(ksi, &sq->sq_list, ksi_link, next) {
		if ((ksi->ksi_flags & KSI_EXT) != 0 ||
		    ++n <= LWC_KEPT_SIGNALS)
			continue;
		/* The signal stays; that it came so often is lost. */
		SIGADDSET(sq->sq_kill, ksi->ksi_signo);
		sigqueue_take(ksi);
		ksiginfo_free(ksi);
	}
	lwc_sigqueue_sum(sq);
}

/*
 * From one context to another, with signals pending somewhere.  The process is
 * locked; the thread's mask is still the one of the context that is left.
 */
void
lwc_signals_switch(struct thread *td, struct proc *p, struct lwc_ctx *from,
    struct lwc_ctx *to)
{
	ksiginfo_t *ksi;

	PROC_LOCK_ASSERT(p, MA_OWNED);
	if (!SIGISEMPTY(td->td_siglist))
		lwc_sigqueue_move(p, &td->td_sigqueue, &from->lc_sigqueue,
		    NULL);
	if (!SIGISEMPTY(p->p_siglist) &&
	    (from->lc_flags & LWC_TRAP_EXIT) != 0)
		lwc_sigqueue_move(p, &p->p_sigqueue, &from->lc_sigqueue,
		    from);
	lwc_sigqueue_trim(&from->lc_sigqueue);
	from->lc_pending = !SIGISEMPTY(from->lc_sigqueue.sq_signals);
	if (to->lc_pending) {
		lwc_sigqueue_move(p, &to->lc_sigqueue, &td->td_sigqueue, NULL);
		to->lc_pending = false;
	}
	if ((to->lc_flags & LWC_TRAP_EXIT) != 0)
		TAILQ_FOREACH(ksi, &p->p_sigqueue.sq_list, ksi_link)
			ksi->ksi_flags |= LWC_KSI_OTHERS;
}

/* A context that ends takes its signals along. */
void
lwc_signals_drop(struct lwc_ctx *lc)
{
	struct proc *p;

	if (!lc->lc_pending)
		return;
	/* That of a timer is the timer's, which the process's lock guards. */
	p = curproc;
	KASSERT(p == lc->lc_lp->lp_proc,
	    ("lwc: signals dropped by another process"));
	PROC_LOCK(p);
	sigqueue_flush(&lc->lc_sigqueue);
	PROC_UNLOCK(p);
	lc->lc_pending = false;
}

/*
 * Copy what is pending for a suspended context to an empty queue.  What is a
 * timer's own (KSI_EXT) is not copied.  Returns whether there is anything.
 */
bool
lwc_signals_copy(const sigqueue_t *from, bool pending, sigqueue_t *to)
{
	const ksiginfo_t *ksi;
	ksiginfo_t *copy;

	KASSERT(TAILQ_EMPTY(&to->sq_list), ("lwc: signals are copied to others"));
	if (!pending)
		return (false);
	TAILQ_FOREACH(ksi, &from->sq_list, ksi_link) {
		if ((ksi->ksi_flags & KSI_EXT) != 0)
			continue;
		copy = ksiginfo_alloc(M_WAITOK);
		ksiginfo_copy(__DECONST(ksiginfo_t *, ksi), copy);
		copy->ksi_signo = ksi->ksi_signo;
		TAILQ_INSERT_TAIL(&to->sq_list, copy, ksi_link);
		copy->ksi_sigq = to;
	}
	to->sq_kill = from->sq_kill;
	to->sq_ptrace = from->sq_ptrace;
	lwc_sigqueue_sum(to);
	return (!SIGISEMPTY(to->sq_signals));
}

/* Is a range anonymous memory, all of it? */
static bool
lwc_anonymous(vm_map_t map, vm_offset_t start, vm_offset_t end)
{
	vm_map_entry_t entry;
	vm_object_t object;
	bool is;

	vm_map_lock_read(map);
	is = vm_map_lookup_entry(map, start, &entry);
	while (is) {
		object = (entry->eflags & MAP_ENTRY_IS_SUB_MAP) != 0 ? NULL :
		    entry->object.vm_object;
		is = object != NULL && (object->flags & OBJ_ANON) != 0;
		if (entry->end >= end)
			break;
		start = entry->end;
		entry = vm_map_entry_succ(entry);
		is = is && entry->start == start;
	}
	vm_map_unlock_read(map);
	return (is);
}

/*
 * Will sendsig() be able to write a handler's frame?  Each page is written to,
 * by exchanging a word for itself in one step, since others may share it; then
 * it has a copy of its own.  Of a file or a memory object another process could
 * cut the page off again; so a frame is in anonymous memory, or there is none.
 */
static bool
lwc_sigframe_ok(struct thread *td, bool onstack)
{
	vm_offset_t end, start, va;
	uint32_t old;

	if (!lwc_md_sigframe(td, onstack, &start, &end))
		return (false);
	for (va = start; va < end; va = trunc_page(va) + PAGE_SIZE)
		if (casueword32((volatile uint32_t *)va, 0, &old, 0) == -1)
			return (false);
	return (lwc_anonymous(&td->td_proc->p_vmspace->vm_map, start, end));
}

/* The default action of a stop signal, which was marked caught. */
static void
lwc_stop(struct proc *p, struct sigacts *ps, int sig)
{

	PROC_LOCK_ASSERT(p, MA_OWNED);
	mtx_assert(&ps->ps_mtx, MA_OWNED);
	if ((p->p_pgrp->pg_flags & PGRP_ORPHANED) != 0)
		return;
	mtx_unlock(&ps->ps_mtx);
	kern_psignal(p, SIGSTOP);
	mtx_lock(&ps->ps_mtx);
}

/*
 * A handler that is to be called once (SA_RESETHAND) has been.  The kernel
 * would set the default action now, and a second signal might be delivered
 * before anybody could mark it: so what the kernel does is done here, and the
 * mark set.
 */
static void
lwc_handler_reset(struct thread *td, struct sigacts *ps, int flags, int sig)
{
	sigset_t mask;

	mtx_assert(&ps->ps_mtx, MA_OWNED);
	if (!SIGISMEMBER(ps->ps_sigreset, sig) ||
	    !lwc_guards_signal(flags, sig))
		return;
	mask = ps->ps_catchmask[_SIG_IDX(sig)];
	if (!SIGISMEMBER(ps->ps_signodefer, sig))
		SIGADDSET(mask, sig);
	(void)kern_sigprocmask(td, SIG_BLOCK, &mask, NULL,
	    SIGPROCMASK_PROC_LOCKED | SIGPROCMASK_PS_LOCKED);
	lwc_signal_mark(ps, sig);
}

/*
 * Deliver a signal in a guarded context.  Called as sv_sendsig is: with the
 * process and its sigacts locked, both locked again on return.
 */
void
lwc_sendsig(struct lwc_proc *lp, const struct sysentvec *orig, sig_t catcher,
    ksiginfo_t *ksi, sigset_t *mask)
{
	struct lwc_ctx *lc;
	struct proc *p;
	struct sigacts *ps;
	struct thread *td;
	int sig;
	bool ok;

	td = curthread;
	p = td->td_proc;
	ps = p->p_sigacts;
	sig = ksi->ksi_signo;
	lc = lp->lp_current;
	PROC_LOCK_ASSERT(p, MA_OWNED);
	mtx_assert(&ps->ps_mtx, MA_OWNED);
	if (lc->lc_ending)
		return;
	if (catcher != LWC_CAUGHT) {
		/*
		 * The program's own handler.  It must not run with faults
		 * blocked, and if its frame cannot be written that is an end
		 * too: sendsig() would kill the process.
		 */
		SIGSETNAND(ps->ps_catchmask[_SIG_IDX(sig)], lwc_faults);
		if (SIGISMEMBER(lwc_faults, sig))
			SIGADDSET(ps->ps_signodefer, sig);
		/* Actions are not what they were at a snapshot. */
		lc->lc_called = true;
		ok = SIGISMEMBER(ps->ps_sigonstack, sig);
		mtx_unlock(&ps->ps_mtx);
		PROC_UNLOCK(p);
		ok = lwc_sigframe_ok(td, ok);
		PROC_LOCK(p);
		mtx_lock(&ps->ps_mtx);
		if (ok) {
			orig->sv_sendsig(catcher, ksi, mask);
			lwc_handler_reset(td, ps, lc->lc_flags, sig);
			return;
		}
	} else if (!lwc_own_signal(p, lc, ksi)) {
		if (SIGISMEMBER(lwc_stops, sig)) {
			lwc_stop(p, ps, sig);
			return;
		}
		mtx_unlock(&ps->ps_mtx);
		sigexit(td, sig);
		/* NOTREACHED */
	}
	lc->lc_ending = true;
	lc->lc_end_signal = sig;
	lc->lc_end_code = ksi->ksi_code;
	lc->lc_end_addr = (ksi->ksi_flags & KSI_TRAP) != 0 ?
	    (uint64_t)(uintptr_t)ksi->ksi_addr : 0;
	ast_sched(td, LWC_AST);
}

void
lwc_signals_init(void)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL,
	    SIGTRAP, SIGSYS, SIGEMT };
	static const int harmless[] = { SIGURG, SIGCONT, SIGCHLD, SIGIO,
	    SIGWINCH, SIGINFO };
	static const int stops[] = { SIGTSTP, SIGTTIN, SIGTTOU };
	u_int i;

	for (i = 0; i < nitems(faults); i++)
		SIGADDSET(lwc_faults, faults[i]);
	for (i = 0; i < nitems(stops); i++)
		SIGADDSET(lwc_stops, stops[i]);
	SIGADDSET(lwc_absolute, SIGKILL);
	SIGADDSET(lwc_absolute, SIGSTOP);
	/* All the others, those without a name too: that is their default. */
	for (i = 1; i <= _SIG_MAXSIG; i++)
		SIGADDSET(lwc_fatals, i);
	for (i = 0; i < nitems(harmless); i++)
		SIGDELSET(lwc_fatals, harmless[i]);
	for (i = 1; i <= _SIG_MAXSIG; i++)
		if (lwc_signal_follows(i))
			SIGADDSET(lwc_following, i);
	SIGSETNAND(lwc_fatals, lwc_stops);
	SIGSETNAND(lwc_fatals, lwc_absolute);
}
