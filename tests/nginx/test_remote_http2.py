"""HTTP/2 clients of a remote: streams side by side on one connection, resets,
a remote that fails, readers that are slow or stop."""

import re
import struct
import threading

import fake_remote
import rig
import test_http2
from fake_remote import chunk, event
from test_remote import Remotes


class Http2(Remotes):
    LISTEN = "http2"
    HTTP = "axion_buffer 16k;"

    def setUp(self):
        super().setUp()
        self.side = rig.free_port()  # rig's own client speaks HTTP/1.1
        self.nginx.write(server=self.TENANTS + self.SERVER
                         + f"listen 127.0.0.1:{self.side};")

    def metrics(self):
        port, self.nginx.port = self.nginx.port, self.side
        try:
            return self.nginx.metrics()
        finally:
            self.nginx.port = port

    def frames(self):
        client = test_http2.Frames(self.nginx.port)
        self.addCleanup(client.close)
        return client

    def reset(self, client, stream):
        client.send(test_http2.RST_STREAM, 0, stream,
                    struct.pack(">I", test_http2.CANCEL))

    def none_active(self):
        rig.wait_until(lambda: self.metrics()["axion_streams_active"] == 0,
                       "no stream to be left")

    def test_streams_side_by_side(self):
        """None is answered before all of them are there."""
        met = threading.Barrier(8)

        def script(c, head, body):
            met.wait(timeout=rig.HANG)
            return fake_remote.answer(c, head, body)
        self.script(script)
        self.start()
        client = self.frames()
        streams = {2 * n + 1 for n in range(8)}
        for n in streams:
            client.ask(n, f"my {n}")
        client.until_ends(streams)
        for n in streams:
            self.assertEqual(rig.parse_stream(client.data[n]),
                             (f"my{n}", None, True))
        self.none_active()

    def test_a_reset_ends_the_call_alone(self):
        def script(c, _head, body):
            c.head()
            c.piece(event(chunk({"content": "content"})))
            if body["messages"][-1]["content"] == "leaves":
                c.closed()
                return True
            reset.wait(timeout=rig.HANG)
            c.piece(fake_remote.words("b"))
            c.end()
            return False
        reset = threading.Event()
        self.script(script)
        self.start()
        client = self.frames()
        client.ask(1, "stays")
        client.ask(3, "leaves")
        client.until_data(1)
        client.until_data(3)
        self.reset(client, 3)
        rig.wait_until(lambda: self.remote.ended == 1, "the call's end")
        reset.set()
        client.until_ends({1})
        self.assertEqual(rig.parse_stream(client.data[1]),
                         ("contentb", None, True))
        self.none_active()

    def test_rapid_resets(self):
        """Each may meet its call before, while or after it connects."""
        self.script(lambda c, _h, _b: c.closed() or True)
        self.start()
        client = self.frames()
        for n in range(60):
            client.ask(2 * n + 1, "x")
            self.reset(client, 2 * n + 1)
        self.none_active()
        self.script(fake_remote.answer)
        client = self.frames()
        client.ask(1, "a b")
        client.until_ends({1})
        self.assertEqual(rig.parse_stream(client.data[1]),
                         ("ab", None, True))

    def test_failures(self):
        def script(c, _head, body):
            text = body["messages"][-1]["content"]
            if text == "refuses":
                c.json({"error": {"message": "no"}}, 400)
                return False
            if text == "breaks":
                c.head()
                c.piece(event(chunk({"content": "content"})))
                read.wait(timeout=rig.HANG)
            return True
        read = threading.Event()
        self.script(script)
        self.start()
        client = self.frames()
        client.ask(1, "refuses")
        client.ask(3, "breaks")
        client.ask(5, "is gone")
        client.until_data(3)
        read.set()
        client.until_ends({1, 3, 5})
        code = re.compile(rb'"code":"(\w+)"')
        self.assertEqual([code.findall(client.data[n]) for n in (1, 3, 5)],
                         [[b"invalid_request"], [b"remote_failed"],
                          [b"remote_unavailable"]])
        self.none_active()

    def test_a_slow_reader(self):
        """The worker keeps what its bound says, and all of it comes."""
        n, text = 512, "x" * 16384
        self.script(fake_remote.long_answer(n, text))
        self.start()
        worker = self.nginx.workers()[0]
        before = self.nginx.rss_kb(worker)
        client = self.frames()
        client.send(test_http2.SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 16))
        client.ask(1, "x")
        client.until_data(1)
        rig.wait_until(lambda: self.metrics()["axion_pauses_total"] > 0,
                       "a pause")
        self.assertLess(self.nginx.rss_kb(worker) - before, 4 * 1024)
        client.send(test_http2.WINDOW_UPDATE, 0, 1,
                    struct.pack(">I", 1 << 30))
        client.until_ends({1})
        self.assertEqual(client.data[1].count(b"x" * 1024),
                         n * len(text) // 1024)
        self.assertEqual(client.data[1].count(b"data: [DONE]"), 1)
        self.assertLess(self.nginx.rss_kb(worker) - before, 4 * 1024)
        self.none_active()


class Idle(Remotes):
    LISTEN = "http2"
    TIMES = "connect=5s accept=60s stall=60s idle=300ms"

    def test_a_reader_that_stops_is_given_up(self):
        """It has opened no window, so no write of its connection is ever
        tried: time alone ends it, and the remote's work."""
        def script(c, _head, _body):
            c.head()
            while True:
                c.piece(event(chunk({"content": "x" * 1000})))
        self.script(script)
        self.start()
        client = test_http2.Frames(self.nginx.port)
        self.addCleanup(client.close)
        client.send(test_http2.SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 16))
        client.ask(1, "x")
        self.nginx.wait("CLIENT_TOO_SLOW")
        rig.wait_until(lambda: self.remote.ended == 1, "the remote's end")


if __name__ == "__main__":
    rig.main()
