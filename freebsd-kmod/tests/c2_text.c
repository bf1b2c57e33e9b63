/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Clause 2.2 for file pages, which a new context maps anew (lwc_vm_lazy.c). */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/sysctl.h>
#include <sys/user.h>

#include <fcntl.h>

#include "lwc_test.h"

static const char constant[2 * PAGE] __aligned(PAGE) = { 'c' };

/* In the context: its own copy of a constant, made writable. */
CASE(c2_2_file_pages_are_private,
    "Text and constants are a context's own once they are written.")
{
	volatile char *p;
	struct visit v;
	int fd;

	p = __DECONST(char *, constant);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(p[0] == 'c' && p[PAGE] == 0);
		REQUIRE(mprotect(__DECONST(char *, constant), PAGE,
		    PROT_READ | PROT_WRITE) == 0);
		p[0] = 'x';
		REQUIRE(p[0] == 'x');
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	REQUIRE(fd >= 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(p[0] == 'c');
	/* And the other way round, with a copy in place at the creation. */
	REQUIRE(mprotect(__DECONST(char *, constant), PAGE,
	    PROT_READ | PROT_WRITE) == 0);
	p[0] = 'y';
	REQUIRE(mprotect(__DECONST(char *, constant), PAGE,
	    PROT_READ) == 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(p[0] == 'y' && p[PAGE] == 0);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
}

static void
own_path(char *path, size_t size)
{
	int mib[4] = { CTL_KERN, KERN_PROC, KERN_PROC_PATHNAME, -1 };

	REQUIRE(sysctl(mib, 4, path, &size, NULL, 0) == 0);
}

CASE(c2_2_a_running_program_is_busy,
    "A program cannot be written (ETXTBSY) as long as one context runs it.")
{
	char path[MAXPATHLEN];
	struct visit v;
	int fd;

	own_path(path, sizeof(path));
	REQUIRE(open(path, O_WRONLY) == -1);
	SKIP_UNLESS(errno != EACCES && errno != EROFS,
	    "may not write to lwc_test");
	REQUIRE(errno == ETXTBSY);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		/* The root goes, and with it its own count. */
		REQUIRE(close(v.src) == 0 || errno == EBADF);
		REQUIRE(open(path, O_WRONLY) == -1 && errno == ETXTBSY);
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED) {
			REQUIRE(open(path, O_WRONLY) == -1 &&
			    errno == ETXTBSY);
			_exit(0);
		}
		(void)lwDiscardSwitch(fd, NULL, 0);
		_exit(9);
	}
	REQUIRE(fd >= 0);
	(void)lwDiscardSwitch(fd, NULL, 0);
	_exit(9);
}

static size_t
entries(void)
{
	int mib[4] = { CTL_KERN, KERN_PROC, KERN_PROC_VMMAP, getpid() };
	char *buf, *p;
	size_t n, size;

	REQUIRE(sysctl(mib, 4, NULL, &size, NULL, 0) == 0);
	size *= 2;
	REQUIRE((buf = malloc(size)) != NULL);
	REQUIRE(sysctl(mib, 4, buf, &size, NULL, 0) == 0);
	for (n = 0, p = buf; p < buf + size; n++)
		p += *(int *)(void *)p;		/* kve_structsize */
	free(buf);
	return (n);
}

CASE(c2_2_creating_splits_nothing_twice,
    "Creating contexts again and again does not make the map grow.")
{
	struct visit v;
	size_t before;
	int fd, i;

	for (i = 0; i < 40; i++) {
		fd = create(&v, NULL, 0, 0);
		REQUIRE(fd >= 0);
		REQUIRE(close(fd) == 0);
		if (i == 0)
			before = entries();
	}
	REQUIRE(entries() == before);
}

/* The entry of the map that has this address. */
static struct lwc_spec
entry_of(const void *at, u_int option)
{
	int mib[4] = { CTL_KERN, KERN_PROC, KERN_PROC_VMMAP, getpid() };
	struct kinfo_vmentry *kv;
	char *buf, *p;
	size_t size;

	REQUIRE(sysctl(mib, 4, NULL, &size, NULL, 0) == 0);
	size *= 2;
	REQUIRE((buf = malloc(size)) != NULL);
	REQUIRE(sysctl(mib, 4, buf, &size, NULL, 0) == 0);
	for (p = buf; p < buf + size; p += kv->kve_structsize) {
		kv = (struct kinfo_vmentry *)(void *)p;
		if (kv->kve_start <= (uintptr_t)at &&
		    (uintptr_t)at < kv->kve_end)
			return (mem((void *)(uintptr_t)kv->kve_start,
			    kv->kve_end - kv->kve_start, option));
	}
	lwc_fail(__FILE__, __LINE__, "no entry");
}

CASE(c5_1_text_of_another,
    "Text that was overlaid from another context runs, and its program "
    "stays busy.")
{
	char path[MAXPATHLEN];
	struct lwc_spec s;
	struct visit v;
	int fd, i;

	own_path(path, sizeof(path));
	REQUIRE(open(path, O_WRONLY) == -1);
	SKIP_UNLESS(errno != EACCES && errno != EROFS,
	    "may not write to lwc_test");
	for (i = 0; i < 2; i++) {
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED)
			_exit(9);
		REQUIRE(fd >= 0);
		s = entry_of((const void *)(uintptr_t)entry_of,
		    i == 0 ? LWC_SHARE : LWC_COPY);
		REQUIRE(lwOverlay(fd, &s, 1) == 0);
		REQUIRE(close(fd) == 0);
		REQUIRE(open(path, O_WRONLY) == -1);
		/* A copy is memory, and no file's any more. */
		if (i == 0)
			REQUIRE(errno == ETXTBSY);
	}
}
