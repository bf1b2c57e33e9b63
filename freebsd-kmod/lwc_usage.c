/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * kern.lwc.usage: what processes have in all their contexts together.
 *
 * procstat(1), ps(1) and top(1) know p_vmspace, which is the current context's.
 * A line for each process that has a record and that the caller may see:
 *
 *	pid uid contexts size resident wired
 *
 * Sizes are in bytes: of the address spaces; of the pages that are mapped, those
 * that several contexts share counted for each; of those that are locked.
 */

#include "lwc_context.h"
#include "lwc_process.h"
#include "lwc_snapshot.h"

#include <sys/sbuf.h>

#include <vm/vm_param.h>
#include <vm/vm_extern.h>

SYSCTL_DECL(_kern_lwc);

struct lwc_usage {
	pid_t		lu_pid;
	uid_t		lu_uid;
	int		lu_contexts;
	uint64_t	lu_size;
	uint64_t	lu_resident;
	uint64_t	lu_wired;
};

static void
lwc_usage_add(struct lwc_usage *lu, struct vmspace *vm)
{

	lu->lu_size += vm->vm_map.size;
	lu->lu_resident += ptoa((uint64_t)vmspace_resident_count(vm));
	lu->lu_wired += ptoa((uint64_t)vmspace_pmap(vm)->pm_stats.wired_count);
}

/*
 * What one process has; false if it is gone, or not the caller's to see.  Its
 * spaces stay: with lp_mtx held none of lp_ctxs is freed, with the process lock
 * none is exchanged for p_vmspace.  A switch begins to change lp_current before
 * it has that lock: the sum may lack one context then.
 */
static bool
lwc_usage_of(struct thread *td, struct lwc_proc *lp, struct lwc_usage *lu)
{
	struct lwc_ctx *lc;
	struct proc *p;
	bool seen;

	memset(lu, 0, sizeof(*lu));
	mtx_lock(&lp->lp_mtx);
	p = lp->lp_proc;
	if (p == NULL) {
		mtx_unlock(&lp->lp_mtx);
		return (false);
	}
	PROC_LOCK(p);
	seen = (p->p_flag & P_WEXIT) == 0 && p_cansee(td, p) == 0;
	if (seen) {
		lu->lu_pid = p->p_pid;
		lu->lu_uid = p->p_ucred->cr_ruid;
		lu->lu_contexts = lp->lp_nctx;
		lwc_usage_add(lu, p->p_vmspace);
		LIST_FOREACH(lc, &lp->lp_ctxs, lc_link) {
			if (lc != lp->lp_current && lc->lc_vm != NULL &&
			    lc->lc_vm != p->p_vmspace)
				lwc_usage_add(lu, lc->lc_vm);
			if (lwc_snapshot_vm(lc) != NULL)
				lwc_usage_add(lu, lwc_snapshot_vm(lc));
		}
	}
	PROC_UNLOCK(p);
	mtx_unlock(&lp->lp_mtx);
	return (seen);
}

static int
lwc_usage(SYSCTL_HANDLER_ARGS)
{
	struct lwc_proc **lps;
	struct lwc_usage lu;
	struct sbuf sb;
	const char *between;
	u_int i, n;
	int error;

	error = sysctl_wire_old_buffer(req, 0);
	if (error != 0)
		return (error);
	lps = lwc_proc_all(&n);
	between = "";
	sbuf_new_for_sysctl(&sb, NULL, 128, req);
	for (i = 0; i < n; i++) {
		if (lwc_usage_of(req->td, lps[i], &lu)) {
			sbuf_printf(&sb, "%s%d %u %d %ju %ju %ju",
			    between, (int)lu.lu_pid, (u_int)lu.lu_uid,
			    lu.lu_contexts, (uintmax_t)lu.lu_size,
			    (uintmax_t)lu.lu_resident,
			    (uintmax_t)lu.lu_wired);
			between = "\n";
		}
		lwc_proc_rele(lps[i]);
	}
	free(lps, M_LWCSTAGE);
	error = sbuf_finish(&sb);
	sbuf_delete(&sb);
	return (error);
}
SYSCTL_PROC(_kern_lwc, OID_AUTO, usage,
    CTLTYPE_STRING | CTLFLAG_RD | CTLFLAG_MPSAFE, NULL, 0, lwc_usage, "A",
    "Memory of processes with contexts: pid uid contexts size resident wired");
