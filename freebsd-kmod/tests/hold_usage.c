/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What a process has in all its contexts is told (kern.lwc.usage), and limits
 * are such that a machine can bear them.
 */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysctl.h>
#include <sys/wait.h>

#include <stdlib.h>

#include "lwc_test.h"

struct usage {
	int		contexts;
	uint64_t	size;
	uint64_t	resident;
	uint64_t	wired;
	u_int		uid;
};

/* A process's line; false if there is none. */
static bool
usage_of(pid_t pid, struct usage *u)
{
	uintmax_t resident, size, wired;
	char *line, *text;
	size_t len;
	int contexts, id;
	u_int uid;
	bool found;

	text = NULL;
	for (;;) {
		REQUIRE(sysctlbyname("kern.lwc.usage", NULL, &len, NULL, 0) ==
		    0);
		len += 4096;
		text = realloc(text, len);
		REQUIRE(text != NULL);
		if (sysctlbyname("kern.lwc.usage", text, &len, NULL, 0) == 0)
			break;
		REQUIRE(errno == ENOMEM);
	}
	found = false;
	for (line = strtok(text, "\n"); line != NULL && !found;
	    line = strtok(NULL, "\n")) {
		REQUIRE(sscanf(line, "%d %u %d %ju %ju %ju", &id, &uid,
		    &contexts, &size, &resident, &wired) == 6);
		if (id != pid)
			continue;
		found = true;
		u->contexts = contexts;
		u->size = size;
		u->resident = resident;
		u->wired = wired;
		u->uid = uid;
	}
	free(text);
	return (found);
}

#define	MANY	5
#define	DIRTY	(4UL << 20)

CASE(hold_usage_is_told,
    "kern.lwc.usage tells the memory of suspended contexts.")
{
	struct usage after_all, before, now;
	struct visit v;
	int fd[MANY], i;
	char *p;

	REQUIRE(!usage_of(getpid(), &now));
	p = mmap(NULL, DIRTY, PROT_READ | PROT_WRITE, MAP_ANON | MAP_PRIVATE,
	    -1, 0);
	REQUIRE(p != MAP_FAILED);
	i = lwGetlwc();
	REQUIRE(i >= 0 && close(i) == 0);
	REQUIRE(usage_of(getpid(), &before));
	REQUIRE(before.contexts == 1 && before.uid == getuid());
	REQUIRE(before.size >= before.resident && before.resident > 0);
	for (i = 0; i < MANY; i++) {
		fd[i] = create(&v, NULL, 0, 0);
		if (fd[i] == LWC_SWITCHED) {
			memset(p, 1, DIRTY);
			/* As seen from any of them. */
			REQUIRE(usage_of(getpid(), &now));
			for (;;)
				go(v.src, &v, now.contexts, now.resident);
		}
		REQUIRE(fd[i] >= 0);
		gogo(fd[i], &v, 0, 0);
		REQUIRE(v.a[0] == (uint64_t)i + 2);
		REQUIRE(v.a[1] >= (uint64_t)(i + 1) * DIRTY);
	}
	REQUIRE(usage_of(getpid(), &now));
	REQUIRE(now.contexts == MANY + 1);
	REQUIRE(now.size >= (MANY + 1) * (before.size / 2));
	REQUIRE(now.resident >= before.resident + MANY * DIRTY);
	for (i = 0; i < MANY; i++)
		REQUIRE(close(fd[i]) == 0);
	REQUIRE(usage_of(getpid(), &after_all));
	REQUIRE(after_all.contexts == 1);
	REQUIRE(after_all.resident < before.resident + DIRTY);
}

static volatile uint64_t *word;

CASE(hold_usage_while_they_come_and_go,
    "kern.lwc.usage can be read all the time while contexts come and go.")
{
	struct usage u;
	struct visit v;
	int fd, i, pid, status;

	word = shared_page();
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		while (word[0] == 0) {
			if (usage_of(getppid(), &u)) {
				REQUIRE(u.contexts >= 1 && u.contexts <= 3);
				word[1]++;
			}
		}
		_exit(0);
	}
	for (i = 0; i < 300 || word[1] < 20; i++) {
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED)
			for (;;)
				go(v.src, &v, 0, 0);
		REQUIRE(fd >= 0);
		gogo(fd, &v, 0, 0);
		gogo(fd, &v, 0, 0);
		REQUIRE(close(fd) == 0);
	}
	word[0] = 1;
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}

CASE(hold_usage_of_others,
    "kern.lwc.usage tells nobody of processes that are not to be seen.")
{
	struct usage u;
	int fd, old, pid, status;

	NEED_ROOT();
	old = set_sysctl("security.bsd.see_other_uids", 0);
	fd = lwGetlwc();
	REQUIRE(fd >= 0);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		REQUIRE(usage_of(getppid(), &u) && u.contexts == 1);
		REQUIRE(setgid(1001) == 0 && setuid(1001) == 0);
		_exit(usage_of(getppid(), &u) ? 1 : 0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	(void)old;
}

CASE(hold_usage_limits_fit_the_machine,
    "The default limits fit the machine and each other.")
{
	u_long pages, size;
	size_t len;

	len = sizeof(size);
	REQUIRE(sysctlbyname("hw.physmem", &size, &len, NULL, 0) == 0);
	pages = size / PAGE;
	REQUIRE(counter("max_per_proc") <= counter("max_per_user"));
	REQUIRE(counter("max_per_user") <= counter("max_contexts"));
	SKIP_UNLESS(counter("max_contexts") > 256, "set by hand, or tiny");
	/* Small ones take 35 pages each. */
	REQUIRE((u_long)counter("max_contexts") * 35 < pages / 2);
	REQUIRE((u_long)counter("max_per_user") * 35 < pages / 4);
	REQUIRE((u_long)counter("max_ranges_per_user") * 16 < size / 100);
}

CASE(hold_usage_of_large_tables,
    "A large descriptor table counts for several contexts.")
{
	struct rlimit rl;
	int fd, n, pid, status;

	NEED_ROOT();
	REQUIRE(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	SKIP_UNLESS(rl.rlim_cur > 12500, "RLIMIT_NOFILE is small");
	(void)set_sysctl("kern.lwc.max_per_user", 50);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		REQUIRE(setgid(1001) == 0 && setuid(1001) == 0);
		REQUIRE(dup2(0, 12000) == 12000);
		for (n = 0; n < 50; n++) {
			fd = lwCreate(NULL, 0, NULL, NULL, NULL, 0);
			REQUIRE(fd != LWC_SWITCHED);
			if (fd < 0)
				break;
		}
		_exit(errno == EAGAIN && n >= 5 && n <= 15 ? 0 : 1);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
}
