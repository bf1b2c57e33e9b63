/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * LWC_CONTROL_FROM: calls with a first argument from a number on, and what it
 * comes to beside LWC_CONTROL_ALLOW and LWC_CONTROL_BELOW.
 */

#include <sys/param.h>
#include <sys/capsicum.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <fcntl.h>
#include <limits.h>

#include "lwc_test.h"

static int64_t
from(const int *numbers, u_int n, uint64_t least)
{
	struct lwc_from f;

	f.calls = set_of(numbers, n);
	f.least = least;
	return (lwControl(LWC_SELF, LWC_CONTROL_FROM, (uintptr_t)&f));
}

static int64_t
from_one(int number, uint64_t least)
{

	return (from(&number, 1, least));
}

/* Made with numbers from the first of these to the last and no others. */
static void
is_within(int number, uint64_t first, uint64_t last)
{
	const uint64_t some[] = { 0, 1, first - 1, first, first + 1, last - 1,
	    last, last + 1, INT_MAX - 1, INT_MAX };
	static const uint64_t never[] = { 0x80000000, 0x80000001, UINT32_MAX,
	    (uint64_t)-1, (uint64_t)AT_FDCWD, HIGH | 0x80000000,
	    HIGH | UINT32_MAX };
	u_int i;
	uint64_t n;
	bool is;

	for (i = 0; i < nitems(some); i++) {
		/* What is before 0 or behind INT_MAX is below, negative. */
		n = (uint32_t)some[i];
		is = n >= first && n <= last && n <= INT_MAX;
		REQUIRE(is_made(number, n) == is);
		REQUIRE(is_made(number, HIGH | n) == is);
	}
	for (i = 0; i < nitems(never); i++)
		REQUIRE(!is_made(number, never[i]));
}

static void
is_never(int number)
{

	is_within(number, 2, 1);
}

CASE(hold_from_is_of_the_first_argument,
    "Calls from a number on are made with a first argument from it on and no "
    "other.")
{
	static const int calls[] = { SYS_read, SYS_fdatasync };
	static const int flags[] = { 0, LWC_TRAP_FAULT,
	    LWC_TRAP_FAULT | LWC_TRAP_EXIT };
	static const uint64_t least[] = { 0, 1, 7, 500, INT_MAX - 1, INT_MAX };
	struct visit v;
	u_int f, i, k;
	int fd;

	for (f = 0; f < nitems(flags); f++)
		for (i = 0; i < nitems(least); i++) {
			fd = create(&v, NULL, 0, flags[f]);
			if (fd == LWC_SWITCHED) {
				handle_denied();
				REQUIRE(from(calls, nitems(calls),
				    least[i]) == 0);
				for (k = 0; k < nitems(calls); k++)
					is_within(calls[k], least[i], INT_MAX);
				/* Of others the first argument is nothing. */
				REQUIRE(is_made(SYS_getuid, 0));
				REQUIRE(is_made(SYS_fstatfs, -1));
				go(v.src, &v, 1, 0);
				_exit(9);
			}
			gogo(fd, &v, 0, 0);
			REQUIRE(v.a[0] == 1 && close(fd) == 0);
		}
}

