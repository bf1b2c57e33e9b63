/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Programs: as a line, as a listing, made up, changed. */

#include <sys/param.h>

#include <stdlib.h>
#include <string.h>

#include "lwc_fuzz.h"

__thread uint64_t rnd_state;

uint64_t
rnd(uint64_t n)
{

	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return (n == 0 ? rnd_state : (rnd_state >> 11) % n);
}

uint64_t
choice(const struct table *t, uint8_t b)
{

	return (t->choices[b % t->n].value);
}

/* The characters of a path, so that the line survives any shell. */
static const char digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._";

void
prog_encode(const struct prog *p, char *line)
{
	const uint8_t *b;
	uint32_t v;
	int i, j;

	b = (const uint8_t *)p->op;
	for (i = 0; i < p->n * (int)sizeof(struct op); i += 3) {
		v = b[i] << 16 | b[i + 1] << 8 | b[i + 2];
		for (j = 18; j >= 0; j -= 6)
			*line++ = digits[v >> j & 63];
	}
	*line = '\0';
}

bool
prog_decode(struct prog *p, const char *line)
{
	const char *at;
	uint8_t *b;
	uint32_t v;
	size_t len;
	int j;

	len = strspn(line, digits);
	memset(p, 0, sizeof(*p));
	if (len == 0 || len % 8 != 0 || len / 8 > MAXOPS)
		return (false);
	p->n = (int)(len / 8);
	b = (uint8_t *)p->op;
	while (len > 0) {
		for (v = j = 0; j < 4; j++) {
			at = strchr(digits, *line++);
			v = v << 6 | (uint32_t)(at - digits);
		}
		*b++ = v >> 16;
		*b++ = v >> 8;
		*b++ = v;
		len -= 4;
	}
	return (true);
}

/* The end of the block that an operation opens, or of the program. */
int
prog_end(const struct prog *p, int pc)
{
	const char *name;
	int depth;

	for (depth = 1; pc < p->n; pc++) {
		name = operations[p->op[pc].code % noperations].name;
		if (name[0] == '{')
			depth++;
		else if (name[0] == '}' && --depth == 0)
			break;
	}
	return (pc);
}

static void
argument_print(FILE *f, const struct argument *a, uint8_t b)
{

	fprintf(f, "%s=", a->name);
	switch (a->kind) {
	case K_DESC:
	case K_FILE:
		if (b < SPECIAL)
			fprintf(f, "%c%d", a->kind == K_DESC ? 'K' : 'F',
			    b % 8);
		else if (b >= CROSSED)
			fprintf(f, "%c%d", a->kind == K_DESC ? 'F' : 'K',
			    b % 8);
		else
			fprintf(f, "%s", special_descriptors[(b - SPECIAL) %
			    nspecial_descriptors].name);
		break;
	case K_ADDR:
		if (b < SPECIAL)
			fprintf(f, "A+%dp", b % ARENA_PAGES);
		else
			fprintf(f, "%s", special_addresses[(b - SPECIAL) %
			    nspecial_addresses].name);
		break;
	case K_SIZE:
		if (b < SPECIAL)
			fprintf(f, "%dp", 1 + b % ARENA_PAGES);
		else
			fprintf(f, "%s", special_sizes[(b - SPECIAL) %
			    nspecial_sizes].name);
		break;
	case K_PTR:
		if (b < SPECIAL)
			fprintf(f, "good");
		else
			fprintf(f, "%s", special_addresses[(b - SPECIAL) %
			    nspecial_addresses].name);
		break;
	case K_TABLE:
	case K_VALUE:
		fprintf(f, "%s", a->table->choices[b % a->table->n].name);
		break;
	case K_SLOT:
		fprintf(f, "%d", b % 8);
		break;
	case K_POINT:
		fprintf(f, "%s", env.npoints > 0 ?
		    env.points[b % env.npoints].pt_name : "none");
		break;
	case K_LIMIT:
		fprintf(f, "%s", env.nlimits > 0 ?
		    env.limits[b % env.nlimits].lm_name : "none");
		break;
	default:
		fprintf(f, "%d", b);
		break;
	}
}

void
prog_print(FILE *f, const struct prog *p, const struct result *r)
{
	const struct operation *o;
	int depth, i, j;

	depth = 0;
	for (i = 0; i < p->n; i++) {
		o = &operations[p->op[i].code % noperations];
		if (o->name[0] == '}' && depth > 0)
			depth--;
		fprintf(f, "%3d  %*s%s(", i, depth * 4, "", o->name);
		if (o->name[0] == '{')
			depth++;
		for (j = 0; j < NARGS && o->arg[j].kind != K_NONE; j++) {
			if (j > 0)
				fprintf(f, ", ");
			argument_print(f, &o->arg[j], p->op[i].arg[j]);
		}
		fprintf(f, ")");
		if (r != NULL && r[i].done)
			fprintf(f, " = %jd%s%.0d  [%d]", (intmax_t)r[i].ret,
			    r[i].ret == -1 ? " errno " : "",
			    r[i].ret == -1 ? r[i].error : 0, r[i].peer);
		else if (r != NULL && r[i].left)
			fprintf(f, " did not return  [%d]", r[i].peer);
		fprintf(f, "\n");
	}
}

