/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Stress: random calls, valid and not, from several processes that fork, get
 * signals and are killed.
 *
 *	lwc_stress [-s seed] [-n calls | -t seconds] [-p processes] [-m MiB]
 *
 * With -m another process keeps writing to that much memory and giving it
 * back: with more than the machine has, allocations fail and pages go.
 *
 * Every worker runs calls until it has made its share or dies; the parent
 * starts another in its place (with a new seed derived from the first) until
 * all calls are made.  Contexts of a worker run the same loop, so the calls
 * nest and interleave as chance has it.  The counter of calls is shared by
 * all.  At the end the module's counters must be what they were.
 */

#include <sys/param.h>
#include <sys/capsicum.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysctl.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../sys/lwc.h"

#define	PAGE	4096
#define	PAGES	64
#define	MAXPROC	64
#define	KINDS	10		/* of what is counted */

static struct shared {
	atomic_ulong	calls;
	atomic_ulong	made[KINDS];	/* of each call */
	atomic_ulong	good[KINDS];	/* that succeeded */
	atomic_ulong	forks, kills, faults;
	unsigned long	limit;
	time_t		until;
} *sh;

#define	KNOWN	8

static uint64_t state;		/* per context: a copy goes its own way */
static char *arena;
static int known[KNOWN];	/* descriptors that were contexts' */

static uint64_t
rnd(uint64_t n)
{

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (n == 0 ? state : (state >> 11) % n);
}

static int
over(void)
{

	if (sh->limit != 0)
		return (atomic_load(&sh->calls) >= sh->limit);
	return (time(NULL) >= sh->until);
}

static void
count(int call, int good)
{

	atomic_fetch_add(&sh->calls, 1);
	atomic_fetch_add(&sh->made[call], 1);
	if (good)
		atomic_fetch_add(&sh->good[call], 1);
}

static void *
pointer(void *good)
{

	switch (rnd(150)) {
	case 0:
		return (NULL);
	case 1:
		return ((void *)(uintptr_t)rnd(0));
	case 2:
		return ((void *)(uintptr_t)(0xffffffff80000000 + rnd(1 << 26)));
	case 3:
		return (arena + rnd(PAGES * PAGE));
	case 4:
		return ((void *)(uintptr_t)0x7fffffffffff);
	default:
		return (good);
	}
}

/* Likely a context, so that calls get further than their first check. */
static int
descriptor(void)
{

	switch (rnd(12)) {
	case 0:
		return ((int)rnd(0));
	case 1:
		return (LWC_SELF);
	case 2:
	case 3:
	case 4:
		return ((int)rnd(24) - 1);
	default:
		return (known[rnd(KNOWN)]);
	}
}

static void
spec(struct lwc_spec *s)
{
	static const unsigned int options[] = { LWC_COPY, LWC_SHARE, LWC_UNMAP,
	    LWC_MAY_OVERLAY, LWC_SHARE | LWC_MAY_OVERLAY };
	uint64_t start;

	memset(s, 0, sizeof(*s));
	s->flags = options[rnd(5)];
	switch (rnd(8)) {
	case 0:
		s->flags |= LWC_FILES;
		s->sub.descriptors.from = (int)rnd(20) + 3;
		s->sub.descriptors.to = s->sub.descriptors.from + (int)rnd(6);
		if (rnd(4) == 0)
			s->sub.descriptors.from = s->sub.descriptors.to = -1;
		break;
	case 1:
		s->flags |= LWC_CREDENTIALS;
		break;
	default:
		s->flags |= LWC_MEMORY;
		start = rnd(PAGES);
		s->sub.memory.start = (uintptr_t)arena + start * PAGE;
		s->sub.memory.end = s->sub.memory.start +
		    (1 + rnd(PAGES - start)) * PAGE;
		break;
	}
	if (rnd(20) == 0)
		s->flags = (unsigned int)rnd(0);
	if (rnd(20) == 0)
		s->sub.memory.start = rnd(0);
	if (rnd(20) == 0)
		s->sub.memory.end = rnd(0);
}

static void
on_signal(int sig __unused)
{

}

static void
on_fault(int sig __unused)
{

	atomic_fetch_add(&sh->faults, 1);
	_exit(3);
}

