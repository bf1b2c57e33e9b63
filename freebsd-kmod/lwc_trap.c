/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Traps: contexts whose system calls, faults or end resume another.
 *
 * A process with a record runs with private copies of the system's sysentvec,
 * put into p_sysent; other processes keep the system's own and pay nothing.
 * The copies are made once and live as long as the module, which stays as long
 * as such a process lives.  Three entries are ours:
 *
 * sv_fetch_syscall_args runs before capability mode is looked at.  It knows
 * lwSwitch() by its number: no table is looked up and no call is counted in and
 * out, a twentieth of a switch.  A call that is to be turned away gets our own
 * struct sysent, marked static (no count to leak) and allowed in capability
 * mode.  What the kernel fetched stays fetched: nobody looks a number up again.
 *
 * sv_sendsig delivers signals in guarded contexts, see lwc_signals.c.
 *
 * sv_set_syscall_retval runs after the call.  It keeps fault signals unblocked
 * in guarded contexts, and hands a call that capability mode has refused to the
 * monitor (7.1); it had no effect then, and its records in audit(4), ktrace(1)
 * and dtrace(1) say so.
 *
 * Contexts with neither traps, guards nor a list of calls have a copy of their
 * own (ls_plain), in which sv_fetch_syscall_args alone differs, and does less.
 *
 * sigreturn(2) is never trapped: only the context itself can do it.  Nor are
 * the module's calls, but for lwSyscall(), which would be a way around.  Calls
 * that replace or multiply the process are always trapped, even if capability
 * mode allows them: the copy would not be trapped.
 *
 * A switch of contexts below a system call that is single-stepped (PSL_T) would
 * have the SIGTRAP raised in the target: such a call fails with EINTR, and the
 * trap is the caller's.
 */

#include "lwc_allow.h"
#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_deadline.h"
#include "lwc_switch.h"
#include "lwc_trap.h"

#include <sys/capsicum.h>
#include <sys/smp.h>
#include <sys/syscall.h>

SDT_PROBE_DEFINE3(lwc, , , trap, "uint64_t", "int", "uint64_t");

struct lwc_sysent {
	struct sysentvec ls_sv;		/* (c) for traps, guards, lists */
	struct sysentvec ls_plain;	/* (c) for the others */
	struct sysentvec *ls_orig;	/* (c) */
};
#define	LWC_NSYSENT	4
static struct mtx lwc_sysent_mtx;	/* guards filling the next slot */
static struct lwc_sysent *lwc_sysents[LWC_NSYSENT];

static sy_call_t lwc_call_trap, lwc_call_exit, lwc_call_abort, lwc_call_kill;

static struct sysent lwc_sysent_trap = LWC_SYSENT(lwc_call_trap);
static struct sysent lwc_sysent_exit = LWC_SYSENT(lwc_call_exit);
static struct sysent lwc_sysent_abort = LWC_SYSENT(lwc_call_abort);
static struct sysent lwc_sysent_deny = LWC_SYSENT(lwc_call_deny);
static struct sysent lwc_sysent_kill = LWC_SYSENT(lwc_call_kill);
static struct sysent lwc_sysent_switch = {
	.sy_call = (sy_call_t *)sys_lwSwitch,
	.sy_auevent = AUE_NULL,
	.sy_flags = SYF_CAPENABLED,
	.sy_thrcnt = SY_THR_STATIC,
	.sy_narg = 6,
};

struct sysent *
lwc_sysent_of_exit(void)
{

	return (&lwc_sysent_exit);
}

struct sysent *
lwc_sysent_of_abort(void)
{

	return (&lwc_sysent_abort);
}

struct sysent *
lwc_sysent_of_kill(void)
{

	return (&lwc_sysent_kill);
}

static const struct sysentvec *
lwc_orig(struct proc *p)
{

	return (__containerof(p->p_sysent, struct lwc_sysent, ls_sv)->ls_orig);
}

