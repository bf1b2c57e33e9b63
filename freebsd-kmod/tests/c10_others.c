/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Contract 10.1 and 10.2: what a context does not change by calls of its own, or
 * not in its own memory and table, is undone as well, or cannot be changed.
 */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/procctl.h>
#include <sys/syscall.h>
#include <sys/thr.h>

#include <machine/segments.h>
#include <machine/sysarch.h>

#include <fcntl.h>
#include <signal.h>

#include "lwc_test.h"

static char *area;
static int self;

static void
area_make(void)
{

	area = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANON, -1, 0);
	REQUIRE(area != MAP_FAILED);
	area[0] = 1;
}

/* Make a context and end it, and keep its name; the lowest free number. */
static uint64_t
makes_dead(uint64_t what)
{
	struct visit v;
	int fd;

	if (what == 1) {
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED)
			_exit(9);
		(void)lwControl(fd, LWC_CONTROL_DESTROY, 0);
	}
	fd = open("/dev/null", O_RDONLY);
	(void)close(fd);
	return ((uint64_t)fd);
}

CASE(c10_1_names_of_the_dead,
    "A rollback closes names of contexts that were made and destroyed since.")
{
	uint64_t number;
	int fd, i;

	fd = servant(makes_dead, 0);
	REQUIRE(snapshot(fd) == 0);
	number = ask(fd, 0);
	REQUIRE(rollback(fd) >= 0);
	for (i = 0; i < 3; i++) {
		REQUIRE(ask(fd, 1) != number);
		REQUIRE(rollback(fd) >= 0);
		REQUIRE(ask(fd, 0) == number);
		REQUIRE(rollback(fd) >= 0);
	}
	/* Nor does it bring back one that was dead before. */
	number = ask(fd, 1);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(ask(fd, 0) == number);
	REQUIRE(rollback(fd) >= 0);
	REQUIRE(ask(fd, 0) == number - 1);
}

static uint64_t
reads_area(uint64_t what __unused)
{

	return ((uint64_t)area[0]);
}

CASE(c10_1_memory_shared_since,
    "A rollback takes back memory that another context shared with a clean "
    "one, and that one is clean no more.")
{
	struct lwc_info li;
	struct lwc_spec sp;
	int fd, i;

	area_make();
	fd = servant(reads_area, 0);
	REQUIRE(snapshot(fd) == 0);
	sp = mem(area, PAGE, LWC_SHARE);
	for (i = 0; i < 3; i++) {
		REQUIRE(lwOverlay(fd, &sp, 1) == 0);
		area[0] = 6;
		REQUIRE(lwInfo(fd, &li) == 0);
		REQUIRE((li.li_rollback & LWC_IS_CLEAN) == 0);
		REQUIRE(rollback(fd) >= 0);
		REQUIRE(lwInfo(fd, &li) == 0);
		REQUIRE((li.li_rollback & LWC_IS_CLEAN) != 0);
		area[0] = 7;
		REQUIRE(ask(fd, 0) == 1);
		REQUIRE(rollback(fd) >= 0);
		REQUIRE(ask(fd, 0) == 1);
		REQUIRE(rollback(fd) >= 0);
	}
	/* A copy shares nothing. */
	sp = mem(area, PAGE, LWC_COPY);
	REQUIRE(lwOverlay(fd, &sp, 1) == 0);
	REQUIRE(lwInfo(fd, &li) == 0);
	REQUIRE((li.li_rollback & LWC_IS_CLEAN) != 0);
	area[0] = 8;
	REQUIRE(rollback(fd) >= 0);
	REQUIRE(ask(fd, 0) == 1);
}

static char in_memory[2];

/* Write to pages, or count those in memory that might just be thrown away. */
static uint64_t
clean_pages(uint64_t what)
{
	char in[2];
	uint64_t n;
	int i;

	if (what == 1) {
		area[0] = area[PAGE] = 5;
		return (0);
	}
	/* It must not know itself. */
	if (mincore(area, 2 * PAGE, in) != -1 || errno != EPERM)
		return (9);
	for (i = n = 0; i < 2; i++)
		n += (in_memory[i] & MINCORE_INCORE) != 0 && (in_memory[i] &
		    (MINCORE_MODIFIED | MINCORE_MODIFIED_OTHER)) == 0;
	return (n);
}

CASE(c10_1_pages_are_not_lost,
    "A page that a rollback put back is not thrown away for want of memory, "
    "for another snapshot may leave no other copy of it.")
{
	uint64_t args[LWC_CALL_NARGS] = { 0 };
	int fd, i;

	/* Tell of pages, not of what is mapped. */
	(void)set_sysctl("vm.mincore_mapped", 0);
	area_make();
	area[PAGE] = 1;
	fd = servant(clean_pages, 0);
	REQUIRE(snapshot(fd) == 0);
	args[0] = (uintptr_t)area;
	args[1] = 2 * PAGE;
	args[2] = (uintptr_t)in_memory;
	for (i = 0; i < 3; i++) {
		(void)ask(fd, 1);
		REQUIRE(rollback(fd) >= 2);
		REQUIRE(lwSyscall(fd, LWC_MEMORY, SYS_mincore, args) == 0);
		REQUIRE(ask(fd, 0) == 0);
	}
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(lwSyscall(fd, LWC_MEMORY, SYS_mincore, args) == 0);
	REQUIRE(ask(fd, 0) == 0);
}

