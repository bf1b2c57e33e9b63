/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* lwControl(), LWC_CONTROL_INTRODUCE; and what was suspended without a call. */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <time.h>

#include "lwc_test.h"

#define	ROUNDS	500

static int
introduce(int to, int whom)
{

	return (lwControl(to, LWC_CONTROL_INTRODUCE, whom));
}

/* The same, of two that can be introduced. */
static int
introduced(int to, int whom)
{
	int fd;

	fd = introduce(to, whom);
	REQUIRE(fd >= 0);
	return (fd);
}

/* A context that does not have this descriptor, unless it is -1. */
static int
without(struct visit *v, int hidden, int flags)
{
	struct lwc_spec s = files(hidden, hidden, LWC_UNMAP);

	return (create(v, &s, hidden >= 0 ? 1 : 0, flags));
}

/* It answers whoever comes: a word more, and the number it knows him by. */
static int
answerer(int hidden)
{
	struct visit v;
	int fd;

	fd = without(&v, hidden, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, v.a[0] + 1, v.src);
	REQUIRE(fd >= 0);
	return (fd);
}

/*
 * It goes where the first word says, so many times as the second says, and
 * then tells who sent it the number that it is known by there.
 */
static int
goer(int hidden)
{
	struct visit v;
	uint64_t i, n;
	int fd, home, to;

	fd = without(&v, hidden, 0);
	if (fd != LWC_SWITCHED) {
		REQUIRE(fd >= 0);
		return (fd);
	}
	for (;;) {
		home = v.src;
		to = v.a[0];
		n = v.a[1];
		for (i = 0; i < n; i++) {
			gogo(to, &v, i, 0);
			REQUIRE(v.src == to && v.a[0] == i + 1);
		}
		gogo(home, &v, v.a[1], to);
	}
}

CASE(control_introduce_two_go_on_alone,
    "Two contexts that were introduced switch to each other, and nobody "
    "else runs meanwhile.")
{
	struct visit v;
	long switches;
	int a, b, back, there;

	a = goer(-1);
	b = answerer(a);
	there = introduced(a, b);
	back = introduced(b, a);
	switches = counter("switches");
	gogo(a, &v, there, ROUNDS);
	REQUIRE(v.src == a && v.a[0] == (uint64_t)back);
	REQUIRE(counter("switches") - switches == 2 * ROUNDS + 2);
	gogo(b, &v, 1, 0);
	REQUIRE(v.src == b && v.a[0] == 2);
}

CASE(control_introduce_one_to_another,
    "A context is introduced to one that was not introduced to it.")
{
	struct visit v;
	int a, b, there;

	a = goer(-1);
	b = answerer(a);
	there = introduced(a, b);
	gogo(a, &v, there, 3);		/* b learns of a as of any caller */
	REQUIRE(introduce(b, a) == (int)v.a[0]);
	gogo(a, &v, there, 3);
	REQUIRE(introduce(b, a) == (int)v.a[0]);
}

CASE(control_introduce_once,
    "A second introduction finds the number of the first.")
{
	struct visit v;
	long names;
	int a, b, i, there;

	a = goer(-1);
	b = answerer(a);
	there = introduced(a, b);
	names = counter("descriptors");
	for (i = 0; i < ROUNDS; i++)
		REQUIRE(introduce(a, b) == there);
	REQUIRE(counter("descriptors") == names);
	gogo(a, &v, there, ROUNDS);
	/* a knows b and b knows a; each of them now knows the root. */
	REQUIRE(counter("descriptors") == names + 2);
	REQUIRE(introduce(a, b) == there);
	REQUIRE(counter("descriptors") == names + 2);
}

CASE(control_introduce_again_after_close,
    "After a close an introduction gives a new number, which a switch "
    "agrees with.")
{
	struct visit v;
	int a, b, n;

	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED)
		for (;;) {
			if (v.n > 1 && v.a[1] == 1) {
				/* Moved, by the one that it is for. */
				n = dup2((int)v.a[0], 40);
				REQUIRE(close((int)v.a[0]) == 0);
			} else if (v.n > 1 && v.a[1] == 2) {
				n = close((int)v.a[0]);
			} else {
				n = v.src;
			}
			go(v.src, &v, n, 0);
		}
	b = goer(a);
	n = introduced(a, b);
	gogo(a, &v, n, 1);
	REQUIRE(v.a[0] == 40 && introduce(a, b) == 40);
	gogo(a, &v, 40, 2);
	n = introduced(a, b);
	REQUIRE(n != 40);
	/* a tells b, which tells us, the number that it knows b by. */
	gogo(b, &v, introduced(b, a), 0);
	REQUIRE(introduce(a, b) == n);
}

