/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Descriptor tables, and with them current directory and umask.
 *
 * A new context's table is a copy (fdcopy()), the same one (fdshare()) or an
 * empty one.  Ranges that are not to be there are marked close-on-fork while
 * the copy is made: so nothing has to be closed afterwards, and no POSIX lock
 * is lost by closing.  A shared range is a copied one, since a copy shares
 * the open files; only the whole table can be shared as a table.
 *
 * Descriptors that name contexts are copied by lwc_fo_fork(), each into a
 * file of its own, with the rights it had.  Kernel queues are tied to a
 * table: fdcopy() makes a new one or none, an overlay refuses them.
 *
 * An overlay is staged: the source's files are held, then put in place one by
 * one.  What fails does so while staging.  What is stuck to a descriptor comes
 * along: its rights (rights(4)), close-on-exec, close-on-fork, and the
 * restriction to what lies below a directory.
 *
 * No other process has one of these tables (lwc_proc_exclusive()): their locks
 * are taken for those who look at them by sysctl(3) and the like.
 */

#include "lwc_files.h"

#include <sys/capsicum.h>
#include <sys/fcntl.h>
#include <sys/resourcevar.h>
#include <sys/syscallsubr.h>
#include <sys/sx.h>

/*
 * A table with so many slots takes as much memory as all else that a small
 * context has (LWC_PAGES): its context counts twice for its user, and so on.
 */
#define	LWC_SLOTS	(LWC_PAGES * PAGE_SIZE / sizeof(struct filedescent))

static const struct lwc_spec *
lwc_files_whole_spec(const struct lwc_specs *sp)
{
	int i;

	for (i = 0; i < sp->sp_n; i++)
		if (lwc_spec_is(&sp->sp_spec[i], LWC_FILES) &&
		    lwc_files_whole(&sp->sp_spec[i]) &&
		    (sp->sp_spec[i].flags & LWC_OPTIONS) != LWC_MAY_OVERLAY)
			return (&sp->sp_spec[i]);
	return (NULL);
}

/*
 * Mark the descriptors of UNMAP specifiers close-on-fork, or take the marks
 * back.  The bits say which marks are ours.
 */
static void
lwc_files_mark(struct filedesc *fdp, const struct lwc_specs *sp, uint8_t *bits,
    int nbits, bool set)
{
	struct filedescent *fde;
	uint64_t end;
	int fd, i;

	FILEDESC_XLOCK(fdp);
	for (i = 0; i < sp->sp_n; i++) {
		if (!lwc_spec_is(&sp->sp_spec[i], LWC_FILES) ||
		    (sp->sp_spec[i].flags & LWC_UNMAP) == 0)
			continue;
		end = MIN(lwc_files_end(&sp->sp_spec[i]),
		    MIN((uint64_t)nbits, (uint64_t)fdp->fd_nfiles));
		for (fd = lwc_files_start(&sp->sp_spec[i]);
		    (uint64_t)fd < end; fd++) {
			fde = &fdp->fd_ofiles[fd];
			if (set && fde->fde_file != NULL &&
			    (fde->fde_flags & UF_FOCLOSE) == 0) {
				fde->fde_flags |= UF_FOCLOSE;
				bits[fd / NBBY] |= 1 << (fd % NBBY);
			} else if (!set &&
			    (bits[fd / NBBY] & (1 << (fd % NBBY))) != 0) {
				fde->fde_flags &= ~UF_FOCLOSE;
				bits[fd / NBBY] &= ~(1 << (fd % NBBY));
			}
		}
	}
	FILEDESC_XUNLOCK(fdp);
}

/*
 * A copy of a table, with the descriptors of contexts among it; those that name
 * lend_ctx get the rights lend.  fdcopy() leaves out what it gets no file for,
 * so they are paid for before, and counted afterwards.
 */
static int
lwc_files_copy(struct thread *td, struct lwc_proc *lp, struct filedesc *fdp,
    struct lwc_ctx *lend_ctx, struct lwc_rights *lend,
    struct filedesc **newp)
{
	struct filedesc *new;
	int error, fd, n;

