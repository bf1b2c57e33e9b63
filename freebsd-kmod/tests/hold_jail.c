/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* A process with contexts stays in the jail in which it made the first. */

#include <sys/param.h>
#include <sys/jail.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <signal.h>

#include "lwc_test.h"

static int
new_jail(void)
{
	struct jail j;

	memset(&j, 0, sizeof(j));
	j.version = JAIL_API_VERSION;
	j.path = __DECONST(char *, "/");
	j.hostname = __DECONST(char *, "lwc");
	j.jailname = __DECONST(char *, "lwc-test");
	return (jail(&j));
}

static int
set_jail(int flags)
{
	struct iovec iov[4];

	iov[0].iov_base = __DECONST(char *, "name");
	iov[0].iov_len = sizeof("name");
	iov[1].iov_base = __DECONST(char *, "lwc-test");
	iov[1].iov_len = sizeof("lwc-test");
	iov[2].iov_base = __DECONST(char *, "persist");
	iov[2].iov_len = sizeof("persist");
	iov[3].iov_base = NULL;
	iov[3].iov_len = 0;
	return (jail_set(iov, 4, flags));
}

static void
is_busy(void)
{

	REQUIRE_ERRNO(EBUSY, new_jail());
	REQUIRE_ERRNO(EBUSY, jail_attach(1));
	REQUIRE_ERRNO(EBUSY, raw(SYS_jail_attach_jd, 0, 0, 0, 0, 0, 0));
	REQUIRE_ERRNO(EBUSY, set_jail(JAIL_CREATE | JAIL_ATTACH));
	REQUIRE_ERRNO(EBUSY, set_jail(JAIL_UPDATE | JAIL_ATTACH));
	REQUIRE_ERRNO(EBUSY, raw(SYS_syscall, SYS_jail_attach, 1, 0, 0, 0, 0));
}

CASE(hold_jail_is_not_entered,
    "jail(2) and jail_attach(2) are EBUSY in every context.")
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		is_busy();
		go(v.src, &v, 1, 0);
		_exit(9);
	}
	REQUIRE(fd >= 0);
	is_busy();
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 1);
	is_busy();
}

CASE(hold_jail_is_not_left_dying,
    "A context that tries to go in, out and in again leaves no dying jail.")
{
	struct visit v;
	int fd, i;

	NEED_ROOT();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		i = new_jail();
		for (;;)
			go(v.src, &v, i, 0);
	}
	REQUIRE(fd >= 0);
	for (i = 0; i < 3; i++) {
		gogo(fd, &v, 0, 0);
		usleep(300000);
	}
	REQUIRE((int)v.a[0] == -1);
}

CASE(hold_jail_may_be_made,
    "A jail may be made, and the process may have been in it before.")
{
	struct visit v;
	int fd, id, pid, status;

	NEED_ROOT();
	REQUIRE(lwGetlwc() >= 0);
	/* Without going there. */
	id = set_jail(JAIL_CREATE);
	SKIP_UNLESS(id > 0, "no jails");
	pid = fork();
	if (pid == 0) {
		REQUIRE(jail_attach(id) == 0);
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED) {
			REQUIRE(setuid(1001) == 0);
			for (;;)
				go(v.src, &v, getuid(), 0);
		}
		REQUIRE(fd >= 0);
		gogo(fd, &v, 0, 0);
		REQUIRE(v.a[0] == 1001 && getuid() == 0);
		is_busy();
		_exit(0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	REQUIRE(jail_remove(id) == 0);
	REQUIRE(status == 0);
}
