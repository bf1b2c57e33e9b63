/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What is known of the kernel's system calls.
 *
 * One table says of each number what the module has to know of it; what is not
 * in it is unknown: lwSyscall() does not make it, and a context that is guarded
 * (LWC_TRAP_EXIT) gets ENOSYS.  A kernel that is newer than this table loses
 * calls by that, and no wall.  Numbers of the FreeBSD ABI do not change their
 * meaning.
 *
 * The private sysentvec of lwc_trap.c asks before each call of a process with a
 * record.  lwc_call_look() refuses what would let another process into memory,
 * descriptor table or signal actions, put the process into another jail, have
 * the kernel write into whichever context is current (profil(2), asynchronous
 * I/O), or exceed a limit that holds for the sum of all contexts.
 * lwc_call_guard() turns away what ends, stops or signals the process past the
 * handlers that TRAP_EXIT puts in place.
 */

#include "lwc_calls.h"
#include "lwc_context.h"
#include "lwc_trap.h"
#include "lwc_vm.h"

#include <sys/jail.h>
#include <sys/limits.h>
#include <sys/mman.h>
#include <sys/resourcevar.h>
#include <sys/signalvar.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/syscallsubr.h>
#include <sys/sysproto.h>
#include <sys/ttycom.h>
#include <sys/uio.h>
#include <sys/umtx.h>
#include <sys/unistd.h>

/* Younger than 15.0. */
#ifndef SYS_jail_attach_jd
#define	SYS_jail_attach_jd	597
#define	SYS_jail_remove_jd	598
#endif
#ifndef SYS_pdrfork
#define	SYS_pdrfork		600
#endif
#ifndef SYS_pdwait
#define	SYS_pdwait		601
#endif
#ifndef SYS_renameat2
#define	SYS_renameat2		602
#endif
#ifndef SYS_getgroups
#define	SYS_getgroups		595
#define	SYS_setgroups		596
#define	SYS_freebsd14_getgroups	79
#define	SYS_freebsd14_setgroups	80
#endif

/* Of older binaries; their numbers have no names. */
#define	SYS_FREEBSD4_SIGACTION	342
#define	SYS_FREEBSD6_AIO_READ	318
#define	SYS_FREEBSD6_AIO_WRITE	319
#define	SYS_FREEBSD6_LIO	320
#define	SYS_FREEBSD6_MMAP	197

#define	K(name)	[SYS_##name] = LWC_KNOWN
#define	M(name)	[SYS_##name] = LWC_KNOWN | LWC_MIX
#define	MP(name) [SYS_##name] = LWC_KNOWN | LWC_MIX | LWC_PURE
#define	KP(name) [SYS_##name] = LWC_KNOWN | LWC_PURE
#define	MLP(name) [SYS_##name] = LWC_KNOWN | LWC_MIX | LWC_LOOK | LWC_PURE
#define	L(name)	[SYS_##name] = LWC_KNOWN | LWC_LOOK
#define	ML(name) [SYS_##name] = LWC_KNOWN | LWC_MIX | LWC_LOOK
#define	G(name)	[SYS_##name] = LWC_KNOWN | LWC_GUARDED
#define	MG(name) [SYS_##name] = LWC_KNOWN | LWC_MIX | LWC_GUARDED
#define	MGP(name) [SYS_##name] = LWC_KNOWN | LWC_MIX | LWC_GUARDED | LWC_PURE
#define	F(name)	[SYS_##name] = LWC_KNOWN | LWC_MULTIPLY
#define	GF(name) [SYS_##name] = LWC_KNOWN | LWC_GUARDED | LWC_MULTIPLY
#define	LF(name) [SYS_##name] = LWC_KNOWN | LWC_LOOK | LWC_MULTIPLY

