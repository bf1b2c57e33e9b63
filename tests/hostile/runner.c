/*
 * A function that goes on running after it has handed over, and does then what
 * its input says.  The tests in orchestrator/tests/relay.rs run it.
 *
 * To get there it runs its host step by step (the trap flag of x86), looks at
 * each instruction before it is executed, and has its own code run where the
 * host would wake the next context.  It knows what the pages between contexts
 * look like from lwc/src/backend/process/wire.
 */

#define _GNU_SOURCE
#include "lwc_function.h"
#include "command.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define	PAGE	4096UL
/* So far from shared memory are pages that a copy got when it was made. */
#define	NEAR	(64UL << 20)
/* Libraries and the like lie above. */
#define	HIGH	0x700000000000UL
/* The copy's own doorbell lies so far below them. */
#define	APART	(2UL << 30)
/* Pages that are looked at. */
#define	MOST	1024

struct half {
	volatile uint32_t	seq, kind, count, error;
	volatile uint32_t	entered, held, gone, fault;
	volatile uint64_t	code, address, words[16];
	volatile uint32_t	payload[30 * 1024 / 4];
};

struct pair {
	struct half	half[2];
};

struct bell {
	volatile uint32_t	state, trapped;
	volatile uint64_t	awaits, received, gave_at, gave_to, to_had;
	volatile uint32_t	dead;
};

/* The header of a message between functions lies so far before its bytes. */
#define	HEADER	256
/* Places on the control page. */
#define	TURN	224
#define	ON	232
#define	REPLY	1024
#define	STATUS	1168
#define	TAKEN	1448
#define	HANDED	1456

/* futex_wake(2), by which hosts wake; and what it takes a word of 32 bits by. */
#define	WAKE	454
#define	WORD	2

/* Kinds of messages between contexts. */
#define	BATON		1
#define	LAST_BATON	2
#define	REQUEST		4
#define	REPLY_TO	5

/* First words, as root and functions use them, and one that none is. */
#define	INVOKE	2
#define	LINK	5
#define	DONE	12
#define	FAILED	13
#define	END	18
#define	JUNK	99

/* Of an answer that is scribbled over these stay: what the next is to do. */
#define	STAYS	64

static struct area {
	uintptr_t	start, end;
	int		shared;
} areas[512];
static int nareas;
static uintptr_t lowest = UINTPTR_MAX, highest;
/* Where libraries and the like begin. */
static uintptr_t first = UINTPTR_MAX;

static struct pair *pairs[32];
static struct bell *bells[MOST];
static int npairs, nbells;
/* So many of them are of contexts that were there before this function. */
static int nbells0;
/* The next one's ticket in the last request. */
static uint64_t last_onward;

/* Invocations of this copy. */
static int count;

static lwc_invocation *now;
static unsigned char *control;
/* Its ticket in this request, and the next one's. */
static uint64_t turn, onward;
/* What it wrote to the next, whose bell is this; and its own. */
static struct half *out;
/* What it writes to whoever its turn came from: of the first one, the root. */
static struct half *line;
static struct bell *next, *own;
/* How many messages each half had seen before the answer. */
static uint32_t seen[32][2];
/* What to do. */
static char how[64];

LWC_INIT(runner)
{
	char line[512];
	FILE *maps;

	(void)setup;
	maps = fopen("/proc/self/maps", "r");
	while (maps != NULL && nareas < 512 &&
	    fgets(line, sizeof(line), maps) != NULL) {
		struct area *a = &areas[nareas];
		char perms[5];

		if (sscanf(line, "%lx-%lx %4s", &a->start, &a->end,
		    perms) != 3)
			continue;
		a->shared = perms[3] == 's';
		if (a->start >= HIGH && a->start < first)
			first = a->start;
		if (a->shared && a->start < lowest)
			lowest = a->start;
		if (a->shared && a->end > highest)
			highest = a->end;
		nareas++;
	}
	if (maps != NULL)
		fclose(maps);
	return (0);
}

