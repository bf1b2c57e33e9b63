/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The operations, and the interpreter that runs them.
 *
 * The counter of a program is in shared memory, one for each of its processes
 * and threads: whichever context is current executes the next operation.  So
 * the listing says what happens in which order, though the contexts take
 * turns.  All else that an operation leaves behind (slots of descriptors,
 * specifiers that wait for their call) is in private memory and belongs to the
 * context.
 */

#include <sys/param.h>
#include <sys/aio.h>
#include <sys/capsicum.h>
#include <sys/cpuset.h>
#include <sys/event.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/jail.h>
#include <sys/kcov.h>
#include <sys/ktrace.h>
#include <sys/mman.h>
#include <sys/module.h>
#include <sys/procctl.h>
#include <sys/procdesc.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysctl.h>
#include <sys/thr.h>
#include <sys/ucontext.h>
#include <sys/umtx.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <machine/reg.h>
#include <machine/sysarch.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../sys/lwc.h"
#include "lwc_fuzz.h"
#include "lwc_fuzz_tables.h"

#ifndef KQUEUE_CPONFORK			/* younger than 15.0 */
#define	KQUEUE_CPONFORK	0x00000002
#endif

#define	SPECS	8

static int kept[8];		/* descriptors of contexts; 7: who came last */
static int files[8];
static struct lwc_spec specs[SPECS];
static int nspecs;
static jmp_buf jumps[MAXPEERS + 1];
static struct aiocb cbs[4];
static bool traced;
static int shmid;
static void *shmaddr;
static char text_page[PAGE];	/* an ordinary page of data */
static char altstack[32768];
static int numbers[9];
static const char *const names[9] = { "sys/lwCreate", "sys/lwSwitch",
    "sys/lwDiscardSwitch", "sys/lwRestrict", "sys/lwOverlay", "sys/lwSyscall",
    "sys/lwGetlwc", "sys/lwInfo", "sys/lwControl" };

#define	CALL(m, e)	do {						\
	errno = 0;							\
	(m)->ret = (int64_t)(e);					\
	(m)->error = errno;						\
} while (0)
#define	A(i)		(o->arg[i])

void
prepare(void)
{
	struct module_stat ms;
	int i, id;

	(void)lwInfo(-2, NULL);		/* the library looks its numbers up */
	for (i = 0; i < (int)nitems(names); i++) {
		ms.version = sizeof(ms);
		id = modfind(names[i]);
		if (id >= 0 && modstat(id, &ms) == 0)
			numbers[i] = ms.data.intval;
	}
	for (i = 0; i < noperations; i++)
		if (operations[i].name[0] == '}')
			op_end = i;
}

/*
 * Arguments.
 */
static int
other_descriptor(uint8_t b)
{

	return ((int)special_descriptors[(b - SPECIAL) % nspecial_descriptors]
	    .value);
}

static int
desc(uint8_t b)
{

	return (b < SPECIAL ? kept[b % 8] : b >= CROSSED ? files[b % 8] :
	    other_descriptor(b));
}

static int
file(uint8_t b)
{

	return (b < SPECIAL ? files[b % 8] : b >= CROSSED ? kept[b % 8] :
	    other_descriptor(b));
}

static uint64_t
special_address(uint8_t b)
{
	uint64_t v;

	v = special_addresses[(b - SPECIAL) % nspecial_addresses].value;
	switch (v) {
	case 1:
		return ((uintptr_t)&prepare & ~(PAGE - 1UL));
	case 2:
		return ((uintptr_t)text_page & ~(PAGE - 1UL));
	case 3:
		return ((uintptr_t)&v & ~(PAGE - 1UL));
	default:
		return (v);
	}
}

static uint64_t
addr(uint8_t b)
{

	return (b < SPECIAL ? ARENA + b % ARENA_PAGES * PAGE :
	    special_address(b));
}

static uint64_t
size(uint8_t b)
{

	return (b < SPECIAL ? (1 + b % ARENA_PAGES) * PAGE :
	    special_sizes[(b - SPECIAL) % nspecial_sizes].value);
}

static void *
ptr(uint8_t b, void *good)
{

	return (b < SPECIAL ? good : (void *)(uintptr_t)special_address(b));
}

static void
keep(uint8_t b, int fd)
{

	if (fd >= 0)
		kept[b % 8] = fd;
}

static pid_t
who(struct me *m, uint8_t b)
{
	struct slot *s = m->slot;
	pid_t pid;
	int i;

	pid = 0;
	switch (choice(&t_who, b)) {
	case 1:
		pid = s->sl_pids[0];
		break;
	case 2:
		pid = s->sl_pids[1];
		break;
	case 3:
		pid = s->sl_pids[2];
		break;
	case 4:
		i = atomic_load(&s->sl_peers) - 1;
		if (i >= 0 && i < MAXPEERS)
			pid = s->sl_pids[i];
		break;
	case 5:
		return (0);
	case 6:
		pid = m->index > 0 ? s->sl_pids[0] : 0;
		break;
	}
	return (pid > 1 ? pid : getpid());
}

/*
 * The nine calls.
 */
static void
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

static void
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

static void
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

static void
do_discard(struct me *m, const struct op *o)
{
	uint64_t w[LWC_MAX_ARGS + 1];
	int n;

	n = words(w, A(1), A(2), A(3));
	CALL(m, lwDiscardSwitch(desc(A(0)), ptr(A(3), w), n));
}

static void
do_restrict(struct me *m, const struct op *o)
{
	struct lwc_spec *s;
	int n;

	s = list(A(1), A(2), &n);
	CALL(m, lwRestrict(desc(A(0)), s, n));
}

static void
do_overlay(struct me *m, const struct op *o)
{
	struct lwc_spec *s;
	int n;

	s = list(A(1), A(2), &n);
	CALL(m, lwOverlay(desc(A(0)), s, n));
}

/* What would harm the machine rather than test it. */
static int
harmless(struct me *m, int number, uint64_t *a)
{

	switch (number) {
	case SYS_reboot: case SYS_kldload: case SYS_kldunload:
	case SYS_kldunloadf: case SYS_mount: case SYS_unmount: case SYS_nmount:
	case SYS_swapon: case SYS_swapoff: case SYS_settimeofday:
	case SYS_clock_settime: case SYS_adjtime: case SYS_ntp_adjtime:
	case SYS_acct: case SYS_nfssvc: case SYS_kenv: case SYS_auditon:
	case SYS_auditctl: case SYS_quotactl: case SYS_rtprio:
	case SYS_rtprio_thread: case SYS_sched_setscheduler:
	case SYS_sched_setparam: case SYS_jail_remove:
	case SYS_revoke: case SYS_unlink: case SYS_rename: case SYS_ktrace:
	case SYS_setfib: case 424:
	case SYS_setpriority: case SYS_cpuset_setaffinity:
		return (SYS_getppid);
	case SYS_kill: case SYS_sigqueue: case SYS_setpgid:
	case SYS_thr_kill2:
		a[0] = who(m, (uint8_t)a[0]);
		break;
	case SYS_ptrace:
		a[1] = who(m, (uint8_t)a[1]);
		break;
	case SYS_procctl:
		a[0] = P_PID;
		a[1] = who(m, (uint8_t)a[1]);
		break;
	}
	return (number);
}

