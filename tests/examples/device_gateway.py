#!/usr/bin/env python3
"""device_gateway, driven by devices that send a million messages while it is drained, killed and started again; and
by some that do not keep to the protocol. What it has stored is read from its journal."""

import os
import select
import struct
import tempfile
import threading

from example import Failure, Server, check, run

DEVICES = 8
MESSAGES = 125_000  # of each
MALFORMED, VERSION, ID, TOO_MANY, GAP, REPLACED, NOT_STORED = range(1, 8)


def frame(body):
    return struct.pack(">I", len(body)) + body


def hello(name, lowest=1, highest=1):
    return frame(b"H" + bytes([lowest, highest]) + name)


def data(number, payload=b""):
    return frame(b"D" + struct.pack(">Q", number) + payload)


def record(name, number, payload=b""):
    return frame(struct.pack(">QB", number, len(name)) + name + payload)


def number_in(body):
    return struct.unpack_from(">Q", body)[0]


class Client:
    def __init__(self, server, name=None):
        self.socket = server.connect()
        self.stream = self.socket.makefile("rb")
        if name is not None:
            self.socket.sendall(hello(name))
            kind, body = self.receive() or (None, b"")
            check(kind == b"W" and body[0] == 1 and len(body) == 9, f"welcomed with {kind} {body}")
            self.stored = number_in(body[1:])

    def send(self, *frames):
        self.socket.sendall(b"".join(frames))
        return self

    def receive(self):
        """A type and data; None when nothing follows."""
        try:
            header = self.stream.read(4)
            if not header:
                return None
            body = self.stream.read(*struct.unpack(">I", header))
        except ConnectionError:
            return None
        return body[:1], body[1:]

    def expect_ack(self, number):
        """Perhaps after lower ones. Returns how many came."""
        for count in range(1, number + 2):
            kind, body = self.receive() or (None, b"")
            check(kind == b"A", f"not acknowledged, but {kind} {body}")
            if number_in(body) == number:
                return count
        raise Failure(f"number {number} is not acknowledged")

    def expect_end(self, kind, why):
        got = self.receive()
        check(got and got[0] == kind and got[1][:1] == bytes([why]), f"expected {kind} {why}, got {got}")
        check(self.receive() is None, "something follows the last word")

    def close(self):
        self.stream.close()
        self.socket.close()


class Device:
    """Sends all it has, from where the gateway says, as fast as it can."""

    def __init__(self, number):
        self.name = b"device-%d" % number
        padding = b"." * number
        pack = struct.Struct(">IcQQ").pack
        self.stream = memoryview(b"".join(
            pack(17 + number, b"D", n, n * 0x9E3779B97F4A7C15 + number & 2**64 - 1) + padding
            for n in range(1, MESSAGES + 1)))
        self.size = 21 + number  # of a frame
        self.acked = 0
        self.sent_home = False

    def payload(self, number):
        return self.stream[(number - 1) * self.size + 13:number * self.size]

    def work(self, server, exact, progress):
        self.sent_home = False
        client = Client(server, self.name)
        check(client.stored >= self.acked, f"{self.acked} were acknowledged, {client.stored} are stored")
        check(not exact or client.stored == self.acked, f"{client.stored} stored, {self.acked} acknowledged")
        self.acked = client.stored
        rest = self.stream[client.stored * self.size:] if client.stored < MESSAGES else frame(b"B")
        received = b""
        client.socket.setblocking(False)
        while True:
            readable, writable, _ = select.select([client.socket], [client.socket] if rest else [], [], 30)
            check(readable or writable, f"{self.name} hears nothing")
            try:
                if writable:
                    rest = rest[client.socket.send(rest[:1 << 16]):]
                got = client.socket.recv(1 << 16) if readable else None
            except ConnectionError:
                break
            if got == b"":
                break
            received += got or b""
            while len(received) >= 4 and len(received) >= 4 + int.from_bytes(received[:4], "big"):
                end = 4 + int.from_bytes(received[:4], "big")
                kind, body, received = received[4:5], received[5:end], received[end:]
                if kind == b"A":
                    check(self.acked < number_in(body) <= MESSAGES, "an acknowledgement goes back")
                    self.acked = number_in(body)
                    progress()
                    if self.acked == MESSAGES:
                        rest = frame(b"B")
                elif kind == b"G":
                    self.sent_home, rest = True, b""
                else:
                    check(kind == b"B" and self.acked == MESSAGES, f"{self.name} was sent {kind} {body}")
        client.close()


class Journal:
    """Reads on where it has read to, and holds every message against what was sent."""

    def __init__(self, path, devices):
        self.path = path
        self.devices = {device.name: device for device in devices}
        self.stored = dict.fromkeys(self.devices, 0)
        self.offset = 0

    def verify(self, may_be_torn=False):
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            content = memoryview(file.read())
        place = 0
        while place + 4 <= len(content):
            end = place + 4 + int.from_bytes(content[place:place + 4], "big")
            if end > len(content):
                break
            number, size = struct.unpack_from(">QB", content, place + 4)
            name = bytes(content[place + 13:place + 13 + size])
            check(number == self.stored[name] + 1, f"{name} {number} follows {self.stored[name]}")
            check(content[place + 13 + size:end] == self.devices[name].payload(number), f"{name} {number}: payload")
            self.stored[name] = number
            place = end
        check(place == len(content) or may_be_torn, "the journal's end is torn")
        self.offset += place
        for name, device in self.devices.items():
            check(device.acked <= self.stored[name], f"{name}: {device.acked} acknowledged, {self.stored[name]} stored")


