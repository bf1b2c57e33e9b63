/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Clauses 4 and 5: lwRestrict(), lwOverlay(). */

#include <sys/param.h>
#include <sys/event.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <fcntl.h>

#include "lwc_test.h"

#define	TOP	0x7ffffffff000UL

/* A child that has p[0] = 'c' and waits for ever. */
static int
child_with(char *p)
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		p[0] = 'c';
		for (;;)
			go(v.src, &v, p[0], 0);
	}
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	return (fd);
}

CASE(c4_1_restricted_memory_cannot_be_overlaid,
    "Memory that was restricted cannot be overlaid ever again, and all "
    "other memory can.")
{
	struct lwc_spec s;
	char *p;
	int fd;

	p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	memset(p, 'r', 3 * PAGE);
	fd = child_with(p);
	s = mem(p + PAGE, PAGE, 0);
	REQUIRE(lwRestrict(fd, &s, 1) == 0);
	s = mem(p + PAGE, PAGE, LWC_SHARE);
	REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s, 1));
	s = mem(p, 3 * PAGE, LWC_SHARE);
	REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s, 1));
	s = mem(p, 2 * PAGE, LWC_COPY);
	REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s, 1));
	s = mem(p, PAGE, LWC_SHARE);
	REQUIRE(lwOverlay(fd, &s, 1) == 0 && p[0] == 'c');
	s = mem(p + 2 * PAGE, PAGE, LWC_SHARE);
	REQUIRE(lwOverlay(fd, &s, 1) == 0);
}

CASE(c4_1_copies_carry_the_narrowed_rights,
    "dup(2) and a later lwCreate() carry the narrowed rights.")
{
	struct lwc_info li;
	struct lwc_spec s;
	struct visit v;
	char *p;
	int fd, fd2, other;

	p = page();
	fd = child_with(p);
	s = mem(p, PAGE, 0);
	REQUIRE(lwRestrict(fd, &s, 1) == 0);
	fd2 = dup(fd);
	s = mem(p, PAGE, LWC_SHARE);
	REQUIRE_ERRNO(EACCES, lwOverlay(fd2, &s, 1));
	other = create(&v, NULL, 0, 0);
	if (other == LWC_SWITCHED) {
		REQUIRE(lwInfo(fd, &li) == 0 && li.li_id == 2);
		REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s, 1));
		/* What it takes from its own copy is not taken from ours. */
		s = files(-1, -1, 0);
		REQUIRE(lwRestrict(fd, &s, 1) == 0);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(other, &v, 0, 0);
	REQUIRE(lwInfo(fd, &li) == 0);
	REQUIRE(li.li_rights == LWC_TYPES);
}

CASE(c4_1_self_narrows_everybody,
    "lwRestrict(LWC_SELF) narrows the rights of all who name the caller.")
{
	struct lwc_info li;
	struct lwc_spec s[3];
	struct visit v;
	char *p;
	int fd;

	p = page();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		s[0] = mem(p, PAGE, 0);
		s[1] = creds(0);
		REQUIRE(lwRestrict(LWC_SELF, s, 2) == 0);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	s[0] = mem(p, PAGE, LWC_COPY);
	REQUIRE(lwOverlay(fd, s, 1) == 0);
	gogo(fd, &v, 0, 0);
	REQUIRE_ERRNO(EACCES, lwOverlay(fd, s, 1));
	s[0] = creds(LWC_SHARE);
	REQUIRE_ERRNO(EACCES, lwOverlay(fd, s, 1));
	REQUIRE(lwInfo(fd, &li) == 0);
	REQUIRE(li.li_rights == (LWC_MEMORY | LWC_FILES));
}

CASE(c4_2_after_everything_only_switch_and_close,
    "After every right is given up one can switch and close, and nothing else.")
{
	struct lwc_info li;
	struct lwc_spec s[3];
	struct visit v;
	uint64_t a[8] = { 0 };
	char *p;
	int fd;

	p = page();
	fd = child_with(p);
	s[0] = mem((void *)(uintptr_t)PAGE, TOP - PAGE, 0);
	s[1] = files(-1, -1, 0);
	s[2] = creds(0);
	REQUIRE(lwRestrict(fd, s, 3) == 0);
	s[0] = mem(p, PAGE, LWC_SHARE);
	s[1] = files(0, 0, LWC_SHARE);
	s[2] = creds(LWC_SHARE);
	REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s[0], 1));
	REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s[1], 1));
	REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s[2], 1));
	REQUIRE_ERRNO(EACCES, lwSyscall(fd, LWC_MEMORY, 20, a));
	REQUIRE_ERRNO(EACCES, lwSyscall(fd, LWC_FILES, 20, a));
	REQUIRE_ERRNO(EACCES, lwSyscall(fd, LWC_CREDENTIALS, 20, a));
	REQUIRE(lwInfo(fd, &li) == 0 && (li.li_rights & LWC_FILES) == 0 &&
	    (li.li_rights & LWC_CREDENTIALS) == 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(close(fd) == 0);
}