/* 7.1: is this call to go to the monitor, without being tried? */
static bool
lwc_traps(struct thread *td, const struct lwc_ctx *lc)
{
	const struct syscall_args *sa;

	sa = &td->td_sa;
	if ((lc->lc_flags & LWC_TRAP_SYSCALL) == 0 ||
	    sa->code == SYS_sigreturn)
		return (false);
	if ((lwc_call_class(sa->code) & LWC_MULTIPLY) != 0 ||
	    sa->code == SYS_thr_new || sa->code == SYS_thr_create)
		return (true);
	/* With nobody to ask, going is all that is left to do. */
	if (sa->code == SYS_exit &&
	    lc->lc_monitor->lc_state == LWC_STATE_DEAD)
		return (false);
	if (lwc_is_ours(sa->callp->sy_call))
		return (sa->callp->sy_call == (sy_call_t *)sys_lwSyscall);
	/* A number without a call is no call that this mode allows. */
	return (!IN_CAPABILITY_MODE(td) || lwc_call_class(sa->code) == 0 ||
	    (sa->callp->sy_flags & SYF_CAPENABLED) == 0);
}

/* For the next rollback: will it have to look at more than memory? */
static inline void
lwc_call_note(struct lwc_ctx *lc, const struct syscall_args *sa, u_int class)
{

	if ((class & LWC_PURE) == 0 &&
	    sa->callp->sy_call != (sy_call_t *)sys_lwDiscardSwitch)
		lc->lc_called = true;
}

static int
lwc_sv_fetch_plain(struct thread *td)
{
	struct lwc_proc *lp;
	struct lwc_sysent *ls;
	struct sysent *callp;
	u_int class;
	int error;

	if (lwc_md_fetch(td, lwSwitch_number, &lwc_sysent_switch))
		return (0);
	ls = __containerof(td->td_proc->p_sysent, struct lwc_sysent, ls_plain);
	error = ls->ls_orig->sv_fetch_syscall_args(td);
	class = lwc_call_class(td->td_sa.code);
	if (error != 0 ||
	    __predict_true((class & (LWC_LOOK | LWC_PURE)) == LWC_PURE))
		return (error);
	lp = lwc_proc_find(td->td_proc);
	if (lp == NULL)
		return (0);
	lwc_call_note(lp->lp_current, &td->td_sa, class);
	if ((class & LWC_LOOK) != 0) {
		callp = lwc_call_look(td, lp, &td->td_sa);
		if (callp != NULL)
			td->td_sa.callp = callp;
	}
	return (0);
}

static int
lwc_sv_fetch(struct thread *td)
{
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	struct proc *p;
	struct syscall_args *sa;
	struct sysent *callp;
	u_int class;
	int error, i;

	p = td->td_proc;
	sa = &td->td_sa;
	/* Guards and traps are not about it; it looks at the list itself. */
	if (lwc_md_fetch(td, lwSwitch_number, &lwc_sysent_switch))
		return (0);
	error = lwc_orig(p)->sv_fetch_syscall_args(td);
	if (error != 0)
		return (error);
	lp = lwc_proc_find(p);
	if (lp == NULL)
		return (0);
	lc = lp->lp_current;
	class = lwc_call_class(sa->code);
	lwc_call_note(lc, sa, class);
	/* No list binds the child of a fork, nor a new program: never. */
	if (!lwc_allowed(lc->lc_allow, sa->code, (u_int)sa->args[0]) ||
	    (lc->lc_allow != NULL && (class & LWC_MULTIPLY) != 0)) {
		sa->callp = &lwc_sysent_deny;
		return (0);
	}
	if ((lc->lc_flags & LWC_TRAP_EXIT) != 0 &&
	    (class & (LWC_GUARDED | LWC_KNOWN)) != LWC_KNOWN) {
		callp = lwc_call_guard(td, lc, sa);
		if (callp != NULL) {
			sa->callp = callp;
			return (0);
		}
	}
	if (lwc_traps(td, lc)) {
		/* What was not fetched is left of an earlier call. */
		for (i = MAX(6, MIN(sa->callp->sy_narg, LWC_CALL_NARGS));
		    i < LWC_CALL_NARGS; i++)
			sa->args[i] = 0;
		sa->callp = &lwc_sysent_trap;
	} else if ((class & LWC_LOOK) != 0) {
		callp = lwc_call_look(td, lp, sa);
		if (callp != NULL)
			sa->callp = callp;
	} else if ((lc->lc_flags & LWC_GUARD) != 0 &&
	    (class & LWC_GUARDED) != 0) {
		callp = lwc_call_guard_fault(sa);
		if (callp != NULL)
			sa->callp = callp;
	}
	return (0);
}

