#!/usr/bin/env python3
"""On SmolLM2, through nginx: no byte of any answer depends on speculation,
greedy or sampled, alone or together; drafts are counted for who asked, and
only what was sent is charged."""

import concurrent.futures
import hashlib
import json
import os
import unittest
import urllib.request

import base

COPY = ("The text:\nThe lighthouse keeper counted the ships that passed the "
        "point each evening and wrote their names in a grey ledger.\n\nThe "
        "same text again, word for word:\nThe lighthouse keeper counted")
KEY = "the-key"
TENANT = "    axion_tenant acme { key sha256:%s; }\n" % hashlib.sha256(
    KEY.encode()).hexdigest()
REQUESTS = [
    {"prompt": COPY, "temperature": 0, "max_tokens": 32},
    {"prompt": COPY, "temperature": 0.8, "seed": 5, "max_tokens": 32},
    {"prompt": COPY, "temperature": 0, "max_tokens": 32, "stop": ["grey"]},
    {"prompt": "Once upon a time", "temperature": 1, "seed": 6,
     "max_tokens": 32, "frequency_penalty": 0.5},
]


def ask(url, body):
    request = urllib.request.Request(
        url + "/v1/completions", json.dumps(dict(body, model=base.NAME)).encode(),
        {"Content-Type": "application/json",
         "Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        answer = json.load(answer)
    choice = answer["choices"][0]
    return (choice["text"], choice["finish_reason"],
            answer["usage"]["completion_tokens"])


def ask_all(kind):
    """Alone, then all together; and what was counted."""
    with base.stack.Stack(
            base.stack.build_path(f"e2e/speculation-{kind}"),
            os.environ["AXION_MODEL"],
            ["--alias", base.NAME, "--speculate", kind],
            http=base.stack.Stack.HTTP + TENANT) as running:
        alone = [ask(running.url, body) for body in REQUESTS]
        with concurrent.futures.ThreadPoolExecutor(len(REQUESTS)) as pool:
            together = list(pool.map(lambda body: ask(running.url, body),
                                     REQUESTS))
        figures = {
            what: running.metric(f"axion_engine_{what}_tokens_total")
            for what in ("drafted", "accepted", "completion")}
        figures["usage"] = {
            what: running.metric(f"axion_usage_{what}_tokens_total")
            for what in ("drafted", "accepted", "wasted")}
    return alone, together, figures


class Speculation(unittest.TestCase):
    def test_same_bytes_and_drafts_counted(self):
        alone, together, figures = ask_all("off")
        self.assertEqual(alone, together)
        self.assertEqual(figures["drafted"], 0)
        for kind in ("suffix", "bigram"):
            with self.subTest(kind=kind):
                drafted_alone, drafted_together, figures = ask_all(kind)
                self.assertEqual(drafted_alone, alone)
                self.assertEqual(drafted_together, alone)
                if kind == "bigram":  # which asks no machine what it costs
                    self.assertGreater(figures["accepted"], 0)
                self.assertLessEqual(figures["accepted"], figures["drafted"])
                usage = figures["usage"]
                self.assertEqual(usage["drafted"], figures["drafted"])
                self.assertEqual(usage["accepted"], figures["accepted"])
                self.assertEqual(usage["wasted"],
                                 usage["drafted"] - usage["accepted"])
                self.assertEqual(figures["completion"],
                                 2 * sum(answer[2] for answer in alone))


if __name__ == "__main__":
    base.main()
