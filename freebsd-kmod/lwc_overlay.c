/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * lwOverlay(): resources of another context into the current one.
 *
 * Rights are tested for every specifier before anything is looked at, then
 * everything is staged, then applied.  Only staging can fail, and it leaves
 * the current context as it was (5.2).  The source is suspended and stays so
 * while we run: its pointers do not change under us.
 */

#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_cred.h"
#include "lwc_files.h"
#include "lwc_vm.h"

SDT_PROBE_DEFINE2(lwc, , , overlay, "uint64_t", "int");

static bool
lwc_overlay_allowed(const struct lwc_specs *sp, const struct lwc_rights *rg)
{
	const struct lwc_spec *s;
	int i;

	for (i = 0; i < sp->sp_n; i++) {
		s = &sp->sp_spec[i];
		switch (s->flags & LWC_TYPES) {
		case LWC_MEMORY:
			if (!lwc_rights_mem(rg, s->sub.memory.start,
			    s->sub.memory.end))
				return (false);
			break;
		case LWC_FILES:
			if (!lwc_rights_files(rg, lwc_files_start(s),
			    lwc_files_end(s)))
				return (false);
			break;
		default:
			if (!rg->rg_cred)
				return (false);
			break;
		}
	}
	return (true);
}

/* What a specifier may ask of a source: others give, oneself removes. */
static bool
lwc_overlay_sane(const struct lwc_specs *sp, bool self)
{
	u_int option;
	int i;

	for (i = 0; i < sp->sp_n; i++) {
		option = sp->sp_spec[i].flags & LWC_OPTIONS;
		if ((option & LWC_MAY_OVERLAY) != 0)
			return (false);
		if (self != ((option & LWC_UNMAP) != 0))
			return (false);
	}
	return (true);
}

/*
 * For the next rollback: the source's map or table may change, also if this
 * fails later.  What is shared the caller can write to, so the source is clean
 * no more.
 */
static void
lwc_overlay_note(struct lwc_proc *lp, struct lwc_ctx *src,
    const struct lwc_specs *sp)
{
	int i;

	mtx_lock(&lp->lp_mtx);
	src->lc_changed = true;
	for (i = 0; i < sp->sp_n; i++)
		if ((sp->sp_spec[i].flags & LWC_SHARE) != 0)
			src->lc_clean = false;
	mtx_unlock(&lp->lp_mtx);
}

/* The caller's rights over the source are rg; without one it removes. */
static int
lwc_overlay(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *src,
    struct lwc_rights *rg, const struct lwc_specs *sp)
{
	struct lwc_fstage *fs;
	struct lwc_stage *st;
	int error, i;

	error = src != NULL && !lwc_cred_jailed_alike(src->lc_cred,
	    td->td_proc->p_ucred) ? EPERM : 0;
	LWC_FAIL(cred, error);
	if (error != 0)
		return (error);
	if (src != NULL)
		lwc_overlay_note(lp, src, sp);
	fs = NULL;
	st = NULL;
	error = lwc_vm_stage(lp, src == NULL ? NULL : src->lc_vm, sp,
	    td->td_proc->p_vmspace, &st);
	if (error == 0)
		error = lwc_files_stage(td, lp, src, rg, sp, &fs);
	if (error == 0) {
		lwc_vm_apply(td->td_proc->p_vmspace, st);
		lwc_files_apply(td, fs);
		for (i = 0; i < sp->sp_n; i++) {
			if (!lwc_spec_is(&sp->sp_spec[i], LWC_CREDENTIALS))
				continue;
			lwc_cred_install(td, src->lc_cred);
		}
	}
	lwc_files_unstage(td, lp, fs);
	lwc_vm_unstage(st);
	return (error);
}

int
sys_lwOverlay(struct thread *td, struct lwOverlay_args *uap)
{
	struct lwc_ctx *src;
	struct lwc_proc *lp;
	struct lwc_rights *rg, *self;
	struct lwc_specs sp;
	int error;
	bool dead;

	error = lwc_proc_check(td);
	if (error == 0)
		error = lwc_proc_get(td, &lp);
	if (error != 0)
		return (error);
	src = NULL;
	rg = NULL;
	if (uap->source != LWC_SELF) {
		error = lwc_ctx_get(td, uap->source, &src, &rg);
		if (error != 0)
			return (error);
		if (src == lp->lp_current) {
			lwc_ctx_rele(src);
			lwc_rights_free(rg);
			src = NULL;
			rg = NULL;
		}
	}
	error = lwc_specs_copyin(uap->specs, uap->nspecs,
	    &td->td_proc->p_vmspace->vm_map, false, &sp);
	if (error == 0 && !lwc_overlay_sane(&sp, src == NULL))
		error = EINVAL;
	if (error == 0 && src != NULL) {
		mtx_lock(&lp->lp_mtx);
		dead = src->lc_state == LWC_STATE_DEAD;
		self = lwc_rights_hold(src->lc_self);
		/* Named by us as well: nobody's close makes it vanish. */
		if (!dead)
			src->lc_names++;
		mtx_unlock(&lp->lp_mtx);
		if (dead)
			error = ESRCH;
		else if (!lwc_overlay_allowed(&sp, rg) ||
		    !lwc_overlay_allowed(&sp, self))
			error = EACCES;
		lwc_rights_free(self);
		if (error == 0)
			error = lwc_overlay(td, lp, src, rg, &sp);
		if (!dead)
			lwc_ctx_unname(src);
	} else if (error == 0) {
		error = lwc_overlay(td, lp, NULL, NULL, &sp);
	}
	if (error == 0)
		SDT_PROBE2(lwc, , , overlay, (src == NULL ? 0 : src->lc_id),
		    sp.sp_n);
	lwc_specs_free(&sp);
	if (src != NULL) {
		lwc_ctx_rele(src);
		lwc_rights_free(rg);
	}
	return (error);
}
