/*
 * Calls on files, at random, each with what came of it.  The test in
 * orchestrator/tests/reach/scratch.rs has the same calls made by a function in
 * its scratch, and by this as a program of its own (-DPLAIN) in a folder of the
 * system's: what comes of them has to be the same.
 *
 * The function's input is a seed and a number of calls.  The program is told
 * the folder beside these, and how much room the function has, and reads what
 * the function said: where that had no room it makes no call, and checks that
 * the documents' rule leaves none.
 */

#define _GNU_SOURCE
#ifndef PLAIN
#include "lwc_function.h"
#endif

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define	SLOTS	9
#define	PIECE	70000

/* A number that is not open, but could be: others are the sandbox's (EPERM). */
#ifdef PLAIN
#define	CLOSED	900
#else
#define	CLOSED	((1 << 20) + 63)
#endif

static const char *place;	/* the folder */
static int slots[SLOTS];
static uint64_t state;
static unsigned char piece[PIECE], back[PIECE];
static char longest[256], longer[257];
static int step;

/*
 * What is said, and what the function has said.
 */
#ifdef PLAIN
static char *theirs;
static long room;

static void
out(const char *text, size_t len)
{

	fwrite(text, 1, len, stdout);
}
#else
static lwc_invocation *now;

static void
out(const char *text, size_t len)
{

	lwc_append(now, text, len);
}
#endif

static void
say(const char *format, ...)
{
	char text[8192];
	va_list all;
	int n;

	va_start(all, format);
	n = vsnprintf(text, sizeof(text), format, all);
	va_end(all);
	out(text, n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* 0 to n - 1. */
static unsigned
some(unsigned n)
{

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return ((unsigned)(state >> 20) % n);
}

static unsigned
mark(const void *bytes, size_t len)
{
	const unsigned char *at = bytes;
	unsigned sum = 2166136261U;

	while (len-- > 0)
		sum = (sum ^ *at++) * 16777619U;
	return (sum);
}

#ifdef PLAIN
/* What a folder of this path takes, by what the documents say. */
static long
used_in(const char *path)
{
	char name[8192];
	struct dirent *entry;
	struct stat st;
	long sum = 0;
	DIR *dir = opendir(path);

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 ||
		    strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (lstat(name, &st) != 0)
			continue;
		sum += 256 + (long)strlen(entry->d_name);
		sum += S_ISDIR(st.st_mode) ? used_in(name) : (long)st.st_size;
	}
	if (dir != NULL)
		closedir(dir);
	return (sum);
}

static long
used(void)
{
	struct stat st, other;
	long sum = 256 + used_in(place);
	int i, j;

	for (i = 0; i < SLOTS; i++) {
		if (fstat(slots[i], &st) != 0 || st.st_nlink != 0)
			continue;
		for (j = 0; j < i; j++)
			if (fstat(slots[j], &other) == 0 &&
			    other.st_ino == st.st_ino)
				break;
		if (j == i)
			sum += 256 + (S_ISDIR(st.st_mode) ? 0 : st.st_size);
	}
	return (sum);
}

/*
 * What the function said of this step: the number behind the first " = ", and
 * its errno.
 */
static long
said(int *error)
{
	char begin[32];
	const char *at;
	long n = -1;

	snprintf(begin, sizeof(begin), "\n%d ", step);
	at = strstr(theirs, begin);
	at = at == NULL ? NULL : strstr(at, " = ");
	*error = 0;
	if (at != NULL)
		sscanf(at, " = %ld %d", &n, error);
	return (n);
}
#endif

/*
 * Whether the function had no room for so many bytes more, and so nothing is
 * done.
 */
static int
is_full(long more)
{
#ifdef PLAIN
	int error;

	if (said(&error) >= 0 || error != ENOSPC)
		return (0);
	if (used() + more <= room)
		say("[there was room: %ld and %ld] ", used(), more);
	errno = ENOSPC;
	return (1);
#else
	(void)more;
	return (0);
#endif
}

/*
 * How many of these bytes, by which a file grows so much, are to be written: as
 * many as the function did.
 */
static size_t
fitting(size_t len, long more)
{
#ifdef PLAIN
	int error;
	long n = said(&error);

	if (n >= 0 && n < (long)len) {
		more -= (long)len - n - 1;
		if (used() + more <= room)
			say("[there was room: %ld and %ld] ", used(), more);
		return ((size_t)n);
	}
#else
	(void)more;
#endif
	return (len);
}

/* How many bytes a file grows by if something is written to a number. */
static long
growth(int fd, long at, long len)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return (0);
	if ((fcntl(fd, F_GETFL) & O_APPEND) != 0)
		at = st.st_size;
	else if (at < 0)
		at = lseek(fd, 0, SEEK_CUR);
	return (at + len > st.st_size ? at + len - st.st_size : 0);
}

