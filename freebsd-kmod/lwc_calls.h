/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* System calls: the module's own nine, and what is known of the others. */

#ifndef _LWC_CALLS_H_
#define	_LWC_CALLS_H_

#include "lwc_var.h"

#include <sys/sysent.h>

#include <bsm/audit_kevents.h>

struct lwc_ctx;
struct lwc_proc;
struct syscall_args;

/* The module's calls and their numbers of arguments: the one list of them. */
#define	LWC_CALLS(call)							\
	call(lwCreate, 6)						\
	call(lwSwitch, 6)						\
	call(lwDiscardSwitch, 3)					\
	call(lwRestrict, 3)						\
	call(lwOverlay, 3)						\
	call(lwSyscall, 4)						\
	call(lwGetlwc, 0)						\
	call(lwInfo, 2)							\
	call(lwControl, 3)

/* Arguments, as the kernel lays them out. */
#define	LWC_ARG(type, name)	union { type name; register_t name##_pad; }
struct lwCreate_args {
	LWC_ARG(const struct lwc_spec *, specs);
	LWC_ARG(int, nspecs);
	LWC_ARG(int *, src);
	LWC_ARG(uint64_t *, src_args);
	LWC_ARG(int *, num_args);
	LWC_ARG(int, flags);
};
struct lwSwitch_args {
	LWC_ARG(int, to);
	LWC_ARG(const uint64_t *, to_args);
	LWC_ARG(int, n);
	LWC_ARG(int *, src);
	LWC_ARG(uint64_t *, src_args);
	LWC_ARG(int *, num_args);
};
struct lwDiscardSwitch_args {
	LWC_ARG(int, to);
	LWC_ARG(const uint64_t *, to_args);
	LWC_ARG(int, n);
};
struct lwRestrict_args {
	LWC_ARG(int, lwc);
	LWC_ARG(const struct lwc_spec *, specs);
	LWC_ARG(int, nspecs);
};
struct lwOverlay_args {
	LWC_ARG(int, source);
	LWC_ARG(const struct lwc_spec *, specs);
	LWC_ARG(int, nspecs);
};
struct lwSyscall_args {
	LWC_ARG(int, target);
	LWC_ARG(int, mask);
	LWC_ARG(int, number);
	LWC_ARG(const uint64_t *, args);
};
struct lwGetlwc_args {
	LWC_ARG(int, none);
};
struct lwInfo_args {
	LWC_ARG(int, lwc);
	LWC_ARG(struct lwc_info *, info);
};
struct lwControl_args {
	LWC_ARG(int, lwc);
	LWC_ARG(int, command);
	LWC_ARG(uint64_t, argument);
};

#define	LWC_DECLARE(name, narg)						\
int	sys_##name(struct thread *td, struct name##_args *uap);
LWC_CALLS(LWC_DECLARE)
#undef LWC_DECLARE

extern int	lwSwitch_number;
bool	lwc_is_ours(sy_call_t *call);

/* What is called in place of a system call: with what was fetched for it. */
#define	LWC_SYSENT(call)	{					\
	.sy_call = (call),						\
	.sy_auevent = AUE_NULL,						\
	.sy_flags = SYF_CAPENABLED,					\
	.sy_thrcnt = SY_THR_STATIC,					\
	.sy_narg = LWC_CALL_NARGS,					\
}

/* What is known of a system call, by number; 0: nothing. */
#define	LWC_KNOWN	0x01	/* no surprise in a guarded context */
#define	LWC_MIX		0x02	/* lwSyscall() may make it */
#define	LWC_LOOK	0x04	/* lwc_call_look() has something to say */
#define	LWC_GUARDED	0x08	/* lwc_call_guard() has something to say */
#define	LWC_MULTIPLY	0x10	/* replaces or multiplies the process */
#define	LWC_PURE	0x20	/* see lc_called */

#define	LWC_NCALLS	640
extern const uint8_t lwc_calls[LWC_NCALLS];

static inline u_int
lwc_call_class(u_int number)
{

	return (number < LWC_NCALLS ? lwc_calls[number] : 0);
}

/*
 * What is to be called instead, or NULL: in any process with a record, and in
 * a guarded context.  The arguments in sa are what the call would get.
 */
struct sysent *lwc_call_look(struct thread *td, struct lwc_proc *lp,
	    struct syscall_args *sa);
struct sysent *lwc_call_guard(struct thread *td, struct lwc_ctx *lc,
	    const struct syscall_args *sa);
struct sysent *lwc_call_guard_fault(const struct syscall_args *sa);

#endif /* !_LWC_CALLS_H_ */
