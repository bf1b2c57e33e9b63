// Faults that are C++'s: see faults.c.

#include <cstring>
#include <string_view>
#include <vector>

extern "C" int faults_in_cpp(const char *name, volatile int *n);

static volatile int sink;

__attribute__((noinline)) static void read_vector(const std::vector<int> &numbers, int at)
{
	sink = numbers[static_cast<std::size_t>(at)];
}

__attribute__((noinline)) static void read_view(std::string_view text, int at)
{
	sink = text[static_cast<std::size_t>(at)];
}

int faults_in_cpp(const char *name, volatile int *n)
{
	if (std::strcmp(name, "read behind a vector") == 0) {
		std::vector<int> numbers(8, 0);
		numbers.reserve(16);
		read_vector(numbers, *n);
	} else if (std::strcmp(name, "read behind a string view") == 0) {
		read_view(std::string_view("longer than that", 8), *n);
	} else {
		return 0;
	}
	return 1;
}
