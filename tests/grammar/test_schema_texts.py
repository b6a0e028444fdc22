#!/usr/bin/env python3
"""Random texts of the grammar of each schema here are JSON that the schema
holds for, by PyPI's jsonschema; texts that are to be possible are accepted;
schemas that cannot be enforced are refused with keyword and place."""

import datetime
import ipaddress
import json
import os
import re
import subprocess
import sys
import uuid

try:
    import jsonschema
except ImportError:
    print("skipped: jsonschema is not installed (make deps)")
    sys.exit(77)

TOOL = os.path.join(os.environ.get("AXION_BUILD", "build"),
                    "tests/grammar/grammar_texts")
TEXTS = int(os.environ.get("AXION_SCHEMA_TEXTS", "25"))


def member(**properties):
    return {"type": "object", "properties": properties,
            "required": list(properties), "additionalProperties": False}


TREE = {"$defs": {"node": {
    "type": "object",
    "properties": {"value": {"type": "integer"},
                   "children": {"type": "array", "maxItems": 2,
                                "items": {"$ref": "#/$defs/node"}}},
    "required": ["value", "children"], "additionalProperties": False}},
    "$ref": "#/$defs/node"}
OPTIONAL = {"type": "object", "properties": {
    "a": {"type": "boolean"}, "b": {"type": "null"},
    "c": {"type": "integer"}, "d": {"type": "string", "maxLength": 2},
    "e": {"enum": [1, 2]}}}
THREE = {"n": {"type": "integer", "minimum": 3}}
KINDS = [{"properties": {"k": {"const": k}}, "required": ["k"]} for k in "ab"]

