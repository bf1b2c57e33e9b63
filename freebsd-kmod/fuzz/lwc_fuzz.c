/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * lwc_fuzz: a coverage-guided fuzzer of lwc.ko.  README.md beside this file
 * says what it does and how it is used.
 *
 * The first process owns the corpus and the counters; a slot is a process that
 * runs one program after the other, each in a process of its own, and reaps
 * whatever that leaves behind; all of them share one memory.
 */

#include <sys/param.h>
#include <sys/jail.h>
#include <sys/mman.h>
#include <sys/procctl.h>
#include <sys/ptrace.h>
#include <sys/sysctl.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "lwc_fuzz.h"

#define	MAXLINES	4096
#define	HANG_SECONDS	20

struct shared *sh;
struct slot *slots[MAXSLOTS];
struct trace traces[MAXSLOTS];
int place;
struct environment env;

static struct prog given[MAXLINES];
static int ngiven;
static int nslots = 2;
static int time_limit = 3000;	/* milliseconds for a program */
static bool guided, quiet;

static double
now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((double)ts.tv_sec + (double)ts.tv_nsec / 1e9);
}

static void
locked(bool lock)
{

	if (!lock)
		atomic_store(&sh->lock, 0);
	else
		while (atomic_exchange(&sh->lock, 1) != 0)
			sched_yield();
}

/*
 * Say something and wait until it has left the machine: what comes next may
 * be a panic.
 */
static void
say(const char *what, int which, const char *line)
{
	char buf[LINE_SIZE + 32];
	int n;

	n = snprintf(buf, sizeof(buf), "%s%d %s\n", what, which, line);
	(void)write(STDOUT_FILENO, buf, (size_t)n);
	(void)tcdrain(STDOUT_FILENO);
}

/* Kill all that the program left behind and wait for it; false: it hangs. */
static bool
reap(void)
{
	struct procctl_reaper_kill rk;
	double end;
	pid_t pid;
	int status;

	end = now() + HANG_SECONDS;
	for (;;) {
		memset(&rk, 0, sizeof(rk));
		rk.rk_sig = SIGKILL;
		(void)procctl(P_PID, getpid(), PROC_REAP_KILL, &rk);
		/* Who asked to be traced stops for us even if killed. */
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (WIFSTOPPED(status))
				(void)ptrace(PT_KILL, pid, NULL, 0);
		if (pid == -1 && errno == ECHILD)
			return (true);
		if (now() > end)
			return (false);
		usleep(1000);
	}
}

static void harvest(int);

/* What a process has used of the processor; 0 while it runs. */
static uint64_t
runtime_of(pid_t pid)
{
	struct kinfo_proc kp;
	size_t len;
	int mib[4] = { CTL_KERN, KERN_PROC, KERN_PROC_PID, pid };

	len = sizeof(kp);
	return (sysctl(mib, 4, &kp, &len, NULL, 0) == 0 && kp.ki_stat != SRUN ?
	    kp.ki_runtime + 1 : 0);
}

