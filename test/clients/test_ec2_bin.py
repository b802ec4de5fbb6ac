"""The recycle bin, with boto3 and the AWS CLI. Spec: ec2-snapshots §9."""

import datetime
import signal

import pytest

from harness import A, B, Server, get, list_blocks, make, read_all, refused
from test_awscli import aws  # noqa: F401, a fixture


@pytest.fixture
def server(tmp_path):
    """A server of the test's own, with a bin."""
    server = Server(tmp_path / "data", "--anonymous", "--test-controls", "--recycle-bin-days", "3")
    yield server
    assert server.stop() == 0


def binned(ec2):
    pages = ec2.get_paginator("list_snapshots_in_recycle_bin").paginate(PaginationConfig={"PageSize": 5})
    return [s["SnapshotId"] for p in pages for s in p["Snapshots"]]


def missing(call, *args, **kwargs):
    e = refused(call, *args, **kwargs)
    assert (e.status, e.code) == (400, "InvalidSnapshot.NotFound"), e


def test_there_and_back(server):
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    tags = [{"Key": "k", "Value": "v"}]
    snapshot = make(ebs, ec2, {0: A, 9: B}, Description="disk", Tags=tags)
    child = make(ebs, ec2, {0: B}, ParentSnapshotId=snapshot)
    token = list_blocks(ebs, snapshot)[0]["BlockToken"]
    before = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    ec2.delete_snapshot(SnapshotId=snapshot)
    found = ec2.list_snapshots_in_recycle_bin(SnapshotIds=[snapshot])["Snapshots"][0]
    assert found["RecycleBinExitTime"] - found["RecycleBinEnterTime"] == datetime.timedelta(days=3)
    assert (found["Description"], found["VolumeId"]) == ("disk", "vol-ffffffff")
    for again in range(2):
        missing(ec2.describe_snapshots, SnapshotIds=[snapshot])
        missing(ec2.delete_snapshot, SnapshotId=snapshot)
        for call, args in [
            (ebs.list_snapshot_blocks, dict(SnapshotId=snapshot)),
            (ebs.get_snapshot_block, dict(SnapshotId=snapshot, BlockIndex=0, BlockToken=token)),
            (ebs.list_changed_blocks, dict(FirstSnapshotId=snapshot, SecondSnapshotId=child)),
            (ebs.start_snapshot, dict(VolumeSize=1, ParentSnapshotId=snapshot)),
        ]:
            assert refused(call, **args).reason == "SNAPSHOT_NOT_FOUND"
        assert read_all(ebs, child) == {0: B, 9: B}
        if not again:  # what is in the bin is there after a crash, too
            server.stop(signal.SIGKILL)
            server.start()
            ebs, ec2 = server.client("ebs"), server.client("ec2")
    answer = ec2.restore_snapshot_from_recycle_bin(SnapshotId=snapshot)
    assert (answer["SnapshotId"], answer["State"], answer["Progress"]) == (snapshot, "recovering", "100%")
    assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"] == before
    assert get(ebs, snapshot, 0, token) == A
    assert binned(ec2) == []


def test_purged(server):
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    snapshots = [make(ebs, ec2, {0: A}) for _ in range(7)]
    child = make(ebs, ec2, {1: B}, ParentSnapshotId=snapshots[0])
    for snapshot in snapshots:
        ec2.delete_snapshot(SnapshotId=snapshot)
    assert sorted(binned(ec2)) == sorted(snapshots)
    server.advance(days=2, hours=23)
    ec2.restore_snapshot_from_recycle_bin(SnapshotId=snapshots[3])
    server.advance(hours=2)
    assert binned(ec2) == []
    missing(ec2.restore_snapshot_from_recycle_bin, SnapshotId=snapshots[0])
    missing(ec2.list_snapshots_in_recycle_bin, SnapshotIds=[snapshots[0]])
    assert read_all(ebs, snapshots[3]) == {0: A}
    assert read_all(ebs, child) == {0: A, 1: B}


def test_the_plain_dialect_fills_it_too(server):
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    snapshot = make(ebs, ec2, {0: A})
    assert server.plain("DELETE", f"/snapshots/{snapshot}").status == 200
    assert server.plain("GET", f"/snapshots/{snapshot}").status == 404
    assert binned(ec2) == [snapshot]


def test_cli(server, aws):
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    snapshot = make(ebs, ec2, {0: A})
    aws("ec2", "delete-snapshot", "--snapshot-id", snapshot)
    out = aws("ec2", "list-snapshots-in-recycle-bin", "--snapshot-ids", snapshot)
    assert [s["SnapshotId"] for s in out["Snapshots"]] == [snapshot]
    assert aws("ec2", "restore-snapshot-from-recycle-bin", "--snapshot-id", snapshot)["State"] == "recovering"
    assert read_all(ebs, snapshot) == {0: A}


@pytest.mark.parametrize("days", ["-1", "366", "x"])
def test_days_out_of_range(tmp_path, days):
    with pytest.raises(RuntimeError, match="recycle-bin-days"):
        Server(tmp_path / "data", f"--recycle-bin-days={days}")
