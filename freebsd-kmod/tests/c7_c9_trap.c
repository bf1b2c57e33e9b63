/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Clauses 7 and 9: trapped system calls, lwSyscall(), limits. */

#include <sys/param.h>
#include <sys/capsicum.h>
#include <sys/linker.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysctl.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <signal.h>

#include "lwc_test.h"

/* Answer every call of a trapped child by making it, until it comes itself. */
static int
serve(int fd, struct visit *v, int *calls)
{
	uint64_t answer[2];
	int r;

	r = go(fd, v, 0, 0);
	while (r == LWC_TRAPPED && v->src >= 0) {
		(*calls)++;
		errno = 0;
		answer[1] = syscall((int)v->a[0], v->a[1], v->a[2], v->a[3],
		    v->a[4], v->a[5], v->a[6]);
		answer[0] = errno;
		v->n = LWC_MAX_ARGS;
		r = lwSwitch(v->src, answer, 2, &v->src, v->a, &v->n);
	}
	return (r);
}

CASE(c7_1_a_call_is_not_executed,
    "A trapped call is not made: its number and arguments reach the "
    "monitor, and the answer comes back.")
{
	struct visit v;
	uint64_t answer[2];
	int fd;

	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		int home = v.src;

		if (getppid() != 4711)
			lwDiscardSwitch(home, NULL, 0);
		errno = 0;
		if (open("/nowhere", 3, 5) != -1 || errno != ERANGE)
			lwDiscardSwitch(home, NULL, 0);
		go(home, &v, 99, 0);
		for (;;)
			;
	}
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(v.src == fd && v.n == LWC_CALL_WORDS);
	REQUIRE(v.a[LWC_CALL_NUMBER] == SYS_getppid);
	answer[LWC_REPLY_ERRNO] = 0;
	answer[LWC_REPLY_VALUE] = 4711;
	v.n = LWC_MAX_ARGS;
	REQUIRE(lwSwitch(fd, answer, 2, &v.src, v.a, &v.n) == LWC_TRAPPED);
	REQUIRE(v.a[0] == SYS_open || v.a[0] == SYS_openat);
	answer[0] = ERANGE;
	v.n = LWC_MAX_ARGS;
	REQUIRE(lwSwitch(fd, answer, 2, &v.src, v.a, &v.n) == LWC_SWITCHED);
	REQUIRE(v.a[0] == 99);
}

CASE(c7_1_a_monitor_can_make_the_call,
    "A monitor makes trapped calls on behalf of the trapped, a whole "
    "conversation.")
{
	struct visit v;
	int calls, fd, i, ok;

	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		int home = v.src;

		ok = 1;
		for (i = 0; i < 100; i++)
			ok &= getpid() > 1 && close(-1) == -1 &&
			    errno == EBADF;
		go(home, &v, ok, 0);
		for (;;)
			;
	}
	calls = 0;
	REQUIRE(serve(fd, &v, &calls) == LWC_SWITCHED);
	REQUIRE(v.a[0] == 1 && calls >= 200);
}

CASE(c7_1_capability_mode_decides,
    "In capability mode calls that the mode allows run untrapped.")
{
	struct visit v;
	int calls, fd;

	fd = create(&v, NULL, 0, 0);	/* the order: enter first, then trap */
	REQUIRE(fd >= 0);
	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		int home = v.src, ok, was;

		ok = syscall(SYS_cap_enter) == 0;	/* goes to the monitor */
		was = getpid() > 0 && umask(0) >= 0;
		go(home, &v, ok, was);
		for (;;)
			;
	}
	calls = 0;
	/* The monitor would enter itself: answer without doing it. */
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(v.a[0] == SYS_cap_enter);
	REQUIRE(lwSyscall(fd, LWC_CREDENTIALS, SYS_cap_enter, NULL) == 0);
	{
		u_int mode;

		REQUIRE(cap_getmode(&mode) == 0 && mode == 0);
	}
	REQUIRE(go(fd, &v, 0, 0) == LWC_SWITCHED);
	REQUIRE(v.a[0] == 1 && v.a[1] == 1 && calls == 0);
}

CASE(c7_1_refused_calls_trap_in_capability_mode,
    "In capability mode open(2) traps, and the monitor opens the file.")
{
	struct visit v;
	int calls, fd, file;

	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		int home = v.src;

		file = open("/", O_RDONLY);
		go(home, &v, file == 1234, fork() == -1 && errno == EPERM);
		for (;;)
			;
	}
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(lwSyscall(fd, LWC_CREDENTIALS, SYS_cap_enter, NULL) == 0);
	calls = 0;
	/* It still waits for the answer to open(2). */
	REQUIRE(go(fd, &v, 0, 1234) == LWC_TRAPPED);
	/* fork(2) is allowed in capability mode, yet it would be a way out. */
	REQUIRE(v.a[0] == SYS_fork || v.a[0] == SYS_pdfork);
	REQUIRE(go(fd, &v, EPERM, 0) == LWC_SWITCHED);
	REQUIRE(v.a[0] == 1 && v.a[1] == 1 && calls == 0);
}

