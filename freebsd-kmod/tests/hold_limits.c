/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What contexts cost is bounded: kernel memory by what lives, time by what is
 * asked for, memory and descriptors by limits over all of them together.
 */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysctl.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <signal.h>

#include "lwc_test.h"

#define	MS	1000000ULL
#define	GENERATIONS	400

/* Each generation makes the next one and goes: as a snapshot of the paper's. */
static void
generations(bool share)
{
	struct lwc_spec s = files(-1, -1, LWC_SHARE);
	volatile uint64_t *count;
	struct visit v;
	long before;
	int fd, i;

	count = shared_page();
	REQUIRE(lwGetlwc() >= 0);
	before = counter("objects");
	for (;;) {
		fd = create(&v, &s, share ? 1 : 0, 0);
		if (fd == LWC_SWITCHED) {
			/* Its own name, where there is but one table. */
			for (i = 3; i < 16; i++)
				(void)close(i);
			if (++count[0] == GENERATIONS)
				break;
			continue;
		}
		REQUIRE(fd >= 0);
		(void)lwDiscardSwitch(fd, NULL, 0);
		_exit(9);
	}
	REQUIRE(counter("contexts") == 1);
	if (counter("objects") > before + 20) {
		fprintf(stderr, "objects: %ld, now %ld\n", before,
		    counter("objects"));
		lwc_fail(__FILE__, __LINE__, "dead contexts are kept");
	}
}

CASE(hold_limits_dead_creators,
    "Creators that are dead leave no chain of records behind them.")
{

	generations(true);
}

CASE(hold_limits_dead_creators_own_tables,
    "Nor do dead creators with tables of their own.")
{

	generations(false);
}

CASE(hold_limits_dead_creator_is_known,
    "A child knows its dead creator's number, and the child can be asked "
    "for it.")
{
	struct lwc_info li;
	struct visit v;
	uint64_t id;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(lwInfo(LWC_SELF, &li) == 0);
		id = li.li_id;
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED) {
			REQUIRE(lwInfo(LWC_SELF, &li) == 0);
			REQUIRE(li.li_creator == id && li.li_id != id);
			_exit(0);
		}
		(void)lwDiscardSwitch(fd, NULL, 0);
		_exit(9);
	}
	(void)go(fd, &v, 0, 0);
	_exit(9);
}

/* So many entries of the map, none next to another. */
static char *
entries(int n)
{
	size_t size;
	char *p;
	int i;

	size = (size_t)n * 2 * PAGE;
	p = mmap(NULL, size, PROT_NONE, MAP_GUARD, -1, 0);
	REQUIRE(p != MAP_FAILED && munmap(p, size) == 0);
	for (i = 0; i < n; i++)
		REQUIRE(mmap(p + (size_t)i * 2 * PAGE, PAGE, PROT_READ,
		    MAP_ANON | MAP_PRIVATE | MAP_FIXED, -1, 0) != MAP_FAILED);
	return (p);
}

#define	ENTRIES	3000

static struct lwc_spec specs[LWC_MAX_SPECS];

/* All of one option and overlapping: the same, or each a page further. */
static int
specify(char *p, int n, int slide, u_int option)
{
	size_t size;
	int i;

	size = ((size_t)ENTRIES * 2 - LWC_MAX_SPECS) * PAGE;
	for (i = 0; i < n; i++)
		specs[i] = mem(p + (size_t)i * slide * PAGE, size, option);
	return (n);
}

static uint64_t
time_of_create(int n)
{
	uint64_t begun;
	int fd;

	begun = after(0);
	fd = lwCreate(specs, n, NULL, NULL, NULL, 0);
	begun = after(0) - begun;
	REQUIRE(fd >= 0);
	REQUIRE(close(fd) == 0);
	return (begun);
}

static void
many_specs(u_int option)
{
	uint64_t many, one;
	char *p;
	int slide;

	p = entries(ENTRIES);
	one = time_of_create(specify(p, 1, 0, option));
	for (slide = 0; slide < 2; slide++) {
		many = time_of_create(specify(p, LWC_MAX_SPECS, slide,
		    option));
		if (many < 5 * one + lenient(300) * MS)
			continue;
		fprintf(stderr, "one: %ju ms, many: %ju ms\n",
		    (uintmax_t)(one / MS), (uintmax_t)(many / MS));
		lwc_fail(__FILE__, __LINE__, "specs times entries");
	}
}

