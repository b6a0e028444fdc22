#!/usr/bin/env python3
"""Two nodes, one tenant, a real redis-server: the limit is never passed and
can be used up by whoever needs it; a Redis that is killed, stopped, empty
after a restart, slow or hostile neither blocks a worker nor lets one spend
what was not granted; TLS and passwords.  Budgets
are of months, since one of a day ends in the run that meets midnight.
What was spent is the engine's word, in both nodes' own balances."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import fake_remote
import rig
import test_limits

REDIS = shutil.which("redis-server")


class Redis:
    """A redis-server of the test's own; one folder, so that what it saved is
    there again after a restart, unless it is wiped."""

    def __init__(self, folder, *options, tls=()):
        self.dir = os.path.join(folder, "redis")
        os.mkdir(self.dir)
        self.port = rig.free_port()
        self.options = ["--port", "0", "--tls-port", str(self.port), *tls] \
            if tls else ["--port", str(self.port)]
        self.options += ["--bind", "127.0.0.1", "--save", "", *options]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [REDIS, *self.options, "--dir", self.dir, "--logfile",
             os.path.join(self.dir, "log")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        rig.wait_until(self.accepts, "redis-server to accept")
        return self

    def accepts(self):
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        except OSError:
            assert self.process.poll() is None, "redis-server ended"
            return False

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def command(self, *words):
        """A reply's first line, or of an array its members."""
        with socket.create_connection(("127.0.0.1", self.port)) as s:
            s.sendall(f"*{len(words)}\r\n".encode() + b"".join(
                f"${len(w)}\r\n{w}\r\n".encode() for w in words))
            f = s.makefile("rb")
            line = f.readline().decode().strip()
            if not line.startswith("*"):
                return line[1:]
            values = []
            for _ in range(int(line[1:])):
                f.readline()
                values.append(f.readline().decode().strip())
            return values


