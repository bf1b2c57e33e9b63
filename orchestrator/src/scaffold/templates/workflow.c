#include "lwc_function.h"

/* The entry: it calls another function as it would call a library. */
LWC_HANDLER({symbol})
{
	lwc_reply loud;

	/* What it cannot go on without, it hands on: the request fails then,
	 * and names who failed. */
	if (lwc_call(inv, "shout", inv->input, inv->input_len, &loud) != 0)
		return (LWC_UNHANDLED);
	lwc_reply_type(inv, "text/plain");
	if (lwc_append(inv, "Hello, ", 7) != 0 ||
	    lwc_append(inv, loud.data, loud.len) != 0 ||
	    lwc_append(inv, "!\n", 2) != 0)
		return (inv->status);
	return (0);
}
