/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Processes that share a descriptor table, an address space or signal actions
 * with another have no contexts; those that have contexts do not begin to
 * share.
 */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/procdesc.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysctl.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>

#include "lwc_test.h"

/*
 * rfork(2), whose child ends at once: without a look at its stack, which may
 * be its parent's.
 */
static int
rfork_dies(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
	bool failed;

	__asm volatile(
	    "syscall; jc 1f; testl %%eax, %%eax; jnz 1f;"
	    "movl %[exit], %%eax; xorl %%edi, %%edi; syscall; 1:"
	    : "+a" (number), "=@ccc" (failed), "+D" (a), "+S" (b), "+d" (c)
	    : [exit] "i" (SYS_exit)
	    : "rcx", "r8", "r9", "r10", "r11", "memory");
	/* testl clears the carry. */
	if (!failed)
		return ((int)number);
	errno = (int)number;
	return (-1);
}

/* One with a stack of its own, that runs a function. */
static int
rfork_runs(uint64_t flags, void (*f)(void))
{
	uint64_t number;
	bool failed;
	char *top;

	top = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	REQUIRE(top != MAP_FAILED);
	top += 16 * PAGE - 64;
	number = SYS_rfork;
	__asm volatile(
	    "syscall; jc 1f; testl %%eax, %%eax; jnz 1f;"
	    "movq %[top], %%rsp; xorl %%ebp, %%ebp; callq *%[f];"
	    "movl %[exit], %%eax; xorl %%edi, %%edi; syscall; 1:"
	    : "+a" (number), "=@ccc" (failed), "+D" (flags)
	    : [exit] "i" (SYS_exit), [top] "r" (top), [f] "b" (f)
	    : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory");
	if (!failed)
		return ((int)number);
	errno = (int)number;
	return (-1);
}

/* Each of the calls, of a process that shares. */
static void
all_are_busy(void)
{
	static struct lwc_calls calls;
	struct lwc_spec s = creds(0);
	struct lwc_info li;
	uint64_t a[LWC_CALL_NARGS] = { 0 };
	int src;

	REQUIRE_ERRNO(EBUSY, lwCreate(NULL, 0, &src, NULL, NULL, 0));
	REQUIRE_ERRNO(EBUSY, lwGetlwc());
	REQUIRE_ERRNO(EBUSY, lwInfo(LWC_SELF, &li));
	REQUIRE_ERRNO(EBUSY, lwRestrict(LWC_SELF, &s, 1));
	REQUIRE_ERRNO(EBUSY, lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
	    (uintptr_t)&calls));
	/* Whatever a descriptor names. */
	REQUIRE(lwSwitch(0, NULL, 0, NULL, NULL, NULL) == -1);
	REQUIRE(lwDiscardSwitch(0, NULL, 0) == -1);
	REQUIRE(lwOverlay(0, &s, 1) == -1);
	REQUIRE(lwSyscall(0, 0, SYS_getpid, a) == -1);
}

static volatile uint64_t *word;

static void
await(uint64_t value)
{
	int i;

	for (i = 0; word[0] != value; i++) {
		if (i == (int)lenient(20000))
			_exit(7);
		usleep(1000);
	}
}

static void
peer(void)
{

	word[0] = 1;
	while (word[0] != 2)
		(void)raw(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

/* With a peer that shares this, and after it. */
static void
with_peer(uint64_t flags)
{
	struct visit v;
	int fd, pid, status;

	word = shared_page();
	pid = rfork_runs(flags, peer);
	REQUIRE(pid > 0);
	await(1);
	all_are_busy();
	word[0] = 2;
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	/*
	 * It is alone again; but the kernel keeps a mark of a table that was
	 * shared (p_fdtol), and that may count.
	 */
	fd = create(&v, NULL, 0, 0);
	if (fd == -1) {
		REQUIRE(errno == EBUSY && (flags & RFFDG) == 0);
		return;
	}
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 3, 0);
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 3 && close(fd) == 0);
}

CASE(hold_peers_table,
    "lwCreate() with one descriptor table of two processes is EBUSY until "
    "the other is gone.")
{

	with_peer(RFPROC);
}

