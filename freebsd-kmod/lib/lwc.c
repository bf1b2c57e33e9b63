/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The calls of <sys/lwc.h> for C programs: find the numbers, make the calls.
 * What they do is said in docs/contract.md.
 *
 * Numbers of module system calls vary.  They are looked up once, by the names
 * of their modules ("sys/lwCreate", ...), and kept.  When the module is not
 * loaded a call fails with ENOSYS; the kernel is not asked for a number that
 * nobody owns, so no SIGSYS is raised.
 *
 * The call is made by the instruction and not by syscall(2): that costs an
 * indirection and reads its sixth argument from the stack.
 */

#include <sys/param.h>
#include <sys/module.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "../sys/lwc.h"

enum lwc_name {
	N_lwCreate, N_lwSwitch, N_lwDiscardSwitch, N_lwRestrict, N_lwOverlay,
	N_lwSyscall, N_lwGetlwc, N_lwInfo, N_lwControl, N_CALLS
};
static const char *const lwc_names[N_CALLS] = {
	"sys/lwCreate", "sys/lwSwitch", "sys/lwDiscardSwitch",
	"sys/lwRestrict", "sys/lwOverlay", "sys/lwSyscall", "sys/lwGetlwc",
	"sys/lwInfo", "sys/lwControl"
};
static int lwc_numbers[N_CALLS];

/* All at the first call: a context in capability mode can look up nothing. */
static int
lwc_number(enum lwc_name call)
{
	struct module_stat ms;
	int i, id;

	for (i = 0; i < N_CALLS; i++) {
		id = modfind(lwc_names[i]);
		if (id < 0)
			break;
		ms.version = sizeof(ms);
		if (modstat(id, &ms) != 0)
			break;
		lwc_numbers[i] = ms.data.intval;
	}
	if (i == N_CALLS)
		return (lwc_numbers[call]);
	while (i >= 0)
		lwc_numbers[i--] = 0;
	errno = ENOSYS;
	return (-1);
}

#if defined(__amd64__)
static __noinline int64_t
lwc_failed(int64_t error)
{

	errno = (int)error;
	return (-1);
}

static inline int64_t
lwc_call(int number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
    uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm("r10") = d;
	register uint64_t r8 __asm("r8") = e;
	register uint64_t r9 __asm("r9") = f;
	int64_t value;
	bool failed;

	value = number;
	__asm volatile("syscall"
	    : "+a" (value), "=@ccc" (failed), "+D" (a), "+S" (b), "+d" (c),
	      "+r" (r10), "+r" (r8), "+r" (r9)
	    :
	    : "rcx", "r11", "memory");
	return (__predict_false(failed) ? lwc_failed(value) : value);
}
#else
#define	lwc_call(number, a, b, c, d, e, f)				\
	__syscall((number), (uint64_t)(a), (uint64_t)(b), (uint64_t)(c),	\
	    (uint64_t)(d), (uint64_t)(e), (uint64_t)(f))
#endif

#define	LWC_NUMBER(name)						\
	int number = lwc_numbers[N_##name];				\
	if (__predict_false(number == 0) &&				\
	    (number = lwc_number(N_##name)) < 0)			\
		return (-1)
#define	P(p)	((uint64_t)(uintptr_t)(p))

int
lwCreate(const struct lwc_spec *specs, int nspecs, int *src,
    uint64_t *src_args, int *num_args, int flags)
{
	LWC_NUMBER(lwCreate);
	return (lwc_call(number, P(specs), nspecs, P(src), P(src_args),
	    P(num_args), flags));
}

/* Apart, so that lwSwitch() has no registers to save over lwc_number(). */
static __noinline int
lwc_first_switch(int to, const uint64_t *to_args, int n, int *src,
    uint64_t *src_args, int *num_args)
{

	return (lwc_number(N_lwSwitch) < 0 ? -1 :
	    lwSwitch(to, to_args, n, src, src_args, num_args));
}

int
lwSwitch(int to, const uint64_t *to_args, int n, int *src, uint64_t *src_args,
    int *num_args)
{
	int number;

	number = lwc_numbers[N_lwSwitch];
	if (__predict_false(number == 0))
		return (lwc_first_switch(to, to_args, n, src, src_args,
		    num_args));
	return (lwc_call(number, to, P(to_args), n, P(src), P(src_args),
	    P(num_args)));
}

int
lwDiscardSwitch(int to, const uint64_t *to_args, int n)
{
	LWC_NUMBER(lwDiscardSwitch);
	return (lwc_call(number, to, P(to_args), n, 0, 0, 0));
}

int
lwRestrict(int lwc, const struct lwc_spec *specs, int nspecs)
{
	LWC_NUMBER(lwRestrict);
	return (lwc_call(number, lwc, P(specs), nspecs, 0, 0, 0));
}

int
lwOverlay(int source, const struct lwc_spec *specs, int nspecs)
{
	LWC_NUMBER(lwOverlay);
	return (lwc_call(number, source, P(specs), nspecs, 0, 0, 0));
}

int64_t
lwSyscall(int target, int mask, int sysno, const uint64_t *args)
{
	LWC_NUMBER(lwSyscall);
	return (lwc_call(number, target, mask, sysno, P(args), 0, 0));
}

int
lwGetlwc(void)
{
	LWC_NUMBER(lwGetlwc);
	return (lwc_call(number, 0, 0, 0, 0, 0, 0));
}

int
lwInfo(int lwc, struct lwc_info *info)
{
	LWC_NUMBER(lwInfo);
	return (lwc_call(number, lwc, P(info), 0, 0, 0, 0));
}

int
lwControl(int lwc, int command, uint64_t argument)
{
	LWC_NUMBER(lwControl);
	return (lwc_call(number, lwc, command, argument, 0, 0, 0));
}
