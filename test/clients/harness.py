"""A shale server as a process, and the clients that the tests talk to it with.

The clients are configured by nothing but the environment that `shale env`
prints, as those of a user would be.
"""

import base64
import datetime
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import boto3
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

SHALE = os.environ.get("SHALE_BIN") or str(Path(__file__).parents[2] / "bin" / "shale")

BLOCK_SIZE = 524288
BLOCKS_PER_GIB = 2048

A = b"A" * BLOCK_SIZE
B = b"B" * BLOCK_SIZE
C = b"C" * BLOCK_SIZE
Z = bytes(BLOCK_SIZE)


def checksum(data):
    """The checksum of a block as the wire has it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def aggregate(blocks):
    """The LINEAR checksum of written blocks, given in index order."""
    return checksum(b"".join(hashlib.sha256(b).digest() for b in blocks))


def text_block(line):
    """A block of one repeated line of text."""
    return (line * (BLOCK_SIZE // len(line) + 1))[:BLOCK_SIZE]


class Server:
    """A `shale serve` on a folder and a free port."""

    def __init__(self, data_dir, *flags):
        self.data_dir = str(data_dir)
        self.flags = flags
        self.log = Path(self.data_dir + ".log")
        self.process = None
        self.start()

    def start(self):
        offset = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(
                [SHALE, "serve", "--data-dir", self.data_dir, "--listen", "127.0.0.1:0", *self.flags],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        deadline = time.monotonic() + 60
        while True:
            text = self.log.read_bytes()[offset:].decode()
            if found := re.search(r"\bready\b.*?127\.0\.0\.1:(\d+)", text):
                break
            if self.process.poll() is not None:
                raise RuntimeError(f"shale serve exited {self.process.returncode}:\n{text}")
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"shale serve is not ready:\n{text}")
            time.sleep(0.01)
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self, sig=signal.SIGTERM):
        """Ends the process and returns its exit status."""
        self.process.send_signal(sig)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def restart(self):
        assert self.stop() == 0
        self.start()

    def env(self):
        """The environment of a shell after `eval "$(shale env …)"`."""
        out = subprocess.run(
            ["bash", "-c", 'eval "$("$0" env --data-dir "$1")" && env -0', SHALE, self.data_dir],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        return dict(entry.split("=", 1) for entry in out.decode().rstrip("\0").split("\0"))

    def account(self, name):
        """Adds an account with `shale account create`, while the server runs; returns its number."""
        done = subprocess.run(
            [SHALE, "account", "create", name, "--data-dir", self.data_dir, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        )
        return json.loads(done.stdout)["account_id"]

    def session(self, profile=None):
        """A boto3 session with the variables of `shale env` and no other of AWS's."""
        env = self.env()
        for name in list(os.environ):
            if name.startswith("AWS_"):
                del os.environ[name]
        for name, value in env.items():
            if name.startswith("AWS_"):
                os.environ[name] = value
        return boto3.Session(profile_name=profile)

    def client(self, service, profile=None, **config):
        return self.session(profile).client(service, config=Config(retries={"max_attempts": 0}, **config))

    def aws(self, *args, profile=None):
        """Runs the AWS CLI, which must succeed, and returns what it prints."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name("aws")), *args, *(["--profile", profile] if profile else [])],
            env=self.env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def credentials(self):
        found = self.session().get_credentials().get_frozen_credentials()
        return Credentials(found.access_key, found.secret_key)

    def signed(self, method, target, headers=(), body=b"", *, credentials=None, service="ebs", region="us-east-1", edit=None):
        """Sends a request signed by botocore, without any check on this side.

        edit, if given, may change the signed request before it is sent.
        """
        request = AWSRequest(method, self.url + target, dict(headers), body)
        SigV4Auth(credentials or self.credentials(), service, region).add_auth(request)
        if edit:
            edit(request)
        return self.send(method, target, dict(request.headers.items()), body)

    def presigned(self, target, expires=60):
        """The path and query of a GET that carries its signature in the query."""
        request = AWSRequest("GET", self.url + target)
        SigV4QueryAuth(self.credentials(), "ebs", "us-east-1", expires).add_auth(request)
        return request.prepare().url.removeprefix(self.url)

    def send(self, method, target, headers=None, body=None):
        """Sends a request as it is and returns a Reply."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, target, body, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read())
        finally:
            connection.close()

    def plain(self, method, target, body=None, headers=None):
        """Sends an unsigned request, its body as JSON unless it is bytes."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.send(method, target, headers, body)

    def advance(self, **duration):
        """Moves the server's clock; needs --test-controls."""
        seconds = int(datetime.timedelta(**duration).total_seconds())
        reply = self.plain("POST", "/_test/clock", {"advance_seconds": seconds})
        assert reply.status == 200, reply
        return reply.json["data"]


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The error code, as an SDK reads it from the header."""
        return self.headers.get("x-amzn-errortype", "").split(":")[0]

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:300]!r}"


class Refusal:
    """What a client saw of an error."""

    def __init__(self, error):
        self.code = error.response["Error"]["Code"]
        self.message = error.response["Error"]["Message"]
        self.status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        self.reason = error.response.get("Reason")

    def __repr__(self):
        return f"{self.status} {self.code} {self.reason}: {self.message}"


def refused(call, *args, **kwargs):
    """Calls a client's operation, which has to fail, and returns how it did."""
    try:
        answer = call(*args, **kwargs)
    except ClientError as e:
        return Refusal(e)
    raise AssertionError(f"was not refused: {answer}")


