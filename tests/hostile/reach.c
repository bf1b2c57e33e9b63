/*
 * A function that tries what the file grants it and what it does not: its
 * environment, its output.  The tests in orchestrator/tests/reach.rs run it.  Its input
 * is one command a line:
 *
 *	env		append all variables, each in brackets, in their order by name
 *	time		append the hour of 2026-07-01T12:00Z here, and the zone
 *	locale		append what setlocale(3) and the codeset are
 *	setenv N V	setenv(3)
 *	printf TEXT	printf(3) of TEXT, in which \\n is a line's end
 *	eprintf TEXT	the same on stderr
 *	write N TEXT	write(2) of TEXT to descriptor N; append its result
 *	writev N TEXT	the same by writev(2), in pieces of one byte
 *	full		stdout holds back what it can (setvbuf)
 *	flood N		print N lines of 50 bytes
 *	wild		write(2) to 1 of what is not there
 *	deaf		print with SIGSYS blocked
 *	own		print with a handler of SIGSYS of its own
 *	crash		abort(3)
 *
 * Its initialiser prints, too, and ends as REACH_INIT says.
 */

#define _GNU_SOURCE
#include "lwc_function.h"

#include <sys/uio.h>

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int
append(lwc_invocation *inv, const char *text)
{

	return (lwc_append(inv, text, strlen(text)));
}

static int
by_name(const void *a, const void *b)
{

	return (strcmp(*(char *const *)a, *(char *const *)b));
}

/* C libraries keep them in different orders, which nobody may rely on. */
static void
variables(lwc_invocation *inv)
{
	char *all[64];
	size_t n = 0;

	while (environ != NULL && environ[n] != NULL && n < 64) {
		all[n] = environ[n];
		n++;
	}
	qsort(all, n, sizeof(all[0]), by_name);
	for (size_t i = 0; i < n; i++) {
		append(inv, "[");
		append(inv, all[i]);
		append(inv, "]");
	}
}

static void
local_time(lwc_invocation *inv)
{
	char text[64];
	time_t at = 1782907200;
	struct tm tm;

	localtime_r(&at, &tm);
	strftime(text, sizeof(text), "%H %Z;", &tm);
	append(inv, text);
}

static void
locale(lwc_invocation *inv)
{
	const char *set = setlocale(LC_ALL, "");

	append(inv, set == NULL ? "none" : set);
	append(inv, " ");
	append(inv, nl_langinfo(CODESET));
	append(inv, ";");
}

/* "\n" in a command becomes a line's end. */
static const char *
unescaped(char *text)
{
	char *from = text, *to = text;

	while (*from != '\0') {
		if (from[0] == '\\' && from[1] == 'n') {
			*to++ = '\n';
			from += 2;
		} else
			*to++ = *from++;
	}
	*to = '\0';
	return (text);
}

static void
result(lwc_invocation *inv, long n)
{
	char text[64];

	snprintf(text, sizeof(text), "%ld %d;", n, n < 0 ? errno : 0);
	append(inv, text);
}

static void
write_to(lwc_invocation *inv, int fd, const char *text, int pieces)
{
	struct iovec all[64];
	int n = 0;

	errno = 0;
	if (!pieces) {
		result(inv, write(fd, text, strlen(text)));
		return;
	}
	for (; text[n] != '\0' && n < 64; n++) {
		all[n].iov_base = (void *)(size_t)&text[n];
		all[n].iov_len = 1;
	}
	result(inv, writev(fd, all, n));
}

static void
nothing(int signal)
{

	(void)signal;
}

static void
print_with(int how)
{
	struct sigaction action;
	sigset_t set;

	if (how == SIG_BLOCK) {
		sigemptyset(&set);
		sigaddset(&set, SIGSYS);
		sigprocmask(SIG_BLOCK, &set, NULL);
	} else {
		memset(&action, 0, sizeof(action));
		action.sa_handler = nothing;
		sigaction(SIGSYS, &action, NULL);
	}
	puts("nobody's");
}

LWC_INIT(reach)
{
	const char *how = getenv("REACH_INIT");

	(void)setup;
	if (how == NULL)
		return (0);
	printf("init says %s\nand no more", how);
	fprintf(stderr, "init errs\n");
	if (strcmp(how, "abort") == 0) {
		fflush(stdout);
		abort();
	}
	return (strcmp(how, "fail") == 0);
}

LWC_HANDLER(reach)
{
	char text[4096], *line, *rest = text;
	char *word, *words;
	size_t len = inv->input_len < sizeof(text) - 1 ? inv->input_len :
	    sizeof(text) - 1;

	memcpy(text, inv->input, len);
	text[len] = '\0';
	while ((line = strsep(&rest, "\n")) != NULL) {
		words = line;
		word = strsep(&words, " ");
		if (strcmp(word, "env") == 0) {
			variables(inv);
		} else if (strcmp(word, "time") == 0) {
			local_time(inv);
		} else if (strcmp(word, "locale") == 0) {
			locale(inv);
		} else if (strcmp(word, "setenv") == 0) {
			char *name = strsep(&words, " ");

			setenv(name, words, 1);
		} else if (strcmp(word, "printf") == 0) {
			printf("%s", unescaped(words));
		} else if (strcmp(word, "eprintf") == 0) {
			fprintf(stderr, "%s", unescaped(words));
		} else if (strncmp(word, "write", 5) == 0) {
			int fd = atoi(strsep(&words, " "));

			write_to(inv, fd, unescaped(words), word[5] == 'v');
		} else if (strcmp(word, "full") == 0) {
			setvbuf(stdout, NULL, _IOFBF, 4096);
		} else if (strcmp(word, "flood") == 0) {
			for (int i = 0, n = atoi(words); i < n; i++)
				printf("line %6d of what is more than there is room\n", i);
		} else if (strcmp(word, "wild") == 0) {
			result(inv, write(1, (void *)8, 8));
		} else if (strcmp(word, "deaf") == 0) {
			print_with(SIG_BLOCK);
		} else if (strcmp(word, "own") == 0) {
			print_with(SIG_SETMASK);
		} else if (strcmp(word, "crash") == 0) {
			abort();
		}
	}
	return (0);
}
