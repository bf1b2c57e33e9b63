/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Each step that can fail is made to (debug.fail_point.lwc_*, see fail(9), in
 * kernels with INVARIANTS): the call says so, nothing is left of it, and it
 * works the next time.  A point is set for one process, so cases in other
 * processes do not meet it.
 */

#include <sys/param.h>
#include <sys/sysctl.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <signal.h>

#include "lwc_test.h"

static void
point_name(char *name, size_t size, const char *point)
{

	snprintf(name, size, "debug.fail_point.lwc_%s", point);
}

/* After so many passes the step fails once, with ENOMEM, in this process. */
static void
arm(const char *point, int passes, pid_t pid)
{
	char how[80], name[80];

	point_name(name, sizeof(name), point);
	if (passes == 0)
		snprintf(how, sizeof(how), "1*return(%d)[pid %d]", ENOMEM,
		    (int)pid);
	else
		snprintf(how, sizeof(how), "%d*off->1*return(%d)[pid %d]",
		    passes, ENOMEM, (int)pid);
	REQUIRE(sysctlbyname(name, NULL, NULL, how, strlen(how)) == 0);
}

/* Has it happened?  The point is off, then, and is afterwards in any case. */
static bool
disarm(const char *point)
{
	char name[80], now[200];
	size_t len;

	point_name(name, sizeof(name), point);
	len = sizeof(now) - 1;
	memset(now, 0, sizeof(now));
	REQUIRE(sysctlbyname(name, now, &len, "off", 3) == 0);
	return (strcmp(now, "off") == 0);
}

static void
need_points(void)
{
	char name[80];
	size_t len;

	NEED_ROOT();
	point_name(name, sizeof(name), "create");
	len = 0;
	SKIP_UNLESS(sysctlbyname(name, NULL, &len, NULL, 0) == 0,
	    "the kernel is without INVARIANTS");
}

/* Resume whoever comes, for ever, and again if that fails. */
static void
serve(struct visit *v)
{
	int src;

	for (src = v->src;;)
		if (go(src, v, 7, 0) == LWC_SWITCHED)
			src = v->src;
}

/* A context that serves, or -1; not entered yet. */
static int
server(const struct lwc_spec *s, int n, int flags)
{
	struct visit v;
	int fd;

	fd = create(&v, s, n, flags);
	if (fd == LWC_SWITCHED)
		serve(&v);
	return (fd);
}

/* What fails, if the step does: each returns errno, or 0. */
static int
creates_with(const struct lwc_spec *s, int n, int flags)
{
	int fd;

	errno = 0;
	fd = server(s, n, flags);
	if (fd < 0)
		return (errno);
	REQUIRE(close(fd) == 0);
	return (0);
}

static int
creates(void)
{

	return (creates_with(NULL, 0, 0));
}

static int
prefaults(void)
{

	return (creates_with(NULL, 0, LWC_PREFAULT));
}

/* One page of memory that others see, copied. */
static int
copies(void)
{
	struct lwc_spec s;

	s = mem(shared_page(), PAGE, LWC_COPY);
	return (creates_with(&s, 1, 0));
}

/* Specifiers of everything, of which the second is refused at the latest. */
static int
specifies(void)
{
	struct lwc_spec s[4];

	s[0] = mem(page(), PAGE, LWC_SHARE);
	s[1] = mem(page(), PAGE, LWC_UNMAP);
	s[2] = mem(shared_page(), PAGE, LWC_COPY);
	s[3] = files(5, 9, LWC_UNMAP);
	return (creates_with(s, 4, 0));
}

static int
begins(void *arg __unused)
{

	errno = 0;
	return (lwGetlwc() < 0 ? errno : 0);
}

static int
overlays_with(const struct lwc_spec *s, int n)
{
	int error, fd;

	fd = server(NULL, 0, 0);
	REQUIRE(fd >= 0);
	errno = 0;
	error = lwOverlay(fd, s, n) == 0 ? 0 : errno;
	REQUIRE(close(fd) == 0);
	return (error);
}

static int
overlays(void)
{
	struct lwc_spec s[3];
	char *p, *q;

	p = page();
	p[0] = 'p';
	q = page();
	q[0] = 'q';
	s[0] = mem(p, PAGE, LWC_SHARE);
	s[1] = mem(q, PAGE, LWC_COPY);
	s[2] = creds(LWC_COPY);
	return (overlays_with(s, 3));
}

static int
overlays_files(void)
{
	struct lwc_spec s;
	int error, fd;

	fd = scratch();
	s = files(fd, fd, LWC_COPY);
	error = overlays_with(&s, 1);
	if (error == 0 && fcntl(fd, F_GETFD) == -1)
		error = errno;
	(void)close(fd);
	return (error);
}

static int
switches(void)
{
	struct visit v;
	int error, fd;

	fd = server(NULL, 0, 0);
	REQUIRE(fd >= 0);
	errno = 0;
	error = go(fd, &v, 0, 0) == LWC_SWITCHED ? 0 : errno;
	REQUIRE(error != 0 || v.a[0] == 7);
	REQUIRE(close(fd) == 0);
	return (error);
}

