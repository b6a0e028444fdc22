#!/usr/bin/env python3
"""Limits of tenants over time and over deaths: who waits in a tenant's queue,
streams that wait for their rate, clients that leave, engines and workers that
die, nginx that is restarted, killed or reloaded with other limits.
What is charged is the engine's word, to the token."""

import hashlib
import json
import os
import signal

import rig


def tenants(**limits):
    text = ""
    for name, lines in limits.items():
        key = hashlib.sha256(name.encode()).hexdigest()
        text += f"axion_tenant {name} {{ key sha256:{key}; {lines} }}\n"
    return text


def prompt_tokens(prompt):
    """As the echo engine counts: four bytes a token."""
    return (len(prompt) + 3) // 4


class Base(rig.Test):
    ECHO = ("--model", "echo")
    LIMITS = {}

    def setUp(self):
        super().setUp()
        self.upstream = self.nginx.settings["http"]
        self.set_limits(**self.LIMITS)

    def set_limits(self, **limits):
        self.nginx.write(http=self.upstream + tenants(**limits))

    def ask(self, name, prompt, **fields):
        return self.client().chat(
            prompt, headers=["Authorization: Bearer " + name], **fields)

    def tenant(self, name):
        status, body = self.nginx.get("/status")
        self.assertEqual(status, 200)
        for tenant in json.loads(body)["tenants"]:
            if tenant["name"] == name:
                return tenant
        raise AssertionError(f"no tenant {name}")

    def spent(self, name):
        return self.tenant(name)["month"]["tokens"]

    def wait_idle(self):
        rig.wait_until(lambda: self.nginx.metrics()["axion_leases"] == 0,
                       "every lease to end")


class Queue(Base):
    LIMITS = {"acme": "concurrency 1; queue 2 wait=60s;",
              "hasty": "concurrency 1; queue 1 wait=100ms;",
              "slow": "tokens 400/s burst=100; queue 1 wait=60s;"}

    def queued(self, n):
        rig.wait_until(lambda: self.tenant("acme")["queued"] == n,
                       f"{n} requests in the queue")

    def test_waits_for_its_turn(self):
        self.start()
        first = self.ask("acme", "!tokens=100000 !delay_ms=5 abcd")
        first.until(b"abcd")
        second, third = (self.ask("acme", "!tokens=3 abcd") for _ in "23")
        self.queued(2)
        status, headers, body = self.ask("acme", "abcd").whole()
        self.assertEqual((status, headers["retry-after"]), (429, "1"))
        self.assertIn(b'"code":"concurrency_limit_exceeded"', body)
        first.close()
        for client in (second, third):
            self.assertEqual(client.stream(), ("abcd" * 3, None, True))
        self.wait_idle()
        self.assertEqual(self.tenant("acme")["active"], 0)

    def test_who_leaves_the_queue_is_not_counted(self):
        self.start()
        first = self.ask("acme", "!tokens=100000 !delay_ms=5 abcd")
        first.until(b"abcd")
        second = self.ask("acme", "abcd")
        self.queued(1)
        second.close()
        self.queued(0)
        first.close()
        self.wait_idle()
        self.assertEqual(self.tenant("acme")["requests"], 1)

    def test_waits_no_longer_than_it_may(self):
        self.start()
        first = self.ask("hasty", "!tokens=100000 !delay_ms=5 abcd")
        first.until(b"abcd")
        status, _, body = self.ask("hasty", "abcd", stream=False).whole()
        self.assertEqual(status, 429)
        self.assertIn(b'"code":"concurrency_limit_exceeded"', body)
        first.close()
        self.wait_idle()
        self.assertEqual(self.tenant("hasty")["queued"], 0)

    def test_a_stream_waits_for_its_rate(self):
        self.start()
        text, error, done = self.ask("slow", "!tokens=500 abcd").stream()
        self.assertEqual((text, error, done), ("abcd" * 500, None, True))
        self.echo.wait("lease_low left=")
        self.wait_idle()
        self.assertEqual(self.spent("slow"),
                         500 + prompt_tokens("!tokens=500 abcd"))

    def test_a_reload_keeps_who_waits(self):
        self.start()
        first = self.ask("acme", "!tokens=300 !delay_ms=5 abcd")
        first.until(b"abcd")
        second = self.ask("acme", "!tokens=3 abcd")
        self.queued(1)
        self.nginx.signal(signal.SIGHUP)
        self.nginx.wait("gracefully shutting down")
        self.assertEqual(first.stream(), ("abcd" * 300, None, True))
        self.assertEqual(second.stream(), ("abcd" * 3, None, True))