# (schema, texts that must be accepted, texts that must not)
SCHEMAS = [
    ({}, ['{"a": [1, "x", null, -0.5e3]}', "true", '""'], ["", "{,}", "01"]),
    (True, ["1"], []),
    ({"type": "string"}, ['"\\u00e4\\n"', '"\u00e4\U0001f600"'],
     ['"\n"', '"\\x"', '"\\ud800"', '"\\ud83d\\u0041"', '"\\ude00"', "'a'"]),
    ({"type": "string", "minLength": 2, "maxLength": 2},
     ['"\\ud83d\\ude00\\u0041"', '"\\uDBFF\\uDFFFx"'],
     ['"\\ud83d\\ude00"', '"\\ud83dx"']),
    ({"type": "string", "minLength": 2, "maxLength": 4},
     ['"ab"', '"\u00e4\u00f6\U0001f600x"', '"\\n\\""'],
     ['"a"', '"abcde"', '""']),
    ({"type": "string", "maxLength": 0}, ['""'], ['"a"']),
    ({"type": "string", "minLength": 3}, ['"abcdefgh"'], ['"ab"']),
    ({"type": "string", "pattern": "^[a-z]{2,5}$"}, ['"ab"'], ['"aB"', '"a"']),
    ({"type": "string", "pattern": "^[A-Z][a-z]*$", "maxLength": 5,
      "minLength": 2}, ['"Abcde"'], ['"A"', '"Abcdef"']),
    ({"type": "string", "pattern": "b+|^c"}, ['"abba"', '"cd"'], ['"a"']),
    ({"type": "string", "pattern": '^["\\\\/\\n\\x01]{1,3}$'},
     ['"\\"\\\\\\n"'], ['"""']),
    ({"type": "string", "pattern": "^(\\d{3}-)?\\w+\\s?[^a-z\"]$"},
     ['"123-ab C"'], ['"12-a"']),
    ({"type": "string", "format": "date"}, ['"2024-02-29"', '"1999-12-31"'],
     ['"2023-02-29"', '"2023-04-31"', '"2023-13-01"', '"1900-02-29"']),
    ({"type": "string", "format": "date-time"},
     ['"2024-02-29T23:59:59Z"', '"2024-01-01T00:00:00.25+01:00"'],
     ['"2024-02-29 23:59:59Z"']),
    ({"type": "string", "format": "time"}, ['"12:00:00Z"'], ['"24:00:00Z"']),
    ({"type": "string", "format": "duration"}, ['"P1Y2M"', '"PT5M"'], ['"P"']),
    ({"type": "string", "format": "uuid"},
     ['"123e4567-e89b-12d3-a456-426614174000"'], ['"123e4567"']),
    ({"type": "string", "format": "email"}, ['"a.b@example.org"'],
     ['"a@b"', '"@x.org"']),
    ({"type": "string", "format": "ipv4"}, ['"127.0.0.1"'], ['"256.0.0.1"']),
    ({"type": "string", "format": "ipv6"}, ['"0:0:0:0:0:0:0:1"'], ['"::g"']),
    ({"type": "string", "format": "hostname"}, ['"a-b.example"'], ['"-a"']),
    ({"type": "string", "format": "uri", "minLength": 1, "maxLength": 2083},
     ['"https://example.org/a?b=c#d"'], ['"example"']),
    ({"type": "integer"}, ["-12", "0"], ["1.5", "01", "-"]),
    ({"type": "integer", "format": "int32"}, ["7"], []),
    ({"type": "integer", "minimum": 1, "maximum": 5}, ["1", "5"], ["0", "6"]),
    ({"type": "integer", "exclusiveMinimum": -20, "exclusiveMaximum": 1234},
     ["-19", "0", "999", "1233"], ["-20", "1234", "-0"]),
    ({"type": "integer", "minimum": 97}, ["97", "100000"], ["96", "9"]),
    ({"type": "integer", "maximum": -5}, ["-5", "-1000"], ["-4", "0"]),
    ({"type": "integer", "minimum": 1.5, "maximum": 3.2}, ["2", "3"],
     ["1", "4"]),
    ({"type": "number"}, ["1", "-0.25", "1e5"], [".5", "1.", "+1"]),
    ({"type": "number", "minimum": 0, "maximum": 1},
     ["0", "1", "0.5", "0.125", "1.0"], ["1.1", "-0.1", "2"]),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
     ["0.5", "0.001"], ["0", "1", "0.0", "1.0"]),
    ({"type": "number", "minimum": -1.25, "maximum": 2.5},
     ["-1.25", "-1.2", "2.5", "2", "2.49", "0"],
     ["-1.26", "2.51", "3"] + ["-2"]),
    ({"type": "number", "exclusiveMinimum": 9.99}, ["10", "9.991", "123.4"],
     ["9.99", "9.9", "9"]),
    ({"type": "boolean"}, ["true"], ["True"]),
    ({"type": "null"}, ["null"], ["0"]),
    ({"type": ["string", "null"], "maxLength": 2}, ["null", '"ab"'],
     ["1", '"abc"']),
    ({"enum": ["a\"b", 1.10, None, {"x": [1, 2]}, "\u00e4\n"]},
     ['"a\\"b"', "null", '{"x":[1,2]}', '{"x": [1, 2]}'], ['"a"', "2"]),
    ({"const": "x"}, ['"x"'], ['"y"']),
    ({"enum": [f"w{i}" for i in range(3000)]}, ['"w0"', '"w2999"'],
     ['"w3000"', '"w"']),
    # the same schema by two ways
    ({"$defs": THREE, "allOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"},
                                {"maximum": 9}]},
     ["3", "9"], ["2", "10"]),
    ({"$defs": THREE, "type": "object", "required": ["a"],
      "properties": {"a": {"$ref": "#/$defs/n"}},
      "allOf": [{"properties": {"a": {"$ref": "#/$defs/n"}}}]},
     ['{"a":3}'], ['{"a":2}', "{}"]),
    ({"$defs": {"b": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
                "c": {"$ref": "#/$defs/b"}},
      "allOf": [{"$ref": "#/$defs/b"}, {"$ref": "#/$defs/c"}]},
     ["null", "1"], ['"x"', "1.5"]),
    ({"type": "string", "enum": ["a", "b", 3], "const": "b"}, ['"b"'],
     ['"a"', "3"]),
    ({"type": "array", "items": {"type": "integer"}}, ["[]", "[1, 2]"],
     ["[1,]", "[,1]"]),
    ({"type": "array", "items": {"type": "boolean"}, "minItems": 2,
      "maxItems": 3}, ["[true,false]"], ["[true]"]),
    ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
    ({"type": "array", "prefixItems": [{"type": "integer"}, {"const": "x"}],
      "minItems": 2, "maxItems": 2}, ['[1, "x"]'], ["[1]", '[1,"x",1]']),
    ({"type": "array", "prefixItems": [{"type": "integer"}],
      "items": {"type": "string"}}, ["[]", "[1]", '[1,"a","b"]'], ['["a"]']),
    ({"type": "array", "prefixItems": [{"type": "integer"}, False]},
     ["[]", "[1]"], ["[1,2]"]),
    ({"type": "object"}, ["{}", '{"a": {"b": 1}}'], ["[]"]),
    (member(), ["{}"], ['{"a":1}']),
    (member(a={"type": "integer"}, b={"type": "string"}),
     ['{"a":1,"b":"x"}', '{\n  "a": 1,\n  "b": "x"\n}'],
     ['{"b":"x","a":1}', '{"a":1}', '{"a":1,"b":"x","c":1}']),
    (OPTIONAL, ["{}", '{"a":true}', '{"b":null,"d":"xy"}', '{"e": 2}',
                '{"a":true,"b":null,"c":1,"d":"","e":1}'],
     ['{"b":null,"a":true}', '{,"a":true}', '{"a":true,}', '{"d":"xyz"}']),
    (dict(OPTIONAL, required=["c"]),
     ['{"c":1}', '{"a":true,"c":1,"e":1}', '{"b":null,"c":1}'],
     ['{"a":true}', "{}"]),
    (dict(OPTIONAL, required=["e", "z"]), ['{"e":1,"z":[]}'], ['{"e":1}']),
    (dict(OPTIONAL, minProperties=1), ['{"a":true}', '{"e":1}'], ["{}"]),
    ({"type": "object", "properties": {"n": {"type": "integer"}},
      "additionalProperties": {"type": "boolean"}},
     ["{}", '{"n":1}', '{"n":1,"m":true}', '{"nn":true}', '{"N":true}'],
     ['{"n":true}', '{"m":1}', '{"m":true,"n":1}']),
    ({"type": "object", "properties": {"n": {"type": "integer"},
                                       "no": False},
      "required": ["n"], "additionalProperties": True},
     ['{"n":1,"x":[]}', '{"n":1,"non":[]}'], ['{"n":1,"no":1}']),
    ({"type": "object", "additionalProperties": {"type": "integer"},
      "maxProperties": 2, "minProperties": 1},
     ['{"a":1}', '{"a":1,"b":2}'], ["{}", '{"a":1,"b":2,"c":3}']),
    (TREE, ['{"value":1,"children":[{"value":2,"children":[]}]}'],
     ['{"value":1}']),
    ({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1},
                False]}, ["1", '"a"'], ['"ab"', "null"]),
    ({"type": "object", "properties": {"a": {"type": "integer"}},
      "required": ["a"],
      "anyOf": [{"properties": {"b": {"type": "null"}}, "required": ["b"]},
                {"properties": {"c": {"type": "null"}}, "required": ["c"]}]},
     ['{"a":1,"b":null}', '{"a":1,"c":null}'], ['{"a":1}']),
    ({"oneOf": [
        member(kind={"const": "cat"}, lives={"type": "integer"}),
        member(kind={"const": "dog"}, name={"type": "string"})],
      "discriminator": {"propertyName": "kind"}},
     ['{"kind":"cat","lives":9}', '{"kind":"dog","name":"x"}'],
     ['{"kind":"cat","name":"x"}']),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, ["1", '"a"'],
     ["null"]),
    ({"allOf": [
        {"type": "object", "properties": {"a": {"type": "integer"}},
         "required": ["a"]},
        {"properties": {"a": {"minimum": 3}, "b": {"maxLength": 1}}}]},
     ['{"a":3}', '{"a":4,"b":"x"}'], ['{"a":2}', '{"a":3,"b":"xy"}']),
    ({"$defs": {"p": {"type": "integer", "minimum": 1}},
      "type": "object", "properties": {
          "x": {"$ref": "#/$defs/p", "description": "d", "maximum": 9}},
      "required": ["x"]}, ['{"x":9}'], ['{"x":0}', '{"x":10}']),
    ({"definitions": {"a/b~c": {"const": 1}}, "title": "t",
      "$ref": "#/definitions/a~1b~0c"}, ["1"], ["2"]),
    ({"type": "array", "items": [{"const": 1}], "additionalItems": False,
      "$schema": "http://json-schema.org/draft-07/schema#"},
     ["[]", "[1]"], ["[1,1]", "[2]"]),
    ({"type": "object", "properties": {"a\"\\\n\u00e4": {"const": 1}},
      "required": ["a\"\\\n\u00e4"]}, ['{"a\\"\\\\\\n\u00e4":1}'], ["{}"]),
    ({"type": "object", "oneOf": KINDS}, ['{"k":"a"}'], ['{"k":"c"}']),
    ({"oneOf": [False, {"type": "null"}]}, ["null"], ["1"]),
    ({"type": "object", "unevaluatedProperties": False}, ["{}"], ['{"a":1}']),
    ({"type": "array", "unevaluatedItems": False}, ["[]"], ["[1]"]),
    ({"$defs": {"b": {"properties": {"b": {"type": "null"}}}},
      "allOf": [{"$ref": "#/$defs/b"}], "type": "object",
      "properties": {"a": {"type": "null"}}, "unevaluatedProperties": False},
     ["{}", '{"a":null}', '{"b":null}', '{"a":null,"b":null}'],
     ['{"c":null}']),
    ({"type": "string", "pattern": "^[^\\W_]{9}$"}, ['"azAZ09abc"'],
     ['"a_c456789"', '"\u2192\u00e445abcde"']),
    ({"type": "string", "pattern": "^[^\\D5]{9}$"}, ['"012346789"'],
     ['"012345678"', '"\u07071234678"']),
    ({"type": "string", "pattern": "^[^\\S ]{9}$"},
     ['"\\t\\n\\t\\n\\t\\n\\t\\n\\t"'], ['"\u00a0\ufeff       "']),
    ({"type": "string", "pattern": "^[^\\w]{9}$"}, ['"-+*/ .,;:"'],
     ['"\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4"']),
    ({"type": "string", "x-order": 1, "default": "a", "examples": ["b"],
      "deprecated": True}, ['"a"'], []),
]

