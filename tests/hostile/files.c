/*
 * A function that opens what the file grants it, and tries to open what it does not.
 * The tests in orchestrator/tests/reach/files.rs run it.  Its input is one command a
 * line; each appends its results, in brackets:
 *
 *	read PATH	open(2), read(2) the first line, close(2)
 *	fopen PATH	the same by fopen(3)
 *	mmap PATH	the same by mmap(2) of it, closed before it is read
 *	keep PATH	open(2), and leave it open: its number
 *	open PATH N	open(2) with flags N: 0 or the errno
 *	at DIR PATH	openat(2) of PATH in the folder DIR, first line
 *	openat2 PATH	openat2(2): 0 or the errno
 *	list DIR	names in it, sorted, by opendir(3)
 *	stat PATH	stat(2), lstat(2), statx(2), access(2): kind and size
 *	fstat PATH	the same of an open descriptor, by fstat(2) and statx(2)
 *	access PATH N	access(2): 0 or the errno
 *	realpath PATH	realpath(3)
 *	cwd		getcwd(3)
 *	raw PATH	every system call that takes a path, by hand: which succeeded
 *	held		numbers below 4096 that can be read, looked at, or mapped
 *	mapped		whether what `mmap` left mapped is there still
 *	many PATH N	open(2) N times, and close(2) none: how many succeeded, errno
 *	closing PATH N	the same, closing each
 *	abuse PATH	every call on a descriptor of PATH that could do harm
 *	escape DIR	what a descriptor of DIR leads to beyond it
 *	spin PATH	open(2) and close(2), for ever
 *	deaf PATH	openat(2) by hand, with SIGSYS blocked
 *	own PATH	the same with a handler of SIGSYS of its own: what it returns
 *	put PATH TEXT	open(2) to write, write(2), and what a second open(2) reads
 *	stdio PATH	the same by fopen(3), in two pieces, and append a third
 *	temp		tmpfile(3) and mkstemp(3): what is read from them
 *	fill PATH	write(2) 1 KiB again and again: how many KiB went, and errno
 *	starve DIR	make files there when no memory is left: errno
 *	mkdir, rm, rmdir PATH, mv PATH PATH	0 or the errno
 *	wild		calls on numbers that stand for nothing: how many did
 *	unasked		receive what nobody has asked for: how many came
 */

#define _GNU_SOURCE
#include "lwc_function.h"

#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#ifdef __FreeBSD__
#include <sys/param.h>
#include <sys/mount.h>
#endif
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static lwc_invocation *now;
static void *mapping;

/* statx(2), as far as it is used here, where there is none. */
#ifdef __FreeBSD__
#define	STATX_ALL	0
struct statx {
	mode_t	stx_mode;
	ino_t	stx_ino;
	off_t	stx_size;
	struct { time_t tv_sec; } stx_mtime;
};

static int
statx(int dir, const char *path, int flags, unsigned mask, struct statx *sx)
{
	struct stat st;

	(void)mask;
	if (fstatat(dir, path, &st, flags) != 0)
		return (-1);
	sx->stx_mode = st.st_mode;
	sx->stx_ino = st.st_ino;
	sx->stx_size = st.st_size;
	sx->stx_mtime.tv_sec = st.st_mtime;
	return (0);
}
#endif

static void
say(const char *format, ...)
{
	char text[8192];
	va_list all;

	va_start(all, format);
	vsnprintf(text, sizeof(text), format, all);
	va_end(all);
	lwc_append(now, "[", 1);
	lwc_append(now, text, strlen(text));
	lwc_append(now, "]", 1);
}

static void
first_line(const char *text, long n)
{
	const char *end = n > 0 ? memchr(text, '\n', (size_t)n) : NULL;

	if (n < 0)
		say("%d", errno);
	else
		say("%.*s", (int)(end == NULL ? n : end - text), text);
}

static void
read_from(int fd)
{
	char text[256];

	if (fd < 0) {
		say("%d", errno);
		return;
	}
	first_line(text, read(fd, text, sizeof(text)));
	close(fd);
}

