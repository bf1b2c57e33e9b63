/*
 * A function that changes all that it can in all ways that it can think of,
 * and one that tells what a copy of it finds.  The tests in
 * orchestrator/tests/remains.rs run it: whoever was there before, a fresh copy
 * finds what the first one found.
 */

#define _GNU_SOURCE
#include "lwc_function.h"
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define	PAGE	4096UL
/* So far from shared memory are pages that a copy got when it was made. */
#define	NEAR	(64UL << 20)

/* Its own memory, which a copy has from its snapshot. */
static unsigned char own[65536];
static unsigned char *heap;
/* Of its file, and written before its snapshot. */
static unsigned char dropped[PAGE] __attribute__((aligned(4096))) = { 1 };
/* One mapping, as calls that take two pages of it see. */
#define	ROW	16
static unsigned char *row;

/* What was mapped when it was initialised. */
static struct area {
	uintptr_t	start, end;
	int		shared;
} areas[512];
static int nareas;
static uintptr_t lowest = UINTPTR_MAX, highest;

/* What is left for others to find: sixteen bytes that no program has. */
static void
marker(unsigned char *to)
{

	for (int i = 0; i < 16; i++)
		to[i] = (unsigned char)(0xa7 + 29 * i);
}

static int
is_marker(const volatile unsigned char *p)
{

	for (int i = 0; i < 16; i++)
		if (p[i] != (unsigned char)(0xa7 + 29 * i))
			return (0);
	return (1);
}

LWC_INIT(remains)
{
	char line[512];
	FILE *maps;

	dropped[0] = 2;
	row = mmap(NULL, ROW * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (row == MAP_FAILED)
		return (lwc_setup_fail(setup, 1, "mmap"));
	for (size_t i = 0; i < ROW; i++)
		row[i * PAGE] = 1;
	heap = malloc(4096);
	if (heap == NULL)
		return (lwc_setup_fail(setup, 1, "malloc"));
	memset(heap, 3, 4096);
	maps = fopen("/proc/self/maps", "r");
	while (maps != NULL && nareas < 512 &&
	    fgets(line, sizeof(line), maps) != NULL) {
		struct area *a = &areas[nareas];
		char perms[5];

		if (sscanf(line, "%lx-%lx %4s", &a->start, &a->end,
		    perms) != 3)
			continue;
		a->shared = perms[3] == 's';
		if (a->shared && a->start < lowest)
			lowest = a->start;
		if (a->shared && a->end > highest)
			highest = a->end;
		nareas++;
	}
	if (maps != NULL)
		fclose(maps);
	return (0);
}

/* The kernel reads the set before it looks at what to do with it. */
static int
readable(uintptr_t p)
{

	return (syscall(SYS_rt_sigprocmask, 99, p, NULL, 8L) == -1 &&
	    errno == EINVAL);
}

/* It writes the old set, which is empty: at a place that has zeros. */
static int
writable(uintptr_t p)
{

	return (syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, p, 8L) == 0);
}

/* The next page that may be shared: known to be, or not there at first. */
static uintptr_t
next_page(uintptr_t p)
{

	for (p += PAGE; p < highest + NEAR; p += PAGE) {
		int known = 0;

		for (int i = 0; i < nareas; i++)
			if (p >= areas[i].start && p < areas[i].end &&
			    !areas[i].shared) {
				p = areas[i].end - PAGE;
				known = 1;
				break;
			}
		if (!known && readable(p))
			return (p);
	}
	return (0);
}

/* Bytes of the area that begins at an address, or a part of one. */
static size_t
mapped(const void *from)
{
	uintptr_t at = (uintptr_t)from;

	for (int i = 0; i < nareas; i++)
		if (at >= areas[i].start && at < areas[i].end)
			return (areas[i].end - at);
	return (0);
}

static int
zeros(const volatile unsigned char *p, size_t n)
{

	for (size_t i = 0; i < n; i++)
		if (p[i] != 0)
			return (0);
	return (1);
}

static uint64_t
digest(const volatile unsigned char *p, size_t n)
{
	uint64_t h = 14695981039346656037UL;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 1099511628211UL;
	return (h);
}

static volatile int caught;

static void
catch(int number)
{

	(void)number;
	caught++;
}

static void
tell(lwc_invocation *inv, const char *format, ...)
{
	char text[256];
	va_list list;

	va_start(list, format);
	(void)vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	(void)say(inv, text);
}