static int
number(struct me *m, uint8_t which, uint8_t more, uint8_t first, uint64_t *a)
{
	int i, n;

	for (i = 0; i < LWC_CALL_NARGS; i++)
		a[i] = choice(&t_value, first + i * (1 + first / 64));
	n = more < SPECIAL ? (int)choice(&t_number, which) :
	    (more - SPECIAL) * 4 + which % 4;
	/* Make the usual ones go far. */
	if (first % 2 == 0) {
		switch (n) {
		case SYS_mmap:
			a[0] = ARENA + first % ARENA_PAGES * PAGE;
			a[1] = PAGE;
			a[2] = PROT_READ | PROT_WRITE;
			a[3] = MAP_FIXED | MAP_ANON;
			a[4] = -1UL;
			a[5] = 0;
			break;
		case SYS_open:
			a[0] = ARENA + PAGE;
			a[1] = O_RDWR;
			break;
		case SYS_munmap: case SYS_mprotect: case SYS_madvise:
		case SYS_minherit: case SYS_mlock:
			a[0] = ARENA + first % ARENA_PAGES * PAGE;
			a[1] = PAGE * (1 + first % 3);
			a[2] = first % 8;
			break;
		case SYS_close: case SYS_dup: case SYS_fstat: case SYS_write:
			a[0] = files[first / 2 % 8];
			a[1] = ARENA + PAGE;
			a[2] = 10;
			break;
		case SYS_setuid:
			a[0] = 1001;
			break;
		case SYS_ppoll: case SYS_sigsuspend:
			a[0] = ARENA;
			a[1] = 0;
			break;
		}
	}
	return (harmless(m, n, a));
}

static void
do_syscall(struct me *m, const struct op *o)
{
	uint64_t a[LWC_CALL_NARGS];
	int n;

	n = number(m, A(2), A(3), A(4), a);
	CALL(m, lwSyscall(desc(A(0)), (int)choice(&t_mask, A(1)), n,
	    ptr(A(4) == 255 ? SPECIAL : 0, a)));
}

static void
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

static void
do_getlwc(struct me *m, const struct op *o)
{

	CALL(m, lwGetlwc());
	keep(A(0), (int)m->ret);
}

static void
do_info(struct me *m, const struct op *o)
{
	struct lwc_info li;

	CALL(m, lwInfo(desc(A(0)), ptr(A(1), &li)));
}

static void
do_control(struct me *m, const struct op *o)
{
	uint64_t c, v;

	c = choice(&t_control, A(1));
	v = c == LWC_CONTROL_INTRODUCE ? (uint64_t)desc(A(2)) :
	    choice(&t_value, A(2));
	CALL(m, lwControl(desc(A(0)), (int)c, v));
}

static void
do_allow(struct me *m, const struct op *o)
{
	struct lwc_calls c;
	void *p;
	int i;

	p = &c;
	memset(&c, 0xff, sizeof(c));
	switch (choice(&t_allow, A(0))) {
	case 1:
		for (i = 0; i < 8; i++)
			c.calls[choice(&t_number, A(1) + i) % LWC_CALLS_MAX /
			    64] &= ~(1UL << choice(&t_number, A(1) + i) % 64);
		break;
	case 2:
		memset(&c, 0, sizeof(c));
		for (i = 0; i < (int)nitems(numbers); i++)
			c.calls[numbers[i] / 64] |= 1UL << numbers[i] % 64;
		c.calls[0] |= 1UL << SYS_exit;
		break;
	case 3:
		memset(&c, 0, sizeof(c));
		break;
	case 4:
		p = (void *)KERNEL;
		break;
	case 5:
		p = (void *)UNMAPPED;
		break;
	}
	CALL(m, lwControl(LWC_SELF, LWC_CONTROL_ALLOW, (uintptr_t)p));
}

/*
 * Descriptors.
 */
static void
do_close(struct me *m, const struct op *o)
{

	CALL(m, close(desc(A(0))));
}

static void
do_closefrom(struct me *m, const struct op *o)
{

	if (A(1) % 2 == 0)
		CALL(m, close_range(A(0) % 32, A(0) % 32 + A(1) % 16, 0));
	else
		CALL(m, (closefrom(3 + A(0) % 32), 0));
}

static void
do_dup(struct me *m, const struct op *o)
{

	CALL(m, dup(desc(A(0))));
	keep(A(1), (int)m->ret);
}

static void
do_dup2(struct me *m, const struct op *o)
{

	CALL(m, dup2(desc(A(0)), A(1) < SPECIAL ? A(1) % 24 : desc(A(1))));
}

static void
do_fcntl(struct me *m, const struct op *o)
{
	struct flock fl;
	char buf[2048];
	int cmd;

	cmd = (int)choice(&t_fcntl, A(1));
	switch (cmd) {
	case F_SETLK: case F_SETLKW: case F_GETLK: case F_OGETLK:
		memset(&fl, 0, sizeof(fl));
		fl.l_start = A(2) % 8;
		fl.l_len = A(2) / 8 % 4;
		fl.l_type = A(3) % 3 == 0 ? F_WRLCK : A(3) % 3 == 1 ? F_RDLCK :
		    F_UNLCK;
		CALL(m, fcntl(file(A(0)), cmd, &fl));
		break;
	case F_KINFO:
		((struct kinfo_file *)buf)->kf_structsize =
		    sizeof(struct kinfo_file);
		CALL(m, fcntl(A(3) % 2 ? desc(A(0)) : file(A(0)), cmd, buf));
		break;
	case F_SETFL:
		CALL(m, fcntl(A(3) % 2 ? desc(A(0)) : file(A(0)), cmd,
		    A(2) % 2 ? O_ASYNC : O_NONBLOCK));
		break;
	default:
		CALL(m, fcntl(A(3) % 2 ? desc(A(0)) : file(A(0)), cmd,
		    A(2) % 32));
		break;
	}
}

static void
do_open(struct me *m, const struct op *o)
{
	int fds[2];

	fds[0] = fds[1] = -1;
	switch (choice(&t_open, A(0))) {
	case 0:
		CALL(m, fds[0] = open("file", O_RDWR | O_CREAT, 0666));
		break;
	case 1:
		CALL(m, pipe2(fds, A(2) % 2 ? O_NONBLOCK : 0));
		break;
	case 2:
		CALL(m, socketpair(AF_UNIX, A(2) % 2 ? SOCK_STREAM : SOCK_DGRAM,
		    0, fds));
		break;
	case 3:
		CALL(m, fds[0] = kqueue());
		break;
	case 4:
		CALL(m, fds[0] = kqueuex(KQUEUE_CPONFORK));
		break;
	case 5:
		CALL(m, fds[0] = shm_open(SHM_ANON, O_RDWR, 0600));
		if (fds[0] >= 0)
			(void)ftruncate(fds[0], 4 * PAGE);
		break;
	case 6:
		CALL(m, fds[0] = open(".", O_RDONLY | O_DIRECTORY));
		break;
	case 7:
		CALL(m, fds[0] = open("/dev/null", O_RDWR));
		break;
	case 8:
		CALL(m, fds[0] = open("other", O_RDWR | O_CREAT, 0666));
		if (fds[0] >= 0)
			(void)ftruncate(fds[0], 4 * PAGE);
		break;
	case 9:
		CALL(m, fds[0] = open(".", O_RDONLY | O_DIRECTORY |
		    O_RESOLVE_BENEATH));
		break;
	case 10:
		CALL(m, fds[0] = open("/proc/curproc/mem", O_RDWR));
		break;
	case 11:
		CALL(m, fds[0] = open("/dev/zero", O_RDWR));
		break;
	case 12:
		CALL(m, fds[0] = open(env.self, O_EXEC));
		break;
	default:
		CALL(m, fds[0] = memfd_create("fuzz", MFD_ALLOW_SEALING));
		break;
	}
	if (fds[0] >= 0)
		files[A(1) % 8] = fds[0];
	if (fds[1] >= 0)
		files[(A(1) + 1) % 8] = fds[1];
}

