/*
 * A function that does what its input says, most of it forbidden.  The tests
 * in orchestrator/tests/hostile.rs run it.
 */

#define _GNU_SOURCE
#include "lwc_function.h"
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Seen again by the next invocation only where contexts are reused. */
static int count;

static int
recurse(volatile char *up)
{
	volatile char frame[4096];

	frame[0] = *up;
	return (recurse(frame) + frame[0]);
}

static void *
thread(void *arg)
{

	return (arg);
}

static int
answer(lwc_invocation *inv, const char *what, int reached)
{
	char line[80];

	(void)snprintf(line, sizeof(line), "%s %s", what,
	    reached ? "REACHED" : "refused");
	return (say(inv, line));
}

LWC_HANDLER(hostile)
{
	volatile int zero = 0;

	count++;
	if (is(inv, "count")) {
		char text[16];

		(void)snprintf(text, sizeof(text), "%d", count);
		return (say(inv, text));
	}
	if (is(inv, "ok"))
		return (say(inv, "fine"));
	if (is(inv, "keep "))
		return (lwc_append(inv, inv->input + 5, inv->input_len - 5));
	if (is(inv, "leftovers")) {
		char text[80];
		const unsigned char *in = inv->input, *out = inv->output;
		size_t i, ins = 0, outs = 0;

		for (i = inv->input_len; i < 4096; i++)
			ins += in[i] != 0;
		for (i = 0; i < inv->output_capacity; i++)
			outs += out[i] != 0;
		(void)snprintf(text, sizeof(text), "left: %zu, %zu", ins, outs);
		return (say(inv, text));
	}
	if (is(inv, "signal ")) {
		/* As a fault of its own would: default action. */
		signal(atoi((const char *)inv->input + 7), SIG_DFL);
		raise(atoi((const char *)inv->input + 7));
		return (say(inv, "survived"));
	}
	if (is(inv, "null"))
		*(volatile int *)(uintptr_t)zero = 1;
	if (is(inv, "divide"))
		zero = 100 / zero;
	if (is(inv, "illegal"))
		__builtin_trap();
	if (is(inv, "stack"))
		return (recurse((volatile char *)&zero));
	if (is(inv, "ignore and fault")) {
		signal(SIGSEGV, SIG_IGN);
		*(volatile int *)(uintptr_t)zero = 1;
	}
	if (is(inv, "loop"))
		for (;;)
			zero++;
	if (is(inv, "block all signals and loop")) {
		sigset_t all;

		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, NULL);
		for (;;)
			zero++;
	}
	if (is(inv, "allocate")) {
		for (;;) {
			/* Kept in memory, or clang leaves all of it out. */
			void *volatile p = malloc(1 << 20);

			if (p == NULL)
				return (lwc_fail(inv, 507, "out of memory"));
			memset(p, 1, 1 << 20);
		}
	}
	if (is(inv, "append too much")) {
		while (lwc_append(inv, "0123456789abcdef", 16) == 0)
			;
		return (inv->status);
	}
	if (is(inv, "claim too much")) {
		inv->output_len = inv->output_capacity + 1;
		return (0);
	}
	if (is(inv, "write too much")) {
		/* Past the region and on, until something stops it. */
		for (size_t i = 0;; i += 4096)
			((volatile uint8_t *)inv->output)[i] = 1;
	}
	if (is(inv, "forge attributes")) {
		/* How many the answer has is told before those of the input. */
		const char *name, *value;

		value = inv->calls->attribute(inv->host, 0, &name);
		if (value == NULL)
			return (lwc_fail(inv, 500, "no attributes"));
		memset((char *)((uintptr_t)value & ~(uintptr_t)4095) - 3072,
		    0xff, 32768 - 1024);
		return (say(inv, "forged"));
	}
	if (is(inv, "error"))
		return (lwc_fail(inv, 42, "as asked\033[31m"));
	if (is(inv, "exit"))
		exit(7);
	if (is(inv, "_exit"))
		_exit(0);
	if (is(inv, "abort"))
		abort();
	if (is(inv, "close all")) {
		for (int fd = 0; fd < 70000; fd++)
			close(fd);
		syscall(SYS_close_range, 0, ~0U, 0);
		return (say(inv, "closed"));
	}
	if (is(inv, "unmap all")) {
		/* Everything below and above: its own context goes. */
		munmap((void *)4096, 0x7fffffffe000 - 4096);
		return (0);
	}
