/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* What is seen of contexts: core dumps, procstat(1), lwInfo(), limits. */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysctl.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <signal.h>

#include "lwc_test.h"

/* Made at run time, so that it is in no other page of the program. */
static void
mark(char *p)
{
	int i;

	for (i = 0; i < 16; i++)
		p[i] = (char)(0x80 ^ (i * 37 + 11));
	p[16] = '\0';
}

static int
core_has_mark(const char *path)
{
	char want[20], *core;
	struct stat sb;
	size_t i;
	int fd, found;

	mark(want);
	fd = open(path, O_RDONLY);
	REQUIRE(fd >= 0 && fstat(fd, &sb) == 0 && sb.st_size > 0);
	core = mmap(NULL, sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	REQUIRE(core != MAP_FAILED);
	found = 0;
	for (i = 0; i + 16 <= (size_t)sb.st_size && !found; i += 16)
		found = memcmp(core + i, want, 16) == 0;
	(void)munmap(core, sb.st_size);
	close(fd);
	return (found);
}

/* Dump core in the root, or in a context that lacks the page. */
static int
dumped(int inside)
{
	struct lwc_spec s;
	struct rlimit rl;
	struct visit v;
	char *p, path[64], pattern[64];
	size_t len;
	int fd, status;
	pid_t pid;

	snprintf(pattern, sizeof(pattern), "/tmp/lwc-test.%%P.core");
	len = sizeof(path);
	REQUIRE(sysctlbyname("kern.corefile", path, &len, pattern,
	    strlen(pattern) + 1) == 0);
	pid = fork();
	if (pid == 0) {
		rl.rlim_cur = rl.rlim_max = RLIM_INFINITY;
		REQUIRE(setrlimit(RLIMIT_CORE, &rl) == 0);
		p = page();
		mark(p);
		s = mem(p, PAGE, LWC_UNMAP);
		fd = create(&v, &s, 1, 0);
		if (fd == LWC_SWITCHED)
			abort();
		if (!inside)
			abort();
		go(fd, &v, 0, 0);
		_exit(9);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	REQUIRE(sysctlbyname("kern.corefile", NULL, NULL, path, len) == 0);
	REQUIRE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	REQUIRE(WCOREDUMP(status));
	snprintf(path, sizeof(path), "/tmp/lwc-test.%d.core", (int)pid);
	status = core_has_mark(path);
	REQUIRE(unlink(path) == 0);
	return (status);
}

CASE(c6_4_a_core_dump_has_the_current_context,
    "A core dump has the current context's memory and nothing of the others'.")
{

	(void)set_sysctl("kern.coredump", 1);
	REQUIRE(dumped(0) == 1);
	REQUIRE(dumped(1) == 0);
}

/* Is the address in what procstat -v prints of a process? */
static int
mapped_in(pid_t pid, const void *p)
{
	int mib[4] = { CTL_KERN, KERN_PROC, KERN_PROC_VMMAP, pid };
	struct kinfo_vmentry *kve;
	char *at, *buf;
	size_t size;
	int found;

	size = 1 << 20;
	REQUIRE((buf = malloc(size)) != NULL);
	REQUIRE(sysctl(mib, 4, buf, &size, NULL, 0) == 0 && size > 0);
	found = 0;
	for (at = buf; at < buf + size; at += kve->kve_structsize) {
		kve = (struct kinfo_vmentry *)(void *)at;
		if (kve->kve_structsize == 0)
			break;
		found |= kve->kve_start <= (uintptr_t)p &&
		    (uintptr_t)p < kve->kve_end;
	}
	free(buf);
	return (found);
}

CASE(c6_4_the_map_is_the_current_contexts,
    "Another process that asks for the map (procstat -v) sees the current "
    "context's.")
{
	struct lwc_spec s;
	struct visit v;
	char c, *p;
	int fd, in[2], out[2];
	pid_t pid;

	p = page();
	REQUIRE(pipe(in) == 0 && pipe(out) == 0);
	pid = fork();
	if (pid == 0) {
		s = mem(p, PAGE, LWC_UNMAP);
		fd = create(&v, &s, 1, 0);
		if (fd == LWC_SWITCHED) {
			REQUIRE(write(out[1], "i", 1) == 1);
			REQUIRE(read(in[0], &c, 1) == 1);
			go(v.src, &v, 0, 0);
			_exit(9);
		}
		gogo(fd, &v, 0, 0);
		REQUIRE(write(out[1], "o", 1) == 1);
		REQUIRE(read(in[0], &c, 1) == 1);
		_exit(0);
	}
	REQUIRE(read(out[0], &c, 1) == 1 && c == 'i');
	REQUIRE(!mapped_in(pid, p));
	REQUIRE(write(in[1], "x", 1) == 1);
	REQUIRE(read(out[0], &c, 1) == 1 && c == 'o');
	REQUIRE(mapped_in(pid, p));
	REQUIRE(write(in[1], "x", 1) == 1);
	REQUIRE(waitpid(pid, &fd, 0) == pid && fd == 0);
}

CASE(c8_1_private_pages, "lwInfo() counts the pages that no other context has.")
{
	struct lwc_info before, after;
	struct visit v;
	char *p;
	int fd;

	p = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	REQUIRE(p != MAP_FAILED);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;) {
			memset(p, 1, 64 * PAGE);
			go(v.src, &v, 0, 0);
		}
	REQUIRE(lwInfo(fd, &before) == 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(lwInfo(fd, &after) == 0);
	REQUIRE(after.li_private >= before.li_private + 64);
	REQUIRE(after.li_resident >= after.li_private);
	REQUIRE(lwInfo(LWC_SELF, &before) == 0);
	memset(p, 2, 64 * PAGE);
	REQUIRE(lwInfo(LWC_SELF, &after) == 0);
	REQUIRE(after.li_private >= before.li_private + 64);
}

CASE(c9_1_contexts_of_the_system,
    "The limit on contexts of the system is kept: EAGAIN, and nothing is "
    "left behind.")
{
	struct visit v;
	int fds[3], limit;
	long objects;

	limit = (int)counter("contexts") + 2;
	fds[0] = create(&v, NULL, 0, 0);
	if (fds[0] == LWC_SWITCHED)
		_exit(9);
	(void)set_sysctl("kern.lwc.max_contexts", limit);
	fds[1] = create(&v, NULL, 0, 0);
	objects = counter("objects");
	REQUIRE_ERRNO(EAGAIN, fds[2] = lwCreate(NULL, 0, NULL, NULL, NULL, 0));
	REQUIRE(counter("objects") == objects);
	REQUIRE(close(fds[1]) == 0);
	fds[1] = create(&v, NULL, 0, 0);
	REQUIRE(fds[0] >= 0 && fds[1] >= 0);
}

CASE(c8_1_fstat,
    "fstat(2) tells which context a descriptor names, and nothing else.")
{
	struct lwc_info li;
	struct stat sb;
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		_exit(9);
	REQUIRE(fd >= 0);
	REQUIRE(lwInfo(fd, &li) == 0);
	REQUIRE(fstat(fd, &sb) == 0);
	REQUIRE(sb.st_ino == li.li_id && sb.st_uid == geteuid());
	REQUIRE(sb.st_size == 0 && sb.st_nlink == 0);
}
