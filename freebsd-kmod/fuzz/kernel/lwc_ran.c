/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * kern.lwc.ran: which places of the module ever ran, in whatever process,
 * callout or hook; unlike kcov(4), which sees one thread.  Only in a module made
 * with LWC_COVERAGE=yes.  The compiler calls the function below at each branch;
 * being here it is taken rather than the kernel's.
 *
 * A place is told by its distance from that function, in decimal; coverage.py
 * knows where in the module it lies.
 */

#include "lwc_var.h"

#include <sys/sbuf.h>

SYSCTL_DECL(_kern_lwc);

#define	LWC_SPAN	(512 * 1024)	/* more than the module's text */

static uint8_t lwc_ran[2 * LWC_SPAN];

void	__sanitizer_cov_trace_pc(void);

void __attribute__((no_sanitize("coverage")))
__sanitizer_cov_trace_pc(void)
{
	uintptr_t at;

	at = (uintptr_t)__builtin_return_address(0) -
	    (uintptr_t)__sanitizer_cov_trace_pc + LWC_SPAN;
	if (at < sizeof(lwc_ran))
		lwc_ran[at] = 1;
}

static int __attribute__((no_sanitize("coverage")))
lwc_ran_tell(SYSCTL_HANDLER_ARGS)
{
	struct sbuf sb;
	int error, i;

	error = sysctl_wire_old_buffer(req, 0);
	if (error != 0)
		return (error);
	sbuf_new_for_sysctl(&sb, NULL, 1024, req);
	for (i = 0; i < (int)sizeof(lwc_ran); i++)
		if (lwc_ran[i] != 0)
			sbuf_printf(&sb, "%d\n", i - LWC_SPAN);
	error = sbuf_finish(&sb);
	sbuf_delete(&sb);
	return (error);
}
SYSCTL_PROC(_kern_lwc, OID_AUTO, ran,
    CTLTYPE_STRING | CTLFLAG_RD | CTLFLAG_MPSAFE | CTLFLAG_SKIP, NULL, 0,
    lwc_ran_tell, "A", "Places of the module that ran");
