/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What is on its way to a creator arrives: though it was preempted, though it
 * waits for an answer of its own; and a debugger makes no switch.
 */

#include <sys/param.h>
#include <sys/ptrace.h>
#include <sys/module.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <signal.h>

#include "lwc_test.h"

static volatile uint64_t *word;

static void
await(uint64_t value)
{

	while (word[0] != value)
		continue;
}

/*
 * A, the root; B, in A's table, made by it; C, made by B.  B's deadline for A
 * does not matter: A's for B does, which preempts B in a loop.  Then A goes
 * to C, whose creator B is.
 */
static int
loses_nothing(int flags, void (*c_does)(void), int (*b_gets)(struct visit *,
    int c))
{
	struct lwc_spec s = files(-1, -1, LWC_SHARE);
	struct visit v;
	int b, c, home;

	word = shared_page();
	b = create(&v, &s, 1, 0);
	if (b == LWC_SWITCHED) {
		home = v.src;
		c = create(&v, &s, 1, flags);
		if (c == LWC_SWITCHED) {
			c_does();
			_exit(9);
		}
		word[1] = (uint64_t)c;
		word[2] = 1;
		await(1);		/* preempted here */
		/* It was C that resumed us; we do not know it yet. */
		REQUIRE(lwSwitch(home, NULL, 0, &v.src, v.a,
		    (v.n = LWC_MAX_ARGS, &v.n)) == LWC_TRAPPED);
		go(home, &v, (uint64_t)b_gets(&v, c), 77);
		_exit(9);
	}
	REQUIRE(b >= 0);
	REQUIRE_ERRNO(ETIMEDOUT, go_until(b, after(lenient(200)), &v, 0));
	REQUIRE(word[2] == 1);
	/* C says word[0] = 1 and then does what it does. */
	REQUIRE(go((int)word[1], &v, 0, 0) == LWC_SWITCHED);
	REQUIRE(v.src == b && v.a[1] == 77);
	return ((int)v.a[0]);
}

static void
faults_in_c(void)
{

	word[0] = 1;
	*(volatile int *)0x1238 = 1;
}

static int
fault_of_c(struct visit *v, int c __unused)
{

	return (v->src == -1 && v->n == LWC_END_WORDS &&
	    v->a[LWC_END_SIGNAL] == SIGSEGV &&
	    v->a[LWC_END_ADDRESS] == 0x1238);
}

CASE(hold_traps_end_is_kept,
    "A fault of a child is kept for a creator that was preempted.")
{

	REQUIRE(loses_nothing(LWC_TRAP_FAULT, faults_in_c, fault_of_c) == 1);
}

static void
exits_in_c(void)
{

	word[0] = 1;
	_exit(42);
}

static int
exit_of_c(struct visit *v, int c __unused)
{

	return (v->src == -1 && v->n == LWC_END_WORDS &&
	    v->a[LWC_END_SIGNAL] == 0 && v->a[LWC_END_CODE] == 42);
}

CASE(hold_traps_exit_is_kept,
    "An exit of a child is kept for a creator that was preempted.")
{

	REQUIRE(loses_nothing(LWC_TRAP_EXIT, exits_in_c, exit_of_c) == 1);
}

static void
calls_in_c(void)
{

	word[0] = 1;
	word[3] = (uint64_t)raw(SYS_getppid, 0, 0, 0, 0, 0, 0);
	(void)raw(SYS_getpgrp, 0, 0, 0, 0, 0, 0);
}

static int
call_of_c(struct visit *v, int c)
{

	if (v->src != c || v->n != LWC_CALL_WORDS || v->a[0] != SYS_getppid)
		return (2);
	/* It is answered like any other, and traps again. */
	if (go(c, v, 0, 4711) != LWC_TRAPPED || v->a[0] != SYS_getpgrp)
		return (3);
	return (word[3] == 4711 ? 1 : 4);
}

