/*
 * A function that tries what the file grants it and what it does not: its
 * environment.  The tests in orchestrator/tests/reach.rs run it.  Its input
 * is one command a line:
 *
 *	env		append all variables, each in brackets
 *	time		append the hour of 2026-07-01T12:00Z here, and the zone
 *	locale		append what setlocale(3) and the codeset are
 *	setenv N V	setenv(3)
 */

#define _GNU_SOURCE
#include "lwc_function.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern char **environ;

static int
append(lwc_invocation *inv, const char *text)
{

	return (lwc_append(inv, text, strlen(text)));
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
			for (char **v = environ; v != NULL && *v != NULL; v++) {
				append(inv, "[");
				append(inv, *v);
				append(inv, "]");
			}
		} else if (strcmp(word, "time") == 0) {
			local_time(inv);
		} else if (strcmp(word, "locale") == 0) {
			locale(inv);
		} else if (strcmp(word, "setenv") == 0) {
			char *name = strsep(&words, " ");

			setenv(name, words, 1);
		}
	}
	return (0);
}
