/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Address spaces that are rolled back.
 *
 * A twin of a space is made by vmspace_fork(): the two share private memory
 * copy-on-write, so the twin's entries say what the memory was, and its
 * references keep that alive and from being collapsed into the other's.  A page
 * that is written to since gets into an object which shadows the twin's (or, of
 * memory that nobody had touched, into an object of its own), where there is
 * nothing else: taking that page out again undoes the write.
 *
 * So both maps are gone through side by side.  An entry is as it was, or what it
 * has in front of the twin's object is undone, page by page; anything else (mapped,
 * unmapped, cut, protected otherwise, locked, shared with a child) is stranger
 * than that, and then the whole space is made anew, out of the twin.  That is
 * always right, and dear.  Memory that is shared with others (VM_INHERIT_SHARE)
 * is the same object in both, and stays as it is.
 *
 * The twin is no process's and of no list: nobody else can have its map, which
 * is read without its lock, for two maps are never locked at once.  The space
 * itself is a suspended context's, but who found it when it was the process's
 * may still look at it: its map is locked while it is gone through, and a page
 * that somebody holds (wired) or works on (busy) makes it a strange one.
 */

#include "lwc_context.h"
#include "lwc_vm.h"

#include <sys/pctrie.h>
#include <sys/rwlock.h>

#include <vm/vm_param.h>
#include <vm/vm_extern.h>
#include <vm/vm_object.h>
#include <vm/vm_page.h>
#include <vm/vm_pager.h>
#include <vm/vm_radix.h>
#include <vm/swap_pager.h>

/* An inheritance that would leave an entry out of the twin, or empty there. */
struct lwc_heirless {
	vm_offset_t	hl_start;
	vm_offset_t	hl_end;
	vm_inherit_t	hl_inherit;
};

struct lwc_heirlesses {
	int		hs_n;
	struct lwc_heirless *hs_hl;
};

static bool
lwc_entry_heirless(vm_map_entry_t entry)
{

	return (entry->inheritance == VM_INHERIT_NONE ||
	    entry->inheritance == VM_INHERIT_ZERO);
}

/*
 * Have the next vmspace_fork() copy all there is; lwc_heirs_restore() takes that
 * back.  EINVAL: there is locked memory, of which a fork makes memory that is
 * not.
 */
static int
lwc_heirs_prepare(vm_map_t map, struct lwc_heirlesses *hs)
{
	struct lwc_heirless *hl;
	vm_map_entry_t entry;
	int error, n, room;

	hs->hs_hl = NULL;
	for (room = 0;; room = n) {
		hs->hs_n = n = 0;
		error = 0;
		vm_map_lock(map);
		if ((map->flags & MAP_WIREFUTURE) != 0)
			error = EINVAL;
		VM_MAP_ENTRY_FOREACH(entry, map) {
			if (entry->wired_count != 0 ||
			    (entry->eflags & MAP_ENTRY_USER_WIRED) != 0)
				error = EINVAL;
			n += lwc_entry_heirless(entry);
		}
		if (error != 0 || n <= room)
			break;
		vm_map_unlock(map);
		free(hs->hs_hl, M_LWCSTAGE);
		hs->hs_hl = mallocarray(n, sizeof(*hl), M_LWCSTAGE, M_WAITOK);
	}
	if (error == 0) {
		VM_MAP_ENTRY_FOREACH(entry, map) {
			if (!lwc_entry_heirless(entry))
				continue;
			hl = &hs->hs_hl[hs->hs_n++];
			hl->hl_start = entry->start;
			hl->hl_end = entry->end;
			hl->hl_inherit = entry->inheritance;
			entry->inheritance = VM_INHERIT_COPY;
		}
	}
	vm_map_unlock(map);
	return (error);
}

/*
 * Entries stay what they are: vm_map_inherit() might merge two of them, and two
 * maps that were alike would not be so any more.  It is asked only where another
 * process has merged entries meanwhile (kern.proc.rlimit).
 */
