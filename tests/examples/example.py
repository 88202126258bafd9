"""What the proofs of the examples share: a server of one's own, and an end that is always reached."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time


class Failure(Exception):
    """What did not hold."""


def check(holds, what):
    if not holds:
        raise Failure(what)


def skip_without(*tools):
    """Ends the test as skipped when a tool is absent."""
    for tool in tools:
        if not shutil.which(tool):
            print(f"skipped: {tool} is not installed")
            sys.exit(77)


class Server:
    """An example on a free port of 127.0.0.1, ended by its pid."""

    def __init__(self, program, *arguments, address="127.0.0.1:0"):
        self.process = subprocess.Popen(
            [program, address, *arguments], stdout=subprocess.PIPE, text=True)
        self.lines = []
        self.port = None
        listens = threading.Event()

        def listen():  # all the time: a server whose words nobody takes stands still
            for line in self.process.stdout:
                self.lines.append(line)
                found = re.search(r"listening on \S+:(\d+)$", line.strip())
                if found and not self.port:
                    self.port = int(found.group(1))
                    listens.set()
            listens.set()

        self.listener = threading.Thread(target=listen, daemon=True)
        self.listener.start()
        if not listens.wait(20) or not self.port:
            raise Failure(f"{program} does not listen: {''.join(self.lines)!r}")

    def connect(self, receive_buffer=0):
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port))
        return client

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        """All its words, after SIGTERM; it must end in order."""
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            raise Failure(f"it does not end: {''.join(self.lines[-5:])}") from None
        self.listener.join()
        words = "".join(self.lines)
        check(self.process.returncode == 0, f"exit code {self.process.returncode}: {words}")
        return words

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.listener.join()
        self.process.stdout.close()


def run(test):
    """Runs `test(program)`; the exit code says whether all held."""
    if "-h" in sys.argv or "--help" in sys.argv:
        print(f"{sys.modules['__main__'].__doc__}\n\nusage: {sys.argv[0]} PROGRAM")
        sys.exit(0)
    if len(sys.argv) != 2 or not os.access(sys.argv[1], os.X_OK):
        sys.exit(f"usage: {sys.argv[0]} PROGRAM")
    started = time.monotonic()
    try:
        test(sys.argv[1])
    except Failure as failure:
        sys.exit(f"FAILED: {failure}")
    print(f"all held ({time.monotonic() - started:.1f} s)")
