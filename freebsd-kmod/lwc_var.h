/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What every file of the module starts from: the kernel's headers, the
 * module's memory types, counters, and the rules of locking.  Each object has
 * a header of its own.
 *
 * Ownership.  What the current context has lies where the kernel expects it:
 * p_vmspace, p_fd, p_pd, p_ucred, p_sigacts, p_limit, the thread.  The pointers
 * in its struct lwc_ctx are stale then.  At a switch the references move: out
 * of the process into the context that is left, out of the context that is
 * entered into the process.  lwc_switch.c lists every field.
 *
 * Exclusiveness.  A process with a record (struct lwc_proc) shares neither
 * descriptor table nor address space nor signal actions with another process.
 * lwc_proc_get() refuses one that does; lwc_calls.c refuses the calls that
 * would bring it about; lwc_proc_fork() notices if it came about all the same
 * (a debugger can make calls past lwc_calls.c), before the other process runs,
 * and from then on every call of the module fails (lp_shared).  The kernel's
 * own mark of a shared table is p_fdtol.  So no table of such a process needs a
 * lock against others to be read, as long as the process has one thread.
 *
 * That is about owners.  Foreign processes look at what the process has, holding
 * it or blocking execve(2), and one of them writes: kern.proc.rlimit replaces
 * p_limit, and with RLIMIT_STACK changes protections in the map that p_vmspace
 * is.  lwc_cow_sync() says what that means for p_limit, lwc_vm.c for maps and
 * who else looks at them.
 *
 * Locks, named in the comments beside the fields:
 *  (g) lwc_hash_lock, rwlock: the table from process to struct lwc_proc.
 *  (l) lp_mtx: contexts, descriptors and rights of one process.  The last
 *      reference to an open file may be dropped by any process (kcmp(2), a
 *      reader of kern.proc.kqueue), so lwc_fo_close() runs anywhere.
 *  (t) the process's single thread, which is in the kernel: lwc_proc_check()
 *      has been asked, and nobody else runs in the process meanwhile.  Fields of
 *      a suspended context alone: what the process has, p_vmspace and p_limit
 *      above all, others read and kern.proc.rlimit changes, see above.
 *  (u) lwc_user_mtx.
 *  (c) constant after creation.
 *  (a) atomic.
 *
 * Order: descriptor table (sx) -> lp_mtx -> process lock -> sigacts; vm_map
 * (sx) alone.  (g) and (u) are leaves.  No lock is taken with lp_mtx held but
 * the process lock, by lwc_deadline_over(), lwc_reap() and lwc_proc_destroy(),
 * and nothing sleeps with one of them held.
 */

#ifndef _LWC_VAR_H_
#define	_LWC_VAR_H_

#include <sys/param.h>

#if __FreeBSD_version < 1501000
#error "lwc needs FreeBSD 15.1 or later: older kernels differ and are untested"
#endif

#include <sys/systm.h>
#include <sys/counter.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/malloc.h>
#include <sys/mutex.h>
#include <sys/proc.h>
#include <sys/queue.h>
#include <sys/refcount.h>
#include <sys/sdt.h>
#include <sys/sysctl.h>

#include "sys/lwc.h"

MALLOC_DECLARE(M_LWC);		/* records of processes and users */
MALLOC_DECLARE(M_LWCRIGHTS);	/* rights, specifiers, lists of calls */
MALLOC_DECLARE(M_LWCSTAGE);	/* for the time of a call */

SDT_PROVIDER_DECLARE(lwc);
SDT_PROBE_DECLARE(lwc, , , create);
SDT_PROBE_DECLARE(lwc, , , switch);
SDT_PROBE_DECLARE(lwc, , , destroy);
SDT_PROBE_DECLARE(lwc, , , overlay);
SDT_PROBE_DECLARE(lwc, , , restrict);
SDT_PROBE_DECLARE(lwc, , , trap);

/* lwc_module.c: limits (kern.lwc.*), what is there now, what happened. */
extern int	lwc_max_per_proc, lwc_max_contexts, lwc_max_specs;
extern int	lwc_max_per_user, lwc_max_descriptors_per_user;
extern int	lwc_max_ranges_per_user;
extern volatile u_int lwc_live;		/* contexts, roots not counted */
extern volatile u_int lwc_ndescs, lwc_nctxs, lwc_nprocs, lwc_nrights;
extern counter_u64_t lwc_ncreate, lwc_nswitch, lwc_nfault, lwc_ntrap;

/*
 * A place where a step can be made to fail: debug.fail_point.lwc_NAME, see
 * fail(9).  Only in kernels with INVARIANTS.
 */
#ifdef INVARIANTS
#include <sys/fail.h>
#define	LWC_FAIL(name, error) do {					\
	if ((error) == 0)						\
		KFAIL_POINT_CODE(DEBUG_FP, lwc_##name,			\
		    (error) = RETURN_VALUE);				\
} while (0)
#else
#define	LWC_FAIL(name, error)	do { } while (0)
#endif

#endif /* !_LWC_VAR_H_ */
