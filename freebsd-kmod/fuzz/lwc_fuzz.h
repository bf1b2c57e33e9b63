/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * lwc_fuzz: what its files share.  See README.md beside this file.
 *
 * A program is a list of operations of six bytes each.  It names everything
 * by small numbers (slot of a descriptor, page of the arena, line of a table),
 * so that any six bytes are an operation, any list of them a program, and what
 * is left of a program when operations are deleted is one as well.
 */

#ifndef _LWC_FUZZ_H_
#define	_LWC_FUZZ_H_

#include <sys/types.h>

#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define	PAGE		4096
#define	ARENA		0x500000000000UL
#define	ARENA_PAGES	32
#define	STACKS		0x510000000000UL	/* of peers and threads */
#define	STACK_SIZE	(64 * 1024UL)
#define	UNMAPPED	0x600000000000UL
#define	KERNEL		0xffffffff80000000UL

#define	MAXOPS		48
#define	MAXPEERS	8	/* processes and threads of one program */
#define	NARGS		5
#define	MAXSLOTS	8
#define	MAXCORPUS	4096
#define	COVERAGE	(2UL << 20)	/* bytes of the module's text at most */
#define	NKCOV		3		/* peers that are traced */
#define	KCOV_ENTRIES	(1UL << 20)
#define	HISTORY		512
#define	MAXPOINTS	64
#define	MAXLIMITS	16

struct op {
	uint8_t	code;
	uint8_t	arg[NARGS];
};

struct prog {
	int	n;
	struct op op[MAXOPS];
};

/* base64 of a program, and its end. */
#define	LINE_SIZE	(MAXOPS * 8 + 1)

/* One line of a table of values: how it is written, and what it is. */
struct choice {
	const char	*name;
	uint64_t	value;
};
struct table {
	const struct choice *choices;
	int		n;
};

/* Arguments from here on are lines of these tables. */
#define	SPECIAL		100
#define	CROSSED		200	/* of descriptors: the other kind's slots */
extern const struct choice special_addresses[], special_sizes[],
    special_descriptors[];
extern const int nspecial_addresses, nspecial_sizes, nspecial_descriptors;

enum kind {
	K_NONE,
	K_DESC,		/* a descriptor, most likely a context's */
	K_FILE,		/* a descriptor, most likely another one */
	K_SLOT,		/* where to keep the result */
	K_ADDR,		/* an address, most likely a page of the arena */
	K_SIZE,		/* a size, most likely pages that fit */
	K_VALUE,	/* any 64-bit value */
	K_PTR,		/* a pointer to a result, most likely a good one */
	K_BYTE,		/* a small number */
	K_POINT,	/* a fail point */
	K_LIMIT,	/* a sysctl that limits */
	K_TABLE		/* a line of the operation's table */
};

struct argument {
	const char	*name;
	enum kind	kind;
	const struct table *table;
};

/* What one process or thread of a program has to itself. */
struct me {
	struct slot	*slot;
	int		index;		/* in sl_pc */
	int		stack;		/* 0 is the process's own */
	int64_t		ret;
	int		error;
};

struct operation {
	const char	*name;
	int		weight;
	void		(*run)(struct me *, const struct op *);
	struct argument	arg[NARGS];
};
extern const struct operation operations[];
extern const int noperations;
extern int op_end;			/* code of "end" */
extern bool excluded[256];		/* operations that are not generated */
extern const char *excluded_choice[16];	/* nor with these words in a table */

struct result {
	int64_t	ret;
	int	error;
	short	peer;
	bool	done;
	bool	left;		/* not returned from */
};

/*
 * A place where programs run, one after the other.  Memory that the slot shares
 * with its programs, which may write anything to it: nothing here is relied on.
 */
struct slot {
	struct prog	sl_prog;
	atomic_int	sl_pc[MAXPEERS];
	atomic_int	sl_peers;
	pid_t		sl_pids[MAXPEERS];
	struct result	sl_result[MAXOPS];
	atomic_uint	sl_tried[256], sl_good[256];
};
extern struct slot *slots[MAXSLOTS];

/* The buffers of kcov(4) of a slot; its programs have them open, no more. */
struct trace {
	volatile uint64_t *tr_buffer[NKCOV];
	int		tr_fd[NKCOV];
};
extern struct trace traces[MAXSLOTS];
extern int place;			/* of the slot of this process */

/* What the first process and the slots share; programs have it not. */
struct shared {
	atomic_ulong	execs, calls, timeouts, kept;
	atomic_ulong	tried[256], good[256];
	atomic_ulong	stuck[256];	/* when the time limit came */
	atomic_int	lock;
	atomic_int	stop;		/* the slots shall end */
	atomic_int	pause;		/* the slots shall wait */
	atomic_int	paused;
	atomic_int	hang;
	atomic_int	ncorpus;
	struct prog	corpus[MAXCORPUS];
	atomic_int	pcs;
	uint8_t		cov[COVERAGE / 8];
	uint8_t		slot_cov[MAXSLOTS][COVERAGE / 8];
	struct prog	history[MAXSLOTS][HISTORY];
	atomic_int	nhistory[MAXSLOTS];
};
extern struct shared *sh;

struct point {
	char	pt_name[80];
};
struct limit {
	char	lm_name[64];
	int	lm_size;
	uint64_t lm_value;	/* at the start */
};

/* Known before the first program runs. */
struct environment {
	uint64_t	base, size;	/* of the module's text */
	int		jid;
	int		npoints;
	struct point	points[MAXPOINTS];
	int		nlimits;
	struct limit	limits[MAXLIMITS];
	char		self[1024];
	bool		root;
	bool		thorough;
};
extern struct environment env;

/* lwc_fuzz_prog.c */
extern __thread uint64_t rnd_state;
uint64_t rnd(uint64_t);
void	prog_encode(const struct prog *, char *);
bool	prog_decode(struct prog *, const char *);
void	prog_print(FILE *, const struct prog *, const struct result *);
void	prog_random(struct prog *);
void	prog_mutate(struct prog *, const struct prog *);
bool	prog_excluded(const struct op *);
int	prog_end(const struct prog *, int);
uint64_t choice(const struct table *, uint8_t);

/* lwc_fuzz_ops.c, lwc_fuzz_processes.c, lwc_fuzz_args.c */
void	interpret(struct me *) __dead2;
void	worker(struct slot *) __dead2;
void	after_exec(void) __dead2;
void	prepare(void);

/* lwc_fuzz_seen.c */
void	module_find(void);
bool	kcov_open(int);
void	points_find(void);
void	points_reset(void);
void	limits_find(void);
void	limits_reset(void);
void	counters_take(void);
bool	counters_check(char *, size_t, bool);
void	processes_print(void);

#endif /* !_LWC_FUZZ_H_ */
