/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Contexts and the descriptors that name them.
 *
 * A struct lwc_ctx is memory, counted by everything that points to it: it may
 * outlive what it stands for.  That ends (LWC_STATE_DEAD) when no name is
 * left while it is suspended, or with the process.  Names are descriptors,
 * and children whose traps or ends resume it: those need it as much as a
 * holder of a descriptor does.
 *
 * A descriptor is a struct file of our own type with a struct lwc_desc of
 * its own, which holds the rights.  dup(2) shares the file, and so the
 * rights.  The type is not passable: neither SCM_RIGHTS nor fork(2) hands it
 * on.  fdcopy() asks fo_fork() instead; the answer is a new file when
 * lwCreate() is copying the table of its own process, and no otherwise.
 *
 * The last close may come from any process that shares the table, and from
 * inside the destruction of another context, whose table it empties.  So
 * fo_close() only marks the dead; lwc_reap() finds a place to destroy them.
 */

#include "lwc_var.h"

#include <sys/resourcevar.h>
#include <sys/callout.h>
#include <sys/capsicum.h>
#include <sys/fcntl.h>
#include <sys/stat.h>
#include <sys/sx.h>
#include <sys/user.h>

#include <vm/vm_extern.h>
#include <vm/uma.h>

SDT_PROBE_DEFINE2(lwc, , , destroy, "uint64_t", "pid_t");

static uma_zone_t lwc_ctx_zone, lwc_desc_zone;

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
lwc_context_init(void)
{

	lwc_ctx_zone = uma_zcreate("lwc context", sizeof(struct lwc_ctx),
	    NULL, NULL, NULL, NULL, UMA_ALIGN_PTR, 0);
	lwc_desc_zone = uma_zcreate("lwc descriptor", sizeof(struct lwc_desc),
	    NULL, NULL, NULL, NULL, UMA_ALIGN_PTR, 0);
}

void
lwc_context_fini(void)
{

	uma_zdestroy(lwc_ctx_zone);
	uma_zdestroy(lwc_desc_zone);
}

/* An empty context of a process, referenced once, not yet among the living. */
struct lwc_ctx *
lwc_ctx_alloc(struct lwc_proc *lp)
{
	struct lwc_ctx *lc;

	lc = uma_zalloc(lwc_ctx_zone, M_WAITOK | M_ZERO);
	refcount_init(&lc->lc_refs, 1);
	refcount_acquire(&lp->lp_refs);
	lc->lc_lp = lp;
	lc->lc_state = LWC_STATE_NEW;
	lc->lc_back = lwc_rights_none();
	lc->lc_self = lwc_rights_all();
	lwc_md_init(&lc->lc_md);
	callout_init(&lc->lc_callout, 1);
	atomic_add_int(&lwc_nctxs, 1);
	return (lc);
}

void
lwc_ctx_ref(struct lwc_ctx *lc)
{

	refcount_acquire(&lc->lc_refs);
}

/*
 * Creators are referenced by their children, so a release may run up a chain
 * of dead ancestors: a loop, not a recursion.
 */
void
lwc_ctx_rele(struct lwc_ctx *lc)
{
	struct lwc_ctx *next;

	for (; lc != NULL; lc = next) {
		if (!refcount_release(&lc->lc_refs))
			return;
		next = lc->lc_creator;
		MPASS(lc->lc_vm == NULL && lc->lc_fd == NULL);
		MPASS(lc->lc_monitor == NULL);
		lwc_md_fini(&lc->lc_md);
		lwc_rights_free(lc->lc_back);
		lwc_rights_free(lc->lc_self);
		lwc_proc_rele(lc->lc_lp);
		uma_zfree(lwc_ctx_zone, lc);
		atomic_subtract_int(&lwc_nctxs, 1);
	}
}