const uint8_t lwc_calls[LWC_NCALLS] = {
	K(syscall), K(mount), K(unmount), K(acct), K(reboot),
	K(freebsd11_vadvise), K(swapon), K(settimeofday), K(adjtime),
	K(quotactl), K(nlm_syscall), K(nfssvc), K(ntp_adjtime),
	K(__syscall), K(shmdt), K(clock_settime), K(ktimer_gettime),
	K(ktimer_getoverrun), K(ffclock_getcounter), K(ffclock_setestimate),
	K(ffclock_getestimate), K(kldload), K(kldunload), K(aio_return),
	K(aio_suspend), K(aio_cancel), K(aio_error), K(utrace),
	K(nnpfs_syscall), K(aio_waitcomplete), K(afs3_syscall), K(nmount),
	K(getcontext), K(setcontext), K(swapcontext), K(freebsd13_swapoff),
	K(freebsd10__umtx_lock), K(freebsd10__umtx_unlock), K(thr_suspend),
	K(thr_wake), K(kldunloadf), K(audit), K(auditon), K(auditctl),
	K(jail_remove), K(rctl_get_racct),
	K(rctl_get_rules), K(rctl_get_limits), K(rctl_add_rule),
	K(rctl_remove_rule), K(sigfastblock), K(rpctls_syscall), K(swapoff),
	K(membarrier), K(exterrctl), K(jail_remove_jd),

	M(open), M(close), M(wait4), M(link), M(unlink), M(chdir), M(fchdir),
	M(freebsd11_mknod), M(chmod), M(chown), M(setuid),
	M(accept), M(chflags), M(fchflags), M(sync), M(dup), M(freebsd10_pipe),
	M(getlogin), M(setlogin), M(revoke), M(symlink), M(umask), M(chroot),
	M(freebsd14_getgroups), M(freebsd14_setgroups), M(dup2), M(fcntl),
	M(socket), M(bind), M(listen), M(fchown), M(fchmod), M(setreuid),
	M(setregid), M(rename), M(flock), M(mkfifo), M(socketpair), M(mkdir),
	M(rmdir), M(utimes), M(lgetfh), M(getfh), M(semsys), M(msgsys),
	M(setgid), M(setegid), M(seteuid), M(freebsd11_stat),
	M(freebsd11_fstat), M(freebsd11_lstat), M(pathconf), M(fpathconf),
	M(freebsd11_getdirentries), M(munlock), M(undelete), M(futimes),
	M(freebsd7___semctl), M(semget), M(semop), M(freebsd7_msgctl),
	M(msgget), M(msgsnd), M(msgrcv), M(freebsd7_shmctl), M(shmget),
	M(clock_getcpuclockid2), M(ntp_gettime), M(lchown),
	M(freebsd11_getdents), M(lchmod), M(lutimes), M(freebsd11_nstat),
	M(freebsd11_nfstat), M(freebsd11_nlstat), M(fhopen),
	M(freebsd11_fhstat), M(modnext), M(modstat), M(modfnext), M(modfind),
	M(kldfind), M(kldnext), M(kldstat), M(kldfirstmod), M(setresuid),
	M(setresgid), M(yield), M(munlockall), M(__getcwd), M(sched_getparam),
	M(sched_getscheduler), M(sched_get_priority_max),
	M(sched_get_priority_min), M(sched_rr_get_interval), M(kldsym),
	M(__acl_get_file), M(__acl_set_file), M(__acl_get_fd), M(__acl_set_fd),
	M(__acl_delete_file), M(__acl_delete_fd), M(__acl_aclcheck_file),
	M(__acl_aclcheck_fd), M(extattrctl), M(extattr_set_file),
	M(extattr_get_file), M(extattr_delete_file), M(kqueue),
	M(freebsd11_kevent), M(extattr_set_fd), M(extattr_get_fd),
	M(extattr_delete_fd), M(__setugid), M(eaccess), M(__mac_get_proc),
	M(__mac_set_proc), M(__mac_get_fd), M(__mac_get_file), M(__mac_set_fd),
	M(__mac_set_file), M(kenv), M(lchflags), M(uuidgen), M(sendfile),
	M(mac_syscall), M(freebsd11_getfsstat), M(freebsd11_statfs),
	M(freebsd11_fstatfs), M(freebsd11_fhstatfs), M(ksem_close),
	M(ksem_post), M(ksem_wait), M(ksem_trywait), M(ksem_init),
	M(ksem_open), M(ksem_unlink), M(ksem_getvalue), M(ksem_destroy),
	M(__mac_get_pid), M(__mac_get_link), M(__mac_set_link),
	M(extattr_set_link), M(extattr_get_link), M(extattr_delete_link),
	M(__acl_get_link), M(__acl_set_link), M(__acl_delete_link),
	M(__acl_aclcheck_link), M(extattr_list_fd), M(extattr_list_file),
	M(extattr_list_link), M(ksem_timedwait), M(getauid), M(setauid),
	M(getaudit), M(setaudit), M(getaudit_addr), M(setaudit_addr),
	M(kmq_open), M(kmq_setattr), M(kmq_timedreceive), M(kmq_timedsend),
	M(kmq_unlink), M(sctp_peeloff), M(sctp_generic_sendmsg),
	M(sctp_generic_sendmsg_iov), M(sctp_generic_recvmsg),
	M(freebsd12_shm_open), M(shm_unlink), M(cpuset_getid),
	M(cpuset_getaffinity), M(fchmodat), M(fchownat), M(freebsd11_fstatat),
	M(futimesat), M(linkat), M(mkdirat), M(mkfifoat), M(freebsd11_mknodat),
	M(openat), M(readlinkat), M(renameat), M(symlinkat), M(unlinkat),
	M(posix_openpt), M(jail_get), M(freebsd12_closefrom), M(__semctl),
	M(msgctl), M(shmctl), M(lpathconf), M(__cap_rights_get), M(cap_enter),
	M(pdkill), M(pdgetpid), M(getloginclass), M(setloginclass),
	M(posix_fallocate), M(posix_fadvise), M(wait6), M(cap_rights_limit),
	M(cap_ioctls_limit), M(cap_ioctls_get), M(cap_fcntls_limit),
	M(cap_fcntls_get), M(bindat), M(connectat), M(chflagsat), M(accept4),
	M(pipe2), M(futimens), M(utimensat), M(fhstat), M(getfsstat),
	M(fhstatfs), M(mknodat), M(kevent), M(cpuset_getdomain), M(getfhat),
	M(fhlink), M(fhlinkat), M(fhreadlink), M(funlinkat),
	M(copy_file_range), M(shm_open2), M(shm_rename), M(__realpathat),
	M(close_range), M(__specialfd), M(fspacectl), M(kqueuex),
	M(timerfd_create), M(timerfd_gettime), M(timerfd_settime), M(kcmp),
	M(getrlimitusage), M(fchroot), M(setcred), M(inotify_add_watch_at),
	M(inotify_rm_watch), M(getgroups), M(setgroups), M(pdwait),
	M(renameat2),

	/*
	 * What these change is memory, or what is put back anyway: registers, mask,
	 * alternate stack, pending signals; or lies outside of contexts.
	 */
	MP(read), MP(write), MP(getpid), MP(getuid), MP(geteuid), MP(sendmsg),
	MP(sendto), MP(getpeername), MP(getsockname), MP(access),
	MP(getppid), MP(getegid), MP(getgid), MP(readlink), MP(msync),
	MP(munmap), MP(mprotect), MP(madvise), MP(getpgrp),
	MP(getitimer), MP(getdtablesize), MP(select), MP(fsync),
	MP(getpriority), MP(gettimeofday), MP(getrusage), MP(getsockopt),
	MP(setsockopt), MP(connect), MP(shutdown), MP(writev),
	MP(getrlimit), MP(poll), MP(clock_gettime), MP(clock_getres),
	MP(nanosleep), MP(clock_nanosleep), MP(issetugid),
	MP(pwritev), MP(pread), MP(pwrite), MP(lseek),
	MP(truncate), MP(ftruncate), MP(sched_yield), MP(getpgid), MP(getsid),
	MP(getresuid), MP(getresgid), MP(sigpending), MP(fstat),
	MP(fstatat), MP(getdirentries), MP(statfs), MP(fstatfs), MP(fdatasync),
	MP(cap_getmode), MP(sched_getcpu), MP(faccessat),
	KP(sigaltstack), KP(sigprocmask), KP(sigreturn), KP(sigtimedwait),
	KP(sigwaitinfo), KP(sigwait), KP(thr_self), KP(pselect), KP(ppoll),
	MLP(break), MLP(mincore), MLP(minherit), MLP(mmap), MLP(readv),
	MLP(preadv), MLP(getrandom),

	L(profil), L(shmsys), L(shmat), L(aio_read), L(aio_write),
	L(lio_listio), L(jail), L(sigsuspend), L(thr_create), L(jail_attach),
	L(thr_new), L(kmq_notify), L(thr_exit), L(aio_fsync), L(jail_set),
	L(aio_mlock), L(aio_writev), L(aio_readv), L(jail_attach_jd),
	L(sysarch), L(thr_set_name),

	MGP(recvfrom),

	ML(mlock), ML(mlockall),

	G(setpgid), G(setpriority), G(setsid), G(rtprio), G(setfib),
	G(sched_setparam), G(sched_setscheduler), G(rtprio_thread), G(cpuset),
	G(cpuset_setid), G(cpuset_setaffinity), G(cpuset_setdomain),
	G(exit), G(ptrace), G(ktrace), G(setitimer), G(ktimer_create),
	G(ktimer_delete), G(ktimer_settime), G(sigaction), G(thr_kill),
	G(sigqueue), G(abort2), G(thr_kill2), G(_umtx_op),

	[SYS_procctl] = LWC_KNOWN | LWC_GUARDED | LWC_LOOK,

	MG(kill), MG(ioctl), MG(setrlimit), MG(__sysctl),
	MG(__sysctlbyname), MG(recvmsg),

	F(fork), F(pdfork),

	GF(execve), GF(__mac_execve), GF(fexecve),

	LF(vfork), LF(rfork), LF(pdrfork),

	/* getfsstat, statfs ... fhstatfs of 4.x; pread ... ftruncate of 6.x */
	[18] = LWC_KNOWN, [157] = LWC_KNOWN, [158] = LWC_KNOWN,
	[162] = LWC_KNOWN, [163] = LWC_KNOWN, [164] = LWC_KNOWN,
	[173] = LWC_KNOWN | LWC_MIX, [174] = LWC_KNOWN | LWC_MIX,
	[199] = LWC_KNOWN | LWC_MIX, [200] = LWC_KNOWN | LWC_MIX,
	[201] = LWC_KNOWN | LWC_MIX, [297] = LWC_KNOWN, [336] = LWC_KNOWN,
	[344] = LWC_KNOWN,		/* sigreturn of 4.x */
	[SYS_FREEBSD4_SIGACTION] = LWC_KNOWN | LWC_GUARDED,
	[SYS_FREEBSD6_AIO_READ] = LWC_KNOWN | LWC_LOOK,
	[SYS_FREEBSD6_AIO_WRITE] = LWC_KNOWN | LWC_LOOK,
	[SYS_FREEBSD6_LIO] = LWC_KNOWN | LWC_LOOK,
	[SYS_FREEBSD6_MMAP] = LWC_KNOWN | LWC_LOOK,
};
CTASSERT(SYS_MAXSYSCALL <= LWC_NCALLS);

