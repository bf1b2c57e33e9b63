/*
 * A function that connects to what the file grants it, and tries to connect to what it
 * does not.  The tests in orchestrator/tests/reach/connect.rs run it.  Its input is one
 * command a line; each appends its results, in brackets.  WHERE is HOST:PORT, a numeric
 * address, or unix:PATH, or @NAME for an abstract name.
 *
 *	say WHERE TEXT	connect(2), send(2) a line, read(2) one, close(2): the line or errno
 *	soon WHERE TEXT	the same without waiting: poll(2), SO_ERROR, connect(2) again
 *	message WHERE TEXT	the same by sendmsg(2) and recvmsg(2), in two pieces
 *	limit WHERE TEXT	the same with SO_RCVTIMEO and TCP_NODELAY set before
 *	name HOST PORT TEXT	the same, by getaddrinfo(3)
 *	keep WHERE TEXT	the same, and leave it open: its number, and the line
 *	half WHERE TEXT	the same, and leave half of the answer unread
 *	listen WHERE TEXT	send(2), and wait for what does not come
 *	held		numbers below 4096 that can be asked about
 *	sockets		every socket that can be made beside streams
 *	abuse WHERE	every call on a connection that could do harm
 *	server		bind(2), listen(2), accept(2): which succeeded
 *	again WHERE OTHER	connect(2) to both with one socket, and AF_UNSPEC
 *	mapped PORT	::ffff:127.0.0.1
 *	short WHERE	addresses that are cut off: which succeeded
 *	pass WHERE	what its peer sends descriptors with, in every way: how many bytes
 *			came, how far the next number is, how many sockets are there
 *			that were not, and what is told of what else came
 *	snatch WHERE HOW	recvmsg(2) by its own instruction, with SIGSYS "blocked",
 *			"handled", "default" or as it is ("plain"), or by another gate
 *			("gate"; FreeBSD): how many descriptors came
 *	many WHERE N	connect(2) N times, and close(2) none: how many, and errno
 *	closing WHERE N	the same, closing each
 *	deaf WHERE	connect(2) by hand, with SIGSYS blocked
 *	own WHERE	the same with a handler of SIGSYS of its own
 *	copy WHERE TEXT	by a second number for the connection
 *	select WHERE TEXT	waits by select(2)
 *	thread		leaves a thread behind, which waits for ever: whether there is one
 *	nowhere		calls on numbers of no connection: how many are EBADF
 *	fail CODE	an error of its own, in the end
 *	map WHERE	mmap(2) of a connection, in every way: how many succeeded
 *	file PATH	mmap(2) of a file, to write and to run: how many succeeded; and
 *			to read, shared and private: its first bytes
 *	epoll WHERE TEXT	waits by epoll(7), with an eventfd(2) beside; and how many
 *			queues there are (Linux)
 *	queue		kqueue(2), kqueuex(2), eventfd(2): errno (FreeBSD)
 *	options WHERE	options of a socket and of a connection: what they come to
 *	sizes WHERE	of the buffers of a connection
 *	write WHERE TEXT	as say, by write(2) and writev(2)
 *	config HOST PORT TEXT	as name, with AI_ADDRCONFIG, of any family and of IPv4
 *	exact PATH TEXT	as say, of a Unix path without the byte that ends it
 *	stream WHERE TEXT	as say, twice, by fdopen(3), fprintf(3) and fgets(3)
 *	words WHERE	strerror(3) of what connect(2) says
 *	wake		pipe(2), pipe2(2), socketpair(2): which succeeded
 */

#define _GNU_SOURCE
#include "lwc_function.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#ifdef __linux__
#include <sys/epoll.h>
#else
#include <net/if.h>
#include <sys/event.h>
#include <sys/sockio.h>
#endif
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static lwc_invocation *now;

static void
tell(const char *format, ...)
{
	char text[4096];
	va_list all;

	va_start(all, format);
	vsnprintf(text, sizeof(text), format, all);
	va_end(all);
	lwc_append(now, "[", 1);
	lwc_append(now, text, strlen(text));
	lwc_append(now, "]", 1);
}

static socklen_t
address(const char *where, struct sockaddr_storage *to)
{
	struct sockaddr_un *path = (struct sockaddr_un *)to;
	struct sockaddr_in *four = (struct sockaddr_in *)to;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)to;
	char host[256];
	const char *port = strrchr(where, ':');

	memset(to, 0, sizeof(*to));
	if (strncmp(where, "unix:", 5) == 0 || where[0] == '@') {
		path->sun_family = AF_UNIX;
		if (where[0] == '@') {
			strncpy(path->sun_path + 1, where + 1, 100);
			return (offsetof(struct sockaddr_un, sun_path) +
			    strlen(where));
		}
		strncpy(path->sun_path, where + 5, sizeof(path->sun_path) - 1);
		return (sizeof(*path));
	}
	if (port == NULL)
		return (0);
	snprintf(host, sizeof(host), "%.*s", (int)(port - where), where);
	if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)atoi(port + 1));
		return (sizeof(*four));
	}
	if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons((uint16_t)atoi(port + 1));
		return (sizeof(*six));
	}
	return (0);
}

