/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * What the bytes of an operation mean: descriptors, addresses, processes,
 * numbers of system calls.
 */

#include "lwc_fuzz_ops.h"

int kept[8];			/* descriptors of contexts; 7: who came last */
int files[8];
int numbers[9];
static char text_page[PAGE];	/* an ordinary page of data */
static const char *const names[9] = { "sys/lwCreate", "sys/lwSwitch",
    "sys/lwDiscardSwitch", "sys/lwRestrict", "sys/lwOverlay", "sys/lwSyscall",
    "sys/lwGetlwc", "sys/lwInfo", "sys/lwControl" };

void
prepare(void)
{
	struct module_stat ms;
	int i, id;

	(void)lwInfo(-2, NULL);		/* the library looks its numbers up */
	for (i = 0; i < (int)nitems(names); i++) {
		ms.version = sizeof(ms);
		id = modfind(names[i]);
		if (id >= 0 && modstat(id, &ms) == 0)
			numbers[i] = ms.data.intval;
	}
	for (i = 0; i < noperations; i++)
		if (operations[i].name[0] == '}')
			op_end = i;
}

/*
 * Arguments.
 */
int
other_descriptor(uint8_t b)
{

	return ((int)special_descriptors[(b - SPECIAL) % nspecial_descriptors]
	    .value);
}

int
desc(uint8_t b)
{

	return (b < SPECIAL ? kept[b % 8] : b >= CROSSED ? files[b % 8] :
	    other_descriptor(b));
}

int
file(uint8_t b)
{

	return (b < SPECIAL ? files[b % 8] : b >= CROSSED ? kept[b % 8] :
	    other_descriptor(b));
}

static uint64_t
special_address(uint8_t b)
{
	uint64_t v;

	v = special_addresses[(b - SPECIAL) % nspecial_addresses].value;
	switch (v) {
	case 1:
		return ((uintptr_t)&prepare & ~(PAGE - 1UL));
	case 2:
		return ((uintptr_t)text_page & ~(PAGE - 1UL));
	case 3:
		return ((uintptr_t)&v & ~(PAGE - 1UL));
	default:
		return (v);
	}
}

uint64_t
addr(uint8_t b)
{

	return (b < SPECIAL ? ARENA + b % ARENA_PAGES * PAGE :
	    special_address(b));
}

uint64_t
size(uint8_t b)
{

	return (b < SPECIAL ? (1 + b % ARENA_PAGES) * PAGE :
	    special_sizes[(b - SPECIAL) % nspecial_sizes].value);
}

void *
ptr(uint8_t b, void *good)
{

	return (b < SPECIAL ? good : (void *)(uintptr_t)special_address(b));
}

void
keep(uint8_t b, int fd)
{

	if (fd >= 0)
		kept[b % 8] = fd;
}

pid_t
who(struct me *m, uint8_t b)
{
	struct slot *s = m->slot;
	pid_t pid;
	int i;

	pid = 0;
	switch (choice(&t_who, b)) {
	case 1:
		pid = s->sl_pids[0];
		break;
	case 2:
		pid = s->sl_pids[1];
		break;
	case 3:
		pid = s->sl_pids[2];
		break;
	case 4:
		i = atomic_load(&s->sl_peers) - 1;
		if (i >= 0 && i < MAXPEERS)
			pid = s->sl_pids[i];
		break;
	case 5:
		return (0);
	case 6:
		pid = m->index > 0 ? s->sl_pids[0] : 0;
		break;
	}
	return (pid > 1 ? pid : getpid());
}

/* What would harm the machine rather than test it. */
int
harmless(struct me *m, int number, uint64_t *a)
{

	switch (number) {
	case SYS_reboot: case SYS_kldload: case SYS_kldunload:
	case SYS_kldunloadf: case SYS_mount: case SYS_unmount: case SYS_nmount:
	case SYS_swapon: case SYS_swapoff: case SYS_settimeofday:
	case SYS_clock_settime: case SYS_adjtime: case SYS_ntp_adjtime:
	case SYS_acct: case SYS_nfssvc: case SYS_kenv: case SYS_auditon:
	case SYS_auditctl: case SYS_quotactl: case SYS_rtprio:
	case SYS_rtprio_thread: case SYS_sched_setscheduler:
	case SYS_sched_setparam: case SYS_jail_remove:
	case SYS_revoke: case SYS_unlink: case SYS_rename: case SYS_ktrace:
	case SYS_setfib: case 424:
	case SYS_setpriority: case SYS_cpuset_setaffinity:
		return (SYS_getppid);
	case SYS_kill: case SYS_sigqueue: case SYS_setpgid:
	case SYS_thr_kill2:
		a[0] = who(m, (uint8_t)a[0]);
		break;
	case SYS_ptrace:
		a[1] = who(m, (uint8_t)a[1]);
		break;
	case SYS_procctl:
		a[0] = P_PID;
		a[1] = who(m, (uint8_t)a[1]);
		break;
	}
	return (number);
}

int
number(struct me *m, uint8_t which, uint8_t more, uint8_t first, uint64_t *a)
{
	int i, n;

	for (i = 0; i < LWC_CALL_NARGS; i++)
		a[i] = choice(&t_value, first + i * (1 + first / 64));
	n = more < SPECIAL ? (int)choice(&t_number, which) :
	    (more - SPECIAL) * 4 + which % 4;
	/* Make the usual ones go far. */
	if (first % 2 == 0) {
		switch (n) {
		case SYS_mmap:
			a[0] = ARENA + first % ARENA_PAGES * PAGE;
			a[1] = PAGE;
			a[2] = PROT_READ | PROT_WRITE;
			a[3] = MAP_FIXED | MAP_ANON;
			a[4] = -1UL;
			a[5] = 0;
			break;
		case SYS_open:
			a[0] = ARENA + PAGE;
			a[1] = O_RDWR;
			break;
		case SYS_munmap: case SYS_mprotect: case SYS_madvise:
		case SYS_minherit: case SYS_mlock:
			a[0] = ARENA + first % ARENA_PAGES * PAGE;
			a[1] = PAGE * (1 + first % 3);
			a[2] = first % 8;
			break;
		case SYS_close: case SYS_dup: case SYS_fstat: case SYS_write:
			a[0] = files[first / 2 % 8];
			a[1] = ARENA + PAGE;
			a[2] = 10;
			break;
		case SYS_setuid:
			a[0] = 1001;
			break;
		case SYS_ppoll: case SYS_sigsuspend:
			a[0] = ARENA;
			a[1] = 0;
			break;
		}
	}
	return (harmless(m, n, a));
}
