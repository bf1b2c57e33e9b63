// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A voucher for a stay, for guests who say who they are.
//
// Input: lines "NAME\nPASSWORD\nHOTEL\nFIRST NIGHTS GUESTS".  Answer: JSON, with
// a voucher that nobody else can make: the HMAC-SHA-256 of "NAME HOTEL FIRST
// NIGHTS GUESTS CENTS" under BOOKING_KEY, which no other function sees.  (No
// booking is stored: the example has no database.)

#include "wire.hpp"

#include "../upload/sha256.c"

namespace {

std::string
hex_mac(std::string_view key, std::string_view text)
{
	uint8_t mac[SHA256_LEN];
	hmac_sha256(key.data(), key.size(), text.data(), text.size(), mac);
	std::string hex;
	for (const uint8_t byte : mac) {
		hex += "0123456789abcdef"[byte >> 4];
		hex += "0123456789abcdef"[byte & 15];
	}
	return hex;
}

// What a function says of the one hotel that it was asked about.
long
about(const lwc::Reply &reply, const std::string &else_what)
{
	std::string_view row = reply.bytes;
	row = wire::cut(row, '\n');
	(void)wire::cut(row, '\t');
	if (row.empty())
		throw lwc::Error(409, else_what);
	return wire::number(row);
}

void
vouch(lwc::Invocation &inv)
{
	std::string_view stay = inv.input();
	const std::string name(wire::cut(stay, '\n'));
	const std::string_view password = wire::cut(stay, '\n');
	const std::string hotel(wire::cut(stay, '\n'));
	stay = wire::cut(stay, '\n');
	(void)wire::number(hotel);

	// What it says against the guest is the answer: nothing to add.
	(void)inv.call("login", name + '\n' + std::string(password));

	const std::string question = std::string(stay) + '\n' + hotel + '\n';
	(void)about(inv.call("availability", question), "no room is free");
	const long cents = about(inv.call("rates", question),
	    "no room for so many guests");

	const auto key = inv.secret("BOOKING_KEY");
	if (!key)
		throw lwc::Error(500, "the chain file grants no BOOKING_KEY");
	const std::string price = std::to_string(cents);
	inv.append("{\"guest\":\"" + name + "\",\"hotel\":" + hotel +
	    ",\"price\":" + price + ",\"voucher\":\"" + hex_mac(*key, name +
	    ' ' + hotel + ' ' + std::string(stay) + ' ' + price) + "\"}\n");
	inv.reply_type("application/json");
}

} // namespace

LWC_FUNCTION(reserve, vouch)
