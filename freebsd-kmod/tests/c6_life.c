/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Clause 6: signals, faults, process life. */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/sysctl.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <signal.h>

#include "lwc_test.h"

static volatile int caught;

static void
note(int sig)
{

	caught = sig;
}

CASE(c6_1_signals_act_on_the_current_context,
    "A signal runs the current context's handler.")
{
	struct sigaction sa;
	struct visit v;
	int fd;

	memset(&sa, 0, sizeof(sa));
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		sa.sa_handler = note;
		REQUIRE(sigaction(SIGUSR1, &sa, NULL) == 0);
		REQUIRE(kill(getpid(), SIGUSR1) == 0 && caught == SIGUSR1);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	sa.sa_handler = SIG_IGN;
	REQUIRE(sigaction(SIGUSR1, &sa, NULL) == 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(caught == 0 && kill(getpid(), SIGUSR1) == 0 && caught == 0);
}

CASE(c6_1_pending_until_a_context_takes_it,
    "A signal that one context blocks waits for another one that does not.")
{
	struct sigaction sa;
	struct visit v;
	sigset_t set;
	int fd;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = note;
	REQUIRE(sigaction(SIGUSR2, &sa, NULL) == 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(caught == SIGUSR2);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	REQUIRE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	REQUIRE(kill(getpid(), SIGUSR2) == 0 && caught == 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(caught == 0);
}

static void
die_in_child(void *arg)
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, (int)(intptr_t)arg);
	if (fd == LWC_SWITCHED)
		*(volatile int *)(uintptr_t)8 = 1;
	(void)go(fd, &v, 0, 0);
	_exit(7);
}

CASE(c6_2_without_the_flag_the_process_dies,
    "A fault in a context without LWC_TRAP_FAULT kills the process, as ever.")
{
	int status;

	status = status_of(die_in_child, NULL);
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

CASE(c6_2_a_fault_kills_only_the_context,
    "A trapped fault ends the context alone and tells signal, code, address "
    "and id.")
{
	struct visit v;
	long n;
	int fd, i;

	n = counter("contexts");
	for (i = 0; i < 20; i++) {
		fd = create(&v, NULL, 0, LWC_TRAP_FAULT);
		if (fd == LWC_SWITCHED) {
			*(volatile int *)(uintptr_t)0x1238 = 1;
			_exit(9);
		}
		REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
		REQUIRE(v.src == -1 && v.n == LWC_END_WORDS);
		REQUIRE(v.a[LWC_END_SIGNAL] == SIGSEGV);
		REQUIRE(v.a[LWC_END_CODE] == SEGV_MAPERR);
		REQUIRE(v.a[LWC_END_ADDRESS] == 0x1238);
		REQUIRE(v.a[LWC_END_ID] == (uint64_t)i + 2);
		REQUIRE_ERRNO(ESRCH, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
		REQUIRE(close(fd) == 0);
	}
	REQUIRE(counter("contexts") == n);
}

CASE(c6_2_every_kind_of_fault,
    "Division, bad instruction, breakpoint and general protection are "
    "trapped, too.")
{
	static const int want[] = { SIGFPE, SIGILL, SIGTRAP, SIGBUS, SIGSEGV };
	struct visit v;
	int fd;
	u_int i;

	for (i = 0; i < nitems(want); i++) {
		fd = create(&v, NULL, 0, LWC_TRAP_FAULT);
		if (fd == LWC_SWITCHED) {
			switch (i) {
			case 0:
				__asm volatile("xorl %%ecx, %%ecx; divl %%ecx"
				    ::: "eax", "ecx", "edx", "cc");
				break;
			case 1:
				__asm volatile("ud2");
				break;
			case 2:
				__asm volatile("int3");
				break;
			case 3:
				*(volatile int *)0x8000000000000000 = 1;
				break;
			case 4:
				((void (*)(void))(uintptr_t)0x100000)();
				break;
			}
			_exit(9);
		}
		REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
		REQUIRE((int)v.a[0] == want[i]);
		close(fd);
	}
}

CASE(c6_2_a_handled_fault_is_the_contexts_own,
    "A context that handles its fault goes on.")
{
	struct sigaction sa;
	struct visit v;
	char *p;
	int fd;

	p = page();
	fd = create(&v, NULL, 0, LWC_TRAP_FAULT);
	if (fd == LWC_SWITCHED) {
		REQUIRE(munmap(p, PAGE) == 0 && faults(p, 1));
		REQUIRE(sigaction(SIGSEGV, NULL, &sa) == 0);
		REQUIRE(sa.sa_handler == SIG_DFL);
		go(v.src, &v, 5, 0);
		*p = 1;
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 5);
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED && v.a[0] == SIGSEGV);
}

static void
fault_again(int sig __unused)
{

	*(volatile int *)(uintptr_t)0x40 = 1;
}

static void
escape(int sig __unused)
{

	_exit(77);
}

CASE(c6_2_the_creators_handlers_do_not_apply,
    "The creator's handlers run for no fault of the child, and for other "
    "signals they do.")
{
	struct visit v;
	int fd;

	(void)signal(SIGSEGV, escape);
	(void)signal(SIGUSR1, SIG_IGN);
	fd = create(&v, NULL, 0, LWC_TRAP_FAULT);
	if (fd == LWC_SWITCHED) {
		(void)raise(SIGUSR1);
		*(volatile int *)8 = 1;
		_exit(9);
	}
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(v.a[0] == SIGSEGV && v.a[2] == 8);
}

CASE(c6_2_hostile_masks_and_handlers,
    "A fault is trapped though it is blocked, ignored, recursive or without "
    "a stack.")
{
	struct sigaction sa;
	struct visit v;
	sigset_t set;
	int fd, i;

	for (i = 0; i < 5; i++) {
		fd = create(&v, NULL, 0, LWC_TRAP_FAULT);
		if (fd == LWC_SWITCHED) {
			memset(&sa, 0, sizeof(sa));
			sigfillset(&sa.sa_mask);
			switch (i) {
			case 0:
				sigfillset(&set);
				sigprocmask(SIG_SETMASK, &set, NULL);
				break;
			case 1:
				sa.sa_handler = SIG_IGN;
				sigaction(SIGSEGV, &sa, NULL);
				break;
			case 2:
				sa.sa_handler = fault_again;
				sigaction(SIGSEGV, &sa, NULL);
				break;
			case 3:
				sa.sa_handler = note;
				sigaction(SIGSEGV, &sa, NULL);
				__asm volatile("xorl %esp, %esp; movl (0), %eax");
				break;
			case 4:
				sa.sa_handler = fault_again;
				sigaction(SIGUSR1, &sa, NULL);
				kill(getpid(), SIGUSR1);
				break;
			}
			*(volatile int *)(uintptr_t)0x80 = 1;
			_exit(9);
		}
		REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
		REQUIRE(v.a[0] == SIGSEGV);
		close(fd);
	}
}

CASE(c6_2_a_signal_from_outside_is_no_fault,
    "SIGSEGV by kill(2) from outside acts on the process.")
{
	struct visit v;
	int fd, pid, status;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		fd = create(&v, NULL, 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
		if (fd == LWC_SWITCHED)
			for (;;)
				pause();
		go(fd, &v, 0, 0);
		_exit(9);
	}
	usleep(300000);
	REQUIRE(kill(pid, SIGSEGV) == 0);
	REQUIRE(waitpid(pid, &status, 0) == pid);
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

CASE(c6_2_ours_exit_ends_the_context,
    "With LWC_TRAP_EXIT exit, abort and a signal to oneself end the context "
    "alone.")
{
	static const int want[] = { 0, SIGABRT, SIGTERM, SIGSEGV };
	struct visit v;
	int fd, i;

	for (i = 0; i < 4; i++) {
		fd = create(&v, NULL, 0, LWC_TRAP_EXIT);
		if (fd == LWC_SWITCHED) {
			switch (i) {
			case 0:
				_exit(42);
			case 1:
				abort();
			case 2:
				kill(getpid(), SIGTERM);
				break;
			case 3:
				*(volatile int *)(uintptr_t)0x80 = 1;
			}
			for (;;)
				;
		}
		REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
		REQUIRE(v.src == -1 && v.n == LWC_END_WORDS);
		REQUIRE((int)v.a[0] == want[i]);
		REQUIRE(i != 0 || v.a[1] == 42);
		close(fd);
	}
}

CASE(c6_2_guards_are_inherited, "A guarded context's children are guarded.")
{
	struct lwc_info li;
	struct visit v;
	int fd, in;

	fd = create(&v, NULL, 0, LWC_TRAP_EXIT | LWC_TRAP_FAULT);
	if (fd == LWC_SWITCHED) {
		in = create(&v, NULL, 0, 0);
		if (in == LWC_SWITCHED)
			_exit(3);
		REQUIRE(lwInfo(in, &li) == 0);
		REQUIRE(li.li_flags == (LWC_TRAP_EXIT | LWC_TRAP_FAULT));
		if (go(in, &v, 0, 0) != LWC_TRAPPED)
			_exit(9);
		_exit(4);
	}
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED && v.a[1] == 4);
}

CASE(c6_3_fork_has_the_current_context_alone,
    "fork(2) copies the current context alone, as the root of the new process.")
{
	struct lwc_info li;
	struct visit v;
	int fd, pid, status;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		pid = fork();
		if (pid == 0) {
			REQUIRE_ERRNO(EBADF, fcntl(v.src, F_GETFD));
			REQUIRE_ERRNO(EBADF, lwSwitch(fd, NULL, 0, NULL, NULL,
			    NULL));
			REQUIRE(lwInfo(LWC_SELF, &li) == 0);
			REQUIRE(li.li_id == 1 && li.li_contexts == 1);
			fd = create(&v, NULL, 0, 0);
			if (fd == LWC_SWITCHED) {
				go(v.src, &v, 1, 0);
				_exit(9);
			}
			gogo(fd, &v, 0, 0);
			_exit(v.a[0] == 1 ? 0 : 8);
		}
		REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
}

CASE(c6_3_fork_shares_what_is_shared,
    "Memory that is shared in place is shared across fork(2), too.")
{
	struct lwc_spec s;
	struct visit v;
	volatile int *p;
	int fd, pid;

	p = page();
	s = mem((void *)p, PAGE, LWC_SHARE);
	fd = create(&v, &s, 1, 0);
	REQUIRE(fd >= 0);
	pid = fork();
	if (pid == 0) {
		p[0] = 6;
		_exit(0);
	}
	REQUIRE(waitpid(pid, NULL, 0) == pid && p[0] == 6);
}

CASE(c6_3_exec_destroys_the_others,
    "exec destroys all other contexts and closes their descriptors.")
{
	struct visit v;
	int mib[4] = { CTL_KERN, KERN_PROC, KERN_PROC_PATHNAME, -1 };
	char fds[32], path[1024];
	size_t len = sizeof(path);
	int fd, in, out, i;

	if (getenv("LWC_EXECED") != NULL) {
		sscanf(getenv("LWC_EXECED"), "%d", &fd);
		REQUIRE_ERRNO(EBADF, fcntl(fd, F_GETFD));
		REQUIRE(counter("contexts") == 0);
		return;
	}
	for (i = 0; i < 5; i++) {
		fd = create(&v, NULL, 0, i == 4 ? LWC_TRAP_FAULT : 0);
		REQUIRE(fd >= 0 || fd == LWC_SWITCHED);
		if (fd == LWC_SWITCHED) {
			in = v.src;
			REQUIRE(fcntl(in, F_SETFD, 0) == 0);
			out = dup(in);
			snprintf(fds, sizeof(fds), "%d", out);
			setenv("LWC_EXECED", fds, 1);
			REQUIRE(sysctl(mib, 4, path, &len, NULL, 0) == 0);
			/* There is one last line, and it is not this one's. */
			REQUIRE(dup2(open("/dev/null", O_WRONLY), 1) == 1);
			execl(path, "lwc_test",
			    "c6_3_exec_destroys", NULL);
			_exit(9);
		}
	}
	go(fd, &v, 0, 0);
	_exit(8);
}

static void
many(void *arg)
{
	struct visit v;
	int i;

	for (i = 0; i < 50; i++)
		if (create(&v, NULL, 0, 0) < 0)
			_exit(9);
	switch ((int)(intptr_t)arg) {
	case 0:
		_exit(0);
	case 1:
		abort();
	case 2:
		kill(getpid(), SIGKILL);
	}
	for (;;)
		pause();
}

CASE(c6_3_every_exit_destroys_all,
    "exit, abort and SIGKILL destroy all contexts.")
{
	int i;

	for (i = 0; i < 3; i++)
		(void)status_of(many, (void *)(intptr_t)i);
	/* The harness counts what is left. */
}

CASE(c6_3_vfork_child_is_refused,
    "The child of vfork(2), on its parent's stack, is refused lwCreate().")
{
	int pid, status;

	pid = vfork();
	if (pid == 0) {
		errno = 0;
		_exit(lwCreate(NULL, 0, NULL, NULL, NULL, 0) == -1 &&
		    errno == EBUSY ? 0 : 1);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}

CASE(c6_4_ptrace_sees_the_current_context,
    "ptrace(2) reads the current context and not what another one unmapped.")
{
	struct lwc_spec s;
	struct visit v;
	struct ptrace_io_desc io;
	char *p, buf[4];
	int fd, pid, status;

	p = page();
	memcpy(p, "sec", 4);
	pid = fork();
	if (pid == 0) {
		ptrace(PT_TRACE_ME, 0, NULL, 0);
		s = mem(p, PAGE, LWC_UNMAP);
		fd = create(&v, &s, 1, 0);
		if (fd == LWC_SWITCHED) {
			raise(SIGSTOP);
			go(v.src, &v, 0, 0);
			_exit(9);
		}
		gogo(fd, &v, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	io.piod_op = PIOD_READ_D;
	io.piod_offs = p;
	io.piod_addr = buf;
	io.piod_len = 4;
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	REQUIRE(ptrace(PT_IO, pid, (void *)&io, 0) == -1 || io.piod_len == 0);
	REQUIRE(ptrace(PT_CONTINUE, pid, (void *)1, 0) == 0);
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	io.piod_len = 4;
	REQUIRE(ptrace(PT_IO, pid, (void *)&io, 0) == 0 && io.piod_len == 4);
	REQUIRE(memcmp(buf, "sec", 4) == 0);
	REQUIRE(ptrace(PT_CONTINUE, pid, (void *)1, 0) == 0);
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}
