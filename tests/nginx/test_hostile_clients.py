#!/usr/bin/env python3
"""Clients that mean ill: headers that come a byte at a time, bodies that never
do, headers that are too large, HTTP/2 streams that are reset at once, a tenant
that sends all it can.  Every request of the good clients completes meanwhile."""

import hashlib
import statistics
import struct
import threading
import time

import rig
import test_http2

GOOD = 40


def tenants():
    text = ""
    for name, lines in (("good", ""), ("flood",
                        "concurrency 4; tokens 200k/h; requests 6k/m;")):
        key = hashlib.sha256(name.encode()).hexdigest()
        text += f"axion_tenant {name} {{ key sha256:{key}; {lines} }}\n"
    return text


class Hostile(rig.Test):
    ECHO = ("--model", "echo", "--batch", "64", "--tokens-per-second", "2000")
    HTTP = "client_header_timeout 30s; client_body_timeout 30s;\n" + tenants()
    GOOD_HEADERS = ["x-api-key: good"]

    def good_clients(self):
        """Ordinary requests, side by side: whether each was whole."""
        results, self.seconds = [], []

        def one():
            for _ in range(GOOD // 4):
                client, start = rig.Client(self.nginx.port), time.monotonic()
                try:
                    results.append(client.chat(
                        "!tokens=20 abcd", headers=self.GOOD_HEADERS).stream()
                        == ("abcd" * 20, None, True))
                except (OSError, AssertionError, ValueError, IndexError):
                    results.append(False)
                finally:
                    client.close()
                self.seconds.append(time.monotonic() - start)

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def assert_good(self):
        self.assertEqual(self.good_clients(), [True] * GOOD)

    def raw(self, data):
        client = self.client()
        client.sock.sendall(data)
        return client

    def test_slow_headers_and_bodies(self):
        self.start()
        head = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
                b"x-api-key: good\r\n")
        slow = [self.raw(head) for _ in range(150)]
        slow += [self.raw(head + b"Content-Type: application/json\r\n"
                          b"Content-Length: 100000\r\n\r\n{")
                 for _ in range(150)]
        stop = threading.Event()

        def drip():
            while not stop.wait(0.05):
                for client in slow:
                    try:
                        client.sock.send(b"a")
                    except OSError:
                        pass

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            self.assert_good()
        finally:
            stop.set()
            thread.join()
        # none of them got as far as a lease
        self.assertEqual(self.nginx.metrics()["axion_leases"], 0)

    def test_headers_too_large(self):
        self.start()
        clients = [self.raw(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n"
                            b"x-api-key: good\r\nX-Large: " + b"a" * size
                            + b"\r\n\r\n")
                   for size in (100, 5000, 40000, 300000) for _ in range(20)]
        self.assert_good()
        statuses = set()
        for client in clients:
            try:
                statuses.add(client.until(b"\r\n").data[9:12])
            except OSError:
                statuses.add(b"400")  # reset while it was still sending
        self.assertLessEqual(statuses, {b"200", b"400", b"414", b"431"})
        self.assert_good()

    def test_a_tenant_that_sends_all_it_can(self):
        self.start()
        self.assert_good()
        alone = statistics.median(self.seconds)
        stop, statuses = threading.Event(), []

        def flood():
            while not stop.is_set():
                client = rig.Client(self.nginx.port)
                try:
                    client.chat("!tokens=500 abcd", stream=False,
                                headers=["x-api-key: flood"])
                    statuses.append(client.whole()[0])
                except (OSError, IndexError):
                    pass
                finally:
                    client.close()

        threads = [threading.Thread(target=flood) for _ in range(12)]
        for thread in threads:
            thread.start()
        try:
            self.assert_good()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        print(f"median latency {alone * 1e3:.1f} ms alone, "
              f"{statistics.median(self.seconds) * 1e3:.1f} ms beside "
              f"{len(statuses)} requests of a flood", flush=True)
        self.assertLessEqual(set(statuses), {200, 429})
        self.assertIn(429, statuses)
        metrics = self.nginx.metrics()
        self.assertGreater(
            metrics['axion_tenant_refused_total{tenant="flood",'
                    'limit="concurrency"}'], 0)
        rig.wait_until(lambda: self.nginx.metrics()["axion_leases"] == 0,
                       "every lease to end")


class RapidReset(Hostile):
    """Over HTTP/2; the good clients come in by HTTP/1.1, on a port beside."""

    LISTEN = "http2"

    def setUp(self):
        super().setUp()
        self.http2 = self.nginx.port
        self.side = rig.free_port()
        self.nginx.write(
            server=self.SERVER + f"listen 127.0.0.1:{self.side};")

    def test_streams_that_are_reset_at_once(self):
        self.start()
        self.nginx.port = self.side
        stop, resets = threading.Event(), [0]

        def attack():
            while not stop.is_set():
                frames = test_http2.Frames(self.http2)
                try:
                    for stream in range(1, 400, 2):
                        frames.ask(stream, "!tokens=1000 abcd",
                                   ((b"x-api-key", b"good"),))
                        frames.send(test_http2.RST_STREAM, 0, stream,
                                    struct.pack(">I", test_http2.CANCEL))
                        resets[0] += 1
                except OSError:
                    pass  # nginx had enough of it
                finally:
                    frames.close()

        threads = [threading.Thread(target=attack) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            self.assert_good()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        print(f"{resets[0]} streams were reset", flush=True)
        self.assertGreater(resets[0], 0)
        rig.wait_until(lambda: self.nginx.metrics()["axion_leases"] == 0,
                       "every lease to end")
        self.assert_good()

    test_slow_headers_and_bodies = None
    test_headers_too_large = None
    test_a_tenant_that_sends_all_it_can = None


if __name__ == "__main__":
    rig.main()
