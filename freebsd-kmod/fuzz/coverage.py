#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 The lwc authors
"""Say which lines of lwc.ko never ran.

    coverage.py lwc.ko.full [PCS ...] [--ran FILE ...] [--source FOLDER] [--all]

lwc.ko.full is the module before its debugging information was taken out; PCS
are files that lwc_fuzz -o wrote, --ran what kern.lwc.ran told (a console with
other lines among it will do).  What could have been seen are the call sites
of __sanitizer_cov_trace_pc(), which the relocations name; a line never ran when
it has some and none of them was seen.  Wants llvm-readelf and llvm-addr2line.
"""

import argparse
import bisect
import collections
import glob
import os
import re
import shutil
import subprocess
import sys


def tool(name):
    """An LLVM program, whatever its version."""
    found = shutil.which(name)
    for path in [found] + sorted(glob.glob("/usr/lib/llvm-*/bin/" + name), reverse=True):
        if path:
            return path
    sys.exit("%s is not there" % name)


def sites(module):
    """Return addresses of the calls, relative to .text."""
    text = subprocess.run([tool("llvm-readelf"), "-r", "-W", module], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    found, section = set(), ""
    for line in text.splitlines():
        if line.startswith("Relocation section"):
            section = line.split("'")[1]
        elif section == ".rela.text" and "__sanitizer_cov_trace_pc " in line + " ":
            found.add(int(line.split()[0], 16) + 4)
    if not found:
        sys.exit("%s is not instrumented: build it with COVERAGE_ENABLED=yes" % module)
    return found


def hook(module):
    """Where the module's own __sanitizer_cov_trace_pc() lies (LWC_COVERAGE)."""
    text = subprocess.run([tool("llvm-readelf"), "-s", "-W", module], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    for words in (line.split() for line in text.splitlines()):
        if len(words) == 8 and words[7] == "__sanitizer_cov_trace_pc" and words[6] != "UND":
            return int(words[1], 16)
    sys.exit("%s does not tell what ran: build it with LWC_COVERAGE=yes" % module)


def places(module, addresses):
    """address -> (function, file, line), the innermost inlined one."""
    # The call itself: the return address may belong to the next line.
    asked = "".join("%#x\n" % (a - 1) for a in addresses)
    text = subprocess.run([tool("llvm-addr2line"), "-e", module],
                          check=True, input=asked, stdout=subprocess.PIPE, text=True).stdout
    # The sections of a module overlap: only its own table tells functions.
    symbols = subprocess.run([tool("llvm-readelf"), "-s", "-W", module], check=True,
                             stdout=subprocess.PIPE, text=True).stdout
    starts = sorted((int(w[1], 16), w[7]) for w in (x.split() for x in symbols.splitlines())
                    if len(w) == 8 and w[3] == "FUNC" and w[6] == "1")
    result = {}
    for address, place in zip(addresses, text.splitlines()):
        at = bisect.bisect_right(starts, (address - 1, "~")) - 1
        function = starts[at][1] if at >= 0 else "?"
        name, _, line = place.rpartition(":")
        line = re.match(r"\d+", line)
        result[address] = (function, name, int(line.group()) if line else 0)
    return result


def ranges(numbers):
    """1, 2, 3, 7 -> '1-3 7'."""
    out = []
    for n in sorted(numbers):
        if out and n == out[-1][1] + 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return " ".join("%d" % a if a == b else "%d-%d" % (a, b) for a, b in out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("module")
    parser.add_argument("pcs", nargs="*")
    parser.add_argument("--ran", action="append", default=[],
                        help="what kern.lwc.ran told, of a module with LWC_COVERAGE=yes")
    parser.add_argument("--source", help="folder of the sources: show the lines")
    parser.add_argument("--all", action="store_true", help="also lines of the kernel's headers")
    args = parser.parse_args()
    could = sites(args.module)
    ran = set()
    for name in args.pcs:
        with open(name, encoding="utf-8") as text:
            ran |= {int(word, 16) for word in text.read().split()}
    for name in args.ran:
        base = hook(args.module)
        with open(name, encoding="utf-8", errors="replace") as text:
            ran |= {base + int(line) for line in text if re.fullmatch(r"-?\d+\s*", line)}
    strange = ran - could
    if strange:
        print("%d addresses are no call sites: another module's?" % len(strange))
    where = places(args.module, sorted(could))
    per = collections.defaultdict(lambda: collections.defaultdict(lambda: [0, 0, ""]))
    functions = collections.defaultdict(lambda: [0, 0])
    for address, (function, name, line) in where.items():
        base = os.path.basename(name)
        functions[base, function][0] += 1
        functions[base, function][1] += address in ran
        entry = per[base][line]
        entry[0] += 1
        entry[1] += address in ran
        entry[2] = function
    total = [0, 0]
    for base in sorted(per):
        if not base.startswith("lwc_") and not args.all:
            continue
        lines = per[base]
        never = {n for n, e in lines.items() if e[1] == 0}
        total[0] += len(lines)
        total[1] += len(lines) - len(never)
        print("%s: %d of %d lines ran" % (base, len(lines) - len(never), len(lines)))
        absent = [f for (b, f), e in functions.items() if b == base and e[1] == 0]
        if absent:
            print("    functions that never ran: %s" % " ".join(sorted(absent)))
        if not never:
            continue
        source = None
        if args.source:
            for path in glob.glob(os.path.join(args.source, "**", base), recursive=True):
                with open(path, encoding="utf-8") as text:
                    source = text.read().splitlines()
                break
        if source is None:
            print("    %s" % ranges(never))
            continue
        for n in sorted(never):
            if lines[n][2] not in absent and 0 < n <= len(source):
                print("    %5d %-24s %s" % (n, lines[n][2], source[n - 1].strip()))
    print("%d of %d call sites, %d of %d lines" % (len(could & ran), len(could), total[1],
                                                   total[0]))


if __name__ == "__main__":
    main()