/* One name less.  May destroy the context, so the caller has a reference. */
void
lwc_ctx_unname(struct lwc_ctx *lc)
{
	struct lwc_proc *lp;
	bool dead;

	lp = lc->lc_lp;
	mtx_lock(&lp->lp_mtx);
	MPASS(lc->lc_names > 0);
	lc->lc_names--;
	dead = lc->lc_names == 0 && lc != lp->lp_current &&
	    lc->lc_state != LWC_STATE_DEAD &&
	    lc->lc_state != LWC_STATE_CURRENT;
	if (dead)
		lc->lc_state = LWC_STATE_DEAD;
	mtx_unlock(&lp->lp_mtx);
	if (dead)
		lwc_reap(lp, lc);
}

/*
 * Give back all that a dead context owned.  Called with none of our locks,
 * never from within itself (see lwc_reap()), in any process.
 */
void
lwc_ctx_destroy(struct lwc_ctx *lc)
{
	struct lwc_ctx *monitor;
	struct lwc_proc *lp;

	lp = lc->lc_lp;
	MPASS(lc->lc_state == LWC_STATE_DEAD);
	SDT_PROBE2(lwc, , , destroy, lc->lc_id, curproc->p_pid);
	mtx_lock(&lp->lp_mtx);
	LIST_REMOVE(lc, lc_link);
	lp->lp_nctx--;
	mtx_unlock(&lp->lp_mtx);
	if (lc->lc_creator != NULL)
		atomic_subtract_int(&lwc_live, 1);
	callout_drain(&lc->lc_callout);
	if (lc->lc_vm != NULL) {
		lwc_vm_free(lc->lc_vm);
		lc->lc_vm = NULL;
	}
	if (lc->lc_fd != NULL) {
		if (lc->lc_shared != NULL)
			atomic_subtract_rel_int(&lc->lc_shared->sh_held, 1);
		lwc_table_free(lc->lc_fd, lc->lc_pd);
		lc->lc_fd = NULL;
		lc->lc_pd = NULL;
	}
	lwc_cow_free(lc);
	if (lc->lc_sigacts != NULL) {
		sigacts_free(lc->lc_sigacts);
		lc->lc_sigacts = NULL;
	}
	lwc_shared_drop(&lc->lc_shared);
	lwc_allow_free(lc->lc_allow);
	lc->lc_allow = NULL;
	monitor = lc->lc_monitor;
	lc->lc_monitor = NULL;
	if (monitor != NULL) {
		lwc_ctx_unname(monitor);
		lwc_ctx_rele(monitor);
	}
	lwc_ctx_rele(lc);		/* the list's */
}

static u_int
lwc_desc_slot(const struct lwc_ctx *lc, const struct filedesc *fdp)
{
	uintptr_t h;

	h = ((uintptr_t)lc >> 6) * 31 + ((uintptr_t)fdp >> 6);
	return ((h ^ (h >> 10)) % LWC_DESC_HASH);
}

/* An open file that names a context; takes over the rights. */
int
lwc_desc_file(struct thread *td, struct lwc_ctx *lc, struct lwc_rights *rg,
    struct file **fpp)
{
	struct lwc_desc *ld;
	struct lwc_proc *lp;
	int error;

