/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * The operations, and the interpreter that runs them.
 *
 * The counter of a program is in shared memory, one for each of its processes
 * and threads: whichever context is current executes the next operation.  So
 * the listing says what happens in which order, though the contexts take
 * turns.  All else that an operation leaves behind (slots of descriptors,
 * specifiers that wait for their call) is in private memory and belongs to the
 * context.
 */

#include "lwc_fuzz_ops.h"

jmp_buf jumps[MAXPEERS + 1];
bool traced;

#define	D(n)	{ n, K_DESC, NULL }
#define	F(n)	{ n, K_FILE, NULL }
#define	P(n)	{ n, K_PTR, NULL }
#define	B(n)	{ n, K_BYTE, NULL }
#define	AD(n)	{ n, K_ADDR, NULL }
#define	SZ(n)	{ n, K_SIZE, NULL }
#define	KEEP	{ "keep", K_SLOT, NULL }
#define	V(n)	{ n, K_VALUE, &t_value }
#define	T(n, t)	{ n, K_TABLE, &t_##t }

const struct operation operations[] = {
	{ "}", 20, do_nothing, { { NULL, K_NONE, NULL } } },
	{ "spec", 90, do_spec, { T("flags", spec), AD("start"), SZ("length"),
	    B("some") } },
	{ "lwCreate", 90, do_create, { T("list", list), T("times", repeat),
	    T("flags", create), KEEP, P("out") } },
	{ "lwSwitch", 130, do_switch, { D("to"), T("n", count),
	    T("until", until), B("words"), P("out") } },
	{ "lwDiscardSwitch", 20, do_discard, { D("to"), T("n", count),
	    T("until", until), B("words") } },
	{ "lwRestrict", 20, do_restrict, { D("fd"), T("list", list),
	    T("times", repeat) } },
	{ "lwOverlay", 60, do_overlay, { D("source"), T("list", list),
	    T("times", repeat) } },
	{ "lwSyscall", 50, do_syscall, { D("target"), T("mask", mask),
	    T("number", number), B("more"), B("args") } },
	{ "lwGetlwc", 12, do_getlwc, { KEEP } },
	{ "lwInfo", 8, do_info, { D("fd"), P("info") } },
	{ "lwControl", 40, do_control, { D("fd"), T("command", control),
	    D("argument") } },
	{ "snapshot", 40, do_snapshot, { D("fd") } },
	{ "rollback", 50, do_rollback, { D("fd") } },
	{ "allow", 8, do_allow, { T("calls", allow), B("which") } },
	{ "raw", 25, do_raw, { T("by", raw), T("number", number), B("more"),
	    B("args") } },
	{ "close", 25, do_close, { D("fd") } },
	{ "closefrom", 6, do_closefrom, { B("from"), B("how") } },
	{ "dup", 12, do_dup, { D("fd"), KEEP } },
	{ "dup2", 12, do_dup2, { D("fd"), B("to") } },
	{ "fcntl", 20, do_fcntl, { F("fd"), T("command", fcntl), B("arg"),
	    B("type") } },
	{ "open", 30, do_open, { T("what", open), B("keep"), B("how") } },
	{ "write", 10, do_write, { F("fd"), AD("from"), SZ("n") } },
	{ "pass", 6, do_pass, { T("how", pass), F("socket"), D("fd"),
	    B("which") } },
	{ "mmap", 30, do_mmap, { AD("at"), SZ("n"), T("prot", prot),
	    T("flags", map), F("fd") } },
	{ "munmap", 12, do_munmap, { AD("at"), SZ("n") } },
	{ "mprotect", 12, do_mprotect, { AD("at"), SZ("n"), T("prot", prot) } },
	{ "minherit", 10, do_minherit, { AD("at"), SZ("n"),
	    T("how", inherit) } },
	{ "madvise", 8, do_madvise, { AD("at"), SZ("n"), T("how", advice) } },
	{ "mlock", 10, do_mlock, { AD("at"), SZ("n"), T("what", lock),
	    B("how") } },
	{ "touch", 25, do_touch, { AD("at"), SZ("n"), B("read"), B("with") } },
	{ "break", 4, do_break, { B("up"), SZ("n") } },
	{ "{fork", 20, do_fork, { T("then", kick), B("how"), B("keep") } },
	{ "{rfork", 25, do_rfork, { T("flags", rfork), T("then", kick) } },
	{ "{vfork", 8, do_vfork, { { NULL, K_NONE, NULL } } },
	{ "{thread", 10, do_thread, { { NULL, K_NONE, NULL } } },
	{ "exec", 8, do_exec, { T("what", exec), B("first") } },
	{ "exit", 10, do_exit, { T("how", exit), B("really") } },
	{ "sigaction", 15, do_sigaction, { T("signal", signal),
	    T("handler", handler) } },
	{ "sigmask", 12, do_sigmask, { T("how", mask_how), T("set", set) } },
	{ "signal", 25, do_signal, { T("how", how), T("who", who),
	    T("signal", signal), B("value") } },
	{ "altstack", 6, do_altstack, { T("what", altstack), B("at") } },
	{ "wait", 25, do_wait, { T("for", wait), T("set", set), F("fd"),
	    B("some") } },
	{ "fault", 20, do_fault, { T("how", fault), D("fd") } },
	{ "cred", 15, do_cred, { T("what", cred), B("how"), D("fd") } },
	{ "procctl", 6, do_procctl, { T("command", procctl), T("who", who),
	    B("value"), P("data") } },
	{ "ptrace", 12, do_ptrace, { T("how", ptrace), T("who", who),
	    AD("at"), B("number"), B("detach") } },
	{ "rlimit", 10, do_rlimit, { T("which", rlimit), T("value", limit),
	    B("hard") } },
	{ "sysarch", 8, do_sysarch, { T("what", sysarch), AD("at"), SZ("n"),
	    B("how") } },
	{ "ktrace", 4, do_ktrace, { B("how"), T("who", who) } },
	{ "aio", 14, do_aio, { T("what", aio), B("which"), F("fd"),
	    AD("at"), B("how") } },
	{ "shm", 6, do_shm, { T("what", shm), AD("at"), B("how") } },
	{ "event", 10, do_event, { F("kq"), T("what", event), F("fd"),
	    B("how") } },
	{ "look", 8, do_look, { T("at", look), T("who", who) } },
	{ "point", 8, do_point, { { "name", K_POINT, NULL },
	    T("set", point) } },
	{ "limit", 5, do_limit, { { "name", K_LIMIT, NULL },
	    T("to", lower) } },
	{ "below", 6, do_below, { T("calls", allow), B("which"),
	    T("limit", below) } },
	{ "from", 6, do_from, { T("calls", allow), B("which"),
	    T("least", below) } },
};
const int noperations = nitems(operations);
int op_end;
bool excluded[256];
const char *excluded_choice[16];

