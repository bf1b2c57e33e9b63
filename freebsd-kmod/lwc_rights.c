/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Rights and specifiers.
 *
 * A descriptor holds rights over the context it names: ranges of memory,
 * ranges of descriptors, the credentials.  There is one operation on rights,
 * taking away; so whatever a holder does, it never has more than it got.  A
 * context has in addition the most that anybody may have over it (lc_self),
 * narrowed by lwRestrict(LWC_SELF).  What counts is the intersection, tested
 * where the right is used.
 *
 * Rights are immutable once published, hence readable through a counted
 * pointer without a lock.  Specifiers are copied in once, before any check:
 * a range that changes while we look at it is not seen to change.
 */

#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_rights.h"

#include <sys/capsicum.h>

#include <vm/vm_param.h>

SDT_PROBE_DEFINE2(lwc, , , restrict, "uint64_t", "int");

/* A hole made in n ranges gives n + 1: this bounds what a holder can cost. */
#define	LWC_MAX_RANGES	4096

static struct lwc_rights *lwc_none, *lwc_all;

/*
 * New rights with room for n ranges, which count for a user; NULL if that one
 * has too many.  The module's own two count for nobody.
 */
static struct lwc_rights *
lwc_rights_new(struct lwc_user *us, int n)
{
	struct lwc_rights *rg;

	if (us != NULL && !lwc_user_ranges(us, n))
		return (NULL);
	rg = malloc(sizeof(*rg) + n * sizeof(struct lwc_range), M_LWCRIGHTS,
	    M_WAITOK | M_ZERO);
	refcount_init(&rg->rg_refs, 1);
	if (us != NULL) {
		rg->rg_user = lwc_user_hold(us);
		rg->rg_room = n;
		atomic_add_int(&lwc_nrights, 1);
	}
	return (rg);
}

void
lwc_rights_init(void)
{

	lwc_none = lwc_rights_new(NULL, 0);
	lwc_all = lwc_rights_new(NULL, 2);
	lwc_all->rg_cred = true;
	lwc_all->rg_nmem = lwc_all->rg_nfiles = 1;
	lwc_all->rg_range[0].r_end = VM_MAXUSER_ADDRESS;
	lwc_all->rg_range[1].r_end = LWC_FILES_END;
}

void
lwc_rights_fini(void)
{

	lwc_rights_free(lwc_all);
	lwc_rights_free(lwc_none);
}

struct lwc_rights *
lwc_rights_hold(struct lwc_rights *rg)
{

	refcount_acquire(&rg->rg_refs);
	return (rg);
}

void
lwc_rights_free(struct lwc_rights *rg)
{

	if (rg == NULL || !refcount_release(&rg->rg_refs))
		return;
	if (rg->rg_user != NULL) {
		(void)lwc_user_ranges(rg->rg_user, -rg->rg_room);
		lwc_user_rele(rg->rg_user);
		atomic_subtract_int(&lwc_nrights, 1);
	}
	free(rg, M_LWCRIGHTS);
}

struct lwc_rights *
lwc_rights_all(void)
{

	return (lwc_rights_hold(lwc_all));
}

struct lwc_rights *
lwc_rights_none(void)
{

	return (lwc_rights_hold(lwc_none));
}

/* Is [s, e) within one of n disjoint, sorted ranges (adjacent ones merged)? */
static bool
lwc_ranges_hold(const struct lwc_range *r, int n, uint64_t s, uint64_t e)
{
	int lo, hi, mid;

	lo = 0;
	hi = n;
	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (r[mid].r_end <= s)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (lo < n && r[lo].r_start <= s && e <= r[lo].r_end);
}

bool
lwc_rights_mem(const struct lwc_rights *rg, uint64_t s, uint64_t e)
{

	return (lwc_ranges_hold(rg->rg_range, rg->rg_nmem, s, e));
}

bool
lwc_rights_files(const struct lwc_rights *rg, uint64_t s, uint64_t e)
{

	return (lwc_ranges_hold(rg->rg_range + rg->rg_nmem, rg->rg_nfiles,
	    s, e));
}

