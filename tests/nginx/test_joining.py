"""Engines found by a pattern: they join when their socket appears and leave when
it is gone, in every worker, without a reload and without a request lost; what
they announce is found by its name meanwhile."""

import json
import os
import signal
import socket
import threading

import fake_remote
import rig

LONG = "axion_timeout connect=60s stall=60s accept=60s;"


class Joining(rig.Test):
    WORKERS = 2
    MODELS = ("one", "two", "one")
    LISTED = ""

    def setUp(self):
        super().setUp()
        self.sockets = os.path.join(self.dir, "run")
        os.mkdir(self.sockets)
        self.engines = []
        for i, model in enumerate(self.MODELS):
            self.engines.append(
                rig.Echo(self.sockets, f"e{i}", ["--model", model]))
            self.addCleanup(self.engines[i].stop)
        rig.WITNESSES[1:] = [e.told for e in self.engines]
        self.write(f"{self.LISTED} engine unix:{self.sockets}/*.sock "
                   "interval=200ms;")

    def write(self, lines, more=""):
        self.nginx.write(http=f"axion_upstream llm {{ {lines} }}{more} {LONG}",
                         server=self.SERVER
                         + "add_header X-Engine $axion_engine always;")

    def start(self, *which):
        for i in which:
            self.engines[i].start()
        self.nginx.start()
        self.nginx.wait("connected to engine", self.WORKERS * len(which))

    def ask(self, model, text="abcd", **fields):
        client = self.client()
        client.send("POST", "/v1/completions", json.dumps(
            {"model": model, "prompt": text, **fields}).encode())
        return client

    def engine_of(self, model):
        status, headers, body = self.ask(model).whole()
        self.assertEqual(status, 200, body)
        return os.path.basename(headers["x-engine"])

    def status(self):
        code, body = self.nginx.get("/status")
        self.assertEqual(code, 200)
        return json.loads(body)["upstreams"][0]

    def leave(self, i, count=None):
        """Its drain, its end, and every worker's notice of it."""
        self.engines[i].kill(signal.SIGTERM)
        self.engines[i].process.wait()
        self.nginx.wait(f'engine "unix:{self.engines[i].path}" leaves',
                        count or self.WORKERS)


class ByName(Joining):
    def test_models_come_and_go_with_engines(self):
        self.start(0)
        self.assertEqual(self.ask("two").whole()[0], 404)
        self.engines[1].start()
        self.nginx.wait("connected to engine", 4)
        for _ in range(4):
            self.assertEqual(self.engine_of("one"), "e0.sock")
            self.assertEqual(self.engine_of("two"), "e1.sock")
        self.leave(1)
        for _ in range(4):
            self.assertEqual(self.ask("two").whole()[0], 404)
        status = self.status()
        self.assertEqual([os.path.basename(e["address"])
                          for e in status["engines"]], ["e0.sock"])
        self.assertEqual(status["watched"], [f"unix:{self.sockets}/*.sock"])
        values = self.nginx.metrics()
        self.assertEqual(values["axion_engine_joins_total"], 4)
        self.assertEqual(values["axion_engine_leaves_total"], 2)

    def test_nobody_is_there_yet(self):
        os.rmdir(self.sockets)
        self.nginx.start()
        self.nginx.wait("cannot look for engines", 2)
        client = self.ask("two")
        rig.wait_until(lambda: not self.status()["ready"], "not ready")
        os.mkdir(self.sockets)
        self.engines[1].start()
        self.assertEqual(client.whole()[0], 200)

    def test_what_is_no_engine(self):
        """Other files, a socket that nobody listens on."""
        with open(os.path.join(self.sockets, "x.sock"), "wb"):
            pass
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(os.path.join(self.sockets, "dead.sock"))
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(os.path.join(self.sockets, "other"))
        self.nginx.start()
        self.nginx.wait(r'engine ".*/dead.sock" joins', 2)
        self.engines[0].start()
        self.nginx.wait("connected to engine", 2)
        self.assertEqual(self.engine_of("one"), "e0.sock")
        self.assertEqual(self.ask("three").whole()[0], 404)
        self.assertNotIn("x.sock", self.nginx.text())
        self.assertNotIn("/other", self.nginx.text())

    def test_more_than_there_is_room_for(self):
        sockets = [socket.socket(socket.AF_UNIX) for _ in range(70)]
        for i, each in enumerate(sockets):
            each.bind(os.path.join(self.sockets, f"n{i}.sock"))
        self.nginx.start()
        self.nginx.wait("more than 64 engines, some of", 2)
        self.assertEqual(len(self.status()["engines"]), 64)
        for i, each in enumerate(sockets):
            each.close()
            os.unlink(os.path.join(self.sockets, f"n{i}.sock"))
        self.nginx.wait("leaves axion_upstream", 128)
        self.engines[0].start()
        self.nginx.wait("connected to engine", 2)
        self.assertEqual(self.engine_of("one"), "e0.sock")
    def test_a_killed_engine_comes_back(self):
        """It could not remove its socket: it is still the same engine."""
        self.start(0)
        self.engines[0].stop()
        self.nginx.wait("lost engine", 2)
        self.engines[0].start()
        self.nginx.wait("connected to engine", 4)
        self.assertEqual(self.engine_of("one"), "e0.sock")
        self.assertNotIn("leaves", self.nginx.text())

    def test_a_reload_and_a_killed_worker(self):
        self.expected = "exited on signal 9"
        self.start(0, 1)
        os.kill(self.nginx.workers()[0], signal.SIGKILL)
        self.nginx.wait("connected to engine", 6)
        self.nginx.signal(signal.SIGHUP)
        self.nginx.wait("connected to engine", 10)
        for _ in range(4):
            self.assertEqual(self.engine_of("two"), "e1.sock")


