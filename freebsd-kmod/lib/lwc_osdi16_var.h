/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* What the two files of the published library's calls share. */

#ifndef _LWC_OSDI16_VAR_H_
#define	_LWC_OSDI16_VAR_H_

/* Nobody is left to return an error to: a line to stderr, abort(3). */
void	lwc_osdi16_die(const char *what) __dead2;
/* Specifiers as our calls want them; out has room for twice n. */
int	lwc_osdi16_shape(const struct lwc_spec *in, int n,
	    struct lwc_spec *out);
/* Add three that lend a new context everything. */
int	lwc_osdi16_lend(struct lwc_spec *out, int n);

#endif /* !_LWC_OSDI16_VAR_H_ */