static void
do_write(struct me *m, const struct op *o)
{

	CALL(m, write(file(A(0)), (void *)addr(A(1)), size(A(2)) & 0xffff));
}

/* A descriptor through a socket. */
static void
do_pass(struct me *m, const struct op *o)
{
	union {
		struct cmsghdr	hdr;
		char		room[CMSG_SPACE(sizeof(int))];
	} c;
	struct msghdr mh;
	struct iovec iov;
	char byte;

	byte = 0;
	memset(&c, 0, sizeof(c));
	iov.iov_base = &byte;
	iov.iov_len = 1;
	memset(&mh, 0, sizeof(mh));
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	mh.msg_control = &c;
	mh.msg_controllen = sizeof(c);
	if (choice(&t_pass, A(0)) == 0) {
		c.hdr.cmsg_len = CMSG_LEN(sizeof(int));
		c.hdr.cmsg_level = SOL_SOCKET;
		c.hdr.cmsg_type = SCM_RIGHTS;
		*(int *)CMSG_DATA(&c.hdr) = A(3) % 2 ? file(A(2)) :
		    desc(A(2));
		CALL(m, sendmsg(file(A(1)), &mh, MSG_DONTWAIT));
	} else {
		CALL(m, recvmsg(file(A(1)), &mh, MSG_DONTWAIT));
		if (m->ret >= 0 && c.hdr.cmsg_len == CMSG_LEN(sizeof(int)))
			kept[A(2) % 8] = *(int *)CMSG_DATA(&c.hdr);
	}
}

/*
 * Memory.
 */
static void
do_mmap(struct me *m, const struct op *o)
{
	int flags;

	flags = (int)choice(&t_map, A(3));
	CALL(m, mmap((void *)addr(A(0)), size(A(1)), (int)choice(&t_prot, A(2)),
	    flags, (flags & (MAP_ANON | MAP_GUARD)) != 0 ? -1 : file(A(4)),
	    0));
}

static void
do_munmap(struct me *m, const struct op *o)
{

	CALL(m, munmap((void *)addr(A(0)), size(A(1))));
}

static void
do_mprotect(struct me *m, const struct op *o)
{

	CALL(m, mprotect((void *)addr(A(0)), size(A(1)),
	    (int)choice(&t_prot, A(2))));
}

static void
do_minherit(struct me *m, const struct op *o)
{

	CALL(m, minherit((void *)addr(A(0)), size(A(1)),
	    (int)choice(&t_inherit, A(2))));
}

static void
do_madvise(struct me *m, const struct op *o)
{

	CALL(m, madvise((void *)addr(A(0)), size(A(1)),
	    (int)choice(&t_advice, A(2))));
}

static void
do_mlock(struct me *m, const struct op *o)
{
	static char core[ARENA_PAGES];
	void *p;
	size_t n;

	p = (void *)addr(A(0));
	n = size(A(1));
	switch (choice(&t_lock, A(2))) {
	case 0:
		CALL(m, mlock(p, n));
		break;
	case 1:
		CALL(m, munlock(p, n));
		break;
	case 2:
		CALL(m, mlockall(MCL_CURRENT));
		break;
	case 3:
		CALL(m, mlockall(MCL_FUTURE));
		break;
	case 4:
		CALL(m, munlockall());
		break;
	case 5:
		CALL(m, msync(p, n, A(3) % 2 ? MS_INVALIDATE : MS_SYNC));
		break;
	default:
		CALL(m, mincore(p, MIN(n, sizeof(core) * PAGE), core));
		break;
	}
}

static void
do_touch(struct me *m, const struct op *o)
{
	volatile char *p;
	uint64_t i, n;

	p = (volatile char *)addr(A(0));
	n = MIN(size(A(1)), ARENA_PAGES * PAGE);
	for (i = 0; i < n; i += PAGE) {
		if (A(2) % 2 == 0)
			p[i] = (char)A(3);
		else
			m->ret += p[i];
	}
}

static void
do_break(struct me *m, const struct op *o)
{

	CALL(m, sbrk(A(0) % 2 ? (intptr_t)size(A(1)) : -(intptr_t)PAGE));
}

/*
 * Processes.  The block up to "}" is what the new one runs.
 */
static struct me *
peer(struct me *m, struct me *n, int *pc)
{
	struct slot *s = m->slot;
	int i;

	*pc = atomic_load(&s->sl_pc[m->index]);
	atomic_store(&s->sl_pc[m->index],
	    prog_end(&s->sl_prog, *pc) + 1);
	i = atomic_fetch_add(&s->sl_peers, 1);
	if (i >= MAXPEERS)
		return (NULL);
	memset(n, 0, sizeof(*n));
	n->slot = s;
	n->index = i;
	n->stack = m->stack;
	atomic_store(&s->sl_pc[i], *pc);
	return (n);
}

static void
traced_peer(struct me *n)
{

	if (traced && n->index < NKCOV)
		(void)ioctl(traces[place].tr_fd[n->index], KIOENABLE,
		    KCOV_MODE_TRACE_PC);
}

static void
then(struct me *m, pid_t pid, int index, uint8_t how)
{
	int kick, try;

	if (pid <= 0)
		return;
	m->slot->sl_pids[index] = pid;
	kick = (int)choice(&t_kick, how);
	if (kick == 1)
		(void)kill(pid, SIGKILL);
	if (kick != 0)
		for (try = 0; try < 50; try++) {
			if (waitpid(pid, NULL, WNOHANG) != 0)
				break;
			usleep(2000);
		}
}

static void
do_fork(struct me *m, const struct op *o)
{
	struct me n;
	pid_t pid;
	int fd, pc;

	if (peer(m, &n, &pc) == NULL)
		return;
	errno = 0;
	pid = A(1) % 4 == 3 ? pdfork(&fd, 0) : fork();
	if (pid == 0) {
		traced_peer(&n);
		interpret(&n);
	}
	m->ret = pid;
	m->error = errno;
	if (pid > 0 && A(1) % 4 == 3)
		files[A(2) % 8] = fd;
	then(m, pid, n.index, A(0));
}

static int
peer_main(void *arg)
{

	interpret(arg);
}

static struct me *
peer_stack(struct me *n, char **top)
{
	char *base;
	struct me *there;

	n->stack = n->index + 1;
	base = (char *)STACKS + n->index * STACK_SIZE;
	*top = base + STACK_SIZE - 1024;
	there = (struct me *)(*top + 512);
	*there = *n;
	return (there);
}

static void
do_rfork(struct me *m, const struct op *o)
{
	struct me n, *there;
	char *top;
	pid_t pid;
	int flags, pc;

	if (peer(m, &n, &pc) == NULL)
		return;
	flags = (int)choice(&t_rfork, A(0));
	errno = 0;
	if ((flags & RFMEM) != 0 || flags == (int)RFSPAWN) {
		there = peer_stack(&n, &top);
		if ((flags & RFPROC) != 0 || flags == (int)RFSPAWN)
			pid = rfork_thread(flags, top, peer_main, there);
		else
			pid = rfork(flags);
	} else {
		pid = rfork(flags);
		if (pid == 0 && (flags & RFPROC) != 0)
			interpret(&n);
	}
	m->ret = pid;
	m->error = errno;
	then(m, pid, n.index, A(1));
}

static void
do_vfork(struct me *m, const struct op *o __unused)
{
	struct me n;
	pid_t pid;
	int pc;

	if (peer(m, &n, &pc) == NULL)
		return;
	errno = 0;
	pid = vfork();
	if (pid == 0)
		interpret(&n);
	m->ret = pid;
	m->error = errno;
	if (pid > 0)
		m->slot->sl_pids[n.index] = pid;
}

static void
thread_main(void *arg)
{

	interpret(arg);
}

