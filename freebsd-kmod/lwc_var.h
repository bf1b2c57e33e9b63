/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The module's own structures, and who locks what.
 *
 * Ownership.  What the current context has lies where the kernel expects it:
 * p_vmspace, p_fd, p_pd, p_ucred, p_sigacts, the thread.  The pointers in its
 * struct lwc_ctx are stale then.  At a switch the references move: out of the
 * process into the context left, out of the context entered into the process.
 *
 * Locks.
 *  (g) lwc_hash_lock, rwlock: the table from process to struct lwc_proc.
 *  (l) lp_mtx: contexts, descriptors and rights of one process.  Other
 *      processes come here too, when they share a descriptor table (rfork).
 *  (r) lwc_reap_mtx: contexts handed to the reaper's kernel process.
 *  (t) only the process's single thread, which runs in the kernel.
 *  (c) constant after creation.
 *  (a) atomic.
 *
 * Order: descriptor table (sx) -> lp_mtx -> process lock -> sigacts ->
 * lwc_hash_lock; vm_map (sx) alone.  (g) and (r) are leaves, and (l) is but
 * for lwc_patience_over(): no other lock is taken, and nothing that may sleep
 * is done, with one of them held.
 */

#ifndef _LWC_VAR_H_
#define	_LWC_VAR_H_

#include <sys/param.h>
#include <sys/_callout.h>

#if __FreeBSD_version < 1501000
#error "lwc needs FreeBSD 15.1 or later: older kernels differ and are untested"
#endif

#include <sys/systm.h>
#include <sys/file.h>
#include <sys/filedesc.h>
#include <sys/kernel.h>
#include <sys/lock.h>
#include <sys/malloc.h>
#include <sys/mutex.h>
#include <sys/proc.h>
#include <sys/queue.h>
#include <sys/refcount.h>
#include <sys/sdt.h>
#include <sys/signalvar.h>
#include <sys/sysctl.h>
#include <sys/sysent.h>
#include <sys/ucred.h>

#include <vm/vm.h>
#include <vm/pmap.h>
#include <vm/vm_map.h>

#include "sys/lwc.h"
#include "lwc_machdep.h"

MALLOC_DECLARE(M_LWC);
SDT_PROVIDER_DECLARE(lwc);
SDT_PROBE_DECLARE(lwc, , , create);
SDT_PROBE_DECLARE(lwc, , , switch);
SDT_PROBE_DECLARE(lwc, , , destroy);
SDT_PROBE_DECLARE(lwc, , , overlay);
SDT_PROBE_DECLARE(lwc, , , restrict);
SDT_PROBE_DECLARE(lwc, , , trap);

/* A half-open range: of addresses, or of descriptor numbers. */
struct lwc_range {
	uint64_t	r_start;
	uint64_t	r_end;
};
#define	LWC_FILES_END	((uint64_t)1 << 31)

/*
 * Rights over a context: immutable and counted, so they can be shared by
 * descriptors; narrowing makes another one.  Ranges are sorted and disjoint.
 */
struct lwc_rights {
	u_int		rg_refs;	/* (a) */
	bool		rg_cred;	/* (c) */
	int		rg_nmem;	/* (c) */
	int		rg_nfiles;	/* (c) */
	struct lwc_range rg_range[];	/* (c) memory, then files */
};

/* What a context finds when it resumes. */
struct lwc_event {
	int		ev_kind;	/* LWC_SWITCHED, LWC_TRAPPED */
	int		ev_n;
	sbintime_t	ev_until;	/* the caller's, or 0 */
	uint64_t	ev_words[LWC_MAX_ARGS + 1];
};

/* Where it wants that: its own addresses, null if not wanted. */
struct lwc_out {
	int		*ou_src;
	uint64_t	*ou_args;
	int		*ou_num;
	int		ou_cap;
};

