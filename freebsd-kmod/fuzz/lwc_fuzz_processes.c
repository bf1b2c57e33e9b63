/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Processes and threads, and what a debugger does to them.  The block up to "}"
 * is what a new one runs.
 */

#include "lwc_fuzz_ops.h"

/*
 * Processes.  The block up to "}" is what the new one runs.
 */
static struct me *
peer(struct me *m, struct me *n, int *pc)
{
	struct slot *s = m->slot;
	int i;

	*pc = atomic_load(&s->sl_pc[m->index]);
	atomic_store(&s->sl_pc[m->index],
	    prog_end(&s->sl_prog, *pc) + 1);
	i = atomic_fetch_add(&s->sl_peers, 1);
	if (i >= MAXPEERS)
		return (NULL);
	memset(n, 0, sizeof(*n));
	n->slot = s;
	n->index = i;
	n->stack = m->stack;
	atomic_store(&s->sl_pc[i], *pc);
	return (n);
}

static void
traced_peer(struct me *n)
{

	if (traced && n->index < NKCOV)
		(void)ioctl(traces[place].tr_fd[n->index], KIOENABLE,
		    KCOV_MODE_TRACE_PC);
}

static void
then(struct me *m, pid_t pid, int index, uint8_t how)
{
	int kick, try;

	if (pid <= 0)
		return;
	m->slot->sl_pids[index] = pid;
	kick = (int)choice(&t_kick, how);
	if (kick == 1)
		(void)kill(pid, SIGKILL);
	if (kick != 0)
		for (try = 0; try < 50; try++) {
			if (waitpid(pid, NULL, WNOHANG) != 0)
				break;
			usleep(2000);
		}
}

void
do_fork(struct me *m, const struct op *o)
{
	struct me n;
	pid_t pid;
	int fd, pc;

	if (peer(m, &n, &pc) == NULL)
		return;
	errno = 0;
	pid = A(1) % 4 == 3 ? pdfork(&fd, 0) : fork();
	if (pid == 0) {
		traced_peer(&n);
		interpret(&n);
	}
	m->ret = pid;
	m->error = errno;
	if (pid > 0 && A(1) % 4 == 3)
		files[A(2) % 8] = fd;
	then(m, pid, n.index, A(0));
}

static int
peer_main(void *arg)
{

	interpret(arg);
}

static struct me *
peer_stack(struct me *n, char **top)
{
	char *base;
	struct me *there;

	n->stack = n->index + 1;
	base = (char *)STACKS + n->index * STACK_SIZE;
	*top = base + STACK_SIZE - 1024;
	there = (struct me *)(*top + 512);
	*there = *n;
	return (there);
}

void
do_rfork(struct me *m, const struct op *o)
{
	struct me n, *there;
	char *top;
	pid_t pid;
	int flags, pc;

	if (peer(m, &n, &pc) == NULL)
		return;
	flags = (int)choice(&t_rfork, A(0));
	errno = 0;
	if ((flags & RFMEM) != 0 || flags == (int)RFSPAWN) {
		there = peer_stack(&n, &top);
		if ((flags & RFPROC) != 0 || flags == (int)RFSPAWN)
			pid = rfork_thread(flags, top, peer_main, there);
		else
			pid = rfork(flags);
	} else {
		pid = rfork(flags);
		if (pid == 0 && (flags & RFPROC) != 0)
			interpret(&n);
	}
	m->ret = pid;
	m->error = errno;
	then(m, pid, n.index, A(1));
}

void
do_vfork(struct me *m, const struct op *o __unused)
{
	struct me n;
	pid_t pid;
	int pc;

	if (peer(m, &n, &pc) == NULL)
		return;
	errno = 0;
	pid = vfork();
	if (pid == 0)
		interpret(&n);
	m->ret = pid;
	m->error = errno;
	if (pid > 0)
		m->slot->sl_pids[n.index] = pid;
}

static void
thread_main(void *arg)
{

	interpret(arg);
}

void
do_thread(struct me *m, const struct op *o __unused)
{
	static long tid[2];
	struct thr_param tp;
	struct me n, *there;
	char *top;
	void *tls;
	int pc;

	if (peer(m, &n, &pc) == NULL)
		return;
	there = peer_stack(&n, &top);
	memset(&tp, 0, sizeof(tp));
	(void)amd64_get_fsbase(&tls);
	tp.start_func = thread_main;
	tp.arg = there;
	tp.stack_base = (char *)STACKS + n.index * STACK_SIZE;
	tp.stack_size = (size_t)(top - tp.stack_base);
	tp.tls_base = tls;
	tp.tls_size = 1;
	tp.child_tid = &tid[0];
	tp.parent_tid = &tid[1];
	CALL(m, thr_new(&tp, sizeof(tp)));
}

void
do_nothing(struct me *m __unused, const struct op *o __unused)
{

}

