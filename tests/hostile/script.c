/*
 * A function that does what its input says: it calls others, and hands on or
 * tells what came of it.  The tests in orchestrator/tests/calls.rs and
 * orchestrator/tests/ends.rs run it.
 *
 *	say TEXT		append TEXT to the answer
 *	note TEXT		write TEXT to the log
 *	call NAME {SCRIPT}	call NAME with SCRIPT; append the reply, or what
 *				went wrong in brackets
 *	must NAME {SCRIPT}	the same, and fail with it if it fails
 *	place NAME {SCRIPT}	as `must', the arguments written in place
 *	start NAME {SCRIPT}	start a call
 *	finish N		the reply of the N-th call that was started
 *	attr NAME K V		an attribute of the next call to NAME
 *	attrs			append the attributes of the input
 *	set K V			an attribute of the answer
 *	times N NAME {SCRIPT}	call so often, append how many were answered
 *	big NAME N		call with N bytes of arguments
 *	fill N			append N bytes
 *	claim N			claim an answer of N bytes
 *	count			append how often this copy was invoked
 *	stash WORD		keep WORD for whoever comes later
 *	loot			append what was kept
 *	scan A_B		append how often AB stands in memory that this
 *				context shares (Linux)
 *	smear A_B		write AB to each region that it writes (Linux)
 *	inplace NAME N TEXT	call with the first N bytes of TEXT in place
 *	code N			return N
 *	lie WHAT		from now on, whatever its host writes, say of its
 *				next call (call-len, call-attributes) or of its
 *				answer (attributes) what none can (Linux, x86-64)
 *	log N			log N empty lines
 *	linger [A_B]		go on running once the answer is given (the same), and
 *				write AB to each region that it writes
 *	caller, id, left	append these
 *	fail CODE TEXT, crash, exit, spin MS, unhandled
 *	then {SCRIPT}		append SCRIPT, for the next function
 *	end			end the request
 *	mayend			append what the host says to that
 *	type T			the content type of the answer
 *	echo			append the input
 *
 * Its other handler, `told', is told of a failure by `on_error'.  It runs the
 * script that stands behind "told: " in the failed function's message; without
 * one it tells all that it sees.
 */

#define _GNU_SOURCE
#include "lwc_function.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/syscall.h>

static struct {
	unsigned long start, end;
	int writable;
} shared[128];
static int nshared;

/* What it shares can be listed before the sandbox alone. */
static int
list_shared(void)
{
	char line[512], modes[5];
	unsigned long start, end;
	FILE *maps;

	maps = fopen("/proc/self/maps", "r");
	while (maps != NULL && nshared < 128 &&
	    fgets(line, sizeof(line), maps) != NULL) {
		if (sscanf(line, "%lx-%lx %4s", &start, &end, modes) == 3 &&
		    modes[3] == 's') {
			shared[nshared].start = start;
			shared[nshared].writable = modes[1] == 'w';
			shared[nshared++].end = end;
		}
	}
	if (maps != NULL)
		(void)fclose(maps);
	return (0);
}

LWC_INIT(script)
{

	(void)setup;
	return (list_shared());
}

LWC_INIT(told)
{

	(void)setup;
	return (list_shared());
}

static int
scan(const char *text)
{
	unsigned long page, step = (unsigned long)getpagesize();
	size_t len = strlen(text), i;
	int area, found = 0;

	for (area = 0; area < nshared; area++)
		for (page = shared[area].start; page < shared[area].end;
		    page += step) {
			/* It reads a set there, or says EFAULT. */
			if (syscall(SYS_rt_sigprocmask, 99, page, NULL, 8) ==
			    -1 && errno != EINVAL)
				continue;
			for (i = 0; i + len <= step; i++)
				found += memcmp((const char *)page + i, text,
				    len) == 0;
		}
	return (found);
}

/* A control page is smaller than any region of the tests. */
static void
smear(const char *text)
{
	int area;

	for (area = 0; area < nshared; area++)
		if (shared[area].writable &&
		    shared[area].end - shared[area].start >= 65536 &&
		    /* It writes a set there, or says EFAULT: it may be gone. */
		    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL,
			shared[area].start + 8192, 8) == 0)
			memcpy((char *)shared[area].start + 8192, text,
			    strlen(text));
}
#else
static void
smear(const char *text)
{

	(void)text;
}

static int
scan(const char *text)
{

	(void)text;
	return (0);
}
#endif

#if defined(__linux__) && defined(__x86_64__)
#include <signal.h>
#include <ucontext.h>

