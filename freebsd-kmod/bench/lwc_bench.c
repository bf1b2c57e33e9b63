/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The table of costs.
 *
 * Each line is the difference of the clock over many rounds, divided; so the
 * unit is a nanosecond on hardware, and an instruction under an emulator whose
 * clock counts instructions (qemu -icount shift=0,sleep=off, one CPU).  There
 * the figures repeat to the digit, and are what is compared: ratios of wall
 * time under emulation mean nothing.  What instructions do not show, a load
 * of the page-table register a switch each way, must be added in mind.
 *
 * All rounds include everything the contract has a switch do: memory,
 * descriptors, credentials, signals, general and vector registers.
 */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../sys/lwc.h"

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (ts.tv_sec * 1e9 + ts.tv_nsec);
}

static double getpid_cost, pipe_cost, fork_cost;

static void
line(const char *what, double each)
{

	printf("%-52s %9.0f", what, each);
	if (getpid_cost != 0)
		printf("  %6.2f getpid", each / getpid_cost);
	if (pipe_cost != 0)
		printf("  %5.3f pipe", each / pipe_cost);
	if (fork_cost != 0)
		printf("  %5.3f fork", each / fork_cost);
	printf("\n");
	fflush(stdout);
}

/* A context that does nothing but come back. */
static int
echo(int flags, int share)
{
	struct lwc_spec s;
	int fd, src;

	memset(&s, 0, sizeof(s));
	if (share) {
		s.flags = LWC_FILES | LWC_SHARE;
		s.sub.descriptors.from = s.sub.descriptors.to = -1;
	} else {
		/* Not all others' names: a thousand tables of a thousand. */
		s.flags = LWC_FILES | LWC_UNMAP;
		s.sub.descriptors.from = 3;
		s.sub.descriptors.to = 0x7ffffffe;
	}
	fd = lwCreate(&s, 1, &src, NULL, NULL, flags);
	if (fd == LWC_SWITCHED)
		for (;;)
			(void)lwSwitch(src, NULL, 0, &src, NULL, NULL);
	if (fd < 0) {
		perror("lwCreate");
		exit(1);
	}
	return (fd);
}

static void
check(int r)
{

	if (r != LWC_SWITCHED) {
		perror("lwSwitch");
		exit(1);
	}
}

