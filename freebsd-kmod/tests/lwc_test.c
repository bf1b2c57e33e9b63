/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * Harness and helpers.
 *
 *	lwc_test [-l | case ...]	all cases, or those that begin so
 *	lwc_test -r file case		one case, as kyua(1) runs it
 *
 * The list, and the result in the file, are in the words of
 * atf-test-program(1): kyua reads both.
 */

#include <sys/param.h>
#include <sys/mman.h>
#include <sys/module.h>
#include <sys/resource.h>
#include <sys/sysctl.h>
#include <sys/wait.h>

#include <signal.h>
#include <setjmp.h>

#include "lwc_test.h"

static struct lwc_case *cases, **tail = &cases;

void
lwc_case_add(struct lwc_case *c)
{

	*tail = c;
	tail = &c->next;
}

void
lwc_fail(const char *file, int line, const char *what)
{
	char buf[512];
	int n;

	n = snprintf(buf, sizeof(buf), "%s:%d: %s\n", file, line, what);
	(void)!write(STDERR_FILENO, buf, MIN(n, (int)sizeof(buf) - 1));
	_exit(1);
}

int
create(struct visit *v, const struct lwc_spec *sp, int n, int flags)
{

	v->src = -77;
	v->n = LWC_MAX_ARGS;
	return (lwCreate(sp, n, &v->src, v->a, &v->n, flags));
}

int
go(int to, struct visit *v, uint64_t w0, uint64_t w1)
{
	uint64_t w[2] = { w0, w1 };

	v->src = -77;
	v->n = LWC_MAX_ARGS;
	return (lwSwitch(to, w, 2, &v->src, v->a, &v->n));
}

void
gogo(int to, struct visit *v, uint64_t w0, uint64_t w1)
{

	REQUIRE(go(to, v, w0, w1) == LWC_SWITCHED);
}

struct lwc_spec
mem(void *p, size_t len, unsigned int option)
{
	struct lwc_spec s;

	memset(&s, 0, sizeof(s));
	s.flags = LWC_MEMORY | option;
	s.sub.memory.start = (uintptr_t)p;
	s.sub.memory.end = (uintptr_t)p + len;
	return (s);
}

struct lwc_spec
files(int from, int to, unsigned int option)
{
	struct lwc_spec s;

	memset(&s, 0, sizeof(s));
	s.flags = LWC_FILES | option;
	s.sub.descriptors.from = from;
	s.sub.descriptors.to = to;
	return (s);
}

struct lwc_spec
creds(unsigned int option)
{
	struct lwc_spec s;

	memset(&s, 0, sizeof(s));
	s.flags = LWC_CREDENTIALS | option;
	return (s);
}

void *
page(void)
{
	void *p;

	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_ANON | MAP_PRIVATE,
	    -1, 0);
	REQUIRE(p != MAP_FAILED);
	return (p);
}

static sigjmp_buf fault_env;

static void
on_fault(int sig __unused)
{

	siglongjmp(fault_env, 1);
}

int
faults(volatile void *p, int dowrite)
{
	struct sigaction sa, bus, segv;
	volatile char *c;
	volatile int result;

	c = p;
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_fault;
	sigaction(SIGSEGV, &sa, &segv);
	sigaction(SIGBUS, &sa, &bus);
	result = 1;
	if (sigsetjmp(fault_env, 1) == 0) {
		if (dowrite)
			*c = *c;
		else
			(void)*c;
		result = 0;
	}
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return (result);
}

int
lwc_switch_number(void)
{
	struct module_stat ms;

	ms.version = sizeof(ms);
	if (modstat(modfind("sys/lwSwitch"), &ms) != 0)
		return (-1);
	return (ms.data.intval);
}

long
counter(const char *name)
{
	char buf[64];
	u_long l;
	size_t len;

	snprintf(buf, sizeof(buf), "kern.lwc.%s", name);
	l = 0;
	len = sizeof(l);
	if (sysctlbyname(buf, &l, &len, NULL, 0) != 0)
		return (-1);
	return (len == sizeof(int) ? (long)(u_int)l : (long)l);
}

