/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Signal masks, pending signals and alternate stacks are a context's: none of
 * them is seen by another, whenever it is interrupted.
 */

#include <sys/param.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/thr.h>
#include <sys/wait.h>

#include <poll.h>
#include <signal.h>
#include <time.h>

#include "lwc_test.h"

static volatile int caught;

static void
note(int sig __unused)
{

	caught++;
}

static void
handle(int sig, int flags)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = note;
	sa.sa_flags = flags;
	REQUIRE(sigaction(sig, &sa, NULL) == 0);
}

static int
blocked(int sig)
{
	sigset_t set;

	REQUIRE(sigprocmask(SIG_SETMASK, NULL, &set) == 0);
	return (sigismember(&set, sig));
}

static int
pending(int sig)
{
	sigset_t set;

	REQUIRE(sigpending(&set) == 0);
	return (sigismember(&set, sig));
}

enum { PPOLL, PSELECT, SIGSUSPEND };

static void
wait_with(int way, const sigset_t *set, long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	if (way == PPOLL)
		(void)ppoll(NULL, 0, &ts, set);
	else if (way == PSELECT)
		(void)pselect(0, NULL, NULL, NULL, &ts, set);
	else
		(void)sigsuspend(set);
}

/*
 * A context that blocks everything waits with nothing blocked; its creator,
 * who has the opposite, comes back by its deadline.
 */
static void
mask_stays(int way, int tries, int flags)
{
	volatile uint64_t *bad;
	struct visit v;
	sigset_t all, none;
	int fd, i;

	bad = shared_page();
	sigemptyset(&none);
	fd = create(&v, NULL, 0, flags);
	if (fd == LWC_SWITCHED) {
		sigfillset(&all);
		(void)sigprocmask(SIG_SETMASK, &all, NULL);
		for (;;) {
			/* It ends at about the time of the deadline. */
			wait_with(way, &none, 40);
			if (!blocked(SIGTERM) || !blocked(SIGUSR1))
				bad[0]++;
		}
	}
	REQUIRE(fd >= 0);
	for (i = 0; i < tries; i++) {
		REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, after(20 + i * 3), &v,
		    0));
		REQUIRE(!blocked(SIGTERM) && !blocked(SIGCHLD) &&
		    !blocked(SIGUSR1) && !blocked(SIGALRM));
	}
	REQUIRE(bad[0] == 0);
}

CASE(hold_signals_mask_of_ppoll,
    "The mask of ppoll(2) never arrives in another context.")
{

	mask_stays(PPOLL, 15, 0);
	mask_stays(PPOLL, 5, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
}

CASE(hold_signals_mask_of_pselect,
    "The mask of pselect(2) never arrives in another context.")
{

	mask_stays(PSELECT, 15, 0);
	mask_stays(PSELECT, 5, LWC_TRAP_FAULT);
}

CASE(hold_signals_mask_of_sigsuspend,
    "The mask of sigsuspend(2) never arrives in another context.")
{

	mask_stays(SIGSUSPEND, 5, 0);
	mask_stays(SIGSUSPEND, 5, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
}

/* A process that sends us a signal again and again, until we are gone. */
static int
sender(int sig, int ms)
{
	pid_t parent, pid;

	parent = getpid();
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		/* Nobody there: a new parent. */
		while (getppid() == parent) {
			usleep(ms * 1000);
			(void)kill(parent, sig);
		}
		_exit(0);
	}
	return (pid);
}

static void
stop_sender(int pid)
{
	pid_t got;

	REQUIRE(kill(pid, SIGKILL) == 0);
	/* Its last signal may come in the middle of the wait. */
	do
		got = waitpid(pid, NULL, 0);
	while (got == -1 && errno == EINTR);
	REQUIRE(got == pid);
}

CASE(hold_signals_mask_of_a_handler,
    "The mask of a handler that runs at the end of a wait and switches "
    "stays in its context.")
{
	struct visit v;
	sigset_t all, none;
	int fd, i, pid;

	handle(SIGUSR1, 0);
	sigemptyset(&none);
	pid = sender(SIGUSR1, 3);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		sigfillset(&all);
		(void)sigprocmask(SIG_SETMASK, &all, NULL);
		for (;;) {
			wait_with(PPOLL, &none, 10);
			REQUIRE(blocked(SIGTERM));
			go(v.src, &v, 0, 0);
			REQUIRE(blocked(SIGTERM));
		}
	}
	for (i = 0; i < 50; i++) {
		gogo(fd, &v, 0, 0);
		REQUIRE(!blocked(SIGTERM) && !blocked(SIGUSR1));
	}
	stop_sender(pid);
}

