/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The first step of the chain `leak': decodes a message of records, WITH A
 * PLANTED BUG (marked below) like that of Heartbleed, CVE-2014-0160: it
 * believes a length that its input claims.
 *
 * Input: records, each of a length (two bytes, big-endian) and that many
 * bytes of text, in which bytes below 0x20 become spaces.
 * Answer: the texts, one after the other.
 * Errors: 400 half a header or a record longer than 216 bytes; 413 the answer
 * does not fit; 500 the initialiser did not run.
 */

#include "lwc_function.h"

#include <stdlib.h>

struct record {
	char name[32];		/* for the log */
	size_t len;
	uint8_t text[216];
};

static struct record *record;	/* work space, allocated once */

LWC_INIT(decode)
{

	record = (struct record *)calloc(1, sizeof(*record));
	if (record == NULL)
		return (lwc_setup_fail(setup, 500, "out of memory"));
	return (0);
}

LWC_HANDLER(decode)
{
	const uint8_t *in = inv->input;
	size_t have, i, left = inv->input_len;
	unsigned int number = 0;

	if (record == NULL)
		return (lwc_fail(inv, 500, "not initialised"));
	while (left > 0) {
		if (left < 2)
			return (lwc_fail(inv, 400, "half a header"));
		record->len = (size_t)in[0] << 8 | in[1];
		in += 2;
		left -= 2;
		have = left < record->len ? left : record->len;
		if (have > sizeof(record->text))
			return (lwc_fail(inv, 400, "a record of %zu bytes",
			    have));
		for (i = 0; i < have; i++)
			record->text[i] = in[i] < 0x20 ? ' ' : in[i];
		(void)snprintf(record->name, sizeof(record->name),
		    "record %u", number++);
		lwc_log(inv, LWC_DEBUG, "%s: %zu bytes", record->name,
		    record->len);
		/* THE BUG: `record->len' is a claim, `have' is what came. */
		if (lwc_append(inv, record->text, record->len) != 0)
			return (inv->status);
		in += have;
		left -= have;
	}
	return (0);
}
