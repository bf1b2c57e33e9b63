/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Ranges, rights over a context, and tables of resource specifiers. */

#ifndef _LWC_RIGHTS_H_
#define	_LWC_RIGHTS_H_

#include "lwc_var.h"

struct lwc_user;
struct vm_map;

/* A half-open range: of addresses, or of descriptor numbers. */
struct lwc_range {
	uint64_t	r_start;
	uint64_t	r_end;
};
#define	LWC_FILES_END	((uint64_t)1 << 31)

/*
 * Rights over a context: immutable and counted, so they can be shared by
 * descriptors; narrowing makes another one.  Ranges are sorted and disjoint.
 */
struct lwc_rights {
	u_int		rg_refs;	/* (a) */
	struct lwc_user	*rg_user;	/* (c) counted; whose ranges they are */
	bool		rg_cred;	/* (c) */
	int		rg_room;	/* (c) ranges that it was made for */
	int		rg_nmem;	/* (c) */
	int		rg_nfiles;	/* (c) */
	struct lwc_range rg_range[];	/* (c) memory, then files */
};

/* A table of specifiers, copied in and checked. */
struct lwc_specs {
	int		sp_n;
	struct lwc_spec	*sp_spec;
};

static inline bool
lwc_spec_is(const struct lwc_spec *s, u_int type)
{

	return ((s->flags & LWC_TYPES) == type);
}

/* Of a files specifier: the half-open range. */
static inline uint64_t
lwc_files_start(const struct lwc_spec *s)
{

	return (s->sub.descriptors.from == -1 ? 0 : s->sub.descriptors.from);
}

static inline uint64_t
lwc_files_end(const struct lwc_spec *s)
{

	return (s->sub.descriptors.to == -1 ? LWC_FILES_END :
	    (uint64_t)s->sub.descriptors.to + 1);
}

static inline bool
lwc_files_whole(const struct lwc_spec *s)
{

	return (s->sub.descriptors.from == -1);
}

void	lwc_rights_init(void);
void	lwc_rights_fini(void);
struct lwc_rights *lwc_rights_all(void);
struct lwc_rights *lwc_rights_none(void);
struct lwc_rights *lwc_rights_hold(struct lwc_rights *rg);
void	lwc_rights_free(struct lwc_rights *rg);
bool	lwc_rights_mem(const struct lwc_rights *rg, uint64_t s, uint64_t e);
bool	lwc_rights_files(const struct lwc_rights *rg, uint64_t s, uint64_t e);
bool	lwc_rights_within(const struct lwc_rights *rg,
	    const struct lwc_rights *all);
int	lwc_rights_types(const struct lwc_rights *a,
	    const struct lwc_rights *b);
int	lwc_rights_from(struct lwc_user *us, const struct lwc_specs *sp,
	    struct lwc_rights **newp);
int	lwc_rights_narrow(struct lwc_user *us, const struct lwc_rights *old,
	    const struct lwc_specs *sp, struct lwc_rights **newp);
int	lwc_specs_copyin(const struct lwc_spec *u, int n, struct vm_map *map,
	    bool create, struct lwc_specs *sp);
void	lwc_specs_free(struct lwc_specs *sp);
void	lwc_specs_merge(struct lwc_specs *sp);

#endif /* !_LWC_RIGHTS_H_ */
