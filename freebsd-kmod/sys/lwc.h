/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Light-weight contexts: the binary interface, whole.
 *
 * A context is an address space, a descriptor table, credentials and a saved
 * flow of control inside one process.  The names, the bit values, the return
 * codes and the argument words are those of the library published with the
 * paper (Litton et al., "Light-Weight Contexts: An OS Abstraction for Safety
 * and Performance", OSDI 2016); everything that is ours has a value of 0x1000
 * or more.  This header compiles as C11 and as C++, in user space and in the
 * FreeBSD kernel.  lwc-sys generates its Rust bindings from it.
 *
 * What the calls do is said in docs/contract.md, clause by clause.  Numbers
 * such as 3.3 in comments, here and in the module, are its clauses.
 */

#ifndef _SYS_LWC_H_
#define	_SYS_LWC_H_

#ifdef _KERNEL
#include <sys/types.h>
#else
#include <stdint.h>
#endif

/* Version of everything below; lwInfo() reports it. */
#define	LWC_ABI_VERSION		6

/*
 * What lwCreate() and lwSwitch() return (contract 2.1, 3.2): a descriptor
 * (>= 0, lwCreate() in the creator only) or one of these.
 */
#define	LWC_FAILED		(-1)	/* errno says why */
#define	LWC_SWITCHED		(-2)	/* somebody switched here */
#define	LWC_TRAPPED		(-3)	/* a context created here trapped */

/* Instead of a descriptor: the current context. */
#define	LWC_SELF		(-1)

/* Flags of lwCreate() (contract 2.6). */
#define	LWC_TRAP_SYSCALL	0x0080	/* its system calls resume the creator */
#define	LWC_PREFAULT		0x0100	/* copy writable pages now */
#define	LWC_TRAP_FAULT		0x1000	/* its faults resume the creator */
#define	LWC_TRAP_EXIT		0x2000	/* so does its end: exit, abort, kill */
#define	LWC_CREATE_FLAGS	(LWC_TRAP_SYSCALL | LWC_PREFAULT | \
				    LWC_TRAP_FAULT | LWC_TRAP_EXIT)

/* A specifier's flags (contract 2.3): one type ... */
#define	LWC_MEMORY		0x001
#define	LWC_FILES		0x002
#define	LWC_CREDENTIALS		0x004
#define	LWC_TYPES		(LWC_MEMORY | LWC_FILES | LWC_CREDENTIALS)
/* ... one of these three options ... */
#define	LWC_COPY		0x000	/* copy-on-write, or dup */
#define	LWC_SHARE		0x008	/* one memory, one table */
#define	LWC_UNMAP		0x010	/* absent there */
/* ... and, in lwCreate() only, a right over the creator (contract 2.5). */
#define	LWC_MAY_OVERLAY		0x020
#define	LWC_OPTIONS		(LWC_SHARE | LWC_UNMAP | LWC_MAY_OVERLAY)

/* Argument words that travel with a switch. */
#define	LWC_MAX_ARGS		16
/*
 * Beside their number, in lwSwitch():
 *
 * UNTIL: one word more follows them, which does not travel: a
 * deadline, in nanoseconds of CLOCK_MONOTONIC.  If nobody has resumed the
 * caller by then the call fails with ETIMEDOUT, and whoever is current is
 * suspended where it was.
 *
 * ROOM: src_args, if not null, has room for LWC_MAX_ARGS words; num_args must
 * be null.  For callers that take the descriptor and the count from the second
 * result register (%rdx on amd64), where they always are: the descriptor in
 * the low half, the count in the high one.
 */
#define	LWC_UNTIL		0x1000
#define	LWC_ROOM		0x2000
/* Specifiers in one call (E2BIG beyond; kern.lwc.max_specs may lower it). */
#define	LWC_MAX_SPECS		1024

/*
 * A resource specifier: what of a type (and of which range) is meant.
 * Memory is [start, end), page-aligned; descriptors are [from, to], both
 * included, -1/-1 for the whole table; credentials have no range.
 */
struct lwc_spec {
	unsigned int	flags;
	union {
		struct {
			uint64_t	start;
			uint64_t	end;
		} memory;
		struct {
			int		from;
			int		to;
		} descriptors;
		struct {
			char		padding[1];
		} credentials;
	} sub;
};

