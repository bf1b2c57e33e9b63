/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Which of some hotels have a room for a stay.
 *
 * Input: a line "FIRST NIGHTS GUESTS", FIRST in days from the first of January
 * 2027, and a line with the number of each hotel.  Answer: a line "ID\tROOMS"
 * for each that has at least one room free every night, in the order of the
 * question.
 */

#include "lwc_function.h"

#include <stdlib.h>

#define MOST_NIGHTS 30

static const struct {
	int id, rooms;
} hotels[] = {
#define HOTEL(id, lat, lon, stars, rooms, name, street) { id, rooms },
#include "data/hotels.def"
#undef HOTEL
};
#define HOTELS (sizeof(hotels) / sizeof(hotels[0]))

/* In the order of the hotels' numbers. */
static const struct {
	int hotel, first, nights, rooms;
} bookings[] = {
#define BOOKING(hotel, first, nights, rooms) { hotel, first, nights, rooms },
#include "data/bookings.def"
#undef BOOKING
};
#define BOOKINGS (sizeof(bookings) / sizeof(bookings[0]))

/* The first booking of a hotel, if it has any. */
static size_t
first_of(int hotel)
{
	size_t low = 0, high = BOOKINGS;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (bookings[middle].hotel < hotel)
			low = middle + 1;
		else
			high = middle;
	}
	return (low);
}

/* The rooms that are free every night of a stay. */
static int
rooms_free(int hotel, int first, int nights)
{
	int day, most = 0, taken;
	size_t i, begin = first_of(hotel), h;

	for (h = 0; h < HOTELS && hotels[h].id != hotel; h++)
		continue;
	if (h == HOTELS)
		return (0);
	for (day = first; day < first + nights; day++) {
		taken = 0;
		for (i = begin; i < BOOKINGS && bookings[i].hotel == hotel; i++)
			if (bookings[i].first <= day &&
			    day < bookings[i].first + bookings[i].nights)
				taken += bookings[i].rooms;
		if (taken > most)
			most = taken;
	}
	return (hotels[h].rooms - most);
}

LWC_HANDLER(availability)
{
	char line[64], text[1024];
	const char *at = text;
	char *rest;
	long first, nights;
	int hotel, len, rooms;

	if (inv->input_len >= sizeof(text))
		return (lwc_fail(inv, 413, "too many hotels at once"));
	memcpy(text, inv->input, inv->input_len);
	text[inv->input_len] = '\0';
	first = strtol(at, &rest, 10);
	nights = strtol(rest, &rest, 10);
	if (first < 0 || first > 365 || nights < 1 || nights > MOST_NIGHTS)
		return (lwc_fail(inv, 400, "a stay is 1 to %d nights of 2027",
		    MOST_NIGHTS));
	for (at = strchr(rest, '\n'); at != NULL; at = strchr(at, '\n')) {
		hotel = (int)strtol(++at, &rest, 10);
		if (rest == at)
			break;
		at = rest;
		rooms = rooms_free(hotel, (int)first, (int)nights);
		if (rooms < 1)
			continue;
		len = snprintf(line, sizeof(line), "%d\t%d\n", hotel, rooms);
		if (lwc_append(inv, line, (size_t)len) != 0)
			return (inv->status);
	}
	return (0);
}
