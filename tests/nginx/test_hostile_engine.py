"""An engine that breaks the protocol, in every way that shows itself to
nginx: it loses its channel, with one log line and a counter; a sound engine
in the same upstream serves on, and the worker lives.

The engine here is Python: enough of shm/wire.h to get through the handshake
and then to write whatever it likes into the shared memory.
"""

import fcntl
import mmap
import os
import select
import socket
import struct
import threading

import rig

MAGIC, VERSION = 0x4e495841, 1
HELLO, WELCOME, REFUSED = 1, 2, 3
ACCEPTED, TOKENS, DONE, ERROR = 1, 3, 5, 6
BOARD_BYTES, BOARD_MODELS, BOARD_MODEL_BYTES = 2008, 344, 104
READY = 2
SQ_TAIL, SQ_HEAD, CQ_TAIL, CQ_HEAD = 64, 128, 192, 256
PAGE = 4096
F_ADD_SEALS, SEAL_SHRINK_GROW = 1033, 6


def board_memfd(n_models=1, state=READY, magic=MAGIC):
    board = bytearray(BOARD_BYTES)
    struct.pack_into("<6I", board, 0, magic, VERSION, 0, state, n_models, 0)
    struct.pack_into("<64s2I", board, BOARD_MODELS, b"bad", 1000, 1000)
    fd = os.memfd_create("board", os.MFD_ALLOW_SEALING)
    os.write(fd, board)
    fcntl.fcntl(fd, F_ADD_SEALS, SEAL_SHRINK_GROW)
    return fd


class Channel:
    """One accepted connection after HELLO."""

    def __init__(self, sock, done):
        self.sock, self.done = sock, done
        data, fds, _, _ = socket.recv_fds(sock, 4096, 1)
        (_, _, kind, self.sq_entries, self.cq_entries, self.arena,
         self.streams, self.credit) = struct.unpack_from("<IHH5I", data)
        assert kind == HELLO
        sock.setblocking(False)
        self.region = mmap.mmap(
            fds[0], PAGE + 64 * (self.sq_entries + self.cq_entries)
            + self.arena)
        os.close(fds[0])

    def message(self, kind, payload, fds=(), magic=MAGIC, version=VERSION):
        socket.send_fds(self.sock, [struct.pack("<IHH", magic, version, kind)
                                    + payload], fds)

    def welcome(self, bytes_=BOARD_BYTES, **board):
        fd = board_memfd(**board)
        self.message(WELCOME, struct.pack("<2I", bytes_, 1 << 20), [fd])
        return fd

    def index(self, offset, value=None):
        if value is None:
            return struct.unpack_from("<I", self.region, offset)[0]
        struct.pack_into("<I", self.region, offset, value & 0xffffffff)
        return value

    def submitted(self):
        """Slot and generation of the next SUBMIT, once it is there."""
        while self.index(SQ_TAIL) == self.index(SQ_HEAD):
            select.select([self.sock], [], [], 0.01)
            if self.done.is_set():
                raise AssertionError("the test is over")
            try:
                if self.sock.recv(64) == b"":
                    raise AssertionError("the gateway closed")
            except BlockingIOError:
                pass
        head = self.index(SQ_HEAD)
        at = PAGE + 64 * (head & (self.sq_entries - 1))
        self.index(SQ_HEAD, head + 1)
        return struct.unpack_from("<2I", self.region, at + 4)

    def record(self, op, slot, generation, body=b"", span=0, payload=0,
               flags=0):
        tail = self.index(CQ_TAIL)
        at = PAGE + 64 * (self.sq_entries + (tail & (self.cq_entries - 1)))
        self.region[at:at + 64] = struct.pack(
            "<BBHIII", op, flags, span, slot, generation, payload) \
            + body.ljust(48, b"\0")
        self.index(CQ_TAIL, tail + 1)

    def ring(self):
        self.sock.send(b"!")