static double
round_trips(int fd, int rounds)
{
	double t;
	int i;

	for (i = 0; i < 10; i++)
		check(lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
	t = now();
	for (i = 0; i < rounds; i++)
		check(lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
	return ((now() - t) / rounds);
}

static double
round_trips_words(int fd, int rounds)
{
	uint64_t out[4] = { 1, 2, 3, 4 }, in[LWC_MAX_ARGS];
	double t;
	int i, n, src;

	t = now();
	for (i = 0; i < rounds; i++) {
		n = LWC_MAX_ARGS;
		check(lwSwitch(fd, out, 4, &src, in, &n));
	}
	return ((now() - t) / rounds);
}

static double
create_destroy(int rounds, int share)
{
	struct lwc_spec s;
	double t;
	int fd, i;

	memset(&s, 0, sizeof(s));
	s.flags = LWC_FILES | LWC_SHARE;
	s.sub.descriptors.from = s.sub.descriptors.to = -1;
	t = now();
	for (i = 0; i < rounds; i++) {
		fd = lwCreate(&s, share, NULL, NULL, NULL, 0);
		if (fd < 0) {
			perror("lwCreate");
			exit(1);
		}
		close(fd);
	}
	return ((now() - t) / rounds);
}

static double
fork_exit_wait(int rounds)
{
	double t;
	pid_t pid;
	int i;

	t = now();
	for (i = 0; i < rounds; i++) {
		pid = fork();
		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
	return ((now() - t) / rounds);
}

static double
pipe_round_trip(int rounds)
{
	double t;
	char c;
	pid_t pid;
	int i, a[2], b[2];

	if (pipe(a) != 0 || pipe(b) != 0)
		exit(1);
	c = 'x';
	pid = fork();
	if (pid == 0) {
		close(a[1]);
		while (read(a[0], &c, 1) == 1)
			(void)!write(b[1], &c, 1);
		_exit(0);
	}
	for (i = 0; i < 10; i++) {
		(void)!write(a[1], &c, 1);
		(void)!read(b[0], &c, 1);
	}
	t = now();
	for (i = 0; i < rounds; i++) {
		(void)!write(a[1], &c, 1);
		(void)!read(b[0], &c, 1);
	}
	t = (now() - t) / rounds;
	close(a[1]);
	close(b[0]);
	waitpid(pid, NULL, 0);
	close(a[0]);
	close(b[1]);
	return (t);
}

static double
trapped_call(int rounds)
{
	uint64_t answer[2] = { 0, 1 };
	double t;
	int fd, i, src;

	fd = lwCreate(NULL, 0, &src, NULL, NULL, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED)
		for (;;)
			(void)getppid();
	t = now();
	for (i = 0; i < rounds; i++)
		if (lwSwitch(fd, answer, 2, NULL, NULL, NULL) != LWC_TRAPPED)
			exit(1);
	t = (now() - t) / rounds;
	close(fd);
	return (t);
}

/*
 * A context that is left by lwDiscardSwitch() each time, having written to so
 * many pages, and is rolled back by that.  Its stack is one more.
 */
static int
rolled_back(char *arena)
{
	uint64_t pages;
	int fd, n, src;

	n = 1;
	fd = lwCreate(NULL, 0, &src, &pages, &n, 0);
	if (fd == LWC_FAILED) {
		perror("lwCreate");
		exit(1);
	}
	while (fd == LWC_SWITCHED) {
		while (pages-- > 0)
			arena[pages * 4096] = 1;
		(void)lwDiscardSwitch(src, NULL, 0);
		_exit(1);
	}
	if (lwControl(fd, LWC_CONTROL_SNAPSHOT, 0) != 0) {
		perror("snapshot");
		exit(1);
	}
	return (fd);
}

/*
 * The same, but it comes back, and is to be rolled back by us.  It may change
 * what is mapped instead.
 */
#define	REMAP	999
static int
to_roll_back(char *arena)
{
	uint64_t pages;
	int fd, n, src;

	n = 1;
	fd = lwCreate(NULL, 0, &src, &pages, &n, 0);
	while (fd == LWC_SWITCHED) {
		if (pages == REMAP) {
			munmap(mmap(NULL, 4096, PROT_READ, MAP_ANON, -1, 0),
			    4096);
			munmap(arena, 4096);
			mprotect(arena + 40960, 4096, PROT_READ);
			pages = 0;
		}
		while (pages-- > 0)
			arena[pages * 4096] = 1;
		n = 1;
		(void)lwSwitch(src, NULL, 0, &src, &pages, &n);
	}
	pages = 0;
	if (fd < 0 || lwControl(fd, LWC_CONTROL_SNAPSHOT, 0) != 0) {
		perror("snapshot");
		exit(1);
	}
	return (fd);
}

static void
rollback_lines(int rounds)
{
	static const uint64_t pages[] = { 0, 1, 10, 100, REMAP };
	char *arena, what[64];
	double all, hop, nothing, t, total;
	u_int i;
	int fd, j, undone;

	arena = mmap(NULL, 100 * 4096, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	memset(arena, 1, 100 * 4096);
	t = now();
	for (j = 0; j < rounds; j++)
		(void)now();
	nothing = (now() - t) / rounds;
	fd = echo(0, 0);
	hop = round_trips(fd, rounds) / 2;
	close(fd);
	undone = 0;
	for (i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		fd = to_roll_back(arena);
		total = 0;
		all = 0;
		for (j = -3; j < rounds; j++) {
			if (j == 0)
				total = 0, all = now();
			check(lwSwitch(fd, &pages[i], 1, NULL, NULL, NULL));
			t = now();
			undone = lwControl(fd, LWC_CONTROL_ROLLBACK, 0);
			total += now() - t;
			if (undone < 0) {
				perror("rollback");
				exit(1);
			}
		}
		all = (now() - all) / rounds;
		snprintf(what, sizeof(what), pages[i] == REMAP ?
		    "roll back, two mappings changed" :
		    "roll back, %ju pages written (%d undone)",
		    (uintmax_t)pages[i], undone);
		line(what, total / rounds - nothing);
		printf("%-52s %9.0f  %6.2f hops\n",
		    "  with what was rolled back", all - 2 * nothing,
		    (all - 2 * nothing) / hop);
		close(fd);
		if (pages[i] == REMAP)
			break;
		fd = rolled_back(arena);
		for (j = -3; j < rounds; j++) {
			if (j == 0)
				t = now();
			check(lwSwitch(fd, &pages[i], 1, NULL, NULL, NULL));
		}
		t = (now() - t) / rounds;
		printf("%-52s %9.0f  %6.2f hops\n",
		    "  an invocation that is left by lwDiscardSwitch", t,
		    t / hop);
		close(fd);
	}
	munmap(arena, 100 * 4096);
}

/* A call on a descriptor, and nothing more. */
static double
flags_of_descriptor(int rounds)
{
	double t;
	int i;

	t = now();
	for (i = 0; i < rounds; i++)
		(void)fcntl(0, F_GETFD);
	return ((now() - t) / rounds);
}

/* What the sets of calls cost: this process has them from now on. */
static void
sets_of_calls(int rounds)
{
	struct lwc_below below;
	struct lwc_calls all;
	struct lwc_from from;

	line("fcntl(F_GETFD) in the root", flags_of_descriptor(rounds));
	memset(&all, 0xff, sizeof(all));
	memset(&below, 0, sizeof(below));
	below.calls.calls[SYS_fcntl / 64] |= 1ULL << (SYS_fcntl % 64);
	below.limit = 100;
	if (lwControl(LWC_SELF, LWC_CONTROL_ALLOW, (uintptr_t)&all) != 0) {
		perror("lwControl");
		exit(1);
	}
	line("  with a set of calls that has it", flags_of_descriptor(rounds));
	if (lwControl(LWC_SELF, LWC_CONTROL_BELOW, (uintptr_t)&below) != 0) {
		perror("lwControl");
		exit(1);
	}
	line("  with one that has it below a limit",
	    flags_of_descriptor(rounds));
	from.calls = below.calls;
	from.least = 0;
	if (lwControl(LWC_SELF, LWC_CONTROL_FROM, (uintptr_t)&from) != 0) {
		perror("lwControl");
		exit(1);
	}
	line("  and from a number on", flags_of_descriptor(rounds));
}

int
main(int argc, char **argv)
{
	static int fds[1000];
	uint64_t zero[8] = { 0 };
	double t;
	size_t size;
	char *p;
	int i, rounds, user;

	rounds = argc > 1 ? atoi(argv[1]) : 2000;
	t = now();
	for (i = 0; i < rounds; i++)
		(void)getpid();
	t = (now() - t) / rounds;
	line("getpid", t);
	getpid_cost = t;
	pipe_cost = pipe_round_trip(rounds);
	line("pipe round trip between two processes", pipe_cost);
	(void)fork_exit_wait(10);
	fork_cost = fork_exit_wait(rounds / 10);
	line("fork + exit + wait", fork_cost);

	fds[0] = echo(0, 0);
	line("lwSwitch round trip, 2 contexts", round_trips(fds[0], rounds));
	line("  with 4 words and all out arguments",
	    round_trips_words(fds[0], rounds));
	user = echo(0, 0);
	(void)lwSyscall(user, LWC_CREDENTIALS, 23 /* setuid */,
	    (uint64_t[8]){ 1001 });
	line("  with different credentials", round_trips(user, rounds));
	close(user);
	user = echo(0, 1);
	line("  with one descriptor table", round_trips(user, rounds));
	(void)lwSyscall(user, LWC_CREDENTIALS, 23, (uint64_t[8]){ 1001 });
	line("  with one descriptor table, different credentials",
	    round_trips(user, rounds));
	close(user);
	user = echo(LWC_TRAP_FAULT | LWC_TRAP_EXIT, 0);
	line("  into a guarded context", round_trips(user, rounds));
	line("lwSyscall(getppid), memory and files of the target",
	    ({ t = now(); for (i = 0; i < rounds; i++)
	    (void)lwSyscall(fds[0], LWC_MEMORY | LWC_FILES, 39, zero);
	    (now() - t) / rounds; }));
	line("trapped system call, there and back", trapped_call(rounds));
	(void)create_destroy(10, 0);
	line("lwCreate + close", create_destroy(rounds / 10, 0));
	line("  with the descriptor table shared",
	    create_destroy(rounds / 10, 1));

	rollback_lines(rounds / 10);

	for (i = 1; i < 100; i++)
		fds[i] = echo(0, 0);
	for (i = 0; i < 100; i++)
		check(lwSwitch(fds[i], NULL, 0, NULL, NULL, NULL));
	line("lwSwitch round trip, 100 contexts, the first",
	    round_trips(fds[0], rounds));
	t = now();
	for (i = 0; i < rounds; i++)
		check(lwSwitch(fds[i % 100], NULL, 0, NULL, NULL, NULL));
	line("  all in turn", (now() - t) / rounds);
	for (i = 100; i < 1000; i++)
		fds[i] = echo(0, 0);
	for (i = 0; i < 1000; i++)
		check(lwSwitch(fds[i], NULL, 0, NULL, NULL, NULL));
	line("lwSwitch round trip, 1000 contexts, the first",
	    round_trips(fds[0], rounds));
	t = now();
	for (i = 0; i < rounds; i++)
		check(lwSwitch(fds[i % 1000], NULL, 0, NULL, NULL, NULL));
	line("  all in turn", (now() - t) / rounds);
	for (i = 1; i < 1000; i++)
		close(fds[i]);

	for (size = 16 << 20; size <= (256 << 20); size *= 16) {
		p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_ANON | MAP_PRIVATE, -1, 0);
		memset(p, 1, size);
		printf("with %zu MiB resident:\n", size >> 20);
		user = echo(0, 0);
		line("  lwSwitch round trip", round_trips(user, rounds));
		line("  lwCreate + close", create_destroy(10, 0));
		line("  fork + exit + wait", fork_exit_wait(10));
		close(user);
		munmap(p, size);
	}
	sets_of_calls(rounds);
	return (0);
}