CASE(control_introduce_carries_the_switch_only,
    "An introduction gives no right to memory, files or credentials.")
{
	struct lwc_info li;
	struct lwc_spec s;
	struct visit v;
	char *p;
	int a, b, fd;

	p = page();
	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED) {
		fd = v.a[0];
		REQUIRE(lwInfo(fd, &li) == 0 && li.li_rights == 0);
		REQUIRE(fcntl(fd, F_GETFD) == FD_CLOEXEC);
		s = mem(p, PAGE, LWC_SHARE);
		REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s, 1));
		s = files(0, 0, LWC_SHARE);
		REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s, 1));
		s = creds(LWC_SHARE);
		REQUIRE_ERRNO(EACCES, lwOverlay(fd, &s, 1));
		REQUIRE_ERRNO(EACCES, lwSyscall(fd, LWC_MEMORY, 20, NULL));
		REQUIRE_ERRNO(EPERM, lwControl(fd, LWC_CONTROL_DESTROY, 0));
		gogo(v.src, &v, 0, 0);
		_exit(9);
	}
	*p = 1;
	b = answerer(a);
	gogo(a, &v, introduced(a, b), 0);
	REQUIRE(lwInfo(b, &li) == 0 && li.li_rights == LWC_TYPES);
}

CASE(control_introduce_leaves_a_better_one,
    "An introduction leaves a name with more rights, as of a child, as it is.")
{
	struct lwc_info li;
	struct visit v;
	int a, kid, n, root;

	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED) {
		root = v.src;
		kid = create(&v, NULL, 0, 0);
		if (kid == LWC_SWITCHED) {
			gogo(root, &v, 0, 0);
			_exit(9);
		}
		gogo(kid, &v, 0, 0);		/* the root resumes us */
		REQUIRE(lwInfo(kid, &li) == 0 && li.li_rights == LWC_TYPES);
		gogo(root, &v, kid, 0);
		_exit(9);
	}
	gogo(a, &v, 0, 0);			/* comes back from the kid */
	kid = v.src;
	REQUIRE(kid != a);
	n = introduced(a, kid);
	gogo(a, &v, 0, 0);
	REQUIRE(v.src == a && v.a[0] == (uint64_t)n);
}

CASE(control_introduce_a_creator,
    "A creator is introduced with what it lent, as when it comes itself.")
{
	struct lwc_info li;
	struct lwc_spec s;
	struct visit v;
	char *p;
	int a, kid, root;

	p = page();
	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED) {
		root = v.src;
		s = mem(p, PAGE, LWC_MAY_OVERLAY);
		kid = create(&v, &s, 1, 0);
		if (kid == LWC_SWITCHED) {
			REQUIRE(close(v.src) == 0);
			gogo(root, &v, 0, 0);
			REQUIRE(lwInfo((int)v.a[0], &li) == 0 &&
			    li.li_rights == LWC_MEMORY);
			s = mem(p, PAGE, LWC_COPY);
			REQUIRE(lwOverlay((int)v.a[0], &s, 1) == 0 && *p == 5);
			gogo(root, &v, 7, 0);
			_exit(9);
		}
		*p = 5;
		gogo(kid, &v, 0, 0);
		_exit(9);
	}
	gogo(a, &v, 0, 0);
	kid = v.src;
	gogo(kid, &v, introduced(kid, a), 0);
	REQUIRE(v.a[0] == 7);
}

