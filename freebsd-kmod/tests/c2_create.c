/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Clause 2: lwCreate(). */

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

static int value = 1;

CASE(c2_1_creator_gets_a_descriptor,
    "The creator gets a descriptor, and the new context its first switch, "
    "out of the same lwCreate().")
{
	struct lwc_info li;
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(v.n == 2 && v.a[0] == 5 && v.a[1] == 6);
		REQUIRE(v.src >= 0);
		go(v.src, &v, v.a[0] + 1, v.a[1] + 1);
		_exit(9);
	}
	REQUIRE(fd >= 0);
	REQUIRE(lwInfo(fd, &li) == 0);
	REQUIRE(li.li_state == LWC_STATE_NEW && li.li_creator == 1);
	gogo(fd, &v, 5, 6);
	REQUIRE(v.src == fd && v.n == 2 && v.a[0] == 6 && v.a[1] == 7);
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_state == LWC_STATE_SUSPENDED);
}

CASE(c2_2_memory_is_a_copy,
    "What one context writes to its memory another does not see.")
{
	struct visit v;
	volatile int *heap;
	int fd;

	heap = malloc(1 << 20);
	heap[0] = heap[100000] = 10;
	value = 10;
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(value == 10 && heap[0] == 10);
		value = 20;
		heap[0] = heap[100000] = 20;
		go(v.src, &v, 0, 0);
		REQUIRE(value == 20 && heap[0] == 20);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	value = 11;
	value = 10;	/* it sees the moment of its creation */
	gogo(fd, &v, 0, 0);
	REQUIRE(value == 10 && heap[0] == 10 && heap[100000] == 10);
	value = heap[0] = 30;
	gogo(fd, &v, 0, 0);
	REQUIRE(value == 30 && heap[0] == 30);
}