class Base(rig.Test):
    """Nodes a and b, each with a folder, a port and balances of its own."""

    LIMITS = "budget 20k/mo;"
    QUOTA = ""
    WORKERS = 1
    NODES = 2

    def setUp(self):
        super().setUp()
        self.echo.options = ["--model", "echo"]
        self.redis = self.make_redis()
        self.addCleanup(self.redis.kill)
        self.nodes = [self.make_node(n) for n in range(self.NODES)]
        self.nginx = self.nodes[0]
        rig.WITNESSES[:] = [self.echo.told, *(n.told for n in self.nodes)]

    def clean(self):
        for node in self.nodes[1:]:
            node.stop()
        super().clean()

    def make_redis(self):
        return Redis(self.dir)

    def url(self):
        return f"redis://127.0.0.1:{self.redis.port}"

    def upstream(self):
        return f"engine unix:{self.echo.path};"

    def make_node(self, number):
        folder = os.path.join(self.dir, f"node{number}")
        os.mkdir(folder)
        os.chmod(folder, 0o755)
        node = rig.Nginx(
            folder, self.SERVER,
            f"axion_upstream llm {{ {self.upstream()} }}\n"
            + test_limits.tenants(acme=self.LIMITS)
            + f"axion_quota {self.url()} {self.QUOTA};\n", self.WORKERS)
        self.addCleanup(node.stop)
        return node

    def start(self, redis=True):
        if redis:
            self.redis.start()
        self.echo.start()
        for node in self.nodes:
            node.start()
            if redis:
                node.wait("quota store .* is connected", self.WORKERS)

    def ask(self, node, prompt="abcd", **fields):
        client = rig.Client(self.nodes[node].port)
        self.addCleanup(client.close)
        return client.chat(prompt, headers=["Authorization: Bearer acme"],
                           **fields)

    def answer(self, node, prompt="abcd", **fields):
        """(status, code or None) of a request that is not streamed."""
        status, _, body = self.ask(node, prompt, stream=False,
                                   **fields).whole()
        error = json.loads(body).get("error")
        return status, error and error["code"]

    def state(self, node):
        status, body = self.nodes[node].get("/status")
        self.assertEqual(status, 200)
        return json.loads(body)

    def tenant(self, node):
        for tenant in self.state(node)["tenants"]:
            if tenant["name"] == "acme":
                return tenant
        raise AssertionError("no tenant acme")

    def spent(self):
        return sum(self.tenant(n)["month"]["tokens"] for n in range(self.NODES))

    def leased(self, node, limit="budget_month"):
        for entry in self.tenant(node)["limits"]:
            if entry["limit"] == limit:
                return entry["leased"]
        raise AssertionError(f"no limit {limit}")

    def granted(self):
        """What Redis has granted of the budget to all nodes."""
        keys = self.redis.command("KEYS", "axion:{acme}:budget_month:*")
        return sum(int(self.redis.command("HMGET", key, "t")[0])
                   for key in keys)

    def flood(self, threads, until, nodes=None):
        """Clients of all nodes at once, each until `until` says so of an
        answer.  All answers."""
        answers, lock = [], threading.Lock()

        def client(node):
            while True:
                answer = self.answer(node, "!tokens=9 abcd")
                with lock:
                    answers.append((node, *answer))
                if until(answer):
                    return
        running = [threading.Thread(target=client, args=(n % self.NODES,))
                   for n in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return answers


class Shared(Base):
    def test_the_budget_is_one_and_all_of_it_can_be_used(self):
        self.start()
        self.flood(8, lambda answer: answer[0] != 200)
        # what one node has left over comes back, and the other may spend it
        def used_up():
            for n in (0, 1):
                while self.answer(n, "a", max_tokens=1)[0] == 200:
                    pass
            return self.spent() >= 19999
        rig.wait_until(used_up, "the last tokens to be used")
        self.assertLessEqual(self.spent(), 20000)
        self.assertLessEqual(self.granted(), 20000)
        for n in (0, 1):
            self.assertEqual(self.answer(n), (429, "insufficient_quota"))
            self.assertGreater(self.tenant(n)["requests"], 0)

    def test_most_requests_need_no_round_trip(self):
        self.start()
        for _ in range(100):
            self.assertEqual(self.answer(0, "abcd", max_tokens=8)[0], 200)
        metrics = self.nodes[0].metrics()
        self.assertLess(metrics["axion_quota_asks_total"], 25)
        self.assertEqual(metrics["axion_quota_asks_total"],
                         metrics["axion_quota_answers_total"])
        self.assertEqual(metrics["axion_quota_up"], 1)
        label = '{tenant="acme",limit="budget_month"}'
        self.assertEqual(metrics["axion_quota_granted_total" + label],
                         self.granted())
        self.assertEqual(metrics["axion_quota_leased" + label],
                         self.leased(0))

    def test_idle_leases_go_back(self):
        self.start()
        self.assertEqual(self.answer(0)[0], 200)
        self.assertGreater(self.granted(), 1000 - 300)
        rig.wait_until(lambda: self.granted() == self.spent(),
                       "the lease to be given back")
        self.assertEqual(self.leased(0), 0)
        self.assertEqual(self.answer(0)[0], 200)

    def test_leases_that_workers_left_go_back(self):
        self.start()
        self.expected = "exited on signal 9"
        self.assertEqual(self.answer(0)[0], 200)
        self.assertGreater(self.granted(), self.spent())
        self.nodes[0].signal(signal.SIGHUP)
        self.nodes[0].wait("quota store .* is connected", 2)
        rig.wait_until(lambda: self.granted() == self.spent(),
                       "the old worker's lease to be given back")
        self.assertEqual(self.answer(0)[0], 200)
        (pid,) = self.nodes[0].workers()
        os.kill(pid, signal.SIGKILL)
        self.nodes[0].wait("quota store .* is connected", 3)
        rig.wait_until(lambda: self.granted() == self.spent(),
                       "the killed worker's lease to be given back")

    def test_a_stream_gets_more_and_ends_at_the_last_token(self):
        self.start()
        text, error, done = self.ask(0, "!tokens=15000 abcd",
                                     max_tokens=15000).stream()
        self.assertEqual((len(text), error, done), (60000, None, True))
        client = self.ask(1, "!tokens=15000 abcd", max_tokens=15000)
        _, _, body = client.whole()
        self.assertIn(b'"finish_reason":"length"', body)
        self.assertIn(b"insufficient_quota", body)
        self.assertLessEqual(self.spent(), 20000)
        # what is left is what the other node has: a lease at most, asked for
        # while its stream held the 64 tokens that echo asks for, and what
        # that gave back of them at its end
        self.assertLessEqual(self.leased(0), 1000 + 64)
        self.assertGreaterEqual(self.spent() + self.leased(0)
                                + self.leased(1), 20000)

    def test_a_killed_worker_takes_nothing_along(self):
        self.start()
        self.expected = "exited on signal 9"
        self.assertEqual(self.answer(0)[0], 200)
        (pid,) = self.nodes[0].workers()
        os.kill(pid, signal.SIGKILL)
        self.nodes[0].wait("quota store .* is connected", 2)
        self.flood(4, lambda answer: answer[0] == 429)
        self.assertLessEqual(self.spent(), 20000)
        self.assertLessEqual(self.granted(), 20000)

    def test_a_restarted_node_goes_on(self):
        self.start()
        self.assertEqual(self.answer(0)[0], 200)
        spent, leased = self.spent(), self.leased(0)
        self.nodes[0].stop()
        self.nodes[0].start()
        self.assertEqual((self.spent(), self.leased(0)), (spent, leased))
        self.assertEqual(self.answer(0)[0], 200)
        self.assertEqual(self.nodes[0].metrics()["axion_quota_asks_total"], 0)

    def test_a_lost_file_is_found_out(self):
        self.start()
        self.assertEqual(self.answer(0)[0], 200)
        state = os.path.join(self.nodes[0].dir, "nginx.pid.axion-limits")
        old = os.path.join(self.dir, "old")
        shutil.copy(state, old)
        # another question: the store is ahead of the copy
        self.flood(1, lambda a: self.leased(0) > 0 and self.spent() > 1500)
        granted = self.granted()
        self.nodes[0].stop()
        os.replace(old, state)
        self.nodes[0].start()
        self.flood(2, lambda answer: answer[0] == 429)
        self.nodes[0].wait("the quota store knows more of tenant \"acme\"")
        self.assertGreaterEqual(self.tenant(0)["month"]["tokens"], granted)
        self.assertLessEqual(self.granted(), 20000)


class Traffic(Base):
    NODES = 1
    LIMITS = "budget 20M/mo;"

    def test_a_lease_stays_where_requests_come(self):
        # one request after the other, so that often none runs
        self.start()
        asks, begin, last = None, 0, 0
        while last - begin < 5:
            self.assertEqual(self.answer(0, "a", max_tokens=1)[0], 200)
            before, last = last, time.monotonic()
            if asks is None or last - before > 2:
                begin = last    # the first, or so slow that it was idle
                asks = self.nodes[0].metrics()["axion_quota_asks_total"]
        self.assertEqual(self.nodes[0].metrics()["axion_quota_asks_total"],
                         asks)


class Remote(Base):
    """What a remote may answer is reserved before it is asked."""

    NODES = 1

    def upstream(self):
        self.remote = fake_remote.Remote()
        self.addCleanup(self.remote.close)
        return f"remote 127.0.0.1:{self.remote.port};"

    def test_a_share_is_no_limit(self):
        """More than the node's share holds is asked for, not cut off."""
        self.start()
        self.assertEqual(self.answer(0), (200, None))
        self.assertEqual(self.remote.requests[0][1]["max_tokens"], 8192)

    def test_what_is_left_is(self):
        self.start()
        self.assertEqual(self.answer(0, max_tokens=30000), (200, None))
        self.assertLess(self.remote.requests[0][1]["max_tokens"], 20000)
        self.assertGreater(self.remote.requests[0][1]["max_tokens"], 19000)


class Workers(Base):
    WORKERS = 2

    def test_workers_share_a_nodes_lease(self):
        self.start()
        self.flood(8, lambda answer: answer[0] != 200)
        self.assertLessEqual(self.spent(), 20000)
        self.assertLessEqual(self.granted(), 20000)


class Rates(Base):
    LIMITS = "requests 40/h burst=40;"

    def test_a_rate_is_one(self):
        self.start()
        answers = self.flood(4, lambda answer: answer[0] != 200)
        good = sum(1 for a in answers if a[1] == 200)
        refused = {a[1:] for a in answers if a[1] != 200}
        self.assertEqual(refused, {(429, "rate_limit_exceeded")})
        # leases of rates do not come back: some of it may lie with a node
        left = self.leased(0, "requests") + self.leased(1, "requests")
        self.assertIn(good + left, (40, 41))

    def test_retry_after_is_the_shared_buckets(self):
        self.start()
        self.flood(2, lambda answer: answer[0] != 200)
        status, headers, _ = self.ask(0, stream=False).whole()
        self.assertEqual(status, 429)
        self.assertEqual(headers["x-ratelimit-limit-requests"], "40")
        self.assertLessEqual(int(headers["retry-after"]), 90)
        self.assertGreater(int(headers["retry-after"]), 30)


class Many(Base):
    NODES = 1
    TENANTS = 1010

    def make_node(self, number):
        node = super().make_node(number)
        node.write(http=node.settings["http"] + test_limits.tenants(
            **{f"t{n}": self.LIMITS for n in range(self.TENANTS)}))
        return node

    def test_metrics_have_as_many_tenants_as_they_say(self):
        self.start()
        for n in range(self.TENANTS):
            client = rig.Client(self.nodes[0].port)
            client.chat("a", headers=[f"Authorization: Bearer t{n}"],
                        max_tokens=1, stream=False).whole()
            client.close()
        metrics = list(self.nodes[0].metrics())
        for name in ("tenant_requests_total", "quota_leased",
                     "quota_granted_total"):
            self.assertEqual(
                sum(m.startswith(f"axion_{name}{{") for m in metrics), 1000)


class Large(Base):
    QUOTA = "lease=50%"
    LIMITS = "tokens 1/d burst=1000G;"

    def test_a_bucket_that_never_drains(self):
        self.start()
        self.assertEqual(self.answer(0)[0], 200)
        self.assertEqual(
            self.nodes[0].metrics()["axion_quota_failures_total"], 0)


class Waits(Base):
    LIMITS = "tokens 20/m burst=100; queue 1 wait=60s;"

    def test_a_stream_waits_for_the_shared_rate(self):
        # the store is asked, has no more, and only then the wait begins
        self.start()
        prompt = "!delay_ms=20 !tokens=NN abcd"
        tokens = 101 - test_limits.prompt_tokens(prompt)
        text, error, done = self.ask(0, prompt.replace("NN", str(tokens)),
                                     max_tokens=tokens).stream()
        self.assertEqual((text, error, done), ("abcd" * tokens, None, True))


class Costs(Base):
    LIMITS = "cost_budget 0.05/mo;"

    def make_node(self, number):
        node = super().make_node(number)
        node.write(http=node.settings["http"]
                   + "axion_price echo prompt=1 completion=10;\n")
        return node

    def test_a_budget_of_cost_is_one(self):
        self.start()
        self.flood(4, lambda answer: answer[0] != 200)
        cost = sum(self.tenant(n)["month"]["cost"] for n in (0, 1))
        self.assertLessEqual(cost, 0.05)
        self.assertGreater(cost, 0.03)


class Away(Base):
    QUOTA = "timeout=200ms"

    def lease(self):
        """Both nodes have a lease, and traffic enough to keep it."""
        for n in (0, 1):
            self.assertEqual(self.answer(n)[0], 200)

    def exhaust(self, node):
        """Until the node has an answer that is no 200; that answer."""
        while True:
            answer = self.answer(node, "!tokens=9 abcd")
            if answer[0] != 200:
                return answer

    def test_killed(self):
        self.start()
        self.lease()
        self.redis.kill()
        self.nodes[0].wait("is away: ")
        granted = self.tenant(0)["month"]["tokens"] + self.leased(0)
        self.assertEqual(self.answer(0)[0], 200)      # within its last lease
        self.assertEqual(self.exhaust(0), (503, "quota_unavailable"))
        self.assertLessEqual(self.tenant(0)["month"]["tokens"], granted)
        state = self.state(0)["quota"]
        self.assertEqual((state["state"], state["fail"]), ("away", "closed"))
        metrics = self.nodes[0].metrics()
        self.assertEqual(metrics["axion_quota_up"], 0)
        self.assertGreater(metrics["axion_quota_refused_total"], 0)
        # it comes back empty and learns what was granted
        self.redis.start()
        for node in self.nodes:
            node.wait("quota store .* is back")
        self.assertEqual(self.answer(0)[0], 200)
        self.flood(4, lambda answer: answer[0] == 429)
        self.assertLessEqual(self.spent(), 20000)
        self.assertLessEqual(self.granted(), 20000)
        self.assertEqual(len(
            rig.re.findall(r"\[error\].*is away", self.nodes[0].text())), 1)

    def test_stopped(self):
        self.start()
        self.lease()
        self.redis.signal(signal.SIGSTOP)
        # nothing of the worker waits for it: other requests are served
        slow = self.ask(0, "!tokens=18000 abcd", max_tokens=18000)
        slow.until(b"abcd")
        self.assertEqual(self.nodes[0].get("/status")[0], 200)
        _, _, body = slow.whole()
        self.assertIn(b'"finish_reason":"length"', body)
        self.assertIn(b"quota_unavailable", body)
        self.assertIn("no answer in time", self.nodes[0].text())
        self.assertEqual(self.exhaust(0), (503, "quota_unavailable"))
        self.redis.signal(signal.SIGCONT)
        self.nodes[0].wait("quota store .* is back")
        self.assertEqual(self.answer(0)[0], 200)
        self.flood(4, lambda answer: answer[0] == 429)
        self.assertLessEqual(self.spent(), 20000)

    def test_lets_in_but_takes_nothing(self):
        # a replica after a failover, one that is out of memory or of its disk
        self.start()
        self.lease()
        self.redis.command("REPLICAOF", "127.0.0.1", "1")
        self.assertEqual(self.exhaust(0), (503, "quota_unavailable"))
        failures = self.failures()
        rig.wait_until(lambda: self.failures() > failures + 2,
                       "more attempts")
        text = self.nodes[0].text()
        self.assertEqual(len(rig.re.findall(r"\[error\].*is away", text)), 1)
        self.assertIn('is away: it answers "', text)
        self.assertNotIn("is back", text)
        self.redis.command("REPLICAOF", "NO", "ONE")
        self.nodes[0].wait("quota store .* is back")
        self.assertEqual(self.answer(0)[0], 200)

    def failures(self):
        return self.nodes[0].metrics()["axion_quota_failures_total"]

    def test_never_there(self):
        self.start(redis=False)
        self.nodes[0].wait("is away: it does not accept connections")
        status, headers, _ = self.ask(0, stream=False).whole()
        self.assertEqual((status, headers["retry-after"]), (503, "1"))


class AwayOpen(Away):
    QUOTA = "timeout=200ms fail=open"

    def test_killed(self):
        self.start()
        self.lease()
        self.redis.kill()
        for node in self.nodes:
            node.wait("is away: ")
        # each goes on as if the other stood still, within the limit
        for n in (0, 1):
            self.assertEqual(self.exhaust(n), (429, "insufficient_quota"))
            self.assertLessEqual(self.tenant(n)["month"]["tokens"], 20000)
        self.assertGreater(
            self.nodes[0].metrics()["axion_quota_alone_total"], 0)
        spent = self.spent()
        self.assertGreater(spent, 20000)
        # and owns up to it when the store is back
        self.redis.start()
        rig.wait_until(lambda: self.granted() >= spent, "both to own up")
        for n in (0, 1):
            self.assertEqual(self.exhaust(n), (429, "insufficient_quota"))

    def test_stopped(self):
        self.start()
        self.lease()
        self.redis.signal(signal.SIGSTOP)
        text, error, done = self.ask(0, "!tokens=15000 abcd",
                                     max_tokens=15000).stream()
        self.assertEqual((len(text), error, done), (60000, None, True))
        self.redis.signal(signal.SIGCONT)
        self.nodes[0].wait("quota store .* is back")
        self.flood(4, lambda answer: answer[0] == 429)
        self.assertLessEqual(self.spent(), 20000)

    def test_lets_in_but_takes_nothing(self):
        self.start()
        self.redis.command("REPLICAOF", "127.0.0.1", "1")
        self.assertEqual(self.exhaust(0), (429, "insufficient_quota"))
        self.redis.command("REPLICAOF", "NO", "ONE")
        rig.wait_until(lambda: self.granted() >= self.spent(),
                       "the node to own up")

    def test_never_there(self):
        self.start(redis=False)
        self.nodes[0].wait("is away: ")
        self.assertEqual(self.answer(0)[0], 200)


class Password(Base):
    def make_redis(self):
        return Redis(self.dir, "--requirepass", "s3cr:t/@")

    def url(self):
        return (f"redis://:s3cr%3At%2F%40@127.0.0.1:{self.redis.port}/3"
                if self.right else
                f"redis://acme:wrong-one@127.0.0.1:{self.redis.port}")

    right = True

    def test_right(self):
        self.start()
        self.assertEqual(self.answer(0)[0], 200)

    def test_in_a_file(self):
        file = os.path.join(self.dir, "password")
        with open(file, "w", encoding="ascii") as f:
            f.write("s3cr:t/@\n")
        for node in self.nodes:
            http = node.settings["http"].replace(
                ":s3cr%3At%2F%40@", "").replace(
                    "/3 ;", f" password_file={file};")
            node.write(http=http)
        self.start()
        self.assertEqual(self.answer(0)[0], 200)

    def test_wrong(self):
        self.right = False
        for n in range(self.NODES):
            node = self.nodes[n]
            node.write(http=rig.re.sub(r"axion_quota [^;]*;",
                                       f"axion_quota {self.url()};",
                                       node.settings["http"]))
        self.redis.start()
        self.echo.start()
        self.nodes[0].start()
        self.nodes[0].wait("the login is refused: WRONGPASS")
        self.assertEqual(self.answer(0), (503, "quota_unavailable"))
        text = self.nodes[0].text() + json.dumps(self.state(0))
        self.assertNotIn("wrong-one", text)


class Tls(Base):
    """redis-server with TLS, certificates made here."""

    def make_redis(self):
        self.key, self.pem = (os.path.join(self.dir, f"redis.{e}")
                              for e in ("key", "pem"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             "/CN=redis.test", "-addext", "subjectAltName=DNS:redis.test",
             "-keyout", self.key, "-out", self.pem],
            check=True, capture_output=True)
        return Redis(self.dir, tls=(
            "--tls-cert-file", self.pem, "--tls-key-file", self.key,
            "--tls-auth-clients", "no"))

    def url(self):
        return (f"rediss://127.0.0.1:{self.redis.port} ssl_name=redis.test "
                f"ssl_trusted_certificate={self.pem}")

    def change(self, old, new):
        node = self.nodes[0]
        node.write(http=node.settings["http"].replace(old, new))
        self.redis.start()
        self.echo.start()
        node.start()

    def test_verified(self):
        self.start()
        for n in (0, 1):
            self.assertEqual(self.answer(n)[0], 200)

    def test_not_verified(self):
        self.change(f"ssl_trusted_certificate={self.pem}", "ssl_verify=off")
        self.assertEqual(self.answer(0)[0], 200)

    def test_another_name(self):
        self.change("ssl_name=redis.test", "ssl_name=other.test")
        self.nodes[0].wait("its certificate has another name")
        self.assertEqual(self.answer(0), (503, "quota_unavailable"))

    def test_not_trusted(self):
        other = os.path.join(self.dir, "other.pem")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=other",
             "-keyout", other + ".key", "-out", other],
            check=True, capture_output=True)
        self.change(self.pem, other)
        self.nodes[0].wait("its certificate is not trusted")