CASE(hold_limits_overlapping_specs,
    "Overlapping specifiers that say the same count as one.")
{

	many_specs(LWC_COPY);
}

CASE(hold_limits_overlapping_shares,
    "Overlapping specifiers to share count as one.")
{

	many_specs(LWC_SHARE);
}

static void
creates_for_ever(void *arg)
{
	char *p;
	int fd, n;

	p = entries(ENTRIES);
	n = specify(p, LWC_MAX_SPECS, 1, LWC_COPY);
	*(volatile uint64_t *)arg = 1;
	for (;;) {
		fd = lwCreate(specs, n, NULL, NULL, NULL, 0);
		(void)close(fd);
	}
}

/* One that looks for a page everywhere in so much takes minutes. */
static void
creates_from_much(void *arg)
{

	REQUIRE(mmap(NULL, 8ULL << 40, PROT_READ | PROT_WRITE, MAP_ANON |
	    MAP_PRIVATE, -1, 0) != MAP_FAILED);
	*(volatile uint64_t *)arg = 1;
	(void)lwCreate(NULL, 0, NULL, NULL, NULL, LWC_PREFAULT);
}

static void
is_killed(void (*body)(void *))
{
	volatile uint64_t *word;
	uint64_t begun;
	int pid, status;

	word = shared_page();
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		body(__DEVOLATILE(void *, word));
		_exit(9);
	}
	while (word[0] == 0)
		usleep(1000);
	usleep(100000);
	begun = after(0);
	REQUIRE(kill(pid, SIGKILL) == 0);
	REQUIRE(waitpid(pid, &status, 0) == pid);
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	REQUIRE(after(0) - begun < lenient(1000) * MS);
}

CASE(hold_limits_create_is_killed,
    "SIGKILL ends lwCreate() at once, whatever it is at.")
{

	is_killed(creates_for_ever);
	is_killed(creates_from_much);
}

/* Size of the current context's address space. */
static size_t
size_of_space(void)
{
	int mib[4] = { CTL_KERN, KERN_PROC, KERN_PROC_PID, getpid() };
	struct kinfo_proc kp;
	size_t len;

	len = sizeof(kp);
	REQUIRE(sysctl(mib, 4, &kp, &len, NULL, 0) == 0);
	return (kp.ki_size);
}

static void
limit(int which, rlim_t n)
{
	struct rlimit rl;

	REQUIRE(getrlimit(which, &rl) == 0);
	rl.rlim_cur = n;
	REQUIRE(setrlimit(which, &rl) == 0);
}

static void *
map(size_t size)
{

	return (mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANON |
	    MAP_PRIVATE, -1, 0));
}

/* As a function's copy has few, beside a root that has many open. */
CASE(hold_limits_files_of_who_is_told,
    "A name goes into a table by that one's limit, whatever its bearer's is.")
{
	struct visit v, w;
	int a, b, i, root;

	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED) {
		root = v.src;
		limit(RLIMIT_NOFILE, 40);
		b = create(&w, NULL, 0, 0);
		if (b == LWC_SWITCHED) {
			REQUIRE(go(root, &w, 7, 0) == LWC_SWITCHED);
			REQUIRE(w.n == 2 && w.a[0] == 8);
			/* It is known there by now. */
			(void)go(root, &w, 9, 0);
			_exit(9);
		}
		REQUIRE(b >= 0);
		(void)go(b, &v, 0, 0);
		_exit(9);
	}
	REQUIRE(a >= 0);
	for (i = 0; i < 100; i++)
		REQUIRE(dup(2) >= 0);
	REQUIRE(go(a, &v, 0, 0) == LWC_SWITCHED);
	REQUIRE(v.src > 100 && v.n == 2 && v.a[0] == 7);
	b = v.src;
	REQUIRE(go(b, &v, 8, 0) == LWC_SWITCHED);
	REQUIRE(v.src == b && v.a[0] == 9);
}