CASE(c2_2_descriptors_are_a_copy,
    "A descriptor that is closed in one context stays open in the other.")
{
	struct visit v;
	char c;
	int fd, p[2];

	REQUIRE(pipe(p) == 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(write(p[1], "y", 1) == 1);
		REQUIRE(close(p[1]) == 0 && close(p[0]) == 0);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(read(p[0], &c, 1) == 1 && c == 'y');
	REQUIRE(write(p[1], "z", 1) == 1);
}

CASE(c2_5_a_name_of_the_creator_gives_no_more,
    "A child's name of its creator gives no more rights than the creator lent.")
{
	struct lwc_info li;
	struct lwc_spec s[2];
	struct visit v;
	char *p, *q;
	int fd, self;

	p = page();
	q = page();
	self = lwGetlwc();
	REQUIRE(self >= 0);
	REQUIRE(lwInfo(self, &li) == 0 && li.li_rights == LWC_TYPES);
	s[0] = mem(p, PAGE, LWC_MAY_OVERLAY);
	fd = create(&v, s, 1, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(lwInfo(self, &li) == 0 && li.li_rights == LWC_MEMORY);
		s[0] = mem(q, PAGE, 0);
		REQUIRE_ERRNO(EACCES, lwOverlay(self, s, 1));
		REQUIRE_ERRNO(EACCES, lwSyscall(self, LWC_CREDENTIALS, 24,
		    (uint64_t[LWC_CALL_NARGS]){ 0 }));
		s[0] = mem(p, PAGE, LWC_SHARE);
		REQUIRE(lwOverlay(self, s, 1) == 0);
		p[0] = 5;
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(p[0] == 5);
	REQUIRE(lwInfo(self, &li) == 0 && li.li_rights == LWC_TYPES);
}

CASE(c2_3_the_lowest_number_stays_the_lowest,
    "open(2) takes the lowest number where a higher one was left out of the "
    "table.")
{
	struct lwc_spec s;
	struct visit v;
	int fd, low;

	low = dup(0);
	REQUIRE(low > 0 && dup2(0, 100) == 100);
	REQUIRE(close(low) == 0);
	s = files(100, 100, LWC_UNMAP);
	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED) {
		/* The creator's number is the first that is free. */
		REQUIRE(v.src == low);
		go(v.src, &v, dup(0), 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == (uint64_t)low + 1);
}

CASE(c2_2_directory_and_umask_are_a_copy,
    "Working directory and umask are each context's own.")
{
	struct visit v;
	char buf[1024];
	int fd;

	REQUIRE(chdir("/") == 0);
	umask(022);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(chdir("/dev") == 0);
		REQUIRE(umask(077) == 022);
		go(v.src, &v, 0, 0);
		REQUIRE(getcwd(buf, sizeof(buf)) && !strcmp(buf, "/dev"));
		go(v.src, &v, umask(0), 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(getcwd(buf, sizeof(buf)) != NULL && strcmp(buf, "/") == 0);
	REQUIRE(umask(0) == 022);
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 077);
}

CASE(c2_3_share_is_seen_by_both,
    "Private memory that was shared is written and read both ways.")
{
	struct lwc_spec s;
	struct visit v;
	volatile int *p;
	int fd;

	p = page();
	p[0] = 1;
	s = mem((void *)p, PAGE, LWC_SHARE);
	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(p[0] == 2);
		p[0] = 3;
		go(v.src, &v, 0, 0);
		REQUIRE(p[0] == 4);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	p[0] = 2;
	gogo(fd, &v, 0, 0);
	REQUIRE(p[0] == 3);
	p[0] = 4;
	gogo(fd, &v, 0, 0);
}

CASE(c2_3_share_untouched_memory,
    "Memory that nobody has touched yet is shared, too.")
{
	struct lwc_spec s;
	struct visit v;
	volatile int *p;
	int fd;

	p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	s = mem((void *)p, 16 * PAGE, LWC_SHARE);
	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED) {
		p[5 * 1024] = 55;
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(p[5 * 1024] == 55 && p[0] == 0);
}

CASE(c2_3_shared_is_one_memory_from_then_on,
    "Memory once shared is shared with a third context, too.")
{
	struct lwc_spec s;
	struct visit v;
	volatile int *p;
	int a, b;

	p = page();
	s = mem((void *)p, PAGE, LWC_SHARE);
	a = create(&v, &s, 1, 0);
	if (a == LWC_SWITCHED) {
		for (;;) {
			p[0]++;
			go(v.src, &v, 0, 0);
		}
	}
	b = create(&v, NULL, 0, 0);
	if (b == LWC_SWITCHED) {
		for (;;) {
			p[0] += 10;
			go(v.src, &v, 0, 0);
		}
	}
	gogo(a, &v, 0, 0);
	gogo(b, &v, 0, 0);
	gogo(a, &v, 0, 0);
	REQUIRE(p[0] == 12);
}

CASE(c2_3_map_shared_stays_shared,
    "A MAP_SHARED mapping is shared without a specifier.")
{
	struct visit v;
	volatile int *p;
	int fd;

	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_ANON | MAP_SHARED,
	    -1, 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		p[0] = 3;
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(p[0] == 3);
}

CASE(c2_3_copy_of_shared_is_a_snapshot,
    "A copy of shared memory is private while the others go on sharing.")
{
	struct lwc_spec s;
	struct visit v;
	volatile int *p;
	int a, b;

	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_ANON | MAP_SHARED,
	    -1, 0);
	p[0] = 1;
	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED) {
		for (;;) {
			p[0]++;
			go(v.src, &v, 0, 0);
		}
	}
	s = mem((void *)p, PAGE, LWC_COPY);
	b = create(&v, &s, 1, 0);
	if (b == LWC_SWITCHED) {
		for (;;) {
			p[0] += 100;
			go(v.src, &v, p[0], 0);
		}
	}
	p[0] = 5;
	gogo(b, &v, 0, 0);
	REQUIRE(v.a[0] == 101 && p[0] == 5);
	gogo(a, &v, 0, 0);
	REQUIRE(p[0] == 6);
	gogo(b, &v, 0, 0);
	REQUIRE(v.a[0] == 201);
}

CASE(c2_3_unmapped_memory_faults_there,
    "Memory that was left out faults in the new context and only there.")
{
	struct lwc_spec s;
	struct visit v;
	char *p;
	int fd;

	p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	memset(p, 'a', 3 * PAGE);
	s = mem(p + PAGE, PAGE, LWC_UNMAP);
	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(p[0] == 'a' && p[2 * PAGE] == 'a');
		REQUIRE(faults(p + PAGE, 0));
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(!faults(p + PAGE, 1) && p[PAGE] == 'a');
	/* The specifier was for that call alone. */
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(!faults(p + PAGE, 1));
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
}

