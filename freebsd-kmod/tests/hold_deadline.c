/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * LWC_UNTIL holds: whatever the other context waits for, the deadline comes;
 * and what cannot be resumed costs nobody else anything.
 */

#include <sys/param.h>
#include <sys/event.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/procdesc.h>
#include <sys/random.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/umtx.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "lwc_test.h"

#define	MS	1000000ULL

static volatile uint64_t *word;

/* Within this time, and not much more. */
static void
times_out(int fd, uint64_t ms)
{
	struct visit v;
	uint64_t begun;

	begun = after(0);
	REQUIRE_ERRNO(ETIMEDOUT, go_until(fd, after(ms), &v, 0));
	REQUIRE(after(0) - begun >= ms * MS);
	REQUIRE(after(0) - begun < (ms + lenient(3000)) * MS);
}

static void
suspend(const sigset_t *set)
{

	for (;;)
		(void)sigsuspend(set);
}

CASE(hold_deadline_sigsuspend,
    "A deadline ends sigsuspend(2), whatever is blocked, guarded or not.")
{
	static const int flags[] = { 0, LWC_TRAP_FAULT, LWC_TRAP_EXIT,
	    LWC_TRAP_FAULT | LWC_TRAP_EXIT };
	struct visit v;
	sigset_t set;
	u_int i;
	int fd, way;

	for (i = 0; i < nitems(flags); i++)
		for (way = 0; way < 3; way++) {
			fd = create(&v, NULL, 0, flags[i]);
			if (fd == LWC_SWITCHED) {
				sigemptyset(&set);
				if (way == 1)
					sigfillset(&set);
				if (way == 2) {
					sigfillset(&set);
					(void)sigprocmask(SIG_SETMASK, &set,
					    NULL);
					sigemptyset(&set);
				}
				suspend(&set);
			}
			times_out(fd, 30);
			times_out(fd, 30);
			REQUIRE(close(fd) == 0);
		}
}

static volatile int caught;

static void
note(int sig __unused)
{

	caught++;
}

CASE(hold_deadline_sigsuspend_goes_on,
    "A sigsuspend(2) that was preempted takes its signal once it is resumed.")
{
	struct visit v;
	sigset_t most;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		(void)signal(SIGUSR1, note);
		sigemptyset(&most);
		sigaddset(&most, SIGUSR1);
		(void)sigprocmask(SIG_BLOCK, &most, NULL);
		sigfillset(&most);
		sigdelset(&most, SIGUSR1);
		while (caught == 0)
			if (sigsuspend(&most) != -1 || errno != EINTR)
				_exit(8);
		sigprocmask(SIG_SETMASK, NULL, &most);
		go(v.src, &v, caught, sigismember(&most, SIGUSR1) &&
		    !sigismember(&most, SIGTERM));
		_exit(9);
	}
	times_out(fd, 30);
	times_out(fd, 30);
	/* Blocked by nobody in this one: it has no handler, either. */
	(void)signal(SIGUSR1, note);
	if (fork() == 0) {
		usleep(300000);
		(void)kill(getppid(), SIGUSR1);
		_exit(0);
	}
	REQUIRE(go_until(fd, after(lenient(10000)), &v, 0) ==
	    LWC_SWITCHED);
	REQUIRE(v.a[0] == 1 && v.a[1] == 1 && caught == 0);
	REQUIRE(wait(NULL) > 0);
}

/* A context has a child, which waits for a word, and runs on itself. */
static void
has_child(bool spawn, int flags)
{
	struct visit v;
	int fd;

	word = shared_page();
	fd = create(&v, NULL, 0, flags);
	if (fd == LWC_SWITCHED) {
		if ((spawn ? rfork(RFSPAWN) : vfork()) == 0) {
			word[1] = 1;
			while (word[0] == 0)
				usleep(10000);
			_exit(0);
		}
		for (;;)
			continue;
	}
	/* It may take longer to have a child. */
	do
		times_out(fd, 50);
	while (word[1] == 0);
	word[0] = 1;
	REQUIRE(wait(NULL) > 0);
}