class TwoUpstreams(Joining):
    def test_one_engine_in_both(self):
        """It is one channel per worker, and leaves both."""
        lines = f"engine unix:{self.sockets}/*.sock interval=200ms;"
        other = f"engine unix:{self.sockets}/e[01].sock interval=200ms;"
        self.nginx.write(
            http=f"axion_upstream llm {{ {lines} }} {LONG}"
                 f"axion_upstream few {{ {other} }}",
            server=self.SERVER + "location /few/v1/ { axion_pass few; }")
        self.start(0, 2)
        self.assertEqual(self.nginx.text().count("connected to engine"), 4)
        self.assertEqual(self.nginx.text().count("joins"), 6)
        self.leave(0, 4)
        self.assertEqual(self.ask("one").whole()[0], 200)
        self.leave(2)
        self.engines[0].start()
        self.nginx.wait("connected to engine", 6)
        self.assertEqual(self.ask("one").whole()[0], 200)


class Listed(Joining):
    def setUp(self):
        self.LISTED = ""
        super().setUp()
        self.write(f"engine unix:{self.engines[0].path}; "
                   f"engine unix:{self.sockets}/*.sock interval=200ms;")

    def test_a_listed_engine_never_leaves(self):
        self.start(0, 1)
        self.leave(1)
        self.engines[0].kill(signal.SIGTERM)
        self.engines[0].process.wait()
        client = self.ask("one")
        self.engines[0].start()
        self.assertEqual(client.whole()[0], 200)
        self.assertNotIn(f'"unix:{self.engines[0].path}" leaves',
                         self.nginx.text())


class BesideARemote(Joining):
    """A socket whose engine never says anything, and a remote."""

    WORKERS = 1

    def test_it_is_not_waited_for(self):
        remote = fake_remote.Remote()
        self.addCleanup(remote.close)
        self.write(f"engine unix:{self.sockets}/*.sock interval=200ms; "
                   f"remote http://127.0.0.1:{remote.port} backup models=far;")
        self.start(0)
        silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(silent.close)
        path = f"{self.sockets}/silent.sock"
        silent.bind(path)
        os.chmod(path, 0o666)
        silent.listen(8)
        silent.accept()[0].close()
        self.nginx.wait(f'"unix:{path}" is not available')
        shakes, _ = silent.accept()
        self.addCleanup(shakes.close)
        client = self.client()
        client.chat("a b", model="far")
        self.assertEqual(client.stream(), ("ab", None, True))


class UnderLoad(Joining):
    MODELS = ("echo", "echo", "echo")
    HTTP = "axion_tenant acme { key sha256:%s; }"
    CLIENTS = 8

    def setUp(self):
        super().setUp()
        self.stop_clients = threading.Event()
        self.faults = []
        self.served = []

    def work(self, number):
        try:
            while not self.stop_clients.is_set():
                client = rig.Client(self.nginx.port)
                client.chat(f"!tokens=12 !delay_ms=3 {number:04}")
                answer = client.stream()
                if answer != (f"{number:04}" * 12, None, True):
                    raise AssertionError(answer)
                self.served.append(number)
        except BaseException as error:  # noqa: B902  told by the test
            self.faults.append(repr(error))

    def more_served(self, n):
        now = len(self.served)
        rig.wait_until(lambda: len(self.served) >= now + n or self.faults,
                       f"{n} more answers")

    def test_no_request_is_lost(self):
        """Engines come and drain away, one after the other, again and again,
        while clients stream; in the end none of the first is left."""
        self.start(0)
        threads = [threading.Thread(target=self.work, args=(n,))
                   for n in range(self.CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(6):
                new, old = (turn + 1) % 3, turn % 3
                self.engines[new].start()
                self.nginx.wait("connected to engine", 2 * (turn + 2))
                self.more_served(self.CLIENTS)
                left = self.nginx.text().count(
                    f'"unix:{self.engines[old].path}" leaves')
                self.leave(old, left + 2)
                self.more_served(self.CLIENTS)
        finally:
            self.stop_clients.set()
            for thread in threads:
                thread.join()
        self.assertEqual(self.faults, [])
        self.assertEqual(set(self.served), set(range(self.CLIENTS)))
        self.assertEqual(len(self.status()["engines"]), 1)


if __name__ == "__main__":
    rig.main()
