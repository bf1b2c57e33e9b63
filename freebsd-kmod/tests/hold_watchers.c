/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Other processes of the user look at one that has contexts, at what is being
 * exchanged and freed there; and queues in a table look at each other.
 */

#include <sys/param.h>
#include <sys/event.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysctl.h>
#include <sys/wait.h>

#include <aio.h>
#include <fcntl.h>
#include <signal.h>

#include "lwc_test.h"

static volatile uint64_t *word;

/* A child that does something to its parent over and over. */
static int
watcher(void (*look)(int))
{
	int pid;

	word = shared_page();
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0)
		for (;; word[0]++)
			look(getppid());
	while (word[0] == 0)
		usleep(1000);
	return (pid);
}

static void
unwatch(int pid)
{
	int status;

	REQUIRE(kill(pid, SIGKILL) == 0);
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

static void
look_at(int which, int pid)
{
	static char buf[65536];
	int mib[] = { CTL_KERN, KERN_PROC, which, pid };
	size_t len;

	len = sizeof(buf);
	(void)sysctl(mib, nitems(mib), buf, &len, NULL, 0);
}

static void
look_at_umask(int pid)
{
	int i;

	for (i = 0; i < 50; i++)
		look_at(KERN_PROC_UMASK, pid);
}

static void
look_at_all(int pid)
{
	static const int which[] = { KERN_PROC_PID, KERN_PROC_ARGS,
	    KERN_PROC_FILEDESC, KERN_PROC_VMMAP, KERN_PROC_KSTACK,
	    KERN_PROC_ENV, KERN_PROC_AUXV, KERN_PROC_RLIMIT, KERN_PROC_UMASK,
	    KERN_PROC_OSREL, KERN_PROC_SIGTRAMP, KERN_PROC_CWD };
	u_int i;

	for (i = 0; i < nitems(which); i++)
		look_at(which[i], pid);
}

/* Contexts come, are switched to and go, for so long. */
static void
come_and_go(int ms)
{
	uint64_t until;
	struct visit v;
	int fd;

	for (until = after(ms); after(0) < until;) {
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED)
			for (;;)
				go(v.src, &v, 0, 0);
		REQUIRE(fd >= 0);
		gogo(fd, &v, 0, 0);
		REQUIRE(close(fd) == 0);
	}
}

CASE(hold_watchers_umask,
    "Others read a process's umask while its contexts end.")
{
	int pid;

	pid = watcher(look_at_umask);
	come_and_go(10000);
	unwatch(pid);
}

CASE(hold_watchers_all,
    "Others read all that ps(1) and procstat(1) do while contexts switch "
    "and end.")
{
	int pid;

	pid = watcher(look_at_all);
	come_and_go(10000);
	unwatch(pid);
}

static void
set_stack(int pid)
{
	static struct rlimit rl = { .rlim_cur = 330 << 20,
	    .rlim_max = 512 << 20 };
	int mib[] = { CTL_KERN, KERN_PROC, KERN_PROC_RLIMIT, pid,
	    RLIMIT_STACK };

	if (sysctl(mib, nitems(mib), NULL, NULL, &rl, sizeof(rl)) != 0)
		_exit(9);
	rl.rlim_cur ^= (330 << 20) ^ (340 << 20);
}

CASE(hold_watchers_stack_in_a_mixture,
    "Others set a stack limit while lwSyscall() has another context's memory.")
{
	struct rlimit all = { .rlim_cur = 400 << 20, .rlim_max = 512 << 20 };
	struct aiocb cb, *done;
	uint64_t args[LWC_CALL_NARGS] = { 0 }, until;
	struct visit v;
	int fd, fds[2], pid;
	char c;

	REQUIRE(setrlimit(RLIMIT_STACK, &all) == 0);
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	pid = watcher(set_stack);
	for (until = after(10000); after(0) < until;) {
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED)
			_exit(9);
		REQUIRE(fd >= 0);
		REQUIRE(lwSyscall(fd, LWC_MEMORY, SYS_getppid, args) > 0);
		/* With this in flight its memory is freed the ordinary way. */
		memset(&cb, 0, sizeof(cb));
		cb.aio_fildes = fds[0];
		cb.aio_buf = &c;
		cb.aio_nbytes = 1;
		REQUIRE(aio_read(&cb) == 0);
		REQUIRE(close(fd) == 0);
		REQUIRE(write(fds[1], "x", 1) == 1);
		REQUIRE(aio_waitcomplete(&done, NULL) == 1);
	}
	unwatch(pid);
}

/* Two kernel queues, each of which waits for the other. */
static void
ring(void)
{
	struct kevent kev;
	int a, b;

	a = kqueue();
	b = kqueue();
	REQUIRE(a >= 0 && b >= 0);
	EV_SET(&kev, b, EVFILT_READ, EV_ADD, 0, 0, NULL);
	REQUIRE(kevent(a, &kev, 1, NULL, 0, NULL) == 0);
	EV_SET(&kev, a, EVFILT_READ, EV_ADD, 0, 0, NULL);
	REQUIRE(kevent(b, &kev, 1, NULL, 0, NULL) == 0);
}

static void
with_rings(void *arg)
{
	struct visit v;
	int fd, i;

	for (i = 0; i < 5; i++) {
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED) {
			ring();
			for (;;)
				go(v.src, &v, 0, 0);
		}
		REQUIRE(fd >= 0);
		gogo(fd, &v, 0, 0);
		if (arg == NULL)
			REQUIRE(close(fd) == 0);
	}
}

CASE(hold_watchers_queues_at_the_end,
    "Kqueues that wait for each other end with the process.")
{
	int keep;

	REQUIRE(outcome(with_rings, &keep, 20) == 0);
}

CASE(hold_watchers_queues,
    "Kqueues that wait for each other end with a context.")
{

	REQUIRE(outcome(with_rings, NULL, 20) == 0);
}
