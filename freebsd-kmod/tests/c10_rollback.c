/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Contract 10: a context goes back to its snapshot, and what it has then. */

#include <sys/param.h>
#include <sys/capsicum.h>
#include <sys/event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysctl.h>
#include <sys/thr.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <machine/sysarch.h>

#include <aio.h>
#include <fcntl.h>
#include <fenv.h>
#include <signal.h>

#include "lwc_test.h"

static uint64_t
hash(uint64_t h, const void *p, size_t len)
{
	const unsigned char *c;

	for (c = p; len-- > 0; c++)
		h = (h ^ *c) * 0x100000001b3ULL;
	return (h);
}

/* What is mapped: places, protections, inheritance is not told. */
static uint64_t
layout(void)
{
	static char buf[256 * 1024];
	struct kinfo_vmentry *kve;
	uint64_t h;
	size_t at, len;
	int mib[4] = { CTL_KERN, KERN_PROC, KERN_PROC_VMMAP, getpid() };

	len = sizeof(buf);
	if (sysctl(mib, 4, buf, &len, NULL, 0) != 0)
		return (0);	/* in capability mode */
	h = 1;
	for (at = 0; at < len; at += kve->kve_structsize) {
		kve = (struct kinfo_vmentry *)(buf + at);
		if (kve->kve_structsize == 0)
			break;
		h = hash(h, &kve->kve_start, sizeof(kve->kve_start));
		h = hash(h, &kve->kve_end, sizeof(kve->kve_end));
		h = hash(h, &kve->kve_protection, sizeof(kve->kve_protection));
	}
	return (h);
}

/*
 * The state that the cases change and look at.  One arena of pages with holes
 * and protections, a variable of the program, what is open and where it points.
 */
#define	ARENA	16
static char *arena;
static uint64_t variable = 7;
static char untouched[8 * PAGE] __aligned(PAGE);

static void
arena_make(void)
{
	int i;

	arena = mmap(NULL, ARENA * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANON, -1, 0);
	REQUIRE(arena != MAP_FAILED);
	for (i = 0; i < ARENA / 2; i++)		/* the rest nobody touched */
		memset(arena + i * PAGE, i + 1, PAGE);
}

/* A digest of all that a context can see of itself. */
static uint64_t
digest(uint64_t what)
{
	struct stat sb;
	struct sigaction sa;
	struct rlimit rl;
	stack_t ss;
	sigset_t set;
	cap_rights_t rights;
	uint64_t h;
	u_int mode;
	int fd, flags, i;

	h = layout();
	for (i = 0; i < ARENA; i++)
		h = hash(h, arena + i * PAGE, PAGE);
	h = hash(h, untouched, sizeof(untouched));
	h = hash(h, &variable, sizeof(variable));
	for (fd = 0; fd < 64; fd++) {
		flags = fcntl(fd, F_GETFD);
		h = hash(h, &flags, sizeof(flags));
		if (flags == -1)
			continue;
		if (fstat(fd, &sb) == 0)
			h = hash(h, &sb.st_ino, sizeof(sb.st_ino));
		if (cap_rights_get(fd, &rights) == 0)
			h = hash(h, &rights, sizeof(rights));
	}
	mode = umask(0);
	(void)umask(mode);
	h = hash(h, &mode, sizeof(mode));
	if (stat(".", &sb) == 0)
		h = hash(h, &sb.st_ino, sizeof(sb.st_ino));
	(void)cap_getmode(&mode);
	h = hash(h, &mode, sizeof(mode));
	mode = geteuid();
	h = hash(h, &mode, sizeof(mode));
	for (i = 0; i < RLIM_NLIMITS; i++)
		if (getrlimit(i, &rl) == 0)
			h = hash(h, &rl, sizeof(rl));
	sigprocmask(SIG_BLOCK, NULL, &set);
	h = hash(h, &set, sizeof(set));
	sigpending(&set);
	h = hash(h, &set, sizeof(set));
	for (i = 1; i < NSIG; i++)
		if (sigaction(i, NULL, &sa) == 0)
			h = hash(h, &sa.sa_handler, sizeof(sa.sa_handler));
	sigaltstack(NULL, &ss);
	h = hash(h, &ss.ss_sp, sizeof(ss.ss_sp));
	h = hash(h, &ss.ss_flags, sizeof(ss.ss_flags));
	i = fegetround();
	h = hash(h, &i, sizeof(i));
	return (h + what * 0);
}

static void
ignore(int sig __unused)
{
}

/* A number of stack pages deeper than before. */
static int __noinline
deep(int pages)
{
	volatile char buf[PAGE];

	buf[0] = pages;
	return (pages == 0 ? buf[0] : deep(pages - 1) + buf[0]);
}

#define	CHANGES	25

