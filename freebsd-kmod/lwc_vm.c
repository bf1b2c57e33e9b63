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
 * An overlay is staged first: a list of objects, each referenced, that
 * together are what goes into the target.  Sharing wants the source's entry
 * to have an object of its own, without a copy pending; a lookup for writing
 * brings that about.  Applying the list cannot fail any more.
 *
 * A map is only ever changed here by the process's single thread (or by
 * others that share it with rfork(RFMEM), which is their own affair); objects
 * are referenced under the map's lock, so nothing here depends on that.
 */

#include "lwc_var.h"

#include <sys/resourcevar.h>
#include <sys/rwlock.h>

#include <vm/vm_param.h>
#include <vm/vm_extern.h>
#include <vm/vm_object.h>
#include <vm/vm_page.h>
#include <vm/vm_pageout.h>
#include <vm/vm_pager.h>
#include <vm/swap_pager.h>

/* An entry's part of a range, as it was. */
struct lwc_piece {
	vm_offset_t	pc_start;
	vm_offset_t	pc_end;
	vm_inherit_t	pc_inherit;
	vm_prot_t	pc_prot;
	vm_prot_t	pc_max;
	bool		pc_restore;	/* put pc_inherit back on success too */
	bool		pc_snapshot;	/* shared, to be copied */
};

struct lwc_pieces {
	struct lwc_piece *ps_piece;
	int		ps_n;
	int		ps_cap;
};

static int
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

/* May the pages of this entry be copied like memory? */
static bool
lwc_entry_copies(vm_map_entry_t entry)
{
	vm_object_t object;

	if ((entry->max_protection & VM_PROT_WRITE) == 0)
		return (false);
	object = entry->object.vm_object;
	return (object == NULL || object->type == OBJT_VNODE ||
	    (object->flags & OBJ_SWAP) != 0);
}

/* Append what a map has in [start, end). */
static void
lwc_pieces_add(struct lwc_pieces *ps, vm_map_t map, vm_offset_t start,
    vm_offset_t end)
{
	struct lwc_piece *pc;
	vm_map_entry_t entry;
	int n;

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
			pc->pc_snapshot =
			    (entry->eflags & MAP_ENTRY_GUARD) == 0 &&
			    entry->inheritance == VM_INHERIT_SHARE &&
			    lwc_entry_copies(entry);
		}
		n++;
	}
	vm_map_unlock_read(map);
	if (ps->ps_n + n > ps->ps_cap) {
		ps->ps_cap = (ps->ps_n + n) * 2;
		ps->ps_piece = realloc(ps->ps_piece,
		    ps->ps_cap * sizeof(*pc), M_LWC, M_WAITOK);
		goto again;
	}
	ps->ps_n += n;
}

/*
 * Copy pages from one map to the same addresses of another.  What cannot be
 * read there (past the end of a file, protection none) stays zero here.
 */