CASE(hold_limits_files_of_who_comes,
    "Nor is a context that has filled its own table out of reach.")
{
	struct visit v, w;
	int a, b, i, root;

	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED) {
		root = v.src;
		for (i = 0; i < 40; i++)
			REQUIRE(dup(2) >= 0);
		limit(RLIMIT_NOFILE, 20);
		REQUIRE_ERRNO(EMFILE, dup(2));
		for (;;)
			REQUIRE(go(root, &v, 7, 0) == LWC_SWITCHED);
	}
	REQUIRE(a >= 0);
	REQUIRE(go(a, &v, 0, 0) == LWC_SWITCHED);
	/* And who does not know it yet. */
	b = create(&w, NULL, 0, 0);
	if (b == LWC_SWITCHED) {
		REQUIRE(go(a, &w, 1, 0) == LWC_SWITCHED);
		_exit(9);
	}
	REQUIRE(b >= 0);
	REQUIRE(go(b, &v, 0, 0) == LWC_SWITCHED);
	REQUIRE(v.src == a && v.a[0] == 7);
}

CASE(hold_limits_files_of_the_root,
    "Where both are short of descriptors, the root's limit has room for a name.")
{
	struct visit v, w;
	int a, b, i;

	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED) {
		for (i = 0; i < 40; i++)
			REQUIRE(dup(2) >= 0);
		limit(RLIMIT_NOFILE, 20);
		for (;;)
			REQUIRE(go(v.src, &v, 7, v.src) == LWC_SWITCHED);
	}
	REQUIRE(a >= 0);
	REQUIRE(go(a, &v, 0, 0) == LWC_SWITCHED);
	b = create(&w, NULL, 0, 0);
	if (b == LWC_SWITCHED) {
		limit(RLIMIT_NOFILE, 20);
		REQUIRE(go(a, &v, 0, 0) == LWC_SWITCHED);
		REQUIRE(v.a[0] == 7 && v.a[1] > 40);
		(void)go(w.src, &w, 8, 0);
		_exit(9);
	}
	REQUIRE(b >= 0);
	REQUIRE(go(b, &w, 0, 0) == LWC_SWITCHED);
	REQUIRE(w.src == b && w.a[0] == 8);
}

CASE(hold_limits_of_the_sum,
    "RLIMIT_AS holds for the sum of all contexts at lwCreate().")
{
	struct visit v;
	int fd, n;

	REQUIRE(map(32 << 20) != MAP_FAILED);
	limit(RLIMIT_AS, 4 * size_of_space() + (8 << 20));
	for (n = 0; n < 16; n++) {
		fd = create(&v, NULL, 0, n % 2 == 0 ? 0 : LWC_PREFAULT);
		if (fd == -1)
			break;
	}
	REQUIRE(fd == -1 && errno == ENOMEM);
	REQUIRE(n >= 2 && n <= 4);
	/* And there is room again when one is gone. */
	closefrom(3);
	REQUIRE(counter("contexts") == 0);
	REQUIRE(create(&v, NULL, 0, 0) >= 0);
}

CASE(hold_limits_of_the_sum_mapped,
    "RLIMIT_AS holds for the sum at mmap(2) and sbrk(2), in each context.")
{
	struct visit v;
	size_t more = 40 << 20;
	void *p;
	int fd;

	REQUIRE(map(16 << 20) != MAP_FAILED);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		/* The root has taken what is left. */
		errno = 0;
		if (map(more) != MAP_FAILED || errno != ENOMEM)
			_exit(8);
		errno = 0;
		if (sbrk((intptr_t)more) != (void *)-1 || errno != ENOMEM)
			_exit(7);
		go(v.src, &v, 0, 0);
		p = map(more);
		if (p == MAP_FAILED)
			_exit(6);
		go(v.src, &v, 1, 0);
		_exit(9);
	}
	REQUIRE(fd >= 0);
	/* A limit is a context's: set in this one, and before it there. */
	REQUIRE(close(fd) == 0);
	limit(RLIMIT_AS, 2 * size_of_space() + more + (8 << 20));
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		errno = 0;
		if (map(more) != MAP_FAILED || errno != ENOMEM)
			_exit(8);
		errno = 0;
		if (sbrk((intptr_t)more) != (void *)-1 || errno != ENOMEM)
			_exit(7);
		go(v.src, &v, 0, 0);
		if (map(more) == MAP_FAILED)
			_exit(6);
		go(v.src, &v, 1, 0);
		_exit(9);
	}
	REQUIRE(fd >= 0);
	p = map(more);
	REQUIRE(p != MAP_FAILED);
	gogo(fd, &v, 0, 0);
	REQUIRE(munmap(p, more) == 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 1);
	REQUIRE(map(more) == MAP_FAILED && errno == ENOMEM);
}

