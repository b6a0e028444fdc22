"""Each file of conf-examples runs: paths and ports are put into a folder of
the test's own, nothing else is changed, and what its comments promise holds.
"""

import hashlib
import re
import shutil
import ssl

import fake_remote
import rig
import test_jwt
import test_quota_redis

EXAMPLES = rig.os.path.join(rig.ROOT, "conf-examples")


class Example(rig.Nginx):
    """nginx with a configuration of its own making."""

    def __init__(self, folder, name, replace):
        super().__init__(folder, "")
        with open(rig.os.path.join(EXAMPLES, name), encoding="utf-8") as f:
            text = f.read()
        user = "root" if rig.os.geteuid() == 0 else "nobody"
        text = text.replace("modules/ngx_http_axion_module.so", rig.MODULE)
        text = text.replace("/run/axion/", folder + "/")
        text = text.replace("/etc/nginx/axion/", folder + "/")
        text = text.replace("/var/www/html", folder + "/html")
        text = text.replace("/var/log/nginx/", folder + "/")
        text = text.replace("/var/lib/nginx/", folder + "/")
        for old, new in replace.items():
            text = text.replace(old, new)
        text = re.sub(r"worker_processes \w+;", "worker_processes 1;", text)
        text = re.sub(r"listen (?:127\.0\.0\.1:)?8080( ssl)?;",
                      rf"listen 127.0.0.1:{self.port}\1;", text)
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
        self.replace = {}
        with open(rig.os.path.join(self.dir, "mime.types"), "w",
                  encoding="ascii") as f:
            f.write("types { text/html html; }\n")

    def run_example(self, name, *engines, large=()):
        """`engines` serve smollm2, those of `large` a model of that name."""
        for engine in engines:
            self.run_engine(engine, "smollm2")
        self.large = [self.run_engine(engine, "large") for engine in large]
        self.nginx = Example(self.dir, name, self.replace)
        self.nginx.start()
        self.nginx.wait("connected to engine", len(engines) + len(large))

    def run_engine(self, name, model):
        echo = rig.Echo(self.dir, name, ["--model", model])
        self.addCleanup(echo.stop)
        echo.start()
        return echo

    def ask(self, prefix="", *headers, model="smollm2"):
        client = self.client()
        client.send("POST", prefix + "/v1/completions", rig.json.dumps(
            {"model": model, "prompt": "hello"}).encode(), headers)
        status, _, body = client.whole()
        return status, rig.json.loads(body)

    def test_every_file_is_listed_here(self):
        files = {f for f in rig.os.listdir(EXAMPLES) if f.endswith(".conf")}
        with open(__file__, encoding="utf-8") as f:
            tested = set(re.findall(
                r'(?:run_example\(|Example\(folder,)\s*"([\w.-]+)"',
                f.read()))
        self.assertEqual(files, tested)

    def test_minimal(self):
        self.run_example("minimal.conf", "smollm2")
        status, answer = self.ask()
        self.assertEqual((status, answer["choices"][0]["text"]),
                         (200, "hello"))

    def test_remote_overflow(self):
        remote = fake_remote.Remote()
        self.addCleanup(remote.close)
        self.put("cluster.key", "sk-cluster\n")
        self.replace = {"127.0.0.1:8000": f"127.0.0.1:{remote.port}"}
        self.run_example("remote-overflow.conf", "smollm2")
        self.assertEqual(self.ask()[0], 200)
        self.assertEqual(remote.requests, [])
        status, answer = self.ask(model="large")
        self.assertEqual((status, answer["model"]), (200, "large"))
        head, body = remote.requests[0]
        self.assertEqual(body["model"], "meta-llama/Llama-3.3-70B-Instruct")
        self.assertIn("Authorization: Bearer sk-cluster", head)
        self.assertEqual(self.nginx.get("/status?ready")[0], 200)

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

    def test_two_nodes_redis(self):
        if shutil.which("redis-server") is None:
            self.skipTest("redis-server is not there")
        with open(rig.os.path.join(self.dir, "redis.password"), "w",
                  encoding="ascii") as f:
            f.write("secret\n")
        redis = test_quota_redis.Redis(self.dir, "--requirepass", "secret")
        self.addCleanup(redis.kill)
        redis.start()
        for name in ("first", "second"):
            folder = rig.os.path.join(self.dir, name)
            rig.os.mkdir(folder)
            rig.os.chmod(folder, 0o755)
            echo = rig.Echo(folder, "smollm2", ["--model", "smollm2"])
            self.addCleanup(echo.stop)
            echo.start()
            shutil.copy(rig.os.path.join(self.dir, "redis.password"), folder)
            self.nginx = Example(folder, "two-nodes-redis.conf", {
                "127.0.0.1:6379": f"127.0.0.1:{redis.port}"})
            self.addCleanup(self.nginx.stop)
            self.nginx.start()
            self.nginx.wait("quota store .* is connected")
            status, answer = self.ask("", "Authorization: Bearer acme-key")
            self.assertEqual((status, answer["choices"][0]["text"]),
                             (200, "hello"))
            self.assertEqual(self.nginx.metrics()["axion_quota_up"], 1)
        self.assertEqual(self.two_nodes(redis), "2")

    def two_nodes(self, redis):
        with rig.socket.create_connection(("127.0.0.1", redis.port)) as s:
            s.sendall(b"AUTH secret\r\nZCARD axion:{acme}:nodes\r\n")
            f = s.makefile("rb")
            f.readline()
            return f.readline().decode().strip()[1:]

    def certificate(self, name, subject):
        files = [rig.os.path.join(self.dir, name + end)
                 for end in (".key", ".pem")]
        rig.subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
             subject, "-keyout", files[0], "-out", files[1]],
            check=True, capture_output=True)
        return files

    def ask_tls(self, model, *headers, certificate=None):
        context = ssl.create_default_context(
            cafile=rig.os.path.join(self.dir, "server.pem"))
        context.check_hostname = False
        if certificate:
            context.load_cert_chain(certificate[1], certificate[0])
        client = self.client()
        client.sock = context.wrap_socket(client.sock)
        client.send("POST", "/v1/completions", rig.json.dumps(
            {"model": model, "prompt": "hello"}).encode(), headers)
        status, _, body = client.whole()
        return status, rig.json.loads(body)

    def put(self, name, text):
        with open(rig.os.path.join(self.dir, name), "w",
                  encoding="ascii") as f:
            f.write(text)

    def test_tls_jwt(self):
        if not rig.shutil.which("openssl"):
            self.skipTest("openssl is not there")
        issuer = test_jwt.Issuer("one")
        issuer.secret = b"0123456789abcdef0123456789abcdef"
        self.put("jwks.json", rig.json.dumps({"keys": [issuer.jwk()]}))
        self.put("tenants", "axion_tenant acme { key sha256:%s name=ci; }" %
                 hashlib.sha256(b"acme-key").hexdigest())
        self.certificate("server", "/CN=server")
        batch = self.certificate("batch", "/O=Example/CN=batch")
        rig.shutil.copy(batch[1], rig.os.path.join(self.dir, "clients.pem"))
        self.run_example("tls-jwt.conf", "smollm2")

        def token(**claims):
            return "Authorization: Bearer " + issuer.token(
                iss="https://id.example", aud="llm", **claims)
        status, answer = self.ask_tls("gpt-4o", token(org="research"))
        self.assertEqual((status, answer["choices"][0]["text"]),
                         (200, "hello"))
        for status, headers, certificate in (
                (200, ["x-api-key: acme-key"], None), (200, [], batch),
                (401, [], None), (401, ["x-api-key: other"], None),
                (401, [token(org="other")], None),
                (403, [token(org="research", llm={"models": ["gemma*"]})],
                 None)):
            self.assertEqual(self.ask_tls("smollm2", *headers,
                                          certificate=certificate)[0], status)

        def logged():
            with open(rig.os.path.join(self.dir, "llm.log"),
                      encoding="utf-8") as f:
                text = f.read()
            return all(line in text for line in (
                "tenant=research by=jwt key=- model=gpt-4o served=smollm2",
                "tenant=acme by=key key=ci", "tenant=research by=variable"))
        rig.wait_until(logged, "the log lines")

    def test_several_engines(self):
        self.run_example("several-engines.conf", "small", large=("a", "b"))
        self.assertEqual(self.ask(model="large")[0], 200)
        for engine in self.large:
            engine.stop()
        self.nginx.wait("lost engine", 2)
        status, answer = self.ask(model="large")
        self.assertEqual((status, answer["model"]), (200, "large"))

        def logged():
            with open(rig.os.path.join(self.dir, "llm.log"),
                      encoding="utf-8") as f:
                return re.search("large served=smollm2 .*small.sock",
                                 f.read())
        rig.wait_until(logged, "the log line")
        rig.os.mkdir(rig.os.path.join(self.dir, "more"))
        self.run_engine("more/c", "large")
        self.nginx.wait("connected to engine.*more/c", 1)
        self.assertEqual(self.ask(model="large")[0], 200)

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
