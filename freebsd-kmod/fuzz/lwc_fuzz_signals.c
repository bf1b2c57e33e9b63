/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Signals, what sleeps, and faults. */

#include "lwc_fuzz_ops.h"

static char altstack[32768];

/*
 * Signals.
 */
static volatile sig_atomic_t counted;

static void
on_count(int sig __unused)
{

	counted++;
}

static void
on_jump(int sig __unused, siginfo_t *si __unused, void *ctx)
{
	uint64_t sp;

	sp = ((ucontext_t *)ctx)->uc_mcontext.mc_rsp;
	_longjmp(jumps[sp >= STACKS && sp < STACKS + MAXPEERS * STACK_SIZE ?
	    (sp - STACKS) / STACK_SIZE + 1 : 0], 1);
}

void
handle(int sig, int how)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_flags = SA_NODEFER;
	sa.sa_handler = on_count;
	switch (how) {
	case 0:
		sa.sa_handler = SIG_DFL;
		break;
	case 1:
		sa.sa_handler = SIG_IGN;
		break;
	case 2:
		break;
	case 3:
		sa.sa_flags |= SA_SIGINFO;
		sa.sa_sigaction = on_jump;
		break;
	case 4:
		sa.sa_flags |= SA_ONSTACK;
		break;
	case 5:
		sa.sa_flags |= SA_RESTART;
		break;
	case 6:
		sa.sa_flags |= SA_RESETHAND;
		break;
	default:
		sa.sa_flags |= SA_NOCLDWAIT | SA_NOCLDSTOP;
		break;
	}
	(void)sigaction(sig, &sa, NULL);
}

void
do_sigaction(struct me *m, const struct op *o)
{

	errno = 0;
	handle((int)choice(&t_signal, A(0)), (int)choice(&t_handler, A(1)));
	m->error = errno;
}

static void
set_of(uint8_t which, sigset_t *set)
{

	sigemptyset(set);
	switch (choice(&t_set, which)) {
	case 1:
		sigfillset(set);
		break;
	case 2:
		sigaddset(set, SIGSEGV);
		sigaddset(set, SIGBUS);
		sigaddset(set, SIGTRAP);
		sigaddset(set, SIGSYS);
		sigaddset(set, SIGILL);
		break;
	case 3:
		sigaddset(set, SIGUSR1);
		sigaddset(set, SIGUSR2);
		break;
	case 4:
		sigaddset(set, SIGTERM);
		break;
	case 5:
		sigfillset(set);
		sigdelset(set, SIGUSR1);
		break;
	}
}

void
do_sigmask(struct me *m, const struct op *o)
{
	sigset_t set;

	set_of(A(1), &set);
	CALL(m, sigprocmask((int)choice(&t_mask_how, A(0)), &set, NULL));
}

void
do_signal(struct me *m, const struct op *o)
{
	struct itimerval it;
	struct itimerspec its;
	struct sigevent sev;
	union sigval sv;
	void *args[1] = { NULL };
	int timer;
	pid_t pid;
	long tid;
	int sig;

	pid = who(m, A(1));
	sig = (int)choice(&t_signal, A(2));
	memset(&it, 0, sizeof(it));
	it.it_value.tv_usec = 1000;
	it.it_interval.tv_usec = A(3) % 2 ? 1000 : 0;
	switch (choice(&t_how, A(0))) {
	case 0:
		CALL(m, kill(pid, sig));
		break;
	case 1:
		sv.sival_int = A(3);
		CALL(m, sigqueue(pid == 0 ? getpid() : pid, sig, sv));
		break;
	case 2:
		(void)thr_self(&tid);
		CALL(m, thr_kill(A(3) % 4 == 0 ? -1 : tid, sig));
		break;
	case 3:
		CALL(m, thr_kill2(pid == 0 ? getpid() : pid, -1, sig));
		break;
	case 4:
		CALL(m, raise(sig));
		break;
	case 5:
		CALL(m, ualarm(1000, 0));
		break;
	case 6:
		CALL(m, setitimer(A(3) % 3, &it, NULL));
		break;
	case 7:
		memset(&sev, 0, sizeof(sev));
		sev.sigev_notify = SIGEV_SIGNAL;
		sev.sigev_signo = sig;
		memset(&its, 0, sizeof(its));
		its.it_value.tv_nsec = 1000000;
		CALL(m, syscall(SYS_ktimer_create, CLOCK_REALTIME, &sev,
		    &timer));
		if (m->ret == 0)
			CALL(m, syscall(SYS_ktimer_settime, timer, 0, &its,
			    NULL));
		break;
	default:
		CALL(m, (abort2("fuzz", A(3) % 3, args), 0));
		break;
	}
}

