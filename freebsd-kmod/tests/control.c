/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* lwControl(): ours, beyond the contract.  Introductions: introduce.c. */

#include <sys/param.h>
#include <sys/linker.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <signal.h>
#include <time.h>

#include "lwc_test.h"

#define	MS	1000000ULL

CASE(control_bad_arguments, "lwControl(2) refuses bad arguments.")
{
	struct visit v;
	int fd, p[2];

	REQUIRE_ERRNO(EINVAL, lwControl(LWC_SELF, 0, 0));
	REQUIRE_ERRNO(EINVAL, lwControl(LWC_SELF, 77, 0));
	REQUIRE_ERRNO(EINVAL, lwControl(LWC_SELF, LWC_CONTROL_FROM + 1, 0));
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_ALLOW, 0));
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
	    0xffffffff80000000ULL));
	REQUIRE_ERRNO(EBADF, lwControl(LWC_SELF, LWC_CONTROL_DESTROY, 0));
	REQUIRE_ERRNO(EBADF, lwControl(77, LWC_CONTROL_DESTROY, 0));
	REQUIRE(pipe(p) == 0);
	REQUIRE_ERRNO(EBADF, lwControl(p[0], LWC_CONTROL_DESTROY, 0));
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		_exit(9);
	REQUIRE_ERRNO(EINVAL, lwControl(fd, LWC_CONTROL_DESTROY, 1));
	REQUIRE_ERRNO(EINVAL, lwControl(fd, LWC_CONTROL_ALLOW, 1));
	REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
}

/* lwSwitch() with what comes in the second result register. */
static int
switch_registers(int number, int to, const uint64_t *words, int n,
    uint64_t *room, int *num, uint64_t *second)
{
	register uint64_t r10 __asm("r10") = 0;
	register uint64_t r8 __asm("r8") = (uintptr_t)room;
	register uint64_t r9 __asm("r9") = (uintptr_t)num;
	uint64_t value, dx;
	bool failed;

	value = number;
	dx = n;
	__asm volatile("syscall" : "+a" (value), "=@ccc" (failed), "+d" (dx),
	    "+r" (r10), "+r" (r8), "+r" (r9)
	    : "D" ((long)to), "S" (words) : "rcx", "r11", "memory");
	*second = dx;
	if (!failed)
		return ((int)value);
	errno = (int)value;
	return (-1);
}

CASE(control_destroy_whoever_names_it,
    "LWC_CONTROL_DESTROY frees a context and its memory at once, whoever "
    "names it.")
{
	struct lwc_info li;
	struct visit v;
	long before;
	int fd, other;

	before = counter("contexts");
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 0, 0);
	other = create(&v, NULL, 0, 0);		/* holds a name of the first */
	if (other == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, lwSwitch(fd, NULL, 0, NULL, NULL, NULL),
			    errno);
	gogo(fd, &v, 0, 0);
	REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
	REQUIRE(counter("contexts") == before + 1);
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_state == LWC_STATE_DEAD);
	REQUIRE_ERRNO(ESRCH, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
	REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
	gogo(other, &v, 0, 0);
	REQUIRE((int)v.a[0] == -1 && v.a[1] == ESRCH);
}

CASE(control_destroy_is_the_creators,
    "Nobody but its creator destroys a context.")
{
	struct visit v;
	int fd, self;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		_exit(9);
	self = lwGetlwc();
	REQUIRE(self >= 0);
	REQUIRE_ERRNO(EPERM, lwControl(self, LWC_CONTROL_DESTROY, 0));
	if (create(&v, NULL, 0, 0) == LWC_SWITCHED) {
		/* fd is here too, and v.src is the root. */
		REQUIRE_ERRNO(EPERM, lwControl(fd, LWC_CONTROL_DESTROY, 0));
		REQUIRE_ERRNO(EPERM, lwControl(v.src, LWC_CONTROL_DESTROY, 0));
		REQUIRE_ERRNO(EPERM, lwControl(self, LWC_CONTROL_DESTROY, 0));
		go(v.src, &v, 1, 0);
	}
	gogo(fd + 2, &v, 0, 0);
	REQUIRE(v.a[0] == 1);
}

