/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * as_user number folder command [argument ...]
 *
 * Runs a command as an ordinary user that need not be in the password file,
 * with nothing of root's left and a folder for home.  su(1) would want a
 * login class and PAM, which small images do not have.
 */

#include <sys/types.h>

#include <err.h>
#include <grp.h>
#include <stdlib.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	gid_t group;
	uid_t user;

	if (argc < 4)
		errx(64, "usage: as_user number folder command [argument ...]");
	user = (uid_t)strtoul(argv[1], NULL, 10);
	group = (gid_t)user;
	if (user == 0)
		errx(64, "%s is no ordinary user", argv[1]);
	if (setgroups(1, &group) != 0 || setresgid(group, group, group) != 0 ||
	    setresuid(user, user, user) != 0)
		err(71, "user %s", argv[1]);
	if (chdir(argv[2]) != 0)
		err(72, "%s", argv[2]);
	if (setenv("HOME", argv[2], 1) != 0 || setenv("USER", "lwc", 1) != 0 ||
	    setenv("LOGNAME", "lwc", 1) != 0)
		err(71, "setenv");
	execvp(argv[3], argv + 3);
	err(127, "%s", argv[3]);
}
