"""Sharing snapshots between two accounts. Spec: ec2-snapshots §2, §4, §6; ebs-direct §2.5, §8.2."""

import threading

import pytest
from botocore.exceptions import ClientError

from harness import A, B, C, get, list_blocks, list_changed, make, put, read_all, refused

CVP = "createVolumePermission"


@pytest.fixture(scope="module")
def number(server):
    """The number of the other account."""
    return server.account("sharing")


@pytest.fixture(scope="module")
def ec2_other(server, number):
    return server.client("ec2", "sharing", parameter_validation=False)


@pytest.fixture(scope="module")
def ebs_other(server, number):
    return server.client("ebs", "sharing")


@pytest.fixture
def snapshot(ebs, ec2):
    return make(ebs, ec2, {0: A, 1: B}, Tags=[{"Key": "mine", "Value": "1"}])


def share(ec2, snapshot, *users, group=None):
    items = [{"UserId": u} for u in users] + ([{"Group": group}] if group else [])
    ec2.modify_snapshot_attribute(SnapshotId=snapshot, CreateVolumePermission={"Add": items})


def unshare(ec2, snapshot, *users, group=None):
    items = [{"UserId": u} for u in users] + ([{"Group": group}] if group else [])
    ec2.modify_snapshot_attribute(SnapshotId=snapshot, CreateVolumePermission={"Remove": items})


def grantees(ec2, snapshot):
    found = ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute=CVP)
    return [p.get("UserId") or p["Group"] for p in found["CreateVolumePermissions"]]


def ids(ec2, **selectors):
    pages = ec2.get_paginator("describe_snapshots").paginate(**selectors, PaginationConfig={"PageSize": 5})
    return {s["SnapshotId"] for page in pages for s in page["Snapshots"]}


def test_attribute(ec2, snapshot, number):
    assert grantees(ec2, snapshot) == []
    share(ec2, snapshot, number, "222233334444", number)
    ec2.modify_snapshot_attribute(
        SnapshotId=snapshot, Attribute=CVP, OperationType="add", UserIds=["333344445555"], GroupNames=["all"]
    )
    assert grantees(ec2, snapshot) == ["all", *sorted([number, "222233334444", "333344445555"])]
    ec2.modify_snapshot_attribute(SnapshotId=snapshot, Attribute=CVP, OperationType="remove", GroupNames=["all"])
    unshare(ec2, snapshot, "222233334444", "999999999999")
    assert grantees(ec2, snapshot) == sorted([number, "333344445555"])
    ec2.reset_snapshot_attribute(SnapshotId=snapshot, Attribute=CVP)
    assert grantees(ec2, snapshot) == []
    assert ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="productCodes")["ProductCodes"] == []


def test_who_sees_it(ec2, ec2_other, snapshot, number):
    own = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["OwnerId"]
    assert refused(ec2_other.describe_snapshots, SnapshotIds=[snapshot]).code == "InvalidSnapshot.NotFound"
    share(ec2, snapshot, number)
    found = ec2_other.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert found["OwnerId"] == own and "Tags" not in found
    for seen, selectors in [
        (True, {}),
        (False, {"OwnerIds": ["self"]}),
        (True, {"OwnerIds": [own]}),
        (True, {"RestorableByUserIds": ["self"]}),
        (True, {"RestorableByUserIds": [number]}),
        (False, {"RestorableByUserIds": [own]}),
        (False, {"RestorableByUserIds": ["all"]}),
        (True, {"Filters": [{"Name": "owner-id", "Values": [own]}]}),
        (False, {"Filters": [{"Name": "tag:mine", "Values": ["*"]}]}),
    ]:
        assert (snapshot in ids(ec2_other, **selectors)) == seen, selectors
    assert snapshot in ids(ec2, RestorableByUserIds=[number])
    assert snapshot not in ids(ec2, RestorableByUserIds=["222233334444"])
    ec2.delete_snapshot(SnapshotId=snapshot)
    assert refused(ec2_other.describe_snapshots, SnapshotIds=[snapshot]).code == "InvalidSnapshot.NotFound"


def test_tags_are_per_account(ec2, ec2_other, snapshot, number):
    share(ec2, snapshot, number)
    ec2_other.create_tags(Resources=[snapshot], Tags=[{"Key": "mine", "Value": "2"}, {"Key": "theirs"}])
    mine, theirs = ({"Key": "mine", "Value": v} for v in "12")
    assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"] == [mine]
    assert ec2_other.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"] == [theirs, {"Key": "theirs", "Value": ""}]

    unshare(ec2, snapshot, number)
    assert refused(ec2_other.create_tags, Resources=[snapshot], Tags=[{"Key": "k"}]).code == "InvalidSnapshot.NotFound"
    by_id = [{"Name": "resource-id", "Values": [snapshot]}]
    assert [t["Key"] for t in ec2_other.describe_tags(Filters=by_id)["Tags"]] == ["mine", "theirs"]
    ec2_other.delete_tags(Resources=[snapshot])
    assert ec2_other.describe_tags(Filters=by_id)["Tags"] == []
    assert [t["Value"] for t in ec2.describe_tags(Filters=by_id)["Tags"]] == ["1"]