/* Mostly what makes a call go far, now and then what must be refused. */
static uint8_t
argument_random(const struct argument *a)
{

	switch (a->kind) {
	case K_DESC:
		if (rnd(12) == 0)
			return ((uint8_t)rnd(256));
		if (rnd(6) == 0)
			return (SPECIAL);	/* LWC_SELF */
		if (rnd(3) == 0)
			return (7);		/* who switched here */
		return ((uint8_t)rnd(rnd(3) ? 2 : 4));
	case K_FILE:
		if (rnd(8) == 0)
			return ((uint8_t)rnd(256));
		return ((uint8_t)rnd(8));
	case K_SLOT:
		return ((uint8_t)rnd(rnd(3) ? 2 : 4));
	case K_ADDR:
	case K_SIZE:
		if (rnd(16) == 0)
			return ((uint8_t)rnd(256));
		return ((uint8_t)rnd(rnd(2) ? 8 : ARENA_PAGES));
	case K_PTR:
		return (rnd(16) == 0 ? (uint8_t)rnd(256) : 0);
	case K_VALUE:
	case K_POINT:
	case K_LIMIT:
		return ((uint8_t)rnd(256));
	case K_TABLE:
		if (a->table->n > 40)		/* numbers of calls */
			return ((uint8_t)rnd(a->table->n));
		/* The first lines are the good ones. */
		if (rnd(2) == 0)
			return (0);
		return ((uint8_t)rnd(rnd(3) == 0 ? a->table->n :
		    MIN(a->table->n, 8)));
	case K_BYTE:
		return ((uint8_t)rnd(rnd(3) ? 8 : 256));
	default:
		return (0);
	}
}

bool
prog_excluded(const struct op *o)
{
	const struct argument *a;
	const char *name;
	int i, j;

	if (excluded[o->code % noperations])
		return (true);
	for (i = 0; i < NARGS; i++) {
		a = &operations[o->code % noperations].arg[i];
		if (a->kind != K_TABLE)
			continue;
		name = a->table->choices[o->arg[i] % a->table->n].name;
		for (j = 0; excluded_choice[j] != NULL; j++)
			if (strcmp(name, excluded_choice[j]) == 0)
				return (true);
	}
	return (false);
}

static void
op_any(struct op *o)
{
	static int total;
	int at, i;

	if (total == 0)
		for (i = 0; i < noperations; i++)
			total += operations[i].weight;
	do {
		at = (int)rnd(total);
		for (i = 0; at >= operations[i].weight; i++)
			at -= operations[i].weight;
	} while (excluded[i]);
	o->code = (uint8_t)i;
	for (at = 0; at < NARGS; at++)
		o->arg[at] = argument_random(&operations[i].arg[at]);
}

static void
op_random(struct op *o)
{

	do
		op_any(o);
	while (prog_excluded(o));
}

static int
op_named(const char *name)
{
	int i;

	for (i = 0; strcmp(operations[i].name, name) != 0; i++)
		continue;
	return (i);
}

/*
 * What chance alone seldom writes.  "+" makes an operation as good as it can be
 * (its first choices); a digit sets the first argument.
 */
static const char *const idioms[] = {
	"lwCreate+ lwSwitch+0", "lwCreate+ lwSwitch+0", "lwSwitch+7",
	"lwSwitch+7", "spec lwCreate lwSwitch+0", "spec+ spec lwCreate",
	"mem lwOverlay+0", "mem mem lwOverlay+0", "mem lwOverlay+7",
	"fd lwOverlay+0", "fd mem lwOverlay+0", "mem lwOverlay+100",
	"mmap+ touch+ mem lwOverlay+0", "mem lwRestrict+0", "fd lwRestrict+100",
	"lwCreate+ lwSwitch+0 wait", "lwCreate+ until wait",
	"lwCreate+ until signal", "lwCreate+ lwSwitch+0 exit+",
	"lwCreate+ lwSwitch+0 fault", "lwCreate+ lwSwitch+0 signal",
	"lwCreate+ lwSwitch+0 cred lwSwitch+7",
	"lwCreate+ lwSwitch+0 open lwSwitch+7 lwSyscall+0",
	"lwCreate+ lwDiscardSwitch+0", "point lwCreate+", "point mem lwOverlay+0",
	"point lwCreate+ lwSwitch+0", "limit lwCreate+", "rlimit lwCreate+",
	"lwCreate+ lwSwitch+0 lwCreate+ lwSwitch+0 lwSwitch+7",
	"lwCreate+ lwSwitch+0 {fork lwSwitch+7 }",
	"cred+ lwCreate+ lwSwitch+0 raw", "cred lwCreate+ lwSwitch+0 raw raw",
	"{rfork mmap munmap mmap munmap mmap } lwCreate+ lwCreate+ lwCreate+",
	"{rfork open close closefrom } lwCreate+ lwSwitch+0 close lwSwitch+7",
	"aio+ lwCreate+ close aio", "fcntl lwCreate+ close {fork fcntl }",
	"altstack sigaction lwCreate+ lwSwitch+0 signal",
	"{fork ptrace ptrace } lwCreate+ lwSwitch+0 lwSwitch+7 lwSwitch+0",
	"sigmask signal lwCreate+ lwSwitch+0", "lwCreate+ lwSwitch+0 allow raw",
	"lwCreate+ lwSwitch+0 below raw raw", "below lwCreate+ lwSwitch+0 raw",
	"lwCreate+ lwSwitch+0 from below raw raw", "from lwCreate+ lwSwitch+0 raw",
};

