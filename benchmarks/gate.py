#!/usr/bin/env python3
"""Compares what an echo over fairlead costs with thresholds.txt: user instructions, system calls, allocations,
memory, and what a minimal program makes of the headers. Exits with 1 when a limit is broken.

    gate.py --binaries DIRECTORY --compiler g++ --flags "-I..." [--only TEXT]
"""

import argparse
import dataclasses
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import report

FOLDER = pathlib.Path(__file__).resolve().parent
CALLGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")


@dataclasses.dataclass(frozen=True)
class Limit:
    name: str
    most: float


def read_limits(path):
    limits = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = re.fullmatch(r"(.+?)\s{2,}([\d.]+)\s+[\d.]+\s+\d{4}-\d\d-\d\d", line)
        if not found:
            raise report.Failure(f"{path.name}:{number}: not \"measure  limit  measured  date\": {line}")
        limits.append(Limit(found.group(1), float(found.group(2))))
    return limits


def instructions(bench, name, tls=False):
    return bench.cost_of_echoes(name, CALLGRIND, report.count_instructions, tls)


def measure_echoes(bench):
    """User instructions and system calls of one echo among ten connections."""
    if shutil.which("valgrind"):
        for name, title in (("fairlead", "read_some"), ("readable", "readable"), ("framed", "framed")):
            yield f"instructions per echo, {title}", instructions(bench, name)
        # OpenSSL takes other paths on other processors: its own share is taken away.
        ours, raw = instructions(bench, "fairlead", True), instructions(bench, "raw", True)
        yield "instructions per echo, TLS, above raw OpenSSL", ours - raw
    if shutil.which("strace"):
        calls = bench.cost_of_echoes("fairlead", ("strace", "-c", "-f"), report.count_system_calls)
        yield "system calls per echo", calls


def measure_memory(binaries):
    """What the program `allocations` prints."""
    done = subprocess.run([str(binaries / "allocations")], capture_output=True, text=True, timeout=150, check=False)
    if done.returncode == 77:
        return
    for line in done.stdout.splitlines():
        found = re.fullmatch(r"(.+?)\s{2,}([\d.]+)\s+\(at most .*", line)
        if found and "private" not in found.group(1):
            yield found.group(1), float(found.group(2))


def minimal_program():
    """The first program of README.md."""
    text = (FOLDER.parent / "README.md").read_text()
    return re.search(r"```cpp\n(.*?)```", text, re.DOTALL).group(1)


def measure_compilation(compiler, flags, scratch):
    """What the minimal program costs its compiler, as far as that does not depend on the machine."""
    version = subprocess.run([compiler, "-dumpversion"], capture_output=True, text=True, check=True).stdout
    if version.split(".")[0].strip() != "12":
        return
    source, object_file = scratch / "minimal.cpp", scratch / "minimal.o"
    source.write_text(minimal_program())
    command = [compiler, "-std=c++20", "-O2", *shlex.split(flags), str(source)]
    text = subprocess.run([*command, "-E", "-P"], capture_output=True, text=True, check=True).stdout
    yield "preprocessed lines of the minimal program", text.count("\n")
    subprocess.run([*command, "-c", "-o", str(object_file)], check=True)
    size = subprocess.run(["size", str(object_file)], capture_output=True, text=True, check=True).stdout
    yield "code of the minimal program, bytes", int(size.splitlines()[1].split()[0])
    symbols = subprocess.run(["nm", str(object_file)], capture_output=True, text=True, check=True).stdout
    yield "functions of the minimal program", len(re.findall(r" [tTW] ", symbols))


def parse_arguments():
    parser = argparse.ArgumentParser(description="Holds the limits of thresholds.txt.")
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help="where they were built")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--flags", default="", help="what the compiler needs to find the headers")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    limits = read_limits(FOLDER / "thresholds.txt")
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        bench = report.Bench(arguments, scratch)
        found = dict(measure_compilation(arguments.compiler, arguments.flags, scratch))
        found.update(measure_memory(arguments.binaries))
        found.update(measure_echoes(bench))
    broken = 0
    print(f"{'measure':58} {'measured':>12} {'at most':>12}")
    for limit in limits:
        if limit.name not in found:
            print(f"{limit.name:58} {'-':>12} {limit.most:12g}  not measured here")
            continue
        value = found.pop(limit.name)
        is_kept = value <= limit.most
        broken += not is_kept
        print(f"{limit.name:58} {value:12.2f} {limit.most:12g}{'' if is_kept else '  BROKEN'}")
    for name, value in found.items():
        print(f"{name:58} {value:12.2f} {'none':>12}  thresholds.txt names no limit")
    return 1 if broken or found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except report.Failure as failure:
        sys.exit(f"gate.py: {failure}")
