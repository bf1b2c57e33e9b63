/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* What the kernel lets us see: coverage, counters, switches to set. */

#include <sys/param.h>
#include <sys/ioctl.h>
#include <sys/kcov.h>
#include <sys/linker.h>
#include <sys/malloc.h>
#include <sys/mman.h>
#include <sys/sysctl.h>
#include <sys/user.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lwc_fuzz.h"

void
module_find(void)
{
	struct kld_file_stat st;
	int id;

	id = kldfind("lwc.ko");
	if (id < 0)
		return;
	st.version = sizeof(st);
	if (kldstat(id, &st) != 0)
		return;
	env.base = (uintptr_t)st.address;
	env.size = MIN(st.size, COVERAGE);
}

bool
kcov_open(int slot)
{
	struct trace *t = &traces[slot];
	void *p;
	int fd, i;

	if (env.size == 0)
		return (false);
	for (i = 0; i < NKCOV; i++) {
		fd = open("/dev/kcov", O_RDWR);
		if (fd < 0)
			return (false);
		/* Out of the way of what programs close. */
		t->tr_fd[i] = fcntl(fd, F_DUPFD, 200);
		(void)close(fd);
		fd = t->tr_fd[i];
		if (ioctl(fd, KIOSETBUFSIZE, KCOV_ENTRIES) != 0)
			return (false);
		p = mmap(NULL, KCOV_ENTRIES * KCOV_ENTRY_SIZE,
		    PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED)
			return (false);
		t->tr_buffer[i] = p;
	}
	return (true);
}

static bool
read_value(const char *name, uint64_t *value, int *size)
{
	size_t len;

	*value = 0;
	len = sizeof(*value);
	if (sysctlbyname(name, value, &len, NULL, 0) != 0)
		return (false);
	if (size != NULL)
		*size = (int)len;
	return (true);
}

/* The fail points of the module. */
void
points_find(void)
{
	char name[256];
	int mib[24], next[24], root[4];
	size_t len, nlen, rlen;

	rlen = nitems(root);
	if (sysctlnametomib("debug.fail_point", root, &rlen) != 0)
		return;
	memcpy(next, root, rlen * sizeof(int));
	nlen = rlen;
	for (;;) {
		mib[0] = CTL_SYSCTL;
		mib[1] = CTL_SYSCTL_NEXTNOSKIP;
		memcpy(&mib[2], next, nlen * sizeof(int));
		len = sizeof(next);
		if (sysctl(mib, nlen + 2, next, &len, NULL, 0) != 0)
			break;
		nlen = len / sizeof(int);
		if (nlen < rlen || memcmp(next, root, rlen * sizeof(int)) != 0)
			break;
		mib[1] = CTL_SYSCTL_NAME;
		memcpy(&mib[2], next, nlen * sizeof(int));
		len = sizeof(name);
		if (sysctl(mib, nlen + 2, name, &len, NULL, 0) != 0)
			break;
		if (strncmp(name, "debug.fail_point.lwc", 20) == 0 &&
		    env.npoints < MAXPOINTS)
			strlcpy(env.points[env.npoints++].pt_name,
			    name + strlen("debug.fail_point."),
			    sizeof(env.points[0].pt_name));
	}
}

void
points_reset(void)
{
	char name[128];
	int i;

	for (i = 0; i < env.npoints; i++) {
		snprintf(name, sizeof(name), "debug.fail_point.%s",
		    env.points[i].pt_name);
		(void)sysctlbyname(name, NULL, NULL, "off", 3);
	}
}

void
limits_find(void)
{
	static const char *const names[] = { "kern.lwc.max_contexts",
	    "kern.lwc.max_per_proc", "kern.lwc.max_specs",
	    "kern.lwc.max_per_user", "kern.lwc.max_descriptors_per_user",
	    "kern.maxfiles", "vm.overcommit", "kern.maxfilesperproc",
	    "kern.maxprocperuid" };
	struct limit *l;
	int i;

	for (i = 0; i < (int)nitems(names); i++) {
		l = &env.limits[env.nlimits];
		strlcpy(l->lm_name, names[i], sizeof(l->lm_name));
		if (read_value(names[i], &l->lm_value, &l->lm_size))
			env.nlimits++;
	}
}

void
limits_reset(void)
{
	struct limit *l;
	uint64_t now;
	int i;

	for (i = 0; i < env.nlimits; i++) {
		l = &env.limits[i];
		if (read_value(l->lm_name, &now, NULL) && now != l->lm_value)
			(void)sysctlbyname(l->lm_name, NULL, NULL,
			    &l->lm_value, l->lm_size);
	}
}

/*
 * Counters that must come back to what they were.  The first are exact; the
 * others may grow by what the kernel keeps for itself, and are a failure only
 * when they go on growing.
 */
#define	MAXCOUNTERS	64
static struct counter {
	char		name[48];
	bool		exact;
	int64_t		value, grown;
	int		times;
} counters[MAXCOUNTERS];
static int ncounters;

static struct counter *
counter(const char *kind, const char *name, bool exact)
{
	char full[48];
	int i;

	snprintf(full, sizeof(full), "%s%s", kind, name);
	for (i = 0; i < ncounters; i++)
		if (strcmp(counters[i].name, full) == 0)
			return (&counters[i]);
	if (ncounters == MAXCOUNTERS)
		return (NULL);
	strlcpy(counters[i].name, full, sizeof(counters[i].name));
	counters[i].exact = exact;
	counters[i].value = INT64_MIN;
	ncounters++;
	return (&counters[i]);
}

