/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * LWC_TRAP_EXIT and LWC_TRAP_FAULT hold: whatever a guarded context does to
 * its own process ends or fails in the context, and its creator goes on.
 */

#include <sys/param.h>
#include <sys/capsicum.h>
#include <sys/mman.h>
#include <sys/module.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysctl.h>
#include <sys/thr.h>
#include <sys/time.h>
#include <sys/umtx.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <signal.h>
#include <time.h>

#include "lwc_test.h"

#define	GUARDS	(LWC_TRAP_EXIT | LWC_TRAP_FAULT)

/* In a guarded context; home is its creator. */
static int home;
static int how;			/* of several things to do */
static int sig;			/* with this signal */

struct guarded {
	int	flags;
	void	(*body)(void);
	int	how;
	int	sig;
	int	want;		/* signal of its end; 0: it comes back */
};
#define	ANY	(-1)		/* its end, however */
#define	EITHER	(-2)		/* an end or not */

/* The creator lives, and gets what it is to get. */
static void
guard(void *arg)
{
	struct guarded *g = arg;
	struct visit v;
	int fd, r;

	fd = create(&v, NULL, 0, g->flags);
	if (fd == LWC_SWITCHED) {
		home = v.src;
		how = g->how;
		sig = g->sig;
		g->body();
		for (;;)
			go(home, &v, 1, 0);
	}
	REQUIRE(fd >= 0);
	r = go(fd, &v, 0, 0);
	/* Nothing comes later, either. */
	usleep(1000);
	(void)getppid();
	if (g->want == EITHER)
		return;
	if (g->want == 0) {
		REQUIRE(r == LWC_SWITCHED && v.a[0] == 1);
		return;
	}
	REQUIRE(r == LWC_TRAPPED && v.src == -1 && v.n == LWC_END_WORDS);
	REQUIRE(g->want == ANY || (int)v.a[LWC_END_SIGNAL] == g->want);
}

static void
holds_in(int flags, void (*body)(void), int h, int s, int want)
{
	struct guarded g = { flags, body, h, s, want };
	int status;

	status = outcome(guard, &g, 8);
	if (status == 0)
		return;
	fprintf(stderr, "flags %#x, way %d, signal %d: status %#x\n", flags, h,
	    s, status);
	lwc_fail(__FILE__, __LINE__, "a guard did not hold");
}

static void
holds(void (*body)(void), int h, int s, int want)
{

	holds_in(LWC_TRAP_EXIT, body, h, s, want);
	holds_in(GUARDS, body, h, s, want);
}

static void
abort2_self(void)
{

	(void)raw(SYS_abort2, (uintptr_t)"why", 0, 0, 0, 0, 0);
}

CASE(hold_guards_abort2,
    "abort2(2) ends the guarded context and not the process.")
{

	holds(abort2_self, 0, 0, SIGABRT);
}

static void
abort2_capable(void)
{

	(void)raw(SYS_abort2, (uintptr_t)"why", how == 0 ? 0 : 100, 0, 0, 0, 0);
}

CASE(hold_guards_abort2_in_capability_mode,
    "So does abort2(2) in capability mode, with traps, and with arguments "
    "that kill at once.")
{

	holds(abort2_capable, 1, 0, SIGABRT);
	/* Our calls are looked up by name, which the mode does not allow. */
	REQUIRE(lwGetlwc() >= 0);
	REQUIRE(cap_enter() == 0);
	holds(abort2_capable, 0, 0, SIGABRT);
	holds_in(GUARDS | LWC_TRAP_SYSCALL, abort2_capable, 0, 0, SIGABRT);
	holds_in(GUARDS | LWC_TRAP_SYSCALL, abort2_capable, 1, 0, SIGABRT);
}

enum { KILL, KILL_GROUP, KILL_PGRP, SIGQUEUE, THR_KILL, THR_KILL_ALL,
    THR_KILL2, THR_KILL2_PID, SYSCALL_KILL, QUAD_KILL, LWSYSCALL_KILL,
    LWSYSCALL_MEMORY, FIRST_WAY = KILL, LAST_WAY = LWSYSCALL_MEMORY };

