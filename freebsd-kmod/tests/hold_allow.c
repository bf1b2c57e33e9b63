/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * LWC_CONTROL_ALLOW and LWC_CONTROL_BELOW: what they are, and what no set of calls
 * is a way round.  (hold_from.c has the twin of the second.)
 */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/procdesc.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <ucontext.h>

#include "lwc_test.h"

void
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

struct lwc_calls
set_of(const int *numbers, u_int n)
{
	struct lwc_calls c;
	u_int i;

	memset(&c, 0, sizeof(c));
	for (i = 0; i < n; i++)
		c.calls[numbers[i] / 64] |= 1ULL << (numbers[i] % 64);
	return (c);
}

/* LWC_CONTROL_BELOW. */
static int64_t
below(const int *numbers, u_int n, uint64_t limit)
{
	struct lwc_below b;

	b.calls = set_of(numbers, n);
	b.limit = limit;
	return (lwControl(LWC_SELF, LWC_CONTROL_BELOW, (uintptr_t)&b));
}

int64_t
below_one(int number, uint64_t limit)
{

	return (below(&number, 1, limit));
}

void
handle_denied(void)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = on_sys;
	sa.sa_flags = SA_SIGINFO;
	REQUIRE(sigaction(SIGSYS, &sa, NULL) == 0);
}

bool
is_made(int number, uint64_t first)
{
	static const int ways[] = { 0, SYS_syscall, SYS___syscall };
	int made[nitems(ways)];
	u_int i;

	for (i = 0; i < nitems(ways); i++) {
		denied = 0;
		errno = 0;
		if (ways[i] == 0)
			(void)raw(number, first, 0, 0, 0, 0, 0);
		else
			(void)raw(ways[i], number, first, 0, 0, 0, 0);
		made[i] = denied == 0;
		REQUIRE(denied == 0 ? errno != ENOSYS :
		    denied == 1 && errno == ENOSYS &&
		    seen_rax == ENOSYS && (seen_flags & 1) != 0);
		REQUIRE(made[i] == made[0]);
	}
	return (made[0]);
}

/* Numbers on both sides of a limit, as the kernel reads them. */
static void
is_limited(int number, uint64_t limit)
{
	static const uint64_t never[] = { INT_MAX, 0x80000000, UINT32_MAX,
	    (uint64_t)-1, (uint64_t)AT_FDCWD, HIGH | UINT32_MAX };
	u_int i;

	if (limit > 0) {
		REQUIRE(is_made(number, limit - 1));
		REQUIRE(is_made(number, HIGH | (limit - 1)));
		REQUIRE(is_made(number, 0));
		REQUIRE(is_made(number, HIGH));
	}
	REQUIRE(!is_made(number, limit));
	REQUIRE(!is_made(number, HIGH | limit));
	REQUIRE(!is_made(number, limit + 1));
	for (i = 0; i < nitems(never); i++)
		REQUIRE(!is_made(number, never[i]));
}

CASE(hold_below_is_of_the_first_argument,
    "Calls below a limit are made with a first argument below it and no other.")
{
	/* One with a number below its limit, one with one above. */
	static const int calls[] = { SYS_read, SYS_fdatasync };
	static const int flags[] = { 0, LWC_TRAP_FAULT,
	    LWC_TRAP_FAULT | LWC_TRAP_EXIT };
	static const uint64_t limits[] = { 0, 1, 7, 500, INT_MAX - 1 };
	struct visit v;
	u_int f, i, k;
	int fd;

	for (f = 0; f < nitems(flags); f++)
		for (i = 0; i < nitems(limits); i++) {
			fd = create(&v, NULL, 0, flags[f]);
			if (fd == LWC_SWITCHED) {
				handle_denied();
				REQUIRE(below(calls, nitems(calls),
				    limits[i]) == 0);
				for (k = 0; k < nitems(calls); k++)
					is_limited(calls[k], limits[i]);
				/* Of others the first argument is nothing. */
				REQUIRE(is_made(SYS_getuid, limits[i]));
				REQUIRE(is_made(SYS_fstatfs, -1));
				go(v.src, &v, 1, 0);
				_exit(9);
			}
			gogo(fd, &v, 0, 0);
			REQUIRE(v.a[0] == 1 && close(fd) == 0);
		}
}