static void
lwc_heirs_restore(vm_map_t map, const struct lwc_heirlesses *hs)
{
	const struct lwc_heirless *hl;
	vm_map_entry_t entry;
	bool exact;
	int i;

	for (i = 0; i < hs->hs_n; i++) {
		hl = &hs->hs_hl[i];
		vm_map_lock(map);
		exact = vm_map_lookup_entry(map, hl->hl_start, &entry);
		for (; exact && entry->start < hl->hl_end;
		    entry = vm_map_entry_succ(entry))
			exact = entry->start >= hl->hl_start &&
			    entry->end <= hl->hl_end;
		if (exact) {
			(void)vm_map_lookup_entry(map, hl->hl_start, &entry);
			for (; entry->start < hl->hl_end;
			    entry = vm_map_entry_succ(entry))
				entry->inheritance = hl->hl_inherit;
		}
		vm_map_unlock(map);
		if (!exact)
			(void)vm_map_inherit(map, hl->hl_start, hl->hl_end,
			    hl->hl_inherit);
	}
}

/* A twin of an address space, which is not the process's own. */
int
lwc_vm_twin(struct vmspace *vm, struct vmspace **twinp)
{
	struct lwc_heirlesses hs;
	struct vmspace *twin;
	vm_ooffset_t charge;
	int error;

	KASSERT(vm != curproc->p_vmspace, ("lwc: a twin of the current space"));
	error = lwc_heirs_prepare(&vm->vm_map, &hs);
	if (error != 0) {
		free(hs.hs_hl, M_LWCSTAGE);
		return (error);
	}
	charge = 0;
	twin = vmspace_fork(vm, &charge);
	LWC_FAIL(twin, error);
	if (twin == NULL) {
		error = ENOMEM;
	} else if (error != 0 || !swap_reserve_by_cred(charge,
	    curthread->td_ucred)) {
		/* What it holds is given back with it. */
		swap_reserve_force_by_cred(charge, curthread->td_ucred);
		error = ENOMEM;
	}
	lwc_heirs_restore(&vm->vm_map, &hs);
	if (error == 0) {
		lwc_heirs_restore(&twin->vm_map, &hs);
		/* vmspace_fork() adds up what it sees. */
		twin->vm_dsize = vm->vm_dsize;
		twin->vm_tsize = vm->vm_tsize;
		twin->vm_ssize = vm->vm_ssize;
	}
	free(hs.hs_hl, M_LWCSTAGE);
	if (error == 0)
		*twinp = twin;
	else if (twin != NULL)
		vmspace_free(twin);
	return (error);
}

/* Empty the page table of a space that nobody uses. */
void
lwc_vm_unmap(struct vmspace *vm)
{

	pmap_remove(vmspace_pmap(vm), vm_map_min(&vm->vm_map),
	    vm_map_max(&vm->vm_map));
}

/* What a fork makes of an entry, or a write does, and no program sees. */
#define	LWC_TWIN_FLAGS	(MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY |		\
	    MAP_ENTRY_WRITECNT)

/* Is this entry what the twin's is, but for what may be in front of it? */
static bool
lwc_entry_alike(vm_map_entry_t c, vm_map_entry_t t)
{

	return (c->start == t->start && c->end == t->end &&
	    c->protection == t->protection &&
	    c->max_protection == t->max_protection &&
	    c->inheritance == t->inheritance &&
	    ((c->eflags ^ t->eflags) & ~LWC_TWIN_FLAGS) == 0 &&
	    c->wired_count == 0);
}

/* And nothing was written to it? */
static bool
lwc_entry_untouched(vm_map_entry_t c, vm_map_entry_t t)
{

	return (c->object.vm_object == t->object.vm_object &&
	    ((c->eflags ^ t->eflags) & MAP_ENTRY_NEEDS_COPY) == 0 &&
	    (c->offset == t->offset || (c->object.vm_object == NULL &&
	    (c->eflags & MAP_ENTRY_GUARD) == 0)));
}

/*
 * Does the entry have a private object in front of what the twin has?  Its lock
 * is held.
 */
static bool
lwc_entry_shadowed(vm_map_entry_t c, vm_map_entry_t t)
{
	vm_object_t object;

	object = c->object.vm_object;
	VM_OBJECT_ASSERT_LOCKED(object);
	if ((c->eflags & MAP_ENTRY_NEEDS_COPY) != 0 ||
	    (t->inheritance == VM_INHERIT_SHARE) ||
	    (object->flags & (OBJ_ANON | OBJ_DEAD)) != OBJ_ANON ||
	    object->ref_count != 1 || object->shadow_count != 0 ||
	    object->backing_object != t->object.vm_object ||
	    blockcount_read(&object->paging_in_progress) != 0)
		return (false);
	if (t->object.vm_object == NULL)
		return ((t->eflags & MAP_ENTRY_GUARD) == 0);
	return ((t->eflags & MAP_ENTRY_NEEDS_COPY) != 0 &&
	    object->backing_object_offset + c->offset == t->offset);
}

