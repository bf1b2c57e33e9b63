/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Contract 10.1: locked memory is what it was after a rollback, and locked. */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysctl.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "lwc_test.h"

#define	PAGES	4
#define	CONTENTS 0x11

static char *area;

/* How many pages of the area are locked, as procstat(1) would tell. */
static uint64_t
locked_pages(void)
{
	static char buf[256 * 1024];
	struct kinfo_vmentry *kve;
	uint64_t begin, end, n;
	size_t at, len;
	int mib[4] = { CTL_KERN, KERN_PROC, KERN_PROC_VMMAP, getpid() };

	len = sizeof(buf);
	if (sysctl(mib, 4, buf, &len, NULL, 0) != 0)
		return (~0ULL);
	n = 0;
	for (at = 0; at < len; at += kve->kve_structsize) {
		kve = (struct kinfo_vmentry *)(buf + at);
		if (kve->kve_structsize == 0)
			break;
		if ((kve->kve_flags & KVME_FLAG_USER_WIRED) == 0)
			continue;
		begin = MAX(kve->kve_start, (uint64_t)area);
		end = MIN(kve->kve_end, (uint64_t)area + PAGES * PAGE);
		if (begin < end)
			n += (end - begin) / PAGE;
	}
	return (n);
}

enum { LOOK, LOCK, LOCK_FUTURE, WRITE, UNLOCK, UNLOCK_ONE, PROTECT, CLOSE_OFF,
    UNMAP_ONE, MAP_OVER, WIDEN, FORK };

/* What a context does to the area; it tells of the contents, and of locks. */
static uint64_t
does(uint64_t what)
{
	int i, n, status;
	pid_t pid;

	switch (what) {
	case LOCK:
		return ((uint64_t)mlock(area, PAGES * PAGE));
	case LOCK_FUTURE:
		return ((uint64_t)mlockall(MCL_FUTURE));
	case WRITE:
		memset(area, 0x55, PAGES * PAGE);
		break;
	case UNLOCK:
		(void)munlock(area, PAGES * PAGE);
		memset(area, 0x55, PAGES * PAGE);
		break;
	case UNLOCK_ONE:
		return ((uint64_t)munlock(area + PAGE, PAGE));
	case PROTECT:
		area[0] = 0x55;
		return ((uint64_t)mprotect(area, PAGES * PAGE, PROT_READ));
	case CLOSE_OFF:
		return ((uint64_t)mprotect(area, PAGE, PROT_NONE));
	case UNMAP_ONE:
		(void)munmap(area + PAGE, PAGE);
		return (0);
	case MAP_OVER:
		(void)mmap(area, PAGES * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANON | MAP_FIXED, -1, 0);
		break;
	case WIDEN:
		return ((uint64_t)mprotect(area, PAGES * PAGE,
		    PROT_READ | PROT_WRITE));
	case FORK:
		pid = fork();
		if (pid == 0)
			_exit(area[0] == CONTENTS ? 0 : 1);
		area[0] = 0x55;
		if (waitpid(pid, &status, 0) != pid || status != 0)
			return (1);
		return (0);
	}
	for (i = n = 0; i < PAGES * PAGE; i++)
		n += area[i] == CONTENTS;
	return ((uint64_t)n << 32 | locked_pages());
}

static const uint64_t as_it_was = (uint64_t)PAGES * PAGE << 32 | PAGES;

static void
area_make(void)
{

	area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANON, -1, 0);
	REQUIRE(area != MAP_FAILED);
	memset(area, CONTENTS, PAGES * PAGE);
}

/* A context with the area locked, and with a snapshot of that. */
static int
locker(void)
{
	int fd;

	fd = servant(does, 0);
	SKIP_UNLESS(ask(fd, LOCK) == 0, "cannot lock memory");
	REQUIRE(ask(fd, LOOK) == as_it_was);
	REQUIRE(snapshot(fd) == 0);
	return (fd);
}

CASE(c10_1_locked_memory,
    "Locked memory has its contents again, and is locked, whatever was done "
    "to it.")
{
	static const int ways[] = { WRITE, UNLOCK, UNLOCK_ONE, PROTECT,
	    CLOSE_OFF, UNMAP_ONE, MAP_OVER, FORK };
	u_int i;
	int fd;

	area_make();
	fd = locker();
	for (i = 0; i < nitems(ways) * 2; i++) {
		(void)ask(fd, ways[i % nitems(ways)]);
		REQUIRE(rollback(fd) >= 0);
		REQUIRE(ask(fd, LOOK) == as_it_was);
		/* What a copy in place undoes it undoes again and again. */
		(void)ask(fd, WRITE);
		REQUIRE(rollback(fd) >= PAGES);
		REQUIRE(ask(fd, LOOK) == as_it_was);
	}
}