	n = lwc_desc_count(lp, fdp);
	if (!lwc_user_descriptors(lp->lp_user, n))
		return (EAGAIN);
	lp->lp_reserved = n;
	lp->lp_lend_ctx = lend_ctx;
	lp->lp_lend = lend;
	lp->lp_copying = true;
	new = fdcopy(fdp, td->td_proc);
	lp->lp_copying = false;
	lp->lp_lend_ctx = NULL;
	lp->lp_lend = NULL;
	(void)lwc_user_descriptors(lp->lp_user, -lp->lp_reserved);
	lp->lp_reserved = 0;
	/*
	 * It takes the first file left out for the lowest free number, and the
	 * number of a name that was left out, of a dead context, for used.
	 */
	new->fd_freefile = MIN(new->fd_freefile, fdp->fd_freefile);
	for (fd = 0; fd < new->fd_freefile; fd++)
		if (new->fd_ofiles[fd].fde_file == NULL)
			new->fd_freefile = fd;
	error = lwc_desc_count(lp, new) == n ? 0 : ENFILE;
	LWC_FAIL(files_copy, error);
	if (error == 0)
		*newp = new;
	else
		lwc_table_free(lp, new, NULL);
	return (error);
}

/*
 * A table is about to be one that another context has as well, which is to have
 * these rights over its owner: a descriptor of the owner itself among it
 * carries no more than that from now on (2.5).  One of many numbers is looked at
 * once: comparing rights takes as long as they have ranges.
 */
static void
lwc_files_narrow(struct lwc_proc *lp, struct filedesc *fdp,
    const struct lwc_ctx *owner, struct lwc_rights *rg)
{
	struct lwc_desc *ld;
	struct lwc_rights *old;
	int fd;

	lp->lp_narrowings++;
	FILEDESC_SLOCK(fdp);
	for (fd = 0; fd < fdp->fd_nfiles; fd++) {
		if (!lwc_desc_names(fdp, fd, owner, false) &&
		    !lwc_desc_names(fdp, fd, owner, true))
			continue;
		ld = fdp->fd_ofiles[fd].fde_file->f_data;
		if (ld->ld_narrowed == lp->lp_narrowings)
			continue;
		ld->ld_narrowed = lp->lp_narrowings;
		old = NULL;
		mtx_lock(&lp->lp_mtx);
		if (!lwc_rights_within(ld->ld_rights, rg)) {
			old = ld->ld_rights;
			ld->ld_rights = lwc_rights_hold(rg);
		}
		mtx_unlock(&lp->lp_mtx);
		lwc_rights_free(old);
	}
	FILEDESC_SUNLOCK(fdp);
}

int
lwc_files_fork(struct thread *td, struct lwc_proc *lp,
    const struct lwc_specs *sp, struct lwc_ctx *lc)
{
	const struct lwc_spec *s;
	struct filedesc *old;
	struct pwddesc *oldpd;
	uint8_t *bits;
	int error, i, nbits;
	bool unmap;

	old = td->td_proc->p_fd;
	oldpd = td->td_proc->p_pd;
	s = lwc_files_whole_spec(sp);
	if (s != NULL && (s->flags & LWC_SHARE) != 0) {
		lwc_files_narrow(lp, old, lp->lp_current, lc->lc_back);
		lc->lc_fd = fdshare(old);
		lc->lc_pd = pdshare(oldpd);
		return (0);
	}
	if (s != NULL && (s->flags & LWC_UNMAP) != 0) {
		lc->lc_fd = fdinit();
		lc->lc_pd = pdcopy(oldpd);
		return (0);
	}
	unmap = false;
	for (i = 0; i < sp->sp_n; i++)
		if (lwc_spec_is(&sp->sp_spec[i], LWC_FILES) &&
		    (sp->sp_spec[i].flags & LWC_UNMAP) != 0)
			unmap = true;
	bits = NULL;
	nbits = old->fd_nfiles;
	if (unmap) {
		bits = malloc(howmany(nbits, NBBY), M_LWCSTAGE,
		    M_WAITOK | M_ZERO);
		lwc_files_mark(old, sp, bits, nbits, true);
	}
	error = lwc_files_copy(td, lp, old, lp->lp_current, lc->lc_back,
	    &lc->lc_fd);
	if (unmap) {
		lwc_files_mark(old, sp, bits, nbits, false);
		free(bits, M_LWCSTAGE);
	}
	if (error != 0)
		return (error);
	lc->lc_pd = pdcopy(oldpd);
	i = lc->lc_fd->fd_nfiles / LWC_SLOTS;
	if (!lwc_user_contexts(lc->lc_user, i))
		return (EAGAIN);
	lc->lc_extra = i;
	return (0);
}

