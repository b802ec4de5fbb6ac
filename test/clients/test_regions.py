"""Several regions on one server. Spec: ebs-direct §1.1, §2.5, §3; ec2-snapshots §5."""

import json
import re
import subprocess

import pytest
from botocore.config import Config

from harness import A, B, SHALE, Server, get, list_blocks, make, put, read_all, refused, settled

FIRST, SECOND, UNSERVED = "us-east-1", "eu-west-1", "eu-central-1"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("regions") / "data", "--anonymous", "--region", FIRST, "--region", SECOND)
    yield server
    assert server.stop() == 0


def client(server, service, region):
    return server.session().client(service, region_name=region, config=Config(retries={"max_attempts": 0}))


@pytest.fixture
def here(world):
    return client(world, "ebs", FIRST), client(world, "ec2", FIRST)


@pytest.fixture
def there(world):
    return client(world, "ebs", SECOND), client(world, "ec2", SECOND)


def owned(ec2):
    return {s["SnapshotId"] for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}


def test_a_snapshot_is_in_one_region(world, here, there):
    (ebs, ec2), (far, far2) = here, there
    ours, theirs, opened = make(ebs, ec2, {0: A}), make(far, far2, {0: B}), ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    assert {ours, opened} <= owned(ec2) and theirs not in owned(ec2)
    assert theirs in owned(far2) and not {ours, opened} & owned(far2)
    token = list_blocks(ebs, ours)[0]["BlockToken"]
    assert get(ebs, ours, 0, token) == A
    for e in (
        refused(far.get_snapshot_block, SnapshotId=ours, BlockIndex=0, BlockToken=token),
        refused(far.list_snapshot_blocks, SnapshotId=ours),
        refused(far.list_changed_blocks, FirstSnapshotId=ours, SecondSnapshotId=theirs),
        refused(put, far, opened, 0, A),
        refused(far.complete_snapshot, SnapshotId=opened, ChangedBlocksCount=0),
        refused(far.start_snapshot, VolumeSize=1, ParentSnapshotId=ours),
    ):
        assert (e.status, e.reason) == (404, "SNAPSHOT_NOT_FOUND")
    for e in (
        refused(far2.describe_snapshots, SnapshotIds=[ours]),
        refused(far2.delete_snapshot, SnapshotId=ours),
        refused(far2.create_tags, Resources=[ours], Tags=[{"Key": "a", "Value": "b"}]),
        refused(far2.modify_snapshot_attribute, SnapshotId=ours, CreateVolumePermission={"Add": [{"UserId": "444455556666"}]}),
    ):
        assert e.code == "InvalidSnapshot.NotFound"


def test_client_tokens_are_apart(here, there):
    (ebs, _), (far, _) = here, there
    first = ebs.start_snapshot(VolumeSize=1, ClientToken="same")["SnapshotId"]
    other = far.start_snapshot(VolumeSize=2, ClientToken="same")["SnapshotId"]
    assert first != other
    assert ebs.start_snapshot(VolumeSize=1, ClientToken="same")["SnapshotId"] == first
    assert far.start_snapshot(VolumeSize=2, ClientToken="same")["SnapshotId"] == other


def test_settings_and_default_keys_are_apart(here, there):
    (ebs, ec2), (far, far2) = here, there
    far2.enable_ebs_encryption_by_default()
    try:
        assert not ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"]
        assert ebs.start_snapshot(VolumeSize=1).get("KmsKeyArn") is None
        assert far.start_snapshot(VolumeSize=1)["KmsKeyArn"].startswith(f"arn:aws:kms:{SECOND}:")
    finally:
        far2.disable_ebs_encryption_by_default()
    assert ebs.start_snapshot(VolumeSize=1, Encrypted=True)["KmsKeyArn"].startswith(f"arn:aws:kms:{FIRST}:")


def test_copies_from_region_to_region(world, here, there):
    (ebs, ec2), (far, far2) = here, there
    key = client(world, "kms", SECOND).create_key()["KeyMetadata"]["Arn"]
    for start in ({}, {"Encrypted": True}):
        source = make(ebs, ec2, {0: A, 5: B}, **start)
        for args in ({}, {"Encrypted": True}, {"Encrypted": True, "KmsKeyId": key}):
            made = far2.copy_snapshot(SourceRegion=FIRST, SourceSnapshotId=source, **args)["SnapshotId"]
            found = settled(far2, made)
            assert found["State"] == "completed", found
            assert made not in owned(ec2)
            assert found["Encrypted"] == bool(start or args)
            if found["Encrypted"]:
                assert found["KmsKeyId"].startswith(f"arn:aws:kms:{SECOND}:")
                assert (found["KmsKeyId"] == key) == ("KmsKeyId" in args)
            assert read_all(far, made) == {0: A, 5: B}
        ec2.delete_snapshot(SnapshotId=source)
        assert read_all(far, made) == {0: A, 5: B}