bool
settles(const char *name, long value)
{
	u_int try;

	for (try = 0; counter(name) != value; try++) {
		if (try == 100)
			return (false);
		usleep(20000);
	}
	return (true);
}

int
status_of(void (*f)(void *), void *arg)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		f(arg);
		_exit(0);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	return (status);
}

static const char *const leaky[] = {
	"contexts", "descriptors", "objects", "processes", "rights"
};

static void
run_body(void *arg)
{
	struct lwc_case *c = arg;
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	alarm(60);
	c->body();
}

/* Fills in why it failed, or nothing. */
static int
run(struct lwc_case *c, char *why, size_t size)
{
	long before[nitems(leaky)];
	u_int i;
	int status;

	for (i = 0; i < nitems(leaky); i++)
		before[i] = counter(leaky[i]);
	status = status_of(run_body, c);
	why[0] = '\0';
	if (WIFSIGNALED(status))
		snprintf(why, size, "signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		snprintf(why, size, "exit %d", WEXITSTATUS(status));
	for (i = 0; i < nitems(leaky) && why[0] == '\0'; i++)
		if (!settles(leaky[i], before[i]))
			snprintf(why, size, "leaked %s: %ld, now %ld",
			    leaky[i], before[i], counter(leaky[i]));
	if (why[0] == '\0')
		printf("%s: passed\n", c->name);
	else
		printf("%s: failed: %s\n", c->name, why);
	fflush(stdout);
	return (why[0] != '\0');
}

static void
list(void)
{
	struct lwc_case *c;

	printf("Content-Type: application/X-atf-tp; version=\"1\"\n");
	for (c = cases; c != NULL; c = c->next)
		printf("\nident: %s\ndescr: %s\n", c->name, c->descr);
}

/* One case for kyua(1): the result goes to a file. */
static int
run_for_kyua(const char *name, const char *path)
{
	struct lwc_case *c;
	FILE *result;
	char why[128];
	int failed;

	for (c = cases; c != NULL && strcmp(c->name, name) != 0; c = c->next)
		;
	if (c == NULL) {
		fprintf(stderr, "lwc_test: no case is named %s\n", name);
		return (2);
	}
	result = fopen(path, "w");
	if (result == NULL) {
		perror(path);
		return (2);
	}
	/* Nothing of it is to be written by the case's process as well. */
	setvbuf(result, NULL, _IONBF, 0);
	failed = 0;
	if (modfind("sys/lwCreate") < 0)
		fprintf(result, "skipped: lwc.ko is not loaded\n");
	else if ((failed = run(c, why, sizeof(why))) != 0)
		fprintf(result, "failed: %s\n", why);
	else
		fprintf(result, "passed\n");
	fclose(result);
	return (failed);
}

int
main(int argc, char **argv)
{
	struct lwc_case *c;
	const char *result;
	char why[128];
	int ch, failed, i, n;

	result = NULL;
	while ((ch = getopt(argc, argv, "lr:s:v:")) != -1) {
		switch (ch) {
		case 'l':
			list();
			return (0);
		case 'r':
			result = optarg;
			break;
		case 's':
		case 'v':
			/* Kyua's: no case has files or settings. */
			break;
		default:
			fprintf(stderr, "usage: lwc_test [-l | case ...]\n"
			    "       lwc_test -r file case\n");
			return (2);
		}
	}
	argc -= optind;
	argv += optind;
	if (result != NULL && argc != 1) {
		fprintf(stderr, "lwc_test: -r is for one case\n");
		return (2);
	}
	if (result != NULL)
		return (run_for_kyua(argv[0], result));
	failed = n = 0;
	for (c = cases; c != NULL; c = c->next) {
		for (i = 0; i < argc; i++)
			if (strncmp(argv[i], c->name, strlen(argv[i])) == 0)
				break;
		if (argc > 0 && i == argc)
			continue;
		n++;
		failed += run(c, why, sizeof(why));
	}
	printf("%d cases, %d failed\n", n, failed);
	return (failed != 0 || n == 0);
}
