/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The published library's calls: what its own tests look at, and what they
 * leave out (every byte is compared here, and every return value).
 */

#include <sys/param.h>
#include <sys/capsicum.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fcntl.h>

#include "../sys/lwc_osdi16.h"
#include "lwc_test.h"

_Static_assert(sizeof(struct lwc_resource_specifier) == 24, "published size");
_Static_assert(__builtin_offsetof(struct lwc_resource_specifier,
    sub.memory.end) == 16, "published layout");
_Static_assert(__builtin_offsetof(struct lwc_resource_specifier,
    sub.descriptors.to) == 12, "published layout");
_Static_assert(LWC_RESOURCE_MEMORY == 1 && LWC_RESOURCE_FILES == 2 &&
    LWC_RESOURCE_CREDENT == 4 && LWC_RESOURCE_COPY == 0 &&
    LWC_RESOURCE_SHARE == 8 && LWC_RESOURCE_UNMAP == 0x10 &&
    LWC_RESOURCE_MAY_OVERLAY == 0x20 && LWC_TRAP_SYSCALL == 0x80 &&
    LWC_PREFAULT == 0x100 && LWC_SUSPEND_ONLY == 8 && LWC_FAILED == -1 &&
    LWC_SWITCHED == -2 && LWC_TRAPPED == -3 && LWC_TARGET_SELF == -1,
    "published values");

#define	ROUNDS	10

static struct lwc_resource_specifier
table(void)
{

	return (files(-1, -1, LWCR_SHARE));
}

static int
all(const char *p, size_t len, int value)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != value)
			return (0);
	return (1);
}

/* The lowest free descriptor. */
static int
lowest(void)
{
	int fd;

	fd = dup(0);
	REQUIRE(fd >= 0);
	close(fd);
	return (fd);
}

static void
rolled_back(int nspecs)
{
	struct lwc_resource_specifier s = table();
	char stack[PAGE], *heap;
	int64_t word = 41, in[2] = { 0 };
	int fd, *n, num, src;

	heap = page();
	n = shared_page();
	memset(heap, 1, PAGE);
	memset(stack, 1, PAGE);
	num = 2;
	fd = lwccreate(&s, nspecs, &src, in, &num, 0);
	if (fd >= 0) {
		heap[0] = 7;
		n[1] = fd;
		lwcdiscardswitch(fd, &word, 1);
		REQUIRE(!"came back");
	}
	REQUIRE(fd == LWC_SWITCHED && num == 1 && in[0] == 41 + n[0]);
	REQUIRE(all(heap, PAGE, 1) && all(stack, PAGE, 1));
	REQUIRE(lwcgetlwc() == n[1]);
	memset(heap, 2, PAGE);
	memset(stack, 2, PAGE);
	REQUIRE(lowest() == n[1] + 1);
	if (++n[0] < ROUNDS) {
		word = 41 + n[0];
		lwcdiscardswitch(n[1], &word, 1);
		REQUIRE(!"came back");
	}
	REQUIRE(n[0] == ROUNDS);
}

CASE(osdi16_a_context_that_discards_is_what_it_was,
    "A context of the paper's library that discards has its memory, stack "
    "and words of before.")
{

	rolled_back(0);
}

CASE(osdi16_also_with_one_descriptor_table,
    "The same holds with one shared descriptor table, which does not grow.")
{

	rolled_back(1);
}

