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
 * left is freed by fdescfree() and pdescfree().  The empty table waits on
 * lp_tables while a kernel queue of it is still open, since somebody else looks
 * at it (kcmp(2), a reader of kern.proc.kqueue): a queue points to its table and
 * does not hold it.  So it does while somebody may look at the directory.
 */

#include "lwc_files.h"

#include <sys/event.h>
#include <sys/fcntl.h>
#include <sys/filedesc.h>
#include <sys/mount.h>
#include <sys/racct.h>
#include <sys/socket.h>
#include <sys/socketvar.h>
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

/*
 * A process and a thread that nobody knows, for functions of the kernel's that
 * work on p_fd and p_pd of the thread that they are given: fdescfree(),
 * pdescfree(), knote_fdclose().  The process's own pointers stay as they are
 * meanwhile, since others follow them (kern.proc.umask with a PHOLD() and no
 * more).  One a record: whoever frees tables of a process is alone at it, its
 * single thread or lp_reaper.
 */
struct lwc_nobody {
	struct proc	nb_proc;
	struct thread	nb_thread;
#ifdef RACCT
	struct racct	nb_racct;
#endif
};

struct lwc_nobody *
lwc_nobody_new(void)
{
	struct lwc_nobody *nb;

	nb = malloc(sizeof(*nb), M_LWC, M_WAITOK | M_ZERO);
	mtx_init(&nb->nb_proc.p_mtx, "lwc nobody", NULL, MTX_DEF);
	nb->nb_thread.td_proc = &nb->nb_proc;
#ifdef RACCT
	/* It is told that it has no files, as it has none. */
	nb->nb_proc.p_racct = &nb->nb_racct;
#endif
	return (nb);
}

void
lwc_nobody_free(struct lwc_nobody *nb)
{

	KASSERT(nb->nb_proc.p_fd == NULL && nb->nb_proc.p_pd == NULL,
	    ("lwc: nobody has something"));
	mtx_destroy(&nb->nb_proc.p_mtx);
	free(nb, M_LWC);
}

/*
 * A number of a table is about to be empty: no kernel queue of the table waits
 * for it any more, as after close(2).  Two queues that wait for each other
 * would hold each other for ever.  The caller holds the file.
 */
static void
lwc_table_unqueue(struct lwc_nobody *nb, struct filedesc *fdp, int fd)
{

	FILEDESC_XLOCK_ASSERT(fdp);
	if (TAILQ_EMPTY(&fdp->fd_kqlist))
		return;
	KASSERT(nb->nb_proc.p_fd == NULL, ("lwc: nobody is busy"));
	nb->nb_proc.p_fd = fdp;
	knote_fdclose(&nb->nb_thread, fd);
	nb->nb_proc.p_fd = NULL;
}

/*
 * A socket whose last name this is: what it has to send is sent without anybody
 * waiting for it (SO_LINGER), who would be whoever ends the context.
 */
static void
lwc_unlinger(struct file *fp)
{
	struct socket *so;

	if (fp->f_type != DTYPE_SOCKET || refcount_load(&fp->f_count) != 1)
		return;
	so = fp->f_data;
	SOCK_LOCK(so);
	/* None at all would throw away what is not sent yet. */
	if (so->so_linger != 0)
		so->so_options &= ~SO_LINGER;
	SOCK_UNLOCK(so);
}

/* Release a file that was taken out of a table. */
static void
lwc_file_release(struct thread *td, struct lwc_proc *lp, struct filedesc *fdp,
    struct file *fp, int *looksp)
{
	struct mount *mp;
	struct vnode *vp;

	lwc_unlinger(fp);
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
			lwc_table_unqueue(lp->lp_nobody, fdp, fd);
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

/* Free an empty table. */
static void
lwc_table_drop(struct lwc_nobody *nb, struct filedesc *fdp,
    struct pwddesc *pdp)
{