static struct timespec
naps(uint64_t ms)
{
	struct timespec ts;

	ms = lenient(ms);
	ts.tv_sec = ms / 1000;
	ts.tv_nsec = ms % 1000 * MS;
	return (ts);
}

/* Switch to a context that does not come back, with so long a deadline. */
static void
times_out(int fd)
{
	struct visit v;

	REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, after(lenient(30)), &v, 0));
}

CASE(control_deadline_ends_a_loop,
    "A deadline takes control from a loop, which can be resumed.")
{
	volatile uint64_t *count;
	struct lwc_info li;
	struct visit v;
	sigset_t all;
	uint64_t seen;
	double x, y;
	int fd;

	count = shared_page();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		sigfillset(&all);
		(void)sigprocmask(SIG_SETMASK, &all, NULL);
		for (x = y = 0;;) {
			x += 1;
			y += 2;
			if (x * 2 != y)
				_exit(9);	/* registers were lost */
			count[0]++;
		}
	}
	times_out(fd);
	seen = count[0];
	REQUIRE(seen != 0);
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_state == LWC_STATE_PREEMPTED);
	times_out(fd);
	REQUIRE(count[0] > seen);
	times_out(fd);
	REQUIRE(close(fd) == 0);
}

CASE(control_deadline_ends_a_sleep,
    "A deadline takes control from each sleep that signals interrupt.")
{
	struct timespec ts = { 1000, 0 };
	struct visit v;
	char c;
	int fd, p[2], way;

	REQUIRE(pipe(p) == 0);
	for (way = 0; way < 3; way++) {
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED) {
			switch (way) {
			case 0:
				(void)nanosleep(&ts, NULL);
				break;
			case 1:
				(void)read(p[0], &c, 1);
				break;
			case 2:
				for (;;)
					(void)wait(NULL) ;
			}
			_exit(9);
		}
		times_out(fd);
		REQUIRE(close(fd) == 0);
	}
}

CASE(control_deadline_is_for_one_switch,
    "A deadline holds for one switch, and not after the target came back in "
    "time.")
{
	struct timespec ts = naps(60);
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;) {
			if (v.n > 0 && v.a[0] == 1)
				(void)nanosleep(&ts, NULL);
			go(v.src, &v, 0, 0);
		}
	REQUIRE(go_until(fd, after(lenient(30)), &v, 0) == LWC_SWITCHED);
	gogo(fd, &v, 1, 0);		/* without any now */
	/* Nothing fires later, in the one that asked. */
	REQUIRE(go_until(fd, after(lenient(30)), &v, 0) == LWC_SWITCHED);
	REQUIRE(nanosleep(&ts, NULL) == 0);
}

CASE(control_deadline_changes,
    "A deadline that differs from switch to switch is missed by none.")
{
	struct timespec ts = naps(60);
	struct visit v;
	uint64_t begun, due;
	int fd, i;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;) {
			if (v.n > 0 && v.a[0] == 1)
				(void)nanosleep(&ts, NULL);
			if (v.n > 0 && v.a[0] == 2)
				for (;;)
					continue;
			go(v.src, &v, 0, 0);
		}
	/* A timer set for an early end is there when a late one is waited for. */
	REQUIRE(go_until(fd, after(lenient(20)), &v, 0) == LWC_SWITCHED);
	REQUIRE(go_until(fd, after(lenient(10000)), &v, 1) == LWC_SWITCHED);
	/* And one set for a late end does not do for an early one. */
	REQUIRE(go_until(fd, UINT64_MAX, &v, 0) == LWC_SWITCHED);
	REQUIRE(go_until(fd, after(lenient(10000)), &v, 0) == LWC_SWITCHED);
	/* Ends all about the time at which the timer goes off. */
	due = after(lenient(30));
	for (i = 0; after(0) < due + 5 * MS; i++)
		REQUIRE(go_until(fd, after(lenient(20)), &v, 0) == LWC_SWITCHED);
	REQUIRE(i > 0);
	begun = after(0);
	due = after(lenient(30));
	REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, due, &v, 2));
	REQUIRE(after(0) >= due && after(0) - begun < lenient(5000) * MS);
	/* It is over already: whoever was switched to does not get far. */
	REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, 0, &v, 0));
	REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, after(0) - 1, &v, 0));
}

