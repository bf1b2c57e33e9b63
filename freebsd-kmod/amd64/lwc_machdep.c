/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * amd64: registers of a context.
 *
 * General registers are those of the trap frame on the thread's kernel stack.
 * The fast return from a system call does not reload all of them, so a switch
 * sets PCB_FULL_IRET; when that is not set yet, the bases are those in the
 * processor, which user mode may have changed with wrfsbase.
 *
 * Who leaves by a system call expects of it what a function call keeps: the
 * callee-saved registers and the segment selectors.  So only those are kept.
 * %rax and %rdx are the result, and the others, in which the context left may
 * have values, are cleared.
 *
 * Vector registers live in the processor while the thread runs.  They are
 * saved with fpusave() straight into the context's own area and loaded from it
 * with fpurestore(): no copy through the pcb.  The pcb's area becomes stale by
 * that, as it always is while the processor holds the state; the next context
 * switch of the scheduler saves the registers there.  Areas start as copies of
 * the initial state, since XSAVEOPT may leave parts unwritten that XRSTOR then
 * reads (MXCSR).  After a rollback they are loaded from the snapshot's area,
 * and saved into the context's own the next time: nothing is copied.
 *
 * Debug registers belong to the debugger of the thread, and the local
 * descriptor table to the process: neither is a context's.
 */

#include <sys/param.h>
#include <sys/systm.h>
#include <sys/lock.h>
#include <sys/mutex.h>
#include <sys/pcpu.h>
#include <sys/proc.h>
#include <sys/signalvar.h>

#include <vm/vm.h>
#include <vm/pmap.h>
#include <vm/vm_page.h>

#include <machine/cpufunc.h>
#include <machine/fpu.h>
#include <machine/frame.h>
#include <machine/md_var.h>
#include <machine/pcb.h>
#include <machine/psl.h>
#include <machine/sigframe.h>
#include <machine/sysarch.h>
#include <machine/vmparam.h>

#include "../lwc_machdep.h"

void
lwc_md_init(struct lwc_md *md)
{

	md->md_fpu = fpu_save_area_alloc();
	fpu_save_area_reset(md->md_fpu);
	md->md_load = md->md_fpu;
}

void
lwc_md_fini(struct lwc_md *md)
{

	if (md->md_fpu != NULL)
		fpu_save_area_free(md->md_fpu);
	md->md_fpu = NULL;
}

/*
 * Take a snapshot of a suspended state, which is loaded from it from then on:
 * an earlier one may go.
 */
void
lwc_md_snapshot(struct lwc_md *snapshot, struct lwc_md *md)
{
	struct savefpu *fpu;

	fpu = snapshot->md_fpu;
	memcpy(fpu, md->md_load, cpu_max_ext_state_size);
	*snapshot = *md;
	snapshot->md_fpu = snapshot->md_load = fpu;
	md->md_load = fpu;
}

void
lwc_fpu_save(struct thread *td, struct lwc_md *md)
{
	struct pcb *pcb;

	pcb = td->td_pcb;
	critical_enter();
	if (td == PCPU_GET(fpcurthread) && PCB_USER_FPU(pcb)) {
		fpusave(md->md_fpu);
	} else if ((pcb->pcb_flags & PCB_USERFPUINITDONE) != 0) {
		memcpy(md->md_fpu, get_pcb_user_save_td(td),
		    cpu_max_ext_state_size);
	} else {
		fpu_save_area_reset(md->md_fpu);
	}
	critical_exit();
}

void
lwc_md_save(struct thread *td, struct lwc_md *md)
{
	struct pcb *pcb;

	pcb = td->td_pcb;
	lwc_frame_copy(&md->md_frame, td->td_frame);
	md->md_call = false;
	set_pcb_flags(pcb, PCB_FULL_IRET);	/* and the bases are current */
	md->md_fsbase = pcb->pcb_fsbase;
	md->md_gsbase = pcb->pcb_gsbase;
	md->md_tlsbase = pcb->pcb_tlsbase;
	md->md_tlsflag = pcb->pcb_flags & PCB_TLSBASE;
	lwc_fpu_save(td, md);
}

void
lwc_md_result(struct thread *td, int error, int64_t value, int64_t second)
{
	struct trapframe *frame;

	frame = td->td_frame;
	if (error != 0) {
		frame->tf_rax = error;
		frame->tf_rflags |= PSL_C;
	} else {
		frame->tf_rax = value;
		frame->tf_rdx = second;
		frame->tf_rflags &= ~PSL_C;
	}
}

/*
 * The tables are those of user space, four levels or five; their pages are
 * there as long as the pmap is locked.
 */
enum lwc_md_written
lwc_md_page_clean(struct pmap *pmap, vm_offset_t va, vm_page_t m)
{
	const uint64_t leaf = X86_PG_RW | X86_PG_M;
	enum lwc_md_written written;
	uint64_t entry, *table;
	int shift;

	written = LWC_MD_NOT_MAPPED;
	PMAP_LOCK(pmap);
	table = pmap->pm_pmltop;
	for (shift = la57 != 0 ? PML5SHIFT : PML4SHIFT; shift > PAGE_SHIFT;
	    shift -= NPTEPGSHIFT) {
		entry = table[(va >> shift) & (NPTEPG - 1)];
		if ((entry & X86_PG_V) == 0 || (entry & X86_PG_PS) != 0)
			break;
		table = (uint64_t *)PHYS_TO_DMAP(entry & PG_FRAME);
	}
	if (shift == PAGE_SHIFT) {
		table += (va >> PAGE_SHIFT) & (NPTEPG - 1);
		entry = *table;
		if ((entry & X86_PG_V) == 0 ||
		    (entry & PG_FRAME) != VM_PAGE_TO_PHYS(m)) {
			;
		} else if ((entry & leaf) == leaf) {
			written = LWC_MD_WRITTEN;
			atomic_clear_long(table, X86_PG_M);
		} else {
			written = LWC_MD_NOT_WRITTEN;
		}
	}
	PMAP_UNLOCK(pmap);
	return (written);
}

/* Segment descriptors and I/O ports are not exchanged at a switch. */
bool
lwc_md_sysarch_shared(int op)
{

	return (op == I386_SET_LDT || op == I386_SET_IOPERM);
}

bool
lwc_md_page_same(vm_page_t m, vm_page_t other)
{

	return (memcmp((void *)PHYS_TO_DMAP(VM_PAGE_TO_PHYS(m)),
	    (void *)PHYS_TO_DMAP(VM_PAGE_TO_PHYS(other)), PAGE_SIZE) == 0);
}

/* The places that sendsig() writes to: see there. */
bool
lwc_md_sigframe(struct thread *td, bool onstack, vm_offset_t *startp,
    vm_offset_t *endp)
{
	vm_offset_t sp;

	sp = td->td_frame->tf_rsp;
	if (onstack && (td->td_pflags & TDP_ALTSTACK) != 0 &&
	    !sigonstack(sp))
		sp = (vm_offset_t)td->td_sigstk.ss_sp +
		    td->td_sigstk.ss_size;
	else
		sp -= 128;		/* the red zone */
	*endp = sp;
	if (use_xsave && cpu_max_ext_state_size > sizeof(struct savefpu)) {
		sp -= cpu_max_ext_state_size - sizeof(struct savefpu);
		sp &= ~(vm_offset_t)0x3f;
	}
	sp -= sizeof(struct sigframe);
	sp &= ~(vm_offset_t)0xf;
	*startp = sp;
	return (sp <= *endp && *endp <= VM_MAXUSER_ADDRESS);
}