CASE(c4_1_errors_of_restrict,
    "Bad arguments of lwRestrict() are EBADF, EINVAL, EFAULT or E2BIG.")
{
	struct lwc_spec s;
	int fd;

	fd = lwGetlwc();
	s = mem((void *)(uintptr_t)1, PAGE, 0);
	REQUIRE_ERRNO(EBADF, lwRestrict(0, &s, 1));
	REQUIRE_ERRNO(EBADF, lwRestrict(-5, &s, 1));
	REQUIRE_ERRNO(EINVAL, lwRestrict(fd, &s, 1));
	REQUIRE_ERRNO(EFAULT, lwRestrict(fd, NULL, 1));
	REQUIRE_ERRNO(E2BIG, lwRestrict(fd, &s, 100000));
	REQUIRE(lwRestrict(fd, NULL, 0) == 0);
}

CASE(c5_1_share_goes_both_ways,
    "A child's memory that is shared in place of mine is written and read "
    "both ways.")
{
	struct lwc_spec s;
	struct visit v;
	char *p;
	int fd;

	p = page();
	p[0] = 'r';
	fd = child_with(p);
	REQUIRE(p[0] == 'r');
	s = mem(p, PAGE, LWC_SHARE);
	REQUIRE(lwOverlay(fd, &s, 1) == 0);
	REQUIRE(p[0] == 'c');
	p[0] = 'q';
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 'q');
}

CASE(c5_1_copy_is_a_snapshot,
    "Memory that was overlaid as a copy takes later writes for itself alone.")
{
	struct lwc_spec s;
	struct visit v;
	char *p;
	int fd;

	p = page();
	p[0] = 'r';
	fd = child_with(p);
	s = mem(p, PAGE, LWC_COPY);
	REQUIRE(lwOverlay(fd, &s, 1) == 0);
	REQUIRE(p[0] == 'c');
	p[0] = 'q';
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 'c');
}

CASE(c5_1_protection_is_never_widened,
    "Read-only memory is read-only where it is overlaid.")
{
	struct lwc_spec s;
	struct visit v;
	char *p;
	int fd;

	p = page();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		p[0] = 'c';
		REQUIRE(mprotect(p, PAGE, PROT_READ) == 0);
		for (;;)
			go(v.src, &v, p[0], 0);
	}
	gogo(fd, &v, 0, 0);
	s = mem(p, PAGE, LWC_SHARE);
	REQUIRE(lwOverlay(fd, &s, 1) == 0);
	REQUIRE(p[0] == 'c' && faults(p, 1));
	REQUIRE(mprotect(p, PAGE, PROT_READ | PROT_WRITE) == -1);
	REQUIRE(faults(p, 1));
	s = mem(p, PAGE, LWC_COPY);
	REQUIRE(lwOverlay(fd, &s, 1) == 0);
	REQUIRE(p[0] == 'c' && faults(p, 1));
	REQUIRE(mprotect(p, PAGE, PROT_READ | PROT_WRITE) == -1);
}

CASE(c5_1_unmap_of_oneself,
    "A context can unmap its own memory and descriptors, and gets nothing "
    "back by it.")
{
	struct lwc_spec s[2];
	char *p;
	int fd;

	p = page();
	fd = child_with(p);
	s[0] = mem(p, PAGE, LWC_UNMAP);
	s[1] = files(0, 0, LWC_UNMAP);
	REQUIRE_ERRNO(EINVAL, lwOverlay(fd, s, 2));
	REQUIRE(!faults(p, 1));
	REQUIRE(lwOverlay(LWC_SELF, s, 2) == 0);
	REQUIRE(faults(p, 0));
	REQUIRE_ERRNO(EBADF, fcntl(0, F_GETFD));
	s[0].flags = LWC_MEMORY | LWC_SHARE;
	REQUIRE_ERRNO(EINVAL, lwOverlay(LWC_SELF, s, 1));
}