	KASSERT(nb->nb_proc.p_fd == NULL && nb->nb_proc.p_pd == NULL,
	    ("lwc: nobody is busy"));
	nb->nb_proc.p_ucred = curthread->td_ucred;
	nb->nb_proc.p_fd = fdp;
	fdescfree(&nb->nb_thread);
	if (pdp != NULL) {
		nb->nb_proc.p_pd = pdp;
		pdescfree(&nb->nb_thread);
	}
	nb->nb_proc.p_ucred = NULL;
}

#define	LWC_TABLES	64	/* wait for holders of a directory */

/*
 * May others still have what this table or directory was when the process had
 * it?  A queue, once it is open, points to the table; and a reader of
 * kern.proc.umask, which does not sleep, to the directory, with a PHOLD().
 */
static bool
lwc_table_seen(struct lwc_proc *lp, struct filedesc *fdp, struct pwddesc *pdp,
    bool last)
{
	struct proc *p;
	bool held;

	if (last && lwc_table_queues(fdp))
		return (true);
	/* Who holds it for long does something else. */
	if (pdp == NULL || lp->lp_ntables >= LWC_TABLES)
		return (false);
	p = lp->lp_proc;
	PROC_LOCK(p);
	held = p->p_lock != 0;
	PROC_UNLOCK(p);
	return (held);
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
	int wait;
	bool last;

	td = curthread;
	KASSERT(td->td_proc == lp->lp_proc,
	    ("lwc: a table is freed by another process"));
	last = fdp->fd_refcnt == 1;
	if (last)
		lwc_table_empty(td, lp, fdp);
	wait = lwc_table_seen(lp, fdp, pdp, last);
	LWC_FAIL(table, wait);
	if (!wait) {
		lwc_table_drop(lp->lp_nobody, fdp, pdp);
		return;
	}
	ta = malloc(sizeof(*ta), M_LWC, M_WAITOK);
	ta->ta_fd = fdp;
	ta->ta_pd = pdp;
	ta->ta_last = last;
	mtx_lock(&lp->lp_mtx);
	STAILQ_INSERT_TAIL(&lp->lp_tables, ta, ta_link);
	lp->lp_ntables++;
	mtx_unlock(&lp->lp_mtx);
}

/* The first of the tables that wait, or NULL. */
static struct lwc_table *
lwc_tables_take(struct lwc_proc *lp)
{
	struct lwc_table *ta;

	mtx_lock(&lp->lp_mtx);
	ta = STAILQ_FIRST(&lp->lp_tables);
	if (ta != NULL) {
		STAILQ_REMOVE_HEAD(&lp->lp_tables, ta_link);
		lp->lp_ntables--;
	}
	mtx_unlock(&lp->lp_mtx);
	return (ta);
}

/* How long the end of a process waits for others, in ticks. */
#define	LWC_WAIT	(10 * hz)

/*
 * Free what had to wait.  What has to wait on is put back.  At the end of the
 * process (all) it is waited for, but not for ever: a table with a queue that is
 * not closed by then stays, as the kernel's own stay with their queues.
 */
void
lwc_tables_drain(struct lwc_proc *lp, bool all)
{
	struct lwc_table *ta;
	int i, n;

	mtx_lock(&lp->lp_mtx);
	n = lp->lp_ntables;
	mtx_unlock(&lp->lp_mtx);
	for (; n > 0 && (ta = lwc_tables_take(lp)) != NULL; n--) {
		for (i = 0; all && i < LWC_WAIT && lwc_table_seen(lp,
		    ta->ta_fd, ta->ta_pd, ta->ta_last); i++)
			pause("lwckq", 1);
		if (!all && lwc_table_seen(lp, ta->ta_fd, ta->ta_pd,
		    ta->ta_last)) {
			mtx_lock(&lp->lp_mtx);
			STAILQ_INSERT_TAIL(&lp->lp_tables, ta, ta_link);
			lp->lp_ntables++;
			mtx_unlock(&lp->lp_mtx);
			continue;
		}
		if (!ta->ta_last || !lwc_table_queues(ta->ta_fd))
			lwc_table_drop(lp->lp_nobody, ta->ta_fd, ta->ta_pd);
		free(ta, M_LWC);
	}
}
