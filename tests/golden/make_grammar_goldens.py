#!/usr/bin/env python3
"""Writes tests/golden/text/grammars.json: what llama.cpp's own grammar says.

llama_sampler_init_grammar() of PyPI's llama-cpp-python 0.3.36 on SmolLM2's
vocabulary and on that of the tiny models.  For each grammar some answers are
walked, each token drawn from those that it allows, and what it allows there is
written down: of the tiny vocabulary as a bit a token, of SmolLM2's as FNV-1a
of its 64-bit words.  Grammars that it refuses are listed, too.

Left out, for they are llama.cpp's mistakes or its choice, not the grammar's
(test_grammar_goldens.c leaves out the same):
- control tokens: llama.cpp lets "<|im_start|>" stand for its eleven letters
- tokens that begin with a NUL byte: it never allows them, its strings end there
- tokens behind which the text is no UTF-8 any more (overlong forms, surrogates,
  beyond U+10FFFF): it reads any bytes of the right shape
- the end within a character: it takes the text for what it was before that
What it refuses and we do not, or the other way round, is not listed here but in
tests/golden/README.md.

Run from the repository's root with the Python of tools/llama.sh, once the
model is there (make model) and `make build/tests/tiny/tiny-model
build/tests/grammar/grammar_texts`.  The walks come from a fixed seed.
"""

import ctypes
import json
import os
import random
import subprocess
import sys
import tempfile

import llama_cpp as L
import numpy as np

MODEL = "models/SmolLM2-135M-Instruct.Q4_1.gguf"
OUT = os.path.join(os.path.dirname(__file__), "text/grammars.json")
WALKS, TOKENS = 3, 14

JSON = r'''root ::= object
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
array ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [1-9] [0-9]{0,15})? ws
# at most one line feed
ws ::= | " " | "\n" [ \t]{0,20}
'''
GRAMMARS = [
    'root ::= "yes" | "no" | "maybe so"',
    'root ::= "the " ("man" | "woman" | "child")+ "."',
    'root ::= [a-z]+',
    'root ::= [a-z]{3}',
    'root ::= [a-zA-Z0-9_.-]{2,} "@" [a-z]+ ("." [a-z]{2,3}){1,2}',
    'root ::= [^a-z]{1,8}',
    'root ::= [^\\x00-\\x1f"\\\\]* "\\""',
    'root ::= "caf\u00e9 " [\u00e0-\u00ff]+',
    'root ::= [\u4e00-\u9fff]{2,9} "\u3002"?',
    'root ::= [\\u0400-\\u04FF \\n]+',
    'root ::= [\\U0001F300-\\U0001F5FF\\u2600-\\u26ff]+ "!"',
    'root ::= [^\\u0041-\\uFFFF]+',
    'root ::= ."b". "d"',
    'root ::= .+ "END"',
    'root ::= ("a" | "ab" | "abc")* "c"',
    'root ::= ("" | "x") "y"',
    'root ::= a b\na ::= "1"?\nb ::= | "2" a b',
    'root ::= "(" root ")" | "[" root "]" | "x"',
    'root ::= term ([-+*/] term)*\nterm ::= [0-9]+ | "(" root ")"',
    'root ::= "a" root "b" | "c"',
    'root ::= [\\]\\[a^-]{1,6}',
    'root ::= [-a]{2}[a-]{2}',
    'root ::= "\\t\\r\\n\\x41\\u00e9\\U0001F600"',
    'root ::= line{2,4}\nline ::= "- " [^\\n]{0,12} "\\n"',
    '# lists\nroot ::= # of items\n  item ("," item)* # more\nitem ::= [0-9]{1,3}\n',
    'root ::= (("a"{2}){2} | "b"){2,3}',
    'root ::= "if" ws "(" ws name ws ")" ws ("{" "}" | ";")\nname ::= [a-z_] [a-z0-9_]*\nws ::= " "*',
    'root ::= ("one " | "two " | "three "){3}',
    'root ::= move (" " move)*\nmove ::= [NBRQK]? [a-h]? "x"? [a-h] [1-8] [+#]? | "O-O" "-O"?',
    'root ::= "<" tag ">" [^<]* "</" tag ">"\ntag ::= "b" | "it" | "code"',
    'root ::= x\nx ::= y | "k"\ny ::= "j" x | z z\nz ::= [p-r]?  "q"',
    'root ::= " "* [0-9]* ("\\n" | "." [0-9]*)',
    JSON,
]
SOURCES = [  # through grammar_texts: our GBNF of what clients write
    ("json_schema", '{"type":"object","properties":{"name":{"type":"string",'
     '"maxLength":12},"age":{"type":"integer","minimum":0,"maximum":130},'
     '"tags":{"type":"array","items":{"enum":["a","bé",3,null]},"maxItems":3}},'
     '"required":["name","age"]}'),
    ("json_schema", '{"type":"object","properties":{"when":{"type":"string",'
     '"format":"date-time"},"n":{"type":"number"}},"required":["when","n"]}'),
    ("json_schema", '{"anyOf":[{"type":"string","pattern":"^[A-Z]{2}-\\\\d+$"},'
     '{"$ref":"#/$defs/t"}],"$defs":{"t":{"type":"array","items":'
     '{"$ref":"#/$defs/t"}}}}'),
    ("json_object", ""),
    ("regex", r"(\+\d{1,3} )?\(?\d{3}\)?[ -]\d{4}|[^\W_]+é*?"),
    ("choice", '["left","right","left again","…"]'),
]
REFUSED = [
    'root ::= "a', 'root ::= [a', 'root ::= (a', 'root ::= ("a"', 'root = "a"',
    'root ::= "a" |\n| b', 'root ::= "\\q"', 'root ::= "\\x4"', 'root ::= *',
    'root ::= "a"{2', 'root ::= "a"{,2}', 'root ::= "a"{x}', 'root ::= b',
    'roof ::= "a"', '::= "a"', 'root ::= root "a" | "b"',
    'root ::= a\na ::= b | "x"\nb ::= a "y"',
    'root ::= "a" )', 'root ::= "a" ]',
]


