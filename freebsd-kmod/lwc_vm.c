/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Address spaces.
 *
 * A new context's is made by vmspace_fork(), which decides entry by entry on
 * the inheritance that minherit(2) sets.  So the specifiers become
 * inheritance for the time of the call: SHARE makes the range shared in
 * place and stays (memory shared once is one memory from then on), UNMAP is
 * NONE and is taken back after.
 *
 * COPY of memory that is shared cannot be had that way: it would make the
 * source copy-on-write too and tear it from its other sharers.  Such ranges
 * are left out of the fork and copied page by page into anonymous memory.
 *
 * Nor does the fork see file pages that nobody wrote: see lwc_vm_lazy.c.
 *
 * What a map maps is only ever changed by its process's single thread, which
 * is here: no other process has it (lwc_proc_exclusive()).  But any process of
 * the user can set RLIMIT_STACK (kern.proc.rlimit), which changes protections
 * in the range of the stack, and cuts and merges entries.  So what is read of a
 * map is read under its lock, objects are referenced there, and nothing relies
 * on entries that were read before.
 *
 * Who uses the memory of a process from outside finds it by p_vmspace, which a
 * switch, lwSyscall() and the end of a context exchange.  They all do so under
 * the process lock and while nobody blocks execve(2) (p_execblock), as
 * execve(2) does itself.  So what was exchanged can be freed at any time
 * afterwards:
 *  kinfo, SIGINFO of a terminal, linprocfs(4)	have the process lock.
 *  vmspace_acquire_ref(): ptrace(2), procfs(4), kern.proc.*, procctl(2), the
 *	pageout daemon	counts, then looks whether it is p_vmspace still; memory
 *	of a struct vmspace is never given back.
 *  kern.proc.rlimit	without a count, under execve_block(9).
 *  ptrace(2) of PT_READ_D, PT_VM_ENTRY and the like	without a count, or
 *	without a look at the outcome, in a process that is stopped: its thread
 *	is not here until the request is over (P2_PTRACEREQ).
 *  aio(4)	counts p_vmspace late: lwc_proc_check(), lwc_vm_free().
 *  ioctl(2) of dtrace(1)'s helpers	root's; with execve(2) it is no better.
 * getrlimitusage(2), membarrier(2) and all else look at their own process.
 */

#include "lwc_vm.h"

#include <sys/rwlock.h>

#include <vm/vm_param.h>
#include <vm/vm_extern.h>
#include <vm/vm_object.h>
#include <vm/vm_page.h>
#include <vm/vm_pageout.h>
#include <vm/swap_pager.h>

int
lwc_kern_errno(int rv)
{

	switch (rv) {
	case KERN_SUCCESS:
		return (0);
	case KERN_NO_SPACE:
	case KERN_RESOURCE_SHORTAGE:
		return (ENOMEM);
	case KERN_PROTECTION_FAILURE:
		return (EACCES);
	case KERN_INVALID_ADDRESS:
		return (EFAULT);
	default:
		return (EINVAL);
	}
}

/* Are the pages of this entry memory, which can be copied? */
static bool
lwc_entry_copies(vm_map_entry_t entry)
{
	vm_object_t object;

	object = entry->object.vm_object;
	return (object == NULL || object->type == OBJT_VNODE ||
	    object->type == OBJT_PHYS || (object->flags & OBJ_SWAP) != 0);
}

/* Does a fork share this entry, so that its pages would change for both? */
static bool
lwc_entry_shared(vm_map_entry_t entry)
{

	return ((entry->eflags & MAP_ENTRY_GUARD) == 0 &&
	    entry->inheritance == VM_INHERIT_SHARE &&
	    (entry->max_protection & VM_PROT_WRITE) != 0);
}