void
do_altstack(struct me *m, const struct op *o)
{
	stack_t ss;

	memset(&ss, 0, sizeof(ss));
	ss.ss_sp = altstack;
	ss.ss_size = sizeof(altstack);
	switch (choice(&t_altstack, A(0))) {
	case 0:
		ss.ss_sp = (void *)addr(A(1));
		break;
	case 1:
		ss.ss_size = MINSIGSTKSZ + A(1) * 16;
		break;
	case 2:
		ss.ss_flags = SS_DISABLE;
		break;
	case 3:
		ss.ss_sp = (void *)KERNEL;
		break;
	default:
		ss.ss_sp = (void *)UNMAPPED;
		break;
	}
	CALL(m, sigaltstack(&ss, NULL));
}

/* All that sleeps; most with an end. */
void
do_wait(struct me *m, const struct op *o)
{
	static unsigned int word;
	struct timespec ts = { 0, 3000000 };
	struct timeval tv = { 0, 3000 };
	struct _umtx_time ut;
	struct kevent kev;
	struct pollfd pfd;
	siginfo_t si;
	sigset_t set;
	fd_set fds;
	char byte;
	int status;

	set_of(A(1), &set);
	if (A(3) % 8 == 7)
		ts.tv_sec = tv.tv_sec = 10;
	switch (choice(&t_wait, A(0))) {
	case 0:
		CALL(m, sigsuspend(&set));
		break;
	case 1:
		pfd.fd = file(A(2));
		pfd.events = POLLIN;
		CALL(m, ppoll(&pfd, A(2) % 2, &ts, &set));
		break;
	case 2:
		CALL(m, pselect(0, NULL, NULL, NULL, &ts, &set));
		break;
	case 3:
		CALL(m, nanosleep(&ts, NULL));
		break;
	case 4:
		CALL(m, sigtimedwait(&set, &si, &ts));
		break;
	case 5:
		CALL(m, kevent(file(A(2)), NULL, 0, &kev, 1, &ts));
		break;
	case 6:
		CALL(m, wait4(-1, &status, 0, NULL));
		break;
	case 7:
		CALL(m, wait4(-1, &status, WNOHANG, NULL));
		break;
	case 8:
		CALL(m, sched_yield());
		break;
	case 9:
		CALL(m, read(file(A(2)), &byte, 1));
		break;
	case 10:
		FD_ZERO(&fds);
		if (file(A(2)) >= 0 && file(A(2)) < (int)FD_SETSIZE)
			FD_SET(file(A(2)), &fds);
		CALL(m, select(file(A(2)) + 1, &fds, NULL, NULL, &tv));
		break;
	case 11:
		memset(&ut, 0, sizeof(ut));
		ut._timeout = ts;
		ut._clockid = CLOCK_MONOTONIC;
		CALL(m, _umtx_op(A(2) % 2 ? (void *)addr(A(2)) : &word,
		    UMTX_OP_WAIT_UINT_PRIVATE, 0, (void *)sizeof(ut), &ut));
		break;
	case 12:
		CALL(m, pause());
		break;
	case 13:
		CALL(m, flock(file(A(2)), A(3) % 2 ? LOCK_EX : LOCK_UN));
		break;
	default:
		CALL(m, wait6(P_ALL, 0, &status, WEXITED | WSTOPPED |
		    WCONTINUED | WTRAPPED | (A(3) % 2 ? WNOHANG : 0), NULL,
		    &si));
		break;
	}
}

static __noinline void
fault(int how, int fd)
{
	uint64_t value;

	switch (how) {
	case 0:
		(void)*(volatile char *)UNMAPPED;
		break;
	case 1:
		*(volatile char *)UNMAPPED = 1;
		break;
	case 2:
		__asm volatile("ud2");
		break;
	case 3:
		__asm volatile("int3");
		break;
	case 4:
		__asm volatile("xorl %%ecx, %%ecx; divl %%ecx" ::: "eax",
		    "ecx", "edx");
		break;
	case 5:
		__asm volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop"
		    ::: "memory", "cc");
		break;
	case 6:
		(void)*(volatile char *)0x8000000000000000UL;
		break;
	case 7:
		*(volatile char *)KERNEL = 1;
		break;
	case 8:
		value = numbers[1];
		__asm volatile("xorl %%r8d, %%r8d; xorl %%r9d, %%r9d;"
		    "xorl %%r10d, %%r10d; pushfq; orq $0x100, (%%rsp); popfq;"
		    "syscall" : "+a" (value) : "D" ((uint64_t)fd), "S" (0UL),
		    "d" (0UL) : "rcx", "r8", "r9", "r10", "r11", "memory",
		    "cc");
		break;
	case 9:
		__asm volatile("fldz; fld1; fdivp" ::: "memory");
		break;
	case 10:
		__asm volatile("hlt");
		break;
	case 11:
		__asm volatile("movq %%rsp, %%rbx; xorl %%esp, %%esp;"
		    "pushq $1; movq %%rbx, %%rsp" ::: "rbx", "memory");
		break;
	default:
		value = SYS_exit;
		__asm volatile("pushfq; orq $0x100, (%%rsp); popfq; syscall"
		    : "+a" (value) : "D" (0UL) : "rcx", "r11", "memory",
		    "cc");
		break;
	}
}

void
do_fault(struct me *m __unused, const struct op *o)
{

	fault((int)choice(&t_fault, A(0)), desc(A(1)));
}