/* Without the C library's, which is no more trusted to be in one piece. */
static long
call(long n, long a, long b, long c, long d)
{
	long r;
	register long r10 __asm__("r10") = d;

	__asm__ volatile("syscall" : "=a"(r)
	    : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10)
	    : "rcx", "r11", "memory");
	return (r);
}

/* The kernel reads the set before it looks at what to do with it. */
static int
readable(uintptr_t p)
{

	return (call(SYS_rt_sigprocmask, 99, (long)p, 0, 8) == -EINVAL);
}

/* It writes the old set; what was there is put back. */
static int
writable(uintptr_t p)
{
	uint64_t was = *(volatile uint64_t *)p;
	int can = call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)p, 8) == 0;

	if (can)
		*(volatile uint64_t *)p = was;
	return (can);
}

static void
look_at(uintptr_t p)
{
	struct pair *q = (struct pair *)p;
	int known = 0;

	if (!writable(p)) {
		if (nbells < MOST)
			bells[nbells++] = (struct bell *)p;
		return;
	}
	for (uintptr_t o = PAGE; o < sizeof(*q); o += PAGE)
		if (!readable(p + o))
			return;
	for (int i = 0; i < 2; i++) {
		struct half *h = &q->half[i];

		if (h->kind > 6 || h->count > 30 * 1024 ||
		    h->entered > 1 || h->held > 1 || h->gone > 1 ||
		    h->seq > 1000000)
			return;
		known |= h->kind != 0 || h->held != 0;
	}
	if (known && npairs < 32)
		pairs[npairs++] = q;
}

/* The pages between contexts: shared, and made after this function was. */
static void
find(void)
{

	npairs = nbells = 0;
	own = NULL;
	for (uintptr_t p = first - APART - NEAR; p < first - APART + NEAR;
	    p += PAGE)
		if (readable(p) && writable(p))
			own = (struct bell *)p;
	/* Those of the root and of its snapshot were there already. */
	for (int i = 0; i < nareas; i++)
		if (areas[i].shared && areas[i].end - areas[i].start == PAGE &&
		    readable(areas[i].start))
			look_at(areas[i].start);
	nbells0 = nbells;
	for (uintptr_t p = lowest - NEAR; p < highest + NEAR; p += PAGE) {
		int known = 0;

		for (int i = 0; i < nareas; i++)
			if (p >= areas[i].start && p < areas[i].end) {
				p = areas[i].end - PAGE;
				known = 1;
				break;
			}
		if (!known && readable(p))
			look_at(p);
	}
}

static void
wake(struct bell *bell)
{

	if (call(WAKE, (long)&bell->state, UINT32_MAX, 1, WORD) < 0)
		(void)call(SYS_futex, (long)&bell->state, FUTEX_WAKE, 1, 0);
}

static void
put(struct half *to, uint32_t kind, uint64_t word, uint64_t number)
{

	to->words[0] = word;
	to->words[1] = number;
	to->words[2] = 0;
	/* The length of what it hands over. */
	to->words[3] = now->output_len;
	to->count = word == INVOKE ? 4 : 3;
	to->kind = kind;
	__atomic_fetch_add(&to->seq, 1, __ATOMIC_SEQ_CST);
}

static void
hand_over(struct half *to, struct bell *bell, uint64_t word, uint64_t number)
{

	put(to, BATON, word, number);
	wake(bell);
}

static void
find_line(void)
{

	line = NULL;
	for (int i = 0; i < npairs; i++)
		for (int k = 0; k < 2; k++) {
			struct half *h = &pairs[i]->half[k];

			if (h != out && h->kind == BATON &&
			    h->words[0] == INVOKE && h->words[1] == turn)
				line = &pairs[i]->half[1 - k];
		}
	/* So that a test does not pass for want of an attack. */
	if (line == NULL)
		abort();
}

/* Says this to the root, once. */
static void
tell(uint32_t kind, uint64_t word, uint64_t number)
{

	put(line, kind, word, number);
	for (int i = 0; i < nbells; i++)
		if (bells[i] != next)
			wake(bells[i]);
}