/* A call that tells something, by what it says. */
#define	CALL(name, ...) do {						\
	memset(out, 0, sizeof(out));					\
	long rc = syscall(SYS_##name, __VA_ARGS__);			\
	tell(inv, "%s: %ld %d %lx\n", #name, rc, rc == -1 ? errno : 0,	\
	    (long)digest((unsigned char *)out, sizeof(out)));		\
} while (0)

#ifdef __x86_64__
/* A flag that only its own code changes (EFLAGS.ID), as it was. */
static int
flag(int change)
{
	unsigned long flags, bit = 1UL << 21;

	__asm__ volatile("pushfq; popq %0" : "=r"(flags));
	if (change)
		__asm__ volatile("pushq %0; popfq" : : "r"(flags ^ bit) : "cc");
	return ((flags & bit) != 0);
}
#else
static int
flag(int change)
{

	(void)change;
	return (0);
}
#endif

/* What a handler's page of its host has from here on nobody but it writes. */
#define	REQUEST_END	(160 + 64)

static int
look(lwc_invocation *inv)
{
	unsigned char *control, out[4096];
	size_t from = 0, marks = 0, bytes = 0, capacity;
	uintptr_t page;

	/* First of all, before anything here touches it. */
	for (size_t i = 0; i < inv->output_capacity; i++)
		bytes += inv->output[i] != 0;
	tell(inv, "== look\noutput: %zu bytes\n", bytes);
	/* Behind the bytes of a message, whatever is there. */
	capacity = inv->output_capacity;
	for (page = capacity, bytes = 0; page < mapped(inv->output);
	    page += PAGE)
		bytes += !zeros(inv->output + page, PAGE);
	tell(inv, "behind it: %zu pages\n", bytes);
	control = (unsigned char *)((uintptr_t)inv->id & ~(PAGE - 1));
	for (from = REQUEST_END, bytes = 0; from < 8 * PAGE; from++)
		if (control[from] != 0 && bytes++ < 4)
			tell(inv, "control page at %zu: %x\n", from,
			    control[from]);
	tell(inv, "control page: %zu bytes\n", bytes);
	for (from = inv->input_len, bytes = 0; from < PAGE; from++)
		bytes += inv->input[from] != 0;
	tell(inv, "behind the input: %zu bytes\n", bytes);
	for (page = lowest - NEAR; (page = next_page(page)) != 0;)
		for (size_t i = 0; i + 16 <= PAGE; i++)
			marks += (unsigned long)is_marker(
			    (volatile unsigned char *)page + i);
	tell(inv, "marks: %zu\n", marks);
	tell(inv, "dropped: %d, flag: %d\n", dropped[0], flag(0));
	for (size_t i = 0; i + 1 < ROW; i++)
		if (syscall(SYS_mremap, row + i * PAGE, 2 * PAGE, 3 * PAGE,
		    0L) == -1 && errno == EFAULT)
			tell(inv, "a border in the row: %zu\n", i);
	CALL(restart_syscall, 0L);
	tell(inv, "own memory: %lx %lx\n", (long)digest(own, sizeof(own)),
	    (long)digest(heap, 4096));

	for (int i = 1; i < 65; i++) {
		if (i == SIGKILL || i == SIGSTOP)
			continue;
		memset(out, 0, sizeof(out));
		if (syscall(SYS_rt_sigaction, (long)i, NULL, out, 8L) != 0)
			tell(inv, "sigaction %d: %d\n", i, errno);
		tell(inv, "%lx%s", (long)digest(out, 64) & 0xffff,
		    i % 16 ? " " : "\n");
	}
	tell(inv, "\n");
	CALL(rt_sigprocmask, (long)SIG_BLOCK, NULL, out, 8L);
	CALL(sigaltstack, NULL, out);
	CALL(sched_getaffinity, 0L, sizeof(out), out);
	CALL(brk, 0L);
	CALL(clock_getres, (long)CLOCK_MONOTONIC, out);
	/* How long it has computed, and whoever was here before. */
	CALL(clock_gettime, 2L /* CLOCK_PROCESS_CPUTIME_ID */, out);
	CALL(clock_gettime, 3L /* CLOCK_THREAD_CPUTIME_ID */, out);
	CALL(clock_gettime, (1L << 32) + 2, out);
	CALL(clock_gettime, (long)(~0UL << 3 | 2), out);
	CALL(clock_gettime, ~((long)getpid()) << 3 | 6, out);
	CALL(clock_nanosleep, 2L, 1L, &(struct timespec){ 0, 1 }, NULL);
	CALL(getrusage, (long)RUSAGE_SELF, out);
	CALL(times, out);
	/* Advice that costs others, or stays; of no bytes. */
	for (long advice = -1; advice < 200; advice++) {
		static const char taken[200] = {
			[4] = 1, [8] = 1, [14] = 1, [15] = 1, [16] = 1,
			[17] = 1, [22] = 1, [23] = 1,
		};

		if (syscall(SYS_madvise, row, 0L, advice) == 0 ||
		    errno != EPERM)
			if (advice < 0 || !taken[advice])
				tell(inv, "advice: %ld\n", advice);
		if (syscall(SYS_madvise, row, 0L, advice | 1L << 32) == 0 ||
		    errno != EPERM)
			if (advice < 0 || !taken[advice])
				tell(inv, "advice: 1 << 32 | %ld\n", advice);
	}
	CALL(getuid, 0L);
	CALL(getppid, 0L);
	/* These the sandbox refuses; should it not, they tell more. */
	CALL(rt_sigpending, out, 8L);
	CALL(getcwd, out, sizeof(out));
	CALL(umask, 022L);
	CALL(getpriority, 0L, 0L);
	CALL(ioprio_get, 1L, 0L);
	CALL(sched_getscheduler, 0L);
	CALL(sched_getattr, 0L, out, 56L, 0L);
	CALL(getrlimit, (long)RLIMIT_NOFILE, out);
	CALL(getrlimit, (long)RLIMIT_AS, out);
	CALL(getitimer, 0L, out);
	CALL(personality, 0xffffffffL);
	CALL(prctl, 16L /* PR_GET_NAME */, out);
	CALL(prctl, 30L /* PR_GET_TIMERSLACK */);
	CALL(prctl, 3L /* PR_GET_DUMPABLE */);
	CALL(prctl, 2L /* PR_GET_PDEATHSIG */, out);
	CALL(get_robust_list, 0L, out, out + 8);
	for (long fd = 0; fd < 8192; fd++) {
		long seals = syscall(SYS_fcntl, fd, 1034L /* F_GET_SEALS */);
		long at = syscall(SYS_lseek, fd, 0L, (long)SEEK_CUR);

		if (seals != -1 || at != -1)
			tell(inv, "descriptor %ld: %lx %lx\n", fd, seals, at);
	}
	/* Signals that were pending come now. */
	for (int i = 1; i < 65; i++) {
		struct sigaction action;

		memset(&action, 0, sizeof(action));
		action.sa_handler = catch;
		(void)sigaction(i, &action, NULL);
	}
	memset(out, 0xff, 8);
	(void)syscall(SYS_rt_sigprocmask, (long)SIG_UNBLOCK, out, NULL, 8L);
	tell(inv, "signals: %d\n", caught);
	return (inv->status);
}

