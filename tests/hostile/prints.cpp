// A function that prints by way of C++: synchronised with stdio and not.
// The tests in orchestrator/tests/reach/output.rs run it.
#include "lwc_function.hpp"

#include <iostream>
#include <string>

LWC_FUNCTION(prints, [](lwc::Invocation &inv) {
	const std::string input{inv.input()};

	if (input == "apart")
		std::ios_base::sync_with_stdio(false);
	std::cout << "cout of " << input << std::endl << "and a rest";
	std::cerr << "cerr of " << input << '\n';
	std::clog << "clog of " << input << '\n';
	inv.append("good");
})