/* The same for ever. */
static void
tell_all_the_time(uint32_t kind, uint64_t word, uint64_t number)
{

	for (;;)
		tell(kind, word, number);
}

/* To everybody who has a page with this one, whoever that is. */
static void
hand_over_to_all(uint64_t number)
{

	for (int i = 0; i < npairs; i++)
		for (int k = 0; k < 2; k++) {
			struct half *h = &pairs[i]->half[k];

			h->words[0] = INVOKE;
			h->words[1] = number;
			h->words[2] = 0;
			h->words[3] = now->output_len;
			h->count = 4;
			h->kind = BATON;
			__atomic_fetch_add(&h->seq, 1, __ATOMIC_SEQ_CST);
		}
	for (int i = 0; i < nbells; i++)
		wake(bells[i]);
}

static int
says(const char *command)
{

	return (strncmp(how, command, strlen(command)) == 0);
}

/* Writes to all that its successor reads, again and again. */
static void
scribble(int pages)
{
	volatile uint64_t *header = (volatile uint64_t *)(now->output - HEADER);
	int relay = turn != 0;

	for (uint64_t n = 1;; n++) {
		size_t len = now->output_capacity / (1 + n % 2);

		if (relay)
			*header = len;
		*(volatile uint64_t *)(control + REPLY) = len;
		for (size_t i = STAYS / 8; i < now->output_capacity / 8; i += 7)
			((volatile uint64_t *)now->output)[i] = n;
		if (!pages || n % 64 != 0)
			continue;
		for (size_t i = 0; i < 8 * PAGE / 8; i++)
			((volatile uint64_t *)control)[i] = n;
		for (int i = 0; i < npairs; i++)
			for (size_t k = 0; k < 48; k++) {
				((volatile uint32_t *)&pairs[i]->half[0])[k] = n;
				((volatile uint32_t *)&pairs[i]->half[1])[k] = n;
			}
		for (int i = 0; i < nbells; i++)
			wake(bells[i]);
	}
}

/* Until the next has read what it was sent, and works or waits again. */
static void
until_read(uint32_t state, uint64_t last)
{

	while (next->received == last &&
	    (next->state % 2 == 0 || next->state - state < 2)) {
		wake(next);
		(void)call(SYS_sched_yield, 0, 0, 0, 0);
	}
}

/* A word of the control page. */
static volatile uint64_t *
at(uintptr_t offset)
{

	return ((volatile uint64_t *)(control + offset));
}

static void
nap(void)
{
	struct timespec t = { 0, 3000000 };

	(void)call(SYS_nanosleep, (long)&t, 0, 0, 0);
}

static uint64_t
milliseconds(void)
{
	struct timespec t;

	(void)call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0, 0);
	return ((uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000);
}

static void
nap_until(uint64_t end)
{
	struct timespec t = { 0, 500000 };

	while (milliseconds() < end)
		(void)call(SYS_nanosleep, (long)&t, 0, 0, 0);
}

/* Sleeps as its host would, but in code of its own, until somebody wakes it. */
static void
sleep_here(void)
{

	own->state |= 1;
	while (call(SYS_futex, (long)&own->state, FUTEX_WAIT, own->state,
	    0) != 0)
		;
	own->state++;
}

/* The half of its pair with the root, which has introduced its neighbours. */
static struct half *
half_to_root(void)
{

	for (int i = 0; i < npairs; i++)
		for (int k = 0; k < 2; k++) {
			struct half *h = &pairs[i]->half[k];

			if (h->kind == BATON && h->words[0] == LINK)
				return (&pairs[i]->half[1 - k]);
		}
	/* The first one's turn came from there. */
	return (line);
}

/* Says this to the root alone, once; others that are woken find nothing. */
static void
tell_the_root(uint64_t word, uint64_t number, const struct bell *sleeps)
{

	put(half_to_root(), BATON, word, number);
	for (int i = 0; i < nbells; i++)
		if (bells[i] != sleeps)
			wake(bells[i]);
}

