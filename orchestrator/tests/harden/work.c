/*
 * Ordinary work, to tell what checks cost: called as they are, by
 * benches/harden.rs.  Each gives a number, so that none is left out.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef ALONE
#include <time.h>
#else
#include "lwc_function.h"
#endif

unsigned long work_hash(void);
unsigned long work_sort(void);
unsigned long work_matrix(void);
unsigned long work_words(void);

static uint32_t
next(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return (*state >> 8);
}

/* Bytes of arrays: a table of 256, a buffer of 64 KiB, eight times. */
unsigned long
work_hash(void)
{
	static uint8_t bytes[65536];
	uint32_t table[256], hash = ~0u, state = 1;

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
		table[i] = c;
	}
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)next(&state);
	for (int round = 0; round < 8; round++)
		for (size_t i = 0; i < sizeof(bytes); i++)
			hash = table[(hash ^ bytes[i]) & 255] ^ (hash >> 8);
	return (hash);
}

static int
compare(const void *a, const void *b)
{
	const int *x = a, *y = b;

	return ((*x > *y) - (*x < *y));
}

/* A library's function that calls back; signed arithmetic. */
unsigned long
work_sort(void)
{
	static int numbers[20000];
	uint32_t state = 7;
	int all = 0;

	for (int i = 0; i < 20000; i++)
		numbers[i] = (int)(next(&state) % 1000000);
	qsort(numbers, 20000, sizeof(int), compare);
	for (int i = 1; i < 20000; i++)
		all = (all + (numbers[i] - numbers[i - 1]) * (i % 7)) % 1000003;
	return ((unsigned long)all);
}

/* Arrays of arrays. */
unsigned long
work_matrix(void)
{
	static double a[96][96], b[96][96], c[96][96];
	double all = 0;

	for (int i = 0; i < 96; i++)
		for (int j = 0; j < 96; j++) {
			a[i][j] = i + j;
			b[i][j] = i - j;
		}
	for (int i = 0; i < 96; i++)
		for (int j = 0; j < 96; j++) {
			double sum = 0;

			for (int k = 0; k < 96; k++)
				sum += a[i][k] * b[k][j];
			c[i][j] = sum;
		}
	for (int i = 0; i < 96; i++)
		all += c[i][95 - i];
	return ((unsigned long)(all < 0 ? -all : all));
}

struct word {
	struct word *next;
	int count;
	char text[];
};

/* The heap, pointers, and the C library's functions for text. */
unsigned long
work_words(void)
{
	static struct word *buckets[1024];
	char text[32];
	uint32_t state = 3;
	unsigned long all = 0;

	memset(buckets, 0, sizeof(buckets));
	for (int i = 0; i < 10000; i++) {
		unsigned hash = 5381;
		struct word *word;

		snprintf(text, sizeof(text), "word-%u", (unsigned)(next(&state) % 2000));
		for (const char *c = text; *c != 0; c++)
			hash = hash * 33 + (unsigned char)*c;
		for (word = buckets[hash % 1024]; word != NULL; word = word->next)
			if (strcmp(word->text, text) == 0)
				break;
		if (word == NULL) {
			word = malloc(sizeof(*word) + strlen(text) + 1);
			if (word == NULL)
				abort();
			strcpy(word->text, text);
			word->count = 0;
			word->next = buckets[hash % 1024];
			buckets[hash % 1024] = word;
		}
		all += (unsigned long)++word->count;
	}
	for (int i = 0; i < 1024; i++)
		for (struct word *word = buckets[i]; word != NULL;) {
			struct word *gone = word;

			word = word->next;
			free(gone);
		}
	return (all);
}

#ifdef ALONE
/* The shortest of some runs of each, in nanoseconds. */
int
main(void)
{
	unsigned long (*all[])(void) = { work_hash, work_sort, work_matrix, work_words };
	volatile unsigned long sink = 0;

	for (int i = 0; i < 4; i++) {
		long best = 0;

		for (int run = 0; run < 200; run++) {
			struct timespec a, b;
			long took;

			clock_gettime(CLOCK_MONOTONIC, &a);
			sink += all[i]();
			clock_gettime(CLOCK_MONOTONIC, &b);
			took = (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec;
			if (run == 0 || took < best)
				best = took;
		}
		printf("%ld\n", best);
	}
	return (0);
}
#else
LWC_HANDLER(work)
{
	unsigned long all = work_hash() + work_sort() + work_matrix() + work_words();
	char text[32];
	int n = snprintf(text, sizeof(text), "%lu", all);

	return (lwc_append(inv, text, (size_t)n));
}
#endif