/* Per-thread kernel state that speaks of the context's own memory. */
struct lwc_thread {
	sigset_t	lt_sigmask;
	stack_t		lt_sigstk;
	int		lt_pflags;	/* TDP_ALTSTACK, TDP_SIGFASTBLOCK */
	int		lt_pflags2;	/* TDP2_UEXTERR */
	void		*lt_sigblock_ptr;
	uint32_t	lt_sigblock_val;
	void		*lt_exterr_ptr;
	uintptr_t	lt_rb_list;
	uintptr_t	lt_rbp_list;
	uintptr_t	lt_rb_inact;
};

/* Internal states, beyond LWC_STATE_*. */
#define	LWC_STATE_REPLY		100	/* waits for an answer to its trap */

/*
 * A descriptor table that contexts of one process share, and how many of the
 * suspended ones have it.  If with the current one that is all who have it, no
 * other process can close anything there.  Too low a count is safe.
 */
struct lwc_shared {
	u_int		sh_refs;	/* (a) contexts that point here */
	u_int		sh_held;	/* (a) */
	struct filedesc	*sh_table;	/* (c) not counted by this */
};

struct lwc_ctx {
	u_int		lc_refs;	/* (a) who points here */
	int		lc_state;	/* (l), or (t): see sys_lwSwitch() */
	int		lc_names;	/* (l) descriptors, and guarded children */
	int		lc_flags;	/* (c) of lwCreate() */
	uint64_t	lc_id;		/* (c) */
	struct lwc_proc	*lc_lp;		/* (c) counted */
	struct lwc_ctx	*lc_creator;	/* (c) counted; NULL in the root */
	struct lwc_ctx	*lc_monitor;	/* (c) counted; takes the calls */
	struct lwc_rights *lc_back;	/* (c) over its creator */
	struct lwc_rights *lc_self;	/* (l) most anyone has over it */
	LIST_ENTRY(lwc_ctx) lc_link;	/* (l) lp_ctxs */
	STAILQ_ENTRY(lwc_ctx) lc_dead;	/* (l), (r) lists of the dead */

	/* Suspended contexts own these; (t). */
	struct vmspace	*lc_vm;
	struct filedesc	*lc_fd;
	struct lwc_shared *lc_shared;	/* (t) of that table, or NULL */
	struct pwddesc	*lc_pd;
	struct ucred	*lc_cred;	/* twice, see lwc_cred.c ... */
	long		lc_credref;	/* ... with what the thread counted */
	struct sigacts	*lc_sigacts;
	struct sysentvec *lc_sysent;	/* not owned */
	struct plimit	*lc_limit;	/* twice, as well */
	struct lwc_thread lc_thread;
	struct lwc_out	lc_out;
	struct lwc_md	lc_md;
	/* Hints: ids, and numbers in our table, or in the callee's. */
	uint64_t	lc_caller;
	uint64_t	lc_callee;
	int		lc_caller_fd;
	int		lc_callee_fd;

	struct lwc_allow *lc_allow;	/* (t) counted; NULL: all calls */
	bool		lc_preempted;	/* (t) left without a call */
	sbintime_t	lc_deadline;	/* (t) 0: none; a look from outside */
	sbintime_t	lc_armed;	/* (l) when lc_callout goes off, or 0 */
	struct callout	lc_callout;

	/* An end that is to be carried out before user mode; (t). */
	bool		lc_ending;
	int		lc_end_signal;
	int		lc_end_code;
	uint64_t	lc_end_addr;
};

/* The object behind a descriptor: one struct file each. */
struct lwc_desc {
	struct lwc_ctx	*ld_ctx;	/* (c) counted */
	struct lwc_rights *ld_rights;	/* (l) */
	struct filedesc	*ld_fdp;	/* (l) hint: the table it went to ... */
	int		ld_fd;		/* (l) ... and its number there */
	LIST_ENTRY(lwc_desc) ld_hash;	/* (l) by context and table */
};