CASE(hold_from_only_narrows,
    "What is given later has no call made that was not before.")
{
	static const int both[] = { SYS_read, SYS_fdatasync };
	static const int rest[] = { SYS_read, SYS_write, SYS_sigreturn,
	    SYS_sigprocmask, SYS_fdatasync, SYS_exit };
	struct lwc_calls c;

	handle_denied();
	REQUIRE(from_one(SYS_read, 10) == 0);
	is_within(SYS_read, 10, INT_MAX);
	/* A set of all calls says nothing. */
	allow_all_but(-1);
	is_within(SYS_read, 10, INT_MAX);
	REQUIRE(is_made(SYS_fdatasync, 3));
	/* The highest number, of all of them. */
	REQUIRE(from(both, 2, 5) == 0);
	is_within(SYS_read, 10, INT_MAX);
	is_within(SYS_fdatasync, 10, INT_MAX);
	REQUIRE(from_one(SYS_fstatfs, 20) == 0);
	is_within(SYS_read, 20, INT_MAX);
	is_within(SYS_fdatasync, 20, INT_MAX);
	is_within(SYS_fstatfs, 20, INT_MAX);
	REQUIRE(from_one(SYS_fstatfs, 0) == 0);
	REQUIRE(from(NULL, 0, 0) == 0);
	is_within(SYS_fstatfs, 20, INT_MAX);
	/* Without a call the number counts all the same. */
	REQUIRE(from(NULL, 0, 30) == 0);
	is_within(SYS_fstatfs, 30, INT_MAX);
	/* What is not allowed is not, whatever its argument. */
	allow_all_but(SYS_read);
	is_never(SYS_read);
	is_within(SYS_fdatasync, 30, INT_MAX);
	REQUIRE(from_one(SYS_read, 0) == 0);
	REQUIRE(below_one(SYS_read, INT_MAX) == 0);
	is_never(SYS_read);
	/* A set that has it alone, neither. */
	c = set_of(rest, nitems(rest));
	REQUIRE(lwControl(LWC_SELF, LWC_CONTROL_ALLOW, (uintptr_t)&c) == 0);
	is_never(SYS_read);
	is_within(SYS_fdatasync, 30, INT_MAX);
	is_never(SYS_fstatfs);
	REQUIRE(!is_made(SYS_getuid, 0));
}

/* Both conditions, in either order: of one call, and each of one more alone. */
static void
both(bool from_first, uint64_t least, uint64_t limit)
{
	int i;

	handle_denied();
	for (i = 0; i < 2; i++) {
		if ((i == 0) == from_first) {
			REQUIRE(from_one(SYS_read, least) == 0);
			REQUIRE(from_one(SYS_fstatfs, least) == 0);
		} else {
			REQUIRE(below_one(SYS_read, limit) == 0);
			REQUIRE(below_one(SYS_fdatasync, limit) == 0);
		}
	}
	is_within(SYS_read, least, limit - 1);
	is_within(SYS_fstatfs, least, INT_MAX);
	is_within(SYS_fdatasync, 0, limit - 1);
	/* Later ones of either make it narrower, and not wider. */
	REQUIRE(from_one(SYS_read, 0) == 0);
	REQUIRE(below_one(SYS_read, INT_MAX) == 0);
	is_within(SYS_read, least, limit - 1);
	allow_all_but(-1);
	is_within(SYS_read, least, limit - 1);
	REQUIRE(below_one(SYS_fstatfs, limit) == 0);
	is_within(SYS_fstatfs, least, limit - 1);
	REQUIRE(from_one(SYS_fdatasync, least) == 0);
	is_within(SYS_fdatasync, least, limit - 1);
	allow_all_but(SYS_read);
	is_never(SYS_read);
	is_within(SYS_fstatfs, least, limit - 1);
}

CASE(hold_from_and_below_both_hold,
    "A call from a number on and below a limit is made between the two.")
{
	static const uint64_t pairs[][2] = { { 5, 10 }, { 0, 1 }, { 7, 8 },
	    { 400, INT_MAX }, { INT_MAX - 1, INT_MAX },
	    /* Nothing is between these. */
	    { 8, 8 }, { 10, 5 }, { INT_MAX, INT_MAX }, { 3, 1 } };
	struct visit v;
	u_int i;
	int fd, way;

	for (i = 0; i < nitems(pairs); i++)
		for (way = 0; way < 2; way++) {
			fd = create(&v, NULL, 0, 0);
			if (fd == LWC_SWITCHED) {
				both(way == 0, pairs[i][0], pairs[i][1]);
				go(v.src, &v, 1, 0);
				_exit(9);
			}
			gogo(fd, &v, 0, 0);
			REQUIRE(v.a[0] == 1 && close(fd) == 0);
		}
}

CASE(hold_from_alone_is_a_set,
    "Calls from a number on are an allowed set of all calls, and no way out "
    "of one.")
{
	static const int multiply[] = { SYS_fork, SYS_vfork, SYS_rfork,
	    SYS_pdfork, SYS_execve, SYS_fexecve };
	u_int i;

	handle_denied();
	REQUIRE(from(NULL, 0, 0) == 0);
	for (i = 0; i < nitems(multiply); i++)
		REQUIRE(!is_made(multiply[i], 0));
	REQUIRE(is_made(SYS_getuid, 0));
	REQUIRE(is_made(SYS_read, (uint64_t)-1));
	/* Numbers that have no call, and those past the table, are none. */
	REQUIRE(!is_made(LWC_CALLS_MAX, 0) && !is_made(UINT16_MAX, 0));
}