CASE(hold_peers_memory,
    "lwCreate() with one address space of two processes is EBUSY.")
{

	with_peer(RFPROC | RFMEM | RFFDG);
}

CASE(hold_peers_signals,
    "lwCreate() with one set of signal actions of two processes is EBUSY.")
{

	with_peer(RFPROC | RFSIGSHARE | RFFDG);
}

CASE(hold_peers_everything, "lwCreate() with all of these shared is EBUSY.")
{

	with_peer(RFPROC | RFMEM | RFSIGSHARE);
}

CASE(hold_peers_table_of_a_child,
    "lwCreate() in a child that shares its parent's table is EBUSY.")
{
	struct visit v;
	int pid, status;

	pid = rfork(RFPROC);
	REQUIRE(pid >= 0);
	if (pid == 0) {
		all_are_busy();
		_exit(0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	REQUIRE(create(&v, NULL, 0, 0) >= 0 || errno == EBUSY);
}

CASE(hold_peers_leave,
    "A process that has left a shared table can make contexts again.")
{
	struct visit v;
	int pid, status;

	pid = rfork(RFPROC);
	REQUIRE(pid >= 0);
	if (pid == 0) {
		REQUIRE_ERRNO(EBUSY, lwGetlwc());
		REQUIRE(rfork(RFFDG) == 0);
		REQUIRE(create(&v, NULL, 0, 0) >= 0);
		_exit(0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}

/* Flags of which each shares something. */
static const uint64_t sharing[] = {
	RFPROC,
	RFPROC | RFNOWAIT,
	RFPROC | RFMEM,
	RFPROC | RFMEM | RFFDG,
	RFPROC | RFMEM | RFCFDG,
	RFPROC | RFMEM | RFSIGSHARE,
	RFPROC | RFMEM | RFFDG | RFSIGSHARE,
	RFPROC | RFFDG | RFSIGSHARE,
	RFPROC | RFCFDG | RFSIGSHARE,
	RFPROC | RFSIGSHARE,
	RFPROC | RFTHREAD,
	RFPROC | RFTHREAD | RFMEM,
	RFPROC | RFTHREAD | RFMEM | RFFDG,
	RFPROC | RFTHREAD | RFFDG,
	RFPROC | RFTHREAD | RFMEM | RFSIGSHARE,
	RFPROC | RFPPWAIT,
	RFPROC | RFPPWAIT | RFMEM,
	RFPROC | RFLINUXTHPN | RFMEM,
	RFPROC | RFTSIGZMB | RFTSIGNUM(SIGUSR1) | RFMEM,
};

/* None of them makes a process, or a table or memory, from here. */
static void
does_not_share(void)
{
	static const uint64_t changing[] = { RFFDG, RFCFDG, RFMEM, RFSIGSHARE,
	    RFMEM | RFFDG, RFFDG | RFSIGSHARE, 0 };
	u_int i;
	int fd;

	for (i = 0; i < nitems(sharing); i++) {
		errno = 0;
		if (rfork_dies(SYS_rfork, sharing[i], 0, 0) != -1 ||
		    (errno != EBUSY && errno != EINVAL)) {
			fprintf(stderr, "rfork %#jx: errno %d\n",
			    (uintmax_t)sharing[i], errno);
			lwc_fail(__FILE__, __LINE__, "a process shares");
		}
		fd = -1;
		if (rfork_dies(SYS_pdrfork, (uintptr_t)&fd, 0, sharing[i] |
		    RFPROCDESC) != -1 || fd != -1) {
			fprintf(stderr, "pdrfork %#jx: errno %d\n",
			    (uintmax_t)sharing[i], errno);
			lwc_fail(__FILE__, __LINE__, "a process shares");
		}
		errno = 0;
		/* By way of syscall(2). */
		REQUIRE(rfork_dies(SYS_syscall, SYS_rfork, sharing[i], 0) ==
		    -1 && (errno == EBUSY || errno == EINVAL));
	}
	for (i = 0; i < nitems(changing); i++) {
		errno = 0;
		REQUIRE(raw(SYS_rfork, changing[i], 0, 0, 0, 0, 0) == -1 &&
		    (errno == EBUSY || errno == EINVAL));
	}
	REQUIRE_ERRNO(EBUSY, rfork_dies(SYS_rfork, RFPROC, 0, 0));
	REQUIRE_ERRNO(EBUSY, rfork_dies(SYS_rfork, RFPROC | RFMEM | RFFDG, 0,
	    0));
	REQUIRE_ERRNO(EBUSY, rfork_dies(SYS_rfork, RFPROC | RFSIGSHARE | RFFDG,
	    0, 0));
	REQUIRE_ERRNO(EBUSY, raw(SYS_rfork, RFFDG, 0, 0, 0, 0, 0));
	REQUIRE_ERRNO(EBUSY, raw(SYS_rfork, RFCFDG, 0, 0, 0, 0, 0));
	REQUIRE_ERRNO(ECHILD, wait(NULL));
}

CASE(hold_peers_do_not_begin,
    "rfork(2) that shares is EBUSY in the root of contexts and in all others.")
{
	struct visit v;
	int fd;

	REQUIRE(lwGetlwc() >= 0);
	does_not_share();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;) {
			does_not_share();
			go(v.src, &v, 1, 0);
		}
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 1);
	does_not_share();
	/* It stays so when it has but its root. */
	REQUIRE(close(fd) == 0);
	does_not_share();
}

static void
ends(int pid)
{
	int status;

	REQUIRE(pid > 0);
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}

CASE(hold_peers_copies,
    "fork(2) and whatever else copies works in each context.")
{
	struct visit v;
	int fd, i, pd;

	fd = create(&v, NULL, 0, 0);
	for (i = 0; i < 2; i++) {
		ends(rfork_dies(SYS_fork, 0, 0, 0));
		ends(rfork_dies(SYS_rfork, RFPROC | RFFDG, 0, 0));
		ends(rfork_dies(SYS_rfork, RFPROC | RFCFDG, 0, 0));
		pd = -1;
		REQUIRE(rfork_dies(SYS_pdfork, (uintptr_t)&pd, 0, 0) > 0);
		REQUIRE(pd >= 0 && close(pd) == 0);
		pd = -1;
		REQUIRE(rfork_dies(SYS_pdrfork, (uintptr_t)&pd, 0,
		    RFPROC | RFFDG | RFPROCDESC) > 0);
		REQUIRE(pd >= 0 && close(pd) == 0);
		if (fd == LWC_SWITCHED)
			break;
		gogo(fd, &v, 0, 0);
	}
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 1, 0);
}

/* The child of vfork(2) has memory of its own, and its parent goes on. */
/* In a new context, and in the one that made it. */
static void
in_each(void (*f)(void))
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		f();
		go(v.src, &v, 1, 0);
		_exit(9);
	}
	REQUIRE(fd >= 0);
	f();
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 1);
}