/* Of the control page, which begins before the identity: control.rs. */
#define	PAGE		4096
#define	REPLY		1024
#define	CALL		2048
#define	ATTRIBUTES	8

static volatile uint64_t *lie_at;

/* After each instruction of the host. */
static void
on_step(int number, siginfo_t *info, void *context)
{

	(void)number;
	(void)info;
	(void)context;
	*lie_at = 1ULL << 40;
}

static char written_late[64];

/* The same: the first that wakes another, or would sleep, is the last. */
static void
on_step_to_the_end(int number, siginfo_t *info, void *context)
{
	const greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	const unsigned char *code = (const unsigned char *)regs[REG_RIP];
	long call = (long)regs[REG_RAX];

	(void)number;
	(void)info;
	/* futex_wake(2) has no name everywhere. */
	if (code[0] != 0x0f || code[1] != 0x05 ||
	    (call != 454 && call != SYS_futex))
		return;
	if (call == 454 || ((int)regs[REG_RSI] & 127) == 1)
		(void)syscall(call, regs[REG_RDI], regs[REG_RSI],
		    regs[REG_RDX], regs[REG_R10], regs[REG_R8], regs[REG_R9]);
	for (;;)
		if (written_late[0] != '\0')
			smear(written_late);
}

static int
step_by_step(lwc_invocation *inv, void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = handler;
	action.sa_flags = SA_SIGINFO;
	if (sigaction(SIGTRAP, &action, NULL) != 0)
		return (lwc_fail(inv, 8, "no handler"));
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory",
	    "cc");
	return (0);
}

static int
linger(lwc_invocation *inv)
{

	return (step_by_step(inv, on_step_to_the_end));
}

/* Without the gap. */
static void
late(const char *s, const char *end)
{
	char *gap;
	size_t len = (size_t)(end - s);

	if (len >= sizeof(written_late))
		len = sizeof(written_late) - 1;
	memcpy(written_late, s, len);
	written_late[len] = '\0';
	gap = strchr(written_late, '_');
	if (gap != NULL)
		memmove(gap, gap + 1, strlen(gap));
}

static int
lie(lwc_invocation *inv, const char *what)
{
	uintptr_t page;

	page = (uintptr_t)inv->id & ~(uintptr_t)(PAGE - 1);
	if (strcmp(what, "call-len") == 0)
		page += CALL;
	else if (strcmp(what, "call-attributes") == 0)
		page += CALL + ATTRIBUTES;
	else
		page += REPLY + ATTRIBUTES;
	lie_at = (volatile uint64_t *)page;
	return (step_by_step(inv, on_step));
}
#else
static int
linger(lwc_invocation *inv)
{

	return (lwc_fail(inv, 8, "cannot linger"));
}

static void
late(const char *s, const char *end)
{

	(void)s;
	(void)end;
}

static int
lie(lwc_invocation *inv, const char *what)
{

	return (lwc_fail(inv, 8, "cannot lie: %s", what));
}
#endif

static int count;
static char stash[64];
static uint64_t tickets[64];
static int ntickets;

static int
put(lwc_invocation *inv, const char *text)
{

	return (lwc_append(inv, text, strlen(text)));
}

/* Up to the end of a command: the next `;' outside of braces. */
static size_t
command_len(const char *s, size_t len)
{
	size_t i, depth;

	for (i = depth = 0; i < len; i++) {
		if (s[i] == '{')
			depth++;
		else if (s[i] == '}')
			depth--;
		else if (s[i] == ';' && depth == 0)
			break;
	}
	return (i);
}

/* The next word of a command. */
static const char *
word(char *into, size_t room, const char *s, const char *end)
{
	size_t n = 0;

	while (s < end && *s == ' ')
		s++;
	while (s < end && *s != ' ' && *s != '{' && n + 1 < room)
		into[n++] = *s++;
	into[n] = '\0';
	while (s < end && *s == ' ')
		s++;
	return (s);
}

static int
tell(lwc_invocation *inv, const lwc_reply *reply)
{
	const char *name, *value;
	char line[1024];
	size_t i;

	if (reply->outcome == LWC_ANSWERED) {
		if (lwc_append(inv, reply->data, reply->len) != 0)
			return (inv->status);
		if (reply->type[0] != '\0' && put(inv, reply->type) != 0)
			return (inv->status);
		for (i = 0; (value = inv->calls->attribute_of_reply(inv->host,
		    reply, i, &name)) != NULL; i++) {
			(void)snprintf(line, sizeof(line), "(%s=%s)", name,
			    value);
			if (put(inv, line) != 0)
				return (inv->status);
		}
		return (0);
	}
	(void)snprintf(line, sizeof(line), "[%d %d %s: %s]", reply->outcome,
	    reply->code, reply->function, reply->message);
	if (put(inv, line) != 0)
		return (inv->status);
	if (reply->outcome == LWC_REPORTED && reply->len != 0)
		return (lwc_append(inv, reply->data, reply->len));
	return (0);
}