KEYS = [f"{i:x}" for i in range(2500)]

# Both are more work than a schema is worth.
COMPARED = {"$defs": {
    "x": {"enum": [dict.fromkeys(KEYS, 0), 1]},
    "y": {"enum": [dict.fromkeys(reversed(KEYS), 0) | {"0": 1}, 1]}},
    "anyOf": [{"allOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"},
                         {"type": ["object", "integer"], "x-i": i}]}
              for i in range(20)]}
EXTENDED = {**{f"x-{i:x}": 0 for i in range(4000)}, "type": "integer",
            "anyOf": [{"const": i} for i in range(3000)]}

# (schema, what the message has to have)
REFUSED = [
    (COMPARED, ["GRAMMAR_LIMIT", "too much work"]),
    (EXTENDED, ["GRAMMAR_LIMIT"]),
    ({"oneOf": [{"minLength": 3}, {"minimum": 5}]}, ['"oneOf" cannot be']),
    ({"oneOf": [KINDS[0], {"type": "string"}]}, ['"oneOf" cannot be']),
    ({"type": ["object", "string"], "oneOf": KINDS}, ['"oneOf" cannot be']),
    ({"allOf": [{"type": "object", "unevaluatedProperties": False},
                {"properties": {"b": {}}}]},
     ['"unevaluatedProperties" cannot be enforced in a part',
      '"#/allOf/0/unevaluatedProperties"']),
    ({"type": "object", "allOf": [
        {"properties": {"x": {"type": "array", "unevaluatedItems": False}}},
        {"properties": {"x": {"items": {}}}}]},
     ['"unevaluatedItems" cannot be enforced in a part']),
    ({"type": "object", "required": ["z"], "unevaluatedProperties": False},
     ["required member is forbidden"]),
    ({"type": "number", "minimum": 5e17}, ["from 10^17 on"]),
    ({"type": "number", "maximum": -5e17}, ["from 10^17 on"]),
    ({"pattern": "[^]]"}, ["needs a backslash"]),
    ("nonsense", ["line 1, column 1"]),
    ('{"a":1,"a":2}', ["twice"]),
    ("[]", ["must be an object", '"#"']),
    ("false", ["no value"]),
    ({"not": {"type": "string"}}, ['"not" cannot be enforced', '"#/not"']),
    ({"properties": {"a": {"if": {}}}}, ['"if"', '"#/properties/a/if"']),
    ({"uniqueItems": True}, ['"uniqueItems"', '"#/uniqueItems"']),
    ({"minLenght": 3}, ['"minLenght" is not known']),
    ({"type": "strin"}, ['"type" must name types']),
    ({"type": []}, ['"type" must name types']),
    ({"minLength": -1, "type": "string"}, ['"minLength"']),
    ({"minLength": 3, "maxLength": 2}, ["least number is above"]),
    ({"maxLength": 10000000}, ['"maxLength" is too large']),
    ({"patternProperties": {"a": {}}}, ['"patternProperties"']),
    ({"propertyNames": {}}, ['"propertyNames"']),
    ({"$ref": "http://example.org/x"}, ['"$ref" must lead to a place']),
    ({"$ref": "#/$defs/x"}, ['"$ref" leads nowhere']),
    ({"$ref": "#"}, ["comes back to the same schema"]),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
      "$ref": "#/$defs/a"}, ["comes back to the same schema"]),
    ({"$defs": {"a": {"$ref": "#/$defs/b"},  # a circle with two ways in
                "b": {"allOf": [{"$ref": "#/$defs/a"}]}},
      "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]},
     ["comes back to the same schema"]),
    ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, []),
    ({"anyOf": []}, ['"anyOf" must be an array of schemas']),
    ({"anyOf": [False]}, ['"anyOf" holds for no value']),
    ({"anyOf": [{"type": "null"}], "oneOf": [{"type": "null"}]},
     ["beside another of its kind"]),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]},
     ['"oneOf" cannot be enforced where two branches']),
    ({"type": "integer", "multipleOf": 3}, ['"multipleOf"']),
    ({"type": "integer", "minimum": 3, "maximum": 2}, ["within the bounds"]),
    ({"type": "integer", "minimum": 1e30}, ['"minimum" has too many digits']),
    ({"exclusiveMinimum": True}, ['"exclusiveMinimum" must be a number']),
    ({"pattern": "(?=a)b"}, ['"pattern"', "look-around", '"#/pattern"']),
    ({"pattern": "(a)\\1"}, ["back references"]),
    ({"pattern": "a\\b"}, ["escape"]),
    ({"pattern": "(a"}, ["the group has no end"]),
    ({"pattern": "^(a|b)+c*$", "maxLength": 9}, ["minLength or maxLength"]),
    ({"pattern": "a", "format": "date"}, ["beside another"]),
    ({"format": "iri"}, ['"format" of this name']),
    ({"enum": ["a"], "minLength": 1}, ['"minLength"', "beside enum"]),
    ({"enum": ["a"], "type": "integer"}, ['"enum" has no value']),
    ({"type": "string", "allOf": [{"type": "integer"}]}, ["no value has all"]),
    ({"properties": {"a": False}, "required": ["a"], "type": "object"},
     ["required member is forbidden"]),
    ({"type": "object", "maxProperties": 1, "properties": {"a": {}, "b": {}}},
     ["minProperties or maxProperties"]),
    ({"properties": {"a": {"$id": "x"}}}, ['"$id"']),
    ({"nullable": True}, ['"nullable" needs a type']),
    ("[" * 70 + "]" * 70, ["GRAMMAR_LIMIT", "nested deeper"]),
    ({"enum": list(range(5000)), "allOf": [{"enum": list(range(5000))}]},
     ["GRAMMAR_LIMIT"]),
    ({"type": "string", "pattern": "(" * 70 + "a" + ")" * 70}, ["nested"]),
]


