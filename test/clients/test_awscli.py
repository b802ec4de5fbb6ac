"""The AWS CLI as a person uses it, after `eval "$(shale env …)"`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import A, B, SHALE, checksum

AWS = str(Path(sys.executable).with_name("aws"))


@pytest.fixture
def aws(server, tmp_path):
    """Runs aws in a shell that has eval'd `shale env` and whose own variables would lead elsewhere."""

    def run(*args, succeeds=True):
        done = subprocess.run(
            ["bash", "-c", 'eval "$("$0" env --data-dir "$1")"; shift; exec "$@"', SHALE, server.data_dir, AWS, *args],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "a-real-secret-that-must-not-come-here",
                "AWS_SESSION_TOKEN": "a-session",
                "AWS_PROFILE": "work",
                "AWS_DEFAULT_PROFILE": "work",
                "AWS_REGION": "eu-west-7",
                "AWS_DEFAULT_REGION": "eu-west-7",
                "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
                "AWS_ENDPOINT_URL_EBS": "http://127.0.0.1:1",
                "AWS_ENDPOINT_URL_EC2": "http://127.0.0.1:1",
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode == 0) == succeeds, done.stderr
        if not succeeds:
            return done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


def test_a_snapshot_through_the_cli(aws, tmp_path):
    for name, data in [("a", A), ("b", B)]:
        (tmp_path / name).write_bytes(data)

    def put(snapshot, index, name, data):
        return aws(
            "ebs", "put-snapshot-block", "--snapshot-id", snapshot, "--block-index", str(index), "--block-data", name,
            "--data-length", "524288", "--checksum", checksum(data), "--checksum-algorithm", "SHA256",
        )  # fmt: skip

    started = aws("ebs", "start-snapshot", "--volume-size", "1", "--tags", "Key=made-by,Value=aws cli")
    parent = started["SnapshotId"]
    assert started["Status"] == "pending"
    assert put(parent, 0, "a", A)["Checksum"] == checksum(A)
    put(parent, 1, "b", B)
    assert aws("ebs", "complete-snapshot", "--snapshot-id", parent, "--changed-blocks-count", "2") == {"Status": "pending"}
    aws("ec2", "wait", "snapshot-completed", "--snapshot-ids", parent)

    child = aws("ebs", "start-snapshot", "--volume-size", "1", "--parent-snapshot-id", parent)["SnapshotId"]
    put(child, 1, "a", A)
    aws("ebs", "complete-snapshot", "--snapshot-id", child, "--changed-blocks-count", "1")
    aws("ec2", "wait", "snapshot-completed", "--snapshot-ids", child)

    listed = aws("ebs", "list-snapshot-blocks", "--snapshot-id", child)["Blocks"]
    assert [b["BlockIndex"] for b in listed] == [0, 1]
    changed = aws("ebs", "list-changed-blocks", "--first-snapshot-id", parent, "--second-snapshot-id", child)["ChangedBlocks"]
    assert [b["BlockIndex"] for b in changed] == [1]
    answer = aws(
        "ebs", "get-snapshot-block", "--snapshot-id", parent, "--block-index", "1",
        "--block-token", changed[0]["FirstBlockToken"], "got",
    )  # fmt: skip
    assert answer["Checksum"] == checksum(B)
    assert (tmp_path / "got").read_bytes() == B

    described = aws("ec2", "describe-snapshots", "--owner-ids", "self", "--filters", "Name=tag:made-by,Values=aws*")
    assert [s["SnapshotId"] for s in described["Snapshots"]] == [parent]
    assert described["Snapshots"][0]["State"] == "completed"
    aws("ec2", "delete-snapshot", "--snapshot-id", parent)
    refusal = aws("ec2", "describe-snapshots", "--snapshot-ids", parent, succeeds=False)
    assert "InvalidSnapshot.NotFound" in refusal
    refusal = aws("ebs", "list-snapshot-blocks", "--snapshot-id", parent, succeeds=False)
    assert "ResourceNotFoundException" in refusal