def test_reading_blocks(ebs, ec2, ebs_other, ec2_other, number):
    parent = make(ebs, ec2, {0: A})
    child = make(ebs, ec2, {1: B}, ParentSnapshotId=parent)
    token = list_blocks(ebs, child)[0]["BlockToken"]
    assert refused(ebs_other.list_snapshot_blocks, SnapshotId=child).code == "ResourceNotFoundException"
    share(ec2, child, number)
    assert read_all(ebs_other, child) == {0: A, 1: B}
    assert get(ebs_other, child, 0, token) == A
    for first, second in [(parent, child), (child, parent)]:
        found = refused(ebs_other.list_changed_blocks, FirstSnapshotId=first, SecondSnapshotId=second)
        assert (found.code, found.reason) == ("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
    share(ec2, parent, number)
    assert [b["BlockIndex"] for b in list_changed(ebs_other, parent, child)] == [1]
    own = make(ebs_other, ec2_other, {0: A})
    found = refused(ebs_other.list_changed_blocks, FirstSnapshotId=own, SecondSnapshotId=child)
    assert found.reason == "UNRELATED_SNAPSHOTS"

    unshare(ec2, child, number)
    found = refused(ebs_other.get_snapshot_block, SnapshotId=child, BlockIndex=0, BlockToken=token)
    assert (found.status, found.reason) == (404, "SNAPSHOT_NOT_FOUND")
    share(ec2, child, number)
    assert get(ebs_other, child, 0, token) == A


def test_writing_is_the_owners(ebs, ec2, ebs_other, ec2_other, snapshot, number):
    pending = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    for each in [pending, snapshot]:
        share(ec2, each, number, group="all")
    for call, args in [
        (put, (ebs_other, pending, 0, C)),
        (ebs_other.complete_snapshot, {"SnapshotId": pending, "ChangedBlocksCount": 0}),
        (ebs_other.start_snapshot, {"VolumeSize": 1, "ParentSnapshotId": snapshot}),
        (ebs_other.list_snapshot_blocks, {"SnapshotId": pending}),
    ]:
        found = refused(call, **args) if isinstance(args, dict) else refused(call, *args)
        assert (found.status, found.reason) == (404, "SNAPSHOT_NOT_FOUND"), call
    for call, args in [
        (ec2_other.delete_snapshot, {}),
        (ec2_other.modify_snapshot_attribute, {"CreateVolumePermission": {"Remove": [{"Group": "all"}]}}),
        (ec2_other.describe_snapshot_attribute, {"Attribute": CVP}),
        (ec2_other.reset_snapshot_attribute, {"Attribute": CVP}),
    ]:
        assert refused(call, SnapshotId=snapshot, **args).code == "InvalidSnapshot.NotFound", call
    assert grantees(ec2, snapshot) == ["all", number]


def test_public(fresh):
    number = fresh.account("reader")
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    ebs_other, ec2_other = fresh.client("ebs", "reader"), fresh.client("ec2", "reader")
    snapshot = make(ebs, ec2, {0: A})
    share(ec2, snapshot, number, group="all")
    assert ids(ec2_other) == ids(ec2_other, RestorableByUserIds=["all"]) == {snapshot}
    found = refused(ebs_other.list_snapshot_blocks, SnapshotId=snapshot)
    assert (found.status, found.reason, found.message) == (400, "INVALID_SNAPSHOT_ID", "Public snapshots are not supported")
    assert read_all(ebs, snapshot) == {0: A}

    state = {"State": "unblocked", "ManagedBy": "account"}
    assert ec2.get_snapshot_block_public_access_state().items() >= state.items()
    assert ec2.enable_snapshot_block_public_access(State="block-new-sharing")["State"] == "block-new-sharing"
    assert ids(ec2_other, RestorableByUserIds=["all"]) == {snapshot}
    more = make(ebs, ec2, {})
    found = refused(share, ec2, more, group="all")
    assert (found.code, found.message) == ("OperationNotPermitted", "Public sharing of snapshots is blocked for this account.")
    share(ec2, more, number)

    ec2.enable_snapshot_block_public_access(State="block-all-sharing")
    fresh.restart()
    ebs, ec2 = fresh.client("ebs"), fresh.client("ec2")
    ebs_other, ec2_other = fresh.client("ebs", "reader"), fresh.client("ec2", "reader")
    assert ec2.get_snapshot_block_public_access_state()["State"] == "block-all-sharing"
    assert ids(ec2_other, RestorableByUserIds=["all"]) == set()
    assert grantees(ec2, snapshot) == ["all", number]
    assert ids(ec2_other) == {snapshot, more}, "what is shared with the account itself stays"
    assert read_all(ebs_other, snapshot) == {0: A}
    unshare(ec2, snapshot, number)
    assert refused(ebs_other.list_snapshot_blocks, SnapshotId=snapshot).status == 404
    assert ec2.disable_snapshot_block_public_access()["State"] == "unblocked"
    assert refused(ebs_other.list_snapshot_blocks, SnapshotId=snapshot).reason == "INVALID_SNAPSHOT_ID"


def test_revoked_under_a_reader(ebs, ec2, ebs_other, snapshot, number):
    """Reads end when the revocation has been answered; none gives other bytes."""
    share(ec2, snapshot, number)
    token = list_blocks(ebs_other, snapshot)[0]["BlockToken"]
    revoked, seen = threading.Event(), []

    def read():
        while True:
            last = revoked.is_set()
            try:
                seen.append((last, get(ebs_other, snapshot, 0, token)))
            except ClientError as e:
                seen.append((last, e.response["Error"]["Code"]))
            if last:
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for r in readers:
        r.start()
    while not seen:
        pass
    unshare(ec2, snapshot, number)
    revoked.set()
    for r in readers:
        r.join()
    assert {what for last, what in seen} <= {A, "ResourceNotFoundException"}
    assert {what for last, what in seen if last} == {"ResourceNotFoundException"}


@pytest.mark.parametrize(
    "args, code",
    [
        ({}, "InvalidParameterCombination"),
        ({"CreateVolumePermission": {"Add": [{"UserId": "1"}]}}, "InvalidAMIAttributeItemValue"),
        ({"CreateVolumePermission": {"Add": [{"Group": "none"}]}}, "InvalidAMIAttributeItemValue"),
        ({"CreateVolumePermission": {"Add": [{"Group": "all"}], "Remove": [{"Group": "all"}]}}, "InvalidParameterCombination"),
        ({"CreateVolumePermission": {"Add": [{"UserId": "222233334444"}] * 501}}, "InvalidParameterValue"),
        ({"Attribute": "productCodes", "OperationType": "add", "UserIds": ["222233334444"]}, "InvalidParameterValue"),
        ({"Attribute": CVP, "UserIds": ["222233334444"]}, "InvalidParameterCombination"),
        ({"OperationType": "add", "UserIds": ["222233334444"]}, "MissingParameter"),
    ],
    ids=["nothing", "account", "group", "both", "501", "attribute", "no operation", "no attribute"],
)
def test_refused(ec2, snapshot, args, code):
    found = refused(ec2.modify_snapshot_attribute, SnapshotId=snapshot, **args)
    assert (found.status, found.code) == (400, code), found
    assert grantees(ec2, snapshot) == []


def test_five_hundred(ec2, snapshot):
    many = [f"{i:012}" for i in range(500)]
    share(ec2, snapshot, *many)
    assert grantees(ec2, snapshot) == many
    unshare(ec2, snapshot, *many[:-1])
    assert grantees(ec2, snapshot) == many[-1:]


def test_cli(server, snapshot, number):
    modify = ["ec2", "modify-snapshot-attribute", "--snapshot-id", snapshot, "--attribute", CVP, "--operation-type"]
    server.aws(*modify, "add", "--user-ids", number)
    found = server.aws("ec2", "describe-snapshots", "--snapshot-ids", snapshot, profile="sharing")
    assert [s["SnapshotId"] for s in found["Snapshots"]] == [snapshot]
    found = server.aws("ec2", "describe-snapshot-attribute", "--snapshot-id", snapshot, "--attribute", CVP)
    assert found["CreateVolumePermissions"] == [{"UserId": number}]
    server.aws(*modify, "remove", "--user-ids", number)
    found = server.aws("ec2", "describe-snapshots", "--restorable-by-user-ids", "self", profile="sharing")
    assert snapshot not in [s["SnapshotId"] for s in found["Snapshots"]]
    assert server.aws("ec2", "get-snapshot-block-public-access-state")["State"] == "unblocked"


def test_accounts_across_restarts(fresh):
    """Accounts are added while the server runs and while it does not; each start tells them all where it is."""
    fresh.account("first")
    url = fresh.url
    assert fresh.stop() == 0
    number = fresh.account("second")
    fresh.start()
    assert fresh.url != url
    for profile in [None, "first", "second"]:
        assert fresh.client("ec2", profile).describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    snapshot = fresh.client("ebs", "second").start_snapshot(VolumeSize=1)
    assert snapshot["OwnerId"] == number
    assert fresh.aws("ec2", "describe-snapshots", "--owner-ids", "self", profile="first")["Snapshots"] == []
