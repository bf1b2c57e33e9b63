/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The hotels around a place, the nearest first.
 *
 * Input: "LATITUDE LONGITUDE", in millionths of a degree.  Answer: a line
 * "ID\tMETRES" for each of the twenty nearest within ten kilometres.
 */

#include "lwc_function.h"

#include <stdlib.h>

#define NEAREST 20
#define REACH 1000000		/* centimetres */

/* Centimetres to 10,000 millionths of a degree; the town is small and flat. */
#define NORTH 111195
#define EAST 67887

struct hotel {
	int id;
	int64_t lat, lon;	/* millionths of a degree */
};

struct found {
	int id;
	int64_t square;		/* of its distance, in centimetres */
};

static struct hotel hotels[] = {
#define HOTEL(id, lat, lon, stars, rooms, name, street) { id, lat, lon },
#include "data/hotels.def"
#undef HOTEL
};
#define HOTELS (sizeof(hotels) / sizeof(hotels[0]))

static int
by_latitude(const void *a, const void *b)
{
	const struct hotel *one = (const struct hotel *)a;
	const struct hotel *other = (const struct hotel *)b;

	if (one->lat != other->lat)
		return (one->lat < other->lat ? -1 : 1);
	return (one->id - other->id);
}

/* From then on the first hotel that is not too far south is found by halves. */
LWC_INIT(geo)
{

	(void)setup;
	qsort(hotels, HOTELS, sizeof(hotels[0]), by_latitude);
	return (0);
}

static size_t
first_from(int64_t lat)
{
	size_t low = 0, high = HOTELS;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (hotels[middle].lat < lat)
			low = middle + 1;
		else
			high = middle;
	}
	return (low);
}

/* Keeps the nearest, in order: by distance, then by number. */
static size_t
keep(struct found *found, size_t n, struct found one)
{
	size_t at;

	for (at = n; at > 0; at--) {
		const struct found *before = &found[at - 1];

		if (before->square < one.square ||
		    (before->square == one.square && before->id < one.id))
			break;
		if (at < NEAREST)
			found[at] = *before;
	}
	if (at < NEAREST)
		found[at] = one;
	return (n < NEAREST ? n + 1 : n);
}

/* The root of a square, rounded down. */
static int64_t
root(int64_t square)
{
	int64_t r = square, next = (square + 1) / 2;

	while (next < r) {
		r = next;
		next = (r + square / r) / 2;
	}
	return (r);
}

LWC_HANDLER(geo)
{
	struct found found[NEAREST];
	char text[64];
	size_t i, n = 0;
	int64_t east, lat, lon, north, square;
	char *rest;

	if (inv->input_len >= sizeof(text))
		return (lwc_fail(inv, 400, "a place is two numbers"));
	memcpy(text, inv->input, inv->input_len);
	text[inv->input_len] = '\0';
	lat = strtoll(text, &rest, 10);
	lon = strtoll(rest, &rest, 10);
	if (rest == text || lat < -90000000 || lat > 90000000 ||
	    lon < -180000000 || lon > 180000000)
		return (lwc_fail(inv, 400, "no such place on earth"));

	for (i = first_from(lat - REACH * INT64_C(10000) / NORTH); i < HOTELS;
	    i++) {
		north = (hotels[i].lat - lat) * NORTH / 10000;
		east = (hotels[i].lon - lon) * EAST / 10000;
		if (north > REACH)
			break;
		square = north * north + east * east;
		if (square <= (int64_t)REACH * REACH)
			n = keep(found, n, (struct found){ hotels[i].id, square });
	}
	for (i = 0; i < n; i++) {
		int len = snprintf(text, sizeof(text), "%d\t%lld\n",
		    found[i].id, (long long)(root(found[i].square) / 100));

		if (lwc_append(inv, text, (size_t)len) != 0)
			return (inv->status);
	}
	return (0);
}