def work_until(server, devices, enough, end, exact=True):
    """All devices at once; `end` is called when so many messages are acknowledged."""
    reached = threading.Event()
    failures = []

    def progress():
        if sum(device.acked for device in devices) >= enough:
            reached.set()

    def work(device):
        try:
            device.work(server, exact, progress)
        except Exception as failure:  # of any kind: the thread must not take it along
            failures.append(failure)
            reached.set()

    threads = [threading.Thread(target=work, args=[device]) for device in devices]
    for thread in threads:
        thread.start()
    check(reached.wait(90), "the devices do not get on")
    end()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def a_million_messages(program, path):
    devices = [Device(number) for number in range(DEVICES)]
    journal = Journal(path, devices)
    total = DEVICES * MESSAGES
    with Server(program, path) as server:
        work_until(server, devices, total * 3 // 10, server.terminate)
        words = server.wait()
        check(" 0 cut off" in words, f"not everybody left in order: {words}")
        check(any(device.sent_home for device in devices), "nobody was at work when the drain began")
        for device in devices:
            check(device.sent_home or device.acked == MESSAGES, f"{device.name} was not told to go")
        journal.verify()
        address = f"127.0.0.1:{server.port}"
    with Server(program, path, address=address) as server:  # what is acknowledged is what is stored
        work_until(server, devices, total * 6 // 10, server.process.kill)
        server.process.wait()
        journal.verify(may_be_torn=True)
    with Server(program, path, address=address) as server:  # more may be stored than was acknowledged
        work_until(server, devices, total, lambda: None, exact=False)
        server.terminate()
        server.wait()
    journal.verify()
    check(all(stored == MESSAGES for stored in journal.stored.values()), f"stored: {journal.stored}")


def resident(server):
    with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def refusals(server):
    for lowest, highest in ((2, 255), (0, 0), (255, 255)):
        Client(server).send(hello(b"new", lowest, highest)).expect_end(b"R", VERSION)
    for name in (b"", b"x" * 65, b"a b", b"\xff", b"a\0"):
        Client(server).send(hello(name)).expect_end(b"R", ID)
    for first in (data(1), frame(b""), frame(b"H\1")):
        Client(server).send(first).expect_end(b"R", MALFORMED)
    for bad in (b"D1234567", b"?", b""):
        Client(server, b"odd").send(frame(bad)).expect_end(b"E", MALFORMED)
    before = resident(server)
    for length in (b"\xff\xff\xff\xff", struct.pack(">I", 1 + 8 + 4096 + 1), b"GET "):
        for _ in range(20):
            Client(server, b"odd").send(length).expect_end(b"E", MALFORMED)
    check(resident(server) - before < 64 << 20, f"grew by {resident(server) - before} bytes")
    cut = Client(server, b"odd").send(data(1)[:-1])
    cut.socket.shutdown(1)
    cut.expect_end(b"E", MALFORMED)


def sequences(server, path):
    client = Client(server, b"one")
    check(client.stored == 0, "a new device has something stored")
    count = client.send(*(data(n, b"%d" % n) for n in range(1, 101))).expect_ack(100)
    check(count < 50, f"{count} acknowledgements for what came together")
    size = os.path.getsize(path)
    client.send(data(100, b"other"), data(1), data(0)).expect_ack(100)
    client.send(data(57)).expect_ack(100)
    check(os.path.getsize(path) == size, "a duplicate was stored")
    client.send(data(101), data(103), data(102))
    client.expect_ack(101)
    client.expect_end(b"E", GAP)
    client = Client(server, b"one")
    check(client.stored == 101, f"{client.stored} stored before the gap, not 101")
    client.send(data(2**64 - 1)).expect_end(b"E", GAP)
    client = Client(server, b"one")
    client.send(data(102, b"x" * 4096), frame(b"B"), data(103)).expect_ack(102)
    check(client.receive() == (b"B", b"") and client.receive() is None, "bye is not answered by bye")
    with open(path, "rb") as file:
        content = file.read()
    check(content.count(record(b"one", 100, b"100")) == 1, "number 100 is not stored once")
    check(content.endswith(record(b"one", 102, b"x" * 4096)), "what follows bye was stored, or the last was not")


def newer_sessions(server):
    sessions = [Client(server, b"twice")]
    for number in range(1, 31):  # on whichever thread
        sessions[-1].send(data(number)).expect_ack(number)
        sessions.append(Client(server, b"twice"))
        check(sessions[-1].stored == number, f"{sessions[-1].stored} stored, not {number}")
        if number % 2 == 0:  # the older one says something, and is not heard
            sessions[-2].send(data(number), data(number + 1, b"stale"))
        got = sessions[-2].receive()
        check(got and got[0] == b"E" and got[1][0] == REPLACED, f"the older session was sent {got}")
    for session in sessions[:-1]:
        check(session.receive() is None, "the older session goes on")
    sessions[-1].send(data(31)).expect_ack(31)


def racing_sessions(server, path):
    """The older session's messages arrive while the newer one begins: none may be stored after its welcome."""
    older = Client(server, b"race")
    for _ in range(200):
        newer = Client(server)
        burst = [data(older.stored + n, b"older") for n in range(1, 200)]
        older.send(*burst[:100])
        newer.send(hello(b"race"))
        try:
            older.send(*burst[100:])
        except ConnectionError:
            pass
        kind, body = newer.receive() or (None, b"")
        check(kind == b"W", f"welcomed with {kind} {body}")
        newer.stored = number_in(body[1:])
        newer.stored += 1
        newer.send(data(newer.stored, b"newer")).expect_ack(newer.stored)
        older.close()
        older = newer
    with open(path, "rb") as file:
        content = file.read()
    place = last = 0
    while place < len(content):
        size, number = struct.unpack_from(">IQ", content, place)
        if content[place + 13:place + 17] == b"race":
            check(number == last + 1, f"{number} follows {last}: two sessions have stored")
            last = number
        place += 4 + size
    check(last == older.stored, f"{last} stored, {older.stored} acknowledged")


def a_torn_record(program, path):
    with Server(program, path) as server:
        Client(server, b"torn").send(data(1, b"whole")).expect_ack(1)
        try:
            with Server(program, path):
                raise RuntimeError("two gateways have one journal")
        except Failure:  # it did not start
            pass
        server.terminate()
        server.wait()
    size = os.path.getsize(path)
    for kept in (1, 4, 5, len(record(b"torn", 2)) - 1):
        with open(path, "ab") as file:
            file.write(record(b"torn", 2)[:kept])
        with Server(program, path) as server:
            check(os.path.getsize(path) == size, f"{kept} bytes of a torn record are still there")
            check(Client(server, b"torn").stored == 1, "a torn record counts, or one before it does not")
    with Server(program, path) as server:
        Client(server, b"torn").send(data(2)).expect_ack(2)
    with open(path, "ab") as file:
        file.write(record(b"torn", 4))  # not torn, but wrong
    try:
        with Server(program, path):
            raise RuntimeError("a damaged journal is taken")
    except Failure:
        pass


def a_full_disk(program, folder):
    """The limit of a file's size stands for it: a write fails, and half of it is done."""
    path = os.path.join(folder, "full")
    limited = os.path.join(folder, "limited.sh")
    with open(limited, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\ntrap '' XFSZ\nulimit -f 16\nexec '{program}' \"$@\"\n")
    os.chmod(limited, 0o700)
    payload = b"x" * 1000
    with Server(limited, path) as server:
        for _ in range(2):  # it goes on, and so does the failure
            client = Client(server, b"full")
            acked = client.stored + 1
            client.send(data(acked)).expect_ack(acked)  # this one has room, where the half of another was
            got = client.send(data(acked + 1, payload)).receive()
            while got[0] == b"A" and acked < 100:
                acked += 1
                check(number_in(got[1]) == acked, "another number is acknowledged")
                got = client.send(data(acked + 1, payload)).receive()
            check(got == (b"E", bytes([NOT_STORED]) + got[1][1:]), f"a full disk was answered with {got}")
            check(client.receive() is None, "the session goes on without a journal")
        check(0 < acked < 100, f"{acked} acknowledged")
        server.terminate()
        check("File too large" in server.wait(), "on_error was not told")
    with Server(program, path) as server:
        client = Client(server, b"full")
        check(client.stored == acked, f"{client.stored} stored, {acked} acknowledged")
        client.send(data(acked + 1)).expect_ack(acked + 1)


def too_many_devices(program, path):
    with open(path, "wb") as file:
        file.writelines(record(b"%d" % number, 1) for number in range(10_000))
    with Server(program, path, "sync") as server:
        Client(server).send(hello(b"new")).expect_end(b"R", TOO_MANY)
        client = Client(server, b"9999")
        check(client.stored == 1, "a device is forgotten")
        client.send(data(2)).expect_ack(2)


def test(program):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "protocol")
        with Server(program, path) as server:
            refusals(server)
            sequences(server, path)
            newer_sessions(server)
            with open(path, "rb") as file:
                check(b"stale" not in file.read(), "an older session's message is stored")
            racing_sessions(server, path)
            idle = Client(server, b"idle")
            silent = Client(server)
            server.terminate()
            for client in (idle, silent):
                check(client.receive() == (b"G", b"") and client.receive() is None, "not told of the drain")
            server.wait()
        a_torn_record(program, os.path.join(folder, "torn"))
        a_full_disk(program, folder)
        too_many_devices(program, os.path.join(folder, "many"))
        a_million_messages(program, os.path.join(folder, "million"))


run(test)
