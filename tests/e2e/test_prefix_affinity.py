#!/usr/bin/env python3
"""Two engines with prefix caches behind one upstream: each turn of a
conversation finds the turns before it in the cache of its engine, though the
conversations are mixed and nobody remembers which engine had which."""

import json
import os

import base
import stack
from base import NAME

CONVERSATIONS = 5
TURNS = 3


class TwoEngines(stack.Stack):
    """The second one listens on {socket}.2."""

    second = None

    def start_engine(self):
        super().start_engine()
        self.second = stack.Child(
            [*self.engine.argv[:4], f"unix:{self.socket}.2", *self.options],
            os.path.join(self.folder, "second.log"))

    def stop(self):
        super().stop()
        if self.second is not None:
            self.second.stop()
            self.second = None


class PrefixAffinity(base.StackTest):
    STACK = TwoEngines
    OPTIONS = ["--threads", "1"]
    SETTINGS = {
        "http": "    axion_upstream llm "
                "{ engine unix:{socket}; engine unix:{socket}.2; }\n"
                # /status without a name: ready when each upstream is
                "    axion_upstream first { engine unix:{socket}; }\n"
                "    axion_upstream second { engine unix:{socket}.2; }\n",
        "server": """\
        location /v1/ { axion_pass llm; }
        location /first/v1/ { axion_pass first; }
        location /second/v1/ { axion_pass second; }
        location = /status { axion_status; }
        location = /metrics { axion_metrics; }
""",
        "workers": 1}

    def turn(self, messages):
        answer = self.post("/v1/chat/completions", {
            "model": NAME, "messages": messages, "max_tokens": 6,
            "temperature": 0})
        body = json.loads(answer.read())
        messages.append(body["choices"][0]["message"])
        return body["usage"]

    def test_later_turns_are_cached(self):
        talks = [[{"role": "system", "content":
                   f"You are guide number {i}. "
                   + "The tower has many rooms and stairs. " * 15}]
                 for i in range(CONVERSATIONS)]
        before = [0] * CONVERSATIONS
        for turn in range(TURNS):
            for i, talk in enumerate(talks):
                talk.append({"role": "user", "content": f"And room {turn}?"})
                usage = self.turn(talk)
                cached = usage["prompt_tokens_details"]["cached_tokens"]
                if turn > 0:
                    # all but the last, unfinished block of the turn before
                    self.assertGreater(cached, before[i] - 32, (i, turn, cached, before))
                before[i] = usage["prompt_tokens"]


if __name__ == "__main__":
    base.main()
