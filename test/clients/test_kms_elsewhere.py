"""Encrypted snapshots under the keys of a KMS elsewhere, one that others wrote.

moto keeps keys and wraps data keys in their encryption context. What it does not
enforce is that a key is enabled when it is used; shale asks for the key's state
itself, and remembers it for five seconds at most. Spec: ebs-direct §6.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

from harness import A, B, Server, aggregate, complete, put, refused

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "elsewhere", "AWS_SECRET_ACCESS_KEY": "elsewhere", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def elsewhere(tmp_path):
    """The URL of moto's KMS."""
    log = tmp_path / "moto.log"
    program = Path(sys.executable).parent / "moto_server"
    with open(log, "ab") as out:
        process = subprocess.Popen([program, "--host", "127.0.0.1", "--port", "0"], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield found.group()
    finally:
        process.terminate()
        process.wait(10)


def test_snapshot_under_a_key_elsewhere(elsewhere, tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        for name, value in CREDENTIALS.items():
            m.setenv(name, value)
        server = Server(tmp_path / "data", "--kms-endpoint", elsewhere)
    kms = boto3.client(
        "kms", endpoint_url=elsewhere, region_name="us-east-1", aws_access_key_id="elsewhere", aws_secret_access_key="elsewhere"
    )
    try:
        key = kms.create_key()["KeyMetadata"]["Arn"]
        ebs, ec2 = server.client("ebs"), server.client("ec2")
        snapshot = ebs.start_snapshot(VolumeSize=1, KmsKeyArn=key)["SnapshotId"]
        put(ebs, snapshot, 0, A)
        put(ebs, snapshot, 9, B)
        trio = dict(Checksum=aggregate([A, B]), ChecksumAlgorithm="SHA256", ChecksumAggregationMethod="LINEAR")
        assert complete(ebs, ec2, snapshot, 2, **trio)["State"] == "completed"
        blocks = ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]

        def read(block):
            return ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=block["BlockIndex"], BlockToken=block["BlockToken"])

        assert [read(b)["BlockData"].read() for b in blocks] == [A, B]

        for path in (tmp_path / "data").rglob("*"):
            assert not path.is_file() or b"A" * 64 not in path.read_bytes(), f"{path} holds the plain bytes"

        key_id = key.rpartition("/")[2]  # moto finds no key by its ARN here
        kms.disable_key(KeyId=key_id)
        time.sleep(5.5)  # what was said of the key is remembered for five seconds
        refusal = refused(read, blocks[0])
        assert (refusal.code, refusal.reason) == ("ValidationException", "INVALID_DEPENDENCY_REQUEST")
        kms.enable_key(KeyId=key_id)
        time.sleep(5.5)
        assert read(blocks[0])["BlockData"].read() == A

        # The data key that the KMS there has wrapped is all that a new start needs.
        assert server.stop() == 0
        with monkeypatch.context() as m:
            for name, value in CREDENTIALS.items():
                m.setenv(name, value)
            server.start()
        ebs = server.client("ebs")
        assert read(blocks[1])["BlockData"].read() == B
    finally:
        server.stop()
