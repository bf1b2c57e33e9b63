#include "lwc_function.hpp"

#include <cctype>
#include <string>

// The callee: in a context of its own, it sees its arguments and no more.
LWC_FUNCTION(shout_handler, [](lwc::Invocation &inv) {
	std::string loud(inv.input());
	for (char &c : loud)
		c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
	inv.append(loud);
})