CASE(hold_below_only_narrows,
    "What is given later has no call made that was not before.")
{
	static const int both[] = { SYS_read, SYS_fdatasync };
	struct lwc_calls c;

	handle_denied();
	REQUIRE(below_one(SYS_read, 10) == 0);
	is_limited(SYS_read, 10);
	/* A set of all calls says nothing. */
	allow_all_but(-1);
	is_limited(SYS_read, 10);
	REQUIRE(is_made(SYS_fdatasync, 400));
	/* The least limit, of all of them. */
	REQUIRE(below(both, 2, 20) == 0);
	is_limited(SYS_read, 10);
	is_limited(SYS_fdatasync, 10);
	REQUIRE(below_one(SYS_fstatfs, 5) == 0);
	is_limited(SYS_read, 5);
	is_limited(SYS_fdatasync, 5);
	is_limited(SYS_fstatfs, 5);
	REQUIRE(below_one(SYS_fstatfs, INT_MAX) == 0);
	REQUIRE(below(NULL, 0, INT_MAX) == 0);
	is_limited(SYS_fstatfs, 5);
	/* What is not allowed is not, whatever its argument. */
	allow_all_but(SYS_read);
	is_limited(SYS_read, 0);
	is_limited(SYS_fdatasync, 5);
	REQUIRE(below_one(SYS_read, 5) == 0);
	is_limited(SYS_read, 0);
	/* A set that has it alone, neither. */
	memset(&c, 0, sizeof(c));
	c.calls[SYS_read / 64] |= 1ULL << (SYS_read % 64);
	c.calls[SYS_write / 64] |= 1ULL << (SYS_write % 64);
	c.calls[SYS_sigreturn / 64] |= 1ULL << (SYS_sigreturn % 64);
	c.calls[SYS_sigprocmask / 64] |= 1ULL << (SYS_sigprocmask % 64);
	c.calls[SYS_fdatasync / 64] |= 1ULL << (SYS_fdatasync % 64);
	c.calls[SYS_exit / 64] |= 1ULL << (SYS_exit % 64);
	REQUIRE(lwControl(LWC_SELF, LWC_CONTROL_ALLOW, (uintptr_t)&c) == 0);
	is_limited(SYS_read, 0);
	is_limited(SYS_fdatasync, 5);
	is_limited(SYS_fstatfs, 0);
	REQUIRE(!is_made(SYS_getuid, 0));
}

CASE(hold_below_alone_is_a_set,
    "Calls below a limit are an allowed set of all calls, and no way out of "
    "one.")
{
	u_int i;

	handle_denied();
	REQUIRE(below(NULL, 0, INT_MAX) == 0);
	for (i = 0; i < nitems(multiply); i++)
		REQUIRE(!is_made(multiply[i], 0));
	REQUIRE(is_made(SYS_getuid, 0));
	REQUIRE(is_made(SYS_read, (uint64_t)-1));
}

CASE(hold_below_is_refused_whole,
    "What cannot be read, or is no limit, changes nothing.")
{
	struct lwc_below *last;
	struct visit v;
	char *two;
	int fd;

	handle_denied();
	REQUIRE_ERRNO(EINVAL, below_one(SYS_fdatasync, (uint64_t)INT_MAX + 1));
	REQUIRE_ERRNO(EINVAL, below_one(SYS_fdatasync, UINT32_MAX));
	REQUIRE_ERRNO(EINVAL, below_one(SYS_fdatasync, UINT64_MAX));
	REQUIRE_ERRNO(EINVAL, below_one(SYS_fdatasync, 1ULL << 32));
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_BELOW, 0));
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_BELOW,
	    UINT64_MAX - 8));
	/* All of it but the limit. */
	two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_ANON, -1, 0);
	REQUIRE(two != MAP_FAILED && munmap(two + PAGE, PAGE) == 0);
	last = (struct lwc_below *)(two + PAGE - sizeof(last->calls));
	memset(last, 0xff, sizeof(last->calls));
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_BELOW,
	    (uintptr_t)last));
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		_exit(9);
	REQUIRE_ERRNO(EINVAL, lwControl(fd, LWC_CONTROL_BELOW,
	    (uintptr_t)two));
	REQUIRE(is_made(SYS_fdatasync, (uint64_t)-1));
	/* There is no set either: this would be SIGSYS. */
	REQUIRE(raw(SYS_rfork, 0, 0, 0, 0, 0, 0) == -1 && errno == EBUSY &&
	    denied == 0);
}

