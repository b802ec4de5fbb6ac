"""Encrypted snapshots, with boto3. Spec: ebs-direct §6, ec2-snapshots §2."""

import base64
import hashlib
from pathlib import Path

import pytest

from harness import A, B, Z, aggregate, checksum, complete, put, refused


@pytest.fixture(scope="module")
def kms(server):
    return server.client("kms")


@pytest.fixture
def key(kms):
    return kms.create_key()["KeyMetadata"]["Arn"]


def read(ebs, snapshot):
    """All blocks of a snapshot by index, each held against its checksum."""
    found = {}
    for b in ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]:
        got = ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=b["BlockIndex"], BlockToken=b["BlockToken"])
        data = got["BlockData"].read()
        assert got["Checksum"] == checksum(data)
        found[b["BlockIndex"]] = data
    return found


def written(ebs, ec2, blocks, **start):
    """A completed snapshot with the blocks, verified by their aggregate."""
    snapshot = ebs.start_snapshot(**{"VolumeSize": 1, **start})["SnapshotId"]
    for index, data in blocks.items():
        put(ebs, snapshot, index, data)
    trio = dict(
        Checksum=aggregate([blocks[i] for i in sorted(blocks)]), ChecksumAlgorithm="SHA256", ChecksumAggregationMethod="LINEAR"
    )
    assert complete(ebs, ec2, snapshot, len(blocks), **trio)["State"] == "completed"
    return snapshot


def test_encrypted_snapshot_and_child(ebs, ec2, key):
    parent = written(ebs, ec2, {0: A, 5: Z, 2047: B}, KmsKeyArn=key)
    child = written(ebs, ec2, {5: B}, ParentSnapshotId=parent)
    assert read(ebs, parent) == {0: A, 5: Z, 2047: B}
    assert read(ebs, child) == {0: A, 5: B, 2047: B}
    changed = ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)["ChangedBlocks"]
    assert [c["BlockIndex"] for c in changed] == [5]
    for s in ec2.describe_snapshots(SnapshotIds=[parent, child])["Snapshots"]:
        assert (s["Encrypted"], s["KmsKeyId"]) == (True, key)


def test_default_key(ebs, kms):
    arn = ebs.start_snapshot(VolumeSize=1, Encrypted=True)["KmsKeyArn"]
    assert kms.describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]["Arn"] == arn


def test_key_that_is_disabled_and_enabled_again(ebs, ec2, kms, key):
    snapshot = written(ebs, ec2, {0: A}, KmsKeyArn=key)
    pending = ebs.start_snapshot(VolumeSize=1, KmsKeyArn=key)["SnapshotId"]
    token = ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"][0]["BlockToken"]
    calls = {
        "get": lambda: ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=token),
        "put": lambda: put(ebs, pending, 0, A),
        "start": lambda: ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=snapshot),
        "start with the key": lambda: ebs.start_snapshot(VolumeSize=1, KmsKeyArn=key),
    }
    kms.disable_key(KeyId=key)
    for name, call in calls.items():
        e = refused(call)
        assert (e.status, e.code, e.reason) == (400, "ValidationException", "INVALID_DEPENDENCY_REQUEST"), name
        assert "DisabledException" in e.message
    assert len(ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]) == 1
    kms.enable_key(KeyId=key)
    for call in calls.values():
        call()


def test_restart(fresh):
    ebs, ec2, kms = fresh.client("ebs"), fresh.client("ec2"), fresh.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    snapshot = written(ebs, ec2, {3: A}, KmsKeyArn=key)
    fresh.restart()
    ebs = fresh.client("ebs")
    assert read(ebs, snapshot) == {3: A}


def test_nothing_plain_in_the_folder(fresh):
    """Neither the bytes of an encrypted block, nor their digest in any form; of a plain one both are found."""
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    data = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(16384))
    digest = hashlib.sha256(data).digest()
    needles = [data[i : i + 32] for i in (0, 1000, 262144, 524256)]
    needles += [digest, digest.hex().encode(), base64.b64encode(digest)]

    def found():
        files = [p.read_bytes() for p in Path(fresh.data_dir).rglob("*") if p.is_file()]
        return [any(n in f for f in files) for n in needles]

    written(ebs, ec2, {0: data}, Encrypted=True)
    fresh.restart()
    assert not any(found())
    written(fresh.client("ebs"), fresh.client("ec2"), {0: data})
    fresh.restart()
    assert found()[:5] == [True] * 5