/* One of the ways in which a context can change itself. */
static void
change(uint64_t which)
{
	static char stack[SIGSTKSZ];
	struct rlimit rl;
	struct sigaction sa;
	stack_t ss;
	sigset_t set;
	cap_rights_t rights;
	long tid;
	void *p;
	int fd, fds[2];

	switch (which) {
	case 0:
		memset(arena, 0xee, 3 * PAGE);
		break;
	case 1:
		memset(arena + (ARENA - 2) * PAGE, 0xee, PAGE);
		break;
	case 2:
		variable++;
		break;
	case 3:
		untouched[5 * PAGE] = 9;
		break;
	case 4:
		(void)munmap(arena + 4 * PAGE, PAGE);
		p = mmap(arena + 4 * PAGE, PAGE, PROT_READ,
		    MAP_PRIVATE | MAP_ANON | MAP_FIXED, -1, 0);
		REQUIRE(p == arena + 4 * PAGE);
		break;
	case 5:
		REQUIRE(mprotect(arena + 5 * PAGE, PAGE, PROT_READ) == 0);
		break;
	case 6:
		p = mmap(NULL, 5 * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANON, -1, 0);
		REQUIRE(p != MAP_FAILED);
		memset(p, 1, 5 * PAGE);
		break;
	case 7:
		(void)deep(100);
		break;
	case 8:
		(void)malloc(3 << 20);
		break;
	case 9:
		fd = open("/", O_RDONLY);
		(void)fd;
		break;
	case 10:
		(void)close(0);
		break;
	case 11:
		(void)fcntl(1, F_SETFD, FD_CLOEXEC);
		break;
	case 12:
		(void)dup2(1, 33);
		break;
	case 13:
		cap_rights_init(&rights, CAP_READ, CAP_WRITE, CAP_FSTAT,
		    CAP_FCNTL);
		(void)cap_rights_limit(1, &rights);
		break;
	case 14:
		(void)chdir("/dev");
		break;
	case 15:
		(void)umask(0137);
		break;
	case 16:
		rl.rlim_cur = rl.rlim_max = 50;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
		break;
	case 17:
		sigemptyset(&set);
		sigaddset(&set, SIGUSR2);
		(void)sigprocmask(SIG_BLOCK, &set, NULL);
		(void)thr_self(&tid);
		(void)thr_kill(tid, SIGUSR2);
		break;
	case 18:
		memset(&sa, 0, sizeof(sa));
		sa.sa_handler = ignore;
		(void)sigaction(SIGUSR1, &sa, NULL);
		break;
	case 19:
		ss.ss_sp = stack;
		ss.ss_size = sizeof(stack);
		ss.ss_flags = 0;
		(void)sigaltstack(&ss, NULL);
		break;
	case 20:
		(void)fesetround(FE_UPWARD);
		break;
	case 21:
		if (pipe(fds) == 0)
			(void)write(fds[1], "x", 1);
		break;
	case 22:
		(void)minherit(arena + 2 * PAGE, PAGE, INHERIT_NONE);
		break;
	case 23:
		(void)madvise(arena + PAGE, 2 * PAGE, MADV_FREE);
		break;
	case 24:
		(void)cap_enter();
		break;
	}
}

/* Bit by bit, then the digest. */
static uint64_t
changes(uint64_t bits)
{
	uint64_t i;

	for (i = 0; i < CHANGES; i++)
		if ((bits & (1ULL << i)) != 0)
			change(i);
	return (digest(0));
}

static uint64_t
discards(uint64_t to)
{

	change(0);
	(void)lwDiscardSwitch((int)to, NULL, 0);
	return (errno);
}

CASE(c10_1_each_change_is_undone,
    "Each kind of change that a context can make to itself is undone by a "
    "rollback, one after the other.")
{
	uint64_t before;
	int fd, i;

	arena_make();
	fd = servant(changes, 0);
	before = ask(fd, 0);
	REQUIRE(snapshot(fd) == 0);
	for (i = 0; i < CHANGES; i++) {
		(void)ask(fd, 1ULL << i);
		if (rollback(fd) < 0 || ask(fd, 0) != before) {
			fprintf(stderr, "change %d\n", i);
			REQUIRE(!"undone");
		}
		REQUIRE(rollback(fd) >= 0);
	}
}

/* Random changes, and what a fresh copy has. */
static void
programs(int n)
{
	uint64_t before, bits, seed;
	int fd, i;

	arena_make();
	fd = servant(changes, 0);
	before = ask(fd, 0);
	REQUIRE(snapshot(fd) == 0);
	seed = 12345;
	for (i = 0; i < n; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		bits = seed >> 30 & ((1ULL << CHANGES) - 1);
		(void)ask(fd, bits);
		if (i % 3 == 0)		/* several invocations */
			(void)ask(fd, (seed >> 3) & 0xff);
		if (rollback(fd) < 0 || ask(fd, 0) != before) {
			fprintf(stderr, "program %d: %#jx\n", i,
			    (uintmax_t)bits);
			REQUIRE(!"as before");
		}
		if (i % 2 == 0)
			REQUIRE(rollback(fd) >= 0);
	}
}