CASE(hold_below_is_inherited,
    "Contexts that one with a limit makes have it, and one of their own.")
{
	struct visit v;
	int fd, home, kid;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		home = v.src;
		handle_denied();
		REQUIRE(below_one(SYS_fdatasync, 400) == 0);
		kid = create(&v, NULL, 0, 0);
		if (kid == LWC_SWITCHED) {
			handle_denied();
			is_limited(SYS_fdatasync, 400);
			REQUIRE(below_one(SYS_fdatasync, 30) == 0);
			is_limited(SYS_fdatasync, 30);
			go(v.src, &v, 0, 0);
			_exit(9);
		}
		gogo(kid, &v, 0, 0);
		is_limited(SYS_fdatasync, 400);
		go(home, &v, 1, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	handle_denied();
	REQUIRE(is_made(SYS_fdatasync, 1 << 20));
}

static uint64_t
limits(uint64_t limit)
{

	if (limit != 0)
		REQUIRE(below_one(SYS_fdatasync, limit) == 0);
	handle_denied();
	return (is_made(SYS_fdatasync, 100) | is_made(SYS_fdatasync, 300) << 1);
}

CASE(hold_below_is_rolled_back,
    "A rollback brings back what was limited, and no more.")
{
	int fd;

	fd = servant(limits, 0);
	REQUIRE(ask(fd, 0) == 3);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(ask(fd, 200) == 1);
	REQUIRE(rollback(fd) >= 0);
	REQUIRE(ask(fd, 0) == 3);
	REQUIRE(ask(fd, 200) == 1 && snapshot(fd) == 0);
	REQUIRE(ask(fd, 50) == 0);
	REQUIRE(rollback(fd) >= 0);
	REQUIRE(ask(fd, 0) == 1);
	REQUIRE(close(fd) == 0);
}

CASE(hold_below_holds_for_the_modules_own,
    "The limit holds for lwSwitch() and for calls by lwSyscall().")
{
	uint64_t args[LWC_CALL_NARGS] = { 0 };
	struct visit v;
	int fd, high, n;

	handle_denied();
	n = lwc_switch_number();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 1, 0);
	REQUIRE(fd >= 0);
	high = fcntl(fd, F_DUPFD, 40);
	REQUIRE(high >= 40);
	REQUIRE(below_one(SYS_fdatasync, high) == 0);
	gogo(high, &v, 0, 0);
	args[0] = high - 1;
	REQUIRE_ERRNO(EBADF, lwSyscall(fd, LWC_CREDENTIALS, SYS_fdatasync,
	    args));
	args[0] = high;
	REQUIRE_ERRNO(EPERM, lwSyscall(fd, LWC_CREDENTIALS, SYS_fdatasync,
	    args));
	args[0] = (uint64_t)-1;
	REQUIRE_ERRNO(EPERM, lwSyscall(fd, LWC_CREDENTIALS, SYS_fdatasync,
	    args));
	REQUIRE(below_one(n, high) == 0);
	gogo(fd, &v, 0, 0);
	denied = 0;
	REQUIRE_ERRNO(ENOSYS, lwSwitch(high, NULL, 0, NULL, NULL, NULL));
	REQUIRE(denied == 1);
	REQUIRE_ERRNO(ENOSYS, raw(SYS_syscall, n, high, 0, 0, 0, 0));
	REQUIRE(denied == 2);
	gogo(fd, &v, 0, 0);
}
