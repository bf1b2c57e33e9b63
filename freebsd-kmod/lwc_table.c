/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * How a descriptor table of a context goes.
 *
 * Not as a process's does: the process lives, and record locks (fcntl(2)) are
 * the process's.  close(2) in any context gives up all that the process has on
 * that file, as POSIX wants it; the end of a context is no close(2).  Its files
 * are released without giving up locks, as long as some other context has the
 * same vnode open; else the locks go, for nobody could give them up any more,
 * and they would outlive the process.
 *
 * The files are taken out one by one first; closing one may sleep.  What is
 * left is freed by fdescfree() and pdescfree(), which work on p_fd and p_pd:
 * exchanged for that moment, for which the process must have one thread.  If it
 * has more, the empty table waits on lp_tables.  So it does while a kernel
 * queue of it is still open, since somebody else looks at it (kcmp(2), a reader
 * of kern.proc.kqueue): a queue points to its table and does not hold it.
 */

#include "lwc_files.h"

#include <sys/fcntl.h>
#include <sys/filedesc.h>
#include <sys/mount.h>
#include <sys/racct.h>
#include <sys/sx.h>
#include <sys/vnode.h>

/*
 * How many entries of tables are looked at for the files of one.  Beyond that
 * the locks go, as by close(2): the end of a context is not to take for ever.
 */
#define	LWC_LOOKS	(1 << 20)

/* Has a table this vnode open?  It is locked, or of a suspended context. */
static bool
lwc_table_has(const struct filedesc *fdp, const struct vnode *vp, int *looksp)
{
	const struct file *fp;
	int fd;

	if (*looksp < fdp->fd_nfiles) {
		*looksp = 0;
		return (false);
	}
	*looksp -= fdp->fd_nfiles;
	for (fd = 0; fd < fdp->fd_nfiles; fd++) {
		fp = fdp->fd_ofiles[fd].fde_file;
		if (fp != NULL && fp->f_type == DTYPE_VNODE &&
		    fp->f_vnode == vp)
			return (true);
	}
	return (false);
}

/*
 * Does any context but the owner of this table have the vnode open?  Tables of
 * suspended contexts change only by a switch or an overlay, that is by a
 * process's single thread; with more threads only by what is done here, which
 * lp_reaper does one at a time.
 */
static bool
lwc_vnode_open(struct lwc_proc *lp, struct filedesc *fdp,
    const struct vnode *vp, int *looksp)
{
	struct filedesc *mine;
	struct lwc_ctx *lc;
	bool has;

	/* Others could be changing them: then the locks go, as by close(2). */
	if (lp->lp_shared)
		return (false);
	has = false;
	mine = lp->lp_proc->p_fd;
	if (mine != fdp) {
		FILEDESC_SLOCK(mine);
		has = lwc_table_has(mine, vp, looksp);
		FILEDESC_SUNLOCK(mine);
	}
	if (has)
		return (true);
	mtx_lock(&lp->lp_mtx);
	LIST_FOREACH(lc, &lp->lp_ctxs, lc_link) {
		if (lc == lp->lp_current || lc->lc_fd == NULL ||
		    lc->lc_fd == fdp || lc->lc_fd == mine)
			continue;
		has = lwc_table_has(lc->lc_fd, vp, looksp);
		if (has || *looksp == 0)
			break;
	}
	mtx_unlock(&lp->lp_mtx);
	return (has);
}

/* Release a file that was taken out of a table. */
static void
lwc_file_release(struct thread *td, struct lwc_proc *lp, struct filedesc *fdp,
    struct file *fp, int *looksp)
{
	struct mount *mp;
	struct vnode *vp;

	/* Local file systems keep their locks there: none were ever set. */
	if (fp->f_type == DTYPE_VNODE &&
	    (td->td_proc->p_leader->p_flag & P_ADVLOCK) != 0) {
		vp = fp->f_vnode;
		/* It may be reclaimed just now; mounts are type-stable. */
		mp = atomic_load_ptr(&vp->v_mount);
		if ((vp->v_lockf == NULL && mp != NULL &&
		    (mp->mnt_flag & MNT_LOCAL) != 0) ||
		    lwc_vnode_open(lp, fdp, vp, looksp)) {
			(void)fdrop(fp, td);
			return;
		}
	}
	(void)closef(fp, td);
}