/* All that it could take for a ticket of this request. */
static int
guesses(uint64_t guess[8])
{
	int n = 0;

	/* Where a number was, once. */
	guess[n++] = *at(TURN);
	guess[n++] = *at(ON);
	guess[n++] = *at(TURN) ^ *at(ON);
	guess[n++] = turn;
	guess[n++] = turn ^ *at(ON);
	guess[n++] = onward;
	guess[n++] = 0;
	guess[n++] = turn + 1;
	return (n);
}

/* Answers in another's place, or hands over. */
static void
forge(struct half *to, uint64_t word)
{
	uint64_t guess[8];
	int n = guesses(guess);

	memcpy(now->output, "forged", 6);
	*(volatile uint64_t *)(now->output - HEADER) = 6;
	*at(REPLY) = 6;
	for (int i = 0; i < n; i++) {
		put(to, BATON, word, guess[i]);
		if (word == FAILED) {
			to->words[1] = EBUSY;
			to->words[2] = guess[i];
		}
		for (int k = 0; k < nbells; k++)
			wake(bells[k]);
		nap();
	}
}

/*
 * What is left for others to find while it lies in wait: whoever finds it must
 * not wake it for that.
 */
static void
leave(void)
{
	struct timespec t = { 0, 3000000 };

	/* The answer has been read. */
	(void)call(SYS_nanosleep, (long)&t, 0, 0, 0);
	if (says("leave junk to the next"))
		put(out, BATON, JUNK, turn);
	else if (says("leave to the next"))
		put(out, REQUEST, 1, 1);
	else if (says("leave an unhold"))
		put(out, REQUEST, 9, 1);
	else if (says("leave to the one before"))
		put(line, REQUEST, 1, 1);
	sleep_here();
	if (says("leave to the next and die"))
		for (;;)
			(void)call(SYS_exit_group, 0, 0, 0, 0);
	for (;;)
		;
}

/* What it does in the next request, when somebody wakes it. */
static void
lie_in_wait(void)
{

	sleep_here();
	if (says("lie in wait and hand over")) {
		forge(out, INVOKE);
		for (;;)
			sleep_here();
	}
	if (says("lie in wait and answer") || says("lie in wait and fail")) {
		forge(half_to_root(), says("lie in wait and fail") ?
		    FAILED : DONE);
		for (;;)
			sleep_here();
	}
	if (says("lie in wait and nap"))
		for (;;)
			nap();
	if (says("lie in wait and wake"))
		for (;;)
			for (int i = 0; i < nbells; i++)
				wake(bells[i]);
	if (says("lie in wait and die"))
		for (;;)
			(void)call(SYS_exit_group, 0, 0, 0, 0);
	for (;;)
		;
}

/*
 * Answers what the root asks it when it is to meet a new neighbour, as its host
 * would, and does not come to rest then.
 */
static void
meet(void)
{
	uint32_t had[32][2];

	for (int i = 0; i < npairs; i++)
		for (int k = 0; k < 2; k++)
			had[i][k] = pairs[i]->half[k].seq;
	for (;;) {
		sleep_here();
		for (int i = 0; i < npairs; i++)
			for (int k = 0; k < 2; k++) {
				struct half *asks = &pairs[i]->half[k];
				struct half *h = &pairs[i]->half[1 - k];
				int link = asks->kind == BATON &&
				    asks->words[0] == LINK;

				if (asks->seq == had[i][k])
					continue;
				had[i][k] = asks->seq;
				if (link)
					put(h, BATON, DONE, asks->words[3]);
				else if (asks->kind == REQUEST) {
					/* By a number that it could have. */
					memset((void *)h->words, 0,
					    sizeof(h->words));
					h->error = 0;
					put(h, REPLY_TO, 4, 0x70000003);
				} else
					continue;
				had[i][1 - k] = h->seq;
				for (int b = 0; b < nbells0; b++)
					wake(bells[b]);
				while (link && says("meet and nap"))
					nap();
				while (link)
					;
			}
	}
}