CASE(c2_3_unmapped_descriptors_are_closed_there,
    "Descriptors that were left out, a range or all, are closed in the new "
    "context.")
{
	struct lwc_spec s;
	struct visit v;
	int fd, p[2];

	REQUIRE(pipe(p) == 0);
	REQUIRE(fcntl(p[0], F_SETFD, 0) == 0);
	s = files(p[0], p[1], LWC_UNMAP);
	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(v.src == p[0]);	/* the lowest that is free there */
		REQUIRE_ERRNO(EBADF, fcntl(p[1], F_GETFD));
		REQUIRE(fcntl(2, F_GETFD) >= 0);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(fcntl(p[0], F_GETFD) == 0);
	s = files(-1, -1, LWC_UNMAP);
	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(v.src == 0);
		REQUIRE_ERRNO(EBADF, fcntl(2, F_GETFD));
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(fcntl(2, F_GETFD) >= 0);
	/* The marks are gone: a fork has them all. */
	if (fork() == 0)
		_exit(fcntl(p[0], F_GETFD) == 0 ? 0 : 1);
	REQUIRE(wait(&fd) > 0 && fd == 0);
}

CASE(c2_4_shared_table_is_one_table,
    "What one context opens in a shared table the other can use.")
{
	struct lwc_spec s;
	struct visit v;
	int fd;

	s = files(-1, -1, LWC_SHARE);
	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED) {
		go(v.src, &v, open("/", O_RDONLY), 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(fcntl((int)v.a[0], F_GETFD) >= 0);
}

CASE(c2_4_cap_enter_is_ones_own,
    "Capability mode that one context enters the others are not in.")
{
	struct visit v;
	u_int mode;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(cap_enter() == 0);
		REQUIRE_ERRNO(ECAPMODE, open("/", O_RDONLY));
		go(v.src, &v, 0, 0);
		REQUIRE(cap_getmode(&mode) == 0 && mode == 1);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(cap_getmode(&mode) == 0 && mode == 0);
	REQUIRE(open("/", O_RDONLY) >= 0);
	gogo(fd, &v, 0, 0);
}

CASE(c2_4_dropped_credentials_stay_dropped,
    "setuid(2) in one context changes no other, and is not undone by a switch.")
{
	struct visit v;
	int fd;

	NEED_ROOT();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(setuid(1001) == 0 && geteuid() == 1001);
		go(v.src, &v, 0, 0);
		REQUIRE(getuid() == 1001 && geteuid() == 1001);
		REQUIRE_ERRNO(EPERM, setuid(0));
		/* What it creates is no better. */
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED) {
			REQUIRE(getuid() == 1001);
			REQUIRE_ERRNO(EPERM, setuid(0));
			go(v.src, &v, 0, 0);
		}
		gogo(fd, &v, 0, 0);
		_exit(0);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(getuid() == 0 && geteuid() == 0);
	gogo(fd, &v, 0, 0);
}

CASE(c2_6_prefault_copies_now, "LWC_PREFAULT copies resident pages at once.")
{
	struct lwc_info with, without;
	struct visit v;
	char *p;
	int a, b;

	p = malloc(64 * PAGE);
	memset(p, 1, 64 * PAGE);
	a = create(&v, NULL, 0, 0);
	REQUIRE(a >= 0);
	b = create(&v, NULL, 0, LWC_PREFAULT);
	REQUIRE(b >= 0 || b == LWC_SWITCHED);
	if (b == LWC_SWITCHED) {
		REQUIRE(p[17 * PAGE] == 1);
		go(v.src, &v, 0, 0);
	}
	REQUIRE(lwInfo(a, &without) == 0 && lwInfo(b, &with) == 0);
	REQUIRE(with.li_private >= without.li_private + 64);
	p[17 * PAGE] = 2;
	gogo(b, &v, 0, 0);
}

