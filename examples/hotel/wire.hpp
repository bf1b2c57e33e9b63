/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What the functions in C++ read and write: lines, of fields with a tab or a
 * space between them.
 */

#ifndef HOTEL_WIRE_HPP
#define HOTEL_WIRE_HPP

#include "lwc_function.hpp"

#include <charconv>

namespace wire {

/* Takes what is before the next `end', or all, off a text. */
inline std::string_view
cut(std::string_view &text, char end)
{
	const size_t at = text.find(end);
	const std::string_view part = text.substr(0, at);
	text.remove_prefix(at == text.npos ? text.size() : at + 1);
	return part;
}

/* A whole number; Error 400 if it is none. */
inline long
number(std::string_view text)
{
	long n = 0;
	const char *end = text.data() + text.size();
	const auto [rest, fault] = std::from_chars(text.data(), end, n);
	if (fault != std::errc() || rest != end)
		throw lwc::Error(400, "expected a number, found \"" +
		    std::string(text) + "\"");
	return n;
}

/* A stay: "FIRST NIGHTS GUESTS", FIRST in days from 2027-01-01. */
struct Stay {
	long first, nights, guests;

	static Stay parse(std::string_view text) {
		Stay stay{};
		stay.first = number(cut(text, ' '));
		stay.nights = number(cut(text, ' '));
		stay.guests = number(text);
		return stay;
	}
};

} /* namespace wire */

#endif /* !HOTEL_WIRE_HPP */
