/*
 * A row of threads, each of which makes the next and ends: once there is one there is
 * always one, and none for long.  By bare system calls, of which no C library knows.
 */

#ifndef ROW_H
#define ROW_H

#include <sys/syscall.h>

#include <stdatomic.h>

/* What each does; NULL: nothing. */
static void (*each_of_row)(void);

static void row(void);

/* As the C library makes one (CLONE_THREAD and so on). */
static long
next_of_row(void)
{
	static unsigned char stacks[16][8192] __attribute__((aligned(64)));
	static unsigned char own[4096] __attribute__((aligned(64)));
	static atomic_uint last;
	static int number;
	unsigned char *top = stacks[atomic_fetch_add(&last, 1) % 16] + 8192 - 64;
	register long cleared __asm__("r10") = (long)&number;
	register long base __asm__("r8") = (long)own;
	long made;

	__asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\t"
	    "xor %%ebp, %%ebp\n\tcall *%[next]\n\thlt\n1:"
	    : "=a"(made)
	    : "a"(SYS_clone), "D"(0x3d0f00L), "S"(top), "d"(&number),
	      "r"(cleared), "r"(base), [next] "r"(row)
	    : "rcx", "r11", "memory");
	return (made);
}

static void
row(void)
{

	for (;;) {
		if (each_of_row != NULL)
			each_of_row();
		if (next_of_row() > 0)
			__asm__ volatile("syscall" :: "a"(SYS_exit), "D"(0L)
			    : "rcx", "r11", "memory");
	}
}

#endif