CASE(control_registers, "Registers tell who came and with how many words.")
{
	uint64_t out[3] = { 7, 8, 9 }, in[LWC_MAX_ARGS];
	struct visit v;
	uint64_t second;
	int fd, i, number;

	number = lwc_switch_number();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, v.n, v.n > 2 ? v.a[2] : 0);
	for (i = 0; i < 3; i++) {
		memset(in, 0xff, sizeof(in));
		REQUIRE(switch_registers(number, fd, out, i | LWC_ROOM, in,
		    NULL, &second) == LWC_SWITCHED);
		REQUIRE((int)second == fd && second >> 32 == 2);
		REQUIRE(in[0] == (uint64_t)i && in[2] == UINT64_MAX);
	}
	/* Without a place for words there are none. */
	REQUIRE(switch_registers(number, fd, out, 3 | LWC_ROOM, NULL, NULL,
	    &second) == LWC_SWITCHED && (int)second == fd && second >> 32 == 0);
	/* Nor are registers and places mixed. */
	REQUIRE_ERRNO(EINVAL, switch_registers(number, fd, out, LWC_ROOM, in,
	    &i, &second));
	REQUIRE_ERRNO(EINVAL, lwSwitch(fd, out, 17 | LWC_ROOM, NULL, in, NULL));
	REQUIRE_ERRNO(EINVAL, lwSwitch(fd, out, 17 | LWC_UNTIL, NULL, NULL,
	    NULL));
	REQUIRE_ERRNO(EFAULT, lwSwitch(fd, NULL, LWC_UNTIL, NULL, NULL, NULL));
	REQUIRE_ERRNO(EINVAL, lwDiscardSwitch(fd, out, 1 | LWC_UNTIL));
	/* Addresses that are none are found when it comes back. */
	REQUIRE_ERRNO(EFAULT, lwSwitch(fd, out, 1 | LWC_ROOM, NULL,
	    (uint64_t *)8, NULL));
	gogo(fd, &v, 0, 0);
}

CASE(control_registers_of_traps,
    "Registers tell of traps, and of ends on the way to user mode.")
{
	static const int flags[] = { LWC_TRAP_SYSCALL, LWC_TRAP_FAULT,
	    LWC_TRAP_EXIT };
	static const uint64_t words[] = { LWC_CALL_WORDS, LWC_END_WORDS,
	    LWC_END_WORDS };
	uint64_t in[LWC_MAX_ARGS], second;
	struct visit v;
	int fd, i, number;

	number = lwc_switch_number();
	for (i = 0; i < 3; i++) {
		fd = create(&v, NULL, 0, flags[i]);
		if (fd == LWC_SWITCHED) {
			if (i == 0)
				(void)getppid();
			if (i == 1)
				*(volatile int *)1 = 1;
			_exit(9);
		}
		REQUIRE(switch_registers(number, fd, NULL, LWC_ROOM, in, NULL,
		    &second) == LWC_TRAPPED);
		REQUIRE(second >> 32 == words[i]);
		REQUIRE((int)second == (i == 0 ? fd : -1));
	}
}

CASE(control_deadline_nests,
    "The outer context's earlier deadline wins over a child of the inner one.")
{
	struct visit v;
	int inner, outer;

	outer = create(&v, NULL, 0, 0);
	if (outer == LWC_SWITCHED) {
		inner = create(&v, NULL, 0, 0);
		if (inner == LWC_SWITCHED)
			for (;;)
				continue;
		times_out(inner);
		(void)go_until(inner, after(10000), &v, 0);
		_exit(9);
	}
	REQUIRE_ERRNO(ETIMEDOUT, go_until(outer, after(200), &v, 0));
	/* Exit with the other's callout still to come. */
}

