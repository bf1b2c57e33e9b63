/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Memory. */

#include "lwc_fuzz_ops.h"

static int shmid;
static void *shmaddr;

/*
 * Memory.
 */
void
do_mmap(struct me *m, const struct op *o)
{
	int flags;

	flags = (int)choice(&t_map, A(3));
	CALL(m, mmap((void *)addr(A(0)), size(A(1)), (int)choice(&t_prot, A(2)),
	    flags, (flags & (MAP_ANON | MAP_GUARD)) != 0 ? -1 : file(A(4)),
	    0));
}

void
do_munmap(struct me *m, const struct op *o)
{

	CALL(m, munmap((void *)addr(A(0)), size(A(1))));
}

void
do_mprotect(struct me *m, const struct op *o)
{

	CALL(m, mprotect((void *)addr(A(0)), size(A(1)),
	    (int)choice(&t_prot, A(2))));
}

void
do_minherit(struct me *m, const struct op *o)
{

	CALL(m, minherit((void *)addr(A(0)), size(A(1)),
	    (int)choice(&t_inherit, A(2))));
}

void
do_madvise(struct me *m, const struct op *o)
{

	CALL(m, madvise((void *)addr(A(0)), size(A(1)),
	    (int)choice(&t_advice, A(2))));
}

void
do_mlock(struct me *m, const struct op *o)
{
	static char core[ARENA_PAGES];
	void *p;
	size_t n;

	p = (void *)addr(A(0));
	n = size(A(1));
	switch (choice(&t_lock, A(2))) {
	case 0:
		CALL(m, mlock(p, n));
		break;
	case 1:
		CALL(m, munlock(p, n));
		break;
	case 2:
		CALL(m, mlockall(MCL_CURRENT));
		break;
	case 3:
		CALL(m, mlockall(MCL_FUTURE));
		break;
	case 4:
		CALL(m, munlockall());
		break;
	case 5:
		CALL(m, msync(p, n, A(3) % 2 ? MS_INVALIDATE : MS_SYNC));
		break;
	default:
		CALL(m, mincore(p, MIN(n, sizeof(core) * PAGE), core));
		break;
	}
}

void
do_touch(struct me *m, const struct op *o)
{
	volatile char *p;
	uint64_t i, n;

	p = (volatile char *)addr(A(0));
	n = MIN(size(A(1)), ARENA_PAGES * PAGE);
	for (i = 0; i < n; i += PAGE) {
		if (A(2) % 2 == 0)
			p[i] = (char)A(3);
		else
			m->ret += p[i];
	}
}

void
do_break(struct me *m, const struct op *o)
{

	CALL(m, sbrk(A(0) % 2 ? (intptr_t)size(A(1)) : -(intptr_t)PAGE));
}

void
do_shm(struct me *m, const struct op *o)
{

	if (choice(&t_shm, A(0)) == 1) {
		CALL(m, shmdt(A(2) % 4 == 0 ? (void *)addr(A(1)) : shmaddr));
		return;
	}
	shmid = shmget(IPC_PRIVATE, 2 * PAGE, IPC_CREAT | 0600);
	if (shmid < 0)
		return;
	CALL(m, shmat(shmid, choice(&t_shm, A(0)) == 2 ?
	    (void *)addr(A(1)) : NULL, choice(&t_shm, A(0)) == 3 ? SHM_RDONLY :
	    choice(&t_shm, A(0)) == 2 && A(2) % 2 ? SHM_REMAP : 0));
	if (m->ret != -1)
		shmaddr = (void *)m->ret;
	/* It goes with its last user; jailed or dropped, it may stay. */
	(void)shmctl(shmid, IPC_RMID, NULL);
}