/* One signal to oneself, in one of many ways. */
static void
signal_self(void)
{
	uint64_t a[LWC_CALL_NARGS] = { 0 };
	long tid;

	a[0] = getpid();
	a[1] = sig;
	(void)thr_self(&tid);
	switch (how) {
	case KILL:
		(void)kill(getpid(), sig);
		break;
	case KILL_GROUP:
		(void)kill(0, sig);
		break;
	case KILL_PGRP:
		(void)kill(-getpgrp(), sig);
		break;
	case SIGQUEUE:
		(void)sigqueue(getpid(), sig, (union sigval){ 0 });
		break;
	case THR_KILL:
		(void)thr_kill(tid, sig);
		break;
	case THR_KILL_ALL:
		(void)raw(SYS_thr_kill, -1, sig, 0, 0, 0, 0);
		break;
	case THR_KILL2:
		(void)thr_kill2(getpid(), tid, sig);
		break;
	case THR_KILL2_PID:
		(void)raw(SYS_thr_kill2, getpid(), -1, sig, 0, 0, 0);
		break;
	case SYSCALL_KILL:
		(void)raw(SYS_syscall, SYS_kill, getpid(), sig, 0, 0, 0);
		break;
	case QUAD_KILL:
		(void)raw(SYS___syscall, SYS_kill, getpid(), sig, 0, 0, 0);
		break;
	case LWSYSCALL_KILL:
		(void)lwSyscall(home, 0, SYS_kill, a);
		break;
	case LWSYSCALL_MEMORY:
		/* With rights over one of its own. */
		tid = lwCreate(NULL, 0, NULL, NULL, NULL, 0);
		(void)lwSyscall((int)tid, LWC_TYPES, SYS_kill, a);
		break;
	}
}

/* All threads but the caller's are nobody; and lwSyscall() may refuse it. */
static bool
may_fail(int way)
{

	return (way == THR_KILL_ALL || way == THR_KILL2_PID ||
	    way == LWSYSCALL_KILL || way == LWSYSCALL_MEMORY);
}

CASE(hold_guards_kill_oneself,
    "A guarded context that sends itself SIGKILL, in whatever way, ends alone.")
{
	int way;

	for (way = FIRST_WAY; way <= LAST_WAY; way++)
		holds(signal_self, way, SIGKILL,
		    may_fail(way) ? EITHER : SIGKILL);
}

CASE(hold_guards_stop_oneself,
    "A guarded context that sends itself a stop signal, in whatever way, "
    "ends alone.")
{
	static const int stops[] = { SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU };
	u_int i;
	int way;

	for (i = 0; i < nitems(stops); i++)
		for (way = FIRST_WAY; way <= LAST_WAY; way++)
			holds_in(GUARDS, signal_self, way, stops[i],
			    may_fail(way) ? EITHER : ANY);
}

CASE(hold_guards_terminate_oneself,
    "A signal to oneself that ends a process by default ends the guarded "
    "context alone.")
{
	static const int ends[] = { SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGPIPE,
	    SIGALRM, SIGTERM, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGUSR1,
	    SIGUSR2, SIGSEGV, SIGBUS, SIGSYS, SIGTRAP, SIGFPE, SIGILL,
	    SIGRTMIN };
	static const int ways[] = { KILL, SIGQUEUE, THR_KILL, LWSYSCALL_KILL };
	u_int i, w;

	for (i = 0; i < nitems(ends); i++)
		for (w = 0; w < nitems(ways); w++)
			holds_in(GUARDS, signal_self, ways[w], ends[i],
			    may_fail(ways[w]) ? EITHER : ends[i]);
}

/* The same while it is blocked: it is not for the creator to take. */
static void
signal_self_blocked(void)
{
	sigset_t all;

	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	signal_self();
}

CASE(hold_guards_pending_travels,
    "A blocked signal that a context sent itself does not hit its creator.")
{
	static const int sigs[] = { SIGHUP, SIGINT, SIGTERM, SIGALRM, SIGUSR1,
	    SIGXCPU, SIGPROF, SIGRTMIN, SIGRTMAX };
	static const int ways[] = { KILL, KILL_GROUP, SIGQUEUE, THR_KILL,
	    THR_KILL2, QUAD_KILL, LWSYSCALL_KILL };
	u_int i, w;

	for (i = 0; i < nitems(sigs); i++)
		for (w = 0; w < nitems(ways); w++)
			holds_in(GUARDS, signal_self_blocked, ways[w],
			    sigs[i], EITHER);
}