static struct half *
other_half(const struct half *h)
{

	for (int i = 0; i < npairs; i++)
		for (int k = 0; k < 2; k++)
			if (&pairs[i]->half[k] == h)
				return (&pairs[i]->half[1 - k]);
	abort();
}

static void
publish_complaint(struct half *to, uint64_t ticket)
{

	put(to, BATON, FAILED, EBADMSG);
	to->words[2] = ticket;
}

/*
 * Two that complain in turns of what they were told, each once the other has been
 * told again.  They count for each other in a word of the pages between them.
 */
#define	COUNTED	0x636f756e74000000UL

static void
take_turns(volatile uint64_t *mine, const volatile uint64_t *theirs,
    int begins)
{
	struct half *to = half_to_root();
	const struct half *from = other_half(to);
	uint64_t ticket = turn;

	*at(TAKEN) = 0;
	*at(HANDED) = 0;
	*mine = COUNTED;
	while (!begins && *theirs != COUNTED + 1)
		(void)call(SYS_sched_yield, 0, 0, 0, 0);
	for (uint64_t n = COUNTED + 1;; n++) {
		publish_complaint(to, ticket);
		for (int i = 0; i < nbells; i++)
			wake(bells[i]);
		while (from->words[0] != INVOKE || from->words[1] == ticket)
			(void)call(SYS_sched_yield, 0, 0, 0, 0);
		ticket = from->words[1];
		*mine = n;
		while (*theirs < n + !begins)
			(void)call(SYS_sched_yield, 0, 0, 0, 0);
	}
}

