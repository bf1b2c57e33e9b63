/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What outlives a context, or could hold up whoever ends it: sockets that
 * linger, mutexes that it held.
 */

#include <sys/param.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/in_var.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "lwc_test.h"

/* The machine itself has an address, or gets it. */
static bool
loopback(struct sockaddr_in *sin)
{
	struct in_aliasreq ifra;
	int fd, i;
	bool ok;

	memset(sin, 0, sizeof(*sin));
	sin->sin_len = sizeof(*sin);
	sin->sin_family = AF_INET;
	sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ok = false;
	for (i = 0; i < 2 && !ok; i++) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (fd < 0)
			return (false);
		ok = bind(fd, (struct sockaddr *)sin, sizeof(*sin)) == 0;
		(void)close(fd);
		if (ok || i > 0)
			break;
		memset(&ifra, 0, sizeof(ifra));
		strlcpy(ifra.ifra_name, "lo0", sizeof(ifra.ifra_name));
		ifra.ifra_addr = *sin;
		ifra.ifra_mask = *sin;
		ifra.ifra_mask.sin_addr.s_addr = htonl(0xff000000);
		fd = socket(AF_INET, SOCK_DGRAM, 0);
		if (fd < 0)
			return (false);
		(void)ioctl(fd, SIOCAIFADDR, &ifra);
		(void)close(fd);
	}
	return (ok);
}

/* A connection whose one end has more to send than the other takes. */
static void
lingers(const struct sockaddr_in *to, int seconds)
{
	static char buf[65536];
	struct sockaddr_in sin = *to;
	struct linger li = { 1, seconds };
	socklen_t len = sizeof(sin);
	int a, b, l;

	l = socket(AF_INET, SOCK_STREAM, 0);
	a = socket(AF_INET, SOCK_STREAM, 0);
	REQUIRE(l >= 0 && a >= 0);
	REQUIRE(bind(l, (struct sockaddr *)&sin, sizeof(sin)) == 0);
	REQUIRE(listen(l, 1) == 0);
	REQUIRE(getsockname(l, (struct sockaddr *)&sin, &len) == 0);
	REQUIRE(connect(a, (struct sockaddr *)&sin, sizeof(sin)) == 0);
	b = accept(l, NULL, NULL);
	REQUIRE(b > a);			/* and closed after it */
	REQUIRE(fcntl(a, F_SETFL, O_NONBLOCK) == 0);
	while (write(a, buf, sizeof(buf)) > 0)
		continue;
	REQUIRE(errno == EAGAIN);
	REQUIRE(fcntl(a, F_SETFL, 0) == 0);
	REQUIRE(setsockopt(a, SOL_SOCKET, SO_LINGER, &li, sizeof(li)) == 0);
}

static void
with_linger(bool destroy)
{
	struct sockaddr_in sin;
	struct visit v;
	uint64_t begun;
	int fd;

	SKIP_UNLESS(loopback(&sin), "127.0.0.1 is not there");
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		lingers(&sin, (int)lenient(20));
		for (;;)
			go(v.src, &v, 0, 0);
	}
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	begun = after(0);
	if (destroy)
		REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
	REQUIRE(close(fd) == 0);
	REQUIRE(after(0) - begun < lenient(5000) * 1000000);
	REQUIRE(settles("contexts", 0));
}

CASE(hold_ends_linger_close,
    "Closing a context with a lingering socket makes nobody wait.")
{

	with_linger(false);
}

CASE(hold_ends_linger_destroy,
    "Destroying a context with a lingering socket makes nobody wait.")
{

	with_linger(true);
}

/* A mutex of several processes. */
static pthread_mutex_t *
mutex(int robust, int protocol)
{
	pthread_mutexattr_t ma;
	pthread_mutex_t *m;

	m = shared_page();
	REQUIRE(pthread_mutexattr_init(&ma) == 0);
	REQUIRE(pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED) ==
	    0);
	REQUIRE(pthread_mutexattr_setrobust(&ma, robust) == 0);
	REQUIRE(pthread_mutexattr_setprotocol(&ma, protocol) == 0);
	REQUIRE(pthread_mutex_init(m, &ma) == 0);
	return (m);
}

static int
lock_for_a_while(pthread_mutex_t *m)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 2 + lenient(1);
	return (pthread_mutex_timedlock(m, &ts));
}

/* Another process's attempt: begins when something was written to the pipe. */
static int
other(pthread_mutex_t *m, int *starter)
{
	char c;
	int fds[2], pid;

	REQUIRE(pipe(fds) == 0);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		REQUIRE(close(fds[1]) == 0);
		(void)read(fds[0], &c, 1);
		_exit(lock_for_a_while(m));
	}
	REQUIRE(close(fds[0]) == 0);
	*starter = fds[1];
	return (pid);
}

static int
other_says(pthread_mutex_t *m)
{
	int pid, starter, status;

	pid = other(m, &starter);
	REQUIRE(write(starter, "x", 1) == 1);
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return (WEXITSTATUS(status));
}

static void
holds(void *arg)
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 0, 0);
	REQUIRE(fd >= 0);
	REQUIRE(pthread_mutex_lock(arg) == 0);
	gogo(fd, &v, 0, 0);
	_exit(0);
}

CASE(hold_ends_robust_process,
    "A robust mutex of the last context is handed over when the process ends.")
{
	pthread_mutex_t *m;

	m = mutex(PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
	REQUIRE(status_of(holds, m) == 0);
	REQUIRE(other_says(m) == EOWNERDEAD);
}

/* One that holds it, and is destroyed; somebody may wait for it. */
static void
destroyed_with(pthread_mutex_t *m, int expect)
{
	struct visit v;
	int fd, pid, starter, status;

	pid = other(m, &starter);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(pthread_mutex_lock(m) == 0);
		for (;;)
			go(v.src, &v, 0, 0);
	}
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(write(starter, "x", 1) == 1);
	usleep(300000);
	REQUIRE(close(fd) == 0);
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	REQUIRE(WEXITSTATUS(status) == expect);
	REQUIRE(other_says(m) == expect);
}

CASE(hold_ends_robust_context,
    "A robust mutex of a destroyed context stays locked, as lwc(4) says.")
{

	destroyed_with(mutex(PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE),
	    ETIMEDOUT);
}

CASE(hold_ends_pi_context,
    "A priority-inheriting mutex of a destroyed context stays locked, as "
    "lwc(4) says.")
{

	destroyed_with(mutex(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT),
	    ETIMEDOUT);
}

CASE(hold_ends_pi_switches,
    "A priority-inheriting mutex that is held over switches is handed on.")
{
	pthread_mutex_t *m;
	struct visit v;
	int fd, i, pid, starter, status;

	m = mutex(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
	pid = other(m, &starter);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 0, 0);
	REQUIRE(fd >= 0);
	REQUIRE(pthread_mutex_lock(m) == 0);
	REQUIRE(write(starter, "x", 1) == 1);
	for (i = 0; i < 20; i++) {
		gogo(fd, &v, 0, 0);
		usleep(10000);
	}
	REQUIRE(pthread_mutex_unlock(m) == 0);
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}