def bad_handshakes():
    """Each breaks before the channel is up."""
    return {
        "closes": lambda c: None,
        "answers with noise": lambda c: c.sock.send(b"\xff" * 40),
        "another magic": lambda c: c.message(WELCOME, bytes(8), magic=7),
        "another version": lambda c: c.message(WELCOME, bytes(8), version=9),
        "refuses": lambda c: c.message(
            REFUSED, struct.pack("<2I128s", 702, 0, b"not\nyou")),
        "no board": lambda c: c.message(
            WELCOME, struct.pack("<2I", BOARD_BYTES, 1)),
        "a board too small": lambda c: os.close(c.welcome(bytes_=100)),
        "a board too large": lambda c: os.close(c.welcome(bytes_=1 << 30)),
        "a board of another kind": lambda c: os.close(c.welcome(magic=7)),
        "an unknown message": lambda c: c.message(77, bytes(8)),
    }


def bad_streams():
    """Each breaks after SUBMIT: takes channel, slot, generation."""
    def noise(c, s, g):
        start = PAGE + 64 * c.sq_entries
        c.region[start:start + 640] = b"\xff" * 640
        c.index(CQ_TAIL, c.index(CQ_TAIL) + 5)
    return {
        "another slot": lambda c, s, g: c.record(ACCEPTED, 0xffffffff, g),
        "another generation": lambda c, s, g: c.record(ACCEPTED, s, g + 1),
        "an unknown op": lambda c, s, g: c.record(99, s, g),
        "tokens before acceptance": lambda c, s, g: c.record(
            TOKENS, s, g, struct.pack("<IHHII4s", 0, 0, 0, 4, 0, b"abcd"),
            payload=4),
        "a length beyond the record": lambda c, s, g: c.record(
            ERROR, s, g, struct.pack("<4I", 600, 0, 1 << 31, 0),
            payload=1 << 31, span=1),
        "a span beyond the tail": lambda c, s, g: c.record(
            ACCEPTED, s, g, span=9),
        "a reason nobody knows": lambda c, s, g: c.record(
            DONE, s, g, struct.pack("<I", 99)),
        "a tail that jumps": lambda c, s, g: c.index(
            CQ_TAIL, c.index(CQ_TAIL) + c.cq_entries + 1),
        "a tail that goes back": lambda c, s, g: c.index(CQ_TAIL, -5),
        "noise": noise,
        "a message in place of a doorbell": lambda c, s, g: c.message(
            WELCOME, bytes(8)),
    }


class Hostile(threading.Thread):
    """Treats every connection in the given way, until it is stopped."""

    def __init__(self, path, treat):
        super().__init__()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        os.chmod(path, 0o666)
        self.listener.listen(64)
        self.treat, self.done, self.open = treat, threading.Event(), []

    def run(self):
        while not self.done.is_set():
            if not select.select([self.listener], [], [], 0.05)[0]:
                continue
            sock, _ = self.listener.accept()
            sock.settimeout(rig.HANG)
            try:
                self.treat(Channel(sock, self.done))
            except (OSError, AssertionError):
                pass
            self.open.append(sock)
            while len(self.open) > 1:
                self.open.pop(0).close()

    def stop(self):
        self.done.set()
        self.join()
        self.listener.close()
        for sock in self.open:
            sock.close()