CASE(osdi16_shared_pages_stay,
    "Every other page that is shared stays one page for all copies.")
{
	struct lwc_resource_specifier s[6];
	char *p;
	int fd, i, *n;

	p = mmap(NULL, 10 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	n = shared_page();
	for (i = 0; i < 5; i++)
		s[i] = mem(p + 2 * i * PAGE, PAGE, LWCR_SHARE);
	s[5] = table();
	memset(p, 1, 10 * PAGE);
	fd = lwccreate(s, 6, NULL, NULL, NULL, 0);
	if (fd >= 0)
		n[1] = fd;
	for (i = 0; i < 10; i++)
		REQUIRE(all(p + i * PAGE, PAGE, i % 2 != 0 ? 1 : 1 + n[0]));
	n[0]++;
	memset(p, 1 + n[0], 10 * PAGE);
	if (n[0] < ROUNDS) {
		lwcdiscardswitch(n[1], NULL, 0);
		REQUIRE(!"came back");
	}
}

CASE(osdi16_all_memory_is_not_the_stack,
    "A specifier from 0 to ~0 leaves the stack out.")
{
	struct lwc_resource_specifier s[2];
	static int data;
	char stack[64], *heap;
	int fd, home;

	heap = page();
	home = lwcgetlwc();
	s[0] = mem(NULL, 0, LWCR_SHARE);
	s[0].sub.memory.end = ~(uint64_t)0;
	s[1] = table();
	memset(stack, 1, sizeof(stack));
	fd = lwccreate(s, 2, NULL, NULL, NULL, 0);
	if (fd >= 0) {
		heap[1] = fd;
		REQUIRE(lwcsuspendswitch(fd, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED);
		REQUIRE(data == ROUNDS && heap[0] == ROUNDS);
		REQUIRE(all(stack, sizeof(stack), 1));
		return;
	}
	REQUIRE(fd == LWC_SWITCHED && all(stack, sizeof(stack), 1));
	memset(stack, 2, sizeof(stack));
	REQUIRE(heap[0] == data);
	heap[0] = ++data;
	lwcdiscardswitch(data < ROUNDS ? heap[1] : home, NULL, 0);
	REQUIRE(!"came back");
}

CASE(osdi16_suspending_saves,
    "What comes back is the state of the last suspension.")
{
	struct lwc_resource_specifier s = table();
	char *heap;
	int fd, home, i, *n, src;

	heap = page();
	n = shared_page();
	home = lwcgetlwc();
	fd = lwccreate(&s, 1, &src, NULL, NULL, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(src == home && heap[0] == 0);
		for (i = 1;; i++) {
			heap[0] = i;
			REQUIRE(lwcsuspendswitch(home, NULL, 0, &src, NULL,
			    NULL) == LWC_SWITCHED);
			REQUIRE(src == home && heap[0] == i);
			heap[0] = 99;
			n[0] = i;
			if (n[1]-- > 0)
				lwcdiscardswitch(home, NULL, 0);
		}
	}
	/* Twice on, three times back, twice on: by a copy now. */
	for (i = 1; i <= 9; i++) {
		if (i == 3)
			n[1] = 3;
		REQUIRE(lwcsuspendswitch(fd, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED);
		if (i <= 2)
			REQUIRE(n[0] == i - 1);
		else if (i <= 6)
			REQUIRE(n[0] == 2);
		else
			REQUIRE(n[0] == i - 4);
	}
}

CASE(osdi16_suspend_only_ends_with_a_discard,
    "A context that promised to suspend only ends when it discards.")
{
	struct lwc_resource_specifier s = table();
	int fd, home;

	home = lwcgetlwc();
	fd = lwccreate(&s, 1, NULL, NULL, NULL, LWC_SUSPEND_ONLY);
	if (fd == LWC_SWITCHED)
		lwcdiscardswitch(home, NULL, 0);
	REQUIRE(lwcsuspendswitch(fd, NULL, 0, NULL, NULL, NULL) ==
	    LWC_SWITCHED);
	REQUIRE_ERRNO(ESRCH, lwcsuspendswitch(fd, NULL, 0, NULL, NULL, NULL));
	REQUIRE(lwcclose(fd) == 0);
	REQUIRE_ERRNO(EBADF, lwcclose(fd));
	REQUIRE_ERRNO(EBADF, lwcclose(0));
}

CASE(osdi16_without_its_copy_it_ends,
    "A context whose copy was closed behind the library's back ends.")
{
	struct lwc_resource_specifier s = table();
	int fd, home, i;

	home = lwcgetlwc();
	for (i = 0; i < 2; i++) {
		fd = lwccreate(&s, i, NULL, NULL, NULL, 0);
		if (fd == LWC_SWITCHED) {
			/* In the shared table its own number stays. */
			closefrom(home + 1 + i);
			lwcdiscardswitch(home, NULL, 0);
			REQUIRE(!"came back");
		}
		REQUIRE(lwcsuspendswitch(fd, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED);
		REQUIRE_ERRNO(ESRCH, lwcsuspendswitch(fd, NULL, 0, NULL, NULL,
		    NULL));
		REQUIRE(lwcclose(fd) == 0);
	}
}

CASE(osdi16_to_itself,
    "A switch to oneself saves, and a discard to oneself goes back.")
{
	struct lwc_resource_specifier s = table();
	int64_t word = 5, in = 0;
	char *heap;
	int fd, *n, num = 1, src;

	heap = page();
	n = shared_page();
	REQUIRE_ERRNO(EINVAL, lwcsuspendswitch(lwcgetlwc(), NULL, 0, NULL,
	    NULL, NULL));
	fd = lwccreate(&s, 1, &src, NULL, NULL, 0);
	if (fd >= 0)
		lwcdiscardswitch(fd, NULL, 0);
	heap[0] = 1;
	REQUIRE(lwcsuspendswitch(lwcgetlwc(), &word, 1, &src, &in, &num) ==
	    LWC_SWITCHED);
	/* Of a copy that ended nothing is left to name. */
	REQUIRE(src == (n[0] < 2 ? lwcgetlwc() : -1));
	REQUIRE(num == 1 && in == 5 + n[0]);
	REQUIRE(heap[0] == 1);
	heap[0] = 2;
	word = 5 + ++n[0];
	if (n[0] < 3)
		lwcdiscardswitch(n[0] < 2 ? lwcgetlwc() : LWC_TARGET_SELF,
		    &word, 1);
	REQUIRE(n[0] == 3);
}

CASE(osdi16_one_number_for_a_context,
    "lwcgetlwc(), src and lwccreate() tell the same number for a context.")
{
	struct lwc_resource_specifier s = table();
	int a[4], home, i, *n, src;

	n = shared_page();
	home = lwcgetlwc();
	REQUIRE(home >= 0 && lwcgetlwc() == home);
	for (i = 0; i < 4; i++) {
		/* Both kinds, each with its own table and with ours. */
		a[i] = lwccreate(&s, i % 2, &src, NULL, NULL,
		    i < 2 ? 0 : LWC_SUSPEND_ONLY);
		if (a[i] == LWC_SWITCHED) {
			REQUIRE(src == home && lwcgetlwc() == n[i]);
			REQUIRE(lwcgetlwc() == n[i]);
			for (;;)
				lwcsuspendswitch(src, NULL, 0, &src, NULL,
				    NULL);
		}
		REQUIRE(a[i] > home);
		n[i] = a[i];
		REQUIRE(lwcsuspendswitch(a[i], NULL, 0, &src, NULL, NULL) ==
		    LWC_SWITCHED && src == a[i]);
	}
}

CASE(osdi16_a_visitor_of_what_was,
    "A visitor from before is known after a rollback, with words, in a "
    "table of its own.")
{
	int64_t in[16], out[16];
	int fd, home, i, num, src;

	home = lwcgetlwc();
	num = 16;
	fd = lwccreate(NULL, 0, &src, in, &num, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(num == LWC_OSDI16_MAX_ARGS);
		for (i = 0; i < num; i++)
			REQUIRE(in[i] == i * 3);
		/* Named is who came, not who went on to the keeper. */
		lwcdiscardswitch(src, in, 3);
		REQUIRE(!"came back");
	}
	for (i = 0; i < 16; i++)
		out[i] = i * 3;
	for (i = 0; i < ROUNDS; i++) {
		num = 16;
		REQUIRE(lwcsuspendswitch(fd, out, 15, &src, in, &num) ==
		    LWC_SWITCHED);
		REQUIRE(num == 3 && in[2] == 6);
	}
	REQUIRE_ERRNO(EINVAL, lwcsuspendswitch(fd, out, 16, NULL, NULL, NULL));
	REQUIRE_ERRNO(EINVAL, lwcdiscardswitch(fd, out, 16));
	REQUIRE_ERRNO(EINVAL, lwcdiscardswitch(fd, out, -1));
	REQUIRE_ERRNO(EFAULT, lwcdiscardswitch(fd, (int64_t *)1, 1));
	REQUIRE_ERRNO(EBADF, lwcdiscardswitch(1234, NULL, 0));
	REQUIRE(lwcgetlwc() == home);
}

CASE(osdi16_files_of_a_suspended_context,
    "Files that are absent in a context are overlaid, and again after a "
    "rollback.")
{
	struct lwc_resource_specifier s = table();
	struct stat sb;
	char c;
	int fd, i, *n, p[2], parent;

	n = shared_page();
	fd = lwccreate(NULL, 0, NULL, NULL, NULL, 0);
	if (fd >= 0) {
		n[0] = fd;
		lwcdiscardswitch(fd, NULL, 0);
	}
	/* What follows was opened after it was entered, and is its own. */
	parent = n[0];
	REQUIRE(pipe(p) == 0 && p[0] > parent);
	s = files(parent + 1, 1000, LWCR_UNMAP);
	fd = lwccreate(&s, 1, NULL, NULL, NULL, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE_ERRNO(EBADF, fstat(p[1], &sb));
		s = files(p[1], p[1], LWCR_COPY);
		REQUIRE(lwcoverlay(parent, &s, 1) == 0);
		REQUIRE(write(p[1], "x", 1) == 1);
		lwcdiscardswitch(parent, NULL, 0);
		REQUIRE(!"came back");
	}
	for (i = 0; i < ROUNDS; i++) {
		REQUIRE(lwcsuspendswitch(fd, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED);
		REQUIRE(read(p[0], &c, 1) == 1 && c == 'x');
	}
}

CASE(osdi16_memory_overlaid_into_holes,
    "Memory is overlaid where the target has holes, every other page.")
{
	struct lwc_resource_specifier s[5], u[2];
	char *p, *q;
	int fd, home, i, *n, one;

	n = shared_page();
	home = lwcgetlwc();
	p = mmap(NULL, 10 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE, -1, 0);
	u[0] = table();
	u[1] = mem(p, 10 * PAGE, LWCR_UNMAP);
	one = lwccreate(u, 1, NULL, NULL, NULL, LWC_SUSPEND_ONLY);
	if (one == LWC_SWITCHED)
		for (;;) {
			memset(p, 5, 10 * PAGE);
			lwcsuspendswitch(home, NULL, 0, NULL, NULL, NULL);
			REQUIRE(all(p, PAGE, 6) && all(p + PAGE, PAGE, 5));
		}
	REQUIRE(lwcsuspendswitch(one, NULL, 0, NULL, NULL, NULL) ==
	    LWC_SWITCHED);
	fd = lwccreate(u, 2, NULL, NULL, NULL, 0);
	if (fd == LWC_SWITCHED) {
		for (i = 0; i < 10; i++)
			REQUIRE(faults(p + i * PAGE, 0));
		for (i = 0; i < 5; i++)
			s[i] = mem(p + 2 * i * PAGE, PAGE, LWCR_SHARE);
		REQUIRE(lwcoverlay(one, s, 5) == 0);
		for (i = 0; i < 5; i++) {
			q = p + (2 * i + 1) * PAGE;
			REQUIRE(all(q - PAGE, PAGE, 5) && faults(q, 0));
			REQUIRE(mmap(q, PAGE, PROT_READ | PROT_WRITE,
			    MAP_ANON | MAP_PRIVATE | MAP_FIXED, -1, 0) == q);
		}
		memset(p, 6, 10 * PAGE);
		n[0]++;
		lwcdiscardswitch(home, NULL, 0);
		REQUIRE(!"came back");
	}
	for (i = 1; i <= 3; i++) {
		REQUIRE(lwcsuspendswitch(fd, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED && n[0] == i);
		REQUIRE(all(p, 10 * PAGE, 0));
		REQUIRE(lwcsuspendswitch(one, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED);
	}
}

CASE(osdi16_credentials_and_calls_for_another,
    "Credentials are overlaid, and lwcsyscall() acts for another context.")
{
	struct lwc_resource_specifier s[2];
	int64_t a[8] = { 0 };
	int fd, home, src;

	if (getuid() != 0)
		return;		/* the case is about giving root away */
	home = lwcgetlwc();
	s[0] = table();
	s[1] = creds(LWCR_MAY_OVERLAY);
	fd = lwccreate(s, 2, &src, NULL, NULL, LWC_SUSPEND_ONLY);
	if (fd == LWC_SWITCHED) {
		REQUIRE(setuid(1001) == 0 && getuid() == 1001);
		REQUIRE_ERRNO(EACCES, open("/dev/mem", O_RDONLY));
		lwcsuspendswitch(home, NULL, 0, NULL, NULL, NULL);
		s[0] = creds(LWCR_COPY);
		REQUIRE(lwcoverlay(home, s, 1) == 0 && getuid() == 0);
		lwcsuspendswitch(home, NULL, 0, NULL, NULL, NULL);
	}
	REQUIRE(lwcsuspendswitch(fd, NULL, 0, NULL, NULL, NULL) ==
	    LWC_SWITCHED && getuid() == 0);
	a[0] = (intptr_t)"/dev/mem";
	a[1] = O_RDONLY;
	REQUIRE_ERRNO(EACCES, lwcsyscall(fd, LWCR_CREDENT, SYS_open, a));
	src = lwcsyscall(fd, LWCR_MEMORY | LWCR_FILES, SYS_open, a);
	REQUIRE(src >= 0 && close(src) == 0);
	REQUIRE(lwcsuspendswitch(fd, NULL, 0, NULL, NULL, NULL) ==
	    LWC_SWITCHED);
	s[0] = creds(0);
	REQUIRE(lwcrestrict(fd, s, 1) == 0);
	REQUIRE_ERRNO(EACCES, lwcsyscall(fd, LWCR_CREDENT, SYS_open, a));
}

static void
in_the_child(void *arg)
{
	char *heap = arg;
	int fd;

	REQUIRE(all(heap, PAGE, 1));
	memset(heap, 2, PAGE);
	REQUIRE_ERRNO(EBADF, lwcdiscardswitch(heap == NULL ? -1 : 3, NULL, 0));
	fd = lwccreate(NULL, 0, NULL, NULL, NULL, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(all(heap, PAGE, 2));
		_exit(7);
	}
	REQUIRE(fd >= 0);
	memset(heap, 3, PAGE);
	lwcdiscardswitch(fd, NULL, 0);
}

CASE(osdi16_after_fork,
    "After fork(2) there is the current context alone, unlike the paper's, "
    "and it makes others.")
{
	char *heap;
	int fd, st;

	heap = page();
	memset(heap, 1, PAGE);
	fd = lwccreate(NULL, 0, NULL, NULL, NULL, 0);
	REQUIRE(fd == 3);
	st = status_of(in_the_child, heap);
	REQUIRE(WIFEXITED(st) && WEXITSTATUS(st) == 7);
	REQUIRE(all(heap, PAGE, 1));
}

CASE(osdi16_calls_trap_in_capability_mode_alone,
    "Calls trap in capability mode and are made before it.")
{
	int64_t in[11] = { 0 }, out[2];
	u_int mode;
	int fd, num, src;

	fd = lwccreate(NULL, 0, &src, NULL, NULL, LWC_TRAP_SYSCALL);
	if (fd == LWC_SWITCHED) {
		/* Nobody sees these; they act on this context. */
		REQUIRE(cap_getmode(&mode) == 0 && mode == 0);
		REQUIRE(umask(022) >= 0 && umask(022) == 022);
		REQUIRE(close(0) == 0 && close(0) == -1);
		REQUIRE(cap_enter() == 0);
		/* This one is allowed, the next is not. */
		REQUIRE(getpid() > 0);
		errno = 0;
		REQUIRE(syscall(SYS_chdir, "/") == -1 && errno == ERANGE);
		REQUIRE(syscall(SYS_chdir, "/") == 0);
		out[0] = 77;
		lwcsuspendswitch(src, out, 1, NULL, NULL, NULL);
	}
	num = 11;
	REQUIRE(lwcsuspendswitch(fd, NULL, 0, &src, in, &num) == LWC_TRAPPED);
	REQUIRE(src == fd && num == 9 && in[0] == SYS_chdir);
	REQUIRE(cap_getmode(&mode) == 0 && mode == 0 && dup(0) > 0);
	out[0] = ERANGE;
	out[1] = -1;
	num = 11;
	REQUIRE(lwcsuspendswitch(fd, out, 2, NULL, in, &num) == LWC_TRAPPED);
	out[0] = 0;
	out[1] = 0;
	num = 11;
	REQUIRE(lwcsuspendswitch(fd, out, 2, NULL, in, &num) == LWC_SWITCHED);
	REQUIRE(num == 1 && in[0] == 77);
}

CASE(osdi16_closing_leaves_nothing,
    "Closing a context leaves neither keepers nor numbers behind.")
{
	struct lwc_resource_specifier s = table();
	int before, fd, i, k, src;

	before = lowest();
	for (i = 0; i < 200; i++) {
		fd = lwccreate(&s, i % 2, &src, NULL, NULL, 0);
		if (fd == LWC_SWITCHED) {
			lwcdiscardswitch(src, NULL, 0);
			REQUIRE(!"came back");
		}
		for (k = 0; k < i % 4; k++)
			REQUIRE(lwcsuspendswitch(fd, NULL, 0, NULL, NULL,
			    NULL) == LWC_SWITCHED);
		REQUIRE(lwcclose(fd) == 0);
		REQUIRE(lowest() <= before + 3);
	}
	REQUIRE(counter("contexts") == 0);
}
