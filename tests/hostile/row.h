/*
 * A row of threads, each of which makes the next and ends: once there is one there is
 * always one, and none for long.  By bare system calls, of which no C library knows.
 */

#ifndef ROW_H
#define ROW_H

#include <sys/syscall.h>

#include <stdatomic.h>
#include <stddef.h>

/* What each does; NULL: nothing. */
static void (*each_of_row)(void);

static void row(void);

/*
 * As the C library makes one (CLONE_THREAD and so on).  One that ends itself has no use
 * for its stack from the call on: a later one has it, perhaps.
 */
static long
next_of_row(long ends)
{
	static unsigned char stacks[2][8192] __attribute__((aligned(64)));
	static unsigned char own[4096] __attribute__((aligned(64)));
	static atomic_uint last;
	static int number;
	unsigned char *top = stacks[atomic_fetch_add(&last, 1) % 2] + 8192 - 64;
	register long cleared __asm__("r10") = (long)&number;
	register long base __asm__("r8") = (long)own;
	long made;

	__asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjz 1f\n\tjs 2f\n\t"
	    "test %[ends], %[ends]\n\tjz 2f\n\t"
	    "mov %[exit], %%eax\n\txor %%edi, %%edi\n\tsyscall\n"
	    "1:\txor %%ebp, %%ebp\n\tcall *%[next]\n\thlt\n2:"
	    : "=a"(made)
	    : "a"(SYS_clone), "D"(0x3d0f00L), "S"(top), "d"(&number),
	      "r"(cleared), "r"(base), [next] "r"(row), [ends] "r"(ends),
	      [exit] "i"(SYS_exit)
	    : "rcx", "r11", "memory");
	return (made);
}

static void
row(void)
{

	for (;;) {
		if (each_of_row != NULL)
			each_of_row();
		(void)next_of_row(1);
	}
}

#endif
