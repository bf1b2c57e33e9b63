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
 * one.  What fails does so while staging.
 */

#include "lwc_var.h"

#include <sys/capsicum.h>
#include <sys/fcntl.h>
#include <sys/resourcevar.h>
#include <sys/syscallsubr.h>
#include <sys/sx.h>

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

/* A copy of a table, with the descriptors of contexts among it. */
static struct filedesc *
lwc_files_copy(struct thread *td, struct lwc_proc *lp, struct filedesc *fdp)
{
	struct filedesc *new;

	lp->lp_copying = true;
	new = fdcopy(fdp, td->td_proc);
	lp->lp_copying = false;
	/* It takes the first file left out for the lowest free number. */
	new->fd_freefile = MIN(new->fd_freefile, fdp->fd_freefile);
	return (new);
}

/*
 * What is counted of a table, in the slot of a context that has it: what is
 * there, or a new count.  The slot of a current context may speak of a table
 * that it had; rfork(2) takes one away.
 */
struct lwc_shared *
lwc_shared_get(struct lwc_shared **slot, struct filedesc *fdp, u_int held)
{
	struct lwc_shared *sh;

	if (*slot == NULL || (*slot)->sh_table != fdp) {
		sh = malloc(sizeof(*sh), M_LWC, M_WAITOK);
		refcount_init(&sh->sh_refs, 1);
		sh->sh_held = held;
		sh->sh_table = fdp;
		lwc_shared_drop(slot);
		*slot = sh;
	}
	refcount_acquire(&(*slot)->sh_refs);
	return (*slot);
}

void
lwc_shared_drop(struct lwc_shared **slot)
{

	if (*slot != NULL && refcount_release(&(*slot)->sh_refs))
		free(*slot, M_LWC);
	*slot = NULL;
}

/* The current context is about to become another: count who is suspended. */
void
lwc_shared_swap(struct lwc_ctx *from, struct lwc_ctx *to, struct filedesc *fdp)
{

	/* It may be another table meanwhile, or the others may be gone. */
	if (from->lc_shared != NULL && (from->lc_shared->sh_table != fdp ||
	    from->lc_shared->sh_refs == 1))
		lwc_shared_drop(&from->lc_shared);
	if (from->lc_shared != NULL)
		atomic_add_int(&from->lc_shared->sh_held, 1);
	if (to->lc_shared != NULL)
		atomic_subtract_int(&to->lc_shared->sh_held, 1);
}

int
lwc_files_fork(struct thread *td, struct lwc_proc *lp,
    const struct lwc_specs *sp, struct lwc_ctx *lc)
{
	const struct lwc_spec *s;
	struct filedesc *old;
	struct pwddesc *oldpd;
	uint8_t *bits;
	int i, nbits;
	bool unmap;

	old = td->td_proc->p_fd;
	oldpd = td->td_proc->p_pd;
	s = lwc_files_whole_spec(sp);
	if (s != NULL && (s->flags & LWC_SHARE) != 0) {
		lc->lc_shared = lwc_shared_get(&lp->lp_current->lc_shared, old,
		    0);
		lc->lc_fd = fdshare(old);
		lc->lc_pd = pdshare(oldpd);
		atomic_add_int(&lc->lc_shared->sh_held, 1);
		return (0);
	}
	lc->lc_pd = pdcopy(oldpd);
	if (s != NULL && (s->flags & LWC_UNMAP) != 0) {
		lc->lc_fd = fdinit();
		return (0);
	}
	unmap = false;
	for (i = 0; i < sp->sp_n; i++)
		if (lwc_spec_is(&sp->sp_spec[i], LWC_FILES) &&
		    (sp->sp_spec[i].flags & LWC_UNMAP) != 0)
			unmap = true;
	lp->lp_back = lc->lc_back;
	if (!unmap) {
		lc->lc_fd = lwc_files_copy(td, lp, old);
		lp->lp_back = NULL;
		return (0);
	}
	nbits = old->fd_nfiles;
	bits = malloc(howmany(nbits, NBBY), M_LWC, M_WAITOK | M_ZERO);
	lwc_files_mark(old, sp, bits, nbits, true);
	lc->lc_fd = lwc_files_copy(td, lp, old);
	lp->lp_back = NULL;
	lwc_files_mark(old, sp, bits, nbits, false);
	free(bits, M_LWC);
	return (0);
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
	struct lwc_shared *fs_shared;	/* of that */
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
		    st->fs_cap * sizeof(*st->fs_part), M_LWC, M_WAITOK);
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

