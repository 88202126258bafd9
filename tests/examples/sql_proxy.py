#!/usr/bin/env python3
"""sql_proxy between PostgreSQL and its own clients, psql and pgbench."""

import os
import re
import socket
import struct
import subprocess
import time

from example import Server, check, run, skip_without
from postgresql import Database, pgbench_command, psql, run_command

CLIENTS = 32
POOL = 8


def check_bench(words, expected):
    check(f"number of transactions actually processed: {expected}/{expected}" in words
          and "number of failed transactions: 0 " in words, words)


def pgbench(port, *arguments, transactions):
    done = run_command(*pgbench_command(port, "-n", "-c", str(CLIENTS), "-j", "2", "-t", str(transactions), *arguments),
                       environment={"PGSSLMODE": "disable"})
    check(done.returncode == 0, f"pgbench {arguments}: {done.stdout} {done.stderr}")
    check_bench(done.stdout, CLIENTS * transactions)


def check_books(database, expected):
    """Each transaction adds one amount to a teller, a branch and an account, and a line to the history."""
    sums = database.ask("select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from "
                        "pgbench_tellers), (select sum(bbalance) from pgbench_branches), sum(delta), count(*) "
                        "from pgbench_history").split("|")
    check(len(set(sums[:4])) == 1 and int(sums[4]) == expected, f"the books do not balance: {sums}, {expected}")


def check_transactions(program, database):
    with Server(program, f"127.0.0.1:{database.port}", str(POOL), "transaction") as server:
        done = run_command(*pgbench_command(server.port, "-i", "-s", "3", "-q"))  # also a large COPY
        check(done.returncode == 0, f"pgbench -i: {done.stderr}")
        pgbench(server.port, transactions=40)
        pgbench(server.port, "-M", "extended", transactions=40)
        check_books(database, 2 * CLIENTS * 40)
        pgbench(server.port, "-S", transactions=200)
        check(database.connections() == POOL, f"{CLIENTS} clients took {database.connections()} connections")

        check_words(server)
        check_half_close(server)
        # A pool whose connections were all closed by the database.
        database.ask("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() "
                     "and backend_type = 'client backend'")
        check(psql(server.port, "select 6 * 7").stdout == "42\n", "the pool hands out dead connections")
        # A transaction that was left open is rolled back, and not handed to the next client.
        database.ask("create table kept (number int)")
        psql(server.port, "begin", "insert into kept values (1)")
        check(psql(server.port, "select count(*) from kept").stdout == "0\n", "an open transaction went on")
        server.terminate()
        server.wait()
    check(database.connections() == 0, "connections to the database were left behind")


def check_words(server):
    done = psql(server.port, database="nowhere")
    check('FATAL:  database "nowhere" does not exist' in done.stderr, done.stderr)
    done = psql(server.port, "select 1/0", "select 'still here'")
    check("ERROR:  division by zero" in done.stderr and done.stdout == "still here\n", done.stderr + done.stdout)
    lines = "".join(f"{number}\n" for number in range(50_000))
    done = psql(server.port, text=f"create table numbers (n int);\ncopy numbers from stdin;\n{lines}\\.\n"
                f"copy numbers from stdin;\n{lines}no number\n{lines}\\.\nselect count(*), sum(n) from numbers;\n"
                "drop table numbers;\n")
    check("invalid input syntax for type integer" in done.stderr, done.stderr)
    check(done.stdout == "50000|1249975000\n", f"after a COPY that failed: {done.stdout}")
    text = "x" * 3_000_000
    done = psql(server.port, text=f"select length('{text}');\nselect repeat('y', 5000000);\n")
    check(done.stdout == "3000000\n" + "y" * 5_000_000 + "\n", f"large texts: {len(done.stdout)} bytes, {done.stderr}")
    done = psql(server.port, "select 1", tls="require")
    check("server does not support SSL" in done.stderr, done.stderr)


