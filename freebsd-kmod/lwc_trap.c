/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Traps: contexts whose system calls, faults or end resume another.
 *
 * Such a context runs with a private copy of the system's sysentvec, put into
 * p_sysent by the switch; other processes keep the system's own and pay
 * nothing.  The copies are made once and live as long as the module, since
 * other processes may be reading them at any time.  Three entries are ours:
 *
 * sv_fetch_syscall_args runs before capability mode is looked at.  A call
 * that is to be turned away gets our own struct sysent, marked static (no
 * count to leak) and allowed in capability mode, whose function switches to
 * the monitor.
 *
 * sv_sendsig.  Signals whose default would kill the process are marked caught
 * in the context's own sigacts, with an address no handler can have.  When
 * such a signal comes, the end is noted and an AST scheduled: sendsig is
 * called with the process and sigacts locked, the AST with nothing.
 *
 * sv_set_syscall_retval keeps the marks in place after sigaction(2), and
 * fault signals unblocked: a blocked one would kill the process at once.
 *
 * The other contexts of a process that has made one have a second copy, which
 * differs in sv_fetch_syscall_args alone.  It knows lwSwitch() by its number,
 * and that the module stays as long as such a process: no table is looked up
 * and no call is counted in and out, a twentieth of a switch.
 *
 * sigreturn(2) is never trapped: only the context itself can do it.  Nor are
 * the module's calls, but for lwSyscall(), which would be a way around.  Calls
 * that replace or multiply the process are always trapped, even if capability
 * mode allows them: the copy would not be trapped.
 */

#include "lwc_var.h"

#include <sys/capsicum.h>
#include <sys/syscall.h>
#include <sys/sysproto.h>
#include <sys/unistd.h>

#include <bsm/audit_kevents.h>

SDT_PROBE_DEFINE3(lwc, , , trap, "uint64_t", "int", "uint64_t");

/* Above user space and not canonical: nothing a program could install. */
#define	LWC_CAUGHT	((sig_t)(uintptr_t)0x8000feed8000feedULL)

struct lwc_sysent {
	struct sysentvec ls_sv;		/* for traps */
	struct sysentvec ls_plain;	/* for the others */
	struct sysentvec *ls_orig;
};
#define	LWC_NSYSENT	4
static struct mtx lwc_sysent_mtx;	/* guards filling the next slot */
static struct lwc_sysent *lwc_sysents[LWC_NSYSENT];

static sy_call_t lwc_call_trap, lwc_call_exit, lwc_call_refuse,
    lwc_call_kill, lwc_call_capped;

#define	LWC_SYSENT(call)	{					\
	.sy_call = (call),						\
	.sy_auevent = AUE_NULL,						\
	.sy_flags = SYF_CAPENABLED,					\
	.sy_thrcnt = SY_THR_STATIC,					\
	.sy_narg = LWC_CALL_NARGS,					\
}
static struct sysent lwc_sysent_trap = LWC_SYSENT(lwc_call_trap);
static struct sysent lwc_sysent_exit = LWC_SYSENT(lwc_call_exit);
static struct sysent lwc_sysent_refuse = LWC_SYSENT(lwc_call_refuse);
static struct sysent lwc_sysent_deny = LWC_SYSENT(lwc_call_deny);
static struct sysent lwc_sysent_kill = LWC_SYSENT(lwc_call_kill);
static struct sysent lwc_sysent_capped = LWC_SYSENT(lwc_call_capped);
static struct sysent lwc_sysent_switch = {
	.sy_call = (sy_call_t *)sys_lwSwitch,
	.sy_auevent = AUE_NULL,
	.sy_flags = SYF_CAPENABLED,
	.sy_thrcnt = SY_THR_STATIC,
	.sy_narg = 6,
};

static sigset_t lwc_faults;	/* (c) signals of faults */
static sigset_t lwc_fatals;	/* (c) all whose default is to terminate */

sigset_t
lwc_trap_mask(void)
{

	return (lwc_faults);
}