/* Is everything that one carries in the other, too? */
bool
lwc_rights_within(const struct lwc_rights *rg, const struct lwc_rights *all)
{
	const struct lwc_range *r;
	int i;

	r = rg->rg_range;
	for (i = 0; i < rg->rg_nmem; i++, r++)
		if (!lwc_rights_mem(all, r->r_start, r->r_end))
			return (false);
	for (i = 0; i < rg->rg_nfiles; i++, r++)
		if (!lwc_rights_files(all, r->r_start, r->r_end))
			return (false);
	return (!rg->rg_cred || all->rg_cred);
}

static bool
lwc_ranges_meet(const struct lwc_range *a, int na, const struct lwc_range *b,
    int nb)
{
	int i, j;

	for (i = j = 0; i < na && j < nb;) {
		if (a[i].r_end <= b[j].r_start)
			i++;
		else if (b[j].r_end <= a[i].r_start)
			j++;
		else
			return (true);
	}
	return (false);
}

/* The types of which anything is left in both. */
int
lwc_rights_types(const struct lwc_rights *a, const struct lwc_rights *b)
{
	int types;

	types = 0;
	if (a->rg_cred && b->rg_cred)
		types |= LWC_CREDENTIALS;
	if (lwc_ranges_meet(a->rg_range, a->rg_nmem, b->rg_range, b->rg_nmem))
		types |= LWC_MEMORY;
	if (lwc_ranges_meet(a->rg_range + a->rg_nmem, a->rg_nfiles,
	    b->rg_range + b->rg_nmem, b->rg_nfiles))
		types |= LWC_FILES;
	return (types);
}

/* out := r minus [s, e); out has room for n + 1.  Returns the new count. */
static int
lwc_ranges_cut(const struct lwc_range *r, int n, uint64_t s, uint64_t e,
    struct lwc_range *out)
{
	int i, m;

	for (i = m = 0; i < n; i++) {
		if (r[i].r_end <= s || r[i].r_start >= e) {
			out[m++] = r[i];
			continue;
		}
		if (r[i].r_start < s) {
			out[m].r_start = r[i].r_start;
			out[m++].r_end = s;
		}
		if (r[i].r_end > e) {
			out[m].r_start = e;
			out[m++].r_end = r[i].r_end;
		}
	}
	return (m);
}

static void
lwc_spec_range(const struct lwc_spec *s, struct lwc_range *r)
{

	if (lwc_spec_is(s, LWC_MEMORY)) {
		r->r_start = s->sub.memory.start;
		r->r_end = s->sub.memory.end;
	} else {
		r->r_start = lwc_files_start(s);
		r->r_end = lwc_files_end(s);
	}
}

/* old minus the specifiers, as new rights; an error leaves nothing. */
int
lwc_rights_narrow(struct lwc_user *us, const struct lwc_rights *old,
    const struct lwc_specs *sp, struct lwc_rights **newp)
{
	struct lwc_range *mem, *files, *tmp, *swap;
	struct lwc_range r;
	struct lwc_rights *rg;
	int cap, i, error, nmem, nfiles;
	bool cred;

	cap = MAX(old->rg_nmem, old->rg_nfiles) + sp->sp_n + 1;
	mem = mallocarray(cap, sizeof(*mem), M_LWCRIGHTS, M_WAITOK);
	files = mallocarray(cap, sizeof(*files), M_LWCRIGHTS, M_WAITOK);
	tmp = mallocarray(cap, sizeof(*tmp), M_LWCRIGHTS, M_WAITOK);
	nmem = old->rg_nmem;
	nfiles = old->rg_nfiles;
	cred = old->rg_cred;
	memcpy(mem, old->rg_range, nmem * sizeof(*mem));
	memcpy(files, old->rg_range + nmem, nfiles * sizeof(*files));
	for (i = 0; i < sp->sp_n; i++) {
		if (lwc_spec_is(&sp->sp_spec[i], LWC_CREDENTIALS)) {
			cred = false;
			continue;
		}
		lwc_spec_range(&sp->sp_spec[i], &r);
		if (lwc_spec_is(&sp->sp_spec[i], LWC_MEMORY)) {
			nmem = lwc_ranges_cut(mem, nmem, r.r_start, r.r_end,
			    tmp);
			swap = mem;
			mem = tmp;
		} else {
			nfiles = lwc_ranges_cut(files, nfiles, r.r_start,
			    r.r_end, tmp);
			swap = files;
			files = tmp;
		}
		tmp = swap;
	}
	error = 0;
	if (nmem > LWC_MAX_RANGES || nfiles > LWC_MAX_RANGES) {
		error = E2BIG;
	} else if ((rg = lwc_rights_new(us, nmem + nfiles)) == NULL) {
		error = EAGAIN;
	} else {
		rg->rg_cred = cred;
		rg->rg_nmem = nmem;
		rg->rg_nfiles = nfiles;
		memcpy(rg->rg_range, mem, nmem * sizeof(*mem));
		memcpy(rg->rg_range + nmem, files, nfiles * sizeof(*files));
		*newp = rg;
	}
	free(mem, M_LWCRIGHTS);
	free(files, M_LWCRIGHTS);
	free(tmp, M_LWCRIGHTS);
	return (error);
}