/*
 * Words of an LWC_TRAPPED event (contract 6.2, 7.1).
 *
 * A trapped system call: src is a descriptor of the trapped context, the
 * words are the number and the arguments; answer by switching back with
 * {errno, value}.
 *
 * The end of a context (LWC_TRAP_FAULT, LWC_TRAP_EXIT): src is -1, for
 * nothing is left to switch to.
 */
#define	LWC_CALL_NUMBER		0	/* system call number */
#define	LWC_CALL_ARGS		1	/* first of LWC_CALL_NARGS arguments */
#define	LWC_CALL_NARGS		8
#define	LWC_CALL_WORDS		9
#define	LWC_REPLY_ERRNO		0	/* of the answer */
#define	LWC_REPLY_VALUE		1

#define	LWC_END_SIGNAL		0	/* signal, or 0 after exit(2) */
#define	LWC_END_CODE		1	/* si_code, or the exit status */
#define	LWC_END_ADDRESS		2	/* si_addr of a fault, else 0 */
#define	LWC_END_ID		3	/* li_id of the context that ended */
#define	LWC_END_WORDS		4

/* States of a context, in lwc_info.li_state. */
#define	LWC_STATE_CURRENT	1	/* it is the one that runs */
#define	LWC_STATE_SUSPENDED	2	/* it waits in lwSwitch() */
#define	LWC_STATE_NEW		3	/* nobody switched to it yet */
#define	LWC_STATE_DEAD		4	/* only its descriptor is left */
#define	LWC_STATE_PREEMPTED	5	/* suspended between two instructions */

/*
 * What lwInfo() tells (contract 8.1).  li_rights holds the type bits of which
 * the descriptor still carries any right; for LWC_SELF, what others may get at
 * most.
 */
struct lwc_info {
	uint64_t	li_id;		/* unique in the process; root is 1 */
	uint64_t	li_creator;	/* li_id of the creator; root: 0 */
	uint32_t	li_version;	/* LWC_ABI_VERSION */
	uint32_t	li_state;	/* LWC_STATE_* */
	uint32_t	li_rights;	/* LWC_TYPES still held */
	uint32_t	li_flags;	/* flags of its lwCreate() */
	uint64_t	li_contexts;	/* live contexts in the process */
	uint64_t	li_resident;	/* resident pages */
	uint64_t	li_private;	/* of these, in no other context */
	uint64_t	li_rollback;	/* LWC_HAS_SNAPSHOT, LWC_IS_CLEAN */
	uint64_t	li_spare[3];	/* zero */
};
#define	LWC_HAS_SNAPSHOT	0x1	/* it can be rolled back (10.1) */
#define	LWC_IS_CLEAN		0x2	/* it has not run since (10.3) */

/*
 * Commands of lwControl().
 *
 * DESTROY: end a context that the current one created and that does not run,
 * whoever else names it.  EPERM to all others.
 *
 * ALLOW, of LWC_SELF: from now on this context, and those it creates, can make
 * only the system calls in a set (the address of a struct lwc_calls); every
 * other one is not executed and raises SIGSYS.  Repeated, the sets intersect.
 *
 * BELOW, of LWC_SELF: from now on the system calls in a set are let through only
 * if their first argument, as the kernel reads a descriptor of it (the low 32
 * bits), is not negative and below a limit (the address of a struct lwc_below).
 * Others go the way of a call that is not allowed.  Repeated, the sets unite and
 * the least limit holds for all.  Without a set of ALLOW's it counts as one of all
 * calls.
 *
 * FROM, of LWC_SELF: the same of calls whose first argument is at least a number
 * (the address of a struct lwc_from), and not negative.  Repeated, the sets unite
 * and the highest number holds for all.  A call that is in a set of BELOW's as
 * well is let through if both hold.
 *
 * INTRODUCE: give a context a descriptor of another one (the argument), so
 * that it can switch there by itself.  Both are named by descriptors of the
 * caller's and neither is current.  The new descriptor carries the right to
 * switch and nothing else (of its creator: what that lent); one that is there
 * already is left as it is.  Returns its number in the table of the first.
 * With LWC_CLEAN_ONLY beside the argument a switch by the new descriptor is
 * refused (ESTALE) unless the other one is clean (10.3); it is another name
 * than one without.
 *
 * SNAPSHOT: what a suspended context is now becomes its snapshot, in place of
 * an earlier one (contract 10).  From then on lwDiscardSwitch() out of it
 * rolls it back instead of destroying it.
 *
 * ROLLBACK: a suspended context becomes what its snapshot is.  Returns the
 * number of pages that were undone.  Both want every right over it.
 *
 * ERASE, of LWC_SELF: zero a range of memory (the address of a struct
 * lwc_erase) that the current context shares and may write.  What nobody has
 * used stays without memory.
 */