CASE(c10_2_random_programs,
    "After random programs a context that was rolled back has what a fresh "
    "copy of its snapshot has.")
{

	programs(60);
}

CASE(c10_2_random_programs_made_anew,
    "Random programs end as a fresh copy when the context is made anew from "
    "the snapshot instead.")
{

	NEED_ROOT();
	fail_point("debug.fail_point.lwc_rollback_put", "50%return(12)");
	programs(40);
	fail_point("debug.fail_point.lwc_rollback_put", "off");
}

static uint64_t
counts(uint64_t n)
{

	memset(arena, 0x55, n * PAGE);
	return (variable++);
}

CASE(c10_1_pages_that_were_undone,
    "A rollback tells how many pages it undid, also the second time.")
{
	int fd, i, n;

	arena_make();
	fd = servant(counts, 0);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(rollback(fd) == 0);
	for (i = 0; i < 50; i++) {
		REQUIRE(ask(fd, 0) == 7);
		n = rollback(fd);
		REQUIRE(n >= 1 && n < 10);
		REQUIRE(ask(fd, ARENA) == 7);
		n = rollback(fd);
		REQUIRE(n >= ARENA && n < ARENA + 10);
		REQUIRE(rollback(fd) == 0);
	}
}

static char *large;
#define	LARGE	(16 << 20)

/* Pages are written to, and what is mapped is changed in several places. */
static uint64_t
remaps(uint64_t how)
{

	memset(arena, 0x55, 3 * PAGE);
	if ((how & 1) != 0)
		change(6);
	if ((how & 2) != 0)
		change(4);
	if ((how & 4) != 0)
		change(5);
	if ((how & 8) != 0)
		(void)deep(100);
	if ((how & 16) != 0)
		(void)munmap(arena + 2 * PAGE, 3 * PAGE);
	if ((how & 32) != 0)
		(void)munmap(shared_page(), PAGE);
	return (large[5 << 20] + variable++);
}

/* Sets flags of all that it has, if told to; those that contexts' names had. */
static uint64_t
flags_of_names(uint64_t what)
{
	struct lwc_info li;
	uint64_t had = 0;
	int fd, one = 1;

	for (fd = 0; fd < 64; fd++) {
		if (lwInfo(fd, &li) != 0)
			continue;
		had |= (uint64_t)fcntl(fd, F_GETFL);
		if (what == 0)
			continue;
		REQUIRE(fcntl(fd, F_SETFL, O_APPEND | O_SYNC) == 0);
		(void)ioctl(fd, FIONBIO, &one);
		(void)ioctl(fd, FIOASYNC, &one);
		REQUIRE(fcntl(fd, F_GETFL) != O_RDWR);
	}
	return (had);
}

CASE(c10_1_flags_of_names,
    "A rollback undoes flags that were set of the names of contexts.")
{
	int fd, i;

	fd = servant(flags_of_names, 0);
	REQUIRE(snapshot(fd) == 0);
	for (i = 0; i < 3; i++) {
		REQUIRE(ask(fd, 1) == O_RDWR);
		REQUIRE(rollback(fd) >= 0);
	}
}

CASE(c10_4_a_large_context,
    "A rollback of a large context costs what was changed, not what there is.")
{
	struct lwc_info li;
	uint64_t how;
	int anew, fd, n;

	arena_make();
	large = mmap(NULL, 4 * LARGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANON, -1, 0);
	REQUIRE(large != MAP_FAILED);
	memset(large, 3, LARGE);
	fd = servant(remaps, 0);
	REQUIRE(snapshot(fd) == 0);
	for (how = 0; how < 64; how++) {
		REQUIRE(ask(fd, how) == 10);
		n = rollback(fd);
		/* What is mapped anew is not counted by the page. */
		anew = (how & (2 | 4 | 16)) != 0;
		REQUIRE(n >= (anew ? 1 : 3) && n < 160);
		/*
		 * It has its page table still: what it did not change was not
		 * made anew.
		 */
		REQUIRE(lwInfo(fd, &li) == 0);
		REQUIRE(li.li_resident >= LARGE / PAGE);
	}
}

CASE(c10_1_a_second_snapshot, "A second snapshot replaces the first.")
{
	int fd;

	arena_make();
	fd = servant(counts, 0);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(ask(fd, 1) == 7 && ask(fd, 1) == 8);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(ask(fd, 1) == 9);
	REQUIRE(rollback(fd) > 0);
	REQUIRE(ask(fd, 1) == 9);
	REQUIRE(rollback(fd) > 0);
	REQUIRE(ask(fd, 1) == 9);
}

CASE(c10_1_one_that_never_ran,
    "A context that never ran returns from lwCreate() again after its "
    "rollback.")
{
	struct lwc_info li;
	struct visit v;
	volatile int ran;
	int fd, i;

	ran = 0;
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, ++ran, 0);
	REQUIRE(snapshot(fd) == 0);
	for (i = 0; i < 5; i++) {
		REQUIRE(lwInfo(fd, &li) == 0);
		REQUIRE(li.li_state == LWC_STATE_NEW);
		gogo(fd, &v, 0, 0);
		REQUIRE(v.a[0] == 1);
		gogo(fd, &v, 0, 0);
		REQUIRE(v.a[0] == 2);
		REQUIRE(rollback(fd) > 0);
	}
}