/*
 * 7.1 in capability mode: a call that this mode knows about has run, and goes
 * to the monitor if the mode refused it after all, for its arguments: openat(2)
 * with AT_FDCWD, which is what open(3) makes.  Returns the call's outcome.
 */
static int
lwc_capped(struct thread *td, struct lwc_ctx *lc)
{
	struct syscall_args *sa;
	int error, i;

	sa = &td->td_sa;
	if ((lc->lc_flags & LWC_TRAP_SYSCALL) == 0 || !IN_CAPABILITY_MODE(td) ||
	    sa->callp == &lwc_sysent_trap || lwc_is_ours(sa->callp->sy_call))
		return (ECAPMODE);
	for (i = MIN(sa->callp->sy_narg, LWC_CALL_NARGS); i < LWC_CALL_NARGS;
	    i++)
		sa->args[i] = 0;
	error = lwc_call_trap(td, sa->args);
	td->td_errno = error == EJUSTRETURN ? 0 : error;
	td->td_pflags2 &= ~TDP2_EXTERR;
	return (error);
}

/* Runs after the call: perhaps in another context than the one it began in. */
static void
lwc_sv_retval(struct thread *td, int error)
{
	const struct sysentvec *orig;
	struct lwc_proc *lp;
	struct proc *p;

	p = td->td_proc;
	orig = lwc_orig(p);
	/* Nothing has changed since the context left. */
	if (td->td_sa.code == lwSwitch_number) {
		orig->sv_set_syscall_retval(td, error);
		return;
	}
	lp = lwc_proc_find(p);
	if (__predict_false(error == ECAPMODE) && lp != NULL)
		error = lwc_capped(td, lp->lp_current);
	orig->sv_set_syscall_retval(td, error);
	if (lp == NULL || (lp->lp_current->lc_flags & LWC_GUARD) == 0)
		return;
	lwc_signals_unblock(td);
}

static void
lwc_sv_sendsig(sig_t catcher, ksiginfo_t *ksi, sigset_t *mask)
{
	const struct sysentvec *orig;
	struct lwc_proc *lp;
	struct proc *p;

	p = curproc;
	orig = lwc_orig(p);
	lp = lwc_proc_find(p);
	if (lp == NULL || (lp->lp_current->lc_flags & LWC_GUARD) == 0)
		orig->sv_sendsig(catcher, ksi, mask);
	else
		lwc_sendsig(lp, orig, catcher, ksi, mask);
}

/*
 * Who is told of an end, referenced: the creator, or if that is gone its
 * creator; or, while that one waits for an answer to a call of its own and can
 * be resumed by its monitor alone, the monitor, and so on.  NULL: nobody is
 * left.
 */
static struct lwc_ctx *
lwc_heir(struct lwc_proc *lp, struct lwc_ctx *lc)
{
	struct lwc_ctx *heir;

	mtx_lock(&lp->lp_mtx);
	heir = lc->lc_creator;
	while (heir != NULL && (heir->lc_state == LWC_STATE_REPLY ||
	    heir->lc_state == LWC_STATE_DEAD)) {
		/* Each was made before: there is an end to it. */
		if (heir->lc_state == LWC_STATE_REPLY &&
		    heir->lc_monitor->lc_state != LWC_STATE_DEAD)
			heir = heir->lc_monitor;
		else
			heir = heir->lc_creator;
	}
	if (heir != NULL)
		lwc_ctx_ref(heir);
	mtx_unlock(&lp->lp_mtx);
	return (heir);
}

/* End the current context and resume its heir; returns as lwc_enter(). */
static int
lwc_end(struct thread *td, struct lwc_proc *lp, int sig, int code,
    uint64_t addr)
{
	struct lwc_ctx *cur, *heir;
	struct lwc_event ev;
	int error;

	cur = lp->lp_current;
	error = lwc_proc_check(td);
	if (error == 0 && lp->lp_shared)
		error = EBUSY;
	LWC_FAIL(end, error);
	if (error != 0)
		return (error);
	heir = lwc_heir(lp, cur);
	if (heir == NULL)
		return (ESRCH);
	ev.ev_kind = LWC_TRAPPED;
	ev.ev_until = 0;
	ev.ev_n = LWC_END_WORDS;
	ev.ev_words[LWC_END_SIGNAL] = sig;
	ev.ev_words[LWC_END_CODE] = code;
	ev.ev_words[LWC_END_ADDRESS] = addr;
	ev.ev_words[LWC_END_ID] = cur->lc_id;
	SDT_PROBE3(lwc, , , trap, cur->lc_id, -sig, addr);
	error = lwc_enter(td, lp, heir, &ev, LWC_HOW_DISCARD);
	if (error == 0 || error == EJUSTRETURN)
		counter_u64_add(lwc_nfault, 1);
	lwc_ctx_rele(heir);
	return (error);
}