static void
dirty(lwc_invocation *inv)
{
	static unsigned char stack[65536];
	unsigned char mark[16], *control;
	uintptr_t page;
	struct { long a, b; } two = { 5, 5 };
	char name[16] = "dirty";
	long all[2] = { -1, -1 };

	marker(mark);
	memset(own, 0x11, sizeof(own));
	memset(heap, 0x22, 4096);
	/* Into every hole of every page that it can write. */
	for (page = lowest - NEAR; (page = next_page(page)) != 0;)
		for (size_t i = 64; i + 64 <= PAGE; i += 64) {
			volatile unsigned char *p =
			    (volatile unsigned char *)page + i;

			if (!zeros(p, 64))
				continue;
			if (!writable(page + i))
				break;
			for (int k = 0; k < 16; k++)
				p[16 + k] = mark[k];
		}
	/* All of its messages' memory; lengths say that nothing is there. */
	memset(inv->output, 0xee, mapped(inv->output));
	control = (unsigned char *)((uintptr_t)inv->id & ~(PAGE - 1));
	memset(control + REQUEST_END, 0xee, 8 * PAGE - REQUEST_END);
	memset(control + 1024 + 144 + 8, 0, 8);		/* bytes of a log */
	memset(control + 1024 + 8, 0, 8);		/* of attributes */

	/* What it has from the kernel. */
	for (int i = 1; i < 65; i++)
		(void)signal(i, SIG_IGN);
	(void)syscall(SYS_rt_sigprocmask, (long)SIG_BLOCK, all, NULL, 8L);
	(void)syscall(SYS_sigaltstack, &(stack_t){ .ss_sp = stack,
	    .ss_size = sizeof(stack) }, NULL);
	(void)syscall(SYS_set_robust_list, own, 24L);
	(void)syscall(SYS_brk, syscall(SYS_brk, 0L) + 65536);
	(void)syscall(SYS_setpriority, 0L, 0L, 19L);
	(void)syscall(SYS_ioprio_set, 1L, 0L, 3L << 13);
	(void)syscall(SYS_sched_setscheduler, 0L, (long)SCHED_BATCH, &two);
	(void)syscall(SYS_sched_setaffinity, 0L, 8L, &(long){ 1 });
	(void)syscall(SYS_setitimer, 0L, &(struct { long t[4]; }){{ 9, 9, 9, 9 }},
	    NULL);
	(void)syscall(SYS_umask, 0L);
	(void)syscall(SYS_chdir, "/");
	(void)syscall(SYS_personality, 0x0040000L);
	(void)syscall(SYS_prctl, 15L /* PR_SET_NAME */, name);
	(void)syscall(SYS_prctl, 29L /* PR_SET_TIMERSLACK */, 1000000L);
	(void)syscall(SYS_prctl, 4L /* PR_SET_DUMPABLE */, 1L);
	(void)syscall(SYS_prctl, 1L /* PR_SET_PDEATHSIG */, 0L);
	(void)syscall(SYS_prctl, 35L /* PR_SET_MM */, 1L, 0L);
	(void)syscall(SYS_mlockall, 3L);
	(void)syscall(462L /* mseal(2) */, (uintptr_t)inv->input & ~(PAGE - 1),
	    PAGE, 0L);
	for (long fd = 0; fd < 8192; fd++) {
		(void)syscall(SYS_ftruncate, fd, 0L);
		(void)syscall(SYS_ftruncate, fd, 1L << 30);
		(void)syscall(SYS_fcntl, fd, 1033L /* F_ADD_SEALS */, 0x1fL);
		(void)syscall(SYS_lseek, fd, 7L, (long)SEEK_SET);
		(void)syscall(SYS_fallocate, fd, 3L, 0L, 1L << 30);
		(void)syscall(SYS_fchmod, fd, 0L);
		(void)syscall(SYS_flock, fd, 2L);
	}
	/* Pages that are in swap, or on their way, are somebody's still. */
	for (int i = 0; i < nareas; i++)
		if (areas[i].shared)
			(void)syscall(SYS_madvise, areas[i].start,
			    areas[i].end - areas[i].start, 21L /* PAGEOUT */);
}

