#!/usr/bin/env python3
"""The examples under the load generators of those whose protocol they speak.

    python3 benchmarks/clients.py build/release/examples [--rounds 5] [--requests 200000] [--seconds 5]

redis-benchmark against redis-server and kv_store, pgbench against PostgreSQL directly and through sql_proxy. The two
of a pair take turns within a round; each figure is the median over the rounds of the ratio inside a round, with the
lowest and the highest. Needs redis-server, redis-tools and postgresql (Debian's names).
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "examples"))
sys.dont_write_bytecode = True

from example import Server  # noqa: E402
from postgresql import Database, pgbench_command  # noqa: E402

REDIS_TESTS = "ping,set,get,incr,mset"


class RedisServer:
    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.directory = tempfile.mkdtemp(prefix="redis.")
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", self.directory], stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)
        sys.exit("redis-server does not answer")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory)


def redis_benchmark(port, requests):
    """Requests per second by test."""
    done = subprocess.run(
        ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", REDIS_TESTS, "-P", "16", "-n", str(requests),
         "-q"], capture_output=True, text=True, check=True)
    return {name: float(rate) for name, rate in
            re.findall(r"^(\w+)[^:\n]*: ([0-9.]+) requests per second", done.stdout.replace("\r", "\n"), re.MULTILINE)}


def pgbench(port, seconds, mode):
    """Transactions per second; none may fail."""
    done = subprocess.run(
        pgbench_command(port, "-n", "-c", "32", "-j", "2", "-T", str(seconds), *mode),
        capture_output=True, text=True, check=True, env={**os.environ, "PGSSLMODE": "disable"})
    if "number of failed transactions: 0 " not in done.stdout:
        sys.exit(done.stdout)
    return float(re.search(r"tps = ([0-9.]+)", done.stdout).group(1))


def head(name, other, ours):
    print(f"\n{name:42}{other:>14}{ours:>12}{'ratio':>9}")


def report(name, pairs):
    """`pairs`: of each round, the other's figure and ours."""
    ratios = [ours / other for other, ours in pairs]
    print(f"{name:42}{statistics.median(p[0] for p in pairs):>14.0f}{statistics.median(p[1] for p in pairs):>12.0f}"
          f"{statistics.median(ratios):>9.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")


def measure_redis(examples, rounds, requests):
    head(f"redis-benchmark -P 16 -n {requests}, 1 thread", "redis-server", "kv_store")
    results = {}
    with RedisServer() as redis, Server(os.path.join(examples, "kv_store"), "--threads", "1") as ours:
        for turn in range(rounds):
            figures = {}
            for port in (redis.port, ours.port) if turn % 2 == 0 else (ours.port, redis.port):
                figures[port] = redis_benchmark(port, requests)
            for name in figures[redis.port]:
                results.setdefault(name, []).append((figures[redis.port][name], figures[ours.port][name]))
    for name, pairs in results.items():
        report(name, pairs)


def measure_postgresql(examples, rounds, seconds):
    head(f"pgbench, 32 clients, {seconds} s", "direct", "sql_proxy")
    with Database() as database:
        database.ask("select 1")
        subprocess.run(pgbench_command(database.port, "-i", "-s", "10", "-q"), check=True, capture_output=True)
        for connections, pooling in (("8", "transaction"), ("32", "session")):
            with Server(os.path.join(examples, "sql_proxy"), f"127.0.0.1:{database.port}", connections,
                        pooling) as proxy:
                for name, mode in (("TPC-B", []), ("select only", ["-S"])):
                    pairs = []
                    for turn in range(rounds):
                        figures = {}
                        ports = (database.port, proxy.port)
                        for port in ports if turn % 2 == 0 else reversed(ports):
                            figures[port] = pgbench(port, seconds, mode)
                        pairs.append((figures[database.port], figures[proxy.port]))
                    report(f"{name}, {connections} connections per {pooling}", pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", help="folder of the built examples")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    measure_redis(options.examples, options.rounds, options.requests)
    measure_postgresql(options.examples, options.rounds, options.seconds)


main()
