"""Streams over nginx: 64 at once with every byte accounted for, a long one in
constant memory, a client that leaves, one that is only silent; each has an
id of its own, the one that nginx logs."""

import os

import rig


class Streams(rig.Test):
    HTTP = "axion_timeout idle=600s;"

    def test_64_streams_each_byte_accounted_for(self):
        self.start()
        clients = []
        for i in range(64):
            word = f"stream-{i}-wörld"
            clients.append((word, self.client().chat(
                "!tokens=400 !delay_ms=1 " + word)))
        for word, client in clients:
            text, error, done = client.stream()
            self.assertEqual((error, done), (None, True))
            self.assertGreater(len(text), 1000)
            self.assertEqual(text, (word * 400)[:len(text)])

    def test_100k_tokens_in_constant_memory(self):
        self.start()
        (worker,) = self.nginx.workers()
        self.client().chat("!tokens=2000 warm").stream()
        before = peak = self.nginx.rss_kb(worker)
        client = self.client().chat("!tokens=100000 abcd")
        letters, rest = 0, b""
        while True:
            data = client.sock.recv(65536)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    for choice in rig.json.loads(line[6:])["choices"]:
                        letters += len(choice["delta"].get("content") or "")
            peak = max(peak, self.nginx.rss_kb(worker))
        self.assertEqual(letters, 400000)
        print(f"rss {before} kB, at most {peak} kB", file=rig.sys.stderr)
        self.assertLess(peak - before, 2048)

    def test_silent_stream_is_kept_alive(self):
        self.nginx.write(http=self.nginx.settings["http"].replace(
            "idle=600s;", "idle=600s stall=600s; axion_keepalive_ping 50ms;"))
        self.start()
        client = self.client().chat("!tokens=2 !hang_after=1 slow")
        for _ in range(2):
            client.until(b": ping\n\n")
            client.data = client.data.split(b": ping", 1)[1]
        self.echo.go_on()
        client.until(b"[DONE]")

    def test_ids_are_those_of_the_log(self):
        """Also where nginx was asked for $request_id before us."""
        self.nginx.write(http=self.nginx.settings["http"] + f"""
            log_format id '$request_id';
            access_log {self.dir}/ids.log id;
            map $http_x_early $early {{ yes $request_id; }}
            map $early $copy {{ default $early; }}
            add_header X-Early $copy;""")
        self.start()
        ids = []
        for n in range(200):
            early = ["X-Early: yes"] if n % 2 else []
            status, headers, _ = self.client().chat("hi",
                                                    headers=early).whole()
            self.assertEqual(status, 200)
            ids.append(headers["x-request-id"])
            self.assertRegex(ids[-1], "^[0-9a-f]{32}$")
            self.assertEqual(headers.get("x-early"), ids[-1] if early
                             else None)
        self.assertEqual(len(set(ids)), 200)
        self.nginx.stop()
        with open(os.path.join(self.dir, "ids.log"), encoding="ascii") as f:
            self.assertEqual(f.read().split(), ids)


if __name__ == "__main__":
    rig.main()
