"""Counts and aggregate checksums at CompleteSnapshot. Spec: ebs-direct §5, §7."""

import pytest

from harness import A, B, Z, aggregate, checksum, complete, put, refused, text_block

LINES = {name: text_block(b"stackd-ebs-synthetic-%c\n" % ord(name)) for name in "abc"}

# Each row: the blocks by index, and their aggregate as published.
VECTORS = {
    "A before B": ({0: A, 5: B}, "y70dliekiWXwOuHPNk95FPMloOXDcF2KlCJ45WXZyH4="),
    "B before A": ({0: B, 5: A}, "cXjib0H7+ier5dCP4FAqUTzKVRu7BTKX3eFnCs5V880="),
    "zero counts": ({1: A, 2: Z, 3: B}, "674e4dnNzz7UCdkVsWlb7bmKd4rpW8aEngI6g0m+rLk="),
    "one block": ({9: A}, "l8cmU1ymV93Imrc5g4fF0Uj3Hi5fj/KWrb04gZRJDPM="),
    "no block": ({}, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
    "recorded from AWS": (
        {0: LINES["b"], 3: LINES["a"], 7: Z, 2047: LINES["c"]},
        "Pq34jf4xh07iqiQpo/morRl/xL06mqy1ERimH+Hypi8=",
    ),
}
WRONG = {
    "hash of base64 texts": "0pCz/+tXKEkEkZzaqEucQ0JvEtUK8Ay9fnYpMkCo95U=",
    "hash of the data": "vZFBHnO/5kWfd9VZHAVowkzB0kvihCGlUzfBXdEujW8=",
    "hash of one block": checksum(A),
}


def trio(value):
    return dict(Checksum=value, ChecksumAlgorithm="SHA256", ChecksumAggregationMethod="LINEAR")


@pytest.fixture
def written(ebs):
    """Starts a snapshot and writes blocks to it, highest index first."""

    def write(blocks, **start):
        snapshot = ebs.start_snapshot(VolumeSize=1, **start)["SnapshotId"]
        for index in sorted(blocks, reverse=True):
            put(ebs, snapshot, index, blocks[index])
        return snapshot

    return write


@pytest.mark.parametrize("blocks, value", VECTORS.values(), ids=VECTORS)
def test_published_aggregate_is_accepted(ebs, ec2, written, blocks, value):
    assert aggregate([blocks[i] for i in sorted(blocks)]) == value
    assert complete(ebs, ec2, written(blocks), len(blocks), **trio(value))["State"] == "completed"


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_wrong_aggregate_ends_in_error(ebs, ec2, written, value):
    snapshot = written({0: A, 5: B})
    found = complete(ebs, ec2, snapshot, 2, **trio(value))
    assert (found["State"], found["StateMessage"]) == ("error", "Checksum mismatch for snapshot")
    assert found["Progress"] == "0%"

    # What is in error is unreadable, takes no block, says so, and can be deleted.
    assert refused(ebs.list_snapshot_blocks, SnapshotId=snapshot).reason == "SNAPSHOT_NOT_FOUND"
    assert refused(put, ebs, snapshot, 0, A).reason == "SNAPSHOT_NOT_FOUND"
    assert refused(ebs.start_snapshot, VolumeSize=1, ParentSnapshotId=snapshot).reason == "SNAPSHOT_NOT_FOUND"
    assert ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=2)["Status"] == "error"
    ec2.delete_snapshot(SnapshotId=snapshot)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_wrong_count_ends_in_error(ebs, ec2, written, count):
    found = complete(ebs, ec2, written({0: A, 5: B}), count)
    assert (found["State"], found["StateMessage"]) == ("error", "Changed blocks count mismatch for snapshot")


def test_inherited_blocks_are_neither_counted_nor_summed(ebs, ec2, written):
    parent = written({0: A, 1: B})
    complete(ebs, ec2, parent, 2)
    child = written({1: B, 4: A}, ParentSnapshotId=parent)  # index 1 rewritten with what it was counts
    assert complete(ebs, ec2, child, 2, **trio(aggregate([B, A])))["State"] == "completed"
    equal = written({}, ParentSnapshotId=parent)
    assert complete(ebs, ec2, equal, 0, **trio(aggregate([])))["State"] == "completed"


def test_completing_again_answers_the_status(ebs, ec2, written):
    snapshot = written({0: A})
    answer = ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["Status"] == "pending"
    complete_again = dict(SnapshotId=snapshot, ChangedBlocksCount=77)  # the first claim holds
    while (status := ebs.complete_snapshot(**complete_again)["Status"]) == "pending":
        pass
    assert status == "completed"


def test_a_sealed_snapshot_takes_no_block(ebs, ec2, written):
    snapshot = written({0: A})
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    e = refused(put, ebs, snapshot, 1, A)
    assert (e.status, e.code, e.reason) == (400, "ValidationException", "INVALID_SNAPSHOT_ID")
    assert e.message == "Snapshot is already completed"