/* Run a program to its end; false: it cannot be ended. */
static bool
execute(struct slot *s, const struct prog *p)
{
	struct timespec ts;
	sigset_t chld;
	double end, left;
	pid_t pid, who;
	unsigned int n, ran;
	bool gone, special;
	int i, idle;

	s->sl_prog = *p;
	atomic_store(&s->sl_peers, 1);
	for (i = 0; i < MAXPEERS; i++) {
		atomic_store(&s->sl_pc[i], 0);
		s->sl_pids[i] = 0;
	}
	memset(s->sl_result, 0, sizeof(s->sl_result));
	memset(s->sl_tried, 0, sizeof(s->sl_tried));
	memset(s->sl_good, 0, sizeof(s->sl_good));
	for (i = 0; i < NKCOV; i++)
		if (traces[place].tr_buffer[i] != NULL)
			traces[place].tr_buffer[i][0] = 0;
	special = false;
	for (i = 0; i < p->n; i++)
		if (strcmp(operations[p->op[i].code % noperations].name,
		    "point") == 0 ||
		    strcmp(operations[p->op[i].code % noperations].name,
		    "limit") == 0)
			special = true;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &chld, NULL);
	pid = fork();
	if (pid == 0)
		worker(s);
	if (pid == -1) {
		limits_reset();
		return (true);
	}
	end = now() + time_limit / 1000.;
	gone = false;
	idle = 0;
	ran = 0;
	while (!gone) {
		left = end - now();
		if (left <= 0 || idle > 4) {
			atomic_fetch_add(&sh->timeouts, 1);
			for (i = 0; i < p->n; i++)
				if (s->sl_result[i].left)
					atomic_fetch_add(&sh->stuck[
					    p->op[i].code % noperations], 1);
			break;
		}
		ts.tv_sec = 0;
		ts.tv_nsec = (long)(MIN(left, 0.03) * 1e9);
		if (sigtimedwait(&chld, NULL, &ts) == -1) {
			/* Perhaps it only waits for a signal. */
			n = (unsigned int)runtime_of(pid);
			idle = n != 0 && n == ran ? idle + 1 : 0;
			ran = n;
			if (idle == 2)
				(void)kill(pid, SIGUSR1);
		}
		for (;;) {
			who = waitpid(-1, &i, WNOHANG);
			if (who <= 0)
				break;
			if (WIFSTOPPED(i))
				(void)ptrace(PT_CONTINUE, who, (caddr_t)1,
				    WSTOPSIG(i) == SIGSTOP ? 0 : WSTOPSIG(i));
			else if (who == pid)
				gone = true;
		}
	}
	if (!gone)
		(void)kill(pid, SIGKILL);
	gone = reap();
	if (special && env.root) {
		points_reset();
		limits_reset();
	}
	for (i = 0; i < NKCOV; i++)
		harvest(i);
	atomic_fetch_add(&sh->execs, 1);
	for (i = 0; i < noperations; i++) {
		n = atomic_load(&s->sl_tried[i]);
		if (n > MAXOPS * MAXPEERS)
			continue;	/* not ours */
		atomic_fetch_add(&sh->calls, n);
		atomic_fetch_add(&sh->tried[i], n);
		atomic_fetch_add(&sh->good[i], MIN(n,
		    atomic_load(&s->sl_good[i])));
	}
	return (gone);
}

/* The edges within the module in a buffer go to the slot's map. */
static void
harvest(int which)
{
	volatile uint64_t *b;
	uint64_t at, i, n;

	b = traces[place].tr_buffer[which];
	if (b == NULL)
		return;
	n = MIN(b[0], KCOV_ENTRIES - 1);
	for (i = 1; i <= n; i++) {
		at = b[i] - env.base;
		if (at < env.size)
			sh->slot_cov[place][at / 8] |= 1 << at % 8;
	}
	b[0] = 0;
}

/* New edges of the slot go to the common map; how many. */
static int
merge(int slot)
{
	uint8_t new;
	int n;
	size_t i;

	n = 0;
	for (i = 0; i < env.size / 8 + 1 && i < sizeof(sh->cov); i++) {
		new = sh->slot_cov[slot][i] & ~sh->cov[i];
		if (new != 0) {
			sh->cov[i] |= new;
			n += __builtin_popcount(new);
		}
	}
	if (n > 0)
		atomic_fetch_add(&sh->pcs, n);
	return (n);
}

static void
hung(int slot, const struct prog *p)
{
	char line[LINE_SIZE];

	prog_encode(p, line);
	say("HANG", slot, line);
	processes_print();
	fflush(stdout);
	atomic_store(&sh->hang, 1);
	atomic_store(&sh->stop, 1);
}

