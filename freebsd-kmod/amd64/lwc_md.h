/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* amd64: the user state of a suspended context. */

#ifndef _AMD64_LWC_MD_H_
#define	_AMD64_LWC_MD_H_

#include <sys/param.h>
#include <machine/frame.h>

struct savefpu;

struct lwc_md {
	struct trapframe md_frame;	/* general and segment registers */
	register_t	md_fsbase;	/* TLS base */
	register_t	md_gsbase;
	register_t	md_tlsbase;	/* signal handlers' TLS base ... */
	bool		md_hastls;	/* ... if one was set */
	struct savefpu	*md_fpu;	/* x87, SSE, AVX, ... (xsave area) */
};

#endif /* !_AMD64_LWC_MD_H_ */
