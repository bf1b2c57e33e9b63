/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Processes that have contexts: finding them, and their exit, exec and fork.
 *
 * A process has a struct lwc_proc from its first call on, in a table keyed by
 * the process.  At exit and exec all contexts but the current one are
 * destroyed, which breaks every cycle of descriptors.  The current one's
 * resources are the process's own and go the ordinary way.  A fork copies the
 * current context only: its child begins without a struct lwc_proc.
 *
 * The handlers run for every process of the system; they look at a counter
 * before they take a lock.
 *
 * Destroying needs a thread whose p_fd can be exchanged for a while, since
 * fdescfree() is the only way to release a table: the process's own, when it
 * is single-threaded, else a kernel process of the module.
 */

#include "lwc_var.h"

#include <sys/eventhandler.h>
#include <sys/imgact.h>
#include <sys/kthread.h>
#include <sys/racct.h>
#include <sys/rwlock.h>
#include <sys/smp.h>
#include <sys/sx.h>


#define	LWC_PROC_HASH	256

static struct rwlock lwc_hash_lock;
static LIST_HEAD(, lwc_proc) lwc_hash[LWC_PROC_HASH];

static struct mtx lwc_reap_mtx;
static STAILQ_HEAD(, lwc_ctx) lwc_reap_list =
    STAILQ_HEAD_INITIALIZER(lwc_reap_list);
static struct proc *lwc_reaper;
static bool lwc_reaper_stop;

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
	u_int		lr_lost;	/* lwc_lost at that time */
} __aligned(CACHE_LINE_SIZE) *lwc_recent;
static volatile u_int lwc_lost;

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