static const struct sysentvec *
lwc_orig(struct proc *p)
{

	return (__containerof(p->p_sysent, struct lwc_sysent, ls_sv)->ls_orig);
}

/*
 * Mark what the flags ask for as caught by us, where nobody else does.  A new
 * context starts without its creator's handlers for faults: they speak of the
 * creator's memory, and a fault there is the context's own affair (6.2).
 */
void
lwc_trap_arm(struct sigacts *ps, int flags, bool new)
{
	sig_t action;
	int sig;

	mtx_lock(&ps->ps_mtx);
	for (sig = 1; sig <= _SIG_MAXSIG; sig++) {
		if (!SIGISMEMBER(lwc_faults, sig) &&
		    ((flags & LWC_TRAP_EXIT) == 0 ||
		    !SIGISMEMBER(lwc_fatals, sig)))
			continue;
		action = ps->ps_sigact[_SIG_IDX(sig)];
		if (action != SIG_DFL && (!SIGISMEMBER(lwc_faults, sig) ||
		    (action != SIG_IGN && !new)))
			continue;
		ps->ps_sigact[_SIG_IDX(sig)] = LWC_CAUGHT;
		SIGADDSET(ps->ps_sigcatch, sig);
		SIGDELSET(ps->ps_sigignore, sig);
		SIGADDSET(ps->ps_signodefer, sig);
		SIGEMPTYSET(ps->ps_catchmask[_SIG_IDX(sig)]);
	}
	mtx_unlock(&ps->ps_mtx);
}

void
lwc_trap_disarm(struct sigacts *ps)
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
 * by the one to be restored, not by the word in its memory.
 */
static void
lwc_unblock_faults(struct thread *td)
{
	sigset_t set;

	set = td->td_sigmask;
	SIGSETOR(set, td->td_oldsigmask);
	SIGSETAND(set, lwc_faults);
	if (SIGISEMPTY(set) && (td->td_pflags & TDP_SIGFASTBLOCK) == 0)
		return;
	PROC_LOCK(td->td_proc);
	SIGSETNAND(td->td_sigmask, lwc_faults);
	SIGSETNAND(td->td_oldsigmask, lwc_faults);
	td->td_pflags &= ~TDP_SIGFASTBLOCK;
	td->td_sigblock_val = 0;
	signotify(td);
	PROC_UNLOCK(td->td_proc);
}

/* 7.1: is this call to go to the monitor? */
static bool
lwc_traps(struct thread *td, struct lwc_ctx *lc)
{
	struct syscall_args *sa;

	sa = &td->td_sa;
	if ((lc->lc_flags & LWC_TRAP_SYSCALL) == 0)
		return (false);
	switch (sa->code) {
	case SYS_sigreturn:
		return (false);
	case SYS_exit:
		/* With nobody to ask, going is all that is left to do. */
		if (lc->lc_monitor->lc_state == LWC_STATE_DEAD)
			return (false);
		break;
	case SYS_fork:
	case SYS_vfork:
	case SYS_rfork:
	case SYS_pdfork:
	case SYS_pdrfork:
	case SYS_execve:
	case SYS_fexecve:
	case SYS___mac_execve:
	case SYS_thr_new:
	case SYS_thr_create:
		return (true);
	}
	if (lwc_is_ours(sa->callp->sy_call))
		return (sa->callp->sy_call == (sy_call_t *)sys_lwSyscall);
	return (!IN_CAPABILITY_MODE(td) ||
	    (sa->callp->sy_flags & SYF_CAPENABLED) == 0);
}

