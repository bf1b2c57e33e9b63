/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Numbers that are no system call's, and what lwSyscall() may make: whatever
 * is asked for, by whichever way, is looked up within the kernel's table or
 * refused.
 */

#include <sys/param.h>
#include <sys/capsicum.h>
#include <sys/endian.h>
#include <sys/filio.h>
#include <sys/ioctl.h>
#include <sys/ktrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysctl.h>
#include <sys/uio.h>

#include <bsm/audit.h>
#include <bsm/audit_kevents.h>
#include <fcntl.h>
#include <security/audit/audit_ioctl.h>
#include <signal.h>

#include "lwc_test.h"

/*
 * The table of 15.1 has SYS_MAXSYSCALL entries of 32 bytes: the last ones here
 * would be before it, or in user memory, were the product to wrap round.
 */
static const uint32_t beyond[] = { SYS_MAXSYSCALL, SYS_MAXSYSCALL + 1, 1023,
    1024, 4096, 0x4000007, 0x7ffffff, 0x8000000, 0x7fffffff, 0x80000000,
    0xfffffff0, 0xffffffff };

enum way { DIRECTLY, BY_SYSCALL, BY_QUAD_SYSCALL, HIGH_BITS };

static int64_t
by(enum way way, uint32_t number)
{

	switch (way) {
	case BY_SYSCALL:
		return (raw(SYS_syscall, number, 1, 2, 3, 4, 5));
	case BY_QUAD_SYSCALL:
		return (raw(SYS___syscall, number, 1, 2, 3, 4, 5));
	case HIGH_BITS:
		return (raw(0xdeadbeef00000000 | number, 1, 2, 3, 4, 5, 6));
	default:
		return (raw(number, 1, 2, 3, 4, 5, 6));
	}
}

static void
ignore(int sig __unused)
{

}

/* All of them, from here: ENOSYS by whoever decides. */
static void
call_beyond(enum way way)
{
	u_int i;

	/* In a guarded context it is a fault to ignore it. */
	(void)signal(SIGSYS, ignore);
	for (i = 0; i < nitems(beyond); i++)
		REQUIRE_ERRNO(ENOSYS, by(way, beyond[i]));
}

/* A context with these flags makes them; whoever gets a trap says ENOSYS. */
static void
beyond_in(int flags, enum way way)
{
	struct visit v;
	int fd, home, r;

	fd = create(&v, NULL, 0, flags);
	if (fd == LWC_SWITCHED) {
		home = v.src;
		call_beyond(way);
		for (;;)
			go(home, &v, 1, 0);
	}
	REQUIRE(fd >= 0);
	r = go(fd, &v, 0, 0);
	while (r == LWC_TRAPPED) {
		/* Its end would be one without a context to answer to. */
		REQUIRE(v.src == fd);
		r = go(fd, &v, ENOSYS, 0);
	}
	REQUIRE(r == LWC_SWITCHED && v.a[0] == 1);
	REQUIRE(close(fd) == 0);
}

/* In capability mode, which lets an unknown call run (and fail) untrapped. */
static void
beyond_capable(enum way way)
{

	/* Our calls are looked up by name, which the mode does not allow. */
	REQUIRE(lwGetlwc() >= 0);
	REQUIRE(cap_enter() == 0);
	beyond_in(LWC_TRAP_SYSCALL, way);
	beyond_in(LWC_TRAP_SYSCALL | LWC_TRAP_FAULT, way);
}

CASE(hold_calls_beyond_the_table,
    "A call number beyond the table is refused in trapped and capability- "
    "mode contexts.")
{

	beyond_capable(DIRECTLY);
}

CASE(hold_calls_beyond_the_table_by_syscall,
    "So is one that syscall(2) carries.")
{

	beyond_capable(BY_SYSCALL);
}

CASE(hold_calls_beyond_the_table_by_quad_syscall,
    "So is one that __syscall(2) carries.")
{

	beyond_capable(BY_QUAD_SYSCALL);
}

CASE(hold_calls_beyond_32_bits,
    "The high half of the register with the call number means nothing.")
{

	beyond_capable(HIGH_BITS);
}

CASE(hold_calls_beyond_the_table_elsewhere,
    "A call number beyond the table is refused in plain, guarded and "
    "trapped contexts and in the root.")
{
	static const int flags[] = { 0, LWC_TRAP_FAULT, LWC_TRAP_EXIT,
	    LWC_TRAP_FAULT | LWC_TRAP_EXIT, LWC_TRAP_SYSCALL };
	u_int i;
	int way;

	for (way = DIRECTLY; way <= HIGH_BITS; way++) {
		for (i = 0; i < nitems(flags); i++)
			beyond_in(flags[i], way);
		call_beyond(way);
	}
	REQUIRE(cap_enter() == 0);
	for (way = DIRECTLY; way <= HIGH_BITS; way++)
		for (i = 0; i < nitems(flags); i++)
			beyond_in(flags[i], way);
}