static int
lwc_range_cmp(const void *a, const void *b)
{
	const struct lwc_range *x, *y;

	x = a;
	y = b;
	return (x->r_start < y->r_start ? -1 : x->r_start > y->r_start);
}

/* Sort and merge in place; returns the new count. */
static int
lwc_ranges_normal(struct lwc_range *r, int n)
{
	int i, m;

	if (n == 0)
		return (0);
	qsort(r, n, sizeof(*r), lwc_range_cmp);
	for (i = 1, m = 0; i < n; i++) {
		if (r[i].r_start <= r[m].r_end)
			r[m].r_end = MAX(r[m].r_end, r[i].r_end);
		else
			r[++m] = r[i];
	}
	return (m + 1);
}

/* The rights that specifiers marked LWC_MAY_OVERLAY grant. */
int
lwc_rights_from(struct lwc_user *us, const struct lwc_specs *sp,
    struct lwc_rights **newp)
{
	struct lwc_range *files;
	struct lwc_rights *rg;
	const struct lwc_spec *s;
	int i, n, nfiles;

	for (i = n = 0; i < sp->sp_n; i++)
		if ((sp->sp_spec[i].flags & LWC_MAY_OVERLAY) != 0)
			n++;
	if (n == 0) {
		*newp = lwc_rights_none();
		return (0);
	}
	rg = lwc_rights_new(us, n);
	if (rg == NULL)
		return (EAGAIN);
	files = mallocarray(n, sizeof(*files), M_LWCRIGHTS, M_WAITOK);
	for (i = nfiles = 0; i < sp->sp_n; i++) {
		s = &sp->sp_spec[i];
		if ((s->flags & LWC_MAY_OVERLAY) == 0)
			continue;
		if (lwc_spec_is(s, LWC_CREDENTIALS))
			rg->rg_cred = true;
		else if (lwc_spec_is(s, LWC_MEMORY))
			lwc_spec_range(s, &rg->rg_range[rg->rg_nmem++]);
		else
			lwc_spec_range(s, &files[nfiles++]);
	}
	rg->rg_nmem = lwc_ranges_normal(rg->rg_range, rg->rg_nmem);
	nfiles = lwc_ranges_normal(files, nfiles);
	memcpy(rg->rg_range + rg->rg_nmem, files, nfiles * sizeof(*files));
	rg->rg_nfiles = nfiles;
	free(files, M_LWCRIGHTS);
	*newp = rg;
	return (0);
}

/*
 * One specifier by itself.  Without a map (lwRestrict) memory may be any range
 * of addresses: a right that nobody could have is easily taken.
 */
