/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Clause 3: the switches. */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <machine/sysarch.h>

#include <fcntl.h>
#include <signal.h>

#include "lwc_test.h"

CASE(c3_1_sixteen_words, "A switch carries sixteen words and refuses more.")
{
	struct visit v;
	uint64_t w[17];
	int fd, i;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(v.n == 16);
		for (i = 0; i < 16; i++)
			v.a[i] *= 2;
		REQUIRE(lwSwitch(v.src, v.a, 16, &v.src, v.a, &v.n) ==
		    LWC_SWITCHED);
		_exit(9);
	}
	for (i = 0; i < 17; i++)
		w[i] = 0x100000000 + i;
	v.n = 16;
	REQUIRE_ERRNO(EINVAL, lwSwitch(fd, w, 17, &v.src, v.a, &v.n));
	REQUIRE_ERRNO(EINVAL, lwSwitch(fd, w, -1, &v.src, v.a, &v.n));
	REQUIRE(lwSwitch(fd, w, 16, &v.src, v.a, &v.n) == LWC_SWITCHED);
	REQUIRE(v.n == 16);
	for (i = 0; i < 16; i++)
		REQUIRE(v.a[i] == 2 * w[i]);
}

CASE(c3_2_out_arguments_may_be_null,
    "A switch's out arguments may be null, and take no more words than they "
    "have room for.")
{
	struct visit v;
	int fd, i;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		for (;;)
			go(v.src, &v, 11, 12);
	}
	for (i = 0; i < 3; i++)
		REQUIRE(lwSwitch(fd, NULL, 0, NULL, NULL, NULL) ==
		    LWC_SWITCHED);
	v.n = 1;
	v.a[0] = v.a[1] = 5;
	REQUIRE(lwSwitch(fd, NULL, 0, &v.src, v.a, &v.n) == LWC_SWITCHED);
	REQUIRE(v.n == 1 && v.a[0] == 11 && v.a[1] == 5);
	v.n = 0;
	REQUIRE(lwSwitch(fd, NULL, 0, NULL, v.a, &v.n) == LWC_SWITCHED);
	REQUIRE(v.n == 0);
}

CASE(c3_2_bad_out_arguments_are_the_owners,
    "Bad out arguments are EFAULT where they are bad, and harm nobody else.")
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE_ERRNO(EFAULT, lwSwitch(v.src, NULL, 0,
		    (int *)(uintptr_t)8, NULL, NULL));
		go(v.src, &v, 44, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(v.a[0] == 44);
}

CASE(c3_3_callers_descriptor_once,
    "A context gets one descriptor of its caller, however often that one "
    "comes.")
{
	struct visit v;
	int fd, i, first, next;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		first = v.src;
		for (i = 0; i < 500; i++) {
			go(v.src, &v, 0, 0);
			REQUIRE(v.src == first);
		}
		next = dup(0);
		REQUIRE(next == first + 1);
		go(v.src, &v, 1, 0);
		_exit(9);
	}
	for (i = 0; i < 501; i++) {
		gogo(fd, &v, 0, 0);
		REQUIRE(v.src == fd);
	}
	REQUIRE(v.a[0] == 1);
}