/* Hold what a range of the source has open. */
static int
lwc_fstage_range(struct thread *td, struct lwc_fstage *st,
    struct filedesc *fdp, uint64_t start, uint64_t end)
{
	struct filedescent *fde;
	struct lwc_desc *ld;
	struct lwc_fpart *fp;
	struct lwc_rights *rg;
	struct file *file;
	uint64_t fd;
	int error, first, max;

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
		fp->fp_flags = (fde->fde_flags & UF_EXCLOSE) != 0 ?
		    O_CLOEXEC : 0;
		if (file->f_ops == &lwc_fileops) {
			ld = file->f_data;
			mtx_lock(&ld->ld_ctx->lc_lp->lp_mtx);
			rg = lwc_rights_hold(ld->ld_rights);
			mtx_unlock(&ld->ld_ctx->lc_lp->lp_mtx);
			error = lwc_desc_file(td, ld->ld_ctx, rg,
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

/* Stage the file specifiers of an overlay; src NULL removes from our own. */
int
lwc_files_stage(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *src,
    const struct lwc_specs *sp, struct lwc_fstage **stp)
{
	const struct lwc_spec *s;
	struct lwc_fstage *st;
	int error, i;

	st = malloc(sizeof(*st), M_LWC, M_WAITOK | M_ZERO);
	error = 0;
	for (i = 0; i < sp->sp_n && error == 0; i++) {
		s = &sp->sp_spec[i];
		if (!lwc_spec_is(s, LWC_FILES))
			continue;
		if (src == NULL) {
			lwc_fstage_close(st, td->td_proc->p_fd,
			    lwc_files_start(s), lwc_files_end(s));
		} else if (!lwc_files_whole(s)) {
			error = lwc_fstage_range(td, st, src->lc_fd,
			    lwc_files_start(s), lwc_files_end(s));
		} else if ((s->flags & LWC_SHARE) != 0) {
			st->fs_shared = lwc_shared_get(&src->lc_shared,
			    src->lc_fd, 1);
			st->fs_table = fdshare(src->lc_fd);
			st->fs_pwd = pdshare(src->lc_pd);
		} else {
			st->fs_table = lwc_files_copy(td, lp, src->lc_fd);
			st->fs_pwd = pdcopy(src->lc_pd);
		}
	}
	if (error != 0) {
		lwc_files_unstage(td, st);
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
	FILEDESC_XLOCK(fdp);
	error = fdalloc(td, fp->fp_fd, &fd);
	if (error == 0)
		_finstall(fdp, fp->fp_file, fd, fp->fp_flags, &fp->fp_caps);
	FILEDESC_XUNLOCK(fdp);
	if (error != 0)		/* limits of racct(4) alone get here */
		return;
	if (fp->fp_file->f_ops == &lwc_fileops)
		lwc_desc_moved(fp->fp_file, fdp, fd);
	fp->fp_file = NULL;	/* the table's now */
	/* Another process sharing the table was faster: not where asked. */
	if (fd != fp->fp_fd)
		(void)kern_close(td, fd);
}

void
lwc_files_apply(struct thread *td, struct lwc_ctx *cur, struct lwc_fstage *st)
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
		lwc_shared_drop(&cur->lc_shared);
		cur->lc_shared = st->fs_shared;
		st->fs_shared = NULL;
	}
	for (i = 0; i < st->fs_n; i++) {
		fp = &st->fs_part[i];
		(void)kern_close(td, fp->fp_fd);
		if (fp->fp_file != NULL)
			lwc_fpart_install(td, fp);
	}
}

void
lwc_files_unstage(struct thread *td, struct lwc_fstage *st)
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
		lwc_table_free(st->fs_table, st->fs_pwd);
	lwc_shared_drop(&st->fs_shared);
	free(st->fs_part, M_LWC);
	free(st, M_LWC);
}
