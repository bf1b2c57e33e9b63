/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What users have: contexts, and descriptors that name them.
 *
 * Contexts cost kernel memory, and each descriptor is an open file of the
 * system's (kern.maxfiles), of which a copy of a table that names n contexts
 * makes n more: neither RLIMIT_NPROC nor RLIMIT_NOFILE sees that.  Rights have
 * as many ranges as their holder wishes.  So all three are counted by real
 * user, against kern.lwc.max_per_user, max_descriptors_per_user,
 * max_ranges_per_user.  A context counts for whom its creator was at that time,
 * a descriptor for whom its process was at its first call.
 */

#include "lwc_context.h"

struct lwc_user {
	LIST_ENTRY(lwc_user) us_link;	/* (u) */
	uid_t		us_uid;		/* (c) */
	u_int		us_refs;	/* (u) */
	int		us_contexts;	/* (u) */
	int		us_descriptors;	/* (u) */
	int		us_ranges;	/* (u) */
};

#define	LWC_USER_HASH	64

static struct mtx lwc_user_mtx;
static LIST_HEAD(, lwc_user) lwc_users[LWC_USER_HASH];

/* A user, referenced. */
struct lwc_user *
lwc_user_get(uid_t uid)
{
	struct lwc_user *new, *us;

	new = malloc(sizeof(*new), M_LWC, M_WAITOK | M_ZERO);
	new->us_uid = uid;
	new->us_refs = 1;
	mtx_lock(&lwc_user_mtx);
	LIST_FOREACH(us, &lwc_users[uid % LWC_USER_HASH], us_link)
		if (us->us_uid == uid)
			break;
	if (us == NULL) {
		us = new;
		new = NULL;
		LIST_INSERT_HEAD(&lwc_users[uid % LWC_USER_HASH], us, us_link);
	} else {
		us->us_refs++;
	}
	mtx_unlock(&lwc_user_mtx);
	free(new, M_LWC);
	return (us);
}

struct lwc_user *
lwc_user_hold(struct lwc_user *us)
{

	mtx_lock(&lwc_user_mtx);
	us->us_refs++;
	mtx_unlock(&lwc_user_mtx);
	return (us);
}

void
lwc_user_rele(struct lwc_user *us)
{
	bool last;

	mtx_lock(&lwc_user_mtx);
	KASSERT(us->us_refs > 0, ("lwc: user %u is not referenced",
	    us->us_uid));
	last = --us->us_refs == 0;
	if (last) {
		KASSERT(us->us_contexts == 0 && us->us_descriptors == 0 &&
		    us->us_ranges == 0,
		    ("lwc: user %u leaves %d contexts, %d descriptors",
		    us->us_uid, us->us_contexts, us->us_descriptors));
		LIST_REMOVE(us, us_link);
	}
	mtx_unlock(&lwc_user_mtx);
	if (last)
		free(us, M_LWC);
}

/* Add to one of the counts, or take away; false, and nothing, if too much. */
static bool
lwc_user_add(int *count, int n, int limit)
{
	bool ok;

	mtx_lock(&lwc_user_mtx);
	ok = n <= 0 || (*count <= limit && n <= limit - *count);
	if (ok)
		*count += n;
	KASSERT(*count >= 0, ("lwc: a user has %d", *count));
	mtx_unlock(&lwc_user_mtx);
	return (ok);
}

/* No more of anything, if a fail point says so. */
static bool
lwc_user_full(int n)
{
	int error;

	error = 0;
	if (n > 0)
		LWC_FAIL(user, error);
	return (error != 0);
}

bool
lwc_user_contexts(struct lwc_user *us, int n)
{

	return (!lwc_user_full(n) && lwc_user_add(&us->us_contexts, n, lwc_max_per_user));
}

bool
lwc_user_descriptors(struct lwc_user *us, int n)
{

	return (!lwc_user_full(n) && lwc_user_add(&us->us_descriptors, n,
	    lwc_max_descriptors_per_user));
}

bool
lwc_user_ranges(struct lwc_user *us, int n)
{

	return (!lwc_user_full(n) && lwc_user_add(&us->us_ranges, n, lwc_max_ranges_per_user));
}

void
lwc_user_init(void)
{
	int i;

	mtx_init(&lwc_user_mtx, "lwc users", NULL, MTX_DEF);
	for (i = 0; i < LWC_USER_HASH; i++)
		LIST_INIT(&lwc_users[i]);
}

void
lwc_user_fini(void)
{
	int i;

	for (i = 0; i < LWC_USER_HASH; i++)
		KASSERT(LIST_EMPTY(&lwc_users[i]), ("lwc: a user is left"));
	mtx_destroy(&lwc_user_mtx);
}