static void
read_by_stdio(const char *path)
{
	char text[256];
	FILE *file = fopen(path, "r");

	if (file == NULL) {
		say("%d", errno);
		return;
	}
	if (fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	say("%s", text);
	fclose(file);
}

static void
map(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0) {
		say("%d", errno);
		return;
	}
	mapping = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (mapping == MAP_FAILED)
		say("%d", errno);
	else
		first_line(mapping, st.st_size);
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{

	return (strcmp((*a)->d_name, (*b)->d_name));
}

static void
list(const char *path)
{
	struct dirent **names;
	char text[4096] = "";
	int n = scandir(path, &names, NULL, by_name);

	if (n < 0) {
		say("%d", errno);
		return;
	}
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] == '.')
			continue;
		strncat(text, names[i]->d_name, sizeof(text) - strlen(text) - 2);
		strcat(text, " ");
	}
	say("%s", text);
}

static const char *
kind(mode_t mode)
{

	return (S_ISDIR(mode) ? "folder" : S_ISREG(mode) ? "file" :
	    S_ISLNK(mode) ? "link" : S_ISFIFO(mode) ? "pipe" : "other");
}

static void
look(const char *path)
{
	struct stat st;
	struct statx sx;

	if (stat(path, &st) != 0)
		say("%d", errno);
	else
		say("%s %ld", kind(st.st_mode), S_ISDIR(st.st_mode) ? 0 :
		    (long)st.st_size);
	if (lstat(path, &st) != 0)
		say("%d", errno);
	else
		say("%s", kind(st.st_mode));
	if (statx(AT_FDCWD, path, 0, STATX_ALL, &sx) != 0)
		say("%d", errno);
	else
		say("%s", kind(sx.stx_mode));
	say("%d", access(path, R_OK) != 0 ? errno : 0);
}

static void
look_at_open(const char *path)
{
	struct stat st, other;
	struct statx sx;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &st) != 0 ||
	    statx(fd, "", AT_EMPTY_PATH, STATX_ALL, &sx) != 0 ||
	    fstatat(fd, "", &other, AT_EMPTY_PATH) != 0) {
		say("%d", errno);
		return;
	}
	say("%s %ld %d", kind(st.st_mode), (long)st.st_size,
	    st.st_size == (off_t)sx.stx_size && st.st_ino == sx.stx_ino &&
	    st.st_ino == other.st_ino && st.st_mtime == sx.stx_mtime.tv_sec);
	close(fd);
}

