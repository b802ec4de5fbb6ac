"""A pytest fixture that starts a shale server for a test; copy it.

    from shale_fixture import shale  # in conftest.py

    def test_upload(shale):
        shale.behave([{"operation": "PutSnapshotBlock", "when": {"first": 3},
                       "effect": {"error": "RequestThrottledException"}}])
        my_tool.upload(endpoint_url=shale.endpoint)
        assert shale.struck() == [3]

The server is a fresh one on a folder and a port of its own, with test controls,
and ends with the test. The program is the one that SHALE_BIN names, or the shale
of PATH. Nothing but the standard library is needed, and boto3 for client().
"""

import configparser
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

START_SECONDS = 60


class Shale:
    """A `shale serve` that a test may do anything with."""

    def __init__(self, folder, *flags):
        program = os.environ.get("SHALE_BIN") or shutil.which("shale")
        if program is None:
            raise RuntimeError("no program shale in PATH, and SHALE_BIN names none")
        self.dir = Path(folder) / "data"
        self.log = Path(folder) / "log"
        with open(self.log, "wb") as out:
            self._process = subprocess.Popen(
                [program, "serve", "--data-dir", self.dir, "--listen", "127.0.0.1:0", "--test-controls", *flags],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            self.endpoint = self._await()
        except BaseException:
            self.stop()
            raise
        profiles = configparser.ConfigParser(interpolation=None)
        profiles.read([self.dir / "credentials", self.dir / "config"])
        self.access_key = profiles["default"]["aws_access_key_id"]
        self.secret = profiles["default"]["aws_secret_access_key"]
        self.region = profiles["default"]["region"]

    def _await(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            text = self.log.read_text()
            if found := re.search(r"\bready\b.*?(http://\S+)", text):
                return found[1]
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"shale is not ready:\n{text}")
            time.sleep(0.002)

    def stop(self):
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def client(self, service, **options):
        """A boto3 client for the server, with the retries that boto3 has."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret,
            **options,
        )

    def behave(self, rules=None, preset=None):
        """Replaces the rules by which the server misbehaves."""
        return self._control("PUT", "/_test/behaviour", {"rules": rules} if preset is None else {"preset": preset})

    def calm(self):
        """Lets the server behave again, at once."""
        self._control("DELETE", "/_test/behaviour")

    def struck(self):
        """How often each rule has struck."""
        return [rule["struck"] for rule in self._control("GET", "/_test/behaviour")["rules"]]

    def advance(self, seconds):
        """Moves the server's clock forward; what became due has been done then."""
        self._control("POST", "/_test/clock", {"advance_seconds": seconds})

    def _control(self, method, path, body=None):
        request = urllib.request.Request(
            self.endpoint + path, None if body is None else json.dumps(body).encode(), method=method
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as e:
            raise ValueError(e.read().decode()) from e


@pytest.fixture
def shale(tmp_path):
    server = Shale(tmp_path)
    yield server
    server.stop()
