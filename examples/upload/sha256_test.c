/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The published vectors: FIPS 180-4 examples (NIST), RFC 4231 cases 1 to 4, 6
 * and 7.  Exit status 0 if all agree.
 */

#include "sha256.c"

#include <stdio.h>

static int failures;

static void
expect(const char *what, const uint8_t got[SHA256_LEN], const char *hex)
{
	char text[2 * SHA256_LEN + 1];

	for (int i = 0; i < SHA256_LEN; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", got[i]);
	if (strcmp(text, hex) != 0) {
		printf("%s: got %s, want %s\n", what, text, hex);
		failures++;
	}
}

static void
hash(const char *text, const char *hex)
{
	struct sha256 s;
	uint8_t digest[SHA256_LEN];

	sha256_init(&s);
	sha256_update(&s, text, strlen(text));
	sha256_final(&s, digest);
	expect(text, digest, hex);
}

static void
mac(const char *what, int byte, size_t key_len, const char *key,
    const void *data, size_t len, const char *hex)
{
	uint8_t repeated[131], got[SHA256_LEN];

	memset(repeated, byte, sizeof(repeated));
	hmac_sha256(key != NULL ? (const void *)key : repeated, key_len, data,
	    len, got);
	expect(what, got, hex);
}

int
main(void)
{
	static const char large[] = "This is a test using a larger than "
	    "block-size key and a larger than block-size data. The key needs "
	    "to be hashed before being used by the HMAC algorithm.";
	struct sha256 s;
	uint8_t digest[SHA256_LEN], dd[50], cd[50], counting[25];

	hash("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	hash("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	hash("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
	    "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
	    "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
	sha256_init(&s);
	for (int i = 0; i < 1000000; i++)
		sha256_update(&s, "a", 1);
	sha256_final(&s, digest);
	expect("a million a", digest,
	    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");

	memset(dd, 0xdd, sizeof(dd));
	memset(cd, 0xcd, sizeof(cd));
	for (int i = 0; i < 25; i++)
		counting[i] = (uint8_t)(i + 1);
	mac("RFC 4231 1", 0x0b, 20, NULL, "Hi There", 8,
	    "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	mac("RFC 4231 2", 0, 4, "Jefe", "what do ya want for nothing?", 28,
	    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	mac("RFC 4231 3", 0xaa, 20, NULL, dd, 50,
	    "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
	mac("RFC 4231 4", 0, 25, (const char *)counting, cd, 50,
	    "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
	mac("RFC 4231 6", 0xaa, 131, NULL,
	    "Test Using Larger Than Block-Size Key - Hash Key First", 54,
	    "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	mac("RFC 4231 7", 0xaa, 131, NULL, large, sizeof(large) - 1,
	    "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
	if (failures == 0)
		printf("all vectors agree\n");
	return (failures != 0);
}
