"""CreateTags, DeleteTags and DescribeTags. Spec: ec2-snapshots §4."""

import pytest

from harness import refused

UNKNOWN = "snap-0123456789abcdef0"


@pytest.fixture
def snapshot(ebs):
    return ebs.start_snapshot(VolumeSize=1)["SnapshotId"]


def tags(ec2, *snapshots):
    """The tags of the snapshots as DescribeTags has them, in its order."""
    pages = ec2.get_paginator("describe_tags").paginate(
        Filters=[{"Name": "resource-id", "Values": list(snapshots)}], PaginationConfig={"PageSize": 5}
    )
    return [(t["ResourceId"], t["Key"], t["Value"]) for page in pages for t in page["Tags"]]


def pairs(**more):
    return [{"Key": k, "Value": v} for k, v in more.items()]


def test_create_and_delete(ebs, ec2):
    a, b = sorted(ebs.start_snapshot(VolumeSize=1, Tags=pairs(first="0"))["SnapshotId"] for _ in range(2))
    ec2.create_tags(Resources=[a, b], Tags=pairs(x="1", y=""))
    ec2.create_tags(Resources=[a], Tags=pairs(x="2", z="3"))
    assert sorted(tags(ec2, a, b)) == sorted(
        [(a, "first", "0"), (a, "x", "2"), (a, "y", ""), (a, "z", "3"), (b, "first", "0"), (b, "x", "1"), (b, "y", "")]
    )
    shown = ec2.describe_snapshots(SnapshotIds=[a])["Snapshots"][0]["Tags"]
    assert shown == pairs(first="0", x="2", y="", z="3")

    ec2.delete_tags(Resources=[a, b], Tags=[{"Key": "x", "Value": "1"}, {"Key": "first"}, {"Key": "absent"}])
    assert [t[1:] for t in tags(ec2, a)] == [("x", "2"), ("y", ""), ("z", "3")]
    assert [t[1:] for t in tags(ec2, b)] == [("y", "")]
    ec2.delete_tags(Resources=[a])
    assert tags(ec2, a) == []
    assert "Tags" not in ec2.describe_snapshots(SnapshotIds=[a])["Snapshots"][0]


@pytest.mark.parametrize("text", ["<b> & \"quotes\" 'too' ]]>", "😀" * 100, "a\tb\nc\rd", " blanks ", "ключ+%20&=;", "."])
def test_any_text(ec2, snapshot, text):
    ec2.create_tags(Resources=[snapshot], Tags=[{"Key": text, "Value": text}])
    assert tags(ec2, snapshot) == [(snapshot, text, text)]
    found = ec2.describe_snapshots(Filters=[{"Name": "snapshot-id", "Values": [snapshot]}, {"Name": "tag-key", "Values": [text]}])
    assert [s["Tags"] for s in found["Snapshots"]] == [[{"Key": text, "Value": text}]]


def test_description_as_text(ebs, ec2):
    for text in ["<x> & </description>", "😀" * 255]:
        snapshot = ebs.start_snapshot(VolumeSize=1, Description=text)["SnapshotId"]
        assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Description"] == text
    assert refused(ebs.start_snapshot, VolumeSize=1, Description="😀" * 256).code == "ValidationException"


@pytest.mark.parametrize(
    "new, code",
    [
        ([{"Key": "k" * 129}], "InvalidParameterValue"),
        ([{"Key": "k", "Value": "😀" * 257}], "InvalidParameterValue"),
        ([{"Key": "aws:x"}], "InvalidParameterValue"),
        ([{"Key": "k", "Value": "\x01"}], "InvalidParameterValue"),
        ([{"Key": "k\ufffe"}], "InvalidParameterValue"),
        ([{"Key": "k"}, {"Key": "k"}], "InvalidParameterValue"),
        ([{"Key": f"k{i}"} for i in range(51)], "TagLimitExceeded"),
        ([], "MissingParameter"),
    ],
    ids=["long key", "long value", "reserved", "control", "noncharacter", "twice", "51", "none"],
)
def test_refused_tags(ec2, snapshot, new, code):
    found = refused(ec2.create_tags, Resources=[snapshot], Tags=new)
    assert (found.status, found.code) == (400, code), found
    assert tags(ec2, snapshot) == []