CASE(hold_traps_call_is_kept,
    "A trapped call is kept for a monitor that was preempted, and can be "
    "answered then.")
{

	REQUIRE(loses_nothing(LWC_TRAP_SYSCALL, calls_in_c, call_of_c) == 1);
}

/* B waits for an answer of A's, and C, whose creator it is, ends. */
static void
ends_meanwhile(int how)
{
	struct lwc_spec s = files(-1, -1, LWC_SHARE);
	struct visit v;
	int b, c;

	word = shared_page();
	b = create(&v, &s, 1, LWC_TRAP_SYSCALL | LWC_TRAP_FAULT |
	    LWC_TRAP_EXIT);
	if (b == LWC_SWITCHED) {
		c = create(&v, &s, 1, 0);
		if (c == LWC_SWITCHED) {
			if (how == 0)
				*(volatile int *)0x1238 = 1;
			else
				__asm volatile("ud2");
			for (;;)
				continue;
		}
		word[1] = (uint64_t)c;
		(void)raw(SYS_getppid, 0, 0, 0, 0, 0, 0);
		for (;;)
			continue;
	}
	REQUIRE(b >= 0);
	REQUIRE(go(b, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(v.src == b && v.a[0] == SYS_getppid);
	REQUIRE(go((int)word[1], &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(v.src == -1 && v.n == LWC_END_WORDS);
	REQUIRE(v.a[LWC_END_SIGNAL] == (how == 0 ? SIGSEGV : SIGILL));
}

CASE(hold_traps_end_of_a_waiters_child,
    "The end of a waiting context's child goes to the monitor of the one "
    "that waits.")
{

	ends_meanwhile(0);
	ends_meanwhile(1);
}

static u_int
number_of(const char *name)
{
	struct module_stat ms;

	ms.version = sizeof(ms);
	REQUIRE(modstat(modfind(name), &ms) == 0);
	return ((u_int)ms.data.intval);
}

/* A call made by the debugger, in the process that is stopped. */
static int
remote(pid_t pid, u_int number, uint64_t a0)
{
	struct ptrace_sc_remote sc;
	syscallarg_t args[6];

	memset(&sc, 0, sizeof(sc));
	memset(args, 0, sizeof(args));
	args[0] = (syscallarg_t)a0;
	sc.pscr_syscall = number;
	sc.pscr_nargs = 6;
	sc.pscr_args = args;
	REQUIRE(ptrace(PT_SC_REMOTE, pid, (caddr_t)&sc, sizeof(sc)) == 0);
	return (sc.pscr_ret.sr_error);
}

CASE(hold_traps_remote, "PT_SC_REMOTE of the module's calls is EBUSY.")
{
	static const char *const calls[] = { "sys/lwSwitch",
	    "sys/lwDiscardSwitch", "sys/lwCreate" };
	struct visit v;
	u_int i;
	int fd, pid, status, try;

	word = shared_page();
	for (i = 0; i < nitems(calls); i++) {
		pid = fork();
		if (pid == 0) {
			if (ptrace(PT_TRACE_ME, 0, NULL, 0) != 0)
				_exit(8);
			fd = create(&v, NULL, 0, 0);
			if (fd == LWC_SWITCHED) {
				word[0] = (uint64_t)v.src;
				(void)raise(SIGSTOP);
				go(v.src, &v, 5, 0);
				_exit(9);
			}
			gogo(fd, &v, 0, 0);
			_exit(v.a[0] == 5 ? 0 : 7);
		}
		REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
		REQUIRE(remote(pid, number_of(calls[i]), i == 2 ? 0 :
		    word[0]) == EBUSY);
		/* It goes on where it was. */
		for (try = 0; ptrace(PT_CONTINUE, pid, (caddr_t)1, 0) != 0;
		    try++) {
			REQUIRE(try < 1000);
			(void)waitpid(pid, &status, WNOHANG);
			usleep(1000);
		}
		REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	}
}
