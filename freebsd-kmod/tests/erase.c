/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* lwControl(), LWC_CONTROL_ERASE: ours, beyond the contract. */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysctl.h>
#include <sys/wait.h>

#include <aio.h>
#include <fcntl.h>
#include <signal.h>

#include "lwc_test.h"

#define	PAGES	64

static char *area;

static char *
map(size_t pages, int flags)
{
	char *p;

	p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_ANON | flags,
	    -1, 0);
	REQUIRE(p != MAP_FAILED);
	return (p);
}

static int
erase(const void *p, size_t len)
{
	struct lwc_erase er = { (uint64_t)p, (uint64_t)p + len };

	return (lwControl(LWC_SELF, LWC_CONTROL_ERASE, (uint64_t)&er));
}

static bool
zeroes(const char *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != 0)
			return (false);
	return (true);
}

/* Pages that are in memory, which looking at the contents would change. */
static int
resident(const char *p, size_t pages)
{
	char vec[PAGES];
	size_t i;
	int n;

	REQUIRE(pages <= PAGES && mincore(p, pages * PAGE, vec) == 0);
	n = 0;
	for (i = 0; i < pages; i++)
		n += (vec[i] & MINCORE_INCORE) != 0;
	return (n);
}

/* Writes a byte of a page, by its number. */
static uint64_t
writes(uint64_t what)
{

	area[(what % PAGES) * PAGE + what / PAGES % PAGE] = 1;
	return (0);
}

CASE(erase_is_of_all_that_was_written,
    "LWC_CONTROL_ERASE zeroes what anybody wrote, and nothing else.")
{
	struct visit v;
	int fd, round;
	char *beside;

	area = map(PAGES + 2, MAP_SHARED);
	beside = area;
	area += PAGE;
	memset(beside, 7, PAGE);
	memset(area + PAGES * PAGE, 7, PAGE);
	fd = servant(writes, 0);
	for (round = 0; round < 3; round++) {
		/* The context, a child, a system call, and here. */
		gogo(fd, &v, 5 * PAGES + 3, 0);
		if (fork() == 0) {
			writes(17 * PAGES + 9);
			_exit(0);
		}
		REQUIRE(wait(NULL) > 0);
		REQUIRE(getentropy(area + 20 * PAGE, 256) == 0);
		writes(PAGE * PAGES - 1);
		REQUIRE(erase(area, PAGES * PAGE) == 0);
		REQUIRE(zeroes(area, PAGES * PAGE));
		REQUIRE(beside[PAGE - 1] == 7 && area[PAGES * PAGE] == 7);
	}
	/* A part. */
	writes(PAGES + 1);
	writes(PAGES + 2);
	writes(PAGES + 3);
	REQUIRE(erase(area + 2 * PAGE, PAGE) == 0);
	REQUIRE(area[PAGE + 1] == 1 && area[2 * PAGE + 1] == 0 &&
	    area[3 * PAGE + 1] == 1);
	REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
}

CASE(erase_takes_no_memory,
    "What nobody has used stays without memory.")
{
	area = map(PAGES, MAP_SHARED);
	REQUIRE(erase(area, PAGES * PAGE) == 0);
	REQUIRE(resident(area, PAGES) == 0);
	writes(3);
	writes(60);
	REQUIRE(resident(area, PAGES) == 2);
	REQUIRE(erase(area, PAGES * PAGE) == 0);
	REQUIRE(resident(area, PAGES) <= 2);
	REQUIRE(zeroes(area, PAGES * PAGE));
}