/* So much is waited for in the kernel while nothing of it is taken. */
#define	LWC_PEEK_MAX	(64 << 10)

static sy_call_t lwc_call_busy, lwc_call_inval, lwc_call_perm, lwc_call_again,
    lwc_call_nomem, lwc_call_nosys, lwc_call_fork, lwc_call_sigsuspend,
    lwc_call_sigaction, lwc_call_readv, lwc_call_preadv;

static struct sysent lwc_sysent_busy = LWC_SYSENT(lwc_call_busy);
static struct sysent lwc_sysent_inval = LWC_SYSENT(lwc_call_inval);
static struct sysent lwc_sysent_perm = LWC_SYSENT(lwc_call_perm);
static struct sysent lwc_sysent_again = LWC_SYSENT(lwc_call_again);
static struct sysent lwc_sysent_nomem = LWC_SYSENT(lwc_call_nomem);
static struct sysent lwc_sysent_nosys = LWC_SYSENT(lwc_call_nosys);
static struct sysent lwc_sysent_fork = LWC_SYSENT(lwc_call_fork);
static struct sysent lwc_sysent_sigsuspend = LWC_SYSENT(lwc_call_sigsuspend);
static struct sysent lwc_sysent_sigaction = LWC_SYSENT(lwc_call_sigaction);
static struct sysent lwc_sysent_readv = LWC_SYSENT(lwc_call_readv);
static struct sysent lwc_sysent_preadv = LWC_SYSENT(lwc_call_preadv);