CASE(control_deadline_and_the_end,
    "A context that ends or faults with time left is told of as ended.")
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED) {
		(void)go_until(v.src, after(50), &v, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
	REQUIRE(usleep(80000) == 0);
	/* And one that faults while its creator waits with a deadline. */
	fd = create(&v, NULL, 0, LWC_TRAP_FAULT);
	if (fd == LWC_SWITCHED) {
		*(volatile int *)1 = 1;
		_exit(9);
	}
	REQUIRE(go_until(fd, after(lenient(10000)), &v, 0) == LWC_TRAPPED &&
	    v.a[0] == SIGSEGV);
}

static void
allow(struct lwc_calls *c, int number)
{

	c->calls[number / 64] |= 1ULL << (number % 64);
}

/* What most bodies need; the module's own calls are looked up by the caller. */
static struct lwc_calls
usual(void)
{
	struct lwc_calls c;

	memset(&c, 0, sizeof(c));
	allow(&c, SYS_exit);
	allow(&c, SYS_write);
	allow(&c, SYS_sigreturn);
	allow(&c, SYS_getpid);
	allow(&c, lwc_switch_number());
	return (c);
}

CASE(control_allow_ends_what_does_more,
    "A call outside the allowed set ends the context with SIGSYS, and no "
    "other context.")
{
	struct lwc_calls c;
	struct visit v;
	int fd;

	c = usual();
	fd = create(&v, NULL, 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED) {
		REQUIRE(lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
		    (uintptr_t)&c) == 0);
		REQUIRE(getpid() > 1);
		go(v.src, &v, 1, 0);
		(void)fork();
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 1);
	REQUIRE(getppid() > 0);			/* not in the set, but not ours */
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(v.a[LWC_END_SIGNAL] == SIGSYS);
	REQUIRE(v.a[LWC_END_ADDRESS] == SYS_fork);
}

CASE(control_allow_is_inherited_and_narrows,
    "Children inherit the allowed set and can only narrow it.")
{
	struct lwc_calls all, c, less;
	struct visit v;
	int fd, kid;

	less = c = usual();
	allow(&c, SYS_getppid);
	allow(&c, SYS_getuid);
	memset(&all, 0xff, sizeof(all));
	fd = create(&v, NULL, 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED) {
		REQUIRE(lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
		    (uintptr_t)&all) == 0);
		kid = create(&v, NULL, 0, 0);
		if (kid == LWC_SWITCHED) {
			REQUIRE(lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
			    (uintptr_t)&c) == 0);
			(void)getppid();
			go(v.src, &v, 5, 0);
			(void)getgid();
			_exit(9);
		}
		gogo(kid, &v, 0, 0);
		REQUIRE(v.a[0] == 5);
		REQUIRE(getgid() == getegid());	/* the kid's loss alone */
		REQUIRE(go(kid, &v, 0, 0) == LWC_TRAPPED);
		REQUIRE(v.a[LWC_END_SIGNAL] == SIGSYS);
		REQUIRE(v.a[LWC_END_ADDRESS] == SYS_getgid);
		/* What is given up stays so, and goes to the next as well. */
		allow(&less, lwc_switch_number());
		kid = lwCreate(NULL, 0, &v.src, NULL, NULL, 0);
		if (kid == LWC_SWITCHED) {
			REQUIRE(lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
			    (uintptr_t)&less) == 0);
			(void)lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
			    (uintptr_t)&all);
			_exit(9);
		}
		REQUIRE(go(kid, &v, 0, 0) == LWC_TRAPPED);
		REQUIRE(v.a[LWC_END_SIGNAL] == SIGSYS);
		_exit(7);
	}
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(v.a[LWC_END_SIGNAL] == 0 && v.a[LWC_END_CODE] == 7);
}

static void
unguarded(void *arg __unused)
{
	struct lwc_calls c;

	c = usual();
	REQUIRE(lwControl(LWC_SELF, LWC_CONTROL_ALLOW, (uintptr_t)&c) == 0);
	(void)getppid();
	_exit(9);
}

