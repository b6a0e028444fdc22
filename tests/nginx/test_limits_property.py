#!/usr/bin/env python3
"""Random traffic of many tenants while workers are killed, nginx reloads with
other limits, clients leave and the engine dies: in the end every balance is
equal, to the token, to what the engine
says that it put on the ring, and no lease is left over.

The model is the engine's log: what every stream was accepted and ended with,
and what its journal says of streams whose gateway died.  Of the streams of
its last round the engine's log may tell an end that never got on the ring: they
cost their prompts and what their clients read.  AXION_SEED repeats a run.
"""

import hashlib
import json
import os
import random
import re
import signal
import threading
import unittest

import rig

LIMITS = {
    "free": "",
    "tight": "budget 3000/mo;",
    "rate": "tokens 600k/m burst=20k; requests 6000r/m;",
    "split": "prompt_tokens 900k/h; completion_tokens 900k/h;",
    "few": "concurrency 2; queue 3 wait=30s;",
    "cost": "cost_budget 4/mo;",
    "dear": "budget 2M/d; cost_budget 30/d 300/mo; concurrency 40;",
}
CHANGED = dict(LIMITS, tight="budget 5000/mo;", rate="tokens 900k/m;",
               few="concurrency 3; queue 3 wait=30s;")
PROMPT_PRICE, COMPLETION_PRICE = 1500, 2500  # billionths
ROUNDS = 14
STREAMS = 10


def tenants(limits):
    text = "axion_price echo prompt=1.5 completion=2.5;\n"
    for name, lines in limits.items():
        key = hashlib.sha256(name.encode()).hexdigest()
        text += f"axion_tenant {name} {{ key sha256:{key}; {lines} }}\n"
    return text


def number(name):
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return "%016x" % int.from_bytes(digest[:8], "little")


class Model:
    """What each tenant owes, out of the engine's log."""

    def __init__(self):
        self.prompt = dict.fromkeys(LIMITS, 0)
        self.completion = dict.fromkeys(LIMITS, 0)
        self.names = {number(name): name for name in LIMITS}

    def charge(self, name, prompt, completion):
        self.prompt[name] += prompt
        self.completion[name] += completion

    def read(self, log, known=None):
        """Charges what ended.  Of streams that are not among `known` the
        prompts alone: their clients know the rest."""
        leases, journal = {}, {}
        for line in log.splitlines():
            found = re.search(r"journal prompt_tokens=(\d+) tokens=(\d+) "
                              r"id=(\d+)", line)
            if found:
                journal[found.group(3)] = (int(found.group(1)),
                                           int(found.group(2)))
                continue
            found = re.search(r"stream=\S+ id=(\d+) (\w+)(.*)", line)
            if not found:
                continue
            lease, event, rest = found.groups()
            if event == "submit":
                leases[lease] = {
                    "name": self.names[
                        re.search(r"tenant=(\w+)", rest).group(1)],
                    "prompt": int(re.search(r"prompt_tokens=(\d+)",
                                            rest).group(1)),
                    "accepted": False, "ended": None}
            elif event == "accepted":
                leases[lease]["accepted"] = True
            elif event in ("done", "error"):
                leases[lease]["ended"] = int(
                    re.search(r"tokens=(\d+)", rest).group(1))
        for lease, s in leases.items():
            prompt = s["prompt"] if s["accepted"] else 0
            if known is not None and lease not in known:
                self.charge(s["name"], prompt, 0)
            elif lease in journal:
                # what it said at the end may not all have got on the ring
                if s["ended"] is not None:
                    assert journal[lease][0] == prompt, (s, lease)
                    assert journal[lease][1] <= s["ended"], (s, lease)
                self.charge(s["name"], *journal[lease])
            elif s["ended"] is not None:
                self.charge(s["name"], prompt, s["ended"])
            else:
                raise AssertionError(f"no end of lease {lease}: {s}")


class Stream(threading.Thread):
    """One request: reads until something came, waits for the chaos, then
    leaves or reads on."""

    def __init__(self, port, name, tokens, delay, words, leaves, whole):
        super().__init__(daemon=True)
        self.arguments = (port, name, tokens, delay, words, whole)
        self.name_of, self.leaves = name, leaves
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.text, self.error, self.refused = "", None, False

    def run(self):
        port, name, tokens, delay, words, whole = self.arguments
        client = rig.Client(port)
        try:
            # the answer's text is 4 bytes long: a token each
            prompt = f"!tokens={tokens} !delay_ms={delay} abcd"
            messages = [{"role": "system", "content": "word " * words},
                        {"role": "user", "content": prompt}]
            client.send("POST", "/v1/chat/completions", json.dumps(
                {"model": "echo", "stream": not whole,
                 "messages": messages}).encode(),
                ["Authorization: Bearer " + name])
            if not whole:
                client.until(b"\r\n\r\n")
                self.refused = b" 200 " not in client.data.split(b"\r\n")[0]
                if not self.refused:
                    client.until(b"abcd")
            self.begun.set()
            self.go_on.wait(rig.HANG)
            if self.leaves:
                return
            status, _, body = client.whole()
            self.refused = status != 200
            if not whole and not self.refused:
                self.text, self.error, _ = rig.parse_stream(body)
        except (OSError, AssertionError, ValueError, IndexError):
            pass  # its worker was killed
        finally:
            self.begun.set()
            client.close()


