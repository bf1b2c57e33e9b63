/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* amd64: the user state of a suspended context. */

#ifndef _AMD64_LWC_MD_H_
#define	_AMD64_LWC_MD_H_

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/pcpu.h>
#include <sys/pctrie.h>
#include <sys/proc.h>

#include <vm/vm.h>
#include <vm/pmap.h>

#include <machine/cpufunc.h>
#include <machine/fpu.h>
#include <machine/frame.h>
#include <machine/md_var.h>
#include <machine/pcb.h>
#include <machine/psl.h>

struct lwc_md {
	struct trapframe md_frame;	/* general and segment registers */
	bool		md_call;	/* ... of a call: the preserved ones */
	register_t	md_fsbase;	/* TLS base */
	register_t	md_gsbase;
	register_t	md_tlsbase;	/* signal handlers' TLS base ... */
	u_int		md_tlsflag;	/* ... if PCB_TLSBASE, else 0 */
	struct savefpu	*md_fpu;	/* x87, SSE, AVX, ... (xsave area) */
	struct savefpu	*md_load;	/* it, or a snapshot's */
};

/* Protection keys of ranges, see sysarch(2). */
static inline bool
lwc_md_keys(struct pmap *pmap)
{

	return (!pctrie_is_empty(&pmap->pm_pkru.rs_trie));
}

/* Vector registers that are not in the processor just now. */
void	lwc_fpu_save(struct thread *td, struct lwc_md *md);

/*
 * By words, in line: the general memcpy() costs twice that for so little, and
 * byte by byte on processors that prefer rep movsb.
 */
static inline void
lwc_frame_copy(struct trapframe *to, const struct trapframe *from)
{
	const uint64_t *f;
	uint64_t *t;
	u_int i;

	CTASSERT(sizeof(*to) % sizeof(*t) == 0);
	f = (const uint64_t *)from;
	t = (uint64_t *)to;
#pragma clang loop unroll(full)
	for (i = 0; i < sizeof(*to) / sizeof(*t); i++)
		((volatile uint64_t *)t)[i] = f[i];
}

static inline void
lwc_md_rollback(struct lwc_md *md, const struct lwc_md *snapshot)
{

	lwc_frame_copy(&md->md_frame, &snapshot->md_frame);
	md->md_call = snapshot->md_call;
	md->md_fsbase = snapshot->md_fsbase;
	md->md_gsbase = snapshot->md_gsbase;
	md->md_tlsbase = snapshot->md_tlsbase;
	md->md_tlsflag = snapshot->md_tlsflag;
	md->md_load = snapshot->md_fpu;
}

/* The selectors, two by two, with the words that lie beside them. */
static __always_inline void
lwc_selectors_copy(struct trapframe *to, const struct trapframe *from)
{

	CTASSERT(offsetof(struct trapframe, tf_gs) ==
	    offsetof(struct trapframe, tf_trapno) + 6);
	CTASSERT(offsetof(struct trapframe, tf_ds) ==
	    offsetof(struct trapframe, tf_flags) + 6);
	*(uint64_t *)&to->tf_trapno = *(const uint64_t *)&from->tf_trapno;
	*(uint64_t *)&to->tf_flags = *(const uint64_t *)&from->tf_flags;
}

/*
 * Is this a call of that number?  Then fetch it: what cpu_fetch_syscall_args()
 * does, but for the look into the table.
 */
static __always_inline bool
lwc_md_fetch(struct thread *td, int number, struct sysent *callp)
{
	const struct trapframe *frame;
	struct syscall_args *sa;

	frame = td->td_frame;
	if (frame->tf_rax != number)
		return (false);
	sa = &td->td_sa;
	sa->code = sa->original_code = number;
	sa->callp = callp;
	sa->args[0] = frame->tf_rdi;
	sa->args[1] = frame->tf_rsi;
	sa->args[2] = frame->tf_rdx;
	sa->args[3] = frame->tf_rcx;
	sa->args[4] = frame->tf_r8;
	sa->args[5] = frame->tf_r9;
	td->td_retval[0] = 0;
	td->td_retval[1] = frame->tf_rdx;
	return (true);
}

