// SPDX-License-Identifier: MIT OR Apache-2.0
//
// C++'s streams of a program that is run as a function: handed on to stdio's,
// which lwc_program.c has put in the place of the usual ones. They hold nothing
// themselves, so what printf() and std::cout write comes in order.

#include <cstdio>
#include <iostream>
#include <streambuf>

namespace {

class Stdio : public std::streambuf {
public:
	explicit Stdio(std::FILE *file) : file_(file) {}

protected:
	int_type overflow(int_type c) override
	{
		if (traits_type::eq_int_type(c, traits_type::eof()))
			return sync() == 0 ? traits_type::not_eof(c) : traits_type::eof();
		return std::putc(c, file_);
	}
	std::streamsize xsputn(const char *from, std::streamsize n) override
	{
		return static_cast<std::streamsize>(std::fwrite(from, 1, static_cast<std::size_t>(n), file_));
	}
	int sync() override { return std::fflush(file_); }
	int_type underflow() override { return std::ungetc(std::getc(file_), file_); }
	int_type uflow() override { return std::getc(file_); }
	std::streamsize xsgetn(char *to, std::streamsize n) override
	{
		return static_cast<std::streamsize>(std::fread(to, 1, static_cast<std::size_t>(n), file_));
	}
	int_type pbackfail(int_type c) override
	{
		return std::ungetc(c, file_);
	}

private:
	std::FILE *file_;
};

} // namespace

extern "C" void lwc_program_streams(void);
// std::ios_base::sync_with_stdio(bool) of either library: it would make streams
// of descriptors, of which there are none.
extern "C" bool __wrap__ZNSt8ios_base15sync_with_stdioEb(bool);
extern "C" bool __wrap__ZNSt3__18ios_base15sync_with_stdioEb(bool);

bool __wrap__ZNSt8ios_base15sync_with_stdioEb(bool) { return true; }
bool __wrap__ZNSt3__18ios_base15sync_with_stdioEb(bool) { return true; }

void lwc_program_streams(void)
{
	// Never destroyed: the streams use them to the end.
	std::cin.rdbuf(new Stdio(stdin));
	std::cout.rdbuf(new Stdio(stdout));
	std::cerr.rdbuf(new Stdio(stderr));
	std::clog.rdbuf(new Stdio(stderr));
}