static uint64_t
registers(uint64_t set)
{
	static const uint64_t ones = ~0ULL;
	uint64_t answer, low;
	void *gs;

	answer = 0;
	if (set != 0) {
		__asm volatile("movq %0, %%xmm6" : : "r" (ones) : "xmm6");
		(void)fesetround(FE_DOWNWARD);
		(void)amd64_set_gsbase(arena);
	}
	__asm volatile("movq %%xmm6, %0" : "=r" (low));
	if (fegetround() == FE_DOWNWARD)
		answer |= 1;
	if (amd64_get_gsbase(&gs) == 0 && gs == arena)
		answer |= 2;
	return (answer);
}

CASE(c10_1_registers,
    "A rollback restores registers, vector state and the bases of FS and GS.")
{
	int fd, i;

	arena_make();
	fd = servant(registers, 0);
	REQUIRE(snapshot(fd) == 0);
	for (i = 0; i < 3; i++) {
		REQUIRE(ask(fd, 0) == 0);
		REQUIRE(ask(fd, 1) == 3);
		REQUIRE(ask(fd, 0) == 3);
		REQUIRE(rollback(fd) >= 0);
	}
	REQUIRE(ask(fd, 0) == 0);
	REQUIRE(fegetround() == FE_TONEAREST);
}

static int *shared;

static uint64_t
shares(uint64_t n)
{

	*shared += (int)n;
	variable++;
	return (variable);
}

CASE(c10_1_shared_memory, "A rollback leaves shared memory as it is.")
{
	int fd;

	shared = shared_page();
	fd = servant(shares, 0);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(ask(fd, 5) == 8);
	REQUIRE(rollback(fd) > 0);
	REQUIRE(*shared == 5);
	REQUIRE(ask(fd, 3) == 8);
	REQUIRE(*shared == 8);
	/* It can be unmapped, and is there again. */
	REQUIRE(rollback(fd) > 0);
	REQUIRE(ask(fd, 3) == 8 && *shared == 11);
}

static uint64_t
unshares(uint64_t n)
{

	if (n != 0)
		return (munmap(shared, PAGE));
	return (*shared);
}

CASE(c10_1_shared_memory_that_was_unmapped,
    "Shared memory that was unmapped is mapped again, and is the same memory.")
{
	int fd;

	shared = shared_page();
	fd = servant(unshares, 0);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(ask(fd, 1) == 0);
	REQUIRE(rollback(fd) >= 0);
	*shared = 77;
	REQUIRE(ask(fd, 0) == 77);
}

CASE(c10_1_a_shared_table,
    "A rollback leaves a shared descriptor table as it is.")
{
	struct lwc_spec sp;
	struct visit v;
	int fd, p;

	sp = files(-1, -1, LWC_SHARE);
	fd = create(&v, &sp, 1, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, dup(1), 0);
	REQUIRE(snapshot(fd) == 0);
	gogo(fd, &v, 0, 0);
	p = (int)v.a[0];
	REQUIRE(p > 2 && fcntl(p, F_GETFD) != -1);
	REQUIRE(rollback(fd) > 0);
	REQUIRE(fcntl(p, F_GETFD) != -1);
	gogo(fd, &v, 0, 0);
	REQUIRE((int)v.a[0] > p);
}

static uint64_t
parent(uint64_t n)
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 1, 0);
	if (n == 2)
		gogo(fd, &v, 0, 0);
	return (fd);
}

CASE(c10_1_contexts_made_since,
    "Contexts that were made since the snapshot are destroyed, whoever "
    "names them.")
{
	struct lwc_spec sp;
	struct lwc_info li;
	long before;
	int child, fd, kept;

	fd = servant(parent, 0);
	kept = (int)ask(fd, 1);
	REQUIRE(kept >= 0);
	before = counter("contexts");
	REQUIRE(snapshot(fd) == 0);
	child = (int)ask(fd, 2);
	REQUIRE(child >= 0);
	REQUIRE(ask(fd, 2) != (uint64_t)-1);
	REQUIRE(counter("contexts") == before + 2);
	/* One of them is named here as well. */
	sp = files(child, child, LWC_COPY);
	REQUIRE(lwOverlay(fd, &sp, 1) == 0);
	REQUIRE(rollback(fd) >= 0);
	REQUIRE(counter("contexts") == before);
	REQUIRE(lwInfo(child, &li) == 0 && li.li_state == LWC_STATE_DEAD);
	/* The one that was there before is there still. */
	sp = files(kept, kept, LWC_COPY);
	REQUIRE(lwOverlay(fd, &sp, 1) == 0);
	REQUIRE(lwInfo(kept, &li) == 0 && li.li_state == LWC_STATE_NEW);
}