#define	LWC_IS(name, narg)	|| call == (sy_call_t *)sys_##name

/* Is it one of the module's own? */
bool
lwc_is_ours(sy_call_t *call)
{

	return (false LWC_CALLS(LWC_IS));
}

static int
lwc_call_busy(struct thread *td __unused, void *uap __unused)
{

	return (EBUSY);
}

static int
lwc_call_inval(struct thread *td __unused, void *uap __unused)
{

	return (EINVAL);
}

static int
lwc_call_perm(struct thread *td __unused, void *uap __unused)
{

	return (EPERM);
}

static int
lwc_call_again(struct thread *td __unused, void *uap __unused)
{

	return (EAGAIN);
}

static int
lwc_call_nomem(struct thread *td __unused, void *uap __unused)
{

	return (ENOMEM);
}

static int
lwc_call_nosys(struct thread *td __unused, void *uap __unused)
{

	return (ENOSYS);
}

/*
 * vfork(2) and rfork(RFSPAWN), that is posix_spawn(3): a fork(2).  The child
 * gets a copy of the memory, and the parent does not wait for it.
 */
static int
lwc_call_fork(struct thread *td, void *uap __unused)
{
	struct fork_req fr;
	int error, pid;

	memset(&fr, 0, sizeof(fr));
	fr.fr_flags = RFFDG | RFPROC;
	fr.fr_flags2 = td->td_sa.code == SYS_rfork ? FR2_DROPSIG_CAUGHT : 0;
	fr.fr_pidp = &pid;
	error = fork1(td, &fr);
	if (error == 0) {
		td->td_retval[0] = pid;
		td->td_retval[1] = 0;
	}
	return (error);
}

