/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104), small rather than fast.
 * Test vectors: sha256_test.c.
 */

#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_LEN 32

struct sha256 {
	uint32_t state[8];
	uint64_t bytes;
	uint8_t block[64];
};

void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const void *data, size_t len);
void sha256_final(struct sha256 *s, uint8_t digest[SHA256_LEN]);

/* The MAC of some bytes under a key. */
void hmac_sha256(const void *key, size_t key_len, const void *data,
    size_t len, uint8_t mac[SHA256_LEN]);

/* Whether two MACs agree, in time that does not depend on where they differ. */
int mac_equal(const uint8_t a[SHA256_LEN], const uint8_t b[SHA256_LEN]);

#endif /* !SHA256_H */
