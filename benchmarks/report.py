#!/usr/bin/env python3
"""Compares the echo servers of this folder and prints the result as Markdown tables.

Each round runs every server once, in turn, on a core of its own; the load generator has the other core.
A figure is a ratio to the raw server of the same round, and what is printed is the median over the rounds:
absolute speeds of a shared machine change within minutes. README.md says what the columns mean.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    options: tuple
    tls: bool = False


SCENARIOS = (
    Scenario("100 x 64 B", ("--connections", "100")),
    Scenario("1000 x 64 B", ("--connections", "1000")),
    Scenario("100 x 64 B, 16 deep", ("--connections", "100", "--depth", "16")),
    Scenario("TLS, 100 x 64 B", ("--connections", "100", "--tls"), tls=True),
    Scenario("reconnect, 100 at a time", ("--connections", "100", "--reconnect")),
)

# The programs behind each name; the first of those that are compared is the 1.00.
SERVERS = {
    "raw": {"plain": ("raw_epoll_echo",), "tls": ("raw_tls_echo",)},
    "asio": {"plain": ("asio_echo",), "tls": ("asio_echo",)},
    "fairlead": {"plain": ("fairlead_echo",), "tls": ("fairlead_echo",)},
    "framed": {"plain": ("fairlead_echo", "--framed"), "tls": ("fairlead_echo", "--framed")},
    "readable": {"plain": ("fairlead_echo", "--readable"), "tls": ("fairlead_echo", "--readable")},
}


class Failure(Exception):
    """A server or the generator did not do its part."""


class Server:
    """A running echo server; ended by its pid when the block is left."""

    def __init__(self, bench, name, tls, core=None, wrapper=()):
        program, *options = SERVERS[name]["tls" if tls else "plain"]
        if not (bench.binaries / program).exists():
            raise Failure(f"{bench.binaries / program} was not built")
        command = [*wrapper, str(bench.binaries / program), "127.0.0.1:0", *options]
        if tls:
            command += ["--tls", str(bench.certificate), str(bench.key)]
        self.name = name
        self.wrapped = bool(wrapper)
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if self.wrapped else None,
            text=True,
            preexec_fn=pin_to(core),
        )
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            self.process.kill()
            raise Failure(f"{name} did not start: {' '.join(command)}")
        self.address = line.split()[-1]
        self.pid = self.process.pid
        if self.wrapped and program not in pathlib.Path(f"/proc/{self.pid}/comm").read_text():
            self.pid = child_of(self.pid) or self.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Ends the server and returns what it, or the program around it, wrote to stderr."""
        if self.process.poll() is None:
            os.kill(self.pid, 15)
        try:
            return self.process.communicate(timeout=60)[1] or ""
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure(f"{self.name} did not end on SIGTERM") from None


def child_of(pid):
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def pin_to(core):
    if core is None:
        return None
    return lambda: os.sched_setaffinity(0, {core})


