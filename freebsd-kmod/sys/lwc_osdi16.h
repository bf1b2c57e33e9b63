/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The calls of the library published with the paper, on top of <sys/lwc.h>.
 *
 * Programs written for that library compile unchanged: make this header what
 * their "lwc.h" resolves to, or put it before everything with -include (the
 * "lwc.h" found here then is ours), and link all of lib/.
 * lwc_osdi16(3) says what maps to what and what differs.
 *
 * The library has two dialects.  The released one has lwcsuspendswitch() and
 * lwcdiscardswitch(); a context whose creation did not promise
 * LWC_SUSPEND_ONLY can be entered again after it discarded itself, and is
 * then what it was when it last left by lwcsuspendswitch(), or when it was
 * made.  The later one has lwcswitch() alone and makes no such copies: define
 * LWC_OSDI16_DEV for programs written for it.
 *
 * C11 and C++.
 */

#ifndef _SYS_LWC_OSDI16_H_
#define	_SYS_LWC_OSDI16_H_

/* The published header brings these along, and its programs rely on it. */
#include <sys/types.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "lwc.h"

/* The same structure under its published name. */
#define	lwc_resource_specifier	lwc_spec

#define	LWC_TARGET_SELF		LWC_SELF

/* No copy is kept of what it was: the context ends when it discards itself. */
#define	LWC_SUSPEND_ONLY	0x0008

#define	LWC_RESOURCE_MEMORY	LWC_MEMORY
#define	LWC_RESOURCE_FILES	LWC_FILES
#define	LWC_RESOURCE_CREDENT	LWC_CREDENTIALS
#define	LWC_RESOURCE_COPY	LWC_COPY
#define	LWC_RESOURCE_SHARE	LWC_SHARE
#define	LWC_RESOURCE_UNMAP	LWC_UNMAP
#define	LWC_RESOURCE_MAY_OVERLAY LWC_MAY_OVERLAY

#define	LWCR_MEMORY		LWC_MEMORY
#define	LWCR_FILES		LWC_FILES
#define	LWCR_CREDENT		LWC_CREDENTIALS
#define	LWCR_COPY		LWC_COPY
#define	LWCR_SHARE		LWC_SHARE
#define	LWCR_UNMAP		LWC_UNMAP
#define	LWCR_MAY_OVERLAY	LWC_MAY_OVERLAY

/*
 * A command of fcntl(2) in the authors' kernel ("trap my calls to that
 * context"), there number 19, which is another command now.  Under this number
 * fcntl(2) fails with EINVAL.
 */
#define	F_SETLWC		0x4c5743
#define	FLWC_TRAPTO		1

/* Words that a program can send: one fewer than the kernel's. */
#define	LWC_OSDI16_MAX_ARGS	(LWC_MAX_ARGS - 1)

#ifdef __cplusplus
extern "C" {
#endif

/* int64_t is FreeBSD's register_t. */
int	lwccreate(struct lwc_resource_specifier *resources, int numr,
	    int *src, void *src_args, int *num_args, int flags);
int	lwcsuspendswitch(int to, int64_t *to_args, int num_toargs, int *src,
	    int64_t *src_args, int *num_args);
int	lwcswitch(int to, int64_t *to_args, int num_toargs, int *src,
	    int64_t *src_args, int *num_args);
int	lwcdiscardswitch(int to, int64_t *to_args, int num_toargs);
int	lwcoverlay(int from, struct lwc_resource_specifier *resources,
	    int numr);
int	lwcrestrict(int lwc, struct lwc_resource_specifier *resources,
	    int numr);
int	lwcsyscall(int lwc, unsigned int mask, int number, int64_t *args);
int	lwcclose(int lwc);
int	lwcgetlwc(void);

/* The same, but they write a line to stderr and abort(3) on failure. */
int	Lwccreate(struct lwc_resource_specifier *resources, int numr,
	    int *src, int64_t *src_args, int *num_args, int flags);
int	Lwcsuspendswitch(int to, int64_t *to_args, int num_toargs, int *src,
	    int64_t *src_args, int *num_args);
int	Lwcswitch(int to, int64_t *to_args, int num_toargs, int *src,
	    int64_t *src_args, int *num_args);
int	Lwcdiscardswitch(int to, int64_t *to_args, int num_toargs);
int	Lwoverlay(int from, struct lwc_resource_specifier *resources,
	    int numr);

#ifdef __cplusplus
}
#endif

#ifdef LWC_OSDI16_DEV
#define	lwccreate(resources, numr, src, src_args, num_args, flags)	\
	lwccreate((resources), (numr), (src), (src_args), (num_args),	\
	    (flags) | LWC_SUSPEND_ONLY)
#define	Lwccreate(resources, numr, src, src_args, num_args, flags)	\
	Lwccreate((resources), (numr), (src), (src_args), (num_args),	\
	    (flags) | LWC_SUSPEND_ONLY)
#endif

#endif /* !_SYS_LWC_OSDI16_H_ */
