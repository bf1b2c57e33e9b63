/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * lwControl(): what a creator may do to its contexts beyond the paper's calls,
 * and what a context may do to itself for good.
 *
 * Commands for whoever runs code that it does not trust:
 *
 * DESTROY ends a suspended context now, whoever else names it; its creator may
 * do so, or if that is gone its creator.
 *
 * ALLOW leaves the current context a set of system calls and no others, for
 * ever, and the same to all that it will create.  The set is a counted,
 * immutable bitmap; the private sysentvec of lwc_trap.c looks at it before
 * each call.  It closes what capability mode leaves open: making processes
 * and threads, timers whose signals would hit other contexts, SIGKILL to
 * oneself.  No list binds the child of a fork or a new program, so a context
 * with a list makes neither, whatever is in it.
 *
 * BELOW has some of these calls depend on their first argument: numbers from a
 * limit on are not the kernel's then, and whoever handles SIGSYS may take them
 * for something else.  One limit holds for all of them, the least that was
 * given: so what comes later only narrows.
 *
 * FROM is its twin: numbers before a least one are not the kernel's.  So what a
 * context got from others can be kept from a call that is its own's: recvmsg(2)
 * of a socket by which it is lent descriptors, and not of one whose peer sends
 * some.  One number holds for all, the highest that was given; a call that is
 * under both conditions has to meet both.
 *
 * INTRODUCE gives one context a name of another, as a switch gives its target
 * one of the caller (3.3), so that the two get along without a third.  The
 * name takes a number in the table of the first, so that is one that the
 * caller made, or that such a one made, and so on: nobody's table is filled,
 * nor the order of its numbers disturbed, by what it runs.  The second may be
 * anybody whom the caller has a name of: who is introduced is not asked, just
 * as nobody is asked whether he wants to be switched to.  No rights over
 * memory, files and credentials come with it.
 *
 * SNAPSHOT and ROLLBACK are lwc_snapshot.c's.
 *
 * ERASE zeroes what the current context shares with others, where it was used.
 */

#include "lwc_allow.h"
#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_snapshot.h"
#include "lwc_switch.h"
#include "lwc_trap.h"
#include "lwc_vm.h"

#include <sys/limits.h>

#include <vm/vm_param.h>

struct lwc_allow *
lwc_allow_hold(struct lwc_allow *al)
{

	if (al != NULL)
		refcount_acquire(&al->al_refs);
	return (al);
}

void
lwc_allow_free(struct lwc_allow *al)
{

	if (al != NULL && refcount_release(&al->al_refs))
		free(al, M_LWCRIGHTS);
}

static int
lwc_control_destroy(struct thread *td, int fd)
{
	struct lwc_ctx *lc;
	struct lwc_proc *lp;
	int error;

	error = lwc_ctx_get(td, fd, &lc, NULL);
	if (error != 0)
		return (error);
	lp = lc->lc_lp;
	mtx_lock(&lp->lp_mtx);
	if (lc->lc_creator != lp->lp_current &&
	    lc->lc_creator_id != lp->lp_current->lc_id)
		error = EPERM;
	if (error == 0 && lc->lc_state != LWC_STATE_DEAD)
		lwc_reap(lp, lc);	/* and lets go of the lock */
	else
		mtx_unlock(&lp->lp_mtx);
	lwc_ctx_rele(lc);
	return (error);
}

/*
 * The table that gets the name is, for a moment, the process's, and falloc()
 * may sleep meanwhile: both have a name of ours until it is done.  Nobody else
 * changes a state: the process has one thread, and that is here.
 */
