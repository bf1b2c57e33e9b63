/*
 * Planted faults, each of which a compiler may compile as it likes: what
 * harden = "bounds" stops, and what it does not.  The input names one.  A fault
 * that nothing stops answers "ran on"; none needs more than the memory it has.
 *
 * harden.rs holds the outcomes; benches/harden.rs sets AddressSanitizer beside.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int faults_in_cpp(const char *name, volatile int *n);
const char *fault(const char *name);

/* What the compiler cannot know. */
static volatile int nine = 9, zero = 0, big = INT_MAX, wide = 40;
static volatile double huge = 1e30;
static const char *volatile text = "twenty-four bytes, and 0";
static const char *volatile format = "%n";
static volatile int sink;

static int global[8], behind[8];

struct record {
	char name[8];
	int length;
	char rest[32];
};

__attribute__((noinline)) static void
write_local(int at)
{
	int room[8] = { 0 };

	room[at] = 1;
	sink = room[zero];
}

__attribute__((noinline)) static void
read_local(int at)
{
	int room[8] = { 0 };

	room[zero] = 1;
	sink = room[at];
}

__attribute__((noinline)) static void
write_global(int at)
{
	global[at] = 1;
	sink = global[zero] + behind[zero];
}

__attribute__((noinline)) static void
write_member(struct record *record, int at)
{
	record->name[at] = 1;
}

__attribute__((noinline)) static void
copy_string(const char *from)
{
	char room[16];

	strcpy(room, from);
	sink = room[zero];
}

__attribute__((noinline)) static void
copy_into_member(struct record *record, const char *from)
{
	strcpy(record->name, from);
}

/* The compiler sees where the memory came from, if not how much it is. */
__attribute__((noinline)) static void
copy_to_heap(size_t room, size_t bytes)
{
	char *to = malloc(room);

	if (to == NULL)
		abort();
	memcpy(to, text, bytes);
	sink = to[zero];
	free(to);
}

__attribute__((noinline)) static void
fill(char *at, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = 1;
}

__attribute__((noinline)) static int
sum(const char *at, int bytes)
{
	int all = 0;

	for (int i = 0; i < bytes; i++)
		all += at[i];
	return (all);
}

__attribute__((noinline)) static void
walk_over_the_stack(int bytes)
{
	char room[16];

	fill(room, bytes);
	sink = room[zero];
}

__attribute__((noinline)) static void
read_over_the_stack(int bytes)
{
	char room[16];

	memset(room, 0, sizeof(room));
	sink = sum(room, bytes);
}

__attribute__((noinline)) static void
walk_over_the_heap(int bytes)
{
	char *room = malloc(16), *next = malloc(16);

	if (room == NULL || next == NULL)
		abort();
	/* Into what the allocator rounds up to, and no further. */
	fill(room, bytes);
	sink = room[zero];
	free(next);
	free(room);
}

__attribute__((noinline)) static void
read_over_the_heap(int bytes)
{
	char *room = calloc(1, 16);

	if (room == NULL)
		abort();
	sink = sum(room, bytes);
	free(room);
}

__attribute__((noinline)) static void
use_after_free(void)
{
	char *volatile room = malloc(16);

	if (room == NULL)
		abort();
	free(room);
	sink = room[zero];
}

__attribute__((noinline)) static int
never_set(int which)
{
	int values[16];

	if (which > 100)
		memset(values, 1, sizeof(values));
	return (values[which]);
}

/* Leaves something behind for never_set() to find. */
__attribute__((noinline)) static void
leave_behind(void)
{
	volatile int room[64];

	for (int i = 0; i < 64; i++)
		room[i] = 0x5ec2e7;
	sink = room[zero];
}

__attribute__((noinline)) static void
array_of(int n)
{
	char room[n];

	memset(room, 0, 1);
	sink = room[zero];
}

__attribute__((noinline)) static void
count_characters(void)
{
	char own[4], room[64];
	int n = 0;

	/* In memory that can be written, as what comes from outside is. */
	snprintf(own, sizeof(own), "%s", format);
	snprintf(room, sizeof(room), own, &n);
	sink = n;
}

static int
one(int n)
{
	return (n + 1);
}

__attribute__((noinline)) static int
called_as_another(void)
{
	double (*volatile other)(double, void *);

	other = (double (*)(double, void *))(void (*)(void))one;
	sink = (int)other(1, NULL);
	return (0);
}

const char *
fault(const char *name)
{
	struct record record = { .length = 7 };
	int n = nine;

	if (strcmp(name, "none") == 0)
		return ("ran on");
	if (strcmp(name, "write behind a local array") == 0)
		write_local(n);
	else if (strcmp(name, "read behind a local array") == 0)
		read_local(n);
	else if (strcmp(name, "write behind a global array") == 0)
		write_global(n);
	else if (strcmp(name, "write behind an array in a structure") == 0)
		write_member(&record, n);
	else if (strcmp(name, "strcpy into a local array") == 0)
		copy_string(text);
	else if (strcmp(name, "strcpy into a member") == 0)
		copy_into_member(&record, text);
	else if (strcmp(name, "memcpy into the heap") == 0)
		copy_to_heap((size_t)n, (size_t)n + 8);
	else if (strcmp(name, "loop over the stack, by a pointer") == 0)
		walk_over_the_stack(n + 39);
	else if (strcmp(name, "read over the stack, by a pointer") == 0)
		read_over_the_stack(n + 15);
	else if (strcmp(name, "loop over the heap, by a pointer") == 0)
		walk_over_the_heap(n + 15);
	else if (strcmp(name, "read over the heap, by a pointer") == 0)
		read_over_the_heap(n + 15);
	else if (strcmp(name, "use after free") == 0)
		use_after_free();
	else if (strcmp(name, "a variable that was never set") == 0) {
		leave_behind();
		return (never_set(n) == 0 ? "made zero" : "ran on");
	} else if (strcmp(name, "signed overflow") == 0)
		sink = big + n;
	else if (strcmp(name, "shift too far") == 0)
		sink = n << wide;
	else if (strcmp(name, "a number that fits no integer") == 0)
		sink = (int)huge;
	else if (strcmp(name, "an array of no size") == 0)
		array_of(zero - 1);
	else if (strcmp(name, "a truth value of 9") == 0) {
		volatile bool it;

		memset((void *)&it, n, 1);
		sink = it ? 1 : 2;
	} else if (strcmp(name, "%n in a format from outside") == 0)
		count_characters();
	else if (strcmp(name, "a function called as another") == 0)
		called_as_another();
	else if (!faults_in_cpp(name, &nine))
		return ("no such fault");
	sink += record.length;
	return ("ran on");
}

#ifdef ALONE
int
main(int argc, char **argv)
{
	puts(fault(argc > 1 ? argv[1] : "none"));
	return (0);
}
#else
#include "lwc_function.h"

LWC_HANDLER(faults)
{
	char name[64];
	const char *came;

	snprintf(name, sizeof(name), "%.*s", (int)inv->input_len, (const char *)inv->input);
	came = fault(name);
	return (lwc_append(inv, came, strlen(came)));
}
#endif