/* Which of the calls that name a file do something. */
static void
raw(const char *path)
{
	char text[1024] = "", buffer[512];
#define	TRY(call, ...) do {						\
	long n = syscall(SYS_##call, __VA_ARGS__);			\
	if (n >= 0)							\
		strcat(text, #call " ");				\
} while (0)
	TRY(openat, AT_FDCWD, path, O_RDONLY);
	TRY(openat, AT_FDCWD, path, O_WRONLY);
	TRY(openat, AT_FDCWD, path, O_PATH);
#ifdef __FreeBSD__
	/* The rest of them ends the function. */
	TRY(fstatat, AT_FDCWD, path, buffer, 0);
	TRY(faccessat, AT_FDCWD, path, 0, 0);
	TRY(readlinkat, AT_FDCWD, path, buffer, sizeof(buffer));
	TRY(unlinkat, AT_FDCWD, path, 0);
	TRY(funlinkat, AT_FDCWD, path, -1, 0);
	TRY(renameat, AT_FDCWD, path, AT_FDCWD, "/tmp/lwc-x");
	TRY(mkdirat, AT_FDCWD, "/tmp/lwc-x", 0700);
	TRY(fchmodat, AT_FDCWD, path, 0777, 0);
	TRY(fchownat, AT_FDCWD, path, 0, 0, 0);
	TRY(utimensat, AT_FDCWD, path, NULL, 0);
	TRY(truncate, path, 0);
	TRY(statfs, path, buffer);
	TRY(chdir, path);
	TRY(pathconf, path, _PC_NAME_MAX);
	TRY(__realpathat, AT_FDCWD, path, buffer, sizeof(buffer), 0);
	TRY(open, path, O_RDONLY);
	TRY(open, path, O_RDWR);
	TRY(access, path, 0);
	TRY(eaccess, path, 0);
	TRY(readlink, path, buffer, sizeof(buffer));
	TRY(unlink, path);
#else
	long how[3] = { O_RDONLY, 0, 0 };
	unsigned long handle[32] = { 128 };
	int mount;

	TRY(openat2, AT_FDCWD, path, how, sizeof(how));
	TRY(statx, AT_FDCWD, path, 0, STATX_ALL, buffer);
	TRY(newfstatat, AT_FDCWD, path, buffer, 0);
	TRY(faccessat, AT_FDCWD, path, 0);
	TRY(faccessat2, AT_FDCWD, path, 0, 0);
	TRY(readlinkat, AT_FDCWD, path, buffer, sizeof(buffer));
	TRY(name_to_handle_at, AT_FDCWD, path, handle, &mount, 0);
	TRY(open_by_handle_at, AT_FDCWD, handle, 0);
	TRY(unlinkat, AT_FDCWD, path, 0);
	TRY(renameat2, AT_FDCWD, path, AT_FDCWD, "/tmp/lwc-x", 0);
	TRY(linkat, AT_FDCWD, path, AT_FDCWD, "/tmp/lwc-x", 0);
	TRY(symlinkat, path, AT_FDCWD, "/tmp/lwc-x");
	TRY(mkdirat, AT_FDCWD, "/tmp/lwc-x", 0700);
	TRY(mknodat, AT_FDCWD, "/tmp/lwc-x", S_IFIFO | 0600, 0);
	TRY(fchmodat, AT_FDCWD, path, 0777);
	TRY(fchownat, AT_FDCWD, path, 0, 0, 0);
	TRY(utimensat, AT_FDCWD, path, NULL, 0);
	TRY(truncate, path, 0);
	TRY(statfs, path, buffer);
	TRY(chdir, path);
	TRY(getxattr, path, "user.x", buffer, sizeof(buffer));
	TRY(setxattr, path, "user.x", "", 0, 0);
	TRY(inotify_init1, 0);
	TRY(fanotify_init, 0, 0);
	TRY(memfd_create, "x", 0);
#ifdef __x86_64__
	TRY(open, path, O_RDONLY);
	TRY(open, path, O_RDWR);
	TRY(creat, path, 0600);
	TRY(stat, path, buffer);
	TRY(access, path, 0);
	TRY(readlink, path, buffer, sizeof(buffer));
	TRY(unlink, path);
	TRY(uselib, path);
#endif
#endif
	say("%s", text);
}

static void
held(void)
{
	int n = 0;
	struct stat st;
	char byte;
	void *at;

	for (int fd = 0; fd < 4096; fd++) {
		if (fd < 3)
			continue;
#ifdef __FreeBSD__
		/* Names of contexts are descriptors, and the line is one. */
		if ((fstat(fd, &st) == 0 &&
		    (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) ||
		    read(fd, &byte, 1) >= 0)
			n++;
		continue;
#endif
		if (read(fd, &byte, 0) >= 0 || fstat(fd, &st) == 0 ||
		    fcntl(fd, F_GETFD) >= 0) {
			n++;
			continue;
		}
		at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
		if (at != MAP_FAILED) {
			munmap(at, 4096);
			n++;
		}
	}
	say("%d", n);
}

/* The kernel reads there, or says that nothing is. */
static void
is_mapped(void)
{

#ifdef __FreeBSD__
	say("%d", mapping != NULL &&
	    syscall(SYS_sigprocmask, 99, mapping, NULL) == -1 &&
	    errno == EINVAL);
#else
	say("%d", mapping != NULL &&
	    syscall(SYS_rt_sigprocmask, 99, mapping, NULL, 8) == -1 &&
	    errno == EINVAL);
#endif
}

static void
many(const char *path, int n, int closing)
{
	int made = 0, why = 0;

	for (int i = 0; i < n; i++) {
		int fd = open(path, O_RDONLY);

		if (fd < 0)
			why = errno;
		else
			made++;
		if (fd >= 0 && closing)
			close(fd);
	}
	say("%d %d", made, why);
}

/* All that a descriptor for reading could still be good for. */
static void
abuse(const char *path)
{
	char text[1024] = "", proc[64];
	struct flock lock = { .l_type = F_RDLCK };
	struct iovec piece = { proc, 1 };
	int fd = open(path, O_RDONLY), n = 1;
	void *at;

	if (fd < 0) {
		say("%d", errno);
		return;
	}
#define	DO(name, what) do {						\
	if ((what) >= 0)						\
		strcat(text, name " ");					\
} while (0)
	DO("write", write(fd, "x", 1));
	DO("pwrite", pwrite(fd, "x", 1, 0));
	DO("writev", writev(fd, &piece, 1));
	DO("ftruncate", ftruncate(fd, 0));
	DO("fallocate", -posix_fallocate(fd, 0, 1));
	DO("fchmod", fchmod(fd, 0777));
	DO("fchown", fchown(fd, getuid(), getgid()));
	DO("futimens", futimens(fd, NULL));
	DO("flock", flock(fd, LOCK_EX | LOCK_NB));
	DO("setlk", fcntl(fd, F_SETLK, &lock));
	DO("setown", fcntl(fd, F_SETOWN, getpid()));
	DO("setfl", fcntl(fd, F_SETFL, O_ASYNC));
	DO("ioctl", ioctl(fd, FIONREAD, &n));
	DO("async", ioctl(fd, FIOASYNC, &n));
	DO("sync", fsync(fd));
#ifdef __FreeBSD__
	/* A copy of it can do no more; and it has no number that is not lent. */
	DO("dupfd_cloexec", fcntl(fd, F_DUPFD_CLOEXEC, 300));
	DO("read_folder", getdirentries(fd, proc, sizeof(proc), NULL));
#else
	DO("fsetxattr", syscall(SYS_fsetxattr, fd, "user.x", "", 0, 0));
	DO("setlease", fcntl(fd, F_SETLEASE, F_RDLCK));
	DO("notify", fcntl(fd, F_NOTIFY, DN_ACCESS));
	DO("dupfd", fcntl(fd, F_DUPFD, 3));
	DO("dupfd_cloexec", fcntl(fd, F_DUPFD_CLOEXEC, 300));
	DO("dup", dup(fd));
	DO("dup2", dup2(fd, 1));
	DO("dup3", dup3(fd, 900, 0));
	DO("sendfile", syscall(SYS_sendfile, 1, fd, NULL, 1));
	DO("splice", syscall(SYS_splice, fd, NULL, 1, NULL, 1, 0));
	DO("copy", syscall(SYS_copy_file_range, fd, NULL, fd, NULL, 1, 0));
	DO("fadvise", syscall(SYS_fadvise64, fd, 0, 0, POSIX_FADV_DONTNEED));
	DO("fchdir", fchdir(fd));
	DO("fexecve", syscall(SYS_linkat, fd, "", AT_FDCWD, "/tmp/lwc-x",
	    AT_EMPTY_PATH));
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	DO("proc", open(proc, O_RDWR));
	DO("proc_read", open(proc, O_RDONLY));
#endif
	at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	DO("map_write", at == MAP_FAILED ? -1 : 0);
	at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	DO("map_then_write", at == MAP_FAILED ? -1 :
	    mprotect(at, 4096, PROT_READ | PROT_WRITE));
	at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	DO("map_run", at == MAP_FAILED ? -1 : 0);
	say("%s", text);
}

static void
escape(const char *path)
{
	static const char *const out[] = { "..", "../secret", "./../secret",
	    "inner/../../secret", "link", "far", "folder/secret", "/etc/passwd",
	    "/proc/self/environ", "/proc/1/environ", "self/environ" };
	char whole[PATH_MAX];
	int dir = open(path, O_RDONLY | O_DIRECTORY), n = 0;

	if (dir < 0) {
		say("%d", errno);
		return;
	}
	for (size_t i = 0; i < sizeof(out) / sizeof(out[0]); i++) {
		snprintf(whole, sizeof(whole), "%s/%s", path, out[i]);
		n += openat(dir, out[i], O_RDONLY) >= 0;
		n += openat(dir, out[i], O_PATH) >= 0;
		n += open(whole, O_RDONLY) >= 0;
		n += syscall(SYS_openat, dir, out[i], O_RDONLY | O_NOFOLLOW) >= 0;
	}
	say("%d", n);
}

static void
unasked(void)
{
	char control[256], byte;
	struct iovec piece = { &byte, 1 };
	int came = 0;

	for (int fd = 0; fd < 8192; fd++) {
		struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1,
		    .msg_control = control, .msg_controllen = sizeof(control) };

		came += recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) >= 0;
		came += recvmsg(fd, &message, MSG_DONTWAIT | MSG_PEEK) >= 0;
	}
	say("%d", came);
}

