#include "lwc_function.hpp"

// The entry: it calls another function as it would call a library. A call that
// fails throws, and the request fails with the name of who failed.
LWC_FUNCTION({symbol}, [](lwc::Invocation &inv) {
	const auto loud = inv.call("shout", inv.input());
	inv.reply_type("text/plain");
	inv.append("Hello, ");
	inv.append(loud.bytes);
	inv.append("!\n");
})
