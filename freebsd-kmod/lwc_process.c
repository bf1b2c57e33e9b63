/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Processes that use the module: their records, and their exit, exec and fork.
 *
 * A process has a struct lwc_proc from its first call on, in a table keyed by
 * the process.  It gets one only if it shares nothing with another process
 * (lwc_proc_exclusive()), and runs with the module's sysentvec from then on,
 * which keeps that so.  At exit and exec all contexts but the current one are
 * destroyed, which breaks every cycle of descriptors.  The current one's
 * resources are the process's own and go the ordinary way.  A fork copies the
 * current context only: its child begins without a struct lwc_proc.
 *
 * The handlers run for every process of the system; they look at a counter
 * before they take a lock.
 *
 * Contexts are destroyed by a thread of their own process.  When their last
 * name goes elsewhere, or while that thread is busy destroying another, they
 * wait on lp_dead for it: for the AST that is set then, the next call, or the
 * exit.
 *
 * The module can be unloaded when no process has a record.  From the moment it
 * has said so (lwc_process_close_gate()) no process gets one.
 */

#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_deadline.h"
#include "lwc_files.h"
#include "lwc_process.h"
#include "lwc_trap.h"

#include <sys/callout.h>
#include <sys/eventhandler.h>
#include <sys/filedesc.h>
#include <sys/imgact.h>
#include <sys/rwlock.h>
#include <sys/smp.h>
#include <sys/sx.h>
#include <sys/sysent.h>

#define	LWC_PROC_HASH	256
#define	LWC_TRIES	100	/* of lwc_vm_shared() */

static struct rwlock lwc_hash_lock;
static LIST_HEAD(, lwc_proc) lwc_hash[LWC_PROC_HASH]; /* (g) */
static bool lwc_gate_closed;				/* (g) */

static eventhandler_tag lwc_exit_tag, lwc_exec_tag, lwc_fork_tag;

static u_int
lwc_hash_slot(struct proc *p)
{

	return (((uintptr_t)p >> 8) % LWC_PROC_HASH);
}

/*
 * What each processor found last, good as long as no process has lost its
 * record since.  Guarded contexts ask for theirs at every system call, and
 * all processors would write to the one lock.
 */
static struct lwc_recent {
	struct proc	*lr_proc;
	struct lwc_proc	*lr_lp;
	u_long		lr_lost;	/* lwc_lost at that time */
} __aligned(CACHE_LINE_SIZE) *lwc_recent;
static volatile u_long lwc_lost;	/* 64 bits: it does not come round */

static struct lwc_proc *
lwc_proc_recent(struct proc *p)
{
	struct lwc_proc *lp;
	struct lwc_recent *lr;

	/* Nobody else writes there meanwhile. */
	critical_enter();
	lr = &lwc_recent[PCPU_GET(cpuid)];
	lp = lr->lr_proc == p && lr->lr_lost == lwc_lost ? lr->lr_lp : NULL;
	critical_exit();
	return (lp);
}

/* The record of the calling process. */
struct lwc_proc *
lwc_proc_find(struct proc *p)
{
	struct lwc_proc *lp;
	struct lwc_recent *lr;
	u_long lost;

	KASSERT(p == curproc, ("lwc: the record of another process"));
	if (lwc_nprocs == 0)
		return (NULL);
	lp = lwc_proc_recent(p);
	if (lp != NULL)
		return (lp);
	/* Only the process itself could lose it, and it is here. */
	lost = lwc_lost;
	rw_rlock(&lwc_hash_lock);
	LIST_FOREACH(lp, &lwc_hash[lwc_hash_slot(p)], lp_link)
		if (lp->lp_proc == p)
			break;
	rw_runlock(&lwc_hash_lock);
	if (lp != NULL) {
		critical_enter();
		lr = &lwc_recent[PCPU_GET(cpuid)];
		lr->lr_proc = p;
		lr->lr_lp = lp;
		lr->lr_lost = lost;
		critical_exit();
	}
	return (lp);
}

/*
 * Is there another process with this address space?  vm_refcnt counts those who
 * just look at it, too; a daemon of the kernel's that works for this process
 * has it as its own for a moment.  A process that is being made has been counted
 * and may not have it yet: it is waited for.
 */