def check_half_close(server):
    """A client that has asked and finished still gets its answer."""
    with server.connect() as client:
        parameters = b"user\0postgres\0database\0postgres\0\0"
        client.sendall(struct.pack("!II", 8 + len(parameters), 3 << 16) + parameters)
        query = b"select 'late ' || 'answer' from pg_sleep(0.3)\0"
        client.sendall(b"Q" + struct.pack("!I", 4 + len(query)) + query)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while data := client.recv(1 << 16):
            answer += data
    check(b"late answer" in answer and answer.endswith(b"Z\0\0\0\5I"), f"after a half-close came {answer!r}")


def check_sessions(program, database):
    files = [os.path.join(database.directory, name) for name in ("proxy.pem", "proxy.key")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    with Server(program, f"127.0.0.1:{database.port}", "1", "session", *files) as server:
        done = psql(server.port, "set work_mem = '123kB'", "prepare kept as select 1", "show work_mem", tls="require")
        check(done.stdout == "123kB\n", f"over TLS: {done.stdout} {done.stderr}")
        done = psql(server.port, "show work_mem", "select count(*) from pg_prepared_statements")
        check(done.stdout == "4MB\n0\n", f"what a session has set is there in the next: {done.stdout}")
        check_half_close(server)
        check(database.connections() == 1, "the connection was not kept")
        done = psql(server.port, "select pg_terminate_backend(pg_backend_pid())")
        check("terminating connection due to administrator command" in done.stderr, done.stderr)
        check(psql(server.port, "select 6 * 7").stdout == "42\n", "a lost connection was not replaced")
        pgbench(server.port, "-S", "-C", "-j", str(CLIENTS), transactions=3)  # each waits for its turn
    with Server(program, f"127.0.0.1:{database.port}", str(CLIENTS), "session") as server:
        pgbench(server.port, "-S", "-M", "prepared", transactions=100)


def check_drain(program, database):
    """SIGTERM while transactions run: none fails, and a silent client is sent away."""
    before = int(database.ask("select count(*) from pgbench_history"))
    transactions = 200
    with Server(program, f"127.0.0.1:{database.port}", str(POOL), "transaction") as server:
        silent = subprocess.Popen(
            ["psql", "-X", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "postgres"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PGSSLMODE": "disable"})
        bench = subprocess.Popen(
            pgbench_command(server.port, "-n", "-c", str(CLIENTS), "-j", "2", "-t", str(transactions)),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PGSSLMODE": "disable"})
        try:
            while int(database.ask("select count(*) from pgbench_history")) < before + CLIENTS * 5:
                check(bench.poll() is None, "pgbench has ended early")
                time.sleep(0.02)
            server.terminate()
            check(bench.poll() is None, "pgbench was over before the drain")
            words = bench.communicate(timeout=100)[0]
            check(bench.returncode == 0, f"pgbench in a drain: {words}")
            check_bench(words, CLIENTS * transactions)
            check_books(database, before + CLIENTS * transactions)
            last = server.wait()
            check(" 0 cut off" in last, last)
            words = silent.communicate(input="select 1;\n", timeout=20)[0]
            check("terminating connection due to administrator command" in words, f"a silent client was told {words}")
        finally:
            for process in (silent, bench):
                if process.poll() is None:
                    process.kill()
                    process.wait()


def check_arguments(program):
    for arguments, words in ((["5432"], "'5432' is no database"), (["127.0.0.1:5432", "0"], "'0' connections"),
                             (["127.0.0.1:5432", "1", "statement"], "'statement' is no way to pool")):
        done = run_command(program, "127.0.0.1:0", *arguments)
        check(done.returncode == 1 and re.search(words, done.stderr), f"{arguments}: {done.stderr}")


def test(program):
    skip_without("psql", "pgbench", "openssl")
    check_arguments(program)
    with Database() as database:
        check_transactions(program, database)
        check_sessions(program, database)
        check_drain(program, database)


run(test)
