/*
 * A function with threads.  The tests in orchestrator/tests/reach/threads.rs run it.
 * Its input is one command a line; each appends its results, in brackets:
 *
 *	make N		pthread_create(3) N times, all of them there at once, and joined:
 *			how many there were, and the errno of the first that failed
 *	again N		the same of one, N times, one after another
 *	sum N		N threads that add numbers up: the sum
 *	call N		N threads that call the function "echo": how many were answered
 *	log N		N threads that print a line each
 *	read N PATH	N threads that read a file, 100 times each: how many times it was "x\n"
 *	scratch N	N threads that write files of their own: how many found what they wrote
 *	memory N	N threads that allocate 1 MiB each and keep it
 *	detach		a thread that ends by itself while its maker sleeps
 *	leave		a thread that waits for ever is left behind
 *	spin		the same of one that never rests
 *	haunt		the same of one that writes "boo" wherever the note is, and makes others
 *	note		what the note says
 *	write TEXT	the note says this from now on
 *	late		a thread that answers while the handler waits for ever
 *	exit		a thread that ends the process
 *	fault		a thread that writes to nowhere
 *	flags N		clone(2) with the flags N: the errno
 *	clone3		clone3(2): the errno
 *	mremap		mremap(2): the errno
 *	action		sigaction(2) by a thread: 0 or an errno
 *	robust		set_robust_list(2): the errno
 *	twice		two threads that make others, again and again: whether there were ever
 *			more than eight
 *	relay		a thread is left behind that makes another one and ends, as that does
 *	slow N		N threads that call the function "slow", each twice: how many were
 *			answered
 *	beside		calls "slow" while a thread works
 *	storm N		N threads are left behind that make system calls and nothing else
 *	alone		a thread is left behind by one that exits alone
 */

#define _GNU_SOURCE
#include "lwc_function.h"
#include "row.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST	80

static lwc_invocation *now;
static char note[16] = "none";
static char path[256];
static atomic_int counted, there, most;
static atomic_bool go;

static void
say(const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	lwc_append(now, text, strlen(text));
}

static void *
wait_for_all(void *arg)
{

	(void)arg;
	atomic_fetch_add(&counted, 1);
	while (!atomic_load(&go))
		sched_yield();
	return (NULL);
}

static void *
add(void *arg)
{
	volatile long *sum = arg;

	for (long i = 1; i <= 1000; i++)
		*sum += i;
	return (NULL);
}

static void *
call_echo(void *arg)
{
	char text[32];
	lwc_reply reply;
	int len;

	for (int i = 0; i < 50; i++) {
		len = snprintf(text, sizeof(text), "%ld-%d", (long)arg, i);
		uint64_t ticket = lwc_call_start(now, "echo", text, (size_t)len, NULL);
		if (lwc_call_finish(now, ticket, &reply) == 0 &&
		    reply.len == (size_t)len && memcmp(reply.data, text, (size_t)len) == 0)
			atomic_fetch_add(&counted, 1);
	}
	return (NULL);
}

static void *
print(void *arg)
{

	printf("thread %ld says this and nothing else\n", (long)arg);
	lwc_log(now, LWC_INFO, "logged");
	return (NULL);
}

static void *
read_file(void *arg)
{
	char text[8];

	(void)arg;
	for (int i = 0; i < 100; i++) {
		int fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		if (read(fd, text, sizeof(text)) == 2 && memcmp(text, "x\n", 2) == 0)
			atomic_fetch_add(&counted, 1);
		close(fd);
	}
	return (NULL);
}

static void *
write_file(void *arg)
{
	char name[32], text[32], found[32];

	snprintf(name, sizeof(name), "/tmp/%ld", (long)arg);
	for (int i = 0; i < 20; i++) {
		int len = snprintf(text, sizeof(text), "%ld %d", (long)arg, i);
		int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
		if (fd >= 0 && write(fd, text, (size_t)len) == len &&
		    pread(fd, found, sizeof(found), 0) == len &&
		    memcmp(found, text, (size_t)len) == 0)
			atomic_fetch_add(&counted, 1);
		close(fd);
	}
	return (NULL);
}

static void *
allocate(void *arg)
{
	char *memory = malloc(1 << 20);

	(void)arg;
	if (memory != NULL) {
		memset(memory, 1, 1 << 20);
		atomic_fetch_add(&counted, 1);
	}
	return (NULL);
}

static void *
wait_for_ever(void *arg)
{
	pthread_mutex_t *lock = arg;

	pthread_mutex_lock(lock);
	return (NULL);
}

static void *
never_rest(void *arg)
{

	(void)arg;
	for (;;)
		__asm__ volatile("" ::: "memory");
	return (NULL);
}

