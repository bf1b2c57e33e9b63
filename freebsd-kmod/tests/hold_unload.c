/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* The module does not go while a process needs it, nor halfway. */

#include <sys/param.h>
#include <sys/linker.h>
#include <sys/module.h>
#include <sys/wait.h>

#include <signal.h>

#include "lwc_test.h"

static void
sys(int sig __unused)
{

}

static int
number_of(const char *name)
{
	struct module_stat ms;

	ms.version = sizeof(ms);
	REQUIRE(modstat(modfind(name), &ms) == 0);
	return (ms.data.intval);
}

/* Stay in lwRestrict(2), so that whoever takes it away has to wait. */
static void
keep_busy(int number)
{
	static struct lwc_spec s[LWC_MAX_SPECS];
	int i;

	(void)signal(SIGSYS, SIG_IGN);
	for (i = 0; i < LWC_MAX_SPECS; i++)
		s[i] = mem((void *)((2 * i + 1) * (uintptr_t)PAGE), PAGE, 0);
	for (;;)
		(void)raw(number, LWC_SELF, (uintptr_t)s, LWC_MAX_SPECS, 0, 0,
		    0);
}

/* Make a context in the middle of it. */
static int
come_late(int number)
{
	int64_t fd;
	int i, src;

	(void)signal(SIGSYS, sys);
	while (modfind("sys/lwSyscall") >= 0)
		continue;
	fd = raw(number, 0, 0, (uintptr_t)&src, 0, 0, 0);
	/* Until it is gone, if it goes. */
	usleep(1500000);
	for (i = 0; i < 1000; i++)
		(void)getppid();
	return (fd >= 0 ? 1 : errno == ENOSYS || errno == EBUSY ? 0 : 2);
}

CASE(hold_unload_meets_a_creation,
    "When an unload meets a creation, one of them fails.")
{
	struct kld_file_stat st;
	int creates, error, id, keeper, late, restricts, status, try;

	NEED_ROOT();
	id = kldfind("lwc.ko");
	st.version = sizeof(st);
	SKIP_UNLESS(id > 0 && kldstat(id, &st) == 0, "lwc.ko is no file");
	SKIP_UNLESS(access(st.pathname, R_OK) == 0,
	    "the module's file is not there to load it again");
	for (try = 0; try < 2; try++) {
		id = kldfind("lwc.ko");
		REQUIRE(id > 0);
		creates = number_of("sys/lwCreate");
		restricts = number_of("sys/lwRestrict");
		keeper = fork();
		if (keeper == 0)
			keep_busy(restricts);
		late = fork();
		if (late == 0)
			_exit(come_late(creates));
		usleep(300000);
		error = kldunload(id) == 0 ? 0 : errno;
		if (error != 0) {
			/* The one that is busy has a record. */
			(void)kill(keeper, SIGKILL);
			(void)waitpid(keeper, NULL, 0);
			REQUIRE(settles("processes", 0));
			error = kldunload(id) == 0 ? 0 : errno;
		}
		if (error == 0 && kldload(st.pathname) < 0)
			lwc_fail(__FILE__, __LINE__, "is not loaded again");
		(void)kill(keeper, SIGKILL);
		(void)waitpid(keeper, NULL, 0);
		(void)kill(late, error == 0 ? SIGCONT : SIGKILL);
		REQUIRE(waitpid(late, &status, 0) == late);
		if (error == 0)
			REQUIRE(status == 0);
	}
}

static void
with_record(int way)
{

	switch (way) {
	case 1:
		REQUIRE(lwGetlwc() >= 0);
		break;
	case 2:
		REQUIRE(close(lwGetlwc()) == 0);
		break;
	case 3:
		REQUIRE(close(lwCreate(NULL, 0, NULL, NULL, NULL, 0)) == 0);
		break;
	}
}

CASE(hold_unload_waits_for_records,
    "The module is busy as long as a process lives that made one of its calls.")
{
	struct kld_file_stat st;
	int force, id, in[2], out[2], pid, status, way;
	char c;

	NEED_ROOT();
	id = kldfind("lwc.ko");
	st.version = sizeof(st);
	SKIP_UNLESS(id > 0 && kldstat(id, &st) == 0, "lwc.ko is no file");
	for (way = 1; way < 4; way++) {
		REQUIRE(pipe(in) == 0 && pipe(out) == 0);
		pid = fork();
		if (pid == 0) {
			with_record(way);
			REQUIRE(write(out[1], "x", 1) == 1);
			REQUIRE(read(in[0], &c, 1) == 1);
			_exit(0);
		}
		REQUIRE(read(out[0], &c, 1) == 1);
		for (force = 0; force < 2; force++) {
			if (kldunloadf(id, force ? LINKER_UNLOAD_FORCE :
			    LINKER_UNLOAD_NORMAL) == 0) {
				(void)kldload(st.pathname);
				lwc_fail(__FILE__, __LINE__, "was unloaded");
			}
			REQUIRE(errno == EBUSY);
		}
		/* And nothing of it is gone. */
		REQUIRE(modfind("sys/lwCreate") > 0);
		REQUIRE(modfind("sys/lwSyscall") > 0);
		REQUIRE(write(in[1], "x", 1) == 1);
		REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	}
}
