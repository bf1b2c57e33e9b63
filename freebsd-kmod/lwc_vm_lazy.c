/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * File pages that nobody has written: program text, constants, libraries.
 *
 * vmspace_fork() copies the page table of every entry, page by page, and the
 * end of the context takes each of these pages out again.  For what a fault
 * can bring back from the page cache at any time that is the larger part of
 * what a small context costs.  So such entries are left out of the fork and
 * are mapped anew, empty; the context takes a soft fault, with its neighbours
 * mapped around it, where it does run.
 *
 * An entry qualifies when it is private, has its pages from the file alone
 * (copy needed, and no anonymous object yet), cannot be written now, and has
 * nothing special about it: no wiring, no reservation of swap, no boundary of
 * large pages.
 *
 * The program's own text holds a count on its file, which is why a running
 * program cannot be written to.  Only the fork passes that count on, so the
 * first page of such an entry still goes through it, and stands for all.
 */

#include "lwc_vm.h"

#include <sys/rwlock.h>

#include <vm/vm_object.h>
#include <vm/vm_param.h>

#define	LWC_LAZY_FLAGS	(MAP_ENTRY_COW | MAP_ENTRY_NEEDS_COPY |		\
	    MAP_ENTRY_NOSYNC | MAP_ENTRY_NOCOREDUMP | MAP_ENTRY_VN_EXEC)

struct lwc_lazy_part {
	vm_offset_t	lz_start;
	vm_offset_t	lz_end;
	vm_object_t	lz_object;	/* referenced */
	vm_ooffset_t	lz_offset;
	vm_prot_t	lz_prot;
	vm_prot_t	lz_max;
	int		lz_cow;		/* MAP_* for vm_map_insert() */
	bool		lz_clip;	/* part of an entry */
};

struct lwc_lazy {
	int		lz_n;
	int		lz_cap;
	struct lwc_lazy_part lz_part[];
};

static bool
lwc_lazy_is(vm_map_entry_t entry)
{
	vm_object_t object;

	if ((entry->eflags & ~LWC_LAZY_FLAGS) != 0 ||
	    (entry->eflags & MAP_ENTRY_NEEDS_COPY) == 0 ||
	    entry->inheritance != VM_INHERIT_COPY ||
	    (entry->protection & VM_PROT_WRITE) != 0 ||
	    entry->wired_count != 0 || entry->cred != NULL)
		return (false);
	object = entry->object.vm_object;
	if (object == NULL || (object->flags & OBJ_ANON) != 0 ||
	    object->cred != NULL || object->backing_object != NULL)
		return (false);
	return (object->type == OBJT_VNODE || (object->flags & OBJ_SWAP) != 0);
}

/* Is this entry the page that stands for the text that follows it? */
static bool
lwc_lazy_anchor(vm_map_entry_t entry)
{

	return ((entry->eflags & MAP_ENTRY_VN_EXEC) != 0 &&
	    entry->end - entry->start == PAGE_SIZE);
}

static bool
lwc_lazy_anchored(vm_map_entry_t prev, vm_map_entry_t entry)
{

	return (prev != NULL && lwc_lazy_anchor(prev) &&
	    prev->end == entry->start &&
	    prev->inheritance == VM_INHERIT_COPY &&
	    prev->object.vm_object == entry->object.vm_object);
}

/* Room for as many entries as the map has, which is returned locked. */
static struct lwc_lazy *
lwc_lazy_room(vm_map_t map)
{
	struct lwc_lazy *lz;
	int cap;

	for (;;) {
		vm_map_lock(map);
		cap = map->nentries;
		vm_map_unlock(map);
		lz = malloc(sizeof(*lz) + (size_t)cap * sizeof(lz->lz_part[0]),
		    M_LWCSTAGE, M_WAITOK);
		lz->lz_n = 0;
		lz->lz_cap = cap;
		vm_map_lock(map);
		if (map->nentries <= cap)
			return (lz);
		vm_map_unlock(map);
		free(lz, M_LWCSTAGE);
	}
}

/*
 * Take what qualifies out of the next vmspace_fork(); lwc_lazy_give() puts it
 * back.
 */
