/*
 * Two functions whose answer tells whether it is right.  orchestrator/tests/
 * serve runs them as a chain, beside those of tests/hostile.
 */

#include "lwc_function.h"

#include <ctype.h>

/* Upper case. */
LWC_HANDLER(upper)
{
	for (size_t i = 0; i < inv->input_len; i++)
		inv->output[i] = (uint8_t)toupper(inv->input[i]);
	inv->output_len = inv->input_len;
	return (lwc_log(inv, LWC_DEBUG, "%zu bytes", inv->input_len), 0);
}

/* The last byte first. */
LWC_HANDLER(reverse)
{
	size_t n = inv->input_len;

	for (size_t i = 0; i < n; i++)
		inv->output[i] = inv->input[n - 1 - i];
	inv->output_len = n;
	return (0);
}