/* On the way to user mode, with nothing held. */
static void
lwc_ast(struct thread *td, int asts __unused)
{
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	struct proc *p;
	int error, sig;

	p = td->td_proc;
	lp = lwc_proc_find(p);
	if (lp == NULL)
		return;
	lwc_reap_pending(lp);
	lc = lp->lp_current;
	if (!lc->lc_ending) {
		(void)lwc_deadline_check(td, lp);
		return;
	}
	sig = lc->lc_end_signal;
	error = lwc_end(td, lp, sig, lc->lc_end_code, lc->lc_end_addr);
	if (error == 0)
		lwc_md_result(td, 0, td->td_retval[0], td->td_retval[1]);
	if (error == 0 || error == EJUSTRETURN)
		return;
	/* Nobody there to tell: the process goes, as without the flag. */
	PROC_LOCK(p);
	sigexit(td, sig);
}

/* The end of a guarded context by a call of its own. */
static int
lwc_call_end(struct thread *td, int sig, int code)
{
	struct lwc_proc *lp;

	if (lwc_md_stepping(td))
		return (EINTR);
	lp = lwc_proc_find(td->td_proc);
	return (lp == NULL ? ESRCH : lwc_end(td, lp, sig, code, 0));
}

static int
lwc_call_exit(struct thread *td, void *uap)
{
	int error, status;

	status = (int)*(register_t *)uap;
	error = lwc_call_end(td, 0, status);
	if (error == 0 || error == EJUSTRETURN || error == EINTR)
		return (error);
	exit1(td, status, 0);
	/* NOTREACHED */
}

static int
lwc_call_abort(struct thread *td, void *uap __unused)
{
	int error;

	error = lwc_call_end(td, SIGABRT, SI_USER);
	if (error == 0 || error == EJUSTRETURN || error == EINTR)
		return (error);
	PROC_LOCK(td->td_proc);
	sigexit(td, SIGABRT);
	/* NOTREACHED */
}

/* SIGKILL and SIGSTOP to oneself: there is nothing to catch them with. */
static int
lwc_call_kill(struct thread *td, void *uap __unused)
{
	int error;

	error = lwc_call_end(td, SIGKILL, SI_USER);
	return (error == 0 || error == EJUSTRETURN || error == EINTR ? error :
	    EPERM);
}

/*
 * A call that the context has given up (LWC_CONTROL_ALLOW).  It has failed
 * before the signal is raised: a handler that returns finds ENOSYS.
 */
int
lwc_call_deny(struct thread *td, void *uap __unused)
{
	ksiginfo_t ksi;

	lwc_md_result(td, ENOSYS, 0, 0);
	ksiginfo_init_trap(&ksi);
	ksi.ksi_signo = SIGSYS;
	ksi.ksi_code = SI_KERNEL;
	ksi.ksi_addr = (void *)(uintptr_t)td->td_sa.code;
	trapsignal(td, &ksi);
	td->td_errno = ENOSYS;
	td->td_pflags |= TDP_NERRNO;
	return (EJUSTRETURN);
}