CASE(hold_guards_pending_stops_travel,
    "A blocked stop signal that a context sent itself does not stop the "
    "process.")
{
	static const int sigs[] = { SIGTSTP, SIGTTIN, SIGTTOU };
	static const int ways[] = { KILL, KILL_GROUP, SIGQUEUE, THR_KILL,
	    LWSYSCALL_KILL };
	u_int i, w;

	for (i = 0; i < nitems(sigs); i++)
		for (w = 0; w < nitems(ways); w++)
			holds_in(GUARDS, signal_self_blocked, ways[w],
			    sigs[i], EITHER);
}

/* Signals that the kernel sends for what one does. */
static void
provoke_blocked(void)
{
	struct rlimit rl = { 0, 0 };
	sigset_t all;
	int p[2];

	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	switch (how) {
	case 0:
		if (pipe(p) == 0 && close(p[0]) == 0)
			(void)write(p[1], "x", 1);
		break;
	case 1:
		if (setrlimit(RLIMIT_FSIZE, &rl) == 0)
			(void)write(scratch(), "x", 1);
		break;
	case 2:
		(void)raw(SYS_MAXSYSCALL, 0, 0, 0, 0, 0, 0);
		break;
	case 3:
		/* By the other end of a terminal: its size changes. */
		(void)kill(getpid(), SIGWINCH);
		break;
	}
}

CASE(hold_guards_provoked_signals_travel,
    "Blocked SIGPIPE, SIGXFSZ and SIGSYS that a context provoked do not hit "
    "its creator.")
{
	int h;

	for (h = 0; h < 4; h++)
		holds(provoke_blocked, h, 0, EITHER);
}

/* Back to default by a way round sigaction(2), and then a fault. */
static void
reset_and_fault(void)
{
	struct sigaction sa;
	uint64_t a[LWC_CALL_NARGS] = { SIGSEGV, (uintptr_t)&sa };

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = SIG_DFL;
	switch (how) {
	case 0:
		(void)sigaction(SIGSEGV, &sa, NULL);
		break;
	case 1:
		(void)lwSyscall(home, 0, SYS_sigaction, a);
		break;
	case 2:
		(void)raw(342, SIGSEGV, (uintptr_t)&sa, 0, 0, 0, 0);
		break;
	case 3:
		(void)raw(SYS_syscall, SYS_sigaction, SIGSEGV, (uintptr_t)&sa,
		    0, 0, 0);
		break;
	case 4:
		(void)raw(SYS___syscall, 342, SIGSEGV, (uintptr_t)&sa, 0, 0,
		    0);
		break;
	case 5:
		(void)lwSyscall(home, 0, 342, a);
		break;
	}
	*(volatile int *)8 = 1;
	_exit(9);
}

CASE(hold_guards_default_actions,
    "A fault is trapped after sigaction(2), by whatever way, has set the "
    "default action.")
{
	int h;

	(void)signal(SIGSYS, SIG_IGN);
	for (h = 0; h < 6; h++) {
		holds_in(LWC_TRAP_FAULT, reset_and_fault, h, 0, SIGSEGV);
		holds(reset_and_fault, h, 0, SIGSEGV);
	}
}

/* Signals to be sent later, when somebody else may be current. */
static void
ask_for_a_timer(void)
{
	struct itimerval tv = { { 0, 0 }, { 0, 20000 } };
	struct itimerspec ts = { { 0, 0 }, { 0, 20000000 } };
	struct sigevent ev;
	int id;

	if (how < 3) {
		REQUIRE_ERRNO(EPERM, setitimer(how == 0 ? ITIMER_REAL :
		    how == 1 ? ITIMER_VIRTUAL : ITIMER_PROF, &tv, NULL));
		return;
	}
	memset(&ev, 0, sizeof(ev));
	ev.sigev_notify = SIGEV_SIGNAL;
	ev.sigev_signo = how == 3 ? SIGKILL : SIGTERM;
	id = -1;
	if (raw(SYS_ktimer_create, how == 5 ? CLOCK_MONOTONIC : CLOCK_REALTIME,
	    (uintptr_t)&ev, (uintptr_t)&id, 0, 0, 0) == 0) {
		(void)raw(SYS_ktimer_settime, id, 0, (uintptr_t)&ts, 0, 0, 0);
		lwc_fail(__FILE__, __LINE__, "has a timer");
	}
	REQUIRE(errno == EPERM);
}