/* Which descriptors are close-on-fork; a bit each. */
static void
lwc_foclose_set(struct filedesc *fdp, const uint8_t *bits, int nbits)
{
	int fd;

	FILEDESC_XLOCK(fdp);
	for (fd = 0; fd < MIN(nbits, fdp->fd_nfiles); fd++)
		if ((bits[fd / NBBY] & (1 << (fd % NBBY))) != 0 &&
		    fdp->fd_ofiles[fd].fde_file != NULL)
			fdp->fd_ofiles[fd].fde_flags |= UF_FOCLOSE;
	FILEDESC_XUNLOCK(fdp);
}

static void
lwc_foclose_take(struct filedesc *fdp, uint8_t *bits, int nbits)
{
	struct filedescent *fde;
	int fd;

	FILEDESC_XLOCK(fdp);
	for (fd = 0; fd < MIN(nbits, fdp->fd_nfiles); fd++) {
		fde = &fdp->fd_ofiles[fd];
		if (fde->fde_file == NULL ||
		    (fde->fde_flags & UF_FOCLOSE) == 0)
			continue;
		fde->fde_flags &= ~UF_FOCLOSE;
		bits[fd / NBBY] |= 1 << (fd % NBBY);
	}
	FILEDESC_XUNLOCK(fdp);
}

/* Does this entry name a context that is dead? */
static bool
lwc_fde_dead(const struct filedescent *fde)
{

	return (fde->fde_file != NULL &&
	    fde->fde_file->f_ops == &lwc_fileops &&
	    ((struct lwc_desc *)fde->fde_file->f_data)->ld_ctx->lc_state ==
	    LWC_STATE_DEAD);
}

/* Has the copy all that is open, names of the dead excepted? */
static bool
lwc_files_whole_copy(const struct filedesc *fdp, const struct filedesc *twin)
{
	int fd;

	for (fd = 0; fd < fdp->fd_nfiles; fd++)
		if (fdp->fd_ofiles[fd].fde_file != NULL &&
		    !lwc_fde_dead(&fdp->fd_ofiles[fd]) &&
		    (fd >= twin->fd_nfiles ||
		    twin->fd_ofiles[fd].fde_file == NULL))
			return (false);
	return (true);
}

/*
 * A copy of the table of a suspended context, or of such a copy, with all that
 * is open in it.  EINVAL: something is there that has no copy, a kernel queue.
 */
int
lwc_files_twin(struct thread *td, struct lwc_proc *lp, struct filedesc *fdp,
    struct filedesc **twinp)
{
	struct filedesc *twin;
	uint8_t *bits;
	int error, nbits;

	if (!TAILQ_EMPTY(&fdp->fd_kqlist))
		return (EINVAL);
	nbits = fdp->fd_nfiles;
	bits = malloc(howmany(nbits, NBBY), M_LWCSTAGE, M_WAITOK | M_ZERO);
	lwc_foclose_take(fdp, bits, nbits);
	error = lwc_files_copy(td, lp, fdp, NULL, NULL, &twin);
	lwc_foclose_set(fdp, bits, nbits);
	if (error == 0) {
		lwc_foclose_set(twin, bits, nbits);
		if (lwc_files_whole_copy(fdp, twin)) {
			*twinp = twin;
		} else {
			lwc_table_free(lp, twin, NULL);
			error = EINVAL;
		}
	}
	free(bits, M_LWCSTAGE);
	return (error);
}

