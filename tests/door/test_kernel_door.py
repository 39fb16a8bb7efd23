"""tessera-dataplane as a program: its start and end, its sockets, TLS, limits, and what it refuses to do."""

import http.client
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from box import BUILD, TINY, Box

PROGRAM = os.path.join(BUILD, "dataplane", "uring", "tessera-dataplane")
CHAT = b'{"messages":[{"role":"user","content":"find"}],"max_tokens":%d,"ignore_eos":true,"stream":true}'


def ask(tokens, close=True):
    body = CHAT % tokens
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s" % (
        len(body), b"Connection: close\r\n" if close else b"", body)


def health(more=b""):
    return b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + more + b"\r\n"


def read_all(connection):
    said = b""
    while part := connection.recv(65536):
        said += part
    return said


def read_head(connection):
    said = b""
    while b"\r\n\r\n" not in said:
        part = connection.recv(65536)
        if not part:
            return said
        said += part
    return said


def run(*options, code, says):
    """The program ends at once, with this exit code and sentence."""
    done = subprocess.run([PROGRAM, *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert says in done.stderr + done.stdout, done.stderr
    return done


class Door:
    """A dataplane of its own. Without an engine it still answers /health."""

    def __init__(self, *options, prefix=(), **more):
        self.process = subprocess.Popen([*prefix, PROGRAM, "--config", "/dev/null", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, **more)
        self.urls = []
        for line in self.process.stdout:
            if line == "ready\n":
                break
            self.urls.append(line.strip())
        else:
            raise RuntimeError(self.process.stderr.read())
        self.ports = [int(url.rsplit(":", 1)[1]) for url in self.urls if "unix:" not in url]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def connect(self, which=0):
        return socket.create_connection(("127.0.0.1", self.ports[which]), timeout=20)

    def healthy(self, which=0):
        with self.connect(which) as connection:
            connection.sendall(health(b"Connection: close\r\n"))
            return read_all(connection).startswith(b"HTTP/1.1 200")

    def metric(self, name):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=20)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", text, re.M))

    def end(self, seconds=30):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        assert code == 0, (code, self.process.stderr.read())
        return self.process.stderr.read()


def any_port(*more, **how):
    return Door("--listen", "127.0.0.1:0", "--engine", "/nonexistent/engine.sock", *more, **how)


class StartAndEnd(unittest.TestCase):
    def test_words(self):
        run("--help", code=0, says="--listen-tls")
        run("--version", code=0, says="tessera-dataplane ")
        run("--no-such-option", code=2, says="--no-such-option")
        run("--listen", "localhost:80", code=2, says="127.0.0.1:8000")
        run("--connections", "0", code=2, says="--connections 0")
        run("--listen", "0.0.0.0:0", code=1, says="--keys")
        run("--listen", "127.0.0.1:0", "--tls-key", "/x", code=1, says="--tls-certificate")
        run("--listen-tls", "127.0.0.1:0", code=1, says="--tls-certificate")
        run("--listen-tls", "127.0.0.1:0", "--tls-certificate", "/nonexistent/c", "--tls-key", "/nonexistent/k", code=1, says="/nonexistent/c")
        run("--config", "/nonexistent/conf", code=2, says="/nonexistent/conf")

    def test_check(self):
        done = run("--check", "--config", "/dev/null", code=0, says="memory")
        self.assertNotIn("ready", done.stdout)

    def test_configuration_file(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write("# a comment\nlisten = 127.0.0.1:0\nlisten = [::1]:0\nconnections = many\n")
            file.flush()
            run("--config", file.name, code=2, says=":4")

    def test_a_port_that_is_taken(self):
        with any_port() as door:
            run("--config", "/dev/null", "--listen", f"127.0.0.1:{door.ports[0]}", code=1, says="in use")

    def test_ends_cleanly_with_idle_and_half_asked_connections(self):
        with any_port() as door:
            idle, half = door.connect(), door.connect()
            half.sendall(b"GET /health HT")
            self.assertTrue(door.healthy())
            door.end()
            self.assertEqual(idle.recv(100), b"")

    def test_unix_socket(self):
        folder = tempfile.mkdtemp()
        os.chmod(folder, 0o777)
        path = os.path.join(folder, "http.sock")
        try:
            with Door("--listen", f"unix:{path}") as door:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(path)
                    connection.sendall(health(b"Connection: close\r\n"))
                    self.assertTrue(read_all(connection).startswith(b"HTTP/1.1 200"))
                door.end()
            self.assertFalse(os.path.exists(path))
        finally:
            shutil.rmtree(folder)

    def test_tells_its_manager(self):
        folder = tempfile.mkdtemp()
        os.chmod(folder, 0o777)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(os.path.join(folder, "notify"))
            os.chmod(os.path.join(folder, "notify"), 0o777)
            manager.settimeout(20)
            environment = dict(os.environ, NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="400000")
            try:
                with any_port(env=environment) as door:
                    said = b""
                    while b"READY=1" not in said:
                        said += manager.recv(4096)
                    for _ in range(3):
                        while b"WATCHDOG=1" not in manager.recv(4096):
                            pass
                    door.end()
                    while b"STOPPING=1" not in manager.recv(4096):
                        pass
            finally:
                shutil.rmtree(folder)

    def test_no_rights_are_left(self):
        with any_port() as door:
            with open(f"/proc/{door.process.pid}/status") as file:
                status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
            self.assertNotIn("0", status["Uid"].split())
            self.assertEqual(int(status["CapEff"], 16), 0)
            self.assertEqual(status["NoNewPrivs"], "1")
            if not os.environ.get("TESSERA_SANITIZE"):
                self.assertEqual(status["Seccomp"], "2")

    def test_memory_of_many_connections_is_refused_in_words(self):
        if os.geteuid() == 0:
            self.skipTest("root raises its limits")
        run("--config", "/dev/null", "--connections", "1000000", "--listen", "127.0.0.1:0", code=1, says="LimitNOFILE")

    def test_where_io_uring_is_forbidden(self):
        forbid = os.path.join(BUILD, "tests", "door", "forbid_io_uring")
        for error, word in (("EPERM", "forbidden"), ("ENOSYS", "no io_uring")):
            done = subprocess.run([forbid, error, PROGRAM, "--config", "/dev/null", "--listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=20)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(word, done.stderr)
            self.assertEqual(done.stdout, "")


class Keys(unittest.TestCase):
    def make(self, name):
        done = run("--make-key", name, code=0, says="")
        return done.stdout, re.search(r"tsr-\w+", done.stderr)[0]

    def status(self, door, key=None):
        with door.connect() as connection:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: box.example\r\n" + (f"Authorization: Bearer {key}\r\n" if key else "").encode()
                               + b"Connection: close\r\n\r\n")
            return int(read_all(connection).split(b" ")[1])

    def test_keys_are_made_asked_for_and_read_again(self):
        run("--make-key", "not a name", code=1, says="name of a key")
        run("--keys", "/nonexistent/keys", code=1, says="/nonexistent/keys")
        folder = tempfile.mkdtemp(prefix="tessera-test-")
        self.addCleanup(shutil.rmtree, folder)
        os.chmod(folder, 0o755)
        path = os.path.join(folder, "keys")
        first, key = self.make("first")
        second, other = self.make("second")
        self.assertNotIn(key, first)

        def write(text):  # as its header says: it is never there half written
            with open(path + ".new", "w") as file:
                file.write(text)
            os.rename(path + ".new", path)

        write(first)
        with Door("--listen", "0.0.0.0:0", "--engine", "/nonexistent/engine.sock", "--keys", path) as door:
            self.assertEqual([self.status(door), self.status(door, key), self.status(door, other)], [401, 200, 401])
            write(second)
            door.process.send_signal(signal.SIGHUP)
            Box.wait(lambda: self.status(door, other) == 200, "the new key is not known")
            self.assertEqual(self.status(door, key), 401)
            write("nonsense\n")
            door.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
            self.assertEqual(self.status(door, other), 200)
            self.assertIn(path, door.end())


class Passed(unittest.TestCase):
    """Sockets that a service manager passes."""

    def start(self, listeners, names=None, *options):
        def prepare():
            moved = [os.dup2(listener.fileno(), 100 + i) for i, listener in enumerate(listeners)]
            for i, fd in enumerate(moved):
                os.dup2(fd, 3 + i)
        environment = dict(os.environ, LISTEN_FDS=str(len(listeners)), LISTEN_FDNAMES=names or "")
        prefix = ["sh", "-c", 'LISTEN_PID=$$; export LISTEN_PID; exec "$0" "$@"']
        return Door(*options, prefix=prefix, env=environment, preexec_fn=prepare, close_fds=False)

    def listener(self, address="127.0.0.1"):
        listener = socket.create_server((address, 0))
        self.addCleanup(listener.close)
        return listener

    def test_serves_them(self):
        listeners = [self.listener(), self.listener()]
        with self.start(listeners, None, "--listen", "127.0.0.1:1") as door:
            self.assertEqual(door.ports, [listener.getsockname()[1] for listener in listeners])
            self.assertTrue(door.healthy(0) and door.healthy(1))
            door.end()
        connection = socket.create_connection(listeners[0].getsockname(), timeout=5)  # the manager still listens
        connection.close()

    def test_an_open_one_wants_keys(self):
        with self.assertRaisesRegex(RuntimeError, "--keys"):
            self.start([self.listener("0.0.0.0")])

    def test_one_named_tls_wants_a_certificate(self):
        with self.assertRaisesRegex(RuntimeError, "--tls-certificate"):
            self.start([self.listener()], "tls")


class Connections(unittest.TestCase):
    def test_keep_alive_and_pipelining(self):
        with any_port() as door, door.connect() as connection:
            for _ in range(3):
                connection.sendall(health())
                self.assertTrue(read_head(connection).startswith(b"HTTP/1.1 200"))
            connection.sendall(health() * 500 + health(b"Connection: close\r\n"))
            self.assertEqual(read_all(connection).count(b"HTTP/1.1 200"), 501)

    def test_pieces_of_one_byte(self):
        with any_port() as door, door.connect() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in health(b"Connection: close\r\n"):
                connection.sendall(bytes([byte]))
            self.assertTrue(read_all(connection).startswith(b"HTTP/1.1 200"))

    def test_a_request_and_the_end(self):
        with any_port() as door, door.connect() as connection:
            connection.sendall(health())
            connection.shutdown(socket.SHUT_WR)
            self.assertTrue(read_all(connection).startswith(b"HTTP/1.1 200"))

    def test_connections_of_one_address(self):
        with any_port("--connections-per-address", "3") as door:
            kept = [door.connect() for _ in range(3)]
            for connection in kept:
                connection.sendall(health())
                self.assertTrue(read_head(connection).startswith(b"HTTP/1.1 200"))
            with door.connect() as fourth, self.assertRaises((ConnectionError, AssertionError)):
                fourth.sendall(health())
                self.assertTrue(read_head(fourth).startswith(b"HTTP/1.1 200"))
            kept.pop().close()
            Box.wait(lambda: self.works(door), "no room after one has closed")
            for connection in kept:
                connection.close()

    @staticmethod
    def works(door):
        try:
            return door.healthy()
        except OSError:
            return False

    def test_idle_connections_make_room(self):
        with any_port("--connections", "8", "--connections-per-address", "0") as door:
            idle = [door.connect() for _ in range(8)]
            for connection in idle:
                connection.sendall(health())
                read_head(connection)
            for _ in range(20):
                self.assertTrue(door.healthy())
            self.assertEqual(idle[0].recv(10), b"")
            for connection in idle:
                connection.close()

    def test_busy_connections_let_others_wait(self):
        with any_port("--connections", "4", "--connections-per-address", "0", "--head-seconds", "1") as door:
            busy = [door.connect() for _ in range(4)]
            for connection in busy:
                connection.sendall(b"GET /health HTTP/1.1\r\n")
            time.sleep(0.5)  # they have begun
            with door.connect() as late:
                late.sendall(health())
                self.assertTrue(read_all(busy[0]).startswith(b"HTTP/1.1 408"))  # its time is up
                busy[0].close()
                self.assertTrue(read_head(late).startswith(b"HTTP/1.1 200"))
            for connection in busy:
                connection.close()

    def test_out_of_descriptors(self):
        limit, given = 400, 375  # so few are left that there are slots for more connections
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(given)]
        try:
            door = any_port("--connections", "64", pass_fds=fds, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        finally:
            for fd in fds:
                os.close(fd)
        with door:
            many = [door.connect() for _ in range(40)]
            for connection in many[:3]:
                connection.sendall(health())
                self.assertTrue(read_head(connection).startswith(b"HTTP/1.1 200"))
            Box.wait(lambda: self.metric_on(many[0], "tessera:door_accept_pauses_total") > 0, "it did not pause")
            for connection in many[1:30]:  # those who wait come in as others go
                connection.close()
            many[39].sendall(health())
            self.assertTrue(read_head(many[39]).startswith(b"HTTP/1.1 200"))
            for connection in many:
                connection.close()
            self.assertIn("Too many open files", door.end())

    @staticmethod
    def metric_on(connection, name):
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = read_head(connection)
        head, text = said.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        while len(text) < length:
            text += connection.recv(65536)
        return float(re.search(rf"^{name} (\S+)".encode(), text, re.M)[1])

    def test_two_thousand_idle_connections(self):
        with any_port() as door:
            before = self.rss(door)
            many = [door.connect() for _ in range(2000)]
            for connection in many:
                connection.sendall(health())
            for connection in many:
                self.assertTrue(read_head(connection).startswith(b"HTTP/1.1 200"))
            self.assertEqual(door.metric("tessera:door_connections"), 2001)
            grown = self.rss(door) - before
            self.assertLess(grown / 2000, 8.0, "KiB a connection")
            for connection in many:
                connection.close()
            Box.wait(lambda: door.metric("tessera:door_connections") == 1, "connections are left")

    @staticmethod
    def rss(door):
        with open(f"/proc/{door.process.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@unittest.skipUnless(shutil.which("openssl"), "there is no openssl")
class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tessera-test-")
        os.chmod(cls.folder, 0o755)
        for name in ("first", "second", "client"):
            openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", cls.file(name + ".key"), "-out", cls.file(name + ".pem"))
            os.chmod(cls.file(name + ".key"), 0o644)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def file(cls, name):
        return os.path.join(cls.folder, name)

    def install(self, name):
        for kind in ("key", "pem"):  # as a renewal does: a new file takes the old one's place
            shutil.copy(self.file(f"{name}.{kind}"), self.file("new"))
            os.rename(self.file("new"), self.file(f"used.{kind}"))

    def door(self, *more):
        self.install("first")
        return any_port("--listen-tls", "127.0.0.1:0", "--tls-certificate", self.file("used.pem"), "--tls-key", self.file("used.key"), *more)

    def context(self, trusts="first"):
        context = ssl.create_default_context(cafile=self.file(trusts + ".pem"))
        return context

    def over_tls(self, door, context):
        with context.wrap_socket(door.connect(1), server_hostname="localhost") as connection:
            connection.sendall(health(b"Connection: close\r\n"))
            return read_all(connection)

    def name(self, door):
        context = self.context()
        context.load_verify_locations(self.file("second.pem"))
        with context.wrap_socket(door.connect(1), server_hostname="localhost") as connection:
            return dict(part[0] for part in connection.getpeercert()["subject"])["commonName"]

    def test_curl(self):
        with self.door() as door:
            done = subprocess.run(["curl", "-sS", "--tlsv1.3", "--http1.1", "--cacert", self.file("first.pem"), "-w", "%{http_code} %{ssl_verify_result}",
                                   "-o", "/dev/null", f"https://localhost:{door.ports[1]}/health"], capture_output=True, text=True)
            self.assertEqual(done.stdout, "200 0", done.stderr)
            done = subprocess.run(["curl", "-sS", "--tls-max", "1.2", "--cacert", self.file("first.pem"), f"https://localhost:{door.ports[1]}/health"],
                                  capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(door.metric("tessera:door_handshakes_total"), 2)
            door.end()

    def test_garbage_and_stalls_in_the_handshake(self):
        with self.door("--handshake-seconds", "1") as door:
            with door.connect(1) as connection:
                connection.sendall(health())
                self.assertNotIn(b"HTTP", read_all(connection))
            with door.connect(1) as connection:
                connection.sendall(bytes.fromhex("16030100c8"))
                self.assertEqual(read_all(connection), b"")  # the time is up
            with door.connect(1) as connection:
                self.assertEqual(read_all(connection), b"")
            self.assertIn(b"200", self.over_tls(door, self.context()))

    def test_closes_with_a_word(self):
        with self.door() as door:
            self.assertIn(b"200", self.over_tls(door, self.context()))  # Python raises where close_notify is missing

    def test_client_certificates(self):
        with self.door("--tls-client-ca", self.file("client.pem")) as door:
            with self.assertRaises(OSError):
                self.over_tls(door, self.context())
            context = self.context()
            context.load_cert_chain(self.file("client.pem"), self.file("client.key"))
            self.assertIn(b"200", self.over_tls(door, context))
            stranger = self.context()
            stranger.load_cert_chain(self.file("second.pem"), self.file("second.key"))
            with self.assertRaises(OSError):
                self.over_tls(door, stranger)

    def test_new_certificates_under_load(self):
        """By signal, and by itself; connections of before go on, and nobody is refused."""
        with self.door() as door:
            problems, until = [], [True]
            trusting = self.context()
            trusting.load_verify_locations(self.file("second.pem"))

            def load():
                try:
                    with trusting.wrap_socket(door.connect(1), server_hostname="localhost") as kept:
                        while until[0]:
                            self.assertIn(b"200", self.over_tls(door, trusting))
                            kept.sendall(health())
                            self.assertIn(b"200", read_head(kept))
                except Exception as problem:
                    problems.append(problem)

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            self.assertEqual(self.name(door), "first")
            self.install("second")
            door.process.send_signal(signal.SIGHUP)
            Box.wait(lambda: self.name(door) == "second", "SIGHUP read no certificate")
            shutil.copy(self.file("first.key"), self.file("used.key"))  # half a renewal changes nothing
            door.process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            self.assertEqual(self.name(door), "second")
            self.install("first")
            Box.wait(lambda: self.name(door) == "first", "the new certificate was not seen")
            until[0] = False
            for thread in threads:
                thread.join()
            self.assertEqual(problems, [])
            self.assertIn("--tls-key", door.end())


class Streams(unittest.TestCase):
    """With an engine behind it."""

    @classmethod
    def setUpClass(cls):
        cls.box = Box(models=(TINY,), engine=["--threads", "1"]).__enter__()
        cls.port = int(cls.box.url.rsplit(":", 1)[1])

    @classmethod
    def tearDownClass(cls):
        cls.box.__exit__()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def tokens(self, said):
        self.assertIn(b"data: [DONE]", said)
        return said.count(b'"content":"') - 1  # the first chunk names the role

    def test_a_slow_reader_holds_only_itself(self):
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", self.port))
            slow.settimeout(120)
            slow.sendall(ask(1500))
            self.box.wait(lambda: self.box.metric("tessera:num_requests_running") + self.box.metric("tessera:num_requests_parked") > 0, "it did not begin")
            for _ in range(5):
                with self.connect() as quick:
                    quick.sendall(ask(50))
                    self.assertEqual(read_all(quick).count(b"data: [DONE]"), 1)
            self.assertEqual(read_all(slow).count(b"data: [DONE]"), 1)
        self.box.idle()

    def test_who_leaves_is_cancelled(self):
        for how in ("close", "end", "reset"):
            with self.connect() as connection:
                connection.sendall(ask(2000))
                connection.recv(300)
                if how == "end":
                    connection.shutdown(socket.SHUT_WR)
                elif how == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.box.idle()

    def test_requests_behind_a_stream(self):
        """They wait for it, however many they are, and all are answered in order."""
        with self.connect() as connection:
            sender = threading.Thread(target=connection.sendall, args=(ask(30, close=False) + health() * 3000 + health(b"Connection: close\r\n"),))
            sender.start()
            said = read_all(connection)
            sender.join()
            self.assertEqual(said.count(b"HTTP/1.1 200"), 3002)
            self.assertLess(said.index(b"data: [DONE]"), said.index(b"HTTP/1.1", 20))

    def test_few_system_calls_a_token(self):
        """A wake-up: enter, the bell, a look for more, enter to send; whatever happens beside is not a token's."""
        if os.environ.get("TESSERA_SANITIZE"):
            self.skipTest("sanitizers make system calls of their own")
        if not shutil.which("strace"):
            self.skipTest("there is no strace")
        tokens = 300
        with tempfile.NamedTemporaryFile("r") as calls:
            trace = subprocess.Popen(["strace", "-f", "-c", "-o", calls.name, "-p", str(self.box.door.pid)], stderr=subprocess.PIPE, text=True)
            first = trace.stderr.readline()
            if "attached" not in first:
                trace.kill()
                trace.wait()
                trace.stderr.close()
                self.skipTest(f"strace may not look: {first.strip()}")
            try:
                with self.connect() as connection:
                    connection.sendall(ask(tokens))
                    said = read_all(connection)
            finally:
                trace.send_signal(signal.SIGINT)
                trace.wait()
                trace.stderr.close()
            self.assertIn(b"data: [DONE]", said)
            table = {line.split()[-1]: int(line.split()[3]) for line in calls.read().splitlines() if re.match(r" *\d+\.\d", line)}
        total = table.pop("total")
        print(f"{total / tokens:.1f} calls a token: {table}")
        self.assertLess(total, 8 * tokens + 100)
        self.assertLessEqual({"mmap", "munmap", "brk"} & table.keys(), {"mmap", "munmap"} if tokens > 1000 else set())


class Polling(unittest.TestCase):
    def test_serves_and_sees_an_engine_go_and_come(self):
        cpus = os.sched_getaffinity(0)
        if len(cpus) < 2:
            self.skipTest("two CPUs are wanted")
        first, second, *_ = sorted(cpus)
        box = Box(models=(TINY,), engine=["--threads", "1", "--cpus", str(first)], dataplane=["--spin"])
        try:
            box.start_engine()
            os.sched_setaffinity(0, {second})
            box.start_door()
            os.sched_setaffinity(0, cpus)
            for _ in range(2):
                with socket.create_connection(("127.0.0.1", int(box.url.rsplit(":", 1)[1])), timeout=60) as connection:
                    connection.sendall(ask(30))
                    self.assertIn(b"data: [DONE]", read_all(connection))
                box.kill_engine()
                box.wait(lambda: box.get("/ready")[0] == 503, "the engine's end is not seen")
                box.start_engine()
                box.wait(lambda: box.get("/ready")[0] == 200, "the engine is not back")
            box.stop()
        finally:
            os.sched_setaffinity(0, cpus)
            box.__exit__()

    def test_sleeps_on_an_engines_cpu(self):
        with Box(models=(TINY,), engine=["--threads", "1"], dataplane=["--spin"]) as box:
            with open(os.path.join(box.work, "tessera-dataplane.err")) as file:
                self.assertIn("--spin", file.read())


def refused(address):
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


class Drain(unittest.TestCase):
    def test_answers_under_way_are_finished(self):
        with Box(models=(TINY,), engine=["--threads", "1"], dataplane=["--drain-seconds", "60"]) as box:
            address = ("127.0.0.1", int(box.url.rsplit(":", 1)[1]))
            with socket.create_connection(address, timeout=60) as stream, socket.create_connection(address, timeout=60) as idle:
                stream.sendall(ask(600, close=False))
                stream.recv(100)
                box.door.send_signal(signal.SIGTERM)
                self.assertEqual(idle.recv(10), b"")  # nothing to wait for
                box.wait(lambda: refused(address), "somebody new is still taken")
                said = read_all(stream)
                self.assertIn(b"data: [DONE]", said)
            self.assertEqual(box.door.wait(30), 0)

    def test_but_only_so_long(self):
        with Box(models=(TINY,), engine=["--threads", "1"], dataplane=["--drain-seconds", "1"]) as box:
            with socket.create_connection(("127.0.0.1", int(box.url.rsplit(":", 1)[1])), timeout=60) as stream:
                stream.sendall(ask(2000))
                stream.recv(100)
                box.door.send_signal(signal.SIGTERM)
                self.assertEqual(box.door.wait(30), 0)
                self.assertNotIn(b"data: [DONE]", read_all(stream))
            self.assertIsNone(box.engines[0].poll())


if __name__ == "__main__":
    unittest.main(argv=sys.argv, warnings="ignore", verbosity=1)