/* sigsuspend(2) and the like with all blocked but one that comes. */
static void
waits_guarded(int flags, int way)
{
	struct visit v;
	sigset_t most;
	int fd, pid;

	caught = 0;
	pid = sender(SIGUSR1, 100);
	handle(SIGUSR1, 0);
	fd = create(&v, NULL, 0, flags);
	if (fd == LWC_SWITCHED) {
		sigfillset(&most);
		(void)sigprocmask(SIG_SETMASK, &most, NULL);
		sigdelset(&most, SIGUSR1);
		while (caught == 0)
			wait_with(way, &most, 10000);
		go(v.src, &v, caught, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] >= 1);
	REQUIRE(close(fd) == 0);
	stop_sender(pid);
}

CASE(hold_signals_guarded_sigsuspend,
    "sigsuspend(2) with fault signals in its mask leaves a guarded context "
    "guarded.")
{

	waits_guarded(LWC_TRAP_FAULT, SIGSUSPEND);
	waits_guarded(LWC_TRAP_EXIT, SIGSUSPEND);
	waits_guarded(LWC_TRAP_FAULT | LWC_TRAP_EXIT, SIGSUSPEND);
	waits_guarded(0, SIGSUSPEND);
}

CASE(hold_signals_guarded_ppoll,
    "ppoll(2), pselect(2) and their kin with fault signals in the mask "
    "leave it guarded.")
{

	waits_guarded(LWC_TRAP_FAULT, PPOLL);
	waits_guarded(LWC_TRAP_FAULT | LWC_TRAP_EXIT, PSELECT);
}

CASE(hold_signals_guarded_faults_stay_open,
    "Fault signals stay unblocked in a guarded context, whatever call sets "
    "the mask.")
{
	struct visit v;
	sigset_t most;
	int fd, i, pid;

	for (i = 0; i < 4; i++) {
		pid = sender(SIGUSR1, 20);
		handle(SIGUSR1, 0);
		fd = create(&v, NULL, 0, LWC_TRAP_FAULT);
		if (fd == LWC_SWITCHED) {
			sigfillset(&most);
			sigdelset(&most, SIGUSR1);
			if (i < 3)
				wait_with(i, &most, 10000);
			else
				(void)sigprocmask(SIG_SETMASK, &most, NULL);
			*(volatile int *)8 = 1;
			_exit(9);
		}
		REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
		REQUIRE(v.a[LWC_END_SIGNAL] == SIGSEGV);
		REQUIRE(close(fd) == 0);
		stop_sender(pid);
	}
}

