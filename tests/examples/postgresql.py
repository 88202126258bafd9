"""A PostgreSQL of one's own, and its clients."""

import glob
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile

from example import check


def run_command(*command, environment=None, text=None):
    return subprocess.run(command, env={**os.environ, **(environment or {})}, input=text, capture_output=True,
                          text=True, timeout=100, check=False)


class Database:
    """A PostgreSQL of one's own, which trusts everybody on 127.0.0.1."""

    def __init__(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb")) or [shutil.which("initdb")]
        if not found[-1]:
            print("skipped: PostgreSQL's server is not installed")
            sys.exit(77)
        self.programs = os.path.dirname(found[-1])
        self.directory = tempfile.mkdtemp(prefix="sql_proxy.")
        self.user = []
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            self.user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.data = os.path.join(self.directory, "data")
        self.control("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "--no-sync")
        options = (f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off "
                   "-c synchronous_commit=off -c max_connections=100")
        self.control("pg_ctl", "-D", self.data, "-l", os.path.join(self.directory, "log"), "-w", "-o", options, "start")

    def control(self, program, *arguments):
        done = subprocess.run([*self.user, os.path.join(self.programs, program), *arguments], cwd=self.directory,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100, check=False)
        check(done.returncode == 0, f"{program}: {done.stdout}")

    def ask(self, query):
        done = psql(self.port, query)
        check(done.returncode == 0, f"{query}: {done.stderr}")
        return done.stdout.strip()

    def connections(self):
        """Those of clients, without the one that asks."""
        return int(self.ask("select count(*) - 1 from pg_stat_activity where backend_type = 'client backend'"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run([*self.user, os.path.join(self.programs, "pg_ctl"), "-D", self.data, "-m", "immediate", "stop"],
                       cwd=self.directory, stdout=subprocess.DEVNULL, timeout=100, check=False)
        shutil.rmtree(self.directory)


def psql(port, *queries, database="postgres", text=None, tls="disable"):
    commands = [part for query in queries for part in ("-c", query)]
    return run_command("psql", "-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", *commands,
                       database, environment={"PGSSLMODE": tls}, text=text)


def pgbench_command(port, *arguments):
    return ["pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", *arguments, "postgres"]
