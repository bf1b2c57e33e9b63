/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Descriptors that name contexts.
 *
 * A descriptor is a struct file of our own type with a struct lwc_desc of
 * its own, which holds the rights.  dup(2) shares the file, and so the
 * rights.  The type is not passable: neither SCM_RIGHTS nor fork(2) hands it
 * on.  fdcopy() asks fo_fork() instead; the answer is a new file when the
 * module is copying a table of its own process, and no otherwise.  Each counts
 * against the user's share (lwc_user.c): a table that names n contexts is
 * copied with n files.
 *
 * The last reference to an open file is dropped by any process, so fo_close()
 * only marks the context dead; lwc_reap() finds somebody to destroy it.
 */

#include "lwc_context.h"
#include "lwc_switch.h"

#include <sys/capsicum.h>
#include <sys/fcntl.h>
#include <sys/resourcevar.h>
#include <sys/stat.h>
#include <sys/sx.h>
#include <sys/user.h>

#include <vm/uma.h>

static uma_zone_t lwc_desc_zone;

static fo_stat_t	lwc_fo_stat;
static fo_close_t	lwc_fo_close;
static fo_fill_kinfo_t	lwc_fo_fill_kinfo;
static fo_cmp_t		lwc_fo_cmp;
static fo_fork_t	lwc_fo_fork;

const struct fileops lwc_fileops = {
	.fo_read = invfo_rdwr,
	.fo_write = invfo_rdwr,
	.fo_truncate = invfo_truncate,
	.fo_ioctl = invfo_ioctl,
	.fo_poll = invfo_poll,
	.fo_kqfilter = invfo_kqfilter,
	.fo_stat = lwc_fo_stat,
	.fo_close = lwc_fo_close,
	.fo_chmod = invfo_chmod,
	.fo_chown = invfo_chown,
	.fo_sendfile = invfo_sendfile,
	.fo_fill_kinfo = lwc_fo_fill_kinfo,
	.fo_cmp = lwc_fo_cmp,
	.fo_fork = lwc_fo_fork,
	.fo_flags = DFLAG_FORK,
};

void
lwc_desc_init(void)
{

	lwc_desc_zone = uma_zcreate("lwc descriptor", sizeof(struct lwc_desc),
	    NULL, NULL, NULL, NULL, UMA_ALIGN_PTR, 0);
}

void
lwc_desc_fini(void)
{

	uma_zdestroy(lwc_desc_zone);
}

static u_int
lwc_desc_slot(const struct lwc_ctx *lc, const struct filedesc *fdp)
{
	uintptr_t h;

	h = ((uintptr_t)lc >> 6) * 31 + ((uintptr_t)fdp >> 6);
	return ((h ^ (h >> 10)) % LWC_DESC_HASH);
}

/*
 * An open file that names a context, any or a clean one; takes over the rights.
 */
int
lwc_desc_file(struct thread *td, struct lwc_ctx *lc, struct lwc_rights *rg,
    bool clean_only, struct file **fpp)
{
	struct lwc_desc *ld;
	struct lwc_proc *lp;
	int error;

	lp = lc->lc_lp;
	if (lp->lp_copying && lp->lp_reserved > 0) {
		lp->lp_reserved--;
	} else if (!lwc_user_descriptors(lp->lp_user, 1)) {
		lwc_rights_free(rg);
		return (EAGAIN);
	}
	error = 0;
	LWC_FAIL(desc_file, error);
	if (error == 0)
		error = falloc_noinstall(td, fpp);
	if (error != 0) {
		(void)lwc_user_descriptors(lp->lp_user, -1);
		lwc_rights_free(rg);
		return (error);
	}
	ld = uma_zalloc(lwc_desc_zone, M_WAITOK | M_ZERO);
	atomic_add_int(&lwc_ndescs, 1);
	lwc_ctx_ref(lc);
	ld->ld_ctx = lc;
	ld->ld_rights = rg;
	ld->ld_clean_only = clean_only;
	ld->ld_fd = -1;
	mtx_lock(&lp->lp_mtx);
	lc->lc_names++;
	LIST_INSERT_HEAD(&lp->lp_descs[lwc_desc_slot(lc, NULL)], ld, ld_hash);
	mtx_unlock(&lp->lp_mtx);
	finit(*fpp, FREAD | FWRITE, DTYPE_DEV, ld, &lwc_fileops);
	return (0);
}

