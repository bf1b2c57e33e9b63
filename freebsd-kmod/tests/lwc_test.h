/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * A small harness with the conventions of atf-c(3): cases are named, listed
 * and run one by one, each in a process of its own, since a context cannot be
 * undone in the process that made it.  A case passes by returning in whatever
 * context and fails by a REQUIRE, a signal, or by leaving something behind in
 * the module's counters.
 */

#ifndef _LWC_TEST_H_
#define	_LWC_TEST_H_

#include <sys/types.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

/* Younger than 15.0, whose headers check.sh has. */
#ifndef SYS_jail_attach_jd
#define	SYS_jail_attach_jd	597
#endif
#ifndef SYS_pdrfork
#define	SYS_pdrfork		600
#endif
#if SYS_MAXSYSCALL < 603
#undef	SYS_MAXSYSCALL
#define	SYS_MAXSYSCALL		603
#endif

#include "../sys/lwc.h"

struct lwc_case {
	const char	*name;
	const char	*descr;
	void		(*body)(void);
	struct lwc_case	*next;
};
void	lwc_case_add(struct lwc_case *);
void	lwc_fail(const char *file, int line, const char *what) __dead2;
void	lwc_skip(const char *why) __dead2;	/* from whatever context */

#define	CASE(name, descr)						\
static void name##_body(void);						\
static struct lwc_case name##_case = { #name, descr, name##_body, NULL };\
static void __attribute__((constructor))				\
name##_add(void) { lwc_case_add(&name##_case); }			\
static void name##_body(void)

#define	REQUIRE(x)							\
	do { if (!(x)) lwc_fail(__FILE__, __LINE__, #x); } while (0)
#define	REQUIRE_ERRNO(e, x)						\
	do {								\
		errno = 0;						\
		if ((x) != -1 || errno != (e)) {			\
			fprintf(stderr, "errno %d\n", errno);		\
			lwc_fail(__FILE__, __LINE__, #x ": " #e);	\
		}							\
	} while (0)

#define	SKIP_UNLESS(x, why)						\
	do { if (!(x)) lwc_skip(why); } while (0)
#define	NEED_ROOT()	SKIP_UNLESS(geteuid() == 0, "needs root")

/* One resumption's worth of out arguments. */
struct visit {
	int		src;
	int		n;
	uint64_t	a[LWC_MAX_ARGS];
};
int	create(struct visit *v, const struct lwc_spec *sp, int n, int flags);
/* Switch with up to two words; returns what lwSwitch() did. */
int	go(int to, struct visit *v, uint64_t w0, uint64_t w1);
/* The same and insist on having been switched back to. */
void	gogo(int to, struct visit *v, uint64_t w0, uint64_t w1);

/* Rollback (clause 10): lwControl() of a context, and a context to do it to. */
int	snapshot(int fd);
int	rollback(int fd);
/*
 * A context that runs a function each time somebody switches to it, and answers
 * with what that returned.  It has been entered once.
 */
int	servant(uint64_t (*f)(uint64_t), int flags);
uint64_t ask(int fd, uint64_t what);
/* Set a fail point, see fail(9), or skip the case where there is none. */
void	fail_point(const char *name, const char *value);

/* The same with a deadline: one word, and the time. */
int	go_until(int to, uint64_t until, struct visit *v, uint64_t w0);
uint64_t after(uint64_t ms);		/* so long from now, for go_until() */

struct lwc_spec	mem(void *p, size_t len, unsigned int option);
struct lwc_spec	files(int from, int to, unsigned int option);
struct lwc_spec	creds(unsigned int option);
void	*page(void);			/* a private anonymous page */
void	*shared_page(void);		/* one of all contexts and children */
int	scratch(void);			/* an empty file without a name */
bool	locked(int fd);			/* as another process finds it */
/* Does touching it kill a child process?  0 readable and writable, 1 not. */
int	faults(volatile void *p, int dowrite);
int	lwc_switch_number(void);	/* of lwSwitch(), for calls by hand */
long	counter(const char *name);	/* kern.lwc.NAME */
/*
 * So long is enough on an idle machine: as much longer as fork(2) takes longer
 * here, as on a kernel with KASAN or beside others' work.
 */
uint64_t lenient(uint64_t ms);
/*
 * Does it reach this value in two lenient seconds?  What dies by another process's
 * doing is left to the reaper, which takes a moment.
 */
bool	settles(const char *name, long value);
/* Fork, run, and return the wait status. */
int	status_of(void (*f)(void *), void *arg);
/*
 * The same in a process group of its own, for what may stop or never end: after
 * so many lenient seconds it is killed, with its group, and the answer is STUCK.
 */
int	outcome(void (*f)(void *), void *arg, u_int seconds);
#define	STUCK	(-1)
/* Set an integer until the case is over, or skip it where that is root's. */
int	set_sysctl(const char *name, int value);
/* An allowed set (LWC_CONTROL_ALLOW) without this call; -1: of all calls. */
void	allow_all_but(int number);
/* Such calls; and those of one with a first argument below a limit alone. */
struct lwc_calls set_of(const int *numbers, u_int n);
int64_t	below_one(int number, uint64_t limit);	/* LWC_CONTROL_BELOW */
/* A call that is denied from now on fails with ENOSYS, and is counted. */
void	handle_denied(void);
/* Is a call with this first argument made?  The same by each way into the kernel. */
bool	is_made(int number, uint64_t first);
#define	HIGH	0xdeadbeef00000000	/* what no int says */
/* The system call instruction itself: whatever the number, the value or -1. */
int64_t	raw(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
	    uint64_t e, uint64_t f);

#define	PAGE	4096

#endif /* !_LWC_TEST_H_ */