static int
run(lwc_invocation *inv, const char *s, const char *end)
{
	char verb[16], name[64], key[64], value[256];
	lwc_reply reply;
	size_t len, i, good;

	s = word(verb, sizeof(verb), s, end);
	if (strcmp(verb, "say") == 0)
		return (lwc_append(inv, s, (size_t)(end - s)));
	if (strcmp(verb, "note") == 0)
		return (lwc_log(inv, LWC_INFO, "%.*s", (int)(end - s), s), 0);
	if (strcmp(verb, "call") == 0 || strcmp(verb, "must") == 0 ||
	    strcmp(verb, "place") == 0 || strcmp(verb, "start") == 0) {
		s = word(name, sizeof(name), s, end);
		if (s < end && *s == '{') {
			s++;
			end--;
		}
		len = (size_t)(end - s);
		if (verb[0] == 's') {
			if (ntickets < 64)
				tickets[ntickets++] = inv->calls->call_start(
				    inv->host, name, s, len, "text/script");
			return (0);
		}
		if (verb[0] == 'p') {
			uint8_t *place;
			size_t room;

			place = inv->calls->call_buffer(inv->host, name, &room);
			if (place == NULL || len > room)
				return (lwc_fail(inv, 7, "no place for %s",
				    name));
			memcpy(place, s, len);
			s = (const char *)place;
		}
		inv->calls->call(inv->host, name, s, len, NULL, &reply);
		if (verb[0] != 'c' && reply.outcome != LWC_ANSWERED)
			return (LWC_UNHANDLED);
		return (tell(inv, &reply));
	}
	if (strcmp(verb, "finish") == 0) {
		i = strtoul(s, NULL, 10);
		inv->calls->call_finish(inv->host,
		    i < 64 && (int)i < ntickets ? tickets[i] : i, &reply);
		return (tell(inv, &reply));
	}
	if (strcmp(verb, "times") == 0) {
		len = strtoul(s, NULL, 10);
		s = word(key, sizeof(key), s, end);
		s = word(name, sizeof(name), s, end);
		if (s < end && *s == '{') {
			s++;
			end--;
		}
		for (i = good = 0; i < len; i++) {
			inv->calls->call(inv->host, name, s, (size_t)(end - s),
			    NULL, &reply);
			good += reply.outcome == LWC_ANSWERED;
		}
		(void)snprintf(value, sizeof(value), "%zu;", good);
		return (put(inv, value) != 0 ? inv->status : tell(inv, &reply));
	}
	if (strcmp(verb, "big") == 0) {
		void *bytes;

		s = word(name, sizeof(name), s, end);
		len = strtoul(s, NULL, 10);
		bytes = calloc(1, len);
		inv->calls->call(inv->host, name, bytes, len, NULL, &reply);
		free(bytes);
		return (tell(inv, &reply));
	}
	if (strcmp(verb, "attr") == 0) {
		s = word(name, sizeof(name), s, end);
		s = word(key, sizeof(key), s, end);
		(void)word(value, sizeof(value), s, end);
		return (inv->calls->call_attribute(inv->host, name, key, value));
	}
	if (strcmp(verb, "set") == 0) {
		s = word(key, sizeof(key), s, end);
		(void)word(value, sizeof(value), s, end);
		return (lwc_reply_attribute(inv, key, value));
	}
	if (strcmp(verb, "attrs") == 0) {
		const char *n, *v;

		for (i = 0; (v = inv->calls->attribute(inv->host, i, &n)) !=
		    NULL; i++) {
			(void)snprintf(value, sizeof(value), "(%s=%s)", n, v);
			if (put(inv, value) != 0)
				return (inv->status);
		}
		return (put(inv, inv->input_type));
	}
	if (strcmp(verb, "scan") == 0 || strcmp(verb, "smear") == 0) {
		char *gap;

		(void)word(value, sizeof(value), s, end);
		gap = strchr(value, '_');
		if (gap != NULL)
			memmove(gap, gap + 1, strlen(gap));
		if (verb[1] == 'm') {
			smear(value);
			return (0);
		}
		(void)snprintf(key, sizeof(key), "<%d>", scan(value));
		return (put(inv, key));
	}
	if (strcmp(verb, "inplace") == 0) {
		uint8_t *place;
		size_t room;

		s = word(name, sizeof(name), s, end);
		s = word(key, sizeof(key), s, end);
		place = inv->calls->call_buffer(inv->host, name, &room);
		if (place == NULL || (size_t)(end - s) > room)
			return (lwc_fail(inv, 7, "no place for %s", name));
		memcpy(place, s, (size_t)(end - s));
		inv->calls->call(inv->host, name, place,
		    strtoul(key, NULL, 10), NULL, &reply);
		return (tell(inv, &reply));
	}
	if (strcmp(verb, "code") == 0)
		return (atoi(s));
	if (strcmp(verb, "then") == 0 && end - s >= 2)
		return (lwc_append(inv, s + 1, (size_t)(end - s) - 2));
	if (strcmp(verb, "end") == 0)
		return (lwc_end_request(inv));
	if (strcmp(verb, "mayend") == 0) {
		(void)snprintf(value, sizeof(value), "%d;",
		    inv->calls->end_request(inv->host));
		return (put(inv, value));
	}
	if (strcmp(verb, "type") == 0) {
		(void)word(key, sizeof(key), s, end);
		lwc_reply_type(inv, key);
		return (0);
	}
	if (strcmp(verb, "echo") == 0)
		return (lwc_append(inv, inv->input, inv->input_len));
	if (strcmp(verb, "log") == 0) {
		for (i = strtoul(s, NULL, 10); i > 0; i--)
			lwc_log(inv, LWC_WARN, "%s", "");
		return (0);
	}
	if (strcmp(verb, "linger") == 0) {
		late(s, end);
		return (linger(inv));
	}
	if (strcmp(verb, "lie") == 0) {
		(void)word(key, sizeof(key), s, end);
		return (lie(inv, key));
	}
	if (strcmp(verb, "fill") == 0) {
		for (i = strtoul(s, NULL, 10); i > 0; i--)
			if (put(inv, "f") != 0)
				return (inv->status);
		return (0);
	}
	if (strcmp(verb, "claim") == 0) {
		inv->output_len = strtoul(s, NULL, 10);
		return (0);
	}
	if (strcmp(verb, "count") == 0) {
		(void)snprintf(value, sizeof(value), "%d", count);
		return (put(inv, value));
	}
	if (strcmp(verb, "stash") == 0) {
		(void)word(stash, sizeof(stash), s, end);
		return (0);
	}
	if (strcmp(verb, "loot") == 0)
		return (put(inv, stash));
	if (strcmp(verb, "caller") == 0) {
		const char *caller = inv->calls->caller(inv->host);

		return (put(inv, caller == NULL ? "(nobody)" : caller));
	}
	if (strcmp(verb, "id") == 0)
		return (put(inv, inv->id));
	if (strcmp(verb, "left") == 0) {
		(void)snprintf(value, sizeof(value), "%llu;",
		    (unsigned long long)(lwc_remaining(inv) / 1000000));
		return (put(inv, value));
	}
	if (strcmp(verb, "fail") == 0) {
		s = word(key, sizeof(key), s, end);
		return (lwc_fail(inv, atoi(key), "%.*s", (int)(end - s), s));
	}
	if (strcmp(verb, "crash") == 0)
		*(volatile int *)8 = 0;
	if (strcmp(verb, "exit") == 0)
		_exit(7);
	if (strcmp(verb, "unhandled") == 0)
		return (LWC_UNHANDLED);
	if (strcmp(verb, "spin") == 0) {
		uint64_t until = inv->calls->now(inv->host) +
		    strtoul(s, NULL, 10) * 1000000;

		while (inv->calls->now(inv->host) < until)
			;
		return (0);
	}
	return (lwc_fail(inv, 99, "what is %s?", verb));
}

static int
run_all(lwc_invocation *inv, const char *s, size_t left)
{
	size_t len;
	int code;

	count++;
	ntickets = 0;
	while (left > 0) {
		len = command_len(s, left);
		code = run(inv, s, s + len);
		if (code != 0)
			return (code);
		if (len < left)
			len++;
		s += len;
		left -= len;
	}
	return (0);
}

LWC_HANDLER(script)
{

	return (run_all(inv, (const char *)inv->input, inv->input_len));
}

LWC_HANDLER(told)
{
	static const char all[] = "attrs;say |;echo";
	const char *message, *script, *end;

	message = lwc_attribute(inv, ":failed-message");
	script = message == NULL ? NULL : strstr(message, "told: {");
	end = script == NULL ? NULL : strrchr(script, '}');
	if (end == NULL)
		return (run_all(inv, all, sizeof(all) - 1));
	script += 7;
	return (run_all(inv, script, (size_t)(end - script)));
}