CASE(c7_1_refused_for_their_arguments,
    "In capability mode openat(2) with AT_FDCWD traps.")
{
	struct visit v;
	int fd, n;

	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		int home = v.src;

		(void)getppid();		/* and now in the mode */
		n = open("/etc", O_RDONLY);
		go(home, &v, n, getpid());
		for (;;)
			;
	}
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED && v.a[0] == SYS_getppid);
	REQUIRE(lwSyscall(fd, LWC_CREDENTIALS, SYS_cap_enter, NULL) == 0);
	REQUIRE(go(fd, &v, 0, 1) == LWC_TRAPPED);
	REQUIRE(v.n == LWC_CALL_WORDS && v.a[0] == SYS_openat);
	REQUIRE((int)v.a[1] == AT_FDCWD && v.a[3] == O_RDONLY);
	REQUIRE(v.a[5] == 0 && v.a[8] == 0);
	REQUIRE(go(fd, &v, 0, 4321) == LWC_SWITCHED);
	REQUIRE(v.a[0] == 4321 && v.a[1] == (uint64_t)getpid());
}

CASE(c7_1_traps_nest, "A monitor can itself be monitored.")
{
	struct visit v, w;
	int calls, fd, in;

	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		int home = v.src, pid;

		in = create(&w, NULL, 0, LWC_TRAP_SYSCALL);
		if (in == LWC_SWITCHED) {
			int up = w.src;

			pid = getpid();
			go(up, &w, pid, 0);
			for (;;)
				;
		}
		calls = 0;
		if (serve(in, &w, &calls) != LWC_SWITCHED)
			lwDiscardSwitch(home, NULL, 0);
		go(home, &v, w.a[0], calls);
		for (;;)
			;
	}
	calls = 0;
	REQUIRE(serve(fd, &v, &calls) == LWC_SWITCHED);
	REQUIRE(v.a[0] == (uint64_t)getpid() && v.a[1] == 1 && calls >= 1);
}

CASE(c7_1_children_of_the_trapped_are_trapped,
    "Children of a trapped context are trapped.")
{
	struct lwc_info li;
	struct visit v, w;
	int fd, in;

	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		in = create(&w, NULL, 0, 0);
		if (in == LWC_SWITCHED) {
			(void)getppid();
			for (;;)
				;
		}
		if (lwInfo(in, &li) != 0 ||
		    (li.li_flags & LWC_TRAP_SYSCALL) == 0)
			lwDiscardSwitch(v.src, NULL, 0);
		go(in, &w, 0, 0);
		for (;;)
			;
	}
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(v.a[0] == SYS_getppid && v.src != fd);
}

CASE(c7_1_only_the_monitor_answers,
    "Whoever else switches to a context that waits for its answer gets EBUSY.")
{
	struct visit v, w;
	int fd, other;

	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		(void)getppid();
		go(v.src, &v, 0, 0);
		for (;;)
			;
	}
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	other = create(&w, NULL, 0, 0);
	if (other == LWC_SWITCHED) {
		REQUIRE_ERRNO(EBUSY, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
		go(w.src, &w, 0, 0);
		_exit(9);
	}
	gogo(other, &w, 0, 0);
	REQUIRE(go(fd, &v, 0, 0) == LWC_SWITCHED);
}

CASE(c7_1_with_trap_exit_its_end_is_an_end,
    "With LWC_TRAP_EXIT exit(2) is an end and not a trapped call.")
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL | LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED)
		_exit(5);
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(v.src == -1 && v.n == LWC_END_WORDS && v.a[1] == 5);
}

static int
on_usr1(int set)
{
	static volatile int n;

	if (set)
		n++;
	return (n);
}

static void
usr1(int sig __unused)
{

	on_usr1(1);
}

CASE(c7_1_signal_handlers_return, "sigreturn(2) does not trap.")
{
	struct visit v;
	int calls, fd;

	signal(SIGUSR1, usr1);
	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		int home = v.src;

		while (on_usr1(0) == 0)
			;
		go(home, &v, on_usr1(0), 0);
		for (;;)
			;
	}
	if (fork() == 0) {
		usleep(300000);
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	/* The threads library makes calls of its own around a handler. */
	calls = 0;
	REQUIRE(serve(fd, &v, &calls) == LWC_SWITCHED && v.a[0] == 1);
	REQUIRE(on_usr1(0) == 0 && wait(NULL) > 0);
}

CASE(c7_2_files_of_the_target,
    "lwSyscall() with the target's files puts the descriptor into its table.")
{
	struct visit v;
	uint64_t a[8] = { 0 };
	int fd, n;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		struct stat sb;

		REQUIRE(fstat((int)v.a[0], &sb) == 0 && S_ISDIR(sb.st_mode));
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	a[0] = (uintptr_t)"/dev";
	a[1] = O_RDONLY;
	n = lwSyscall(fd, LWC_FILES, SYS_open, a);
	REQUIRE(n >= 0);
	gogo(fd, &v, n, 0);
}