def test_longest(ec2, snapshot):
    key, value = "😀" * 128, "é" * 256
    ec2.create_tags(Resources=[snapshot], Tags=[{"Key": key, "Value": value}])
    assert tags(ec2, snapshot) == [(snapshot, key, value)]


def test_fifty(ec2, snapshot):
    fifty = [{"Key": f"k{i:02}", "Value": str(i)} for i in range(50)]
    ec2.create_tags(Resources=[snapshot], Tags=fifty)
    assert refused(ec2.create_tags, Resources=[snapshot], Tags=[{"Key": "k50"}]).code == "TagLimitExceeded"
    ec2.create_tags(Resources=[snapshot], Tags=[{"Key": "k00", "Value": "new"}])
    ec2.delete_tags(Resources=[snapshot], Tags=[{"Key": "k49"}])
    ec2.create_tags(Resources=[snapshot], Tags=[{"Key": "k50", "Value": "50"}])
    assert [t[1] for t in tags(ec2, snapshot)] == [f"k{i:02}" for i in range(51) if i != 49]


def test_all_or_nothing(ec2, snapshot):
    assert refused(ec2.create_tags, Resources=[snapshot, UNKNOWN], Tags=pairs(k="v")).code == "InvalidSnapshot.NotFound"
    assert refused(ec2.create_tags, Resources=[snapshot, "vol-1"], Tags=pairs(k="v")).code == "InvalidID"
    assert tags(ec2, snapshot) == []
    ec2.create_tags(Resources=[snapshot], Tags=pairs(k="v"))
    assert refused(ec2.delete_tags, Resources=[snapshot, UNKNOWN]).code == "InvalidSnapshot.NotFound"
    assert tags(ec2, snapshot) == [(snapshot, "k", "v")]


def test_dry_run(ec2, snapshot):
    for call in [ec2.create_tags, ec2.delete_tags]:
        assert refused(call, Resources=[snapshot], Tags=pairs(k="v"), DryRun=True).status == 412
    assert refused(ec2.describe_tags, DryRun=True).code == "DryRunOperation"
    assert tags(ec2, snapshot) == []


def test_every_state_and_a_restart(fresh):
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    failed = ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
    fresh.advance(minutes=11)
    pending, done = (ebs.start_snapshot(VolumeSize=1)["SnapshotId"] for _ in range(2))
    ebs.complete_snapshot(SnapshotId=done, ChangedBlocksCount=0)
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[done])
    ec2.create_tags(Resources=[failed, pending, done], Tags=pairs(k="v"))
    ec2.delete_snapshot(SnapshotId=pending)
    fresh.restart()
    ec2 = fresh.client("ec2")
    assert sorted(t["ResourceId"] for t in ec2.describe_tags()["Tags"]) == sorted([failed, done])


def test_cli(server, snapshot):
    server.aws("ec2", "create-tags", "--resources", snapshot, "--tags", "Key=name,Value=my disk", "Key=bare")
    found = server.aws("ec2", "describe-tags", "--filters", f"Name=resource-id,Values={snapshot}")
    assert found["Tags"] == [
        {"Key": "name", "ResourceId": snapshot, "ResourceType": "snapshot", "Value": "my disk"},
        {"Key": "bare", "ResourceId": snapshot, "ResourceType": "snapshot", "Value": ""},
    ]
    server.aws("ec2", "delete-tags", "--resources", snapshot, "--tags", "Key=name")
    found = server.aws("ec2", "describe-snapshots", "--filters", "Name=tag:bare,Values=", f"Name=snapshot-id,Values={snapshot}")
    assert [s["Tags"] for s in found["Snapshots"]] == [[{"Key": "bare", "Value": ""}]]