CASE(hold_deadline_vfork,
    "vfork(2) in a context does not make its parent wait out of a "
    "deadline's reach.")
{

	has_child(false, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
}

CASE(hold_deadline_spawn, "Nor does rfork(2) with RFSPAWN.")
{

	has_child(true, 0);
}

/* All kinds of waits that a signal would end. */
enum { PAUSE, SIGWAIT, SIGWAITINFO, SIGTIMEDWAIT, PPOLL, KEVENT, ACCEPT,
    RECEIVE, WRITE, LOCK, SEMAPHORE, UMTX, PDWAIT, SELECT, SLEEPS };

static void
sleep_in(int way, int *p, int file)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct timespec ts = { 1000, 0 };
	struct sembuf op = { 0, -1, 0 };
	struct kevent kev;
	sigset_t set;
	long futex = 0;
	char buf[PAGE];
	int id, pd, sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	memset(buf, 0, sizeof(buf));
	switch (way) {
	case PAUSE:
		(void)pause();
		break;
	case SIGWAIT:
		(void)sigwait(&set, &sig);
		break;
	case SIGWAITINFO:
		(void)sigwaitinfo(&set, NULL);
		break;
	case SIGTIMEDWAIT:
		(void)sigtimedwait(&set, NULL, &ts);
		break;
	case PPOLL:
		(void)ppoll(NULL, 0, &ts, &set);
		break;
	case KEVENT:
		EV_SET(&kev, 1, EVFILT_TIMER, EV_ADD, 0, 1000000, NULL);
		(void)kevent(kqueue(), &kev, 1, &kev, 1, &ts);
		break;
	case ACCEPT:
		id = socket(AF_UNIX, SOCK_STREAM, 0);
		(void)listen(id, 1);
		(void)accept(id, NULL, NULL);
		break;
	case RECEIVE:
		(void)recv(p[0], buf, 1, 0);
		break;
	case WRITE:
		while (write(p[0], buf, sizeof(buf)) > 0)
			continue;
		break;
	case LOCK:
		(void)fcntl(file, F_SETLKW, &fl);
		break;
	case SEMAPHORE:
		id = semget(IPC_PRIVATE, 1, 0600);
		word[1] = (uint64_t)id;
		(void)semop(id, &op, 1);
		break;
	case UMTX:
		(void)_umtx_op(&futex, UMTX_OP_WAIT, 0, NULL, NULL);
		break;
	case PDWAIT:
		if (pdfork(&pd, 0) == 0)
			for (;;)
				pause();
		(void)waitpid(-1, NULL, 0);
		break;
	case SELECT:
		(void)select(0, NULL, NULL, NULL, NULL);
		break;
	}
	/* Whatever comes of it: not back to whoever waits. */
	for (;;)
		(void)pause();
}

CASE(hold_deadline_sleeps,
    "A deadline ends sleeps of every kind that a signal ends.")
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct visit v;
	int fd, file, p[2], pid, way;

	word = shared_page();
	file = scratch();
	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, p) == 0);
	pid = fork();
	if (pid == 0) {
		REQUIRE(fcntl(file, F_SETLK, &fl) == 0);
		word[0] = 1;
		for (;;)
			pause();
	}
	while (word[0] == 0)
		usleep(1000);
	for (way = 0; way < SLEEPS; way++) {
		word[1] = UINT64_MAX;
		fd = create(&v, NULL, 0, way % 2 == 0 ? 0 : LWC_TRAP_FAULT);
		if (fd == LWC_SWITCHED)
			sleep_in(way, p, file);
		times_out(fd, 30);
		times_out(fd, 10);
		REQUIRE(close(fd) == 0);
		if ((int)word[1] != -1)
			(void)semctl((int)word[1], 0, IPC_RMID);
	}
	REQUIRE(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	/* That of pdfork(2) went with its descriptor. */
}

static volatile int leave;

static void *
thread(void *arg)
{

	while (!leave)
		usleep(5000);
	return (arg);
}

/* Switch back with a deadline, and tell how that went. */
static void
with_deadline(int home)
{
	struct visit v;
	int r;

	r = go_until(home, after(30), &v, 0);
	go(home, &v, (uint64_t)r, r == -1 ? (uint64_t)errno : 0);
	_exit(9);
}

CASE(hold_deadline_is_for_what_one_made,
    "A context's deadline does not suspend whoever runs it.")
{
	struct visit v;
	uint64_t until;
	int fd, in;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		with_deadline(v.src);
	gogo(fd, &v, 0, 0);
	until = after(300);
	while (after(0) < until)
		(void)getppid();
	REQUIRE(usleep(100000) == 0);
	/* It is we who resume it. */
	gogo(fd, &v, 0, 0);
	REQUIRE((int)v.a[0] == LWC_SWITCHED);
	REQUIRE(close(fd) == 0);
	/* Nor its sibling, nor its creator's creator; its own children do. */
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		with_deadline(v.src);
	gogo(fd, &v, 0, 0);
	in = create(&v, NULL, 0, 0);
	if (in == LWC_SWITCHED) {
		until = after(300);
		while (after(0) < until)
			continue;
		go(v.src, &v, 7, 0);
		_exit(9);
	}
	gogo(in, &v, 0, 0);
	REQUIRE(v.src == in && v.a[0] == 7);
	in = create(&v, NULL, 0, 0);
	if (in == LWC_SWITCHED)
		for (;;)
			continue;
	times_out(in, 30);
}

/* So many rounds in a twentieth of a second, at best of ten. */
static uint64_t
speed(void)
{
	uint64_t best, n, until;
	int i;

	for (best = 0, i = 0; i < 10; i++) {
		until = after(50);
		for (n = 0; after(0) < until; n++)
			continue;
		best = MAX(best, n);
	}
	return (best);
}