void
interpret(struct me *m)
{
	const struct operation *od;
	struct slot *s = m->slot;
	struct result *r;
	volatile int pc;

	for (;;) {
		pc = atomic_fetch_add(&s->sl_pc[m->index], 1);
		if (pc >= s->sl_prog.n)
			break;
		od = &operations[s->sl_prog.op[pc].code % noperations];
		if (od->name[0] == '}') {
			if (m->index != 0)
				break;
			continue;
		}
		s->sl_result[pc].left = true;
		s->sl_result[pc].peer = m->index;
		m->ret = 0;
		m->error = 0;
		if (_setjmp(jumps[m->stack]) == 0) {
			od->run(m, &s->sl_prog.op[pc]);
		} else {
			m->ret = -1;
			m->error = 0;
		}
		/* Who was suspended in it tells how it ended, then. */
		r = &s->sl_result[pc];
		r->ret = m->ret;
		r->error = m->error;
		r->done = true;
		r->left = false;
		atomic_fetch_add(&s->sl_tried[od - operations], 1);
		if (m->ret != -1)
			atomic_fetch_add(&s->sl_good[od - operations], 1);
	}
	if (m->stack > 0)
		(void)thr_exit(NULL);
	_exit(0);
}

/* The first process of a program. */
void
worker(struct slot *s)
{
	static const int caught[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP,
	    SIGSYS };
	volatile uint64_t *buffer;
	struct rlimit rl;
	struct me m;
	sigset_t set;
	char dir[64];
	int i;

	for (i = 0; i < MAXSLOTS * NKCOV; i++) {
		buffer = traces[i / NKCOV].tr_buffer[i % NKCOV];
		if (buffer == NULL)
			continue;
		traced = true;
		(void)munmap(__DEVOLATILE(void *, buffer),
		    KCOV_ENTRIES * sizeof(*buffer));
	}
	(void)munmap(sh, sizeof(*sh));
	for (i = 0; i < MAXSLOTS; i++)
		if (slots[i] != s)
			(void)munmap(slots[i], sizeof(*s));
	(void)setpgid(0, 0);
	sigemptyset(&set);
	(void)sigprocmask(SIG_SETMASK, &set, NULL);
	rl.rlim_cur = rl.rlim_max = 0;
	(void)setrlimit(RLIMIT_CORE, &rl);
	for (i = 0; i < 3; i++)
		(void)dup2(open("/dev/null", O_RDWR), i);
	snprintf(dir, sizeof(dir), "/tmp/lwc_fuzz.%d", place);
	(void)mkdir(dir, 0777);
	(void)chdir(dir);
	for (i = 0; i < (int)nitems(caught); i++)
		handle(caught[i], 3);
	handle(SIGUSR1, 2);
	handle(SIGUSR2, 5);
	handle(SIGALRM, 2);
	if (mmap((void *)ARENA, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap((void *)STACKS, MAXPEERS * STACK_SIZE, PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_PRIVATE | MAP_FIXED, -1, 0) == MAP_FAILED)
		_exit(1);
	strlcpy((char *)ARENA + PAGE, "file", 5);
	memset((char *)ARENA + 2 * PAGE, 0x11, 2 * PAGE);
	for (i = 0; i < 8; i++)
		kept[i] = -1;
	files[0] = open("file", O_RDWR | O_CREAT, 0666);
	(void)ftruncate(files[0], 4 * PAGE);
	(void)pipe2(&files[1], 0);
	(void)socketpair(AF_UNIX, SOCK_STREAM, 0, &files[3]);
	files[5] = kqueue();
	files[6] = open(".", O_RDONLY | O_DIRECTORY);
	files[7] = open("/dev/null", O_RDWR);
	memset(&m, 0, sizeof(m));
	m.slot = s;
	s->sl_pids[0] = getpid();
	if (traced) {
		/* The one before may not have gone quite. */
		for (i = 0; i < 100 && ioctl(traces[place].tr_fd[0], KIOENABLE,
		    KCOV_MODE_TRACE_PC) != 0; i++)
			usleep(1000);
	}
	interpret(&m);
}