static void
do_thread(struct me *m, const struct op *o __unused)
{
	static long tid[2];
	struct thr_param tp;
	struct me n, *there;
	char *top;
	void *tls;
	int pc;

	if (peer(m, &n, &pc) == NULL)
		return;
	there = peer_stack(&n, &top);
	memset(&tp, 0, sizeof(tp));
	(void)amd64_get_fsbase(&tls);
	tp.start_func = thread_main;
	tp.arg = there;
	tp.stack_base = (char *)STACKS + n.index * STACK_SIZE;
	tp.stack_size = (size_t)(top - tp.stack_base);
	tp.tls_base = tls;
	tp.tls_size = 1;
	tp.child_tid = &tid[0];
	tp.parent_tid = &tid[1];
	CALL(m, thr_new(&tp, sizeof(tp)));
}

static void
do_nothing(struct me *m __unused, const struct op *o __unused)
{

}

static void
do_exec(struct me *m, const struct op *o)
{
	char arg[] = "-X", *argv[] = { env.self, arg, NULL }, *envp[] = { NULL };
	int fd;

	/* The first process would only end the program. */
	if (m->index == 0 && A(1) % 4 != 0)
		return;
	switch (choice(&t_exec, A(0))) {
	case 0:
		CALL(m, execve(env.self, argv, envp));
		break;
	case 1:
		CALL(m, execve("/nonexistent", argv, envp));
		break;
	case 2:
		fd = open(env.self, O_EXEC);
		CALL(m, fexecve(fd, argv, envp));
		(void)close(fd);
		break;
	case 3:
		CALL(m, execve(env.self, (char **)KERNEL, envp));
		break;
	default:
		CALL(m, execve("file", argv, envp));
		break;
	}
}

/* What a program started by "exec" does. */
void
after_exec(void)
{
	uint64_t w[LWC_MAX_ARGS];
	int fd, num, src;

	num = LWC_MAX_ARGS;
	fd = lwCreate(NULL, 0, &src, w, &num, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED)
		_exit(4);
	if (fd >= 0) {
		(void)lwSwitch(fd, NULL, 0, NULL, NULL, NULL);
		(void)lwCreate(NULL, 0, NULL, NULL, NULL, LWC_PREFAULT);
	}
	_exit(0);
}

static void
do_exit(struct me *m, const struct op *o)
{
	void *args[1] = { NULL };

	/* Let programs rather end by themselves. */
	if (A(1) % 3 != 0)
		return;
	switch (choice(&t_exit, A(0))) {
	case 0:
		_exit(0);
	case 1:
		_exit(3);
	case 2:
		abort();
	case 3:
		CALL(m, (abort2("fuzz", 0, args), 0));
		break;
	default:
		CALL(m, (thr_exit(NULL), 0));
		break;
	}
}

/*
 * Signals.
 */
static volatile sig_atomic_t counted;

static void
on_count(int sig __unused)
{

	counted++;
}

static void
on_jump(int sig __unused, siginfo_t *si __unused, void *ctx)
{
	uint64_t sp;

	sp = ((ucontext_t *)ctx)->uc_mcontext.mc_rsp;
	_longjmp(jumps[sp >= STACKS && sp < STACKS + MAXPEERS * STACK_SIZE ?
	    (sp - STACKS) / STACK_SIZE + 1 : 0], 1);
}

static void
handle(int sig, int how)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_flags = SA_NODEFER;
	sa.sa_handler = on_count;
	switch (how) {
	case 0:
		sa.sa_handler = SIG_DFL;
		break;
	case 1:
		sa.sa_handler = SIG_IGN;
		break;
	case 2:
		break;
	case 3:
		sa.sa_flags |= SA_SIGINFO;
		sa.sa_sigaction = on_jump;
		break;
	case 4:
		sa.sa_flags |= SA_ONSTACK;
		break;
	case 5:
		sa.sa_flags |= SA_RESTART;
		break;
	case 6:
		sa.sa_flags |= SA_RESETHAND;
		break;
	default:
		sa.sa_flags |= SA_NOCLDWAIT | SA_NOCLDSTOP;
		break;
	}
	(void)sigaction(sig, &sa, NULL);
}

static void
do_sigaction(struct me *m, const struct op *o)
{

	errno = 0;
	handle((int)choice(&t_signal, A(0)), (int)choice(&t_handler, A(1)));
	m->error = errno;
}

static void
set_of(uint8_t which, sigset_t *set)
{

	sigemptyset(set);
	switch (choice(&t_set, which)) {
	case 1:
		sigfillset(set);
		break;
	case 2:
		sigaddset(set, SIGSEGV);
		sigaddset(set, SIGBUS);
		sigaddset(set, SIGTRAP);
		sigaddset(set, SIGSYS);
		sigaddset(set, SIGILL);
		break;
	case 3:
		sigaddset(set, SIGUSR1);
		sigaddset(set, SIGUSR2);
		break;
	case 4:
		sigaddset(set, SIGTERM);
		break;
	case 5:
		sigfillset(set);
		sigdelset(set, SIGUSR1);
		break;
	}
}

static void
do_sigmask(struct me *m, const struct op *o)
{
	sigset_t set;

	set_of(A(1), &set);
	CALL(m, sigprocmask((int)choice(&t_mask_how, A(0)), &set, NULL));
}

static void
do_signal(struct me *m, const struct op *o)
{
	struct itimerval it;
	struct itimerspec its;
	struct sigevent sev;
	union sigval sv;
	void *args[1] = { NULL };
	int timer;
	pid_t pid;
	long tid;
	int sig;

	pid = who(m, A(1));
	sig = (int)choice(&t_signal, A(2));
	memset(&it, 0, sizeof(it));
	it.it_value.tv_usec = 1000;
	it.it_interval.tv_usec = A(3) % 2 ? 1000 : 0;
	switch (choice(&t_how, A(0))) {
	case 0:
		CALL(m, kill(pid, sig));
		break;
	case 1:
		sv.sival_int = A(3);
		CALL(m, sigqueue(pid == 0 ? getpid() : pid, sig, sv));
		break;
	case 2:
		(void)thr_self(&tid);
		CALL(m, thr_kill(A(3) % 4 == 0 ? -1 : tid, sig));
		break;
	case 3:
		CALL(m, thr_kill2(pid == 0 ? getpid() : pid, -1, sig));
		break;
	case 4:
		CALL(m, raise(sig));
		break;
	case 5:
		CALL(m, ualarm(1000, 0));
		break;
	case 6:
		CALL(m, setitimer(A(3) % 3, &it, NULL));
		break;
	case 7:
		memset(&sev, 0, sizeof(sev));
		sev.sigev_notify = SIGEV_SIGNAL;
		sev.sigev_signo = sig;
		memset(&its, 0, sizeof(its));
		its.it_value.tv_nsec = 1000000;
		CALL(m, syscall(SYS_ktimer_create, CLOCK_REALTIME, &sev,
		    &timer));
		if (m->ret == 0)
			CALL(m, syscall(SYS_ktimer_settime, timer, 0, &its,
			    NULL));
		break;
	default:
		CALL(m, (abort2("fuzz", A(3) % 3, args), 0));
		break;
	}
}

static void
do_altstack(struct me *m, const struct op *o)
{
	stack_t ss;

	memset(&ss, 0, sizeof(ss));
	ss.ss_sp = altstack;
	ss.ss_size = sizeof(altstack);
	switch (choice(&t_altstack, A(0))) {
	case 0:
		ss.ss_sp = (void *)addr(A(1));
		break;
	case 1:
		ss.ss_size = MINSIGSTKSZ + A(1) * 16;
		break;
	case 2:
		ss.ss_flags = SS_DISABLE;
		break;
	case 3:
		ss.ss_sp = (void *)KERNEL;
		break;
	default:
		ss.ss_sp = (void *)UNMAPPED;
		break;
	}
	CALL(m, sigaltstack(&ss, NULL));
}