/* A socket of the family, and the address. */
static int
prepare(const char *where, struct sockaddr_storage *to, socklen_t *len, int flags)
{

	*len = address(where, to);
	return (socket(to->ss_family, SOCK_STREAM | flags, 0));
}

/* A connection, or -1. */
static int
reach(const char *where)
{
	struct sockaddr_storage to;
	socklen_t len;
	int fd = prepare(where, &to, &len, SOCK_CLOEXEC), e;

	if (fd >= 0 && connect(fd, (struct sockaddr *)&to, len) != 0) {
		e = errno;
		close(fd);
		errno = e;
		return (-1);
	}
	return (fd);
}

/* Sends a line, and reads one: as long as it is, or -1. */
static ssize_t
talk(int fd, const char *text, char *back, size_t room)
{
	size_t n = 0;
	ssize_t got;
	char line[512];

	snprintf(line, sizeof(line), "%s\n", text);
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
		return (-1);
	while (n == 0 || back[n - 1] != '\n') {
		got = read(fd, back + n, room - n - 1);
		if (got <= 0)
			return (got == 0 ? (ssize_t)n : -1);
		n += (size_t)got;
	}
	back[n - 1] = '\0';
	return ((ssize_t)n);
}

static void
tell_line(int fd, const char *text, int keep)
{
	char back[1024] = "";

	if (fd < 0 || talk(fd, text, back, sizeof(back)) < 0)
		tell("%d", errno);
	else if (keep)
		tell("%d %s", fd, back);
	else
		tell("%s", back);
	if (fd >= 0 && !keep)
		close(fd);
}

static void
soon(const char *where, const char *text)
{
	struct sockaddr_storage to;
	socklen_t len, size = sizeof(int);
	int fd = prepare(where, &to, &len, 0), why = -1, flags, more;
	struct pollfd one = { .fd = fd, .events = POLLOUT };

	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
	    !(fcntl(fd, F_GETFL) & O_NONBLOCK)) {
		tell("flags %d", errno);
		return;
	}
	if (connect(fd, (struct sockaddr *)&to, len) != 0 &&
	    errno != EINPROGRESS) {
		tell("%d", errno);
		close(fd);
		return;
	}
	if (poll(&one, 1, 60000) != 1 ||
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &size) != 0 || why != 0) {
		tell("error %d", why);
		close(fd);
		return;
	}
	if (connect(fd, (struct sockaddr *)&to, len) == 0 || errno != EISCONN) {
		tell("again %d", errno);
		return;
	}
	if (!(fcntl(fd, F_GETFL) & O_NONBLOCK)) {
		tell("it waits");
		return;
	}
	more = 0;
	if (ioctl(fd, FIONBIO, &more) != 0 || fcntl(fd, F_GETFL) & O_NONBLOCK) {
		tell("it does not wait");
		return;
	}
	tell_line(fd, text, 0);
}

static void
message(const char *where, char *text)
{
	char back[2][512] = { "", "" };
	struct iovec out[3] = { { text, strlen(text) }, { NULL, 0 }, { (char *)"\n", 1 } };
	struct iovec in[2] = { { back[0], 2 }, { back[1], sizeof(back[1]) - 1 } };
	struct msghdr send = { .msg_iov = out, .msg_iovlen = 3 };
	struct msghdr receive = { .msg_iov = in, .msg_iovlen = 2 };
	struct pollfd one = { .events = POLLIN };
	int fd = reach(where), there = 0;
	ssize_t n;

	if (fd < 0 || sendmsg(fd, &send, MSG_NOSIGNAL) != (ssize_t)strlen(text) + 1) {
		tell("%d", errno);
		return;
	}
	one.fd = fd;
	/* All of it, or the pieces would be what has come. */
	while (poll(&one, 1, -1) == 1 && ioctl(fd, FIONREAD, &there) == 0 &&
	    there < (int)strlen(text) + 1)
		usleep(1000);
	n = recvmsg(fd, &receive, 0);
	tell("%zd %s%.*s", n, back[0], n > 2 ? (int)n - 3 : 0, back[1]);
	close(fd);
}

static void
limit(const char *where, const char *text)
{
	struct timeval set = { 7, 0 }, got = { 0, 0 };
	struct sockaddr_storage to;
	socklen_t len, size = sizeof(int), time = sizeof(got);
	int fd = prepare(where, &to, &len, 0), yes = 1, is = 0;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &set, sizeof(set)) != 0 ||
	    connect(fd, (struct sockaddr *)&to, len) != 0 ||
	    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &is, &size) != 0 || !is ||
	    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &got, &time) != 0 ||
	    got.tv_sec != 7)
		tell("options %d", errno);
	else
		tell_line(fd, text, 0);
}