/* It has handed over, and would sleep now. */
static void
attack(void)
{

	if (says("take turns"))
		take_turns(&out->words[12], &other_half(out)->words[12], 0);
	if (says("complain late and die")) {
		/*
		 * Others are at work.  It is dead before the root is woken, by
		 * its death, and reads that.
		 */
		nap_until(milliseconds() + 400);
		publish_complaint(half_to_root(), turn);
		for (;;)
			(void)call(SYS_exit_group, 0, 0, 0, 0);
	}

	if (says("meet and "))
		meet();
	if (says("wake the next"))
		for (;;)
			wake(next);
	if (says("flood the next"))
		for (uint64_t n = 0;; n++) {
			out->kind = 0;
			__atomic_fetch_add(&out->seq, 1, __ATOMIC_SEQ_CST);
			if (n % 20000 == 0)
				wake(next);
		}
	if (says("nap"))
		for (;;)
			nap();
	if (says("play trapped")) {
		own->trapped = 1;
		return;
	}
	if (says("leave to") || says("leave an unhold") ||
	    says("leave junk to") || says("leave nothing"))
		leave();
	/* It says so to itself: nobody wakes it. */
	if (says("unasked: ")) {
		memmove(how, how + 9, sizeof(how) - 9);
		lie_in_wait();
	}
	/* The root answers what it is asked, and so wakes it in the next request. */
	if (says("asking: ")) {
		memmove(how, how + 8, sizeof(how) - 8);
		nap();
		put(half_to_root(), REQUEST, 1, 1);
		lie_in_wait();
	}
	/* The one before does. */
	if (says("asking before: ")) {
		memmove(how, how + 15, sizeof(how) - 15);
		nap();
		put(line, REQUEST, 1, 1);
		lie_in_wait();
	}
	if (says("leave junk")) {
		nap();
		put(half_to_root(), BATON, JUNK, turn);
		return;
	}
	if (says("leave done")) {
		nap();
		put(half_to_root(), BATON, DONE, turn);
		return;
	}
	if (says("leave last")) {
		nap();
		put(half_to_root(), LAST_BATON, DONE, turn);
		return;
	}
	if (says("last before")) {
		/* To the one before it, not to the root. */
		put(line, LAST_BATON, DONE, turn);
		for (int i = 0; i < nbells; i++)
			wake(bells[i]);
		return;
	}
	if (says("end also") || says("end again")) {
		/* It has handed over, or has ended the request before. */
		tell_the_root(END, turn, NULL);
		tell_the_root(END, turn - 1, NULL);
		return;
	}
	if (says("end and hand over")) {
		/* Its host has told the root of the end. */
		hand_over_to_all(onward);
		return;
	}
	if (says("snapshot")) {
		int n = 0;

		nap();
		for (int i = 0; i < npairs; i++)
			for (int k = 0; k < 2; k++) {
				struct half *h = &pairs[i]->half[k];

				if (h->kind != REPLY_TO)
					continue;
				put(&pairs[i]->half[1 - k], BATON, JUNK, 0);
				n++;
			}
		/* So that a test does not pass for want of an attack. */
		if (n == 0)
			abort();
		for (int i = 0; i < nbells; i++)
			wake(bells[i]);
		return;
	}
	if (says("play busy")) {
		own->awaits = 7;
		return;
	}
	if (says("play dead")) {
		own->dead = 1U << 16;
		return;
	}
	if (says("hide")) {
		/* That it was its turn, and that it handed over. */
		*at(TAKEN) = 0;
		*at(HANDED) = 0;
		if (says("hide and run"))
			for (;;)
				;
		return;
	}
	if (says("scribble"))
		scribble(says("scribble all"));
	if (says("run on"))
		for (;;)
			;
	if (says("storm"))
		for (;;)
			hand_over(out, next, INVOKE, onward);
	if (says("junk"))
		tell_all_the_time(BATON, JUNK, turn);
	if (says("last"))
		tell_all_the_time(LAST_BATON, DONE, turn - 1);
	if (says("deaf")) {
		/* It sleeps as its host would, and answers nothing. */
		do
			sleep_here();
		while (!says("deaf and "));
		/* Once it is woken it does this instead. */
		if (says("deaf and nap"))
			for (;;)
				nap();
		for (;;)
			;
	}
	if (says("again"))
		hand_over(out, next, INVOKE, onward);
	if (says("number "))
		hand_over(out, next, INVOKE, onward);
	if (says("others"))
		hand_over_to_all(onward);
	if (says("late"))
		/* The root has been told of an error. */
		for (int i = 0; i < 1000; i++)
			hand_over_to_all(onward);
	if (says("die")) {
		if (says("die as current"))
			own->received = own->gave_at + 1;
		(void)signal(SIGSEGV, SIG_DFL);
		*(volatile int *)NULL = 1;
	}
}

/* The message is written; the next is to be woken. */
/* It says that what the one before told it is no message; and the root, too. */
static void
complain(void)
{
	struct half *to = half_to_root();
	const struct half *from = other_half(to);
	uint64_t ticket = turn;

	/* It hands over to nobody. */
	out->seq--;
	*at(HANDED) = 0;
	for (;;) {
		publish_complaint(to, ticket);
		for (int i = 0; i < nbells; i++)
			if (bells[i] != next)
				wake(bells[i]);
		do
			sleep_here();
		while (!says("complain again") || from->words[0] != INVOKE ||
		    from->words[1] == ticket);
		ticket = from->words[1];
		*at(TAKEN) = ticket;
	}
}