static bool
lwc_vm_shared(struct proc *p)
{
	struct proc *q;
	int try;
	bool new;

	for (try = 0; refcount_load(&p->p_vmspace->vm_refcnt) != 1; try++) {
		new = false;
		sx_slock(&allproc_lock);
		FOREACH_PROC_IN_SYSTEM(q) {
			if (q->p_state == PRS_NEW)
				new = true;
			if (q != p && q->p_vmspace == p->p_vmspace &&
			    (q->p_flag & P_SYSTEM) == 0)
				break;
		}
		sx_sunlock(&allproc_lock);
		if (q != NULL || try == LWC_TRIES)
			return (true);
		if (!new)
			return (false);
		pause("lwcnew", 1);
	}
	return (false);
}

/*
 * Does the calling process share nothing that a context owns?  Only fork1() can
 * bring sharing about, for a process that forks or for those who share with it
 * already, so the answer stands until this process forks.
 */
static bool
lwc_proc_exclusive(struct proc *p)
{

	return (p->p_numthreads == 1 &&
	    (p->p_flag & (P_PPWAIT | P_PROFIL | P_SYSTEM)) == 0 &&
	    p->p_leader == p && p->p_peers == NULL &&
	    LIST_EMPTY(&p->p_mqnotifier) &&
	    p->p_fdtol == NULL && p->p_fd->fd_refcnt == 1 &&
	    !sigacts_shared(p->p_sigacts) && !lwc_vm_shared(p));
}

/* A record for the calling process, not yet among the others. */
static struct lwc_proc *
lwc_proc_make(struct thread *td)
{
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	struct proc *p;

	p = td->td_proc;
	lp = malloc(sizeof(*lp), M_LWC, M_WAITOK | M_ZERO);
	refcount_init(&lp->lp_refs, 1);
	mtx_init(&lp->lp_mtx, "lwc process", NULL, MTX_DEF);
	LIST_INIT(&lp->lp_ctxs);
	STAILQ_INIT(&lp->lp_dead);
	STAILQ_INIT(&lp->lp_tables);
	lwc_deadline_init(lp);
	lp->lp_nobody = lwc_nobody_new();
	lp->lp_proc = p;
	lp->lp_sysent = p->p_sysent;
	lp->lp_user = lwc_user_get(td->td_ucred->cr_ruid);
	lp->lp_data = p->p_vmspace->vm_dsize;
	lc = lwc_ctx_alloc(lp, lwc_user_hold(lp->lp_user));
	lc->lc_id = lp->lp_nextid = 1;
	lc->lc_state = LWC_STATE_CURRENT;
	lc->lc_sysent = p->p_sysent;
	LIST_INSERT_HEAD(&lp->lp_ctxs, lc, lc_link);
	lp->lp_nctx = 1;
	lp->lp_current = lp->lp_root = lc;
	atomic_add_int(&lwc_nprocs, 1);
	return (lp);
}

/* The record goes, and its root with it, whose resources are the process's. */
static void
lwc_proc_unmake(struct lwc_proc *lp)
{
	struct lwc_ctx *lc;

	lc = lp->lp_current;
	mtx_lock(&lp->lp_mtx);
	lp->lp_proc = NULL;
	lp->lp_current = lp->lp_root = NULL;
	LIST_REMOVE(lc, lc_link);
	mtx_unlock(&lp->lp_mtx);
	lwc_deadline_fini(lp);
	lwc_ctx_rele(lc);
	lwc_proc_rele(lp);
}

/*
 * The calling process's record, made on the first call.  EBUSY: the process
 * shares something that a context owns, or has several threads (two of which
 * might make a record at once), or the module is about to go.
 */
int
lwc_proc_get(struct thread *td, struct lwc_proc **lpp)
{
	struct lwc_proc *lp;
	struct proc *p;
	int error;

	p = td->td_proc;
	lp = lwc_proc_find(p);
	if (lp != NULL) {
		*lpp = lp;
		return (lp->lp_shared ? EBUSY : 0);
	}
	if (!lwc_proc_exclusive(p))
		return (EBUSY);
	lp = lwc_proc_make(td);
	/* Another system's calls cannot be looked at. */
	error = lwc_sysent_install(lp, lp->lp_current, false) ? 0 : EINVAL;
	if (error != 0) {
		lwc_proc_unmake(lp);
		return (error);
	}
	rw_wlock(&lwc_hash_lock);
	error = lwc_gate_closed ? EBUSY : 0;
	LWC_FAIL(process, error);
	if (error == 0)
		LIST_INSERT_HEAD(&lwc_hash[lwc_hash_slot(p)], lp, lp_link);
	rw_wunlock(&lwc_hash_lock);
	if (error != 0) {
		PROC_LOCK(p);
		p->p_sysent = lp->lp_sysent;
		PROC_UNLOCK(p);
		lwc_proc_unmake(lp);
		return (error);
	}
	*lpp = lp;
	return (0);
}

