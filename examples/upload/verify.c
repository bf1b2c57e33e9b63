/*
 * Step 1: lets a picture through if its sender knows the key.
 *
 * Input: 64 hexadecimal digits, the HMAC-SHA-256 of the rest under HMAC_KEY, a
 * newline, and the picture.  Answer: the picture.
 */

#include "lwc_function.h"
#include "sha256.c"

#define HEX 64

static int
digit(uint8_t c)
{

	if (c >= '0' && c <= '9')
		return (c - '0');
	if (c >= 'a' && c <= 'f')
		return (c - 'a' + 10);
	return (-1);
}

LWC_HANDLER(verify)
{
	uint8_t want[SHA256_LEN], mac[SHA256_LEN];
	const uint8_t *key, *body;
	size_t key_len, len;

	if (inv->input_len < HEX + 1 || inv->input[HEX] != '\n')
		return (lwc_fail(inv, 400, "no signature: expected 64 "
		    "hexadecimal digits and a newline before the picture"));
	for (size_t i = 0; i < SHA256_LEN; i++) {
		int high = digit(inv->input[2 * i]);
		int low = digit(inv->input[2 * i + 1]);

		if (high < 0 || low < 0)
			return (lwc_fail(inv, 400, "the signature holds "
			    "something else than 0-9 and a-f"));
		want[i] = (uint8_t)(high << 4 | low);
	}
	key = lwc_secret(inv, "HMAC_KEY", &key_len);
	if (key == NULL)
		return (lwc_fail(inv, 500, "the chain file grants no HMAC_KEY"));
	body = inv->input + HEX + 1;
	len = inv->input_len - HEX - 1;
	hmac_sha256(key, key_len, body, len, mac);
	if (!mac_equal(mac, want))
		return (lwc_fail(inv, 403, "the signature is not the sender's"));
	lwc_log(inv, LWC_INFO, "%zu bytes, signature good", len);
	lwc_reply_type(inv, "application/octet-stream");
	return (lwc_append(inv, body, len));
}