static int
lwc_control_introduce(struct thread *td, int fd, uint64_t argument)
{
	struct lwc_ctx *to, *whom;
	struct lwc_proc *lp;
	int error, number;
	bool clean_only;

	clean_only = (argument & LWC_CLEAN_ONLY) != 0;
	argument &= ~LWC_CLEAN_ONLY;
	if (argument > INT_MAX)
		return (EBADF);
	error = lwc_ctx_get(td, fd, &to, NULL);
	if (error != 0)
		return (error);
	error = lwc_ctx_get(td, (int)argument, &whom, NULL);
	if (error != 0) {
		lwc_ctx_rele(to);
		return (error);
	}
	/* By a name for clean contexts nobody gets one for others. */
	clean_only |= lwc_desc_clean_only(td, (int)argument);
	lp = to->lc_lp;
	mtx_lock(&lp->lp_mtx);
	if (to == whom || to == lp->lp_current || whom == lp->lp_current) {
		error = EINVAL;
	} else if (to->lc_state == LWC_STATE_DEAD ||
	    whom->lc_state == LWC_STATE_DEAD) {
		error = ESRCH;
	} else if (!lwc_ctx_descends(to, lp->lp_current)) {
		error = EPERM;
	} else {
		to->lc_names++;
		whom->lc_names++;
	}
	mtx_unlock(&lp->lp_mtx);
	if (error == 0) {
		error = lwc_introduce(td, lp, whom, to, clean_only,
		    &number);
		if (error == 0)
			td->td_retval[0] = number;
		lwc_ctx_unname(whom);
		lwc_ctx_unname(to);
	}
	lwc_ctx_rele(whom);
	lwc_ctx_rele(to);
	return (error);
}

/*
 * ALLOW, BELOW or FROM: the new list is what the old one is, and what is given.
 * Nothing is taken out of a set that is a condition but by ALLOW, which takes it
 * out of all: so whatever comes, no call is made that was not before.
 */
static int
lwc_control_allow(struct thread *td, struct lwc_proc *lp, const void *user,
    int command)
{
	struct lwc_allow *al, *old;
	struct lwc_ctx *cur;
	struct {
		struct lwc_calls calls;
		uint64_t number;
	} given;
	struct lwc_calls *conditional;
	uint64_t *calls, *below, *from, set;
	int error, i;

	CTASSERT(sizeof(given) == sizeof(struct lwc_below) &&
	    __offsetof(struct lwc_below, limit) == sizeof(given.calls) &&
	    sizeof(given) == sizeof(struct lwc_from) &&
	    __offsetof(struct lwc_from, least) == sizeof(given.calls));
	cur = lp->lp_current;
	error = copyin(user, &given, command == LWC_CONTROL_ALLOW ?
	    sizeof(given.calls) : sizeof(given));
	if (error == 0 && command != LWC_CONTROL_ALLOW &&
	    given.number > INT_MAX)
		error = EINVAL;
	if (error != 0)
		return (error);
	al = malloc(sizeof(*al), M_LWCRIGHTS, M_WAITOK);
	if (!lwc_sysent_install(lp, cur, true)) {
		free(al, M_LWCRIGHTS);
		return (EINVAL);
	}
	old = cur->lc_allow;
	if (old != NULL) {
		*al = *old;
	} else {
		memset(al, 0, sizeof(*al));
		al->al_limit = INT_MAX;
		memset(&al->al_calls, 0xff, sizeof(al->al_calls));
	}
	refcount_init(&al->al_refs, 1);
	conditional = NULL;
	if (command == LWC_CONTROL_BELOW) {
		al->al_limit = MIN(al->al_limit, given.number);
		conditional = &al->al_below;
	} else if (command == LWC_CONTROL_FROM) {
		al->al_least = MAX(al->al_least, given.number);
		conditional = &al->al_from;
	}
	for (i = 0; i < (int)nitems(given.calls.calls); i++) {
		set = given.calls.calls[i];
		calls = &al->al_calls.calls[i];
		below = &al->al_below.calls[i];
		from = &al->al_from.calls[i];
		if (conditional != NULL) {
			/* What is in no set stays out. */
			set &= *calls | *below | *from;
			conditional->calls[i] |= set;
			*calls &= ~set;
		} else {
			*calls &= set;
			*below &= set;
			*from &= set;
		}
	}
	cur->lc_allow = al;
	lwc_allow_free(old);
	return (0);
}