/* By a second mapping of pages that it shares with its host. */
static void
mark_elsewhere(void)
{
	unsigned char mark[16];
	uintptr_t page;

	marker(mark);
	for (page = lowest - NEAR; (page = next_page(page)) != 0;) {
		unsigned char *second = (unsigned char *)syscall(SYS_mremap,
		    page, 0L, PAGE, (long)MREMAP_MAYMOVE);

		if (second == MAP_FAILED)
			continue;
		for (size_t i = 64; i + 64 <= PAGE; i += 64) {
			if (!zeros(second + i, 64))
				continue;
			if (!writable((uintptr_t)second + i))
				break;
			memcpy(second + i + 16, mark, 16);
		}
		(void)munmap(second, PAGE);
	}
}

/* One thing alone, of which no trace is to be found. */
static int
quietly(char how)
{

	switch (how) {
	case 'm':	/* mapping */
		mark_elsewhere();
		return (1);
	case 'd':	/* dropped */
		(void)madvise(dropped, PAGE, MADV_DONTNEED);
		return (1);
	case 'f':	/* flag */
		(void)flag(1);
		return (1);
	case 'b':	/* border */
		for (size_t i = 0; i < ROW; i += 5)
			(void)mmap(row + i * PAGE, PAGE,
			    PROT_READ | PROT_WRITE, MAP_PRIVATE |
			    MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
		return (1);
	case 's':	/* sleep */
		for (;;)
			(void)syscall(SYS_nanosleep,
			    &(struct timespec){ 3600, 0 }, NULL);
	default:
		return (0);
	}
}

LWC_HANDLER(remains)
{

	if (is(inv, "look"))
		return (look(inv));
	if (!is(inv, "dirty "))
		return (lwc_fail(inv, 400, "no such command"));
	char how = ((const char *)inv->input)[6];
	if (quietly(how))
		return (0);
	dirty(inv);
	if (how == 'c')
		*(volatile int *)(uintptr_t)(how - 'c') = 1;
	if (how == 'l')
		/* Its limits, which is nothing that an honest one tries. */
		(void)syscall(SYS_setrlimit, (long)RLIMIT_AS,
		    &(struct rlimit){ 0, 0 });
	while (how == 't')
		;
	return (0);
}