#ifdef __linux__
	if (is(inv, "holes in the heap")) {
		/* A page here and there stays: each has a page table of its own. */
		const long page = 4096, many = 1024;
		long begin = syscall(SYS_brk, 0L), from, to;

		begin = (begin + page - 1) & -page;
		if (syscall(SYS_brk, begin + many * page) != begin + many * page)
			return (lwc_fail(inv, 500, "brk"));
		from = begin + page;
		to = begin + (many - 1) * page;
		if (syscall(SYS_munmap, from, to - from) != -1)
			return (say(inv, "holes REACHED"));
		if (syscall(SYS_mremap, from, to - from, to - from,
		    (long)MREMAP_MAYMOVE | 4L /* DONTUNMAP */, 0L) != -1 ||
		    syscall(SYS_mremap, from, to - from, page, 0L, 0L) != -1)
			return (say(inv, "holes REACHED"));
		return (say(inv, "holes refused"));
	}
	if (is(inv, "who is there")) {
		/* Whether there is a process of this number: ESRCH, or not. */
		unsigned char set[128];
		long pid, found = 0;

		for (pid = 1; pid < 4096; pid++)
			found += syscall(SYS_sched_getaffinity, pid,
			    sizeof(set), set) != -1 || errno != EPERM;
		if (syscall(SYS_sched_getaffinity, 0L, sizeof(set), set) == -1)
			return (lwc_fail(inv, 500, "its own"));
		return (say(inv, found != 0 ? "others REACHED" :
		    "others refused"));
	}
#endif
	if (is(inv, "kill parent")) {
		kill(getppid(), SIGKILL);
		return (say(inv, "killed"));
	}
	if (is(inv, "kill all")) {
		kill(-1, SIGKILL);
		return (say(inv, "killed"));
	}
	if (is(inv, "fork bomb"))
		for (;;)
			(void)fork();
	if (is(inv, "clone bomb")) {
#ifdef SYS_clone
		/* The very flags its host makes contexts with. */
		int flags = 0x8000 | 0x01000000 | 0x00200000 | SIGSTKFLT;

		for (;;)
			(void)syscall(SYS_clone, flags, 0, 0, 0, 0);
#else
		for (;;)
			(void)rfork(RFPROC);
#endif
	}
	if (is(inv, "thread")) {
		pthread_t t;

		pthread_create(&t, NULL, thread, NULL);
		return (say(inv, "threaded"));
	}
	if (is(inv, "exec")) {
		char *argv[] = { (char *)"/bin/sh", NULL };

		execv("/bin/sh", argv);
		return (say(inv, "refused"));
	}
	if (is(inv, "ptrace")) {
		syscall(SYS_ptrace, 16, getppid(), 0, 0);
		return (say(inv, "traced"));
	}
	if (is(inv, "socket"))
		return (answer(inv, "socket",
		    socket(AF_INET, SOCK_STREAM, 0) >= 0));
	if (is(inv, "open"))
		return (answer(inv, "open",
		    open("/etc/passwd", O_RDONLY) >= 0));
	if (is(inv, "print")) {
		int n = printf("on stdout\n") < 0 || fflush(stdout) != 0;

		return (answer(inv, "print", !n));
	}
	if (is(inv, "write input")) {
		((volatile uint8_t *)(uintptr_t)inv->input)[0] = 'X';
		return (say(inv, "WROTE"));
	}
	if (is(inv, "protect and write input")) {
		uintptr_t page = (uintptr_t)inv->input & ~(uintptr_t)4095;

		if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE) != 0)
			return (say(inv, "refused"));
		((volatile uint8_t *)(uintptr_t)inv->input)[0] = 'X';
		return (say(inv, "WROTE"));
	}
	if (is(inv, "make code")) {
		void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		return (answer(inv, "code", p != MAP_FAILED));
	}
	if (is(inv, "flood log")) {
		for (int i = 0; i < 1000000; i++)
			lwc_log(inv, LWC_INFO, "flood %d", i);
		return (say(inv, "flooded"));
	}
	if (is(inv, "handler that lies")) {
		/* Scribbles over all of its host's structures it can find. */
		memset(inv, 0xff, sizeof(*inv));
		return (0);
	}
	return (lwc_fail(inv, 400, "no such command"));
}
