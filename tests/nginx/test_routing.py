"""Which engine a request goes to, and which model: the least loaded one that
announces the model; for a long prompt the one that saw its beginning, unless
it is fuller; another model where a `fallback` line has one; engines that come
later, or go, without a reload."""

import hashlib
import json
import signal

import rig

SYSTEM = "You answer questions about the sea. " * 20
LONG = "connect=60s stall=60s accept=60s"


class Routing(rig.Test):
    """Three engines; a request's engine is in the answer's headers."""

    MODELS = (("echo",), ("echo",), ("echo",))
    LINES = ""
    TIMES = LONG

    def setUp(self):
        super().setUp()
        self.engines = []
        for i, models in enumerate(self.MODELS):
            options = [x for model in models for x in ("--model", model)]
            self.engines.append(rig.Echo(self.dir, f"e{i}", options))
            self.addCleanup(self.engines[i].stop)
        lines = "".join(f"engine unix:{e.path};" for e in self.engines)
        self.nginx.write(
            http=f"axion_upstream llm {{ {lines} {self.LINES} }}\n"
            + f"axion_timeout {self.TIMES};" + self.HTTP,
            server=self.SERVER + """
                add_header X-Engine $axion_engine always;
                add_header X-Served $axion_served_model always;
            """)

    def start(self, *which):
        for i in which or range(len(self.engines)):
            self.engines[i].start()
        self.nginx.start()
        self.nginx.wait("connected to engine",
                        self.WORKERS * len(which or self.engines))

    def ask(self, text, model="echo", system=None, headers=(), **fields):
        messages = [{"role": "user", "content": text}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        client = self.client()
        client.send("POST", "/v1/chat/completions", json.dumps(
            {"model": model, "messages": messages, **fields}).encode(),
            headers)
        return client

    def engine_of(self, client):
        """The number of the engine that answered."""
        status, headers, body = client.whole()
        self.assertEqual(status, 200, body)
        paths = ["unix:" + e.path for e in self.engines]
        return paths.index(headers["x-engine"])

    def hold(self, n, system):
        """n streams that their engines work on until the test ends."""
        counts = [0] * len(self.engines)
        for _ in range(n):
            client = self.ask("!stall_after=1 " + "x" * 40, system=system,
                              stream=True)
            client.until(b"xxxx")
            for i, engine in enumerate(self.engines):
                if ("unix:" + engine.path).encode() in client.data:
                    counts[i] += 1
        self.assertEqual(sum(counts), n)
        return counts


class Balance(Routing):
    def test_short_prompts_take_turns(self):
        self.start()
        seen = {self.engine_of(self.ask("abcd")) for _ in range(12)}
        self.assertEqual(seen, {0, 1, 2})

    def test_the_same_beginning_the_same_engine(self):
        self.start()
        seen = {self.engine_of(self.ask("same", system=SYSTEM))
                for _ in range(9)}
        self.assertEqual(len(seen), 1)

    def test_beginnings_are_shared_out(self):
        self.start()
        seen = {self.engine_of(self.ask("abcd", system=f"{i} " + SYSTEM))
                for i in range(40)}
        self.assertEqual(seen, {0, 1, 2})

    def test_a_fuller_engine_is_passed_by(self):
        self.start()
        counts = self.hold(18, SYSTEM)
        self.assertLessEqual(max(counts) - min(counts), 3, counts)

    def test_an_engine_that_packs_comes_last(self):
        """Whatever the prompt; alone it is taken."""
        packing = self.engines[:2]
        for engine in packing:
            engine.options.append("--packing")
        self.start()
        self.assertEqual({self.engine_of(self.ask("abcd", system=system))
                          for system in [None] * 6
                          + [f"{i} " + SYSTEM for i in range(6)]}, {2})
        self.engines[2].stop()
        self.nginx.wait("lost engine")
        self.assertIn(self.engine_of(self.ask("abcd")), (0, 1))
        packing[0].kill(signal.SIGUSR1)
        rig.wait_until(
            lambda: {self.engine_of(self.ask("abcd")) for _ in range(4)} == {0},
            "the first is loaded")

    def test_an_engine_that_goes_and_comes(self):
        self.start()
        first = self.engine_of(self.ask("abcd", system=SYSTEM))
        self.engines[first].stop()
        self.nginx.wait("lost engine")
        other = {self.engine_of(self.ask("abcd", system=SYSTEM))
                 for _ in range(6)}
        self.assertEqual(len(other), 1)
        self.assertNotIn(first, other)
        self.engines[first].start()
        self.nginx.wait("connected to engine", 4)
        self.assertEqual(self.engine_of(self.ask("abcd", system=SYSTEM)),
                         first)


class Workers(Routing):
    WORKERS = 3

    def test_workers_agree(self):
        self.start()
        seen = {self.engine_of(self.ask("abcd", system=SYSTEM))
                for _ in range(20)}
        self.assertEqual(len(seen), 1)


class Off(Routing):
    LINES = "affinity off;"

    def test_no_affinity(self):
        self.start()
        seen = {self.engine_of(self.ask("abcd", system=SYSTEM))
                for _ in range(12)}
        self.assertEqual(seen, {0, 1, 2})


class Joining(Routing):
    MODELS = (("one",), ("two",))

    def test_a_listed_engine_that_starts_later(self):
        self.start(0)
        client = self.ask("abcd", "two")
        self.assertEqual(self.engine_of(self.ask("abcd", "one")), 0)
        self.engines[1].start()
        self.assertEqual(self.engine_of(client), 1)


class Fallback(Routing):
    MODELS = (("big",), ("small", "tiny"))
    LINES = "fallback big small; fallback ghost spirit small;"

    def answer(self, model, **more):
        status, headers, body = self.ask("abcd", model, **more).whole()
        self.assertEqual(status, 200, body)
        value = json.loads(body)
        self.assertEqual(value["model"], model)
        self.assertEqual(value["choices"][0]["message"]["content"], "abcd")
        return headers["x-served"]

    def test_while_it_is_away(self):
        self.start()
        self.assertEqual(self.answer("big"), "big")
        self.engines[0].stop()
        self.nginx.wait("lost engine")
        self.assertEqual(self.answer("big"), "small")
        self.assertEqual(self.nginx.metrics()["axion_fallbacks_total"], 1)
        self.engines[0].start()
        self.nginx.wait("connected to engine", 3)
        self.assertEqual(self.answer("big"), "big")

    def test_a_model_that_nobody_has(self):
        self.start()
        self.assertEqual(self.answer("ghost"), "small")
        status, _, body = self.ask("abcd", "other").whole()
        self.assertEqual(status, 404, body)

    def test_an_engine_that_was_never_there(self):
        self.start(1)
        self.assertEqual(self.answer("big"), "small")

    def test_an_engine_that_loads(self):
        self.engines[0].options.append("--loading")
        self.start()
        self.assertEqual(self.answer("big"), "small")
        self.engines[0].kill(signal.SIGUSR1)
        rig.wait_until(lambda: self.answer("big") == "big", "big is loaded")

    def test_nobody_is_there_yet(self):
        self.nginx.start()
        client = self.ask("abcd", "big")
        self.engines[1].start()
        status, headers, body = client.whole()
        self.assertEqual(status, 200, body)
        self.assertEqual(headers["x-served"], "small")

    def test_back_to_what_was_asked(self):
        """The one that stood in dies before it accepts; then the first is
        back."""
        self.start()
        self.engines[0].stop()
        self.nginx.wait("lost engine")
        self.engines[1].kill(signal.SIGSTOP)
        client = self.ask("abcd", "big")
        rig.wait_until(
            lambda: self.nginx.metrics()["axion_streams_active"] == 1,
            "the request to be submitted")
        self.engines[1].kill()
        self.nginx.wait("lost engine", 2)
        self.engines[0].start()
        status, headers, body = client.whole()
        self.assertEqual((status, headers["x-served"]), (200, "big"), body)


class Rights(Routing):
    """A tenant falls back on what it may use and can pay, nothing else."""

    MODELS = (("big",), ("small", "tiny"))
    TIMES = "connect=200ms stall=60s accept=60s"
    LINES = "fallback big small tiny;"
    # the keys' hashes are those of their names
    HTTP = """
        axion_price big prompt=1000 completion=1000;
        axion_price small prompt=1000000 completion=1000000;
        axion_price tiny prompt=2000 completion=3000;
        axion_tenant few { KEY_few models big; }
        axion_tenant poor { KEY_poor models big small; cost_budget 0.9/mo; }
        axion_tenant some { KEY_some models big tiny; cost_budget 0.9/mo; }
        log_format cost 'cost=$axion_cost';
        access_log logs/cost.log cost;
    """

    def setUp(self):
        super().setUp()
        http = self.nginx.settings["http"]
        for name in ("few", "poor", "some"):
            digest = hashlib.sha256(name.encode()).hexdigest()
            http = http.replace(f"KEY_{name}", f"key sha256:{digest};")
        self.nginx.write(http=http.replace(
            "access_log logs/cost.log", f"access_log {self.dir}/cost.log"))

    def status_of(self, key):
        return self.ask("abcd", "big",
                        headers=[f"Authorization: Bearer {key}"]).whole()

    def test_rights(self):
        self.start()
        self.engines[0].stop()
        self.nginx.wait("lost engine")
        self.assertEqual(self.status_of("few")[0], 503)
        self.assertEqual(self.status_of("poor")[0], 503)
        status, headers, body = self.status_of("some")
        self.assertEqual((status, headers["x-served"]), (200, "tiny"), body)
        usage = json.loads(body)["usage"]
        cost = (usage["prompt_tokens"] * 2000
                + usage["completion_tokens"] * 3000) / 1e6
        line = f"cost={cost:.9f}".rstrip("0")
        rig.wait_until(lambda: line in self.costs(), line)

    def costs(self):
        with open(f"{self.dir}/cost.log", encoding="ascii") as file:
            return file.read()


if __name__ == "__main__":
    rig.main()
