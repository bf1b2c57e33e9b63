/*
 * Functions whose initialisers leave something behind, or do not.  The tests in
 * orchestrator/tests/leftovers.rs run them: the first are not started.
 */

#define _GNU_SOURCE
#include "lwc_function.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>
#include <sys/mman.h>
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
HANDLER(child)
HANDLER(grandchild)
HANDLER(shared)
HANDLER(shared_later)
HANDLER(nothing)
