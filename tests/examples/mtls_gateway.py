#!/usr/bin/env python3
"""mtls_gateway, driven by curl and openssl s_client, with HTTP backends that are Python's."""

import http.server
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time

from example import Server, check, run, skip_without


class Backend(http.server.ThreadingHTTPServer):
    """Says its name and what it was sent; /slow waits until it is told to go on."""

    def __init__(self, name):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        self.asked = threading.Event()
        self.goes_on = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """A drain resets a connection that is kept alive for nothing."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            self.server.asked.set()
            self.server.goes_on.wait(20)
        self.answer(f"{self.server.name} GET {self.path}")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(f"{self.server.name} POST {len(body)} {sum(body)}")

    def answer(self, text):
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_authority(name):
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.pem")


def make_client(name, authority, subject, alternative_names=""):
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", subject,
            "-keyout", f"{name}.key", "-out", f"{name}.csr")
    with open(f"{name}.ext", "w", encoding="ascii") as file:
        file.write(f"subjectAltName={alternative_names}\n" if alternative_names else "")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
            "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")


def make_certificates():
    make_authority("clients")
    make_authority("strangers")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=gateway",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", "gateway.key", "-out", "gateway.pem")
    make_client("alice", "clients", "/O=Example/CN=alice")
    make_client("bob", "clients", "/CN=alice", "DNS:bob.example")  # its name counts, not its CN
    make_client("carol", "clients", "/CN=carol")
    make_client("dave", "clients", "/CN=dave")
    make_client("forger", "clients", "/CN=mallory,CN=alice")  # one name with a comma inside
    make_client("twin", "clients", "/CN=mallory/CN=alice")
    make_client("alice_of_strangers", "strangers", "/O=Example/CN=alice")


def curl(server, client, path, *arguments):
    """Its output and the HTTP status; empty and 000 when there was no answer."""
    certificate = ["--cert", f"{client}.pem", "--key", f"{client}.key"] if client else []
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30", "--cacert", "gateway.pem",
         *certificate, "--write-out", "\n%{http_code}", f"https://localhost:{server.port}{path}", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    body, _, status = done.stdout.rpartition("\n")
    return body, status, done.stderr


def s_client(server, client, *arguments, text=""):
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"localhost:{server.port}", "-CAfile", "gateway.pem",
         "-verify_return_error", "-cert", f"{client}.pem", "-key", f"{client}.key", *arguments],
        input=text, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def check_routes(server):
    for client, backend in (("alice", "first"), ("bob", "second")):
        body, status, error = curl(server, client, "/x")
        check((body, status) == (f"{backend} GET /x", "200"), f"{client} got {body!r} {status} {error}")
        # Several requests on one connection, and a body that does not fit into one read.
        data = bytes(range(256)) * 4000
        with open("data", "wb") as file:
            file.write(data)
        body, status, error = curl(server, client, "/", "--data-binary", "@data",
                                   f"https://localhost:{server.port}/")
        check(body.count(f"{backend} POST {len(data)} {sum(data)}") == 2,
              f"{client} posted twice and got {body!r} {status} {error}")
    for client in ("carol", "forger", "twin"):
        body, status, error = curl(server, client, "/")
        check((body, status) == ("403 Forbidden\n", "403"), f"{client} got {body!r} {status} {error}")
    body, status, error = curl(server, "dave", "/")
    check((body, status) == ("502 Bad Gateway\n", "502"), f"dave got {body!r} {status} {error}")
    for client in ("alice_of_strangers", None):
        body, status, error = curl(server, client, "/")
        check((body, status) == ("", "000"), f"{client} was let in: {body!r} {status} {error}")


def check_protocols(server):
    words = s_client(server, "alice", "-alpn", "whoami/1", "-quiet", "-ign_eof")
    check('subject "CN=alice,O=Example", identity "alice", backend 127.0.0.1:' in words, words)
    words = s_client(server, "carol", "-alpn", "whoami/1", "-quiet", "-ign_eof")
    check('subject "CN=carol", identity unknown, no backend' in words, words)
    words = s_client(server, "alice", "-alpn", "h2,http/1.1", "-ign_eof",
                     text="GET /s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    check("ALPN protocol: http/1.1" in words and "first GET /s" in words, words)
    words = s_client(server, "alice", "-alpn", "h2")
    check("no application protocol" in words, words)


def check_half_close(server, listener):
    """A client that has finished still gets its answer, which the backend gives at the end only."""
    def count():
        peer, _ = listener.accept()
        total = 0
        while data := peer.recv(1 << 16):
            total += len(data)
        peer.sendall(f"{total} bytes".encode())
        peer.close()

    backend = threading.Thread(target=count, daemon=True)
    backend.start()
    context = ssl.create_default_context(cafile="gateway.pem")
    context.load_cert_chain("carol.pem", "carol.key")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with server.connect() as client:

        def transfer(operation):
            while True:
                try:
                    result = operation()
                    client.sendall(outgoing.read())
                    return result
                except ssl.SSLWantReadError:
                    client.sendall(outgoing.read())
                    data = client.recv(1 << 16)
                    if not data:
                        incoming.write_eof()
                    incoming.write(data)

        transfer(tls.do_handshake)
        transfer(lambda: tls.write(b"x" * 100_000))
        try:
            tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # close_notify is in `outgoing`; the gateway's is still to come
        answer = b""
        while b"bytes" not in answer:
            answer += transfer(lambda: tls.read(1000))
        check(answer == b"100000 bytes", f"after the half-close came {answer!r}")
    backend.join(20)
    check(not backend.is_alive(), "the backend was not told that the client has finished")


def check_drain(server, backend):
    """The answer under way arrives; a connection that is silent does not hold the drain up."""
    answers = []
    slow = threading.Thread(target=lambda: answers.append(curl(server, "alice", "/slow")))
    slow.start()
    check(backend.asked.wait(20), "the slow request did not reach its backend")
    context = ssl.create_default_context(cafile="gateway.pem")
    context.load_cert_chain("alice.pem", "alice.key")
    with context.wrap_socket(server.connect(), server_hostname="localhost") as silent:
        silent.sendall(b"GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n")
        check(b"200 OK" in silent.recv(1000), "the keep-alive connection was not served")
        server.terminate()
        while not refuses(server):
            time.sleep(0.02)
        backend.goes_on.set()
        slow.join(30)
        check(answers and answers[0][:2] == ("first GET /slow", "200"), f"in the drain came {answers}")
        words = server.wait()
        check(" 0 cut off" in words, words)


def refuses(server):
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # it was in the listener's queue
    return False


def test(program):
    skip_without("openssl", "curl")
    program = os.path.abspath(program)
    directory = tempfile.mkdtemp(prefix="mtls_gateway.")
    os.chdir(directory)
    first, second = Backend("first"), Backend("second")
    try:
        make_certificates()
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            closed_port = nobody.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as counter:
            routes = [f"alice=127.0.0.1:{first.server_port}", f"bob.example=127.0.0.1:{second.server_port}",
                      f"dave=127.0.0.1:{closed_port}"]
            files = ["gateway.pem", "gateway.key", "clients.pem"]
            with Server(program, *files, *routes, f"carol=127.0.0.1:{counter.getsockname()[1]}") as server:
                check_half_close(server, counter)
                server.terminate()
                server.wait()
            with Server(program, *files, *routes) as server:
                check_routes(server)
                check_protocols(server)
                check_drain(server, first)
        done = subprocess.run([program, "127.0.0.1:0", *files, "alice"], capture_output=True, text=True, check=False)
        check(done.returncode == 1 and "'alice' is no route" in done.stderr, f"a wrong route: {done.stderr}")
    finally:
        os.chdir("/")
        shutil.rmtree(directory)


run(test)
