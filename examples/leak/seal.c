/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The second step of the chain `leak': seals a text with a key that nobody
 * else may learn.  There is nothing wrong with it.
 *
 * Input: anything.
 * Answer: the input, then a newline, 64 hex digits and a newline.  The digits
 * are the HMAC-SHA256 of the input under the secret SEAL_KEY.
 * Errors: 413 the answer does not fit; 500 no SEAL_KEY is granted.
 */

#include "lwc_function.h"
#include "../upload/sha256.c"

LWC_HANDLER(seal)
{
	char trailer[1 + 2 * SHA256_LEN + 1];
	uint8_t mac[SHA256_LEN];
	const uint8_t *key;
	size_t len;

	key = lwc_secret(inv, "SEAL_KEY", &len);
	if (key == NULL)
		return (lwc_fail(inv, 500, "the secret SEAL_KEY is not "
		    "granted in the chain file"));
	hmac_sha256(key, len, inv->input, inv->input_len, mac);
	trailer[0] = '\n';
	for (size_t i = 0; i < sizeof(mac); i++) {
		trailer[1 + 2 * i] = "0123456789abcdef"[mac[i] >> 4];
		trailer[2 + 2 * i] = "0123456789abcdef"[mac[i] & 15];
	}
	trailer[sizeof(trailer) - 1] = '\n';
	if (lwc_append(inv, inv->input, inv->input_len) != 0)
		return (inv->status);
	return (lwc_append(inv, trailer, sizeof(trailer)));
}
