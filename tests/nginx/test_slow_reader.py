"""Readers that do not read: each costs its bound and no more, none slows its
neighbours, one that stays away is cut off, one that comes back misses
nothing."""

import rig

READERS = 64


class SlowReader(rig.Test):
    HTTP = "axion_timeout idle=600s; axion_buffer 64k;"
    LISTEN = "sndbuf=16k"

    def stalled(self, n, text):
        clients = [self.client(rcvbuf=4096) for _ in range(n)]
        for client in clients:
            client.chat(text)
        return clients

    def test_64_slow_readers_bound_memory_and_slow_nobody(self):
        self.start()
        (worker,) = self.nginx.workers()
        self.client().chat("!tokens=2000 warm").stream()
        before = self.nginx.rss_kb(worker)
        clients = self.stalled(READERS, "!tokens=10000000 abcd")
        rig.wait_until(
            lambda: self.nginx.metrics()["axion_pauses_total"] >= READERS,
            "all to be paused")
        grown = self.nginx.rss_kb(worker) - before
        print(f"{READERS} slow readers: {grown} kB", file=rig.sys.stderr)
        self.assertLess(grown, READERS * 192)
        for _ in range(5):
            self.assert_serves()
        self.assertEqual(self.nginx.metrics()["axion_streams_active"],
                         READERS)
        for client in clients:
            client.close()
        rig.wait_until(
            lambda: self.nginx.metrics()["axion_streams_active"] == 0,
            "all to be cancelled")

    def test_late_reader_gets_every_byte(self):
        self.start()
        (client,) = self.stalled(1, "!tokens=500000 abcdefgh")
        rig.wait_until(
            lambda: self.nginx.metrics()["axion_pauses_total"] >= 1,
            "the pause")
        text, error, done = client.stream()
        self.assertEqual((error, done), (None, True))
        self.assertEqual(text, "abcdefgh" * 250000)

    def test_answer_that_is_not_streamed_is_never_paused(self):
        self.start()
        client = self.client(rcvbuf=4096).chat("!tokens=100000 abcd",
                                               stream=False)
        self.echo.wait("done")
        self.assertEqual(self.nginx.metrics()["axion_pauses_total"], 0)
        status, _, body = client.whole()
        self.assertEqual(status, 200)
        answer = rig.json.loads(body)["choices"][0]["message"]["content"]
        self.assertEqual(answer, "abcd" * 100000)

    def test_reader_that_stays_away_is_cut_off(self):
        self.nginx.write(http=self.nginx.settings["http"].replace(
            "idle=600s", "idle=300ms"))
        self.start()
        self.stalled(1, "!tokens=10000000 abcd")
        self.nginx.wait("CLIENT_TOO_SLOW")
        self.echo.wait("cancel")
        self.assertEqual(
            self.nginx.metrics()['axion_errors_total{error="CLIENT_TOO_SLOW"}'],
            1)
        self.assert_serves()


if __name__ == "__main__":
    rig.main()
