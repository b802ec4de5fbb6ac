"""DescribeSnapshots and DeleteSnapshot. Spec: ec2-snapshots §1–§3."""

import uuid
import xml.etree.ElementTree as ElementTree

import pytest

from harness import A, make, refused

UNKNOWN = "snap-0123456789abcdef0"
NAMESPACE = "{http://ec2.amazonaws.com/doc/2016-11-15/}"


def ids(answer):
    return [s["SnapshotId"] for s in answer["Snapshots"]]


@pytest.fixture(scope="module")
def mark():
    """A tag value that only this module's snapshots have."""
    return str(uuid.uuid4())


@pytest.fixture(scope="module")
def some(ebs, ec2, mark):
    """One snapshot in each state, and a few more pending ones."""
    tags = [{"Key": "suite", "Value": mark}]
    found = {
        "completed": make(ebs, ec2, {0: A}, Tags=tags, Description="first disk"),
        "pending": ebs.start_snapshot(VolumeSize=2, Tags=[*tags, {"Key": "extra", "Value": "x*y"}])["SnapshotId"],
        "error": ebs.start_snapshot(VolumeSize=1, Tags=tags, Description="second disk")["SnapshotId"],
    }
    ebs.complete_snapshot(SnapshotId=found["error"], ChangedBlocksCount=5)
    while ebs.complete_snapshot(SnapshotId=found["error"], ChangedBlocksCount=5)["Status"] == "pending":
        pass
    for i in range(9):
        found[i] = ebs.start_snapshot(VolumeSize=3, Tags=tags)["SnapshotId"]
    return found


def test_by_id(ec2, some):
    wanted = [some["error"], some["completed"]]
    assert sorted(ids(ec2.describe_snapshots(SnapshotIds=wanted))) == sorted(wanted)


@pytest.mark.parametrize(
    "filters, expected",
    [
        ({"status": ["completed"]}, ["completed"]),
        ({"status": ["completed", "error"]}, ["completed", "error"]),
        ({"status": ["error"], "description": ["second*"]}, ["error"]),
        ({"description": ["first disk"]}, ["completed"]),
        ({"description": ["?????? disk"]}, ["error"]),
        ({"description": ["First disk"]}, []),
        ({"tag:extra": ["x\\*y"]}, ["pending"]),
        ({"tag:extra": ["x\\?y"]}, []),
        ({"tag:extra": ["x*"]}, ["pending"]),
        ({"tag-key": ["extra"]}, ["pending"]),
        ({"volume-size": ["2"]}, ["pending"]),
        ({"progress": ["100%"]}, ["completed"]),
        ({"encrypted": ["true"]}, []),
        ({"volume-id": ["vol-ffffffff"], "status": ["completed"]}, ["completed"]),
        ({"storage-tier": ["standard"], "status": ["error"]}, ["error"]),
        ({"snapshot-id": [UNKNOWN]}, []),
    ],
    ids=str,
)
def test_filters(ec2, some, mark, filters, expected):
    filters = [{"Name": name, "Values": values} for name, values in {"tag:suite": [mark], **filters}.items()]
    assert sorted(ids(ec2.describe_snapshots(Filters=filters))) == sorted(some[name] for name in expected)


def test_owner(ec2, some, mark):
    filters = [{"Name": "tag:suite", "Values": [mark]}]
    own = ec2.describe_snapshots(Filters=filters)["Snapshots"][0]["OwnerId"]
    for owner in ["self", own]:
        assert len(ids(ec2.describe_snapshots(OwnerIds=[owner], Filters=filters))) == len(some)
    for owner in ["999999999999", "amazon"]:
        assert ids(ec2.describe_snapshots(OwnerIds=[owner], Filters=filters)) == []


def test_pages(ec2, some, mark):
    filters = [{"Name": "tag:suite", "Values": [mark]}]
    whole = ids(ec2.describe_snapshots(Filters=filters))
    assert len(whole) == len(some)
    pages = list(ec2.get_paginator("describe_snapshots").paginate(Filters=filters, PaginationConfig={"PageSize": 5}))
    assert [len(ids(p)) for p in pages] == [5, 5, 2]
    assert [i for p in pages for i in ids(p)] == whole


