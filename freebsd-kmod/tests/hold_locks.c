/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * POSIX record locks are the process's: contexts come and go, the locks stay;
 * and none is left when the process is gone.
 */

#include <sys/param.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <signal.h>

#include "lwc_test.h"

static int
set_lock(int fd, short type)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET };

	return (fcntl(fd, F_SETLK, &fl));
}

enum { CLOSE, DESTROY, FAULT, EXIT, OVERLAID, WAYS };

/* A context that is made, runs, and ends in some way. */
static void
come_and_go(int way, bool visit)
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED) {
		if (visit)
			go(v.src, &v, 0, 0);
		if (way == FAULT)
			*(volatile int *)8 = 1;
		_exit(0);
	}
	REQUIRE(fd >= 0);
	if (visit)
		gogo(fd, &v, 0, 0);
	switch (way) {
	case CLOSE:
		REQUIRE(close(fd) == 0);
		break;
	case DESTROY:
		REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
		REQUIRE(close(fd) == 0);
		break;
	case FAULT:
	case EXIT:
		REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
		REQUIRE(close(fd) == 0);
		break;
	case OVERLAID:
		REQUIRE(dup2(STDERR_FILENO, fd) == fd);
		REQUIRE(close(fd) == 0);
		break;
	}
}

CASE(hold_locks_survive_contexts,
    "Record locks survive contexts with a copy of the table, however these "
    "end.")
{
	int fd, way;

	fd = scratch();
	REQUIRE(set_lock(fd, F_WRLCK) == 0);
	REQUIRE(locked(fd));
	for (way = 0; way < WAYS; way++) {
		come_and_go(way, true);
		REQUIRE(locked(fd));
		come_and_go(way, false);
		REQUIRE(locked(fd));
	}
	REQUIRE(set_lock(fd, F_UNLCK) == 0);
	REQUIRE(!locked(fd));
	REQUIRE(set_lock(fd, F_RDLCK) == 0);
	for (way = 0; way < WAYS; way++) {
		come_and_go(way, true);
		REQUIRE(locked(fd));
	}
	/* And they can still be given back. */
	REQUIRE(close(dup(fd)) == 0);
	REQUIRE(!locked(fd));
}