static void
slot_main(int which, uint64_t seed)
{
	struct slot *s = slots[which];
	struct prog p, other;
	char line[LINE_SIZE];
	int fresh, n, next;

	place = which;
	rnd_state = seed | 1;
	(void)procctl(P_PID, getpid(), PROC_REAP_ACQUIRE, NULL);
	next = place;
	while (!atomic_load(&sh->stop)) {
		if (atomic_load(&sh->pause)) {
			atomic_fetch_add(&sh->paused, 1);
			while (atomic_load(&sh->pause) &&
			    !atomic_load(&sh->stop))
				usleep(2000);
			atomic_fetch_sub(&sh->paused, 1);
			continue;
		}
		locked(true);
		n = atomic_load(&sh->ncorpus);
		if (next < ngiven) {
			p = given[next];
			next += nslots;
		} else if (n == 0 || rnd(8) == 0) {
			prog_random(&p);
		} else {
			/* The young ones more often. */
			p = sh->corpus[rnd(2) ? rnd(n) :
			    n - 1 - rnd(MIN(n, 40))];
			other = sh->corpus[rnd(n)];
			prog_mutate(&p, &other);
		}
		locked(false);
		if (p.n == 0)
			continue;
		for (n = 0; n < p.n; n++)
			if (prog_excluded(&p.op[n]))
				p.op[n].code = (uint8_t)op_end;
		prog_encode(&p, line);
		if (!quiet)
			say("P", place, line);
		n = place;
		sh->history[n][atomic_load(&sh->nhistory[n]) % HISTORY] = p;
		atomic_fetch_add(&sh->nhistory[n], 1);
		if (!execute(s, &p)) {
			hung(place, &p);
			_exit(1);
		}
		locked(true);
		fresh = guided ? merge(place) : 0;
		n = atomic_load(&sh->ncorpus);
		if (fresh > 0) {
			sh->corpus[n < MAXCORPUS ? n : (int)rnd(MAXCORPUS)] = p;
			if (n < MAXCORPUS)
				atomic_fetch_add(&sh->ncorpus, 1);
			atomic_fetch_add(&sh->kept, 1);
		}
		locked(false);
		if (fresh > 0) {
			snprintf(line, sizeof(line), "+%d", fresh);
			if (!quiet)
				say("N", place, line);
		}
	}
	_exit(0);
}

/* Run one program several times, alone; true if the counters came back. */
static bool
alone(const struct prog *p, int times, char *why, size_t size)
{
	struct slot *s = slots[0];
	int i;

	for (i = 0; i < times; i++)
		if (!execute(s, p)) {
			hung(0, p);
			exit(3);
		}
	return (counters_check(why, size, false));
}

/* Delete what the failure does not need. */
static void
shrink(struct prog *p, int times)
{
	struct prog q;
	char why[512];
	int at, n;

	for (n = p->n / 2; n >= 1; n /= 2)
		for (at = 0; at < p->n; ) {
			q = *p;
			q.n -= MIN(n, p->n - at);
			memmove(&q.op[at], &p->op[at + (p->n - q.n)],
			    (size_t)(q.n - at) * sizeof(q.op[0]));
			counters_take();
			if (q.n > 0 && !alone(&q, times, why, sizeof(why)))
				*p = q;
			else
				at += n;
		}
}

static void
failure(struct prog p, int times)
{
	char line[LINE_SIZE], why[512];

	prog_encode(&p, line);
	printf("LEAK0 %s\n", line);
	shrink(&p, times);
	prog_encode(&p, line);
	printf("SHRUNK0 %s\n", line);
	counters_take();
	(void)alone(&p, times, why, sizeof(why));
	printf("counters:%s\n", why);
	prog_print(stdout, &p, slots[0]->sl_result);
	fflush(stdout);
	counters_take();
}

/* Something leaked since the last check: who? */
static int
hunt(void)
{
	struct prog p;
	char why[512];
	int found, i, j, n;

	found = 0;
	for (i = 0; i < nslots; i++) {
		n = atomic_load(&sh->nhistory[i]);
		for (j = MAX(n - HISTORY, 0); j < n && found < 2; j++) {
			p = sh->history[i][j % HISTORY];
			counters_take();
			if (!alone(&p, 1, why, sizeof(why))) {
				found++;
				failure(p, 1);
			}
		}
	}
	if (found == 0)
		printf("no single program does it again\n");
	counters_take();
	return (found);
}

