/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Descriptors, kernel queues, asynchronous I/O. */

#include "lwc_fuzz_ops.h"

#ifndef KQUEUE_CPONFORK			/* younger than 15.0 */
#define	KQUEUE_CPONFORK	0x00000002
#endif

static struct aiocb cbs[4];

/*
 * Descriptors.
 */
void
do_close(struct me *m, const struct op *o)
{

	CALL(m, close(desc(A(0))));
}

void
do_closefrom(struct me *m, const struct op *o)
{

	if (A(1) % 2 == 0)
		CALL(m, close_range(A(0) % 32, A(0) % 32 + A(1) % 16, 0));
	else
		CALL(m, (closefrom(3 + A(0) % 32), 0));
}

void
do_dup(struct me *m, const struct op *o)
{

	CALL(m, dup(desc(A(0))));
	keep(A(1), (int)m->ret);
}

void
do_dup2(struct me *m, const struct op *o)
{

	CALL(m, dup2(desc(A(0)), A(1) < SPECIAL ? A(1) % 24 : desc(A(1))));
}

void
do_fcntl(struct me *m, const struct op *o)
{
	struct flock fl;
	char buf[2048];
	int cmd;

	cmd = (int)choice(&t_fcntl, A(1));
	switch (cmd) {
	case F_SETLK: case F_SETLKW: case F_GETLK: case F_OGETLK:
		memset(&fl, 0, sizeof(fl));
		fl.l_start = A(2) % 8;
		fl.l_len = A(2) / 8 % 4;
		fl.l_type = A(3) % 3 == 0 ? F_WRLCK : A(3) % 3 == 1 ? F_RDLCK :
		    F_UNLCK;
		CALL(m, fcntl(file(A(0)), cmd, &fl));
		break;
	case F_KINFO:
		((struct kinfo_file *)buf)->kf_structsize =
		    sizeof(struct kinfo_file);
		CALL(m, fcntl(A(3) % 2 ? desc(A(0)) : file(A(0)), cmd, buf));
		break;
	case F_SETFL:
		CALL(m, fcntl(A(3) % 2 ? desc(A(0)) : file(A(0)), cmd,
		    A(2) % 2 ? O_ASYNC : O_NONBLOCK));
		break;
	default:
		CALL(m, fcntl(A(3) % 2 ? desc(A(0)) : file(A(0)), cmd,
		    A(2) % 32));
		break;
	}
}

void
do_open(struct me *m, const struct op *o)
{
	int fds[2];

	fds[0] = fds[1] = -1;
	switch (choice(&t_open, A(0))) {
	case 0:
		CALL(m, fds[0] = open("file", O_RDWR | O_CREAT, 0666));
		break;
	case 1:
		CALL(m, pipe2(fds, A(2) % 2 ? O_NONBLOCK : 0));
		break;
	case 2:
		CALL(m, socketpair(AF_UNIX, A(2) % 2 ? SOCK_STREAM : SOCK_DGRAM,
		    0, fds));
		break;
	case 3:
		CALL(m, fds[0] = kqueue());
		break;
	case 4:
		CALL(m, fds[0] = kqueuex(KQUEUE_CPONFORK));
		break;
	case 5:
		CALL(m, fds[0] = shm_open(SHM_ANON, O_RDWR, 0600));
		if (fds[0] >= 0)
			(void)ftruncate(fds[0], 4 * PAGE);
		break;
	case 6:
		CALL(m, fds[0] = open(".", O_RDONLY | O_DIRECTORY));
		break;
	case 7:
		CALL(m, fds[0] = open("/dev/null", O_RDWR));
		break;
	case 8:
		CALL(m, fds[0] = open("other", O_RDWR | O_CREAT, 0666));
		if (fds[0] >= 0)
			(void)ftruncate(fds[0], 4 * PAGE);
		break;
	case 9:
		CALL(m, fds[0] = open(".", O_RDONLY | O_DIRECTORY |
		    O_RESOLVE_BENEATH));
		break;
	case 10:
		CALL(m, fds[0] = open("/proc/curproc/mem", O_RDWR));
		break;
	case 11:
		CALL(m, fds[0] = open("/dev/zero", O_RDWR));
		break;
	case 12:
		CALL(m, fds[0] = open(env.self, O_EXEC));
		break;
	default:
		CALL(m, fds[0] = memfd_create("fuzz", MFD_ALLOW_SEALING));
		break;
	}
	if (fds[0] >= 0)
		files[A(1) % 8] = fds[0];
	if (fds[1] >= 0)
		files[(A(1) + 1) % 8] = fds[1];
}

void
do_write(struct me *m, const struct op *o)
{

	CALL(m, write(file(A(0)), (void *)addr(A(1)), size(A(2)) & 0xffff));
}

