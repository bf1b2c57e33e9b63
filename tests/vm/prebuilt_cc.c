/*-
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Copyright (c) 2026 The lwc authors
 */

/*
 * cc, c++ and cargo on a machine that has none: hands out libraries that
 * record_cc.sh has made of the same sources, from the folder PREBUILT.
 *
 *	cc --version
 *	cc ... -E source	the bytes of the source, as they are
 *	cc ... -o object -	of such bytes, from stdin, the library, as an object
 *	cc ... -o library x.o	that one again, as a library
 *	cc number file		the number of its bytes
 *	cargo build ... --target-dir folder
 *				of the crate here, the library that was made of a
 *				crate with this src/lib.rs; says where as cargo does
 */

#include <sys/stat.h>
#include <sys/types.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* All of a file to another; FNV-1a of its bytes. */
static uint64_t
copy(int from, int to)
{
	uint64_t number = 0xcbf29ce484222325ULL;
	unsigned char bytes[8192];
	ssize_t n;

	while ((n = read(from, bytes, sizeof(bytes))) > 0) {
		for (ssize_t i = 0; i < n; i++)
			number = (number ^ bytes[i]) * 0x100000001b3ULL;
		if (to >= 0 && write(to, bytes, (size_t)n) != n)
			err(1, "write");
	}
	if (n < 0)
		err(1, "read");
	return (number);
}

/* Copies the library that was made of a source with this number. */
static void
hand_out(const char *from_path, const char *library)
{
	int from, to;

	if ((from = open(from_path, O_RDONLY)) < 0)
		err(1, "no library was made of this source: %s", from_path);
	if ((to = open(library, O_WRONLY | O_CREAT | O_TRUNC, 0755)) < 0)
		err(1, "%s", library);
	(void)copy(from, to);
}

static int
cargo(const char *folder, int argc, char **argv)
{
	char here[1024], path[1024], library[1024];
	const char *target = NULL;
	int from;

	for (int i = 2; i + 1 < argc; i++)
		if (strcmp(argv[i], "--target-dir") == 0)
			target = argv[i + 1];
	if (folder == NULL || target == NULL || getcwd(here, sizeof(here)) == NULL)
		errx(1, "no --target-dir, or no folder PREBUILT");
	if ((from = open("src/lib.rs", O_RDONLY)) < 0)
		err(1, "src/lib.rs");
	(void)snprintf(path, sizeof(path), "%s/%016" PRIx64 ".so", folder,
	    copy(from, -1));
	if (mkdir(target, 0755) != 0 && errno != EEXIST)
		err(1, "%s", target);
	(void)snprintf(library, sizeof(library), "%s/libcrate.so", target);
	hand_out(path, library);
	printf("{\"reason\":\"compiler-artifact\",\"manifest_path\":"
	    "\"%s/Cargo.toml\",\"filenames\":[\"%s\"]}\n", here, library);
	return (0);
}

int
main(int argc, char **argv)
{
	const char *folder = getenv("PREBUILT"), *library = NULL;
	const char *object = NULL;
	char path[1024];
	int from;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("libraries that were made elsewhere");
		return (0);
	}
	if (argc > 1 && strcmp(argv[1], "build") == 0)
		return (cargo(folder, argc, argv));
	if (argc == 3 && strcmp(argv[1], "number") == 0) {
		if ((from = open(argv[2], O_RDONLY)) < 0)
			err(1, "%s", argv[2]);
		printf("%016" PRIx64 "\n", copy(from, -1));
		return (0);
	}
	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], "-E") == 0) {
			if ((from = open(argv[argc - 1], O_RDONLY)) < 0)
				err(1, "%s", argv[argc - 1]);
			(void)copy(from, STDOUT_FILENO);
			return (0);
		}
		if (strcmp(argv[i], "-o") == 0)
			library = argv[++i];
	}
	for (int i = 1; i < argc; i++) {
		size_t len = strlen(argv[i]);

		if (argv[i] != library && len > 2 &&
		    strcmp(argv[i] + len - 2, ".o") == 0)
			object = argv[i];
	}
	if (library == NULL || folder == NULL)
		errx(1, "neither -E nor -o, or no folder PREBUILT");
	if (object != NULL)
		(void)snprintf(path, sizeof(path), "%s", object);
	else
		(void)snprintf(path, sizeof(path), "%s/%016" PRIx64 ".so",
		    folder, copy(STDIN_FILENO, -1));
	hand_out(path, library);
	return (0);
}
