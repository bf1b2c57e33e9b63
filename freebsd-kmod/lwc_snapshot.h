/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Snapshots of contexts, and the way back to them. */

#ifndef _LWC_SNAPSHOT_H_
#define	_LWC_SNAPSHOT_H_

#include "lwc_context.h"
#include "lwc_vm.h"

int	lwc_snapshot(struct thread *td, struct lwc_proc *lp,
	    struct lwc_ctx *lc);
void	lwc_snapshot_free(struct lwc_ctx *lc);
struct vmspace *lwc_snapshot_vm(const struct lwc_ctx *lc);
int	lwc_rollback(struct thread *td, struct lwc_proc *lp,
	    struct lwc_ctx *lc, uint64_t *pagesp);

#endif /* !_LWC_SNAPSHOT_H_ */