static int
jail_make(void)
{
	struct iovec iov[8];
	int n;

	n = 0;
#define	PAIR(k, v, l)							\
	iov[n].iov_base = __DECONST(char *, k);				\
	iov[n++].iov_len = sizeof(k);					\
	iov[n].iov_base = __DECONST(char *, v);				\
	iov[n++].iov_len = (l)
	PAIR("name", "lwc_fuzz", sizeof("lwc_fuzz"));
	PAIR("path", "/", sizeof("/"));
	PAIR("persist", NULL, 0);
	return (jail_set(iov, n, JAIL_CREATE | JAIL_UPDATE));
}

static void
lines_read(const char *path)
{
	char line[1024];
	char *at;
	FILE *f;

	f = fopen(path, "r");
	if (f == NULL) {
		perror(path);
		exit(2);
	}
	while (fgets(line, sizeof(line), f) != NULL && ngiven < MAXLINES) {
		at = strrchr(line, ' ');
		at = at == NULL ? line : at + 1;
		if (prog_decode(&given[ngiven], at))
			ngiven++;
	}
	fclose(f);
}

static void
exclude(const char *name)
{
	int i, n;

	n = 0;
	for (i = 0; i < noperations; i++)
		if (strcmp(operations[i].name, name) == 0 ||
		    (operations[i].name[0] == '{' &&
		    strcmp(operations[i].name + 1, name) == 0)) {
			excluded[i] = true;
			n++;
		}
	/* Else a word of a table: "sigsuspend", "SYS_sigsuspend". */
	for (i = 0; n == 0 && i < (int)nitems(excluded_choice) - 1; i++)
		if (excluded_choice[i] == NULL) {
			excluded_choice[i] = name;
			n++;
		}
}

static void
pcs_write(const char *path)
{
	FILE *f;
	uint64_t i;

	f = fopen(path, "w");
	if (f == NULL) {
		perror(path);
		return;
	}
	for (i = 0; i < env.size; i++)
		if ((sh->cov[i / 8] >> i % 8 & 1) != 0)
			fprintf(f, "%#jx\n", (uintmax_t)i);
	fclose(f);
}

static void
corpus_write(const char *path)
{
	char line[LINE_SIZE];
	FILE *f;
	int i;

	f = fopen(path, "w");
	if (f == NULL) {
		perror(path);
		return;
	}
	for (i = 0; i < atomic_load(&sh->ncorpus); i++) {
		prog_encode(&sh->corpus[i], line);
		fprintf(f, "%s\n", line);
	}
	fclose(f);
}

static void __dead2
usage(void)
{

	fprintf(stderr,
	    "usage: lwc_fuzz [-qM] [-s seed] [-t seconds] [-p slots] "
	    "[-w milliseconds]\n"
	    "           [-i lines] [-x operation] [-o pcs] [-k corpus]\n"
	    "       lwc_fuzz -r line [-r line ...] [-n times]  replay\n"
	    "       lwc_fuzz -l lines [-n times]  replay one after the other\n"
	    "       lwc_fuzz -m line [-n times]   shrink what leaks\n"
	    "       lwc_fuzz -c line              listing\n");
	exit(2);
}

/* Several lines at once, each in a slot; what each operation returned. */
static int
replay(int times, char *why, size_t size)
{
	pid_t pids[MAXSLOTS];
	char line[LINE_SIZE];
	int bad, i, j, status;

	bad = 0;
	counters_take();
	for (i = 0; i < ngiven; i++) {
		pids[i] = fork();
		if (pids[i] != 0)
			continue;
		place = i;
		(void)procctl(P_PID, getpid(), PROC_REAP_ACQUIRE, NULL);
		prog_encode(&given[i], line);
		for (j = 0; j < times; j++) {
			if (ngiven > 1 || j == 0)
				say("P", i, line);
			if (!execute(slots[i], &given[i])) {
				hung(i, &given[i]);
				_exit(1);
			}
		}
		_exit(0);
	}
	for (i = 0; i < ngiven; i++) {
		(void)waitpid(pids[i], &status, 0);
		bad |= status != 0;
	}
	for (i = 0; i < ngiven; i++) {
		(void)merge(i);
		prog_print(stdout, &given[i], slots[i]->sl_result);
	}
	if (!bad && !counters_check(why, size, false)) {
		printf("LEAK0 counters:%s\n", why);
		bad = 1;
	}
	return (bad);
}