static uint64_t
forks(uint64_t n)
{
	char c;
	int p[2];
	pid_t pid;

	if (n == 0)
		return (arena[0]);
	memset(arena, (int)n, 4 * PAGE);
	REQUIRE(pipe(p) == 0);
	pid = fork();
	if (pid == 0) {
		(void)close(p[1]);
		(void)read(p[0], &c, 1);	/* until nobody has p[1] */
		_exit(arena[0] == (char)n && arena[3 * PAGE] == (char)n ?
		    0 : 1);
	}
	return (pid);
}

CASE(c10_1_a_process_that_it_forked,
    "A process that was forked since the snapshot keeps the memory that it "
    "was given.")
{
	int fd, i, status;
	pid_t pid;

	arena_make();
	fd = servant(forks, 0);
	REQUIRE(snapshot(fd) == 0);
	for (i = 0; i < 5; i++) {
		pid = (pid_t)ask(fd, 40 + i);
		REQUIRE(pid > 0);
		REQUIRE(rollback(fd) > 0);	/* and closes the pipe */
		REQUIRE(waitpid(pid, &status, 0) == pid);
		REQUIRE(status == 0);
		REQUIRE(ask(fd, 0) == 1);
	}
}

CASE(c10_1_its_maker_may_die,
    "A snapshot outlives the context that asked for it.")
{
	struct lwc_spec sp;
	struct visit v;
	int fd, maker;

	arena_make();
	maker = servant(parent, 0);
	(void)maker;
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		int copy, back;

		back = v.src;
		memset(arena, 0x77, PAGE);
		copy = servant(counts, 0);
		REQUIRE(snapshot(copy) == 0);
		REQUIRE(ask(copy, 2) == 7);
		go(back, &v, copy, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	sp = files((int)v.a[0], (int)v.a[0], LWC_COPY);
	REQUIRE(lwOverlay(fd, &sp, 1) == 0);
	REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
	REQUIRE(rollback((int)v.a[0]) > 0);
	REQUIRE(ask((int)v.a[0], 0) == 7);
	REQUIRE(rollback((int)v.a[0]) > 0);
}

static uint64_t
queues(uint64_t n)
{

	variable += n;
	return (n == 1 ? (uint64_t)kqueue() : variable);
}

CASE(c10_1_a_kernel_queue,
    "A context with a kqueue has no snapshot, and a rollback closes one "
    "that was opened since.")
{
	int fd;

	arena_make();
	fd = servant(queues, 0);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE((int)ask(fd, 1) > 2);
	REQUIRE_ERRNO(EINVAL, snapshot(fd));
	REQUIRE(rollback(fd) > 0);
	REQUIRE(ask(fd, 0) == 7);
	REQUIRE(snapshot(fd) == 0);
}

static uint64_t
keeps(uint64_t n)
{
	struct lwc_spec sp[3];

	sp[0] = mem(NULL, 0, 0);
	sp[0].sub.memory.end = 0x800000000000;
	sp[1] = files(-1, -1, 0);
	sp[2] = creds(0);
	variable++;
	return (n == 0 ? variable : (uint64_t)lwRestrict(LWC_SELF, sp, 3));
}

CASE(c10_1_every_right,
    "Only who holds every right over a context takes its snapshot, and the "
    "rights are those of that time.")
{
	struct lwc_spec sp;
	int fd, one;

	arena_make();
	fd = servant(keeps, 0);
	REQUIRE(snapshot(fd) == 0);
	/* What it does afterwards is no way out. */
	REQUIRE(ask(fd, 1) == 0);
	REQUIRE_ERRNO(EPERM, snapshot(fd));
	REQUIRE(rollback(fd) > 0);
	REQUIRE(ask(fd, 0) == 8);
	REQUIRE(snapshot(fd) == 0);
	one = servant(keeps, 0);
	REQUIRE(snapshot(one) == 0);
	sp = mem(arena, PAGE, 0);
	REQUIRE(lwRestrict(one, &sp, 1) == 0);
	REQUIRE_ERRNO(EPERM, snapshot(one));
	REQUIRE_ERRNO(EPERM, rollback(one));
	sp = creds(0);
	REQUIRE(lwRestrict(fd, &sp, 1) == 0);
	REQUIRE_ERRNO(EPERM, rollback(fd));
}

CASE(c10_3_discard_is_a_rollback,
    "A context with a snapshot that discards itself is rolled back instead "
    "of destroyed.")
{
	struct lwc_info li;
	struct visit v;
	uint64_t before;
	int fd, i, self;

	arena_make();
	self = lwGetlwc();
	REQUIRE(self >= 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		for (;;) {
			go(v.src, &v, digest(0), 0);
			if (v.a[0] != 0)
				(void)discards(v.src);
		}
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(snapshot(fd) == 0);
	gogo(fd, &v, 0, 0);
	before = v.a[0];
	for (i = 0; i < 20; i++) {
		REQUIRE(lwInfo(fd, &li) == 0);
		REQUIRE(li.li_state == LWC_STATE_SUSPENDED);
		gogo(fd, &v, 1, 0);
		REQUIRE(v.src == -1 && v.n == 0);
		REQUIRE(lwInfo(fd, &li) == 0);
		REQUIRE(li.li_rollback == (LWC_HAS_SNAPSHOT | LWC_IS_CLEAN));
		gogo(fd, &v, 0, 0);
		REQUIRE(v.a[0] == before);
		REQUIRE(rollback(fd) > 0);
	}
	/* Without one it is the end. */
	(void)close(fd);
	fd = servant(discards, 0);
	gogo(fd, &v, self, 0);
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_state == LWC_STATE_DEAD);
}

CASE(c10_3_an_end_that_is_trapped,
    "A context with a snapshot whose exit or fault is trapped has ended.")
{
	struct lwc_info li;
	struct visit v;
	int fd;

	arena_make();
	fd = create(&v, NULL, 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED) {
		go(v.src, &v, 0, 0);
		_exit(3);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_state == LWC_STATE_DEAD);
	REQUIRE(li.li_rollback == 0);
	REQUIRE_ERRNO(ESRCH, rollback(fd));
	REQUIRE_ERRNO(ESRCH, snapshot(fd));
}

CASE(c10_3_clean_and_not,
    "lwInfo() tells a clean context from one that has run since.")
{
	struct lwc_info li;
	int fd;

	fd = servant(keeps, 0);
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_rollback == 0);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(lwInfo(fd, &li) == 0);
	REQUIRE(li.li_rollback == (LWC_HAS_SNAPSHOT | LWC_IS_CLEAN));
	(void)ask(fd, 0);
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_rollback == LWC_HAS_SNAPSHOT);
	REQUIRE(rollback(fd) > 0);
	REQUIRE(lwInfo(fd, &li) == 0);
	REQUIRE(li.li_rollback == (LWC_HAS_SNAPSHOT | LWC_IS_CLEAN));
	/* Somebody acts with what it has. */
	uint64_t args[LWC_CALL_NARGS] = { 0 };
	REQUIRE(lwSyscall(fd, LWC_FILES, SYS_getpid, args) == getpid());
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_rollback == LWC_HAS_SNAPSHOT);
}

