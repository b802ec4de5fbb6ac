"""What time does to snapshots and tokens, with the server's clock moved. Spec: ebs-direct §5.2, §8.5; test-controls."""

import datetime

from harness import A, B, complete, get, list_blocks, make, put, refused, settled


def state(ec2, snapshot):
    found = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    return found["State"], found.get("StateMessage")


def test_an_idle_snapshot_times_out(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    snapshot = ebs.start_snapshot(VolumeSize=1, Timeout=10, ClientToken="t")["SnapshotId"]
    fresh.advance(minutes=9)
    put(ebs, snapshot, 0, A)  # starts the time again
    fresh.advance(minutes=9)
    assert state(ec2, snapshot) == ("pending", None)
    fresh.advance(minutes=1, seconds=1)
    assert state(ec2, snapshot) == ("error", "Snapshot timed out")

    for call in [
        lambda: put(ebs, snapshot, 1, A),
        lambda: ebs.list_snapshot_blocks(SnapshotId=snapshot),
        lambda: ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=snapshot),
    ]:
        e = refused(call)
        assert (e.status, e.code, e.reason) == (404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
        assert e.message == f"The snapshot '{snapshot}' does not exist."
    assert ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)["Status"] == "error"
    assert ebs.start_snapshot(VolumeSize=1, Timeout=10, ClientToken="t")["SnapshotId"] == snapshot

    fresh.restart()
    ec2 = fresh.client("ec2")
    assert state(ec2, snapshot) == ("error", "Snapshot timed out")
    ec2.delete_snapshot(SnapshotId=snapshot)


def test_the_default_timeout_is_an_hour(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    fresh.advance(minutes=59)
    assert state(ec2, snapshot)[0] == "pending"
    fresh.advance(minutes=2)
    assert state(ec2, snapshot) == ("error", "Snapshot timed out")


def test_complete_stops_the_timer(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    snapshot = ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
    put(ebs, snapshot, 0, A)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    fresh.advance(days=30)
    assert state(ec2, snapshot) == ("completed", None)


def test_block_tokens_live_seven_days_and_through_restarts(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    snapshot = make(ebs, ec2, {0: A})
    page = ebs.list_snapshot_blocks(SnapshotId=snapshot)
    token = page["Blocks"][0]["BlockToken"]
    left = page["ExpiryTime"] - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(days=6) < left <= datetime.timedelta(days=7)
    fresh.restart()
    ebs = fresh.client("ebs")
    assert get(ebs, snapshot, 0, token) == A

    fresh.advance(days=6)
    assert get(ebs, snapshot, 0, token) == A
    later = list_blocks(ebs, snapshot)[0]["BlockToken"]
    fresh.advance(days=1, minutes=1)
    e = refused(ebs.get_snapshot_block, SnapshotId=snapshot, BlockIndex=0, BlockToken=token)
    assert (e.status, e.code, e.reason) == (400, "ValidationException", "INVALID_BLOCK_TOKEN")
    assert e.message == f"The block token {token} is invalid."
    assert get(ebs, snapshot, 0, later) == A


def test_page_tokens_live_an_hour(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    parent = make(ebs, ec2, {i: A for i in range(150)})
    child = make(ebs, ec2, {i: B for i in range(150)}, ParentSnapshotId=parent)
    blocks = dict(SnapshotId=parent, MaxResults=100)
    changed = dict(FirstSnapshotId=parent, SecondSnapshotId=child, MaxResults=100)
    blocks["NextToken"] = ebs.list_snapshot_blocks(**blocks)["NextToken"]
    changed["NextToken"] = ebs.list_changed_blocks(**changed)["NextToken"]
    fresh.restart()
    ebs = fresh.client("ebs")
    fresh.advance(minutes=59)
    assert len(ebs.list_snapshot_blocks(**blocks)["Blocks"]) == 50
    ebs.list_changed_blocks(**changed)
    fresh.advance(minutes=2)
    for call, args in [(ebs.list_snapshot_blocks, blocks), (ebs.list_changed_blocks, changed)]:
        e = refused(call, **args)
        assert (e.status, e.code, e.reason) == (400, "ValidationException", "INVALID_PAGE_TOKEN")
        assert e.message == f"The pagination token {args['NextToken']} is invalid."


def test_everything_survives_a_restart(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    done = make(ebs, ec2, {0: A, 3: B}, Tags=[{"Key": "k", "Value": "v"}], Description="d")
    open_ = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(ebs, open_, 1, B)
    before = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    fresh.restart()
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == before
    put(ebs, open_, 2, A)
    assert complete(ebs, ec2, open_, 2)["State"] == "completed"
    for snapshot, blocks in [(done, {0: A, 3: B}), (open_, {1: B, 2: A})]:
        listed = {e["BlockIndex"]: e["BlockToken"] for e in list_blocks(ebs, snapshot)}
        assert {i: get(ebs, snapshot, i, t) for i, t in listed.items()} == blocks


def test_sealed_but_unverified_is_completed_after_a_restart(fresh):
    ebs = fresh.client("ebs")
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(ebs, snapshot, 0, A)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    fresh.restart()
    assert settled(fresh.client("ec2"), snapshot)["State"] == "completed"


def test_clock_controls(fresh):
    reply = fresh.plain("GET", "/_test/clock")
    assert reply.json["success"] is True
    assert reply.json["data"]["offset_seconds"] == 0
    assert reply.json["data"]["now"].endswith("Z")
    for body in [
        {"advance_seconds": 0},
        {"advance_seconds": -5},
        {"advance_seconds": 3_700_000_001},
        {"advance_seconds": "5"},
        {"advance_seconds": 1.5},
        {},
        b"",
        b"nonsense",
    ]:
        reply = fresh.plain("POST", "/_test/clock", body)
        assert (reply.status, reply.json["error"]["code"]) == (400, "VALIDATION_ERROR"), body
    assert fresh.advance(seconds=900)["offset_seconds"] == 900
    fresh.client("ebs").start_snapshot(VolumeSize=1)  # signed by this machine's clock, and fresh
    assert fresh.plain("GET", "/_test/clock").json["data"]["offset_seconds"] == 900
    fresh.restart()
    assert fresh.plain("GET", "/_test/clock").json["data"]["offset_seconds"] == 0


def test_without_test_controls_there_is_no_clock(server):
    for method in ["GET", "POST"]:
        assert server.plain(method, "/_test/clock", {"advance_seconds": 5}).status == 404