static bool
lwc_caps_alike(const struct filecaps *a, const struct filecaps *b)
{

	return (memcmp(&a->fc_rights, &b->fc_rights,
	    sizeof(a->fc_rights)) == 0 && a->fc_fcntls == b->fc_fcntls &&
	    a->fc_nioctls == b->fc_nioctls && (a->fc_nioctls <= 0 ||
	    memcmp(a->fc_ioctls, b->fc_ioctls,
	    a->fc_nioctls * sizeof(a->fc_ioctls[0])) == 0));
}

/* Are two numbers of tables, one of which is a copy, the same to a program? */
static bool
lwc_fdes_alike(const struct filedescent *a, const struct filedescent *b)
{
	const struct lwc_desc *la, *lb;

	if (a->fde_flags != b->fde_flags ||
	    !lwc_caps_alike(&a->fde_caps, &b->fde_caps))
		return (false);
	if (a->fde_file == b->fde_file)
		return (true);
	if (a->fde_file->f_ops != &lwc_fileops ||
	    b->fde_file->f_ops != &lwc_fileops)
		return (false);
	/* Flags of fcntl(2) mean nothing here, and would be there to be read. */
	la = a->fde_file->f_data;
	lb = b->fde_file->f_data;
	return (la->ld_ctx == lb->ld_ctx && la->ld_rights == lb->ld_rights &&
	    la->ld_clean_only == lb->ld_clean_only &&
	    a->fde_file->f_flag == b->fde_file->f_flag);
}

/*
 * Is a suspended context's table what its twin is?  Neither is anybody's who
 * could change it now.
 */
bool
lwc_files_alike(struct lwc_proc *lp, struct filedesc *fdp,
    const struct filedesc *twin)
{
	const struct filedescent *a, *b;
	int fd;

	if (!TAILQ_EMPTY(&fdp->fd_kqlist))
		return (false);
	for (fd = 0; fd < MAX(fdp->fd_nfiles, twin->fd_nfiles); fd++) {
		a = fd < fdp->fd_nfiles ? &fdp->fd_ofiles[fd] : NULL;
		b = fd < twin->fd_nfiles ? &twin->fd_ofiles[fd] : NULL;
		if (a != NULL && a->fde_file == NULL)
			a = NULL;
		/* A copy has no names of the dead, and no table keeps them. */
		if (b != NULL && (b->fde_file == NULL || lwc_fde_dead(b)))
			b = NULL;
		if (a == NULL && b == NULL)
			continue;
		if (a == NULL || b == NULL || !lwc_fdes_alike(a, b))
			return (false);
	}
	return (true);
}

/* The same of current directory and umask. */
bool
lwc_pwds_alike(struct pwddesc *a, struct pwddesc *b)
{
	struct pwd *pa, *pb;
	u_short ma, mb;

	PWDDESC_XLOCK(a);
	pa = PWDDESC_XLOCKED_LOAD_PWD(a);
	ma = a->pd_cmask;
	PWDDESC_XUNLOCK(a);
	PWDDESC_XLOCK(b);
	pb = PWDDESC_XLOCKED_LOAD_PWD(b);
	mb = b->pd_cmask;
	PWDDESC_XUNLOCK(b);
	return (pa == pb && ma == mb);
}

/* One descriptor of an overlay. */
struct lwc_fpart {
	int		fp_fd;
	struct file	*fp_file;	/* held; NULL: close only */
	struct filecaps	fp_caps;
	int		fp_flags;
};

struct lwc_fstage {
	struct filedesc	*fs_table;	/* the whole: in place of ours */
	struct pwddesc	*fs_pwd;
	int		fs_n;
	int		fs_cap;
	struct lwc_fpart *fs_part;
};

static struct lwc_fpart *
lwc_fstage_part(struct lwc_fstage *st)
{

	if (st->fs_n == st->fs_cap) {
		st->fs_cap = MAX(16, 2 * st->fs_cap);
		st->fs_part = realloc(st->fs_part,
		    st->fs_cap * sizeof(*st->fs_part), M_LWCSTAGE, M_WAITOK);
	}
	memset(&st->fs_part[st->fs_n], 0, sizeof(*st->fs_part));
	return (&st->fs_part[st->fs_n]);
}

