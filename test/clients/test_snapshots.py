"""The way of a snapshot through boto3: written, completed, listed, read, compared, deleted."""

import datetime

from harness import A, B, BLOCK_SIZE, Z, checksum, complete, get, list_blocks, list_changed, make, put, read_all, refused


def test_a_snapshot_comes_back_as_it_went_in(ebs, ec2):
    started = ebs.start_snapshot(
        VolumeSize=1, Description="a disk", Tags=[{"Key": "name", "Value": "web"}, {"Key": "empty", "Value": ""}], Timeout=10
    )
    snapshot = started["SnapshotId"]
    assert started["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert started["Status"] == "pending"
    assert started["VolumeSize"] == 1
    assert started["BlockSize"] == BLOCK_SIZE
    assert started["Description"] == "a disk"
    assert started["Tags"] == [{"Key": "name", "Value": "web"}, {"Key": "empty", "Value": ""}]
    assert len(started["OwnerId"]) == 12
    age = datetime.datetime.now(datetime.timezone.utc) - started["StartTime"]
    assert abs(age.total_seconds()) < 60

    answer = put(ebs, snapshot, 0, A, Progress=50)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert answer["Checksum"] == checksum(A)
    assert answer["ChecksumAlgorithm"] == "SHA256"
    put(ebs, snapshot, 2047, B)
    put(ebs, snapshot, 5, Z)

    pending = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert (pending["State"], pending["Progress"], pending["VolumeId"]) == ("pending", "0%", "vol-ffffffff")
    assert "CompletionTime" not in pending

    done = complete(ebs, ec2, snapshot, 3)
    assert (done["State"], done["Progress"]) == ("completed", "100%")
    assert done["FullSnapshotSizeInBytes"] == 3 * BLOCK_SIZE
    assert done["StartTime"] == started["StartTime"]
    assert done["CompletionTime"] >= done["StartTime"]
    assert done["OwnerId"] == started["OwnerId"]
    assert done["VolumeSize"] == 1
    assert done["Description"] == "a disk"
    assert not done["Encrypted"]
    assert sorted((t["Key"], t["Value"]) for t in done["Tags"]) == [("empty", ""), ("name", "web")]

    assert read_all(ebs, snapshot) == {0: A, 5: Z, 2047: B}


def test_waiter_snapshot_completed(ebs, ec2):
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(ebs, snapshot, 0, A)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 1, "MaxAttempts": 30})


def test_members_without_a_value_are_explicit_nulls(server):
    reply = server.signed("POST", "/snapshots", {"Content-Type": "application/json"}, b'{"VolumeSize":1}')
    assert reply.status == 201
    assert list(reply.json) == sorted(reply.json)
    assert b" " not in reply.body
    for name in ["Description", "KmsKeyArn", "ParentSnapshotId", "SseType", "Tags"]:
        assert reply.json[name] is None
    assert isinstance(reply.json["StartTime"], float)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-amzn-requestid"]


def test_volume_without_blocks(ebs, ec2):
    snapshot = make(ebs, ec2, {})
    page = ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert page["Blocks"] == []
    assert page["VolumeSize"] == 1
    assert page.get("NextToken") is None
    assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["FullSnapshotSizeInBytes"] == 0


def test_last_write_of_an_index_wins_and_counts_once(ebs, ec2):
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    for data in [A, A, Z, B]:
        put(ebs, snapshot, 7, data)
    assert complete(ebs, ec2, snapshot, 1)["State"] == "completed"
    assert read_all(ebs, snapshot) == {7: B}


def test_child_inherits_grows_and_outlives_its_parent(ebs, ec2):
    parent = make(ebs, ec2, {0: A, 1: B, 2: A})
    child = make(ebs, ec2, {1: Z, 2048: B}, size=2, ParentSnapshotId=parent)
    assert read_all(ebs, child) == {0: A, 1: Z, 2: A, 2048: B}
    assert ebs.list_snapshot_blocks(SnapshotId=child)["VolumeSize"] == 2
    assert ec2.describe_snapshots(SnapshotIds=[child])["Snapshots"][0]["FullSnapshotSizeInBytes"] == 4 * BLOCK_SIZE

    ec2.delete_snapshot(SnapshotId=parent)
    assert refused(ebs.list_snapshot_blocks, SnapshotId=parent).status == 404
    assert read_all(ebs, child) == {0: A, 1: Z, 2: A, 2048: B}


