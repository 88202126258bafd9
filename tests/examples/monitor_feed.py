#!/usr/bin/env python3
"""monitor_feed, with subscribers some of which never read: the others get every reading, in order."""

import re
import selectors

from example import Server, check, run

READERS = 100
SLEEPERS = 10
READINGS = 700  # of 1 KB each: a sleeper's kernel and queue hold less than half of it


class Reader:
    def __init__(self, server):
        self.socket = server.connect()
        self.socket.setblocking(False)
        self.rest = b""
        self.first = self.last = None

    def read(self):
        data = self.socket.recv(1 << 16)
        check(data, "a reader's stream has ended")
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            check(line.startswith(b"reading "), f"a reader got {line[:40]!r}")
            number = int(line.split(b" ", 2)[1])
            check(self.last is None or number == self.last + 1,
                  f"{number} follows {self.last}: a reader was slowed down")
            self.first = number if self.first is None else self.first
            self.last = number


def feed(server):
    """Until every reader has seen so many readings."""
    readers = [Reader(server) for _ in range(READERS)]
    with selectors.DefaultSelector() as ready:
        for reader in readers:
            ready.register(reader.socket, selectors.EVENT_READ, reader)
        while any(r.last is None or r.last - r.first < READINGS for r in readers):
            events = ready.select(timeout=10)
            check(events, "nothing comes")
            for key, _ in events:
                key.data.read()
    return readers


def total(words, name):
    return int(re.search(name + r"=(\d+)", words).group(1))


def test(program):
    with Server(program, "thin", "5") as server:
        sleepers = [server.connect(receive_buffer=4096) for _ in range(SLEEPERS)]
        readers = feed(server)
        # A sleeper that wakes up hears how much it has missed, and goes on.
        stream = sleepers[0].makefile("rb")
        number, missed = 0, 0
        while not missed:
            line = stream.readline()
            if line.startswith(b"missed "):
                missed = int(line.split()[1])
            else:
                number = int(line.split(b" ", 2)[1])
        following = int(stream.readline().split(b" ", 2)[1])
        check(following == number + missed + 1,
              f"{following} follows {number}, and {missed} were said to be missing")
        server.terminate()
        for reader in readers:
            reader.socket.close()
        for sleeper in sleepers:
            sleeper.close()
        words = server.wait()
        check(total(words, "thinned") > 0 and total(words, "dropped") == 0, f"thin: {words}")

    with Server(program, "drop", "5") as server:
        sleepers = [server.connect(receive_buffer=4096) for _ in range(SLEEPERS)]
        readers = feed(server)
        for sleeper in sleepers:
            try:
                while sleeper.recv(1 << 16):
                    pass
                check(False, "a sleeper was not dropped, but served to the end")
            except ConnectionResetError:
                pass
        server.terminate()
        for reader in readers:
            reader.socket.close()
        words = server.wait()
        check(total(words, "dropped") == SLEEPERS, f"drop: {words}")


run(test)