/* UNMAP: note what is open in the range. */
static void
lwc_fstage_close(struct lwc_fstage *st, struct filedesc *fdp, uint64_t start,
    uint64_t end)
{
	uint64_t fd;

	FILEDESC_SLOCK(fdp);
	for (fd = start; fd < end && fd < (uint64_t)fdp->fd_nfiles; fd++) {
		if (fdp->fd_ofiles[fd].fde_file == NULL)
			continue;
		lwc_fstage_part(st)->fp_fd = fd;
		st->fs_n++;
	}
	FILEDESC_SUNLOCK(fdp);
}

/* What of a descriptor's flags goes with it. */
static int
lwc_fde_flags(const struct filedescent *fde)
{

	return (((fde->fde_flags & UF_EXCLOSE) != 0 ? O_CLOEXEC : 0) |
	    ((fde->fde_flags & UF_FOCLOSE) != 0 ? O_CLOFORK : 0) |
	    ((fde->fde_flags & UF_RESOLVE_BENEATH) != 0 ?
	    O_RESOLVE_BENEATH : 0));
}

/*
 * The rights that a descriptor of the source's carries here.  One that names
 * the source itself: what the caller's own descriptor of it does (2.5).
 */
static struct lwc_rights *
lwc_fstage_rights(struct lwc_desc *ld, const struct lwc_ctx *src,
    struct lwc_rights *rg)
{
	struct lwc_proc *lp;
	struct lwc_rights *mine;

	if (ld->ld_ctx == src)
		return (lwc_rights_hold(rg));
	lp = ld->ld_ctx->lc_lp;
	mtx_lock(&lp->lp_mtx);
	mine = lwc_rights_hold(ld->ld_rights);
	mtx_unlock(&lp->lp_mtx);
	return (mine);
}

/* Hold what a range of the source has open. */
static int
lwc_fstage_range(struct thread *td, struct lwc_fstage *st,
    const struct lwc_ctx *src, struct lwc_rights *rg, uint64_t start,
    uint64_t end)
{
	struct filedesc *fdp;
	struct filedescent *fde;
	struct lwc_desc *ld;
	struct lwc_fpart *fp;
	struct file *file;
	uint64_t fd;
	int error, first, max;

	fdp = src->lc_fd;
	max = MIN((int)lim_cur(td, RLIMIT_NOFILE), maxfilesperproc);
	error = 0;
	first = st->fs_n;
	FILEDESC_SLOCK(fdp);
	for (fd = start; fd < end && fd < (uint64_t)fdp->fd_nfiles &&
	    error == 0; fd++) {
		fde = &fdp->fd_ofiles[fd];
		file = fde->fde_file;
		if (file == NULL)
			continue;
		if (fd >= (uint64_t)max) {
			error = EMFILE;
			break;
		}
		fp = lwc_fstage_part(st);
		fp->fp_fd = fd;
		fp->fp_flags = lwc_fde_flags(fde);
		if (file->f_ops == &lwc_fileops) {
			ld = file->f_data;
			error = lwc_desc_file(td, ld->ld_ctx,
			    lwc_fstage_rights(ld, src, rg), ld->ld_clean_only,
			    &fp->fp_file);
		} else if ((file->f_ops->fo_flags & DFLAG_PASSABLE) == 0) {
			error = EINVAL;
		} else if (!fhold(file)) {
			error = EMFILE;
		} else {
			fp->fp_file = file;
		}
		if (error == 0) {
			filecaps_copy(&fde->fde_caps, &fp->fp_caps, true);
			st->fs_n++;
		}
	}
	FILEDESC_SUNLOCK(fdp);
	if (error == 0 && st->fs_n == first)
		error = EFAULT;
	return (error);
}

/*
 * Stage the file specifiers of an overlay; src NULL removes from our own.  The
 * caller's rights over the source are rg.
 */