static void *
haunt(void *arg)
{
	pthread_t next;

	(void)arg;
	for (int i = 0; i < 100000; i++)
		memcpy(note, "boo", 4);
	while (pthread_create(&next, NULL, haunt, NULL) != 0)
		sched_yield();
	return (NULL);
}

static void *
answer(void *arg)
{

	(void)arg;
	say("from a thread");
	return (NULL);
}

static void *
end(void *arg)
{

	(void)arg;
	_exit(3);
}

static void *
fault(void *arg)
{

	*(volatile int *)arg = 1;
	return (NULL);
}

static void
nothing(int signal)
{

	(void)signal;
}

static void *
action(void *arg)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = nothing;
	*(int *)arg = sigaction(SIGUSR1, &sa, NULL) == 0 ? 0 : errno;
	return (NULL);
}

static void *
leaf(void *arg)
{
	int now = atomic_fetch_add(&there, 1) + 1;
	int seen = atomic_load(&most);

	(void)arg;
	while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
		;
	sched_yield();
	atomic_fetch_sub(&there, 1);
	return (NULL);
}

static void *
tree(void *arg)
{
	pthread_t all[16];
	int n = 0;

	(void)arg;
	atomic_fetch_add(&there, 1);
	for (int i = 0; i < 50; i++) {
		for (n = 0; n < 16; n++)
			if (pthread_create(&all[n], NULL, leaf, NULL) != 0)
				break;
		while (n > 0)
			pthread_join(all[--n], NULL);
	}
	atomic_fetch_sub(&there, 1);
	return (NULL);
}

static void
haunt_once(void)
{

	memcpy(note, "boo", 4);
}

static void *
call_slow(void *arg)
{
	lwc_reply reply;

	(void)arg;
	for (int i = 0; i < 2; i++) {
		uint64_t ticket = lwc_call_start(now, "slow", "x", 1, NULL);
		if (lwc_call_finish(now, ticket, &reply) == 0 && reply.len == 1)
			atomic_fetch_add(&counted, 1);
	}
	return (NULL);
}

static void *
work(void *arg)
{

	(void)arg;
	while (!atomic_load(&go))
		atomic_fetch_add(&counted, 1);
	return (NULL);
}

static void *
storm(void *arg)
{

	for (;;)
		(void)mprotect(arg, 4096, PROT_READ | PROT_WRITE);
	return (NULL);
}

/* So many threads, each with its number: how many there were. */
static int
run(long n, void *(*body)(void *))
{
	pthread_t all[MOST];
	long i;

	atomic_store(&counted, 0);
	atomic_store(&go, false);
	for (i = 0; i < n && i < MOST; i++) {
		errno = pthread_create(&all[i], NULL, body, (void *)i);
		if (errno != 0)
			break;
	}
	int error = i < n ? errno : 0;
	if (body == wait_for_all)
		while (atomic_load(&counted) < i)
			sched_yield();
	atomic_store(&go, true);
	for (long j = 0; j < i; j++)
		pthread_join(all[j], NULL);
	errno = error;
	return ((int)i);
}

static void
one(void *(*body)(void *), void *arg, bool join)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, body, arg);
	if (errno != 0)
		say("[%d]", errno);
	else if (join)
		pthread_join(thread, NULL);
}