static void
result(long n)
{

	say(" = %ld %d", n, n < 0 ? errno : 0);
}

/* One of the numbers, mostly one that is open. */
static int
some_slot(void)
{
	int slot = (int)some(SLOTS), others = some(12) != 0, i;

	for (i = 0; others && i < SLOTS && slots[slot] == CLOSED; i++)
		slot = (slot + 1) % SLOTS;
	return (slot);
}

/*
 * A path: below the folder (at: AT_FDCWD), or from an open one.  It never leads
 * out, except to come back.
 */
static const char *
path(int *at, char *to, int *from)
{
	static const char *const names[] = { "a", "b", "c", "d", "m1", "." };
	static const char *const between[] = { "/", "/", "/", "//", "/./" };
	static const char *const ends[] = { "/", "/.", "//", "/./" };
	static const int depths[] = { 1, 1, 1, 2, 2, 3 };
	int parts = depths[some(6)], depth = 0, odd = some(6) == 0, i;
	size_t begins;

	*from = some(4) == 0 ? some_slot() : -1;
	*to = '\0';
	*at = AT_FDCWD;
	if (*from >= 0)
		*at = slots[*from];
	else {
		strcpy(to, place);
		strcat(to, odd && some(4) == 0 ? "/../tmp/" : "/");
	}
	begins = strlen(to);
	for (i = 0; i < parts; i++) {
		unsigned what = some(60);

		if (i > 0)
			strcat(to, between[odd ? some(5) : 0]);
		if (what < 4 && depth > 0 && odd) {
			strcat(to, "..");
			depth--;
		} else if (what == 59) {
			strcat(to, some(4) == 0 ? longer : longest);
			depth++;
		} else {
			what = some(odd ? 6 : 5);	/* "." is odd */
			strcat(to, names[what]);
			depth += what != 5;
		}
	}
	if (odd && some(3) == 0)
		strcat(to, ends[some(4)]);
	if (odd && some(40) == 0) {
		/* As long as a path may be, or one more. */
		size_t len = strlen(to), whole = 4095 + some(2);

		memmove(to + begins + (whole - len), to + begins,
		    len - begins + 1);
		for (i = 0; i < (int)(whole - len); i += 2)
			memcpy(to + begins + i, "./",
			    (int)(whole - len) - i > 1 ? 2 : 1);
		if ((whole - len) % 2 != 0)
			to[begins + (whole - len) - 1] =
			    to[begins + (whole - len) - 2] == '/' ? '/' : '.';
	}
	return (to);
}

/* The last part of a path, as is counted for a name. */
static long
name_of(const char *text)
{
	size_t len = strlen(text), end;

	while (len > 0 && text[len - 1] == '/')
		len--;
	for (end = len; len > 0 && text[len - 1] != '/';)
		len--;
	return ((long)(end - len));
}

/* The same for the log: without what differs. */
static const char *
shown(const char *text, int from)
{
	static char line[2][400];
	static int which;
	char *to = line[which ^= 1];
	const char *rest = text + (from >= 0 ? 0 : strlen(place));

	if (strlen(text) >= 4095)
		snprintf(to, 400, "{%d}(%zu)", from, strlen(text));
	else if (strlen(rest) > 300)
		snprintf(to, 400, "{%d}(%zu)%.40s...%s", from, strlen(rest),
		    rest, rest + strlen(rest) - 40);
	else
		snprintf(to, 400, "{%d}%s", from, rest);
	return (to);
}

static int
is_folder(int fd)
{
	struct stat st;

	return (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode));
}

static void
put(int slot, int fd)
{

	if (fd < 0)
		return;
	if (slots[slot] != CLOSED)
		close(slots[slot]);
	slots[slot] = fd;
}

