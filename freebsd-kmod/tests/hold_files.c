/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* What a descriptor carries stays with it when a context overlays it. */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fcntl.h>

#include "lwc_test.h"

/* A context that waits with our table as it was. */
static int
waiting(void)
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 0, 0);
	REQUIRE(fd >= 0);
	return (fd);
}

#ifdef FD_RESOLVE_BENEATH
static void
is_confined(int d)
{

	REQUIRE((fcntl(d, F_GETFD) & FD_RESOLVE_BENEATH) != 0);
	REQUIRE(openat(d, "..", O_RDONLY) == -1);
	REQUIRE(openat(d, "../etc", O_RDONLY) == -1);
	/* Nothing clears it. */
	REQUIRE(fcntl(d, F_SETFD, 0) == 0);
	REQUIRE(openat(d, "../etc", O_RDONLY) == -1);
}

static int
confined(void)
{
	int d;

	d = open("/tmp", O_RDONLY | O_DIRECTORY);
	REQUIRE(d >= 0);
	REQUIRE(fcntl(d, F_SETFD, FD_RESOLVE_BENEATH) == 0);
	is_confined(d);
	return (d);
}

/* Over itself, over nothing, over something else. */
static void
overlay_confined(u_int option)
{
	struct lwc_spec s;
	int c, d, i;

	for (i = 0; i < 3; i++) {
		d = confined();
		c = waiting();
		if (i > 0)
			REQUIRE(close(d) == 0);
		if (i > 1)
			REQUIRE(dup2(STDERR_FILENO, d) == d);
		s = files(d, d, option);
		REQUIRE(lwOverlay(c, &s, 1) == 0);
		is_confined(d);
		REQUIRE(close(c) == 0);
		is_confined(d);
		REQUIRE(close(d) == 0);
	}
}

CASE(hold_files_resolve_beneath,
    "FD_RESOLVE_BENEATH stays with a descriptor that is overlaid as a copy.")
{

	overlay_confined(LWC_COPY);
}

CASE(hold_files_resolve_beneath_shared,
    "FD_RESOLVE_BENEATH stays with descriptors that are shared, one or "
    "several.")
{

	overlay_confined(LWC_SHARE);
}

CASE(hold_files_resolve_beneath_elsewhere,
    "FD_RESOLVE_BENEATH stays in contexts made since, in a whole table, and "
    "on the way back.")
{
	struct lwc_spec s;
	struct visit v;
	int c, d, home, in;

	d = confined();
	c = create(&v, NULL, 0, 0);
	if (c == LWC_SWITCHED) {
		home = v.src;
		is_confined(d);
		in = create(&v, NULL, 0, 0);
		if (in == LWC_SWITCHED) {
			is_confined(d);
			s = files(0, d, LWC_COPY);
			for (;;)
				go(v.src, &v, 0, 0);
		}
		gogo(in, &v, 0, 0);
		s = files(d, d, LWC_SHARE);
		REQUIRE(lwOverlay(in, &s, 1) == 0);
		is_confined(d);
		for (;;)
			go(home, &v, 0, 0);
	}
	(void)go_until(c, after(lenient(2000)), &v, 0);
	s = files(0, d, LWC_COPY);
	REQUIRE(lwOverlay(c, &s, 1) == 0);
	is_confined(d);
	s = files(-1, -1, LWC_SHARE);
	REQUIRE(lwOverlay(c, &s, 1) == 0);
	is_confined(d);
}
#endif

