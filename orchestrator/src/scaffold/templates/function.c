#include "lwc_function.h"

/* Reads its input in place and writes its answer in place. */
LWC_HANDLER({symbol})
{

	lwc_log(inv, LWC_INFO, "greeting %zu bytes", inv->input_len);
	lwc_reply_type(inv, "text/plain");
	if (lwc_append(inv, "Hello, ", 7) != 0 ||
	    lwc_append(inv, inv->input, inv->input_len) != 0 ||
	    lwc_append(inv, "!\n", 2) != 0)
		return (inv->status);
	return (0);
}