CASE(control_introduce_refuses,
    "What names no two suspended contexts is refused.")
{
	struct visit v;
	int a, b, me, p[2];

	me = lwGetlwc();
	a = goer(-1);
	b = answerer(a);
	REQUIRE(pipe(p) == 0);
	REQUIRE_ERRNO(EBADF, introduce(LWC_SELF, a));
	REQUIRE_ERRNO(EBADF, introduce(a, LWC_SELF));
	REQUIRE_ERRNO(EBADF, introduce(77, a));
	REQUIRE_ERRNO(EBADF, introduce(a, 77));
	REQUIRE_ERRNO(EBADF, introduce(p[0], a));
	REQUIRE_ERRNO(EBADF, introduce(a, p[0]));
	REQUIRE_ERRNO(EBADF, lwControl(a, LWC_CONTROL_INTRODUCE,
	    0x200000000ULL | b));
	REQUIRE_ERRNO(EINVAL, introduce(a, a));
	REQUIRE_ERRNO(EINVAL, introduce(a, me));
	REQUIRE_ERRNO(EINVAL, introduce(me, a));
	REQUIRE_ERRNO(EINVAL, introduce(me, me));
	REQUIRE(lwControl(b, LWC_CONTROL_DESTROY, 0) == 0);
	REQUIRE_ERRNO(ESRCH, introduce(a, b));
	REQUIRE_ERRNO(ESRCH, introduce(b, a));
	REQUIRE_ERRNO(EINVAL, introduce(b, b));
	gogo(a, &v, 0, 0);
}