/* All that sleeps; most with an end. */
static void
do_wait(struct me *m, const struct op *o)
{
	static unsigned int word;
	struct timespec ts = { 0, 3000000 };
	struct timeval tv = { 0, 3000 };
	struct _umtx_time ut;
	struct kevent kev;
	struct pollfd pfd;
	siginfo_t si;
	sigset_t set;
	fd_set fds;
	char byte;
	int status;

	set_of(A(1), &set);
	if (A(3) % 8 == 7)
		ts.tv_sec = tv.tv_sec = 10;
	switch (choice(&t_wait, A(0))) {
	case 0:
		CALL(m, sigsuspend(&set));
		break;
	case 1:
		pfd.fd = file(A(2));
		pfd.events = POLLIN;
		CALL(m, ppoll(&pfd, A(2) % 2, &ts, &set));
		break;
	case 2:
		CALL(m, pselect(0, NULL, NULL, NULL, &ts, &set));
		break;
	case 3:
		CALL(m, nanosleep(&ts, NULL));
		break;
	case 4:
		CALL(m, sigtimedwait(&set, &si, &ts));
		break;
	case 5:
		CALL(m, kevent(file(A(2)), NULL, 0, &kev, 1, &ts));
		break;
	case 6:
		CALL(m, wait4(-1, &status, 0, NULL));
		break;
	case 7:
		CALL(m, wait4(-1, &status, WNOHANG, NULL));
		break;
	case 8:
		CALL(m, sched_yield());
		break;
	case 9:
		CALL(m, read(file(A(2)), &byte, 1));
		break;
	case 10:
		FD_ZERO(&fds);
		if (file(A(2)) >= 0 && file(A(2)) < (int)FD_SETSIZE)
			FD_SET(file(A(2)), &fds);
		CALL(m, select(file(A(2)) + 1, &fds, NULL, NULL, &tv));
		break;
	case 11:
		memset(&ut, 0, sizeof(ut));
		ut._timeout = ts;
		ut._clockid = CLOCK_MONOTONIC;
		CALL(m, _umtx_op(A(2) % 2 ? (void *)addr(A(2)) : &word,
		    UMTX_OP_WAIT_UINT_PRIVATE, 0, (void *)sizeof(ut), &ut));
		break;
	case 12:
		CALL(m, pause());
		break;
	case 13:
		CALL(m, flock(file(A(2)), A(3) % 2 ? LOCK_EX : LOCK_UN));
		break;
	default:
		CALL(m, wait6(P_ALL, 0, &status, WEXITED | WSTOPPED |
		    WCONTINUED | WTRAPPED | (A(3) % 2 ? WNOHANG : 0), NULL,
		    &si));
		break;
	}
}

static __noinline void
fault(int how, int fd)
{
	uint64_t value;

	switch (how) {
	case 0:
		(void)*(volatile char *)UNMAPPED;
		break;
	case 1:
		*(volatile char *)UNMAPPED = 1;
		break;
	case 2:
		__asm volatile("ud2");
		break;
	case 3:
		__asm volatile("int3");
		break;
	case 4:
		__asm volatile("xorl %%ecx, %%ecx; divl %%ecx" ::: "eax",
		    "ecx", "edx");
		break;
	case 5:
		__asm volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop"
		    ::: "memory", "cc");
		break;
	case 6:
		(void)*(volatile char *)0x8000000000000000UL;
		break;
	case 7:
		*(volatile char *)KERNEL = 1;
		break;
	case 8:
		value = numbers[1];
		__asm volatile("xorl %%r8d, %%r8d; xorl %%r9d, %%r9d;"
		    "xorl %%r10d, %%r10d; pushfq; orq $0x100, (%%rsp); popfq;"
		    "syscall" : "+a" (value) : "D" ((uint64_t)fd), "S" (0UL),
		    "d" (0UL) : "rcx", "r8", "r9", "r10", "r11", "memory",
		    "cc");
		break;
	case 9:
		__asm volatile("fldz; fld1; fdivp" ::: "memory");
		break;
	case 10:
		__asm volatile("hlt");
		break;
	case 11:
		__asm volatile("movq %%rsp, %%rbx; xorl %%esp, %%esp;"
		    "pushq $1; movq %%rbx, %%rsp" ::: "rbx", "memory");
		break;
	default:
		value = SYS_exit;
		__asm volatile("pushfq; orq $0x100, (%%rsp); popfq; syscall"
		    : "+a" (value) : "D" (0UL) : "rcx", "r11", "memory",
		    "cc");
		break;
	}
}

static void
do_fault(struct me *m __unused, const struct op *o)
{

	fault((int)choice(&t_fault, A(0)), desc(A(1)));
}

/*
 * Credentials, limits and the rest of what a process has.
 */
static void
do_cred(struct me *m, const struct op *o)
{
	cap_rights_t rights;
	cpuset_t mask;
	struct jail j;
	gid_t groups[2] = { 1001, 1002 };

	switch (choice(&t_cred, A(0))) {
	case 0:
		CALL(m, setuid(1001));
		break;
	case 1:
		CALL(m, setresuid(-1, 1001, A(1) % 2 ? 0 : 1001));
		break;
	case 2:
		CALL(m, setgid(1001));
		break;
	case 3:
		CALL(m, setgroups(2, groups));
		break;
	case 4:
		CALL(m, cap_enter());
		break;
	case 5:
		CALL(m, jail_attach(env.jid));
		break;
	case 6:
		memset(&j, 0, sizeof(j));
		j.version = JAIL_API_VERSION;
		j.path = __DECONST(char *, "/");
		j.hostname = __DECONST(char *, "fuzz");
		CALL(m, jail(&j));
		break;
	case 7:
		CALL(m, umask(A(1)));
		break;
	case 8:
		CALL(m, chdir(A(1) % 2 ? "/" : "/tmp"));
		break;
	case 9:
		CALL(m, chroot("."));
		break;
	case 10:
		CALL(m, setsid());
		break;
	case 11:
		cap_rights_init(&rights, CAP_READ, CAP_FSTAT);
		CALL(m, cap_rights_limit(A(1) % 2 ? desc(A(2)) : file(A(2)),
		    &rights));
		break;
	case 12:
		CALL(m, setlogin("fuzz"));
		break;
	case 13:
		CALL(m, seteuid(A(1) % 2 ? 0 : 1001));
		break;
	case 14:
		CALL(m, setpgid(0, 0));
		break;
	case 15:
		CALL(m, fchdir(file(A(2))));
		break;
	case 16:
		CPU_ZERO(&mask);
		CPU_SET(A(1) % 2, &mask);
		CALL(m, cpuset_setaffinity(CPU_LEVEL_WHICH, CPU_WHICH_TID, -1,
		    sizeof(mask), &mask));
		break;
	default:
		CALL(m, jail_remove(A(1) % 4 == 0 ? env.jid : -1));
		break;
	}
}

static void
do_procctl(struct me *m, const struct op *o)
{
	struct procctl_reaper_kill rk;
	struct procctl_reaper_status rs;
	void *arg;
	int cmd, value;

	cmd = (int)choice(&t_procctl, A(0));
	value = A(2) < SPECIAL ? 1 + A(2) % 3 : (int)choice(&t_value, A(2));
	arg = &value;
	switch (cmd) {
	case PROC_REAP_ACQUIRE:
	case PROC_REAP_RELEASE:
		arg = NULL;
		break;
	case PROC_REAP_KILL:
		memset(&rk, 0, sizeof(rk));
		rk.rk_sig = SIGKILL;
		arg = &rk;
		break;
	case PROC_REAP_STATUS:
		arg = &rs;
		break;
	case PROC_PDEATHSIG_CTL:
		value = (int)choice(&t_signal, A(2));
		break;
	case PROC_SPROTECT:
		value = PPROT_SET;
		break;
	}
	CALL(m, procctl(P_PID, cmd == PROC_PDEATHSIG_CTL ? 0 : who(m, A(1)),
	    cmd, ptr(A(3), arg)));
}