static void
tell(const struct stat *st)
{

	if (S_ISDIR(st->st_mode))
		say(" folder");
	else
		say(" file %ld %ld %d", (long)st->st_size, (long)st->st_nlink,
		    S_ISREG(st->st_mode));
}

static int
by_name(const void *a, const void *b)
{

	return (strcmp(*(char *const *)a, *(char *const *)b));
}

struct entry {
	uint64_t ino;
	int64_t next;
	unsigned short len;
	unsigned char type;
	char name[];
};

/* All names that a number has, in an order of our own. */
static void
list(int fd, unsigned size)
{
	static char bytes[4096], text[200000];
	static char *names[3000];
	size_t n = 0, end = 0;
	long got = 0, i;

	lseek(fd, 0, SEEK_SET);
	while ((got = syscall(SYS_getdents64, fd, bytes, size)) > 0)
		for (i = 0; i < got;) {
			struct entry *entry = (struct entry *)(bytes + i);
			size_t len = strlen(entry->name) + 1;

			i += entry->len;
			if (n == 3000 || end + len + 2 > sizeof(text))
				continue;
			names[n++] = text + end;
			memcpy(text + end, entry->name, len);
			text[end + len - 1] = entry->type == DT_DIR ? '/' :
			    entry->type == DT_REG ? '-' : '?';
			text[end + len] = '\0';
			end += len + 1;
		}
	result(got);
	qsort(names, n, sizeof(names[0]), by_name);
	for (i = 0; i < (long)n; i++)
		say(" %.20s", names[i]);
}

/* Removes what is in a folder, while it reads it. */
static void
empty(int fd, unsigned size)
{
	static char bytes[4096];
	long got, i, removed = 0;

	lseek(fd, 0, SEEK_SET);
	while ((got = syscall(SYS_getdents64, fd, bytes, size)) > 0)
		for (i = 0; i < got;) {
			struct entry *entry = (struct entry *)(bytes + i);

			i += entry->len;
			removed += unlinkat(fd, entry->name, 0) == 0;
		}
	result(got);
	say(" removed %ld", removed);
}

static int
open_flags(void)
{
	int flags = (int)some(3);

	if (some(2) == 0)
		flags |= O_CREAT;
	if (some(5) == 0)
		flags |= O_EXCL;
	if (some(5) == 0)
		flags |= O_TRUNC;
	if (some(5) == 0)
		flags |= O_APPEND;
	if (some(8) == 0 && (flags & (O_CREAT | O_EXCL)) == 0)
		flags |= O_DIRECTORY;
	if (some(8) == 0)
		flags |= O_NOFOLLOW;
	if (some(20) == 0)
		flags |= O_PATH;
	if (some(40) == 0)
		flags |= O_ACCMODE;
	if (some(30) == 0)
		flags = (int)some(3) | O_TMPFILE | (flags & O_EXCL);
	return (flags);
}

static long
length(void)
{

	switch (some(12)) {
	case 0:
		return (-1 - (long)some(5));
	case 1:
		return (300000 * (long)some(4));
	case 2:
		return (0);
	default:
		return (some(9000));
	}
}