static int
lwc_spec_check(const struct lwc_spec *s, vm_map_t map)
{
	u_int type;

	type = s->flags & LWC_TYPES;
	if ((s->flags & ~(LWC_TYPES | LWC_OPTIONS)) != 0 ||
	    !powerof2(type) || type == 0)
		return (EINVAL);
	if ((s->flags & (LWC_SHARE | LWC_UNMAP)) == (LWC_SHARE | LWC_UNMAP))
		return (EINVAL);
	switch (type) {
	case LWC_MEMORY:
		if (((s->sub.memory.start | s->sub.memory.end) &
		    PAGE_MASK) != 0 ||
		    s->sub.memory.start >= s->sub.memory.end)
			return (EINVAL);
		if (map != NULL && (s->sub.memory.start < vm_map_min(map) ||
		    s->sub.memory.end > vm_map_max(map)))
			return (EINVAL);
		break;
	case LWC_FILES:
		if (s->sub.descriptors.from == -1 &&
		    s->sub.descriptors.to == -1)
			break;
		if (s->sub.descriptors.from < 0 ||
		    s->sub.descriptors.to < s->sub.descriptors.from)
			return (EINVAL);
		break;
	case LWC_CREDENTIALS:
		if ((s->flags & LWC_UNMAP) != 0)
			return (EINVAL);
		break;
	}
	return (0);
}

/* For sorting: ranges of one type with the option asked for them. */
struct lwc_wish {
	struct lwc_range w_range;
	u_int		w_option;
};

/* Do two specifiers of a type want different things of one place? */
static int
lwc_specs_overlap(const struct lwc_specs *sp, u_int type, bool create)
{
	struct lwc_wish *w;
	uint64_t end;
	u_int option;
	int error, i, n;

	w = mallocarray(sp->sp_n, sizeof(*w), M_LWCRIGHTS, M_WAITOK);
	for (i = n = 0; i < sp->sp_n; i++) {
		if (!lwc_spec_is(&sp->sp_spec[i], type))
			continue;
		option = sp->sp_spec[i].flags & LWC_OPTIONS;
		/* A right alone says nothing about the mapping. */
		if (create && option == LWC_MAY_OVERLAY)
			continue;
		w[n].w_option = option & ~LWC_MAY_OVERLAY;
		lwc_spec_range(&sp->sp_spec[i], &w[n++].w_range);
	}
	error = 0;
	if (n > 1) {
		qsort(w, n, sizeof(*w), lwc_range_cmp);
		end = w[0].w_range.r_end;
		option = w[0].w_option;
		for (i = 1; i < n && error == 0; i++) {
			if (w[i].w_range.r_start < end) {
				if (w[i].w_option != option || !create)
					error = EINVAL;
				end = MAX(end, w[i].w_range.r_end);
			} else {
				end = w[i].w_range.r_end;
				option = w[i].w_option;
			}
		}
	}
	free(w, M_LWCRIGHTS);
	return (error);
}

/*
 * Copy specifiers in and check everything that can be said of them without
 * looking at a context.  In an overlay (!create) no two may touch one place.
 * The map that memory must lie in, or NULL.
 */
int
lwc_specs_copyin(const struct lwc_spec *u, int n, vm_map_t map, bool create,
    struct lwc_specs *sp)
{
	int error, i;

	sp->sp_n = 0;
	sp->sp_spec = NULL;
	if (n < 0)
		return (EINVAL);
	if (n > LWC_MAX_SPECS || n > lwc_max_specs)
		return (E2BIG);
	if (n == 0)
		return (0);
	sp->sp_spec = mallocarray(n, sizeof(*u), M_LWCRIGHTS, M_WAITOK);
	sp->sp_n = n;
	error = copyin(u, sp->sp_spec, n * sizeof(*u));
	for (i = 0; i < n && error == 0; i++)
		error = lwc_spec_check(&sp->sp_spec[i], map);
	if (error == 0)
		error = lwc_specs_overlap(sp, LWC_MEMORY, create);
	if (error == 0)
		error = lwc_specs_overlap(sp, LWC_FILES, create);
	if (error != 0)
		lwc_specs_free(sp);
	return (error);
}

/*
 * Replace memory specifiers that say the same of ranges which overlap or adjoin
 * by one: what a call costs is bounded by what there is, not by how often it is
 * named.  Rights (MAY_OVERLAY) have been taken before.
 */