int
lwc_files_stage(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *src,
    struct lwc_rights *rg, const struct lwc_specs *sp,
    struct lwc_fstage **stp)
{
	const struct lwc_spec *s;
	struct lwc_fstage *st;
	int error, i;

	st = malloc(sizeof(*st), M_LWCSTAGE, M_WAITOK | M_ZERO);
	error = 0;
	for (i = 0; i < sp->sp_n && error == 0; i++) {
		s = &sp->sp_spec[i];
		if (!lwc_spec_is(s, LWC_FILES))
			continue;
		if (src == NULL) {
			lwc_fstage_close(st, td->td_proc->p_fd,
			    lwc_files_start(s), lwc_files_end(s));
		} else if (!lwc_files_whole(s)) {
			error = lwc_fstage_range(td, st, src, rg,
			    lwc_files_start(s), lwc_files_end(s));
		} else if ((s->flags & LWC_SHARE) != 0) {
			lwc_files_narrow(lp, src->lc_fd, src, rg);
			st->fs_table = fdshare(src->lc_fd);
			st->fs_pwd = pdshare(src->lc_pd);
		} else {
			error = lwc_files_copy(td, lp, src->lc_fd, src, rg,
			    &st->fs_table);
			if (error == 0)
				st->fs_pwd = pdcopy(src->lc_pd);
		}
	}
	LWC_FAIL(files_stage, error);
	if (error != 0) {
		lwc_files_unstage(td, lp, st);
		return (error);
	}
	*stp = st;
	return (0);
}

/* Put a held file at its number, where nothing is open any more. */
static void
lwc_fpart_install(struct thread *td, struct lwc_fpart *fp)
{
	struct filedesc *fdp;
	int error, fd;

	fdp = td->td_proc->p_fd;
	error = 0;
	LWC_FAIL(file_install, error);
	FILEDESC_XLOCK(fdp);
	if (error == 0)
		error = fdalloc(td, fp->fp_fd, &fd);
	if (error == 0)
		_finstall(fdp, fp->fp_file, fd, fp->fp_flags, &fp->fp_caps);
	FILEDESC_XUNLOCK(fdp);
	if (error != 0)		/* limits of racct(4) alone get here */
		return;
	if (fp->fp_file->f_ops == &lwc_fileops)
		lwc_desc_moved(fp->fp_file, fdp, fd);
	fp->fp_file = NULL;	/* the table's now */
	KASSERT(fd == fp->fp_fd,
	    ("lwc: somebody else opened descriptor %d", fp->fp_fd));
}

void
lwc_files_apply(struct thread *td, struct lwc_fstage *st)
{
	struct filedesc *fdp;
	struct lwc_fpart *fp;
	struct proc *p;
	struct pwddesc *pdp;
	int i;

	p = td->td_proc;
	if (st->fs_table != NULL) {
		PROC_LOCK(p);
		fdp = p->p_fd;
		pdp = p->p_pd;
		atomic_store_ptr(&p->p_fd, st->fs_table);
		atomic_store_ptr(&p->p_pd, st->fs_pwd);
		PROC_UNLOCK(p);
		/* Freed by lwc_files_unstage(), when nobody looks at it. */
		st->fs_table = fdp;
		st->fs_pwd = pdp;
	}
	for (i = 0; i < st->fs_n; i++) {
		fp = &st->fs_part[i];
		(void)kern_close(td, fp->fp_fd);
		if (fp->fp_file != NULL)
			lwc_fpart_install(td, fp);
	}
}

void
lwc_files_unstage(struct thread *td, struct lwc_proc *lp,
    struct lwc_fstage *st)
{
	int i;

	if (st == NULL)
		return;
	for (i = 0; i < st->fs_n; i++) {
		filecaps_free(&st->fs_part[i].fp_caps);
		if (st->fs_part[i].fp_file != NULL)
			fdrop(st->fs_part[i].fp_file, td);
	}
	if (st->fs_table != NULL)
		lwc_table_free(lp, st->fs_table, st->fs_pwd);
	free(st->fs_part, M_LWCSTAGE);
	free(st, M_LWCSTAGE);
}
