/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* The record of a process that uses the module. */

#ifndef _LWC_PROCESS_H_
#define	_LWC_PROCESS_H_

#include "lwc_var.h"

#include <sys/_callout.h>
#include <sys/resource.h>

#include <vm/vm.h>
#include <vm/pmap.h>
#include <vm/vm_map.h>

struct filedesc;
struct lwc_ctx;
struct lwc_desc;
struct lwc_nobody;
struct lwc_rights;
struct lwc_table;
struct lwc_user;
struct pwddesc;
struct sysentvec;

#define	LWC_DESC_HASH	1024

struct lwc_proc {
	u_int		lp_refs;	/* (a) */
	bool		lp_shared;	/* (a) with another process: no more */
	struct proc	*lp_proc;	/* (l) NULL once it exited */
	struct lwc_ctx	*lp_current;	/* (t) and (l): see sys_lwSwitch() */
	LIST_ENTRY(lwc_proc) lp_link;	/* (g) */
	struct mtx	lp_mtx;
	struct lwc_ctx	*lp_root;	/* (l) NULL once it is destroyed */
	LIST_HEAD(, lwc_ctx) lp_ctxs;	/* (l) the living */
	int		lp_nctx;	/* (l) */
	int		lp_nsnapshots;	/* (l) of them */
	uint64_t	lp_nextid;	/* (l) */
	struct sysentvec *lp_sysent;	/* (c) the system's own */
	struct lwc_user	*lp_user;	/* (c) counted; whom the root is of */

	/* lwc_fo_fork(): fdcopy() is ours, and what goes with whom. */
	bool		lp_copying;	/* (t) */
	int		lp_reserved;	/* (t) descriptors paid for already */
	struct lwc_ctx	*lp_lend_ctx;	/* (t) descriptors of this one ... */
	struct lwc_rights *lp_lend;	/* (t) ... get these rights */

	uint64_t	lp_narrowings;	/* (t) calls of lwc_files_narrow() */

	/* Deadlines, lwc_deadline.c. */
	struct callout	lp_callout;	/* (l) is its lock */
	sbintime_t	lp_armed;	/* (l) when it goes off, or 0 */
	sbintime_t	lp_again;	/* (l) between two kicks */
	LIST_HEAD(, lwc_ctx) lp_waiters; /* (l) who ever had a deadline */
	int		lp_nwaiters;	/* (l) */

	/* The dead. */
	struct thread	*lp_reaper;	/* (l) who destroys them */
	STAILQ_HEAD(, lwc_ctx) lp_dead;	/* (l) */
	STAILQ_HEAD(, lwc_table) lp_tables; /* (l) empty, to be freed */
	int		lp_ntables;	/* (l) */
	struct lwc_nobody *lp_nobody;	/* (c) who frees them */

	segsz_t		lp_data;	/* (t) vm_dsize was never more */
	struct rlimit	lp_limits[RLIM_NLIMITS]; /* (l) if there is no root */
	LIST_HEAD(, lwc_desc) lp_descs[LWC_DESC_HASH]; /* (l) */
};

void	lwc_process_init(void);
void	lwc_process_fini(void);
bool	lwc_process_close_gate(void);
struct lwc_proc *lwc_proc_find(struct proc *p);
int	lwc_proc_get(struct thread *td, struct lwc_proc **lpp);
void	lwc_proc_rele(struct lwc_proc *lp);
struct lwc_proc **lwc_proc_all(u_int *np);
bool	lwc_aio_active(struct proc *p);
int	lwc_proc_check_slow(struct thread *td);
void	lwc_reap(struct lwc_proc *lp, struct lwc_ctx *lc);
void	lwc_reap_pending(struct lwc_proc *lp);
bool	lwc_borrow(struct thread *td);
void	lwc_borrow_end(struct proc *p, bool inexec);

/*
 * 1.5: may this process change contexts now?  p_vmspace is one for all threads;
 * an AIO daemon looks up p_vmspace when it gets to run; attached shared memory
 * segments are counted by a vmspace in a way that only shmfork() knows; a table
 * that another process has (p_fdtol) is read without a lock here.  A debugger
 * that makes the call (P_TRACED) and profil(2) are looked at more closely.
 *
 * The answer holds until the call returns: whatever would change it is done by
 * a thread of this process, and its only one is here.  (AIO in flight ends, but
 * does not begin.)
 */
static inline int
lwc_proc_check(struct thread *td)
{
	struct proc *p;

	p = td->td_proc;
	if (__predict_false(p->p_numthreads != 1 || p->p_fdtol != NULL ||
	    p->p_vmspace->vm_shm != NULL ||
	    (p->p_aioinfo != NULL && lwc_aio_active(p))))
		return (EBUSY);
	if (__predict_false((p->p_flag & (P_TRACED | P_PROFIL)) != 0))
		return (lwc_proc_check_slow(td));
	return (0);
}

#endif /* !_LWC_PROCESS_H_ */