void
lwc_specs_merge(struct lwc_specs *sp)
{
	struct lwc_spec *s;
	struct lwc_wish *w;
	u_int option;
	int i, m, n;

	if (sp->sp_n < 2)
		return;
	w = mallocarray(sp->sp_n, sizeof(*w), M_LWCRIGHTS, M_WAITOK);
	for (i = m = n = 0; i < sp->sp_n; i++) {
		s = &sp->sp_spec[i];
		option = s->flags & (LWC_SHARE | LWC_UNMAP);
		if (!lwc_spec_is(s, LWC_MEMORY)) {
			sp->sp_spec[m++] = *s;
		} else if ((s->flags & LWC_OPTIONS) != LWC_MAY_OVERLAY) {
			w[n].w_option = option;
			lwc_spec_range(s, &w[n++].w_range);
		}
	}
	qsort(w, n, sizeof(*w), lwc_range_cmp);
	for (i = 0; i < n; i++) {
		s = m > 0 ? &sp->sp_spec[m - 1] : NULL;
		if (i > 0 && (s->flags & LWC_OPTIONS) == w[i].w_option &&
		    w[i].w_range.r_start <= s->sub.memory.end) {
			s->sub.memory.end = MAX(s->sub.memory.end,
			    w[i].w_range.r_end);
			continue;
		}
		s = &sp->sp_spec[m++];
		memset(s, 0, sizeof(*s));
		s->flags = LWC_MEMORY | w[i].w_option;
		s->sub.memory.start = w[i].w_range.r_start;
		s->sub.memory.end = w[i].w_range.r_end;
	}
	sp->sp_n = m;
	free(w, M_LWCRIGHTS);
}

void
lwc_specs_free(struct lwc_specs *sp)
{

	free(sp->sp_spec, M_LWCRIGHTS);
	sp->sp_spec = NULL;
	sp->sp_n = 0;
}

/*
 * 4.1: narrow a descriptor's rights, or (LWC_SELF) everybody's over us.  The
 * new rights are made without a lock from a snapshot of the old; if others
 * were put there meanwhile, begin again.
 */
int
sys_lwRestrict(struct thread *td, struct lwRestrict_args *uap)
{
	struct lwc_specs sp;
	struct lwc_ctx *lc;
	struct lwc_desc *ld;
	struct lwc_proc *lp;
	struct lwc_rights **slot, *new, *old;
	struct file *fp;
	int error;

	error = lwc_proc_get(td, &lp);
	if (error != 0)
		return (error);
	fp = NULL;
	if (uap->lwc == LWC_SELF) {
		lc = lp->lp_current;
		slot = &lc->lc_self;
	} else {
		error = fget(td, uap->lwc, &cap_no_rights, &fp);
		if (error != 0)
			return (error);
		if (fp->f_ops != &lwc_fileops) {
			fdrop(fp, td);
			return (EBADF);
		}
		ld = fp->f_data;
		lc = ld->ld_ctx;
		slot = &ld->ld_rights;
		if (lc->lc_lp != lp) {
			fdrop(fp, td);
			return (EPERM);
		}
	}
	error = lwc_specs_copyin(uap->specs, uap->nspecs, NULL, true, &sp);
	if (error == 0)
		SDT_PROBE2(lwc, , , restrict, lc->lc_id, sp.sp_n);
	while (error == 0 && sp.sp_n != 0) {
		mtx_lock(&lp->lp_mtx);
		if (lc->lc_state == LWC_STATE_DEAD) {
			mtx_unlock(&lp->lp_mtx);
			error = ESRCH;
			break;
		}
		old = lwc_rights_hold(*slot);
		mtx_unlock(&lp->lp_mtx);
		error = lwc_rights_narrow(lp->lp_user, old, &sp, &new);
		if (error != 0) {
			lwc_rights_free(old);
			break;
		}
		mtx_lock(&lp->lp_mtx);
		if (*slot == old) {
			*slot = new;
			mtx_unlock(&lp->lp_mtx);
			lwc_rights_free(old);	/* the snapshot's */
			lwc_rights_free(old);	/* the slot's */
			break;
		}
		mtx_unlock(&lp->lp_mtx);
		lwc_rights_free(old);
		lwc_rights_free(new);
	}
	lwc_specs_free(&sp);
	if (fp != NULL)
		fdrop(fp, td);
	return (error);
}
