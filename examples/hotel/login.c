/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Whether a guest is who he says.  The one function that sees the pepper with
 * which passwords are hashed.
 *
 * Input: "NAME\nPASSWORD".  Answer: the name; or an error 401, the same for a
 * wrong name and a wrong password.
 */

#include "lwc_function.h"
#include "../upload/sha256.c"

#define MOST 128		/* bytes of a name and a password */

/* The HMAC-SHA-256 of "NAME\nPASSWORD" under the pepper, in hexadecimal. */
static const struct {
	const char *name, *hash;
} users[] = {
#define USER(name, hash) { name, hash },
#include "data/users.def"
#undef USER
};

static void
to_hex(const uint8_t mac[SHA256_LEN], char hex[2 * SHA256_LEN + 1])
{

	for (size_t i = 0; i < SHA256_LEN; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", mac[i]);
}

LWC_HANDLER(login)
{
	char hex[2 * SHA256_LEN + 1];
	uint8_t mac[SHA256_LEN];
	const uint8_t *end, *pepper;
	const char *input = (const char *)inv->input;
	size_t len, name_len;

	pepper = lwc_secret(inv, "PEPPER", &len);
	if (pepper == NULL)
		return (lwc_fail(inv, 500, "the chain file grants no PEPPER"));
	end = inv->input_len == 0 || inv->input_len > MOST ? NULL :
	    (const uint8_t *)memchr(inv->input, '\n', inv->input_len);
	if (end == NULL)
		return (lwc_fail(inv, 400, "expected a name and a password"));
	name_len = (size_t)(end - inv->input);
	hmac_sha256(pepper, len, inv->input, inv->input_len, mac);
	to_hex(mac, hex);
	for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
		if (strlen(users[i].name) != name_len ||
		    memcmp(users[i].name, input, name_len) != 0)
			continue;
		if (strcmp(users[i].hash, hex) != 0)
			break;
		return (lwc_append(inv, input, name_len));
	}
	lwc_log(inv, LWC_WARN, "refused a guest");
	return (lwc_fail(inv, 401, "no such guest, or another password"));
}
