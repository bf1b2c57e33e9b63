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
 * atf-test-program(1): kyua reads both.  The last line of a run of many is
 * "N cases, M failed, K skipped".
 *
 * Each case is the only one of its machine: others that want to run one wait,
 * since all look at counters of all contexts.  Whatever a case leaves behind,
 * processes and settings, is put away after it; processes are a failure.
 */

#include <sys/param.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/module.h>
#include <sys/procctl.h>
#include <sys/resource.h>
#include <sys/sysctl.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <signal.h>
#include <setjmp.h>
#include <time.h>

#include "lwc_test.h"

#define	CASE_SECONDS	60	/* and then it is killed */
#define	FORK_US		4000	/* fork and end, where these are seconds */
#define	FORKS		8
#define	SLOWEST		40

static struct lwc_case *cases, **tail = &cases;

/* What a case tells the harness, from whatever context or child. */
static struct verdict {
	char	skipped[80];		/* why */
	u_int	slow;			/* times slower than an idle machine */
	u_int	nset;
	struct {
		char	name[40];
		int	old;
	} set[4];
} *verdict;

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

void
lwc_skip(const char *why)
{

	strlcpy(verdict->skipped, why, sizeof(verdict->skipped));
	_exit(0);
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

int
snapshot(int fd)
{

	return (lwControl(fd, LWC_CONTROL_SNAPSHOT, 0));
}

int
rollback(int fd)
{

	return (lwControl(fd, LWC_CONTROL_ROLLBACK, 0));
}

int
servant(uint64_t (*f)(uint64_t), int flags)
{
	struct visit v;
	uint64_t answer;
	int fd;

	fd = create(&v, NULL, 0, flags);
	if (fd != LWC_SWITCHED) {
		gogo(fd, &v, 0, 0);
		return (fd);
	}
	for (answer = 0;;) {
		go(v.src, &v, answer, 0);
		answer = f(v.a[0]);
	}
}

uint64_t
ask(int fd, uint64_t what)
{
	struct visit v;

	gogo(fd, &v, what, 0);
	return (v.a[0]);
}

void
fail_point(const char *name, const char *value)
{

	SKIP_UNLESS(sysctlbyname(name, NULL, NULL, value, strlen(value)) == 0,
	    "no fail points");
}

int
go_until(int to, uint64_t until, struct visit *v, uint64_t w0)
{
	uint64_t w[2] = { w0, until };

	v->n = LWC_MAX_ARGS;
	return (lwSwitch(to, w, 1 | LWC_UNTIL, &v->src, v->a, &v->n));
}

uint64_t
after(uint64_t ms)
{
	struct timespec ts;

	REQUIRE(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
	return (ts.tv_sec * 1000000000ULL + ts.tv_nsec + ms * 1000000);
}

/* Never less than what it was found to be before. */
static void
measure(void)
{
	uint64_t begun;
	u_int i, slow;
	pid_t pid;

	begun = after(0);
	for (i = 0; i < FORKS; i++) {
		pid = fork();
		if (pid == 0)
			_exit(0);
		if (pid > 0)
			(void)waitpid(pid, NULL, 0);
	}
	slow = 1 + (after(0) - begun) / (FORKS * FORK_US * 1000ULL);
	verdict->slow = MAX(verdict->slow, MIN(slow, SLOWEST));
}

uint64_t
lenient(uint64_t ms)
{

	return (ms * verdict->slow);
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

void *
shared_page(void)
{
	void *p;

	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_ANON | MAP_SHARED,
	    -1, 0);
	REQUIRE(p != MAP_FAILED);
	return (p);
}

int
scratch(void)
{
	char path[] = "/tmp/lwc_test.XXXXXX";
	int fd;

	fd = mkstemp(path);
	REQUIRE(fd >= 0 && unlink(path) == 0);
	return (fd);
}

bool
locked(int fd)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int pid, status;

	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		if (fcntl(fd, F_GETLK, &fl) != 0)
			_exit(9);
		_exit(fl.l_type == F_UNLCK ? 0 : 1);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	REQUIRE(WEXITSTATUS(status) != 9);
	return (WEXITSTATUS(status) == 1);
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
		if (try == lenient(100))
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

/*
 * Wait for its end or its being stopped, so many seconds at most, or more if
 * the machine turns out to be slow.
 */
static int
wait_for(pid_t pid, u_int seconds)
{
	struct timespec nap = { 0, 50000 };
	uint64_t begun;
	bool again;
	pid_t r;
	int status;

	begun = after(0);
	again = true;
	for (;;) {
		r = waitpid(pid, &status, WNOHANG | WUNTRACED);
		if (r == pid)
			return (status);
		if (r == -1 && errno != EINTR)
			return (STUCK);
		if (after(0) - begun >= lenient(seconds * 1000) * 1000000) {
			if (!again)
				return (STUCK);
			again = false;
			measure();
		}
		(void)nanosleep(&nap, NULL);
		nap.tv_nsec = MIN(nap.tv_nsec * 2, 10000000);
	}
}

int
outcome(void (*f)(void *), void *arg, u_int seconds)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	REQUIRE(pid >= 0);
	if (pid == 0) {
		(void)setpgid(0, 0);
		f(arg);
		_exit(0);
	}
	(void)setpgid(pid, pid);
	status = wait_for(pid, seconds);
	if (status == STUCK || WIFSTOPPED(status)) {
		(void)kill(-pid, SIGKILL);
		(void)kill(pid, SIGKILL);
		(void)wait_for(pid, 10);
	}
	return (status);
}

int
set_sysctl(const char *name, int value)
{
	size_t len;
	int old;

	REQUIRE(verdict->nset < nitems(verdict->set));
	len = sizeof(old);
	REQUIRE(sysctlbyname(name, &old, &len, NULL, 0) == 0);
	REQUIRE(len == sizeof(old));
	strlcpy(verdict->set[verdict->nset].name, name,
	    sizeof(verdict->set[0].name));
	verdict->set[verdict->nset++].old = old;
	if (sysctlbyname(name, NULL, NULL, &value, sizeof(value)) != 0) {
		REQUIRE(errno == EPERM);
		verdict->nset--;
		lwc_skip("needs root to write a sysctl");
	}
	return (old);
}

int64_t
raw(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
    uint64_t e, uint64_t f)
{
	register uint64_t r10 __asm("r10") = d;
	register uint64_t r8 __asm("r8") = e;
	register uint64_t r9 __asm("r9") = f;
	bool failed;

	__asm volatile("syscall" : "+a" (number), "=@ccc" (failed), "+d" (c),
	    "+r" (r10), "+r" (r8), "+r" (r9), "+D" (a), "+S" (b) :
	    : "rcx", "r11", "memory");
	if (!failed)
		return ((int64_t)number);
	errno = (int)number;
	return (-1);
}

static const char *const leaky[] = {
	"contexts", "descriptors", "objects", "processes", "rights"
};

/*
 * A directory that every machine has and that nobody else locks.  A program
 * that a case executes runs in that case's turn.
 */
static int
take_turn(void)
{
	int fd;

	if (getenv("LWC_EXECED") != NULL)
		return (-1);
	fd = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		(void)flock(fd, LOCK_EX);
	return (fd);
}

/* Unlocked for all that may have inherited it. */
static void
end_turn(int fd)
{

	if (fd < 0)
		return;
	(void)flock(fd, LOCK_UN);
	(void)close(fd);
}

static void
run_body(struct lwc_case *c, int turn)
{
	struct rlimit none = { 0, 0 };
	int i, sig = SIGKILL;

	if (turn >= 0)
		(void)close(turn);
	/* Whatever who started us ignores. */
	for (i = 1; i <= SIGRTMAX; i++)
		(void)signal(i, SIG_DFL);
	/* Not of the terminal's, and not longer than we are here. */
	(void)setpgid(0, 0);
	(void)procctl(P_PID, 0, PROC_PDEATHSIG_CTL, &sig);
	(void)setrlimit(RLIMIT_CORE, &none);
	c->body();
	_exit(0);
}

/* How many processes are still there that descend from us? */
static u_int
descendants(void)
{
	struct procctl_reaper_status rs;

	while (waitpid(-1, NULL, WNOHANG) > 0)
		continue;
	if (procctl(P_PID, 0, PROC_REAP_STATUS, &rs) != 0)
		return (0);
	return (rs.rs_descendants);
}

/* Let what has been left end by itself, unless in a hurry; kill the rest. */
static u_int
clear_up(bool hurry)
{
	struct procctl_reaper_kill rk;
	u_int i, left, n;

	for (i = 0; (left = descendants()) != 0 && !hurry && i < lenient(100); i++)
		usleep(20000);
	for (i = 0, n = left; n != 0 && i < lenient(250); i++) {
		memset(&rk, 0, sizeof(rk));
		rk.rk_sig = SIGKILL;
		(void)procctl(P_PID, 0, PROC_REAP_KILL, &rk);
		usleep(20000);
		n = descendants();
	}
	while (verdict->nset > 0) {
		verdict->nset--;
		(void)sysctlbyname(verdict->set[verdict->nset].name, NULL,
		    NULL, &verdict->set[verdict->nset].old, sizeof(int));
	}
	return (left);
}

enum result { PASSED, FAILED, SKIPPED };

/* Fills in why it failed or was skipped, or nothing. */
static enum result
run(struct lwc_case *c, char *why, size_t size)
{
	long before[nitems(leaky)];
	enum result result;
	u_int i, left, slow;
	int status, turn;
	pid_t pid;

	turn = take_turn();
	slow = verdict->slow;
	for (i = 0; i < nitems(leaky); i++)
		before[i] = counter(leaky[i]);
	memset(verdict, 0, sizeof(*verdict));
	verdict->slow = slow;
	measure();
	why[0] = '\0';
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		run_body(c, turn);
	status = pid > 0 ? wait_for(pid, CASE_SECONDS) : STUCK;
	if (status == STUCK)
		snprintf(why, size, "not over after %ju seconds",
		    (uintmax_t)lenient(CASE_SECONDS));
	else if (WIFSTOPPED(status))
		snprintf(why, size, "stopped by signal %d", WSTOPSIG(status));
	else if (WIFSIGNALED(status))
		snprintf(why, size, "signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		snprintf(why, size, "exit %d", WEXITSTATUS(status));
	left = clear_up(why[0] != '\0');
	if (why[0] == '\0' && left != 0)
		snprintf(why, size, "left %u processes behind", left);
	for (i = 0; i < nitems(leaky) && why[0] == '\0'; i++)
		if (!settles(leaky[i], before[i]))
			snprintf(why, size, "leaked %s: %ld, now %ld",
			    leaky[i], before[i], counter(leaky[i]));
	end_turn(turn);
	result = why[0] != '\0' ? FAILED : PASSED;
	if (result == PASSED && verdict->skipped[0] != '\0') {
		strlcpy(why, verdict->skipped, size);
		result = SKIPPED;
	}
	if (result == PASSED)
		printf("%s: passed\n", c->name);
	else
		printf("%s: %s: %s\n", c->name,
		    result == FAILED ? "failed" : "skipped", why);
	fflush(stdout);
	return (result);
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
	enum result how;
	char why[128];

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
	how = SKIPPED;
	strlcpy(why, "lwc.ko is not loaded", sizeof(why));
	if (modfind("sys/lwCreate") >= 0)
		how = run(c, why, sizeof(why));
	if (how == PASSED)
		fprintf(result, "passed\n");
	else
		fprintf(result, "%s: %s\n",
		    how == FAILED ? "failed" : "skipped", why);
	fclose(result);
	return (how == FAILED);
}

int
main(int argc, char **argv)
{
	struct lwc_case *c;
	const char *result;
	char why[128];
	int ch, i, n;
	u_int how[SKIPPED + 1] = { 0 };

	verdict = mmap(NULL, sizeof(*verdict), PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_SHARED, -1, 0);
	if (verdict == MAP_FAILED) {
		perror("mmap");
		return (2);
	}
	/* Processes whose parents are gone come to us. */
	(void)procctl(P_PID, 0, PROC_REAP_ACQUIRE, NULL);
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
	n = 0;
	for (c = cases; c != NULL; c = c->next) {
		for (i = 0; i < argc; i++)
			if (strncmp(argv[i], c->name, strlen(argv[i])) == 0)
				break;
		if (argc > 0 && i == argc)
			continue;
		n++;
		how[run(c, why, sizeof(why))]++;
	}
	printf("%d cases, %u failed, %u skipped\n", n, how[FAILED],
	    how[SKIPPED]);
	return (how[FAILED] != 0 || n == 0);
}