static void
nothing(int signal)
{

	(void)signal;
}

static void
past_the_host(const char *path, int own)
{
	struct sigaction action;
	sigset_t set;
	char byte;
	int fd;

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
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
	say("%d", fd >= 0 && read(fd, &byte, 1) == 1);
}

static void
put(const char *path, const char *text)
{
	char back[256];
	struct stat st;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600), other;
	ssize_t n;

	if (fd < 0) {
		say("%d", errno);
		return;
	}
	n = write(fd, text, strlen(text));
	other = open(path, O_RDONLY);
	if (n != (ssize_t)strlen(text) || other < 0 || fstat(fd, &st) != 0 ||
	    st.st_size != n || write(other, "x", 1) >= 0 ||
	    fsync(fd) != 0 || fcntl(fd, F_GETFL) != O_WRONLY) {
		say("%d", errno);
		return;
	}
	first_line(back, read(other, back, sizeof(back)));
	first_line(back, pread(other, back, sizeof(back), 1));
	close(fd);
	close(other);
}

static void
put_by_stdio(const char *path)
{
	char back[256];
	FILE *file = fopen(path, "w");
	size_t n;

	if (file == NULL) {
		say("%d", errno);
		return;
	}
	fprintf(file, "one %d", 2);
	fflush(file);
	fprintf(file, " three");
	fclose(file);
	file = fopen(path, "a+");
	fputs(" four", file);
	rewind(file);
	n = fread(back, 1, sizeof(back), file);
	fclose(file);
	first_line(back, (long)n);
}