static void
vforks(void)
{
	static volatile int touched;
	volatile uint64_t *back;
	int i, pid, status;

	touched = 0;
	back = shared_page();
	pid = vfork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		touched = 1;
		for (i = 0; *back == 0 && i < 10000; i++)
			usleep(1000);
		_exit(*back != 0 ? 5 : 6);
	}
	*back = 1;
	REQUIRE(touched == 0);
	REQUIRE(waitpid(pid, &status, 0) == pid);
	REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 5);
	REQUIRE(touched == 0);
}

CASE(hold_peers_vfork, "vfork(2) in a process with contexts is a fork(2).")
{

	in_each(vforks);
}

extern char **environ;

static void
spawns(void)
{
	char *argv[] = { __DECONST(char *, "sh"), __DECONST(char *, "-c"),
	    __DECONST(char *, "exit 3"), NULL };
	char line[8];
	FILE *f;
	pid_t pid;
	int status;

	REQUIRE(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0);
	REQUIRE(waitpid(pid, &status, 0) == pid);
	REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	status = system("exit 4");
	REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 4);
	f = popen("echo hello", "r");
	REQUIRE(f != NULL && fgets(line, sizeof(line), f) != NULL);
	REQUIRE(strcmp(line, "hello\n") == 0 && pclose(f) == 0);
}