/* Append what a map has in [start, end). */
void
lwc_pieces_add(struct lwc_pieces *ps, vm_map_t map, vm_offset_t start,
    vm_offset_t end)
{
	struct lwc_piece *pc;
	vm_map_entry_t entry;
	size_t n;

again:
	n = 0;
	vm_map_lock_read(map);
	if (!vm_map_lookup_entry(map, start, &entry))
		entry = vm_map_entry_succ(entry);
	for (; entry->start < end; entry = vm_map_entry_succ(entry)) {
		if (ps->ps_n + n < ps->ps_cap) {
			pc = &ps->ps_piece[ps->ps_n + n];
			memset(pc, 0, sizeof(*pc));
			pc->pc_start = MAX(start, entry->start);
			pc->pc_end = MIN(end, entry->end);
			pc->pc_inherit = entry->inheritance;
			pc->pc_prot = entry->protection;
			pc->pc_max = entry->max_protection;
			if (lwc_entry_shared(entry)) {
				pc->pc_snapshot = lwc_entry_copies(entry);
				pc->pc_device = !pc->pc_snapshot;
			}
		}
		n++;
	}
	vm_map_unlock_read(map);
	if (ps->ps_n + n > ps->ps_cap) {
		ps->ps_cap = (ps->ps_n + n) * 2;
		ps->ps_piece = realloc(ps->ps_piece,
		    ps->ps_cap * sizeof(*pc), M_LWCSTAGE, M_WAITOK);
		goto again;
	}
	ps->ps_n += n;
}

/*
 * Copy pages from one map to the same addresses of another.  What cannot be
 * read there (past the end of a file, protection none) stays zero here.  What
 * is no memory of the system's, a device's registers for example, is not
 * copied: it need not be in the direct map.
 */
static int
lwc_vm_copy(vm_map_t src, vm_map_t dst, vm_offset_t start, vm_offset_t end)
{
	vm_page_t from, to;
	vm_offset_t va;
	int error, rv;

	error = 0;
	for (va = start; va < end && error == 0; va += PAGE_SIZE) {
		if (lwc_killed())
			return (EINTR);
		maybe_yield();
		from = to = NULL;
		rv = vm_fault(src, va, VM_PROT_READ, VM_FAULT_NORMAL, &from);
		if (rv != KERN_SUCCESS)
			continue;
		if ((from->flags & PG_FICTITIOUS) != 0) {
			vm_page_unwire(from, PQ_ACTIVE);
			return (EFAULT);
		}
		rv = vm_fault(dst, va, VM_PROT_READ | VM_PROT_WRITE,
		    VM_FAULT_NORMAL, &to);
		if (rv == KERN_SUCCESS) {
			pmap_copy_page(from, to);
			vm_page_unwire(to, PQ_ACTIVE);
		} else {
			error = rv == KERN_RESOURCE_SHORTAGE ? ENOMEM : EFAULT;
		}
		vm_page_unwire(from, PQ_ACTIVE);
	}
	return (error);
}

/* Anonymous memory in dst with the contents that src has there. */
int
lwc_vm_snapshot(vm_map_t src, vm_map_t dst, const struct lwc_piece *pc)
{
	int error, rv;

	rv = vm_map_fixed(dst, NULL, 0, pc->pc_start,
	    pc->pc_end - pc->pc_start, VM_PROT_READ | VM_PROT_WRITE,
	    pc->pc_max | VM_PROT_READ | VM_PROT_WRITE, 0);
	if (rv != KERN_SUCCESS)
		return (lwc_kern_errno(rv));
	error = lwc_vm_copy(src, dst, pc->pc_start, pc->pc_end);
	LWC_FAIL(vm_copy, error);
	if (error != 0)
		return (error);
	rv = vm_map_protect(dst, pc->pc_start, pc->pc_end, pc->pc_prot,
	    pc->pc_max, VM_MAP_PROTECT_SET_PROT | VM_MAP_PROTECT_SET_MAXPROT);
	return (lwc_kern_errno(rv));
}

/*
 * LWC_PREFAULT: what is resident and private in the old space is copied now,
 * by the faults that a first write would take.
 */