CASE(c5_1_files_at_the_same_numbers,
    "Files are overlaid at the same numbers, a range or the whole table.")
{
	struct lwc_spec s;
	struct visit v;
	char c;
	int fd, p[2];

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(pipe(p) == 0);
		REQUIRE(dup2(p[0], 40) == 40 && dup2(p[1], 41) == 41);
		REQUIRE(write(p[1], "abc", 3) == 3);
		go(v.src, &v, 0, 0);
		REQUIRE(open("/", O_RDONLY) >= 0);
		REQUIRE(dup2(0, 50) == 50);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	REQUIRE(dup2(0, 41) == 41);
	gogo(fd, &v, 0, 0);
	s = files(40, 41, LWC_SHARE);
	REQUIRE(lwOverlay(fd, &s, 1) == 0);
	REQUIRE(read(40, &c, 1) == 1 && c == 'a');
	REQUIRE(write(41, "d", 1) == 1);
	s = files(45, 46, LWC_COPY);
	REQUIRE_ERRNO(EFAULT, lwOverlay(fd, &s, 1));
	s = files(-1, -1, LWC_COPY);
	REQUIRE(lwOverlay(fd, &s, 1) == 0);
	/* Its table names the root and not itself: nobody names it now. */
	REQUIRE(read(40, &c, 1) == 1 && c == 'b');
	REQUIRE_ERRNO(EBADF, fcntl(50, F_GETFD));
}

CASE(c5_1_whole_table_shared,
    "A table that is overlaid as shared is one table from then on.")
{
	struct lwc_spec s;
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		int me = lwGetlwc();

		REQUIRE(me >= 0);
		go(v.src, &v, me, 0);
		REQUIRE(dup2(0, 60) == 60);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	fd = (int)v.a[0];
	s = files(-1, -1, LWC_SHARE);
	REQUIRE(lwOverlay(v.src, &s, 1) == 0);
	REQUIRE(fcntl(60, F_GETFD) == -1);
	gogo(fd, &v, 0, 0);
	REQUIRE(fcntl(60, F_GETFD) >= 0);
}

CASE(c5_1_credentials,
    "Credentials of a context that was made before can be overlaid.")
{
	struct lwc_spec s;
	struct visit v;
	int fd;

	NEED_ROOT();
	fd = create(&v, NULL, 0, 0);	/* still root's */
	REQUIRE(fd >= 0);
	REQUIRE(setuid(1001) == 0);
	s = creds(LWC_SHARE);
	REQUIRE(lwOverlay(fd, &s, 1) == 0);
	REQUIRE(getuid() == 0 && geteuid() == 0);
	REQUIRE(lwRestrict(fd, &s, 1) == 0);
	REQUIRE(setuid(1001) == 0);
	REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s, 1));
	REQUIRE(getuid() == 1001);
}

CASE(c5_2_all_or_nothing,
    "An lwOverlay() that fails leaves everything as it was.")
{
	struct lwc_spec s[3];
	char *hole, *p, *q;
	int fd, kq;

	p = page();
	q = page();
	hole = page();
	p[0] = q[0] = 'r';
	kq = kqueue();
	REQUIRE(kq >= 0 && munmap(hole, PAGE) == 0);
	fd = child_with(p);
	s[0] = mem(p, PAGE, LWC_SHARE);
	s[1] = mem(hole, PAGE, LWC_SHARE);
	REQUIRE_ERRNO(EFAULT, lwOverlay(fd, s, 2));
	REQUIRE(p[0] == 'r');
	s[1].flags = LWC_MEMORY | LWC_COPY;
	REQUIRE_ERRNO(EFAULT, lwOverlay(fd, s, 2));
	REQUIRE(p[0] == 'r');
	s[1] = mem(p, PAGE, LWC_COPY);
	REQUIRE_ERRNO(EINVAL, lwOverlay(fd, s, 2));
	s[1] = files(70, 80, LWC_SHARE);
	REQUIRE_ERRNO(EFAULT, lwOverlay(fd, s, 2));
	REQUIRE(p[0] == 'r');
	s[1] = s[0];
	s[0] = files(0, 0, LWC_SHARE);
	REQUIRE(lwOverlay(fd, s, 2) == 0 && p[0] == 'c');
}