CASE(erase_finds_each_write,
    "Random writes by all, and all that forgets them in the page tables, "
    "between erasures.")
{
	struct visit v;
	uint64_t r;
	int fd, i, n, status;

	area = map(PAGES, MAP_SHARED);
	fd = servant(writes, 0);
	srandom(1);
	for (i = 0; i < 2000; i++) {
		for (n = random() % 6; n > 0; n--) {
			r = random();
			switch (random() % 7) {
			case 0:
				writes(r);
				break;
			case 1:
				gogo(fd, &v, r, 0);
				break;
			case 2:
				/* To read is not to write. */
				if (area[r % (PAGES * PAGE)] > 1)
					_exit(9);
				break;
			case 3:
				REQUIRE(madvise(area, PAGES * PAGE,
				    (r & 1) != 0 ? MADV_DONTNEED :
				    MADV_FREE) == 0);
				break;
			case 4:
				REQUIRE(mprotect(area, PAGES * PAGE,
				    PROT_READ) == 0);
				REQUIRE(mprotect(area, PAGES * PAGE,
				    PROT_READ | PROT_WRITE) == 0);
				break;
			case 5:
				REQUIRE(mlock(area + r % PAGES * PAGE, PAGE) ==
				    0);
				writes(r);
				if ((r & PAGES) != 0)
					REQUIRE(munlock(area + r % PAGES * PAGE,
					    PAGE) == 0);
				break;
			case 6:
				if (random() % 16 != 0)
					break;
				if (fork() == 0) {
					writes(r);
					_exit(0);
				}
				REQUIRE(wait(&status) > 0 && status == 0);
				break;
			}
		}
		if (erase(area, PAGES * PAGE) != 0) {
			REQUIRE(errno == EBUSY);
			memset(area, 0, PAGES * PAGE);
		}
		REQUIRE(zeroes(area, PAGES * PAGE));
	}
	REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
}

static void
read_late(void *arg)
{
	struct aiocb io = { 0 }, *one;
	const struct aiocb *all;
	int fds[2], i;

	(void)arg;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
		_exit(2);
	area = map(PAGES, MAP_SHARED);
	for (i = 0; i < 20; i++) {
		io.aio_fildes = fds[0];
		io.aio_buf = area + i * PAGE;
		io.aio_nbytes = PAGE;
		writes(i);
		if (aio_read(&io) != 0)
			_exit(3);
		if (erase(area, PAGES * PAGE) != 0 && errno != EBUSY)
			_exit(4);
		if (write(fds[1], "later", 5) != 5)
			_exit(5);
		all = &io;
		if (aio_suspend(&all, 1, NULL) != 0 ||
		    aio_waitcomplete(&one, NULL) != 5)
			_exit(6);
		if (memcmp(area + i * PAGE, "later", 5) != 0)
			_exit(7);
		if (erase(area, PAGES * PAGE) != 0)
			memset(area, 0, PAGES * PAGE);
		if (!zeroes(area, PAGES * PAGE))
			_exit(8);
	}
	_exit(0);
}