/* Does this call kill or stop its own process, past all handlers? */
static bool
lwc_kills_itself(struct proc *p, const struct syscall_args *sa)
{
	register_t pid, sig;

	pid = p->p_pid;
	switch (sa->code) {
	case SYS_kill:
		/* 0 and what is negative name groups, which may be its own. */
		pid = (int)sa->args[0] <= 0 ? pid : (int)sa->args[0];
		sig = sa->args[1];
		break;
	case SYS_sigqueue:
		pid = (int)sa->args[0];
		sig = sa->args[1];
		break;
	case SYS_thr_kill:
		sig = sa->args[1];
		break;
	case SYS_thr_kill2:
		pid = (int)sa->args[0];
		sig = sa->args[2];
		break;
	default:
		return (false);
	}
	return (pid == p->p_pid && ((int)sig == SIGKILL || (int)sig == SIGSTOP));
}

static int
lwc_sv_fetch_plain(struct thread *td)
{
	struct lwc_sysent *ls;

	if (lwc_md_fetch(td, lwSwitch_number, &lwc_sysent_switch))
		return (0);
	ls = __containerof(td->td_proc->p_sysent, struct lwc_sysent, ls_plain);
	return (ls->ls_orig->sv_fetch_syscall_args(td));
}

static int
lwc_sv_fetch(struct thread *td)
{
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	struct proc *p;
	struct syscall_args *sa;
	int error, i;

	p = td->td_proc;
	sa = &td->td_sa;
	/* Neither guards nor traps are about it; it looks at the list itself. */
	if (lwc_md_fetch(td, lwSwitch_number, &lwc_sysent_switch))
		return (0);
	error = lwc_orig(p)->sv_fetch_syscall_args(td);
	if (error != 0)
		return (error);
	lp = lwc_proc_find(p);
	if (lp == NULL)
		return (0);
	lc = lp->lp_current;
	if (!lwc_allowed(lc->lc_allow, sa->code)) {
		sa->callp = &lwc_sysent_deny;
		return (0);
	}
	if ((lc->lc_flags & LWC_GUARD) != 0) {
		if (sa->code == SYS_sigaction)
			lwc_trap_disarm(p->p_sigacts);
		else if (sa->code == SYS_rfork &&
		    (sa->args[0] & RFSIGSHARE) != 0)
			sa->callp = &lwc_sysent_refuse;
		else if (sa->code == SYS_exit &&
		    (lc->lc_flags & LWC_TRAP_EXIT) != 0) {
			sa->callp = &lwc_sysent_exit;
			return (0);
		} else if ((lc->lc_flags & LWC_TRAP_EXIT) != 0 &&
		    lwc_kills_itself(p, sa)) {
			sa->callp = &lwc_sysent_kill;
			return (0);
		}
	}
	if (lwc_traps(td, lc)) {
		/* What was not fetched is left of an earlier call. */
		for (i = MAX(6, sa->callp->sy_narg); i < LWC_CALL_NARGS; i++)
			sa->args[i] = 0;
		sa->callp = &lwc_sysent_trap;
	} else if ((lc->lc_flags & LWC_TRAP_SYSCALL) != 0 &&
	    IN_CAPABILITY_MODE(td) && !lwc_is_ours(sa->callp->sy_call) &&
	    sa->code != SYS_sigreturn && sa->code != SYS_exit) {
		sa->callp = &lwc_sysent_capped;
	}
	return (0);
}

/* Runs after the call: perhaps in another context than the one it began in. */
static void
lwc_sv_retval(struct thread *td, int error)
{
	struct lwc_proc *lp;
	struct proc *p;

	p = td->td_proc;
	lwc_orig(p)->sv_set_syscall_retval(td, error);
	/* Nothing has changed since the context left. */
	if (td->td_sa.code == lwSwitch_number)
		return;
	lp = lwc_proc_find(p);
	if (lp == NULL || (lp->lp_current->lc_flags & LWC_GUARD) == 0)
		return;
	if (td->td_sa.code == SYS_sigaction)
		lwc_trap_arm(p->p_sigacts, lp->lp_current->lc_flags, false);
	lwc_unblock_faults(td);
}