/*
 * The page that a program would find if this one, at an index of an object, were
 * not there: valid and in memory, in one of the objects behind, which is
 * returned, read-locked.  Nobody writes to such a page, and nobody takes it away
 * meanwhile.  NULL: there is none, and it would be all zeroes (*zerop), or it is
 * not so easy to get.
 */
static vm_object_t
lwc_page_behind(vm_object_t object, vm_pindex_t index, vm_page_t *mp,
    bool *zerop)
{
	vm_object_t behind, next;
	vm_page_t m;

	VM_OBJECT_ASSERT_WLOCKED(object);
	*zerop = false;
	index += OFF_TO_IDX(object->backing_object_offset);
	behind = object->backing_object;
	if (behind != NULL)
		VM_OBJECT_RLOCK(behind);
	while (behind != NULL) {
		m = vm_page_lookup(behind, index);
		if (m != NULL && vm_page_all_valid(m) && !vm_page_xbusied(m) &&
		    (m->flags & PG_FICTITIOUS) == 0) {
			*mp = m;
			return (behind);
		}
		/* Otherwise it may be on a disk, or in a file. */
		if (m != NULL || (behind->flags & OBJ_ANON) == 0 ||
		    !pctrie_is_empty(&behind->un_pager.swp.swp_blks)) {
			VM_OBJECT_RUNLOCK(behind);
			return (NULL);
		}
		index += OFF_TO_IDX(behind->backing_object_offset);
		next = behind->backing_object;
		if (next != NULL)
			VM_OBJECT_RLOCK(next);
		VM_OBJECT_RUNLOCK(behind);
		behind = next;
	}
	*zerop = true;
	return (NULL);
}

/* How many pages of a context stay where they are. */
#define	LWC_KEPT_PAGES	256

struct lwc_undo {
	pmap_t		un_pmap;
	uint64_t	un_pages;	/* undone */
	int		un_kept;
	bool		un_flush;	/* pages are written to no more */
};

/*
 * A page that was written to since the last time is likely to be written to the
 * next time: it stays, mapped as it is, and gets the contents of the page behind
 * it.  It is clean then: it may be thrown away at any time, and is if it was not
 * written to by the next rollback.  False: it is not one of these.
 */
static bool
lwc_page_copy_back(struct lwc_undo *un, vm_object_t object, vm_page_t m,
    vm_offset_t va)
{
	vm_object_t behind;
	vm_page_t from;
	bool written, zero;

	if (un->un_kept >= LWC_KEPT_PAGES)
		return (false);
	behind = lwc_page_behind(object, m->pindex, &from, &zero);
	if (behind == NULL && !zero)
		return (false);
	written = lwc_md_page_clean(un->un_pmap, va, m);
	if (written && zero)
		pmap_zero_page(m);
	else if (written)
		pmap_copy_page(from, m);
	if (behind != NULL)
		VM_OBJECT_RUNLOCK(behind);
	if (!written)
		return (false);
	vm_page_undirty(m);
	un->un_flush = true;
	un->un_kept++;
	return (true);
}

/*
 * Undo what was written to a page, which is in the object in front.  False:
 * somebody has it.
 */
static bool
lwc_page_undo(struct lwc_undo *un, struct pctrie_iter *pages,
    vm_object_t object, vm_page_t m, vm_offset_t va, bool keep)
{

	if (vm_page_tryxbusy(m) == 0)
		return (false);
	if (vm_page_wired(m)) {
		vm_page_xunbusy(m);
		return (false);
	}
	if (keep && lwc_page_copy_back(un, object, m, va)) {
		un->un_pages++;
		vm_page_xunbusy(m);
		return (true);
	}
	vm_page_test_dirty(m);
	un->un_pages += m->dirty != 0;
	if (!vm_page_try_remove_all(m)) {
		vm_page_xunbusy(m);
		return (false);
	}
	vm_page_iter_free(pages, m);
	return (true);
}

