"""A file of tenants that changes while nginx runs: keys are let in and revoked
in every worker within the interval, a wrong file changes nothing and is logged
with its line, requests in flight go on as whom they were let in, workers that
take the place of dead ones know the file of now."""

import hashlib
import os
import resource
import signal

import rig


def block(name, *keys, more=""):
    lines = "".join(
        f"    key sha256:{hashlib.sha256(key.encode()).hexdigest()};\n"
        for key in keys)
    return f"axion_tenant {name} {{\n{lines}    {more}\n}}\n"


class TenantsFile(rig.Test):
    WORKERS = 2

    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.dir, "tenants")
        self.put(block("acme", "one"))
        self.nginx.write(http=self.nginx.settings["http"] +
                         f"axion_tenants file={self.path} interval=200ms;")

    def put(self, text):
        """Whole or not at all, as the manual asks for."""
        with open(self.path + ".new", "w", encoding="ascii") as f:
            f.write(text)
        os.rename(self.path + ".new", self.path)

    def ask(self, key):
        client = self.client()
        client.send("GET", "/v1/models", headers=[f"x-api-key: {key}"])
        return client.whole()[0]

    def wait_read(self, count):
        """Until that many readings by workers (two for each change)."""
        self.nginx.wait("is read anew", count)

    def test_a_key_comes_and_goes(self):
        self.start()
        self.assertEqual((self.ask("one"), self.ask("two")), (200, 401))
        self.put(block("acme", "one", "two"))
        self.wait_read(2)
        for _ in range(4):
            self.assertEqual((self.ask("one"), self.ask("two")), (200, 200))
        self.put(block("acme", "two"))
        self.wait_read(4)
        for _ in range(4):
            self.assertEqual((self.ask("one"), self.ask("two")), (401, 200))
        self.put("")
        self.wait_read(6)
        self.assertEqual((self.ask("one"), self.ask("two")), (401, 401))
        values = self.nginx.metrics()
        self.assertEqual(values["axion_tenants_read_total"], 6)
        self.assertEqual(values["axion_tenants_refused_total"], 0)

    def test_a_file_written_in_place(self):
        self.start()
        with open(self.path, "a", encoding="ascii") as f:
            f.write(block("other", "two"))
        self.wait_read(2)
        self.assertEqual((self.ask("one"), self.ask("two")), (200, 200))

    def test_a_wrong_file_changes_nothing(self):
        self.start()
        self.put(block("acme", "two") + block("other", "two"))
        self.nginx.wait(r'a key of axion_tenant "other" is one of "acme" too '
                        rf"in {self.path}:5, what was read before stays in "
                        "force", 2)
        self.assertEqual((self.ask("one"), self.ask("two")), (200, 401))
        # Logged once each: more looks at the same file say nothing more.
        self.put(block("acme", "two") + block("other"))
        self.wait_read(2)
        self.assertEqual(self.nginx.text().count("stays in force"), 2)
        self.assertEqual((self.ask("one"), self.ask("two")), (401, 200))
        self.assertEqual(
            self.nginx.metrics()["axion_tenants_refused_total"], 2)

    def test_a_file_that_is_away_changes_nothing(self):
        self.start()
        os.rename(self.path, self.path + ".away")
        self.nginx.wait('cannot find ".*tenants".*, what was read before stays '
                        "in force", 2)
        self.assertEqual(self.ask("one"), 200)
        self.put(block("acme", "two"))
        self.wait_read(2)
        self.assertEqual((self.ask("one"), self.ask("two")), (401, 200))

    def test_a_shortage_does_not_keep_a_key_alive(self):
        """What could not be read for want of descriptors is read later."""
        self.start()
        limits = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE)
                  for pid in self.nginx.workers()}
        for pid, (_, hard) in limits.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        self.put(block("acme", "two"))
        self.nginx.wait(r'cannot read ".*tenants", what was read before stays '
                        "in force", 2)
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        self.wait_read(2)
        for _ in range(4):
            self.assertEqual((self.ask("one"), self.ask("two")), (401, 200))

    def test_nginx_t_and_a_reload_refuse_it(self):
        self.start()
        self.put("axion_tenant acme {\n    colour blue;\n}\n")
        self.nginx.wait("what was read before stays in force", 2)
        test = rig.subprocess.run(
            [rig.NGINX, "-t", "-c", self.nginx.conf, "-p", self.dir, "-e",
             os.path.join(self.dir, "t.log")],
            stdout=rig.subprocess.PIPE, stderr=rig.subprocess.STDOUT,
            text=True)
        self.assertNotEqual(test.returncode, 0)
        self.assertIn(f'unknown parameter "colour" in axion_tenant in '
                      f"{self.path}:2", test.stdout)
        self.expected = "colour"
        self.nginx.signal(signal.SIGHUP)
        self.nginx.wait(r"\[emerg\].*unknown parameter .colour.")
        self.assertEqual(self.ask("one"), 200)

    def test_requests_in_flight_keep_their_tenant(self):
        self.start()
        client = self.client().chat("!tokens=40 !delay_ms=20 abcd",
                                    headers=["x-api-key: one"])
        client.until(b'"content":"abcd"')
        for n in range(3):
            self.put(block("other", "two", more=f"max_output {n + 1};"))
            self.wait_read(2 * n + 2)
        text, error, done = client.stream()
        self.assertEqual((text, error, done), ("abcd" * 40, None, True))
        self.assertEqual((self.ask("one"), self.ask("two")), (401, 200))

    def test_places_for_as_many_as_the_file_has(self):
        """None of many tenants is refused for want of a balance."""
        self.start()
        self.assertEqual(self.nginx.metrics()["axion_balance_places"], 4096)
        self.put("".join(block(f"t{i}", f"key-{i}") for i in range(9000)))
        self.wait_read(2)
        self.assertEqual(self.nginx.metrics()["axion_balance_places"], 16384)
        client = self.client()
        client.chat("abcd", headers=["x-api-key: key-8999"])
        self.assertEqual(client.stream(), ("abcd", None, True))
        self.assertEqual(self.nginx.metrics()["axion_balances"], 1)

    def test_a_new_worker_knows_the_last_good_file(self):
        """A key that was revoked stays so when the file is wrong, or away,
        and every worker is killed."""
        self.expected = "exited on signal 9"
        self.start()
        self.put(block("acme", "two"))
        self.wait_read(2)
        self.put("nonsense")
        self.nginx.wait("what was read before stays in force", 2)
        connected = 2
        for _ in range(2):
            for pid in self.nginx.workers():
                os.kill(pid, signal.SIGKILL)
            connected += 2
            self.nginx.wait("connected to engine", connected)
            for _ in range(4):
                self.assertEqual((self.ask("one"), self.ask("two")),
                                 (401, 200))
            if os.path.exists(self.path):
                os.unlink(self.path)
                self.nginx.wait("cannot find", 2)

    def test_a_new_worker_knows_the_file_of_now(self):
        self.expected = "exited on signal 9"
        self.start()
        self.put(block("acme", "two"))
        self.wait_read(2)
        for pid in self.nginx.workers():
            os.kill(pid, signal.SIGKILL)
        self.nginx.wait("connected to engine", 4)
        for _ in range(4):
            self.assertEqual((self.ask("one"), self.ask("two")), (401, 200))

    def test_a_reload_reads_it_too(self):
        self.start()
        self.put(block("acme", "two"))
        self.nginx.signal(signal.SIGHUP)
        self.nginx.wait("connected to engine", 4)
        self.nginx.wait("exited with code 0", 2)
        for _ in range(4):
            self.assertEqual((self.ask("one"), self.ask("two")), (401, 200))

    def test_a_change_after_a_reload(self):
        """The set that the reload read goes in a worker, long after the
        configuration before it."""
        self.start()
        self.nginx.signal(signal.SIGHUP)
        self.nginx.wait("connected to engine", 4)
        self.nginx.wait("exited with code 0", 2)
        self.put(block("acme", "two"))
        self.wait_read(2)
        for _ in range(4):
            self.assertEqual((self.ask("one"), self.ask("two")), (401, 200))

    def test_ten_thousand_tenants(self):
        self.start()
        self.put("".join(block(f"t{n}", f"key-{n}") for n in range(10000)))
        self.wait_read(2)
        self.assertEqual((self.ask("key-0"), self.ask("key-9999"),
                          self.ask("one")), (200, 200, 401))


if __name__ == "__main__":
    rig.main()