/*
 * sigsuspend(2) that can be interrupted without a signal: the kernel's loops
 * until there is one, so a deadline would not end it.  The call begins again
 * when its context is resumed.
 */
static int
lwc_call_sigsuspend(struct thread *td, void *uap)
{
	struct proc *p;
	sigset_t mask;
	int error;

	error = copyin(*(const void **)uap, &mask, sizeof(mask));
	if (error != 0)
		return (error);
	p = td->td_proc;
	sigfastblock_fetch(td);
	PROC_LOCK(p);
	(void)kern_sigprocmask(td, SIG_SETMASK, &mask, &td->td_oldsigmask,
	    SIGPROCMASK_PROC_LOCKED);
	td->td_pflags |= TDP_OLDMASK;
	ast_sched(td, TDA_SIGSUSPEND);
	do {
		error = msleep(&td->td_sigmask, &p->p_mtx, PPAUSE | PCATCH,
		    "sigsusp", 0);
	} while (error == 0);
	mtx_lock(&p->p_sigacts->ps_mtx);
	error = cursig(td) != 0 ? EINTR : ERESTART;
	mtx_unlock(&p->p_sigacts->ps_mtx);
	PROC_UNLOCK(p);
	return (error);
}

/*
 * readv(2) and preadv(2) of a file take no notice of a deadline, nor of SIGKILL,
 * until they are done.  One piece is as long as the context's memory; a thousand
 * of the same memory are as long as the file.  So a context that somebody waits
 * for reads so much at once, and is told.
 */
#define	LWC_READV_MAX	(64 << 20)
/* Bytes of getrandom(2), which are dearer. */
#define	LWC_RANDOM_MAX	(1 << 20)