#define	WAITING	3000
#define	TRIES	20

CASE(hold_deadline_storm,
    "Many deadlines whose contexts cannot be resumed take no processor time.")
{
	struct lwc_spec s = files(-1, -1, LWC_SHARE);
	struct visit v;
	pthread_t t;
	uint64_t due, with, without;
	int fd, i, n;

	due = after(lenient(6000));
	word = shared_page();
	for (n = 0; n < WAITING && after(lenient(2000)) < due; n++) {
		fd = create(&v, &s, 1, 0);
		if (fd == LWC_SWITCHED) {
			(void)go_until(v.src, due, &v, 0);
			_exit(word[0] == 1 ? 0 : 8);
		}
		if (fd == -1)
			break;
		gogo(fd, &v, 0, 0);
	}
	REQUIRE(n > 100);
	REQUIRE(pthread_create(&t, NULL, thread, NULL) == 0);
	while (after(lenient(1000)) < due)
		usleep(10000);
	without = speed();
	while (after(0) < due)
		usleep(10000);
	usleep(200000);
	/* Others may be busy at the wrong moment; a storm lasts. */
	for (i = 0; i < TRIES; i++) {
		with = speed();
		if (with >= without * 2 / 3)
			break;
	}
	word[0] = 1;
	if (i == TRIES) {
		fprintf(stderr, "%d contexts: %ju rounds, not %ju\n", n,
		    (uintmax_t)with, (uintmax_t)without);
		lwc_fail(__FILE__, __LINE__, "a storm");
	}
	_exit(0);
}

#define	PIECES	64
#define	PIECE	(2 << 20)

/* So many bytes of zeros, in pieces of which each is the same memory. */
static ssize_t
read_pieces(int fd, off_t at)
{
	static struct iovec pieces[PIECES];
	static char *memory;
	int i;

	if (memory == NULL) {
		memory = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_ANON |
		    MAP_PRIVATE, -1, 0);
		REQUIRE(memory != MAP_FAILED);
		memset(memory, 'x', PIECE);
	}
	for (i = 0; i < PIECES; i++) {
		pieces[i].iov_base = memory;
		pieces[i].iov_len = PIECE;
	}
	return (at < 0 ? readv(fd, pieces, PIECES) :
	    preadv(fd, pieces, PIECES, at));
}

CASE(hold_deadline_read_in_pieces,
    "What a context reads at once is bounded, as nothing ends that before.")
{
	static const int flags[] = { 0, LWC_TRAP_FAULT | LWC_TRAP_EXIT };
	struct visit v;
	int fd, lwc;
	u_int i;

	fd = scratch();
	REQUIRE(ftruncate(fd, PIECES * PIECE) == 0);
	/* Not where nobody waits. */
	REQUIRE(read_pieces(fd, -1) == PIECES * PIECE);
	REQUIRE(read_pieces(fd, 0) == PIECES * PIECE);
	for (i = 0; i < nitems(flags); i++) {
		REQUIRE(lseek(fd, 0, SEEK_SET) == 0);
		lwc = create(&v, NULL, 0, flags[i]);
		if (lwc == LWC_SWITCHED) {
			REQUIRE(read_pieces(fd, -1) == PIECES * PIECE / 2);
			REQUIRE(read_pieces(fd, -1) == PIECES * PIECE / 2);
			REQUIRE(read_pieces(fd, -1) == 0);
			REQUIRE(read_pieces(fd, 0) == PIECES * PIECE / 2);
			REQUIRE(read_pieces(fd, PIECES * PIECE - 7) == 7);
			REQUIRE_ERRNO(EBADF, read_pieces(-1, -1));
			REQUIRE_ERRNO(EINVAL, readv(fd, NULL, -1));
			REQUIRE_ERRNO(EFAULT, readv(fd,
			    (struct iovec *)(uintptr_t)1, 2));
			(void)go(v.src, &v, 7, 0);
			_exit(9);
		}
		REQUIRE(lwc >= 0);
		REQUIRE(go(lwc, &v, 0, 0) == LWC_SWITCHED && v.a[0] == 7);
		close(lwc);
	}
}

CASE(hold_deadline_random_bytes,
    "Nor does getrandom(2) fill more than a MiB at once, but for the root.")
{
	const size_t much = 3 << 20;
	struct visit v;
	char *p;
	int fd;

	p = mmap(NULL, much, PROT_READ | PROT_WRITE, MAP_ANON | MAP_PRIVATE,
	    -1, 0);
	REQUIRE(p != MAP_FAILED);
	REQUIRE(getrandom(p, much, 0) == (ssize_t)much);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(getrandom(p, much, 0) == 1 << 20);
		REQUIRE(getrandom(p, 7, 0) == 7);
		(void)go(v.src, &v, 7, 0);
		_exit(9);
	}
	REQUIRE(fd >= 0);
	REQUIRE(go(fd, &v, 0, 0) == LWC_SWITCHED && v.a[0] == 7);
}
