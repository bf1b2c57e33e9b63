/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* A context, what it finds when it resumes, the descriptors that name it. */

#ifndef _LWC_CONTEXT_H_
#define	_LWC_CONTEXT_H_

#include "lwc_var.h"

#include <sys/file.h>
#include <sys/filedesc.h>
#include <sys/signalvar.h>
#include <sys/ucred.h>

#include "lwc_machdep.h"
#include "lwc_process.h"
#include "lwc_rights.h"
#include "lwc_thread.h"

struct lwc_allow;
struct lwc_snapshot;
struct lwc_user;

/* What a context finds when it resumes. */
struct lwc_event {
	int		ev_kind;	/* LWC_SWITCHED, LWC_TRAPPED */
	int		ev_n;		/* words */
	sbintime_t	ev_until;	/* the caller's, or 0 */
	uint64_t	ev_words[LWC_MAX_ARGS + 1];
};

/* One that came while its context was preempted, for its next lwSwitch(). */
struct lwc_kept {
	STAILQ_ENTRY(lwc_kept) ke_link;
	struct lwc_event ke_event;
	int		ke_src;
};
#define	LWC_KEPT_EVENTS	64	/* of one context */

/* Where it wants that: its own addresses, null if not wanted. */
struct lwc_out {
	int		*ou_src;
	uint64_t	*ou_args;
	int		*ou_num;
	int		ou_cap;
};

/* What a small context takes of kernel memory, nearly all for page tables. */
#define	LWC_PAGES	35

/* Internal states, beyond LWC_STATE_*. */
#define	LWC_STATE_REPLY		100	/* waits for an answer to its trap */

struct lwc_ctx {
	u_int		lc_refs;	/* (a) who points here */
	/*
	 * Changed by the process's thread, with lp_mtx or, in the fast path of
	 * sys_lwSwitch(), without.  Others change it to DEAD alone, under
	 * lp_mtx, when the last name of a suspended one goes.
	 */
	int		lc_state;
	int		lc_names;	/* (l) descriptors, guarded children */
	int		lc_flags;	/* (c) of lwCreate() */
	uint64_t	lc_id;		/* (c) the root's is 1 */
	uint64_t	lc_creator_id;	/* (c) the root's is 0 */
	struct lwc_proc	*lc_lp;		/* (c) counted */
	struct lwc_user	*lc_user;	/* (c) counted */
	int		lc_extra;	/* (c) counts for so many more there */
	/*
	 * Who is told of its end: its creator, or the nearest of those before
	 * that lives.  Not counted: replaced when that is destroyed.
	 */
	struct lwc_ctx	*lc_creator;	/* (l) */
	LIST_HEAD(, lwc_ctx) lc_children; /* (l) */
	LIST_ENTRY(lwc_ctx) lc_sibling;	/* (l) */
	/*
	 * Who takes its calls, counted and named; its own monitor takes over
	 * when that is destroyed.
	 */
	struct lwc_ctx	*lc_monitor;	/* (l) */
	LIST_HEAD(, lwc_ctx) lc_monitored;	/* (l) whose monitor it is */
	LIST_ENTRY(lwc_ctx) lc_monitored_link;	/* (l) */
	struct lwc_rights *lc_back;	/* (c) over its creator */
	struct lwc_rights *lc_self;	/* (l) most anyone has over it */
	LIST_ENTRY(lwc_ctx) lc_link;	/* (l) lp_ctxs */
	STAILQ_ENTRY(lwc_ctx) lc_dead;	/* (l) lp_dead */

	/* A suspended context owns these; (t). */
	struct vmspace	*lc_vm;
	struct filedesc	*lc_fd;
	struct pwddesc	*lc_pd;
	struct ucred	*lc_cred;	/* twice, see lwc_cred.c ... */
	long		lc_credref;	/* ... with what the thread counted */
	struct sigacts	*lc_sigacts;
	struct sysentvec *lc_sysent;	/* not owned */
	struct plimit	*lc_limit;	/* twice, as well */
	rlim_t		lc_cpulimit;
	sbintime_t	lc_umtx_min;	/* p_umtx_min_timeout */
	struct lwc_thread lc_thread;
	struct lwc_out	lc_out;
	struct lwc_md	lc_md;
	/* Hints: ids, and numbers in our table, or in the callee's; (t). */
	uint64_t	lc_caller;
	uint64_t	lc_callee;
	int		lc_caller_fd;
	int		lc_callee_fd;