CASE(hold_peers_spawn,
    "posix_spawn(3), system(3) and popen(3) work in each context.")
{

	in_each(spawns);
}

CASE(hold_peers_record_of_a_vfork_child,
    "The record of a vfork(2) child is not its parent's.")
{
	struct lwc_info li;
	struct visit v;
	int pid, status;

	REQUIRE(create(&v, NULL, 0, 0) >= 0);
	pid = vfork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		/* A process of its own, with a root. */
		_exit(lwInfo(LWC_SELF, &li) == 0 && li.li_id == 1 &&
		    li.li_contexts == 1 ? 0 : 1);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}

/*
 * Map and unmap while another process of this address space makes contexts:
 * what it counts in the map must be what it finds there.
 */
#define	MAPPERS	6
#define	EACH	2000
static char *area;
static int mapped_file;
static volatile int stop, next;

static void
mapper(void)
{
	char *base;
	int i;

	base = area + (uint64_t)__sync_fetch_and_add(&next, 1) * EACH * 2 *
	    PAGE;
	while (!stop) {
		for (i = 0; i < EACH && !stop; i++)
			(void)raw(SYS_mmap, (uintptr_t)base + i * 2 * PAGE,
			    PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED,
			    mapped_file, 0);
		(void)raw(SYS_munmap, (uintptr_t)base, EACH * 2 * PAGE, 0, 0,
		    0, 0);
	}
}

CASE(hold_peers_map_race,
    "lwCreate() while another process changes the map is EBUSY at once.")
{
	int fd, i, kids[MAPPERS], busy, status;
	uint64_t until;

	mapped_file = scratch();
	REQUIRE(ftruncate(mapped_file, PAGE) == 0);
	area = mmap(NULL, (size_t)MAPPERS * EACH * 2 * PAGE, PROT_NONE,
	    MAP_GUARD, -1, 0);
	REQUIRE(area != MAP_FAILED);
	REQUIRE(munmap(area, (size_t)MAPPERS * EACH * 2 * PAGE) == 0);
	for (i = 0; i < MAPPERS; i++)
		REQUIRE((kids[i] = rfork_runs(RFPROC | RFMEM | RFFDG,
		    mapper)) > 0);
	busy = 0;
	until = after(lenient(10000));
	while (busy < 1000 && after(0) < until) {
		fd = lwCreate(NULL, 0, NULL, NULL, NULL, 0);
		if (fd >= 0)
			REQUIRE(close(fd) == 0);
		else
			busy++;
	}
	stop = 1;
	for (i = 0; i < MAPPERS; i++)
		REQUIRE(waitpid(kids[i], &status, 0) == kids[i] &&
		    status == 0);
	REQUIRE(busy == 1000);
}