class Property(rig.Test):
    WORKERS = 2
    ECHO = ("--model", "echo")

    def setUp(self):
        super().setUp()
        self.upstream = self.nginx.settings["http"]
        self.nginx.write(http=self.upstream + tenants(LIMITS))
        self.expected = "exited on signal 9"
        self.model = Model()
        self.seed = int(os.environ.get("AXION_SEED")
                        or random.SystemRandom().randrange(1 << 32))
        print(f"seed {self.seed}", flush=True)
        self.random = random.Random(self.seed)

    def traffic(self, patient, sure):
        """Streams that have begun, or were refused, or wait in a queue.  With
        `sure` all have begun or were refused: what is let in while its worker
        is killed may have a lease and no engine that knows of it."""
        r, streams = self.random, []
        names = [n for n in LIMITS if n != "few" or not sure]
        for _ in range(STREAMS):
            whole = not sure and r.random() < 0.2
            # Who leaves has begun: of one that left unseen, nobody could say
            # whether its worker, killed next, had sent it.
            streams.append(Stream(
                self.nginx.port, r.choice(names),
                tokens=r.choice((3, 40, 300, 600)), delay=r.choice((1, 2)),
                words=r.choice((0, 3, 60, 400)),
                leaves=not patient and not whole and r.random() < 0.3,
                whole=whole))
            streams[-1].start()
        for s in streams:
            if s.name_of != "few" and not s.arguments[-1]:
                s.begun.wait(rig.HANG)
        return streams

    def finish(self, streams):
        for s in streams:
            s.go_on.set()
        for s in streams:
            s.join(rig.HANG)
            self.assertFalse(s.is_alive(), "a stream hangs")

    def kill_workers(self, n):
        """Nothing of theirs is on its way to the engine: all have begun."""
        self.settle_down()
        victims = self.random.sample(self.nginx.workers(), n)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        rig.wait_until(lambda: len(set(self.nginx.workers())
                                   - set(victims)) == self.WORKERS,
                       "new workers")
        rig.wait_until(self.nginx.accepts, "nginx to accept")
        rig.wait_until(
            lambda: self.nginx.metrics()["axion_leases_orphaned"] == 0,
            "the journal to be settled")

    def settle_down(self):
        """The engine has seen every request that was let in."""
        def seen():
            log = self.echo.text()
            active = sum(t["active"] for t in self.status())
            ids = {i for i in re.findall(r"id=(\d+) submit", log)}
            over = {i for i in re.findall(r"id=(\d+) (?:done|error)", log)}
            return active <= len(ids - over)
        rig.wait_until(seen, "the engine to see all requests")

    def status(self):
        status, body = self.nginx.get("/status")
        self.assertEqual(status, 200)
        return json.loads(body)["tenants"]

    def reload(self, limits):
        count = self.nginx.text().count("start worker process ")
        self.nginx.write(http=self.upstream + tenants(limits))
        self.nginx.signal(signal.SIGHUP)
        self.nginx.wait("start worker process ", count + self.WORKERS)

    def over(self):
        """The leases of all streams, once each has ended."""
        rig.wait_until(lambda: self.nginx.metrics()["axion_leases"] == 0,
                       "every lease to end")
        return set(re.findall(r"id=(\d+) submit", self.echo.text()))

    def restart_engine(self, streams, known):
        self.echo.kill()
        self.echo.process.wait()
        self.finish(streams)
        self.model.read(self.echo.text(), known)
        for s in streams:
            self.model.charge(s.name_of, 0, len(s.text) // 4)
        self.echo.start()

    def test(self):
        self.start()
        for turn in range(ROUNDS):
            chaos = ("calm", "kill one", "reload", "kill all", "engine",
                     "reload back", "kill one")[turn % 7]
            engine = chaos == "engine"
            known = self.over() if engine else None
            streams = self.traffic(engine, engine or chaos.startswith("kill"))
            if chaos.startswith("kill"):
                self.kill_workers(2 if chaos == "kill all" else 1)
            elif chaos.startswith("reload"):
                self.reload(LIMITS if "back" in chaos else CHANGED)
            elif chaos == "engine":
                self.restart_engine(streams, known)
            self.finish(streams)
        rig.wait_until(lambda: self.nginx.metrics()["axion_leases"] == 0,
                       "every lease to end")
        self.model.read(self.echo.text())
        self.compare()

    def compare(self):
        metrics = self.nginx.metrics()
        if metrics["axion_leases_forfeited_total"] != 0:
            self.fail("\n".join(
                line for line in self.nginx.text().splitlines()
                + self.echo.text().splitlines()
                if "died" in line or "lease" in line or "journal" in line
                or "exited on signal" in line or "start worker" in line))
        for t in self.status():
            name = t["name"]
            prompt, completion = (self.model.prompt[name],
                                  self.model.completion[name])
            print(f"{name}: {prompt} + {completion} tokens, cost {t['cost']}")
            self.assertEqual((t["active"], t["queued"]), (0, 0), name)
            self.assertEqual((t["prompt_tokens"], t["completion_tokens"]),
                             (prompt, completion), name)
            self.assertEqual(t["month"]["tokens"], prompt + completion, name)
            cost = prompt * PROMPT_PRICE + completion * COMPLETION_PRICE
            self.assertAlmostEqual(t["cost"], cost / 1e9, delta=1e-6,
                                   msg=name)
        self.assertLessEqual(self.model.prompt["tight"]
                             + self.model.completion["tight"], 5000)


if __name__ == "__main__":
    unittest.util._MAX_LENGTH = 2000
    rig.main()