CASE(hold_calls_beyond_the_set,
    "A call number without a bit in the allowed set is denied.")
{
	struct lwc_calls c;
	struct visit v;
	u_int i;
	int fd, way;

	for (way = DIRECTLY; way <= HIGH_BITS; way++)
		for (i = 0; i < nitems(beyond); i++) {
			if (beyond[i] < LWC_CALLS_MAX)
				continue;
			fd = create(&v, NULL, 0,
			    LWC_TRAP_FAULT | LWC_TRAP_EXIT);
			if (fd == LWC_SWITCHED) {
				memset(&c, 0xff, sizeof(c));
				if (lwControl(LWC_SELF, LWC_CONTROL_ALLOW,
				    (uintptr_t)&c) != 0)
					_exit(8);
				(void)by(way, beyond[i]);
				_exit(9);
			}
			REQUIRE(go(fd, &v, 0, 0) == LWC_TRAPPED);
			REQUIRE(v.a[LWC_END_SIGNAL] == SIGSYS);
			REQUIRE(close(fd) == 0);
		}
}

CASE(hold_calls_lwsyscall_beyond_the_table,
    "lwSyscall() of a number beyond the table is EINVAL, whatever the mask.")
{
	struct visit v;
	uint64_t a[LWC_CALL_NARGS] = { 0 };
	u_int i;
	int fd, mask;

	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	for (mask = 0; mask <= (int)LWC_TYPES; mask++)
		for (i = 0; i < nitems(beyond); i++)
			REQUIRE_ERRNO(EINVAL, lwSyscall(fd, mask,
			    (int)beyond[i], a));
}

CASE(hold_calls_lwsyscall_refuses,
    "lwSyscall() refuses each call that it is not known to be safe for.")
{
	/* Numbers without a name are older binaries'. */
	static const int bad[] = { SYS_syscall, SYS_exit, SYS_fork, SYS_execve,
	    SYS_vfork, SYS_sigsuspend, SYS___syscall, SYS_rfork, SYS_fexecve,
	    SYS_thr_create, SYS_thr_exit, SYS_thr_new, SYS_thr_suspend,
	    SYS_abort2, SYS_pdfork, SYS_aio_read, SYS_aio_write,
	    SYS_lio_listio, SYS_aio_fsync, SYS_aio_mlock, SYS_aio_readv,
	    SYS_aio_writev, SYS_aio_waitcomplete, SYS_shmat, SYS_sigreturn,
	    SYS_setcontext, SYS_swapcontext, SYS_nfssvc, SYS_sigaction,
	    SYS_sigprocmask, SYS_sigaltstack, SYS_sigfastblock, SYS_jail,
	    SYS_jail_attach, SYS_jail_set, SYS_ptrace, SYS_sysarch,
	    SYS_setitimer, SYS_ktimer_create, SYS_procctl, SYS_profil,
	    SYS_pdrfork, SYS_jail_attach_jd,
	    318, 319, 320,		/* AIO of 6.x */
	    342, 344,			/* sigaction, sigreturn of 4.x */
	    8, 11,			/* none at all */
	};
	struct visit v;
	uint64_t a[LWC_CALL_NARGS] = { 0 };
	u_int i;
	int fd, mask;

	(void)signal(SIGSYS, SIG_IGN);
	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	for (mask = 0; mask <= (int)LWC_TYPES; mask++)
		for (i = 0; i < nitems(bad); i++) {
			errno = 0;
			if (lwSyscall(fd, mask, bad[i], a) == -1 &&
			    errno == EINVAL)
				continue;
			fprintf(stderr, "call %d, mask %d: errno %d\n",
			    bad[i], mask, errno);
			lwc_fail(__FILE__, __LINE__, "EINVAL");
		}
}

/* How often is the call in a trace? */
static int
traced(int fd, int type, int code)
{
	struct ktr_header h;
	struct stat sb;
	char *buf, *p;
	int n;

	REQUIRE(fstat(fd, &sb) == 0);
	REQUIRE((buf = malloc(sb.st_size + 1)) != NULL);
	REQUIRE(pread(fd, buf, sb.st_size, 0) == sb.st_size);
	for (n = 0, p = buf; p + sizeof(h) <= buf + sb.st_size;
	    p += sizeof(h) + h.ktr_len) {
		memcpy(&h, p, sizeof(h));
		if ((h.ktr_type & ~(KTR_DROP | KTR_VERSIONED)) != type)
			continue;
		/* Both records begin with the number, of 16 bits. */
		if (*(u_short *)(void *)(p + sizeof(h)) == code)
			n++;
	}
	free(buf);
	return (n);
}