static int
stopped(pid_t pid)
{
	int status, try;

	for (try = 0; try < 30; try++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return (WIFSTOPPED(status));
		usleep(1000);
	}
	return (0);
}

static void
do_ptrace(struct me *m, const struct op *o)
{
	struct ptrace_sc_remote sc;
	struct ptrace_lwpinfo pl;
	struct reg regs;
	syscallarg_t args[6];
	pid_t pid;
	int data, how, i;

	how = (int)choice(&t_ptrace, A(0));
	if (how == 7) {
		CALL(m, ptrace(PT_TRACE_ME, 0, NULL, 0));
		return;
	}
	pid = who(m, A(1));
	if (pid == 0 || pid == getpid())
		return;
	CALL(m, ptrace(PT_ATTACH, pid, NULL, 0));
	if (m->ret != 0)
		return;
	(void)stopped(pid);
	memset(args, 0, sizeof(args));
	switch (how) {
	case 0:
		data = ptrace(PT_READ_D, pid, (caddr_t)addr(A(2)), 0);
		(void)ptrace(PT_WRITE_D, pid, (caddr_t)addr(A(2)), data);
		break;
	case 1:
		if (ptrace(PT_GETREGS, pid, (caddr_t)&regs, 0) == 0)
			(void)ptrace(PT_SETREGS, pid, (caddr_t)&regs, 0);
		(void)ptrace(PT_LWPINFO, pid, (caddr_t)&pl, sizeof(pl));
		break;
	case 2:
	case 8:
		memset(&sc, 0, sizeof(sc));
		sc.pscr_syscall = how == 2 ? (u_int)choice(&t_number, A(3)) :
		    (u_int)numbers[A(3) % 9];
		sc.pscr_nargs = 6;
		sc.pscr_args = args;
		args[0] = how == 2 ? 0 : (syscallarg_t)desc(A(2));
		if (how == 2)
			sc.pscr_syscall = (u_int)harmless(m,
			    (int)sc.pscr_syscall, (uint64_t *)args);
		CALL(m, ptrace(PT_SC_REMOTE, pid, (caddr_t)&sc, sizeof(sc)));
		break;
	case 3:
		for (i = 0; i < 1 + A(3) % 16; i++) {
			(void)ptrace(PT_STEP, pid, (caddr_t)1, 0);
			if (!stopped(pid))
				break;
		}
		break;
	case 4:
		for (i = 0; i < 1 + A(3) % 8; i++) {
			(void)ptrace(A(3) % 3 == 0 ? PT_TO_SCE : PT_SYSCALL,
			    pid, (caddr_t)1, 0);
			if (!stopped(pid))
				break;
		}
		break;
	case 5:
		(void)ptrace(PT_KILL, pid, NULL, 0);
		return;
	case 6:
		(void)ptrace(PT_FOLLOW_FORK, pid, NULL, 1);
		break;
	case 9:
		_exit(0);
	case 10:
		usleep(3000);
		break;
	default:
		(void)ptrace(PT_LWPINFO, pid, (caddr_t)&pl, sizeof(pl));
		(void)ptrace(PT_SUSPEND, pl.pl_lwpid, NULL, 0);
		(void)ptrace(PT_RESUME, pl.pl_lwpid, NULL, 0);
		break;
	}
	(void)ptrace(PT_DETACH, pid, (caddr_t)1, A(4) % 8 == 7 ?
	    (int)choice(&t_signal, A(3)) : 0);
}

static void
do_rlimit(struct me *m, const struct op *o)
{
	struct rlimit rl;
	int which;

	which = (int)choice(&t_rlimit, A(0));
	rl.rlim_cur = rl.rlim_max = choice(&t_limit, A(1));
	if (which == RLIMIT_CPU && rl.rlim_cur < 5)
		rl.rlim_cur = rl.rlim_max = 1;
	if (A(2) % 2 == 0) {
		if (getrlimit(which, &rl) == 0)
			rl.rlim_cur = MIN((rlim_t)choice(&t_limit, A(1)),
			    rl.rlim_max);
	}
	CALL(m, setrlimit(which, &rl));
}

static void
do_sysarch(struct me *m, const struct op *o)
{
	struct i386_ldt_args ldt;
	struct i386_ioperm_args io;
	char descr[64];
	void *p;

	switch (choice(&t_sysarch, A(0))) {
	case 0:
		(void)amd64_get_fsbase(&p);
		CALL(m, amd64_set_fsbase(p));
		break;
	case 1:
		CALL(m, amd64_set_gsbase((void *)addr(A(1))));
		break;
	case 2:
		memset(&ldt, 0, sizeof(ldt));
		memset(descr, 0, sizeof(descr));
		descr[5] = (char)0xf2;
		ldt.start = 0xffffffff;
		ldt.descs = (void *)descr;
		ldt.num = 1;
		CALL(m, sysarch(I386_SET_LDT, &ldt));
		break;
	case 3:
		io.start = 0x80;
		io.length = 1;
		io.enable = A(1) % 2;
		CALL(m, sysarch(I386_SET_IOPERM, &io));
		break;
	case 4:
		CALL(m, x86_pkru_protect_range((void *)addr(A(1)),
		    size(A(2)) & 0xfffff, 1 + A(3) % 3, 0));
		break;
	case 5:
		CALL(m, x86_pkru_unprotect_range((void *)addr(A(1)),
		    size(A(2)) & 0xfffff));
		break;
	case 6:
		CALL(m, sysarch((int)choice(&t_value, A(1)), &p));
		break;
	case 7:
		CALL(m, amd64_get_gsbase(&p));
		break;
	default:
		CALL(m, amd64_set_gsbase(NULL));
		break;
	}
}

static void
do_ktrace(struct me *m, const struct op *o)
{

	CALL(m, ktrace("trace", A(0) % 3 == 0 ? KTROP_CLEAR : KTROP_SET,
	    KTRFAC_SYSCALL | KTRFAC_SYSRET | KTRFAC_STRUCT | KTRFAC_PSIG |
	    (A(0) % 2 ? KTRFAC_INHERIT : 0), who(m, A(1)) ?: getpid()));
}