#define	LWC_CONTROL_DESTROY	1
#define	LWC_CONTROL_ALLOW	2
#define	LWC_CONTROL_INTRODUCE	3
#define	LWC_CONTROL_SNAPSHOT	4
#define	LWC_CONTROL_ROLLBACK	5
#define	LWC_CONTROL_ERASE	6
#define	LWC_CONTROL_BELOW	7
#define	LWC_CONTROL_FROM	8
/* Beside the descriptor that is INTRODUCE's argument. */
#define	LWC_CLEAN_ONLY		0x100000000
/* System call number n is bit n % 64 of word n / 64. */
#define	LWC_CALLS_MAX		1024
struct lwc_calls {
	uint64_t	calls[LWC_CALLS_MAX / 64];
};
/* Such calls, and the limit: 0 (none is let through) to INT_MAX. */
struct lwc_below {
	struct lwc_calls calls;
	uint64_t	limit;
};
/* Such calls, and the least number: 0 to INT_MAX. */
struct lwc_from {
	struct lwc_calls calls;
	uint64_t	least;
};

/* Memory [start, end), page-aligned; ERASE takes so many bytes at once. */
#define	LWC_ERASE_MAX		0x100000
struct lwc_erase {
	uint64_t	start;
	uint64_t	end;
};

#ifndef _KERNEL
#ifdef __cplusplus
extern "C" {
#endif

/*
 * Make a context (contract 2).  Returns its descriptor; or, in the new
 * context, when somebody first switches to it, LWC_SWITCHED with src, src_args
 * and num_args (capacity in, count out) as lwSwitch() gives them.
 */
int	lwCreate(const struct lwc_spec *specs, int nspecs, int *src,
	    uint64_t *src_args, int *num_args, int flags);

/*
 * Save the current context and resume another where it last left, handing it
 * n words (contract 3).  Returns LWC_SWITCHED or LWC_TRAPPED when somebody
 * resumes this one.  The out arguments may be null.  LWC_UNTIL and LWC_ROOM go
 * with n.
 */
int	lwSwitch(int to, const uint64_t *to_args, int n, int *src,
	    uint64_t *src_args, int *num_args);

/*
 * The same, but destroy the current context (3.4), or roll it back to its
 * snapshot (10.3).  Returns only on failure.
 */
int	lwDiscardSwitch(int to, const uint64_t *to_args, int n);

/* Take resources out of a descriptor's rights, for ever (contract 4). */
int	lwRestrict(int lwc, const struct lwc_spec *specs, int nspecs);

/* Bring a source's resources here, at their places (contract 5). */
int	lwOverlay(int source, const struct lwc_spec *specs, int nspecs);

/*
 * Run one system call with the target's memory, files or credentials (mask:
 * type bits) and the caller's own for the rest (contract 7.2).  Reads
 * LWC_CALL_NARGS words.
 */
int64_t	lwSyscall(int target, int mask, int number, const uint64_t *args);

/* A descriptor of the current context (contract 1.3). */
int	lwGetlwc(void);

/* Facts about a context, for people and for tests (contract 8.1). */
int	lwInfo(int lwc, struct lwc_info *info);

/* End a context, introduce two, roll one back, give up calls, erase: above. */
int	lwControl(int lwc, int command, uint64_t argument);

#ifdef __cplusplus
}
#endif
#endif /* !_KERNEL */

#endif /* !_SYS_LWC_H_ */