static void
by_name(const char *host, const char *port, const char *text, int flags, int family)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags,
	    .ai_family = family }, *all = NULL, *one;
	int e = getaddrinfo(host, port, &hints, &all), fd = -1;

	if (e != 0) {
		tell("no name");
		return;
	}
	for (one = all; one != NULL && fd < 0; one = one->ai_next) {
		fd = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
		if (fd >= 0 && connect(fd, one->ai_addr, one->ai_addrlen) != 0) {
			e = errno;
			close(fd);
			errno = e;
			fd = -1;
		}
	}
	tell_line(fd, text, 0);
	freeaddrinfo(all);
}

static void
half(const char *where, const char *text)
{
	int fd = reach(where);
	char line[512], byte = 0;

	snprintf(line, sizeof(line), "%s\n", text);
	if (fd < 0 || write(fd, line, strlen(line)) < 0 || read(fd, &byte, 1) != 1)
		tell("%d", errno);
	else
		tell("%c", byte);
}

static int
count_held(void)
{
	int n = 0;

	for (int fd = 3; fd < 4096; fd++) {
#ifdef __linux__
		struct sockaddr_storage own;
		socklen_t len = sizeof(own);

		n += fcntl(fd, F_GETFD) >= 0 ||
		    getsockname(fd, (struct sockaddr *)&own, &len) == 0;
#else
		/* Its context has names of others, which it may ask about. */
		struct stat is;

		n += fstat(fd, &is) == 0 && S_ISSOCK(is.st_mode);
#endif
	}
	return (n);
}

static void
held(void)
{

	tell("%d", count_held());
}

static void
sockets(void)
{
	static const int kinds[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_RAW,
#ifdef __linux__
	    SOCK_DCCP, SOCK_PACKET,
#endif
	    SOCK_SEQPACKET, SOCK_RDM };
	/* Each of these calls is a signal. */
#ifdef __linux__
	const int protocols = 300;
#else
	const int protocols = 20;
#endif
	char text[4096] = "", one[64];
	int pair[2];

	for (int family = 0; family < 64; family++) {
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			for (int p = 0; p < protocols; p++) {
				int known = family == AF_UNIX || family == AF_INET ||
				    family == AF_INET6;

				if (known && kinds[k] == SOCK_STREAM &&
				    (p == 0 || p == IPPROTO_TCP))
					continue;
				if (socket(family, kinds[k], p) < 0)
					continue;
				snprintf(one, sizeof(one), "%d/%d/%d ", family,
				    kinds[k], p);
				strncat(text, one, sizeof(text) - strlen(text) - 1);
			}
		}
	}
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0)
		strcat(text, "pair ");
	if (syscall(SYS_socket, AF_INET | 1L << 32, SOCK_DGRAM, 0) >= 0)
		strcat(text, "high ");
	tell("%s", text);
}

#define	DO(name, what) do {						\
	if ((what) >= 0)						\
		strcat(text, name " ");					\
} while (0)

static void
abuse(const char *where, const char *other)
{
	char text[2048] = "", byte = 'x', control[256];
	struct sockaddr_storage to, from = { 0 };
	socklen_t len = address(other, &to), size = sizeof(from);
	struct iovec piece = { &byte, 1 };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1,
	    .msg_name = &to, .msg_namelen = len };
#ifdef __linux__
	struct mmsghdr several = { .msg_hdr = { .msg_iov = &piece, .msg_iovlen = 1 } };