CASE(erase_finds_what_was_read_meanwhile,
    "What a read that was begun before an erasure brings is there after it, "
    "and gone after the next.")
{
	int status;

	status = status_of(read_late, NULL);
	SKIP_UNLESS(!WIFEXITED(status) || WEXITSTATUS(status) != 3,
	    "no aio_read(2) of a socket here");
	REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

CASE(erase_of_other_than_shared_memory,
    "What is not shared anonymous memory, or not the context's to write, is "
    "refused and stays.")
{
	struct lwc_erase er;
	char *p, *private;
	int fd;

	area = map(8, MAP_SHARED);
	memset(area, 5, 8 * PAGE);
	p = area;
	/* Arguments. */
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_ERASE, 0));
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_ERASE,
	    0xffffffff80000000ULL));
	er.start = (uint64_t)p;
	er.end = er.start + PAGE;
	REQUIRE_ERRNO(EINVAL, lwControl(lwGetlwc(), LWC_CONTROL_ERASE,
	    (uint64_t)&er));
	REQUIRE_ERRNO(EINVAL, erase(p, 0));
	REQUIRE_ERRNO(EINVAL, erase(p, 1));
	REQUIRE_ERRNO(EINVAL, erase(p + 1, PAGE));
	REQUIRE_ERRNO(EINVAL, erase(p, -PAGE));
	REQUIRE_ERRNO(E2BIG, erase(p, LWC_ERASE_MAX + PAGE));
	REQUIRE_ERRNO(EINVAL, erase((void *)0xffffffff80000000ULL, PAGE));
	REQUIRE_ERRNO(EINVAL, erase((void *)(0x800000000000ULL - PAGE),
	    2 * PAGE));
	REQUIRE_ERRNO(EINVAL, erase(NULL, PAGE));
	/* Not shared; not all of it. */
	private = map(2, MAP_PRIVATE);
	memset(private, 5, 2 * PAGE);
	REQUIRE_ERRNO(EINVAL, erase(private, 2 * PAGE));
	REQUIRE(mmap(p + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE | MAP_FIXED, -1, 0) == p + 4 * PAGE);
	p[4 * PAGE] = 5;
	REQUIRE_ERRNO(EINVAL, erase(p, 8 * PAGE));
	REQUIRE(munmap(p + 4 * PAGE, PAGE) == 0);
	REQUIRE_ERRNO(EINVAL, erase(p, 8 * PAGE));
	/* Not to be written. */
	REQUIRE(mprotect(p + 2 * PAGE, PAGE, PROT_READ) == 0);
	REQUIRE_ERRNO(EACCES, erase(p, 4 * PAGE));
	REQUIRE(mprotect(p + 2 * PAGE, PAGE, PROT_NONE) == 0);
	REQUIRE_ERRNO(EACCES, erase(p, 4 * PAGE));
	REQUIRE(mprotect(p + 2 * PAGE, PAGE, PROT_READ) == 0);
	REQUIRE(p[0] == 5 && p[2 * PAGE] == 5 && p[4 * PAGE - 1] == 5 &&
	    private[0] == 5 && private[2 * PAGE - 1] == 5);
	/* A file, and shared memory with a name. */
	fd = scratch();
	REQUIRE(ftruncate(fd, PAGE) == 0);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(p != MAP_FAILED);
	p[0] = 5;
	REQUIRE_ERRNO(EINVAL, erase(p, PAGE));
	REQUIRE(p[0] == 5);
	fd = shm_open(SHM_ANON, O_RDWR, 0600);
	REQUIRE(fd >= 0 && ftruncate(fd, PAGE) == 0);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(p != MAP_FAILED);
	p[0] = 5;
	REQUIRE_ERRNO(EINVAL, erase(p, PAGE));
	REQUIRE(p[0] == 5);
	/* The rest of the area is still there to be erased. */
	REQUIRE(erase(area, 2 * PAGE) == 0 && zeroes(area, 2 * PAGE) &&
	    area[3 * PAGE] == 5);
}

/* In memory that it has to read alone. */
static uint64_t
tries(uint64_t what)
{

	return (erase(area, what * PAGE) == 0 ? 0 : errno);
}

CASE(erase_is_no_way_past_rights,
    "A context erases nothing that was taken from it, or that it only reads.")
{
	struct lwc_spec sp;
	struct visit v;
	int fd;

	area = map(4, MAP_SHARED);
	memset(area, 5, 4 * PAGE);
	sp = mem(area, PAGE, LWC_UNMAP);
	fd = create(&v, &sp, 1, 0);
	if (fd == LWC_SWITCHED) {
		(void)mprotect(area + PAGE, 3 * PAGE, PROT_READ);
		for (;;) {
			v.a[0] = tries(v.a[0]);
			area += PAGE;
			go(v.src, &v, v.a[0], 0);
		}
	}
	gogo(fd, &v, 1, 0);
	REQUIRE(v.a[0] == EINVAL);
	gogo(fd, &v, 3, 0);
	REQUIRE(v.a[0] == EACCES);
	REQUIRE(area[0] == 5 && area[PAGE] == 5 && area[4 * PAGE - 1] == 5);
	REQUIRE(lwControl(fd, LWC_CONTROL_DESTROY, 0) == 0);
}