static __always_inline bool
lwc_md_stepping(const struct thread *td)
{

	return ((td->td_frame->tf_rflags & PSL_T) != 0 &&
	    (td->td_dbgflags & TDB_STEP) == 0);
}

static __always_inline void
lwc_call_copy(struct trapframe *to, const struct trapframe *from)
{

	to->tf_rbx = from->tf_rbx;
	to->tf_rbp = from->tf_rbp;
	to->tf_r12 = from->tf_r12;
	to->tf_r13 = from->tf_r13;
	to->tf_r14 = from->tf_r14;
	to->tf_r15 = from->tf_r15;
	to->tf_rip = from->tf_rip;
	to->tf_rflags = from->tf_rflags;
	to->tf_rsp = from->tf_rsp;
	lwc_selectors_copy(to, from);
}

static __always_inline void
lwc_call_load(struct trapframe *frame, const struct trapframe *call)
{

	lwc_call_copy(frame, call);
	frame->tf_rdi = frame->tf_rsi = 0;
	frame->tf_rdx = frame->tf_rcx = frame->tf_rax = 0;
	frame->tf_r8 = frame->tf_r9 = frame->tf_r10 = frame->tf_r11 = 0;
	frame->tf_cs = _ucodesel;
	frame->tf_ss = _udatasel;
}

/*
 * The bases of the context that leaves, and those of the one that comes.  User
 * mode can change its own; the pcb is up to date if PCB_FULL_IRET says so, and
 * has to be while that is set.  Interrupts are disabled, as set_pcb_flags()
 * would do: the scheduler writes there as well.
 */
static __always_inline void
lwc_bases_switch(struct pcb *pcb, struct lwc_md *from, const struct lwc_md *to)
{
	register_t fsbase, gsbase;
	u_int flags;

	flags = pcb->pcb_flags;
	if ((flags & PCB_FULL_IRET) == 0 &&
	    (cpu_stdext_feature & CPUID_STDEXT_FSGSBASE) != 0) {
		fsbase = rdfsbase();
		gsbase = rdmsr(MSR_KGSBASE);
	} else {
		fsbase = pcb->pcb_fsbase;
		gsbase = pcb->pcb_gsbase;
	}
	if (from != NULL) {
		from->md_fsbase = fsbase;
		from->md_gsbase = gsbase;
		from->md_tlsbase = pcb->pcb_tlsbase;
		from->md_tlsflag = flags & PCB_TLSBASE;
	}
	pcb->pcb_fsbase = to->md_fsbase;
	pcb->pcb_gsbase = to->md_gsbase;
	pcb->pcb_tlsbase = to->md_tlsbase;
	pcb->pcb_flags = (flags & ~PCB_TLSBASE) | to->md_tlsflag |
	    PCB_FULL_IRET;
}

static __always_inline void
lwc_md_switch(struct thread *td, struct lwc_md *from, struct lwc_md *to,
    bool call)
{
	struct pcb *pcb;
	register_t r;

	pcb = td->td_pcb;
	if (from != NULL) {
		from->md_call = call;
		if (call)
			lwc_call_copy(&from->md_frame, td->td_frame);
		else
			lwc_frame_copy(&from->md_frame, td->td_frame);
	}
	if (to->md_call)
		lwc_call_load(td->td_frame, &to->md_frame);
	else
		lwc_frame_copy(td->td_frame, &to->md_frame);
	/*
	 * As pmap_activate() says: no invalidation between %cr3 and curpmap.
	 * It is a critical section that nothing can make preemption due in, so
	 * critical_exit() has nothing to look after.
	 */
	r = intr_disable();
	td->td_critnest++;
	pmap_activate_sw(td);
	lwc_bases_switch(pcb, from, to);
	if (td == PCPU_GET(fpcurthread) && PCB_USER_FPU(pcb)) {
		if (from != NULL)
			fpusave(from->md_fpu);
		fpurestore(to->md_load);
	} else {
		if (from != NULL)
			lwc_fpu_save(td, from);
		memcpy(get_pcb_user_save_td(td), to->md_load,
		    cpu_max_ext_state_size);
		fpuuserinited(td);
	}
	to->md_load = to->md_fpu;
	td->td_critnest--;
	intr_restore(r);
}

#endif /* !_AMD64_LWC_MD_H_ */
