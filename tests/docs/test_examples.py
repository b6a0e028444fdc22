#!/usr/bin/env python3
"""Every example of README.md and docs/*.md, taken out of the pages as it is
there: what is for nginx.conf passes nginx -t with the built module; a source file
compiles; commands
that work on loopback are run, against a random model with the real one's
file name; of make only that its targets exist; what needs a whole machine is
listed here with the test that runs it there.  An example that nothing here
claims fails, and so does an entry here that no page has any more.
"""

import glob
import hashlib
import json
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "nginx"))
import rig  # noqa: E402

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
TINY = os.path.join(rig.BUILD, "tests", "tiny", "tiny-model")
AXIOND = os.path.join(rig.BUILD, "axiond")

NGINX_LINE = re.compile(r"(load_module|events|http|server|location|map|"
                        r"log_format|limit_req_zone|axion_\w+)\b")
PICTURE = re.compile("[─▶◀│]")
ENVIRONMENT = re.compile(r"[A-Z_]+=")

# Commands that need a machine of their own: their beginning, and the test
# that has the same command, for another model or in other words.
ELSEWHERE = {
    "useradd ": ("tests/ops/debian_purge.sh", None),
    "install -d -o axion": ("tests/ops/debian_purge.sh", None),
    "dpkg-buildpackage ": ("tests/ops/debian_package.sh", None),
    "apt-get install ": ("tests/ops/debian_package.sh",
                         r'install_inside .*nginx "/\*\.deb"'),
    "systemd-sysusers ": ("tests/ops/inside_systemd.sh", None),
    "systemctl ": ("tests/ops/inside_systemd.sh", None),
    "kill -USR2": ("tests/nginx/test_binary_upgrade.py",
                   r"self\.nginx\.signal\(signal\.SIGUSR2\)"),
    "kill -QUIT": ("tests/nginx/test_binary_upgrade.py",
                   r"self\.nginx\.signal\(signal\.SIGQUIT\)"),
}
# There is no public repository that a test could clone, remote servers of
# other makes need a GPU, and a line for Redis is not the shell's.
NOWHERE = ["git clone ", "vllm serve ", "python -m sglang.", "trtllm-serve ",
           "ACL SETUSER "]
MODEL_NAME = re.compile(r"smollm2(-[ab])?")


def blocks(text):
    """(line, text) of each indented block behind a blank line."""
    found, current, start, blank = [], [], 0, True
    for number, line in enumerate(text.split("\n") + ["end"], 1):
        if line.startswith("    ") and (current or blank):
            start = start if current else number
            current.append(line[4:])
        elif not line.strip() and current:
            current.append("")
        elif current:
            found.append((start, "\n".join(current).rstrip("\n")))
            current = []
        blank = not line.strip()
    return found


def paragraphs(text):
    """Parts of a block: blank lines outside of braces divide them, but not
    a source file."""
    if text.startswith("#include"):
        return [text]
    parts, depth = [[]], 0
    for line in text.split("\n"):
        if line == "" and depth == 0:
            parts.append([])
            continue
        depth += line.count("{") - line.count("}")
        parts[-1].append(line)
    return ["\n".join(part) for part in parts if part]


def kind_of(text):
    if PICTURE.search(text):
        return "picture"
    if NGINX_LINE.match(text):
        return "nginx"
    if text.startswith("{"):
        return "json"
    if text.startswith("#include"):
        return "source"
    if ENVIRONMENT.match(text):
        return "environment"
    return "shell"


def examples():
    """(page:line, kind, text); paragraphs of nginx.conf in a row are one."""
    os.chdir(rig.ROOT)
    found = []
    for page in ["README.md", *sorted(glob.glob("docs/*.md"))]:
        with open(page, encoding="utf-8") as file:
            text = file.read()
        if "```" in text:
            raise AssertionError(f"{page}: examples are indented, not fenced")
        for line, block in blocks(text):
            last = None
            for part in paragraphs(block):
                kind = kind_of(part)
                if last == kind == "nginx":
                    found[-1] = (*found[-1][:2], found[-1][2] + "\n" + part)
                else:
                    found.append((f"{page}:{line}", kind, part))
                last = kind
    return found