void
lwc_proc_rele(struct lwc_proc *lp)
{

	if (!refcount_release(&lp->lp_refs))
		return;
	KASSERT(lp->lp_proc == NULL && LIST_EMPTY(&lp->lp_ctxs) &&
	    STAILQ_EMPTY(&lp->lp_tables), ("lwc: a record is freed in use"));
	lwc_user_rele(lp->lp_user);
	lwc_nobody_free(lp->lp_nobody);
	mtx_destroy(&lp->lp_mtx);
	free(lp, M_LWC);
	atomic_subtract_int(&lwc_nprocs, 1);
}

/*
 * All records that there are at this moment, referenced each; whoever made more
 * meanwhile is not among them.  To be freed (M_LWCSTAGE).
 */
struct lwc_proc **
lwc_proc_all(u_int *np)
{
	struct lwc_proc *lp, **lps;
	u_int i, n, room;

	room = lwc_nprocs + 1;
	lps = mallocarray(room, sizeof(lps[0]), M_LWCSTAGE, M_WAITOK);
	n = 0;
	rw_rlock(&lwc_hash_lock);
	for (i = 0; i < LWC_PROC_HASH; i++) {
		LIST_FOREACH(lp, &lwc_hash[i], lp_link) {
			if (n == room)
				break;
			refcount_acquire(&lp->lp_refs);
			lps[n++] = lp;
		}
	}
	rw_runlock(&lwc_hash_lock);
	*np = n;
	return (lps);
}

/* May the module go?  From then on nobody gets a record. */
bool
lwc_process_close_gate(void)
{
	bool closed;

	rw_wlock(&lwc_hash_lock);
	closed = lwc_gate_closed = lwc_nprocs == 0;
	rw_wunlock(&lwc_hash_lock);
	return (closed);
}

/*
 * The head of the kernel's private struct kaioinfo, unchanged in all of 15;
 * on a kernel that is newer than what was looked at, any process that ever
 * used asynchronous I/O is taken to have some in flight.  Counted is what
 * was queued and not yet collected: the number of active ones leaves out
 * what a socket or a disk holds.
 */
struct lwc_kaioinfo {
	struct mtx	mtx;
	int		flags;
	int		active;
	int		queued;
};

bool
lwc_aio_active(struct proc *p)
{

#if __FreeBSD_version < 1600000
	return (((struct lwc_kaioinfo *)p->p_aioinfo)->queued != 0);
#else
	return (true);
#endif
}

/*
 * A call that the debugger makes in the process (PT_SC_REMOTE) finds it stopped
 * anywhere, with registers that no call would keep.  profil(2) that was begun
 * past lwc_calls.c counts in user memory.
 */
int
lwc_proc_check_slow(struct thread *td)
{

	return ((td->td_dbgflags & TDB_SCREMOTEREQ) != 0 ||
	    (td->td_proc->p_flag & P_PROFIL) != 0 ? EBUSY : 0);
}

/*
 * The process is about to have, for a moment, what is not the current context's:
 * a table to be filled, a table or a space to be freed.  Nobody looks at it
 * meanwhile whom the current context's credentials would let: p_candebug(9)
 * refuses and execve_block(9) waits, as during execve(2).  Whoever is looking
 * already is waited for; the process lock is let go for that.
 */
bool
lwc_borrow(struct thread *td)
{
	struct proc *p;
	bool inexec;

	p = td->td_proc;
	PROC_LOCK_ASSERT(p, MA_OWNED);
	execve_block_pass(td);
	inexec = (p->p_flag & P_INEXEC) != 0;
	p->p_flag |= P_INEXEC;
	return (inexec);
}

/* It is over; inexec is what lwc_borrow() said: in execve(2) it goes on. */
void
lwc_borrow_end(struct proc *p, bool inexec)
{

	PROC_LOCK_ASSERT(p, MA_OWNED);
	KASSERT((p->p_flag & P_INEXEC) != 0, ("lwc: nothing was borrowed"));
	if (inexec)
		return;
	p->p_flag &= ~P_INEXEC;
	if ((p->p_flag & P_INEXEC_WAIT) != 0) {
		p->p_flag &= ~P_INEXEC_WAIT;
		wakeup(&p->p_execblock);
	}
}

