#!/usr/bin/env python3
"""2000 streams at once over two workers, each under a lease of one of fifty
tenants that has to be topped up: none is lost, each is whole, every balance
is exact, and a worker's memory per stream stays small."""

import hashlib
import json
import resource

import rig

STREAMS = 2000
TENANTS = 50
TOKENS = 80
PER_STREAM_KB = 40
TEXT = f"!tokens={TOKENS} !delay_ms=100 abcd"
PROMPT_TOKENS = (len(TEXT) + 3) // 4


def tenants():
    text = "axion_timeout connect=600s stall=600s accept=600s;\n"
    for i in range(TENANTS):
        name = f"tenant{i}"
        key = hashlib.sha256(name.encode()).hexdigest()
        text += (f"axion_tenant {name} {{ key sha256:{key}; budget 1M/mo; "
                 f"tokens 2M/m burst=100k; concurrency 100; "
                 f"requests 100k/m; }}\n")
    return text


class ManyStreams(rig.Test):
    WORKERS = 2
    # a worker has 1024 streams to an engine, and may get more connections
    # than the other one
    ECHO = ("--model", "echo", "--batch", "4096", "--quiet")
    CONNECTIONS = STREAMS + 200

    def setUp(self):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < self.CONNECTIONS + 200:
            self.skipTest(f"only {hard} descriptors are allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        super().setUp()
        self.other = rig.Echo(self.dir, "other", self.ECHO)
        self.addCleanup(self.other.stop)
        self.nginx.write(http=f"""axion_upstream llm {{
            engine unix:{self.echo.path}; engine unix:{self.other.path}; }}
            """ + tenants())

    def stop_engines(self):
        for echo in (self.echo, self.other):
            echo.kill(rig.signal.SIGSTOP)

    def let_engines_go(self):
        for echo in (self.echo, self.other):
            echo.kill(rig.signal.SIGCONT)

    def memory(self):
        return sum(self.nginx.rss_kb(pid) for pid in self.nginx.workers())

    def settled(self):
        return self.nginx.metrics()["axion_leases"] == 0

    def test(self):
        self.other.start()
        self.start()
        self.nginx.wait("connected to engine", 4)
        self.client().chat(TEXT, headers=["x-api-key: tenant0"]).stream()
        rig.wait_until(self.settled, "the first one")
        before = self.memory()
        self.stop_engines()
        clients = [self.client().chat(
            TEXT, headers=[f"x-api-key: tenant{i % TENANTS}"])
            for i in range(STREAMS)]
        rig.wait_until(lambda: self.nginx.metrics()["axion_streams_active"]
                       == STREAMS, "all to be sent")
        self.let_engines_go()
        for client in clients:
            client.until(b"abcd")
        self.stop_engines()
        grown = (self.memory() - before) / STREAMS
        self.let_engines_go()
        whole = sum(client.stream() == ("abcd" * TOKENS, None, True)
                    for client in clients)
        self.assertEqual(whole, STREAMS)
        print(f"{STREAMS} streams: {grown:.1f} KiB of workers' memory each",
              flush=True)
        self.assertLess(grown, PER_STREAM_KB)
        rig.wait_until(self.settled, "every lease to end")
        each = TOKENS + PROMPT_TOKENS
        status = json.loads(self.nginx.get("/status")[1])
        for i, tenant in enumerate(status["tenants"]):
            streams = STREAMS // TENANTS + (i == 0)
            self.assertEqual(tenant["month"]["tokens"], streams * each)


if __name__ == "__main__":
    rig.main()
