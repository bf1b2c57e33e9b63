/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What the machine-independent part asks of a machine.
 *
 * machine-dependent state is everything the processor holds for a thread in
 * user mode: general registers, vector registers, TLS base.  The machine's
 * header (included below) defines struct lwc_md, which is embedded in every
 * context, and lwc_md_switch(), which is what a switch spends its time on, in
 * line; its source file defines the other functions.  All of them act on the
 * calling thread, in the kernel on behalf of user mode, with no spin lock
 * held; none of them sleeps but lwc_md_init().
 */

#ifndef _LWC_MACHDEP_H_
#define	_LWC_MACHDEP_H_

#if defined(__amd64__)
#include "amd64/lwc_md.h"
#else
#error "lwc: no machine-dependent part for this machine yet"
#endif

struct thread;
struct vm_page;

/* Ready an empty save area; may sleep. */
void	lwc_md_init(struct lwc_md *md);
/* Release what lwc_md_init() took. */
void	lwc_md_fini(struct lwc_md *md);

/*
 * Take a snapshot of a suspended state, and go back to it; the snapshot stays
 * until there is another one, or the state goes.
 */
void	lwc_md_snapshot(struct lwc_md *snapshot, struct lwc_md *md);
static void lwc_md_rollback(struct lwc_md *md, const struct lwc_md *snapshot);

/*
 * Does a page table have what vmspace_fork() copies beside the mappings, and a
 * program can change?
 */
static bool lwc_md_keys(struct pmap *pmap);

/*
 * The page at this address of a space that nobody is in: was it written to
 * since it was mapped, or last asked for?  Then it is not any more, as from
 * the next pmap_invalidate_all() on.
 */
enum lwc_md_written {
	LWC_MD_NOT_WRITTEN,
	LWC_MD_WRITTEN,
	LWC_MD_NOT_MAPPED	/* there, or in no simple way */
};
enum lwc_md_written lwc_md_page_clean(struct pmap *pmap, vm_offset_t va,
	    struct vm_page *m);

/* Does this operation of sysarch(2) change what all contexts have? */
bool	lwc_md_sysarch_shared(int op);

/* Do two pages have the same contents? */
bool	lwc_md_page_same(struct vm_page *m, struct vm_page *other);

/* Put the calling thread's user state into the save area. */
void	lwc_md_save(struct thread *td, struct lwc_md *md);
/*
 * The same (from may be null: not wanted), make another saved state the one
 * with which the thread returns to user mode, and activate p_vmspace.  A call
 * says that the thread left by a system call that returns there: then only the
 * registers that a system call preserves need be kept.
 */
static void lwc_md_switch(struct thread *td, struct lwc_md *from,
	    struct lwc_md *to, bool call);

/*
 * Give the system call from which the thread now returns this outcome: an
 * errno, or a value.  To be followed by a return of EJUSTRETURN.
 */
void	lwc_md_result(struct thread *td, int error, int64_t value,
	    int64_t second);

/*
 * Does the program single-step the system call that it makes?  (A debugger
 * may: it gets the trap, and knows what to do with it.)
 */
static bool lwc_md_stepping(const struct thread *td);

/*
 * Where the frame of a signal handler would be written, on the alternate stack
 * or not.  False: it is no range of user memory.
 */
bool	lwc_md_sigframe(struct thread *td, bool onstack, vm_offset_t *startp,
	    vm_offset_t *endp);

#endif /* !_LWC_MACHDEP_H_ */
