// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What a stay costs in each of some hotels.
//
// Input: a line "FIRST NIGHTS GUESTS", and a line with the number of each hotel.
// Answer: a line "ID\tCENTS" for each hotel that takes so many guests, by its
// cheapest plan, in the order of the question.

#include "wire.hpp"

#include <algorithm>
#include <iterator>

namespace {

struct Plan {
	int hotel;
	int guests;	/* at most */
	long cents;	/* a night */
	int weekend;	/* per cent more on Fridays and Saturdays */
};

/* In the order of the hotels' numbers. */
const Plan plans[] = {
#define PLAN(hotel, guests, cents, weekend) { hotel, guests, cents, weekend },
#include "data/rates.def"
#undef PLAN
};

/* The first of January 2027 is a Friday. */
bool
is_weekend(long day)
{
	return day % 7 < 2;
}

/* June, July and August cost a fifth more. */
bool
is_summer(long day)
{
	return day >= 151 && day < 243;
}

long
price(const Plan &plan, const wire::Stay &stay)
{
	long sum = 0;
	for (long day = stay.first; day < stay.first + stay.nights; day++) {
		long night = plan.cents;
		if (is_summer(day))
			night = night * 6 / 5;
		if (is_weekend(day))
			night = night * (100 + plan.weekend) / 100;
		sum += night;
	}
	return sum;
}

void
cheapest(lwc::Invocation &inv)
{
	std::string_view rows = inv.input();
	const auto stay = wire::Stay::parse(wire::cut(rows, '\n'));
	if (stay.first < 0 || stay.nights < 1 || stay.nights > 30)
		throw lwc::Error(400, "a stay is 1 to 30 nights");
	while (!rows.empty()) {
		const long hotel = wire::number(wire::cut(rows, '\n'));
		const Plan *plan = std::lower_bound(std::begin(plans),
		    std::end(plans), hotel,
		    [](const Plan &p, long h) { return p.hotel < h; });
		long least = -1;
		for (; plan != std::end(plans) && plan->hotel == hotel; plan++) {
			if (plan->guests < stay.guests)
				continue;
			const long sum = price(*plan, stay);
			if (least < 0 || sum < least)
				least = sum;
		}
		if (least >= 0)
			inv.append(std::to_string(hotel) + '\t' +
			    std::to_string(least) + '\n');
	}
}

} // namespace

LWC_FUNCTION(rates, cheapest)
