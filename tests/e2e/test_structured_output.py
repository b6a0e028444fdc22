#!/usr/bin/env python3
"""SmolLM2's answers keep to what the request says they must be: schemas by
PyPI's jsonschema for many seeds and at a high temperature, regexes, choices,
grammars, streamed or not; and the genuine openai client's parse()."""

import enum
import json
import re
import unittest

import base
import openai
import pydantic
from base import NAME

try:
    import jsonschema
except ImportError:
    jsonschema = None

SEEDS = 6
PERSON = {"type": "object", "properties": {
    "name": {"type": "string", "maxLength": 20},
    "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "mail": {"type": ["string", "null"], "pattern": "^[a-z]{1,8}@[a-z]{1,8}$"},
    "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]},
             "minItems": 1, "maxItems": 3},
    "born": {"type": "string", "format": "date"}},
    "required": ["name", "age", "mail", "tags", "born"],
    "additionalProperties": False}
SHAPES = {"oneOf": [
    {"type": "object", "properties": {
        "kind": {"const": "circle"},
        "radius": {"type": "number", "exclusiveMinimum": 0, "maximum": 9.5}},
     "required": ["kind", "radius"], "additionalProperties": False},
    {"type": "object", "properties": {
        "kind": {"const": "square"}, "side": {"$ref": "#/$defs/side"}},
     "required": ["kind", "side"], "additionalProperties": False}],
    "$defs": {"side": {"type": "integer", "minimum": 1}}}


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(pydantic.BaseModel):
    color: Color
    count: int
    note: str | None = pydantic.Field(max_length=20)


class Box(pydantic.BaseModel):
    items: list[Item] = pydantic.Field(max_length=2)
    sealed: bool


class StructuredOutput(base.StackTest):

    def client(self):
        return openai.OpenAI(base_url=self.stack.url + "/v1", api_key="any",
                             max_retries=0, timeout=240)

    def chat(self, content, **fields):
        body = {"model": NAME, "max_tokens": 400,
                "messages": [{"role": "user", "content": content}], **fields}
        answer = self.post("/v1/chat/completions", body)
        text = answer.read()
        self.assertEqual(answer.status, 200, text)
        return json.loads(text)["choices"][0]

    @unittest.skipIf(jsonschema is None, "jsonschema is not installed")
    def test_schemas_hold_for_many_seeds(self):
        done = 0
        for name, schema in (("person", PERSON), ("shape", SHAPES)):
            for seed in range(SEEDS):
                choice = self.chat(
                    f"Describe a {name} as JSON.", seed=seed,
                    temperature=1.5 if seed % 2 else 0.7,
                    response_format={"type": "json_schema", "json_schema": {
                        "name": name, "strict": True, "schema": schema}})
                if choice["finish_reason"] == "stop":
                    value = json.loads(choice["message"]["content"])
                    jsonschema.validate(value, schema)
                    done += 1
        self.assertGreater(done, SEEDS)

    def test_json_object(self):
        choice = self.chat("Give me a JSON object with one key.", seed=1,
                           temperature=0,
                           response_format={"type": "json_object"})
        self.assertEqual(choice["message"]["content"][0], "{")
        if choice["finish_reason"] == "stop":
            self.assertIsInstance(json.loads(choice["message"]["content"]),
                                  dict)

    def test_regex_choice_and_grammar(self):
        for seed in range(SEEDS):
            text = self.text("Call me at", guided_regex=r"\d{3}-\d{4}",
                             seed=seed, max_tokens=40)
            self.assertTrue(re.fullmatch(r"\d{3}-\d{4}", text), text)
            text = self.text("The sky is", seed=seed, temperature=1.5,
                             structured_outputs={
                                 "choice": ["blue", "gr\u00fcn"]},
                             max_tokens=20)
            self.assertIn(text, ("blue", "gr\u00fcn"))
            text = self.text("Count:", seed=seed, max_tokens=40, grammar=(
                'root ::= item{3}\nitem ::= " " [1-9] ","'))
            self.assertTrue(re.fullmatch("( [1-9],){3}", text), text)

    def test_streamed_is_the_same_text(self):
        fields = {"model": NAME, "max_tokens": 120, "seed": 3, "messages": [
            {"role": "user", "content": "Describe a person as JSON."}],
            "response_format": {"type": "json_schema", "json_schema": {
                "name": "person", "schema": PERSON}}}
        client = self.client().chat.completions
        whole = client.create(**fields).choices[0].message.content
        text = "".join(c.choices[0].delta.content or ""
                       for c in client.create(stream=True, **fields)
                       if c.choices)
        self.assertEqual(text, whole)

    def test_openai_client_parses(self):
        answer = self.client().chat.completions.parse(
            model=NAME, max_tokens=800, seed=5, temperature=0.3,
            messages=[{"role": "user", "content": "A box with two items."}],
            response_format=Box)
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertIsInstance(answer.choices[0].message.parsed, Box)

    def test_what_cannot_be_enforced_is_named(self):
        for fields, words in (
                ({"guided_json": {"properties": {"a": {"not": {}}}}},
                 ['"not"', "#/properties/a/not"]),
                ({"guided_json": {"$ref": "http://example.org/"}}, ['"$ref"']),
                ({"guided_regex": "(?=a)b"}, ["look-around"]),
                ({"grammar": "root ::= root"}, [])):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.client().chat.completions.create(
                    model=NAME, messages=[{"role": "user", "content": "x"}],
                    extra_body=fields)
            self.assertEqual(caught.exception.code, "invalid_grammar")
            for word in words:
                self.assertIn(word, caught.exception.message)
        self.assert_serves()


if __name__ == "__main__":
    base.main()
