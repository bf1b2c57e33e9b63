/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

#ifndef _LWC_SWITCH_H_
#define	_LWC_SWITCH_H_

#include "lwc_var.h"

struct lwc_ctx;
struct lwc_event;
struct lwc_out;
struct lwc_proc;

#define	LWC_HOW_SUSPEND	0	/* it waits in lwSwitch() */
#define	LWC_HOW_TRAP	1	/* it waits for the answer to a trap */
#define	LWC_HOW_DISCARD	2	/* it goes */
#define	LWC_HOW_ROLLBACK 4	/* it becomes what its snapshot is */
#define	LWC_HOW_PREEMPT	3	/* it is not asked; the target gets ETIMEDOUT */
int	lwc_enter(struct thread *td, struct lwc_proc *lp, struct lwc_ctx *to,
	    const struct lwc_event *ev, int how);
int	lwc_introduce(struct thread *td, struct lwc_proc *lp,
	    struct lwc_ctx *from, struct lwc_ctx *to, bool clean_only,
	    int *srcp);
int	lwc_out_copyin(struct lwc_out *ou, int *src, uint64_t *args, int *num,
	    bool room);

#endif /* !_LWC_SWITCH_H_ */
