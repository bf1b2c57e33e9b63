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
 * references keep that alive and from being collapsed into the other's.  A
 * page that is written to since gets into an object which shadows the twin's
 * (or, of memory that nobody had touched, into an object of its own), where
 * there is nothing else: taking that page out again undoes the write.
 *
 * So both maps are gone through side by side.  An entry is as it was, or what
 * it has in front of the twin's object is undone, page by page.  Where they
 * differ otherwise (mapped, unmapped, cut, protected otherwise, locked, shared
 * with a child) the region is unmapped, and what the twin has there is mapped.
 * Program text, files that others are kept from or writers of, and too many
 * such places are not so easy: then the whole space is made anew, out of the
 * twin, which is always right, and dear.  Memory that is shared with others
 * (VM_INHERIT_SHARE) is the same object in both, and stays as it is.
 *
 * The twin is no process's and of no list: nobody else can have its map, which
 * is read without its lock, for two maps are never locked at once.  The space
 * itself is a suspended context's, but who found it when it was the process's
 * may still look at it: its map is locked while it is gone through, and a page
 * that somebody holds (wired) or works on (busy) makes its entry a different
 * one.
 *
 * Memory that was locked (mlock(2)) when the twin was made is locked in the twin
 * as well, so that no copy of it gets to a swap device.  A fork copies such
 * memory at once if it can be written to: the twin has pages of its own, of which
 * those that differ are copied back.  Any other difference in locked memory has
 * the space made anew.
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
 * Can the memory be in a twin as it is here?  Not if it is to be locked as soon
 * as it is mapped, or is locked and cannot be read, or is held by somebody else
 * than mlock(2).
 */
static bool
lwc_entry_twins(vm_map_entry_t entry)
{

	return (entry->wired_count == 0 || (entry->wired_count == 1 &&
	    (entry->eflags & MAP_ENTRY_USER_WIRED) != 0 &&
	    (entry->protection & (VM_PROT_READ | VM_PROT_EXECUTE)) != 0));
}

/*
 * Have the next vmspace_fork() copy all there is; lwc_heirs_restore() takes
 * that back.  EINVAL: there is what a twin cannot have.
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
			if (!lwc_entry_twins(entry))
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
			KASSERT(hs->hs_hl != NULL && hs->hs_n < n,
			    ("lwc: more entries than were counted"));
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
 * Entries stay what they are: vm_map_inherit() might merge two of them, and
 * two maps that were alike would not be so any more.  It is asked only where
 * another process has merged entries meanwhile (kern.proc.rlimit).
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

/*
 * The first entry of locked memory that begins where the last one ended, or
 * beyond.
 */
static bool
lwc_locked_next(vm_map_t map, vm_offset_t *startp, vm_offset_t *endp)
{
	vm_map_entry_t entry;
	bool found;

	vm_map_lock_read(map);
	if (!vm_map_lookup_entry(map, *endp, &entry))
		entry = vm_map_entry_succ(entry);
	while (entry != &map->header && entry->wired_count == 0)
		entry = vm_map_entry_succ(entry);
	found = entry != &map->header;
	if (found) {
		*startp = entry->start;
		*endp = entry->end;
	}
	vm_map_unlock_read(map);
	return (found);
}

/*
 * Lock what is locked in another space, of which this one is a copy that nobody
 * else has.  ENOMEM: there is too much of it.
 */
int
lwc_vm_lock_alike(struct vmspace *vm, struct vmspace *like)
{
	vm_offset_t end, start;
	int error;

	error = 0;
	LWC_FAIL(lock_alike, error);
	start = end = 0;
	while (error == 0 && lwc_locked_next(&like->vm_map, &start, &end))
		error = vm_mmap_to_errno(vm_map_wire(&vm->vm_map, start, end,
		    VM_MAP_WIRE_USER | VM_MAP_WIRE_NOHOLES));
	return (error == 0 ? 0 : ENOMEM);
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
	    c->wired_count == t->wired_count);
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
 * Does the entry have a private object in front of what the twin has?  Its
 * lock is held.
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
 * The page that a program would find if this one, at an index of an object,
 * were not there: valid and in memory, in one of the objects behind, which is
 * returned, read-locked.  Nobody writes to such a page, and nobody takes it
 * away meanwhile.  NULL: there is none, and it would be all zeroes (*zerop),
 * or it is not so easy to get.
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
 * A page that was written to since the last time is likely to be written to
 * the next time: it stays, mapped as it is, and gets the contents of the page
 * behind it.  It goes if it was not written to by the next rollback.  It stays
 * dirty as well: the page behind it need not be there for ever (a fork, another
 * snapshot or a fault may have the kernel pass over the object behind, now that
 * this one has all its pages), and then this one is the only copy.
 */