CASE(c3_3_closed_it_comes_again,
    "A caller's descriptor that was closed comes again, and one that "
    "dup2(2) moved is found.")
{
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(dup2(v.src, 100) == 100);
		REQUIRE(close(v.src) == 0);
		go(100, &v, 0, 0);
		REQUIRE(v.src == 100);
		go(100, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(dup2(fd, 200) == 200 && close(fd) == 0);
	gogo(200, &v, 0, 0);
	REQUIRE(v.src == 200);
}

CASE(c3_3_it_carries_the_switch_only,
    "A caller's descriptor gives the right to switch and not to overlay.")
{
	struct lwc_info li;
	struct lwc_spec s;
	struct visit v;
	char *p;
	int fd;

	p = page();
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(lwInfo(v.src, &li) == 0 && li.li_rights == 0);
		s = mem(p, PAGE, LWC_SHARE);
		REQUIRE_ERRNO(EACCES, lwOverlay(v.src, &s, 1));
		s = files(0, 0, LWC_SHARE);
		REQUIRE_ERRNO(EACCES, lwOverlay(v.src, &s, 1));
		s = creds(LWC_SHARE);
		REQUIRE_ERRNO(EACCES, lwOverlay(v.src, &s, 1));
		REQUIRE_ERRNO(EACCES, lwSyscall(v.src, LWC_MEMORY, 20, NULL));
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	*p = 1;
	gogo(fd, &v, 0, 0);
	REQUIRE(lwInfo(fd, &li) == 0 && li.li_rights == LWC_TYPES);
}

CASE(c3_4_discard_destroys_the_caller,
    "lwDiscardSwitch() destroys the caller once its target runs.")
{
	struct visit v;
	long n;
	int fd;

	n = counter("contexts");
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		uint64_t w = 77;

		REQUIRE_ERRNO(EBADF, lwDiscardSwitch(0, &w, 1));
		REQUIRE_ERRNO(EINVAL, lwDiscardSwitch(v.src, &w, 17));
		REQUIRE_ERRNO(EFAULT, lwDiscardSwitch(v.src, NULL, 1));
		lwDiscardSwitch(v.src, &w, 1);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(v.src == -1 && v.n == 1 && v.a[0] == 77);
	REQUIRE(counter("contexts") == n);
	REQUIRE_ERRNO(ESRCH, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
	REQUIRE_ERRNO(ESRCH, lwOverlay(fd, NULL, 0));
}

CASE(c3_4_discarding_the_root, "A process goes on without its root.")
{
	struct lwc_info li;
	struct visit v;
	int fd;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(lwInfo(LWC_SELF, &li) == 0);
		REQUIRE(li.li_contexts == 1 && li.li_id == 2);
		if (fork() == 0)
			_exit(0);
		REQUIRE(wait(NULL) > 0);
		_exit(0);
	}
	lwDiscardSwitch(fd, NULL, 0);
	_exit(9);
}

CASE(c3_4_snapshot_and_rollback,
    "The paper's snapshot and rollback works many times over.")
{
	struct visit v;
	volatile int dirty;
	long n;
	int fd, i;

	n = counter("contexts");
	dirty = 0;
	for (i = 0; i < 100; i++) {
		fd = create(&v, NULL, 0, 0);
		if (fd == LWC_SWITCHED) {
			REQUIRE(dirty == 0);
			dirty = 1;
			lwDiscardSwitch(v.src, NULL, 0);
			_exit(9);
		}
		gogo(fd, &v, 0, 0);
		REQUIRE(dirty == 0 && close(fd) == 0);
	}
	REQUIRE(counter("contexts") == n);
}

/* The rounding mode and a value in a register, across a switch. */
static int
mxcsr_survives(int to, unsigned int mine)
{

	__builtin_ia32_ldmxcsr(mine);
	REQUIRE(lwSwitch(to, NULL, 0, NULL, NULL, NULL) == LWC_SWITCHED);
	return ((__builtin_ia32_stmxcsr() & ~0x3fu) == mine);
}

CASE(c3_5_vector_registers, "Vector registers, AVX's too, are a context's own.")
{
	static uint8_t in[16 * 32], out[16 * 32];
	struct visit v;
	volatile int avx;
	int fd, i, round;

	avx = __builtin_cpu_supports("avx");
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		round = v.src;
		for (;;) {
			/* Wipe what the other had, in every register. */
			if (avx)
				__asm volatile("vzeroall" ::: "xmm0", "xmm1",
				    "xmm2", "xmm15", "memory");
			else
				__asm volatile("xorps %%xmm15, %%xmm15"
				    ::: "xmm15");
			REQUIRE(mxcsr_survives(round, 0x3f80));
		}
	}
	REQUIRE(mxcsr_survives(fd, 0x5f80));
	REQUIRE(mxcsr_survives(fd, 0x7f80));
	__builtin_ia32_ldmxcsr(0x1f80);
	if (!avx)
		return;
	gogo(fd, &v, 0, 0);
	for (i = 0; i < (int)sizeof(in); i++)
		in[i] = i * 7 + 1;
	/*
	 * Registers across the call itself: the call is made here, so that no
	 * compiler saves them.
	 */
	{
		struct lwc_info li;
		register long a __asm("rax");
		int nr;

		REQUIRE(lwInfo(fd, &li) == 0);
		nr = lwc_switch_number();
		REQUIRE(nr > 0);
		__asm volatile(
		    "vmovdqu 0(%[in]), %%ymm0\n\tvmovdqu 32(%[in]), %%ymm1\n\t"
		    "vmovdqu 64(%[in]), %%ymm7\n\tvmovdqu 96(%[in]), %%ymm8\n\t"
		    "vmovdqu 128(%[in]), %%ymm15\n\t"
		    "xorl %%esi, %%esi\n\txorl %%edx, %%edx\n\t"
		    "xorl %%r10d, %%r10d\n\txorl %%r8d, %%r8d\n\t"
		    "xorl %%r9d, %%r9d\n\t"
		    "syscall\n\t"
		    "vmovdqu %%ymm0, 0(%[out])\n\tvmovdqu %%ymm1, 32(%[out])\n\t"
		    "vmovdqu %%ymm7, 64(%[out])\n\tvmovdqu %%ymm8, 96(%[out])\n\t"
		    "vmovdqu %%ymm15, 128(%[out])\n\tvzeroupper\n\t"
		    : "=a" (a)
		    : "0" ((long)nr), "D" ((long)fd), [in] "r" (in),
		      [out] "r" (out)
		    : "rsi", "rdx", "r10", "r8", "r9", "rcx", "r11", "memory",
		      "cc", "xmm0", "xmm1", "xmm7", "xmm8", "xmm15");
		REQUIRE(a == LWC_SWITCHED);
		REQUIRE(memcmp(in, out, 160) == 0);
	}
}