static void
temporary(void)
{
	char name[] = "/tmp/lwc-XXXXXX", back[16];
	FILE *file = tmpfile();
	int fd = mkstemp(name);
	size_t n = 0;

	if (file != NULL) {
		fputs("first", file);
		rewind(file);
		n = fread(back, 1, sizeof(back), file);
		fclose(file);
	}
	first_line(back, (long)n);
	if (fd < 0 || write(fd, "second", 6) != 6) {
		say("%d", errno);
		return;
	}
	first_line(back, pread(fd, back, sizeof(back), 0));
}

static void
fill(const char *path)
{
	static char piece[1024];
	int fd = open(path, O_RDWR | O_CREAT, 0600), n = 0;
	long all = 0;
	ssize_t did;

	while (fd >= 0 && n++ < 100000 &&
	    (did = write(fd, piece, sizeof(piece))) > 0)
		all += did;
	say("%ld %d", all / 1024, errno);
}

static void
starve(const char *path)
{
	static void *last;
	char name[64];
	size_t size = 1 << 24;
	void *more;
	int n, fd = 0, why = 0;

	while (size >= sizeof(more)) {
		more = malloc(size);
		if (more == NULL) {
			size /= 2;
			continue;
		}
		*(void **)more = last;
		last = more;
	}
	for (n = 0; n < 3000 && fd >= 0; n++) {
		snprintf(name, sizeof(name), "%s/%d", path, n);
		fd = open(name, O_RDWR | O_CREAT, 0600);
		why = errno;
		if (fd >= 0)
			close(fd);
	}
	while (last != NULL) {
		more = *(void **)last;
		free(last);
		last = more;
	}
	say("%d", fd < 0 ? why : 0);
}