CASE(hold_from_is_refused_whole,
    "What cannot be read, or is no number, changes nothing.")
{
	struct lwc_from *last;
	struct visit v;
	char *two;
	int fd;

	handle_denied();
	REQUIRE_ERRNO(EINVAL, from_one(SYS_fdatasync, (uint64_t)INT_MAX + 1));
	REQUIRE_ERRNO(EINVAL, from_one(SYS_fdatasync, UINT32_MAX));
	REQUIRE_ERRNO(EINVAL, from_one(SYS_fdatasync, UINT64_MAX));
	REQUIRE_ERRNO(EINVAL, from_one(SYS_fdatasync, 1ULL << 32));
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_FROM, 0));
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_FROM,
	    UINT64_MAX - 8));
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_FROM,
	    0xffffffff80000000ULL));
	/* All of it but the number. */
	two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_ANON, -1, 0);
	REQUIRE(two != MAP_FAILED && munmap(two + PAGE, PAGE) == 0);
	last = (struct lwc_from *)(two + PAGE - sizeof(last->calls));
	memset(last, 0xff, sizeof(last->calls));
	REQUIRE_ERRNO(EFAULT, lwControl(LWC_SELF, LWC_CONTROL_FROM,
	    (uintptr_t)last));
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		_exit(9);
	REQUIRE_ERRNO(EINVAL, lwControl(fd, LWC_CONTROL_FROM,
	    (uintptr_t)two));
	REQUIRE(is_made(SYS_fdatasync, 0) && is_made(SYS_fdatasync, -1));
	/* There is no set either: this would be SIGSYS. */
	REQUIRE_ERRNO(EBUSY, raw(SYS_rfork, 0, 0, 0, 0, 0, 0));
}