def test_keys_of_another_region(world, here, there):
    (ebs, ec2), (_, far2) = here, there
    foreign = client(world, "kms", SECOND).create_key()["KeyMetadata"]["Arn"]
    e = refused(ebs.start_snapshot, VolumeSize=1, KmsKeyArn=foreign)
    assert (e.status, e.code, e.reason) == (400, "ValidationException", "INVALID_CUSTOMER_KEY")
    source = make(ebs, ec2, {0: A})
    found = settled(ec2, ec2.copy_snapshot(SourceRegion=FIRST, SourceSnapshotId=source, Encrypted=True, KmsKeyId=foreign)["SnapshotId"])
    assert (found["State"], found["StateMessage"]) == ("error", "Given key ID is not accessible")
    e = refused(client(world, "kms", FIRST).describe_key, KeyId=foreign)
    assert e.code == "NotFoundException"


def test_copies_that_name_the_wrong_region(here, there):
    (ebs, ec2), (_, far2) = here, there
    source = make(ebs, ec2, {0: A})
    for region in (SECOND, UNSERVED):  # it is in neither
        found = settled(far2, far2.copy_snapshot(SourceRegion=region, SourceSnapshotId=source)["SnapshotId"])
        assert (found["State"], found["StateMessage"]) == ("error", "Source snapshot is not found")
    e = refused(far2.copy_snapshot, SourceRegion="mars", SourceSnapshotId=source)
    assert (e.code, e.message) == ("InvalidRegion", "mars is not a valid region name")


def test_a_destination_that_is_another(world, here):
    source = make(*here, {0: A})
    form = f"Action=CopySnapshot&SourceRegion={FIRST}&SourceSnapshotId={source}&DestinationRegion={FIRST}".encode()
    reply = world.signed("POST", "/", {"content-type": "application/x-www-form-urlencoded"}, form, service="ec2", region=SECOND)
    assert reply.status == 400 and b"DestinationRegion 'us-east-1' does not match the current region (eu-west-1)." in reply.body


def test_a_region_that_is_not_served(world):
    e = refused(client(world, "ebs", UNSERVED).start_snapshot, VolumeSize=1)
    assert (e.status, e.code) == (403, "InvalidSignatureException")
    e = refused(client(world, "ec2", UNSERVED).describe_snapshots)
    assert (e.status, e.code) == (403, "SignatureDoesNotMatch")


def test_plain_by_the_host(world, here, there):
    ours, theirs = make(*here, {0: A}), make(*there, {0: A})

    def listed(host):
        reply = world.plain("GET", "/snapshots?limit=1000", headers={"host": host})
        assert reply.status == 200, reply
        return {s["id"] for s in reply.json["data"]["snapshots"]}

    default, second = listed("127.0.0.1"), listed(f"ebs.{SECOND}.localhost")
    assert ours in default and ours not in second and theirs in second and theirs not in default
    assert default == listed(f"ebs.{FIRST}.localhost")
    assert world.plain("GET", f"/snapshots/{ours}", headers={"host": f"ebs.{SECOND}.localhost"}).status == 404
    assert world.plain("GET", "/snapshots", headers={"host": f"ebs.{UNSERVED}.localhost"}).status == 400


def test_the_command_line(world, there, tmp_path):
    _, far2 = there
    (tmp_path / "image").write_bytes(A + B)
    done = subprocess.run(
        [SHALE, "upload", str(tmp_path / "image"), "--region", SECOND, "--json"], env=world.env(), capture_output=True, text=True, check=True
    )
    snapshot = json.loads(done.stdout)["snapshot_id"]
    assert snapshot in owned(far2)
    subprocess.run([SHALE, "download", snapshot, str(tmp_path / "back"), "--region", SECOND], env=world.env(), check=True)
    assert (tmp_path / "back").read_bytes() == A + B
    found = world.aws("ec2", "describe-snapshots", "--region", SECOND, "--snapshot-ids", snapshot)
    assert found["Snapshots"][0]["SnapshotId"] == snapshot


def test_the_usage_of_each_region(world, here, there):
    make(*here, {0: A})
    make(*there, {0: A})
    done = subprocess.run([SHALE, "stats", "--data-dir", world.data_dir, "--json"], capture_output=True, text=True, check=True)
    regions = {a["region"]: a for a in json.loads(done.stdout)["accounts"] if a["name"] == "default"}
    assert set(regions) == {FIRST, SECOND}
    assert all(a["completed_snapshots"] and a["full_bytes"] for a in regions.values())


def test_a_region_that_is_served_no_more(tmp_path):
    server = Server(tmp_path / "data", "--region", FIRST, "--region", SECOND)
    snapshot = make(client(server, "ebs", SECOND), client(server, "ec2", SECOND), {0: A})
    assert server.stop() == 0
    server.flags = ("--region", FIRST)
    server.start()
    assert re.search(rf"level=WARN msg=\"a region of the folder is not served.*region={SECOND} snapshots=1\n", server.log.read_text())
    assert owned(client(server, "ec2", FIRST)) == set()
    assert server.stop() == 0
    server.flags = ("--region", SECOND)
    server.start()
    assert read_all(server.client("ebs"), snapshot) == {0: A}  # the profile has the first region
    assert server.stop() == 0


@pytest.mark.parametrize("names, words", [(["a", "a"], "is given twice"), (["EU"], "lower-case letters"), (["a.b"], "lower-case letters"), ([""], "lower-case")])
def test_names_that_are_refused(tmp_path, names, words):
    with pytest.raises(RuntimeError, match=words):
        Server(tmp_path / "data", *(f"--region={n}" for n in names))