class Bench:
    def __init__(self, arguments, scratch):
        self.arguments = arguments
        self.binaries = arguments.binaries.resolve()
        self.certificate = scratch / "certificate.pem"
        self.key = scratch / "key.pem"
        self.scratch = scratch
        cores = sorted(os.sched_getaffinity(0))
        self.server_core, self.client_core = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
        self.make_certificate()

    def make_certificate(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            + ["-nodes", "-days", "30", "-subj", "/CN=localhost"]
            + ["-keyout", str(self.key), "-out", str(self.certificate)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def generate(self, server, options, seconds, warmup, core=None):
        """Runs the load generator against `server` and returns its JSON as a dictionary."""
        command = [str(self.binaries / "load_generator"), "--json", "--address", server.address]
        command += ["--server-pid", str(server.pid), "--size", "64", *options]
        command += ["--seconds", str(seconds), "--warmup", str(warmup)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds + warmup + 90,
            preexec_fn=pin_to(core),
            check=False,
        )
        if done.returncode != 0:
            raise Failure(f"{server.name}: {' '.join(command)}\n{done.stdout}{done.stderr}")
        result = json.loads(done.stdout)
        if result["requests"] == 0 or result["server_cpu_ns"] == 0:
            raise Failure(f"{server.name}: not one request was measured\n{done.stdout}")
        return result

    def measure(self, scenario, name):
        """One server, one scenario, one round."""
        with Server(self, name, scenario.tls, self.server_core) as server:
            return self.generate(
                server,
                scenario.options,
                self.arguments.seconds,
                self.arguments.warmup,
                self.client_core,
            )

    def compare(self, scenario):
        """All rounds of one scenario, the servers taking turns; returns {server: [result]}."""
        names = self.arguments.servers
        results = {name: [] for name in names}
        for round_number in range(self.arguments.rounds):
            shift = round_number % len(names)
            for name in names[shift:] + names[:shift]:
                results[name].append(self.measure(scenario, name))
        return results

    def cost_of_echoes(self, name, wrapper, read_cost, tls=False):
        """What `read_cost` counts, per echo: the difference of a long and a short run, so that start,
        accepting and closing cancel out."""
        few, many = 1000, 21000
        costs = []
        for requests in (few, many):
            with Server(self, name, tls, wrapper=wrapper) as server:
                options = ("--connections", "10", "--requests", str(requests))
                options += ("--tls",) if tls else ()
                self.generate(server, options, 120, 0)
                costs.append(read_cost(server.stop()))
        return (costs[1] - costs[0]) / (many - few)


def median_of(results, key):
    return statistics.median(key(result) for result in results)


def print_comparison(scenario, results):
    names = list(results)
    base = results[names[0]]
    print(f"\n### {scenario.name}\n")
    print(f"| server | CPU efficiency against {names[0]} (lowest to highest) | server CPU ns/request "
          "| requests/s | p50 us | p99 us | p99.9 us |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        ratios = [
            theirs["server_cpu_ns_per_request"] / ours["server_cpu_ns_per_request"]
            for ours, theirs in zip(results[name], base)
        ]
        cpu = median_of(results[name], lambda r: r["server_cpu_ns_per_request"])
        speed = median_of(results[name], lambda r: r["requests_per_second"])
        p50, p99, p99_9 = (
            median_of(results[name], lambda r, key=key: r["latency_us"][key])
            for key in ("p50", "p99", "p99_9")
        )
        print(f"| {name} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
              f"| {cpu:.0f} | {speed:.0f} | {p50:.0f} | {p99:.0f} | {p99_9:.0f} |")
    sys.stdout.flush()


def count_system_calls(summary):
    total = 0
    for line in summary.splitlines():
        fields = line.split()
        if len(fields) >= 5 and re.fullmatch(r"[\d.]+", fields[0]) and fields[-1] != "total":
            total += int(fields[3])
    if total == 0:
        raise Failure("strace counted nothing:\n" + summary)
    return total


def count_instructions(summary):
    found = re.search(r"Collected\s*:\s*(\d+)", summary)
    if not found:
        raise Failure("callgrind counted nothing:\n" + summary)
    return int(found.group(1))


def print_costs(bench, title, program, wrapper, read_cost):
    if shutil.which(program) is None:
        print(f"\n{title}: {program} is not installed, left out")
        return
    print(f"\n### {title}, 10 x 64 B\n\n| server | {title} |\n|---|---|")
    for name in bench.arguments.servers:
        print(f"| {name} | {bench.cost_of_echoes(name, wrapper, read_cost):.2f} |")
        sys.stdout.flush()


def run_allocations(bench):
    program = bench.binaries / "allocations"
    if not program.exists():
        print("\nThe program allocations was not built, left out.")
        return True
    print("\n### Allocations and memory of fairlead\n\n```", flush=True)
    kept = subprocess.run([str(program)], timeout=150, check=False).returncode in (0, 77)
    print("```")
    return kept


def smoke(bench):
    """Every server in every scenario, briefly; any inexact echo raises."""
    bench.arguments.seconds, bench.arguments.warmup = 0.1, 0
    for scenario in SCENARIOS:
        for name in SERVERS:
            with Server(bench, name, scenario.tls) as server:
                result = bench.generate(server, scenario.options, 0.2, 0)
            print(f"{name}, {scenario.name}: {result['requests']} exact echoes")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Compares the echo servers of this folder.")
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help="where they were built")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="measured, for each run")
    parser.add_argument("--warmup", type=float, default=0.5)
    parser.add_argument("--servers", default="raw,asio,fairlead", help=f"of {','.join(SERVERS)}")
    parser.add_argument("--scenarios", default="", help="only those whose name contains this text")
    parser.add_argument("--syscalls", action="store_true", help="system calls per echo (strace)")
    parser.add_argument("--instructions", action="store_true",
                        help="user instructions per echo (valgrind)")
    parser.add_argument("--smoke", action="store_true", help="only see that everything works")
    arguments = parser.parse_args()
    arguments.servers = arguments.servers.split(",")
    unknown = set(arguments.servers) - set(SERVERS)
    if unknown:
        parser.error(f"unknown servers: {', '.join(sorted(unknown))}")
    if arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--rounds and --seconds must be positive")
    return arguments


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments, pathlib.Path(scratch))
        if arguments.smoke:
            smoke(bench)
            return 0
        print(f"{arguments.rounds} rounds of {arguments.seconds} s; "
              f"server on core {bench.server_core}, generator on core {bench.client_core}")
        for scenario in SCENARIOS:
            if arguments.scenarios in scenario.name:
                print_comparison(scenario, bench.compare(scenario))
        kept = run_allocations(bench)
        if arguments.syscalls:
            print_costs(bench, "system calls per echo", "strace", ("strace", "-c", "-f"),
                        count_system_calls)
        if arguments.instructions:
            wrapper = ("valgrind", "--tool=callgrind",
                       f"--callgrind-out-file={bench.scratch}/callgrind.%p")
            print_costs(bench, "user instructions per echo", "valgrind", wrapper,
                        count_instructions)
        return 0 if kept else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"report.py: {failure}")
