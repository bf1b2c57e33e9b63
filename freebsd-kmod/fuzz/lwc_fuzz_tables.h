/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* The values that arguments choose among, see lwc_fuzz_tables.c. */

#ifndef _LWC_FUZZ_TABLES_H_
#define	_LWC_FUZZ_TABLES_H_

extern const struct table t_value, t_spec, t_repeat, t_list, t_create, t_count,
    t_until, t_mask, t_control, t_allow, t_below, t_number, t_prot, t_map,
    t_inherit, t_advice, t_lock, t_open, t_fcntl, t_rfork, t_who, t_signal, t_how,
    t_handler, t_mask_how, t_set, t_wait, t_altstack, t_fault, t_cred,
    t_procctl, t_ptrace, t_rlimit, t_limit, t_sysarch, t_aio, t_shm, t_exec,
    t_exit, t_event, t_look, t_point, t_lower, t_kick, t_raw, t_pass;

#endif /* !_LWC_FUZZ_TABLES_H_ */