static void
do_aio(struct me *m, const struct op *o)
{
	struct aiocb *cb, *all[2];
	const struct aiocb *some[1];
	struct timespec ts = { 0, 2000000 };

	cb = &cbs[A(1) % 4];
	some[0] = cb;
	all[0] = cb;
	all[1] = &cbs[(A(1) + 1) % 4];
	switch (choice(&t_aio, A(0))) {
	case 0:
	case 1:
	case 7:
	case 8:
		memset(cb, 0, sizeof(*cb));
		cb->aio_fildes = file(A(2));
		cb->aio_buf = (void *)addr(A(3));
		cb->aio_nbytes = PAGE;
		if (A(4) % 3 == 1) {
			cb->aio_sigevent.sigev_notify = SIGEV_SIGNAL;
			cb->aio_sigevent.sigev_signo = SIGUSR1;
		}
		if (choice(&t_aio, A(0)) == 1)
			CALL(m, aio_write(cb));
		else if (choice(&t_aio, A(0)) == 7)
			CALL(m, aio_mlock(cb));
		else
			CALL(m, aio_read(cb));
		break;
	case 2:
	case 9:
		all[0]->aio_lio_opcode = LIO_READ;
		all[1]->aio_lio_opcode = LIO_WRITE;
		all[0]->aio_fildes = all[1]->aio_fildes = file(A(2));
		all[0]->aio_buf = all[1]->aio_buf = (void *)addr(A(3));
		all[0]->aio_nbytes = all[1]->aio_nbytes = 100;
		CALL(m, lio_listio(choice(&t_aio, A(0)) == 2 ? LIO_NOWAIT :
		    LIO_WAIT, all, 2, NULL));
		break;
	case 3:
		CALL(m, aio_cancel(file(A(2)), A(4) % 2 ? NULL : cb));
		break;
	case 4:
		CALL(m, aio_suspend(some, 1, &ts));
		break;
	case 5:
		CALL(m, aio_waitcomplete(&cb, &ts));
		break;
	default:
		cb->aio_fildes = file(A(2));
		CALL(m, aio_fsync(O_SYNC, cb));
		break;
	}
}

static void
do_shm(struct me *m, const struct op *o)
{

	if (choice(&t_shm, A(0)) == 1) {
		CALL(m, shmdt(A(2) % 4 == 0 ? (void *)addr(A(1)) : shmaddr));
		return;
	}
	shmid = shmget(IPC_PRIVATE, 2 * PAGE, IPC_CREAT | 0600);
	if (shmid < 0)
		return;
	CALL(m, shmat(shmid, choice(&t_shm, A(0)) == 2 ?
	    (void *)addr(A(1)) : NULL, choice(&t_shm, A(0)) == 3 ? SHM_RDONLY :
	    choice(&t_shm, A(0)) == 2 && A(2) % 2 ? SHM_REMAP : 0));
	if (m->ret != -1)
		shmaddr = (void *)m->ret;
	/* It goes with its last user; jailed or dropped, it may stay. */
	(void)shmctl(shmid, IPC_RMID, NULL);
}

static void
do_event(struct me *m, const struct op *o)
{
	struct kevent kev;

	switch (choice(&t_event, A(1))) {
	case 0:
		EV_SET(&kev, A(3) % 2 ? desc(A(2)) : file(A(2)), EVFILT_READ,
		    EV_ADD, 0, 0, NULL);
		break;
	case 1:
		EV_SET(&kev, 1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, NULL);
		break;
	case 2:
		EV_SET(&kev, 1, EVFILT_TIMER, EV_ADD, 0, 1, NULL);
		break;
	case 3:
		EV_SET(&kev, who(m, A(2)), EVFILT_PROC, EV_ADD,
		    NOTE_EXIT | NOTE_FORK | NOTE_TRACK | NOTE_EXEC, 0, NULL);
		break;
	case 4:
		EV_SET(&kev, SIGUSR1, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL);
		break;
	case 5:
		EV_SET(&kev, file(A(2)), EVFILT_VNODE, EV_ADD, NOTE_WRITE, 0,
		    NULL);
		break;
	default:
		EV_SET(&kev, file(A(2)), EVFILT_PROCDESC, EV_ADD, NOTE_EXIT, 0,
		    NULL);
		break;
	}
	CALL(m, kevent(file(A(0)), &kev, 1, NULL, 0, NULL));
}

/* What ps(1) and procstat(1) read. */
static void
do_look(struct me *m, const struct op *o)
{
	static char buf[65536];
	size_t len;
	int mib[4];

	mib[0] = CTL_KERN;
	mib[1] = KERN_PROC;
	mib[2] = (int)choice(&t_look, A(0));
	mib[3] = who(m, A(1));
	len = sizeof(buf);
	CALL(m, sysctl(mib, 4, buf, &len, NULL, 0));
}

static void
do_point(struct me *m, const struct op *o)
{
	static const struct {
		int		value;
		const char	*set;
	} sets[] = { { 12, "return(12)" }, { 22, "return(22)" },
	    { 30, "30%return(12)" }, { 2, "1*off->1*return(12)" },
	    { 3, "2*off->1*return(12)" }, { 6, "5*off->1*return(12)" },
	    { 0, "off" } };
	char name[128];
	int i, v;

	if (env.npoints == 0)
		return;
	v = (int)choice(&t_point, A(1));
	for (i = 0; sets[i].value != v; i++)
		continue;
	snprintf(name, sizeof(name), "debug.fail_point.%s",
	    env.points[A(0) % env.npoints].pt_name);
	CALL(m, sysctlbyname(name, NULL, NULL, sets[i].set,
	    strlen(sets[i].set)));
}

static void
do_limit(struct me *m, const struct op *o)
{
	const struct limit *l;
	uint64_t v;
	size_t len;
	int used;

	if (env.nlimits == 0)
		return;
	l = &env.limits[A(0) % env.nlimits];
	v = choice(&t_lower, A(1));
	if (v >= 1000 && v < 2000) {
		len = sizeof(used);
		if (sysctlbyname(strcmp(l->lm_name, "kern.maxfiles") == 0 ?
		    "kern.openfiles" : "kern.lwc.contexts", &used, &len, NULL,
		    0) != 0)
			return;
		v = v - 1000 + used;
	} else if (strcmp(l->lm_name, "kern.maxfiles") == 0) {
		return;
	}
	CALL(m, sysctlbyname(l->lm_name, NULL, NULL, &v, l->lm_size));
}

#define	D(n)	{ n, K_DESC, NULL }
#define	F(n)	{ n, K_FILE, NULL }
#define	P(n)	{ n, K_PTR, NULL }
#define	B(n)	{ n, K_BYTE, NULL }
#define	AD(n)	{ n, K_ADDR, NULL }
#define	SZ(n)	{ n, K_SIZE, NULL }
#define	KEEP	{ "keep", K_SLOT, NULL }
#define	V(n)	{ n, K_VALUE, &t_value }
#define	T(n, t)	{ n, K_TABLE, &t_##t }