/* Take all files out of a table that is the caller's alone. */
static void
lwc_table_empty(struct thread *td, struct lwc_proc *lp, struct filedesc *fdp)
{
	struct filedescent *fde;
	struct file *fp;
	int fd, looks;

	looks = LWC_LOOKS;
	for (fd = 0; fd < fdp->fd_nfiles; fd++) {
		maybe_yield();
		/* Readers of kern.proc.* may still hold what was p_fd. */
		FILEDESC_XLOCK(fdp);
		fde = &fdp->fd_ofiles[fd];
		fp = fde->fde_file;
		if (fp != NULL) {
			fde->fde_file = NULL;
			filecaps_free(&fde->fde_caps);
		}
		FILEDESC_XUNLOCK(fdp);
		if (fp == NULL)
			continue;
		/*
		 * mq_notify(3) is refused, but a debugger may have made it: it
		 * would outlive the process.  Its table is asked to be locked.
		 */
		if (__predict_false(fp->f_ops->fo_fdclose != NULL &&
		    !LIST_EMPTY(&td->td_proc->p_mqnotifier))) {
			FILEDESC_XLOCK(td->td_proc->p_fd);
			fp->f_ops->fo_fdclose(fp, fd, td);
			FILEDESC_XUNLOCK(td->td_proc->p_fd);
		}
		lwc_file_release(td, lp, fdp, fp, &looks);
	}
}

/* Does a kernel queue still point to this table? */
static bool
lwc_table_queues(struct filedesc *fdp)
{
	bool has;

	FILEDESC_SLOCK(fdp);
	has = !TAILQ_EMPTY(&fdp->fd_kqlist);
	FILEDESC_SUNLOCK(fdp);
	return (has);
}

/* Free an empty table; nothing here sleeps for long. */
static void
lwc_table_drop(struct thread *td, struct filedesc *fdp, struct pwddesc *pdp)
{
	struct filedesc *myfd;
	struct filedesc_to_leader *tol;
	struct proc *p;
	struct pwddesc *mypd;
#ifdef RACCT
	uint64_t nofile;
#endif

	p = td->td_proc;
	/* It goes with the process's own table, if lp_shared. */
	tol = p->p_fdtol;
	p->p_fdtol = NULL;
#ifdef RACCT
	/* fdescfree() says that the process has no files any more. */
	nofile = RACCT_ENABLED() ? p->p_racct->r_resources[RACCT_NOFILE] : 0;
#endif
	PROC_LOCK(p);
	myfd = p->p_fd;
	mypd = p->p_pd;
	atomic_store_ptr(&p->p_fd, fdp);
	if (pdp != NULL)
		atomic_store_ptr(&p->p_pd, pdp);
	PROC_UNLOCK(p);
	fdescfree(td);
	if (pdp != NULL)
		pdescfree(td);
	PROC_LOCK(p);
	atomic_store_ptr(&p->p_fd, myfd);
	atomic_store_ptr(&p->p_pd, mypd);
	PROC_UNLOCK(p);
	p->p_fdtol = tol;
#ifdef RACCT
	if (RACCT_ENABLED())
		(void)racct_set_unlocked(p, RACCT_NOFILE, nofile);
#endif
}

/*
 * A context gives up its table.  Other contexts may have it as well (2.4): then
 * there is one reference less.  Called by the process, with nothing held.
 */
void
lwc_table_free(struct lwc_proc *lp, struct filedesc *fdp, struct pwddesc *pdp)
{
	struct lwc_table *ta;
	struct thread *td;
	bool last;

	td = curthread;
	KASSERT(td->td_proc == lp->lp_proc,
	    ("lwc: a table is freed by another process"));
	last = fdp->fd_refcnt == 1;
	if (last)
		lwc_table_empty(td, lp, fdp);
	if (lwc_proc_single(td->td_proc) && !(last && lwc_table_queues(fdp))) {
		lwc_table_drop(td, fdp, pdp);
		return;
	}
	ta = malloc(sizeof(*ta), M_LWC, M_WAITOK);
	ta->ta_fd = fdp;
	ta->ta_pd = pdp;
	mtx_lock(&lp->lp_mtx);
	STAILQ_INSERT_TAIL(&lp->lp_tables, ta, ta_link);
	mtx_unlock(&lp->lp_mtx);
}

/* The first of the tables that wait, or NULL. */
static struct lwc_table *
lwc_tables_take(struct lwc_proc *lp)
{
	struct lwc_table *ta;

	mtx_lock(&lp->lp_mtx);
	ta = STAILQ_FIRST(&lp->lp_tables);
	if (ta != NULL)
		STAILQ_REMOVE_HEAD(&lp->lp_tables, ta_link);
	mtx_unlock(&lp->lp_mtx);
	return (ta);
}

/*
 * Free what had to wait, in a process with one thread.  What has to wait on is
 * put back; at the end of the process (all) it is waited for.
 */
void
lwc_tables_drain(struct lwc_proc *lp, bool all)
{
	struct lwc_table *ta;

	while (lwc_proc_single(lp->lp_proc) &&
	    (ta = lwc_tables_take(lp)) != NULL) {
		while (all && lwc_table_queues(ta->ta_fd))
			pause("lwckq", 1);
		if (lwc_table_queues(ta->ta_fd)) {
			mtx_lock(&lp->lp_mtx);
			STAILQ_INSERT_TAIL(&lp->lp_tables, ta, ta_link);
			mtx_unlock(&lp->lp_mtx);
			break;
		}
		lwc_table_drop(curthread, ta->ta_fd, ta->ta_pd);
		free(ta, M_LWC);
	}
}