class Deaths(Base):
    WORKERS = 2
    LIMITS = {"acme": "budget 100k/mo;", "free": ""}

    def setUp(self):
        super().setUp()
        self.expected = "exited on signal 9"

    def test_client_leaves(self):
        self.start()
        prompt = "!tokens=100000 !delay_ms=2 abcd"
        for name in self.LIMITS:
            self.ask(name, prompt).until(b"abcd").close()
        self.echo.wait("done reason=cancelled", 2)
        self.wait_idle()
        tokens = [int(n) for n in rig.re.findall(
            r"reason=cancelled tokens=(\d+)", self.echo.text())]
        self.assertEqual(self.spent("acme") + self.spent("free"),
                         sum(tokens) + 2 * prompt_tokens(prompt))

    def test_engine_dies(self):
        self.start()
        prompt = "!tokens=50 !delay_ms=20 !die_after=7 abcd"
        text, error, _ = self.ask("acme", prompt).stream()
        self.assertEqual((text, error["code"]), ("abcd" * 7, "engine_lost"))
        self.wait_idle()
        self.assertEqual(self.spent("acme"), 7 + prompt_tokens(prompt))

    def test_worker_and_engine_die(self):
        """Nobody knows what was spent: the lease is charged in full."""
        self.start()
        prompt = "!tokens=100000 !delay_ms=500 abcd"
        client = self.ask("acme", prompt).until(b"abcd")
        lease = int(rig.re.search(r"lease=(\d+)", self.echo.text()).group(1))
        self.assertEqual(self.spent("acme"), lease)
        workers = self.nginx.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        self.echo.kill()
        self.echo.process.wait()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        client.close()
        self.nginx.wait("start worker process ", 4)
        self.echo.start()
        self.nginx.wait("connected to engine", 4)
        self.nginx.wait("1 leases of processes that died are charged in full")
        self.assertEqual(self.spent("acme"), lease)
        self.assertEqual(self.nginx.metrics()["axion_leases"], 0)

    def spend(self):
        prompt = "!tokens=40 abcd"
        before = self.spent("acme")
        self.ask("acme", prompt).stream()
        self.wait_idle()
        self.assertEqual(self.spent("acme") - before,
                         40 + prompt_tokens(prompt))

    def test_restarts(self):
        self.start()
        self.spend()
        spent = self.spent("acme")
        self.nginx.stop()
        os.unlink(self.nginx.log)
        self.nginx.start()
        self.assertEqual(self.spent("acme"), spent)
        self.spend()
        spent = self.spent("acme")

        # the master killed: its workers are not, and keep the file
        workers = self.nginx.workers()
        self.nginx.signal(signal.SIGKILL)
        self.nginx.process.wait()
        self.nginx.process = None
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        rig.wait_until(lambda: not any(os.path.exists(f"/proc/{pid}")
                                       for pid in workers), "their end")
        os.unlink(self.nginx.log)
        self.nginx.start()
        self.assertEqual(self.spent("acme"), spent)
        self.spend()

    def test_changed_limit_acts_on_what_was_spent(self):
        self.start()
        self.spend()
        spent = self.spent("acme")
        for budget, left in ((spent + 10, 10), (spent, 0), (1, 0),
                             (spent + 500, 500)):
            self.set_limits(acme=f"budget {budget}/mo;")
            count = self.nginx.text().count("start worker process ")
            self.nginx.signal(signal.SIGHUP)
            self.nginx.wait("start worker process ", count + 2)
            rig.wait_until(
                lambda: [(x["is"], x["left"])
                         for x in self.tenant("acme")["limits"]]
                == [(budget, left)], "the new limit")

    def test_two_on_one_file(self):
        """Two masters with one file share its balances."""
        state = os.path.join(self.dir, "state")
        self.upstream += f"axion_limit_state {state};\n"
        self.set_limits(**self.LIMITS)
        self.start()
        self.spend()
        folder = os.path.join(self.dir, "other")
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        first = self.nginx
        self.nginx = rig.Nginx(folder, self.SERVER, self.upstream
                               + tenants(**self.LIMITS))
        self.addCleanup(self.nginx.stop)
        self.addCleanup(setattr, self, "nginx", first)
        self.nginx.start()
        self.nginx.wait("connected to engine")
        self.assertEqual(self.spent("acme"), 40 + prompt_tokens(
            "!tokens=40 abcd"))
        self.spend()


class File(Base):
    """Limits of a tenants file: they change without a reload."""

    def put(self, **limits):
        with open(self.path + ".new", "w", encoding="ascii") as file:
            file.write(tenants(**limits))
        os.rename(self.path + ".new", self.path)

    def test(self):
        self.path = os.path.join(self.dir, "tenants")
        self.put(acme="budget 30/mo;")
        self.nginx.write(http=self.upstream + f"axion_tenants "
                         f"file={self.path} interval=200ms;")
        self.start()
        for end in (30, 50):
            self.put(acme=f"budget {end}/mo;")
            rig.wait_until(
                lambda end=end: self.tenant("acme")["limits"][0]["is"] == end,
                "the limit to be read")
            text, _, _ = self.ask("acme", "!tokens=100 abcd").stream()
            self.assertLess(len(text), 400)
            self.wait_idle()
            self.assertEqual(self.spent("acme"), end)
            status, _, _ = self.ask("acme", "abcd").whole()
            self.assertEqual(status, 429)
        values = self.nginx.metrics()
        self.assertEqual(values['axion_tenant_limit{tenant="acme",'
                                'limit="budget_month"}'], 50)


if __name__ == "__main__":
    rig.main()