CASE(hold_files_flags, "FD_CLOEXEC and FD_CLOFORK stay with the descriptor.")
{
	static const u_int options[] = { LWC_COPY, LWC_SHARE };
	static const int flags[] = { 0, FD_CLOEXEC, FD_CLOFORK,
	    FD_CLOEXEC | FD_CLOFORK };
	struct lwc_spec s;
	struct visit v;
	u_int i, o;
	int c, d, pid, status;

	d = open("/dev/null", O_RDWR);
	REQUIRE(d >= 0);
	for (o = 0; o < nitems(options); o++)
		for (i = 0; i < nitems(flags); i++) {
			c = create(&v, NULL, 0, 0);
			if (c == LWC_SWITCHED) {
				/* Its own, whatever comes with lwCreate(2). */
				if (fcntl(d, F_GETFD) == -1)
					(void)dup2(0, d);
				if (fcntl(d, F_SETFD, flags[i]) != 0)
					_exit(9);
				for (;;)
					go(v.src, &v, 0, 0);
			}
			REQUIRE(c >= 0);
			gogo(c, &v, 0, 0);
			REQUIRE(fcntl(d, F_SETFD, 0) == 0);
			s = files(d, d, options[o]);
			REQUIRE(lwOverlay(c, &s, 1) == 0);
			REQUIRE(fcntl(d, F_GETFD) == flags[i]);
			pid = fork();
			if (pid == 0)
				_exit(fcntl(d, F_GETFD) == -1 ? 1 : 0);
			REQUIRE(waitpid(pid, &status, 0) == pid);
			REQUIRE(WEXITSTATUS(status) ==
			    ((flags[i] & FD_CLOFORK) != 0 ? 1 : 0));
			REQUIRE(close(c) == 0);
			REQUIRE(fcntl(d, F_SETFD, 0) == 0);
		}
}

/*
 * A context that has a descriptor of itself, which carries all rights over it,
 * at a number that it tells.
 */
static int
with_self(char *secret, int *self)
{
	struct visit v;
	int fd, mine;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		secret[0] = 's';
		mine = lwGetlwc();
		if (mine < 0 || dup2(mine, 50) != 50)
			_exit(9);
		for (;;)
			go(v.src, &v, 50, 0);
	}
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	*self = (int)v.a[0];
	return (fd);
}

/* The descriptor that came must not do what the first may not. */
static void
no_more_than(int self, char *secret)
{
	struct lwc_spec s[2];
	struct lwc_info li;
	uint64_t a[LWC_CALL_NARGS] = { 0 };

	if (fcntl(self, F_GETFD) == -1)
		return;			/* or it did not come */
	s[0] = mem(secret, PAGE, LWC_COPY);
	REQUIRE(lwOverlay(self, s, 1) == -1);
	REQUIRE(secret[0] == 'r');
	s[0] = mem(secret, PAGE, LWC_SHARE);
	REQUIRE(lwOverlay(self, s, 1) == -1);
	s[0] = creds(LWC_SHARE);
	REQUIRE(lwOverlay(self, s, 1) == -1);
	REQUIRE(lwSyscall(self, LWC_MEMORY, SYS_getpid, a) == -1);
	REQUIRE(lwSyscall(self, LWC_CREDENTIALS, SYS_getpid, a) == -1);
	REQUIRE(lwInfo(self, &li) == -1 ||
	    (li.li_rights & LWC_CREDENTIALS) == 0);
}

static void
overlay_self(bool whole, u_int option)
{
	struct lwc_spec s[2];
	char *secret;
	int fd, self;

	secret = page();
	secret[0] = 'r';
	fd = with_self(secret, &self);
	s[0] = mem((void *)(uintptr_t)PAGE, 0x7ffffffff000 - PAGE, LWC_COPY);
	s[1] = creds(LWC_COPY);
	REQUIRE(lwRestrict(fd, s, 2) == 0);
	s[0] = whole ? files(-1, -1, option) : files(self, self, option);
	if (lwOverlay(fd, s, 1) != 0)
		return;
	no_more_than(self, secret);
}

CASE(hold_files_self_in_a_range,
    "A context's descriptor of itself brings no rights when a range is "
    "overlaid.")
{

	overlay_self(false, LWC_COPY);
}

CASE(hold_files_self_in_a_shared_range,
    "A context's descriptor of itself brings no rights when a range is shared.")
{

	overlay_self(false, LWC_SHARE);
}

CASE(hold_files_self_in_the_table,
    "A context's descriptor of itself brings no rights when the whole table "
    "is overlaid.")
{

	overlay_self(true, LWC_SHARE);
}