class Hostile(Base):
    """Not Redis at all: whatever it says, the worker lives and goes on."""

    NODES = 1
    REPLIES = (
        b"+OK\r\n" * 100,
        b"*1000000000\r\n:1\r\n",
        b"$536870912\r\nx",
        b"*3\r\n:1\r\n:1\r\n$1\r\nx\r\n",
        b"*3\r\n:1\r\n:99999999999999999\r\n:0\r\n",
        b"*1\r\n*1\r\n*1\r\n:1\r\n",
        b":1\r\n", b"$-1\r\n", b"*0\r\n", b"\x00\xff\r\n", b"",
        b"-" + b"x" * 5000,
    )

    def test_replies(self):
        listener = socket.create_server(("127.0.0.1", self.redis.port))
        self.addCleanup(listener.close)
        self.echo.start()
        self.nodes[0].start()

        def serve():
            for reply in self.REPLIES:
                s, _ = listener.accept()
                with s:
                    s.recv(65536)
                    s.sendall(b"+OK\r\n*1\r\n:1\r\n")
                    if s.recv(65536):
                        s.sendall(reply)
                        s.shutdown(socket.SHUT_WR)
                        while s.recv(65536):
                            pass
        server = threading.Thread(target=serve)
        server.start()
        (pid,) = self.nodes[0].workers()
        while server.is_alive():
            # closed, opened by a grant that the store made up, or away
            self.assertIn(self.answer(0, "!tokens=99 abcd")[0],
                          (200, 429, 503))
        server.join()
        self.assertEqual(self.nodes[0].workers(), [pid])