CASE(c3_5_general_registers,
    "All general registers survive a switch there and back.")
{
	struct visit v;
	uint64_t before[6], after[6];
	int fd, nr;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		for (;;) {
			__asm volatile("" ::: "rbx", "r12", "r13", "r14",
			    "r15");
			go(v.src, &v, 0xdead, 0xbeef);
		}
	}
	gogo(fd, &v, 0, 0);
	nr = lwc_switch_number();
	__asm volatile(
	    "movq $0x1111, %%rbx\n\tmovq $0x2222, %%r12\n\t"
	    "movq $0x3333, %%r13\n\tmovq $0x4444, %%r14\n\t"
	    "movq $0x5555, %%r15\n\t"
	    "xorl %%esi, %%esi\n\txorl %%edx, %%edx\n\t"
	    "xorl %%r10d, %%r10d\n\txorl %%r8d, %%r8d\n\t"
	    "xorl %%r9d, %%r9d\n\tsyscall\n\t"
	    "movq %%rbx, 0+%[a]\n\tmovq %%r12, 8+%[a]\n\t"
	    "movq %%r13, 16+%[a]\n\tmovq %%r14, 24+%[a]\n\t"
	    "movq %%r15, 32+%[a]\n\t"
	    : [a] "=m" (after), "+a" (nr)
	    : "D" ((long)fd)
	    : "rsi", "rdx", "r10", "r8", "r9", "rcx", "r11", "rbx", "r12",
	      "r13", "r14", "r15", "memory", "cc");
	before[0] = 0x1111;
	before[1] = 0x2222;
	before[2] = 0x3333;
	before[3] = 0x4444;
	before[4] = 0x5555;
	REQUIRE(memcmp(before, after, 5 * 8) == 0);
}

CASE(c3_5_tls_base, "The base of thread-local storage is a context's own.")
{
	struct visit v;
	static char other[2][4096] __attribute__((aligned(64)));
	volatile int fd;
	void *mine, *base;

	REQUIRE(amd64_get_fsbase(&mine) == 0);
	REQUIRE(amd64_get_gsbase(&base) == 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		/* gs is nobody's here, so it can be set without a TLS block. */
		REQUIRE(amd64_set_gsbase(other[0]) == 0);
		go(v.src, &v, 0, 0);
		REQUIRE(amd64_get_gsbase(&base) == 0 && base == other[0]);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	REQUIRE(amd64_set_gsbase(other[1]) == 0);
	gogo(fd, &v, 0, 0);
	REQUIRE(amd64_get_gsbase(&base) == 0 && base == other[1]);
	gogo(fd, &v, 0, 0);
	REQUIRE(amd64_get_gsbase(&base) == 0 && base == other[1]);
	REQUIRE(amd64_get_fsbase(&base) == 0 && base == mine);
}

CASE(c3_5_signal_mask_and_stack,
    "Signal mask and alternate stack are a context's own.")
{
	static char stack[65536];
	stack_t ss;
	struct visit v;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	REQUIRE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED) {
		REQUIRE(sigprocmask(SIG_SETMASK, NULL, &set) == 0);
		REQUIRE(sigismember(&set, SIGUSR1));
		sigemptyset(&set);
		sigaddset(&set, SIGUSR2);
		REQUIRE(sigprocmask(SIG_SETMASK, &set, NULL) == 0);
		ss.ss_sp = stack;
		ss.ss_size = sizeof(stack);
		ss.ss_flags = 0;
		REQUIRE(sigaltstack(&ss, NULL) == 0);
		go(v.src, &v, 0, 0);
		REQUIRE(sigprocmask(SIG_SETMASK, NULL, &set) == 0);
		REQUIRE(sigismember(&set, SIGUSR2) &&
		    !sigismember(&set, SIGUSR1));
		REQUIRE(sigaltstack(NULL, &ss) == 0 && ss.ss_sp == stack);
		go(v.src, &v, 0, 0);
		_exit(9);
	}
	gogo(fd, &v, 0, 0);
	REQUIRE(sigprocmask(SIG_SETMASK, NULL, &set) == 0);
	REQUIRE(sigismember(&set, SIGUSR1) && !sigismember(&set, SIGUSR2));
	REQUIRE(sigaltstack(NULL, &ss) == 0);
	REQUIRE((ss.ss_flags & SS_DISABLE) != 0);
	gogo(fd, &v, 0, 0);
}