static void
limit(int which, rlim_t most)
{
	struct rlimit rl = { most, most };

	(void)setrlimit(which, &rl);
}

/* A child that stops us, looks at us, and lets us go. */
static void
traced(void)
{
	pid_t parent, pid;
	int data, status;

	parent = getpid();
	pid = fork();
	if (pid == 0) {
		if (ptrace(PT_ATTACH, parent, NULL, 0) == 0) {
			(void)waitpid(parent, &status, 0);
			data = ptrace(PT_READ_D, parent, arena, 0);
			(void)ptrace(PT_WRITE_D, parent, arena, data);
			(void)ptrace(PT_DETACH, parent, (caddr_t)1, 0);
		}
		_exit(0);
	}
	if (pid > 0)
		while (waitpid(pid, NULL, 0) == -1 && errno == EINTR)
			continue;
}

/* Record locks are the process's, whoever takes and loses them. */
static int
record_lock(int fd, int type)
{
	static const short types[] = { F_RDLCK, F_WRLCK, F_UNLCK };
	struct flock fl;

	memset(&fl, 0, sizeof(fl));
	fl.l_type = types[type];
	fl.l_whence = SEEK_SET;
	fl.l_len = (off_t)rnd(3);
	return (fcntl(fd, F_SETLK, &fl));
}

/* Things other than our calls that a program may do in between. */
static void
nuisance(void)
{
	char *p;
	pid_t pid;
	int fd;

	p = arena + rnd(PAGES) * PAGE;
	switch (rnd(18)) {
	case 0:
		(void)mmap(p, PAGE * (1 + rnd(3)), PROT_READ | PROT_WRITE,
		    MAP_ANON | MAP_FIXED |
		    (rnd(2) ? MAP_PRIVATE : MAP_SHARED), -1, 0);
		break;
	case 1:
		(void)munmap(p, PAGE);
		break;
	case 2:
		(void)mprotect(p, PAGE, (int)rnd(8));
		break;
	case 3:
		(void)minherit(p, PAGE * 2, (int)rnd(4));
		break;
	case 4:
		(void)close((int)rnd(20) + 3);
		break;
	case 5:
		(void)dup2((int)rnd(20), (int)rnd(20) + 3);
		break;
	case 6:
		if (rnd(10) != 0)
			break;
		atomic_fetch_add(&sh->forks, 1);
		pid = fork();
		if (pid == 0 && rnd(2) == 0)
			_exit(0);
		if (pid > 0) {
			if (rnd(2) == 0)
				(void)kill(pid, SIGKILL);
			(void)waitpid(pid, NULL, 0);
		}
		break;
	case 7:
		(void)kill(getpid(), rnd(2) ? SIGUSR1 : SIGUSR2);
		break;
	case 8:
		if (rnd(200) == 0)
			(void)cap_enter();
		break;
	case 9:
		if (rnd(200) == 0)
			(void)setuid(1001);
		break;
	case 10:
		fd = open("/dev/null", O_RDWR);
		if (fd > 40)
			(void)close(fd);
		break;
	case 11:
		if (rnd(50) == 0)
			*(volatile char *)p = 1;	/* perhaps a fault */
		break;
	case 12:
		if (rnd(100) == 0)
			_exit(0);
		break;
	case 13:
		if (rnd(50) != 0)
			break;
		/* Busy, but for a process without a record yet. */
		pid = rfork(RFPROC);
		if (pid == 0) {
			for (fd = 3; fd < 24; fd++)
				if (rnd(2))
					(void)close(fd);
			_exit(0);
		}
		if (pid > 0)
			(void)waitpid(pid, NULL, 0);
		break;
	case 14:
		if (rnd(300) == 0)
			limit(RLIMIT_NOFILE, 20);
		else if (rnd(300) == 0)
			limit(RLIMIT_AS, (4 + rnd(28)) << 20);
		else if (rnd(300) == 0)
			limit(RLIMIT_SWAP, rnd(1 << 20));
		break;
	case 15:
		if (rnd(50) == 0)
			traced();
		break;
	case 16:
		if (rnd(50) == 0 && vfork() == 0)
			_exit(0);
		/* None of these leaves memory or signals shared. */
		(void)rfork(rnd(2) ? RFFDG : RFCFDG);
		break;
	case 17:
		(void)record_lock((int)rnd(20), (int)rnd(3));
		break;
	default:
		sched_yield();
		break;
	}
}