def control_or_nul(vocab, token):
    """Tokens that are left out: see above."""
    if L.llama_vocab_is_eog(vocab, token):
        return False
    piece = ctypes.create_string_buffer(512)
    n = L.llama_token_to_piece(vocab, token, piece, len(piece), 0, True)
    data = piece.raw[:max(n, 0)]
    return L.llama_vocab_is_control(vocab, token) or n <= 0 or data[0] == 0


class Oracle:
    def __init__(self, path):
        params = L.llama_model_default_params()
        params.vocab_only = True
        self.model = L.llama_load_model_from_file(path.encode(), params)
        self.vocab = L.llama_model_get_vocab(self.model)
        self.n = L.llama_vocab_n_tokens(self.vocab)
        self.data = (L.llama_token_data * self.n)()
        self.table = np.frombuffer(self.data, dtype=[
            ("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
        self.behind = {}
        self.kept = np.array([not control_or_nul(self.vocab, t)
                              for t in range(self.n)])

    def grammar(self, text):
        return L.llama_sampler_init_grammar(self.vocab, text.encode(), b"root")

    def opened(self, text):
        grammar = self.grammar(text)
        assert grammar, text
        return grammar

    def utf8_behind(self, said):
        tail = unfinished(said)
        if tail not in self.behind:
            self.behind[tail] = np.array([
                tail == b"" if L.llama_vocab_is_eog(self.vocab, t)
                else is_utf8(tail + self.bytes_of(t)) for t in range(self.n)])
        return self.behind[tail]

    def allowed(self, grammar, said):
        self.table["id"] = np.arange(self.n)
        self.table["logit"] = self.table["p"] = 0
        array = L.llama_token_data_array(data=self.data, size=self.n,
                                         selected=-1, sorted=False)
        L.llama_sampler_apply(grammar, ctypes.byref(array))
        allowed = np.zeros(self.n, dtype=bool)
        allowed[self.table["id"]] = self.table["logit"] == 0
        return np.flatnonzero(allowed & self.kept & self.utf8_behind(said))

    def bytes_of(self, token):
        piece = ctypes.create_string_buffer(512)
        n = L.llama_token_to_piece(self.vocab, token, piece, 512, 0, True)
        return piece.raw[:max(n, 0)]


def shown(oracle, ids):
    bits = np.zeros((oracle.n + 63) // 64 * 64, dtype=bool)
    bits[ids] = True
    words = np.packbits(bits, bitorder="little").view("<u8")
    if oracle.n < 1000:
        return "%x" % sum(int(w) << 64 * i for i, w in enumerate(words))
    value = 0xcbf29ce484222325
    for word in words:
        value = (value ^ int(word)) * 0x100000001b3 & 0xffffffffffffffff
    return "%016x" % value


def is_utf8(data):
    """Whether data begins a text of UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def unfinished(data):
    """The bytes of a character that is not whole."""
    try:
        data.decode()
        return b""
    except UnicodeDecodeError as error:
        return data[error.start:]


def pick(oracle, rng, ids):
    """A token; where there are many, none that ends."""
    token = int(rng.choice(ids))
    while L.llama_vocab_is_eog(oracle.vocab, token):
        if len(ids) < 4:
            return None
        token = int(rng.choice(ids))
    return token


def walk(oracle, text, rng):
    grammar = oracle.opened(text)
    tokens, allowed, said = [], [], b""
    while len(tokens) < TOKENS:
        ids = oracle.allowed(grammar, said)
        allowed.append(shown(oracle, ids))
        token = pick(oracle, rng, ids) if len(ids) else None
        if token is None:
            break
        tokens.append(token)
        said += oracle.bytes_of(token)
        L.llama_sampler_accept(grammar, token)
    L.llama_sampler_free(grammar)
    return {"tokens": tokens, "allowed": allowed}


def main():
    quiet = L.llama_log_callback(lambda *_: None)
    L.llama_log_set(quiet, None)
    L.llama_backend_init()
    rng = random.Random(20261122)
    texts = list(GRAMMARS)
    for kind, source in SOURCES:
        texts.append(subprocess.run(
            ["build/tests/grammar/grammar_texts", kind, source, "show"],
            check=True, capture_output=True).stdout.decode())
    with tempfile.TemporaryDirectory() as folder:
        tiny = folder + "/tiny.gguf"
        subprocess.run(["build/tests/tiny/tiny-model", "--variant", "q4_0",
                        tiny],
                       check=True)
        oracles = {"tiny": Oracle(tiny), "smollm2": Oracle(MODEL)}
        rows = []
        for text in texts:
            row = {"gbnf": text}
            for name, oracle in oracles.items():
                row[name] = [walk(oracle, text, rng) for _ in range(WALKS)]
            rows.append(row)
            print(len(rows), text[:60].replace("\n", " "), file=sys.stderr)
        tiny = oracles["tiny"]
        for text in REFUSED:
            if tiny.grammar(text):
                print("not refused:", text, file=sys.stderr)
    with open(OUT, "w", encoding="utf-8") as out:
        out.write('{"oracle": "llama-cpp-python %s",\n"refused": %s,\n'
                  '"grammars": [\n%s\n]}\n' % (
                      L.__version__, json.dumps(REFUSED),
                      ",\n".join(json.dumps(row) for row in rows)))


if __name__ == "__main__":
    main()