static bool
lwc_page_copy_back(struct lwc_undo *un, vm_object_t object, vm_page_t m)
{
	vm_object_t behind;
	vm_page_t from;
	bool zero;

	if (un->un_kept >= LWC_KEPT_PAGES)
		return (false);
	behind = lwc_page_behind(object, m->pindex, &from, &zero);
	if (behind == NULL && !zero)
		return (false);
	if (zero)
		pmap_zero_page(m);
	else
		pmap_copy_page(from, m);
	if (behind != NULL)
		VM_OBJECT_RUNLOCK(behind);
	vm_page_dirty(m);
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
	enum lwc_md_written written;

	if (vm_page_tryxbusy(m) == 0)
		return (false);
	if (vm_page_wired(m)) {
		vm_page_xunbusy(m);
		return (false);
	}
	written = lwc_md_page_clean(un->un_pmap, va, m);
	if (written == LWC_MD_WRITTEN)
		un->un_flush = true;
	if (written == LWC_MD_NOT_MAPPED)
		vm_page_test_dirty(m);
	un->un_pages += written == LWC_MD_WRITTEN ||
	    (written == LWC_MD_NOT_MAPPED && m->dirty != 0);
	if (keep && written == LWC_MD_WRITTEN &&
	    lwc_page_copy_back(un, object, m)) {
		vm_page_xunbusy(m);
		return (true);
	}
	if (!vm_page_try_remove_all(m)) {
		vm_page_xunbusy(m);
		return (false);
	}
	vm_page_iter_free(pages, m);
	return (true);
}

/*
 * A locked page that the twin has a copy of, which is locked as well: nobody
 * but the twin has that one.  False: it is a strange one.
 */
static bool
lwc_page_copy_locked(struct lwc_undo *un, vm_page_t m, vm_page_t from)
{

	if (m == NULL || from == NULL || !vm_page_all_valid(from) ||
	    !vm_page_wired(from) || vm_page_tryxbusy(m) == 0)
		return (false);
	if (!vm_page_all_valid(m) || !vm_page_wired(m)) {
		vm_page_xunbusy(m);
		return (false);
	}
	if (!lwc_md_page_same(m, from)) {
		pmap_copy_page(from, m);
		vm_page_dirty(m);
		un->un_pages++;
	}
	vm_page_xunbusy(m);
	return (true);
}

/* Undo what was written to locked memory.  False: it is a strange one. */
static bool
lwc_entry_undo_locked(vm_map_entry_t c, vm_map_entry_t t,
    struct lwc_undo *un)
{
	vm_object_t object, other;
	vm_pindex_t i, n;
	bool done;

	object = c->object.vm_object;
	other = t->object.vm_object;
	if (object == NULL || other == NULL || object == other ||
	    t->inheritance == VM_INHERIT_SHARE)
		return (false);
	n = atop(c->end - c->start);
	VM_OBJECT_WLOCK(object);
	VM_OBJECT_RLOCK(other);
	done = object->ref_count == 1 && other->ref_count == 1 &&
	    (object->flags & (OBJ_ANON | OBJ_DEAD)) == OBJ_ANON &&
	    (other->flags & (OBJ_ANON | OBJ_DEAD)) == OBJ_ANON;
	for (i = 0; i < n && done; i++)
		done = lwc_page_copy_locked(un,
		    vm_page_lookup(object, OFF_TO_IDX(c->offset) + i),
		    vm_page_lookup(other, OFF_TO_IDX(t->offset) + i));
	VM_OBJECT_RUNLOCK(other);
	VM_OBJECT_WUNLOCK(object);
	return (done);
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

	if (c->wired_count != 0)
		return (lwc_entry_undo_locked(c, t, un));
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

/* Where what is mapped differs from the twin. */
#define	LWC_REGIONS	8
struct lwc_region {
	vm_offset_t	re_start;
	vm_offset_t	re_end;
	vm_map_entry_t	re_twin;	/* the twin's first there or beyond */
};

#define	LWC_PUT_FLAGS	(MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY |		\
	    MAP_ENTRY_NOSYNC | MAP_ENTRY_NOCOREDUMP | MAP_ENTRY_GROWS_DOWN | \
	    MAP_ENTRY_GUARD | MAP_ENTRY_STACK_GAP | MAP_ENTRY_BEHAV_MASK)

