/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What the kernel does for the process and not for a context: asynchronous
 * I/O, threads, System V segments.  The root may have them; they end nowhere
 * else.
 */

#include <sys/param.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <aio.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "lwc_test.h"

#define	JOBS	16
#define	SIZE	65536
#define	ROUNDS	20

static struct aiocb job[JOBS];
static char *buffer;

static void
submit(int file)
{
	int i;

	memset(buffer, 0, JOBS * SIZE);
	for (i = 0; i < JOBS; i++) {
		memset(&job[i], 0, sizeof(job[i]));
		job[i].aio_fildes = file;
		job[i].aio_buf = buffer + i * SIZE;
		job[i].aio_nbytes = SIZE;
		REQUIRE(aio_read(&job[i]) == 0);
	}
}

/* Each has read what is in the file, to where it was asked to. */
static void
collect(void)
{
	const struct aiocb *one;
	int i, k;

	for (i = 0; i < JOBS; i++) {
		one = &job[i];
		while (aio_error(one) == EINPROGRESS)
			(void)aio_suspend(&one, 1, NULL);
		REQUIRE(aio_return(&job[i]) == SIZE);
		for (k = 0; k < SIZE; k++)
			REQUIRE(buffer[i * SIZE + k] == 'X');
	}
}

static int
filled(void)
{
	int file;

	file = scratch();
	buffer = mmap(NULL, JOBS * SIZE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	REQUIRE(buffer != MAP_FAILED);
	memset(buffer, 'X', JOBS * SIZE);
	REQUIRE(write(file, buffer, SIZE) == SIZE);
	return (file);
}

/* Contexts with much memory end while the root's reads are in flight. */
static void
end_under_aio(int way)
{
	struct visit v;
	int fd[3], file, i, n, round;
	char *big;

	file = filled();
	big = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	REQUIRE(big != MAP_FAILED);
	memset(big, 1, 16 << 20);
	/* As many ends each way: with KASAN one takes seconds. */
	n = way == 2 ? 3 : 1;
	for (round = 0; round < howmany(ROUNDS, n); round++) {
		for (i = 0; i < n; i++)
			REQUIRE((fd[i] = create(&v, NULL, 0,
			    LWC_PREFAULT)) >= 0);
		submit(file);
		for (i = 0; i < n; i++)
			if (way == 1)
				/* Now, or by the close below. */
				REQUIRE(lwControl(fd[i], LWC_CONTROL_DESTROY,
				    0) == 0 || errno == EBUSY);
			else if (way == 0)
				REQUIRE(close(fd[i]) == 0);
			else
				REQUIRE(dup2(file, fd[i]) == fd[i]);
		collect();
		for (i = 0; i < n; i++)
			(void)close(fd[i]);
	}
}

CASE(hold_aio_and_close,
    "Asynchronous reads reach no memory of a context that is closed.")
{

	end_under_aio(0);
}

CASE(hold_aio_and_destroy,
    "Asynchronous reads reach no memory of a context that is destroyed.")
{

	end_under_aio(1);
}

CASE(hold_aio_and_dup2,
    "Asynchronous reads reach no memory of contexts whose descriptors "
    "dup2(2) replaces.")
{

	end_under_aio(2);
}

static void
exits_under_aio(void *arg)
{
	struct visit v;
	int file, i;

	file = filled();
	for (i = 0; i < 8; i++)
		REQUIRE(create(&v, NULL, 0, LWC_PREFAULT) >= 0);
	submit(file);
	if (arg != NULL)
		(void)kill(getpid(), SIGKILL);
	_exit(0);
}

CASE(hold_aio_and_exit,
    "All contexts end with their process while it reads asynchronously.")
{
	int i;

	for (i = 0; i < ROUNDS; i++) {
		REQUIRE(outcome(exits_under_aio, NULL, 10) == 0);
		REQUIRE(outcome(exits_under_aio, buffer, 10) != STUCK);
	}
}

/* Calls that need no right argument to be refused for who makes them. */
static const int roots[] = { SYS_aio_read, SYS_aio_write, SYS_lio_listio,
    SYS_aio_fsync, SYS_aio_mlock, SYS_aio_readv, SYS_aio_writev, SYS_thr_create,
    SYS_thr_new, SYS_shmat, 318, 319, 320 };

static void
are_refused(void)
{
	u_int i;

	(void)signal(SIGSYS, SIG_DFL);
	for (i = 0; i < nitems(roots); i++) {
		errno = 0;
		if (raw(roots[i], 0, 0, 0, 0, 0, 0) == -1 && errno == EBUSY)
			continue;
		fprintf(stderr, "call %d: errno %d\n", roots[i], errno);
		lwc_fail(__FILE__, __LINE__, "EBUSY");
	}
	/* shmsys(2), which does the same by a number in front. */
	REQUIRE_ERRNO(EBUSY, raw(SYS_shmsys, 0, 0, 0, 0, 0, 0));
	for (i = 0; i < nitems(roots); i++)
		REQUIRE_ERRNO(EBUSY, raw(SYS_syscall, roots[i], 0, 0, 0, 0,
		    0));
}

CASE(hold_aio_is_the_roots,
    "Asynchronous I/O, threads and segments are EBUSY in all contexts but "
    "the root.")
{
	static const int flags[] = { 0, LWC_TRAP_FAULT, LWC_TRAP_EXIT };
	struct visit v;
	u_int i;
	int fd, home, in;

	for (i = 0; i < nitems(flags); i++) {
		fd = create(&v, NULL, 0, flags[i]);
		if (fd == LWC_SWITCHED) {
			home = v.src;
			are_refused();
			in = create(&v, NULL, 0, 0);
			if (in == LWC_SWITCHED) {
				are_refused();
				go(v.src, &v, 1, 0);
				_exit(9);
			}
			gogo(in, &v, 0, 0);
			go(home, &v, v.a[0], 0);
			_exit(9);
		}
		REQUIRE(fd >= 0);
		gogo(fd, &v, 0, 0);
		REQUIRE(v.a[0] == 1 && close(fd) == 0);
	}
}

static int64_t
aio_of_socket(struct aiocb *cb, int fd)
{
	static char c;

	memset(cb, 0, sizeof(*cb));
	cb->aio_fildes = fd;
	cb->aio_buf = &c;
	cb->aio_nbytes = 1;
	return (raw(SYS_aio_read, (uintptr_t)cb, 0, 0, 0, 0, 0));
}

CASE(hold_aio_of_a_context,
    "A context cannot begin a job that could be in flight for ever.")
{
	struct aiocb cb;
	struct visit v;
	int fd, p[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	fd = create(&v, NULL, 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED) {
		REQUIRE_ERRNO(EBUSY, aio_of_socket(&cb, p[0]));
		for (;;)
			continue;
	}
	REQUIRE(fd >= 0);
	/* It would have kept its creator out. */
	REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, after(lenient(100)), &v, 0));
	REQUIRE(close(fd) == 0);
}