static void
command(const char *line)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	char word[16] = "", text[200] = "";
	long n = 0;

	(void)sscanf(line, "%15s %ld", word, &n);
	(void)sscanf(line, "%*s %199s", text);
	if (strcmp(word, "make") == 0) {
		int made = run(n, wait_for_all);
		say("[%d %d]", made, errno);
	} else if (strcmp(word, "again") == 0) {
		int made = 0;
		for (long i = 0; i < n; i++)
			made += run(1, wait_for_all);
		say("[%d]", made);
	} else if (strcmp(word, "sum") == 0) {
		static long sums[MOST];
		pthread_t all[MOST];
		long sum = 0;
		memset(sums, 0, sizeof(sums));
		for (long i = 0; i < n; i++)
			if (pthread_create(&all[i], NULL, add, &sums[i]) != 0)
				abort();
		for (long i = 0; i < n; i++) {
			pthread_join(all[i], NULL);
			sum += sums[i];
		}
		say("[%ld]", sum);
	} else if (strcmp(word, "call") == 0) {
		run(n, call_echo);
		say("[%d]", atomic_load(&counted));
	} else if (strcmp(word, "log") == 0) {
		say("[%d]", run(n, print));
	} else if (strcmp(word, "read") == 0) {
		(void)sscanf(line, "%*s %*d %255s", path);
		run(n, read_file);
		say("[%d]", atomic_load(&counted));
	} else if (strcmp(word, "scratch") == 0) {
		run(n, write_file);
		say("[%d]", atomic_load(&counted));
	} else if (strcmp(word, "memory") == 0) {
		run(n, allocate);
		say("[%d]", atomic_load(&counted));
	} else if (strcmp(word, "detach") == 0) {
		pthread_t thread;
		atomic_store(&counted, 0);
		atomic_store(&go, true);
		if (pthread_create(&thread, NULL, wait_for_all, NULL) == 0)
			pthread_detach(thread);
		while (atomic_load(&counted) == 0)
			sched_yield();
		usleep(50000);
		say("[%d]", atomic_load(&counted));
	} else if (strcmp(word, "leave") == 0) {
		pthread_mutex_lock(&lock);
		one(wait_for_ever, &lock, false);
		say("[left]");
	} else if (strcmp(word, "spin") == 0) {
		one(never_rest, NULL, false);
		say("[left]");
	} else if (strcmp(word, "haunt") == 0) {
		one(haunt, NULL, false);
		while (strcmp(note, "boo") != 0)
			sched_yield();
		say("[left]");
	} else if (strcmp(word, "note") == 0) {
		say("[%s]", note);
	} else if (strcmp(word, "write") == 0) {
		snprintf(note, sizeof(note), "%s", text);
	} else if (strcmp(word, "late") == 0) {
		one(answer, NULL, true);
		for (;;)
			sleep(1);
	} else if (strcmp(word, "exit") == 0) {
		one(end, NULL, true);
	} else if (strcmp(word, "fault") == 0) {
		one(fault, (void *)8, true);
	} else if (strcmp(word, "flags") == 0) {
		say("[%d]", syscall(SYS_clone, n, 0, 0, 0, 0) < 0 ? errno : 0);
	} else if (strcmp(word, "clone3") == 0) {
		say("[%d]", syscall(SYS_clone3, NULL, 0) < 0 ? errno : 0);
	} else if (strcmp(word, "mremap") == 0) {
		void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		say("[%d]", mremap(at, 4096, 8192, MREMAP_MAYMOVE) == MAP_FAILED ? errno : 0);
	} else if (strcmp(word, "action") == 0) {
		int error = -1;
		one(action, &error, true);
		say("[%d]", error);
	} else if (strcmp(word, "robust") == 0) {
		say("[%d]", syscall(SYS_set_robust_list, note, 24) < 0 ? errno : 0);
	} else if (strcmp(word, "twice") == 0) {
		atomic_store(&most, 0);
		atomic_store(&there, 0);
		run(2, tree);
		say("[%s]", atomic_load(&most) <= 8 ? "held" : "more");
	} else if (strcmp(word, "relay") == 0) {
		each_of_row = haunt_once;
		if (next_of_row(0) < 0)
			abort();
		while (strcmp(note, "boo") != 0)
			sched_yield();
		say("[left]");
	} else if (strcmp(word, "slow") == 0) {
		run(n, call_slow);
		say("[%d]", atomic_load(&counted));
	} else if (strcmp(word, "beside") == 0) {
		pthread_t thread;
		atomic_store(&go, false);
		if (pthread_create(&thread, NULL, work, NULL) != 0)
			abort();
		atomic_store(&counted, 0);
		(void)call_slow(NULL);
		atomic_store(&go, true);
		pthread_join(thread, NULL);
		say("[%s]", atomic_load(&counted) > 2 ? "worked" : "rested");
	} else if (strcmp(word, "storm") == 0) {
		void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (long i = 0; i < n; i++)
			one(storm, at, false);
		say("[left]");
	} else if (strcmp(word, "alone") == 0) {
		static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
		pthread_mutex_lock(&held);
		one(wait_for_ever, &held, false);
		for (;;)
			syscall(SYS_exit, 7);
	} else {
		say("[what?]");
	}
}

LWC_HANDLER(threads);

int
threads(lwc_invocation *inv)
{
	char line[512];
	const char *at = (const char *)inv->input, *past = at + inv->input_len;

	now = inv;
	while (at < past) {
		const char *end = memchr(at, '\n', (size_t)(past - at));
		size_t len = (size_t)((end == NULL ? past : end) - at);
		if (len >= sizeof(line))
			return (lwc_fail(inv, 400, "a line of 511 bytes at most"));
		memcpy(line, at, len);
		line[len] = '\0';
		command(line);
		at += len + 1;
	}
	return (0);
}

/* The callee: what it gets. */
LWC_HANDLER(echo);

int
echo(lwc_invocation *inv)
{

	return (lwc_append(inv, inv->input, inv->input_len));
}

/* A callee that takes longer than a look at who else runs. */
LWC_HANDLER(slow);

int
slow(lwc_invocation *inv)
{

	usleep(150000);
	return (lwc_append(inv, inv->input, inv->input_len));
}