/* Can an entry of the twin's be mapped again by lwc_entry_put()? */
static bool
lwc_entry_puts(vm_map_entry_t t)
{

	return ((t->eflags & ~LWC_PUT_FLAGS) == 0 &&
	    ((t->eflags & MAP_ENTRY_COW) != 0) ==
	    ((t->eflags & MAP_ENTRY_NEEDS_COPY) != 0));
}

/* Private pages that go with an entry. */
static uint64_t
lwc_entry_pages(vm_map_entry_t c)
{
	vm_object_t object;
	uint64_t pages;

	object = c->object.vm_object;
	if (object == NULL)
		return (0);
	pages = 0;
	VM_OBJECT_RLOCK(object);
	if ((object->flags & OBJ_ANON) != 0 && object->ref_count == 1)
		pages = object->resident_page_count;
	VM_OBJECT_RUNLOCK(object);
	return (pages);
}

/*
 * The maps differ from these two entries on: a region ends where entries of
 * both do.  False: one of the twin's cannot be mapped by itself.
 */
static bool
lwc_region_find(vm_map_t map, vm_map_t twin, vm_map_entry_t *cp,
    vm_map_entry_t *tp, struct lwc_region *re, struct lwc_undo *un)
{
	vm_map_entry_t c, t;
	bool more;

	c = *cp;
	t = *tp;
	re->re_twin = t;
	if (c == &map->header || (t != &twin->header && t->start < c->start))
		re->re_start = t->start;
	else
		re->re_start = c->start;
	re->re_end = re->re_start + PAGE_SIZE;
	do {
		more = false;
		for (; c != &map->header && c->start < re->re_end;
		    c = vm_map_entry_succ(c)) {
			re->re_end = MAX(re->re_end, c->end);
			un->un_pages += lwc_entry_pages(c);
			more = true;
		}
		for (; t != &twin->header && t->start < re->re_end;
		    t = vm_map_entry_succ(t)) {
			if (!lwc_entry_puts(t))
				return (false);
			re->re_end = MAX(re->re_end, t->end);
			more = true;
		}
	} while (more);
	*cp = c;
	*tp = t;
	return (true);
}

/*
 * Go through all of both maps, and note where they differ; returns in how many
 * places, or -1 if there is no telling.
 */
static int
lwc_vm_undo_all(struct vmspace *vm, struct vmspace *twin, struct lwc_seen *se,
    struct lwc_undo *un, struct lwc_region *re)
{
	vm_map_entry_t c, t;
	vm_map_t map, other;
	int n;

	map = &vm->vm_map;
	other = &twin->vm_map;
	if (map->flags != other->flags)
		return (-1);
	n = 0;
	se->se_vm = vm;
	se->se_n = 0;
	c = vm_map_entry_first(map);
	t = vm_map_entry_first(other);
	while (c != &map->header || t != &other->header) {
		if (c == &map->header || t == &other->header ||
		    !lwc_entry_alike(c, t) || (!lwc_entry_untouched(c, t) &&
		    !lwc_entry_undo(c, t, un))) {
			if (n == LWC_REGIONS || !lwc_region_find(map, other,
			    &c, &t, &re[n], un))
				return (-1);
			n++;
			continue;
		}
		if (lwc_entry_untouched(c, t)) {
			;
		} else if (se->se_n < LWC_SEEN) {
			se->se_pair[se->se_n].se_entry = c;
			se->se_pair[se->se_n++].se_twin = t;
		} else {
			se->se_vm = NULL;
		}
		c = vm_map_entry_succ(c);
		t = vm_map_entry_succ(t);
	}
	map->anon_loc = other->anon_loc;
	vm->vm_dsize = twin->vm_dsize;
	vm->vm_tsize = twin->vm_tsize;
	vm->vm_ssize = twin->vm_ssize;
	return (n);
}