/* Switch by a number, and say how that went. */
static uint64_t
caller(uint64_t to)
{
	struct visit v;

	if (to == 0)
		return (0);
	return (go((int)to, &v, 0, 0) == LWC_SWITCHED ? v.a[0] :
	    1000 + (uint64_t)errno);
}

CASE(c10_3_names_of_clean_contexts,
    "A name for clean contexts only is no way to one that is not clean.")
{
	struct visit v;
	int a, b, n;

	b = servant(keeps, 0);
	a = servant(caller, 0);
	REQUIRE_ERRNO(EBADF, lwControl(a, LWC_CONTROL_INTRODUCE,
	    LWC_CLEAN_ONLY | 77));
	n = lwControl(a, LWC_CONTROL_INTRODUCE, LWC_CLEAN_ONLY | (uint64_t)b);
	REQUIRE(n > 2);
	REQUIRE(lwControl(a, LWC_CONTROL_INTRODUCE,
	    LWC_CLEAN_ONLY | (uint64_t)b) == n);
	/* It has no snapshot. */
	REQUIRE(ask(a, n) == 1000 + ESTALE);
	REQUIRE(snapshot(b) == 0);
	/* keeps() answers its first caller, so the root sees it. */
	gogo(a, &v, n, 0);
	REQUIRE(v.a[0] == 8);
	REQUIRE(rollback(a) == -1 && errno == ENOENT);
	REQUIRE(lwControl(a, LWC_CONTROL_DESTROY, 0) == 0);
	a = servant(caller, 0);
	n = lwControl(a, LWC_CONTROL_INTRODUCE, LWC_CLEAN_ONLY | (uint64_t)b);
	REQUIRE(ask(a, n) == 1000 + ESTALE);
	REQUIRE(rollback(b) > 0);
	gogo(a, &v, n, 0);
	REQUIRE(v.a[0] == 8);
}

/*
 * No descriptors but the one of whom to go to, no memory but the text and this
 * part of the stack, no signals; then there by hand.
 */
static void __dead2
empty(int to)
{
	sigset_t set;
	uint64_t number;
	char *stack;
	int fd;

	number = lwc_switch_number();
	stack = (char *)(trunc_page((uintptr_t)&set) - 8 * PAGE);
	sigfillset(&set);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	for (fd = 0; fd < 64; fd++)
		if (fd != to)
			(void)close(fd);
	variable = 99;
	(void)munmap(arena, ARENA * PAGE);
	(void)munmap(untouched, sizeof(untouched));
	(void)munmap(stack - 256 * PAGE, 256 * PAGE);
	(void)cap_enter();
	for (;;)
		(void)raw(number, to, 0, 0, 0, 0, 0);
}