CASE(hold_limits_of_the_sum_overlaid,
    "RLIMIT_AS holds for the sum at lwOverlay().")
{
	struct lwc_spec s;
	struct visit v;
	size_t more = 24 << 20;
	char *p;
	int fd;

	p = mmap(NULL, more, PROT_NONE, MAP_GUARD, -1, 0);
	REQUIRE(p != MAP_FAILED && munmap(p, more) == 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		if (mmap(p, more, PROT_READ | PROT_WRITE, MAP_ANON |
		    MAP_PRIVATE | MAP_FIXED, -1, 0) != p)
			_exit(9);
		for (;;)
			go(v.src, &v, 0, 0);
	}
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	s = mem(p, more, LWC_COPY);
	limit(RLIMIT_AS, 2 * size_of_space() + more + more / 2);
	REQUIRE_ERRNO(ENOMEM, lwOverlay(fd, &s, 1));
	limit(RLIMIT_AS, 2 * size_of_space() + 3 * more);
	REQUIRE(lwOverlay(fd, &s, 1) == 0);
	/* What takes the place of as much is no more. */
	REQUIRE(lwOverlay(fd, &s, 1) == 0);
}

#define	LOCKED	4
static char *to_lock;

/* Lock so many pages of memory, from a place on; 0 or an errno. */
static uint64_t
locks_pages(uint64_t n)
{

	if (n == 0)
		return ((uint64_t)munlock(to_lock, 2 * LOCKED * PAGE));
	if (n == ~0ULL)
		return (mlockall(MCL_CURRENT) == 0 ? 0 : (uint64_t)errno);
	return (mlock(to_lock, n * PAGE) == 0 ? 0 : (uint64_t)errno);
}