/* Map what the twin has in an entry, where nothing is. */
static bool
lwc_entry_put(vm_map_t map, vm_map_entry_t t)
{
	vm_map_entry_t c;
	vm_object_t object;
	int cow, rv;
	bool exact;

	cow = (t->eflags & MAP_ENTRY_NEEDS_COPY) != 0 ? MAP_COPY_ON_WRITE : 0;
	if ((t->eflags & MAP_ENTRY_NOSYNC) != 0)
		cow |= MAP_DISABLE_SYNCER;
	if ((t->eflags & MAP_ENTRY_NOCOREDUMP) != 0)
		cow |= MAP_DISABLE_COREDUMP;
	if ((t->eflags & MAP_ENTRY_GROWS_DOWN) != 0)
		cow |= MAP_STACK_AREA;
	if ((t->eflags & MAP_ENTRY_GUARD) != 0)
		cow |= MAP_CREATE_GUARD;
	if ((t->eflags & MAP_ENTRY_STACK_GAP) != 0)
		cow |= MAP_CREATE_STACK_GAP;
	if (t->inheritance == VM_INHERIT_SHARE)
		cow |= MAP_INHERIT_SHARE;
	if (t->cred == NULL)
		cow |= MAP_ACC_NO_CHARGE;
	object = t->object.vm_object;
	if (object != NULL)
		vm_object_reference(object);
	vm_map_lock(map);
	rv = vm_map_insert(map, object, object == NULL ? 0 : t->offset,
	    t->start, t->end, t->protection, t->max_protection, cow);
	exact = rv == KERN_SUCCESS &&
	    vm_map_lookup_entry(map, t->start, &c) &&
	    c->start == t->start && c->end == t->end;
	if (exact) {
		c->inheritance = t->inheritance;
		c->eflags |= t->eflags & MAP_ENTRY_BEHAV_MASK;
		if ((t->eflags & MAP_ENTRY_STACK_GAP) != 0) {
			/* See vm_map_stack_locked(). */
			c->next_read = t->next_read;
			c->offset = t->offset;
		}
	}
	vm_map_unlock(map);
	if (rv != KERN_SUCCESS && object != NULL)
		vm_object_deallocate(object);
	return (exact);
}

/* Map what the twin has in some regions. */
static bool
lwc_regions_put(vm_map_t map, vm_map_t twin, const struct lwc_region *re,
    int n)
{
	vm_map_entry_t t;
	int error, i;

	for (i = 0; i < n; i++)
		if (vm_map_remove(map, re[i].re_start, re[i].re_end) !=
		    KERN_SUCCESS)
			return (false);
	error = 0;
	LWC_FAIL(rollback_put, error);
	if (error != 0)
		return (false);
	for (i = 0; i < n; i++)
		for (t = re[i].re_twin; t != &twin->header &&
		    t->start < re[i].re_end; t = vm_map_entry_succ(t))
			if (!lwc_entry_put(map, t))
				return (false);
	return (true);
}

/*
 * The map's timestamp counts how often it was locked, in 32 bits, and a context
 * can have that done as often as it likes.  In a few seconds it cannot do so
 * 2^32 times.
 */
#define	LWC_SEEN_TIME	(4 * SBT_1S)

static void
lwc_seen_stamp(struct lwc_seen *se, const struct vmspace *vm)
{

	se->se_timestamp = vm->vm_map.timestamp;
	se->se_time = getsbinuptime();
}

/* Is what was seen all that there can be? */
static bool
lwc_seen_holds(const struct lwc_seen *se, const struct vmspace *vm)
{

	return (se->se_vm == vm && se->se_timestamp == vm->vm_map.timestamp &&
	    getsbinuptime() - se->se_time < LWC_SEEN_TIME);
}

/* Undo what was done to a space, in place.  False: it is a strange one. */
static bool
lwc_vm_undo(struct vmspace *vm, struct vmspace *twin, struct lwc_seen *se,
    uint64_t *pagesp)
{
	struct lwc_region re[LWC_REGIONS];
	struct lwc_undo un = { 0 };
	int n;

	un.un_pmap = vmspace_pmap(vm);
	if (lwc_md_keys(un.un_pmap) || lwc_md_keys(vmspace_pmap(twin)))
		return (false);
	n = 1;
	vm_map_lock_read(&vm->vm_map);
	if (lwc_seen_holds(se, vm) && lwc_vm_undo_seen(se, &un))
		n = 0;
	vm_map_unlock_read(&vm->vm_map);
	if (n != 0) {
		vm_map_lock(&vm->vm_map);
		n = lwc_vm_undo_all(vm, twin, se, &un, re);
		lwc_seen_stamp(se, vm);
		vm_map_unlock(&vm->vm_map);
	}
	if (n > 0 && lwc_regions_put(&vm->vm_map, &twin->vm_map, re, n)) {
		vm_map_lock(&vm->vm_map);
		n = lwc_vm_undo_all(vm, twin, se, &un, re);
		lwc_seen_stamp(se, vm);
		vm_map_unlock(&vm->vm_map);
	}
	if (un.un_flush)
		pmap_invalidate_all(un.un_pmap);
	*pagesp += un.un_pages;
	return (n == 0);
}

/*
 * The space of a suspended context becomes what its twin is.  ENOMEM: it has
 * not become that.
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
	error = lwc_vm_lock_alike(new, twin);
	if (error != 0) {
		vmspace_free(new);
		return (error);
	}
	mtx_lock(&lp->lp_mtx);
	lc->lc_vm = new;
	mtx_unlock(&lp->lp_mtx);
	lwc_vm_free(old);
	return (0);
}
