/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the runtime of a program in Rust asks the system for before its main(),
 * and a function cannot: whether descriptors 0 to 2 are open, which they are as
 * far as the program can tell, and where the stack ends, to tell its overflow
 * from other faults.  And the calls with several pieces of its streams.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

int __real_poll(struct pollfd *, nfds_t, int);
ssize_t __real_readv(int, const struct iovec *, int);
ssize_t __real_writev(int, const struct iovec *, int);
ssize_t __wrap_read(int, void *, size_t);
ssize_t __wrap_write(int, const void *, size_t);
int __wrap_poll(struct pollfd *, nfds_t, int);
int __wrap_pthread_getattr_np(pthread_t, pthread_attr_t *);
ssize_t __wrap_readv(int, const struct iovec *, int);
ssize_t __wrap_writev(int, const struct iovec *, int);

int
__wrap_poll(struct pollfd *of, nfds_t count, int timeout)
{

	for (nfds_t i = 0; i < count; i++)
		if (of[i].fd < 0 || of[i].fd > 2)
			return (__real_poll(of, count, timeout));
	for (nfds_t i = 0; i < count; i++)
		of[i].revents = of[i].events;
	return (0);
}

int
__wrap_pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes)
{

	(void)thread;
	(void)attributes;
	return (ENOSYS);
}

ssize_t
__wrap_readv(int fd, const struct iovec *pieces, int count)
{

	if (fd != 0)
		return (__real_readv(fd, pieces, count));
	/* As much as there is may be less than is asked for. */
	for (int i = 0; i < count; i++)
		if (pieces[i].iov_len != 0)
			return (__wrap_read(fd, pieces[i].iov_base,
			    pieces[i].iov_len));
	return (0);
}

ssize_t
__wrap_writev(int fd, const struct iovec *pieces, int count)
{
	ssize_t all = 0, n;

	if (fd != 1 && fd != 2)
		return (__real_writev(fd, pieces, count));
	for (int i = 0; i < count; i++) {
		n = __wrap_write(fd, pieces[i].iov_base, pieces[i].iov_len);
		if (n < 0)
			return (all != 0 ? all : -1);
		all += n;
	}
	return (all);
}