CASE(c10_1_locked_memory_read_only,
    "Locked memory that cannot be written is locked, and cannot be written, "
    "after a rollback.")
{
	int fd, i;

	area_make();
	REQUIRE(mprotect(area, PAGES * PAGE, PROT_READ) == 0);
	fd = locker();
	for (i = 0; i < 3; i++) {
		REQUIRE(ask(fd, WIDEN) == 0);
		(void)ask(fd, WRITE);
		REQUIRE(rollback(fd) > 0);
		REQUIRE(ask(fd, LOOK) == as_it_was);
		REQUIRE(ask(fd, UNLOCK_ONE) == 0);
		REQUIRE(rollback(fd) >= 0);
		REQUIRE(ask(fd, LOOK) == as_it_was);
	}
}

CASE(c10_1_locked_memory_untouched,
    "A rollback undoes no page of locked memory that was not written.")
{
	int fd, pages;

	area_make();
	fd = locker();
	(void)ask(fd, LOOK);
	REQUIRE(rollback(fd) >= 0);
	(void)ask(fd, LOOK);
	pages = rollback(fd);
	(void)ask(fd, WRITE);
	REQUIRE(rollback(fd) == pages + PAGES);
}

CASE(c10_1_memory_locked_since,
    "Memory that was locked since the snapshot is not locked after a rollback.")
{
	int fd;

	area_make();
	fd = servant(does, 0);
	REQUIRE(snapshot(fd) == 0);
	SKIP_UNLESS(ask(fd, LOCK) == 0, "cannot lock memory");
	(void)ask(fd, WRITE);
	REQUIRE(rollback(fd) > 0);
	REQUIRE(ask(fd, LOOK) == (uint64_t)PAGES * PAGE << 32);
	SKIP_UNLESS(ask(fd, LOCK_FUTURE) == 0, "cannot lock memory");
	REQUIRE_ERRNO(EINVAL, snapshot(fd));
	REQUIRE(rollback(fd) > 0);
	REQUIRE(snapshot(fd) == 0);
}

CASE(c10_1_locked_memory_out_of_reach,
    "A context with locked memory that it cannot read has no snapshot.")
{
	int fd;

	area_make();
	fd = locker();
	REQUIRE(ask(fd, CLOSE_OFF) == 0);
	REQUIRE_ERRNO(EINVAL, snapshot(fd));
	REQUIRE(rollback(fd) > 0);
	REQUIRE(ask(fd, LOOK) == as_it_was);
}

CASE(c10_6_limit_of_locked_memory,
    "A snapshot's locked memory counts against RLIMIT_MEMLOCK: ENOMEM.")
{
	struct rlimit rl;
	int fd;

	area_make();
	REQUIRE(getrlimit(RLIMIT_MEMLOCK, &rl) == 0);
	SKIP_UNLESS(rl.rlim_cur >= 2 * PAGES * PAGE, "cannot lock memory");
	fd = locker();
	/* That and no more. */
	rl.rlim_cur = 2 * PAGES * PAGE;
	REQUIRE(setrlimit(RLIMIT_MEMLOCK, &rl) == 0);
	REQUIRE_ERRNO(ENOMEM, snapshot(fd));
	REQUIRE(rollback(fd) >= 0);
	rl.rlim_cur = 3 * PAGES * PAGE;
	REQUIRE(setrlimit(RLIMIT_MEMLOCK, &rl) == 0);
	REQUIRE(snapshot(fd) == 0);
}

CASE(c10_6_locking_that_fails,
    "A snapshot that cannot lock its copy changes nothing, and a rollback "
    "that cannot ends the context.")
{
	struct lwc_info li;
	int fd;

	NEED_ROOT();
	area_make();
	fd = locker();
	fail_point("debug.fail_point.lwc_lock_alike", "1*return(12)");
	REQUIRE_ERRNO(ENOMEM, snapshot(fd));
	fail_point("debug.fail_point.lwc_lock_alike", "off");
	(void)ask(fd, UNLOCK);
	fail_point("debug.fail_point.lwc_lock_alike", "1*return(12)");
	REQUIRE_ERRNO(ENOMEM, rollback(fd));
	fail_point("debug.fail_point.lwc_lock_alike", "off");
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_state == LWC_STATE_DEAD);
}