static int
lwc_copyin_pieces(const struct iovec *pieces, u_int n, struct uio **uiop)
{
	struct iovec *iov;
	struct uio *uio;
	size_t left;
	int error, i;

	error = copyinuio(pieces, n, &uio);
	if (error != 0)
		return (error);
	left = LWC_READV_MAX;
	for (i = 0; i < uio->uio_iovcnt; i++) {
		iov = &uio->uio_iov[i];
		iov->iov_len = MIN(iov->iov_len, left);
		left -= iov->iov_len;
	}
	uio->uio_resid = LWC_READV_MAX - left;
	*uiop = uio;
	return (0);
}

static int
lwc_call_readv(struct thread *td, void *uap)
{
	struct readv_args *ra;
	struct uio *uio;
	int error;

	ra = uap;
	error = lwc_copyin_pieces(ra->iovp, ra->iovcnt, &uio);
	if (error != 0)
		return (error);
	error = kern_readv(td, ra->fd, uio);
	freeuio(uio);
	return (error);
}

static int
lwc_call_preadv(struct thread *td, void *uap)
{
	struct preadv_args *pa;
	struct uio *uio;
	int error;

	pa = uap;
	error = lwc_copyin_pieces(pa->iovp, pa->iovcnt, &uio);
	if (error != 0)
		return (error);
	error = kern_preadv(td, pa->fd, uio, pa->offset);
	freeuio(uio);
	return (error);
}

/*
 * May a process make a child with these flags and share nothing with it?  Nor a
 * signal of its choice at the child's end, which would act on whichever context
 * is current then.
 */
static bool
lwc_rfork_copies(int flags)
{

	return ((flags & RFPROC) != 0 && (flags & (RFFDG | RFCFDG)) != 0 &&
	    (flags & ~(RFPROC | RFFDG | RFCFDG | RFNOWAIT | RFPROCDESC)) == 0);
}

struct sysent *
lwc_call_look(struct thread *td, struct lwc_proc *lp, struct syscall_args *sa)
{
	bool root;

	root = lp->lp_current->lc_creator_id == 0;
	switch (sa->code) {
	case SYS_vfork:
		return (&lwc_sysent_fork);
	case SYS_rfork:
		if ((int)sa->args[0] == (int)RFSPAWN)
			return (&lwc_sysent_fork);
		return (lwc_rfork_copies((int)sa->args[0]) ? NULL :
		    &lwc_sysent_busy);
	case SYS_pdrfork:
		return (lwc_rfork_copies((int)sa->args[2]) ? NULL :
		    &lwc_sysent_busy);
	case SYS_jail:
	case SYS_jail_attach:
	case SYS_jail_attach_jd:
		return (&lwc_sysent_busy);
	case SYS_jail_set:
		return (((int)sa->args[2] & JAIL_ATTACH) != 0 ?
		    &lwc_sysent_busy : NULL);
	case SYS_kmq_notify:
		/* The process is told for a number, which each table has. */
		return (sa->args[1] != 0 ? &lwc_sysent_busy : NULL);
	case SYS_sysarch:
		/* Tables of the process, which each context would have. */
		return (lwc_md_sysarch_shared((int)sa->args[0]) ?
		    &lwc_sysent_busy : NULL);
	case SYS_minherit:
		/*
		 * Such memory is not a copy in what is made of a context: it
		 * would outlive its rollback, and be in two at a time.  The
		 * kernel looks at a char of the argument.
		 */
		return (!root && (vm_inherit_t)sa->args[2] ==
		    VM_INHERIT_SHARE ? &lwc_sysent_busy : NULL);
	case SYS_mincore:
		/* Pages that a rollback kept would tell of earlier runs. */
		return (lp->lp_current->lc_snapshot != NULL ?
		    &lwc_sysent_perm : NULL);
	case SYS_procctl:
		/* Of the process, often for good; no rollback undoes it. */
		return (root ? NULL : &lwc_sysent_perm);
	case SYS_aio_mlock:
		/* How much it locks is not known here. */
		return (&lwc_sysent_busy);
	case SYS_profil:
		/* Counts in the memory of whoever is current. */
		return (sa->args[3] != 0 ? &lwc_sysent_busy : NULL);
	case SYS_sigsuspend:
		return (&lwc_sysent_sigsuspend);
	case SYS_getrandom:
		/* Nothing ends it before: it gives less, as it may. */
		if (!root)
			sa->args[1] = MIN(sa->args[1], LWC_RANDOM_MAX);
		return (NULL);
	case SYS_readv:
		return (root ? NULL : &lwc_sysent_readv);
	case SYS_preadv:
		return (root ? NULL : &lwc_sysent_preadv);
	case SYS_break:
		return (lwc_vm_break_ok(td, lp, sa->args[0]) ? NULL :
		    &lwc_sysent_nomem);
	case SYS_mmap:
	case SYS_FREEBSD6_MMAP:
		return (lwc_vm_map_ok(td, lp, sa->args[1]) ? NULL :
		    &lwc_sysent_nomem);
	case SYS_mlock:
		return (lwc_vm_lock_ok(td, lp, sa->args[1]) ? NULL :
		    &lwc_sysent_nomem);
	case SYS_mlockall:
		/* What is mapped later is looked at then: lwc_vm_map_ok(). */
		return ((sa->args[0] & MCL_CURRENT) == 0 || lwc_vm_lock_ok(td,
		    lp, td->td_proc->p_vmspace->vm_map.size) ? NULL :
		    &lwc_sysent_nomem);
	default:
		/*
		 * Threads, asynchronous I/O, attached segments: the root may
		 * have them, and no switch is possible meanwhile (1.5).
		 * Elsewhere they would be a way past a deadline and a guard;
		 * and the thread that is not to go there is the process's.
		 */
		return (root ? NULL : &lwc_sysent_busy);
	}
}

