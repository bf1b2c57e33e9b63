/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* The nine calls, and system calls by way of them and by hand. */

#include "lwc_fuzz_ops.h"

#define	SPECS	8

static struct lwc_spec specs[SPECS];
static int nspecs;

/*
 * The nine calls.
 */
void
do_spec(struct me *m, const struct op *o)
{
	struct lwc_spec *s;

	s = &specs[nspecs < SPECS ? nspecs++ : SPECS - 1];
	memset(s, 0, sizeof(*s));
	s->flags = (unsigned int)choice(&t_spec, A(0));
	if ((s->flags & LWC_TYPES) == LWC_FILES) {
		if (A(3) % 4 == 0) {
			s->sub.descriptors.from = s->sub.descriptors.to = -1;
		} else {
			s->sub.descriptors.from = A(1) < SPECIAL ?
			    A(1) % 16 : other_descriptor(A(1));
			s->sub.descriptors.to = A(2) < SPECIAL ?
			    s->sub.descriptors.from + A(2) % 8 :
			    other_descriptor(A(2));
		}
	} else {
		s->sub.memory.start = addr(A(1));
		s->sub.memory.end = s->sub.memory.start + size(A(2));
		if (A(1) < SPECIAL && A(2) < SPECIAL &&
		    s->sub.memory.end > ARENA + ARENA_PAGES * PAGE)
			s->sub.memory.end = ARENA + ARENA_PAGES * PAGE;
	}
	m->ret = nspecs;
}

/* The list of specifiers of a call, and what is said of its length. */
static struct lwc_spec *
list(uint8_t how, uint8_t repeat, int *n)
{
	static struct lwc_spec big[1025];
	struct lwc_spec *s;
	int i, times;

	s = specs;
	*n = nspecs;
	times = (int)choice(&t_repeat, repeat);
	if (times > 1 && nspecs > 0) {
		times = MIN(times * nspecs, (int)nitems(big));
		for (i = 0; i < times; i++)
			big[i] = specs[i % nspecs];
		*n = times;
		s = big;
	}
	switch (choice(&t_list, how)) {
	case 1:
		*n = 0;
		return (NULL);
	case 2:
		s = (struct lwc_spec *)KERNEL;
		break;
	case 3:
		s = (struct lwc_spec *)UNMAPPED;
		break;
	case 4:
		*n = -1;
		break;
	case 5:
		*n = INT_MAX;
		break;
	case 6:
		return (s);
	}
	nspecs = 0;
	return (s);
}

static void
came(int64_t ret, int src)
{

	if ((ret == LWC_SWITCHED || ret == LWC_TRAPPED) && src >= 0)
		kept[7] = src;
}

void
do_create(struct me *m, const struct op *o)
{
	struct lwc_spec *s;
	uint64_t words[LWC_MAX_ARGS];
	int n, num, src;

	num = LWC_MAX_ARGS;
	src = -1;
	s = list(A(0), A(1), &n);
	CALL(m, lwCreate(s, n, ptr(A(4), &src), ptr(A(4), words),
	    ptr(A(4), &num), (int)choice(&t_create, A(2))));
	if (m->ret >= 0)
		keep(A(3), (int)m->ret);
	came(m->ret, src);
}

static int
words(uint64_t *w, uint8_t count, uint8_t until, uint8_t value)
{
	struct timespec ts;
	int i, n;

	n = (int)choice(&t_count, count);
	for (i = 0; i <= LWC_MAX_ARGS; i++)
		w[i] = i == 0 ? value % 3 * 14 : choice(&t_value, value + i);
	if ((n & LWC_UNTIL) != 0 && (n & 0xfff) < LWC_MAX_ARGS) {
		(void)clock_gettime(CLOCK_MONOTONIC, &ts);
		w[n & 0xfff] = ts.tv_sec * 1000000000UL + ts.tv_nsec +
		    choice(&t_until, until);
	}
	return (n);
}

void
do_switch(struct me *m, const struct op *o)
{
	uint64_t w[LWC_MAX_ARGS + 1], a[LWC_MAX_ARGS];
	int n, num, src;

	num = LWC_MAX_ARGS;
	src = -1;
	n = words(w, A(1), A(2), A(3));
	CALL(m, lwSwitch(desc(A(0)), ptr(A(3), w), n, ptr(A(4), &src),
	    ptr(A(4), a), n > 0 && (n & LWC_ROOM) != 0 ? NULL :
	    ptr(A(4), &num)));
	came(m->ret, src);
}

void
do_discard(struct me *m, const struct op *o)
{
	uint64_t w[LWC_MAX_ARGS + 1];
	int n;

	n = words(w, A(1), A(2), A(3));
	CALL(m, lwDiscardSwitch(desc(A(0)), ptr(A(3), w), n));
}

void
do_restrict(struct me *m, const struct op *o)
{
	struct lwc_spec *s;
	int n;

	s = list(A(1), A(2), &n);
	CALL(m, lwRestrict(desc(A(0)), s, n));
}

