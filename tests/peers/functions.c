/*
 * The work of all peers, for lwc.
 */

#include "lwc_function.h"

LWC_HANDLER(upper)
{
	for (size_t i = 0; i < inv->input_len; i++) {
		uint8_t c = inv->input[i];

		inv->output[i] = c >= 'a' && c <= 'z' ? c - 32 : c;
	}
	inv->output_len = inv->input_len;
	return (0);
}

LWC_HANDLER(reverse)
{
	size_t n = inv->input_len;

	for (size_t i = 0; i < n; i++)
		inv->output[i] = inv->input[n - 1 - i];
	inv->output_len = n;
	return (0);
}