static void
at_wake(struct bell *bell)
{
	uint32_t state = bell->state;
	uint64_t last = bell->received;

	for (int i = 0; i < npairs; i++)
		for (int k = 0; k < 2; k++) {
			struct half *h = &pairs[i]->half[k];

			if (h->seq == seen[i][k] + 1 && h->kind == 1 &&
			    (h->count == 3 || h->count == 4) &&
			    (h->words[1] == turn ||
			    h->words[1] == onward))
				out = h;
		}
	/* So that a test does not pass for want of an attack. */
	if (out == NULL)
		abort();
	if (own == NULL)
		abort();
	next = bell;
	if (says("show nothing")) {
		/* It hands over all the same. */
		*at(TAKEN) = 0;
		*at(HANDED) = 0;
		return;
	}
	if (says("claim")) {
		/* It says that it hands over, and does not. */
		out->seq--;
		*at(HANDED) = turn;
		if (says("claim and run"))
			for (;;)
				;
		for (;;)
			sleep_here();
	}
	if (says("stop")) {
		out->seq--;
		*at(HANDED) = 0;
		for (;;)
			sleep_here();
	}
	if (says("number "))
		out->words[1] = onward + (uint64_t)atol(how + 7);
	find_line();
	/* The next one is told so of its message, and the root not, or it is as well. */
	if (says("length "))
		out->words[3] = strtoull(how + 7, NULL, 0);
	if (says("tell length ")) {
		out->words[3] = strtoull(how + 12, NULL, 0);
		*at(REPLY) = out->words[3];
	}
	if (says("leave bytes")) {
		/* They are no attributes. */
		memset(now->output - HEADER, 0xff, HEADER);
		memset(now->output + now->output_capacity, 0xff, 8192);
		out->words[3] |= 1ULL << 63;
		if (says("leave bytes everywhere"))
			*at(REPLY + 8) = 1;
	}
	if (says("answer in turns")) {
		out->seq--;
		take_turns(&line->words[12], &other_half(line)->words[12], 1);
	}
	if (says("complain") && !says("complain late"))
		complain();
	if (says("junk first ")) {
		/* The root hears of it so long before the next does. */
		tell(BATON, JUNK, turn);
		for (volatile long n = atol(how + 11); n > 0; n--)
			;
	}
	if (says("end first")) {
		/* The root hears of the end before the next is woken. */
		tell_the_root(END, turn, next);
		for (volatile long n = atol(how + 9); n > 0; n--)
			;
	}
	until_read(state, last);
	attack();
}

/*
 * It says that it has handed over, and has not.  Its messages, and the doorbell
 * of the next one, it knows from the request before.
 */
static int
claim_early(lwc_invocation *inv, uint64_t to_next, const char *then)
{
	uint64_t begun = milliseconds(), first, second;
	const char *rest = strchr(then, ';');
	char *end;

	out = NULL;
	find();
	for (int i = 0; i < npairs; i++)
		for (int k = 0; k < 2; k++) {
			struct half *h = &pairs[i]->half[k];

			if (h->kind == BATON && h->words[0] == INVOKE &&
			    h->words[1] == to_next)
				out = h;
		}
	/* Those of the root and of the snapshot come first. */
	next = nbells > nbells0 ? bells[nbells0] : NULL;
	if (out == NULL || next == NULL || own == NULL)
		return (say(inv, "unknown "));
	(void)say(inv, rest == NULL ? "" : rest + 1);
	turn = *at(TAKEN);
	if (strncmp(then, "flood ", 6) == 0) {
		/* So long it keeps the next one awake with messages of no kind. */
		first = begun + strtoul(then + 6, NULL, 10);
		*at(HANDED) = turn;
		while (milliseconds() < first) {
			for (int i = 0; i < 300; i++) {
				__atomic_fetch_add(&out->seq, 1,
				    __ATOMIC_SEQ_CST);
				out->kind = 0;
			}
			wake(next);
		}
		for (;;)
			sleep_here();
	}
	/* nap FIRST SECOND: it says so after so long, and does it after so long. */
	first = begun + strtoul(then + 4, &end, 10);
	second = begun + strtoul(end, NULL, 10);
	nap_until(first);
	*at(HANDED) = turn;
	nap_until(second);
	return (0);
}

static void
on_trap(int number, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	const unsigned char *code = (const unsigned char *)r[REG_RIP];

	(void)number;
	(void)info;
	if (code[0] == 0x0f && code[1] == 0x05 && (r[REG_RAX] == WAKE ||
	    (r[REG_RAX] == SYS_futex && ((int)r[REG_RSI] == FUTEX_WAKE ||
	    (int)r[REG_RSI] == FUTEX_WAIT)))) {
		at_wake((struct bell *)r[REG_RDI]);
		/* From here on as if nothing had been. */
		r[REG_EFL] &= ~0x100L;
		return;
	}
	r[REG_EFL] |= 0x100;
}