#endif
	struct cmsghdr *head = (struct cmsghdr *)control;
	struct linger linger = { 1, 60 };
	int fd = reach(where), one = 1, pid = getpid();

	if (fd < 0) {
		tell("%d", errno);
		return;
	}
	DO("sendto", sendto(fd, &byte, 1, 0, (struct sockaddr *)&to, len));
	DO("sendmsg_name", sendmsg(fd, &message, 0));
	memset(control, 0, sizeof(control));
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	message = (struct msghdr){ .msg_iov = &piece, .msg_iovlen = 1,
	    .msg_control = control, .msg_controllen = CMSG_SPACE(sizeof(int)) };
	DO("rights", sendmsg(fd, &message, 0));
	DO("linger", setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	DO("congestion", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	DO("options", setsockopt(fd, IPPROTO_IP, IP_OPTIONS, &byte, 0));
	DO("setown", fcntl(fd, F_SETOWN, pid));
	DO("fioasync", ioctl(fd, FIOASYNC, &one));
	DO("accept", accept(fd, NULL, NULL));
	DO("listen", listen(fd, 1));
	DO("dup3", dup3(fd, 900, O_CLOEXEC));
	DO("dupfd", fcntl(fd, F_DUPFD_CLOEXEC, 300));
#ifdef __linux__
	DO("fastopen", sendto(fd, &byte, 1, MSG_FASTOPEN, (struct sockaddr *)&to, len));
	DO("fastopen_null", send(fd, &byte, 1, MSG_FASTOPEN));
	DO("oob", send(fd, &byte, 1, MSG_OOB));
	DO("zerocopy", send(fd, &byte, 1, MSG_ZEROCOPY));
	DO("sendmmsg", syscall(SYS_sendmmsg, fd, &several, 1, 0));
	DO("recvmmsg", syscall(SYS_recvmmsg, fd, &several, 1, MSG_DONTWAIT, NULL));
	DO("errqueue", recv(fd, &byte, 1, MSG_ERRQUEUE | MSG_DONTWAIT));
	DO("device", setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	DO("mark", setsockopt(fd, SOL_SOCKET, SO_MARK, &one, sizeof(one)));
	DO("passcred", setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)));
	DO("zc", setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)));
	DO("repair", setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof(one)));
	DO("fast", setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)));
	DO("ulp", setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3));
	DO("peerpidfd", getsockopt(fd, SOL_SOCKET, 77, &one, &size));
	DO("peercred", getsockopt(fd, SOL_SOCKET, SO_PEERCRED, control, &size));
	DO("async", fcntl(fd, F_SETFL, O_ASYNC));
	DO("siocgifconf", ioctl(fd, 0x8912, control));
	DO("dup", dup(fd));
	DO("dup2", dup2(fd, 1));
	DO("dup3_out", dup3(fd, 1, O_CLOEXEC));
	DO("dupfd_low", fcntl(fd, F_DUPFD_CLOEXEC, 0));
	DO("splice", syscall(SYS_splice, fd, NULL, 1, NULL, 1, 0));
	DO("sendfile", syscall(SYS_sendfile, fd, fd, NULL, 1));
#else
	DO("fib", setsockopt(fd, SOL_SOCKET, SO_SETFIB, &one, sizeof(one)));
	DO("cookie", setsockopt(fd, SOL_SOCKET, SO_USER_COOKIE, &one, sizeof(one)));
	DO("splice", setsockopt(fd, SOL_SOCKET, SO_SPLICE, &fd, sizeof(fd)));
	DO("stack", setsockopt(fd, IPPROTO_TCP, TCP_FUNCTION_BLK, control, 40));
	DO("tls", setsockopt(fd, IPPROTO_TCP, TCP_TXTLS_ENABLE, control, 16));
	DO("info", getsockopt(fd, IPPROTO_TCP, TCP_INFO, control, &size));
	DO("peercred", getsockopt(fd, 0, LOCAL_PEERCRED, control, &size));
	DO("creds", setsockopt(fd, 0, LOCAL_CREDS, &one, sizeof(one)));
	DO("fiosetown", ioctl(fd, FIOSETOWN, &pid));
	DO("siocgifconf", ioctl(fd, SIOCGIFCONF, control));
	DO("connectat", connectat(AT_FDCWD, fd, (struct sockaddr *)&to, len));
	DO("bindat", bindat(AT_FDCWD, fd, (struct sockaddr *)&to, len));
	DO("kqueue", kqueue());
	/* And what the context has of them itself: no rights for that. */
	DO("line", send(256, &byte, 1, 0));
#endif
	size = sizeof(from);
	to.ss_family = AF_UNSPEC;
	DO("dissolve", connect(fd, (struct sockaddr *)&to, len));
	DO("bind", bind(fd, (struct sockaddr *)&from, size));
	tell("%s", text);
	close(fd);
}

static void
server(void)
{
	struct sockaddr_storage to;
	socklen_t len = address("127.0.0.1:0", &to);
	char text[256] = "";
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	DO("bind", bind(fd, (struct sockaddr *)&to, len));
	DO("listen", listen(fd, 1));
	DO("accept", accept(fd, NULL, NULL));
	DO("accept4", accept4(fd, NULL, NULL, 0));
	tell("%s", text);
	close(fd);
}

static void
again(const char *where, const char *other)
{
	struct sockaddr_storage to, second;
	socklen_t len, size;
	int fd = prepare(where, &to, &len, 0), fresh;
	int first = connect(fd, (struct sockaddr *)&to, len);
	int e[3] = { 0, 0, 0 };

	size = address(other, &second);
	if (connect(fd, (struct sockaddr *)&to, len) != 0)
		e[0] = errno;
	if (connect(fd, (struct sockaddr *)&second, size) != 0)
		e[1] = errno;
	/* One that is none yet. */
	fresh = socket(AF_INET, SOCK_STREAM, 0);
	second.ss_family = AF_UNSPEC;
	if (connect(fresh, (struct sockaddr *)&second, size) != 0)
		e[2] = errno;
	tell("%d %d %d %d", first, e[0], e[1], e[2]);
	close(fd);
	close(fresh);
}