static uint64_t
monotonic(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (ts.tv_sec * 1000000000ULL + ts.tv_nsec);
}

static int
control(void)
{
	struct lwc_below b;
	struct lwc_calls c;
	int i;

	switch (rnd(12)) {
	case 0:
		return (lwControl(descriptor(), (int)rnd(5), rnd(0)));
	case 1:
	case 2:
	case 3:
	case 4:
		return (lwControl(descriptor(), LWC_CONTROL_DESTROY, 0));
	case 5:
		if (rnd(20) != 0)
			return (-1);
		for (i = 0; i < (int)nitems(c.calls); i++)
			c.calls[i] = rnd(0) | rnd(0) | rnd(0) | rnd(0);
		if (rnd(2) != 0) {
			for (i = 0; i < (int)nitems(c.calls); i++)
				b.calls.calls[i] = ~c.calls[i];
			/* (A struct lwc_from is the same.) */
			b.limit = rnd(0) & 0x1ff;
			return (lwControl(LWC_SELF, rnd(2) != 0 ?
			    LWC_CONTROL_BELOW : LWC_CONTROL_FROM,
			    (uintptr_t)pointer(&b)));
		}
		return (lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
		    (uintptr_t)pointer(&c)));
	default:
		return (lwControl(LWC_SELF, (int)rnd(5), rnd(0)));
	}
}

static void
one(void)
{
	static const int flags[] = { 0, 0, 0, 0, LWC_PREFAULT, LWC_TRAP_FAULT,
	    LWC_TRAP_EXIT, LWC_TRAP_SYSCALL, LWC_TRAP_FAULT | LWC_TRAP_EXIT };
	static const int calls[] = { SYS_getpid, SYS_close, SYS_open, SYS_read,
	    SYS_write, SYS_dup, SYS_getuid, SYS_mmap, SYS_munmap, SYS_fork,
	    SYS_umask, SYS_cap_getmode, SYS_dup2, SYS_fstat };
	struct lwc_spec s[4];
	struct lwc_info li;
	uint64_t a[LWC_MAX_ARGS], w[LWC_MAX_ARGS];
	int i, n, num, r, src, what;

	n = (int)rnd(5);
	for (i = 0; i < n && i < 4; i++)
		spec(&s[i]);
	if (n == 4 && rnd(30) == 0)
		n = (int)rnd(0);
	for (i = 0; i < LWC_MAX_ARGS; i++)
		w[i] = rnd(3) ? 0 : rnd(0);
	num = LWC_MAX_ARGS;
	src = -1;
	what = (int)rnd(20);
	switch (what) {
	case 0:
	case 1:
	case 2:
		i = flags[rnd(nitems(flags))];
		if (rnd(30) == 0)
			i = (int)rnd(0);
		r = lwCreate(pointer(s), rnd(2) ? 0 : n, pointer(&src),
		    pointer(a), pointer(&num), i);
		count(0, r != -1);
		if (r >= 0)
			known[rnd(KNOWN)] = r;
		break;
	case 3:
		r = lwDiscardSwitch(descriptor(), pointer(w), (int)rnd(17));
		count(2, 0);
		break;
	case 4:
	case 5:
		r = lwRestrict(descriptor(), pointer(s), n);
		count(3, r == 0);
		break;
	case 6:
	case 7:
	case 8:
		if (rnd(4) == 0)
			for (i = 0; i < 4; i++)
				s[i].flags = (s[i].flags & LWC_TYPES) |
				    LWC_UNMAP;
		r = lwOverlay(descriptor(), pointer(s), n);
		count(4, r == 0);
		break;
	case 9:
	case 10:
		a[0] = rnd(30);
		a[1] = (uintptr_t)pointer(arena);
		a[2] = rnd(PAGE);
		for (i = 3; i < 8; i++)
			a[i] = rnd(2) ? 0 : rnd(0);
		/* mmap() and munmap() shall only hit the arena. */
		i = calls[rnd(nitems(calls))];
		if (i == SYS_mmap || i == SYS_munmap) {
			a[0] = (uintptr_t)arena + rnd(PAGES) * PAGE;
			a[1] = PAGE;
			a[2] = PROT_READ | PROT_WRITE;
			a[3] = MAP_ANON | MAP_FIXED | MAP_PRIVATE;
			a[4] = (uint64_t)-1;
			a[5] = 0;
		} else if (i == SYS_read) {
			a[0] = (uint64_t)-1;
		}
		r = (int)lwSyscall(descriptor(), (int)rnd(9), i, pointer(a));
		count(5, r != -1);
		break;
	case 11:
		r = rnd(3) == 0 ? lwGetlwc() : -1;
		count(6, r != -1);
		break;
	case 12:
		r = lwInfo(descriptor(), pointer(&li));
		count(7, r == 0);
		break;
	case 13:
		r = control();
		count(8, r != -1);
		break;
	case 14:
		r = lwControl(descriptor(), LWC_CONTROL_INTRODUCE,
		    (uint64_t)descriptor());
		count(9, r != -1);
		break;
	default:
		i = (int)rnd(17);
		/* Up to 4 ms: now shorter, now longer than what is called. */
		if (i < LWC_MAX_ARGS && rnd(3) != 0) {
			w[i] = monotonic() + rnd(4000000);
			i |= LWC_UNTIL;
		}
		if (rnd(4) == 0)
			i |= LWC_ROOM;
		r = lwSwitch(descriptor(), pointer(w), i, pointer(&src),
		    pointer(a), (i & LWC_ROOM) != 0 && rnd(9) != 0 ? NULL :
		    pointer(&num));
		count(1, r != -1);
		break;
	}
	if (src >= 0 && rnd(4) == 0)
		known[rnd(KNOWN)] = src;
}

