/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Limits of memory that hold for all contexts of a process together.
 *
 * The kernel holds the current context's own RLIMIT_AS, RLIMIT_DATA and
 * RLIMIT_MEMLOCK against its own memory.  Here those of the root context, which
 * are what the process was given, are held against the sum, when a context is
 * made and before the calls that make an address space grow: mmap(2), break(2),
 * mlock(2), lwOverlay().  A stack grows within RLIMIT_STACK.  Nothing is added
 * up where there is no limit, and no switch pays for it.
 *
 * What it cannot do: procstat(1), ps(1), RLIMIT_RSS, racct(4) and the choice of
 * a process to be killed for want of memory know p_vmspace alone.
 * kern.lwc.usage tells the sum (lwc_usage.c).
 */

#include "lwc_context.h"
#include "lwc_snapshot.h"
#include "lwc_vm.h"

#include <sys/resourcevar.h>

#include <vm/vm_param.h>

/* What is added up. */
enum lwc_sum { LWC_SIZE, LWC_DATA, LWC_WIRED };

static uint64_t
lwc_vm_amount(const struct vmspace *vm, enum lwc_sum what)
{

	switch (what) {
	case LWC_SIZE:
		return (vm->vm_map.size);
	case LWC_DATA:
		return (ctob((uint64_t)vm->vm_dsize));
	case LWC_WIRED:
		return (ptoa((uint64_t)vmspace_pmap(
		    __DECONST(struct vmspace *, vm))->pm_stats.wired_count));
	}
	return (0);
}

/* Of the current context, of all that are suspended, and of snapshots. */
static uint64_t
lwc_vm_sum(struct lwc_proc *lp, enum lwc_sum what)
{
	struct lwc_ctx *lc;
	uint64_t sum;

	sum = lwc_vm_amount(curproc->p_vmspace, what);
	mtx_lock(&lp->lp_mtx);
	LIST_FOREACH(lc, &lp->lp_ctxs, lc_link) {
		if (lc->lc_state == LWC_STATE_DEAD)
			continue;
		if (lc != lp->lp_current && lc->lc_vm != NULL)
			sum += lwc_vm_amount(lc->lc_vm, what);
		if (lwc_snapshot_vm(lc) != NULL)
			sum += lwc_vm_amount(lwc_snapshot_vm(lc), what);
	}
	mtx_unlock(&lp->lp_mtx);
	return (sum);
}

/* The root is about to be destroyed: its limits stay. */
void
lwc_vm_root_gone(struct lwc_proc *lp)
{

	mtx_assert(&lp->lp_mtx, MA_OWNED);
	if (lp->lp_root->lc_limit != NULL)
		memcpy(lp->lp_limits, lp->lp_root->lc_limit->pl_rlimit,
		    sizeof(lp->lp_limits));
	lp->lp_root = NULL;
}

/* The root's limit. */
static rlim_t
lwc_vm_limit(struct thread *td, struct lwc_proc *lp, int which)
{
	struct lwc_ctx *root;
	rlim_t lim;

	if (lp->lp_current == lp->lp_root)
		return (lim_cur(td, which));
	mtx_lock(&lp->lp_mtx);
	root = lp->lp_root;
	lim = root == NULL ? lp->lp_limits[which].rlim_cur :
	    root->lc_limit->pl_rlimit[which].rlim_cur;
	mtx_unlock(&lp->lp_mtx);
	return (lim);
}

static bool
lwc_vm_fits(struct thread *td, struct lwc_proc *lp, int limit,
    enum lwc_sum what, uint64_t grow)
{
	uint64_t most;
	rlim_t lim;

	lim = lwc_vm_limit(td, lp, limit);
	if (lim == RLIM_INFINITY)
		return (true);
	most = (uint64_t)lim;
	return (grow <= most && lwc_vm_sum(lp, what) <= most - grow);
}

/* May the current address space have so many bytes more? */
bool
lwc_vm_grow_ok(struct thread *td, struct lwc_proc *lp, uint64_t grow)
{

	return (lwc_vm_fits(td, lp, RLIMIT_VMEM, LWC_SIZE, grow));
}

/* The same; what is mapped is locked as well, if mlockall(2) asked for it. */
bool
lwc_vm_map_ok(struct thread *td, struct lwc_proc *lp, uint64_t grow)
{

	return (lwc_vm_grow_ok(td, lp, grow) &&
	    ((td->td_proc->p_vmspace->vm_map.flags & MAP_WIREFUTURE) == 0 ||
	    lwc_vm_lock_ok(td, lp, grow)));
}

/* May its data segment end there? */
bool
lwc_vm_break_ok(struct thread *td, struct lwc_proc *lp, vm_offset_t end)
{
	struct vmspace *vm;
	vm_offset_t base;
	uint64_t grow;

	vm = td->td_proc->p_vmspace;
	base = (vm_offset_t)vm->vm_daddr + ctob(vm->vm_dsize);
	if (end <= base)
		return (true);
	grow = end - base;
	if (!lwc_vm_map_ok(td, lp, grow) ||
	    !lwc_vm_fits(td, lp, RLIMIT_DATA, LWC_DATA, grow))
		return (false);
	/* See lwc_vm_create_ok(). */
	if (end <= VM_MAXUSER_ADDRESS)
		lp->lp_data = MAX(lp->lp_data, (segsz_t)btoc(end -
		    (vm_offset_t)vm->vm_daddr));
	return (true);
}

/*
 * May it lock so many bytes more?  As in mlock(2), privilege is no way past the
 * limit: every user may lock memory (security.bsd.unprivileged_mlock).
 */
bool
lwc_vm_lock_ok(struct thread *td, struct lwc_proc *lp, uint64_t len)
{

	return (lwc_vm_fits(td, lp, RLIMIT_MEMLOCK, LWC_WIRED, len));
}

/* May there be a snapshot of this space? */
bool
lwc_vm_twin_ok(struct thread *td, struct lwc_proc *lp,
    const struct vmspace *vm)
{
	uint64_t wired;

	wired = lwc_vm_amount(vm, LWC_WIRED);
	return (lwc_vm_grow_ok(td, lp, vm->vm_map.size) &&
	    lwc_vm_fits(td, lp, RLIMIT_DATA, LWC_DATA,
	    ctob((uint64_t)vm->vm_dsize)) &&
	    (wired == 0 || lwc_vm_lock_ok(td, lp, wired)));
}

/*
 * May there be one more of the current one's size?  No data segment was ever
 * larger than lp_data: while that many times the contexts is within the limit,
 * which is finite everywhere, nothing need be added up.
 */
bool
lwc_vm_create_ok(struct thread *td, struct lwc_proc *lp)
{
	struct vmspace *vm;
	uint64_t lim;

	vm = td->td_proc->p_vmspace;
	if (!lwc_vm_grow_ok(td, lp, vm->vm_map.size))
		return (false);
	lim = (uint64_t)lwc_vm_limit(td, lp, RLIMIT_DATA);
	if ((uint64_t)lp->lp_nctx + lp->lp_nsnapshots + 1 <= lim / (ctob(
	    (uint64_t)MAX(lp->lp_data, 1))))
		return (true);
	return (lwc_vm_fits(td, lp, RLIMIT_DATA, LWC_DATA,
	    ctob((uint64_t)vm->vm_dsize)));
}