/* The other family, by a socket of its own and one of IPv4. */
static void
mapped(int port)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6,
	    .sin6_port = htons((uint16_t)port) };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), four = socket(AF_INET, SOCK_STREAM, 0);
	int e[3] = { 0, 0, 0 };

	inet_pton(AF_INET6, "::ffff:127.0.0.1", &six.sin6_addr);
	if (connect(fd, (struct sockaddr *)&six, sizeof(six)) != 0)
		e[0] = errno;
	if (connect(four, (struct sockaddr *)&six, sizeof(six)) != 0)
		e[1] = errno;
	inet_pton(AF_INET6, "::1", &six.sin6_addr);
	if (connect(fd, (struct sockaddr *)&six, sizeof(six)) != 0)
		e[2] = errno;
	tell("%d %d %d", e[0], e[1], e[2]);
	close(fd);
	close(four);
}

static void
too_short(const char *where)
{
	struct sockaddr_storage to;
	socklen_t len;
	int n = 0;

	for (socklen_t cut = 0; cut < 16; cut++) {
		int fd = prepare(where, &to, &len, 0);

		n += connect(fd, (struct sockaddr *)&to, cut) == 0;
		close(fd);
	}
	/* And one that is too long. */
	int fd = prepare(where, &to, &len, 0);

	n += connect(fd, (struct sockaddr *)&to, 100000) == 0;
	n += connect(fd, (struct sockaddr *)&to, (socklen_t)-1) == 0;
	n += connect(-1, (struct sockaddr *)&to, len) == 0;
	n += connect(0, (struct sockaddr *)&to, len) == 0;
	n += connect(4000, (struct sockaddr *)&to, len) == 0;
	close(fd);
	tell("%d", n);
}

/* Its peer sends descriptors with each line. */
static void
pass(const char *where)
{
	char control[256], byte = '\n';
	struct iovec piece = { &byte, 1 };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1,
	    .msg_control = control, .msg_controllen = sizeof(control) };
	int fd = reach(where), before, after, were, flags;
	size_t told;
	ssize_t n;

	if (fd < 0 || write(fd, "x\n", 2) != 2) {
		tell("%d", errno);
		return;
	}
	before = dup3(fd, fd + 1, O_CLOEXEC);
	were = count_held();
	n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	told = message.msg_controllen;
	flags = message.msg_flags;
	message.msg_controllen = sizeof(control);
	n += syscall(SYS_recvmsg, fd, &message, MSG_CMSG_CLOEXEC | 1L << 32);
	told += message.msg_controllen;
	flags |= message.msg_flags;
	message.msg_controllen = sizeof(control);
	n += recvmsg(fd, &message, MSG_PEEK);
	told += message.msg_controllen;
	message.msg_control = NULL;
	message.msg_controllen = 0;
	n += recvmsg(fd, &message, 0);
	n += recv(fd, &byte, 1, MSG_WAITALL);
	n += readv(fd, &piece, 1);
	n += read(fd, &byte, 1);
	were = count_held() - were;
	after = socket(AF_UNIX, SOCK_STREAM, 0);
	tell("%zd %d %d %zu %d", n, after - before, were, told, flags);
	close(fd);
	close(before);
	close(after);
}

static void
nothing(int signal)
{

	(void)signal;
}

/* A call past the C library. */
static long
by_hand(long number, long a, void *b, long c, int gate)
{
#ifdef __x86_64__
	register long flags __asm__("r10") = 0;
	long value = number;

	if (gate)
		__asm__ volatile("int $0x80; sbb %%r10, %%r10; or %%r10, %0"
		    : "+a"(value), "+d"(c), "+r"(flags) : "D"(a), "S"(b)
		    : "rcx", "r8", "r9", "r11", "memory", "cc");
	else
		__asm__ volatile("syscall" : "+a"(value), "+d"(c), "+r"(flags)
		    : "D"(a), "S"(b) : "rcx", "r8", "r9", "r11", "memory", "cc");
	return (value);
#else
	(void)gate;
	return (syscall(number, a, b, c));
#endif
}

