#!/usr/bin/env python3
"""Writes tests/golden/text/: what independent implementations say of text.

tokens.json   500 strings and their token ids on SmolLM2, from llama.cpp
              (llama-cpp-python 0.3.36, vocabulary only)
pretok.json   the first of them again with other pre-tokenizers on the same
              vocabulary (llama.cpp's override of tokenizer.ggml.pre)
chats.json    conversations through SmolLM2's own chat template, from Jinja2,
              with the token ids of the result from llama.cpp
jinja.json    small templates of our own, one for each part of the language,
              from Jinja2 set up as transformers does

Run from the repository's root with the Python of tools/llama.sh, once the
model is there (make model).  The strings come from a fixed seed, so a second
run writes the same files.
"""

import ctypes
import json
import os
import random
import sys

import llama_cpp

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../text"))
from golden_templates import NOW, environment  # noqa: E402
from jinja_cases import CONTEXT, TEMPLATES  # noqa: E402

MODEL = "models/SmolLM2-135M-Instruct.Q4_1.gguf"
OUT = os.path.join(os.path.dirname(__file__), "text")
STRINGS = 500
PRETOK_STRINGS = 240
PRETOKS = ["default", "gpt-2", "llama-bpe", "qwen2"]

PARSE_SPECIAL, ADD_SPECIAL = 1, 2

# Every kind of text that has broken a tokenizer somewhere.
PIECES = [
    "Hello", " world", "The quick brown fox", " jumps", "\n", "\n\n", "\n\n\n",
    " ", "  ", "   ", "\t", "\t\t", " \n", "\r\n", "\r", "\u00a0", "\u3000",
    "\u2028", "\u180e", "\u0085", "\ufeff", "\u200b", "\u200d",
    "don't", "I'LL", " we've", "it's", "'s", "''", "`", "o'clock",
    "0", "12", "1234567", "3.14", "1,000,000", "0x1F", "1e-9", "٣٤٥", "½", "²",
    "Ⅷ", "一二三", "१२३",
    "naïve", "été", "e\u0301te\u0301", "Straße", "ŒUVRE", "ǅ", "ﬁ", "ſ",
    "Привет", " мир", "Ελληνικά", "你好", "世界", "こんにちは", "カタカナ",
    "한국어", "नमस्ते", "ภาษาไทย", "עברית", "العربية", "ქართული", "Հայերեն",
    "አማርኛ", "ᏣᎳᎩ", "தமிழ்", "\U00010400", "\U0001d11e", "\U00020000",
    "🙂", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "☃", "→", "∑", "€", "…", "—", "“q”", "\ufffd",
    "def f(x):\n    return x\n", "int main(void)\n{\n\treturn 0;\n}\n",
    "if (a != b && c->d) {", "<div class=\"x\">", "SELECT * FROM t;", "/* c */",
    "https://example.org/a?b=c&d=%20", "a_b_c", "CamelCase", "--flag=1",
    "{\"k\": [1, null]}", "$x^2$", "#!/bin/sh", "\\n", "%d", "@@", "()[]{}",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<|im_",
    "|>", "<|", "<empty_output>", "<s>", "</s>", "<unk>",
    "aaaaaaaaaaaaaaaa", "=" * 24, "-" * 9, "." * 13, "\x00", "\x01", "\x7f",
]

WORDS = ("time year people way day man thing woman life child world school "
         "state family student group country problem hand part place case "
         "week company system program question work government number night "
         "point home water room mother area money story fact month lot right "
         "study book eye job word business issue side kind head house service "
         "friend father power hour game line end member law car city").split()

TEMPLATE_CHATS = [
    [("user", "Hi")],
    [("user", "What is 2+2?"), ("assistant", "4."), ("user", "And 3+3?")],
    [("system", "You are terse."), ("user", "Tell me a story.")],
    [("system", ""), ("user", "")],
    [("user", "  spaces  \n\n"), ("assistant", "\t"), ("user", "…")],
    [("user", "日本語で答えて"), ("assistant", "はい。🙂"), ("user", "ありがとう")],
    [("user", "def f():\n    pass\n")],
    [("system", "A"), ("user", "B"), ("assistant", "C")],
]