/* A trapped getppid(2): what it says in the context. */
static int
traps(void)
{
	struct visit v;
	uint64_t reply[2] = { 0, 5 };
	int fd, n, src;

	fd = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		errno = 0;
		if (raw(SYS_getppid, 0, 0, 0, 0, 0, 0) == 5)
			errno = 0;
		go(v.src, &v, errno, 0);
		_exit(9);
	}
	REQUIRE(fd >= 0);
	n = LWC_MAX_ARGS;
	if (go(fd, &v, 0, 0) == LWC_TRAPPED)
		REQUIRE(lwSwitch(fd, reply, 2, &src, v.a, &n) ==
		    LWC_SWITCHED);
	REQUIRE(close(fd) == 0);
	return ((int)v.a[0]);
}

/* Is suspended by a deadline, at the second attempt if need be. */
static int
is_late(void)
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			continue;
	REQUIRE(fd >= 0);
	errno = 0;
	REQUIRE(go_until(fd, after(50), &v, 0) == -1 && errno == ETIMEDOUT);
	REQUIRE(close(fd) == 0);
	return (0);
}

static void
ends_guarded(void *arg __unused)
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED)
		_exit(5);
	REQUIRE(fd >= 0);
	_exit(go(fd, &v, 0, 0) == LWC_TRAPPED ? 0 : 1);
}

static void
fails(const char *point, int (*attempt)(void), int error)
{
	struct lwc_info li;
	int fd, got;

	need_points();
	/* The process's own record is not what is to fail. */
	fd = lwGetlwc();
	REQUIRE(fd >= 0 && close(fd) == 0);
	REQUIRE(attempt() == 0);
	arm(point, 0, getpid());
	got = attempt();
	if (!disarm(point))
		lwc_fail(__FILE__, __LINE__, "the step was not met");
	if (got != error) {
		fprintf(stderr, "errno %d\n", got);
		lwc_fail(__FILE__, __LINE__, point);
	}
	REQUIRE(attempt() == 0);
	REQUIRE(lwInfo(LWC_SELF, &li) == 0);
	REQUIRE(li.li_contexts == 1);
}