/* Its peer sends a descriptor, which it tries to take past whoever answers. */
static void
snatch(const char *where, const char *how)
{
	char control[256] = "", byte;
	struct iovec piece = { &byte, 1 };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1,
	    .msg_control = control, .msg_controllen = sizeof(control) };
	struct sigaction action;
	struct cmsghdr *head;
	sigset_t set;
	int fd = reach(where), n, were;

	if (fd < 0 || write(fd, "x\n", 2) != 2) {
		tell("error %d", errno);
		return;
	}
	memset(&action, 0, sizeof(action));
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	were = count_held();
	if (strcmp(how, "blocked") == 0)
		sigprocmask(SIG_BLOCK, &set, NULL);
	action.sa_handler = strcmp(how, "default") == 0 ? SIG_DFL : nothing;
	if (strcmp(how, "handled") == 0 || strcmp(how, "default") == 0)
		sigaction(SIGSYS, &action, NULL);
	n = by_hand(SYS_recvmsg, fd, &message, 0, strcmp(how, "gate") == 0) == 1;
	head = n ? CMSG_FIRSTHDR(&message) : NULL;
	tell("%d", count_held() - were + (head != NULL));
	close(fd);
}

static void
many(const char *where, int n, int closing)
{
	int made = 0, why = 0;

	for (int i = 0; i < n; i++) {
		int fd = reach(where);

		if (fd < 0)
			why = errno;
		else
			made++;
		if (fd >= 0 && closing)
			close(fd);
	}
	tell("%d %d", made, why);
}

static void
past_the_host(const char *where, int own)
{
	struct sigaction action;
	sigset_t set;
	char back[64] = "";
	struct sockaddr_storage to;
	socklen_t len;
	int fd = prepare(where, &to, &len, 0);

	if (own) {
		memset(&action, 0, sizeof(action));
		action.sa_handler = nothing;
		sigaction(SIGSYS, &action, NULL);
	} else {
		sigemptyset(&set);
		sigaddset(&set, SIGSYS);
		sigprocmask(SIG_BLOCK, &set, NULL);
	}
	/* By hand: the C library's is answered without a signal. */
	syscall(SYS_connect, fd, &to, len);
	tell("%d", talk(fd, "x", back, sizeof(back)) > 0);
}

static void
wait_by_select(const char *where, const char *text)
{
	int fd = reach(where);
	char line[512];
	fd_set set;
	struct timeval wait = { 60, 0 };

	snprintf(line, sizeof(line), "%s\n", text);
	FD_ZERO(&set);
	if (fd >= 0)
		FD_SET(fd, &set);
	if (fd < 0 || write(fd, line, strlen(line)) < 0 ||
	    select(fd + 1, &set, NULL, NULL, &wait) != 1 || !FD_ISSET(fd, &set)) {
		tell("select %d", errno);
		return;
	}
	tell("%zd", recv(fd, line, sizeof(line), MSG_DONTWAIT | MSG_PEEK));
	close(fd);
}

#ifdef __linux__
static void
wait_by_epoll(const char *where, const char *text)
{
	int fd = reach(where), queue = epoll_create1(EPOLL_CLOEXEC);
	int counter = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), n = 1, more[8];
	struct epoll_event one = { .events = EPOLLIN | EPOLLET, .data = { .fd = fd } };
	struct epoll_event other = { .events = EPOLLIN, .data = { .fd = counter } };
	char line[512];

	snprintf(line, sizeof(line), "%s\n", text);
	if (fd < 0 || queue < 0 || counter < 0 ||
	    epoll_ctl(queue, EPOLL_CTL_ADD, fd, &one) != 0 ||
	    epoll_ctl(queue, EPOLL_CTL_ADD, counter, &other) != 0 ||
	    write(fd, line, strlen(line)) < 0 ||
	    epoll_wait(queue, &one, 1, 60000) != 1 || one.data.fd != fd) {
		tell("epoll %d", errno);
		return;
	}
	/* Not those of others. */
	for (int other_fd = 0; other_fd < 4096; other_fd++) {
		if (other_fd < 3 || other_fd > 255)
			n += epoll_ctl(queue, EPOLL_CTL_ADD, other_fd, &other) == 0;
	}
	for (int i = 0; i < 8; i++)
		n += (more[i] = epoll_create1(0)) >= 0;
	tell("%d", n);
	for (int i = 0; i < 8; i++)
		close(more[i]);
	close(fd);
	close(queue);
	close(counter);
}
#endif

/* Set before and after, asked for, and refused. */
static void
options(const char *where)
{
	struct sockaddr_storage to;
	socklen_t len, size = sizeof(int), time = sizeof(struct timeval);
	struct timeval set = { 3, 250000 }, got = { 0, 0 };
	int fd = prepare(where, &to, &len, 0), one = 1, is[7] = { 0 };
	int tcp = to.ss_family != AF_UNIX;

	is[0] = setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, size) == 0;
	is[1] = connect(fd, (struct sockaddr *)&to, len) == 0;
	is[2] = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &set, time) == 0 &&
	    getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &got, &time) == 0 &&
	    got.tv_sec == 3 && time == sizeof(got);
	one = 0;
	is[3] = getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, &size) == 0 && one != 0;
	is[4] = getsockopt(fd, SOL_SOCKET, SO_TYPE, &one, &size) == 0 &&
	    one == SOCK_STREAM;
	one = 1;
	is[5] = !tcp || (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, size) == 0 &&
	    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &is[6], &size) == 0 && is[6] != 0);
	is[6] = setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, 1) == -1;
	tell("%d%d%d%d%d%d%d", is[0], is[1], is[2], is[3], is[4], is[5], is[6]);
	close(fd);
}

