/*
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The same two functions, unchanged, merged into one process without
 * contexts: what a platform does that saves the network between functions and
 * trusts them to be right.  The answer goes to stdout.
 *
 *	cc -I ../../lwc-function/include merged.c decode.c seal.c -o merged
 *	./merged seal.key < attack.bin
 *
 * Like the orchestrator it goes through the functions in order: it reads each
 * one's secrets, a file straight into memory of its own, then calls its
 * initialiser.  Only the owner of a secret is given it.
 */

#define _POSIX_C_SOURCE 200809L

#include "lwc_function.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define REGION 65536	/* as in chain.toml */

int decode_init(lwc_setup *);
int decode(lwc_invocation *);
int seal(lwc_invocation *);

struct secret {
	char name[32];
	size_t len;
	uint8_t bytes[216];
};

struct lwc_host {
	struct secret *secret;	/* NULL: none is granted */
};

static const void *
host_secret(const struct lwc_host *host, const char *name, size_t *len)
{

	if (host->secret == NULL || strcmp(host->secret->name, name) != 0)
		return (NULL);
	*len = host->secret->len;
	return (host->secret->bytes);
}

static void
host_log(const struct lwc_host *host, int level, const char *text, size_t len)
{

	(void)host;
	if (level <= LWC_INFO)
		(void)fprintf(stderr, "%.*s\n", (int)len, text);
}

static uint64_t
host_now(const struct lwc_host *host)
{
	struct timespec now;

	(void)host;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return ((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
}

/* No server hands attributes in or out here: there are none. */
static const char *
host_attribute(const struct lwc_host *host, size_t index, const char **name)
{

	(void)host;
	(void)index;
	(void)name;
	return (NULL);
}

static int
host_reply_attribute(const struct lwc_host *host, const char *name,
    const char *value)
{

	(void)host;
	(void)name;
	(void)value;
	return (ENOSPC);
}

/* Neither function calls another: there is nobody to call here. */
static const struct lwc_host_calls calls = {
	.abi = LWC_FUNCTION_ABI,
	.secret = host_secret,
	.log = host_log,
	.now = host_now,
	.attribute = host_attribute,
	.reply_attribute = host_reply_attribute
};

static struct secret *
read_secret(const char *name, const char *path)
{
	struct secret *secret = (struct secret *)calloc(1, sizeof(*secret));
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (secret == NULL || fd < 0 ||
	    (n = read(fd, secret->bytes, sizeof(secret->bytes))) <= 0) {
		perror(path);
		exit(2);
	}
	(void)close(fd);
	(void)snprintf(secret->name, sizeof(secret->name), "%s", name);
	secret->len = (size_t)n;
	return (secret);
}

static size_t
invoke(const char *name, lwc_handler handler, const struct lwc_host *host,
    const uint8_t *input, size_t len, uint8_t *output)
{
	lwc_invocation inv;
	int code;

	memset(&inv, 0, sizeof(inv));
	inv.abi = LWC_FUNCTION_ABI;
	inv.host = host;
	inv.calls = &calls;
	inv.input = input;
	inv.input_len = len;
	inv.input_type = "application/octet-stream";
	inv.output = output;
	inv.output_capacity = REGION;
	inv.id = "1";
	code = handler(&inv);
	if (code != 0) {
		(void)fprintf(stderr, "%s: %s (code %d)\n", name, inv.error,
		    code);
		exit(1);
	}
	return (inv.output_len);
}

int
main(int argc, char **argv)
{
	static uint8_t region[3][REGION];
	struct lwc_host decodes = { NULL }, seals = { NULL };
	lwc_setup setup;
	size_t len;

	if (argc != 2) {
		(void)fprintf(stderr, "usage: merged KEY-FILE < INPUT\n");
		return (2);
	}

	memset(&setup, 0, sizeof(setup));
	setup.abi = LWC_FUNCTION_ABI;
	setup.host = &decodes;
	setup.calls = &calls;
	if (decode_init(&setup) != 0)
		return (2);
	seals.secret = read_secret("SEAL_KEY", argv[1]);

	len = fread(region[0], 1, REGION, stdin);
	len = invoke("decode", decode, &decodes, region[0], len, region[1]);
	len = invoke("seal", seal, &seals, region[1], len, region[2]);
	return (fwrite(region[2], 1, len, stdout) == len ? 0 : 1);
}
