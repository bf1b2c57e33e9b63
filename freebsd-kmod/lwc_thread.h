/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * State of the kernel's thread that speaks of the context: of its memory, its
 * signals, its way of calling.  Moved as a whole, in one place.
 */

#ifndef _LWC_THREAD_H_
#define	_LWC_THREAD_H_

#include "lwc_var.h"

#include <sys/signalvar.h>

struct lwc_thread {
	sigset_t	lt_sigmask;
	stack_t		lt_sigstk;
	int		lt_pflags;	/* LWC_TDP */
	int		lt_pflags2;	/* LWC_TDP2 */
	void		*lt_sigblock_ptr;
	uint32_t	lt_sigblock_val;
	void		*lt_exterr_ptr;
	uintptr_t	lt_rb_list;
	uintptr_t	lt_rbp_list;
	uintptr_t	lt_rb_inact;
};

/*
 * TDP_SIGFASTPENDING would write to the word at td_sigblock_ptr, which is then
 * another context's; TDP_WAKEUP is thr_wake(2) of oneself.
 */
#define	LWC_TDP		(TDP_ALTSTACK | TDP_SIGFASTBLOCK | \
			    TDP_SIGFASTPENDING | TDP_WAKEUP)
#define	LWC_TDP2	(TDP2_UEXTERR | TDP2_COMPAT32RB)
/* Both words of flags at once. */
#define	LWC_TDP_BOTH	((uint64_t)(u_int)LWC_TDP2 << 32 | (u_int)LWC_TDP)
CTASSERT(offsetof(struct thread, td_pflags2) ==
    offsetof(struct thread, td_pflags) + sizeof(int));
CTASSERT(offsetof(struct lwc_thread, lt_pflags2) ==
    offsetof(struct lwc_thread, lt_pflags) + sizeof(int));
CTASSERT(BYTE_ORDER == LITTLE_ENDIAN);

static __always_inline void
lwc_thread_save(const struct thread *td, struct lwc_thread *lt)
{
	uint64_t flags;

	lt->lt_sigmask = td->td_sigmask;
	lt->lt_sigstk = td->td_sigstk;
	memcpy(&flags, &td->td_pflags, sizeof(flags));
	flags &= LWC_TDP_BOTH;
	memcpy(&lt->lt_pflags, &flags, sizeof(flags));
	lt->lt_sigblock_ptr = td->td_sigblock_ptr;
	lt->lt_sigblock_val = td->td_sigblock_val;
	lt->lt_exterr_ptr = td->td_exterr_ptr;
	lt->lt_rb_list = td->td_rb_list;
	lt->lt_rbp_list = td->td_rbp_list;
	lt->lt_rb_inact = td->td_rb_inact;
}

static __always_inline void
lwc_thread_load(struct thread *td, const struct lwc_thread *lt)
{
	uint64_t flags, mine;

	td->td_sigmask = lt->lt_sigmask;
	td->td_sigstk = lt->lt_sigstk;
	memcpy(&flags, &td->td_pflags, sizeof(flags));
	memcpy(&mine, &lt->lt_pflags, sizeof(mine));
	flags = (flags & ~LWC_TDP_BOTH) | mine;
	memcpy(&td->td_pflags, &flags, sizeof(flags));
	td->td_sigblock_ptr = lt->lt_sigblock_ptr;
	td->td_sigblock_val = lt->lt_sigblock_val;
	td->td_exterr_ptr = lt->lt_exterr_ptr;
	td->td_rb_list = lt->lt_rb_list;
	td->td_rbp_list = lt->lt_rbp_list;
	td->td_rb_inact = lt->lt_rb_inact;
}

#endif /* !_LWC_THREAD_H_ */