static void
step(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_trap;
	action.sa_flags = SA_SIGINFO | SA_NODEFER;
	(void)sigaction(SIGTRAP, &action, NULL);
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
}

/* Reads its input for so long; whether it stays as it is. */
static int
watch(lwc_invocation *inv, long ms)
{
	static unsigned char kept[1 << 20];
	uint64_t end = inv->calls->now(inv->host) + (uint64_t)ms * 1000000;
	size_t len = inv->input_len;

	memcpy(kept, inv->input, len);
	do {
		if (inv->input_len != len ||
		    memcmp(kept, inv->input, len) != 0)
			return (say(inv, "changed"));
	} while (inv->calls->now(inv->host) < end);
	return (say(inv, "same"));
}

LWC_HANDLER(runner)
{
	const char *rest;
	char text[256];

	count++;
	now = inv;
	control = (unsigned char *)((uintptr_t)inv->id & ~(PAGE - 1));
	uint64_t to_next = last_onward;
	last_onward = *at(TAKEN) ^ *at(ON);
	if (is(inv, "keep "))
		return (lwc_append(inv, inv->input + 5, inv->input_len - 5));
	if (is(inv, "counts")) {
		(void)lwc_append(inv, inv->input, inv->input_len);
		(void)snprintf(text, sizeof(text), " %d", count);
		return (say(inv, text));
	}
	if (is(inv, "crash"))
		*(volatile int *)NULL = 1;
	if (is(inv, "watch "))
		return (watch(inv, atol((const char *)inv->input + 6)));
	if (is(inv, "wake and loop ")) {
		uint64_t end = inv->calls->now(inv->host) +
		    (uint64_t)atol((const char *)inv->input + 14) * 1000000;

		find();
		while (inv->calls->now(inv->host) < end)
			for (int i = 0; i < nbells; i++)
				wake(bells[i]);
		return (say(inv, "looped"));
	}
	if (is(inv, "never ")) {
		/* It hands over to nobody, and does that to the root. */
		turn = *at(TAKEN);
		out = NULL;
		next = NULL;
		find();
		find_line();
		if (is(inv, "never junk"))
			tell_all_the_time(BATON, JUNK, turn);
		/* It has no grant for that, or has not this ticket. */
		if (is(inv, "never end"))
			tell_all_the_time(BATON, END, turn);
		if (is(inv, "never false end"))
			tell_all_the_time(BATON, END, turn - 1);
		if (is(inv, "never flood"))
			tell_all_the_time(BATON, DONE, turn - 1);
		tell_all_the_time(LAST_BATON, DONE, turn - 1);
	}
	if (is(inv, "claim early and ")) {
		(void)snprintf(text, sizeof(text), "%.*s",
		    (int)inv->input_len - 16, (const char *)inv->input + 16);
		return (claim_early(inv, to_next, text));
	}
	if (!is(inv, "do ")) {
		/* What came so far, for the caller. */
		return (lwc_append(inv, inv->input, inv->input_len));
	}
	/* do HOW;WHAT THE NEXT IS TO DO */
	(void)snprintf(how, sizeof(how), "%.*s", (int)inv->input_len - 3,
	    (const char *)inv->input + 3);
	rest = strchr(how, ';');
	(void)say(inv, rest == NULL ? "" : rest + 1);
	turn = *at(TAKEN);
	onward = turn ^ *at(ON);
	out = NULL;
	find();
	for (int i = 0; i < npairs; i++)
		for (int k = 0; k < 2; k++)
			seen[i][k] = pairs[i]->half[k].seq;
	if ((says("end again") || says("end and")) && lwc_end_request(inv) != 0)
		return (inv->status);
	step();
	if (says("late"))
		return (lwc_fail(inv, 42, "as asked"));
	return (0);
}