CASE(hold_from_is_inherited,
    "Contexts that one with a least number makes have it, and one of their "
    "own.")
{
	struct visit v;
	int fd, home, kid;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		home = v.src;
		handle_denied();
		REQUIRE(from_one(SYS_fdatasync, 40) == 0);
		kid = create(&v, NULL, 0, 0);
		if (kid == LWC_SWITCHED) {
			handle_denied();
			is_within(SYS_fdatasync, 40, INT_MAX);
			REQUIRE(from_one(SYS_fdatasync, 300) == 0);
			is_within(SYS_fdatasync, 300, INT_MAX);
			go(v.src, &v, 0, 0);
			_exit(9);
		}
		gogo(kid, &v, 0, 0);
		is_within(SYS_fdatasync, 40, INT_MAX);
		go(home, &v, 1, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	handle_denied();
	REQUIRE(is_made(SYS_fdatasync, 0));
}

static uint64_t
narrows(uint64_t least)
{

	if (least != 0)
		REQUIRE(from_one(SYS_fdatasync, least) == 0);
	handle_denied();
	return (is_made(SYS_fdatasync, 100) | is_made(SYS_fdatasync, 300) << 1);
}

CASE(hold_from_is_rolled_back,
    "A rollback brings back what was narrowed, and no more.")
{
	int fd;

	fd = servant(narrows, 0);
	REQUIRE(ask(fd, 0) == 3);
	REQUIRE(snapshot(fd) == 0);
	REQUIRE(ask(fd, 200) == 2);
	REQUIRE(rollback(fd) >= 0);
	REQUIRE(ask(fd, 0) == 3);
	REQUIRE(ask(fd, 200) == 2 && snapshot(fd) == 0);
	REQUIRE(ask(fd, 400) == 0);
	REQUIRE(rollback(fd) >= 0);
	REQUIRE(ask(fd, 0) == 2);
	REQUIRE(close(fd) == 0);
}

CASE(hold_from_holds_for_the_modules_own,
    "The least number holds for lwSwitch() and for calls by lwSyscall().")
{
	uint64_t args[LWC_CALL_NARGS] = { 0 };
	struct visit v;
	int fd, high, n;

	handle_denied();
	n = lwc_switch_number();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 1, 0);
	REQUIRE(fd >= 0);
	high = fcntl(fd, F_DUPFD, 40);
	REQUIRE(high >= 40);
	REQUIRE(from_one(SYS_fdatasync, high) == 0);
	gogo(fd, &v, 0, 0);
	args[0] = high + 1;
	REQUIRE_ERRNO(EBADF, lwSyscall(fd, LWC_CREDENTIALS, SYS_fdatasync,
	    args));
	args[0] = high - 1;
	REQUIRE_ERRNO(EPERM, lwSyscall(fd, LWC_CREDENTIALS, SYS_fdatasync,
	    args));
	args[0] = (uint64_t)-1;
	REQUIRE_ERRNO(EPERM, lwSyscall(fd, LWC_CREDENTIALS, SYS_fdatasync,
	    args));
	REQUIRE(from_one(n, high) == 0);
	gogo(high, &v, 0, 0);
	REQUIRE_ERRNO(ENOSYS, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
	REQUIRE_ERRNO(ENOSYS, raw(SYS_syscall, n, fd, 0, 0, 0, 0));
	gogo(high, &v, 0, 0);
}

/* recvmsg(2) of a byte with room for a descriptor: that, -1, or -2 without. */
static int
received(int socket)
{
	union {
		struct cmsghdr	head;
		char		room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec piece;
	struct msghdr m;
	char byte;
	int fd;

	memset(&m, 0, sizeof(m));
	piece.iov_base = &byte;
	piece.iov_len = 1;
	m.msg_iov = &piece;
	m.msg_iovlen = 1;
	m.msg_control = &control;
	m.msg_controllen = sizeof(control);
	if (recvmsg(socket, &m, MSG_DONTWAIT) != 1)
		return (-1);
	if (CMSG_FIRSTHDR(&m) == NULL)
		return (-2);
	memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
	return (fd);
}

static void
sends(int socket, int fd)
{
	union {
		struct cmsghdr	head;
		char		room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec piece;
	struct msghdr m;
	char byte;

	memset(&m, 0, sizeof(m));
	memset(&control, 0, sizeof(control));
	byte = 'b';
	piece.iov_base = &byte;
	piece.iov_len = 1;
	m.msg_iov = &piece;
	m.msg_iovlen = 1;
	m.msg_control = &control;
	m.msg_controllen = sizeof(control);
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	REQUIRE(sendmsg(socket, &m, 0) == 1);
}

CASE(hold_from_keeps_out_what_a_peer_sends,
    "Descriptors come by the socket that is high enough, and by no other.")
{
	struct rlimit limit = { 64, 64 };
	char byte;
	int i, line[2], low, peer[2];

	handle_denied();
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, peer) == 0);
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, line) == 0);
	low = line[1];
	line[1] = fcntl(low, F_DUPFD, 64);
	REQUIRE(line[1] == 64);
	REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	REQUIRE(from_one(SYS_recvmsg, 64) == 0);
	for (i = 0; i < 3; i++)
		sends(peer[0], STDIN_FILENO);
	sends(line[0], STDIN_FILENO);
	/* Nor by other names of the line, nor at one that is made there. */
	REQUIRE_ERRNO(ENOSYS, received(peer[1]));
	REQUIRE_ERRNO(ENOSYS, received(low));
	REQUIRE_ERRNO(EBADF, dup2(peer[1], 64));
	REQUIRE_ERRNO(EBADF, dup2(peer[1], 65));
	REQUIRE_ERRNO(EINVAL, fcntl(peer[1], F_DUPFD, 64));
	/* The bytes come without. */
	REQUIRE(recv(peer[1], &byte, 1, 0) == 1 && byte == 'b');
	REQUIRE(read(peer[1], &byte, 1) == 1 && byte == 'b');
	REQUIRE(recvfrom(peer[1], &byte, 1, 0, NULL, NULL) == 1);
	REQUIRE_ERRNO(EAGAIN, recv(peer[1], &byte, 1, MSG_DONTWAIT));
	for (i = low + 1; i < 64; i++)
		REQUIRE_ERRNO(EBADF, fcntl(i, F_GETFD));
	i = received(64);
	REQUIRE(i > low && i < 64 && close(i) == 0);
}
