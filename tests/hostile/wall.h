/*
 * What a hostile function needs to attack the wall between contexts on the
 * process backend of Linux: the pages that it shares with others, a way to run
 * on after it has answered, and bare system calls.
 *
 * Nothing here knows how the backend lays out its pages.  They are found by
 * trying: what is mapped, what of it is shared, what of that can be written.
 */

#ifndef WALL_H
#define WALL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "lwc_function.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((uintptr_t)4096)

static LWC_UNUSED long
bare(long n, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall" : "=a"(r)
	    : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	    : "rcx", "r11", "memory");
	return (r);
}

static LWC_UNUSED int
is(const lwc_invocation *inv, const char *command)
{
	size_t n = strlen(command);

	return (inv->input_len >= n && memcmp(inv->input, command, n) == 0);
}

static LWC_UNUSED int say(lwc_invocation *, const char *, ...)
    LWC_PRINTF(2, 3);
static LWC_UNUSED int
say(lwc_invocation *inv, const char *format, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	return (lwc_append(inv, text,
	    (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1));
}

static LWC_UNUSED uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
}

/* The kernel reads a signal set there, then finds that 99 is no way to change. */
static LWC_UNUSED int
can_read(uintptr_t at)
{

	return (bare(SYS_rt_sigprocmask, 99, (long)at, 0, 8, 0, 0) == -EINVAL);
}

/* The kernel writes the old set there; the bytes are put back. */
static LWC_UNUSED int
can_write(uintptr_t at)
{
	uint64_t *p = (uint64_t *)at, old = *(volatile uint64_t *)p;

	if (bare(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)at, 8, 0, 0) != 0)
		return (0);
	*(volatile uint64_t *)p = old;
	return (1);
}

/* The address space when the initialiser ran: a sandboxed context cannot look. */
struct area {
	uintptr_t start, end;
	int shared, readable, writable, stack;
};
#define AREAS 4096
static struct area areas[AREAS];
static int n_areas;

static LWC_UNUSED void
note_areas(void)
{
	static char text[1 << 20];
	size_t used = 0;
	ssize_t n;
	int fd = open("/proc/self/maps", O_RDONLY);

	n_areas = 0;
	while (fd >= 0 && used < sizeof(text) - 1 &&
	    (n = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)n;
	if (fd >= 0)
		close(fd);
	text[used] = '\0';
	for (char *line = text; line != NULL && *line != '\0';) {
		char *end = strchr(line, '\n'), modes[5] = "----";
		unsigned long from, to;

		if (end != NULL)
			*end++ = '\0';
		if (sscanf(line, "%lx-%lx %4c", &from, &to, modes) == 3 &&
		    n_areas < AREAS && strstr(line, "[v") == NULL) {
			struct area *a = &areas[n_areas++];

			a->start = from;
			a->end = to;
			a->readable = modes[0] == 'r';
			a->writable = modes[1] == 'w';
			a->shared = modes[3] == 's';
			a->stack = strstr(line, "[stack]") != NULL;
		}
		line = end;
	}
}

static LWC_UNUSED int
was_private(uintptr_t at)
{

	for (int i = 0; i < n_areas; i++)
		if (areas[i].start <= at && at < areas[i].end)
			return (!areas[i].shared);
	return (0);
}

/* Shared mappings alone can be mapped once more by a length of zero. */
static LWC_UNUSED int
is_shared(uintptr_t at)
{
	long again = bare(SYS_mremap, (long)at, 0, PAGE, MREMAP_MAYMOVE, 0, 0);

	if (again < 0 && again > -4096)
		/* It may be that this is forbidden; then it counts as shared. */
		return (again != -EINVAL);
	bare(SYS_munmap, again, PAGE, 0, 0, 0, 0);
	return (1);
}

/* Pages that this context shares with anybody, the input left out. */
struct page {
	volatile uint32_t *words;
	int writable;
};
#define PAGES 8192
static struct page pages[PAGES];
static int n_pages;

static LWC_UNUSED void
look_around(uintptr_t from, uintptr_t to)
{

	for (uintptr_t p = from; p < to && n_pages < PAGES; p += PAGE) {
		if (was_private(p) || !can_read(p) || !is_shared(p))
			continue;
		for (int i = 0; i < n_pages; i++)
			if ((uintptr_t)pages[i].words == p)
				goto known;
		pages[n_pages].words = (volatile uint32_t *)p;
		/* At its end: what is in use is at the beginning. */
		pages[n_pages++].writable = can_write(p + PAGE - 8);
known:		;
	}
}

/* Everything within reach of what is known to be the host's. */
static LWC_UNUSED void
find_pages(const lwc_invocation *inv)
{
	uintptr_t mid = (uintptr_t)inv->output & ~(PAGE - 1);
	uintptr_t reach = (uintptr_t)256 << 20;

	n_pages = 0;
	look_around(mid - reach, mid + reach);
	for (int i = 0; i < n_areas; i++)
		if (areas[i].shared &&
		    (areas[i].start < mid - reach || areas[i].end > mid + reach))
			look_around(areas[i].start, areas[i].end);
}

static LWC_UNUSED int
within(const struct page *p, const void *start, size_t len)
{
	uintptr_t at = (uintptr_t)p->words, s = (uintptr_t)start;

	return (at + PAGE > s && at < s + len);
}

/*
 * Runs `late' once the host has handed this context's answer over and is about
 * to wait: what comes after the handler is executed one instruction at a time,
 * until the next is the system call that waits.
 */
static void (*late)(void);

static void
stepped(int sig, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	const uint8_t *next = (const uint8_t *)r[REG_RIP];
	long op = r[REG_RSI] & 127;

	(void)sig, (void)info;
	if (next[0] == 0x0f && next[1] == 0x05 && r[REG_RAX] == SYS_futex &&
	    (op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET)) {
		r[REG_EFL] &= ~0x100;
		late();
	}
}

static LWC_UNUSED int
answer_and_run(lwc_invocation *inv, void (*then)(void))
{
	struct sigaction action;

	(void)inv;
	late = then;
	memset(&action, 0, sizeof(action));
	action.sa_sigaction = stepped;
	action.sa_flags = SA_SIGINFO;
	sigaction(SIGTRAP, &action, NULL);
	__asm__ volatile("pushfq; orl $0x100, (%%rsp); popfq" ::: "memory", "cc");
	return (0);
}

#endif