void
do_overlay(struct me *m, const struct op *o)
{
	struct lwc_spec *s;
	int n;

	s = list(A(1), A(2), &n);
	CALL(m, lwOverlay(desc(A(0)), s, n));
}

void
do_syscall(struct me *m, const struct op *o)
{
	uint64_t a[LWC_CALL_NARGS];
	int n;

	n = number(m, A(2), A(3), A(4), a);
	CALL(m, lwSyscall(desc(A(0)), (int)choice(&t_mask, A(1)), n,
	    ptr(A(4) == 255 ? SPECIAL : 0, a)));
}

void
do_raw(struct me *m, const struct op *o)
{
	uint64_t a[LWC_CALL_NARGS];
	int64_t value;
	int n;

	n = number(m, A(1), A(2), A(3), a);
	/* These return twice, or not here. */
	switch (n) {
	case SYS_vfork: case SYS_rfork: case SYS_fork: case SYS_pdfork:
	case SYS_thr_new: case SYS_thr_create: case SYS_setcontext:
	case SYS_swapcontext: case SYS_sigreturn: case 344: case 103:
		if (m->index == 0)
			n = SYS_getpid;
		break;
	}
	errno = 0;
	switch (choice(&t_raw, A(0))) {
	case 0:
		CALL(m, syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]));
		break;
	case 1:
		CALL(m, __syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]));
		break;
	case 2:
		value = n;
		__asm volatile("movq %5, %%r10\n\tsyscall" : "+a" (value),
		    "+D" (a[0]), "+S" (a[1]), "+d" (a[2]) : "m" (a[3]),
		    "r" (a[4]) : "rcx", "r11", "r10", "r8", "r9", "memory");
		m->ret = value;
		break;
	default:
		value = n;
		__asm volatile("int $0x80" : "+a" (value), "+D" (a[0]),
		    "+S" (a[1]), "+d" (a[2]) :: "rcx", "r11", "r10", "r8",
		    "r9", "memory");
		m->ret = value;
		break;
	}
}

void
do_getlwc(struct me *m, const struct op *o)
{

	CALL(m, lwGetlwc());
	keep(A(0), (int)m->ret);
}

void
do_info(struct me *m, const struct op *o)
{
	struct lwc_info li;

	CALL(m, lwInfo(desc(A(0)), ptr(A(1), &li)));
}

void
do_control(struct me *m, const struct op *o)
{
	struct lwc_erase er;
	uint64_t c, v;

	c = choice(&t_control, A(1));
	v = c != LWC_CONTROL_INTRODUCE ? choice(&t_value, A(2)) :
	    (u_int)desc(A(2)) | ((A(2) & 0x40) != 0 ? LWC_CLEAN_ONLY : 0);
	if (c == LWC_CONTROL_ERASE && (A(2) & 1) != 0) {
		er.start = (uint64_t)addr(A(2) >> 1);
		er.end = er.start + (A(2) >> 3) % 9 * 4096;
		CALL(m, lwControl(LWC_SELF, (int)c, (uint64_t)&er));
		return;
	}
	CALL(m, lwControl(desc(A(0)), (int)c, v));
}

void
do_snapshot(struct me *m, const struct op *o)
{

	CALL(m, lwControl(desc(A(0)), LWC_CONTROL_SNAPSHOT, 0));
}

void
do_rollback(struct me *m, const struct op *o)
{

	CALL(m, lwControl(desc(A(0)), LWC_CONTROL_ROLLBACK, 0));
}

/* A set of calls at the start of something, or an address of nothing. */
static void *
set_of_calls(const struct op *o, struct lwc_calls *c)
{
	int i;

	memset(c, 0xff, sizeof(*c));
	switch (choice(&t_allow, A(0))) {
	case 1:
		for (i = 0; i < 8; i++)
			c->calls[choice(&t_number, A(1) + i) % LWC_CALLS_MAX /
			    64] &= ~(1UL << choice(&t_number, A(1) + i) % 64);
		break;
	case 2:
		memset(c, 0, sizeof(*c));
		for (i = 0; i < (int)nitems(numbers); i++)
			c->calls[numbers[i] / 64] |= 1UL << numbers[i] % 64;
		c->calls[0] |= 1UL << SYS_exit;
		break;
	case 3:
		memset(c, 0, sizeof(*c));
		break;
	case 4:
		return ((void *)KERNEL);
	case 5:
		return ((void *)UNMAPPED);
	}
	return (c);
}

void
do_allow(struct me *m, const struct op *o)
{
	struct lwc_calls c;

	CALL(m, lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
	    (uintptr_t)set_of_calls(o, &c)));
}

void
do_below(struct me *m, const struct op *o)
{
	struct lwc_below b;

	b.limit = choice(&t_below, A(2));
	CALL(m, lwControl(LWC_SELF, LWC_CONTROL_BELOW,
	    (uintptr_t)set_of_calls(o, &b.calls)));
}

void
do_from(struct me *m, const struct op *o)
{
	struct lwc_from f;

	f.least = choice(&t_below, A(2));
	CALL(m, lwControl(LWC_SELF, LWC_CONTROL_FROM,
	    (uintptr_t)set_of_calls(o, &f.calls)));
}