/* Have the process look after lp_dead.  lp_mtx is held. */
static void
lwc_reap_ask(struct lwc_proc *lp)
{
	struct proc *p;
	struct thread *td;

	mtx_assert(&lp->lp_mtx, MA_OWNED);
	p = lp->lp_proc;
	KASSERT(p != NULL, ("lwc: a context dies after its process"));
	PROC_LOCK(p);
	td = FIRST_THREAD_IN_PROC(p);
	if (td != NULL)
		ast_sched(td, LWC_AST);
	PROC_UNLOCK(p);
}

/* Destroy the first of the dead, and those who die of that. */
static void
lwc_reap_all(struct lwc_proc *lp)
{
	struct lwc_ctx *lc;

	mtx_assert(&lp->lp_mtx, MA_OWNED);
	lp->lp_reaper = curthread;
	/* The last of them may hold the last reference. */
	refcount_acquire(&lp->lp_refs);
	while ((lc = STAILQ_FIRST(&lp->lp_dead)) != NULL) {
		STAILQ_REMOVE_HEAD(&lp->lp_dead, lc_dead);
		mtx_unlock(&lp->lp_mtx);
		lwc_ctx_destroy(lc);
		mtx_lock(&lp->lp_mtx);
	}
	lp->lp_reaper = NULL;
	mtx_unlock(&lp->lp_mtx);
	lwc_proc_rele(lp);
}

/*
 * Destroy a context that is dead from now on (or whose thread, in lwc_enter(),
 * has just left it so): here and now if the caller may (with all that die of
 * it, one after the other, whatever the depth of the closing), else when its
 * process gets to it.  Called with lp_mtx held, returns without: from when it
 * is dead it is on lp_dead, which the process empties before it ends.
 */
void
lwc_reap(struct lwc_proc *lp, struct lwc_ctx *lc)
{

	mtx_assert(&lp->lp_mtx, MA_OWNED);
	lc->lc_state = LWC_STATE_DEAD;
	STAILQ_INSERT_TAIL(&lp->lp_dead, lc, lc_dead);
	if (lp->lp_reaper != NULL) {
		mtx_unlock(&lp->lp_mtx);
	} else if (lp->lp_proc != curproc) {
		lwc_reap_ask(lp);
		mtx_unlock(&lp->lp_mtx);
	} else {
		lwc_reap_all(lp);
	}
}

/* The process looks after what others left to it. */
void
lwc_reap_pending(struct lwc_proc *lp)
{

	/* Most ASTs are for a deadline. */
	if (!STAILQ_EMPTY(&lp->lp_tables))
		lwc_tables_drain(lp, false);
	mtx_lock(&lp->lp_mtx);
	if (STAILQ_EMPTY(&lp->lp_dead) || lp->lp_reaper != NULL)
		mtx_unlock(&lp->lp_mtx);
	else
		lwc_reap_all(lp);
}

/* No AST of ours comes any more: the module may go. */
static void
lwc_ast_cancel(struct proc *p)
{
	struct thread *td;

	PROC_LOCK(p);
	FOREACH_THREAD_IN_PROC(p, td) {
		thread_lock(td);
		ast_unsched_locked(td, LWC_AST);
		thread_unlock(td);
	}
	PROC_UNLOCK(p);
}

/*
 * Everything of a process but its current context goes.  Called by the
 * process itself, at exit or exec, with all other threads stopped.
 */
static void
lwc_proc_destroy(struct lwc_proc *lp)
{
	struct lwc_ctx *cur, *lc, *next;
	struct proc *p;

	p = lp->lp_proc;
	KASSERT(p == curproc, ("lwc: the end of another process"));
	cur = lp->lp_current;
	PROC_LOCK(p);
	p->p_sysent = lp->lp_sysent;
	PROC_UNLOCK(p);
	lwc_signals_disarm(p->p_sigacts);
	rw_wlock(&lwc_hash_lock);
	LIST_REMOVE(lp, lp_link);
	rw_wunlock(&lwc_hash_lock);
	atomic_add_long(&lwc_lost, 1);
	/*
	 * Mark them first: those that die of closing the others' tables must
	 * find nothing left to do.  Those on lp_dead are marked already.
	 */
	mtx_lock(&lp->lp_mtx);
	KASSERT(lp->lp_reaper == NULL,
	    ("lwc: a thread that is gone destroys contexts"));
	LIST_FOREACH_SAFE(lc, &lp->lp_ctxs, lc_link, next) {
		if (lc->lc_state == LWC_STATE_DEAD)
			continue;
		lc->lc_state = LWC_STATE_DEAD;
		if (lc == cur)
			STAILQ_INSERT_TAIL(&lp->lp_dead, lc, lc_dead);
		else
			STAILQ_INSERT_HEAD(&lp->lp_dead, lc, lc_dead);
	}
	/* The process itself has its resources. */
	cur->lc_vm = NULL;
	cur->lc_fd = NULL;
	cur->lc_pd = NULL;
	cur->lc_cred = NULL;
	cur->lc_sigacts = NULL;
	cur->lc_limit = NULL;
	refcount_acquire(&lp->lp_refs);
	lwc_reap_all(lp);
	lwc_tables_drain(lp, true);
	mtx_lock(&lp->lp_mtx);
	lp->lp_current = NULL;
	lp->lp_proc = NULL;
	mtx_unlock(&lp->lp_mtx);
	lwc_deadline_fini(lp);
	lwc_ast_cancel(p);
	lwc_proc_rele(lp);
	lwc_proc_rele(lp);
}