CASE(c5_3_errors, "Bad arguments of lwOverlay() are EBADF, EFAULT or E2BIG.")
{
	struct lwc_spec s;
	char *p;
	int fd;

	p = page();
	fd = child_with(p);
	s = mem(p, PAGE, LWC_SHARE);
	REQUIRE_ERRNO(EBADF, lwOverlay(0, &s, 1));
	REQUIRE_ERRNO(EBADF, lwOverlay(-7, &s, 1));
	REQUIRE_ERRNO(EFAULT, lwOverlay(fd, NULL, 1));
	REQUIRE_ERRNO(E2BIG, lwOverlay(fd, &s, LWC_MAX_SPECS + 1));
	s.flags |= LWC_MAY_OVERLAY;
	REQUIRE_ERRNO(EINVAL, lwOverlay(fd, &s, 1));
	REQUIRE(lwOverlay(fd, NULL, 0) == 0);
}

CASE(c5_3_limit_of_the_address_space,
    "lwOverlay() beyond RLIMIT_VMEM fails with ENOMEM.")
{
	struct lwc_spec s;
	struct rlimit rl;
	struct visit v;
	char *p;
	int fd;

	p = mmap((void *)0x600000000000, 64 << 20, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0 && munmap(p, 64 << 20) == 0);
	rl.rlim_cur = rl.rlim_max = 48 << 20;
	REQUIRE(setrlimit(RLIMIT_VMEM, &rl) == 0);
	s = mem(p, 64 << 20, LWC_SHARE);
	REQUIRE_ERRNO(ENOMEM, lwOverlay(fd, &s, 1));
	REQUIRE(faults(p, 0));
}

CASE(c2_5_may_overlay_is_a_right_over_the_creator,
    "LWC_MAY_OVERLAY lends the child the named range of its creator and no "
    "other.")
{
	struct lwc_info li;
	struct lwc_spec s[2];
	struct visit v;
	char *p;
	int fd;

	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	p[0] = p[PAGE] = 'o';
	s[0] = mem(p, PAGE, LWC_MAY_OVERLAY | LWC_UNMAP);
	fd = create(&v, s, 1, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(faults(p, 0));
		REQUIRE(lwInfo(v.src, &li) == 0);
		REQUIRE(li.li_rights == LWC_MEMORY);
		s[0] = mem(p, 2 * PAGE, LWC_SHARE);
		REQUIRE_ERRNO(EACCES, lwOverlay(v.src, s, 1));
		s[0] = mem(p, PAGE, LWC_SHARE);
		REQUIRE(lwOverlay(v.src, s, 1) == 0);
		REQUIRE(p[0] == 'n');
		p[0] = 'm';
		REQUIRE_ERRNO(EACCES, lwSyscall(v.src, LWC_MEMORY, 20, NULL));
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	p[0] = 'n';
	gogo(fd, &v, 0, 0);
	REQUIRE(p[0] == 'm');
}

CASE(c8_1_info,
    "lwInfo() tells the facts of a context, and refuses bad arguments.")
{
	struct lwc_info li;
	struct visit v;
	int fd;

	REQUIRE_ERRNO(EBADF, lwInfo(0, &li));
	REQUIRE_ERRNO(EFAULT, lwInfo(LWC_SELF, NULL));
	fd = create(&v, NULL, 0, LWC_TRAP_FAULT);
	REQUIRE(lwInfo(fd, &li) == 0);
	REQUIRE(li.li_version == LWC_ABI_VERSION && li.li_id == 2);
	REQUIRE(li.li_creator == 1 && li.li_flags == LWC_TRAP_FAULT);
	REQUIRE(li.li_contexts == 2 && li.li_rights == LWC_TYPES);
	REQUIRE(li.li_state == LWC_STATE_NEW);
	REQUIRE(lwInfo(LWC_SELF, &li) == 0 && li.li_resident > 0);
	REQUIRE(li.li_resident >= li.li_private);
}

CASE(c4_1_a_dead_context_has_nothing_to_restrict,
    "lwRestrict() of a dead context fails with ESRCH.")
{
	struct lwc_spec s;
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	s = creds(0);
	REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
	REQUIRE_ERRNO(ESRCH, lwRestrict(fd, &s, 1));
}