CASE(c7_2_memory_of_the_target,
    "lwSyscall() with the target's memory takes pointers as the target's.")
{
	static char word[8] = "root";
	struct visit v;
	uint64_t a[8] = { 0 };
	char c[5];
	int fd, p[2];

	REQUIRE(pipe(p) == 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		strcpy(word, "kid");
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	a[0] = p[1];
	a[1] = (uintptr_t)word;
	a[2] = 4;
	REQUIRE(lwSyscall(fd, LWC_MEMORY, SYS_write, a) == 4);
	REQUIRE(read(p[0], c, 4) == 4 && strcmp(c, "kid") == 0);
	REQUIRE(lwSyscall(fd, 0, SYS_write, a) == 4);
	REQUIRE(read(p[0], c, 4) == 4 && memcmp(c, "root", 4) == 0);
}

CASE(c7_2_credentials_of_the_target,
    "lwSyscall() acts with the target's credentials and puts the caller's "
    "back.")
{
	struct visit v;
	uint64_t a[8] = { 0 };
	int fd;

	NEED_ROOT();
	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	REQUIRE(setuid(1001) == 0);
	REQUIRE(lwSyscall(fd, LWC_CREDENTIALS, SYS_getuid, a) == 0);
	REQUIRE(getuid() == 1001);
	a[0] = 1002;
	REQUIRE(lwSyscall(fd, LWC_CREDENTIALS, SYS_setuid, a) == 0);
	REQUIRE(getuid() == 1001);
	/* It was the target that dropped them. */
	REQUIRE(lwSyscall(fd, LWC_CREDENTIALS, SYS_getuid, a) == 1002);
	REQUIRE_ERRNO(EPERM, lwSyscall(fd, LWC_CREDENTIALS, SYS_setuid,
	    (uint64_t[8]){ 0 }));
}

CASE(c7_2_calls_that_are_refused,
    "lwSyscall() refuses what it cannot make, with EINVAL and other errors.")
{
	static const int bad[] = { SYS_exit, SYS_fork, SYS_vfork, SYS_rfork,
	    SYS_pdfork, SYS_execve, SYS_fexecve, SYS_thr_new, SYS_thr_exit,
	    SYS_sigreturn, SYS_syscall, SYS___syscall, SYS_shmat,
	    SYS_aio_read, -1, 1 << 20 };
	struct visit v;
	uint64_t a[8] = { 0 };
	u_int i;
	int fd;

	fd = create(&v, NULL, 0, 0);
	for (i = 0; i < nitems(bad); i++)
		REQUIRE_ERRNO(EINVAL, lwSyscall(fd, 0, bad[i], a));
	REQUIRE_ERRNO(EINVAL, lwSyscall(fd, 0, lwc_switch_number(), a));
	REQUIRE_ERRNO(EINVAL, lwSyscall(fd, 8, SYS_getpid, a));
	REQUIRE_ERRNO(EFAULT, lwSyscall(fd, 0, SYS_getpid, (void *)8));
	REQUIRE_ERRNO(EBADF, lwSyscall(0, 0, SYS_getpid, a));
	a[0] = 99;
	REQUIRE_ERRNO(EBADF, lwSyscall(fd, LWC_FILES, SYS_close, a));
	REQUIRE(lwSyscall(fd, LWC_TYPES, SYS_getpid, NULL) == getpid());
}

CASE(c9_1_counters_count, "The counters below kern.lwc count.")
{
	struct visit v;
	long c, s;
	int fd;

	c = counter("creations");
	s = counter("switches");
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		for (;;)
			go(v.src, &v, 0, 0);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(counter("creations") == c + 1);
	REQUIRE(counter("switches") == s + 2);
	REQUIRE(counter("max_per_proc") > 0 && counter("max_contexts") > 0);
	REQUIRE(counter("max_specs") == LWC_MAX_SPECS);
}

CASE(c9_1_max_specs, "A lower kern.lwc.max_specs is kept: E2BIG.")
{
	struct lwc_spec s[3];
	struct visit v;
	int old;

	s[0] = s[1] = s[2] = creds(0);
	old = set_sysctl("kern.lwc.max_specs", 2);
	REQUIRE_ERRNO(E2BIG, create(&v, s, 3, 0));
	(void)set_sysctl("kern.lwc.max_specs", old);
	REQUIRE(create(&v, s, 3, 0) >= 0);
}

CASE(c9_2_unload_is_refused,
    "The module is busy as long as a process lives that made a context.")
{
	struct visit v;
	int fd, id;

	NEED_ROOT();
	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	id = kldfind("lwc.ko");
	REQUIRE(id > 0);
	REQUIRE_ERRNO(EBUSY, kldunload(id));
	REQUIRE_ERRNO(EBUSY, kldunloadf(id, LINKER_UNLOAD_FORCE));
	REQUIRE(lwSwitch(-1, NULL, 0, NULL, NULL, NULL) == -1);
	REQUIRE(errno == EBADF);
	/* Its calls go through the module, whether it has contexts or not. */
	REQUIRE(close(fd) == 0);
	REQUIRE_ERRNO(EBUSY, kldunload(id));
	REQUIRE_ERRNO(EBUSY, kldunloadf(id, LINKER_UNLOAD_FORCE));
	REQUIRE_ERRNO(EBADF, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
}