/*
 * May it send a signal that nothing can catch?  To another process, named by
 * its number and nothing else: 0, what is negative, a thread's number and the
 * bits that go with a signal's can all mean its own.
 */
static bool
lwc_kills_itself(const struct proc *p, const struct syscall_args *sa)
{
	int flags, pid, sig;

	pid = (int)sa->args[0];
	flags = 0;
	switch (sa->code) {
	case SYS_kill:
		sig = (int)sa->args[1];
		break;
	case SYS_thr_kill:
		pid = p->p_pid;
		sig = (int)sa->args[1];
		break;
	case SYS_sigqueue:
		sig = (int)sa->args[1] & 0xff;
		flags = (int)sa->args[1] & ~0xff;
		break;
	case SYS_thr_kill2:
		sig = (int)sa->args[2];
		break;
	default:
		return (false);
	}
	return ((sig == SIGKILL || sig == SIGSTOP) &&
	    (pid <= 0 || pid == p->p_pid || flags != 0));
}

/*
 * sigaction(2) in a guarded context: the program sees its own actions, and the
 * marks are back before anything else happens.
 */
static int
lwc_call_sigaction(struct thread *td, void *uap)
{
	const struct sysentvec *sv;
	struct lwc_proc *lp;
	struct proc *p;
	int error;

	p = td->td_proc;
	sv = p->p_sysent;
	lp = lwc_proc_find(p);
	if (lp == NULL || td->td_sa.code >= (u_int)sv->sv_size)
		return (ENOSYS);
	lwc_signals_disarm(p->p_sigacts);
	error = sv->sv_table[td->td_sa.code].sy_call(td, uap);
	lwc_signals_arm(p->p_sigacts, lp->lp_current->lc_flags, false);
	return (error);
}

/*
 * In a context with LWC_TRAP_FAULT alone, no call ends it past the guard but
 * one that takes the marks away.
 */
struct sysent *
lwc_call_guard_fault(const struct syscall_args *sa)
{

	switch (sa->code) {
	case SYS_sigaction:
	case SYS_FREEBSD4_SIGACTION:
		return (&lwc_sysent_sigaction);
	default:
		return (NULL);
	}
}

/*
 * In a context with LWC_TRAP_EXIT.  Signals that its process gets later, from a
 * timer or a limit, would hit whichever context is current then: so it cannot
 * ask for them.
 */