static int
lwc_vm_prefault(struct vmspace *old, struct vmspace *new)
{
	struct lwc_pieces ps = { 0 };
	struct lwc_piece *pc;
	vm_offset_t va;
	size_t i;
	int error;

	lwc_pieces_add(&ps, &new->vm_map, vm_map_min(&new->vm_map),
	    vm_map_max(&new->vm_map));
	error = 0;
	for (i = 0; i < ps.ps_n && error == 0; i++) {
		pc = &ps.ps_piece[i];
		if ((pc->pc_prot & VM_PROT_WRITE) == 0 ||
		    pc->pc_inherit == VM_INHERIT_SHARE)
			continue;
		for (va = pc->pc_start; va < pc->pc_end; va += PAGE_SIZE) {
			if (lwc_killed()) {
				error = EINTR;
				break;
			}
			maybe_yield();
			if (pmap_extract(vmspace_pmap(old), va) == 0)
				continue;
			if (vm_fault(&new->vm_map, va, VM_PROT_WRITE,
			    VM_FAULT_NORMAL, NULL) == KERN_RESOURCE_SHORTAGE) {
				error = ENOMEM;
				break;
			}
		}
	}
	free(ps.ps_piece, M_LWCSTAGE);
	return (error);
}

/* Set the inheritance that a specifier asks for, remembering the old. */
static int
lwc_vm_prepare(vm_map_t map, const struct lwc_spec *s, struct lwc_pieces *ps)
{
	vm_offset_t end, start;
	size_t first, i;
	int rv;

	if (lwc_killed())
		return (EINTR);
	start = s->sub.memory.start;
	end = s->sub.memory.end;
	first = ps->ps_n;
	rv = KERN_SUCCESS;
	if ((s->flags & (LWC_SHARE | LWC_UNMAP)) != 0) {
		lwc_pieces_add(ps, map, start, end);
		for (i = first; i < ps->ps_n; i++) {
			ps->ps_piece[i].pc_snapshot = false;
			ps->ps_piece[i].pc_restore =
			    (s->flags & LWC_UNMAP) != 0;
		}
		rv = vm_map_inherit(map, start, end,
		    (s->flags & LWC_SHARE) != 0 ? VM_INHERIT_SHARE :
		    VM_INHERIT_NONE);
		return (lwc_kern_errno(rv));
	}
	if ((s->flags & LWC_MAY_OVERLAY) != 0)
		return (0);
	lwc_pieces_add(ps, map, start, end);
	for (i = first; i < ps->ps_n && rv == KERN_SUCCESS; i++) {
		ps->ps_piece[i].pc_restore = true;
		/* To share it instead would be to say yes and do no. */
		if (ps->ps_piece[i].pc_device)
			return (EFAULT);
		if (ps->ps_piece[i].pc_snapshot)
			rv = vm_map_inherit(map, ps->ps_piece[i].pc_start,
			    ps->ps_piece[i].pc_end, VM_INHERIT_NONE);
		else if (ps->ps_piece[i].pc_inherit == VM_INHERIT_NONE)
			rv = vm_map_inherit(map, ps->ps_piece[i].pc_start,
			    ps->ps_piece[i].pc_end, VM_INHERIT_COPY);
	}
	return (lwc_kern_errno(rv));
}

/*
 * A new address space out of the current one, as the specifiers say.  They are
 * merged (lwc_specs_merge()): the pieces are no more than the map has entries
 * and there are specifiers.
 */
int
lwc_vm_fork(struct vmspace *vm, const struct lwc_specs *sp, int flags,
    struct vmspace **vmp)
{
	struct lwc_pieces ps = { 0 };
	struct lwc_lazy *lz;
	struct lwc_piece *pc;
	struct vmspace *new;
	vm_ooffset_t charge;
	size_t i;
	int error, given, spec;