CASE(control_allow_without_a_guard,
    "A forbidden call in an unguarded context kills the process.")
{
	int status;

	status = status_of(unguarded, NULL);
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

CASE(control_allow_keeps_the_module,
    "A process with an allowed set keeps the module loaded from then on.")
{
	struct lwc_calls c;
	int id, in[2], out[2], status;
	pid_t pid;
	char x;

	NEED_ROOT();
	REQUIRE(pipe(in) == 0 && pipe(out) == 0);
	pid = fork();
	if (pid == 0) {
		memset(&c, 0xff, sizeof(c));
		REQUIRE(lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
		    (uintptr_t)&c) == 0);
		REQUIRE(write(out[1], "", 1) == 1);
		REQUIRE(read(in[0], &x, 1) == 1);
		_exit(0);
	}
	REQUIRE(read(out[0], &x, 1) == 1);
	id = kldfind("lwc.ko");
	REQUIRE(id > 0);
	REQUIRE_ERRNO(EBUSY, kldunload(id));
	REQUIRE_ERRNO(EBUSY, kldunloadf(id, LINKER_UNLOAD_FORCE));
	REQUIRE(write(in[1], "", 1) == 1);
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}

CASE(control_allow_holds_for_lwsyscall,
    "The allowed set holds for calls by lwSyscall().")
{
	uint64_t args[LWC_CALL_NARGS] = { 0 };
	struct lwc_calls c;
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		_exit(9);
	REQUIRE(lwSyscall(fd, LWC_FILES, SYS_getppid, args) > 0);
	memset(&c, 0xff, sizeof(c));
	c.calls[SYS_getppid / 64] &= ~(1ULL << (SYS_getppid % 64));
	REQUIRE(lwControl(LWC_SELF, LWC_CONTROL_ALLOW, (uintptr_t)&c) == 0);
	REQUIRE_ERRNO(EPERM, lwSyscall(fd, LWC_FILES, SYS_getppid, args));
	REQUIRE(lwSyscall(fd, LWC_FILES, SYS_getpid, args) > 0);
}

CASE(c1_2_resource_limits_are_a_contexts,
    "A context that lowers its resource limits lowers no other's.")
{
	struct rlimit before, rl;
	struct visit v;
	int fd;

	REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		rl.rlim_cur = rl.rlim_max = 3;
		REQUIRE(setrlimit(RLIMIT_NOFILE, &rl) == 0);
		rl.rlim_cur = rl.rlim_max = 1 << 20;
		REQUIRE(setrlimit(RLIMIT_AS, &rl) == 0);
		for (;;) {
			REQUIRE_ERRNO(EMFILE, dup(2));
			REQUIRE(mmap(NULL, PAGE, PROT_READ, MAP_ANON, -1, 0) ==
			    MAP_FAILED && errno == ENOMEM);
			go(v.src, &v, 0, 0);
		}
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	REQUIRE(rl.rlim_cur == before.rlim_cur &&
	    rl.rlim_max == before.rlim_max);
	REQUIRE(mmap(NULL, PAGE, PROT_READ, MAP_ANON, -1, 0) != MAP_FAILED);
	gogo(fd, &v, 0, 0);
	REQUIRE(dup(2) >= 0);
	REQUIRE(close(fd) == 0);
}

CASE(c6_2_trap_exit_survives_sigkill_to_oneself,
    "SIGKILL and SIGSTOP to oneself end a guarded context and not the process.")
{
	static const int sigs[] = { SIGKILL, SIGSTOP };
	struct visit v;
	u_int i;
	int fd, way;

	for (way = 0; way < 4; way++)
		for (i = 0; i < nitems(sigs); i++) {
			fd = create(&v, NULL, 0, LWC_TRAP_EXIT);
			if (fd == LWC_SWITCHED) {
				if (way == 0)
					(void)kill(getpid(), sigs[i]);
				else if (way == 1)
					(void)raise(sigs[i]);
				else if (way == 2)
					(void)sigqueue(getpid(), sigs[i],
					    (union sigval){ 0 });
				else
					(void)kill(0, sigs[i]);
				_exit(9);
			}
			REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
			REQUIRE(v.a[LWC_END_SIGNAL] == SIGKILL);
		}
}
