/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * lwc_program.h: what a program that is run as a function (`program' in the
 * chain file) may include.  None has to: stdin is the request, stdout the
 * answer.
 */

#ifndef LWC_PROGRAM_H
#define LWC_PROGRAM_H

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Calls another function, which the chain file grants by `calls', with a text:
 * its answer as a text, for free(); or NULL, and lwc_rpc_error() tells why.
 */
char *make_rpc(const char *function, const char *text);

/* What went wrong with the last make_rpc(); "" if nothing did. */
const char *lwc_rpc_error(void);

#ifdef __cplusplus
}
#endif

#endif
