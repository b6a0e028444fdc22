"""Each file of conf-examples runs: paths and ports are put into a folder of
the test's own, nothing else is changed, and what its comments promise holds.
"""

import re

import rig

EXAMPLES = rig.os.path.join(rig.ROOT, "conf-examples")


class Example(rig.Nginx):
    """nginx with a configuration of its own making."""

    def __init__(self, folder, name):
        super().__init__(folder, "")
        with open(rig.os.path.join(EXAMPLES, name), encoding="utf-8") as f:
            text = f.read()
        user = "root" if rig.os.geteuid() == 0 else "nobody"
        text = text.replace("modules/ngx_http_axion_module.so", rig.MODULE)
        text = text.replace("/run/axion/", folder + "/")
        text = text.replace("/var/www/html", folder + "/html")
        text = text.replace("/var/log/nginx/", folder + "/")
        text = text.replace("/var/lib/nginx/", folder + "/")
        text = re.sub(r"worker_processes \w+;", "worker_processes 1;", text)
        text = re.sub(r"listen (?:127\.0\.0\.1:)?8080;",
                      f"listen 127.0.0.1:{self.port};", text)
        temporary = "".join(
            f"    {what}_temp_path {folder}/{what};\n" for what in
            ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        if "access_log" not in text:
            temporary += f"    access_log {folder}/access.log;\n"
        text = text.replace("http {\n", "http {\n" + temporary, 1)
        head = (f"daemon off;\nuser {user};\npid {folder}/nginx.pid;\n"
                f"error_log {folder}/error.log info;\n")
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(head + text)


class Examples(rig.Test):
    def setUp(self):
        super().setUp()
        with open(rig.os.path.join(self.dir, "mime.types"), "w",
                  encoding="ascii") as f:
            f.write("types { text/html html; }\n")

    def run_example(self, name, *engines):
        for engine in engines:
            echo = rig.Echo(self.dir, engine, ["--model", "smollm2"])
            self.addCleanup(echo.stop)
            echo.start()
        self.nginx = Example(self.dir, name)
        self.nginx.start()
        self.nginx.wait("connected to engine", len(engines))

    def ask(self, prefix="", *headers, model="smollm2"):
        client = self.client()
        client.send("POST", prefix + "/v1/completions", rig.json.dumps(
            {"model": model, "prompt": "hello"}).encode(), headers)
        status, _, body = client.whole()
        return status, rig.json.loads(body)

    def test_every_file_is_listed_here(self):
        files = {f for f in rig.os.listdir(EXAMPLES) if f.endswith(".conf")}
        with open(__file__, encoding="utf-8") as f:
            tested = set(re.findall(r'run_example\(\s*"([\w.-]+)"', f.read()))
        self.assertEqual(files, tested)

    def test_minimal(self):
        self.run_example("minimal.conf", "smollm2")
        status, answer = self.ask()
        self.assertEqual((status, answer["choices"][0]["text"]),
                         (200, "hello"))

    def test_multi_tenant(self):
        self.run_example("multi-tenant.conf", "a", "b")
        self.assertEqual(self.ask()[0], 401)
        for key in ("acme-key", "globex-key", "globex-next-key"):
            status, _ = self.ask("", f"Authorization: Bearer {key}")
            self.assertEqual(status, 200)
        status, answer = self.ask("", "x-api-key: globex-key", model="llama")
        self.assertEqual((status, answer["error"]["code"]),
                         (403, "model_not_allowed"))
        self.assertEqual(self.nginx.get("/status?ready")[0], 200)
        self.assertIn("axion_requests_total", str(self.nginx.get("/metrics")))
        client = self.client()
        client.send("GET", "/v1/models", headers=["x-api-key: globex-key"])
        _, headers, _ = client.whole()
        self.assertEqual(headers["x-ratelimit-limit-tokens"], "100000")

        def logged():
            with open(rig.os.path.join(self.dir, "llm.log"),
                      encoding="utf-8") as f:
                return "tenant=acme model=smollm2 prompt=2" in f.read()
        rig.wait_until(logged, "the log line")

    def test_static_site_plus_api(self):
        rig.os.mkdir(rig.os.path.join(self.dir, "html"))
        with open(rig.os.path.join(self.dir, "html", "index.html"), "w",
                  encoding="ascii") as f:
            f.write("the site\n")
        self.run_example("static-site-plus-api.conf", "smollm2")
        self.assertEqual(self.nginx.get("/"), (200, b"the site\n"))
        self.assertEqual(self.nginx.get("/nothing")[0], 404)
        self.assertEqual(self.ask("/llm")[0], 200)
        self.assertEqual(self.ask("/llm", "x-api-key: test")[0], 200)
        self.assertEqual(self.nginx.get("/health")[0], 200)
        self.assertEqual(self.nginx.get("/health?ready")[0], 200)


if __name__ == "__main__":
    rig.main()
