/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Address spaces of contexts. */

#ifndef _LWC_VM_H_
#define	_LWC_VM_H_

#include "lwc_process.h"
#include "lwc_rights.h"

struct lwc_lazy;
struct lwc_stage;

/* An entry's part of a range, as it was. */
struct lwc_piece {
	vm_offset_t	pc_start;
	vm_offset_t	pc_end;
	vm_inherit_t	pc_inherit;
	vm_prot_t	pc_prot;
	vm_prot_t	pc_max;
	bool		pc_restore;	/* put pc_inherit back on success too */
	bool		pc_snapshot;	/* shared, to be copied */
	bool		pc_device;	/* shared, and no memory */
};

struct lwc_pieces {
	struct lwc_piece *ps_piece;
	size_t		ps_n;
	size_t		ps_cap;
};

/*
 * Is the process to go?  Of a SIGKILL that waits for it; P_WKILLED is set for some
 * of the kernel's own alone.
 */
static inline bool
lwc_killed(void)
{

	return (P_KILLED(curproc) || curproc_sigkilled());
}

/* lwc_vm.c */
int	lwc_kern_errno(int rv);
int	lwc_vm_fork(struct vmspace *vm, const struct lwc_specs *sp, int flags,
	    struct vmspace **vmp);
void	lwc_vm_free(struct vmspace *vm);
uint64_t lwc_vm_private(struct vmspace *vm);
void	lwc_pieces_add(struct lwc_pieces *ps, struct vm_map *map,
	    vm_offset_t start, vm_offset_t end);
int	lwc_vm_snapshot(struct vm_map *src, struct vm_map *dst,
	    const struct lwc_piece *pc);

/*
 * What the last look at a space found.  While its map was not locked since, to be
 * changed, there is nothing else in it that could have been written to.
 */
#define	LWC_SEEN	16
struct lwc_seen {
	struct vmspace	*se_vm;		/* NULL: all is to be looked at */
	u_int		se_timestamp;	/* of its map, ... */
	sbintime_t	se_time;	/* ... and when that was */
	int		se_n;
	struct {
		vm_map_entry_t	se_entry;	/* has private pages */
		vm_map_entry_t	se_twin;
	}		se_pair[LWC_SEEN];
};

/* lwc_vm_rollback.c */
int	lwc_vm_twin(struct vmspace *vm, struct vmspace **twinp);
void	lwc_vm_unmap(struct vmspace *vm);
int	lwc_vm_lock_alike(struct vmspace *vm, struct vmspace *like);
int	lwc_vm_rollback(struct lwc_proc *lp, struct lwc_ctx *lc,
	    struct vmspace *twin, struct lwc_seen *se, uint64_t *pagesp);

/* lwc_vm_erase.c */
int	lwc_vm_erase(struct vmspace *vm, vm_offset_t start, vm_offset_t end);

/* lwc_vm_lazy.c */
struct lwc_lazy *lwc_lazy_take(struct vm_map *map);
int	lwc_lazy_give(struct vmspace *old, struct lwc_lazy *lz,
	    struct vmspace *new);

/* lwc_vm_overlay.c */
int	lwc_vm_stage(struct lwc_proc *lp, struct vmspace *src,
	    const struct lwc_specs *sp, struct vmspace *dst,
	    struct lwc_stage **stp);
void	lwc_vm_apply(struct vmspace *dst, struct lwc_stage *st);
void	lwc_vm_unstage(struct lwc_stage *st);

/* lwc_vm_limit.c: limits that hold for the sum of all contexts. */
void	lwc_vm_root_gone(struct lwc_proc *lp);
bool	lwc_vm_twin_ok(struct thread *td, struct lwc_proc *lp,
	    const struct vmspace *vm);
bool	lwc_vm_grow_ok(struct thread *td, struct lwc_proc *lp, uint64_t grow);
bool	lwc_vm_map_ok(struct thread *td, struct lwc_proc *lp, uint64_t grow);
bool	lwc_vm_break_ok(struct thread *td, struct lwc_proc *lp,
	    vm_offset_t end);
bool	lwc_vm_lock_ok(struct thread *td, struct lwc_proc *lp, uint64_t len);
bool	lwc_vm_create_ok(struct thread *td, struct lwc_proc *lp);

#endif /* !_LWC_VM_H_ */