#define	LWC_DESC_HASH	1024

struct lwc_proc {
	u_int		lp_refs;	/* (a) */
	struct proc	*lp_proc;	/* (l) NULL once it exited */
	LIST_ENTRY(lwc_proc) lp_link;	/* (g) */
	struct mtx	lp_mtx;
	struct lwc_ctx	*lp_current;	/* (t), to change as lc_state */
	LIST_HEAD(, lwc_ctx) lp_ctxs;	/* (l) the living */
	int		lp_nctx;	/* (l) */
	uint64_t	lp_nextid;	/* (l) */
	bool		lp_copying;	/* (t) fdcopy() is ours */
	struct lwc_rights *lp_back;	/* (t) lwCreate(): over its creator */
	struct thread	*lp_reaper;	/* (l) who destroys the dead */
	STAILQ_HEAD(, lwc_ctx) lp_dead;	/* (l) */
	struct sysentvec *lp_sysent;	/* (c) the system's own */
	bool		lp_ours;	/* (t) counted in lwc_nours */
	LIST_HEAD(, lwc_desc) lp_descs[LWC_DESC_HASH]; /* (l) */
};

/* A table of specifiers, copied in and checked. */
struct lwc_specs {
	int		sp_n;
	struct lwc_spec	*sp_spec;
};
static inline bool
lwc_spec_is(const struct lwc_spec *s, u_int type)
{
	return ((s->flags & LWC_TYPES) == type);
}
/* Of a files specifier: the half-open range. */
static inline uint64_t
lwc_files_start(const struct lwc_spec *s)
{
	return (s->sub.descriptors.from == -1 ? 0 : s->sub.descriptors.from);
}
static inline uint64_t
lwc_files_end(const struct lwc_spec *s)
{
	return (s->sub.descriptors.to == -1 ? LWC_FILES_END :
	    (uint64_t)s->sub.descriptors.to + 1);
}
static inline bool
lwc_files_whole(const struct lwc_spec *s)
{
	return (s->sub.descriptors.from == -1);
}

