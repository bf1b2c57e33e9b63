/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The published library's calls that take resources or rights or wrap others,
 * and its specifiers.
 *
 * Ranges of memory are rounded to pages, and those around the stack leave it
 * out, since two contexts cannot run on one.
 */

#include <sys/param.h>
#include <sys/auxv.h>
#include <sys/sysctl.h>
#include <sys/user.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../sys/lwc_osdi16.h"
#include "lwc_osdi16_var.h"

#undef Lwccreate

void
lwc_osdi16_die(const char *what)
{

	fprintf(stderr, "lwc_osdi16: %s: %s\n", what, strerror(errno));
	abort();
}

/* The addresses that a program can have. */
static void
clip(uint64_t *start, uint64_t *end)
{
	struct kinfo_vm_layout vl;
	size_t size;
	int mib[4] = { CTL_KERN, KERN_PROC, KERN_PROC_VM_LAYOUT, getpid() };

	size = sizeof(vl);
	if (sysctl(mib, nitems(mib), &vl, &size, NULL, 0) != 0)
		return;
	*start = MAX(*start, vl.kvm_min_user_addr);
	*end = MIN(*end, vl.kvm_max_user_addr);
}

/*
 * The specifiers as the kernel side wants them: memory in whole pages of those
 * that a program can have, and without the stack where that lies in a range;
 * which makes two of it.  Returns their number; out has room for twice n.
 */
int
lwc_osdi16_shape(const struct lwc_spec *in, int n, struct lwc_spec *out)
{
	uint64_t high, low, *start, *end;
	u_long lim;
	void *base;
	int i, m;

	if (elf_aux_info(AT_USRSTACKBASE, &base, sizeof(base)) != 0 ||
	    elf_aux_info(AT_USRSTACKLIM, &lim, sizeof(lim)) != 0)
		lim = 0;
	high = lim == 0 ? 0 : round_page((uintptr_t)base);
	low = lim == 0 ? 0 : trunc_page((uintptr_t)base - lim);
	for (i = m = 0; i < n; i++) {
		out[m++] = in[i];
		if ((in[i].flags & LWC_TYPES) != LWC_MEMORY)
			continue;
		start = &out[m - 1].sub.memory.start;
		end = &out[m - 1].sub.memory.end;
		if (*start < PAGE_SIZE || *end > trunc_page(*end))
			clip(start, end);
		*start = trunc_page(*start);
		*end = *end > UINT64_MAX - PAGE_MASK ? trunc_page(*end) :
		    round_page(*end);
		if (*start >= low || *end < high || low == 0)
			continue;
		if (*end > high) {
			out[m] = out[m - 1];
			out[m++].sub.memory.start = high;
		}
		*end = low;
	}
	return (m);
}

/*
 * In the published library a context takes from its creator through a copy of
 * the creator's own name, if that has one.  Here such a copy gives no more
 * than the creator lends (contract 2.5): so it lends everything then.
 */
int
lwc_osdi16_lend(struct lwc_spec *out, int n)
{

	memset(&out[n], 0, 3 * sizeof(*out));
	out[n].flags = LWC_MEMORY | LWC_MAY_OVERLAY;
	out[n].sub.memory.end = UINT64_MAX;
	clip(&out[n].sub.memory.start, &out[n].sub.memory.end);
	out[n + 1].flags = LWC_FILES | LWC_MAY_OVERLAY;
	out[n + 1].sub.descriptors.from = -1;
	out[n + 1].sub.descriptors.to = -1;
	out[n + 2].flags = LWC_CREDENTIALS | LWC_MAY_OVERLAY;
	return (n + 3);
}

int
lwcoverlay(int from, struct lwc_resource_specifier *resources, int numr)
{
	struct lwc_spec *specs;

	if (numr < 0 || numr > LWC_MAX_SPECS) {
		errno = numr > LWC_MAX_SPECS ? E2BIG : EINVAL;
		return (LWC_FAILED);
	}
	specs = alloca((2 * numr + 1) * sizeof(*specs));
	numr = lwc_osdi16_shape(resources, numr, specs);
	return (lwOverlay(from, specs, numr));
}

int
lwcrestrict(int lwc, struct lwc_resource_specifier *resources, int numr)
{

	return (lwRestrict(lwc, resources, numr));
}

int
lwcsyscall(int lwc, unsigned int mask, int number, int64_t *args)
{

	return ((int)lwSyscall(lwc, (int)mask, number, (uint64_t *)args));
}

static int
insist(const char *call, int r)
{

	if (r == LWC_FAILED)
		lwc_osdi16_die(call);
	return (r);
}

int
Lwccreate(struct lwc_resource_specifier *resources, int numr, int *src,
    int64_t *src_args, int *num_args, int flags)
{

	return (insist("lwccreate", (lwccreate)(resources, numr, src,
	    src_args, num_args, flags)));
}

int
Lwcsuspendswitch(int to, int64_t *to_args, int num_toargs, int *src,
    int64_t *src_args, int *num_args)
{

	return (insist("lwcsuspendswitch", lwcsuspendswitch(to, to_args,
	    num_toargs, src, src_args, num_args)));
}

int
Lwcswitch(int to, int64_t *to_args, int num_toargs, int *src,
    int64_t *src_args, int *num_args)
{

	return (insist("lwcswitch", lwcswitch(to, to_args, num_toargs, src,
	    src_args, num_args)));
}

int
Lwcdiscardswitch(int to, int64_t *to_args, int num_toargs)
{

	return (insist("lwcdiscardswitch", lwcdiscardswitch(to, to_args,
	    num_toargs)));
}

int
Lwoverlay(int from, struct lwc_resource_specifier *resources, int numr)
{

	return (insist("lwcoverlay", lwcoverlay(from, resources, numr)));
}