class Kills(Base):
    """Random traffic of both nodes, while Redis and workers are killed,
    stopped, started again with what it had and without."""

    QUOTA = "timeout=100ms lease=3%"
    LIMITS = "budget 60k/mo;"

    def test_never_more_than_the_limit_and_the_leases(self):
        seed = int(os.environ.get("AXION_SEED",
                                  random.SystemRandom().randrange(1 << 30)))
        print(f"seed {seed}")
        dice = random.Random(seed)
        self.expected = "exited on signal 9"
        self.start()
        done = threading.Event()
        flood = threading.Thread(target=lambda: self.flood(
            6, lambda answer: done.is_set()))
        flood.start()
        try:
            for _ in range(12):
                self.step(dice)
        finally:
            done.set()
            flood.join()
        rig.wait_until(lambda: all(
            n.metrics()["axion_leases"] == 0 for n in self.nodes),
            "every lease to end")
        spent = self.spent()
        # a lease each, of three hundredths, and what one request may want
        self.assertLessEqual(spent, 60000 + 2 * (1800 + 400))
        self.assertGreater(spent, 0)
        self.flood(4, lambda answer: answer[0] == 429)
        self.assertLessEqual(self.spent(), 60000 + 2 * (1800 + 400))

    def step(self, dice):
        what = dice.choice(("kill", "stop", "worker", "flush", "restart"))
        before = self.tenant(0)["requests"] + self.tenant(1)["requests"]
        node = dice.randrange(2)
        if what == "kill":
            self.redis.kill()
            self.progress(before)
            self.redis.start()
        elif what == "stop":
            self.redis.signal(signal.SIGSTOP)
            self.progress(before)
            self.redis.signal(signal.SIGCONT)
        elif what == "flush":
            self.redis.command("FLUSHALL")
        elif what == "worker":
            for pid in self.nodes[node].workers():
                os.kill(pid, signal.SIGKILL)
        else:
            self.nodes[node].signal(signal.SIGHUP)
        rig.wait_until(lambda: all(
            self.up(n) for n in range(self.NODES)), "the store to be back")

    def progress(self, before):
        """Something of both nodes is answered, whatever it is."""
        for n in (0, 1):
            self.answer(n)

    def up(self, node):
        try:
            return self.state(node)["quota"]["state"] == "up"
        except (AssertionError, OSError, ValueError):
            return False  # its worker is only just started

    def answer(self, node, prompt="abcd", **fields):
        try:
            return super().answer(node, prompt, **fields)
        except (AssertionError, OSError, ValueError, IndexError):
            return 0, "its worker was killed"


if __name__ == "__main__":
    if REDIS is None:
        print("skipped: redis-server is not there")
        sys.exit(77)
    rig.main()