CASE(hold_aio_shm_of_a_context, "A context cannot attach a System V segment.")
{
	struct visit v;
	int fd, id;

	id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
	SKIP_UNLESS(id >= 0, "no System V shared memory");
	fd = create(&v, NULL, 0, LWC_TRAP_FAULT);
	if (fd == LWC_SWITCHED) {
		errno = 0;
		if (shmat(id, NULL, 0) != (void *)-1) {
			(void)shmctl(id, IPC_RMID, NULL);
			lwc_fail(__FILE__, __LINE__, "has a segment");
		}
		for (;;)
			go(v.src, &v, errno, 0);
	}
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(shmctl(id, IPC_RMID, NULL) == 0 && v.a[0] == EBUSY);
}

static void *
thread(void *arg)
{

	return (arg);
}

CASE(hold_aio_works_in_the_root,
    "Asynchronous I/O works in the root of contexts, and a switch meanwhile "
    "fails with EBUSY.")
{
	struct aiocb cb;
	struct visit v;
	pthread_t t;
	void *p;
	int fd, i, id, s[2];

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 0, 0);
	REQUIRE(fd >= 0);
	REQUIRE(pthread_create(&t, NULL, thread, NULL) == 0);
	REQUIRE(pthread_join(t, NULL) == 0);
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	REQUIRE(aio_of_socket(&cb, s[0]) == 0);
	REQUIRE_ERRNO(EBUSY, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
	REQUIRE(write(s[1], "x", 1) == 1);
	while (aio_error(&cb) == EINPROGRESS)
		usleep(1000);
	REQUIRE(aio_return(&cb) == 1);
	/* A thread that was joined may not be quite gone. */
	for (i = 0; go(fd, &v, 0, 0) != LWC_SWITCHED; i++) {
		REQUIRE(errno == EBUSY && i < (int)lenient(2000));
		usleep(1000);
	}
	id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
	if (id >= 0) {
		p = shmat(id, NULL, 0);
		REQUIRE(shmctl(id, IPC_RMID, NULL) == 0);
		REQUIRE(p != (void *)-1);
		REQUIRE_ERRNO(EBUSY, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
		REQUIRE(shmdt(p) == 0);
	}
	REQUIRE(close(fd) == 0);
}