def commands(text):
    """Whole commands: lines are joined until bash finds them complete."""
    found, current = [], ""
    for line in text.split("\n"):
        current += line + "\n"
        if line.endswith("\\"):
            continue
        if subprocess.run(["bash", "-n", "-c", current], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0:
            found.append(current.strip())
            current = ""
    if current:
        raise AssertionError(f"bash does not read {current!r}")
    return found


class Scene(rig.Nginx):
    """A folder, and the first nginx.conf of the README in it."""

    def __init__(self, folder):
        super().__init__(folder, "")

    def place(self, text):
        """Names of the manual to names of the test; the rest stays."""
        for old, new in (("/run/axion/", self.dir + "/"),
                         ("/etc/nginx/", self.dir + "/"),
                         ("/tmp/k", self.dir + "/k"),
                         ("/srv/models/", "models/"),
                         ("build/", rig.BUILD + "/"),
                         ("localhost:8080", f"127.0.0.1:{self.port}"),
                         ("modules/ngx_http_axion_module.so", rig.MODULE),
                         ("/usr/local/lib/nginx/" + rig.MODULE, rig.MODULE),
                         ("listen 8080;", f"listen 127.0.0.1:{self.port};")):
            text = text.replace(old, new)
        return text

    def configure(self, text):
        """A whole nginx.conf around what the example shows of one."""
        text = self.place(text)
        if not re.search(r"^http \{", text, re.M):
            text = self.around(text)
        if "load_module" not in text:
            text = f"load_module {rig.MODULE};\n" + text
        if not re.search(r"^events\b", text, re.M):
            text += "\nevents {}\n"
        scratch = "".join(f"    {what}_temp_path {self.dir}/{what};\n"
                          for what in ("client_body", "proxy", "fastcgi",
                                       "uwsgi", "scgi"))
        scratch += f"    access_log {self.dir}/access.log;\n"
        text = text.replace("http {\n", "http {\n" + scratch, 1)
        user = "root" if os.geteuid() == 0 else "nobody"
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(f"daemon off;\nuser {user};\n"
                       f"pid {self.dir}/nginx.pid;\n"
                       f"error_log {self.dir}/error.log info;\n" + text)

    @staticmethod
    def around(text):
        if text.startswith("load_module"):
            return text + "\nhttp {\n}\n"
        http, server = text, ""
        if text.startswith("location"):
            http, server = "", text
        if "axion_upstream" not in http:
            http += "\naxion_upstream llm { engine unix:/run/a.sock; }\n"
        return "http {\n" + http + "\nserver {\nlisten 8080;\n" + server \
            + "\n}\n}\n"

    def check(self):
        return subprocess.run(
            [rig.NGINX, "-t", "-c", self.conf, "-p", self.dir, "-e",
             self.log], check=False, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.examples = examples()

    def setUp(self):
        self.dir = rig.tempfile.mkdtemp(prefix="axion-docs-")
        self.addCleanup(rig.shutil.rmtree, self.dir)
        os.chmod(self.dir, 0o755)
        self.scene = Scene(self.dir)
        with open(os.path.join(self.dir, "jwks.json"), "w",
                  encoding="ascii") as file:
            json.dump({"keys": [{"kty": "oct", "k": "MDEy" * 16}]}, file)
        with open(os.path.join(self.dir, "tenants"), "w",
                  encoding="ascii") as file:
            file.write("axion_tenant first { key sha256:%s; }\n" %
                       hashlib.sha256(b"first").hexdigest())

    def of_kind(self, kind):
        found = [(where, text) for where, k, text in self.examples
                 if k == kind]
        self.assertTrue(found, kind)
        return found

    def shell(self, where, command, **options):
        environment = {**os.environ,
                       "PATH": rig.BUILD + ":" + os.environ["PATH"]}
        done = subprocess.run(["bash", "-eu", "-c",
                               self.scene.place(command)],
                              check=False, cwd=self.dir, env=environment,
                              stdout=subprocess.PIPE, timeout=rig.HANG,
                              stderr=subprocess.STDOUT, text=True,
                              errors="replace", **options)
        self.assertEqual(done.returncode, 0,
                         f"{where}: {command}\n{done.stdout}")
        return done.stdout

    def test_nginx(self):
        for where, text in self.of_kind("nginx"):
            with self.subTest(where):
                self.scene.configure(text)
                done = self.scene.check()
                self.assertEqual(done.returncode, 0,
                                 f"{where}\n{text}\n{done.stdout}")

    def test_every_directive_has_an_example(self):
        shown = "\n".join(text for _, text in self.of_kind("nginx"))
        with open("docs/directives.md", encoding="utf-8") as file:
            heads = re.findall(r"^##+ `(\w+)", file.read(), re.M)
        self.assertGreater(len(heads), 8)
        for name in set(heads) - {"include"}:
            self.assertRegex(shown, rf"\b{name}\b", "no example")

    def test_a_wrong_example_is_found(self):
        self.scene.configure("location /v1/ { axion_pass llm; axion_x; }")
        self.assertIn('unknown directive "axion_x"', self.scene.check().stdout)

    def test_json(self):
        for where, text in self.of_kind("json"):
            with self.subTest(where):
                self.assertEqual(set(json.loads(text)["error"]),
                                 {"message", "type", "param", "code"})

    def test_source(self):
        """A file of ours is one that the compiler takes as ours."""
        for where, text in self.of_kind("source"):
            with self.subTest(where):
                done = subprocess.run(
                    ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Wshadow",
                     "-Werror", "-D_GNU_SOURCE", "-I.", "-fsyntax-only",
                     "-x", "c", "-"], input=text, check=False, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                self.assertEqual(done.returncode, 0, done.stdout)

    def test_environment(self):
        """Variables are those of the unit; axiond takes the options."""
        with open("conf-examples/systemd/axiond@.service",
                  encoding="utf-8") as file:
            unit = file.read()
        for where, text in self.of_kind("environment"):
            values = dict(line.split("=", 1) for line in text.split("\n"))
            for name in values:
                self.assertRegex(unit, rf"\$\{{?{name}\b", where)
            done = subprocess.run(
                [AXIOND, "--model", "/nonexistent", "--listen",
                 f"unix:{self.dir}/a.sock", *values["OPTIONS"].split()],
                check=False, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True)
            self.assertIn("/nonexistent", done.stdout, where)
            self.assertNotEqual(done.returncode, 2, where + done.stdout)

    def start_engine(self, command):
        """axiond as the manual starts it, as whoever runs the test."""
        command = re.sub(r"^runuser -u axion -- ", "", command)
        if os.geteuid() != 0:
            command = command.replace(",group=www-data", "")
        argv = self.scene.place(command).replace("\\\n", "").split()
        argv[0] = AXIOND
        log = os.path.join(self.dir, "axiond.log")
        with open(log, "w", encoding="utf-8") as file:
            engine = subprocess.Popen(argv, cwd=self.dir, stdout=file,
                                      stderr=file,
                                      stdin=subprocess.DEVNULL)
        self.addCleanup(engine.wait)
        self.addCleanup(engine.terminate)

        def ready():
            with open(log, encoding="utf-8") as file:
                text = file.read()
            self.assertIsNone(engine.poll(), text)
            return "ready on" in text
        rig.wait_until(ready, "axiond")
        return engine

    def start_scene(self):
        """The tiny model, the README's engine and its nginx.conf."""
        os.mkdir(os.path.join(self.dir, "models"))
        subprocess.run([TINY, "--variant", "f32", os.path.join(
            self.dir, "models", MODEL)], check=True)
        starts = [command for _, text in self.of_kind("shell")
                  for command in commands(text)
                  if "axiond --model" in command or "axiond \\" in command]
        self.assertEqual(len(starts), 2, starts)
        for command in reversed(starts):     # the README's stays
            engine = self.start_engine(command)
            if command is not starts[0]:
                engine.terminate()
                engine.wait()
        conf = [text for where, text in self.of_kind("nginx")
                if where.startswith("README.md")]
        self.scene.configure(conf[0])
        self.addCleanup(self.scene.stop)
        self.scene.start()
        self.scene.wait("connected to engine")

    def test_shell(self):
        self.start_scene()
        seen, unclaimed = set(), []
        for where, text in self.of_kind("shell"):
            key = None
            for command in commands(text):
                known = [x for x in [*ELSEWHERE, *NOWHERE]
                         if command.startswith(x)]
                if command.startswith("#"):
                    continue
                if known:
                    seen |= set(known)
                    self.check_elsewhere(where, command, known[0])
                elif command.startswith("make "):
                    self.check_make(where, command)
                elif command.startswith("curl "):
                    self.check_curl(where, command)
                elif command.startswith("key="):
                    key = command
                elif command.startswith("printf %s"):
                    self.check_hash(where, key + "\n" + command)
                elif "axion chat" in command:
                    said = self.shell(where, command, input="hello\n")
                    self.assertIn("prompt tokens", said)
                elif command.startswith("axion keygen"):
                    self.shell(where, command)
                elif "tenants.new" in command:
                    self.check_tenants(where, command)
                elif command.startswith("ls build/"):
                    self.shell(where, command)
                elif "axiond" not in command.split(" --model")[0]:
                    unclaimed.append(f"{where}: {command}")
        self.assertEqual(unclaimed, [])
        self.assertEqual({*ELSEWHERE, *NOWHERE} - seen, set(),
                         "no page has it")

    def check_elsewhere(self, where, command, known):
        """The test that is said to run it has it, as a command."""
        if known in NOWHERE:
            return
        path, pattern = ELSEWHERE[known]
        if pattern is None:
            parts = MODEL_NAME.split(command)[::2]
            pattern = r"\w+".join(re.escape(part) for part in parts) \
                + r"(?![\w.@-])"
        with open(path, encoding="utf-8") as file:
            code = re.sub(r"(?m)^\s*#.*", "", file.read())
        self.assertRegex(code, pattern, f"{where}: {path} does not run it")

    def test_a_command_that_no_test_runs_is_found(self):
        self.check_elsewhere("", "systemctl stop axiond@smollm2", "systemctl ")
        with self.assertRaises(AssertionError):
            self.check_elsewhere("", "systemctl isolate axiond@smollm2",
                                 "systemctl ")

    def check_tenants(self, where, command):
        """nginx takes the file that the commands leave."""
        self.shell(where, command)
        self.scene.configure(
            "location /v1/ {\n"
            "axion_pass llm; axion_tenants file=/etc/nginx/tenants;\n}")
        done = self.scene.check()
        self.assertEqual(done.returncode, 0, f"{where}: {done.stdout}")

    def check_make(self, where, command):
        words = command.split("#")[0].split()[1:]
        for target in (word for word in words if "=" not in word):
            with open("tools/targets.mk", encoding="utf-8") as file:
                self.assertRegex(file.read(), rf"(?m)^{target}:.*## ", where)

    def check_curl(self, where, command):
        said = self.shell(where, command)
        if "chat/completions" in command:
            self.assertIn("data: [DONE]", said, where)
            self.assertNotIn('"error"', said, where)
        elif "/v1/" in command:
            self.assertNotIn("error", json.loads(said), where)
        else:
            self.assertIs(json.loads(said)["ready"], True, where)

    def check_hash(self, where, command):
        """A printed hash is taken as a key, and is the key's."""
        key, digest = self.shell(where, command).split()[:2]
        self.assertEqual(digest, hashlib.sha256(key.encode()).hexdigest())
        self.scene.conf += ".key"
        self.scene.configure(f"axion_tenant a {{ key sha256:{digest}; }}")
        done = self.scene.check()
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_demo(self):
        """What make demo does once packages, model and build are there."""
        if not os.environ.get("AXION_MODEL"):
            self.skipTest("AXION_MODEL is not set (make model fetches it)")
        done = subprocess.run(["tools/demo.sh"], check=False,
                              env={**os.environ, "BUILD": rig.BUILD},
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, r"\d+ completion tokens")

    def test_the_key_of_the_readme(self):
        with open("README.md", encoding="utf-8") as file:
            text = file.read()
        hashed = hashlib.sha256(b"test").hexdigest()
        self.assertIn(f"key sha256:{hashed};", text)
        self.assertIn("Bearer test'", text)


def main():
    for file in (AXIOND, TINY, rig.MODULE):
        if not os.path.exists(file):
            sys.exit(f"{file} is not built")
    if not rig.NGINX:
        print("skipped: nginx is not there")
        sys.exit(77)
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
