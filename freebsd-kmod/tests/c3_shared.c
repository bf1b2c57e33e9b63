/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Clauses 2.4 and 3: switches between contexts that share a descriptor table
 * or that have different credentials.
 */

#include <sys/param.h>
#include <sys/capsicum.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <stdatomic.h>

#include "lwc_test.h"

#define	ROUNDS	500

/*
 * A context in the caller's table that counts its visits and comes back: with
 * a deadline, which has the module look at it after it has left.
 */
static int
sharer(int *visits, void (*first)(void))
{
	static const uint64_t never = UINT64_MAX;
	struct lwc_spec s = files(-1, -1, LWC_SHARE);
	struct visit v;
	int fd;

	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED) {
		if (first != NULL)
			first();
		for (;;) {
			(*visits)++;
			REQUIRE(lwSwitch(v.src, &never, LWC_UNTIL, &v.src,
			    NULL, NULL) == LWC_SWITCHED);
		}
	}
	REQUIRE(fd >= 0);
	return (fd);
}

static void
visit_often(int fd)
{
	int i;

	for (i = 0; i < ROUNDS; i++)
		REQUIRE(lwSwitch(fd, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED);
}

CASE(c3_3_in_a_shared_table,
    "Names of all contexts are in a shared table, and what one closes is "
    "gone for all.")
{
	int *visits, a, b;

	visits = shared_page();
	a = sharer(visits, NULL);
	b = sharer(visits, NULL);
	visit_often(a);
	visit_often(b);
	visit_often(a);
	REQUIRE(*visits == 3 * ROUNDS);
	REQUIRE(close(a) == 0);
	REQUIRE_ERRNO(EBADF, lwSwitch(a, NULL, 0, NULL, NULL, NULL));
	REQUIRE(counter("contexts") == 1);
	visit_often(b);
	REQUIRE(close(b) == 0);
	REQUIRE(counter("contexts") == 0);
}

CASE(c3_3_in_a_table_of_two_processes,
    "lwCreate() in a table that two processes share fails with EBUSY until "
    "one has left it.")
{
	int *word, fd, status;
	pid_t pid;

	word = shared_page();
	pid = rfork(RFPROC);			/* it has our table as well */
	REQUIRE(pid >= 0);
	if (pid == 0) {
		while (atomic_load((_Atomic int *)&word[1]) == 0)
			usleep(1000);
		_exit(0);
	}
	REQUIRE_ERRNO(EBUSY, lwGetlwc());
	REQUIRE_ERRNO(EBUSY, lwCreate(NULL, 0, NULL, NULL, NULL, 0));
	REQUIRE(rfork(RFFDG) == 0);		/* ours alone */
	fd = sharer(&word[0], NULL);
	atomic_store((_Atomic int *)&word[1], 1);
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	visit_often(fd);
	REQUIRE_ERRNO(EBUSY, rfork(RFPROC));	/* and stays so */
	visit_often(fd);
	REQUIRE(close(fd) == 0 && counter("contexts") == 0);
}

CASE(c3_3_out_of_a_shared_table,
    "rfork(2) that would share a table of contexts fails with EBUSY.")
{
	int *visits, a;

	visits = shared_page();
	a = sharer(visits, NULL);
	visit_often(a);
	REQUIRE_ERRNO(EBUSY, rfork(RFFDG));
	REQUIRE_ERRNO(EBUSY, rfork(RFCFDG));
	visit_often(a);
	REQUIRE(*visits == 2 * ROUNDS);
	REQUIRE(close(a) == 0);
}

CASE(c3_3_into_a_shared_table,
    "lwOverlay() of the whole table puts a context into that table.")
{
	struct lwc_spec s[2] = { files(-1, -1, LWC_MAY_OVERLAY),
	    files(-1, -1, LWC_SHARE) };
	struct visit v;
	int back, fd, home, opened;

	/* The way back: the root's own name would bring rights over it. */
	back = create(&v, NULL, 0, 0);
	if (back == LWC_SWITCHED) {
		home = v.src;
		for (;;)
			go(home, &v, v.a[0], 0);
	}
	REQUIRE(back >= 0);
	gogo(back, &v, 0, 0);
	fd = create(&v, s, 1, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(lwOverlay(v.src, &s[1], 1) == 0);
		opened = open("/dev/null", O_RDWR);
		REQUIRE(opened >= 0);
		for (;;)
			gogo(back, &v, opened, 0);
	}
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	/* What it opened is in our table too. */
	REQUIRE(v.src == back);
	opened = v.a[0];
	REQUIRE(fcntl(opened, F_GETFD) != -1);
	visit_often(fd);
	REQUIRE(close(opened) == 0);
	visit_often(fd);
	REQUIRE(close(fd) == 0 && close(back) == 0);
	REQUIRE(counter("contexts") == 0);
}

static void
become_1001(void)
{

	REQUIRE(setgid(1001) == 0 && setuid(1001) == 0);
}

static void
become_capable(void)
{

	REQUIRE(cap_enter() == 0);
}

/* What the current context is, as the kernel sees it. */
static void
require_root(void)
{
	u_int mode;

	REQUIRE(getuid() == 0 && geteuid() == 0 && getgid() == 0);
	REQUIRE(cap_getmode(&mode) == 0 && mode == 0);
}

CASE(c2_4_credentials_follow_each_switch,
    "Another user and capability mode follow each switch between contexts "
    "of one table.")
{
	struct lwc_spec s = files(-1, -1, LWC_SHARE);
	struct visit v;
	int *visits, capable, fd, i, user;
	u_int mode;

	NEED_ROOT();
	visits = shared_page();
	user = sharer(visits, become_1001);
	capable = sharer(visits, become_capable);
	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED) {
		become_1001();
		become_capable();
		for (;;) {
			REQUIRE(getuid() == 1001 && geteuid() == 1001);
			REQUIRE(cap_getmode(&mode) == 0 && mode == 1);
			gogo(v.src, &v, 0, 0);
		}
	}
	for (i = 0; i < ROUNDS; i++) {
		REQUIRE(lwSwitch(user, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED);
		require_root();
		REQUIRE(lwSwitch(fd, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED);
		require_root();
		REQUIRE(lwSwitch(capable, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED);
	}
	require_root();
	/* The process counts for one user only: the current context's. */
	REQUIRE(setuid(0) == 0);
	close(user);
	close(capable);
	close(fd);
	REQUIRE(counter("contexts") == 0);
}
