"""CopySnapshot, with boto3 and the AWS CLI. Spec: ec2-snapshots §5."""

import signal

import pytest

from harness import A, B, Z, get, list_blocks, list_changed, make, put, read_all, refused, settled
from test_awscli import aws  # noqa: F401, a fixture

UNKNOWN = "snap-0123456789abcdef0"


def copy(ec2, source, **more):
    return ec2.copy_snapshot(SourceRegion="us-east-1", SourceSnapshotId=source, **more)["SnapshotId"]


def test_a_copy_is_its_source(ebs, ec2):
    source = make(ebs, ec2, {0: A, 7: Z, 2047: B}, size=1, Description="first", Tags=[{"Key": "k", "Value": "v"}])
    made = copy(ec2, source)
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[made], WaiterConfig={"Delay": 1})
    found = settled(ec2, made)
    assert (found["State"], found["Progress"], found["VolumeSize"], found["VolumeId"]) == ("completed", "100%", 1, "vol-ffffffff")
    assert (found["Description"], found["FullSnapshotSizeInBytes"]) == ("", 3 * 524288)
    assert not found.get("Tags") and "StateMessage" not in found
    assert list_changed(ebs, source, made) == []
    child = make(ebs, ec2, {7: A}, ParentSnapshotId=made)
    assert [c["BlockIndex"] for c in list_changed(ebs, source, child)] == [7]
    ec2.delete_snapshot(SnapshotId=source)
    assert read_all(ebs, made) == {0: A, 7: Z, 2047: B}


def test_each_call_makes_another_copy(ebs, ec2):
    source = make(ebs, ec2, {0: A})
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}]
    answer = ec2.copy_snapshot(
        SourceRegion="us-east-1",
        SourceSnapshotId=source,
        Description="mine",
        Encrypted=False,
        TagSpecifications=tags,
        CompletionDurationMinutes=30,
    )
    assert answer["Tags"] == tags[0]["Tags"]
    found = settled(ec2, answer["SnapshotId"])
    assert (found["Description"], found["Tags"]) == ("mine", tags[0]["Tags"])
    assert (found["TransferType"], found["CompletionDurationMinutes"]) == ("time-based", 30)
    assert copy(ec2, source) != copy(ec2, source)


@pytest.mark.parametrize(
    "args, code, message",
    [
        ({"SourceSnapshotId": "snap-1"}, "InvalidParameterValue", "The specified snapshotId is invalid"),
        ({"SourceRegion": "mars"}, "InvalidRegion", "mars is not a valid region name"),
        ({"CompletionDurationMinutes": 16}, "InvalidParameterValue", None),
    ],
    ids=str,
)
def test_refused_at_once(ec2, args, code, message):
    e = refused(ec2.copy_snapshot, **{"SourceRegion": "us-east-1", "SourceSnapshotId": UNKNOWN, **args})
    assert (e.status, e.code) == (400, code)
    assert message in (None, e.message)


def test_refused_later(ebs, ec2):
    pending = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    for source, message in [(UNKNOWN, "Source snapshot is not found"), (pending, "Source snapshot is not complete")]:
        found = settled(ec2, copy(ec2, source))
        assert (found["State"], found["StateMessage"], found["VolumeSize"]) == ("error", message, 0)


def test_a_copy_is_no_upload(ebs, ec2):
    made = copy(ec2, make(ebs, ec2, {0: A}))
    settled(ec2, made)
    e = refused(ebs.complete_snapshot, SnapshotId=made, ChangedBlocksCount=0)
    assert (e.status, e.reason) == (404, "SNAPSHOT_NOT_FOUND")
    e = refused(put, ebs, made, 1, A)
    assert e.status == 400


def test_copies_survive_a_kill(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    source = make(ebs, ec2, {i: text(i) for i in range(20)})
    made = []
    for _ in range(4):
        made += [copy(ec2, source) for _ in range(5)]
        fresh.stop(signal.SIGKILL)
        fresh.start()
        ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    for snapshot in made:
        assert settled(ec2, snapshot)["State"] == "completed"
        assert list_changed(ebs, source, snapshot) == []
    entry = list_blocks(ebs, made[0])[13]
    assert get(ebs, made[0], 13, entry["BlockToken"]) == text(13)


def text(i):
    return bytes([i]) * 524288


def test_cli(aws, ebs, ec2):
    source = make(ebs, ec2, {0: A})
    out = aws(
        *["ec2", "copy-snapshot", "--source-region", "us-east-1", "--source-snapshot-id", source, "--description", "by hand"],
        *["--tag-specifications", "ResourceType=snapshot,Tags=[{Key=who,Value=cli}]"],
    )
    found = settled(ec2, out["SnapshotId"])
    assert (found["State"], found["Description"], found["Tags"]) == ("completed", "by hand", [{"Key": "who", "Value": "cli"}])