/* Undo what was written to an entry.  False: it is a strange one. */
static bool
lwc_entry_undo(vm_map_entry_t c, vm_map_entry_t t, struct lwc_undo *un)
{
	struct pctrie_iter pages;
	vm_object_t object;
	vm_page_t m;
	vm_pindex_t end, start;
	bool done, swapped;

	object = c->object.vm_object;
	if (object == NULL)
		return (false);
	VM_OBJECT_WLOCK(object);
	done = lwc_entry_shadowed(c, t);
	if (done) {
		start = OFF_TO_IDX(c->offset);
		end = start + atop(c->end - c->start);
		/* What is in memory need not be what would come from there. */
		swapped = !pctrie_is_empty(&object->un_pager.swp.swp_blks);
		vm_page_iter_limit_init(&pages, object, end);
		for (m = vm_radix_iter_lookup_ge(&pages, start);
		    m != NULL && done; m = vm_radix_iter_step(&pages))
			done = lwc_page_undo(un, &pages, object, m,
			    c->start + ptoa(m->pindex - start), !swapped);
		if (done && swapped)
			vm_pager_freespace(object, start, end - start);
	}
	VM_OBJECT_WUNLOCK(object);
	return (done);
}

/* Only what was seen before can have been written to. */
static bool
lwc_vm_undo_seen(struct lwc_seen *se, struct lwc_undo *un)
{
	bool done;
	int i;

	done = true;
	for (i = 0; i < se->se_n && done; i++)
		done = lwc_entry_undo(se->se_pair[i].se_entry,
		    se->se_pair[i].se_twin, un);
	return (done);
}

/* Go through all of both maps. */
static bool
lwc_vm_undo_all(struct vmspace *vm, struct vmspace *twin, struct lwc_seen *se,
    struct lwc_undo *un)
{
	vm_map_entry_t c, t;
	bool done;

	if (vm->vm_map.nentries != twin->vm_map.nentries ||
	    vm->vm_map.flags != twin->vm_map.flags)
		return (false);
	done = true;
	se->se_vm = vm;
	se->se_n = 0;
	c = &vm->vm_map.header;
	VM_MAP_ENTRY_FOREACH(t, &twin->vm_map) {
		c = vm_map_entry_succ(c);
		if (!lwc_entry_alike(c, t))
			return (false);
		if (lwc_entry_untouched(c, t))
			continue;
		if (!lwc_entry_undo(c, t, un))
			return (false);
		if (se->se_n < LWC_SEEN) {
			se->se_pair[se->se_n].se_entry = c;
			se->se_pair[se->se_n].se_twin = t;
		} else {
			se->se_vm = NULL;
		}
		se->se_n++;
	}
	vm->vm_map.anon_loc = twin->vm_map.anon_loc;
	vm->vm_dsize = twin->vm_dsize;
	vm->vm_tsize = twin->vm_tsize;
	vm->vm_ssize = twin->vm_ssize;
	return (done);
}

/* Undo what was done to a space, in place.  False: it is a strange one. */
static bool
lwc_vm_undo(struct vmspace *vm, struct vmspace *twin, struct lwc_seen *se,
    uint64_t *pagesp)
{
	struct lwc_undo un = { 0 };
	bool done;

	un.un_pmap = vmspace_pmap(vm);
	if (lwc_md_keys(un.un_pmap) || lwc_md_keys(vmspace_pmap(twin)))
		return (false);
	vm_map_lock_read(&vm->vm_map);
	if (se->se_vm == vm && se->se_timestamp == vm->vm_map.timestamp) {
		done = lwc_vm_undo_seen(se, &un);
		vm_map_unlock_read(&vm->vm_map);
	} else {
		vm_map_unlock_read(&vm->vm_map);
		vm_map_lock(&vm->vm_map);
		done = lwc_vm_undo_all(vm, twin, se, &un);
		se->se_timestamp = vm->vm_map.timestamp;
		vm_map_unlock(&vm->vm_map);
	}
	if (un.un_flush)
		pmap_invalidate_all(un.un_pmap);
	*pagesp += un.un_pages;
	return (done);
}

/*
 * The space of a suspended context becomes what its twin is.  ENOMEM: it has not
 * become that.
 */
int
lwc_vm_rollback(struct lwc_proc *lp, struct lwc_ctx *lc, struct vmspace *twin,
    struct lwc_seen *se, uint64_t *pagesp)
{
	struct vmspace *new, *old;
	int error;

	old = lc->lc_vm;
	if (lwc_vm_undo(old, twin, se, pagesp))
		return (0);
	se->se_vm = NULL;
	*pagesp += lwc_vm_private(old);
	error = lwc_vm_twin(twin, &new);
	if (error != 0)
		return (error);
	mtx_lock(&lp->lp_mtx);
	lc->lc_vm = new;
	mtx_unlock(&lp->lp_mtx);
	lwc_vm_free(old);
	return (0);
}