def run(kind, source, *args, texts=None):
    return subprocess.run([TOOL, kind, source, *map(str, args)],
                          input=texts, capture_output=True, check=False)


def same_format(schema, value):
    """Formats that jsonschema leaves to other packages."""
    name = schema.get("format") if isinstance(schema, dict) else None
    if not isinstance(value, str):
        return
    if name == "date":
        datetime.date.fromisoformat(value)
    elif name == "date-time":
        datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    elif name == "time":
        datetime.time.fromisoformat(value.replace("Z", "+00:00"))
    elif name == "uuid":
        uuid.UUID(value)
    elif name == "ipv4":
        ipaddress.IPv4Address(value)
    elif name == "ipv6":
        ipaddress.IPv6Address(value)
    elif name == "email":
        assert re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", value), value


def check_schema(index, schema, good, bad):
    source = json.dumps(schema)
    cls = jsonschema.validators.validator_for(
        schema, default=jsonschema.Draft202012Validator)
    cls.check_schema(schema)
    validator = cls(schema)
    made = run("json_schema", source, "make", TEXTS, index + 1)
    assert made.returncode == 0, (source, made.stdout[-200:], made.stderr)
    texts = made.stdout.decode().split("\0")[:-1]
    assert texts, source
    for text in texts:
        try:
            value = json.loads(text)
            validator.validate(value)
            same_format(schema, value)
        except (ValueError, AssertionError,
                jsonschema.ValidationError) as why:
            raise AssertionError(f"{source}: {text!r}: {why}") from why
    asked = good + bad
    said = run("json_schema", source, "check",
               texts=b"".join(t.encode() + b"\0" for t in asked))
    assert said.returncode == 0, said.stderr
    for text, verdict in zip(asked, said.stdout.split()):
        assert (verdict == b"1") == (text in good), (source, text, verdict)
        if text in good:
            validator.validate(json.loads(text))
    return len(texts)


def check_refused(schema, words):
    source = schema if isinstance(schema, str) else json.dumps(schema)
    said = run("json_schema", source, "show")
    text = said.stdout.decode()
    if not words:  # what only the compiler of GBNF sees
        said = run("json_schema", source, "make", 1, 1)
        assert said.returncode == 1, (source, said)
        return
    assert said.returncode == 1, (source[:200], text[:500])
    for word in words:
        assert word in text, (source[:200], word, text)


def main():
    n = sum(check_schema(i, *row) for i, row in enumerate(SCHEMAS))
    for row in REFUSED:
        check_refused(*row)
    print(f"{n} texts of {len(SCHEMAS)} schemas, {len(REFUSED)} refused")


if __name__ == "__main__":
    main()
