/*
 * Functions whose initialisers leave something behind, or do not.  The tests in
 * orchestrator/tests/leftovers.rs run them: the first are not started.
 */

#define _GNU_SOURCE
#include "lwc_function.h"
#include "row.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

static void *
forever(void *unused)
{

	for (;;)
		(void)pause();
	return (unused);
}

static void *
at_once(void *unused)
{

	return (unused);
}

LWC_INIT(thread)
{
	pthread_t it;

	(void)setup;
	return (pthread_create(&it, NULL, forever, NULL));
}

LWC_INIT(row_of_threads)
{

	(void)setup;
	return (next_of_row(0) < 0);
}

LWC_INIT(child)
{

	(void)setup;
	if (fork() == 0)
		(void)forever(NULL);
	return (0);
}

/* Its parent is no more. */
LWC_INIT(grandchild)
{
	pid_t it = fork();

	(void)setup;
	if (it == 0) {
		if (fork() == 0)
			(void)forever(NULL);
		_exit(0);
	}
	(void)waitpid(it, NULL, 0);
	return (0);
}

LWC_INIT(shared)
{
	char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)setup;
	return (at == MAP_FAILED);
}

/* It could be written as soon as somebody says so. */
LWC_INIT(shared_later)
{
	char *at = mmap(NULL, 4096, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1,
	    0);

	(void)setup;
	return (at == MAP_FAILED);
}

/* It gets the processor when nobody else wants it. */
LWC_INIT(idle)
{
	struct sched_param none = { 0 };

	(void)setup;
	return (sched_setscheduler(0, SCHED_IDLE, &none));
}

LWC_INIT(nicer)
{

	(void)setup;
	return (setpriority(PRIO_PROCESS, 0,
	    getpriority(PRIO_PROCESS, 0) + 1));
}

/* All of it, and gone. */
LWC_INIT(nothing)
{
	pthread_t it;
	char *at;
	int fd;

	if (pthread_create(&it, NULL, at_once, NULL) != 0 ||
	    pthread_join(it, NULL) != 0)
		return (lwc_setup_fail(setup, 1, "a thread"));
	at = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED || munmap(at, 4096) != 0)
		return (lwc_setup_fail(setup, 2, "memory"));
	/* One that is not waited for, but has ended. */
	if (fork() == 0)
		_exit(0);
	(void)waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	/* Shared, and nobody can write to it. */
	fd = open("/proc/self/exe", O_RDONLY);
	if (fd < 0 || mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) ==
	    MAP_FAILED)
		return (lwc_setup_fail(setup, 3, "a file"));
	(void)close(fd);
	/* Where it runs, and how late its timers are. */
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	if (sched_setaffinity(0, sizeof(one), &one) != 0 ||
	    prctl(PR_SET_TIMERSLACK, 1000000000UL) != 0)
		return (lwc_setup_fail(setup, 4, "its processor"));
	return (0);
}

#define	HANDLER(name)							\
LWC_HANDLER(name)							\
{									\
									\
	inv->output[0] = '+';						\
	inv->output_len = 1;						\
	return (0);							\
}

HANDLER(thread)
HANDLER(row_of_threads)
HANDLER(child)
HANDLER(grandchild)
HANDLER(shared)
HANDLER(shared_later)
HANDLER(idle)
HANDLER(nicer)
HANDLER(nothing)
HANDLER(takes_the_signal)
HANDLER(closes_its_hosts)

/* A file is one for all copies. */
static int file;

LWC_INIT(open_file)
{

	(void)setup;
	file = memfd_create("kept", 0);
	return (file == -1 || ftruncate(file, 4096) != 0);
}

LWC_HANDLER(open_file)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file,
	    0);

	return (at == MAP_FAILED ? lwc_append(inv, "+", 1) :
	    lwc_fail(inv, 1, "a file is open"));
}

/* A handler in the snapshot would see every message. */
static volatile int ticks;

static void
tick(int number)
{

	(void)number;
	ticks++;
}

LWC_INIT(timer)
{
	const struct itimerval often = { { 0, 1000 }, { 0, 1000 } };

	(void)setup;
	(void)signal(SIGALRM, tick);
	return (setitimer(ITIMER_REAL, &often, NULL));
}

LWC_HANDLER(timer)
{
	char text[32];

	if (inv->input_len != 0)
		*(volatile int *)8 = 0;
	(void)snprintf(text, sizeof(text), "%d;", ticks);
	return (lwc_append(inv, text, strlen(text)));
}

/* Its copies have the mask that it left. */
LWC_INIT(other_timer)
{

	(void)signal(SIGUSR1, tick);
	return (timer_init(setup));
}

LWC_HANDLER(other_timer)
{
	sigset_t set;

	(void)sigprocmask(SIG_BLOCK, NULL, &set);
	if (sigismember(&set, SIGUSR1) || sigismember(&set, SIGALRM))
		return (lwc_fail(inv, 1, "a signal is blocked"));
	return (timer(inv));
}

/* Its host is told of ends by that. */
LWC_INIT(takes_the_signal)
{

	(void)setup;
	return (signal(SIGSTKFLT, tick) == SIG_ERR);
}

LWC_INIT(closes_its_hosts)
{

	(void)setup;
	return (syscall(SYS_close_range, 3U, ~0U, 0) != 0);
}