const struct operation operations[] = {
	{ "}", 20, do_nothing, { { NULL, K_NONE, NULL } } },
	{ "spec", 90, do_spec, { T("flags", spec), AD("start"), SZ("length"),
	    B("some") } },
	{ "lwCreate", 90, do_create, { T("list", list), T("times", repeat),
	    T("flags", create), KEEP, P("out") } },
	{ "lwSwitch", 130, do_switch, { D("to"), T("n", count),
	    T("until", until), B("words"), P("out") } },
	{ "lwDiscardSwitch", 20, do_discard, { D("to"), T("n", count),
	    T("until", until), B("words") } },
	{ "lwRestrict", 20, do_restrict, { D("fd"), T("list", list),
	    T("times", repeat) } },
	{ "lwOverlay", 60, do_overlay, { D("source"), T("list", list),
	    T("times", repeat) } },
	{ "lwSyscall", 50, do_syscall, { D("target"), T("mask", mask),
	    T("number", number), B("more"), B("args") } },
	{ "lwGetlwc", 12, do_getlwc, { KEEP } },
	{ "lwInfo", 8, do_info, { D("fd"), P("info") } },
	{ "lwControl", 40, do_control, { D("fd"), T("command", control),
	    D("argument") } },
	{ "allow", 8, do_allow, { T("calls", allow), B("which") } },
	{ "raw", 25, do_raw, { T("by", raw), T("number", number), B("more"),
	    B("args") } },
	{ "close", 25, do_close, { D("fd") } },
	{ "closefrom", 6, do_closefrom, { B("from"), B("how") } },
	{ "dup", 12, do_dup, { D("fd"), KEEP } },
	{ "dup2", 12, do_dup2, { D("fd"), B("to") } },
	{ "fcntl", 20, do_fcntl, { F("fd"), T("command", fcntl), B("arg"),
	    B("type") } },
	{ "open", 30, do_open, { T("what", open), B("keep"), B("how") } },
	{ "write", 10, do_write, { F("fd"), AD("from"), SZ("n") } },
	{ "pass", 6, do_pass, { T("how", pass), F("socket"), D("fd"),
	    B("which") } },
	{ "mmap", 30, do_mmap, { AD("at"), SZ("n"), T("prot", prot),
	    T("flags", map), F("fd") } },
	{ "munmap", 12, do_munmap, { AD("at"), SZ("n") } },
	{ "mprotect", 12, do_mprotect, { AD("at"), SZ("n"), T("prot", prot) } },
	{ "minherit", 10, do_minherit, { AD("at"), SZ("n"),
	    T("how", inherit) } },
	{ "madvise", 8, do_madvise, { AD("at"), SZ("n"), T("how", advice) } },
	{ "mlock", 10, do_mlock, { AD("at"), SZ("n"), T("what", lock),
	    B("how") } },
	{ "touch", 25, do_touch, { AD("at"), SZ("n"), B("read"), B("with") } },
	{ "break", 4, do_break, { B("up"), SZ("n") } },
	{ "{fork", 20, do_fork, { T("then", kick), B("how"), B("keep") } },
	{ "{rfork", 25, do_rfork, { T("flags", rfork), T("then", kick) } },
	{ "{vfork", 8, do_vfork, { { NULL, K_NONE, NULL } } },
	{ "{thread", 10, do_thread, { { NULL, K_NONE, NULL } } },
	{ "exec", 8, do_exec, { T("what", exec), B("first") } },
	{ "exit", 10, do_exit, { T("how", exit), B("really") } },
	{ "sigaction", 15, do_sigaction, { T("signal", signal),
	    T("handler", handler) } },
	{ "sigmask", 12, do_sigmask, { T("how", mask_how), T("set", set) } },
	{ "signal", 25, do_signal, { T("how", how), T("who", who),
	    T("signal", signal), B("value") } },
	{ "altstack", 6, do_altstack, { T("what", altstack), B("at") } },
	{ "wait", 25, do_wait, { T("for", wait), T("set", set), F("fd"),
	    B("some") } },
	{ "fault", 20, do_fault, { T("how", fault), D("fd") } },
	{ "cred", 15, do_cred, { T("what", cred), B("how"), D("fd") } },
	{ "procctl", 6, do_procctl, { T("command", procctl), T("who", who),
	    B("value"), P("data") } },
	{ "ptrace", 12, do_ptrace, { T("how", ptrace), T("who", who),
	    AD("at"), B("number"), B("detach") } },
	{ "rlimit", 10, do_rlimit, { T("which", rlimit), T("value", limit),
	    B("hard") } },
	{ "sysarch", 8, do_sysarch, { T("what", sysarch), AD("at"), SZ("n"),
	    B("how") } },
	{ "ktrace", 4, do_ktrace, { B("how"), T("who", who) } },
	{ "aio", 14, do_aio, { T("what", aio), B("which"), F("fd"),
	    AD("at"), B("how") } },
	{ "shm", 6, do_shm, { T("what", shm), AD("at"), B("how") } },
	{ "event", 10, do_event, { F("kq"), T("what", event), F("fd"),
	    B("how") } },
	{ "look", 8, do_look, { T("at", look), T("who", who) } },
	{ "point", 8, do_point, { { "name", K_POINT, NULL },
	    T("set", point) } },
	{ "limit", 5, do_limit, { { "name", K_LIMIT, NULL },
	    T("to", lower) } },
};
const int noperations = nitems(operations);
int op_end;
bool excluded[256];
const char *excluded_choice[16];

void
interpret(struct me *m)
{
	const struct operation *od;
	struct slot *s = m->slot;
	struct result *r;
	volatile int pc;

	for (;;) {
		pc = atomic_fetch_add(&s->sl_pc[m->index], 1);
		if (pc >= s->sl_prog.n)
			break;
		od = &operations[s->sl_prog.op[pc].code % noperations];
		if (od->name[0] == '}') {
			if (m->index != 0)
				break;
			continue;
		}
		s->sl_result[pc].left = true;
		s->sl_result[pc].peer = m->index;
		m->ret = 0;
		m->error = 0;
		if (_setjmp(jumps[m->stack]) == 0) {
			od->run(m, &s->sl_prog.op[pc]);
		} else {
			m->ret = -1;
			m->error = 0;
		}
		/* Who was suspended in it tells how it ended, then. */
		r = &s->sl_result[pc];
		r->ret = m->ret;
		r->error = m->error;
		r->done = true;
		r->left = false;
		atomic_fetch_add(&s->sl_tried[od - operations], 1);
		if (m->ret != -1)
			atomic_fetch_add(&s->sl_good[od - operations], 1);
	}
	if (m->stack > 0)
		(void)thr_exit(NULL);
	_exit(0);
}

/* The first process of a program. */
void
worker(struct slot *s)
{
	static const int caught[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP,
	    SIGSYS };
	volatile uint64_t *buffer;
	struct rlimit rl;
	struct me m;
	sigset_t set;
	char dir[64];
	int i;

	for (i = 0; i < MAXSLOTS * NKCOV; i++) {
		buffer = traces[i / NKCOV].tr_buffer[i % NKCOV];
		if (buffer == NULL)
			continue;
		traced = true;
		(void)munmap(__DEVOLATILE(void *, buffer),
		    KCOV_ENTRIES * sizeof(*buffer));
	}
	(void)munmap(sh, sizeof(*sh));
	for (i = 0; i < MAXSLOTS; i++)
		if (slots[i] != s)
			(void)munmap(slots[i], sizeof(*s));
	(void)setpgid(0, 0);
	sigemptyset(&set);
	(void)sigprocmask(SIG_SETMASK, &set, NULL);
	rl.rlim_cur = rl.rlim_max = 0;
	(void)setrlimit(RLIMIT_CORE, &rl);
	for (i = 0; i < 3; i++)
		(void)dup2(open("/dev/null", O_RDWR), i);
	snprintf(dir, sizeof(dir), "/tmp/lwc_fuzz.%d", place);
	(void)mkdir(dir, 0777);
	(void)chdir(dir);
	for (i = 0; i < (int)nitems(caught); i++)
		handle(caught[i], 3);
	handle(SIGUSR1, 2);
	handle(SIGUSR2, 5);
	handle(SIGALRM, 2);
	if (mmap((void *)ARENA, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap((void *)STACKS, MAXPEERS * STACK_SIZE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED)
		_exit(1);
	strlcpy((char *)ARENA + PAGE, "file", 5);
	memset((char *)ARENA + 2 * PAGE, 0x11, 2 * PAGE);
	for (i = 0; i < 8; i++)
		kept[i] = -1;
	files[0] = open("file", O_RDWR | O_CREAT, 0666);
	(void)ftruncate(files[0], 4 * PAGE);
	(void)pipe2(&files[1], 0);
	(void)socketpair(AF_UNIX, SOCK_STREAM, 0, &files[3]);
	files[5] = kqueue();
	files[6] = open(".", O_RDONLY | O_DIRECTORY);
	files[7] = open("/dev/null", O_RDWR);
	memset(&m, 0, sizeof(m));
	m.slot = s;
	s->sl_pids[0] = getpid();
	if (traced) {
		/* The one before may not have gone quite. */
		for (i = 0; i < 100 && ioctl(traces[place].tr_fd[0], KIOENABLE,
		    KCOV_MODE_TRACE_PC) != 0; i++)
			usleep(1000);
	}
	interpret(&m);
}