/* Where a function's prints are read, write(2) is another call. */
static void
by_write(const char *where, char *text)
{
	struct iovec out[3] = { { text, 1 }, { NULL, 0 }, { (char *)"\n", 1 } };
	int fd = reach(where);
	char back[512] = "";
	ssize_t n = 0;

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) ||
	    writev(fd, out, 3) != 2) {
		tell("%d", errno);
		return;
	}
	while (n == 0 || back[n - 1] != '\n') {
		struct iovec in[2] = { { back + n, 1 }, { back + n + 1, sizeof(back) - n - 1 } };
		ssize_t got = readv(fd, in, 2);

		if (got <= 0)
			break;
		n += got;
	}
	tell("%.*s", n > 0 ? (int)n - 1 : 0, back);
	close(fd);
}

static void
by_exact_path(const char *path, const char *text)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(to.sun_path, sizeof(to.sun_path) - 3, "%s", path);
	/* What lies behind is no part of it. */
	memset(to.sun_path + strlen(path), 'x', 3);
	if (connect(fd, (struct sockaddr *)&to, (socklen_t)
	    (offsetof(struct sockaddr_un, sun_path) + strlen(path))) != 0)
		tell("%d", errno);
	else
		tell_line(fd, text, 1);
	close(fd);
}

static void
by_stream(const char *where, const char *text)
{
	int fd = reach(where);
	FILE *stream = fd < 0 ? NULL : fdopen(fd, "r+");
	char line[512] = "";

	if (stream == NULL) {
		tell("%d", errno);
		return;
	}
	for (int i = 0; i < 2; i++) {
		if (fprintf(stream, "%s\n", text) < 0 || fflush(stream) != 0 ||
		    fgets(line, sizeof(line), stream) == NULL)
			tell("%d", errno);
		else
			tell("%.*s", (int)strcspn(line, "\n"), line);
		/* Between a read and a write, as the standard has it. */
		fseek(stream, 0, SEEK_CUR);
	}
	if (fclose(stream) != 0 || fcntl(fd, F_GETFD) >= 0)
		tell("not closed %d", errno);
}

static void
wake(void)
{
	char text[64] = "";
	int pair[2];

	DO("pipe", pipe(pair));
	DO("pipe2", pipe2(pair, O_CLOEXEC));
	DO("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	tell("%s", text);
}

static const int protections[] = { PROT_NONE, PROT_READ, PROT_WRITE,
    PROT_READ | PROT_WRITE, PROT_EXEC, PROT_READ | PROT_EXEC,
    PROT_READ | PROT_WRITE | PROT_EXEC };
static const int kinds[] = { MAP_PRIVATE, MAP_SHARED,
#ifdef __linux__
    MAP_SHARED_VALIDATE, MAP_SHARED | MAP_POPULATE, MAP_PRIVATE | MAP_NORESERVE,
#endif
};

/* By the C library and without it. */
static int
maps_of(int fd)
{
	int n = 0;

	for (size_t p = 0; p < sizeof(protections) / sizeof(int); p++) {
		for (size_t k = 0; k < sizeof(kinds) / sizeof(int); k++) {
			n += mmap(NULL, 4096, protections[p], kinds[k], fd, 0) !=
			    MAP_FAILED;
			n += syscall(SYS_mmap, NULL, 4096, protections[p] | 1L << 40,
			    kinds[k] | 1L << 40, fd | 1L << 40, 0) != -1;
		}
	}
	return (n);
}

static void
map_file(const char *path)
{
	int fd = open(path, O_RDONLY), n = 0;
	char *shared, *own;

	shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	own = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	n += mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) !=
	    MAP_FAILED;
	n += mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) !=
	    MAP_FAILED;
	close(fd);
	if (shared == MAP_FAILED || own == MAP_FAILED)
		tell("%d", errno);
	else
		tell("%d %.3s %.3s", n, shared, own);
}

#ifdef __linux__
#define	CAN_BE_OPEN	0
#else
#define	CAN_BE_OPEN	1
#endif