	error = falloc_noinstall(td, fpp);
	if (error != 0) {
		lwc_rights_free(rg);
		return (error);
	}
	ld = uma_zalloc(lwc_desc_zone, M_WAITOK | M_ZERO);
	atomic_add_int(&lwc_ndescs, 1);
	lwc_ctx_ref(lc);
	ld->ld_ctx = lc;
	ld->ld_rights = rg;
	ld->ld_fd = -1;
	lp = lc->lc_lp;
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
    int *fdp)
{
	struct file *fp;
	int error;

	error = lwc_desc_file(td, lc, rg, &fp);
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
lwc_desc_find(struct lwc_proc *lp, struct filedesc *fdp, struct lwc_ctx *lc)
{
	struct lwc_desc *ld;
	int fd;

	fd = -1;
	mtx_lock(&lp->lp_mtx);
	LIST_FOREACH(ld, &lp->lp_descs[lwc_desc_slot(lc, fdp)], ld_hash) {
		if (ld->ld_ctx == lc && ld->ld_fdp == fdp) {
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
	if (fd == -1 || !lwc_desc_names(fdp, fd, lc)) {
		for (fd = fdp->fd_nfiles - 1; fd >= 0; fd--)
			if (lwc_desc_names(fdp, fd, lc))
				break;
		if (fd >= 0)
			lwc_desc_moved(fdp->fd_ofiles[fd].fde_file, fdp, fd);
	}
	FILEDESC_SUNLOCK(fdp);
	return (fd);
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
	if (lp->lp_proc != td->td_proc) {
		fdrop(fp, td);
		return (EPERM);
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
	lwc_ctx_unname(lc);
	lwc_ctx_rele(lc);
	lwc_rights_free(ld->ld_rights);
	uma_zfree(lwc_desc_zone, ld);
	atomic_subtract_int(&lwc_ndescs, 1);
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
	/* 2.5: over its creator a new context has what it is lent, no more. */
	rg = lwc_rights_hold(lp->lp_back != NULL &&
	    ld->ld_ctx == lp->lp_current ? lp->lp_back : ld->ld_rights);
	fd = ld->ld_fd;
	mtx_unlock(&lp->lp_mtx);
	error = lwc_desc_file(td, ld->ld_ctx, rg, fpp);
	if (error == 0)
		lwc_desc_moved(*fpp, newfdp, fd);
	return (error);
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

/* 1.3: a descriptor of the current context, at most one for each call. */
int
sys_lwGetlwc(struct thread *td, void *uap __unused)
{
	struct lwc_proc *lp;
	struct lwc_rights *rg;
	int error, fd;

	lp = lwc_proc_get(td);
	if (lp == NULL)
		return (EBUSY);
	mtx_lock(&lp->lp_mtx);
	rg = lwc_rights_hold(lp->lp_current->lc_self);
	mtx_unlock(&lp->lp_mtx);
	error = lwc_desc_install(td, lp->lp_current, rg, &fd);
	if (error == 0)
		td->td_retval[0] = fd;
	return (error);
}

/* 8.1: facts.  Any descriptor will do, even one whose rights are gone. */
int
sys_lwInfo(struct thread *td, struct lwInfo_args *uap)
{
	struct lwc_info li;
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	struct lwc_rights *rg, *self;
	struct vmspace *vm;
	int error;

	lp = lwc_proc_get(td);
	if (lp == NULL)
		return (EBUSY);
	rg = NULL;
	if (uap->lwc == LWC_SELF) {
		lc = lp->lp_current;
		lwc_ctx_ref(lc);
		rg = lwc_rights_all();
	} else {
		error = lwc_ctx_get(td, uap->lwc, &lc, &rg);
		if (error != 0)
			return (error);
	}
	memset(&li, 0, sizeof(li));
	li.li_id = lc->lc_id;
	li.li_creator = lc->lc_creator == NULL ? 0 : lc->lc_creator->lc_id;
	li.li_version = LWC_ABI_VERSION;
	li.li_flags = lc->lc_flags;
	vm = NULL;
	mtx_lock(&lp->lp_mtx);
	li.li_state = lc->lc_state == LWC_STATE_REPLY ?
	    LWC_STATE_SUSPENDED : lc->lc_state;
	if (li.li_state == LWC_STATE_SUSPENDED && lc->lc_preempted)
		li.li_state = LWC_STATE_PREEMPTED;
	self = lwc_rights_hold(lc->lc_self);
	li.li_contexts = lp->lp_nctx;
	if (lc == lp->lp_current)
		vm = td->td_proc->p_vmspace;
	else if (lc->lc_state != LWC_STATE_DEAD)
		vm = lc->lc_vm;
	/* Its owner could be reaped by another process that closes it. */
	if (vm != NULL)
		refcount_acquire(&vm->vm_refcnt);
	mtx_unlock(&lp->lp_mtx);
	li.li_rights = lwc_rights_types(rg, self);
	if (vm != NULL) {
		li.li_resident = vmspace_resident_count(vm);
		li.li_private = lwc_vm_private(vm);
		vmspace_free(vm);
	}
	lwc_rights_free(rg);
	lwc_rights_free(self);
	lwc_ctx_rele(lc);
	return (copyout(&li, uap->info, sizeof(li)));
}
