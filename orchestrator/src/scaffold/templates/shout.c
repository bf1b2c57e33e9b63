#include "lwc_function.h"

#include <ctype.h>

/* The callee: in a context of its own, it sees its arguments and no more. */
LWC_HANDLER(shout_handler)
{

	for (size_t i = 0; i < inv->input_len; i++)
		inv->output[i] = (uint8_t)toupper(inv->input[i]);
	inv->output_len = inv->input_len;
	return (0);
}