/* Of the current process; only of the parent of kernel processes otherwise. */
struct lwc_proc *
lwc_proc_find(struct proc *p)
{
	struct lwc_proc *lp;
	struct lwc_recent *lr;
	u_int lost;

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
	MPASS(lp == NULL || p == curproc);
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
 * The calling process's record, made on the first call.  NULL when a process
 * with several threads would have to make one (two might at once).
 */
struct lwc_proc *
lwc_proc_get(struct thread *td)
{
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	struct proc *p;

	p = td->td_proc;
	lp = lwc_proc_find(p);
	if (lp != NULL)
		return (lp);
	if (p->p_numthreads != 1)
		return (NULL);
	lp = malloc(sizeof(*lp), M_LWC, M_WAITOK | M_ZERO);
	refcount_init(&lp->lp_refs, 1);
	mtx_init(&lp->lp_mtx, "lwc process", NULL, MTX_DEF);
	LIST_INIT(&lp->lp_ctxs);
	STAILQ_INIT(&lp->lp_dead);
	lp->lp_proc = p;
	lp->lp_sysent = p->p_sysent;
	lc = lwc_ctx_alloc(lp);
	lc->lc_id = lp->lp_nextid = 1;
	lc->lc_state = LWC_STATE_CURRENT;
	lc->lc_sysent = p->p_sysent;
	LIST_INSERT_HEAD(&lp->lp_ctxs, lc, lc_link);
	lp->lp_nctx = 1;
	lp->lp_current = lc;
	atomic_add_int(&lwc_nprocs, 1);
	rw_wlock(&lwc_hash_lock);
	LIST_INSERT_HEAD(&lwc_hash[lwc_hash_slot(p)], lp, lp_link);
	rw_wunlock(&lwc_hash_lock);
	return (lp);
}

void
lwc_proc_rele(struct lwc_proc *lp)
{

	if (!refcount_release(&lp->lp_refs))
		return;
	MPASS(lp->lp_proc == NULL && LIST_EMPTY(&lp->lp_ctxs));
	mtx_destroy(&lp->lp_mtx);
	free(lp, M_LWC);
	atomic_subtract_int(&lwc_nprocs, 1);
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
 * Release a descriptor table and its directories through the calling process.
 * Swapped in under the process lock, for which fdhold() and pdhold() ask.
 */
void
lwc_table_free(struct filedesc *fdp, struct pwddesc *pdp)
{
	struct filedesc_to_leader *tol;
	struct filedesc *myfd;
	struct pwddesc *mypd;
	struct proc *p;
	struct thread *td;

	td = curthread;
	p = td->td_proc;
	tol = p->p_fdtol;
	p->p_fdtol = NULL;
	PROC_LOCK(p);
	myfd = p->p_fd;
	atomic_store_ptr(&p->p_fd, fdp);
	PROC_UNLOCK(p);
	fdescfree(td);
	PROC_LOCK(p);
	atomic_store_ptr(&p->p_fd, myfd);
	mypd = p->p_pd;
	if (pdp != NULL)
		atomic_store_ptr(&p->p_pd, pdp);
	PROC_UNLOCK(p);
	if (pdp != NULL) {
		pdescfree(td);
		PROC_LOCK(p);
		atomic_store_ptr(&p->p_pd, mypd);
		PROC_UNLOCK(p);
	}
	p->p_fdtol = tol;
}

static void
lwc_reap_later(struct lwc_ctx *lc)
{

	mtx_lock(&lwc_reap_mtx);
	STAILQ_INSERT_TAIL(&lwc_reap_list, lc, lc_dead);
	wakeup(&lwc_reap_list);
	mtx_unlock(&lwc_reap_mtx);
}

/*
 * Destroy a context that was just declared dead: here and now if the caller
 * may (with all that die of it, one after the other, whatever the depth of
 * the closing), else in the kernel process.
 */
void
lwc_reap(struct lwc_proc *lp, struct lwc_ctx *lc)
{
	struct proc *p;

	p = curproc;
	mtx_lock(&lp->lp_mtx);
	if (lp->lp_reaper == curthread) {
		STAILQ_INSERT_TAIL(&lp->lp_dead, lc, lc_dead);
		mtx_unlock(&lp->lp_mtx);
		return;
	}
	if (lp->lp_proc != p || lp->lp_reaper != NULL ||
	    (p->p_numthreads != 1 && p->p_singlethread != curthread)) {
		mtx_unlock(&lp->lp_mtx);
		lwc_reap_later(lc);
		return;
	}
	lp->lp_reaper = curthread;
	/* The last of them may hold the last reference. */
	refcount_acquire(&lp->lp_refs);
	for (;;) {
		mtx_unlock(&lp->lp_mtx);
		lwc_ctx_destroy(lc);
		mtx_lock(&lp->lp_mtx);
		lc = STAILQ_FIRST(&lp->lp_dead);
		if (lc == NULL)
			break;
		STAILQ_REMOVE_HEAD(&lp->lp_dead, lc_dead);
	}
	lp->lp_reaper = NULL;
	mtx_unlock(&lp->lp_mtx);
	lwc_proc_rele(lp);
}

static void
lwc_reaper_main(void *arg __unused)
{
	struct lwc_ctx *lc;

	mtx_lock(&lwc_reap_mtx);
	for (;;) {
		lc = STAILQ_FIRST(&lwc_reap_list);
		if (lc != NULL) {
			STAILQ_REMOVE_HEAD(&lwc_reap_list, lc_dead);
			mtx_unlock(&lwc_reap_mtx);
			lwc_ctx_destroy(lc);
			mtx_lock(&lwc_reap_mtx);
			continue;
		}
		if (lwc_reaper_stop)
			break;
		msleep(&lwc_reap_list, &lwc_reap_mtx, 0, "lwcreap", 0);
	}
	mtx_unlock(&lwc_reap_mtx);
	kproc_exit(0);		/* and wakes who waits for the process */
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
	MPASS(p == curproc);
	cur = lp->lp_current;
	if (p->p_sysent != lp->lp_sysent) {
		PROC_LOCK(p);
		p->p_sysent = lp->lp_sysent;
		PROC_UNLOCK(p);
	}
	lwc_trap_disarm(p->p_sigacts);
	rw_wlock(&lwc_hash_lock);
	LIST_REMOVE(lp, lp_link);
	rw_wunlock(&lwc_hash_lock);
	atomic_add_int(&lwc_lost, 1);
	/*
	 * Mark them first: those that die of closing the others' tables must
	 * find nothing left to do.  What the reaper has is already marked.
	 */
	mtx_lock(&lp->lp_mtx);
	LIST_FOREACH_SAFE(lc, &lp->lp_ctxs, lc_link, next) {
		if (lc->lc_state == LWC_STATE_DEAD)
			continue;
		lc->lc_state = LWC_STATE_DEAD;
		STAILQ_INSERT_TAIL(&lp->lp_dead, lc, lc_dead);
	}
	MPASS(lp->lp_reaper == NULL);
	lp->lp_reaper = curthread;
	while ((lc = STAILQ_FIRST(&lp->lp_dead)) != NULL) {
		STAILQ_REMOVE_HEAD(&lp->lp_dead, lc_dead);
		mtx_unlock(&lp->lp_mtx);
		if (lc == cur) {
			/* The process itself has its resources. */
			lc->lc_vm = NULL;
			lc->lc_fd = NULL;
			lc->lc_pd = NULL;
			lc->lc_cred = NULL;
			lc->lc_sigacts = NULL;
			lc->lc_limit = NULL;
		}
		lwc_ctx_destroy(lc);
		mtx_lock(&lp->lp_mtx);
	}
	lp->lp_reaper = NULL;
	lp->lp_current = NULL;
	lp->lp_proc = NULL;
	mtx_unlock(&lp->lp_mtx);
	if (lp->lp_ours)
		atomic_subtract_int(&lwc_nours, 1);
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

static void
lwc_proc_fork(void *arg __unused, struct proc *p1, struct proc *p2,
    int flags __unused)
{
	struct lwc_proc *lp;

	lp = lwc_proc_find(p1);
	if (lp == NULL)
		return;
	p2->p_sysent = lp->lp_sysent;
	if (p2->p_sigacts != p1->p_sigacts)
		lwc_trap_disarm(p2->p_sigacts);
}

void
lwc_process_init(void)
{
	int error, i;

	rw_init(&lwc_hash_lock, "lwc processes");
	mtx_init(&lwc_reap_mtx, "lwc reaper", NULL, MTX_DEF);
	for (i = 0; i < LWC_PROC_HASH; i++)
		LIST_INIT(&lwc_hash[i]);
	lwc_recent = malloc_aligned((mp_maxid + 1) * sizeof(*lwc_recent),
	    CACHE_LINE_SIZE, M_LWC, M_WAITOK | M_ZERO);
	lwc_reaper_stop = false;
	error = kproc_create(lwc_reaper_main, NULL, &lwc_reaper, 0, 0,
	    "lwcreap");
	if (error != 0)
		panic("lwc: no reaper: %d", error);
	lwc_exit_tag = EVENTHANDLER_REGISTER(process_exit, lwc_proc_exit,
	    NULL, EVENTHANDLER_PRI_FIRST);
	lwc_exec_tag = EVENTHANDLER_REGISTER(process_exec, lwc_proc_exec,
	    NULL, EVENTHANDLER_PRI_FIRST);
	lwc_fork_tag = EVENTHANDLER_REGISTER(process_fork, lwc_proc_fork,
	    NULL, EVENTHANDLER_PRI_FIRST);
}

/*
 * No context lives but roots, which are nothing but a record: let go of them.
 * Their processes run on, or exit at this moment (hence the loop).
 */
void
lwc_process_fini(void)
{
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	int i;

	EVENTHANDLER_DEREGISTER(process_exit, lwc_exit_tag);
	EVENTHANDLER_DEREGISTER(process_exec, lwc_exec_tag);
	EVENTHANDLER_DEREGISTER(process_fork, lwc_fork_tag);
	for (i = 0; i < LWC_PROC_HASH; i++) {
		while ((lp = LIST_FIRST(&lwc_hash[i])) != NULL) {
			LIST_REMOVE(lp, lp_link);
			lc = lp->lp_current;
			lp->lp_proc = NULL;
			LIST_REMOVE(lc, lc_link);
			callout_drain(&lc->lc_callout);
			lwc_shared_drop(&lc->lc_shared);
			lc->lc_vm = NULL;	/* the process has it */
			lc->lc_fd = NULL;
			MPASS(lc->lc_allow == NULL);
			lwc_ctx_rele(lc);
			lwc_proc_rele(lp);
		}
	}
	mtx_lock(&lwc_reap_mtx);
	lwc_reaper_stop = true;
	wakeup(&lwc_reap_list);
	msleep(lwc_reaper, &lwc_reap_mtx, 0, "lwcfini", 0);
	mtx_unlock(&lwc_reap_mtx);
	free(lwc_recent, M_LWC);
	mtx_destroy(&lwc_reap_mtx);
	rw_destroy(&lwc_hash_lock);
}