static void
on_signal(int sig __unused)
{
}

/* What the action of a signal says, or take the signal. */
static uint64_t
takes_signals(uint64_t what)
{
	struct sigaction sa;

	if (what == 1) {
		(void)thr_kill(self, SIGUSR1);
		return (0);
	}
	if (what == 2)
		__asm __volatile("ud2; nop");
	(void)sigaction(SIGUSR1, NULL, &sa);
	return (sigismember(&sa.sa_mask, SIGSEGV) == 1);
}

CASE(c10_1_actions_that_a_guard_changed,
    "A rollback undoes what the module changed in an action when a guarded "
    "context took its signal.")
{
	struct sigaction sa;
	long tid;
	int fd;

	(void)thr_self(&tid);
	self = (int)tid;
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_signal;
	sigfillset(&sa.sa_mask);
	REQUIRE(sigaction(SIGUSR1, &sa, NULL) == 0);
	fd = servant(takes_signals, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
	REQUIRE(snapshot(fd) == 0);
	SKIP_UNLESS(ask(fd, 0) == 1, "actions are changed before");
	REQUIRE(rollback(fd) >= 0);
	(void)ask(fd, 1);
	REQUIRE(rollback(fd) >= 0);
	REQUIRE(ask(fd, 0) == 1);
}

/* Have a child of one's own go by a name that one was given; its errno. */
static uint64_t
lends_name(uint64_t name)
{
	struct visit v;
	int fd, home, n;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		home = v.src;
		n = go((int)v.a[0], &v, 0, 0) == -1 ? errno : 0;
		go(home, &v, (uint64_t)n, 0);
		_exit(9);
	}
	n = lwControl(fd, LWC_CONTROL_INTRODUCE, name);
	if (n == -1)
		return (1000 + (uint64_t)errno);
	gogo(fd, &v, (uint64_t)n, 0);
	(void)close(fd);
	return (v.a[0]);
}

CASE(c10_3_names_of_clean_contexts_are_lent_as_such,
    "A name for clean contexts only is that, too, for whom its holder "
    "introduces by it.")
{
	int a, b, n;

	area_make();
	b = servant(reads_area, 0);
	a = servant(lends_name, 0);
	n = lwControl(a, LWC_CONTROL_INTRODUCE, LWC_CLEAN_ONLY | (uint64_t)b);
	REQUIRE(n > 2);
	REQUIRE(ask(a, (uint64_t)n) == ESTALE);
}

/* What would be the process's; how many of these it was let. */
static uint64_t
marks_process(uint64_t what __unused)
{
	union descriptor ldt;
	uint64_t n;
	long tid;
	u_int i;
	static const int shares[] = { INHERIT_SHARE, 0x100 | INHERIT_SHARE };

	n = 0;
	memset(&ldt, 0, sizeof(ldt));
	n += sysarch(I386_SET_LDT, &(struct i386_ldt_args){ .start = 0,
	    .descs = NULL, .num = 0 }) == 0 || errno != EBUSY;
	ldt.sd.sd_lobase = 0x1234;
	ldt.sd.sd_type = SDT_MEMRWA;
	ldt.sd.sd_dpl = SEL_UPL;
	ldt.sd.sd_p = 1;
	n += sysarch(I386_SET_LDT, &(struct i386_ldt_args){ .start =
	    LDT_AUTO_ALLOC, .descs = (void *)&ldt, .num = 1 }) != -1 ||
	    errno != EBUSY;
	for (i = 0; i < nitems(shares); i++)
		n += minherit(area, PAGE, shares[i]) == 0 || errno != EBUSY;
	(void)thr_self(&tid);
	n += thr_set_name(tid, "stash") == 0 || errno != EBUSY;
	n += procctl(P_PID, 0, PROC_PDEATHSIG_CTL, &(int){ SIGUSR1 }) == 0 ||
	    errno != EPERM;
	/* And these are its own. */
	n += minherit(area, PAGE, INHERIT_ZERO) != 0;
	return (n);
}

CASE(c10_2_what_would_be_the_process_s,
    "A context cannot change segment descriptors, names or settings that are "
    "the process's, nor mark its memory as shared with copies of it.")
{
	int fd, flags;

	area_make();
	for (flags = 0; flags < 2; flags++) {
		fd = servant(marks_process,
		    flags == 0 ? 0 : LWC_TRAP_FAULT | LWC_TRAP_EXIT);
		REQUIRE(ask(fd, 0) == 0);
	}
}