#define	FAILS(point, attempt, error, descr)				\
CASE(hold_fail_##point, descr)						\
{									\
									\
	fails(#point, attempt, error);					\
}

FAILS(create, creates, ENOMEM,
    "A failure of lwCreate() after all is made leaves nothing behind.")
FAILS(vm_fork, creates, ENOMEM,
    "lwCreate() whose fork of the address space fails leaves nothing behind.")
FAILS(vm_charge, creates, ENOMEM,
    "lwCreate() that gets no swap reserved leaves nothing behind.")
FAILS(vm_prepare, specifies, ENOMEM,
    "lwCreate() that fails at its specifiers takes them back.")
FAILS(vm_copy, copies, ENOMEM,
    "lwCreate() that cannot copy shared memory leaves nothing behind.")
FAILS(vm_prefault, prefaults, ENOMEM,
    "lwCreate() that cannot prefault leaves nothing behind.")
FAILS(lazy_take, creates, 0,
    "Text that cannot be left out of the fork goes through the fork.")
FAILS(lazy_give, creates, ENOMEM,
    "lwCreate() that cannot map text anew leaves nothing behind.")
FAILS(files_copy, creates, ENOMEM,
    "lwCreate() that cannot copy the table leaves nothing behind.")
FAILS(desc_file, creates, ENOMEM,
    "lwCreate() that gets no descriptor leaves nothing behind.")
FAILS(user, creates, EAGAIN,
    "lwCreate() beyond a limit of the user's leaves nothing behind.")
FAILS(sysent, creates, EINVAL,
    "lwCreate() that cannot set the table of system calls leaves nothing behind.")
FAILS(stage_check, overlays, ENOMEM,
    "lwOverlay() of memory that fails leaves the map as it was.")
FAILS(stage_share, overlays, ENOMEM,
    "lwOverlay() that cannot share in the source leaves both maps as they were.")
FAILS(files_stage, overlays_files, ENOMEM,
    "lwOverlay() of files that fails leaves the table as it was.")
FAILS(cred, overlays, ENOMEM,
    "lwOverlay() between jails that fails leaves the credentials as they were.")
FAILS(file_install, overlays_files, EBADF,
    "A number that racct(9) refuses to lwOverlay() is left open.")
FAILS(introduce, switches, ENOMEM,
    "A switch that cannot name its caller in the target's table fails there.")
FAILS(claim, switches, ENOMEM,
    "A switch that cannot claim its target leaves the caller where it was.")
FAILS(trap, traps, ENOMEM,
    "A call that cannot be told to its monitor fails and is not made.")
FAILS(deadline, is_late, 0,
    "A deadline whose first attempt fails is kept at the next.")
FAILS(table, creates, 0,
    "A table that cannot be freed yet waits until it can.")

CASE(hold_fail_process,
    "lwCreate() fails without harm where the process's record cannot be made.")
{
	int pid, status;

	need_points();
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		arm("process", 0, getpid());
		REQUIRE(begins(NULL) == ENOMEM);
		REQUIRE(disarm("process"));
		/* Its calls are made as ever. */
		REQUIRE(getppid() > 1);
		REQUIRE(begins(NULL) == 0);
		arm("sysent", 0, getpid());
		_exit(0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	(void)disarm("sysent");
	REQUIRE(creates() == 0);
}

/* The step fails below the child's own end: it sets the point itself. */
static void
ends_untold(void *arg)
{

	arm("end", 0, getpid());
	ends_guarded(arg);
}

CASE(hold_fail_end,
    "A context's end that cannot be told to anybody ends the process.")
{
	int status;

	need_points();
	REQUIRE(status_of(ends_guarded, NULL) == 0);
	status = status_of(ends_untold, NULL);
	REQUIRE(disarm("end"));
	REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 5);
	REQUIRE(status_of(ends_guarded, NULL) == 0);
}

/* A bit of everything, whatever fails. */
static void
all_of_it(void)
{
	struct lwc_spec s[4];
	struct lwc_info li;
	struct visit v;
	uint64_t args[LWC_CALL_NARGS] = { 0 };
	int a, b, c, f, i;
	char *p, *q;

	(void)alarm((u_int)lenient(20));
	f = scratch();
	p = page();
	q = shared_page();
	s[0] = mem(p, PAGE, LWC_SHARE);
	s[1] = mem(q, PAGE, LWC_COPY);
	s[2] = files(f, f, LWC_UNMAP);
	s[3] = creds(LWC_COPY);
	for (i = 0; i < 2; i++) {
		a = server(s, 4, i == 0 ? 0 : LWC_PREFAULT);
		b = server(NULL, 0, 0);
		(void)go(a, &v, 0, 0);
		(void)go(b, &v, 0, 0);
		(void)lwControl(a, LWC_CONTROL_INTRODUCE, (uint64_t)b);
		(void)lwSyscall(b, LWC_MEMORY | LWC_FILES | LWC_CREDENTIALS,
		    SYS_getppid, args);
		s[2] = files(f, f, LWC_COPY);
		(void)lwOverlay(b, s, 4);
		(void)lwRestrict(b, s, 1);
		(void)lwGetlwc();
		(void)lwInfo(b, &li);
		s[2] = files(f, f, LWC_UNMAP);
		c = create(&v, NULL, 0, LWC_TRAP_SYSCALL);
		if (c == LWC_SWITCHED) {
			(void)getppid();
			/* _exit(2) is not one that returns. */
			for (;;)
				(void)raw(SYS_exit, 0, 0, 0, 0, 0, 0);
		}
		/* Its first call is answered, whichever that is. */
		if (c >= 0 && go(c, &v, 0, 0) == LWC_TRAPPED)
			(void)go(c, &v, 0, 0);
		c = create(&v, NULL, 0, LWC_TRAP_EXIT);
		if (c == LWC_SWITCHED)
			_exit(0);
		if (c >= 0)
			(void)go(c, &v, 0, 0);
		c = create(&v, NULL, 0, 0);
		if (c == LWC_SWITCHED)
			for (;;)
				continue;
		if (c >= 0)
			(void)go_until(c, after(5), &v, 0);
		(void)lwControl(b, LWC_CONTROL_DESTROY, 0);
		(void)close(a);
	}
	_exit(0);
}

#define	PASSES	24

/* Fails at the first passing, at the second, and so on while there is one. */
static void
walk(const char *point)
{
	int passes, pid, status;
	bool met;

	need_points();
	met = true;
	for (passes = 0; met && passes < PASSES; passes++) {
		pid = fork();
		REQUIRE(pid >= 0);
		if (pid == 0) {
			arm(point, passes, getpid());
			all_of_it();
		}
		REQUIRE(waitpid(pid, &status, 0) == pid);
		met = disarm(point);
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
			fprintf(stderr, "pass %d\n", passes);
			lwc_fail(__FILE__, __LINE__, "it hangs");
		}
	}
	if (passes < 2)
		lwc_fail(__FILE__, __LINE__, "the step is not made");
}

#define	WALK(point)							\
CASE(hold_fail_walk_##point,						\
    "Whichever time this step fails, nothing is harmed or left behind.")	\
{									\
									\
	walk(#point);							\
}

WALK(create)
WALK(vm_fork)
WALK(vm_charge)
WALK(vm_prepare)
WALK(vm_copy)
WALK(vm_prefault)
WALK(lazy_take)
WALK(lazy_give)
WALK(files_copy)
WALK(files_stage)
WALK(file_install)
WALK(desc_file)
WALK(user)
WALK(sysent)
WALK(stage_check)
WALK(stage_share)
WALK(cred)
WALK(introduce)
WALK(claim)
WALK(trap)
WALK(end)
WALK(deadline)
WALK(table)
WALK(process)
