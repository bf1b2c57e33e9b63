/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Shared memory that is zeroed where somebody has written to it.
 *
 * A program could write the zeroes itself, all over the range, and make every
 * page of it resident and dirty by that.  Here the pages that nobody has used
 * are left alone.  Of the others none is believed to be zeroes, whatever the
 * page tables say of it (madvise(2) makes pages clean): one that was written to
 * since the last time is likely to be written to the next time, and is zeroed
 * where it is; one that was not is taken out of its object, where it is zeroes
 * when it is needed again.
 *
 * A page that has been zeroed is made clean, by which the next time can tell.
 * Nothing is lost if it is taken for that by the pager: it has no copy on a
 * swap device.  But a page that somebody holds (wired) may be written to past
 * all mappings, by a device for one: whoever takes hold of it to write makes it
 * dirty, unless it is (vm_fault_quick_hold_pages()), and looks for that after
 * the hold is there.  So it is made clean first, and if somebody has it then it
 * is dirty again.
 *
 * The map's lock keeps its entries, the object's keeps the pages; nobody is
 * waited for.
 */

#include "lwc_vm.h"

#include <sys/pctrie.h>
#include <sys/rwlock.h>

#include <vm/vm_param.h>
#include <vm/vm_object.h>
#include <vm/vm_page.h>
#include <vm/vm_pager.h>
#include <vm/vm_radix.h>
#include <vm/swap_pager.h>

/* Can this part of a map be erased here?  As an errno. */
static int
lwc_entry_erasable(vm_map_entry_t entry)
{

	if ((entry->eflags & (MAP_ENTRY_IS_SUB_MAP | MAP_ENTRY_GUARD |
	    MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY)) != 0 ||
	    entry->inheritance != VM_INHERIT_SHARE)
		return (EINVAL);
	if ((entry->protection & VM_PROT_WRITE) == 0)
		return (EACCES);
	return (0);
}

/* A page becomes zeroes, here or when it is needed.  EBUSY: it is in use. */
static int
lwc_page_erase(struct pctrie_iter *pages, vm_page_t m)
{

	if (vm_page_tryxbusy(m) == 0)
		return (EBUSY);
	if (!vm_page_all_valid(m) || (m->flags & PG_FICTITIOUS) != 0) {
		vm_page_xunbusy(m);
		return (EBUSY);
	}
	vm_page_test_dirty(m);
	if (m->dirty == 0 && vm_page_try_remove_all(m)) {
		vm_page_iter_free(pages, m);
		return (0);
	}
	pmap_clear_modify(m);
	vm_page_undirty(m);
	atomic_thread_fence_seq_cst();
	if (vm_page_wired(m))
		vm_page_dirty(m);
	pmap_zero_page(m);
	vm_page_xunbusy(m);
	return (0);
}

/* The same of some pages of an object, by their indices. */
static int
lwc_object_erase(vm_object_t object, vm_pindex_t start, vm_pindex_t end)
{
	struct pctrie_iter pages;
	vm_page_t m;
	bool swapped;
	int error;

	error = 0;
	VM_OBJECT_WLOCK(object);
	if ((object->flags & (OBJ_ANON | OBJ_DEAD)) != OBJ_ANON ||
	    object->backing_object != NULL)
		error = EINVAL;
	else if (blockcount_read(&object->paging_in_progress) != 0)
		error = EBUSY;
	if (error == 0) {
		swapped = !pctrie_is_empty(&object->un_pager.swp.swp_blks);
		vm_page_iter_limit_init(&pages, object, end);
		for (m = vm_radix_iter_lookup_ge(&pages, start);
		    m != NULL && error == 0; m = vm_radix_iter_step(&pages))
			error = lwc_page_erase(&pages, m);
		/* What is there is of no use to anybody now. */
		if (swapped)
			vm_pager_freespace(object, start, end - start);
	}
	VM_OBJECT_WUNLOCK(object);
	return (error);
}

/*
 * Zero a range of the current context's memory, page-aligned and not empty.
 * EINVAL: not all of it is anonymous memory that is shared, and whatever is not
 * is as it was; EACCES: it is not the context's to write, and nothing has
 * changed; EBUSY: some of it may be zeroed, and some is not.
 */
int
lwc_vm_erase(struct vmspace *vm, vm_offset_t start, vm_offset_t end)
{
	vm_map_entry_t entry, first;
	vm_map_t map;
	vm_offset_t at, to;
	vm_pindex_t index;
	int error;

	KASSERT(vm == curproc->p_vmspace, ("lwc: erases what is not current"));
	map = &vm->vm_map;
	vm_map_lock_read(map);
	error = vm_map_lookup_entry(map, start, &first) ? 0 : EINVAL;
	at = start;
	for (entry = first; error == 0 && at < end;
	    entry = vm_map_entry_succ(entry)) {
		if (entry == &map->header || entry->start > at)
			error = EINVAL;
		else
			error = lwc_entry_erasable(entry);
		at = entry->end;
	}
	at = start;
	for (entry = first; error == 0 && at < end;
	    entry = vm_map_entry_succ(entry)) {
		to = MIN(entry->end, end);
		index = OFF_TO_IDX(entry->offset + (at - entry->start));
		/* Without an object nobody has used it. */
		if (entry->object.vm_object != NULL)
			error = lwc_object_erase(entry->object.vm_object,
			    index, index + atop(to - at));
		at = to;
	}
	vm_map_unlock_read(map);
	return (error);
}
