#!/usr/bin/env python3
"""Tenants' limits with the real engine and the genuine `openai` client: each
refusal is the exception that the client documents, it waits as Retry-After
says, a stream ends at the tenant's last token, and a worker that is killed
leaves a bill that the engine's journal pays to the token."""

import hashlib
import json
import os
import re
import signal
import time
import unittest
import urllib.request

import base
import openai
from base import NAME

LIMITS = {
    "budget": "budget 60/mo;",
    "rate": "requests 60r/m burst=1;",
    "hourly": "requests 1r/h;",
    "narrow": "prompt_tokens 20/h;",
    "alone": "concurrency 1;",
    "rich": "budget 1M/mo;",
}


def tenants():
    text = "    axion_upstream llm { engine unix:{socket}; }\n"
    for name, lines in LIMITS.items():
        key = hashlib.sha256(name.encode()).hexdigest()
        text += f"    axion_tenant {name} {{ key sha256:{key}; {lines} }}\n"
    return text


class Limits(base.StackTest):
    SETTINGS = {"http": tenants(), "server": """\
        location /v1/ { axion_pass llm; }
        location = /status { axion_status; }
        location = /metrics { axion_metrics; }
"""}

    def workers(self):
        pid = self.stack.nginx.pid
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]

    def client(self, key, retries=0):
        return openai.OpenAI(base_url=self.stack.url + "/v1", api_key=key,
                             max_retries=retries, timeout=120)

    def chat(self, key, content="What is gravity?", retries=0, **fields):
        return self.client(key, retries).chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": content}],
            **fields)

    def refused(self, key, code, **fields):
        with self.assertRaises(openai.RateLimitError) as caught:
            self.chat(key, **fields)
        self.assertEqual((caught.exception.status_code,
                          caught.exception.code), (429, code))
        return caught.exception.response.headers

    def tenant(self, name):
        with urllib.request.urlopen(self.stack.url + "/status") as answer:
            status = json.load(answer)
        return next(t for t in status["tenants"] if t["name"] == name)

    def active(self, name):
        try:
            return self.tenant(name)["active"]
        except OSError:
            return None  # of a killed worker; the next one is not there yet

    def settled(self, name):
        self.stack.wait_until(lambda: self.active(name), 0, name + "'s active")
        return self.tenant(name)["month"]["tokens"]

    def test_stream_ends_at_the_last_token(self):
        stream = self.chat("budget", stream=True, max_tokens=200, seed=1,
                           stream_options={"include_usage": True},
                           extra_body={"ignore_eos": True})
        last = usage = None
        for chunk in stream:
            if chunk.choices and chunk.choices[0].finish_reason:
                last = chunk
            usage = chunk.usage or usage
        self.assertEqual(last.choices[0].finish_reason, "length")
        self.assertEqual(last.incomplete_details["reason"],
                         "insufficient_quota")
        self.assertEqual(usage.total_tokens, 60)
        self.assertEqual(self.settled("budget"), 60)
        headers = self.refused("budget", "insufficient_quota")
        self.assertEqual(headers["x-ratelimit-remaining-tokens"], "0")
        self.assertEqual(headers["x-should-retry"], "false")

    def test_client_waits_as_it_is_told(self):
        self.chat("rate", max_tokens=1)
        headers = self.refused("rate", "rate_limit_exceeded")
        wait = int(headers["retry-after-ms"]) / 1000
        self.assertLessEqual(wait, 1)
        self.assertEqual(headers["retry-after"], "1")
        before = time.monotonic()
        self.chat("rate", max_tokens=1, retries=2)
        self.assertGreater(time.monotonic() - before, wait / 4)

    def test_client_does_not_try_in_vain(self):
        self.chat("hourly", max_tokens=1)
        with self.assertRaises(openai.RateLimitError) as caught:
            self.chat("hourly", max_tokens=1, retries=5)
        self.assertEqual(caught.exception.response.headers["x-should-retry"],
                         "false")
        tenant = self.tenant("hourly")
        self.assertEqual(tenant["requests"], 1)

    def test_prompt_that_never_fits(self):
        headers = self.refused("narrow", "token_limit_exceeded",
                               content="word " * 100)
        self.assertNotIn("retry-after", headers)
        self.assertEqual(self.settled("narrow"), 0)

    def test_one_at_once(self):
        stream = self.chat("alone", stream=True, max_tokens=400,
                           extra_body={"ignore_eos": True})
        next(iter(stream))
        headers = self.refused("alone", "concurrency_limit_exceeded")
        self.assertEqual(headers["retry-after"], "1")
        stream.close()
        self.settled("alone")
        self.chat("alone", max_tokens=1)

    def test_killed_worker_is_billed_by_the_journal(self):
        spent = self.settled("rich")
        stream = self.chat("rich", stream=True, max_tokens=400, seed=1,
                           extra_body={"ignore_eos": True})
        text = iter(stream)
        for _ in range(5):
            next(text)
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
        with self.assertRaises(Exception):  # httpx's, not openai's
            for _ in text:
                pass
        charged = self.settled("rich") - spent
        with urllib.request.urlopen(self.stack.url + "/metrics") as answer:
            metrics = answer.read().decode()
        self.assertIn("axion_leases_forfeited_total 0\n", metrics)
        self.assertRegex(metrics, r"axion_leases_recovered_total [1-9]")
        with open(os.path.join(self.stack.folder, "error.log")) as file:
            said = re.search(r"is settled by .*: (\d+)\+(\d+) tokens",
                             file.read())
        self.assertEqual(charged, int(said.group(1)) + int(said.group(2)))
        self.assertGreaterEqual(int(said.group(2)), 4)


if __name__ == "__main__":
    base.main()
