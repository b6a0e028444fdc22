"""The whole page of axion_metrics vllm_compat by a strict reading of
Prometheus' text format: one head before a family's samples, each sample of its
family and once, buckets cumulative and closed by +Inf, counters that never
fall, over several workers and a reload.  And nothing that is a secret or a
client's text is in any label, in axion_metrics or in axion_status.
"""

import hashlib
import math
import re

import rig

SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
PARTS = {"histogram": ("_bucket", "_sum", "_count"),
         "counter": ("",), "gauge": ("",)}

# The endpoint picker reads these three by these names.
PICKER = ("vllm:num_requests_running", "vllm:num_requests_waiting",
          "vllm:kv_cache_usage_perc")


def labels_of(text):
    labels, at = [], 0
    while at < len(text or ""):
        found = LABEL.match(text, at)
        if not found:
            raise AssertionError(f"labels {text!r} at {at}")
        labels.append((found.group(1), found.group(2)))
        at = found.end()
        if found.group(3) == "," and at == len(text):
            raise AssertionError(f"comma at the end of {text!r}")
    names = [name for name, _ in labels]
    if len(set(names)) != len(names):
        raise AssertionError(f"a label twice in {text!r}")
    return tuple(labels)


def parse(page):
    """{family: (type, {(sample name, labels): value})}, or it fails."""
    if not page.endswith("\n") or "\r" in page:
        raise AssertionError("lines end with a line feed")
    families, helped, name, kind = {}, None, None, None
    for line in page[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
            if helped in families:
                raise AssertionError(f"{helped} has two heads")
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if name != helped or kind not in PARTS:
                raise AssertionError(line)
            families[name] = (kind, {})
        else:
            found = SAMPLE.fullmatch(line)
            if not found or name is None:
                raise AssertionError(f"not a sample: {line!r}")
            sample, labels, value = found.groups()
            if sample not in [name + part for part in PARTS[kind]]:
                raise AssertionError(f"{sample} under the head of {name}")
            if not NUMBER.fullmatch(value):
                raise AssertionError(f"not a number: {line!r}")
            key = (sample, labels_of(labels))
            if key in families[name][1]:
                raise AssertionError(f"twice: {line!r}")
            families[name][1][key] = float(value)
    for family, (kind, samples) in families.items():
        if kind == "histogram":
            check_histogram(family, samples)
        if family.startswith("vllm:") and \
                (kind == "counter") != family.endswith("_total"):
            raise AssertionError(f"{family} is a {kind}")
    return families


def check_histogram(name, samples):
    rows = {}
    for (sample, labels), value in samples.items():
        rest = tuple(x for x in labels if x[0] != "le")
        row = rows.setdefault(rest, {"buckets": []})
        if sample.endswith("_bucket"):
            bound = dict(labels)["le"]
            row["buckets"].append((math.inf if bound == "+Inf"
                                   else float(bound), value))
        else:
            row[sample[len(name):]] = value
    for row in rows.values():
        bounds = [bound for bound, _ in row["buckets"]]
        counts = [count for _, count in row["buckets"]]
        if bounds != sorted(set(bounds)) or bounds[-1] != math.inf:
            raise AssertionError(f"{name}: bounds {bounds}")
        if counts != sorted(counts) or counts[-1] != row["_count"]:
            raise AssertionError(f"{name}: counts {counts}, {row['_count']}")
        if row["_count"] == 0 and row["_sum"] != 0:
            raise AssertionError(f"{name}: a sum of nothing")


class Parser(rig.unittest.TestCase):
    """The reader above refuses what Prometheus would."""

    def test_good(self):
        families = parse('# HELP a A.\n# TYPE a gauge\na{x="1\\"2",y=""} 1\n')
        self.assertEqual(families["a"][1],
                         {("a", (("x", '1\\"2'), ("y", ""))): 1.0})

    def test_bad(self):
        head = "# HELP a A.\n# TYPE a counter\n"
        histogram = "# HELP a A.\n# TYPE a histogram\n"
        for page in ("a 1\n", head + "b 1\n", head + "a 1", head + "a -1\n",
                     head + "a 1\na 2\n", head + "a 1\n" + head,
                     head + 'a{x="1"y="2"} 1\n', head + 'a{x="1",} 1\n',
                     head + 'a{x="1",x="2"} 1\n', head + "a 1 2 3\n",
                     head + "a nan\n",
                     histogram + 'a_bucket{le="1"} 1\na_sum 1\na_count 1\n',
                     histogram + 'a_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\n'
                     "a_sum 1\na_count 1\n"):
            with self.assertRaises(AssertionError, msg=page):
                parse(page)


class Format(rig.Test):
    WORKERS = 2
    KEY = "sk-only-its-hash-is-known-4f1c"
    PROMPT = "the-client-wrote-this"
    HTTP = ("axion_upstream gone { engine unix:/nonexistent/a.sock; }\n"
            "axion_tenant acme-with-a-name { key sha256:"
            + hashlib.sha256(KEY.encode()).hexdigest() + "; }\n")
    SERVER = """
        location /v1/ { axion_pass llm; }
        location /gone/v1/ { axion_pass gone; axion_timeout connect=50ms; }
        location = /metrics { axion_metrics vllm_compat; }
        location = /status { axion_status; }
    """

    def page(self):
        status, body = self.nginx.get("/metrics")
        self.assertEqual(status, 200)
        return body.decode()

    def ask(self, text, model="echo", **fields):
        client = self.client()
        client.send("POST", "/v1/completions", rig.json.dumps(
            {"model": model, "prompt": text, **fields}).encode(),
            [f"Authorization: Bearer {self.KEY}"])
        return client

    def ask_twice(self, text, **fields):
        """A stream that has its first token before the others, and so one
        time between tokens at least: whatever is there is joined."""
        client = self.ask("!hang_after=1 " + text, stream=True, **fields)
        client.until(b"data: ")
        self.echo.go_on()
        return client

    def load(self):
        """Every way in which a request ends."""
        self.assertEqual(self.ask(self.PROMPT).whole()[0], 200)
        self.assertEqual(self.ask_twice(
            "!tokens=300 " + self.PROMPT, max_tokens=200).whole()[0], 200)
        self.assertEqual(self.ask("!error=QUEUE_FULL a").whole()[0], 503)
        self.ask_twice("!error_after=2 abcdefgh a").whole()
        self.assertEqual(self.ask("a", model=self.PROMPT).whole()[0], 404)
        left = self.ask("!tokens=9 !delay_ms=100000 abcdefgh", stream=True)
        left.until(b"data: ")
        left.close()
        self.echo.wait(" cancel ")

    def value(self, families, name, **labels):
        family = re.sub(r"_(count|sum|bucket)$", "", name)
        samples = families[family][1]
        return samples[(name, (("model_name", "echo"),
                               *labels.items()))]

    def test_page(self):
        self.start()
        before = parse(self.page())
        for name in PICKER:
            self.assertIn((name, (("model_name", "echo"),)), before[name][1])
        self.load()
        families = rig.wait_until(self.counted, "the abort to be counted")
        # 200, an answer of 5 and its prompt; 2 before the error; 1 or more
        self.assertGreaterEqual(
            self.value(families, "vllm:generation_tokens_total"), 208)
        for name in ("vllm:e2e_request_latency_seconds_count",
                     "vllm:request_prompt_tokens_count",
                     "vllm:request_decode_time_seconds_count"):
            self.assertEqual(self.value(families, name), 2, name)
        self.assertGreaterEqual(self.value(
            families, "vllm:inter_token_latency_seconds_count"), 2)
        usage = self.value(families, "vllm:kv_cache_usage_perc")
        self.assertTrue(0 <= usage <= 1, usage)
        self.never_less(before, families)
        self.nginx.signal(rig.signal.SIGHUP)
        self.nginx.wait("connected to engine", 2 * self.WORKERS)
        self.never_less(families, parse(self.page()))

    def counted(self):
        families = parse(self.page())
        aborts = self.value(families, "vllm:request_success_total",
                            finished_reason="abort")
        return families if aborts == 1 else None

    def never_less(self, before, after):
        for name, (kind, samples) in before.items():
            if kind == "gauge":
                continue
            for key, value in samples.items():
                self.assertGreaterEqual(after[name][1][key], value, key)

    def test_no_secret(self):
        self.start()
        self.load()
        status, body = self.nginx.get("/status")
        self.assertEqual(status, 200)
        secrets = [self.KEY, hashlib.sha256(self.KEY.encode()).hexdigest(),
                   self.PROMPT, "abcdefgh", "Bearer"]
        for page in (self.page(), body.decode()):
            for secret in secrets:
                for part in (secret, secret[:16], secret[-16:]):
                    self.assertNotIn(part, page)
        allowed = {"endpoint", "status", "error", "engine", "upstream",
                   "model", "model_name", "finished_reason", "le",
                   "block_size", "num_gpu_blocks", "tenant", "key", "limit"}
        for _, samples in parse(self.page()).values():
            for _, labels in samples:
                self.assertLessEqual({name for name, _ in labels}, allowed)

    def test_no_sample_of_an_engine_that_is_gone(self):
        self.start()
        self.load()
        self.echo.stop()
        self.nginx.wait("lost", self.WORKERS)
        families = parse(self.page())
        for name in PICKER:
            self.assertEqual(families[name][1], {})
        self.assertGreater(
            self.value(families, "vllm:generation_tokens_total"), 0)


if __name__ == "__main__":
    rig.main()