static void
lwc_proc_exit(void *arg __unused, struct proc *p)
{
	struct lwc_proc *lp;

	lp = lwc_proc_find(p);
	if (lp != NULL)
		lwc_proc_destroy(lp);
}

/*
 * p_vmspace stays as it is: exec has looked at it already.  1.3: our
 * descriptors are gone after exec, whatever the program did to their flags.
 */
static void
lwc_proc_exec(void *arg __unused, struct proc *p,
    struct image_params *imgp __unused)
{
	struct filedesc *fdp;
	struct file *fp;
	struct lwc_proc *lp;
	int fd;

	lp = lwc_proc_find(p);
	if (lp == NULL)
		return;
	fdp = p->p_fd;
	FILEDESC_XLOCK(fdp);
	for (fd = 0; fd < fdp->fd_nfiles; fd++) {
		fp = fdp->fd_ofiles[fd].fde_file;
		if (fp != NULL && fp->f_ops == &lwc_fileops)
			fdp->fd_ofiles[fd].fde_flags |= UF_EXCLOSE;
	}
	FILEDESC_XUNLOCK(fdp);
	lwc_proc_destroy(lp);
}

/*
 * The child has no record yet, and does not run yet.  If it shares what a
 * context owns, this process's contexts are at an end: nothing is done with
 * them any more but to destroy them.
 */
static void
lwc_proc_fork(void *arg __unused, struct proc *p1, struct proc *p2,
    int flags __unused)
{
	struct lwc_proc *lp;

	/* A daemon of the kernel's is forked from its first process. */
	lp = p1 == curproc ? lwc_proc_find(p1) : NULL;
	if (lp == NULL)
		return;
	p2->p_sysent = lp->lp_sysent;
	if (p2->p_sigacts != p1->p_sigacts)
		lwc_signals_disarm(p2->p_sigacts);
	if (p2->p_fd == p1->p_fd || p2->p_vmspace == p1->p_vmspace ||
	    p2->p_sigacts == p1->p_sigacts || p2->p_leader == p1->p_leader)
		lp->lp_shared = true;
}

void
lwc_process_init(void)
{
	int i;

	rw_init(&lwc_hash_lock, "lwc processes");
	for (i = 0; i < LWC_PROC_HASH; i++)
		LIST_INIT(&lwc_hash[i]);
	lwc_gate_closed = false;
	lwc_recent = malloc_aligned((mp_maxid + 1) * sizeof(*lwc_recent),
	    CACHE_LINE_SIZE, M_LWC, M_WAITOK | M_ZERO);
	lwc_exit_tag = EVENTHANDLER_REGISTER(process_exit, lwc_proc_exit,
	    NULL, EVENTHANDLER_PRI_FIRST);
	lwc_exec_tag = EVENTHANDLER_REGISTER(process_exec, lwc_proc_exec,
	    NULL, EVENTHANDLER_PRI_FIRST);
	lwc_fork_tag = EVENTHANDLER_REGISTER(process_fork, lwc_proc_fork,
	    NULL, EVENTHANDLER_PRI_FIRST);
}

/* The gate is closed, or the module never came to its end of loading. */
void
lwc_process_fini(void)
{

	EVENTHANDLER_DEREGISTER(process_exit, lwc_exit_tag);
	EVENTHANDLER_DEREGISTER(process_exec, lwc_exec_tag);
	EVENTHANDLER_DEREGISTER(process_fork, lwc_fork_tag);
	KASSERT(lwc_nprocs == 0, ("lwc: %u processes are left", lwc_nprocs));
	free(lwc_recent, M_LWC);
	rw_destroy(&lwc_hash_lock);
}
