/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* LWC_CONTROL_ALLOW: what it is, and what no set of calls is a way round. */

#include <sys/param.h>
#include <sys/procdesc.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <signal.h>
#include <ucontext.h>

#include "lwc_test.h"

static void
allow_all_but(int number)
{
	struct lwc_calls c;

	memset(&c, 0xff, sizeof(c));
	if (number >= 0)
		c.calls[number / 64] &= ~(1ULL << (number % 64));
	REQUIRE(lwControl(LWC_SELF, LWC_CONTROL_ALLOW, (uintptr_t)&c) == 0);
}

static const int multiply[] = { SYS_fork, SYS_vfork, SYS_rfork, SYS_pdfork,
    SYS_pdrfork, SYS_execve, SYS_fexecve, SYS___mac_execve };

CASE(hold_allow_is_not_left_by_fork,
    "Calls that make a process or execute a program are SIGSYS, whatever the "
    "allowed set says.")
{
	struct visit v;
	u_int i;
	int fd, way;

	for (i = 0; i < nitems(multiply); i++)
		for (way = 0; way < 3; way++) {
			fd = create(&v, NULL, 0,
			    LWC_TRAP_FAULT | LWC_TRAP_EXIT);
			if (fd == LWC_SWITCHED) {
				allow_all_but(-1);
				if (way == 0)
					(void)raw(multiply[i], 0, 0, 0, 0, 0,
					    0);
				else if (way == 1)
					(void)raw(SYS_syscall, multiply[i], 0,
					    0, 0, 0, 0);
				else
					(void)raw(SYS___syscall, multiply[i],
					    0, 0, 0, 0, 0);
				_exit(9);
			}
			REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
			REQUIRE(v.a[LWC_END_SIGNAL] == SIGSYS);
			REQUIRE(v.a[LWC_END_ADDRESS] == (uint64_t)multiply[i]);
			REQUIRE(close(fd) == 0);
		}
}

static void
execs(void *arg __unused)
{
	char *argv[] = { __DECONST(char *, "sh"), __DECONST(char *, "-c"),
	    __DECONST(char *, "exit 3"), NULL };

	allow_all_but(-1);
	(void)execve("/bin/sh", argv, NULL);
	_exit(9);
}

CASE(hold_allow_is_not_left_without_a_guard,
    "An exec in an unguarded context with an allowed set ends the process.")
{
	int status;

	status = outcome(execs, NULL, 10);
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static volatile sig_atomic_t denied;
static volatile uint64_t seen_rax, seen_flags;

static void
on_sys(int sig __unused, siginfo_t *si __unused, void *context)
{
	ucontext_t *uc = context;

	denied++;
	seen_rax = (uint64_t)uc->uc_mcontext.mc_rax;
	seen_flags = (uint64_t)uc->uc_mcontext.mc_rflags;
}

/* A handler that returns: the call has failed. */
static void
denied_is_seen(int64_t (*call)(uint64_t))
{

	denied = 0;
	REQUIRE_ERRNO(ENOSYS, call(SYS_getppid));
	REQUIRE(denied == 1);
	REQUIRE(seen_rax == ENOSYS && (seen_flags & 1) != 0);
}

static int64_t
directly(uint64_t number)
{

	return (raw(number, 0, 0, 0, 0, 0, 0));
}

static int64_t
by_syscall(uint64_t number)
{

	return (raw(SYS_syscall, number, 0, 0, 0, 0, 0));
}

CASE(hold_allow_denied_call_fails,
    "The handler of a denied call's SIGSYS sees ENOSYS in its frame.")
{
	static const int flags[] = { 0, LWC_TRAP_FAULT,
	    LWC_TRAP_FAULT | LWC_TRAP_EXIT };
	struct sigaction sa;
	struct visit v;
	u_int i;
	int fd;

	for (i = 0; i < nitems(flags); i++) {
		fd = create(&v, NULL, 0, flags[i]);
		if (fd == LWC_SWITCHED) {
			memset(&sa, 0, sizeof(sa));
			sa.sa_sigaction = on_sys;
			sa.sa_flags = SA_SIGINFO;
			REQUIRE(sigaction(SIGSYS, &sa, NULL) == 0);
			allow_all_but(SYS_getppid);
			denied_is_seen(directly);
			denied_is_seen(by_syscall);
			go(v.src, &v, 1, 0);
			_exit(9);
		}
		gogo(fd, &v, 0, 0);
		REQUIRE(v.a[0] == 1 && close(fd) == 0);
	}
}