/* System call arguments. */
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
struct lwSyscall_args {
	LWC_ARG(int, target);
	LWC_ARG(int, mask);
	LWC_ARG(int, number);
	LWC_ARG(const uint64_t *, args);
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

/* lwc_module.c */
extern int	lwc_max_per_proc, lwc_max_contexts, lwc_max_specs;
extern volatile u_int lwc_live;		/* contexts, roots not counted */
extern volatile u_int lwc_nours;	/* processes that run with our sysentvec */
extern int lwSwitch_number;
extern volatile u_int lwc_ndescs, lwc_nctxs, lwc_nprocs, lwc_nrights;
extern volatile u_long lwc_ncreate, lwc_nswitch, lwc_nfault, lwc_ntrap;
bool	lwc_is_ours(sy_call_t *call);

/* lwc_context.c */
extern const struct fileops lwc_fileops;
void	lwc_context_init(void);
void	lwc_context_fini(void);
struct lwc_ctx *lwc_ctx_alloc(struct lwc_proc *lp);
void	lwc_ctx_ref(struct lwc_ctx *lc);
void	lwc_ctx_rele(struct lwc_ctx *lc);
void	lwc_ctx_destroy(struct lwc_ctx *lc);
void	lwc_ctx_unname(struct lwc_ctx *lc);
int	lwc_desc_file(struct thread *td, struct lwc_ctx *lc,
	    struct lwc_rights *rg, struct file **fpp);
int	lwc_desc_install(struct thread *td, struct lwc_ctx *lc,
	    struct lwc_rights *rg, int *fdp);
/* Does this number of a table name this context?  The table is locked or ours. */
static inline bool
lwc_desc_names(struct filedesc *fdp, int fd, const struct lwc_ctx *lc)
{
	struct file *fp;

	if ((u_int)fd >= (u_int)fdp->fd_nfiles)
		return (false);
	fp = fdp->fd_ofiles[fd].fde_file;
	return (fp != NULL && fp->f_ops == &lwc_fileops &&
	    ((struct lwc_desc *)fp->f_data)->ld_ctx == lc);
}

int	lwc_desc_find(struct lwc_proc *lp, struct filedesc *fdp,
	    struct lwc_ctx *lc);
void	lwc_desc_moved(struct file *fp, struct filedesc *fdp, int fd);
int	lwc_ctx_get(struct thread *td, int fd, struct lwc_ctx **lcp,
	    struct lwc_rights **rgp);
int	sys_lwGetlwc(struct thread *td, void *uap);
int	sys_lwInfo(struct thread *td, struct lwInfo_args *uap);

/* lwc_process.c */
void	lwc_process_init(void);
void	lwc_process_fini(void);
struct lwc_proc *lwc_proc_find(struct proc *p);
struct lwc_proc *lwc_proc_get(struct thread *td);
void	lwc_proc_rele(struct lwc_proc *lp);
bool	lwc_aio_active(struct proc *p);
/*
 * 1.5: may this process change contexts at all?  p_vmspace is one for all
 * threads; an AIO daemon looks up p_vmspace when it gets to run; attached
 * shared memory segments are counted by a vmspace in a way that only
 * shmfork() knows; a vfork(2) child runs on its parent's stack.
 */
static inline int
lwc_proc_check(struct thread *td)
{
	struct proc *p;

	p = td->td_proc;
	if (p->p_numthreads != 1 || p->p_vmspace->vm_shm != NULL ||
	    (p->p_flag & P_PPWAIT) != 0 ||
	    (p->p_aioinfo != NULL && lwc_aio_active(p)))
		return (EBUSY);
	return (0);
}
void	lwc_reap(struct lwc_proc *lp, struct lwc_ctx *lc);
void	lwc_table_free(struct filedesc *fdp, struct pwddesc *pdp);

/* lwc_create.c */
int	sys_lwCreate(struct thread *td, struct lwCreate_args *uap);
/* Where the caller wants what comes when it is resumed. */
static inline int
lwc_out_copyin(struct lwc_out *ou, int *src, uint64_t *args, int *num,
    bool room)
{
	int error;

	ou->ou_src = src;
	ou->ou_args = args;
	ou->ou_num = num;
	if (room) {
		ou->ou_cap = args == NULL ? 0 : LWC_MAX_ARGS;
		return (num == NULL ? 0 : EINVAL);
	}
	ou->ou_cap = 0;
	if (num == NULL)
		return (args == NULL ? 0 : EINVAL);
	error = copyin(num, &ou->ou_cap, sizeof(ou->ou_cap));
	if (error != 0)
		return (error);
	if (ou->ou_cap < 0)
		return (EINVAL);
	if (args == NULL)
		ou->ou_cap = 0;
	ou->ou_cap = MIN(ou->ou_cap, LWC_MAX_ARGS);
	return (0);
}

/* lwc_vm_lazy.c */
struct lwc_lazy;
struct lwc_lazy *lwc_lazy_take(struct vm_map *map);
int	lwc_lazy_give(struct vmspace *old, struct lwc_lazy *lz,
	    struct vmspace *new);

/* lwc_vm.c */
int	lwc_vm_fork(struct vmspace *vm, const struct lwc_specs *sp, int flags,
	    struct vmspace **vmp);
struct lwc_stage;
int	lwc_vm_stage(struct vmspace *src, const struct lwc_specs *sp,
	    struct vmspace *dst, struct lwc_stage **stp);
void	lwc_vm_apply(struct vmspace *dst, struct lwc_stage *st);
void	lwc_vm_unstage(struct lwc_stage *st);
void	lwc_vm_free(struct vmspace *vm);
uint64_t lwc_vm_private(struct vmspace *vm);

/* lwc_files.c */
int	lwc_files_fork(struct thread *td, struct lwc_proc *lp,
	    const struct lwc_specs *sp, struct lwc_ctx *lc);
struct lwc_shared *lwc_shared_get(struct lwc_shared **slot,
	    struct filedesc *fdp, u_int held);
void	lwc_shared_drop(struct lwc_shared **slot);
void	lwc_shared_swap(struct lwc_ctx *from, struct lwc_ctx *to,
	    struct filedesc *fdp);
/*
 * Has no other process this table?  It is the current context's (1) or a
 * suspended one's (0).  The table's count is read first: whoever lets go of a
 * table leaves our count before.
 */
static inline bool
lwc_table_ours(struct filedesc *fdp, struct lwc_shared *sh, u_int current)
{
	u_int refs;

	refs = atomic_load_acq_int((volatile u_int *)&fdp->fd_refcnt);
	return (refs == 1 || (sh != NULL && sh->sh_table == fdp &&
	    refs == atomic_load_int(&sh->sh_held) + current));
}
struct lwc_fstage;
int	lwc_files_stage(struct thread *td, struct lwc_proc *lp,
	    struct lwc_ctx *src, const struct lwc_specs *sp,
	    struct lwc_fstage **stp);
void	lwc_files_apply(struct thread *td, struct lwc_ctx *cur,
	    struct lwc_fstage *st);
void	lwc_files_unstage(struct thread *td, struct lwc_fstage *st);

/* lwc_switch.c */
#define	LWC_HOW_SUSPEND	0	/* it waits in lwSwitch() */
#define	LWC_HOW_TRAP	1	/* it waits for the answer to a trap */
#define	LWC_HOW_DISCARD	2	/* it goes */
#define	LWC_HOW_PREEMPT	3	/* it is not asked; the target gets ETIMEDOUT */
int	lwc_enter(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *to,
	    const struct lwc_event *ev, int how);
int	lwc_introduce(struct thread *td, struct lwc_proc *lp,
	    struct lwc_ctx *from, struct lwc_ctx *to, int *srcp);
int	sys_lwSwitch(struct thread *td, struct lwSwitch_args *uap);
int	sys_lwDiscardSwitch(struct thread *td,
	    struct lwDiscardSwitch_args *uap);

/* lwc_cred.c */
void	lwc_cow_copy(struct thread *td, struct lwc_ctx *lc);
void	lwc_cow_free(struct lwc_ctx *lc);
void	lwc_cow_sync_slow(struct thread *td);
void	lwc_cred_recount(struct proc *p, struct ucred *from, struct ucred *to);
/* What is counted by credentials follows them.  Called without locks. */
static inline void
lwc_cred_changed(struct proc *p, struct ucred *from, struct ucred *to)
{
	if (from != to && (from->cr_ruidinfo != to->cr_ruidinfo ||
	    from->cr_prison != to->cr_prison ||
	    from->cr_loginclass != to->cr_loginclass))
		lwc_cred_recount(p, from, to);
}
void	lwc_cred_exchange(struct thread *td, struct ucred **credp, long *refp);
void	lwc_cred_install(struct thread *td, struct ucred *new);
/* Let the thread catch up with its process, whose lock is let go meanwhile. */
static inline void
lwc_cow_sync(struct thread *td, struct proc *p)
{
	if (__predict_false(td->td_cowgen != p->p_cowgen))
		lwc_cow_sync_slow(td);
}
/* Exchange the process's and its thread's for a suspended context's. */
static inline void
lwc_cred_swap(struct thread *td, struct proc *p, struct ucred **credp,
    long *refp)
{
	struct ucred *cred;
	long ref;

	cred = p->p_ucred;
	ref = td->td_ucredref;
	KASSERT(td->td_realucred == cred && td->td_ucred == cred,
	    ("lwc: the thread has other credentials than its process"));
	p->p_ucred = td->td_ucred = td->td_realucred = *credp;
	td->td_ucredref = *refp;
	*credp = cred;
	*refp = ref;
}

/* lwc_rights.c */
void	lwc_rights_init(void);
void	lwc_rights_fini(void);
struct lwc_rights *lwc_rights_all(void);
struct lwc_rights *lwc_rights_none(void);
struct lwc_rights *lwc_rights_hold(struct lwc_rights *rg);
void	lwc_rights_free(struct lwc_rights *rg);
bool	lwc_rights_mem(const struct lwc_rights *rg, uint64_t s, uint64_t e);
bool	lwc_rights_files(const struct lwc_rights *rg, uint64_t s, uint64_t e);
int	lwc_rights_types(const struct lwc_rights *a,
	    const struct lwc_rights *b);
struct lwc_rights *lwc_rights_from(const struct lwc_specs *sp);
int	lwc_specs_copyin(const struct lwc_spec *u, int n, struct vm_map *map,
	    bool create, struct lwc_specs *sp);
void	lwc_specs_free(struct lwc_specs *sp);
int	sys_lwRestrict(struct thread *td, struct lwRestrict_args *uap);

/* lwc_overlay.c */
int	sys_lwOverlay(struct thread *td, struct lwRestrict_args *uap);

/* lwc_trap.c */
void	lwc_trap_init(void);
void	lwc_trap_fini(void);
bool	lwc_sysent_install(struct lwc_proc *lp, struct lwc_ctx *lc,
	    bool traps);
void	lwc_trap_arm(struct sigacts *ps, int flags, bool new);
void	lwc_trap_disarm(struct sigacts *ps);
sigset_t lwc_trap_mask(void);
#define	LWC_GUARD	(LWC_TRAP_FAULT | LWC_TRAP_EXIT)
sy_call_t lwc_call_deny;

#define	LWC_AST		TDA_MOD2	/* an end, or one of patience */

/* lwc_control.c */
/* The system calls that a context can make; NULL: all. */
struct lwc_allow {
	u_int		al_refs;	/* (a) */
	struct lwc_calls al_calls;	/* (c) */
};
struct lwc_allow *lwc_allow_hold(struct lwc_allow *al);
void	lwc_allow_free(struct lwc_allow *al);
static inline bool
lwc_allowed(const struct lwc_allow *al, u_int number)
{
	return (al == NULL || (number < LWC_CALLS_MAX &&
	    (al->al_calls.calls[number / 64] & (1ULL << (number % 64))) != 0));
}
int	sys_lwControl(struct thread *td, struct lwControl_args *uap);

/* lwc_patience.c */
void	lwc_patience_advance(struct lwc_ctx *lc, sbintime_t until);
/* The current context leaves, until then at most. */
static inline void
lwc_patience_begin(struct lwc_ctx *lc, sbintime_t until)
{
	sbintime_t armed;

	lc->lc_deadline = until;
	/* Either we see that the callout is over, or it sees the deadline. */
	atomic_thread_fence_seq_cst();
	armed = *(volatile sbintime_t *)&lc->lc_armed;
	if (armed == 0 || armed > until)
		lwc_patience_advance(lc, until);
}
/* User mode's CLOCK_MONOTONIC, in nanoseconds, as the kernel has it. */
static inline sbintime_t
lwc_patience_until(uint64_t ns)
{
	/* The clock does not get there. */
	if (ns >= (uint64_t)INT32_MAX * 1000000000)
		return (SBT_MAX);
	return (ns == 0 ? 1 : nstosbt(ns));
}
bool	lwc_patience_check(struct thread *td, struct lwc_proc *lp);

/* lwc_syscall.c */
int	lwc_syscall_run(struct thread *td, struct sysent *se, void *args);
int	sys_lwSyscall(struct thread *td, struct lwSyscall_args *uap);

#endif /* !_LWC_VAR_H_ */
