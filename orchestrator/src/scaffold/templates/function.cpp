#include "lwc_function.hpp"

// Reads its input in place and writes its answer in place.
LWC_FUNCTION({symbol}, [](lwc::Invocation &inv) {
	inv.log(LWC_INFO, "greeting " + std::to_string(inv.input().size()) + " bytes");
	inv.reply_type("text/plain");
	inv.append("Hello, ");
	inv.append(inv.input());
	inv.append("!\n");
})