def test_changes_are_differences_of_content(ebs, ec2):
    parent = make(ebs, ec2, {0: A, 1: B, 2: A})
    child = make(ebs, ec2, {0: A, 1: Z, 3: B}, ParentSnapshotId=parent)  # index 0 rewritten with what it was

    changed = list_changed(ebs, parent, child)
    assert [e["BlockIndex"] for e in changed] == [1, 3]
    assert get(ebs, parent, 1, changed[0]["FirstBlockToken"]) == B
    assert get(ebs, child, 1, changed[0]["SecondBlockToken"]) == Z
    assert "FirstBlockToken" not in changed[1]
    assert get(ebs, child, 3, changed[1]["SecondBlockToken"]) == B

    back = list_changed(ebs, child, parent)
    assert [e["BlockIndex"] for e in back] == [1, 3]
    assert "SecondBlockToken" not in back[1]
    assert list_changed(ebs, child, child) == []
    assert [e["BlockIndex"] for e in list_changed(ebs, parent, child, StartingBlockIndex=2)] == [3]


def test_siblings_compare_even_when_their_parent_is_deleted(ebs, ec2):
    parent = make(ebs, ec2, {0: A})
    left = make(ebs, ec2, {1: A}, ParentSnapshotId=parent)
    right = make(ebs, ec2, {1: B, 2: B}, ParentSnapshotId=parent)
    ec2.delete_snapshot(SnapshotId=parent)
    assert [e["BlockIndex"] for e in list_changed(ebs, left, right)] == [1, 2]


def test_listings_come_in_pages(ebs, ec2):
    indexes = list(range(0, 2000, 8))  # 250 blocks with holes between them
    parent = make(ebs, ec2, {i: A for i in indexes})
    child = make(ebs, ec2, {i: B for i in indexes}, ParentSnapshotId=parent)

    first = ebs.list_snapshot_blocks(SnapshotId=parent, MaxResults=100)
    assert [e["BlockIndex"] for e in first["Blocks"]] == indexes[:100]
    second = ebs.list_snapshot_blocks(
        SnapshotId=parent, MaxResults=120, NextToken=first["NextToken"], StartingBlockIndex=1999
    )
    assert [e["BlockIndex"] for e in second["Blocks"]] == indexes[100:220]
    assert [e["BlockIndex"] for e in list_blocks(ebs, parent, MaxResults=100)] == indexes
    assert [e["BlockIndex"] for e in list_blocks(ebs, parent)] == indexes
    assert [e["BlockIndex"] for e in list_blocks(ebs, parent, StartingBlockIndex=1601)] == [i for i in indexes if i >= 1601]
    past = ebs.list_snapshot_blocks(SnapshotId=parent, StartingBlockIndex=100000)
    assert (past["Blocks"], past.get("NextToken")) == ([], None)

    assert [e["BlockIndex"] for e in list_changed(ebs, parent, child, MaxResults=100)] == indexes


def test_deleted_is_gone_at_once(ebs, ec2):
    done = make(ebs, ec2, {0: A})
    token = list_blocks(ebs, done)[0]["BlockToken"]
    pending = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(ebs, pending, 0, A)
    for snapshot in [done, pending]:
        answer = ec2.delete_snapshot(SnapshotId=snapshot)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        again = refused(ec2.delete_snapshot, SnapshotId=snapshot)
        assert (again.status, again.code) == (400, "InvalidSnapshot.NotFound")
        assert refused(ec2.describe_snapshots, SnapshotIds=[snapshot]).code == "InvalidSnapshot.NotFound"
        assert refused(put, ebs, snapshot, 0, A).status == 404
        assert refused(ebs.complete_snapshot, SnapshotId=snapshot, ChangedBlocksCount=1).status == 404
    assert refused(ebs.get_snapshot_block, SnapshotId=done, BlockIndex=0, BlockToken=token).status == 404
    assert refused(ebs.start_snapshot, VolumeSize=1, ParentSnapshotId=done).status == 404
