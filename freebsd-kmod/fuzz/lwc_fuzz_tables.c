/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* The values that arguments choose among. */

#include "lwc_fuzz_ops.h"

#define	C(v)		{ #v, (uint64_t)(v) }
#define	N(n, v)		{ n, (uint64_t)(v) }
#define	TABLE(name, ...)						\
	static const struct choice name##_c[] = { __VA_ARGS__ };	\
	const struct table name = { name##_c, nitems(name##_c) }

TABLE(t_value, C(0), C(1), C(2), C(3), C(5), C(7), C(8), C(16), C(17), C(64),
    C(100), C(0xff), C(0x1000), C(0xfff), C(0x1001), C(0x10000), C(-1),
    C(-2), C(-100), C(INT_MAX), C(0x80000000), C(0xffffffff), C(0x100000000),
    C(INT64_MAX), C(INT64_MIN), C(0x4000007), C(ARENA), C(ARENA + 1),
    C(ARENA + 5 * PAGE), C(ARENA + ARENA_PAGES * PAGE), C(UNMAPPED), C(KERNEL),
    C(0x7ffffffff000), C(0x800000000000), C(0xffff800000000000),
    C(0xdeadc0dedeadc0de));

/* Types with options.  Contradictions come by the last ones. */
TABLE(t_spec, C(LWC_MEMORY | LWC_COPY), C(LWC_MEMORY | LWC_SHARE),
    C(LWC_MEMORY | LWC_UNMAP), C(LWC_MEMORY | LWC_MAY_OVERLAY),
    C(LWC_MEMORY | LWC_SHARE | LWC_MAY_OVERLAY),
    C(LWC_FILES | LWC_COPY), C(LWC_FILES | LWC_SHARE),
    C(LWC_FILES | LWC_UNMAP), C(LWC_FILES | LWC_MAY_OVERLAY),
    C(LWC_FILES | LWC_SHARE | LWC_MAY_OVERLAY),
    C(LWC_CREDENTIALS | LWC_COPY), C(LWC_CREDENTIALS | LWC_SHARE),
    C(LWC_CREDENTIALS | LWC_UNMAP), C(LWC_CREDENTIALS | LWC_MAY_OVERLAY),
    C(0), C(LWC_TYPES), C(LWC_MEMORY | LWC_SHARE | LWC_UNMAP),
    C(0x80000000 | LWC_MEMORY), C(0xffffffff));
TABLE(t_repeat, C(1), C(1), C(1), C(2), C(7), C(100), C(1024), C(1025));
/* How the list of specifiers is given. */
TABLE(t_list, N("specs", 0), N("specs", 0), N("specs", 0), N("none", 1),
    N("kernel", 2), N("unmapped", 3), N("count -1", 4), N("count INT_MAX", 5),
    N("keep", 6));
TABLE(t_create, C(0), C(LWC_PREFAULT), C(LWC_TRAP_FAULT), C(LWC_TRAP_EXIT),
    C(LWC_TRAP_SYSCALL), C(LWC_TRAP_FAULT | LWC_TRAP_EXIT),
    C(LWC_TRAP_SYSCALL | LWC_TRAP_EXIT), C(LWC_CREATE_FLAGS), C(-1),
    C(0x80000000), C(1));
TABLE(t_count, C(0), C(1), C(2), C(4), C(9), C(16), C(17), C(-1),
    C(1 | LWC_UNTIL), C(2 | LWC_UNTIL), C(0 | LWC_UNTIL), C(2 | LWC_ROOM),
    C(1 | LWC_UNTIL | LWC_ROOM), C(0x80000000), C(INT_MAX));
/* Nanoseconds from now. */
TABLE(t_until, C(2000000), C(300000), C(10000000), C(0), C(-1000), C(1),
    C(INT64_MAX));
TABLE(t_mask, C(0), C(LWC_MEMORY), C(LWC_FILES), C(LWC_CREDENTIALS),
    C(LWC_MEMORY | LWC_FILES), C(LWC_TYPES), C(LWC_TYPES + 1), C(-1));
TABLE(t_control, C(LWC_CONTROL_DESTROY), C(LWC_CONTROL_INTRODUCE),
    C(LWC_CONTROL_ALLOW), C(LWC_CONTROL_SNAPSHOT),
    C(LWC_CONTROL_ROLLBACK), C(LWC_CONTROL_ERASE), C(LWC_CONTROL_BELOW),
    C(LWC_CONTROL_FROM), C(0), C(-1), C(1000));
TABLE(t_allow, N("all", 0), N("all but a few", 1), N("lw calls", 2),
    N("nothing", 3), N("kernel", 4), N("unmapped", 5));
TABLE(t_below, C(3), C(0), C(1), C(64), C(INT_MAX), C(0x80000000), C(-1),
    C(1L << 32));
TABLE(t_number, C(SYS_getpid), C(SYS_open), C(SYS_read), C(SYS_write),
    C(SYS_close), C(SYS_dup), C(SYS_dup2), C(SYS_fcntl), C(SYS_fstat),
    C(SYS_mmap), C(SYS_munmap), C(SYS_mprotect), C(SYS_madvise),
    C(SYS_minherit), C(SYS_mlock), C(SYS_break), C(SYS_umask), C(SYS_chdir),
    C(SYS_fchdir), C(SYS_chroot), C(SYS_getuid), C(SYS_setuid),
    C(SYS_setgroups), C(SYS_cap_enter), C(SYS_cap_getmode), C(SYS_kill),
    C(SYS_sigqueue), C(SYS_sigaction), C(SYS_sigprocmask), C(SYS_sigsuspend),
    C(SYS_sigaltstack), C(SYS_sigreturn), C(SYS_sigwait), C(SYS_ppoll),
    C(SYS_pselect), C(SYS_select), C(SYS_nanosleep), C(SYS_fork), C(SYS_vfork),
    C(SYS_rfork), C(SYS_pdfork), C(SYS_thr_new), C(SYS_thr_create),
    C(SYS_thr_exit), C(SYS_thr_kill), C(SYS_execve), C(SYS_fexecve),
    C(SYS_exit), C(SYS_abort2), C(SYS_ptrace), C(SYS_procctl), C(SYS_setrlimit),
    C(SYS_getrlimit), C(SYS_sysarch), C(SYS_ktrace), C(SYS_utrace),
    C(SYS_aio_read), C(SYS_aio_write), C(SYS_lio_listio), C(SYS_aio_cancel),
    C(SYS_aio_fsync), C(SYS_aio_waitcomplete), C(SYS_shmat), C(SYS_shmdt),
    C(SYS_shmget), C(SYS_shm_open2), C(SYS_kqueue), C(SYS_kevent),
    C(SYS_pipe2), C(SYS_socketpair), C(SYS_sendmsg), C(SYS_recvmsg),
    C(SYS_close_range), C(SYS_flock), C(SYS_setitimer),
    C(SYS_ktimer_create), C(SYS___sysctl), C(SYS_jail), C(SYS_jail_attach),
    C(SYS_setsid), C(SYS_setpgid), C(SYS_wait4), C(SYS_wait6), C(SYS_getcontext),
    C(SYS_setcontext), C(SYS_swapcontext), C(SYS_sched_yield),
    C(SYS_issetugid), C(SYS_getgroups), C(SYS_cpuset), C(SYS_rctl_get_racct),
    C(SYS__umtx_op), C(SYS_munlock), C(SYS_msync), C(SYS_mincore), C(0), C(-1),
    C(SYS_MAXSYSCALL), C(SYS_MAXSYSCALL + 1), C(0x4000007), C(0x7fffffff),
    C(0x80000000), C(0xffffffff), C(11), C(210), C(211), C(212), C(213),
    C(214), C(215), C(216), C(217), C(218), C(219), C(103), C(342), C(344));
TABLE(t_prot, C(PROT_READ | PROT_WRITE), C(PROT_READ), C(PROT_NONE),
    C(PROT_READ | PROT_WRITE | PROT_EXEC), C(PROT_WRITE), C(-1),
    C(PROT_READ | PROT_MAX(PROT_READ)));
TABLE(t_map, C(MAP_FIXED | MAP_ANON | MAP_PRIVATE),
    C(MAP_FIXED | MAP_ANON | MAP_SHARED), C(MAP_FIXED | MAP_PRIVATE),
    C(MAP_FIXED | MAP_SHARED), C(MAP_FIXED | MAP_GUARD),
    C(MAP_FIXED | MAP_STACK | MAP_ANON),
    C(MAP_FIXED | MAP_ANON | MAP_PRIVATE | MAP_PREFAULT_READ),
    C(MAP_ANON | MAP_PRIVATE | MAP_EXCL | MAP_FIXED), C(MAP_ANON | MAP_32BIT),
    C(MAP_FIXED | MAP_NOCORE | MAP_NOSYNC | MAP_SHARED));
TABLE(t_inherit, C(INHERIT_COPY), C(INHERIT_SHARE), C(INHERIT_NONE),
    C(INHERIT_ZERO), C(9));
TABLE(t_advice, C(MADV_FREE), C(MADV_DONTNEED), C(MADV_WILLNEED),
    C(MADV_NOSYNC), C(MADV_NOCORE), C(MADV_PROTECT), C(99));
TABLE(t_lock, N("mlock", 0), N("munlock", 1), N("mlockall current", 2),
    N("mlockall future", 3), N("munlockall", 4), N("msync", 5),
    N("mincore", 6));
TABLE(t_open, N("file", 0), N("pipe", 1), N("socketpair", 2), N("kqueue", 3),
    N("kqueue for forks", 4), N("shm", 5), N("directory", 6), N("null", 7),
    N("other file", 8), N("beneath", 9), N("self", 10), N("tty", 11),
    N("executable", 12), N("memfd", 13));
TABLE(t_fcntl, C(F_DUPFD), C(F_DUPFD_CLOEXEC), C(F_DUP2FD), C(F_GETFD),
    C(F_SETFD), C(F_GETFL), C(F_SETFL), C(F_SETLK), C(F_SETLKW), C(F_GETLK),
    C(F_SETOWN), C(F_GETOWN), C(F_KINFO), C(F_ADD_SEALS), C(F_OGETLK), C(99));
TABLE(t_rfork, C(RFPROC), C(RFPROC | RFFDG), C(RFPROC | RFCFDG),
    C(RFPROC | RFMEM), C(RFPROC | RFFDG | RFMEM),
    C(RFPROC | RFSIGSHARE | RFMEM), C(RFPROC | RFTHREAD),
    C(RFPROC | RFMEM | RFTHREAD | RFSIGSHARE), C(RFSPAWN), C(RFFDG),
    C(RFCFDG), C(0), C(RFMEM), C(RFPROC | RFFDG | RFNOWAIT),
    C(RFPROC | RFFDG | RFTSIGZMB | (SIGUSR1 << RFTSIGSHIFT)),
    C(RFPROC | RFLINUXTHPN | RFFDG), C(RFPROC | RFPROCDESC), C(-1));
TABLE(t_who, N("self", 0), N("first", 1), N("peer 1", 2), N("peer 2", 3),
    N("last peer", 4), N("group", 5), N("parent", 6));
TABLE(t_signal, C(SIGUSR1), C(SIGUSR2), C(SIGTERM), C(SIGKILL), C(SIGSEGV),
    C(SIGSTOP), C(SIGCONT), C(SIGTSTP), C(SIGTTIN), C(SIGBUS), C(SIGTRAP),
    C(SIGSYS), C(SIGILL), C(SIGFPE), C(SIGCHLD), C(SIGALRM), C(SIGXCPU),
    C(SIGURG), C(SIGABRT), C(SIGINT), C(SIGIO), C(SIGRTMIN), C(SIGTHR),
    C(SIGEMT), C(0), C(-1), C(129));
TABLE(t_how, N("kill", 0), N("sigqueue", 1), N("thr_kill", 2),
    N("thr_kill2", 3), N("raise", 4), N("alarm", 5), N("setitimer", 6),
    N("timer", 7), N("abort2", 8));
TABLE(t_handler, N("default", 0), N("ignore", 1), N("count", 2),
    N("jump", 3), N("count on stack", 4), N("restart", 5),
    N("reset", 6), N("nocldwait", 7));
TABLE(t_mask_how, C(SIG_BLOCK), C(SIG_UNBLOCK), C(SIG_SETMASK));
TABLE(t_set, N("none", 0), N("all", 1), N("faults", 2), N("users", 3),
    N("term", 4), N("all but usr1", 5));
TABLE(t_wait, N("sigsuspend", 0), N("ppoll", 1), N("pselect", 2),
    N("nanosleep", 3), N("sigtimedwait", 4), N("kevent", 5), N("wait4", 6),
    N("wait4 nohang", 7), N("yield", 8), N("read", 9), N("select", 10),
    N("umtx", 11), N("pause", 12), N("flock", 13), N("wait6", 14));
TABLE(t_altstack, N("arena", 0), N("small", 1), N("disable", 2),
    N("kernel", 3), N("unmapped", 4));
TABLE(t_fault, N("read", 0), N("write", 1), N("ud2", 2), N("int3", 3),
    N("divide", 4), N("single step", 5), N("noncanonical", 6), N("kernel", 7),
    N("step into a switch", 8), N("fpu", 9), N("hlt", 10), N("no stack", 11),
    N("step into exit", 12));
TABLE(t_cred, N("cap_enter", 4), N("setuid", 0), N("setresuid", 1),
    N("setgid", 2), N("setgroups", 3), N("jail_attach", 5), N("jail", 6),
    N("umask", 7), N("chdir", 8), N("chroot", 9), N("setsid", 10),
    N("cap_rights_limit", 11), N("setlogin", 12), N("seteuid", 13),
    N("setpgid", 14), N("fchdir", 15), N("cpuset", 16), N("jail_remove", 17));
TABLE(t_procctl, C(PROC_TRACE_CTL), C(PROC_REAP_ACQUIRE),
    C(PROC_REAP_RELEASE), C(PROC_REAP_KILL), C(PROC_PDEATHSIG_CTL),
    C(PROC_SPROTECT), C(PROC_ASLR_CTL), C(PROC_PROTMAX_CTL),
    C(PROC_STACKGAP_CTL), C(PROC_NO_NEW_PRIVS_CTL), C(PROC_WXMAP_CTL),
    C(PROC_LOGSIGEXIT_CTL), C(PROC_TRAPCAP_CTL), C(PROC_REAP_STATUS));
TABLE(t_ptrace, N("attach, read, write, detach", 0), N("registers", 1),
    N("PT_SC_REMOTE", 2), N("step", 3), N("system calls", 4), N("kill", 5),
    N("follow fork", 6), N("trace me", 7), N("PT_SC_REMOTE switch", 8),
    N("exit while attached", 9), N("suspend", 10), N("core", 11));
TABLE(t_rlimit, C(RLIMIT_NOFILE), C(RLIMIT_AS), C(RLIMIT_DATA),
    C(RLIMIT_SWAP), C(RLIMIT_MEMLOCK), C(RLIMIT_NPROC), C(RLIMIT_STACK),
    C(RLIMIT_CPU), C(RLIMIT_FSIZE), C(RLIMIT_KQUEUES), C(RLIMIT_RSS),
    C(RLIMIT_CORE), C(RLIMIT_SBSIZE), C(RLIMIT_UMTXP), C(99));
TABLE(t_limit, C(0), C(1), C(5), C(12), C(20), C(64), C(PAGE), C(1 << 20),
    C(8 << 20), C(64 << 20), C(RLIM_INFINITY));
TABLE(t_sysarch, N("fsbase", 0), N("gsbase", 1), N("ldt", 2), N("ioperm", 3),
    N("pkru", 4), N("pkru clear", 5), N("bad", 6), N("get gsbase", 7),
    N("tlsbase", 8));
TABLE(t_aio, N("read pipe", 0), N("write file", 1), N("list", 2),
    N("cancel", 3), N("suspend", 4), N("wait", 5), N("fsync", 6),
    N("mlock", 7), N("read file", 8), N("list and wait", 9));
TABLE(t_shm, N("attach", 0), N("detach", 1), N("attach there", 2),
    N("attach read-only", 3));
TABLE(t_exec, N("lw calls", 0), N("nothing there", 1), N("fexecve", 2),
    N("bad argument", 3), N("data", 4));
TABLE(t_exit, N("_exit(0)", 0), N("_exit(3)", 1), N("abort", 2),
    N("abort2", 3), N("thr_exit", 4));
TABLE(t_event, N("read", 0), N("user", 1), N("timer", 2), N("proc", 3),
    N("signal", 4), N("vnode", 5), N("procdesc", 6));
TABLE(t_look, C(KERN_PROC_PID), C(KERN_PROC_VMMAP), C(KERN_PROC_FILEDESC),
    C(KERN_PROC_CWD), C(KERN_PROC_RLIMIT), C(KERN_PROC_KSTACK),
    C(KERN_PROC_GROUPS), C(KERN_PROC_ENV), C(KERN_PROC_ARGS),
    C(KERN_PROC_AUXV), C(KERN_PROC_UMASK), C(KERN_PROC_PS_STRINGS),
    C(KERN_PROC_OSREL), C(KERN_PROC_SIGTRAMP), C(KERN_PROC_NFDS),
    C(KERN_PROC_PATHNAME), C(KERN_PROC_SV_NAME), C(KERN_PROC_SIGFASTBLK));
TABLE(t_point, N("return(12)", 12), N("return(22)", 22), N("30%", 30),
    N("second time", 2), N("third time", 3), N("sixth time", 6), N("off", 0));
TABLE(t_lower, N("0", 0), N("1", 1), N("now", 1000), N("now+3", 1003),
    N("now+10", 1010), N("2", 2), N("-1", -1));
TABLE(t_kick, N("no", 0), N("kill", 1), N("wait", 2), N("wait", 2));
TABLE(t_raw, N("syscall(2)", 0), N("__syscall(2)", 1), N("itself", 2),
    N("int 0x80", 3));
TABLE(t_pass, N("send", 0), N("receive", 1));

const struct choice special_addresses[] = {
	N("0", 0), N("A+1", ARENA + 1), N("A+end", ARENA + ARENA_PAGES * PAGE),
	N("A-1p", ARENA - PAGE), N("unmapped", UNMAPPED), N("kernel", KERNEL),
	N("top", 0x7ffffffff000), N("above", 0x800000000000),
	N("noncanonical", 0xffff7fffffffffff), N("last", ~0UL - PAGE + 1),
	N("stacks", STACKS), N("text", 1), N("data", 2), N("stack", 3),
};
const struct choice special_sizes[] = {
	N("0", 0), N("1", 1), N("-1", -1), N("-1p", -PAGE), N("1T", 1UL << 40),
	N("all", 0x800000000000), N("2^63", 1UL << 63), N("1p+1", PAGE + 1),
	N("2M", 2 << 20), N("64M", 64 << 20),
};
/* Below 100: kept descriptors, then others. */
const struct choice special_descriptors[] = {
	N("self", -1), N("-2", -2), N("cwd", -100), N("max", INT_MAX),
	N("min", INT_MIN), N("0", 0), N("1", 1), N("2", 2), N("3", 3),
	N("4", 4), N("5", 5), N("6", 6), N("7", 7), N("8", 8), N("9", 9),
	N("10", 10), N("11", 11), N("12", 12), N("13", 13), N("14", 14),
	N("19", 19), N("40", 40), N("60", 60), N("1000", 1000),
};
const int nspecial_addresses = nitems(special_addresses);
const int nspecial_sizes = nitems(special_sizes);
const int nspecial_descriptors = nitems(special_descriptors);
