"""StartSnapshot by client token. Spec: ebs-direct §3."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

from harness import A, complete, put, refused


def token():
    return str(uuid.uuid4())


def raw_start(server, **members):
    reply = server.signed("POST", "/snapshots", {"Content-Type": "application/json"}, json.dumps(members).encode())
    assert reply.status == 201, reply
    return reply


def test_64_parallel_starts_with_one_token_make_one_snapshot(ebs, ec2):
    mark = token()
    args = dict(VolumeSize=1, ClientToken=mark, Tags=[{"Key": "race", "Value": mark}])
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: ebs.start_snapshot(**args), range(64)))
    assert len({a["SnapshotId"] for a in answers}) == 1
    assert len({a["StartTime"] for a in answers}) == 1
    found = ec2.describe_snapshots(Filters=[{"Name": "tag:race", "Values": [mark]}])["Snapshots"]
    assert [s["SnapshotId"] for s in found] == [answers[0]["SnapshotId"]]


def test_the_original_body_is_replayed_even_after_completion(server, ebs, ec2):
    mark = token()
    first = raw_start(server, VolumeSize=1, ClientToken=mark, Description="x", Tags=[{"Key": "a", "Value": "1"}])
    snapshot = first.json["SnapshotId"]
    put(ebs, snapshot, 0, A)
    complete(ebs, ec2, snapshot, 1)
    again = raw_start(server, VolumeSize=1, ClientToken=mark, Description="x", Tags=[{"Key": "a", "Value": "1"}])
    assert again.body == first.body
    assert again.json["Status"] == "pending"


def test_equal_parameters_are_equal_however_written(server):
    mark = token()
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    first = raw_start(server, VolumeSize=1, ClientToken=mark, Tags=tags)
    again = raw_start(server, VolumeSize=1, ClientToken=mark, Tags=tags[::-1], Description=None, ParentSnapshotId=None)
    assert again.json["SnapshotId"] == first.json["SnapshotId"]


def test_other_parameters_conflict(ebs):
    base = dict(VolumeSize=1, ClientToken=token(), Description="one", Timeout=60)
    ebs.start_snapshot(**base)
    for change in [
        dict(VolumeSize=2),
        dict(Description="two"),
        dict(Timeout=61),
        dict(Tags=[{"Key": "k", "Value": "v"}]),
        dict(Encrypted=False),
    ]:
        e = refused(ebs.start_snapshot, **{**base, **change})
        assert (e.status, e.code, e.reason) == (409, "ConflictException", None), change
        assert e.message == "Current request does not match request stored with this token."


def test_a_refused_request_does_not_bind_its_token(ebs):
    mark = token()
    refused(ebs.start_snapshot, VolumeSize=70000, ClientToken=mark)
    ebs.start_snapshot(VolumeSize=1, ClientToken=mark)


def test_tokens_are_case_sensitive_and_hold_across_restarts(fresh):
    ebs = fresh.client("ebs")
    first = ebs.start_snapshot(VolumeSize=1, ClientToken="Token")
    assert ebs.start_snapshot(VolumeSize=1, ClientToken="token")["SnapshotId"] != first["SnapshotId"]
    fresh.restart()
    ebs = fresh.client("ebs")
    assert ebs.start_snapshot(VolumeSize=1, ClientToken="Token")["SnapshotId"] == first["SnapshotId"]
    assert refused(ebs.start_snapshot, VolumeSize=2, ClientToken="Token").status == 409


def test_a_token_is_one_and_the_same_in_both_dialects(server, ebs):
    mark = token()
    first = ebs.start_snapshot(VolumeSize=1, ClientToken=mark)
    reply = server.plain("POST", "/snapshots", {"volume_size": 1, "client_token": mark})
    assert reply.status == 201
    assert reply.json["data"]["id"] == first["SnapshotId"]