/* Makes files, until that fails: how many, and why no more. */
static void
result_of_many(int fd, int count)
{
	char name[16];
	int made, n;
#ifdef PLAIN
	int error;
	long theirs_made = said(&error);

	if (error == ENOSPC && theirs_made < count)
		count = (int)theirs_made;
#endif

	for (made = 0; made < count; made++) {
		snprintf(name, sizeof(name), "m%d", made);
		n = openat(fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (n < 0)
			break;
		close(n);
	}
#ifdef PLAIN
	if (error == ENOSPC && made == theirs_made) {
		snprintf(name, sizeof(name), "m%d", made);
		if (used() + 256 + (long)strlen(name) <= room)
			say("[there was room: %ld] ", used());
		say(" = %d %d", made, error);
		return;
	}
#endif
	say(" = %d %d", made, made < count ? errno : 0);
}

/* One call, or some that belong together. */
static void
one(void)
{
	static char first[8192], second[8192];
	int at, other, from, to, slot, fd, flags;
	long where, len, i, n, more;
	struct iovec pieces[4];
	struct flock lock;
	struct statx sx;
	struct stat st;
	const char *a, *b;

	flags = (int)some(29);
	slot = flags < 4 ? (int)some(SLOTS) : some_slot();
	fd = slots[slot];
	errno = 0;
	switch (flags) {
	case 0: case 1: case 2: case 3:
		a = path(&at, first, &from);
		flags = open_flags();
		say("open %d %s %#o", slot, shown(a, from), flags);
		n = is_full(256 + name_of(a)) ? -1 :
		    openat(at, a, flags | O_CLOEXEC, 0600);
		put(slot, (int)n);
		result(n < 0 ? -1 : 0);
		break;
	case 4:
		a = path(&at, first, &from);
		say("creat %d %s", slot, shown(a, from));
		if (from >= 0) {
			result(0);
			break;
		}
		n = is_full(256 + name_of(a)) ? -1 : creat(a, 0600);
		put(slot, (int)n);
		result(n < 0 ? -1 : 0);
		break;
	case 5:
		say("close %d", slot);
		result(close(fd));
		slots[slot] = CLOSED;
		break;
	case 6: case 7:
		len = some(5000);
		where = some(3) != 0 ? -1 : length();
		say("read %d %ld %ld", slot, len, where);
		n = where == -1 ? read(fd, back, (size_t)len) :
		    pread(fd, back, (size_t)len, where);
		result(n);
		say(" %x", n > 0 ? mark(back, (size_t)n) : 0);
		break;
	case 8: case 9: case 10: case 11:
		len = some(10) == 0 ? 0 : some(some(8) == 0 ? PIECE : 5000);
		where = some(3) != 0 ? -1 : length();
		i = some(1000);
		say("write %d %ld %ld", slot, len, where);
		memset(piece, (int)i, sizeof(piece));
		memcpy(piece, &i, sizeof(i));
		more = growth(fd, where, len);
		if (is_full(more - len + 1))
			n = -1;
		else if (where == -1)
			n = write(fd, piece, fitting((size_t)len, more));
		else
			n = pwrite(fd, piece, fitting((size_t)len, more),
			    where);
		result(n);
		break;
	case 12: case 13:
		flags = (int)some(4);
		n = some(5);
		where = some(2) == 0 ? -1 : (long)some(9000);
		for (i = 0, len = 0; i < 4; i++) {
			pieces[i].iov_len = some(4) == 0 ? 0 : some(900);
			pieces[i].iov_base = (flags & 1 ? piece : back) +
			    1000 * i;
			len += i < n ? (long)pieces[i].iov_len : 0;
		}
		say("pieces %d %d %ld %ld %ld", slot, flags & 1, n, len,
		    where);
		memset(piece, step, sizeof(piece));
		if ((flags & 1) == 0) {
			memset(back, 0, 4000);
			n = where < 0 ? readv(fd, pieces, (int)n) :
			    preadv(fd, pieces, (int)n, where);
			result(n);
			say(" %x", mark(back, 4000));
			break;
		}
		more = growth(fd, where, len);
		if (is_full(more - len + 1))
			n = -1;
		else {
#ifdef PLAIN
			long left = (long)fitting((size_t)len, more);

			for (i = 0; i < n; i++) {
				if ((long)pieces[i].iov_len > left)
					pieces[i].iov_len = (size_t)left;
				left -= (long)pieces[i].iov_len;
			}
#endif
			n = where < 0 ? writev(fd, pieces, (int)n) :
			    pwritev(fd, pieces, (int)n, where);
		}
		result(n);
		break;
	case 14:
		where = some(4) == 0 ? -(long)some(9000) : length();
		flags = (int)some(4);
		if (flags == 3 && some(3) == 0)
			flags = 77;
		else
			flags %= 3;
		i = some(30) == 0;
		if (is_folder(fd))
			where = i = flags = 0;
		if (i)
			where = INT64_MAX;
		say("seek %d %ld %d", slot, where, flags);
		n = lseek(fd, where, flags);
		result(n);
		/* So that no hole fills all. */
		if (i && n >= 0)
			lseek(fd, 0, SEEK_SET);
		break;
	case 15:
		len = length();
		say("ftruncate %d %ld", slot, len);
		more = fstat(fd, &st) == 0 ? len - st.st_size : 0;
		result(is_full(more) ? -1 : ftruncate(fd, len));
		break;
	case 16:
		a = path(&at, first, &from);
		len = length();
		say("truncate %s %ld", shown(a, from), len);
		if (from >= 0) {
			result(0);
			break;
		}
		more = stat(a, &st) == 0 ? len - st.st_size : 0;
		result(is_full(more) ? -1 : truncate(a, len));
		break;
	case 17:
		len = length();
		where = length();
		say("fallocate %d %ld %ld", slot, where, len);
		more = fstat(fd, &st) == 0 ? where + len - st.st_size : 0;
		result(is_full(more) ? -1 : fallocate(fd, 0, where, len));
		break;
	case 18: case 19:
		a = path(&at, first, &from);
		b = path(&other, second, &to);
		i = some(8);
		flags = i == 0 ? RENAME_NOREPLACE : i == 1 ? RENAME_EXCHANGE :
		    i == 2 ? RENAME_EXCHANGE | RENAME_NOREPLACE : 0;
		say("rename %s %s %d", shown(a, from), shown(b, to), flags);
		if (is_full(name_of(b) - name_of(a)))
			n = -1;
		else if (flags != 0)
			n = syscall(SYS_renameat2, at, a, other, b, flags);
		else if (from < 0 && to < 0)
			n = rename(a, b);
		else
			n = renameat(at, a, other, b);
		result(n);
		break;
	case 20:
		a = path(&at, first, &from);
		flags = some(30) == 0 ? 0x1000 : 0;
		say("unlink %s %d", shown(a, from), flags);
		result(from < 0 && flags == 0 ? unlink(a) :
		    unlinkat(at, a, flags));
		break;
	case 21:
		a = path(&at, first, &from);
		say("rmdir %s", shown(a, from));
		result(from < 0 ? rmdir(a) : unlinkat(at, a, AT_REMOVEDIR));
		break;
	case 22: case 23:
		a = path(&at, first, &from);
		say("mkdir %s", shown(a, from));
		if (is_full(256 + name_of(a)))
			n = -1;
		else
			n = from < 0 ? mkdir(a, 0700) : mkdirat(at, a, 0700);
		result(n);
		break;
	case 24:
		a = path(&at, first, &from);
		flags = (int)some(5);
		say("look %s %d", shown(a, from), flags);
		memset(&st, 0, sizeof(st));
		if (flags == 0)
			n = fstatat(at, a, &st, AT_SYMLINK_NOFOLLOW);
		else if (flags == 1) {
			n = statx(at, a, 0, STATX_BASIC_STATS, &sx);
			st.st_mode = sx.stx_mode;
			st.st_nlink = sx.stx_nlink;
			st.st_size = (off_t)sx.stx_size;
		} else if (flags == 2) {
			char link[8];

			result(readlinkat(at, a, link, sizeof(link)));
			break;
		} else if (flags == 3) {
			flags = (int)some(16);
			say(" %d", flags);
			result(faccessat(at, a, flags, 0));
			break;
		} else
			n = fstatat(at, a, &st, 0);
		result(n);
		if (n == 0)
			tell(&st);
		break;
	case 25:
		say("fstat %d", slot);
		n = fstat(fd, &st);
		result(n);
		if (n == 0) {
			tell(&st);
			n = statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS,
			    &sx);
			say(" %ld %d", n, n == 0 && sx.stx_ino == st.st_ino);
		}
		break;
	case 26:
		i = 300 + some(700);
		flags = (int)some(3);
		a = path(&at, first, &from);
		say("list %d %d %s", flags, slot, shown(a, from));
		if (flags == 0) {
			list(fd, (unsigned)i);
			break;
		}
		n = openat(at, a, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (n < 0)
			result(n);
		else if (flags == 1)
			list((int)n, (unsigned)i);
		else
			empty((int)n, (unsigned)i);
		close((int)n);
		break;
	case 27:
		len = some(30);
		say("many %d %ld", slot, len);
		result_of_many(fd, (int)len);
		break;
	default:
		flags = (int)some(10);
		say("about %d %d", slot, flags);
		memset(&lock, 0, sizeof(lock));
		lock.l_type = F_RDLCK;
		switch (flags) {
		case 0:
			n = fsync(fd);
			break;
		case 1:
			n = fdatasync(fd);
			break;
		case 2:
			n = flock(fd, LOCK_EX | LOCK_NB);
			if (n == 0)
				flock(fd, LOCK_UN);
			break;
		case 3:
			n = fcntl(fd, F_GETFL);
			n = n < 0 ? n : n & (O_ACCMODE | O_APPEND);
			break;
		case 4:
			n = fcntl(fd, F_GETFL);
			n = n < 0 ? n : fcntl(fd, F_SETFL, n ^ O_APPEND);
			break;
		case 5:
			n = fcntl(fd, F_GETLK, &lock);
			n = n < 0 ? n : lock.l_type == F_UNLCK;
			break;
		case 6:
			n = fcntl(fd, F_SETFD, 0);
			n = n < 0 ? n : fcntl(fd, F_GETFD);
			break;
		case 7:
			n = fcntl(fd, F_GETFD);
			break;
		case 8:
			lock.l_type = F_WRLCK;
			n = fcntl(fd, F_SETLK, &lock);
			lock.l_type = F_UNLCK;
			if (n == 0)
				fcntl(fd, F_SETLK, &lock);
			break;
		default:
			n = fcntl(fd, F_SETLK, &lock);
			lock.l_type = F_UNLCK;
			if (n == 0)
				fcntl(fd, F_SETLK, &lock);
			break;
		}
		result(n);
		break;
	}
	say("\n");
}

/* All that there is, in an order of our own. */
static void
dump(const char *path, const char *name)
{
	struct dirent **names;
	char below[8192];
	struct stat st;
	int n, i, fd;
	long got;

	if (stat(path, &st) != 0) {
		say("%.20s: %d\n", name, errno);
		return;
	}
	if (!S_ISDIR(st.st_mode)) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		say("%.20s: %ld", name, (long)st.st_size);
		while ((got = read(fd, back, sizeof(back))) > 0)
			say(" %x", mark(back, (size_t)got));
		say(" %ld\n", got);
		close(fd);
		return;
	}
	n = scandir(path, &names, NULL, alphasort);
	say("%.20s: %d\n", name, n);
	for (i = 0; i < n; i++) {
		if (strcmp(names[i]->d_name, ".") != 0 &&
		    strcmp(names[i]->d_name, "..") != 0) {
			snprintf(below, sizeof(below), "%s/%s", path,
			    names[i]->d_name);
			dump(below, names[i]->d_name);
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

static void
all(unsigned seed, int steps)
{
	int i;

	memset(longest, 'l', 255);
	memset(longer, 'l', 256);
	state = 0x9e3779b97f4a7c15ULL * (seed + 1);
	for (i = 0; i < SLOTS; i++)
		slots[i] = CLOSED;
	say("seed %u\n", seed);
	for (step = 0; step < steps; step++) {
		say("%d ", step);
		one();
#ifdef PLAIN
		/* What the function has done has been done here as well. */
		if (step % 16 == 15 && used() > room)
			say("[more than there is room for: %ld]\n", used());
#endif
	}
	dump(place, "/");
	for (i = 0; i < SLOTS; i++) {
		struct stat st;
		int n = fstat(slots[i], &st);

		say("%d %d", i, n);
		if (n == 0)
			tell(&st);
		say("\n");
	}
}

#ifdef PLAIN
int
main(int argc, char **argv)
{
	size_t len;

	if (argc != 5)
		return (2);
	place = argv[3];
	room = atol(argv[4]);
	theirs = calloc(1, 16 << 20);
	len = fread(theirs, 1, (16 << 20) - 1, stdin);
	theirs[len] = '\0';
	umask(022);
	all((unsigned)atoi(argv[1]), atoi(argv[2]));
	return (0);
}
#else
LWC_HANDLER(scratch)
{
	char text[64];
	unsigned seed = 0;
	int steps = 0;

	now = inv;
	place = "/tmp";
	snprintf(text, sizeof(text), "%.*s", (int)inv->input_len,
	    (const char *)inv->input);
	if (sscanf(text, "%u %d", &seed, &steps) != 2)
		return (1);
	all(seed, steps);
	return (0);
}
#endif
