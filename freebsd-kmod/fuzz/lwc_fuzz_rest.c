/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/* Credentials, limits, what others look at, and the rest of what a process has. */

#include "lwc_fuzz_ops.h"

/*
 * Credentials, limits and the rest of what a process has.
 */
void
do_cred(struct me *m, const struct op *o)
{
	cap_rights_t rights;
	cpuset_t mask;
	struct jail j;
	gid_t groups[2] = { 1001, 1002 };

	switch (choice(&t_cred, A(0))) {
	case 0:
		CALL(m, setuid(1001));
		break;
	case 1:
		CALL(m, setresuid(-1, 1001, A(1) % 2 ? 0 : 1001));
		break;
	case 2:
		CALL(m, setgid(1001));
		break;
	case 3:
		CALL(m, setgroups(2, groups));
		break;
	case 4:
		CALL(m, cap_enter());
		break;
	case 5:
		CALL(m, jail_attach(env.jid));
		break;
	case 6:
		memset(&j, 0, sizeof(j));
		j.version = JAIL_API_VERSION;
		j.path = __DECONST(char *, "/");
		j.hostname = __DECONST(char *, "fuzz");
		CALL(m, jail(&j));
		break;
	case 7:
		CALL(m, umask(A(1)));
		break;
	case 8:
		CALL(m, chdir(A(1) % 2 ? "/" : "/tmp"));
		break;
	case 9:
		CALL(m, chroot("."));
		break;
	case 10:
		CALL(m, setsid());
		break;
	case 11:
		cap_rights_init(&rights, CAP_READ, CAP_FSTAT);
		CALL(m, cap_rights_limit(A(1) % 2 ? desc(A(2)) : file(A(2)),
		    &rights));
		break;
	case 12:
		CALL(m, setlogin("fuzz"));
		break;
	case 13:
		CALL(m, seteuid(A(1) % 2 ? 0 : 1001));
		break;
	case 14:
		CALL(m, setpgid(0, 0));
		break;
	case 15:
		CALL(m, fchdir(file(A(2))));
		break;
	case 16:
		CPU_ZERO(&mask);
		CPU_SET(A(1) % 2, &mask);
		CALL(m, cpuset_setaffinity(CPU_LEVEL_WHICH, CPU_WHICH_TID, -1,
		    sizeof(mask), &mask));
		break;
	default:
		CALL(m, jail_remove(A(1) % 4 == 0 ? env.jid : -1));
		break;
	}
}

void
do_procctl(struct me *m, const struct op *o)
{
	struct procctl_reaper_kill rk;
	struct procctl_reaper_status rs;
	void *arg;
	int cmd, value;

	cmd = (int)choice(&t_procctl, A(0));
	value = A(2) < SPECIAL ? 1 + A(2) % 3 : (int)choice(&t_value, A(2));
	arg = &value;
	switch (cmd) {
	case PROC_REAP_ACQUIRE:
	case PROC_REAP_RELEASE:
		arg = NULL;
		break;
	case PROC_REAP_KILL:
		memset(&rk, 0, sizeof(rk));
		rk.rk_sig = SIGKILL;
		arg = &rk;
		break;
	case PROC_REAP_STATUS:
		arg = &rs;
		break;
	case PROC_PDEATHSIG_CTL:
		value = (int)choice(&t_signal, A(2));
		break;
	case PROC_SPROTECT:
		value = PPROT_SET;
		break;
	}
	CALL(m, procctl(P_PID, cmd == PROC_PDEATHSIG_CTL ? 0 : who(m, A(1)),
	    cmd, ptr(A(3), arg)));
}

void
do_rlimit(struct me *m, const struct op *o)
{
	struct rlimit rl;
	int which;

	which = (int)choice(&t_rlimit, A(0));
	rl.rlim_cur = rl.rlim_max = choice(&t_limit, A(1));
	if (which == RLIMIT_CPU && rl.rlim_cur < 5)
		rl.rlim_cur = rl.rlim_max = 1;
	if (A(2) % 2 == 0) {
		if (getrlimit(which, &rl) == 0)
			rl.rlim_cur = MIN((rlim_t)choice(&t_limit, A(1)),
			    rl.rlim_max);
	}
	CALL(m, setrlimit(which, &rl));
}

