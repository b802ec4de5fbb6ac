"""Locks on snapshots, with boto3 and the AWS CLI. Spec: ec2-snapshots §8."""

import datetime

import pytest

from harness import A, Server, make, refused
from test_awscli import aws  # noqa: F401, a fixture


def state(ec2, snapshot):
    """The state of a snapshot's lock, None without one."""
    found = ec2.describe_locked_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    return found[0]["LockState"] if found else None


def locked(call, *args, **kwargs):
    e = refused(call, *args, **kwargs)
    assert (e.status, e.code) == (400, "OperationNotPermitted"), e


def test_governance(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    snapshot = make(ebs, ec2, {0: A})
    answer = ec2.lock_snapshot(SnapshotId=snapshot, LockMode="governance", LockDuration=10)
    assert (answer["SnapshotId"], answer["LockState"], answer["LockDuration"]) == (snapshot, "governance", 10)
    assert answer["LockExpiresOn"] - answer["LockDurationStartTime"] == datetime.timedelta(days=10)
    assert "CoolOffPeriod" not in answer
    locked(ec2.delete_snapshot, SnapshotId=snapshot)
    fresh.restart()
    ec2 = fresh.client("ec2")
    locked(ec2.delete_snapshot, SnapshotId=snapshot)
    ec2.lock_snapshot(SnapshotId=snapshot, LockMode="governance", LockDuration=1)
    fresh.advance(days=1)
    assert state(ec2, snapshot) == "expired"
    ec2.lock_snapshot(SnapshotId=snapshot, LockMode="governance", LockDuration=1)
    assert ec2.unlock_snapshot(SnapshotId=snapshot)["SnapshotId"] == snapshot
    assert state(ec2, snapshot) is None
    ec2.delete_snapshot(SnapshotId=snapshot)


def test_compliance(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    snapshot = make(ebs, ec2, {0: A})
    lock = dict(SnapshotId=snapshot, LockMode="compliance")
    answer = ec2.lock_snapshot(**lock, LockDuration=3, CoolOffPeriod=24)
    assert (answer["LockState"], answer["CoolOffPeriod"]) == ("compliance-cooloff", 24)
    assert answer["CoolOffPeriodExpiresOn"] - answer["LockCreatedOn"] == datetime.timedelta(hours=24)
    locked(ec2.delete_snapshot, SnapshotId=snapshot)
    ec2.unlock_snapshot(SnapshotId=snapshot)
    ec2.lock_snapshot(**lock, LockDuration=3, CoolOffPeriod=24)
    fresh.advance(hours=24)
    assert state(ec2, snapshot) == "compliance"
    locked(ec2.unlock_snapshot, SnapshotId=snapshot)
    locked(ec2.lock_snapshot, SnapshotId=snapshot, LockMode="governance", LockDuration=100)
    locked(ec2.lock_snapshot, **lock, LockDuration=1)
    locked(ec2.lock_snapshot, **lock, LockDuration=100, CoolOffPeriod=1)
    answer = ec2.lock_snapshot(**lock, LockDuration=30)
    assert (answer["LockState"], answer["LockDuration"]) == ("compliance", 30)
    # The moved clock is forgotten on restart; what it brought about is not.
    fresh.restart()
    ec2 = fresh.client("ec2")
    assert state(ec2, snapshot) == "compliance"
    locked(ec2.unlock_snapshot, SnapshotId=snapshot)
    locked(ec2.delete_snapshot, SnapshotId=snapshot)
    reply = fresh.plain("DELETE", f"/snapshots/{snapshot}")
    assert (reply.status, reply.json["error"]["code"]) == (409, "CONFLICT")
    assert reply.json["error"]["message"] == f"the snapshot '{snapshot}' is locked and can't be deleted"


def test_a_date(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    snapshot = make(ebs, ec2, {0: A})
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2, hours=1)
    answer = ec2.lock_snapshot(SnapshotId=snapshot, LockMode="compliance", ExpirationDate=until)
    assert answer["LockDuration"] == 3
    assert abs(answer["LockExpiresOn"] - until) < datetime.timedelta(seconds=1)
    fresh.advance(days=2)
    assert state(ec2, snapshot) == "compliance"
    fresh.advance(hours=2)
    assert state(ec2, snapshot) == "expired"


def test_a_pending_snapshot(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    snapshot = ebs.start_snapshot(VolumeSize=1, Timeout=4320)["SnapshotId"]
    answer = ec2.lock_snapshot(SnapshotId=snapshot, LockMode="compliance", LockDuration=1)
    assert "LockExpiresOn" not in answer and "LockDurationStartTime" not in answer
    fresh.advance(days=2)
    locked(ec2.delete_snapshot, SnapshotId=snapshot)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)
    fresh.advance(hours=23)
    locked(ec2.delete_snapshot, SnapshotId=snapshot)
    fresh.advance(hours=2)
    ec2.delete_snapshot(SnapshotId=snapshot)


def test_no_test_controls_on_a_real_folder(tmp_path):
    server = Server(tmp_path / "data")
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    snapshot = make(ebs, ec2, {0: A})
    ec2.lock_snapshot(SnapshotId=snapshot, LockMode="compliance", LockDuration=1)
    assert server.stop() == 0
    with pytest.raises(RuntimeError):
        Server(tmp_path / "data", "--test-controls")
    server.start()
    locked(server.client("ec2").delete_snapshot, SnapshotId=snapshot)
    assert server.stop() == 0


def test_cli(aws, ebs, ec2):
    snapshot = make(ebs, ec2, {0: A})
    out = aws("ec2", "lock-snapshot", "--snapshot-id", snapshot, "--lock-mode", "governance", "--lock-duration", "1")
    assert out["LockState"] == "governance"
    out = aws("ec2", "describe-locked-snapshots", "--snapshot-ids", snapshot, "--filters", "Name=lock-state,Values=governance")
    assert [s["SnapshotId"] for s in out["Snapshots"]] == [snapshot]
    assert "OperationNotPermitted" in aws("ec2", "delete-snapshot", "--snapshot-id", snapshot, succeeds=False)
    assert aws("ec2", "unlock-snapshot", "--snapshot-id", snapshot)["SnapshotId"] == snapshot
    aws("ec2", "delete-snapshot", "--snapshot-id", snapshot)
