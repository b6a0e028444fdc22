#!/usr/bin/env python3
"""Who asks and what they may, with the real engine and the genuine `openai`
client: every refusal is the exception that the client documents, with its code;
aliases, bounds of output and of context hold to the token."""

import hashlib
import json
import os
import tempfile
import unittest

import base
import openai
from base import NAME

CHOSEN = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$" \
    "QAbvsGmIVF86xUdKejj/8v2Ee1FfDsXmSX3LBxYCpOQ"
TENANTS = {
    "plain": "alias gpt-4o %s;" % NAME,
    "ended": "expires=2020-01-01",
    "off": "disabled;",
    "narrow": "models other*;",
    "short": "max_output 3;",
    "small": "max_context 40;",
}
FOLDER = tempfile.TemporaryDirectory(prefix="axion-identity-")
os.chmod(FOLDER.name, 0o755)
with open(os.path.join(base.ROOT, "tests", "api", "jwt_vectors.json"),
          encoding="ascii") as vectors:
    VECTORS = json.load(vectors)


def put(name, text):
    path = os.path.join(FOLDER.name, name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path


def blocks():
    text = f"axion_tenant acme {{ key argon2id:{CHOSEN}; }}\n"
    for name, line in TENANTS.items():
        key = "key sha256:" + hashlib.sha256(name.encode()).hexdigest()
        more = line if line.endswith(";") else ""
        option = "" if more else " " + line
        text += f"axion_tenant {name} {{ {key}{option}; {more} }}\n"
    return text


class Identity(base.StackTest):
    SETTINGS = {"http": f"""\
    axion_upstream llm {{ engine unix:{{socket}}; }}
    axion_tenants file={put("tenants", blocks())};
    axion_jwt jwks={put("jwks", json.dumps(VECTORS["jwks"]))}
              issuer=https://id.example audience=axion tenant=sub;
""", "server": """\
        location /v1/ { axion_pass llm; }
        location = /status { axion_status; }
"""}

    def ask(self, key, model=NAME, prompt="1, 2, 3,", **fields):
        client = openai.OpenAI(base_url=self.stack.url + "/v1", api_key=key,
                               max_retries=0, timeout=120)
        return client.completions.create(model=model, prompt=prompt, **fields)

    def refused(self, kind, code, *args, **fields):
        with self.assertRaises(kind) as caught:
            self.ask(*args, **fields)
        self.assertEqual(caught.exception.code, code)
        return str(caught.exception)

    def test_who_is_not_let_in(self):
        for key in ("wrong", "acme:wrong", VECTORS["bad"]["none"][0],
                    VECTORS["bad"]["stranger"][0]):
            self.refused(openai.AuthenticationError, "invalid_api_key", key)
        self.assertIn("has expired", self.refused(
            openai.AuthenticationError, "invalid_api_key", "ended"))
        self.assertIn("the token has expired", self.refused(
            openai.AuthenticationError, "invalid_api_key",
            VECTORS["bad"]["expired"][0]))

    def test_who_is_let_in(self):
        for key in ("plain", "acme:chosen", VECTORS["good"]["RS256"],
                    VECTORS["good"]["EdDSA"]):
            answer = self.ask(key, max_tokens=2)
            self.assertEqual(answer.usage.completion_tokens, 2)

    def test_what_they_may_not(self):
        self.refused(openai.PermissionDeniedError, "forbidden", "off")
        self.refused(openai.PermissionDeniedError, "model_not_allowed",
                     "narrow")
        self.refused(openai.NotFoundError, "model_not_found", "narrow",
                     model="other-1")
        self.refused(openai.NotFoundError, "model_not_found", "plain",
                     model="gpt-5")

    def test_an_alias(self):
        answer = self.ask("plain", model="gpt-4o", max_tokens=4, seed=1)
        self.assertEqual(answer.model, "gpt-4o")
        self.assertEqual(answer.choices[0].text, self.ask(
            "plain", max_tokens=4, seed=1).choices[0].text)

    def test_bounds(self):
        for fields in ({"max_tokens": 100}, {}):
            answer = self.ask("short", **fields)
            self.assertEqual((answer.usage.completion_tokens,
                              answer.choices[0].finish_reason),
                             (3, "length"))
        answer = self.ask("small", extra_body={"ignore_eos": True})
        self.assertEqual((answer.usage.total_tokens,
                          answer.choices[0].finish_reason), (40, "length"))
        self.refused(openai.BadRequestError, "context_length_exceeded",
                     "small", prompt="word " * 50)


if __name__ == "__main__":
    base.need_stack()
    unittest.main(verbosity=2)