static void
ask_by_lwsyscall(void)
{
	struct itimerval tv = { { 0, 0 }, { 0, 20000 } };
	uint64_t a[LWC_CALL_NARGS] = { ITIMER_REAL, (uintptr_t)&tv };

	REQUIRE(lwSyscall(home, 0, SYS_setitimer, a) == -1);
	a[0] = RLIMIT_CPU;
	a[1] = (uintptr_t)&(struct rlimit){ 1, 1 };
	REQUIRE(lwSyscall(home, 0, SYS_setrlimit, a) == -1);
}

CASE(hold_guards_timers,
    "setitimer(2) and timer_create(2) in a guarded context are EPERM.")
{
	int h;

	for (h = 0; h < 6; h++)
		holds(ask_for_a_timer, h, 0, 0);
	holds(ask_by_lwsyscall, 0, 0, 0);
}

static void
limit_time(void)
{
	int mib[5] = { CTL_KERN, KERN_PROC, KERN_PROC_RLIMIT, 0, RLIMIT_CPU };
	struct rlimit rl = { 1, 2 };
	size_t len;

	switch (how) {
	case 0:
		REQUIRE_ERRNO(EPERM, setrlimit(RLIMIT_CPU, &rl));
		break;
	case 1:
		mib[3] = getpid();
		REQUIRE_ERRNO(EPERM, sysctl(mib, 5, NULL, NULL, &rl,
		    sizeof(rl)));
		/* Looking is allowed. */
		len = sizeof(rl);
		REQUIRE(sysctl(mib, 5, &rl, &len, NULL, 0) == 0);
		break;
	case 2:
		/* And so are the others. */
		REQUIRE(getrlimit(RLIMIT_NOFILE, &rl) == 0);
		rl.rlim_cur--;
		REQUIRE(setrlimit(RLIMIT_NOFILE, &rl) == 0);
		break;
	}
}

CASE(hold_guards_time_limit,
    "RLIMIT_CPU in a guarded context, by setrlimit(2) or sysctl(3), is EPERM.")
{
	int h;

	for (h = 0; h < 3; h++)
		holds(limit_time, h, 0, 0);
}

static void
write_sysctl(void)
{
	int on = 0;

	REQUIRE_ERRNO(EPERM, sysctlbyname("kern.lwc.max_specs", NULL, NULL,
	    &on, sizeof(on)));
	REQUIRE_ERRNO(EPERM, sysctlbyname("security.bsd.unprivileged_proc_debug",
	    NULL, NULL, &on, sizeof(on)));
}

CASE(hold_guards_settings_of_the_system,
    "Settings of the system are EPERM for a guarded context.")
{
	long specs;

	specs = counter("max_specs");
	holds(write_sysctl, 0, 0, 0);
	REQUIRE(counter("max_specs") == specs);
}

static void
trace_me(void)
{

	(void)ptrace(PT_TRACE_ME, 0, NULL, 0);
	(void)signal(SIGUSR1, SIG_IGN);
	(void)kill(getpid(), SIGUSR1);
	(void)kill(getpid(), SIGCONT);
}

CASE(hold_guards_trace_me,
    "PT_TRACE_ME in a guarded context asks nobody to stop the process.")
{

	holds(trace_me, 0, 0, EITHER);
}

static void
call_unknown(void)
{
	/* No calls in 15.1, or none that anybody knows. */
	static const int numbers[] = { 8, 11, 219, SYS_MAXSYSCALL + 5, 900 };
	u_int i;

	for (i = 0; i < nitems(numbers); i++)
		REQUIRE_ERRNO(ENOSYS, raw(numbers[i], 0, 0, 0, 0, 0, 0));
}

CASE(hold_guards_unknown_calls,
    "An unknown call in a guarded context is ENOSYS without a signal.")
{

	holds(call_unknown, 0, 0, 0);
}

/*
 * The trap flag is set by the program and seen by the kernel on the way into a
 * call; SIGTRAP is to be raised there, whoever runs when the call is over.
 */