static void
worker(uint64_t seed)
{
	struct rlimit rl;
	sigset_t all;
	int fd;

	state = seed | 1;
	rl.rlim_cur = rl.rlim_max = 0;
	(void)setrlimit(RLIMIT_CORE, &rl);
	sigemptyset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)signal(SIGUSR1, on_signal);
	(void)signal(SIGUSR2, on_signal);
	(void)signal(SIGSYS, on_fault);
	if (rnd(2)) {
		(void)signal(SIGSEGV, on_fault);
		(void)signal(SIGBUS, on_fault);
	}
	/* What is written to random descriptors is not for the terminal. */
	for (fd = 0; fd < 3; fd++)
		(void)dup2(open("/dev/null", O_RDWR), fd);
	/* Contexts may wait for each other in a circle: not for ever. */
	(void)alarm(20);
	arena = mmap((void *)0x500000000000, PAGES * PAGE,
	    PROT_READ | PROT_WRITE, MAP_ANON | MAP_PRIVATE | MAP_FIXED, -1, 0);
	if (arena == MAP_FAILED)
		_exit(1);
	while (!over()) {
		one();
		if (rnd(3) == 0)
			nuisance();
	}
	_exit(0);
}

/* Write to so much memory, give it back, and again. */
static void
hog(size_t size)
{
	size_t i;
	char *p;

	for (;;) {
		p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_ANON | MAP_PRIVATE, -1, 0);
		if (p == MAP_FAILED)
			_exit(1);
		for (i = 0; i < size; i += PAGE)
			p[i] = 1;
		(void)munmap(p, size);
		usleep(20000);
	}
}

static const char *const leaky[] = {
	"contexts", "descriptors", "objects", "processes", "rights"
};

static unsigned int
counter(const char *name)
{
	char buf[64];
	unsigned int n;
	size_t len;

	snprintf(buf, sizeof(buf), "kern.lwc.%s", name);
	len = sizeof(n);
	if (sysctlbyname(buf, &n, &len, NULL, 0) != 0)
		n = 0;
	return (n);
}