CASE(c2_7_errors_of_specifiers,
    "Bad specifiers fail with EINVAL, EFAULT or E2BIG and change nothing.")
{
	struct lwc_spec s[2];
	struct visit v;
	char *p;
	long n;

	n = counter("objects");
	p = page();
	memset(p, 1, PAGE);
	s[0] = mem(p + 1, PAGE, LWC_SHARE);
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0] = mem(p, 0, LWC_SHARE);
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0].sub.memory.start = (uintptr_t)p + PAGE;
	s[0].sub.memory.end = (uintptr_t)p;
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0].sub.memory.start = 0xffff800000000000;
	s[0].sub.memory.end = 0xffff800000001000;
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0].sub.memory.start = PAGE;
	s[0].sub.memory.end = 0xfffffffffffff000;
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0] = mem(p, PAGE, LWC_SHARE | LWC_UNMAP);
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0] = mem(p, PAGE, LWC_SHARE | 0x4000);
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0] = mem(p, PAGE, LWC_FILES);
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0].flags = 0;
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0] = mem(p, PAGE, LWC_SHARE);
	s[1] = mem(p, PAGE, LWC_UNMAP);
	REQUIRE_ERRNO(EINVAL, create(&v, s, 2, 0));
	s[0] = files(5, 4, LWC_UNMAP);
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0] = files(-1, 4, LWC_UNMAP);
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	s[0] = files(-1, -1, LWC_SHARE);
	s[1] = files(3, 4, LWC_UNMAP);
	REQUIRE_ERRNO(EINVAL, create(&v, s, 2, 0));
	s[0] = creds(LWC_UNMAP);
	REQUIRE_ERRNO(EINVAL, create(&v, s, 1, 0));
	REQUIRE_ERRNO(EINVAL, create(&v, NULL, -1, 0));
	REQUIRE_ERRNO(EINVAL, create(&v, NULL, 0, 0x10000));
	REQUIRE_ERRNO(EFAULT, create(&v, NULL, 1, 0));
	REQUIRE_ERRNO(EFAULT,
	    create(&v, (void *)0xffffffff80000000, 1, 0));
	REQUIRE_ERRNO(E2BIG, create(&v, s, LWC_MAX_SPECS + 1, 0));
	REQUIRE_ERRNO(EFAULT,
	    lwCreate(NULL, 0, NULL, v.a, (int *)(uintptr_t)16, 0));
	v.n = -1;
	REQUIRE_ERRNO(EINVAL, lwCreate(NULL, 0, NULL, v.a, &v.n, 0));
	/* Only the root's record, made on the way, may be new. */
	REQUIRE(counter("objects") <= n + 1);
	REQUIRE(p[0] == 1);
}

CASE(c2_7_emfile,
    "lwCreate() without room for its descriptor fails with EMFILE.")
{
	struct rlimit rl;
	struct visit v;
	long n;

	REQUIRE(lwGetlwc() >= 0);
	n = counter("objects");
	REQUIRE(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	rl.rlim_cur = 4;
	REQUIRE(setrlimit(RLIMIT_NOFILE, &rl) == 0);
	while (dup(0) >= 0)
		;
	REQUIRE_ERRNO(EMFILE, create(&v, NULL, 0, 0));
	REQUIRE(counter("objects") == n);
}

CASE(c2_7_eagain_over_the_limit,
    "lwCreate() beyond the limit on contexts a process fails with EAGAIN.")
{
	struct visit v;
	int i;

	(void)set_sysctl("kern.lwc.max_per_proc", 10);
	for (i = 0; i < 9; i++)
		REQUIRE(create(&v, NULL, 0, 0) >= 0);
	REQUIRE_ERRNO(EAGAIN, create(&v, NULL, 0, 0));
}

CASE(c2_7_enomem_over_the_swap_limit,
    "lwCreate() beyond RLIMIT_SWAP fails with ENOMEM.")
{
	struct rlimit rl;
	struct visit v;
	void *p;
	long n;

	/* Only then does this system look at the limit at all. */
	(void)set_sysctl("vm.overcommit", 2);
	REQUIRE(lwGetlwc() >= 0);
	n = counter("objects");
	p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	REQUIRE(p != MAP_FAILED);
	REQUIRE(setuid(1001) == 0);
	/* Small: the kernel compares it with a number of pages. */
	rl.rlim_cur = rl.rlim_max = 1024;
	REQUIRE(setrlimit(RLIMIT_SWAP, &rl) == 0);
	REQUIRE_ERRNO(ENOMEM, create(&v, NULL, 0, 0));
	REQUIRE(counter("objects") == n);
}