	lz = NULL;
	new = NULL;
	error = 0;
	for (spec = 0; spec < sp->sp_n && error == 0; spec++)
		if (lwc_spec_is(&sp->sp_spec[spec], LWC_MEMORY))
			error = lwc_vm_prepare(&vm->vm_map, &sp->sp_spec[spec],
			    &ps);
	LWC_FAIL(vm_prepare, error);
	if (error == 0) {
		if ((flags & LWC_PREFAULT) == 0)
			lz = lwc_lazy_take(&vm->vm_map);
		charge = 0;
		new = vmspace_fork(vm, &charge);
		LWC_FAIL(vm_charge, error);
		if (new == NULL) {
			error = ENOMEM;
		} else if (error != 0 || !swap_reserve_by_cred(charge,
		    curthread->td_ucred)) {
			/* What it holds is given back with it. */
			swap_reserve_force_by_cred(charge,
			    curthread->td_ucred);
			error = ENOMEM;
		}
		LWC_FAIL(vm_fork, error);
	}
	if (lz != NULL) {
		given = lwc_lazy_give(vm, lz, new);
		if (error == 0)
			error = given;
	}
	for (i = 0; i < ps.ps_n && error == 0; i++) {
		pc = &ps.ps_piece[i];
		if (pc->pc_snapshot)
			error = lwc_vm_snapshot(&vm->vm_map, &new->vm_map, pc);
	}
	if (error == 0 && (flags & LWC_PREFAULT) != 0) {
		error = lwc_vm_prefault(vm, new);
		LWC_FAIL(vm_prefault, error);
	}
	/* Backwards: of pieces that overlap, the first saw the truth. */
	for (i = ps.ps_n; i > 0; i--) {
		pc = &ps.ps_piece[i - 1];
		if (pc->pc_restore || error != 0)
			(void)vm_map_inherit(&vm->vm_map, pc->pc_start,
			    pc->pc_end, pc->pc_inherit);
	}
	free(ps.ps_piece, M_LWCSTAGE);
	if (error != 0) {
		if (new != NULL)
			vmspace_free(new);
		return (error);
	}
	*vmp = new;
	return (0);
}

/*
 * Let go of an address space.  The last to do so can drop its mappings all at
 * once, as exit does, instead of entry by entry: pmap_remove_pages() wants the
 * space to be the active one, so it is p_vmspace for that time.
 *
 * As in vmspace_exit() nobody has a reference then, and nobody gets one:
 * vmspace_acquire_ref() finds none to add to.  Who takes p_vmspace as it is
 * under execve_block(9) or p_candebug(9) is kept out by lwc_borrow().  An AIO
 * daemon would take it as well, another thread would run in it: with either it
 * goes the slow way.  Nobody is left in it then who found it in p_vmspace: see
 * the top of this file.
 */
void
lwc_vm_free(struct vmspace *vm)
{
	struct proc *p;
	struct thread *td;
	struct vmspace *mine;
	bool inexec;

	td = curthread;
	p = td->td_proc;
	KASSERT(vm != p->p_vmspace, ("lwc: the current space is freed"));
	if (p->p_numthreads == 1 &&
	    (p->p_aioinfo == NULL || !lwc_aio_active(p)) &&
	    refcount_release_if_last(&vm->vm_refcnt)) {
		PROC_LOCK(p);
		inexec = lwc_borrow(td);
		mine = p->p_vmspace;
		p->p_vmspace = vm;
		PROC_UNLOCK(p);
		pmap_activate(td);
		pmap_remove_pages(vmspace_pmap(vm));
		PROC_LOCK(p);
		p->p_vmspace = mine;
		lwc_borrow_end(p, inexec);
		PROC_UNLOCK(p);
		pmap_activate(td);
		/* Who found it there a moment ago looks again, and lets go. */
		refcount_init(&vm->vm_refcnt, 1);
	}
	vmspace_free(vm);
}

/* Pages of anonymous objects that only this space refers to. */
uint64_t
lwc_vm_private(struct vmspace *vm)
{
	vm_map_entry_t entry;
	vm_object_t object;
	uint64_t pages;

	pages = 0;
	vm_map_lock_read(&vm->vm_map);
	VM_MAP_ENTRY_FOREACH(entry, &vm->vm_map) {
		object = entry->object.vm_object;
		if ((entry->eflags & MAP_ENTRY_IS_SUB_MAP) != 0 ||
		    object == NULL || (object->flags & OBJ_ANON) == 0)
			continue;
		VM_OBJECT_RLOCK(object);
		if (object->ref_count == 1 && object->shadow_count == 0)
			pages += object->resident_page_count;
		VM_OBJECT_RUNLOCK(object);
	}
	vm_map_unlock_read(&vm->vm_map);
	return (pages);
}