CASE(c10_5_whatever_it_has_destroyed,
    "A context that unmapped and closed all that it had is rolled back.")
{
	struct visit v;
	uint64_t before;
	int fd, i;

	arena_make();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		for (;;) {
			go(v.src, &v, digest(0), 0);
			if (v.a[0] != 0)
				empty(v.src);
		}
	}
	gogo(fd, &v, 0, 0);
	before = v.a[0];
	REQUIRE(snapshot(fd) == 0);
	for (i = 0; i < 5; i++) {
		gogo(fd, &v, 1, 0);
		REQUIRE(rollback(fd) > 0);
		gogo(fd, &v, 0, 0);
		REQUIRE(v.a[0] == before);
		REQUIRE(rollback(fd) >= 0);
	}
}

CASE(c10_6_errors,
    "Snapshot and rollback refuse bad arguments with the errors of "
    "lwControl(2).")
{
	struct lwc_info li;
	struct visit v;
	int fd, p[2], self;

	arena_make();
	self = lwGetlwc();
	REQUIRE(self >= 0);
	REQUIRE_ERRNO(EBUSY, snapshot(self));
	REQUIRE_ERRNO(EBUSY, rollback(self));
	REQUIRE_ERRNO(EBADF, snapshot(LWC_SELF));
	REQUIRE_ERRNO(EBADF, rollback(77));
	REQUIRE(pipe(p) == 0);
	REQUIRE_ERRNO(EBADF, rollback(p[0]));
	fd = servant(counts, 0);
	REQUIRE_ERRNO(ENOENT, rollback(fd));
	REQUIRE_ERRNO(EINVAL, lwControl(fd, LWC_CONTROL_SNAPSHOT, 1));
	REQUIRE_ERRNO(EINVAL, lwControl(fd, LWC_CONTROL_ROLLBACK, 1));
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
	REQUIRE_ERRNO(ESRCH, rollback(fd));
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_rollback == 0);
	/* Who waits for an answer to a trapped call. */
	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED)
		for (;;)
			(void)getppid();
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE_ERRNO(EBUSY, snapshot(fd));
	REQUIRE(rollback(fd) >= 0);
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_state == LWC_STATE_NEW);
	REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
	REQUIRE(v.a[0] == SYS_getppid);
}

CASE(c10_6_limits, "Snapshots count against the limits on contexts.")
{
	struct rlimit rl;
	int fd;

	arena_make();
	fd = servant(counts, 0);
	REQUIRE(getrlimit(RLIMIT_AS, &rl) == 0);
	rl.rlim_cur = 1 << 20;
	REQUIRE(setrlimit(RLIMIT_AS, &rl) == 0);
	REQUIRE_ERRNO(ENOMEM, snapshot(fd));
	rl.rlim_cur = RLIM_INFINITY;
	REQUIRE(setrlimit(RLIMIT_AS, &rl) == 0);
	REQUIRE(snapshot(fd) == 0);
	set_sysctl("kern.lwc.max_per_user", 1);
	REQUIRE_ERRNO(EAGAIN, snapshot(fd));
	/* And the one that there was is there still. */
	REQUIRE(ask(fd, 2) == 7);
	REQUIRE(rollback(fd) > 0);
	REQUIRE(ask(fd, 0) == 7);
}

CASE(c10_6_a_rollback_that_fails,
    "A rollback that fails half-way ends the context.")
{
	static const char *points[] = { "debug.fail_point.lwc_rollback_vm",
	    "debug.fail_point.lwc_rollback_files",
	    "debug.fail_point.lwc_twin" };
	struct lwc_info li;
	u_int i;
	int fd;

	NEED_ROOT();
	arena_make();
	for (i = 0; i < nitems(points); i++) {
		fd = servant(changes, 0);
		REQUIRE(snapshot(fd) == 0);
		(void)ask(fd, 1 << 9 | 1 << 6);
		fail_point("debug.fail_point.lwc_rollback_put", "return(12)");
		fail_point(points[i], "1*return(12)");
		REQUIRE_ERRNO(ENOMEM, rollback(fd));
		REQUIRE(lwInfo(fd, &li) == 0);
		REQUIRE(li.li_state == LWC_STATE_DEAD);
		fail_point(points[i], "off");
		fail_point("debug.fail_point.lwc_rollback_put", "off");
		(void)close(fd);
	}
}

static uint64_t
ends(uint64_t how)
{
	static char *const argv[] = { "sh", "-c", ":", NULL };

	change(6);
	if (how == 1)
		_exit(0);
	if (how == 2)
		(void)execve("/bin/sh", argv, argv + 3);
	if (how == 3)
		(void)raise(SIGKILL);
	return (0);
}

/* One with a snapshot is the current one, another waits. */
static void
end_process(void *how)
{
	int a, b;

	arena_make();
	b = servant(ends, 0);
	REQUIRE(snapshot(b) == 0);
	REQUIRE(ask(b, 0) == 0);
	a = servant(ends, 0);
	REQUIRE(snapshot(a) == 0);
	(void)ask(a, (uintptr_t)how);
	_exit(0);		/* no such program */
}

