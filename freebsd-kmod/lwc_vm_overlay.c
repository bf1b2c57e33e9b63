/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Memory of an overlay.
 *
 * It is staged first: a list of objects, each referenced, that together are
 * what goes into the target.  Sharing wants the source's entry to have an
 * object of its own, without a copy pending; a lookup for writing brings that
 * about.  Applying the list cannot fail any more.
 *
 * Counts that an entry holds on its file come along: of writers, and of those
 * who run it.
 */

#include "lwc_vm.h"

#include <sys/resourcevar.h>
#include <sys/rwlock.h>
#include <sys/vnode.h>

#include <vm/vm_param.h>
#include <vm/vm_extern.h>
#include <vm/vm_object.h>
#include <vm/vm_page.h>
#include <vm/vm_pager.h>

/* A part of an overlay, ready to be entered. */
struct lwc_part {
	vm_offset_t	pt_start;
	vm_offset_t	pt_end;
	vm_object_t	pt_object;	/* referenced; NULL: remove only */
	vm_ooffset_t	pt_offset;
	vm_prot_t	pt_prot;
	bool		pt_share;
	bool		pt_writecount;
	bool		pt_text;
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
		    st->st_cap * sizeof(*st->st_part), M_LWCSTAGE, M_WAITOK);
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
		if (lwc_killed())
			return (EINTR);
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
		pt->pt_writecount = (object->flags & OBJ_ANON) == 0 &&
		    (entry->eflags & MAP_ENTRY_WRITECNT) != 0;
		pt->pt_text = (object->flags & OBJ_ANON) == 0 &&
		    (entry->eflags & MAP_ENTRY_VN_EXEC) != 0;
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
	size_t i;
	int error;

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
		pc->pc_max |= pc->pc_prot;
		error = lwc_vm_snapshot(src, &st->st_scratch->vm_map, pc);
	}
	if (error == 0 && va != end)
		error = EFAULT;
	free(ps.ps_piece, M_LWCSTAGE);
	if (error == 0)
		error = lwc_stage_range(st, &st->st_scratch->vm_map, start,
		    end, false);
	return (error);
}

/* How much a map has in [start, end) already. */
static vm_size_t
lwc_mapped(vm_map_t map, vm_offset_t start, vm_offset_t end)
{
	vm_map_entry_t entry;
	vm_size_t size;

	size = 0;
	if (!vm_map_lookup_entry(map, start, &entry))
		entry = vm_map_entry_succ(entry);
	for (; entry->start < end; entry = vm_map_entry_succ(entry))
		size += MIN(entry->end, end) - MAX(entry->start, start);
	return (size);
}

/* Would entering the parts fail?  Then it must be said before the first. */
static int
lwc_stage_check(struct lwc_proc *lp, struct lwc_stage *st, vm_map_t dst)
{
	struct lwc_part *pt;
	vm_map_entry_t entry;
	vm_size_t add, gone;
	int error, i;

	add = gone = 0;
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
		gone += lwc_mapped(dst, pt->pt_start, pt->pt_end);
		/* Entries of large pages cannot be cut. */
		if (vm_map_lookup_entry(dst, pt->pt_start, &entry) &&
		    (entry->eflags & MAP_ENTRY_SPLIT_BOUNDARY_MASK) != 0)
			error = EINVAL;
		if (vm_map_lookup_entry(dst, pt->pt_end - 1, &entry) &&
		    (entry->eflags & MAP_ENTRY_SPLIT_BOUNDARY_MASK) != 0)
			error = EINVAL;
	}
	/* Its own limit, and the root's for the sum. */
	if (error == 0 && add > gone &&
	    dst->size + (add - gone) > lim_cur(curthread, RLIMIT_VMEM))
		error = ENOMEM;
	vm_map_unlock_read(dst);
	if (error == 0 && add > gone &&
	    !lwc_vm_grow_ok(curthread, lp, add - gone))
		error = ENOMEM;
	LWC_FAIL(stage_check, error);
	return (error);
}

/*
 * Stage the memory specifiers of an overlay.  Without a source they remove
 * (5.1: source = self with UNMAP).
 */
int
lwc_vm_stage(struct lwc_proc *lp, struct vmspace *src,
    const struct lwc_specs *sp, struct vmspace *dst, struct lwc_stage **stp)
{
	struct lwc_part *pt;
	struct lwc_stage *st;
	const struct lwc_spec *s;
	int error, i;

	st = malloc(sizeof(*st), M_LWCSTAGE, M_WAITOK | M_ZERO);
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
		error = lwc_stage_check(lp, st, &dst->vm_map);
	/* From now on a later context of the source shares it too. */
	for (i = 0; i < st->st_n && error == 0; i++) {
		pt = &st->st_part[i];
		if (pt->pt_share)
			error = lwc_kern_errno(vm_map_inherit(&src->vm_map,
			    pt->pt_start, pt->pt_end, VM_INHERIT_SHARE));
	}
	LWC_FAIL(stage_share, error);
	if (error != 0) {
		lwc_vm_unstage(st);
		return (error);
	}
	*stp = st;
	return (0);
}

/* One program more runs from this object, or one less. */
static void
lwc_text_count(vm_object_t object, bool add)
{
	struct vnode *vp;
	bool held;

	vm_pager_getvp(object, &vp, &held);
	if (vp == NULL)
		return;
	if (add) {
		/* The source runs it, so nobody has it open for writing. */
		VOP_SET_TEXT_CHECKED(vp);
	} else {
		vn_lock(vp, LK_SHARED | LK_RETRY);
		VOP_UNSET_TEXT_CHECKED(vp);
		VOP_UNLOCK(vp);
	}
	if (held)
		vdrop(vp);
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
		if (pt->pt_text) {
			cow |= MAP_VN_EXEC;
			lwc_text_count(pt->pt_object, true);
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
		if (pt->pt_text)
			lwc_text_count(pt->pt_object, false);
		KASSERT(false, ("lwc: an overlay at %#jx fails: %d",
		    (uintmax_t)pt->pt_start, rv));
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
	free(st->st_part, M_LWCSTAGE);
	free(st, M_LWCSTAGE);
}
