/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Descriptor tables of contexts. */

#ifndef _LWC_FILES_H_
#define	_LWC_FILES_H_

#include "lwc_context.h"

struct lwc_fstage;

/* A table without files, which waits until it can be freed. */
struct lwc_table {
	STAILQ_ENTRY(lwc_table) ta_link;
	struct filedesc	*ta_fd;
	struct pwddesc	*ta_pd;
	bool		ta_last;	/* nobody else has the table */
};

/* lwc_files.c */
int	lwc_files_fork(struct thread *td, struct lwc_proc *lp,
	    const struct lwc_specs *sp, struct lwc_ctx *lc);
int	lwc_files_twin(struct thread *td, struct lwc_proc *lp,
	    struct filedesc *fdp, struct filedesc **twinp);
bool	lwc_files_alike(struct lwc_proc *lp, struct filedesc *fdp,
	    const struct filedesc *twin);
bool	lwc_pwds_alike(struct pwddesc *a, struct pwddesc *b);
int	lwc_files_stage(struct thread *td, struct lwc_proc *lp,
	    struct lwc_ctx *src, struct lwc_rights *rg,
	    const struct lwc_specs *sp, struct lwc_fstage **stp);
void	lwc_files_apply(struct thread *td, struct lwc_fstage *st);
void	lwc_files_unstage(struct thread *td, struct lwc_proc *lp,
	    struct lwc_fstage *st);

/* lwc_table.c: how a table goes. */
struct lwc_nobody *lwc_nobody_new(void);
void	lwc_nobody_free(struct lwc_nobody *nb);
void	lwc_table_free(struct lwc_proc *lp, struct filedesc *fdp,
	    struct pwddesc *pdp);
void	lwc_tables_drain(struct lwc_proc *lp, bool all);

#endif /* !_LWC_FILES_H_ */