static void
nowhere(void)
{
	static const int numbers[] = { -1, 0, 1, 2, 200, 256, 300, 1 << 20, 1 << 30 };
	char byte = 'x', text[512] = "";
	struct iovec piece = { &byte, 1 };
	int n = 0;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(int); i++) {
		struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
		struct sockaddr_storage to;
		socklen_t len = address("127.0.0.1:1", &to);

		n += sendmsg(numbers[i], &message, 0) == -1 && errno == EBADF;
		/* FreeBSD makes the call with the line. */
		n += recvmsg(numbers[i], &message, MSG_DONTWAIT) == -1 && (errno == EBADF ||
		    (CAN_BE_OPEN && i == 5));
		n += connect(numbers[i], (struct sockaddr *)&to, len) == -1 &&
		    errno == EBADF;
		DO("send", send(numbers[i], &byte, 1, MSG_NOSIGNAL));
		DO("recv", recv(numbers[i], &byte, 1, MSG_DONTWAIT));
		DO("flags", fcntl(numbers[i], F_SETFL, O_NONBLOCK));
		DO("map", mmap(NULL, 4096, PROT_READ, MAP_SHARED, numbers[i], 0) !=
		    MAP_FAILED ? 0 : -1);
	}
	tell("%d %s", n, text);
}

static void *
wait_for_ever(void *arg)
{

	for (;;)
		poll(NULL, 0, -1);
	return (arg);
}

static void
leave_a_thread(void)
{
	pthread_t thread;

	tell("%d", pthread_create(&thread, NULL, wait_for_ever, NULL) == 0);
}

#define	IS(name)	(strcmp(what, name) == 0)

LWC_HANDLER(connects)
{
	char input[8192], *rest = input, *line;
	int code = 0;

	now = inv;
	snprintf(input, sizeof(input), "%.*s", (int)inv->input_len,
	    (const char *)inv->input);
	while ((line = strsep(&rest, "\n")) != NULL) {
		char what[32] = "", a[256] = "", b[256] = "", c[256] = "";

		if (sscanf(line, "%31s %255s %255s %255s", what, a, b, c) < 1)
			continue;
		if (IS("say"))
			tell_line(reach(a), b, 0);
		else if (IS("keep"))
			tell_line(reach(a), b, 1);
		else if (IS("soon"))
			soon(a, b);
		else if (IS("message"))
			message(a, b);
		else if (IS("limit"))
			limit(a, b);
		else if (IS("name"))
			by_name(a, b, c, 0, AF_UNSPEC);
		else if (IS("config")) {
			by_name(a, b, c, AI_ADDRCONFIG, AF_UNSPEC);
			by_name(a, b, c, AI_ADDRCONFIG, AF_INET);
		} else if (IS("exact"))
			by_exact_path(a, b);
		else if (IS("stream"))
			by_stream(a, b);
		else if (IS("words") && reach(a) < 0)
			tell("%s", strerror(errno));
		else if (IS("wake"))
			wake();
		else if (IS("half"))
			half(a, b);
		else if (IS("listen")) {
			char byte;

			tell("%zd", read(reach(a), &byte, 1));
		} else if (IS("held"))
			held();
		else if (IS("sockets"))
			sockets();
		else if (IS("abuse"))
			abuse(a, b);
		else if (IS("server"))
			server();
		else if (IS("again"))
			again(a, b);
		else if (IS("mapped"))
			mapped(atoi(a));
		else if (IS("short"))
			too_short(a);
		else if (IS("pass"))
			pass(a);
		else if (IS("snatch"))
			snatch(a, b);
		else if (IS("many") || IS("closing"))
			many(a, atoi(b), IS("closing"));
		else if (IS("deaf") || IS("own"))
			past_the_host(a, IS("own"));
		else if (IS("fail"))
			code = atoi(a);
		else if (IS("thread"))
			leave_a_thread();
		else if (IS("nowhere"))
			nowhere();
		else if (IS("map"))
			tell("%d", maps_of(reach(a)));
		else if (IS("file"))
			map_file(a);
		else if (IS("select"))
			wait_by_select(a, b);
#ifdef __linux__
		else if (IS("epoll"))
			wait_by_epoll(a, b);
#else
		else if (IS("queue"))
			tell("%d %d %d", kqueue() >= 0 ? 0 : errno,
			    syscall(SYS_kqueuex, 0) >= 0 ? 0 : errno,
			    eventfd(0, 0) >= 0 ? 0 : errno);
#endif
		else if (IS("sizes")) {
			int fd = reach(a), out = 0, in = 0;
			socklen_t len = sizeof(int);

			getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &out, &len);
			getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &in, &len);
			tell("%d %d", out, in);
		} else if (IS("options"))
			options(a);
		else if (IS("write"))
			by_write(a, b);
		else if (IS("copy")) {
			int fd = reach(a), other;

			other = fcntl(fd, F_DUPFD_CLOEXEC, 3);
			if (other >= 0)
				close(fd);
			tell_line(other, b, 0);
		}
	}
	if (code != 0)
		return (lwc_fail(inv, code, "as it was told"));
	return (0);
}