CASE(c10_1_the_end_of_the_process, "Snapshots end with their process.")
{
	long contexts, objects;
	uintptr_t how;

	contexts = counter("contexts");
	objects = counter("objects");
	for (how = 1; how <= 3; how++)
		(void)status_of(end_process, (void *)how);
	REQUIRE(settles("contexts", contexts));
	REQUIRE(settles("objects", objects));
}

CASE(c10_1_a_thousand_rollbacks,
    "A thousand rollbacks leave no memory, no object and no descriptor behind.")
{
	struct lwc_info li;
	long objects;
	uint64_t pages;
	int fd, i;

	arena_make();
	fd = servant(changes, 0);
	REQUIRE(snapshot(fd) == 0);
	objects = 0;
	pages = 0;
	for (i = 0; i < 1000; i++) {
		(void)ask(fd, 1ULL << i % (CHANGES - 1));
		REQUIRE(rollback(fd) >= 0);
		REQUIRE(lwInfo(fd, &li) == 0);
		if (i == 2 * CHANGES) {
			objects = counter("descriptors");
			pages = li.li_private;
		}
	}
	REQUIRE(counter("descriptors") == objects);
	REQUIRE(li.li_private <= pages + 16);
}

CASE(c10_6_a_snapshot_that_fails,
    "A snapshot that fails leaves the context and its earlier snapshot as "
    "they were.")
{
	static const struct {
		const char	*point;
		const char	*how;
		int		error;
	} points[] = {
		{ "debug.fail_point.lwc_user", "1*return(12)", EAGAIN },
		{ "debug.fail_point.lwc_twin", "1*return(12)", ENOMEM },
		{ "debug.fail_point.lwc_desc_file", "1*return(12)", ENFILE },
		{ "debug.fail_point.lwc_files_copy", "1*return(12)", ENOMEM },
		{ "debug.fail_point.lwc_snapshot", "1*return(12)", ENOMEM },
	};
	u_int i;
	int fd;

	NEED_ROOT();
	arena_make();
	fd = servant(counts, 0);
	for (i = 0; i < nitems(points); i++) {
		fail_point(points[i].point, points[i].how);
		REQUIRE_ERRNO(points[i].error, snapshot(fd));
		fail_point(points[i].point, "off");
		REQUIRE_ERRNO(ENOENT, rollback(fd));
	}
	REQUIRE(ask(fd, 1) == 7 && ask(fd, 1) == 8);
	REQUIRE(snapshot(fd) == 0);
	for (i = 0; i < nitems(points); i++) {
		REQUIRE(ask(fd, 1) == 9);
		fail_point(points[i].point, points[i].how);
		REQUIRE_ERRNO(points[i].error, snapshot(fd));
		fail_point(points[i].point, "off");
		REQUIRE(rollback(fd) > 0);
	}
}

CASE(c10_1_one_that_was_preempted,
    "A context that was preempted is rolled back to where its snapshot was.")
{
	volatile uint64_t *seen;
	struct lwc_info li;
	struct visit v;
	volatile uint64_t mine;
	uint64_t at;
	int fd, i;

	seen = shared_page();
	mine = 0;
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			*seen = ++mine;
	REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, after(lenient(30)), &v, 0));
	REQUIRE(snapshot(fd) == 0);
	at = *seen;
	for (i = 0; i < 3; i++) {
		REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, after(lenient(30)), &v,
		    0));
		REQUIRE(*seen > at);
		REQUIRE(rollback(fd) > 0);
		REQUIRE(lwInfo(fd, &li) == 0);
		REQUIRE(li.li_state == LWC_STATE_PREEMPTED);
		/* It counts on from there. */
		*seen = 0;
		REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, after(0), &v, 0));
		REQUIRE(*seen == 0 || *seen > at);
		REQUIRE(rollback(fd) >= 0);
	}
}

/* What keeps a process from changing contexts keeps it from this (1.5). */
CASE(c10_6_asynchronous_io,
    "A rollback of a context with asynchronous I/O in flight fails with EBUSY.")
{
	struct aiocb cb;
	int fd, p[2];

	fd = servant(counts, 0);
	REQUIRE(snapshot(fd) == 0);
	arena_make();
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	memset(&cb, 0, sizeof(cb));
	cb.aio_fildes = p[0];
	cb.aio_buf = arena;
	cb.aio_nbytes = 1;
	REQUIRE(aio_read(&cb) == 0);
	REQUIRE_ERRNO(EBUSY, snapshot(fd));
	REQUIRE_ERRNO(EBUSY, rollback(fd));
	REQUIRE(write(p[1], "x", 1) == 1);
	while (aio_error(&cb) == EINPROGRESS)
		(void)usleep(1000);
	REQUIRE(aio_return(&cb) == 1);
	REQUIRE(rollback(fd) == 0);
}
