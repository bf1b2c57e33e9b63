/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The module: system calls, sysctls, coming and going.
 *
 * A stock kernel keeps ten numbers for modules (210-219); each of our
 * calls (LWC_CALLS) takes the next free one, as a module of its own,
 * "sys/lwCreate" and so on, which is how programs find the numbers (modfind(2),
 * modstat(2)).  All may be called in capability mode: they reach only what a
 * descriptor names.
 *
 * Going: while a process lives that has called one of them the module "lwc"
 * refuses with EBUSY, before any of the calls is taken away.  When it has
 * agreed, no process gets a record any more: who is in one of the calls at that
 * moment, which the kernel waits for, gets EBUSY.  Zones and hooks go last,
 * after the calls have drained (SYSUNINIT).
 */

#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_trap.h"

#include <sys/file.h>
#include <sys/module.h>
#include <sys/syscall.h>
#include <sys/sysproto.h>

MALLOC_DEFINE(M_LWC, "lwc", "light-weight contexts: processes, users");
MALLOC_DEFINE(M_LWCRIGHTS, "lwcrights",
    "light-weight contexts: rights, specifiers");
MALLOC_DEFINE(M_LWCSTAGE, "lwcstage", "light-weight contexts: calls under way");
SDT_PROVIDER_DEFINE(lwc);

/* Those that are 0 are set by lwc_scale(), if nobody has. */
int lwc_max_per_proc;
int lwc_max_contexts;
int lwc_max_specs = LWC_MAX_SPECS;
int lwc_max_per_user;
int lwc_max_descriptors_per_user;
int lwc_max_ranges_per_user;
volatile u_int lwc_live, lwc_ndescs, lwc_nctxs, lwc_nprocs, lwc_nrights;
counter_u64_t lwc_ncreate, lwc_nswitch, lwc_nfault, lwc_ntrap;

SYSCTL_NODE(_kern, OID_AUTO, lwc, CTLFLAG_RW | CTLFLAG_MPSAFE, NULL,
    "Light-weight contexts");
SYSCTL_INT(_kern_lwc, OID_AUTO, max_per_proc, CTLFLAG_RWTUN,
    &lwc_max_per_proc, 0, "Contexts a process may have");
SYSCTL_INT(_kern_lwc, OID_AUTO, max_contexts, CTLFLAG_RWTUN,
    &lwc_max_contexts, 0, "Contexts the system may have");
SYSCTL_INT(_kern_lwc, OID_AUTO, max_per_user, CTLFLAG_RWTUN,
    &lwc_max_per_user, 0, "Contexts a user may have");
SYSCTL_INT(_kern_lwc, OID_AUTO, max_descriptors_per_user, CTLFLAG_RWTUN,
    &lwc_max_descriptors_per_user, 0,
    "Descriptors that name contexts, of a user");
SYSCTL_INT(_kern_lwc, OID_AUTO, max_ranges_per_user, CTLFLAG_RWTUN,
    &lwc_max_ranges_per_user, 0, "Ranges in rights over contexts, of a user");
SYSCTL_INT(_kern_lwc, OID_AUTO, max_specs, CTLFLAG_RWTUN,
    &lwc_max_specs, 0, "Resource specifiers in a call");
SYSCTL_UINT(_kern_lwc, OID_AUTO, contexts, CTLFLAG_RD,
    __DEVOLATILE(u_int *, &lwc_live), 0, "Live contexts, roots excepted");
SYSCTL_UINT(_kern_lwc, OID_AUTO, descriptors, CTLFLAG_RD,
    __DEVOLATILE(u_int *, &lwc_ndescs), 0, "Open files that name contexts");
SYSCTL_UINT(_kern_lwc, OID_AUTO, objects, CTLFLAG_RD,
    __DEVOLATILE(u_int *, &lwc_nctxs), 0,
    "Context objects, roots and the dead included");
SYSCTL_UINT(_kern_lwc, OID_AUTO, processes, CTLFLAG_RD,
    __DEVOLATILE(u_int *, &lwc_nprocs), 0, "Process records");
SYSCTL_UINT(_kern_lwc, OID_AUTO, rights, CTLFLAG_RD,
    __DEVOLATILE(u_int *, &lwc_nrights), 0, "Rights objects");