/* A descriptor through a socket. */
void
do_pass(struct me *m, const struct op *o)
{
	union {
		struct cmsghdr	hdr;
		char		room[CMSG_SPACE(sizeof(int))];
	} c;
	struct msghdr mh;
	struct iovec iov;
	char byte;

	byte = 0;
	memset(&c, 0, sizeof(c));
	iov.iov_base = &byte;
	iov.iov_len = 1;
	memset(&mh, 0, sizeof(mh));
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	mh.msg_control = &c;
	mh.msg_controllen = sizeof(c);
	if (choice(&t_pass, A(0)) == 0) {
		c.hdr.cmsg_len = CMSG_LEN(sizeof(int));
		c.hdr.cmsg_level = SOL_SOCKET;
		c.hdr.cmsg_type = SCM_RIGHTS;
		*(int *)CMSG_DATA(&c.hdr) = A(3) % 2 ? file(A(2)) :
		    desc(A(2));
		CALL(m, sendmsg(file(A(1)), &mh, MSG_DONTWAIT));
	} else {
		CALL(m, recvmsg(file(A(1)), &mh, MSG_DONTWAIT));
		if (m->ret >= 0 && c.hdr.cmsg_len == CMSG_LEN(sizeof(int)))
			kept[A(2) % 8] = *(int *)CMSG_DATA(&c.hdr);
	}
}

void
do_aio(struct me *m, const struct op *o)
{
	struct aiocb *cb, *all[2];
	const struct aiocb *some[1];
	struct timespec ts = { 0, 2000000 };

	cb = &cbs[A(1) % 4];
	some[0] = cb;
	all[0] = cb;
	all[1] = &cbs[(A(1) + 1) % 4];
	switch (choice(&t_aio, A(0))) {
	case 0:
	case 1:
	case 7:
	case 8:
		memset(cb, 0, sizeof(*cb));
		cb->aio_fildes = file(A(2));
		cb->aio_buf = (void *)addr(A(3));
		cb->aio_nbytes = PAGE;
		if (A(4) % 3 == 1) {
			cb->aio_sigevent.sigev_notify = SIGEV_SIGNAL;
			cb->aio_sigevent.sigev_signo = SIGUSR1;
		}
		if (choice(&t_aio, A(0)) == 1)
			CALL(m, aio_write(cb));
		else if (choice(&t_aio, A(0)) == 7)
			CALL(m, aio_mlock(cb));
		else
			CALL(m, aio_read(cb));
		break;
	case 2:
	case 9:
		all[0]->aio_lio_opcode = LIO_READ;
		all[1]->aio_lio_opcode = LIO_WRITE;
		all[0]->aio_fildes = all[1]->aio_fildes = file(A(2));
		all[0]->aio_buf = all[1]->aio_buf = (void *)addr(A(3));
		all[0]->aio_nbytes = all[1]->aio_nbytes = 100;
		CALL(m, lio_listio(choice(&t_aio, A(0)) == 2 ? LIO_NOWAIT :
		    LIO_WAIT, all, 2, NULL));
		break;
	case 3:
		CALL(m, aio_cancel(file(A(2)), A(4) % 2 ? NULL : cb));
		break;
	case 4:
		CALL(m, aio_suspend(some, 1, &ts));
		break;
	case 5:
		CALL(m, aio_waitcomplete(&cb, &ts));
		break;
	default:
		cb->aio_fildes = file(A(2));
		CALL(m, aio_fsync(O_SYNC, cb));
		break;
	}
}

void
do_event(struct me *m, const struct op *o)
{
	struct kevent kev;

	switch (choice(&t_event, A(1))) {
	case 0:
		EV_SET(&kev, A(3) % 2 ? desc(A(2)) : file(A(2)), EVFILT_READ,
		    EV_ADD, 0, 0, NULL);
		break;
	case 1:
		EV_SET(&kev, 1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, NULL);
		break;
	case 2:
		EV_SET(&kev, 1, EVFILT_TIMER, EV_ADD, 0, 1, NULL);
		break;
	case 3:
		EV_SET(&kev, who(m, A(2)), EVFILT_PROC, EV_ADD,
		    NOTE_EXIT | NOTE_FORK | NOTE_TRACK | NOTE_EXEC, 0, NULL);
		break;
	case 4:
		EV_SET(&kev, SIGUSR1, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL);
		break;
	case 5:
		EV_SET(&kev, file(A(2)), EVFILT_VNODE, EV_ADD, NOTE_WRITE, 0,
		    NULL);
		break;
	default:
		EV_SET(&kev, file(A(2)), EVFILT_PROCDESC, EV_ADD, NOTE_EXIT, 0,
		    NULL);
		break;
	}
	CALL(m, kevent(file(A(0)), &kev, 1, NULL, 0, NULL));
}