@pytest.mark.parametrize(
    "args, code",
    [
        (dict(SnapshotIds=[UNKNOWN]), "InvalidSnapshot.NotFound"),
        (dict(SnapshotIds=["snap-12345678"]), "InvalidSnapshot.NotFound"),
        (dict(SnapshotIds=["snap-123"]), "InvalidSnapshotID.Malformed"),
        (dict(SnapshotIds=["vol-0123456789abcdef0"]), "InvalidParameterValue"),
        (dict(SnapshotIds=["snap-0123456789ABCDEF0"]), "InvalidParameterValue"),
        (dict(SnapshotIds=[""]), "InvalidParameterValue"),
        (dict(Filters=[{"Name": "nonsense", "Values": ["x"]}]), "InvalidParameterValue"),
        (dict(MaxResults=4), "InvalidParameterValue"),
        (dict(NextToken="nonsense", MaxResults=5), "InvalidParameterValue"),
    ],
    ids=str,
)
def test_describe_refused(ec2, some, args, code):
    e = refused(ec2.describe_snapshots, **args)
    assert (e.status, e.code) == (400, code)
    if code == "InvalidSnapshot.NotFound":
        assert e.message == f"The snapshot '{args['SnapshotIds'][0]}' does not exist."


def test_one_unknown_id_fails_the_whole_call(ec2, some):
    assert refused(ec2.describe_snapshots, SnapshotIds=[some["completed"], UNKNOWN]).code == "InvalidSnapshot.NotFound"


def test_delete_refused(ec2, some):
    assert refused(ec2.delete_snapshot, SnapshotId=UNKNOWN).code == "InvalidSnapshot.NotFound"
    assert refused(ec2.delete_snapshot).code == "MissingParameter"
    e = refused(ec2.delete_snapshot, SnapshotId=some["pending"], DryRun=True)
    assert (e.status, e.code) == (412, "DryRunOperation")
    assert ids(ec2.describe_snapshots(SnapshotIds=[some["pending"]]))


def query(server, body, **more):
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    return server.signed("POST", "/", headers, body.encode(), **{"service": "ec2", **more})


def test_documents(server):
    reply = query(server, "Action=DescribeSnapshots&Version=2016-11-15&MaxResults=5")
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/xml;charset=UTF-8"
    root = ElementTree.fromstring(reply.body)
    assert root.tag == NAMESPACE + "DescribeSnapshotsResponse"
    assert root[0].tag == NAMESPACE + "requestId"
    assert root[0].text == reply.headers["x-amzn-requestid"]

    reply = query(server, f"Action=DescribeSnapshots&Version=2016-11-15&SnapshotId.1={UNKNOWN}")
    root = ElementTree.fromstring(reply.body)
    assert (reply.status, root.tag) == (400, "Response")
    assert root.findtext("Errors/Error/Code") == "InvalidSnapshot.NotFound"
    assert root.findtext("RequestID") == reply.headers["x-amzn-requestid"]


@pytest.mark.parametrize(
    "body, more, status, code",
    [
        ("Action=Nonsense&Version=2016-11-15", {}, 400, "InvalidAction"),
        ("Version=2016-11-15", {}, 400, "MissingAction"),
        ("Action=DescribeSnapshots&MaxResults=5&MaxResults=6", {}, 400, "InvalidParameterCombination"),
        ("Action=DescribeSnapshots", {"service": "ebs"}, 403, "SignatureDoesNotMatch"),
    ],
)
def test_query_refused(server, body, more, status, code):
    reply = query(server, body, **more)
    assert (reply.status, ElementTree.fromstring(reply.body).findtext("Errors/Error/Code")) == (status, code)


def test_unsigned(server):
    for method, target, body in [("POST", "/", b"Action=DescribeSnapshots"), ("GET", "/?Action=DescribeSnapshots", None)]:
        reply = server.send(method, target, {"Content-Type": "application/x-www-form-urlencoded"}, body)
        code = ElementTree.fromstring(reply.body).findtext("Errors/Error/Code")
        assert (reply.status, code) == (403, "MissingAuthenticationToken")


def test_signed_get(server):
    reply = server.signed("GET", "/?Action=DescribeSnapshots&Version=2016-11-15&MaxResults=5", service="ec2")
    assert reply.status == 200
