#!/usr/bin/env python3
"""ws_like, driven by a client that knows only its frames: ping and pong, rooms, the close handshake, a drain."""

import socket
import struct

from example import Server, check, run


class Client:
    def __init__(self, server, receive_buffer=0):
        self.socket = server.connect(receive_buffer)
        self.stream = self.socket.makefile("rb")

    def send(self, opcode, data=b""):
        self.socket.sendall(struct.pack(">H", 1 + len(data)) + opcode + data)

    def receive(self):
        header = self.stream.read(2)
        if not header:
            return None
        body = self.stream.read(*struct.unpack(">H", header))
        return body[:1], body[1:]

    def expect(self, opcode, data):
        got = self.receive()
        check(got == (opcode, data), f"expected {opcode} {data!r}, got {got}")

    def sync(self):
        """What was sent before has been seen."""
        self.send(b"p", b"sync")
        self.expect(b"o", b"sync")


def close_data(code, text=b""):
    return struct.pack(">H", code) + text


def test(program):
    with Server(program) as server:
        # ping and pong, of every size a frame can have
        one = Client(server)
        for size in (0, 1, 125, 126, 16383):
            one.send(b"p", b"x" * size)
            one.expect(b"o", b"x" * size)

        # rooms: everybody in the room hears, the speaker too, and nobody else
        two, three, outsider = Client(server), Client(server), Client(server)
        for client, room in ((one, b"blue"), (two, b"blue"), (three, b"red")):
            client.send(b"j", room)
            client.sync()
        outsider.sync()
        two.send(b"t", b"hello blue")
        one.expect(b"t", b"hello blue")
        two.expect(b"t", b"hello blue")
        three.send(b"t", b"hello red")
        three.expect(b"t", b"hello red")
        one.send(b"l")
        one.sync()
        two.send(b"t", b"again")
        two.expect(b"t", b"again")
        one.sync()  # nothing but the pong
        one.send(b"j", b"red")
        one.sync()
        three.send(b"t", b"welcome")
        one.expect(b"t", b"welcome")
        three.expect(b"t", b"welcome")

        # frames in pieces, and many at once
        frame = struct.pack(">H", 5) + b"pabcd"
        for byte in frame:
            one.socket.sendall(bytes([byte]))
        one.expect(b"o", b"abcd")
        one.socket.sendall(frame * 1000)
        for _ in range(1000):
            one.expect(b"o", b"abcd")

        # the close handshake, by the client
        two.send(b"c", close_data(1000, b"bye"))
        two.expect(b"c", close_data(1000, b"bye"))
        check(two.receive() is None, "something follows the close")

        # refusals
        for opcode, data, code in ((b"?", b"", 1002), (b"t", b"to nobody", 1008)):
            client = Client(server)
            client.send(opcode, data)
            opcode, data = client.receive()
            check(opcode == b"c" and data[:2] == close_data(code), f"refused with {opcode}{data}")
            check(client.receive() is None, "something follows the refusal")

        # a frame above the limit
        client = Client(server)
        client.socket.sendall(struct.pack(">H", 16385))
        client.socket.shutdown(socket.SHUT_WR)
        check(client.receive() is None, "a frame above the limit was answered")

        # one who does not read is dropped, and the others hear everything
        deaf = Client(server, receive_buffer=4096)
        deaf.send(b"j", b"red")
        text = b"x" * 16000
        count = 1500  # 24 MB: more than kernel and queue hold
        for number in range(count):
            three.send(b"t", text + struct.pack(">H", number))
            for client in (one, three):
                client.expect(b"t", text + struct.pack(">H", number))
        # a drain says goodbye to everybody, and waits for the answer
        server.terminate()
        for client in (one, three, outsider):
            client.expect(b"c", close_data(1001, b"the server stops"))
            client.send(b"c", close_data(1001))
            check(client.receive() is None, "something follows the goodbye")
        words = server.wait()
        check(" 0 cut off" in words, f"not everybody left in order: {words}")


run(test)