CASE(hold_limits_of_the_sum_locked,
    "RLIMIT_MEMLOCK holds for the sum at mlock(2) and mlockall(2), for root, "
    "too.")
{
	struct rlimit rl;
	int one, other;

	to_lock = mmap(NULL, 2 * LOCKED * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	REQUIRE(to_lock != MAP_FAILED);
	one = servant(locks_pages, 0);
	other = servant(locks_pages, 0);
	REQUIRE(getrlimit(RLIMIT_MEMLOCK, &rl) == 0);
	rl.rlim_cur = 2 * LOCKED * PAGE;
	SKIP_UNLESS(setrlimit(RLIMIT_MEMLOCK, &rl) == 0, "cannot lock memory");
	SKIP_UNLESS(ask(one, LOCKED) == 0, "cannot lock memory");
	REQUIRE(ask(other, LOCKED) == 0);
	REQUIRE(ask(other, LOCKED + 1) == ENOMEM);
	REQUIRE(ask(other, ~0ULL) == ENOMEM);
	REQUIRE(locks_pages(1) == ENOMEM);
	REQUIRE(ask(one, 0) == 0);
	/* The kernel counts what is locked already once more. */
	REQUIRE(ask(other, 0) == 0);
	REQUIRE(ask(other, 2 * LOCKED - 1) == 0);
	REQUIRE(locks_pages(1) == 0);
}

/* As an ordinary user, who is subject to limits. */
static void
as_user(void)
{

	REQUIRE(setgid(1001) == 0 && setuid(1001) == 0);
}

static int
contexts_until_eagain(int most)
{
	struct visit v;
	int n;

	for (n = 0; n < most; n++)
		if (create(&v, NULL, 0, 0) == -1) {
			REQUIRE(errno == EAGAIN);
			break;
		}
	return (n);
}

static volatile uint64_t *word;

CASE(hold_limits_contexts_of_a_user,
    "The limit on a user's contexts holds over all its processes: EAGAIN.")
{
	int mine, pid, status;

	NEED_ROOT();
	(void)set_sysctl("kern.lwc.max_per_user", 20);
	word = shared_page();
	pid = fork();
	if (pid == 0) {
		as_user();
		word[1] = contexts_until_eagain(12);
		word[0] = 1;
		while (word[0] != 2)
			usleep(1000);
		_exit(0);
	}
	while (word[0] != 1)
		usleep(1000);
	REQUIRE(word[1] == 12);
	mine = fork();
	if (mine == 0) {
		as_user();
		/* Roots may count or not. */
		status = contexts_until_eagain(12);
		_exit(status >= 5 && status <= 8 ? 0 : 1);
	}
	REQUIRE(waitpid(mine, &status, 0) == mine && status == 0);
	word[0] = 2;
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	/* They are given back. */
	mine = fork();
	if (mine == 0) {
		as_user();
		_exit(contexts_until_eagain(12) == 12 ? 0 : 1);
	}
	REQUIRE(waitpid(mine, &status, 0) == mine && status == 0);
}

CASE(hold_limits_descriptors_of_a_user,
    "The limit on a user's descriptors holds over all tables of contexts: "
    "EAGAIN.")
{
	int i, mine, status;

	NEED_ROOT();
	(void)set_sysctl("kern.lwc.max_descriptors_per_user", 400);
	for (i = 0; i < 2; i++) {
		mine = fork();
		if (mine == 0) {
			as_user();
			/* Each table names those made before it. */
			status = contexts_until_eagain(50);
			_exit(status >= 2 && status <= 30 ? 0 : 1);
		}
		REQUIRE(waitpid(mine, &status, 0) == mine && status == 0);
	}
}

CASE(hold_limits_do_not_starve_others,
    "One user's contexts leave files for all others.")
{
	struct visit v;
	int open_files, max_files, n, now;
	size_t len;

	len = sizeof(max_files);
	REQUIRE(sysctlbyname("kern.maxfiles", &max_files, &len, NULL, 0) == 0);
	len = sizeof(open_files);
	REQUIRE(sysctlbyname("kern.openfiles", &open_files, &len, NULL, 0) ==
	    0);
	if (geteuid() == 0)
		as_user();
	for (n = 0; n < 4096 && create(&v, NULL, 0, 0) >= 0; n++)
		continue;
	REQUIRE(n == 4096 || errno == EAGAIN || errno == ENOMEM ||
	    errno == EMFILE);
	len = sizeof(now);
	REQUIRE(sysctlbyname("kern.openfiles", &now, &len, NULL, 0) == 0);
	REQUIRE(now < max_files * 9 / 10);
	REQUIRE(open("/dev/null", O_RDONLY) >= 0 || errno == EMFILE);
}

CASE(hold_limits_device_memory,
    "A copy of device memory is refused with EFAULT.")
{
	struct lwc_spec s;
	struct visit v;
	int f, fd, i;
	char *p;

	NEED_ROOT();
	f = open("/dev/mem", O_RDONLY);
	SKIP_UNLESS(f >= 0, "no /dev/mem");
	p = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, f, PAGE);
	SKIP_UNLESS(p != MAP_FAILED, "/dev/mem is not mapped");
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, *(volatile char *)p, 0);
	REQUIRE(fd >= 0);
	s = mem(p, PAGE, LWC_COPY);
	for (i = 0; i < 2; i++) {
		REQUIRE_ERRNO(EFAULT, lwOverlay(fd, &s, 1));
		/* The same once it has been looked at. */
		gogo(fd, &v, 0, 0);
		(void)*(volatile char *)p;
	}
	REQUIRE(close(fd) == 0);
}

#define	LARGE	(2UL << 20)

CASE(hold_limits_large_pages, "A copy of large pages is a copy, or fails.")
{
	struct lwc_spec s;
	struct visit v;
	int f, fd, i;
	char *p;

	f = shm_create_largepage(SHM_ANON, O_RDWR, 1,
	    SHM_LARGEPAGE_ALLOC_DEFAULT, 0600);
	SKIP_UNLESS(f >= 0 && ftruncate(f, 2 * LARGE) == 0, "no large pages");
	p = mmap(NULL, 2 * LARGE, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	REQUIRE(p != MAP_FAILED);
	for (i = 0; i < 3; i++) {
		p[0] = p[LARGE] = 'r';
		/* All of it, one of two, a part of one. */
		s = mem(p, i == 0 ? 2 * LARGE : i == 1 ? LARGE : PAGE,
		    LWC_COPY);
		fd = create(&v, &s, 1, 0);
		if (fd == LWC_SWITCHED) {
			p[0] = 'h';
			for (;;)
				go(v.src, &v, p[0], 0);
		}
		if (fd == -1) {
			REQUIRE(i == 2 && errno == EINVAL);
			continue;
		}
		gogo(fd, &v, 0, 0);
		REQUIRE(v.a[0] == 'h' && p[0] == 'r' && p[LARGE] == 'r');
		REQUIRE(close(fd) == 0);
	}
}