static int
lwc_vm_copy(vm_map_t src, vm_map_t dst, vm_offset_t start, vm_offset_t end)
{
	vm_page_t from, to;
	vm_offset_t va;
	int error, rv;

	error = 0;
	for (va = start; va < end && error == 0; va += PAGE_SIZE) {
		if (P_KILLED(curproc))
			return (EINTR);
		maybe_yield();
		from = to = NULL;
		rv = vm_fault(src, va, VM_PROT_READ, VM_FAULT_NORMAL, &from);
		if (rv != KERN_SUCCESS)
			continue;
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
static int
lwc_vm_snapshot(vm_map_t src, vm_map_t dst, vm_offset_t start,
    vm_offset_t end, vm_prot_t prot, vm_prot_t max)
{
	int error, rv;

	rv = vm_map_fixed(dst, NULL, 0, start, end - start,
	    VM_PROT_READ | VM_PROT_WRITE,
	    max | VM_PROT_READ | VM_PROT_WRITE, 0);
	if (rv != KERN_SUCCESS)
		return (lwc_kern_errno(rv));
	error = lwc_vm_copy(src, dst, start, end);
	if (error != 0)
		return (error);
	rv = vm_map_protect(dst, start, end, prot, max,
	    VM_MAP_PROTECT_SET_PROT | VM_MAP_PROTECT_SET_MAXPROT);
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
	int error, i;

	lwc_pieces_add(&ps, &new->vm_map, vm_map_min(&new->vm_map),
	    vm_map_max(&new->vm_map));
	error = 0;
	for (i = 0; i < ps.ps_n && error == 0; i++) {
		pc = &ps.ps_piece[i];
		if ((pc->pc_prot & VM_PROT_WRITE) == 0 ||
		    pc->pc_inherit == VM_INHERIT_SHARE)
			continue;
		for (va = pc->pc_start; va < pc->pc_end; va += PAGE_SIZE) {
			if (pmap_extract(vmspace_pmap(old), va) == 0)
				continue;
			if (P_KILLED(curproc)) {
				error = EINTR;
				break;
			}
			maybe_yield();
			if (vm_fault(&new->vm_map, va, VM_PROT_WRITE,
			    VM_FAULT_NORMAL, NULL) == KERN_RESOURCE_SHORTAGE) {
				error = ENOMEM;
				break;
			}
		}
	}
	free(ps.ps_piece, M_LWC);
	return (error);
}

/* Set the inheritance that a specifier asks for, remembering the old. */
static int
lwc_vm_prepare(vm_map_t map, const struct lwc_spec *s, struct lwc_pieces *ps)
{
	vm_offset_t end, start;
	int first, i, rv;

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
		if (ps->ps_piece[i].pc_snapshot)
			rv = vm_map_inherit(map, ps->ps_piece[i].pc_start,
			    ps->ps_piece[i].pc_end, VM_INHERIT_NONE);
		else if (ps->ps_piece[i].pc_inherit == VM_INHERIT_NONE)
			rv = vm_map_inherit(map, ps->ps_piece[i].pc_start,
			    ps->ps_piece[i].pc_end, VM_INHERIT_COPY);
	}
	return (lwc_kern_errno(rv));
}

/* A new address space out of the current one, as the specifiers say. */
int
lwc_vm_fork(struct vmspace *vm, const struct lwc_specs *sp, int flags,
    struct vmspace **vmp)
{
	struct lwc_pieces ps = { 0 };
	struct lwc_lazy *lz;
	struct lwc_piece *pc;
	struct vmspace *new;
	vm_ooffset_t charge;
	int error, given, i;

	lz = NULL;
	new = NULL;
	error = 0;
	for (i = 0; i < sp->sp_n && error == 0; i++)
		if (lwc_spec_is(&sp->sp_spec[i], LWC_MEMORY))
			error = lwc_vm_prepare(&vm->vm_map, &sp->sp_spec[i],
			    &ps);
	if (error == 0) {
		if ((flags & LWC_PREFAULT) == 0)
			lz = lwc_lazy_take(&vm->vm_map);
		charge = 0;
		new = vmspace_fork(vm, &charge);
		if (new == NULL) {
			error = ENOMEM;
		} else if (!swap_reserve_by_cred(charge,
		    curthread->td_ucred)) {
			/* What it holds is given back with it. */
			swap_reserve_force_by_cred(charge,
			    curthread->td_ucred);
			error = ENOMEM;
		}
	}
	if (lz != NULL) {
		given = lwc_lazy_give(vm, lz, new);
		if (error == 0)
			error = given;
	}
	for (i = 0; i < ps.ps_n && error == 0; i++) {
		pc = &ps.ps_piece[i];
		if (pc->pc_snapshot)
			error = lwc_vm_snapshot(&vm->vm_map, &new->vm_map,
			    pc->pc_start, pc->pc_end, pc->pc_prot,
			    pc->pc_max);
	}
	if (error == 0 && (flags & LWC_PREFAULT) != 0)
		error = lwc_vm_prefault(vm, new);
	/* Backwards: of specifiers that overlap, the first saw the truth. */
	for (i = ps.ps_n - 1; i >= 0; i--) {
		pc = &ps.ps_piece[i];
		if (pc->pc_restore || error != 0)
			(void)vm_map_inherit(&vm->vm_map, pc->pc_start,
			    pc->pc_end, pc->pc_inherit);
	}
	free(ps.ps_piece, M_LWC);
	if (error != 0) {
		if (new != NULL)
			vmspace_free(new);
		return (error);
	}
	*vmp = new;
	return (0);
}

/* A part of an overlay, ready to be entered. */
struct lwc_part {
	vm_offset_t	pt_start;
	vm_offset_t	pt_end;
	vm_object_t	pt_object;	/* referenced; NULL: remove only */
	vm_ooffset_t	pt_offset;
	vm_prot_t	pt_prot;
	bool		pt_share;
	bool		pt_writecount;
};

struct lwc_stage {
	int		st_n;
	int		st_cap;
	struct lwc_part	*st_part;
	struct vmspace	*st_scratch;	/* where copies are made */
};

static struct lwc_part *
lwc_stage_part(struct lwc_stage *st)
{

	if (st->st_n == st->st_cap) {
		st->st_cap = MAX(16, 2 * st->st_cap);
		st->st_part = realloc(st->st_part,
		    st->st_cap * sizeof(*st->st_part), M_LWC, M_WAITOK);
	}
	memset(&st->st_part[st->st_n], 0, sizeof(*st->st_part));
	return (&st->st_part[st->st_n]);
}

/*
 * Reference the objects of [start, end).  Protection is what the source has
 * now, and the most the target can ever have.
 */
static int
lwc_stage_range(struct lwc_stage *st, vm_map_t src, vm_offset_t start,
    vm_offset_t end, bool share)
{
	struct lwc_part *pt;
	vm_map_entry_t entry;
	vm_map_t map;
	vm_object_t object;
	vm_offset_t va;
	vm_pindex_t pindex;
	vm_prot_t prot, want;
	boolean_t wired;
	int rv;

	for (va = start; va < end; va = pt->pt_end) {
		pt = lwc_stage_part(st);
		map = src;
		want = VM_PROT_WRITE;
		rv = vm_map_lookup(&map, va, want, &entry, &object, &pindex,
		    &prot, &wired);
		if (rv == KERN_PROTECTION_FAILURE) {
			map = src;
			rv = vm_map_lookup(&map, va, VM_PROT_NONE, &entry,
			    &object, &pindex, &prot, &wired);
		}
		if (rv == KERN_PROTECTION_FAILURE)
			return (EFAULT);	/* a guard, or no access */
		if (rv != KERN_SUCCESS)
			return (lwc_kern_errno(rv));
		if ((entry->eflags & MAP_ENTRY_SPLIT_BOUNDARY_MASK) != 0) {
			vm_map_lookup_done(map, entry);
			return (EINVAL);
		}
		pt->pt_start = va;
		pt->pt_end = MIN(end, entry->end);
		pt->pt_prot = entry->protection;
		pt->pt_offset = entry->offset + (va - entry->start);
		pt->pt_share = share;
		pt->pt_writecount = object->type == OBJT_VNODE &&
		    (entry->eflags & MAP_ENTRY_WRITECNT) != 0;
		vm_object_reference(object);
		pt->pt_object = object;
		st->st_n++;
		vm_map_lookup_done(map, entry);
	}
	return (0);
}

/* COPY: make the copy in the scratch space, then share that. */
static int
lwc_stage_copy(struct lwc_stage *st, vm_map_t src, vm_offset_t start,
    vm_offset_t end)
{
	struct lwc_pieces ps = { 0 };
	struct lwc_piece *pc;
	vm_offset_t va;
	int error, i;

	if (st->st_scratch == NULL) {
		st->st_scratch = vmspace_alloc(vm_map_min(src),
		    vm_map_max(src), pmap_pinit);
		if (st->st_scratch == NULL)
			return (ENOMEM);
	}
	lwc_pieces_add(&ps, src, start, end);
	error = 0;
	va = start;
	for (i = 0; i < ps.ps_n && error == 0; i++) {
		pc = &ps.ps_piece[i];
		if (pc->pc_start != va || pc->pc_prot == VM_PROT_NONE) {
			error = EFAULT;
			break;
		}
		va = pc->pc_end;
		error = lwc_vm_snapshot(src, &st->st_scratch->vm_map,
		    pc->pc_start, pc->pc_end, pc->pc_prot, pc->pc_max |
		    pc->pc_prot);
	}
	if (error == 0 && va != end)
		error = EFAULT;
	free(ps.ps_piece, M_LWC);
	if (error == 0)
		error = lwc_stage_range(st, &st->st_scratch->vm_map, start,
		    end, false);
	return (error);
}

/* Would entering the parts fail?  Then it must be said before the first. */
static int
lwc_stage_check(struct lwc_stage *st, vm_map_t dst)
{
	struct lwc_part *pt;
	vm_map_entry_t entry;
	vm_size_t add;
	int error, i;

	add = 0;
	error = 0;
	vm_map_lock_read(dst);
	for (i = 0; i < st->st_n && error == 0; i++) {
		pt = &st->st_part[i];
		if (pt->pt_start < vm_map_min(dst) ||
		    pt->pt_end > vm_map_max(dst))
			error = EINVAL;
		if ((dst->flags & MAP_WXORX) != 0 &&
		    (pt->pt_prot & (VM_PROT_WRITE | VM_PROT_EXECUTE)) ==
		    (VM_PROT_WRITE | VM_PROT_EXECUTE))
			error = EACCES;
		if (pt->pt_object != NULL)
			add += pt->pt_end - pt->pt_start;
		/* Entries of large pages cannot be cut. */
		if (vm_map_lookup_entry(dst, pt->pt_start, &entry) &&
		    (entry->eflags & MAP_ENTRY_SPLIT_BOUNDARY_MASK) != 0)
			error = EINVAL;
		if (vm_map_lookup_entry(dst, pt->pt_end - 1, &entry) &&
		    (entry->eflags & MAP_ENTRY_SPLIT_BOUNDARY_MASK) != 0)
			error = EINVAL;
	}
	if (error == 0 && add != 0 &&
	    dst->size + add > lim_cur(curthread, RLIMIT_VMEM))
		error = ENOMEM;
	vm_map_unlock_read(dst);
	return (error);
}

/*
 * Stage the memory specifiers of an overlay.  Without a source they remove
 * (5.1: source = self with UNMAP).
 */
int
lwc_vm_stage(struct vmspace *src, const struct lwc_specs *sp,
    struct vmspace *dst, struct lwc_stage **stp)
{
	struct lwc_part *pt;
	struct lwc_stage *st;
	const struct lwc_spec *s;
	int error, i;

	st = malloc(sizeof(*st), M_LWC, M_WAITOK | M_ZERO);
	error = 0;
	for (i = 0; i < sp->sp_n && error == 0; i++) {
		s = &sp->sp_spec[i];
		if (!lwc_spec_is(s, LWC_MEMORY))
			continue;
		if (src == NULL) {
			pt = lwc_stage_part(st);
			pt->pt_start = s->sub.memory.start;
			pt->pt_end = s->sub.memory.end;
			st->st_n++;
		} else if ((s->flags & LWC_SHARE) != 0) {
			error = lwc_stage_range(st, &src->vm_map,
			    s->sub.memory.start, s->sub.memory.end, true);
		} else {
			error = lwc_stage_copy(st, &src->vm_map,
			    s->sub.memory.start, s->sub.memory.end);
		}
	}
	if (error == 0)
		error = lwc_stage_check(st, &dst->vm_map);
	/* From now on a later context of the source shares it too. */
	for (i = 0; i < st->st_n && error == 0; i++) {
		pt = &st->st_part[i];
		if (pt->pt_share)
			error = lwc_kern_errno(vm_map_inherit(&src->vm_map,
			    pt->pt_start, pt->pt_end, VM_INHERIT_SHARE));
	}
	if (error != 0) {
		lwc_vm_unstage(st);
		return (error);
	}
	*stp = st;
	return (0);
}

void
lwc_vm_apply(struct vmspace *dst, struct lwc_stage *st)
{
	struct lwc_part *pt;
	vm_map_t map;
	int cow, i, rv;

	map = &dst->vm_map;
	for (i = 0; i < st->st_n; i++) {
		pt = &st->st_part[i];
		if (pt->pt_object == NULL) {
			(void)vm_map_remove(map, pt->pt_start, pt->pt_end);
			continue;
		}
		cow = pt->pt_share ? MAP_INHERIT_SHARE : 0;
		if (pt->pt_writecount) {
			cow |= MAP_WRITECOUNT;
			vm_pager_update_writecount(pt->pt_object,
			    pt->pt_start, pt->pt_end);
		}
		rv = vm_map_fixed(map, pt->pt_object, pt->pt_offset,
		    pt->pt_start, pt->pt_end - pt->pt_start, pt->pt_prot,
		    pt->pt_prot, cow);
		if (rv == KERN_SUCCESS) {
			pt->pt_object = NULL;	/* the entry's now */
			continue;
		}
		/* Not possible after lwc_stage_check(); leave a hole. */
		if (pt->pt_writecount)
			vm_pager_release_writecount(pt->pt_object,
			    pt->pt_start, pt->pt_end);
		printf("lwc: overlay at %#jx failed: %d\n",
		    (uintmax_t)pt->pt_start, rv);
	}
}

void
lwc_vm_unstage(struct lwc_stage *st)
{
	int i;

	if (st == NULL)
		return;
	for (i = 0; i < st->st_n; i++)
		if (st->st_part[i].pt_object != NULL)
			vm_object_deallocate(st->st_part[i].pt_object);
	if (st->st_scratch != NULL)
		vmspace_free(st->st_scratch);
	free(st->st_part, M_LWC);
	free(st, M_LWC);
}

/*
 * Let go of an address space.  The last to do so can drop its mappings all at
 * once, as exit does, instead of entry by entry: pmap_remove_pages() wants the
 * space to be the active one, so it is for a moment.
 */
void
lwc_vm_free(struct vmspace *vm)
{
	struct proc *p;
	struct thread *td;
	struct vmspace *mine;

	td = curthread;
	p = td->td_proc;
	if (refcount_load(&vm->vm_refcnt) == 1 && p->p_numthreads == 1 &&
	    (p->p_flag & P_SYSTEM) == 0) {
		mine = p->p_vmspace;
		p->p_vmspace = vm;
		pmap_activate(td);
		pmap_remove_pages(vmspace_pmap(vm));
		p->p_vmspace = mine;
		pmap_activate(td);
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
