#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 The lwc authors
"""Drive lwc_fuzz in a virtual machine, and shrink what panics it.

    fuzz.py run    [options] -- RUNNER...   one session after the other
    fuzz.py shrink [options] LINE [LINE] -- RUNNER...

RUNNER is the command that boots the machine and copies lwc_fuzz in: all of
tests/vm/run.py's up to its "--", without --console, --timeout and --out.  A
panic ends a session; the programs that ran are then the last ones of the
console, and the next session begins with the corpus of those before it.
Shrinking boots the machine again after each candidate that panics; those that
do not are tried one after the other in one boot.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

OP = 8          # characters of one operation
PROGRAM = re.compile(r"^(?:.*[^A-Za-z0-9._])?P(\d) ([A-Za-z0-9._]+)$")
CANDIDATE = re.compile(r"^(?:.*[^A-Za-z0-9._])?C(\d+) ([A-Za-z0-9._]+)$")
KEPT = re.compile(r"^(?:.*[^A-Za-z0-9._])?N(\d) \+(\d+)$")
# What tells one panic from another: the message without its addresses.
PANIC = re.compile(r"(panic: .*|Fatal trap \d+.*|Fatal double fault.*|KDB: enter: panic)$",
                   re.MULTILINE)
FRAME = re.compile(r"^(\w+)\(\) at (\w+)\+", re.MULTILINE)
STATUS_PANIC, STATUS_TIMEOUT = 250, 251


def split(line):
    return [line[i:i + OP] for i in range(0, len(line), OP)]


class Machine:
    """Boots, runs a command, returns the status and the console."""

    def __init__(self, runner, limit, out=None):
        self.runner = runner
        self.limit = limit
        self.out = out
        self.boots = 0

    def run(self, command, files=(), limit=None):
        self.boots += 1
        with tempfile.TemporaryDirectory() as folder:
            console = os.path.join(folder, "console")
            runner = subprocess.Popen(
                self.runner + list(files)
                + ["--console", console, "--timeout", str(limit or self.limit)]
                + (["--out", self.out] if self.out else []) + ["--", command],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                status = runner.wait()
            except BaseException:
                # It ends its machine when it is interrupted.
                runner.send_signal(signal.SIGINT)
                runner.wait(30)
                raise
            try:
                with open(console, encoding="utf-8", errors="replace") as text:
                    return status, text.read().replace("\r", "")
            except FileNotFoundError:
                sys.exit("the runner failed with status %d" % status)


def panic_of(text):
    """A short name of the panic, and its text."""
    found = PANIC.search(text)
    if found is None:
        return None, ""
    body = text[found.start():]
    name = re.sub(r"0x[0-9a-f]+|\d{3,}", "#", found.group(1))
    frames = [f for f, _ in FRAME.findall(body)
              if not re.match(r"kdb_|db_|vpanic|panic|kasan_|__asan|trap|calltrap|__mtx_assert"
                              r"|fork_|amd64_syscall|fast_syscall|witness|nosan", f)]
    return "%s | %s" % (name, " < ".join(frames[:4])), body


def last_programs(text):
    """What each slot ran when the console ended."""
    found = PANIC.search(text)
    last = {}
    for line in text[:found.start() if found else len(text)].splitlines():
        program = PROGRAM.match(line)
        if program and len(program.group(2)) % OP == 0:
            last[int(program.group(1))] = program.group(2)
    return last


def kept_programs(text):
    """The programs that reached new code."""
    last, kept = {}, []
    for line in text.splitlines():
        program, new = PROGRAM.match(line), KEPT.match(line)
        if program and len(program.group(2)) % OP == 0:
            last[program.group(1)] = program.group(2)
        elif new and new.group(1) in last:
            kept.append(last[new.group(1)])
    return kept


def same(one, other):
    """Whether two panics are likely the same."""
    return one is not None and other is not None and \
        one.split(" | ")[0][:40] == other.split(" | ")[0][:40]


def try_all(machine, candidates, times, want, folder):
    """The first candidate that panics as wanted, or None."""
    start = 0
    while start < len(candidates):
        lines = os.path.join(folder, "lines")
        with open(lines, "w", encoding="utf-8") as out:
            out.write("".join(c + "\n" for c in candidates[start:]))
        # The limit is for a machine that hangs.
        _, text = machine.run("./lwc_fuzz -l lines -n %d" % times, [lines])
        at = None
        for line in text.splitlines():
            candidate = CANDIDATE.match(line)
            if candidate:
                at = int(candidate.group(1))
        name, _ = panic_of(text)
        if name is None or at is None:
            return None
        if want is None or same(name, want):
            return start + at
        start += at + 1
    return None


def shrink(machine, line, times, want, say):
    """Delete operations as long as it panics."""
    with tempfile.TemporaryDirectory() as folder:
        if try_all(machine, [line], times, want, folder) is None:
            return None
        ops = split(line)
        size = max(len(ops) // 2, 1)
        while True:
            cuts = [(at, min(at + size, len(ops))) for at in range(0, len(ops), size)]
            lines = ["".join(ops[:a] + ops[b:]) for a, b in cuts]
            cuts = [c for c, text in zip(cuts, lines) if text]
            found = try_all(machine, [t for t in lines if t], times, want, folder)
            if found is not None:
                a, b = cuts[found]
                ops = ops[:a] + ops[b:]
                say("%d operations: %s" % (len(ops), "".join(ops)))
                size = max(min(size, len(ops) // 2), 1)
            elif size == 1:
                return "".join(ops)
            else:
                size //= 2


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    arguments = sys.argv[1:]
    if "--" not in arguments:
        sys.exit(__doc__)
    cut = arguments.index("--")
    runner = arguments[cut + 1:]
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("what", choices=("run", "shrink"))
    parser.add_argument("lines", nargs="*")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=120, help="of one session")
    parser.add_argument("--seed", type=lambda s: int(s, 0), default=1)
    parser.add_argument("--options", default="", help="more options of lwc_fuzz")
    parser.add_argument("--times", type=int, default=5, help="runs of each candidate")
    parser.add_argument("--want", help="only panics that begin so")
    parser.add_argument("--folder", default="fuzz-out", help="of corpus, PCs and failures")
    parser.add_argument("--before", default="true", help="shell command to run first")
    parser.add_argument("--shrink", action="store_true", help="shrink each new panic")
    args = parser.parse_intermixed_args(arguments[:cut])

    def say(text):
        print(text, flush=True)

    os.makedirs(args.folder, exist_ok=True)
    if args.what == "shrink":
        machine = Machine(runner, 240)
        for line in args.lines:
            small = shrink(machine, line, args.times, args.want, say)
            say("%s: %s (%d boots)" % (line, small or "does not panic alone", machine.boots))
        return
    corpus_path = os.path.join(args.folder, "corpus")
    corpus = []
    if os.path.exists(corpus_path):
        with open(corpus_path, encoding="utf-8") as text:
            corpus = text.read().split()
    pcs_path = os.path.join(args.folder, "pcs")
    for session in range(args.sessions):
        seed = args.seed + session
        with open(corpus_path, "w", encoding="utf-8") as out:
            out.write("".join(c + "\n" for c in corpus))
        machine = Machine(runner, args.seconds + 120, os.path.join(args.folder, "out"))
        started = time.time()
        status, text = machine.run(
            "%s; ./lwc_fuzz -s %d -t %d -i corpus -o $LWC_OUT/pcs %s"
            % (args.before, seed, args.seconds, args.options), [corpus_path])
        name, body = panic_of(text)
        new = [k for k in dict.fromkeys(kept_programs(text)) if k not in corpus]
        corpus += new
        programs = sum(1 for line in text.splitlines() if PROGRAM.match(line))
        say("seed %d: status %d, %.0f s, %d programs, %d new in the corpus of %d"
            % (seed, status, time.time() - started, programs, len(new), len(corpus)))
        for line in text.splitlines():
            if re.match(r"(LEAK|SHRUNK|HANG|fuzz:|seed 0x|lock order|counters:)", line):
                say("  " + line[:500])
        here = os.path.join(args.folder, "out", "pcs")
        if os.path.exists(here):
            with open(here, encoding="utf-8") as out:
                pcs = set(out.read().split())
            os.unlink(here)
            if os.path.exists(pcs_path):
                with open(pcs_path, encoding="utf-8") as out:
                    pcs |= set(out.read().split())
            with open(pcs_path, "w", encoding="utf-8") as out:
                out.write("".join(p + "\n" for p in sorted(pcs)))
        with open(os.path.join(args.folder, "console.%d" % seed), "w",
                  encoding="utf-8") as out:
            out.write(text)
        if status not in (0, 1):
            say("  %s" % (name or "hung" if status == STATUS_TIMEOUT else name))
            last = last_programs(text)
            for slot, line in sorted(last.items()):
                say("  P%d %s" % (slot, line))
            with open(os.path.join(args.folder, "panic.%d" % seed), "w",
                      encoding="utf-8") as out:
                out.write("\n".join("P%d %s" % p for p in sorted(last.items())) + "\n" + body)
            if args.shrink:
                again = Machine(runner, 240)
                for line in last.values():
                    small = shrink(again, line, args.times, name, say)
                    say("  alone: %s" % small)
                    if small:
                        break
    with open(corpus_path, "w", encoding="utf-8") as out:
        out.write("".join(c + "\n" for c in corpus))


if __name__ == "__main__":
    main()