CASE(c3_6_errors,
    "A switch that fails leaves the caller where it was, with the errors of "
    "lwSwitch(2).")
{
	struct visit v;
	uint64_t w;
	int fd;

	w = 0;
	REQUIRE_ERRNO(EBADF, lwSwitch(-1, NULL, 0, NULL, NULL, NULL));
	REQUIRE_ERRNO(EBADF, lwSwitch(0, NULL, 0, NULL, NULL, NULL));
	REQUIRE_ERRNO(EBADF, lwSwitch(99999, NULL, 0, NULL, NULL, NULL));
	fd = create(&v, NULL, 0, 0);
	REQUIRE(fd >= 0);
	REQUIRE_ERRNO(EFAULT, lwSwitch(fd, (void *)(uintptr_t)1, 1, NULL,
	    NULL, NULL));
	REQUIRE_ERRNO(EFAULT, lwSwitch(fd, &w, 1, NULL, &w,
	    (int *)(uintptr_t)0xffffffff80200000));
	v.n = -5;
	REQUIRE_ERRNO(EINVAL, lwSwitch(fd, &w, 1, NULL, &w, &v.n));
	REQUIRE_ERRNO(EINVAL, lwSwitch(fd, &w, 1, NULL, &w, NULL));
}

CASE(c3_6_emfile_in_the_target,
    "A switch fails with EMFILE where the target has no room for the "
    "caller's descriptor.")
{
	struct rlimit rl;
	struct visit v;
	int a, b;

	while (dup(0) < 60)
		;
	REQUIRE(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	a = create(&v, NULL, 0, 0);
	if (a == LWC_SWITCHED) {
		rl.rlim_cur = 50;
		REQUIRE(setrlimit(RLIMIT_NOFILE, &rl) == 0);
		(void)go(v.src, &v, 0, 0);
		_exit(9);
	}
	REQUIRE(a > 60);
	gogo(a, &v, 0, 0);
	/* Who is as short of them goes there, and is not known yet. */
	close(40);
	rl.rlim_cur = 50;
	REQUIRE(setrlimit(RLIMIT_NOFILE, &rl) == 0);
	b = create(&v, NULL, 0, 0);
	if (b == LWC_SWITCHED) {
		REQUIRE_ERRNO(EMFILE, lwSwitch(a, NULL, 0, NULL, NULL, NULL));
		REQUIRE(getpid() > 0);
		(void)go(v.src, &v, 1, 0);
		_exit(9);
	}
	REQUIRE(b == 40);
	REQUIRE(go(b, &v, 0, 0) == LWC_SWITCHED);
	REQUIRE(v.src == b && v.a[0] == 1);
}

CASE(c3_6_another_process_has_none_of_ours,
    "Another process, by rfork(2) or fork(2), can switch to none of ours.")
{
	struct visit v;
	int fd, pid, status;

	fd = create(&v, NULL, 0, 0);
	if (fd == LWC_SWITCHED)
		for (;;)
			go(v.src, &v, 0, 0);
	REQUIRE(fd >= 0);
	REQUIRE_ERRNO(EBUSY, rfork(RFPROC));
	pid = rfork(RFPROC | RFFDG);
	if (pid == 0) {
		REQUIRE_ERRNO(EBADF, lwSwitch(fd, NULL, 0, NULL, NULL, NULL));
		REQUIRE_ERRNO(EBADF, lwRestrict(fd, NULL, 0));
		REQUIRE_ERRNO(EBADF, lwOverlay(fd, NULL, 0));
		REQUIRE_ERRNO(EBADF, close(fd));
		_exit(0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0);
	gogo(fd, &v, 0, 0);
}