struct lwc_lazy *
lwc_lazy_take(vm_map_t map)
{
	struct lwc_lazy *lz;
	struct lwc_lazy_part *pt;
	vm_map_entry_t entry, last, prev;
	int error, i;

	lz = lwc_lazy_room(map);
	last = NULL;
	VM_MAP_ENTRY_FOREACH(entry, map) {
		prev = last;
		last = entry;
		if (!lwc_lazy_is(entry) || lwc_lazy_anchor(entry))
			continue;
		KASSERT(lz->lz_n < lz->lz_cap,
		    ("lwc: more entries than the map has"));
		pt = &lz->lz_part[lz->lz_n++];
		pt->lz_start = entry->start;
		pt->lz_end = entry->end;
		pt->lz_offset = entry->offset;
		pt->lz_prot = entry->protection;
		pt->lz_max = entry->max_protection;
		pt->lz_cow = MAP_COPY_ON_WRITE;
		if ((entry->eflags & MAP_ENTRY_NOSYNC) != 0)
			pt->lz_cow |= MAP_DISABLE_SYNCER;
		if ((entry->eflags & MAP_ENTRY_NOCOREDUMP) != 0)
			pt->lz_cow |= MAP_DISABLE_COREDUMP;
		pt->lz_object = entry->object.vm_object;
		vm_object_reference(pt->lz_object);
		pt->lz_clip = (entry->eflags & MAP_ENTRY_VN_EXEC) != 0 &&
		    !lwc_lazy_anchored(prev, entry);
		if (pt->lz_clip) {
			pt->lz_start += PAGE_SIZE;
			pt->lz_offset += PAGE_SIZE;
		} else {
			entry->inheritance = VM_INHERIT_NONE;
		}
	}
	vm_map_unlock(map);
	for (i = 0; i < lz->lz_n; i++) {
		pt = &lz->lz_part[i];
		if (!pt->lz_clip)
			continue;
		error = 0;
		LWC_FAIL(lazy_take, error);
		if (error != 0 || vm_map_inherit(map, pt->lz_start,
		    pt->lz_end, VM_INHERIT_NONE) != KERN_SUCCESS) {
			/* Then it goes through the fork as it is. */
			vm_object_deallocate(pt->lz_object);
			*pt-- = lz->lz_part[--lz->lz_n];
			i--;
		}
	}
	return (lz);
}

/* As vmspace_fork() counts what it copies. */
static void
lwc_lazy_count(const struct vmspace *old, struct vmspace *new,
    const struct lwc_lazy_part *pt)
{
	vm_offset_t data, text;

	data = (vm_offset_t)old->vm_daddr;
	text = (vm_offset_t)old->vm_taddr;
	if (pt->lz_start >= data &&
	    pt->lz_start < data + ctob(old->vm_dsize))
		new->vm_dsize += btoc(MIN(pt->lz_end,
		    data + ctob(old->vm_dsize)) - pt->lz_start);
	else if (pt->lz_start >= text &&
	    pt->lz_start < text + ctob(old->vm_tsize))
		new->vm_tsize += btoc(MIN(pt->lz_end,
		    text + ctob(old->vm_tsize)) - pt->lz_start);
}

/*
 * Put back what was taken, and map it in the new address space, if there is
 * one.  Consumes the list.
 */
int
lwc_lazy_give(struct vmspace *old, struct lwc_lazy *lz, struct vmspace *new)
{
	struct lwc_lazy_part *pt;
	int error, i, rv;

	/* By range: kern.proc.rlimit may have cut an entry in two since. */
	for (i = 0; i < lz->lz_n; i++) {
		pt = &lz->lz_part[i];
		rv = vm_map_inherit(&old->vm_map, pt->lz_start, pt->lz_end,
		    VM_INHERIT_COPY);
		KASSERT(rv == KERN_SUCCESS,
		    ("lwc: inheritance at %#jx stays changed: %d",
		    (uintmax_t)pt->lz_start, rv));
	}
	error = 0;
	LWC_FAIL(lazy_give, error);
	rv = error == 0 ? KERN_SUCCESS : KERN_NO_SPACE;
	if (new != NULL)
		vm_map_lock(&new->vm_map);
	for (i = 0; i < lz->lz_n; i++) {
		pt = &lz->lz_part[i];
		if (new != NULL && rv == KERN_SUCCESS) {
			rv = vm_map_insert(&new->vm_map, pt->lz_object,
			    pt->lz_offset, pt->lz_start, pt->lz_end,
			    pt->lz_prot, pt->lz_max, pt->lz_cow);
			if (rv == KERN_SUCCESS) {
				lwc_lazy_count(old, new, pt);
				pt->lz_object = NULL;	/* the map's now */
			}
		}
	}
	if (new != NULL)
		vm_map_unlock(&new->vm_map);
	for (i = 0; i < lz->lz_n; i++)
		vm_object_deallocate(lz->lz_part[i].lz_object);
	free(lz, M_LWCSTAGE);
	return (rv == KERN_SUCCESS ? 0 : ENOMEM);
}