int
main(int argc, char **argv)
{
	static const char *const names[KINDS] = { "lwCreate", "lwSwitch",
	    "lwDiscardSwitch", "lwRestrict", "lwOverlay", "lwSyscall",
	    "lwGetlwc", "lwInfo", "lwControl", "introductions" };
	unsigned int before[nitems(leaky)], after;
	pid_t pids[MAXPROC], pid;
	unsigned long born, hogs;
	uint64_t seed;
	size_t most;
	pid_t hogpid;
	int bad, c, i, nproc, seconds, status, try;

	seed = (uint64_t)time(NULL) * 2654435761u ^ (uint64_t)getpid();
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_SHARED, -1, 0);
	if (sh == MAP_FAILED)
		return (1);
	sh->limit = 100000;
	nproc = 4;
	seconds = 0;
	most = 0;
	while ((c = getopt(argc, argv, "m:n:p:s:t:")) != -1) {
		switch (c) {
		case 'm':
			most = strtoul(optarg, NULL, 0) << 20;
			break;
		case 'n':
			sh->limit = strtoul(optarg, NULL, 0);
			break;
		case 'p':
			nproc = MIN(MAX(atoi(optarg), 1), MAXPROC);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = atoi(optarg);
			break;
		default:
			fprintf(stderr, "usage: lwc_stress [-s seed] "
			    "[-n calls | -t seconds] [-p processes] "
			    "[-m MiB]\n");
			return (2);
		}
	}
	if (seconds != 0) {
		sh->limit = 0;
		sh->until = time(NULL) + seconds;
	}
	printf("seed %#jx, %d processes\n", (uintmax_t)seed, nproc);
	fflush(stdout);
	(void)lwInfo(-2, NULL);		/* look the numbers up here */
	for (i = 0; i < (int)nitems(leaky); i++)
		before[i] = counter(leaky[i]);
	state = seed | 1;
	born = hogs = 0;
	hogpid = 0;
	memset(pids, 0, sizeof(pids));
	while (!over()) {
		for (i = 0; i < nproc; i++) {
			if (pids[i] != 0)
				continue;
			pid = fork();
			if (pid == 0) {
				(void)setpgid(0, 0);
				worker(seed + ++born * 0x9e3779b97f4a7c15);
			}
			born++;
			pids[i] = pid > 0 ? pid : 0;
		}
		if (most != 0 && hogpid <= 0) {
			hogs++;
			hogpid = fork();
			if (hogpid == 0)
				hog(most);
		}
		/* The system kills the largest when memory runs out. */
		if (hogpid > 0 &&
		    waitpid(hogpid, &status, WNOHANG) == hogpid)
			hogpid = 0;
		usleep(2000);
		for (i = 0; i < nproc; i++) {
			if (pids[i] == 0)
				continue;
			if (rnd(60) == 0) {
				atomic_fetch_add(&sh->kills, 1);
				(void)kill(-pids[i], SIGKILL);
				(void)kill(pids[i], SIGKILL);
			} else if (rnd(4) == 0) {
				(void)kill(pids[i], SIGUSR1);
			}
			if (waitpid(pids[i], &status, WNOHANG) == pids[i]) {
				(void)kill(-pids[i], SIGKILL);
				pids[i] = 0;
			}
		}
	}
	for (i = 0; i < nproc; i++) {
		if (pids[i] == 0)
			continue;
		(void)kill(-pids[i], SIGKILL);
		(void)kill(pids[i], SIGKILL);
		(void)waitpid(pids[i], &status, 0);
	}
	if (hogpid > 0) {
		(void)kill(hogpid, SIGKILL);
		(void)waitpid(hogpid, &status, 0);
	}
	printf("%lu calls, %lu workers, %lu forks, %lu kills, %lu hogs\n",
	    atomic_load(&sh->calls), born, atomic_load(&sh->forks),
	    atomic_load(&sh->kills), hogs);
	for (i = 0; i < KINDS; i++)
		printf("%s: %lu, %lu succeeded\n", names[i],
		    atomic_load(&sh->made[i]), atomic_load(&sh->good[i]));
	bad = 0;
	for (i = 0; i < (int)nitems(leaky); i++) {
		for (try = 0; try < 250; try++) {
			after = counter(leaky[i]);
			if (after == before[i])
				break;
			usleep(20000);
		}
		if (after != before[i]) {
			printf("leaked %s: %u, now %u\n", leaky[i], before[i],
			    after);
			bad = 1;
		}
	}
	printf("stress: %s\n", bad ? "failed" : "passed");
	return (bad);
}