/* 7.1: hand the call to the monitor; it answers by switching back. */
static int
lwc_call_trap(struct thread *td, void *uap __unused)
{
	struct lwc_ctx *monitor;
	struct lwc_event ev;
	struct lwc_proc *lp;
	struct syscall_args *sa;
	int error, i;

	sa = &td->td_sa;
	lp = lwc_proc_find(td->td_proc);
	if (lp == NULL)
		return (ENOSYS);
	if (lwc_md_stepping(td))
		return (EINTR);
	error = lwc_proc_check(td);
	if (error == 0 && lp->lp_shared)
		error = EBUSY;
	LWC_FAIL(trap, error);
	if (error != 0)
		return (error);
	monitor = lp->lp_current->lc_monitor;
	ev.ev_kind = LWC_TRAPPED;
	ev.ev_until = 0;
	ev.ev_n = LWC_CALL_WORDS;
	ev.ev_words[LWC_CALL_NUMBER] = sa->code;
	for (i = 0; i < LWC_CALL_NARGS; i++)
		ev.ev_words[LWC_CALL_ARGS + i] = sa->args[i];
	SDT_PROBE3(lwc, , , trap, lp->lp_current->lc_id, sa->code,
	    sa->args[0]);
	lwc_ctx_ref(monitor);
	error = lwc_enter(td, lp, monitor, &ev, LWC_HOW_TRAP);
	lwc_ctx_rele(monitor);
	if (error == 0 || error == EJUSTRETURN)
		counter_u64_add(lwc_ntrap, 1);
	return (error);
}

/* The private copies of a sysentvec; NULL for one that is not FreeBSD's. */
static struct lwc_sysent *
lwc_sysent_get(struct sysentvec *sv)
{
	struct lwc_sysent *ls, *new;
	int i;

	if ((sv->sv_flags & SV_ABI_MASK) != SV_ABI_FREEBSD ||
	    (sv->sv_flags & SV_LP64) == 0)
		return (NULL);
	for (i = 0; i < LWC_NSYSENT; i++) {
		ls = (struct lwc_sysent *)atomic_load_acq_ptr(
		    (uintptr_t *)&lwc_sysents[i]);
		if (ls == NULL)
			break;
		if (ls->ls_orig == sv)
			return (ls);
	}
	new = malloc(sizeof(*new), M_LWC, M_WAITOK | M_ZERO);
	new->ls_sv = *sv;
	new->ls_plain = *sv;
	new->ls_plain.sv_fetch_syscall_args = lwc_sv_fetch_plain;
	new->ls_orig = sv;
	new->ls_sv.sv_fetch_syscall_args = lwc_sv_fetch;
	new->ls_sv.sv_set_syscall_retval = lwc_sv_retval;
	new->ls_sv.sv_sendsig = lwc_sv_sendsig;
	mtx_lock(&lwc_sysent_mtx);
	for (i = 0; i < LWC_NSYSENT; i++) {
		ls = lwc_sysents[i];
		if (ls == NULL) {
			atomic_store_rel_ptr((uintptr_t *)&lwc_sysents[i],
			    (uintptr_t)new);
			ls = new;
			new = NULL;
		}
		if (ls->ls_orig == sv)
			break;
	}
	mtx_unlock(&lwc_sysent_mtx);
	free(new, M_LWC);
	return (i < LWC_NSYSENT ? ls : NULL);
}

/*
 * A context, which is suspended or current, makes its system calls through the
 * module from now on, with traps or without.  False if they are not FreeBSD's.
 */
bool
lwc_sysent_install(struct lwc_proc *lp, struct lwc_ctx *lc, bool traps)
{
	struct lwc_sysent *ls;
	struct proc *p;
	struct sysentvec *sv;
	int error;

	ls = lwc_sysent_get(lp->lp_sysent);
	error = ls == NULL ? EINVAL : 0;
	LWC_FAIL(sysent, error);
	if (error != 0)
		return (false);
	sv = traps ? &ls->ls_sv : &ls->ls_plain;
	lc->lc_sysent = sv;
	if (lc == lp->lp_current) {
		p = curproc;
		PROC_LOCK(p);
		p->p_sysent = sv;
		PROC_UNLOCK(p);
	}
	return (true);
}

void
lwc_trap_init(void)
{

	lwc_signals_init();
	mtx_init(&lwc_sysent_mtx, "lwc sysentvecs", NULL, MTX_DEF);
	ast_register(LWC_AST, ASTR_ASTF_REQUIRED, 0, lwc_ast);
}

/*
 * No process has a record any more, and each has taken back its p_sysent and
 * its AST.  Somebody may just have read either: wait until every processor has
 * done something else.
 */
void
lwc_trap_fini(void)
{
	int i;

	ast_deregister(LWC_AST);
	quiesce_all_cpus("lwcfini", 0);
	for (i = 0; i < LWC_NSYSENT; i++) {
		free(lwc_sysents[i], M_LWC);
		lwc_sysents[i] = NULL;
	}
	mtx_destroy(&lwc_sysent_mtx);
}
