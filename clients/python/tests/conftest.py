"""A real engine with the small model of the repository. TESSERA_SOURCE and TESSERA_BUILD name the clone and its build."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import tessera


class Daemon:
    """An engine process; `start` returns when it is ready."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "engine.sock"
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> "Daemon":
        source, build = Path(os.environ["TESSERA_SOURCE"]), Path(os.environ["TESSERA_BUILD"])
        self.process = subprocess.Popen(
            [
                build / "engine/serve/tessera-engine",
                *("--model", source / "tests/vectors/shell-5m"),
                *("--socket", self.socket, "--kv-bytes", "64M", "--park-seconds", "3600", *options),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert any(line.startswith("ready") for line in self.process.stdout), "it did not start"
        return self

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout
            self.process.stdout.close()


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("engine"))
    try:
        yield daemon.start()
    finally:
        daemon.kill()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Daemon]:
    """One to be killed."""
    daemon = Daemon(tmp_path)
    try:
        yield daemon.start()
    finally:
        daemon.kill()


@pytest.fixture
def engine(daemon: Daemon) -> Iterator[tessera.Engine]:
    with tessera.connect(daemon.socket, name="pytest") as engine:
        yield engine