static int64_t
stepped(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	register uint64_t r10 __asm("r10") = 0;
	register uint64_t r8 __asm("r8") = 0;
	register uint64_t r9 __asm("r9") = 0;
	bool failed;

	__asm volatile("subq $256, %%rsp; pushfq; orq $0x100, (%%rsp); popfq;"
	    "syscall; leaq 256(%%rsp), %%rsp"
	    : "+a" (number), "=@ccc" (failed), "+d" (c), "+r" (r10),
	    "+r" (r8), "+r" (r9), "+D" (a), "+S" (b) :
	    : "rcx", "r11", "memory");
	if (!failed)
		return ((int64_t)number);
	errno = (int)number;
	return (-1);
}

static int64_t
stepped_gate(uint64_t number, uint64_t a)
{

	__asm volatile("subq $256, %%rsp; pushfq; orq $0x100, (%%rsp); popfq;"
	    "int $0x80; leaq 256(%%rsp), %%rsp"
	    : "+a" (number) : "D" (a), "S" (0L), "d" (0L)
	    : "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
	return ((int64_t)number);
}

static int
number_of(const char *name)
{
	struct module_stat ms;

	ms.version = sizeof(ms);
	REQUIRE(modstat(modfind(name), &ms) == 0);
	return (ms.data.intval);
}

static volatile int steps;

static void
on_step(int s __unused)
{

	steps++;
}

static void
step_away(void)
{
	int n;

	switch (how) {
	case 0:
		(void)stepped(lwc_switch_number(), home, 0, 0);
		break;
	case 1:
		n = number_of("sys/lwDiscardSwitch");
		(void)stepped(n, home, 0, 0);
		break;
	case 2:
		(void)stepped(SYS_exit, 0, 0, 0);
		break;
	case 3:
		(void)stepped(SYS_kill, getpid(), SIGKILL, 0);
		break;
	case 4:
		(void)stepped(SYS_abort2, (uintptr_t)"x", 0, 0);
		break;
	case 5:
		(void)stepped(SYS_getppid, 0, 0, 0);
		break;
	case 6:
		n = lwc_switch_number();
		(void)stepped_gate(n, home);
		break;
	}
}

CASE(hold_guards_single_step,
    "The trap flag at a switch raises SIGTRAP in the context that set it.")
{
	int h;

	/* Handlers are copied to the context, and not run in the creator. */
	for (h = 0; h < 7; h++)
		holds_in(GUARDS, step_away, h, 0,
		    h == 2 || h == 3 || h == 4 ? ANY : SIGTRAP);
	holds_in(LWC_TRAP_FAULT, step_away, 0, 0, SIGTRAP);
	holds_in(LWC_TRAP_FAULT, step_away, 1, 0, SIGTRAP);
	/* Trapped: to its monitor, or no further than here. */
	for (h = 0; h < 7; h++)
		holds_in(GUARDS | LWC_TRAP_SYSCALL, step_away, h, 0, EITHER);
}

static void
step_and_go_on(void)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_step;
	REQUIRE(sigaction(SIGTRAP, &sa, NULL) == 0);
	REQUIRE_ERRNO(EINTR, stepped(lwc_switch_number(), home, 0, 0));
	REQUIRE(steps > 0);
	steps = 0;
	REQUIRE_ERRNO(EINTR, stepped(number_of("sys/lwDiscardSwitch"), home, 0,
	    0));
	REQUIRE(steps > 0);
}

CASE(hold_guards_single_step_is_handled,
    "A caller that handles its SIGTRAP has EINTR from the switch and runs "
    "its handler.")
{

	holds(step_and_go_on, 0, 0, 0);
	holds_in(0, step_and_go_on, 0, 0, 0);
}

/* Memory that hangs on a byte of shared memory, and is found there later. */
static void
hang_memory(void)
{
	static const int ops[] = { UMTX_OP_SHM, UMTX_OP_SHM | UMTX_OP__I386,
	    UMTX_OP_SHM | UMTX_OP__32BIT };
	static const unsigned long hows[] = { UMTX_SHM_CREAT, UMTX_SHM_LOOKUP,
	    UMTX_SHM_DESTROY };
	char *page = shared_page();
	u_int i;

	for (i = 0; i < nitems(hows); i++)
		REQUIRE_ERRNO(EPERM, _umtx_op(NULL, ops[how], hows[i], page,
		    NULL));
	/* What else the call is for goes on. */
	REQUIRE(_umtx_op(page, UMTX_OP_WAKE, 1, NULL, NULL) == 0);
}