SYSCTL_COUNTER_U64(_kern_lwc, OID_AUTO, creations, CTLFLAG_RD,
    &lwc_ncreate, "Contexts ever created");
SYSCTL_COUNTER_U64(_kern_lwc, OID_AUTO, switches, CTLFLAG_RD,
    &lwc_nswitch, "Switches ever made");
SYSCTL_COUNTER_U64(_kern_lwc, OID_AUTO, faults, CTLFLAG_RD,
    &lwc_nfault, "Contexts ended by a trap");
SYSCTL_COUNTER_U64(_kern_lwc, OID_AUTO, traps, CTLFLAG_RD,
    &lwc_ntrap, "System calls trapped");

static bool lwc_up;

/*
 * Limits of what costs kernel memory follow the size of that, as kern.maxproc
 * and kern.maxfiles do.  All contexts together take about a third of memory, if
 * they are small (LWC_PAGES), those of a user half of that.  A range is 16 bytes:
 * those of a user 1/256 of memory.
 */
static void
lwc_scale(void)
{

	if (lwc_max_contexts <= 0)
		lwc_max_contexts = MAX(MIN(physmem /
		    (3 * LWC_PAGES), 65536), 256);
	if (lwc_max_per_user <= 0)
		lwc_max_per_user = MAX(lwc_max_contexts / 2, 64);
	if (lwc_max_per_proc <= 0)
		lwc_max_per_proc = MIN(lwc_max_per_user, 4096);
	if (lwc_max_descriptors_per_user <= 0)
		lwc_max_descriptors_per_user = MAX(maxfiles / 4, 64);
	if (lwc_max_ranges_per_user <= 0)
		lwc_max_ranges_per_user = MAX(MIN(physmem, 1 << 18), 1 << 14);
}

static void
lwc_init(void *arg __unused)
{

	lwc_ncreate = counter_u64_alloc(M_WAITOK);
	lwc_nswitch = counter_u64_alloc(M_WAITOK);
	lwc_nfault = counter_u64_alloc(M_WAITOK);
	lwc_ntrap = counter_u64_alloc(M_WAITOK);
	lwc_scale();
	lwc_user_init();
	lwc_context_init();
	lwc_desc_init();
	lwc_rights_init();
	lwc_trap_init();
	lwc_process_init();
	lwc_up = true;
}
SYSINIT(lwc, SI_SUB_SYSCALLS, SI_ORDER_FIRST, lwc_init, NULL);

static void
lwc_fini(void *arg __unused)
{

	if (!lwc_up)
		return;
	lwc_process_fini();
	lwc_trap_fini();
	lwc_rights_fini();
	lwc_desc_fini();
	lwc_context_fini();
	lwc_user_fini();
	counter_u64_free(lwc_ncreate);
	counter_u64_free(lwc_nswitch);
	counter_u64_free(lwc_nfault);
	counter_u64_free(lwc_ntrap);
}
SYSUNINIT(lwc, SI_SUB_SYSCALLS, SI_ORDER_FIRST, lwc_fini, NULL);

static int
lwc_modevent(module_t mod __unused, int what, void *arg __unused)
{

	switch (what) {
	case MOD_LOAD:
		return (0);
	case MOD_QUIESCE:
		return (lwc_nprocs != 0 ? EBUSY : 0);
	case MOD_UNLOAD:
		return (lwc_process_close_gate() ? 0 : EBUSY);
	default:
		return (EOPNOTSUPP);
	}
}

static moduledata_t lwc_mod = {
	"lwc",
	lwc_modevent,
	NULL
};
/*
 * Loaded after the calls: modules of a file are unloaded in the reverse
 * order, so this one is asked first, and with kldunload -f too.
 */
DECLARE_MODULE(lwc, lwc_mod, SI_SUB_SYSCALLS, SI_ORDER_ANY);
MODULE_VERSION(lwc, LWC_ABI_VERSION);

#define	LWC_CALL(name, narg)						\
int name##_number = NO_SYSCALL;						\
static struct sysent name##_sysent = {					\
	.sy_narg = (narg),						\
	.sy_call = (sy_call_t *)sys_##name,				\
	.sy_auevent = AUE_NULL,						\
	.sy_flags = SYF_CAPENABLED,					\
};									\
SYSCALL_MODULE(name, &name##_number, &name##_sysent, NULL, NULL);

LWC_CALLS(LWC_CALL)
