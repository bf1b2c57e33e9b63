/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The published library's calls (<sys/lwc_osdi16.h>) that make, enter, leave
 * and name contexts, on top of ours.  What they do beside is this.
 *
 * A context can be entered again after lwcdiscardswitch(), unless its creator
 * promised LWC_SUSPEND_ONLY: it then is what it was when it was last saved.
 * Our kernel side has no such thing, so whenever such a context C is entered,
 * it makes a copy K of itself, the keeper, before the program's code goes on.
 * When C discards, it does not end, but waits inside lwcdiscardswitch(); when
 * somebody enters it there, it goes on to K, which makes a copy of itself,
 * and that copy returns to the program.  K stays as it was.  Who entered is
 * told as the last word (K's own src is C).
 *
 *	enter -> C: lwCreate() = K, runs, discards, waits
 *	enter -> C -> K: lwCreate() = copy -> runs, discards, ends
 *	enter -> C -> K: lwCreate() = copy -> ...
 *
 * If such a copy saves itself by lwcsuspendswitch(), it takes the context's
 * descriptor over from C.
 *
 * A context knows the number by which its creator knows it (the creator
 * foretells it: the lowest free one), lwcgetlwc() returns it, and in a table
 * of the context's own it is not free.  But it does not name the context
 * there, or the context would never be destroyed: it is where the keeper's
 * descriptor lies, and this library knows what is meant.  Only when contexts
 * are made that could use the number, or the program asks for it, the context
 * does name itself.
 *
 * A trapped context's calls come to the program only once the context is in
 * capability mode; before, this library makes them for it.
 *
 * What this library knows of the current context (self) may lie in memory
 * that contexts share, if the program shares all of it.  Therefore each call
 * in which a context waits keeps it on the stack and puts it back.
 */

#include <sys/param.h>
#include <sys/capsicum.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../sys/lwc_osdi16.h"
#include "lwc_osdi16_var.h"

#undef lwccreate

/*
 * Descriptors that a program need not see lie beyond those it uses: in a
 * table of the context's own from HIDDEN on; in a shared one the keeper of
 * the context that others know as n is KEEPERS + n, so that lwcclose() can
 * find it.
 */
#define	HIDDEN		512
#define	KEEPERS		4096

static struct self {
	int	handle;		/* how its creator knows it; -1: not so */
	int	keeper;		/* descriptor of K, or -1 */
	bool	again;		/* can be entered again after a discard */
	bool	copy;		/* one that K made, not saved yet */
	bool	shared;		/* the descriptor table is its creator's */
	bool	named;		/* handle names it, in a table of its own */
	bool	monitor;	/* made a context that traps to it */
} self = { -1, -1, false, false, false, false, false };

/* Who entered, with what. */
struct visit {
	int		from;
	int		n;
	uint64_t	words[LWC_MAX_ARGS];
};

static bool
is_current(int fd)
{
	struct lwc_info li;

	return (lwInfo(fd, &li) == 0 && li.li_state == LWC_STATE_CURRENT);
}

/* Hand a visit to the program, as the kernel would have. */
static void
deliver(const struct visit *v, int *src, void *args, int *num, int room)
{
	int n;

	n = MAX(MIN(v->n, room), 0);
	if (src != NULL)
		*src = v->from;
	if (n > 0)
		memcpy(args, v->words, n * sizeof(v->words[0]));
	if (num != NULL)
		*num = n;
}

static int
room_of(const void *args, const int *num)
{

	return (args == NULL || num == NULL ? 0 : *num);
}

/* Is this how the program names the current context? */
static bool
is_self(int to)
{

	return (self.again && (to == LWC_TARGET_SELF || to == self.handle));
}

/* Let the number be its name, also in a table of its own. */
static int
name_self(void)
{
	int fd, keeper;

	if (!self.again || self.shared || self.named || self.handle < 0)
		return (0);
	keeper = self.keeper;
	if (keeper == self.handle &&
	    (keeper = fcntl(keeper, F_DUPFD_CLOEXEC, HIDDEN)) < 0)
		return (-1);
	fd = lwGetlwc();
	if (fd < 0 || dup3(fd, self.handle, O_CLOEXEC) < 0)
		return (-1);
	close(fd);
	self.keeper = keeper;
	self.named = true;
	return (0);
}

static const struct lwc_spec whole_table = {
	.flags = LWC_FILES | LWC_SHARE,
	.sub.descriptors = { -1, -1 }
};

/* The keeper may take from C the descriptor of who entered it. */
static const struct lwc_spec visitors = {
	.flags = LWC_FILES | LWC_MAY_OVERLAY,
	.sub.descriptors = { -1, -1 }
};

/* Put a new keeper, if there is one, in place of an old one. */
static void
store_keeper(int fd)
{

	if (self.keeper >= 0)
		close(self.keeper);
	self.keeper = -1;
	if (fd < 0)
		return;
	if (self.shared)
		self.keeper = dup3(fd, KEEPERS + self.handle, O_CLOEXEC);
	else if (self.handle < 0 || self.named)
		self.keeper = fcntl(fd, F_DUPFD_CLOEXEC, HIDDEN);
	else if (fd != self.handle)
		self.keeper = dup3(fd, self.handle, O_CLOEXEC);
	else {
		self.keeper = fd;
		return;
	}
	close(fd);
}

/*
 * Save the current context, which was just entered.  Returns in it; and again
 * in a copy whenever it is entered after a discard, with that visit in v.  If
 * nothing can be saved, the context ends when it discards.
 */
static void
keep(struct visit *v)
{
	struct lwc_spec s;
	struct self mine;
	uint64_t number;
	int by, copy, n, one;

	/* It would be in the new keeper's table. */
	if (!self.shared && self.keeper >= 0) {
		close(self.keeper);
		self.keeper = -1;
	}
	mine = self;
	n = LWC_MAX_ARGS;
	copy = lwCreate(mine.shared ? &whole_table : &visitors, 1, &by,
	    v->words, &n, 0);
	if (copy != LWC_SWITCHED) {
		store_keeper(copy);
		return;
	}
	/* The keeper, entered by C. */
	for (;;) {
		v->n = n - 1;
		v->from = (int)v->words[n - 1];
		if (!mine.shared && v->from >= HIDDEN) {
			memset(&s, 0, sizeof(s));
			s.flags = LWC_FILES | LWC_COPY;
			s.sub.descriptors.from = s.sub.descriptors.to =
			    v->from;
			if (lwOverlay(by, &s, 1) != 0)
				lwc_osdi16_die("who entered a saved context");
		}
		if (!mine.shared && !mine.named)
			close(by);
		one = 1;
		copy = lwCreate(&whole_table, mine.shared, &by, &number, &one,
		    0);
		if (copy == LWC_SWITCHED)
			break;
		if (copy < 0)
			lwc_osdi16_die("copy of a saved context");
		if (!mine.shared && v->from >= HIDDEN)
			close(v->from);
		number = copy;
		n = LWC_MAX_ARGS;
		if (lwSwitch(copy, &number, 1, &by, v->words, &n) ==
		    LWC_FAILED)
			lwc_osdi16_die("switch to a saved context");
		if (!mine.shared)
			close(copy);
	}
	/* The copy: to it the keeper's descriptor is what it was to C. */
	self = mine;
	self.keeper = -1;
	self.copy = true;
	if (mine.shared) {
		close((int)number);
	} else {
		self.named = false;
		store_keeper(by);
	}
}

/* A copy that is saved is the context from then on. */
static int
take_over(void)
{
	int me;

	if (self.shared) {
		me = lwGetlwc();
		if (me < 0)
			return (-1);
		(void)dup3(me, self.handle, O_CLOEXEC);
		close(me);
	} else {
		/* The old keeper would name us, and we it. */
		store_keeper(-1);
	}
	self.copy = false;
	return (0);
}

int
lwccreate(struct lwc_resource_specifier *resources, int numr, int *src,
    void *src_args, int *num_args, int flags)
{
	struct lwc_spec *specs;
	struct self mine;
	struct visit v;
	int fd, i, r, room, tries;

	mine = (struct self){ -1, -1, false, false, false, false, false };
	mine.again = (flags & (LWC_SUSPEND_ONLY | LWC_TRAP_SYSCALL)) == 0;
	flags &= ~LWC_SUSPEND_ONLY;
	room = room_of(src_args, num_args);
	if (numr < 0 || numr > LWC_MAX_SPECS || room < 0) {
		errno = numr > LWC_MAX_SPECS ? E2BIG : EINVAL;
		return (LWC_FAILED);
	}
	specs = alloca((2 * numr + 3) * sizeof(*specs));
	numr = lwc_osdi16_shape(resources, numr, specs);
	for (i = 0; i < numr; i++) {
		if ((specs[i].flags & (LWC_FILES | LWC_SHARE)) ==
		    (LWC_FILES | LWC_SHARE) &&
		    specs[i].sub.descriptors.from == -1)
			mine.shared = true;
	}
	if (name_self() != 0)
		return (LWC_FAILED);
	if (self.named || (self.handle >= 0 && is_current(self.handle)))
		numr = lwc_osdi16_lend(specs, numr);
	for (tries = 0;; tries++) {
		mine.handle = lwGetlwc();
		if (mine.handle < 0)
			return (LWC_FAILED);
		close(mine.handle);
		v.n = LWC_MAX_ARGS;
		r = fd = lwCreate(specs, numr, &v.from, v.words, &v.n, flags);
		if (fd < 0 || fd == mine.handle)
			break;
		/* A signal handler has opened something in between. */
		close(fd);
		if (tries == 8) {
			errno = EAGAIN;
			return (LWC_FAILED);
		}
	}
	if (fd >= 0 || fd == LWC_FAILED) {
		if (fd >= 0 && (flags & LWC_TRAP_SYSCALL) != 0)
			self.monitor = true;
		return (fd);
	}
	/* The new context. */
	self = mine;
	for (i = 0; i < numr; i++)
		if ((specs[i].flags & LWC_FILES) != 0 &&
		    (specs[i].flags & LWC_UNMAP) != 0 &&
		    specs[i].sub.descriptors.from <= mine.handle &&
		    (specs[i].sub.descriptors.to >= mine.handle ||
		    specs[i].sub.descriptors.to == -1))
			self.handle = -1;
	if (mine.again) {
		/* The kernel may have put the visitor there. */
		if (v.from == self.handle && !mine.shared) {
			v.from = fcntl(v.from, F_DUPFD_CLOEXEC, 0);
			close(self.handle);
		}
		keep(&v);
	}
	deliver(&v, src, src_args, num_args, room);
	return (r);
}

/*
 * A context that traps to us and is not in capability mode has nothing to
 * ask for: make its calls, as if they had not trapped.
 */
static int
serve(struct visit *v, int r)
{
	uint64_t args[LWC_CALL_NARGS] = { 0 }, reply[2];
	u_int mode;

	while (r == LWC_TRAPPED && v->from >= 0) {
		mode = 1;
		args[0] = (uintptr_t)&mode;
		if (lwSyscall(v->from, LWC_CREDENTIALS, SYS_cap_getmode,
		    args) != 0 || mode != 0)
			break;
		if (v->words[LWC_CALL_NUMBER] == SYS_exit)
			_exit((int)v->words[LWC_CALL_ARGS]);
		errno = 0;
		reply[LWC_REPLY_VALUE] = lwSyscall(v->from, LWC_TYPES,
		    (int)v->words[LWC_CALL_NUMBER], &v->words[LWC_CALL_ARGS]);
		reply[LWC_REPLY_ERRNO] = errno;
		v->n = LWC_MAX_ARGS;
		r = lwSwitch(v->from, reply, 2, &v->from, v->words, &v->n);
	}
	return (r);
}

/* The visit that a switch of the current context to itself is. */
static int
visit_self(struct visit *v, const int64_t *args, int n)
{

	if (n < 0) {
		errno = EINVAL;
		return (-1);
	}
	if (n > 0 && args == NULL) {
		errno = EFAULT;
		return (-1);
	}
	v->from = self.handle;
	v->n = n;
	if (n > 0)
		memcpy(v->words, args, n * sizeof(v->words[0]));
	return (0);
}

/* Of a context that is saved, or that others trap to. */
static int __noinline
suspend(int to, int64_t *to_args, int num_toargs, int *src, int64_t *src_args,
    int *num_args)
{
	struct self mine;
	struct visit v;
	int r, room;

	if (self.copy && take_over() != 0)
		return (LWC_FAILED);
	mine = self;
	room = room_of(src_args, num_args);
	v.n = LWC_MAX_ARGS;
	if (is_self(to))
		r = visit_self(&v, to_args, num_toargs) == 0 ? LWC_SWITCHED :
		    LWC_FAILED;
	else
		r = lwSwitch(to, (uint64_t *)to_args, num_toargs, &v.from,
		    v.words, &v.n);
	if (r == LWC_FAILED)
		return (r);
	self = mine;
	if (mine.monitor)
		r = serve(&v, r);
	if (mine.again) {
		keep(&v);
		if (self.copy)
			r = LWC_SWITCHED;
	}
	deliver(&v, src, src_args, num_args, room);
	return (r);
}

int
lwcsuspendswitch(int to, int64_t *to_args, int num_toargs, int *src,
    int64_t *src_args, int *num_args)
{
	struct self mine;
	int r;

	if (num_toargs > LWC_OSDI16_MAX_ARGS) {
		errno = EINVAL;
		return (LWC_FAILED);
	}
	if (self.again || self.monitor)
		return (suspend(to, to_args, num_toargs, src, src_args,
		    num_args));
	mine = self;
	r = lwSwitch(to, (uint64_t *)to_args, num_toargs, src,
	    (uint64_t *)(num_args == NULL ? NULL : src_args), num_args);
	if (r != LWC_FAILED)
		self = mine;
	return (r);
}

int
lwcswitch(int to, int64_t *to_args, int num_toargs, int *src,
    int64_t *src_args, int *num_args)
{

	return (lwcsuspendswitch(to, to_args, num_toargs, src, src_args,
	    num_args));
}

int
lwcdiscardswitch(int to, int64_t *to_args, int num_toargs)
{
	struct lwc_info li;
	struct self mine;
	struct visit v;
	int from, n;

	if (num_toargs > LWC_OSDI16_MAX_ARGS) {
		errno = EINVAL;
		return (LWC_FAILED);
	}
	/* Somebody may have closed it without lwcclose(). */
	if (self.keeper >= 0 && lwInfo(self.keeper, &li) != 0)
		self.keeper = -1;
	mine = self;
	if (!is_self(to)) {
		if (mine.copy || mine.keeper < 0)
			return (lwDiscardSwitch(to, (uint64_t *)to_args,
			    num_toargs));
		v.n = LWC_MAX_ARGS;
		if (lwSwitch(to, (uint64_t *)to_args, num_toargs, &v.from,
		    v.words, &v.n) == LWC_FAILED)
			return (LWC_FAILED);
	} else {
		if (visit_self(&v, to_args, num_toargs) != 0)
			return (LWC_FAILED);
		if (mine.copy && mine.shared)
			return (lwDiscardSwitch(mine.handle,
			    (uint64_t *)to_args, num_toargs));
		if (mine.copy) {
			v.words[v.n] = v.from;
			return (lwDiscardSwitch(mine.keeper, v.words,
			    v.n + 1));
		}
		if (mine.keeper < 0) {
			errno = ESRCH;
			return (LWC_FAILED);
		}
	}
	/* What was is gone; whoever enters is for the keeper. */
	for (;;) {
		from = v.from;
		if (!mine.shared && from >= 0 && from != mine.handle) {
			from = fcntl(v.from, F_DUPFD_CLOEXEC, HIDDEN);
			if (from < 0)
				lwc_osdi16_die("who entered a context that discarded");
			close(v.from);
		}
		n = MIN(v.n, LWC_OSDI16_MAX_ARGS);
		v.words[n] = from;
		v.n = LWC_MAX_ARGS;
		if (lwSwitch(mine.keeper, v.words, n + 1, &v.from, v.words,
		    &v.n) == LWC_FAILED)
			lwc_osdi16_die("what a context was before it discarded");
		if (!mine.shared && from >= HIDDEN && from != v.from)
			close(from);
	}
}

int
lwcclose(int lwc)
{
	struct lwc_info keeper, li;

	if (lwInfo(lwc, &li) != 0)
		return (-1);
	if (lwc == self.handle)
		self.handle = -1;
	if (lwc == self.keeper)
		self.keeper = -1;
	/* In a shared table: K is known by who made it. */
	if (lwInfo(KEEPERS + lwc, &keeper) == 0 &&
	    keeper.li_creator == li.li_id)
		close(KEEPERS + lwc);
	return (close(lwc));
}

int
lwcgetlwc(void)
{
	struct lwc_info li;
	int fd;

	if (name_self() != 0)
		return (-1);
	if (self.handle >= 0 && lwInfo(self.handle, &li) == 0 &&
	    (self.copy || li.li_state == LWC_STATE_CURRENT))
		return (self.handle);
	fd = lwGetlwc();
	/* In a table of its own it may have the number that its creator has. */
	if (fd >= 0 && fd < self.handle &&
	    fcntl(self.handle, F_GETFD) == -1 &&
	    dup3(fd, self.handle, O_CLOEXEC) == self.handle) {
		close(fd);
		fd = self.handle;
	}
	self.handle = fd;
	return (fd);
}