	struct lwc_allow *lc_allow;	/* (t) counted; NULL: all calls */
	bool		lc_preempted;	/* (t) left without a call */
	bool		lc_waits;	/* (l) is in lp_waiters */
	bool		lc_pending;	/* (t) lc_sigqueue is not empty */
	sbintime_t	lc_deadline;	/* (t) 0: none; a look from outside */
	LIST_ENTRY(lwc_ctx) lc_waiter;	/* (l) lp_waiters */
	sigqueue_t	lc_sigqueue;	/* (t) and process lock */
	STAILQ_HEAD(, lwc_kept) lc_kept; /* (t) */
	int		lc_nkept;	/* (t) */

	/* Rollback, lwc_snapshot.c. */
	struct lwc_snapshot *lc_snapshot; /* (t) and (l), or NULL */
	bool		lc_clean;	/* (t) is still what that is ... */
	bool		lc_changed;	/* (t) ... but for what others did */
	/*
	 * (t) It made a call since that may have changed its table, directory,
	 * credentials, limits or signal actions: any that is not LWC_PURE.
	 */
	bool		lc_called;

	/* An end that is to be carried out before user mode; (t). */
	bool		lc_ending;
	int		lc_end_signal;
	int		lc_end_code;
	uint64_t	lc_end_addr;
};

/* The object behind a descriptor: one struct file each. */
struct lwc_desc {
	struct lwc_ctx	*ld_ctx;	/* (c) counted */
	struct lwc_rights *ld_rights;	/* (l) */
	struct filedesc	*ld_fdp;	/* (l) hint: the table it went to ... */
	int		ld_fd;		/* (l) ... and its number there */
	bool		ld_clean_only;	/* (c) switches to a clean one */
	uint64_t	ld_narrowed;	/* (t) by which lwc_files_narrow() */
	LIST_ENTRY(lwc_desc) ld_hash;	/* (l) by context and table */
};

/* lwc_context.c */
void	lwc_context_init(void);
void	lwc_context_fini(void);
struct lwc_ctx *lwc_ctx_alloc(struct lwc_proc *lp, struct lwc_user *us);
void	lwc_ctx_ref(struct lwc_ctx *lc);
void	lwc_ctx_rele(struct lwc_ctx *lc);
void	lwc_ctx_destroy(struct lwc_ctx *lc);
void	lwc_ctx_unname(struct lwc_ctx *lc);
void	lwc_kept_drop(struct lwc_ctx *lc);
bool	lwc_ctx_descends(const struct lwc_ctx *lc,
	    const struct lwc_ctx *ancestor);
void	lwc_ctx_watch(struct lwc_ctx *monitor, struct lwc_ctx *lc);

/* lwc_desc.c */
extern const struct fileops lwc_fileops;
void	lwc_desc_init(void);
void	lwc_desc_fini(void);
int	lwc_desc_file(struct thread *td, struct lwc_ctx *lc,
	    struct lwc_rights *rg, bool clean_only, struct file **fpp);
int	lwc_desc_install(struct thread *td, struct lwc_ctx *lc,
	    struct lwc_rights *rg, bool clean_only, int *fdp);
int	lwc_desc_find(struct lwc_proc *lp, struct filedesc *fdp,
	    struct lwc_ctx *lc, bool clean_only);
int	lwc_desc_count(struct lwc_proc *lp, struct filedesc *fdp);
bool	lwc_desc_clean_only(struct thread *td, int fd);
void	lwc_desc_moved(struct file *fp, struct filedesc *fdp, int fd);
int	lwc_ctx_get(struct thread *td, int fd, struct lwc_ctx **lcp,
	    struct lwc_rights **rgp);

/*
 * Does this number of a table, locked or ours, name this context?  There are
 * two kinds of names: any switch finds the one without a condition.
 */
static inline bool
lwc_desc_names(struct filedesc *fdp, int fd, const struct lwc_ctx *lc,
    bool clean_only)
{
	const struct lwc_desc *ld;
	struct file *fp;

	if ((u_int)fd >= (u_int)fdp->fd_nfiles)
		return (false);
	fp = fdp->fd_ofiles[fd].fde_file;
	if (fp == NULL || fp->f_ops != &lwc_fileops)
		return (false);
	ld = fp->f_data;
	return (ld->ld_ctx == lc && ld->ld_clean_only == clean_only);
}

/* lwc_user.c: what a user has of contexts and their descriptors. */
void	lwc_user_init(void);
void	lwc_user_fini(void);
struct lwc_user *lwc_user_get(uid_t uid);
struct lwc_user *lwc_user_hold(struct lwc_user *us);
void	lwc_user_rele(struct lwc_user *us);
bool	lwc_user_contexts(struct lwc_user *us, int n);
bool	lwc_user_descriptors(struct lwc_user *us, int n);
bool	lwc_user_ranges(struct lwc_user *us, int n);

#endif /* !_LWC_CONTEXT_H_ */