void
do_exec(struct me *m, const struct op *o)
{
	char arg[] = "-X", *argv[] = { env.self, arg, NULL }, *envp[] = { NULL };
	int fd;

	/* The first process would only end the program. */
	if (m->index == 0 && A(1) % 4 != 0)
		return;
	switch (choice(&t_exec, A(0))) {
	case 0:
		CALL(m, execve(env.self, argv, envp));
		break;
	case 1:
		CALL(m, execve("/nonexistent", argv, envp));
		break;
	case 2:
		fd = open(env.self, O_EXEC);
		CALL(m, fexecve(fd, argv, envp));
		(void)close(fd);
		break;
	case 3:
		CALL(m, execve(env.self, (char **)KERNEL, envp));
		break;
	default:
		CALL(m, execve("file", argv, envp));
		break;
	}
}

/* What a program started by "exec" does. */
void
after_exec(void)
{
	uint64_t w[LWC_MAX_ARGS];
	int fd, num, src;

	num = LWC_MAX_ARGS;
	fd = lwCreate(NULL, 0, &src, w, &num, LWC_TRAP_FAULT | LWC_TRAP_EXIT);
	if (fd == LWC_SWITCHED)
		_exit(4);
	if (fd >= 0) {
		(void)lwSwitch(fd, NULL, 0, NULL, NULL, NULL);
		(void)lwCreate(NULL, 0, NULL, NULL, NULL, LWC_PREFAULT);
	}
	_exit(0);
}

void
do_exit(struct me *m, const struct op *o)
{
	void *args[1] = { NULL };

	/* Let programs rather end by themselves. */
	if (A(1) % 3 != 0)
		return;
	switch (choice(&t_exit, A(0))) {
	case 0:
		_exit(0);
	case 1:
		_exit(3);
	case 2:
		abort();
	case 3:
		CALL(m, (abort2("fuzz", 0, args), 0));
		break;
	default:
		CALL(m, (thr_exit(NULL), 0));
		break;
	}
}

static int
stopped(pid_t pid)
{
	int status, try;

	for (try = 0; try < 30; try++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return (WIFSTOPPED(status));
		usleep(1000);
	}
	return (0);
}

void
do_ptrace(struct me *m, const struct op *o)
{
	struct ptrace_sc_remote sc;
	struct ptrace_lwpinfo pl;
	struct reg regs;
	syscallarg_t args[6];
	pid_t pid;
	int data, how, i;

	how = (int)choice(&t_ptrace, A(0));
	if (how == 7) {
		CALL(m, ptrace(PT_TRACE_ME, 0, NULL, 0));
		return;
	}
	pid = who(m, A(1));
	if (pid == 0 || pid == getpid())
		return;
	CALL(m, ptrace(PT_ATTACH, pid, NULL, 0));
	if (m->ret != 0)
		return;
	(void)stopped(pid);
	memset(args, 0, sizeof(args));
	switch (how) {
	case 0:
		data = ptrace(PT_READ_D, pid, (caddr_t)addr(A(2)), 0);
		(void)ptrace(PT_WRITE_D, pid, (caddr_t)addr(A(2)), data);
		break;
	case 1:
		if (ptrace(PT_GETREGS, pid, (caddr_t)&regs, 0) == 0)
			(void)ptrace(PT_SETREGS, pid, (caddr_t)&regs, 0);
		(void)ptrace(PT_LWPINFO, pid, (caddr_t)&pl, sizeof(pl));
		break;
	case 2:
	case 8:
		memset(&sc, 0, sizeof(sc));
		sc.pscr_syscall = how == 2 ? (u_int)choice(&t_number, A(3)) :
		    (u_int)numbers[A(3) % 9];
		sc.pscr_nargs = 6;
		sc.pscr_args = args;
		args[0] = how == 2 ? 0 : (syscallarg_t)desc(A(2));
		if (how == 2)
			sc.pscr_syscall = (u_int)harmless(m,
			    (int)sc.pscr_syscall, (uint64_t *)args);
		CALL(m, ptrace(PT_SC_REMOTE, pid, (caddr_t)&sc, sizeof(sc)));
		break;
	case 3:
		for (i = 0; i < 1 + A(3) % 16; i++) {
			(void)ptrace(PT_STEP, pid, (caddr_t)1, 0);
			if (!stopped(pid))
				break;
		}
		break;
	case 4:
		for (i = 0; i < 1 + A(3) % 8; i++) {
			(void)ptrace(A(3) % 3 == 0 ? PT_TO_SCE : PT_SYSCALL,
			    pid, (caddr_t)1, 0);
			if (!stopped(pid))
				break;
		}
		break;
	case 5:
		(void)ptrace(PT_KILL, pid, NULL, 0);
		return;
	case 6:
		(void)ptrace(PT_FOLLOW_FORK, pid, NULL, 1);
		break;
	case 9:
		_exit(0);
	case 10:
		usleep(3000);
		break;
	default:
		(void)ptrace(PT_LWPINFO, pid, (caddr_t)&pl, sizeof(pl));
		(void)ptrace(PT_SUSPEND, pl.pl_lwpid, NULL, 0);
		(void)ptrace(PT_RESUME, pl.pl_lwpid, NULL, 0);
		break;
	}
	(void)ptrace(PT_DETACH, pid, (caddr_t)1, A(4) % 8 == 7 ?
	    (int)choice(&t_signal, A(3)) : 0);
}