def put(ebs, snapshot, index, data, **more):
    args = dict(
        SnapshotId=snapshot,
        BlockIndex=index,
        BlockData=data,
        DataLength=BLOCK_SIZE,
        Checksum=checksum(data),
        ChecksumAlgorithm="SHA256",
    )
    args.update(more)
    return ebs.put_snapshot_block(**{k: v for k, v in args.items() if v is not None})


def complete(ebs, ec2, snapshot, count, **more):
    """Completes a snapshot and waits until it is completed or failed."""
    answer = ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=count, **more)
    assert answer["Status"] == "pending"
    return settled(ec2, snapshot)


def settled(ec2, snapshot):
    """Waits for a snapshot to be no longer pending and describes it."""
    deadline = time.monotonic() + 30
    while True:
        found = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        if found["State"] != "pending":
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def make(ebs, ec2, blocks, size=1, **start):
    """Makes a completed snapshot of a dict from index to bytes; returns its ID."""
    snapshot = ebs.start_snapshot(VolumeSize=size, **start)["SnapshotId"]
    for index, data in blocks.items():
        put(ebs, snapshot, index, data)
    found = complete(ebs, ec2, snapshot, len(blocks))
    assert found["State"] == "completed", found
    return snapshot


def list_blocks(ebs, snapshot, **more):
    """All entries of a snapshot's listing, page after page."""
    entries, token = [], None
    while True:
        page = ebs.list_snapshot_blocks(SnapshotId=snapshot, **more, **({"NextToken": token} if token else {}))
        entries += page["Blocks"]
        token = page.get("NextToken")
        if token is None:
            return entries


def list_changed(ebs, first, second, **more):
    """All entries of the comparison of two snapshots, page after page."""
    entries, token = [], None
    while True:
        page = ebs.list_changed_blocks(
            FirstSnapshotId=first, SecondSnapshotId=second, **more, **({"NextToken": token} if token else {})
        )
        entries += page["ChangedBlocks"]
        token = page.get("NextToken")
        if token is None:
            return entries


def get(ebs, snapshot, index, token):
    """Reads a block and checks all that the answer says about it."""
    answer = ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockToken=token)
    data = answer["BlockData"].read()
    assert answer["DataLength"] == len(data) == BLOCK_SIZE
    assert answer["ChecksumAlgorithm"] == "SHA256"
    assert answer["Checksum"] == checksum(data)
    return data


def read_all(ebs, snapshot):
    """A completed snapshot as a dict from index to bytes."""
    return {e["BlockIndex"]: get(ebs, snapshot, e["BlockIndex"], e["BlockToken"]) for e in list_blocks(ebs, snapshot)}
