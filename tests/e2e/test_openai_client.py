#!/usr/bin/env python3
"""The PyPI `openai` client, unmodified, against nginx, axiond and SmolLM2: what
it documents is what its users get, answers and exceptions alike."""

import asyncio
import hashlib
import unittest

import base
import openai
from base import NAME

KEY = "e2e-right-key"
NARROW = "e2e-narrow-key"
PARIS = "7042"  # the id of " Paris" in SmolLM2's vocabulary


def key_hash(key):
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


SERVER = """\
        location /v1/ { axion_pass llm; client_max_body_size 2m; }
        location /private/v1/ {
            axion_pass llm;
            axion_tenant acme { key %s; }
            axion_tenant narrow { key %s; models other*; }
        }
        location = /status { axion_status llm; }
        location = /metrics { axion_metrics; }
""" % (key_hash(KEY), key_hash(NARROW))


class OpenAIClient(base.StackTest):
    SETTINGS = {"server": SERVER}

    def client(self, path="/v1", key="any", kind=openai.OpenAI, **more):
        return kind(base_url=self.stack.url + path, api_key=key,
                    max_retries=0, timeout=120, **more)

    def chat(self, content="What is gravity?", **fields):
        return self.client().chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": content}],
            **fields)

    def test_chat(self):
        answer = self.chat(max_tokens=24, seed=1)
        choice = answer.choices[0]
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.model, NAME)
        self.assertEqual(choice.message.role, "assistant")
        self.assertTrue(choice.message.content.strip())
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertEqual(answer.usage.total_tokens,
                         answer.usage.prompt_tokens
                         + answer.usage.completion_tokens)
        self.assertGreater(answer.usage.prompt_tokens, 10)

    def test_chat_streamed_is_the_same_text(self):
        fields = {"max_tokens": 40, "seed": 7, "temperature": 0.8}
        whole = self.chat(**fields)
        text, usage, reasons = "", None, []
        for chunk in self.chat(stream=True,
                               stream_options={"include_usage": True},
                               **fields):
            self.assertEqual(chunk.object, "chat.completion.chunk")
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                if choice.finish_reason:
                    reasons.append(choice.finish_reason)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(reasons, [whole.choices[0].finish_reason])
        self.assertEqual(usage.completion_tokens,
                         whole.usage.completion_tokens)
        self.assertEqual(usage.prompt_tokens, whole.usage.prompt_tokens)

    def test_completion_and_stream(self):
        client = self.client()
        fields = {"model": NAME, "prompt": "Once upon a time",
                  "max_tokens": 32, "seed": 3}
        whole = client.completions.create(**fields)
        self.assertEqual(whole.object, "text_completion")
        self.assertEqual(whole.usage.completion_tokens, 32)
        self.assertEqual(whole.choices[0].finish_reason, "length")
        text = "".join(chunk.choices[0].text for chunk in
                       client.completions.create(stream=True, **fields)
                       if chunk.choices)
        self.assertEqual(text, whole.choices[0].text)

    def test_greedy_knows_paris(self):
        answer = self.client().completions.create(
            model=NAME, prompt="The capital of France is", max_tokens=5,
            temperature=0)
        self.assertIn("Paris", answer.choices[0].text)

    def test_text_parts_and_system_message(self):
        answer = self.client().chat.completions.create(
            model=NAME, max_tokens=8, temperature=0,
            messages=[{"role": "system", "content": "Answer briefly."},
                      {"role": "user", "content": [
                          {"type": "text", "text": "What is "},
                          {"type": "text", "text": "2 + 2?"}]}])
        self.assertTrue(answer.choices[0].message.content)

    def test_token_ids_as_prompt(self):
        answer = self.client().completions.create(
            model=NAME, prompt=[504, 3575, 282, 4649, 314], max_tokens=4,
            temperature=0)
        self.assertEqual(answer.usage.prompt_tokens, 5)

    def test_stop_string_ends_the_text_before_it(self):
        fields = {"model": NAME, "prompt": "One, two, three, four,",
                  "max_tokens": 30, "temperature": 0}
        client = self.client()
        whole = client.completions.create(**fields).choices[0].text
        # across a token border: the middle of the text, 4 characters
        stop = whole[len(whole) // 2:len(whole) // 2 + 4]
        cut = client.completions.create(stop=[stop, "\0never"], **fields)
        self.assertEqual(cut.choices[0].text, whole[:whole.index(stop)])
        self.assertEqual(cut.choices[0].finish_reason, "stop")
        streamed = "".join(
            c.choices[0].text for c in client.completions.create(
                stop=stop, stream=True, **fields) if c.choices)
        self.assertEqual(streamed, cut.choices[0].text)

    def test_seed_fixes_the_text(self):
        fields = {"max_tokens": 24, "temperature": 1.0}
        same = {self.chat(seed=11, **fields).choices[0].message.content
                for _ in range(3)}
        others = {self.chat(seed=s, **fields).choices[0].message.content
                  for s in range(20, 24)}
        self.assertEqual(len(same), 1)
        self.assertGreater(len(others), 1)

    def test_ignore_eos_goes_on(self):
        answer = self.chat("Say hi.", max_tokens=60, temperature=0,
                           extra_body={"ignore_eos": True})
        self.assertEqual(answer.usage.completion_tokens, 60)
        self.assertEqual(answer.choices[0].finish_reason, "length")

    def test_logit_bias_bans_a_token(self):
        fields = {"model": NAME, "prompt": "The capital of France is",
                  "max_tokens": 1, "temperature": 0}
        client = self.client()
        first = client.completions.create(**fields).choices[0].text
        self.assertEqual(first, " Paris")
        banned = client.completions.create(
            logit_bias={PARIS: -100}, **fields).choices[0].text
        self.assertNotEqual(banned, first)

    def test_models(self):
        client = self.client()
        self.assertIn(NAME, [m.id for m in client.models.list()])
        self.assertEqual(client.models.retrieve(NAME).id, NAME)
        with self.assertRaises(openai.NotFoundError) as caught:
            client.models.retrieve("no-such-model")
        self.assertEqual(caught.exception.code, "model_not_found")

    def test_bad_value_names_the_field(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(temperature=-3)
        self.assertEqual(caught.exception.param, "temperature")
        self.assertEqual(caught.exception.code, "invalid_value")
        self.assertEqual(caught.exception.type, "invalid_request_error")

    def test_unsupported_field_is_refused_by_name(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(tools=[{"type": "function",
                              "function": {"name": "f", "parameters": {}}}])
        self.assertEqual(caught.exception.code, "unsupported_parameter")
        self.assertEqual(caught.exception.param, "tools")

    def test_unknown_model(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client().completions.create(model="gpt-none", prompt="x")
        self.assertEqual(caught.exception.code, "model_not_found")

    def test_prompt_longer_than_the_context(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client().completions.create(model=NAME,
                                             prompt="word " * 20000)
        self.assertEqual(caught.exception.code, "context_length_exceeded")

    def test_keys(self):
        for key in ("wrong", KEY[:-1], KEY + "x"):
            with self.assertRaises(openai.AuthenticationError) as caught:
                self.client("/private/v1", key).models.list()
            self.assertEqual(caught.exception.code, "invalid_api_key")
        with self.assertRaises(openai.AuthenticationError):
            self.client("/private/v1", "wrong").chat.completions.create(
                model=NAME, messages=[{"role": "user", "content": "hi"}])
        client = self.client("/private/v1", KEY)
        self.assertEqual([m.id for m in client.models.list()], [NAME])
        answer = client.completions.create(model=NAME, prompt="1, 2,",
                                           max_tokens=2)
        self.assertEqual(answer.usage.completion_tokens, 2)

    def test_tenant_sees_its_models_only(self):
        client = self.client("/private/v1", NARROW)
        self.assertEqual(list(client.models.list()), [])
        with self.assertRaises(openai.APIStatusError) as caught:
            client.completions.create(model=NAME, prompt="x")
        self.assertIn(caught.exception.status_code, (403, 404))

    def test_async_client_streams_at_once(self):
        async def one(client, seed):
            stream = await client.chat.completions.create(
                model=NAME, stream=True, max_tokens=16, seed=seed,
                messages=[{"role": "user", "content": f"Number {seed}?"}])
            return "".join([c.choices[0].delta.content or ""
                            async for c in stream if c.choices])

        async def all_of_them():
            async with self.client(kind=openai.AsyncOpenAI) as client:
                return await asyncio.gather(*(one(client, s)
                                              for s in range(8)))

        texts = asyncio.run(all_of_them())
        self.assertEqual(len(texts), 8)
        self.assertTrue(all(texts))


if __name__ == "__main__":
    base.main()