CASE(hold_calls_lwsyscall_is_traced,
    "ktrace(2) records the call that lwSyscall() makes.")
{
	char path[] = "/tmp/lwc_test.XXXXXX";
	uint64_t a[LWC_CALL_NARGS] = { 0 };
	struct visit v;
	int calls, fd, file, i, returns;

	file = mkstemp(path);
	REQUIRE(file >= 0);
	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	i = ktrace(path, KTROP_SET, KTRFAC_SYSCALL | KTRFAC_SYSRET, getpid());
	REQUIRE(unlink(path) == 0);
	SKIP_UNLESS(i == 0, "no ktrace(2)");
	for (i = 0; i < 3; i++)
		(void)getpgrp();
	for (i = 0; i < 5; i++)
		REQUIRE(lwSyscall(fd, i, SYS_getpgrp, a) >= 0);
	REQUIRE(ktrace(NULL, KTROP_CLEAR, KTRFAC_SYSCALL | KTRFAC_SYSRET,
	    getpid()) == 0);
	/* Another process writes it. */
	for (i = 0; i < (int)lenient(100); i++) {
		calls = traced(file, KTR_SYSCALL, SYS_getpgrp);
		returns = traced(file, KTR_SYSRET, SYS_getpgrp);
		if (calls >= 8 && returns >= 8)
			break;
		usleep(20000);
	}
	REQUIRE(calls == 8 && returns == 8);
}

/* Are there so many records of an event in the pipe by and by? */
static int
audited(int pipe, u_int event, int want)
{
	static u_char buf[1 << 16];
	u_char *p;
	ssize_t n;
	u_int size;
	int seen, try;

	for (seen = try = 0; seen < want && try < (int)lenient(100);
	    try++) {
		/* Records: each a header token, its size, version, event. */
		while ((n = read(pipe, buf, sizeof(buf))) > 8)
			for (p = buf; p + 8 < buf + n && p[0] == 0x14;
			    p += size) {
				size = be32dec(p + 1);
				if (size < 8)
					break;
				if (be16dec(p + 6) == event)
					seen++;
			}
		usleep(20000);
	}
	return (seen);
}

/* Three calls through lwSyscall() and one by itself: what is recorded? */
static void
make_audited(void *arg __unused)
{
	uint64_t a[LWC_CALL_NARGS] = { 022 };
	struct visit v;
	au_mask_t mask = { 1, 1 };
	u_int mode;
	int fd, i, pipe;

	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	pipe = open("/dev/auditpipe", O_RDONLY);
	SKIP_UNLESS(pipe >= 0, "no audit pipe");
	mode = AUDITPIPE_PRESELECT_MODE_LOCAL;
	i = 1;
	REQUIRE(ioctl(pipe, FIONBIO, &i) == 0);
	REQUIRE(ioctl(pipe, AUDITPIPE_SET_PRESELECT_MODE, &mode) == 0);
	REQUIRE(ioctl(pipe, AUDITPIPE_SET_PRESELECT_FLAGS, &mask) == 0);
	REQUIRE(ioctl(pipe, AUDITPIPE_SET_PRESELECT_NAFLAGS, &mask) == 0);
	(void)umask(022);
	SKIP_UNLESS(audited(pipe, AUE_UMASK, 1) == 1, "audit is off");
	for (i = 0; i < 3; i++)
		REQUIRE(lwSyscall(fd, 0, SYS_umask, a) >= 0);
	REQUIRE(audited(pipe, AUE_UMASK, 3) == 3);
}

CASE(hold_calls_lwsyscall_is_audited,
    "audit(4) records the call that lwSyscall() makes as what it is.")
{
	char trail[] = "/tmp/lwc_test.XXXXXX";
	struct au_evclass_map map = { AUE_UMASK, 1 };
	int condition, fd, off, status;

	NEED_ROOT();
	condition = AUC_UNSET;
	SKIP_UNLESS(auditon(A_GETCOND, &condition, sizeof(condition)) == 0,
	    "no audit");
	/* A machine that audits has classes of its own: hands off. */
	SKIP_UNLESS(condition != AUC_AUDITING, "audit is in use");
	fd = mkstemp(trail);
	REQUIRE(fd >= 0);
	off = auditctl(trail);
	REQUIRE(unlink(trail) == 0);
	SKIP_UNLESS(off == 0, "no auditctl(2)");
	status = STUCK;
	if (auditon(A_SETCLASS, &map, sizeof(map)) == 0)
		status = outcome(make_audited, NULL, 20);
	map.ec_class = 0;
	(void)auditon(A_SETCLASS, &map, sizeof(map));
	condition = AUC_DISABLED;
	(void)auditon(A_SETCOND, &condition, sizeof(condition));
	REQUIRE(status == 0);
}