/* Signals to a thread, and the thread is the context that sent them. */
static void
directed(int sig, int flags, int way)
{
	struct visit v;
	sigset_t set;
	long tid;
	int fd;

	REQUIRE(thr_self(&tid) == 0);
	caught = 0;
	handle(sig, 0);
	fd = create(&v, NULL, 0, flags);
	if (fd == LWC_SWITCHED) {
		sigfillset(&set);
		(void)sigprocmask(SIG_SETMASK, &set, NULL);
		if (way == 0)
			(void)thr_kill(tid, sig);
		else if (way == 1)
			(void)thr_kill2(getpid(), tid, sig);
		else
			(void)raise(sig);
		if (!pending(sig))
			_exit(8);
		go(v.src, &v, 0, 0);
		/* It is still there, and is taken when it may be. */
		if (!pending(sig) || caught != 0)
			_exit(7);
		sigemptyset(&set);
		(void)sigprocmask(SIG_SETMASK, &set, NULL);
		go(v.src, &v, caught, pending(sig));
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(!pending(sig) && caught == 0);
	(void)getppid();
	usleep(1000);
	REQUIRE(caught == 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 1 && v.a[1] == 0);
	REQUIRE(!pending(sig) && caught == 0);
	REQUIRE(close(fd) == 0);
}

CASE(hold_signals_directed,
    "A signal to one's own thread stays with the context.")
{
	static const int sigs[] = { SIGUSR1, SIGTERM, SIGHUP, SIGRTMIN };
	u_int i;
	int way;

	for (i = 0; i < nitems(sigs); i++)
		for (way = 0; way < 3; way++) {
			directed(sigs[i], 0, way);
			directed(sigs[i], LWC_TRAP_FAULT, way);
			directed(sigs[i], LWC_TRAP_FAULT | LWC_TRAP_EXIT, way);
		}
}

CASE(hold_signals_directed_ends_with_it,
    "A signal to one's own thread is forgotten when the context goes.")
{
	struct visit v;
	sigset_t set;
	long tid;
	int fd, i;

	REQUIRE(thr_self(&tid) == 0);
	handle(SIGUSR1, 0);
	for (i = 0; i < 4; i++) {
		fd = create(&v, NULL, 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
		if (fd == LWC_SWITCHED) {
			sigfillset(&set);
			(void)sigprocmask(SIG_SETMASK, &set, NULL);
			(void)thr_kill(tid, SIGUSR1);
			(void)sigqueue(getpid(), SIGRTMIN + 1,
			    (union sigval){ 0 });
			if (i == 0)
				_exit(0);
			if (i == 1)
				*(volatile int *)8 = 1;
			if (i == 2)
				(void)lwDiscardSwitch(v.src, NULL, 0);
			go(v.src, &v, 0, 0);
		}
		(void)go(fd, &v, 0, 0);
		REQUIRE(close(fd) == 0);
		REQUIRE(!pending(SIGUSR1) && caught == 0);
	}
}

CASE(hold_signals_of_others_reach_the_process,
    "Signals of other processes reach the process, whichever context is "
    "current.")
{
	struct visit v;
	sigset_t set;
	int fd, i, pid;

	handle(SIGUSR1, 0);
	fd = create(&v, NULL, 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED) {
		sigfillset(&set);
		(void)sigprocmask(SIG_SETMASK, &set, NULL);
		for (;;) {
			usleep(20000);
			go(v.src, &v, caught, 0);
		}
	}
	gogo(fd, &v, 0, 0);		/* it blocks all by now */
	pid = sender(SIGUSR1, 5);
	for (i = 0; i < (int)lenient(200) && caught == 0; i++) {
		gogo(fd, &v, 0, 0);
		REQUIRE(v.a[0] == 0);
	}
	REQUIRE(caught > 0);
	stop_sender(pid);
}

/*
 * Alternate stacks of many sizes; bytes below them that change, or -1 where
 * the signal could not be delivered.
 */
#define	AREA	32768
#define	BELOW	16384
static char area[AREA] __attribute__((aligned(64)));

static int
below(size_t size)
{
	stack_t ss;
	int i, n;

	memset(area, 0x55, sizeof(area));
	memset(&ss, 0, sizeof(ss));
	ss.ss_sp = area + BELOW;
	ss.ss_size = size;
	REQUIRE(sigaltstack(&ss, NULL) == 0);
	handle(SIGUSR1, SA_ONSTACK);
	caught = 0;
	(void)raise(SIGUSR1);
	for (i = n = 0; i < BELOW; i++)
		if (area[i] != 0x55)
			n++;
	ss.ss_flags = SS_DISABLE;
	REQUIRE(sigaltstack(&ss, NULL) == 0);
	return (caught == 1 ? n : -1);
}

CASE(hold_signals_below_the_stack,
    "A trapped fault changes nothing below the stack that an unguarded "
    "signal leaves alone.")
{
	static const int flags[] = { LWC_TRAP_FAULT, LWC_TRAP_EXIT,
	    LWC_TRAP_FAULT | LWC_TRAP_EXIT };
	static int plain[AREA / 64];
	struct visit v;
	size_t size;
	u_int i, n;
	int fd, got;

	for (size = MINSIGSTKSZ, n = 0; size <= 8192; size += 64, n++)
		plain[n] = below(size);
	/* It does fit some. */
	REQUIRE(plain[n - 1] == 0);
	for (i = 0; i < nitems(flags); i++) {
		fd = create(&v, NULL, 0, flags[i]);
		if (fd == LWC_SWITCHED) {
			for (size = MINSIGSTKSZ, n = 0; size <= 8192;
			    size += 64, n++) {
				if (plain[n] != 0)
					continue;
				got = below(size);
				if (got == 0)
					continue;
				fprintf(stderr, "%zu: %d\n", size, got);
				_exit(9);
			}
			go(v.src, &v, 1, 0);
			_exit(9);
		}
		gogo(fd, &v, 0, 0);
		REQUIRE(v.a[0] == 1 && close(fd) == 0);
	}
}
