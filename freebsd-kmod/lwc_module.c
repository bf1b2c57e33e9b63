/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The module: system calls, sysctls, coming and going.
 *
 * A stock kernel keeps ten numbers for modules (210-219); each of our eight
 * calls takes the next free one, as a module of its own, "sys/lwCreate" and
 * so on, which is how programs find the numbers (modfind(2), modstat(2)).
 * All may be called in capability mode: they reach only what a descriptor
 * names.
 *
 * Going: while a context lives, or a descriptor that names one, the module
 * "lwc" refuses with EBUSY, before any of the calls is taken away.
 * Zones and hooks go last, after the calls have drained (SYSUNINIT).
 */

#include "lwc_var.h"

#include <sys/module.h>
#include <sys/syscall.h>
#include <sys/sysproto.h>

#include <bsm/audit_kevents.h>

MALLOC_DEFINE(M_LWC, "lwc", "light-weight contexts");
SDT_PROVIDER_DEFINE(lwc);

int lwc_max_per_proc = 4096;
int lwc_max_contexts = 65536;
int lwc_max_specs = LWC_MAX_SPECS;
volatile u_int lwc_live, lwc_ndescs, lwc_nctxs, lwc_nprocs, lwc_nrights;
volatile u_int lwc_nours;
volatile u_long lwc_ncreate, lwc_nswitch, lwc_nfault, lwc_ntrap;

static SYSCTL_NODE(_kern, OID_AUTO, lwc, CTLFLAG_RW | CTLFLAG_MPSAFE, NULL,
    "Light-weight contexts");
SYSCTL_INT(_kern_lwc, OID_AUTO, max_per_proc, CTLFLAG_RWTUN,
    &lwc_max_per_proc, 0, "Contexts a process may have");
SYSCTL_INT(_kern_lwc, OID_AUTO, max_contexts, CTLFLAG_RWTUN,
    &lwc_max_contexts, 0, "Contexts the system may have");
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
SYSCTL_ULONG(_kern_lwc, OID_AUTO, creations, CTLFLAG_RD,
    __DEVOLATILE(u_long *, &lwc_ncreate), 0, "Contexts ever created");
SYSCTL_ULONG(_kern_lwc, OID_AUTO, switches, CTLFLAG_RD,
    __DEVOLATILE(u_long *, &lwc_nswitch), 0, "Switches ever made");
SYSCTL_ULONG(_kern_lwc, OID_AUTO, faults, CTLFLAG_RD,
    __DEVOLATILE(u_long *, &lwc_nfault), 0, "Contexts ended by a trap");
SYSCTL_ULONG(_kern_lwc, OID_AUTO, traps, CTLFLAG_RD,
    __DEVOLATILE(u_long *, &lwc_ntrap), 0, "System calls trapped");

static bool lwc_up;

static void
lwc_init(void *arg __unused)
{

	lwc_context_init();
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
	lwc_context_fini();
}
SYSUNINIT(lwc, SI_SUB_SYSCALLS, SI_ORDER_FIRST, lwc_fini, NULL);

static int
lwc_modevent(module_t mod __unused, int what, void *arg __unused)
{

	switch (what) {
	case MOD_LOAD:
		return (0);
	case MOD_QUIESCE:
	case MOD_UNLOAD:
		return (lwc_live != 0 || lwc_ndescs != 0 ||
		    lwc_nours != 0 ? EBUSY : 0);
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
int name##_number = NO_SYSCALL;					\
static struct sysent name##_sysent = {					\
	.sy_narg = (narg),						\
	.sy_call = (sy_call_t *)sys_##name,				\
	.sy_auevent = AUE_NULL,						\
	.sy_flags = SYF_CAPENABLED,					\
};									\
SYSCALL_MODULE(name, &name##_number, &name##_sysent, NULL, NULL)

LWC_CALL(lwCreate, 6);
LWC_CALL(lwSwitch, 6);
LWC_CALL(lwDiscardSwitch, 3);
LWC_CALL(lwRestrict, 3);
LWC_CALL(lwOverlay, 3);
LWC_CALL(lwSyscall, 4);
LWC_CALL(lwGetlwc, 0);
LWC_CALL(lwInfo, 2);
LWC_CALL(lwControl, 3);

bool
lwc_is_ours(sy_call_t *call)
{

	return (call == (sy_call_t *)sys_lwCreate ||
	    call == (sy_call_t *)sys_lwSwitch ||
	    call == (sy_call_t *)sys_lwDiscardSwitch ||
	    call == (sy_call_t *)sys_lwRestrict ||
	    call == (sy_call_t *)sys_lwOverlay ||
	    call == (sy_call_t *)sys_lwSyscall ||
	    call == (sy_call_t *)sys_lwGetlwc ||
	    call == (sy_call_t *)sys_lwInfo ||
	    call == (sy_call_t *)sys_lwControl);
}