/* Note where a descriptor went, so that lwc_desc_find() finds it. */
void
lwc_desc_moved(struct file *fp, struct filedesc *fdp, int fd)
{
	struct lwc_desc *ld;
	struct lwc_proc *lp;

	ld = fp->f_data;
	lp = ld->ld_ctx->lc_lp;
	mtx_lock(&lp->lp_mtx);
	LIST_REMOVE(ld, ld_hash);
	ld->ld_fdp = fdp;
	ld->ld_fd = fd;
	LIST_INSERT_HEAD(&lp->lp_descs[lwc_desc_slot(ld->ld_ctx, fdp)], ld,
	    ld_hash);
	mtx_unlock(&lp->lp_mtx);
}

/* The same, installed in the table the process has now. */
int
lwc_desc_install(struct thread *td, struct lwc_ctx *lc, struct lwc_rights *rg,
    bool clean_only, int *fdp)
{
	struct file *fp;
	int error;

	error = lwc_desc_file(td, lc, rg, clean_only, &fp);
	if (error != 0)
		return (error);
	/* Held by us until it is noted: another process may share the table. */
	error = finstall(td, fp, fdp, O_CLOEXEC, NULL);
	if (error == 0)
		lwc_desc_moved(fp, td->td_proc->p_fd, *fdp);
	fdrop(fp, td);
	return (error);
}

/*
 * The number under which a table names a context, or -1.  The hint is
 * believed only after a look at the table: the owner may have closed it, or
 * moved it by dup2(2).  Then the whole table is searched, once, since the
 * number found becomes the hint.
 */
int
lwc_desc_find(struct lwc_proc *lp, struct filedesc *fdp, struct lwc_ctx *lc,
    bool clean_only)
{
	struct lwc_desc *ld;
	int fd;

	fd = -1;
	mtx_lock(&lp->lp_mtx);
	LIST_FOREACH(ld, &lp->lp_descs[lwc_desc_slot(lc, fdp)], ld_hash) {
		if (ld->ld_ctx == lc && ld->ld_fdp == fdp &&
		    ld->ld_clean_only == clean_only) {
			fd = ld->ld_fd;
			break;
		}
	}
	if (lc->lc_names == 0) {
		mtx_unlock(&lp->lp_mtx);
		return (-1);
	}
	mtx_unlock(&lp->lp_mtx);
	FILEDESC_SLOCK(fdp);
	if (fd == -1 || !lwc_desc_names(fdp, fd, lc, clean_only)) {
		for (fd = fdp->fd_nfiles - 1; fd >= 0; fd--)
			if (lwc_desc_names(fdp, fd, lc, clean_only))
				break;
		if (fd >= 0)
			lwc_desc_moved(fdp->fd_ofiles[fd].fde_file, fdp, fd);
	}
	FILEDESC_SUNLOCK(fdp);
	return (fd);
}

/* How many descriptors of a table would be copied with it. */
int
lwc_desc_count(struct lwc_proc *lp, struct filedesc *fdp)
{
	struct file *fp;
	int fd, n;

	n = 0;
	FILEDESC_SLOCK(fdp);
	mtx_lock(&lp->lp_mtx);
	for (fd = 0; fd < fdp->fd_nfiles; fd++) {
		fp = fdp->fd_ofiles[fd].fde_file;
		if (fp != NULL && fp->f_ops == &lwc_fileops &&
		    (fdp->fd_ofiles[fd].fde_flags & UF_FOCLOSE) == 0 &&
		    ((struct lwc_desc *)fp->f_data)->ld_ctx->lc_state !=
		    LWC_STATE_DEAD)
			n++;
	}
	mtx_unlock(&lp->lp_mtx);
	FILEDESC_SUNLOCK(fdp);
	return (n);
}

/*
 * The context behind a descriptor, referenced, and on request its rights.
 * It is one of the caller's own process.
 */
int
lwc_ctx_get(struct thread *td, int fd, struct lwc_ctx **lcp,
    struct lwc_rights **rgp)
{
	struct lwc_ctx *lc;
	struct lwc_desc *ld;
	struct lwc_proc *lp;
	struct file *fp;
	int error;

