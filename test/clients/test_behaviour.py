"""boto3 against a server that misbehaves, with the retries that boto3 has. Spec: test-controls, Behaviour."""

import time

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError, WaiterError
from harness import BLOCK_SIZE, complete, get, list_blocks, list_changed, put, read_all, settled, text_block
from shale_fixture import shale  # noqa: F401  a fixture


def blocks(n):
    return {i: text_block(b"block %d\n" % i) for i in range(n)}


def rule(operation, effect, **more):
    return [{"operation": operation, "effect": effect, **more}]


def make(shale, n):
    ebs, ec2 = shale.client("ebs"), shale.client("ec2")
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    for index, data in blocks(n).items():
        put(ebs, snapshot, index, data)
    assert complete(ebs, ec2, snapshot, n)["State"] == "completed"
    return snapshot


def code(error):
    return error.value.response["Error"]["Code"]


@pytest.mark.parametrize("mode", ["legacy", "standard"])
def test_hostile_is_survived(shale, mode):
    config = Config(retries={"mode": mode})
    ebs, ec2 = shale.client("ebs", config=config), shale.client("ec2", config=config)
    shale.behave(preset="hostile")
    made = []
    for _ in range(2):
        snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
        for index, data in blocks(120).items():
            put(ebs, snapshot, index, data)
        assert complete(ebs, ec2, snapshot, 120)["State"] == "completed"
        assert read_all(ebs, snapshot) == blocks(120)
        assert list_changed(ebs, snapshot, snapshot) == []
        made.append(snapshot)
    assert sum(shale.struck()) > 20
    shale.calm()
    for snapshot in made:
        assert read_all(ebs, snapshot) == blocks(120)


def test_late_consistency(shale):
    """awslabs/coldsnap#43"""
    ebs, ec2 = shale.client("ebs"), shale.client("ec2")
    shale.behave(rule("StartSnapshot", {"lag_ms": 60000}))
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    with pytest.raises(ClientError) as e:
        put(ebs, snapshot, 0, blocks(1)[0])
    assert code(e) == "ResourceNotFoundException"
    with pytest.raises(ClientError) as e:
        ec2.describe_snapshots(SnapshotIds=[snapshot])
    assert code(e) == "InvalidSnapshot.NotFound"
    shale.advance(60)
    put(ebs, snapshot, 0, blocks(1)[0])
    assert complete(ebs, ec2, snapshot, 1)["State"] == "completed"


def test_access_denied_in_the_middle(shale):
    """awslabs/coldsnap#216"""
    ebs = shale.client("ebs")
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    shale.behave(rule("PutSnapshotBlock", {"error": "AccessDeniedException"}, when={"after": 2}, snapshot=snapshot))
    data = blocks(3)
    put(ebs, snapshot, 0, data[0])
    put(ebs, snapshot, 1, data[1])
    with pytest.raises(ClientError) as e:
        put(ebs, snapshot, 2, data[2])
    assert code(e) == "AccessDeniedException"
    assert e.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert shale.struck() == [1]  # not tried again


def test_a_silent_socket(shale):
    """awslabs/coldsnap#437"""
    ebs = shale.client("ebs", config=Config(read_timeout=1))
    shale.behave(rule("PutSnapshotBlock", {"silent_ms": 600000}, when={"first": 1}))
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    began = time.monotonic()
    put(ebs, snapshot, 0, blocks(1)[0])
    assert time.monotonic() - began >= 1
    assert shale.struck() == [1]


def test_throttled_reads(shale):
    """awslabs/coldsnap#451"""
    snapshot, ebs = make(shale, 1), shale.client("ebs")
    shale.behave(rule("GetSnapshotBlock", {"error": "RequestThrottledException"}, when={"first": 2}))
    assert read_all(ebs, snapshot) == blocks(1)
    assert shale.struck() == [2]


def test_a_snapshot_that_ends_in_error(shale):
    """nanovms/ops#1268"""
    ebs, ec2 = shale.client("ebs"), shale.client("ec2")
    shale.behave(rule("CompleteSnapshot", {"complete_as": "error"}))
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(ebs, snapshot, 0, blocks(1)[0])
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    with pytest.raises(WaiterError):
        ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    found = settled(ec2, snapshot)
    assert (found["State"], found["StateMessage"]) == ("error", "Changed blocks count mismatch for snapshot")


def test_a_cut_answer(shale):
    snapshot, ebs = make(shale, 1), shale.client("ebs")
    entry = list_blocks(ebs, snapshot)[0]
    shale.behave(rule("GetSnapshotBlock", {"cut": "response"}, when={"first": 1}))
    answer = ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=entry["BlockToken"])
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        answer["BlockData"].read()
    assert get(ebs, snapshot, 0, entry["BlockToken"]) == blocks(1)[0]


def test_a_corrupt_block(shale):
    snapshot, ebs = make(shale, 1), shale.client("ebs")
    entry = list_blocks(ebs, snapshot)[0]
    shale.behave(rule("GetSnapshotBlock", {"corrupt": True}, when={"first": 1}))
    answer = ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=entry["BlockToken"])
    data = answer["BlockData"].read()
    wrong = int.from_bytes(data, "big") ^ int.from_bytes(blocks(1)[0], "big")
    assert len(data) == BLOCK_SIZE and wrong.bit_count() == 1
    assert get(ebs, snapshot, 0, entry["BlockToken"]) == blocks(1)[0]


@pytest.mark.parametrize("page", ["short", "empty"])
def test_odd_pages_list_everything_once(shale, page):
    snapshot, ebs = make(shale, 120), shale.client("ebs")
    shale.behave(rule("ListSnapshotBlocks", {"page": page}))
    assert [e["BlockIndex"] for e in list_blocks(ebs, snapshot, MaxResults=100)] == list(range(120))
    assert shale.struck()[0] > 2


@pytest.mark.parametrize(
    "rules",
    [
        rule("PutBlock", {"delay_ms": 1}),
        rule("PutSnapshotBlock", {"explode": True}),
        rule("PutSnapshotBlock", {"error": "NoSuchException"}),
        rule("PutSnapshotBlock", {"error": "RequestLimitExceeded"}),
        rule("PutSnapshotBlock", {"corrupt": True}),
        rule("PutSnapshotBlock", {"delay_ms": 1}, when={"sometimes": True}),
        rule("PutSnapshotBlock", {"delay_ms": 1}, what=1),
    ],
)
def test_what_is_misspelt_is_refused(shale, rules):
    with pytest.raises(ValueError, match="VALIDATION_ERROR.*rules.0"):
        shale.behave(rules)
    assert shale.struck() == []
