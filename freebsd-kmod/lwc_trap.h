/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Traps and guards: system calls, signals, ends. */

#ifndef _LWC_TRAP_H_
#define	_LWC_TRAP_H_

#include "lwc_var.h"

#include <sys/signalvar.h>
#include <sys/sysent.h>

struct lwc_ctx;
struct lwc_event;
struct lwc_proc;

#define	LWC_GUARD	(LWC_TRAP_FAULT | LWC_TRAP_EXIT)

/*
 * An end, a deadline, a context to be destroyed.  It runs after signals have
 * been delivered and after the mask of ppoll(2) or sigsuspend(2) has been put
 * back: both are the affair of the context that is about to be left.
 */
#define	LWC_AST		TDA_MOD3

/* lwc_trap.c */
void	lwc_trap_init(void);
void	lwc_trap_fini(void);
bool	lwc_sysent_install(struct lwc_proc *lp, struct lwc_ctx *lc,
	    bool traps);
struct sysent *lwc_sysent_of_exit(void);
struct sysent *lwc_sysent_of_abort(void);
struct sysent *lwc_sysent_of_kill(void);
sy_call_t lwc_call_deny;

/* lwc_signals.c */
#define	LWC_KEPT_SIGNALS	32	/* with a suspended context */
void	lwc_signals_init(void);
sigset_t lwc_fault_signals(void);
void	lwc_signals_arm(struct sigacts *ps, int flags, bool new);
void	lwc_signals_disarm(struct sigacts *ps);
void	lwc_signals_unblock(struct thread *td);
void	lwc_signals_switch(struct thread *td, struct proc *p,
	    struct lwc_ctx *from, struct lwc_ctx *to);
void	lwc_signals_drop(struct lwc_ctx *lc);
bool	lwc_signals_copy(const sigqueue_t *from, bool pending,
	    sigqueue_t *to);
void	lwc_sendsig(struct lwc_proc *lp, const struct sysentvec *orig,
	    sig_t catcher, ksiginfo_t *ksi, sigset_t *mask);

#endif /* !_LWC_TRAP_H_ */