	error = fget(td, fd, &cap_no_rights, &fp);
	if (error != 0)
		return (error);
	if (fp->f_ops != &lwc_fileops) {
		fdrop(fp, td);
		return (EBADF);
	}
	ld = fp->f_data;
	lc = ld->ld_ctx;
	lp = lc->lc_lp;
	/* Racy for others, constant for us: only our own exit clears it. */
	if (lp->lp_proc != td->td_proc || lp->lp_shared) {
		error = lp->lp_shared ? EBUSY : EPERM;
		fdrop(fp, td);
		return (error);
	}
	lwc_ctx_ref(lc);
	if (rgp != NULL) {
		mtx_lock(&lp->lp_mtx);
		*rgp = lwc_rights_hold(ld->ld_rights);
		mtx_unlock(&lp->lp_mtx);
	}
	fdrop(fp, td);
	*lcp = lc;
	return (0);
}

static int
lwc_fo_close(struct file *fp, struct thread *td __unused)
{
	struct lwc_ctx *lc;
	struct lwc_desc *ld;
	struct lwc_proc *lp;

	ld = fp->f_data;
	lc = ld->ld_ctx;
	lp = lc->lc_lp;
	fp->f_data = NULL;
	mtx_lock(&lp->lp_mtx);
	LIST_REMOVE(ld, ld_hash);
	mtx_unlock(&lp->lp_mtx);
	(void)lwc_user_descriptors(lp->lp_user, -1);
	lwc_rights_free(ld->ld_rights);
	uma_zfree(lwc_desc_zone, ld);
	atomic_subtract_int(&lwc_ndescs, 1);
	lwc_ctx_unname(lc);
	lwc_ctx_rele(lc);	/* last: see there */
	return (0);
}

/*
 * fdcopy() calls twice, with the old file to get the new one, and at the end
 * with the new one.  The table copied is locked (shared).
 */
static int
lwc_fo_fork(struct filedesc *newfdp, struct file *fp, struct file **fpp,
    struct proc *p1, struct thread *td)
{
	struct lwc_desc *ld;
	struct lwc_proc *lp;
	struct lwc_rights *rg;
	int error, fd;

	if (*fpp != NULL)
		return (0);
	ld = fp->f_data;
	lp = ld->ld_ctx->lc_lp;
	if (lp->lp_proc != p1 || td->td_proc != p1 || !lp->lp_copying)
		return (EOPNOTSUPP);
	mtx_lock(&lp->lp_mtx);
	if (ld->ld_ctx->lc_state == LWC_STATE_DEAD) {
		mtx_unlock(&lp->lp_mtx);
		return (EOPNOTSUPP);
	}
	/*
	 * 2.5: over its creator a new context has what it is lent, no more;
	 * and whoever overlays a table, over whom it is of.
	 */
	rg = lwc_rights_hold(lp->lp_lend != NULL &&
	    ld->ld_ctx == lp->lp_lend_ctx ? lp->lp_lend : ld->ld_rights);
	fd = ld->ld_fd;
	mtx_unlock(&lp->lp_mtx);
	error = lwc_desc_file(td, ld->ld_ctx, rg, ld->ld_clean_only, fpp);
	if (error == 0)
		lwc_desc_moved(*fpp, newfdp, fd);
	return (error);
}

/* Is it a name for a switch to a clean context alone? */
bool
lwc_desc_clean_only(struct thread *td, int fd)
{
	struct file *fp;
	bool clean_only;

	if (fget(td, fd, &cap_no_rights, &fp) != 0)
		return (false);
	clean_only = fp->f_ops == &lwc_fileops &&
	    ((struct lwc_desc *)fp->f_data)->ld_clean_only;
	fdrop(fp, td);
	return (clean_only);
}

static int
lwc_fo_stat(struct file *fp, struct stat *sb, struct ucred *cred __unused)
{
	struct lwc_desc *ld;

	ld = fp->f_data;
	memset(sb, 0, sizeof(*sb));
	sb->st_mode = S_IRUSR | S_IWUSR;
	sb->st_ino = ld->ld_ctx->lc_id;
	sb->st_uid = fp->f_cred->cr_uid;
	sb->st_gid = fp->f_cred->cr_gid;
	return (0);
}

static int
lwc_fo_fill_kinfo(struct file *fp __unused, struct kinfo_file *kif,
    struct filedesc *fdp __unused)
{

	kif->kf_type = KF_TYPE_UNKNOWN;
	strlcpy(kif->kf_path, "[lwc]", sizeof(kif->kf_path));
	return (0);
}

static int
lwc_fo_cmp(struct file *fp1, struct file *fp2, struct thread *td __unused)
{

	if (fp2->f_ops != &lwc_fileops)
		return (3);
	return (kcmp_cmp((uintptr_t)fp1->f_data, (uintptr_t)fp2->f_data));
}
