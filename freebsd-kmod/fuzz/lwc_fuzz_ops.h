/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What the files of operations have in common: descriptors and numbers that
 * operations remember, in private memory, so that each context has its own; how
 * the bytes of an operation are read; and the operations.
 */

#ifndef _LWC_FUZZ_OPS_H_
#define	_LWC_FUZZ_OPS_H_

#include <sys/param.h>
#include <sys/aio.h>
#include <sys/capsicum.h>
#include <sys/cpuset.h>
#include <sys/event.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/jail.h>
#include <sys/kcov.h>
#include <sys/ktrace.h>
#include <sys/mman.h>
#include <sys/module.h>
#include <sys/procctl.h>
#include <sys/procdesc.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysctl.h>
#include <sys/thr.h>
#include <sys/ucontext.h>
#include <sys/umtx.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <machine/reg.h>
#include <machine/sysarch.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../sys/lwc.h"
#include "lwc_fuzz.h"
#include "lwc_fuzz_tables.h"

#define	CALL(m, e)	do {						\
	errno = 0;							\
	(m)->ret = (int64_t)(e);					\
	(m)->error = errno;						\
} while (0)
#define	A(i)		(o->arg[i])

extern int kept[8], files[8], numbers[9];
extern jmp_buf jumps[MAXPEERS + 1];	/* lwc_fuzz_ops.c */
extern bool traced;

/* lwc_fuzz_args.c */
int	other_descriptor(uint8_t b);
int	desc(uint8_t b);
int	file(uint8_t b);
uint64_t	addr(uint8_t b);
uint64_t	size(uint8_t b);
void *ptr(uint8_t b, void *good);
void	keep(uint8_t b, int fd);
pid_t	who(struct me *m, uint8_t b);
int	harmless(struct me *m, int number, uint64_t *a);
int	number(struct me *m, uint8_t which, uint8_t more, uint8_t first,
	    uint64_t *a);

/* lwc_fuzz_calls.c */
void	do_spec(struct me *m, const struct op *o);
void	do_create(struct me *m, const struct op *o);
void	do_switch(struct me *m, const struct op *o);
void	do_discard(struct me *m, const struct op *o);
void	do_restrict(struct me *m, const struct op *o);
void	do_overlay(struct me *m, const struct op *o);
void	do_syscall(struct me *m, const struct op *o);
void	do_raw(struct me *m, const struct op *o);
void	do_getlwc(struct me *m, const struct op *o);
void	do_info(struct me *m, const struct op *o);
void	do_control(struct me *m, const struct op *o);
void	do_snapshot(struct me *m, const struct op *o);
void	do_rollback(struct me *m, const struct op *o);
void	do_allow(struct me *m, const struct op *o);
void	do_below(struct me *m, const struct op *o);
void	do_from(struct me *m, const struct op *o);

/* lwc_fuzz_files.c */
void	do_close(struct me *m, const struct op *o);
void	do_closefrom(struct me *m, const struct op *o);
void	do_dup(struct me *m, const struct op *o);
void	do_dup2(struct me *m, const struct op *o);
void	do_fcntl(struct me *m, const struct op *o);
void	do_open(struct me *m, const struct op *o);
void	do_write(struct me *m, const struct op *o);
void	do_pass(struct me *m, const struct op *o);
void	do_aio(struct me *m, const struct op *o);
void	do_event(struct me *m, const struct op *o);

/* lwc_fuzz_memory.c */
void	do_mmap(struct me *m, const struct op *o);
void	do_munmap(struct me *m, const struct op *o);
void	do_mprotect(struct me *m, const struct op *o);
void	do_minherit(struct me *m, const struct op *o);
void	do_madvise(struct me *m, const struct op *o);
void	do_mlock(struct me *m, const struct op *o);
void	do_touch(struct me *m, const struct op *o);
void	do_break(struct me *m, const struct op *o);
void	do_shm(struct me *m, const struct op *o);

/* lwc_fuzz_processes.c */
void	do_fork(struct me *m, const struct op *o);
void	do_rfork(struct me *m, const struct op *o);
void	do_vfork(struct me *m, const struct op *o);
void	do_thread(struct me *m, const struct op *o);
void	do_nothing(struct me *m, const struct op *o);
void	do_exec(struct me *m, const struct op *o);
void	do_exit(struct me *m, const struct op *o);
void	do_ptrace(struct me *m, const struct op *o);

/* lwc_fuzz_signals.c */
void	handle(int sig, int how);
void	do_sigaction(struct me *m, const struct op *o);
void	do_sigmask(struct me *m, const struct op *o);
void	do_signal(struct me *m, const struct op *o);
void	do_altstack(struct me *m, const struct op *o);
void	do_wait(struct me *m, const struct op *o);
void	do_fault(struct me *m, const struct op *o);

/* lwc_fuzz_rest.c */
void	do_cred(struct me *m, const struct op *o);
void	do_procctl(struct me *m, const struct op *o);
void	do_rlimit(struct me *m, const struct op *o);
void	do_sysarch(struct me *m, const struct op *o);
void	do_ktrace(struct me *m, const struct op *o);
void	do_look(struct me *m, const struct op *o);
void	do_point(struct me *m, const struct op *o);
void	do_limit(struct me *m, const struct op *o);

#endif /* !_LWC_FUZZ_OPS_H_ */