class HostileEngine(rig.Test):
    def setUp(self):
        super().setUp()
        self.bad = os.path.join(self.dir, "bad.sock")
        self.name = f'{{engine="unix:{self.bad}"}}'
        self.nginx.write(http=f"""
            axion_timeout connect=200ms stall=2s;
            axion_upstream llm {{
                engine unix:{self.bad};
                engine unix:{self.echo.path};
            }}""")

    def against(self, treat):
        engine = Hostile(self.bad, treat)
        engine.start()
        self.addCleanup(engine.stop)
        self.start_both()

    def start_both(self):
        self.echo.start()
        self.nginx.start()
        self.nginx.wait(f'connected to engine "unix:{self.echo.path}"')

    def test_broken_handshakes(self):
        ways = bad_handshakes()
        turn = iter(list(ways.values()))
        seen = threading.Semaphore(0)

        def treat(channel):
            way = next(turn, None)
            if way is not None:
                way(channel)
                seen.release()
            channel.sock.shutdown(socket.SHUT_WR)

        self.against(treat)
        for _ in ways:
            self.assertTrue(seen.acquire(timeout=rig.HANG))
            self.assert_serves()
        metrics = self.nginx.metrics()
        self.assertGreaterEqual(
            metrics["axion_engine_connect_failures_total" + self.name],
            len(ways) - 1)
        self.assertEqual(metrics["axion_engine_connects_total" + self.name],
                         0)
        self.assertEqual(
            self.nginx.text().count(f'"unix:{self.bad}" is not available'),
            int(metrics["axion_engine_connect_failures_total" + self.name]))

    def test_broken_streams(self):
        for what, way in bad_streams().items():
            with self.subTest(what):
                self.one_broken_stream(way)

    def one_broken_stream(self, way):
        def treat(channel):
            os.close(channel.welcome())
            way(channel, *channel.submitted())
            channel.ring()

        folder = rig.tempfile.mkdtemp(prefix="way-", dir=self.dir)
        bad = os.path.join(folder, "bad.sock")
        engine = Hostile(bad, treat)
        engine.start()
        nginx, echo = rig.Nginx(folder, self.SERVER), rig.Echo(folder)
        nginx.write(http=f"""
            axion_timeout connect=200ms stall=2s;
            axion_upstream llm {{
                engine unix:{bad};
                engine unix:{echo.path};
            }}""")
        try:
            echo.start()
            nginx.start()
            nginx.wait("connected to engine", 2)
            client = rig.Client(nginx.port).chat("hello", model="bad")
            status, _, body = client.whole()
            self.assertIn(status, (502, 503, 504), body)
            name = f'{{engine="unix:{bad}"}}'
            self.assertGreaterEqual(
                nginx.metrics()["axion_engine_protocol_errors_total" + name],
                1)
            self.assertIn("broke the ring protocol", nginx.text())
            self.assertEqual(rig.Client(nginx.port).chat("hi").stream(),
                             ("hi", None, True))
            self.assertNotIn("exited on signal", nginx.text())
        finally:
            nginx.stop()
            echo.stop()
            engine.stop()

    def test_board_of_nonsense(self):
        def treat(channel):
            os.close(channel.welcome(n_models=0xffffffff, state=0xffffffff))
            channel.submitted()

        self.against(treat)
        self.nginx.wait("connected to engine", 2)
        for path in ("/v1/models", "/v1/models/echo", "/status", "/metrics"):
            self.assertEqual(self.nginx.get(path)[0], 200, path)
        self.assert_serves()


    def test_board_that_breaks_later(self):
        """Lost once, with one line; then no channel at all, and no flood."""
        boards, again = [], threading.Event()

        def treat(channel):
            boards.append(channel.welcome(magic=MAGIC if not boards else 7))
            if len(boards) > 2:
                again.set()

        self.against(treat)
        self.addCleanup(lambda: [os.close(fd) for fd in boards])
        self.nginx.wait("connected to engine", 2)
        os.pwrite(boards[0], b"none", 0)
        self.assertEqual(self.nginx.get("/v1/models")[0], 200)
        self.nginx.wait(f'lost engine "unix:{self.bad}": .*broke the ring')
        self.assertTrue(again.wait(rig.HANG))
        self.assert_serves()
        metrics = self.nginx.metrics()
        self.assertEqual(metrics["axion_engine_losses_total" + self.name], 1)
        self.assertGreaterEqual(
            metrics["axion_engine_protocol_errors_total" + self.name], 2)
        self.assertEqual(len([
            line for line in self.nginx.text().splitlines()
            if "[error]" in line and self.bad in line]), 1)


if __name__ == "__main__":
    rig.main()