def random_character(rng):
    kind = rng.random()
    if kind < 0.4:
        return chr(rng.randint(0x20, 0x7e))
    if kind < 0.6:
        return chr(rng.randint(0xa0, 0x2af))
    # blocks that have been assigned for long: no tables' age matters
    low, high = rng.choice([(0x370, 0x373), (0x3a3, 0x3ff), (0x400, 0x482),
                            (0x5d0, 0x5ea), (0x621, 0x63a), (0x905, 0x939),
                            (0xe01, 0xe3a), (0x10a0, 0x10c5),
                            (0x1e00, 0x1eff), (0x2010, 0x2027),
                            (0x20a0, 0x20ac), (0x2190, 0x23cf),
                            (0x2460, 0x24ea), (0x3041, 0x3096),
                            (0x30a1, 0x30fa), (0x4e00, 0x9fa5),
                            (0xac00, 0xd7a3), (0xff01, 0xff5e),
                            (0x10400, 0x1044f), (0x1f300, 0x1f5ff)])
    return chr(rng.randint(low, high))


def make_strings(count):
    rng = random.Random(20260101)
    strings = [("", 0), ("", PARSE_SPECIAL), (" ", 0), ("\n", 0), ("a", 0)]
    strings += [(piece, 0) for piece in PIECES]
    while len(strings) < count:
        kind = rng.random()
        flags = rng.choice([0, PARSE_SPECIAL, PARSE_SPECIAL | ADD_SPECIAL])
        if kind < 0.25:
            words = [rng.choice(WORDS) for _ in range(rng.randint(2, 25))]
            text = " ".join(words).capitalize() + rng.choice(".?!")
            flags = 0
        elif kind < 0.45:
            text = "".join(random_character(rng)
                           for _ in range(rng.randint(1, 20)))
        else:
            text = "".join(rng.choice(PIECES)
                           for _ in range(rng.randint(2, 9)))
        strings.append((text, flags))
    return strings


class Oracle:
    """llama.cpp's tokenizer on the model's vocabulary, with the model's own
    pre-tokenizer or another."""

    def __init__(self, path, pre=None):
        self.log = llama_cpp.llama_log_callback(lambda *args: None)
        llama_cpp.llama_log_set(self.log, ctypes.c_void_p(0))
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        if pre is not None:
            # ends with an empty entry
            override = (llama_cpp.llama_model_kv_override * 2)()
            override[0].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
            override[0].key = b"tokenizer.ggml.pre"
            override[0].value.val_str = pre.encode()
            params.kv_overrides = override
        self.model = llama_cpp.llama_model_load_from_file(path.encode(),
                                                          params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.ids = (ctypes.c_int32 * 65536)()

    def encode(self, text, flags):
        data = text.encode()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), self.ids,
                                     len(self.ids),
                                     bool(flags & ADD_SPECIAL),
                                     bool(flags & PARSE_SPECIAL))
        return list(self.ids[:n])

    def template(self):
        raw = llama_cpp.llama_model_chat_template(self.model, None)
        return raw.decode()


def write(name, rows):
    path = os.path.join(OUT, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(row, ensure_ascii=True)
                                      for row in rows) + "\n]\n")
    print(f"{path}: {len(rows)} entries, {os.path.getsize(path)} bytes")


def chat_rows(oracle):
    env = environment()
    template = env.from_string(oracle.template())
    for turns in TEMPLATE_CHATS:
        messages = [{"role": r, "content": c} for r, c in turns]
        for prompt in (True, False):
            context = {"messages": messages, "add_generation_prompt": prompt}
            text = template.render(context)
            yield {"context": context, "text": text,
                   "ids": oracle.encode(text, PARSE_SPECIAL)}


def jinja_rows():
    env = environment()
    for template in TEMPLATES:
        row = {"template": template}
        try:
            row["text"] = env.from_string(template).render(
                json.loads(json.dumps(CONTEXT)))
        except Exception as error:  # the error is what is expected
            row["error"] = type(error).__name__
        yield row


def main():
    os.makedirs(OUT, exist_ok=True)
    oracle = Oracle(MODEL)
    write("tokens.json", [{"text": text, "flags": flags,
                           "ids": oracle.encode(text, flags)}
                          for text, flags in make_strings(STRINGS)])
    write("pretok.json", [{"pre": pre, "text": text, "flags": flags,
                           "ids": other.encode(text, flags)}
                          for pre in PRETOKS
                          for other in [Oracle(MODEL, pre)]
                          for text, flags in make_strings(PRETOK_STRINGS)])
    write("chats.json", list(chat_rows(oracle)))
    write("jinja.json", [{"context": CONTEXT}, *jinja_rows()])
    print(f"llama-cpp-python {llama_cpp.__version__}, clock {NOW}")


if __name__ == "__main__":
    main()