CASE(hold_guards_hung_memory,
    "A guarded context hangs no memory on what it shares, which would be "
    "there after its rollback.")
{
	int h;

	/* Anybody else does. */
	REQUIRE(_umtx_op(NULL, UMTX_OP_SHM, UMTX_SHM_CREAT, shared_page(),
	    NULL) >= 0);
	for (h = 0; h < 3; h++)
		holds(hang_memory, h, 0, 0);
}

/* How many bytes beside its data a message with a descriptor has. */
static long
received(int line, int flags)
{
	union {
		struct cmsghdr	header;
		char		room[CMSG_SPACE(sizeof(uint64_t))];
	} control;
	char byte;
	struct iovec piece = { &byte, 1 };
	struct msghdr m = { .msg_iov = &piece, .msg_iovlen = 1,
	    .msg_control = &control, .msg_controllen = sizeof(control) };

	if (recvmsg(line, &m, flags) != 1)
		return (-1);
	return (m.msg_controllen);
}

static int
line_with_a_descriptor(void)
{
	union {
		struct cmsghdr	header;
		char		room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET,
	    SCM_RIGHTS } };
	struct iovec piece = { "x", 1 };
	struct msghdr m = { .msg_iov = &piece, .msg_iovlen = 1,
	    .msg_control = &control, .msg_controllen = sizeof(control) };
	int fd, pair[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
	fd = scratch();
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	REQUIRE(sendmsg(pair[0], &m, 0) == 1);
	return (pair[1]);
}

static void
peek(void)
{
	int line = line_with_a_descriptor();

	REQUIRE_ERRNO(EPERM, received(line, MSG_PEEK));
	REQUIRE_ERRNO(EPERM, received(line, MSG_PEEK | MSG_DONTWAIT));
	REQUIRE(received(line, 0) == CMSG_SPACE(sizeof(int)));
}

CASE(hold_guards_peek,
    "A guarded context does not see where the kernel has descriptors that "
    "are under way.")
{

	/* Anybody else peeks, whatever comes of it. */
	REQUIRE(received(line_with_a_descriptor(), MSG_PEEK) > 0);
	holds(peek, 0, 0, 0);
}

static void
wait_for_all(void)
{
	static const size_t much[] = { 1ULL << 32, (1ULL << 32) + 1, 1ULL << 31,
	    SIZE_MAX };
	char bytes[2] = "";
	struct iovec piece = { bytes, sizeof(bytes) };
	struct msghdr m = { .msg_iov = &piece, .msg_iovlen = 1 };
	int pair[2];
	u_int i;

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	REQUIRE(write(pair[0], "abcd", 4) == 4);
	/* The kernel's would never come back. */
	for (i = 0; i < nitems(much); i++)
		REQUIRE_ERRNO(EINVAL, recvfrom(pair[1], bytes, much[i],
		    MSG_WAITALL | MSG_DONTWAIT, NULL, NULL));
	REQUIRE_ERRNO(EPERM, recvmsg(pair[1], &m, MSG_WAITALL));
	/* Of TCP it would look at these as often as there is room. */
	REQUIRE_ERRNO(EINVAL, recvfrom(pair[1], bytes, (64 << 10) + 1,
	    MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT, NULL, NULL));
	REQUIRE(recv(pair[1], bytes, 2, MSG_PEEK | MSG_WAITALL) == 2);
	/* Of what there is memory for it waits. */
	REQUIRE(recv(pair[1], bytes, 2, MSG_WAITALL) == 2);
	REQUIRE(memcmp(bytes, "ab", 2) == 0);
	REQUIRE(recvmsg(pair[1], &m, 0) == 2);
	REQUIRE(memcmp(bytes, "cd", 2) == 0);
}

CASE(hold_guards_wait_for_all,
    "A guarded context does not wait in the kernel for more than fits there, "
    "which nothing would end.")
{

	holds(wait_for_all, 0, 0, 0);
}
