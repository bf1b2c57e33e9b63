// Step 3: the thumbnail as it came, followed by a line that says who made it:
// "lwc-signature: " and the HMAC-SHA-256 of the thumbnail under SIGN_KEY.

#include "lwc_function.hpp"

#include "sha256.c"

LWC_FUNCTION(sign, [](lwc::Invocation &inv) {
	const auto key = inv.secret("SIGN_KEY");
	if (!key)
		throw lwc::Error(500, "the chain file grants no SIGN_KEY");
	uint8_t mac[SHA256_LEN];
	hmac_sha256(key->data(), key->size(), inv.input().data(),
	    inv.input().size(), mac);

	std::string line = "\nlwc-signature: ";
	for (const uint8_t byte : mac) {
		line += "0123456789abcdef"[byte >> 4];
		line += "0123456789abcdef"[byte & 15];
	}
	line += '\n';
	inv.append(inv.input());
	inv.append(line);
	inv.log(LWC_INFO, "signed " + std::to_string(inv.input().size()) + " bytes");
})