static bool
idiom(struct prog *p)
{
	const char *at;
	char name[24];
	struct op *o;
	bool good;
	int i, n;

	for (at = idioms[rnd(nitems(idioms))]; *at != '\0'; at += *at == ' ') {
		if (p->n == MAXOPS)
			return (false);
		n = (int)strcspn(at, "+ ");
		snprintf(name, sizeof(name), "%.*s", n, at);
		at += n;
		good = *at == '+';
		if (good)
			at++;
		o = &p->op[p->n];
		memset(o, 0, sizeof(*o));
		if (strcmp(name, "mem") == 0 || strcmp(name, "fd") == 0) {
			o->code = (uint8_t)op_named("spec");
			o->arg[0] = (uint8_t)(rnd(3) + (*name == 'f' ? 5 : 0));
			o->arg[1] = (uint8_t)rnd(ARENA_PAGES);
			o->arg[2] = (uint8_t)rnd(rnd(2) ? 4 : ARENA_PAGES);
			o->arg[3] = (uint8_t)rnd(4);
		} else if (strcmp(name, "until") == 0) {
			o->code = (uint8_t)op_named("lwSwitch");
			o->arg[1] = (uint8_t)(8 + rnd(3));
			o->arg[2] = (uint8_t)rnd(3);
		} else {
			o->code = (uint8_t)op_named(name);
			for (i = 0; i < NARGS; i++)
				o->arg[i] = good && i != 2 ? 0 : argument_random(
				    &operations[o->code].arg[i]);
			if (good && strcmp(name, "lwCreate") == 0)
				o->arg[2] = (uint8_t)rnd(8);
			if (good && *at >= '0' && *at <= '9')
				o->arg[0] = (uint8_t)strtol(at, NULL, 10);
		}
		while (*at >= '0' && *at <= '9')
			at++;
		if (prog_excluded(o))
			op_random(o);
		p->n++;
	}
	return (true);
}

void
prog_random(struct prog *p)
{
	int n;

	memset(p, 0, sizeof(*p));
	n = 3 + (int)rnd(rnd(2) ? 12 : 30);
	while (p->n < n) {
		if (rnd(3) == 0) {
			if (!idiom(p))
				break;
		} else {
			op_random(&p->op[p->n++]);
		}
	}
}

static void
op_insert(struct prog *p, int at, const struct op *o)
{

	if (p->n >= MAXOPS)
		return;
	memmove(&p->op[at + 1], &p->op[at], (p->n - at) * sizeof(*o));
	p->op[at] = *o;
	p->n++;
}

void
prog_mutate(struct prog *p, const struct prog *other)
{
	struct op o;
	int at, i, j, n, times;

	for (times = 1 + (int)rnd(5); times > 0; times--) {
		at = (int)rnd(p->n);
		switch (rnd(10)) {
		case 0:			/* go on at the end */
			(void)idiom(p);
			break;
		case 1:
		case 2:
			op_random(&o);
			op_insert(p, (int)rnd(p->n + 1), &o);
			break;
		case 3:
			if (p->n < 2)
				break;
			p->n--;
			memmove(&p->op[at], &p->op[at + 1],
			    (p->n - at) * sizeof(o));
			break;
		case 4:			/* the rest of another one */
			if (other == NULL || other->n == 0)
				break;
			i = (int)rnd(other->n);
			n = MIN(other->n - i, MAXOPS - at);
			memcpy(&p->op[at], &other->op[i], n * sizeof(o));
			p->n = at + n;
			break;
		case 5:			/* a piece of another one */
			if (other == NULL || other->n == 0)
				break;
			i = (int)rnd(other->n);
			n = MIN(other->n - i, 1 + (int)rnd(6));
			for (j = 0; j < n; j++)
				op_insert(p, MIN(at + j, p->n),
				    &other->op[i + j]);
			break;
		case 6:			/* again */
			o = p->op[at];
			op_insert(p, (int)rnd(p->n + 1), &o);
			break;
		default:
			o = p->op[at];
			i = (int)rnd(NARGS);
			if (rnd(6) == 0)
				p->op[at].arg[i] = (uint8_t)rnd(256);
			else
				p->op[at].arg[i] = argument_random(
				    &operations[o.code % noperations].arg[i]);
			break;
		}
	}
	for (i = 0; i < p->n; i++)
		if (prog_excluded(&p->op[i]))
			op_random(&p->op[i]);
}
