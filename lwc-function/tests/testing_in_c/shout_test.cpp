// A function in C++, and its unit test.

#undef NDEBUG
#include <cassert>
#include <cctype>
#include <string>

#include "lwc_function.hpp"
#include "lwc_function_testing.h"

LWC_FUNCTION(shout, [](lwc::Invocation &inv) {
	std::string text(inv.input());
	if (text.empty())
		throw lwc::Error(400, "nothing to shout");
	for (char &c : text)
		c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
	inv.end_request();
	inv.append(text);
})

int main()
{
	lwc_test test;

	lwc_test_begin(&test);
	assert(lwc_test_call(&test, shout, "hello", 5) == 500 && !test.ended);
	test.ends_request = 1;
	assert(lwc_test_call(&test, shout, "hello", 5) == 0 && test.ended);
	assert(std::string(reinterpret_cast<char *>(test.answer), test.answer_len) == "HELLO");
	assert(lwc_test_call(&test, shout, "", 0) == 400 && !test.ended);
	assert(std::string(test.message) == "nothing to shout");
	lwc_test_end(&test);
}
