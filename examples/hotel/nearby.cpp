// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Hotels around a place that can be had for a stay, the best first.
//
// Input: a line "LATITUDE LONGITUDE" (geo's), a line "FIRST NIGHTS GUESTS"
// (rates').  Answer: a line "ID\tMETRES\tCENTS" for each of the ten best:
// CENTS is what the stay costs, and a metre of way counts for two of them.

#include "wire.hpp"

#include <algorithm>

namespace {

constexpr size_t best = 10;

struct Offer {
	long id, metres, cents;
	long worth() const { return cents + 2 * metres; }
};

void
best_near(lwc::Invocation &inv)
{
	std::string_view stay = inv.input();
	const std::string_view place = wire::cut(stay, '\n');

	std::vector<Offer> offers;
	std::string question(stay);
	if (question.empty() || question.back() != '\n')
		question += '\n';
	const lwc::Reply geo = inv.call("geo", place);
	for (std::string_view rows = geo.bytes; !rows.empty();) {
		std::string_view row = wire::cut(rows, '\n');
		const std::string_view id = wire::cut(row, '\t');
		offers.push_back({wire::number(id), wire::number(row), -1});
		(question += id) += '\n';
	}

	// Those that are not let have no line in the answer.
	const lwc::Reply rates = inv.call("rates", question);
	for (std::string_view rows = rates.bytes; !rows.empty();) {
		std::string_view row = wire::cut(rows, '\n');
		const long id = wire::number(wire::cut(row, '\t'));
		for (Offer &offer : offers)
			if (offer.id == id)
				offer.cents = wire::number(row);
	}
	offers.erase(std::remove_if(offers.begin(), offers.end(),
	    [](const Offer &o) { return o.cents < 0; }), offers.end());
	std::sort(offers.begin(), offers.end(),
	    [](const Offer &a, const Offer &b) {
		    return std::make_pair(a.worth(), a.id) <
			std::make_pair(b.worth(), b.id);
	    });
	if (offers.size() > best)
		offers.resize(best);
	for (const Offer &o : offers)
		inv.append(std::to_string(o.id) + '\t' +
		    std::to_string(o.metres) + '\t' +
		    std::to_string(o.cents) + '\n');
}

} // namespace

LWC_FUNCTION(nearby, best_near)