CASE(hold_locks_survive_their_taker,
    "Record locks survive the context that took them when another one has "
    "the file open.")
{
	struct visit v;
	int c, fd, way;

	fd = scratch();
	for (way = 0; way < WAYS; way++) {
		c = create(&v, NULL, 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
		if (c == LWC_SWITCHED) {
			if (set_lock(fd, F_WRLCK) != 0)
				_exit(9);
			go(v.src, &v, 1, 0);
			if (way == FAULT)
				*(volatile int *)8 = 1;
			_exit(0);
		}
		gogo(c, &v, 0, 0);
		REQUIRE(v.a[0] == 1 && locked(fd));
		if (way == FAULT || way == EXIT)
			REQUIRE(go(c, &v, 0, 0) == LWC_TRAPPED);
		if (way == DESTROY)
			REQUIRE(lwControl(c, LWC_CONTROL_DESTROY, 0) == 0);
		REQUIRE(close(c) == 0);
		REQUIRE(locked(fd));
		REQUIRE(set_lock(fd, F_UNLCK) == 0 && !locked(fd));
	}
}

CASE(hold_locks_survive_a_discarded_root,
    "Record locks survive an lwDiscardSwitch() from the context that took "
    "them.")
{
	struct visit v;
	int c, fd;

	fd = scratch();
	REQUIRE(set_lock(fd, F_WRLCK) == 0);
	c = create(&v, NULL, 0, 0);
	if (c == LWC_SWITCHED) {
		REQUIRE(locked(fd));
		REQUIRE(counter("contexts") == 1);
		REQUIRE(close(fd) == 0);
		_exit(0);
	}
	(void)lwDiscardSwitch(c, NULL, 0);
	_exit(9);
}

CASE(hold_locks_of_flock,
    "Locks of flock(2), which are of the open file, are left alone.")
{
	int fd, way;

	fd = scratch();
	REQUIRE(flock(fd, LOCK_EX) == 0);
	for (way = 0; way < WAYS; way++)
		come_and_go(way, true);
	/* The same open file may have it again, another would not. */
	REQUIRE(locked(fd));
}

CASE(hold_locks_close_releases,
    "An explicit close(2) in a context releases record locks, as POSIX says.")
{
	struct visit v;
	int c, fd;

	fd = scratch();
	REQUIRE(set_lock(fd, F_WRLCK) == 0);
	c = create(&v, NULL, 0, 0);
	if (c == LWC_SWITCHED) {
		REQUIRE(close(fd) == 0);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(c, &v, 0, 0);
	REQUIRE(!locked(fd));
	REQUIRE(close(c) == 0);
}

enum { BY_EXIT, BY_KILL, BY_ABORT, BY_EXEC, IN_CONTEXT, BY_DESTROY, ENDS };

struct ending {
	int	way;
	int	fd;
	bool	own;		/* only the context has it open */
};

/* Take a lock in a context, and go in some way. */
static void
lock_and_end(void *arg)
{
	struct ending *e = arg;
	char path[32];
	struct visit v;
	int c, fd, home;

	snprintf(path, sizeof(path), "/dev/fd/%d", e->fd);
	c = create(&v, NULL, 0, 0);
	if (c == LWC_SWITCHED) {
		home = v.src;
		fd = e->own ? dup(e->fd) : e->fd;
		REQUIRE(set_lock(fd, F_WRLCK) == 0);
		/* Nothing in the root's table, nothing closed here. */
		if (e->way == IN_CONTEXT)
			_exit(0);
		go(home, &v, 1, 0);
		_exit(9);
	}
	if (e->own)
		REQUIRE(close(e->fd) == 0);
	gogo(c, &v, 0, 0);
	switch (e->way) {
	case BY_EXIT:
		_exit(0);
	case BY_KILL:
		(void)kill(getpid(), SIGKILL);
		break;
	case BY_ABORT:
		abort();
	case BY_EXEC:
		(void)fcntl(e->fd, F_SETFD, FD_CLOEXEC);
		(void)execl("/bin/sh", "sh", "-c", "exit 0", NULL);
		break;
	case BY_DESTROY:
		(void)close(c);
		_exit(0);
	}
	_exit(9);
}

CASE(hold_locks_end_with_the_process,
    "Record locks end with the process, wherever they were taken, however "
    "it ends.")
{
	struct ending e;
	int i, own;

	e.fd = scratch();
	for (own = 0; own < 2; own++)
		for (i = 0; i < 3 * ENDS; i++) {
			e.way = i % ENDS;
			e.own = own != 0;
			REQUIRE(outcome(lock_and_end, &e, 10) != STUCK);
			/* Nobody has it, and anybody may. */
			REQUIRE(!locked(e.fd));
			REQUIRE(set_lock(e.fd, F_WRLCK) == 0);
			REQUIRE(set_lock(e.fd, F_UNLCK) == 0);
		}
}

/* By a process that shares the table, where there may be one. */
static void
lock_and_lose(void *arg)
{
	struct visit v;
	int c, file = (int)(intptr_t)arg, pid;

	c = create(&v, NULL, 0, 0);
	if (c == LWC_SWITCHED) {
		REQUIRE(set_lock(file, F_WRLCK) == 0);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	REQUIRE(close(file) == 0);
	gogo(c, &v, 0, 0);
	pid = rfork(RFPROC);
	if (pid == 0) {
		(void)close(c);
		_exit(0);
	}
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
	usleep(300000);
}

CASE(hold_locks_end_with_another,
    "Record locks end though another process closed the context.")
{
	int fd;

	fd = scratch();
	REQUIRE(outcome(lock_and_lose, (void *)(intptr_t)fd, 10) == 0);
	usleep(100000);
	/* The next process may be at the place of the last in memory. */
	REQUIRE(!locked(fd));
	REQUIRE(set_lock(fd, F_WRLCK) == 0);
}