static void
seen(struct counter *c, int64_t value, bool take, char *why, size_t size,
    bool final)
{
	char one[128];

	if (c == NULL)
		return;
	if (take || c->value == INT64_MIN) {
		c->value = value;
		return;
	}
	if (value <= c->value) {
		/* What was busy when we first looked may have gone. */
		c->value = value;
		c->times = 0;
		return;
	}
	if (!c->exact) {
		if (!final)
			return;
		/* Growing at five checks in a row, by a hundred in all. */
		c->times++;
		c->grown += value - c->value;
		c->value = value;
		if (c->times < 5 || c->grown < 100)
			return;
		c->times = 0;
		c->grown = 0;
	}
	snprintf(one, sizeof(one), " %s %jd (was %jd)", c->name,
	    (intmax_t)value, (intmax_t)c->value);
	strlcat(why, one, size);
}

static void *
blob(const char *name, size_t *len)
{
	void *p;

	if (sysctlbyname(name, NULL, len, NULL, 0) != 0)
		return (NULL);
	*len += *len / 4;
	p = malloc(*len);
	if (sysctlbyname(name, p, len, NULL, 0) != 0) {
		free(p);
		return (NULL);
	}
	return (p);
}

static void
look(bool take, char *why, size_t size, bool final)
{
	static const char *const exact[] = { "kern.lwc.contexts",
	    "kern.lwc.descriptors", "kern.lwc.objects", "kern.lwc.rights",
	    "kern.lwc.processes", "kern.openfiles" };
	static const char *const zones[] = { "VMSPACE", "FPU_save_area",
	    "VM_OBJECT", "MAP_ENTRY", "Files", "PROC", "KNOTE", "filedesc0" };
	static const char *const types[] = { "filedesc", "cred", "sigacts",
	    "plimit", "filedesc_to_leader", "subproc", "lockf", "kqueue" };
	const struct malloc_type_stream_header *mh;
	const struct malloc_type_stats *ms;
	const struct malloc_type_header *mt;
	char name[64];
	const char *p;
	uint64_t v;
	int64_t n;
	size_t len;
	void *b;
	unsigned int cpu, i, j;

	for (i = 0; i < nitems(exact); i++)
		if (read_value(exact[i], &v, NULL))
			seen(counter("", exact[i], true), (int64_t)v, take,
			    why, size, final);
	if (!take && !final)
		return;
	if (read_value("vm.swap_reserved", &v, NULL))
		seen(counter("", "vm.swap_reserved", false), (int64_t)v >> 12,
		    take, why, size, final);
	for (i = 0; i < nitems(zones); i++) {
		snprintf(name, sizeof(name), "vm.uma.%s.stats.current",
		    zones[i]);
		if (read_value(name, &v, NULL))
			seen(counter("zone ", zones[i], false), (int64_t)v,
			    take, why, size, final);
	}
	/* A table of every type and every processor there could be: slow. */
	if (env.thorough && (take || final) &&
	    (b = blob("kern.malloc_stats", &len)) != NULL) {
		mh = b;
		p = (const char *)(mh + 1);
		for (i = 0; i < mh->mtsh_count; i++) {
			mt = (const void *)p;
			ms = (const void *)(mt + 1);
			n = 0;
			for (cpu = 0; cpu < mh->mtsh_maxcpus; cpu++)
				n += (int64_t)(ms[cpu].mts_numallocs -
				    ms[cpu].mts_numfrees);
			p = (const char *)&ms[mh->mtsh_maxcpus];
			if (strncmp(mt->mth_name, "lwc", 3) == 0)
				seen(counter("malloc ", mt->mth_name, false),
				    n, take, why, size, final);
			for (j = 0; j < nitems(types); j++)
				if (strcmp(mt->mth_name, types[j]) == 0)
					seen(counter("malloc ", types[j],
					    false), n, take, why, size, final);
		}
		free(b);
	}
}

void
counters_take(void)
{

	look(true, NULL, 0, false);
}

/* What did not come back, after some waiting; true if all did. */
bool
counters_check(char *why, size_t size, bool final)
{
	int try;

	for (try = 0; try < 200; try++) {
		why[0] = '\0';
		look(false, why, size, false);
		if (why[0] == '\0')
			break;
		usleep(20000);
	}
	if (final)
		look(false, why, size, true);
	return (why[0] == '\0');
}

/* For what hangs: all processes and what they wait for. */
void
processes_print(void)
{
	struct kinfo_proc *kp;
	int mib[3] = { CTL_KERN, KERN_PROC, KERN_PROC_PROC };
	size_t i, len;

	if (sysctl(mib, 3, NULL, &len, NULL, 0) != 0)
		return;
	len += len / 4;
	kp = malloc(len);
	if (sysctl(mib, 3, kp, &len, NULL, 0) == 0)
		for (i = 0; i < len / sizeof(*kp); i++)
			if ((kp[i].ki_flag & P_SYSTEM) == 0)
				printf("%5d %5d %d %s %s\n", kp[i].ki_pid,
				    kp[i].ki_ppid, kp[i].ki_stat,
				    kp[i].ki_wmesg, kp[i].ki_comm);
	free(kp);
}