static void
wild(void)
{
#ifdef __FreeBSD__
	const int first = 32704;
#else
	const int first = 1 << 20;
#endif
	char byte;
	int did = 0;

	for (int fd = first - 4; fd < first + 80; fd++) {
		did += read(fd, &byte, 1) >= 0;
		did += write(fd, "x", 1) >= 0;
		did += lseek(fd, 0, SEEK_SET) >= 0;
		did += close(fd) == 0;
#ifdef __FreeBSD__
		struct statfs of;
		did += fstatfs(fd, &of) == 0;
#endif
	}
	did += read(-1, &byte, 1) >= 0;
	did += syscall(SYS_read, 1UL << 32 | (unsigned)first,
	    &byte, 1) >= 0;
	say("%d", did);
}

LWC_HANDLER(files)
{
	char text[8192], *line, *rest = text;
	char *word, *a, *b, real[PATH_MAX];
	size_t len = inv->input_len < sizeof(text) - 1 ? inv->input_len :
	    sizeof(text) - 1;
	int fd;

	now = inv;
	memcpy(text, inv->input, len);
	text[len] = '\0';
	while ((line = strsep(&rest, "\n")) != NULL) {
		b = line;
		word = strsep(&b, " ");
		a = strsep(&b, " ");
#define	IS(name) (strcmp(word, name) == 0)
		if (IS("read"))
			read_from(open(a, O_RDONLY));
		else if (IS("fopen"))
			read_by_stdio(a);
		else if (IS("mmap"))
			map(a);
		else if (IS("keep"))
			say("%d", open(a, O_RDONLY));
		else if (IS("open")) {
			fd = open(a, (int)strtol(b, NULL, 0), 0600);
			say("%d", fd < 0 ? errno : 0);
		} else if (IS("at")) {
			fd = open(a, O_RDONLY | O_DIRECTORY);
			read_from(fd < 0 ? fd : openat(fd, b, O_RDONLY));
#ifdef __linux__
		} else if (IS("openat2")) {
			long how[3] = { O_RDONLY, 0, 0 };

			say("%d", syscall(SYS_openat2, AT_FDCWD, a, how,
			    sizeof(how)) < 0 ? errno : 0);
#endif
		} else if (IS("list"))
			list(a);
		else if (IS("stat"))
			look(a);
		else if (IS("fstat"))
			look_at_open(a);
		else if (IS("access"))
			say("%d", access(a, atoi(b)) != 0 ? errno : 0);
		else if (IS("realpath"))
			say("%s", realpath(a, real) != NULL ? real :
			    strerror(errno));
		else if (IS("cwd"))
			say("%s", getcwd(real, sizeof(real)) != NULL ? real :
			    strerror(errno));
		else if (IS("raw"))
			raw(a);
		else if (IS("held"))
			held();
		else if (IS("mapped"))
			is_mapped();
		else if (IS("many") || IS("closing"))
			many(a, atoi(b), IS("closing"));
		else if (IS("abuse"))
			abuse(a);
		else if (IS("escape"))
			escape(a);
		else if (IS("spin")) {
			for (;;)
				close(open(a, O_RDONLY));
		} else if (IS("deaf") || IS("own"))
			past_the_host(a, IS("own"));
		else if (IS("put"))
			put(a, b);
		else if (IS("stdio"))
			put_by_stdio(a);
		else if (IS("temp"))
			temporary();
		else if (IS("fill"))
			fill(a);
		else if (IS("starve"))
			starve(a);
		else if (IS("mkdir"))
			say("%d", mkdir(a, 0700) != 0 ? errno : 0);
		else if (IS("rm"))
			say("%d", unlink(a) != 0 ? errno : 0);
		else if (IS("rmdir"))
			say("%d", rmdir(a) != 0 ? errno : 0);
		else if (IS("mv"))
			say("%d", rename(a, b) != 0 ? errno : 0);
		else if (IS("wild"))
			wild();
		else if (IS("unasked"))
			unasked();
	}
	return (0);
}