struct sysent *
lwc_call_guard(struct thread *td, struct lwc_ctx *lc,
    const struct syscall_args *sa)
{
	int flags;

	switch (sa->code) {
	case SYS_exit:
		return (lwc_sysent_of_exit());
	case SYS_abort2:
		return (lwc_sysent_of_abort());
	case SYS_kill:
	case SYS_thr_kill:
	case SYS_sigqueue:
	case SYS_thr_kill2:
		if (lwc_kills_itself(td->td_proc, sa))
			return (lwc_sysent_of_kill());
		return (td->td_proc->p_pendingcnt >= LWC_KEPT_SIGNALS ?
		    &lwc_sysent_again : NULL);
	case SYS_setrlimit:
		return ((u_int)sa->args[0] == RLIMIT_CPU ? &lwc_sysent_perm :
		    NULL);
	case SYS___sysctl:
	case SYS___sysctlbyname:
		/* A new value: kern.proc.rlimit is one that kills. */
		return (sa->args[4] != 0 ? &lwc_sysent_perm : NULL);
	case SYS__umtx_op:
		/*
		 * Memory that hangs on a byte of what is shared, each on its
		 * own: no limit of the context's counts it, and it is there as
		 * long as that is, over every rollback.
		 */
		return (((int)sa->args[1] & ~(UMTX_OP__32BIT |
		    UMTX_OP__I386)) == UMTX_OP_SHM ? &lwc_sysent_perm : NULL);
	case SYS_recvfrom:
		/*
		 * How much there is room for the kernel keeps in 32 bits where
		 * it receives from a Unix stream.  If that is nothing, of more
		 * that is asked for, and is to be waited for, it takes nothing
		 * time and again, and neither a deadline nor SIGKILL ends it.
		 * Who peeks at a stream of TCP is shown the same bytes, one if
		 * there is one, until all the room is full: nor is that ended.
		 */
		flags = (int)sa->args[3];
		return ((flags & MSG_WAITALL) != 0 && (uint64_t)sa->args[2] >
		    ((flags & MSG_PEEK) != 0 ? LWC_PEEK_MAX : INT_MAX) ?
		    &lwc_sysent_inval : NULL);
	case SYS_recvmsg:
		/*
		 * Of descriptors that are under way uipc_peek_dgram() gives
		 * the addresses that the kernel has them at.  And its pieces,
		 * in memory that others may write, can be as many bytes as
		 * recvfrom(2) is not to wait for.
		 */
		return (((int)sa->args[2] & (MSG_PEEK | MSG_WAITALL)) != 0 ?
		    &lwc_sysent_perm : NULL);
	case SYS_ioctl:
		/*
		 * A terminal that hangs up, or an interrupt that is typed,
		 * signals the session that controls it.
		 */
		return ((uint32_t)sa->args[1] == (uint32_t)TIOCSCTTY ||
		    (uint32_t)sa->args[1] == (uint32_t)TIOCSTI ?
		    &lwc_sysent_perm : NULL);
	case SYS_execve:
	case SYS_fexecve:
	case SYS___mac_execve:
		/* A new program has neither guards nor creator. */
	case SYS_ktrace:
		/* Of the process: what other contexts read and write. */
	case SYS_setpgid:
	case SYS_setsid:
	case SYS_setpriority:
	case SYS_rtprio:
	case SYS_rtprio_thread:
	case SYS_sched_setparam:
	case SYS_sched_setscheduler:
	case SYS_cpuset:
	case SYS_cpuset_setid:
	case SYS_cpuset_setaffinity:
	case SYS_cpuset_setdomain:
	case SYS_setfib:
		/* Of the process, and often for good. */
	case SYS_setitimer:
	case SYS_ktimer_create:
	case SYS_ktimer_settime:
	case SYS_ktimer_delete:
	case SYS_procctl:
	case SYS_ptrace:
		return (&lwc_sysent_perm);
	default:
		if (lwc_call_class(sa->code) == 0 &&
		    !lwc_is_ours(sa->callp->sy_call))
			return (&lwc_sysent_nosys);
		return (NULL);
	}
}