/* Did the context bring this signal about itself? */
static bool
lwc_own_signal(struct proc *p, const struct lwc_ctx *lc, const ksiginfo_t *ksi)
{

	if ((ksi->ksi_flags & KSI_TRAP) != 0)
		return (true);
	if ((lc->lc_flags & LWC_TRAP_EXIT) == 0)
		return (false);
	switch (ksi->ksi_code) {
	case SI_USER:
	case SI_LWP:
	case SI_QUEUE:
		if (ksi->ksi_pid != 0)
			return (ksi->ksi_pid == p->p_pid);
		break;
	}
	/* From the kernel: what follows from the context's own calls. */
	switch (ksi->ksi_signo) {
	case SIGPIPE:
	case SIGXFSZ:
	case SIGSYS:
		return (true);
	}
	return (false);
}

static void
lwc_sv_sendsig(sig_t catcher, ksiginfo_t *ksi, sigset_t *mask)
{
	const struct sysentvec *orig;
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	struct proc *p;
	struct sigacts *ps;
	struct thread *td;
	int sig;
	bool end, ok;

	td = curthread;
	p = td->td_proc;
	ps = p->p_sigacts;
	sig = ksi->ksi_signo;
	orig = lwc_orig(p);
	lp = lwc_proc_find(p);
	if (lp == NULL || (lp->lp_current->lc_flags & LWC_GUARD) == 0) {
		orig->sv_sendsig(catcher, ksi, mask);
		return;
	}
	lc = lp->lp_current;
	if (lc->lc_ending)
		return;
	end = catcher == LWC_CAUGHT;
	if (!end) {
		/*
		 * The program's own handler.  It must not run with faults
		 * blocked, and if its frame cannot be written that is an end
		 * too: sendsig() would kill the process.
		 */
		SIGSETNAND(ps->ps_catchmask[_SIG_IDX(sig)], lwc_faults);
		if (SIGISMEMBER(lwc_faults, sig))
			SIGADDSET(ps->ps_signodefer, sig);
		ok = SIGISMEMBER(ps->ps_sigonstack, sig);
		mtx_unlock(&ps->ps_mtx);
		PROC_UNLOCK(p);
		ok = lwc_md_sigframe_ok(td, ok);
		PROC_LOCK(p);
		mtx_lock(&ps->ps_mtx);
		if (ok) {
			orig->sv_sendsig(catcher, ksi, mask);
			return;
		}
	}
	if (end && !lwc_own_signal(p, lc, ksi)) {
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

/* End the current context and resume its creator; returns as lwc_enter(). */
static int
lwc_end(struct thread *td, struct lwc_proc *lp, int sig, int code,
    uint64_t addr)
{
	struct lwc_ctx *cur;
	struct lwc_event ev;
	int error;

	cur = lp->lp_current;
	error = lwc_proc_check(td);
	if (error != 0)
		return (error);
	if (cur->lc_creator == NULL)
		return (ESRCH);
	ev.ev_kind = LWC_TRAPPED;
	ev.ev_until = 0;
	ev.ev_n = LWC_END_WORDS;
	ev.ev_words[LWC_END_SIGNAL] = sig;
	ev.ev_words[LWC_END_CODE] = code;
	ev.ev_words[LWC_END_ADDRESS] = addr;
	ev.ev_words[LWC_END_ID] = cur->lc_id;
	SDT_PROBE3(lwc, , , trap, cur->lc_id, -sig, addr);
	lwc_ctx_ref(cur->lc_creator);
	error = lwc_enter(td, lp, cur->lc_creator, &ev, LWC_HOW_DISCARD);
	if (error == 0 || error == EJUSTRETURN)
		atomic_add_long(&lwc_nfault, 1);
	lwc_ctx_rele(lp->lp_current == cur ? cur->lc_creator :
	    lp->lp_current);
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
	if (!lp->lp_current->lc_ending) {
		(void)lwc_patience_check(td, lp);
		return;
	}
	lc = lp->lp_current;
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

static int
lwc_call_exit(struct thread *td, void *uap)
{
	struct lwc_proc *lp;
	int error, status;

	status = (int)*(register_t *)uap;
	lp = lwc_proc_find(td->td_proc);
	if (lp != NULL) {
		error = lwc_end(td, lp, 0, status, 0);
		if (error == 0 || error == EJUSTRETURN)
			return (error);
	}
	exit1(td, status, 0);
	/* NOTREACHED */
}

/* SIGKILL and SIGSTOP to oneself: there is nothing to catch them with. */
static int
lwc_call_kill(struct thread *td, void *uap __unused)
{
	struct lwc_proc *lp;
	int error;

	lp = lwc_proc_find(td->td_proc);
	if (lp == NULL)
		return (EPERM);
	error = lwc_end(td, lp, SIGKILL, SI_USER, 0);
	return (error == 0 || error == EJUSTRETURN ? error : EPERM);
}

static int
lwc_call_refuse(struct thread *td __unused, void *uap __unused)
{

	return (EINVAL);
}

/* A call that the context has given up (LWC_CONTROL_ALLOW). */
int
lwc_call_deny(struct thread *td, void *uap __unused)
{
	ksiginfo_t ksi;

	ksiginfo_init_trap(&ksi);
	ksi.ksi_signo = SIGSYS;
	ksi.ksi_code = SI_KERNEL;
	ksi.ksi_addr = (void *)(uintptr_t)td->td_sa.code;
	trapsignal(td, &ksi);
	return (ENOSYS);
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
	error = lwc_proc_check(td);
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
		atomic_add_long(&lwc_ntrap, 1);
	return (error);
}

/*
 * 7.1 in capability mode: a call that this mode knows about runs, and goes to
 * the monitor if the mode refuses it after all, for its arguments: openat(2)
 * with AT_FDCWD, which is what open(3) makes.  It had no effect then.
 */
static int
lwc_call_capped(struct thread *td, void *uap)
{
	struct sysent *se;
	struct syscall_args *sa;
	int error;

	sa = &td->td_sa;
	se = &td->td_proc->p_sysent->sv_table[sa->code];
	error = lwc_syscall_run(td, se, uap);
	if (error != ECAPMODE)
		return (error);
	memset(&sa->args[se->sy_narg], 0,
	    (LWC_CALL_NARGS - MIN(se->sy_narg, LWC_CALL_NARGS)) *
	    sizeof(sa->args[0]));
	return (lwc_call_trap(td, uap));
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

	ls = lwc_sysent_get(lp->lp_sysent);
	if (ls == NULL)
		return (false);
	sv = traps ? &ls->ls_sv : &ls->ls_plain;
	if (!lp->lp_ours) {
		lp->lp_ours = true;
		atomic_add_int(&lwc_nours, 1);
	}
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
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL,
	    SIGTRAP, SIGSYS, SIGEMT };
	static const int others[] = { SIGHUP, SIGINT, SIGQUIT, SIGABRT,
	    SIGPIPE, SIGALRM, SIGTERM, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF,
	    SIGUSR1, SIGUSR2 };
	u_int i;

	for (i = 0; i < nitems(faults); i++)
		SIGADDSET(lwc_faults, faults[i]);
	lwc_fatals = lwc_faults;
	for (i = 0; i < nitems(others); i++)
		SIGADDSET(lwc_fatals, others[i]);
	for (i = SIGRTMIN; i <= SIGRTMAX; i++)
		SIGADDSET(lwc_fatals, i);
	mtx_init(&lwc_sysent_mtx, "lwc sysentvecs", NULL, MTX_DEF);
	ast_register(LWC_AST, ASTR_ASTF_REQUIRED, 0, lwc_ast);
}

void
lwc_trap_fini(void)
{
	int i;

	ast_deregister(LWC_AST);
	for (i = 0; i < LWC_NSYSENT; i++) {
		free(lwc_sysents[i], M_LWC);
		lwc_sysents[i] = NULL;
	}
	mtx_destroy(&lwc_sysent_mtx);
}
