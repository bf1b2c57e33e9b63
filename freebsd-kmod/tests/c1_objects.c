/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Clause 1: objects. */

#include <sys/param.h>
#include <sys/capsicum.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysctl.h>
#include <sys/wait.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#include <aio.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "lwc_test.h"

CASE(c1_1_root_is_where_a_process_starts,
    "The context that a process starts in is its root and has id 1.")
{
	struct lwc_info li;

	REQUIRE(lwInfo(LWC_SELF, &li) == 0);
	REQUIRE(li.li_id == 1 && li.li_creator == 0);
	REQUIRE(li.li_state == LWC_STATE_CURRENT && li.li_contexts == 1);
}

CASE(c1_3_close_gives_up_the_name,
    "close(2) of the last name destroys a context at once.")
{
	struct visit v;
	long n;
	int fd;

	n = counter("contexts");
	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	REQUIRE(counter("contexts") == n + 1);
	REQUIRE(close(fd) == 0);
	REQUIRE(counter("contexts") == n);
	REQUIRE_ERRNO(EBADF, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
}

CASE(c1_3_not_passed_over_a_socket,
    "SCM_RIGHTS refuses a descriptor of a context.")
{
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(sizeof(int))];
	} u;
	struct msghdr m;
	struct iovec io;
	struct visit v;
	char c;
	int fd, s[2];

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	memset(&m, 0, sizeof(m));
	memset(&u, 0, sizeof(u));
	c = 'x';
	io.iov_base = &c;
	io.iov_len = 1;
	m.msg_iov = &io;
	m.msg_iovlen = 1;
	m.msg_control = &u;
	m.msg_controllen = sizeof(u);
	u.h.cmsg_level = SOL_SOCKET;
	u.h.cmsg_type = SCM_RIGHTS;
	u.h.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&u.h), &fd, sizeof(fd));
	REQUIRE_ERRNO(EOPNOTSUPP, sendmsg(s[0], &m, 0));
}

CASE(c1_3_getlwc_names_oneself,
    "A context gets a descriptor of itself and can hand it to a child.")
{
	struct lwc_info li;
	int fd;

	fd = lwGetlwc();
	REQUIRE(fd >= 0);
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_id == 1);
	REQUIRE_ERRNO(EINVAL, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
}

CASE(c1_4_dup_keeps_it_alive,
    "A context lives until the last of several names is closed.")
{
	struct visit v;
	int fd, fd2;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		go(v.src, &v, 7, 0);
		_exit(9);
	}
	fd2 = dup(fd);
	REQUIRE(fd2 >= 0 && close(fd) == 0);
	gogo(fd2, &v, 0, 0);
	REQUIRE(v.a[0] == 7);
}

CASE(c1_4_destroying_one_destroys_what_only_it_named,
    "Contexts that only a destroyed one named are destroyed with it.")
{
	struct visit v;
	long n;
	int fd, home, i;

	n = counter("contexts");
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		home = v.src;
		/* Children and grandchildren that nobody else can name. */
		for (i = 0; i < 50; i++)
			REQUIRE(create(&v, NULL, 0, 0) >= 0);
		go(home, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(counter("contexts") == n + 51);
	REQUIRE(close(fd) == 0);
	REQUIRE(counter("contexts") == n);
}

CASE(c1_4_cycles_go_at_exit,
    "Contexts that name each other end with their process.")
{
	struct visit v;
	int a, b;

	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED) {
		for (;;)
			go(v.src, &v, 0, 0);
	}
	b = create(&v, NULL, 0, 0);	/* has a copy of a's name */
	if (b == LWC_SWITCHED) {
		gogo(a, &v, 0, 0);	/* and a now has b's */
		_exit(0);		/* the leak check is the test */
	}
	gogo(a, &v, 0, 0);
	(void)go(b, &v, 0, 0);
	_exit(9);
}

static void *
thread_main(void *arg)
{

	pause();
	return (arg);
}

CASE(c1_5_threads_are_busy,
    "lwCreate() in a process with a second thread fails with EBUSY.")
{
	pthread_t t;
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	REQUIRE(pthread_create(&t, NULL, thread_main, NULL) == 0);
	REQUIRE_ERRNO(EBUSY, create(&v, NULL, 0, 0));
	REQUIRE_ERRNO(EBUSY, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
	REQUIRE_ERRNO(EBUSY, lwDiscardSwitch(fd, NULL, 0));
	REQUIRE_ERRNO(EBUSY, lwOverlay(fd, NULL, 0));
	/* Closing works, though another thread uses the table. */
	REQUIRE(close(fd) == 0);
}

CASE(c1_5_shm_is_busy,
    "lwCreate() with System V shared memory attached fails with EBUSY.")
{
	struct visit v;
	void *p;
	int fd, id;

	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
	REQUIRE(id >= 0);
	p = shmat(id, NULL, 0);
	REQUIRE(shmctl(id, IPC_RMID, NULL) == 0);
	REQUIRE(p != (void *)-1);
	REQUIRE_ERRNO(EBUSY, create(&v, NULL, 0, 0));
	REQUIRE_ERRNO(EBUSY, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
	REQUIRE(shmdt(p) == 0);
}

CASE(c1_5_aio_is_busy,
    "lwCreate() with asynchronous I/O in flight fails with EBUSY.")
{
	struct aiocb cb, *cbp;
	struct visit v;
	char c;
	int fd, p[2];

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	memset(&cb, 0, sizeof(cb));
	cb.aio_fildes = p[0];
	cb.aio_buf = &c;
	cb.aio_nbytes = 1;
	REQUIRE(aio_read(&cb) == 0);
	REQUIRE_ERRNO(EBUSY, create(&v, NULL, 0, 0));
	REQUIRE_ERRNO(EBUSY, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
	REQUIRE(write(p[1], "x", 1) == 1);
	REQUIRE(aio_waitcomplete(&cbp, NULL) == 1);
	gogo(fd, &v, 0, 0);
}