/*
 * Zeroes in the caller's own memory: nothing that it could not do by writing
 * them.  No deadline ends it there, so it is not for long: 256 pages at most,
 * each with as many mappings as there are contexts that have it.
 */
static int
lwc_control_erase(struct thread *td, const void *user)
{
	struct lwc_erase range;
	int error;

	error = copyin(user, &range, sizeof(range));
	if (error != 0)
		return (error);
	if (((range.start | range.end) & PAGE_MASK) != 0 ||
	    range.start >= range.end || range.end > VM_MAXUSER_ADDRESS)
		return (EINVAL);
	if (range.end - range.start > LWC_ERASE_MAX)
		return (E2BIG);
	return (lwc_vm_erase(td->td_proc->p_vmspace, range.start, range.end));
}

/* Does a descriptor carry every right? */
static bool
lwc_rights_whole(const struct lwc_rights *rg)
{

	return (rg->rg_cred && lwc_rights_mem(rg, 0, VM_MAXUSER_ADDRESS) &&
	    lwc_rights_files(rg, 0, LWC_FILES_END));
}

/*
 * 10.1.  What the context lets others get of it (LWC_SELF) counts for a
 * snapshot alone: afterwards it is no way out of the rollback.
 */
static int
lwc_control_rollback(struct thread *td, struct lwc_proc *lp, int fd,
    bool snapshot)
{
	struct lwc_ctx *lc;
	struct lwc_rights *rg;
	uint64_t pages;
	int error;

	error = lwc_ctx_get(td, fd, &lc, &rg);
	if (error != 0)
		return (error);
	mtx_lock(&lp->lp_mtx);
	if (lc->lc_state == LWC_STATE_DEAD)
		error = ESRCH;
	else if (!lwc_rights_whole(rg) ||
	    (snapshot && !lwc_rights_whole(lc->lc_self)))
		error = EPERM;
	else if (lc == lp->lp_current ||
	    (snapshot && lc->lc_state == LWC_STATE_REPLY))
		error = EBUSY;
	else if (!snapshot && lc->lc_snapshot == NULL)
		error = ENOENT;
	if (error == 0)
		lc->lc_names++;
	mtx_unlock(&lp->lp_mtx);
	if (error == 0) {
		if (snapshot) {
			error = lwc_snapshot(td, lp, lc);
		} else {
			error = lwc_rollback(td, lp, lc, &pages);
			if (error == 0)
				td->td_retval[0] = MIN(pages, INT_MAX);
		}
		lwc_ctx_unname(lc);
	}
	lwc_ctx_rele(lc);
	lwc_rights_free(rg);
	return (error);
}

int
sys_lwControl(struct thread *td, struct lwControl_args *uap)
{
	struct lwc_proc *lp;
	int error;

	error = lwc_proc_check(td);
	if (error == 0)
		error = lwc_proc_get(td, &lp);
	if (error != 0)
		return (error);
	switch (uap->command) {
	case LWC_CONTROL_DESTROY:
		return (uap->argument != 0 ? EINVAL :
		    lwc_control_destroy(td, uap->lwc));
	case LWC_CONTROL_ALLOW:
	case LWC_CONTROL_BELOW:
	case LWC_CONTROL_FROM:
		if (uap->lwc != LWC_SELF)
			return (EINVAL);
		return (lwc_control_allow(td, lp,
		    (const void *)(uintptr_t)uap->argument, uap->command));
	case LWC_CONTROL_ERASE:
		if (uap->lwc != LWC_SELF)
			return (EINVAL);
		return (lwc_control_erase(td,
		    (const void *)(uintptr_t)uap->argument));
	case LWC_CONTROL_INTRODUCE:
		return (lwc_control_introduce(td, uap->lwc, uap->argument));
	case LWC_CONTROL_SNAPSHOT:
	case LWC_CONTROL_ROLLBACK:
		return (uap->argument != 0 ? EINVAL :
		    lwc_control_rollback(td, lp, uap->lwc,
		    uap->command == LWC_CONTROL_SNAPSHOT));
	default:
		return (EINVAL);
	}
}