CASE(control_introduce_emfile,
    "An introduction without room in the table fails with EMFILE.")
{
	struct rlimit rl;
	struct visit v;
	int a, b, i;

	while (dup(0) < 60)
		;
	REQUIRE(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	rl.rlim_cur = 50;
	REQUIRE(setrlimit(RLIMIT_NOFILE, &rl) == 0);
	/* Where it has its name here it has ours: so its table is full. */
	close(45);
	a = answerer(-1);
	REQUIRE(a == 45);
	gogo(a, &v, 1, 0);
	for (i = 40; i < a; i++)
		close(i);
	b = answerer(a);
	REQUIRE(b < a);
	REQUIRE_ERRNO(EMFILE, introduce(a, b));
	REQUIRE_ERRNO(EMFILE, introduce(a, b));
	REQUIRE(introduce(b, a) >= 0);		/* there is room there */
	/* What the system allows at all is the hard limit by now. */
	REQUIRE(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	rl.rlim_cur = rl.rlim_max;
	REQUIRE(setrlimit(RLIMIT_NOFILE, &rl) == 0);
	REQUIRE(introduce(a, b) >= 60);
	gogo(a, &v, 0, 0);
}

CASE(control_introduce_in_a_shared_table,
    "An introduction in a shared table finds the name that is there.")
{
	struct lwc_spec s = files(-1, -1, LWC_SHARE);
	struct visit v;
	int a, b, c;

	a = create(&v, &s, 1, 0);
	if (a == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, v.a[0], v.src);
	b = create(&v, &s, 1, 0);
	if (b == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, v.a[0], v.src);
	c = answerer(a);
	REQUIRE(introduce(a, b) == b && introduce(b, a) == a);
	REQUIRE(introduce(a, c) == c);
	/* The one table has a name of the root that it got from a switch. */
	gogo(a, &v, 1, 0);
	REQUIRE(introduce(c, a) >= 0);
	REQUIRE(close(c) == 0);
	gogo(b, &v, 1, 0);
	REQUIRE(v.src == b && v.a[0] == 1);
	/* The one table had its only name. */
	REQUIRE(counter("contexts") == 2);
}

/* A context with nothing in its table, or with ours. */
static int
bare(int way)
{
	struct lwc_spec s = files(-1, -1, way == 0 ? LWC_UNMAP : LWC_SHARE);
	struct visit v;
	int fd;

	fd = create(&v, &s, 1, 0);
	if (fd == LWC_SWITCHED)
		_exit(9);
	REQUIRE(fd >= 0);
	return (fd);
}

CASE(control_introduce_keeps_alive,
    "An introduced name keeps its context alive until its holder goes.")
{
	struct visit v;
	int a, b, there;

	a = goer(-1);
	b = answerer(a);
	there = introduced(a, b);
	REQUIRE(close(b) == 0);
	REQUIRE(counter("contexts") == 2);
	gogo(a, &v, there, 3);
	REQUIRE(close(a) == 0);			/* they name each other now */
	REQUIRE(counter("contexts") == 2);
	a = bare(0);
	b = bare(0);
	REQUIRE(introduce(a, b) >= 0);
	REQUIRE(close(b) == 0 && counter("contexts") == 4);
	REQUIRE(close(a) == 0 && counter("contexts") == 2);
	/* And a creator's word ends it whoever names it. */
	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED) {
		REQUIRE_ERRNO(ESRCH, lwSwitch((int)v.a[0], NULL, 0, NULL, NULL,
		    NULL));
		gogo(v.src, &v, 1, 0);
		_exit(9);
	}
	b = answerer(a);
	there = introduced(a, b);
	REQUIRE(lwControl(b, LWC_CONTROL_DESTROY, 0) == 0);
	gogo(a, &v, there, 0);
	REQUIRE(v.a[0] == 1);
}

CASE(control_introduce_while_it_waits_for_an_answer,
    "A context that waits for the answer to a trapped call can be introduced.")
{
	struct visit v;
	uint64_t reply[2] = { 0, 0 };
	int a, b;

	a = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (a == LWC_SWITCHED) {
		b = getppid();			/* which is what we are told */
		gogo(b, &v, 41, 0);
		(void)getpgid((pid_t)v.a[0]);
		_exit(9);
	}
	b = answerer(a);
	REQUIRE(go(a, &v, 0, 0) == LWC_TRAPPED && v.src == a);
	reply[1] = introduced(a, b);
	REQUIRE(introduce(b, a) >= 0);
	v.n = LWC_MAX_ARGS;
	REQUIRE(lwSwitch(a, reply, 2, &v.src, v.a, &v.n) == LWC_TRAPPED);
	REQUIRE(v.src == a && v.a[LWC_CALL_ARGS] == 42);
	/* Whom it was introduced to cannot answer in our place. */
	gogo(b, &v, 1, 0);
}

static void
waits(int fd, uint64_t ms)
{
	struct timespec ts;
	uint64_t until;

	REQUIRE(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
	until = ts.tv_sec * 1000000000ULL + ts.tv_nsec + ms * 1000000ULL;
	REQUIRE_ERRNO(ETIMEDOUT, lwSwitch(fd, &until, LWC_UNTIL, NULL, NULL,
	    NULL));
}

static uint32_t
state_of(int fd)
{
	struct lwc_info li;

	REQUIRE(lwInfo(fd, &li) == 0);
	return (li.li_state);
}

CASE(control_preempted_is_a_state,
    "lwInfo() tells a context that was preempted from one that switched away.")
{
	volatile int *stop;
	struct visit v;
	int a, b;

	stop = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_ANON | MAP_SHARED,
	    -1, 0);
	REQUIRE(stop != MAP_FAILED);
	a = create(&v, NULL, 0, LWC_TRAP_EXIT);
	if (a == LWC_SWITCHED) {
		while (stop[0] == 0)
			continue;
		/* Words passed to it meanwhile are lost, not the caller. */
		gogo(v.src, &v, 7, 0);
		_exit(3);
	}
	b = answerer(a);
	REQUIRE(state_of(a) == LWC_STATE_NEW);
	waits(a, 20);
	REQUIRE(state_of(a) == LWC_STATE_PREEMPTED);
	/* Introductions change nothing. */
	REQUIRE(introduce(a, b) >= 0 && introduce(b, a) >= 0);
	REQUIRE(state_of(a) == LWC_STATE_PREEMPTED);
	waits(a, 20);
	REQUIRE(state_of(a) == LWC_STATE_PREEMPTED);
	stop[0] = 1;
	gogo(a, &v, 0, 0);
	REQUIRE(v.a[0] == 7 && state_of(a) == LWC_STATE_SUSPENDED);
	REQUIRE(go(a, &v, 0, 0) == LWC_TRAPPED && v.a[LWC_END_CODE] == 3);
	REQUIRE(state_of(a) == LWC_STATE_DEAD);
	/* Nor is one that is destroyed anything but dead. */
	stop[0] = 0;
	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED)
		for (;;)
			continue;
	waits(a, 20);
	REQUIRE(state_of(a) == LWC_STATE_PREEMPTED);
	REQUIRE(lwControl(a, LWC_CONTROL_DESTROY, 0) == 0);
	REQUIRE(state_of(a) == LWC_STATE_DEAD);
}
