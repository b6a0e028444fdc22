"""HTTP/2 (cleartext, prior knowledge, by curl): streams side by side on one
connection, a stream that is reset, a reader that is slower than the engine."""

import struct
import subprocess

import rig

DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE = 0, 1, 3, 4, 8
END_STREAM, END_HEADERS = 1, 4
CANCEL = 8


class Frames:
    """As much of an HTTP/2 client as it takes to have several streams on a
    connection: no padding, no Huffman codes, answers' headers unread."""

    def __init__(self, port):
        self.sock = rig.socket.create_connection(("127.0.0.1", port),
                                                 timeout=rig.HANG)
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 30))
        self.send(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30))
        self.data, self.ended = {}, set()

    def send(self, kind, flags, stream, payload=b""):
        self.sock.sendall(struct.pack(">I", len(payload))[1:]
                          + bytes((kind, flags))
                          + struct.pack(">I", stream) + payload)

    def ask(self, stream, prompt, headers=()):
        body = rig.json.dumps({
            "model": "echo", "stream": True,
            "messages": [{"role": "user", "content": prompt}]}).encode()
        block = b""
        for name, value in ((b":method", b"POST"), (b":scheme", b"http"),
                            (b":path", b"/v1/chat/completions"),
                            (b":authority", b"localhost"),
                            (b"content-type", b"application/json"),
                            (b"content-length", b"%d" % len(body)),
                            *headers):
            block += b"\0" + bytes((len(name),)) + name \
                + bytes((len(value),)) + value
        self.data[stream] = b""
        self.send(HEADERS, END_HEADERS, stream, block)
        self.send(DATA, END_STREAM, stream, body)

    def exactly(self, n):
        out = b""
        while len(out) < n:
            piece = self.sock.recv(n - len(out))
            if not piece:
                raise AssertionError("the connection ended")
            out += piece
        return out

    def frame(self):
        head = self.exactly(9)
        payload = self.exactly(int.from_bytes(head[:3], "big"))
        stream = int.from_bytes(head[5:], "big") & 0x7fffffff
        if head[3] == SETTINGS and not head[4] & 1:
            self.send(SETTINGS, 1, 0)
        if head[3] == DATA:
            self.data[stream] += payload
        if head[3] in (DATA, HEADERS) and head[4] & END_STREAM:
            self.ended.add(stream)

    def until_data(self, stream):
        while b"content" not in self.data[stream]:
            self.frame()

    def until_ends(self, streams):
        while not streams <= self.ended:
            self.frame()

    def close(self):
        self.sock.close()


def need_curl():
    """Exits with 77 where curl has no HTTP/2."""
    try:
        said = subprocess.run(["curl", "--version"], check=True,
                              stdout=subprocess.PIPE, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        said = ""
    if "HTTP2" not in said:
        print("skipped: curl without HTTP/2")
        rig.sys.exit(77)


class Http2(rig.Test):
    LISTEN = "http2"
    # rig's own client speaks HTTP/1.1: figures come over a second port.
    HTTP = "axion_buffer 16k;"

    def setUp(self):
        super().setUp()
        self.side = rig.free_port()
        self.nginx.write(
            server=self.SERVER + f"listen 127.0.0.1:{self.side};")

    def metrics(self):
        port, self.nginx.port = self.nginx.port, self.side
        try:
            return self.nginx.metrics()
        finally:
            self.nginx.port = port

    def curl(self, prompt, *options, stream=True):
        body = rig.json.dumps({
            "model": "echo", "stream": stream,
            "messages": [{"role": "user", "content": prompt}]})
        process = subprocess.Popen(
            ["curl", "-sN", "--http2-prior-knowledge", "-H",
             "Content-Type: application/json", "-d", body, *options,
             f"http://127.0.0.1:{self.nginx.port}/v1/chat/completions"],
            stdout=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        return process

    def test_streams_are_whole(self):
        self.start()
        many = [self.curl("!tokens=500 !delay_ms=1 abcd") for _ in range(8)]
        for process in many:
            text, error, done = rig.parse_stream(process.stdout.read())
            self.assertEqual((text, error, done), ("abcd" * 500, None, True))

    def test_side_by_side_on_one_connection(self):
        self.start()
        client = Frames(self.nginx.port)
        self.addCleanup(client.close)
        for stream in (1, 3, 5):
            tokens = 100000 if stream == 3 else 300
            client.ask(stream,
                       f"!tokens={tokens} !delay_ms=1 stream-{stream}-")
        client.until_data(3)
        client.send(RST_STREAM, 0, 3, struct.pack(">I", CANCEL))
        client.until_ends({1, 5})
        for stream in (1, 5):
            text, error, done = rig.parse_stream(client.data[stream])
            word = f"stream-{stream}-"
            self.assertEqual((error, done), (None, True))
            self.assertEqual(text, (word * 300)[:len(text)])
        self.echo.wait(" cancel ")

    def test_reset_stream_is_cancelled(self):
        self.start()
        process = self.curl("!tokens=1000 !delay_ms=100 abcd")
        while b"abcd" not in process.stdout.readline():
            pass
        process.kill()
        self.echo.wait(" cancel ")
        rig.wait_until(lambda: self.metrics()["axion_streams_active"] == 0,
                       "the stream to end")

    def test_slow_reader_is_paused_and_gets_every_byte(self):
        self.start()
        process = self.curl("!tokens=40000 abcd", "--limit-rate", "2M")
        text, error, done = rig.parse_stream(process.stdout.read())
        self.assertEqual((text, error, done), ("abcd" * 40000, None, True))

    def test_reader_that_stops_is_paused(self):
        self.start()
        process = self.curl("!tokens=1000000 abcd")
        rig.wait_until(lambda: self.metrics()["axion_pauses_total"] >= 1,
                       "the pause")
        process.kill()
        self.echo.wait(" cancel ")

    def test_refusals_are_answers(self):
        self.start()
        process = self.curl("!error=QUEUE_FULL x", "-i")
        out = process.stdout.read()
        self.assertIn(b"HTTP/2 503", out)
        self.assertIn(b"retry-after: 1", out)
        self.assertIn(b'"code":"overloaded"', out)


if __name__ == "__main__":
    need_curl()
    rig.main()