CASE(hold_peers_locks,
    "A close in a context does not drop a peer's record locks.")
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct visit v;
	int c, fd, pid, status;

	word = shared_page();
	fd = scratch();
	/* The peer first, then contexts; and the other way round. */
	pid = rfork(RFPROC);
	REQUIRE(pid >= 0);
	if (pid == 0) {
		REQUIRE(fcntl(fd, F_SETLK, &fl) == 0);
		word[0] = 1;
		await(2);
		_exit(0);
	}
	await(1);
	REQUIRE(locked(fd));
	c = create(&v, NULL, 0, 0);
	if (c == LWC_SWITCHED) {
		(void)close(fd);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	if (c >= 0)
		gogo(c, &v, 0, 0);
	else
		REQUIRE(errno == EBUSY);
	REQUIRE(locked(fd));
	word[0] = 2;
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	/* The leaders' ring has but this process in it now. */
	REQUIRE(fcntl(fd, F_SETLK, &fl) == 0);
	c = create(&v, NULL, 0, 0);
	if (c == LWC_SWITCHED) {
		pid = open("/dev/null", O_RDONLY);
		(void)close(pid);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	if (c == -1) {
		REQUIRE(errno == EBUSY);
		return;
	}
	gogo(c, &v, 0, 0);
	REQUIRE(locked(fd));
	REQUIRE(close(c) == 0);
}

CASE(hold_peers_locks_of_a_later_one,
    "A process that would share the table after lwCreate() is refused, or "
    "keeps its record locks.")
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct visit v;
	int c, fd, pid, status;

	word = shared_page();
	fd = scratch();
	c = create(&v, NULL, 0, 0);
	if (c == LWC_SWITCHED) {
		(void)close(fd);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	REQUIRE(c >= 0);
	pid = rfork(RFPROC);
	if (pid == -1) {
		REQUIRE(errno == EBUSY);
		return;
	}
	if (pid == 0) {
		REQUIRE(fcntl(fd, F_SETLK, &fl) == 0);
		word[0] = 1;
		await(2);
		_exit(0);
	}
	await(1);
	gogo(c, &v, 0, 0);
	REQUIRE(locked(fd));
	word[0] = 2;
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}

/*
 * Two contexts have one table; one gives itself another and is preempted: who
 * counts what contexts had, and not what they have, takes the table that the
 * first then shares with a process for its own.
 */
CASE(hold_peers_stale_table, "A table that was left does not count as held.")
{
	struct lwc_spec s = files(-1, -1, LWC_SHARE);
	struct visit v;
	int fd;

	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED) {
		(void)rfork(RFFDG);
		for (;;)
			continue;
	}
	REQUIRE(fd >= 0);
	REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, after(lenient(100)), &v, 0));
	REQUIRE_ERRNO(EBUSY, rfork_dies(SYS_rfork, RFPROC, 0, 0));
	REQUIRE(close(fd) == 0);
}

/*
 * kern.proc.rlimit changes protections in the range of the stack of another
 * process, and so cuts and merges the entries of its map, at any time: while
 * lwCreate() has the file pages there out of what is forked, too.
 */
CASE(hold_peers_stack_limit,
    "A stack limit that another process sets during lwCreate() does no harm.")
{
	struct rlimit all = { .rlim_cur = 400 << 20, .rlim_max = 512 << 20 };
	struct rlimit rl = { .rlim_cur = 330 << 20, .rlim_max = 512 << 20 };
	size_t busy = 8 << 20, len = 30 << 20, size;
	int mib[] = { CTL_KERN, KERN_PROC, KERN_PROC_RLIMIT, getpid(),
	    RLIMIT_STACK };
	struct visit v;
	u_long top;
	char *p, *q;
	int child, fd, i, status;

	REQUIRE(setrlimit(RLIMIT_STACK, &all) == 0);
	size = sizeof(top);
	REQUIRE(sysctlbyname("kern.usrstack", &top, &size, NULL, 0) == 0);
	word = shared_page();
	child = fork();
	REQUIRE(child >= 0);
	if (child == 0) {
		for (;; word[0]++) {
			if (sysctl(mib, nitems(mib), NULL, NULL, &rl,
			    sizeof(rl)) != 0)
				_exit(9);
			rl.rlim_cur ^= (330 << 20) ^ (340 << 20);
		}
	}
	while (word[0] == 0)
		usleep(1000);
	/* One entry of a file over both limits; and a fork that takes long. */
	fd = scratch();
	REQUIRE(ftruncate(fd, (off_t)len) == 0);
	REQUIRE(pwrite(fd, "x", 1, (off_t)len - 1) == 1);
	q = mmap(NULL, busy, PROT_READ | PROT_WRITE, MAP_ANON | MAP_PRIVATE,
	    -1, 0);
	REQUIRE(q != MAP_FAILED);
	memset(q, 1, busy);
	p = (char *)rounddown2(top, PAGE) - (350 << 20);
	for (i = 0; i < 1000; i++) {
		REQUIRE(mmap(p, len, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
		    0) == p);
		status = create(&v, NULL, 0, 0);
		REQUIRE(status >= 0 && close(status) == 0);
	}
	REQUIRE(kill(child, SIGKILL) == 0);
	REQUIRE(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	/* All of it is inherited as before. */
	REQUIRE(mprotect(p, len, PROT_READ) == 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		go(v.src, &v, p[0] == 0 && p[len - 1] == 'x', 0);
		_exit(9);
	}
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 1);
}