int
main(int argc, char **argv)
{
	const char *corpus, *mode, *pcs;
	char line[LINE_SIZE], why[1024];
	double check, end, said;
	pid_t pids[MAXSLOTS];
	uint64_t seed;
	int bad, c, i, leaks, seconds, status, times;

	if (argc == 2 && strcmp(argv[1], "-X") == 0)
		after_exec();
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
	    MAP_ANON | MAP_SHARED, -1, 0);
	if (sh == MAP_FAILED) {
		perror("mmap");
		return (1);
	}
	for (i = 0; i < MAXSLOTS; i++) {
		slots[i] = mmap(NULL, sizeof(*slots[i]), PROT_READ | PROT_WRITE,
		    MAP_ANON | MAP_SHARED, -1, 0);
		if (slots[i] == MAP_FAILED) {
			perror("mmap");
			return (1);
		}
	}
	if (realpath(argv[0], env.self) == NULL)
		strlcpy(env.self, argv[0], sizeof(env.self));
	seed = (uint64_t)time(NULL) * 2654435761u ^ (uint64_t)getpid() << 32;
	seconds = 60;
	times = 1;
	corpus = pcs = NULL;
	mode = "";
	points_find();
	limits_find();
	while ((c = getopt(argc, argv, "Mc:i:k:l:m:n:o:p:qr:s:t:w:x:")) != -1) {
		switch (c) {
		case 'c':
		case 'm':
		case 'r':
			mode = c == 'c' ? "c" : c == 'm' ? "m" : "r";
			if (ngiven == MAXSLOTS ||
			    !prog_decode(&given[ngiven++], optarg)) {
				fprintf(stderr, "lwc_fuzz: not a program: "
				    "%s\n", optarg);
				return (2);
			}
			break;
		case 'l':
			mode = "l";
			/* FALLTHROUGH */
		case 'i':
			lines_read(optarg);
			break;
		case 'M':
			env.thorough = true;
			break;
		case 'k':
			corpus = optarg;
			break;
		case 'n':
			times = MAX(atoi(optarg), 1);
			break;
		case 'o':
			pcs = optarg;
			break;
		case 'p':
			nslots = MIN(MAX(atoi(optarg), 1), MAXSLOTS);
			break;
		case 'q':
			quiet = true;
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = atoi(optarg);
			break;
		case 'w':
			time_limit = MAX(atoi(optarg), 10);
			break;
		case 'x':
			exclude(optarg);
			break;
		default:
			usage();
		}
	}
	prepare();
	if (*mode == 'c') {
		for (i = 0; i < ngiven; i++)
			prog_print(stdout, &given[i], NULL);
		return (0);
	}
	env.root = geteuid() == 0;
	module_find();
	if (env.root)
		env.jid = jail_make();
	guided = false;
	for (i = 0; i < MAXSLOTS; i++) {
		if (i < MAX(nslots, ngiven))
			guided = kcov_open(i);
	}
	(void)procctl(P_PID, getpid(), PROC_REAP_ACQUIRE, NULL);
	printf("seed %#jx, %d slots, %s, lwc.ko at %#jx size %#jx, "
	    "%d fail points, %d limits\n", (uintmax_t)seed, nslots,
	    guided ? "guided by kcov" : "not guided", (uintmax_t)env.base,
	    (uintmax_t)env.size, env.npoints, env.nlimits);
	fflush(stdout);
	/* Nothing will be kept without it: what we are given is the corpus. */
	if (!guided && *mode == '\0')
		for (i = 0; i < ngiven; i++) {
			sh->corpus[i] = given[i];
			atomic_fetch_add(&sh->ncorpus, 1);
		}
	bad = leaks = 0;
	switch (*mode) {
	case 'r':
		bad = replay(times, why, sizeof(why));
		goto out;
	case 'l':
		for (i = 0; i < ngiven; i++) {
			prog_encode(&given[i], line);
			say("C", i, line);
			counters_take();
			if (!alone(&given[i], times, why, sizeof(why))) {
				snprintf(line, sizeof(line), "%.200s", why);
				say("LEAKED", i, line);
				bad = 1;
			}
		}
		goto out;
	case 'm':
		counters_take();
		if (alone(&given[0], times, why, sizeof(why))) {
			printf("nothing leaks\n");
			return (0);
		}
		failure(given[0], times);
		return (1);
	}
	/* What the first run alone makes the kernel keep is no leak. */
	rnd_state = seed | 1;
	prog_random(&given[MAXLINES - 1]);
	given[MAXLINES - 1].n = 1;
	(void)execute(slots[0], &given[MAXLINES - 1]);
	usleep(200000);
	counters_take();
	atomic_store(&sh->pause, 1);
	for (i = 0; i < nslots; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			slot_main(i, seed + (uint64_t)(i + 1) *
			    0x9e3779b97f4a7c15);
	}
	/* The slots are there now, with what they have open. */
	while (atomic_load(&sh->paused) < nslots)
		usleep(2000);
	counters_take();
	atomic_store(&sh->pause, 0);
	end = now() + seconds;
	check = now() + 10;
	said = now();
	while (!atomic_load(&sh->stop)) {
		usleep(20000);
		for (i = 0; i < nslots; i++) {
			if (waitpid(pids[i], &status, WNOHANG) != pids[i] ||
			    atomic_load(&sh->stop))
				continue;
			/* A program wrote to it by some way. */
			printf("slot %d died: %#x\n", i, status);
			fflush(stdout);
			seed++;
			pids[i] = fork();
			if (pids[i] == 0)
				slot_main(i, seed * 0x9e3779b97f4a7c15);
		}
		if (now() - said > 15) {
			said = now();
			printf("S %lu executions, %lu calls, %d corpus, %d "
			    "pcs, %lu timeouts\n", atomic_load(&sh->execs),
			    atomic_load(&sh->calls),
			    atomic_load(&sh->ncorpus),
			    atomic_load(&sh->pcs),
			    atomic_load(&sh->timeouts));
			fflush(stdout);
		}
		if (now() > check || now() > end) {
			atomic_store(&sh->pause, 1);
			while (atomic_load(&sh->paused) < nslots &&
			    !atomic_load(&sh->stop))
				usleep(2000);
			if (!atomic_load(&sh->stop) &&
			    !counters_check(why, sizeof(why), true)) {
				printf("LEAKED0%s\n", why);
				fflush(stdout);
				leaks++;
				if (leaks < 4)
					(void)hunt();
				else
					counters_take();
			}
			for (i = 0; i < nslots; i++)
				atomic_store(&sh->nhistory[i], 0);
			check = now() + 10;
			atomic_store(&sh->pause, 0);
		}
		if (now() > end)
			atomic_store(&sh->stop, 1);
	}
	for (i = 0; i < nslots; i++)
		(void)waitpid(pids[i], &status, 0);
	bad = leaks > 0 || atomic_load(&sh->hang);
out:
	if (env.jid > 0)
		(void)jail_remove(env.jid);
	if (pcs != NULL)
		pcs_write(pcs);
	if (corpus != NULL)
		corpus_write(corpus);
	if (*mode == '\0')
		for (i = 0; i < noperations; i++)
			printf("%s %lu/%lu/%lu%s", operations[i].name,
			    atomic_load(&sh->good[i]),
			    atomic_load(&sh->tried[i]),
			    atomic_load(&sh->stuck[i]),
			    i % 6 == 5 || i == noperations - 1 ? "\n" : ", ");
	printf("seed %#jx: %lu executions, %lu calls, %lu timeouts, corpus "
	    "%d, %d PCs of lwc.ko\n", (uintmax_t)seed,
	    atomic_load(&sh->execs), atomic_load(&sh->calls),
	    atomic_load(&sh->timeouts), atomic_load(&sh->ncorpus),
	    atomic_load(&sh->pcs));
	printf("fuzz: %s\n", bad ? "failed" : "passed");
	return (bad);
}