void
do_sysarch(struct me *m, const struct op *o)
{
	struct i386_ldt_args ldt;
	struct i386_ioperm_args io;
	char descr[64];
	void *p;

	switch (choice(&t_sysarch, A(0))) {
	case 0:
		(void)amd64_get_fsbase(&p);
		CALL(m, amd64_set_fsbase(p));
		break;
	case 1:
		CALL(m, amd64_set_gsbase((void *)addr(A(1))));
		break;
	case 2:
		memset(&ldt, 0, sizeof(ldt));
		memset(descr, 0, sizeof(descr));
		descr[5] = (char)0xf2;
		ldt.start = 0xffffffff;
		ldt.descs = (void *)descr;
		ldt.num = 1;
		CALL(m, sysarch(I386_SET_LDT, &ldt));
		break;
	case 3:
		io.start = 0x80;
		io.length = 1;
		io.enable = A(1) % 2;
		CALL(m, sysarch(I386_SET_IOPERM, &io));
		break;
	case 4:
		CALL(m, x86_pkru_protect_range((void *)addr(A(1)),
		    size(A(2)) & 0xfffff, 1 + A(3) % 3, 0));
		break;
	case 5:
		CALL(m, x86_pkru_unprotect_range((void *)addr(A(1)),
		    size(A(2)) & 0xfffff));
		break;
	case 6:
		CALL(m, sysarch((int)choice(&t_value, A(1)), &p));
		break;
	case 7:
		CALL(m, amd64_get_gsbase(&p));
		break;
	default:
		CALL(m, amd64_set_gsbase(NULL));
		break;
	}
}

void
do_ktrace(struct me *m, const struct op *o)
{

	CALL(m, ktrace("trace", A(0) % 3 == 0 ? KTROP_CLEAR : KTROP_SET,
	    KTRFAC_SYSCALL | KTRFAC_SYSRET | KTRFAC_STRUCT | KTRFAC_PSIG |
	    (A(0) % 2 ? KTRFAC_INHERIT : 0), who(m, A(1)) ?: getpid()));
}

/* What ps(1) and procstat(1) read. */
void
do_look(struct me *m, const struct op *o)
{
	static char buf[65536];
	size_t len;
	int mib[4];

	mib[0] = CTL_KERN;
	mib[1] = KERN_PROC;
	mib[2] = (int)choice(&t_look, A(0));
	mib[3] = who(m, A(1));
	len = sizeof(buf);
	CALL(m, sysctl(mib, 4, buf, &len, NULL, 0));
}

void
do_point(struct me *m, const struct op *o)
{
	static const struct {
		int		value;
		const char	*set;
	} sets[] = { { 12, "return(12)" }, { 22, "return(22)" },
	    { 30, "30%return(12)" }, { 2, "1*off->1*return(12)" },
	    { 3, "2*off->1*return(12)" }, { 6, "5*off->1*return(12)" },
	    { 0, "off" } };
	char name[128];
	int i, v;

	if (env.npoints == 0)
		return;
	v = (int)choice(&t_point, A(1));
	for (i = 0; sets[i].value != v; i++)
		continue;
	snprintf(name, sizeof(name), "debug.fail_point.%s",
	    env.points[A(0) % env.npoints].pt_name);
	CALL(m, sysctlbyname(name, NULL, NULL, sets[i].set,
	    strlen(sets[i].set)));
}

void
do_limit(struct me *m, const struct op *o)
{
	const struct limit *l;
	uint64_t v;
	size_t len;
	int used;

	if (env.nlimits == 0)
		return;
	l = &env.limits[A(0) % env.nlimits];
	v = choice(&t_lower, A(1));
	if (v >= 1000 && v < 2000) {
		len = sizeof(used);
		if (sysctlbyname(strcmp(l->lm_name, "kern.maxfiles") == 0 ?
		    "kern.openfiles" : "kern.lwc.contexts", &used, &len, NULL,
		    0) != 0)
			return;
		v = v - 1000 + used;
	} else if (strcmp(l->lm_name, "kern.maxfiles") == 0) {
		return;
	}
	CALL(m, sysctlbyname(l->lm_name, NULL, NULL, &v, l->lm_size));
}
