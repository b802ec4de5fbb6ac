"""The audit: a line for each call, in CloudTrail's form. Spec: ebs-direct §13; CloudTrail User Guide, Record contents."""

import base64
import contextlib
import datetime
import json
import re
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from harness import A, B, BLOCK_SIZE, SHALE, Server, aggregate, checksum, complete, make, put, refused
from test_iam import TRUST, allow, client_of

HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
NONE = "snap-00000000000000000"


class Trail:
    """A server with an audit, and the lines that it has left since they were last looked at."""

    def __init__(self, folder, *flags):
        self.file = folder / "audit.json"
        self.server = Server(folder / "data", "--anonymous", "--test-controls", "--audit", str(self.file), *flags)
        self.seen = 0
        self.ebs, self.ec2, self.kms, self.iam, self.sts = (
            self.server.client(name, parameter_validation=False) for name in ("ebs", "ec2", "kms", "iam", "sts")
        )

    def lines(self):
        text = self.file.read_bytes()[self.seen :]
        assert not text or text.endswith(b"\n")
        self.seen += len(text)
        return [json.loads(line) for line in text.splitlines()]

    def one(self):
        """The one line that is new. That of a long answer comes after its last byte."""
        deadline = time.monotonic() + 30
        while not (lines := self.lines()):
            assert time.monotonic() < deadline, "there is no line"
            time.sleep(0.01)
        (line,) = lines
        return line


@pytest.fixture(scope="module")
def trail(tmp_path_factory):
    trail = Trail(tmp_path_factory.mktemp("audit"), "--audit-data")
    yield trail
    assert trail.server.stop() == 0


def test_start_and_complete(trail):
    key = trail.kms.create_key()["KeyMetadata"]["Arn"]
    trail.lines()
    began = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    made = trail.ebs.start_snapshot(
        VolumeSize=1, Description="a disk", ClientToken="once", Timeout=10, KmsKeyArn=key, Tags=[{"Key": "team", "Value": "true"}]
    )
    line = trail.one()
    when = datetime.datetime.strptime(line.pop("eventTime"), "%Y-%m-%dT%H:%M:%S%z")
    assert began <= when <= datetime.datetime.now(datetime.timezone.utc)
    assert UUID.fullmatch(line.pop("eventID"))
    assert "Boto3" in line.pop("userAgent")
    account = made["OwnerId"]
    started = made["StartTime"].astimezone(datetime.timezone.utc)
    assert line == {
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "Root",
            "principalId": account,
            "arn": f"arn:aws:iam::{account}:root",
            "accountId": account,
            "accessKeyId": trail.server.credentials().access_key,
        },
        "eventSource": "ebs.amazonaws.com",
        "eventName": "StartSnapshot",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "127.0.0.1",
        "requestParameters": {
            "volumeSize": 1,
            "description": "a disk",
            "clientToken": "once",
            "timeout": 10,
            "kmsKeyArn": HIDDEN,
            "tags": [{"key": "team", "value": "true"}],
        },
        "responseElements": {
            "snapshotId": made["SnapshotId"],
            "ownerId": account,
            "status": "pending",
            "startTime": started.strftime("%b %-d, %Y %-I:%M:%S %p"),
            "volumeSize": 1,
            "blockSize": BLOCK_SIZE,
            "description": "a disk",
            "kmsKeyArn": HIDDEN,
            "tags": [{"key": "team", "value": "true"}],
        },
        "requestID": made["ResponseMetadata"]["RequestId"],
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": "Management",
    }

    trail.ebs.complete_snapshot(
        SnapshotId=made["SnapshotId"],
        ChangedBlocksCount=0,
        Checksum=aggregate([]),
        ChecksumAlgorithm="SHA256",
        ChecksumAggregationMethod="LINEAR",
    )
    line = trail.one()
    assert (line["eventName"], line["readOnly"], line["eventCategory"]) == ("CompleteSnapshot", False, "Management")
    assert line["requestParameters"] == {
        "snapshotId": made["SnapshotId"],
        "changedBlocksCount": 0,
        "checksum": aggregate([]),
        "checksumAlgorithm": "SHA256",
        "checksumAggregationMethod": "LINEAR",
    }
    assert line["responseElements"] == {"status": "pending"}


def test_data(trail):
    parent = make(trail.ebs, trail.ec2, {0: A})
    trail.lines()
    child = trail.ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent)["SnapshotId"]
    line = trail.one()
    (resource,) = line["resources"]
    assert resource == {
        "accountId": line["recipientAccountId"],
        "type": "AWS::EC2::Snapshot",
        "ARN": f"arn:aws:ec2:us-east-1::snapshot/{parent}",
    }

    put(trail.ebs, child, 1, B)
    line = trail.one()
    assert (line["eventName"], line["readOnly"]) == ("PutSnapshotBlock", False)
    assert (line["managementEvent"], line["eventCategory"]) == (False, "Data")
    assert line["requestParameters"] == {
        "snapshotId": child,
        "blockIndex": 1,
        "dataLength": BLOCK_SIZE,
        "checksum": checksum(B),
        "checksumAlgorithm": "SHA256",
    }
    assert line["responseElements"] == {"checksum": checksum(B), "checksumAlgorithm": "SHA256"}
    assert [r["ARN"] for r in line["resources"]] == [f"arn:aws:ec2:us-east-1::snapshot/{child}"]
    complete(trail.ebs, trail.ec2, child, 1)
    trail.lines()

    listed = trail.ebs.list_snapshot_blocks(SnapshotId=parent, MaxResults=100, StartingBlockIndex=0)
    line = trail.one()
    assert (line["eventName"], line["readOnly"], line["responseElements"]) == ("ListSnapshotBlocks", True, None)
    assert line["requestParameters"] == {"snapshotId": parent, "maxResults": 100, "startingBlockIndex": 0}

    trail.ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)
    line = trail.one()
    assert (line["eventName"], line["readOnly"], line["responseElements"]) == ("ListChangedBlocks", True, None)
    assert line["requestParameters"] == {"firstSnapshotId": parent, "secondSnapshotId": child}
    assert [r["ARN"][-22:] for r in line["resources"]] == [parent, child]

    token = listed["Blocks"][0]["BlockToken"]
    trail.ebs.get_snapshot_block(SnapshotId=parent, BlockIndex=0, BlockToken=token)
    line = trail.one()
    assert (line["eventName"], line["readOnly"], line["responseElements"]) == ("GetSnapshotBlock", True, None)
    assert line["requestParameters"] == {"snapshotId": parent, "blockIndex": 0, "blockToken": HIDDEN}

    e = refused(trail.ebs.get_snapshot_block, SnapshotId=parent, BlockIndex=7, BlockToken=token)
    assert token in e.message
    line = trail.one()
    assert (line["errorCode"], line["errorMessage"]) == ("ValidationException", f"The block token {HIDDEN} is invalid.")


def items(*values):
    return {"items": list(values)}


def test_ec2(trail):
    ec2 = trail.ec2
    snapshot = make(trail.ebs, ec2, {0: A})
    other = trail.server.account("other")
    key = trail.kms.create_key()["KeyMetadata"]["Arn"]
    done = {"_return": True}
    trail.lines()
    region = "us-east-1"
    shared = {"snapshotId": snapshot, "attributeType": "CREATE_VOLUME_PERMISSION"}
    calls = [
        ("create_tags", dict(Resources=[snapshot], Tags=[{"Key": "a", "Value": "true"}]),
         {"resourcesSet": items({"resourceId": snapshot}), "tagSet": items({"key": "a", "value": "true"})}, done),
        ("delete_tags", dict(Resources=[snapshot], Tags=[{"Key": "a"}]),
         {"resourcesSet": items({"resourceId": snapshot}), "tagSet": items({"key": "a"})}, done),
        ("describe_tags", dict(Filters=[{"Name": "key", "Values": ["a", "b"]}]),
         {"filterSet": items({"name": "key", "valueSet": items({"value": "a"}, {"value": "b"})})}, None),
        ("describe_snapshots", dict(SnapshotIds=[snapshot], OwnerIds=["self"], RestorableByUserIds=[other]),
         {"snapshotSet": items({"snapshotId": snapshot}), "ownersSet": items({"owner": "self"}),
          "sharedUsersSet": items({"user": other})}, None),
        ("describe_snapshots", dict(MaxResults=1000), {"maxResults": 1000}, None),
        ("modify_snapshot_attribute", dict(SnapshotId=snapshot, Attribute="createVolumePermission",
                                           CreateVolumePermission={"Add": [{"UserId": other}]}),
         shared | {"createVolumePermission": {"add": items({"userId": other})}}, done),
        ("modify_snapshot_attribute", dict(SnapshotId=snapshot, Attribute="createVolumePermission",
                                           OperationType="remove", UserIds=[other]),
         shared | {"createVolumePermission": {"remove": items({"userId": other})}}, done),
        ("modify_snapshot_attribute", dict(SnapshotId=snapshot, Attribute="createVolumePermission",
                                           OperationType="add", GroupNames=["all"]),
         shared | {"createVolumePermission": {"add": items({"group": "all"})}}, done),
        ("describe_snapshot_attribute", dict(SnapshotId=snapshot, Attribute="createVolumePermission"), shared, None),
        ("reset_snapshot_attribute", dict(SnapshotId=snapshot, Attribute="createVolumePermission"), shared, done),
        ("enable_ebs_encryption_by_default", {}, {}, {"ebsEncryptionByDefault": True}),
        ("get_ebs_encryption_by_default", {}, {}, None),
        ("disable_ebs_encryption_by_default", {}, {}, {"ebsEncryptionByDefault": False}),
        ("modify_ebs_default_kms_key_id", dict(KmsKeyId=key), {"kmsKeyId": HIDDEN}, {"kmsKeyId": HIDDEN}),
        ("get_ebs_default_kms_key_id", {}, {}, None),
        ("reset_ebs_default_kms_key_id", {}, {}, {"kmsKeyId": HIDDEN}),
        ("enable_snapshot_block_public_access", dict(State="block-new-sharing"),
         {"state": "block-new-sharing"}, {"state": "block-new-sharing"}),
        ("get_snapshot_block_public_access_state", {}, {}, None),
        ("disable_snapshot_block_public_access", {}, {}, {"state": "unblocked"}),
        ("lock_snapshot", dict(SnapshotId=snapshot, LockMode="governance", LockDuration=1),
         {"snapshotId": snapshot, "lockMode": "governance", "lockDuration": 1}, ...),
        ("describe_locked_snapshots", dict(SnapshotIds=[snapshot]), {"snapshotSet": items({"snapshotId": snapshot})}, None),
        ("unlock_snapshot", dict(SnapshotId=snapshot), {"snapshotId": snapshot}, {"snapshotId": snapshot}),
        ("copy_snapshot", dict(SourceRegion=region, SourceSnapshotId=snapshot, Encrypted=True, KmsKeyId=key,
                               TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "k", "Value": "v"}]}]),
         {"sourceRegion": region, "sourceSnapshotId": snapshot, "destinationRegion": region, "encrypted": True, "kmsKeyId": HIDDEN,
          "tagSpecificationSet": items({"resourceType": "snapshot", "tagSet": items({"key": "k", "value": "v"})})}, ...),
        ("delete_snapshot", dict(SnapshotId=snapshot), {"snapshotId": snapshot}, done),
        ("list_snapshots_in_recycle_bin", {}, {}, None),
    ]  # fmt: skip
    for name, arguments, parameters, response in calls:
        answer = getattr(ec2, name)(**arguments)
        line = trail.one()
        assert line["eventSource"] == "ec2.amazonaws.com", name
        assert line["eventName"].lower() == name.replace("_", ""), name
        assert line["eventCategory"] == "Management" and line["managementEvent"], name
        assert line["readOnly"] == name.startswith(("describe", "get", "list")), name
        assert line["requestID"] == answer["ResponseMetadata"]["RequestId"]
        assert "errorCode" not in line
        assert line["requestParameters"] == parameters, name
        if response is None:
            assert line["responseElements"] is None, name
        else:
            got = line["responseElements"]
            assert got.pop("requestId") == line["requestID"]
            if response is not ...:
                assert got == response, name
            elif name == "copy_snapshot":
                assert got == {"snapshotId": answer["SnapshotId"], "tagSet": items({"key": "k", "value": "v"})}
            else:
                assert (got["lockState"], got["lockDuration"]) == ("governance", 1)

    e = refused(ec2.restore_snapshot_from_recycle_bin, SnapshotId=snapshot)
    line = trail.one()
    assert (line["eventName"], line["errorCode"], line["errorMessage"]) == ("RestoreSnapshotFromRecycleBin", e.code, e.message)
    assert line["responseElements"] is None and line["requestParameters"] == {"snapshotId": snapshot}
    e = refused(ec2.delete_snapshot, SnapshotId=snapshot, DryRun=True)
    line = trail.one()
    assert (line["errorCode"], line["requestParameters"]["dryRun"]) == (e.code, True)
    e = refused(ec2.create_snapshot, VolumeId="vol-12345678")
    assert (trail.one()["errorCode"], e.code) == ("UnsupportedOperation",) * 2


def test_kms(trail):
    kms = trail.kms
    kms.create_key(Description="disks", Tags=[{"TagKey": "team", "TagValue": "storage"}])
    line = trail.one()
    assert (line["eventSource"], line["eventName"], line["readOnly"]) == ("kms.amazonaws.com", "CreateKey", False)
    assert line["requestParameters"] == {"description": "disks", "tags": [{"tagKey": "team", "tagValue": "storage"}]}
    metadata = line["responseElements"]["keyMetadata"]
    key = metadata["keyId"]
    assert metadata["arn"] == f"key/{key}"
    assert re.fullmatch(r"\w{3} \d+, \d{4} \d+:\d\d:\d\d [AP]M", metadata["creationDate"])
    arn = f"arn:aws:kms:us-east-1:{line['recipientAccountId']}:key/{key}"

    context = {"Purpose": "a test"}
    sealed = kms.encrypt(KeyId=arn, Plaintext=b"the plain text of it", EncryptionContext=context)["CiphertextBlob"]
    line = trail.one()
    assert (line["eventName"], line["readOnly"], line["responseElements"]) == ("Encrypt", True, None)
    assert line["requestParameters"] == {"keyId": f"key/{key}", "encryptionContext": context}
    kms.decrypt(CiphertextBlob=sealed, EncryptionContext=context)
    line = trail.one()
    assert line["requestParameters"] == {"encryptionContext": context}
    assert line["additionalEventData"] == {"keyId": f"key/{key}"}

    policy = kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    trail.lines()
    calls = [
        ("create_alias", dict(AliasName="alias/disks", TargetKeyId=key), {"aliasName": "alias/disks", "targetKeyId": key}),
        ("update_alias", dict(AliasName="alias/disks", TargetKeyId=key), {"aliasName": "alias/disks", "targetKeyId": key}),
        ("list_aliases", dict(Limit=10), {"limit": 10}),
        ("describe_key", dict(KeyId="alias/disks"), {"keyId": "alias/disks"}),
        ("generate_data_key", dict(KeyId=key, KeySpec="AES_256"), {"keyId": key, "keySpec": "AES_256"}),
        ("generate_data_key_without_plaintext", dict(KeyId=key, NumberOfBytes=32), {"keyId": key, "numberOfBytes": 32}),
        ("re_encrypt", dict(CiphertextBlob=sealed, SourceEncryptionContext=context, DestinationKeyId=key),
         {"sourceEncryptionContext": context, "destinationKeyId": key}),
        ("put_key_policy", dict(KeyId=key, PolicyName="default", Policy=policy),
         {"keyId": key, "policyName": "default", "policy": policy}),
        ("get_key_policy", dict(KeyId=key, PolicyName="default"), {"keyId": key, "policyName": "default"}),
        ("list_key_policies", dict(KeyId=key), {"keyId": key}),
        ("get_key_rotation_status", dict(KeyId=key), {"keyId": key}),
        ("list_keys", {}, {}),
        ("tag_resource", dict(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "b"}]), {"keyId": key, "tags": [{"tagKey": "a", "tagValue": "b"}]}),
        ("list_resource_tags", dict(KeyId=key), {"keyId": key}),
        ("untag_resource", dict(KeyId=key, TagKeys=["a"]), {"keyId": key, "tagKeys": ["a"]}),
        ("update_key_description", dict(KeyId=key, Description="d"), {"keyId": key, "description": "d"}),
        ("disable_key", dict(KeyId=key), {"keyId": key}),
        ("enable_key", dict(KeyId=key), {"keyId": key}),
        ("delete_alias", dict(AliasName="alias/disks"), {"aliasName": "alias/disks"}),
        ("schedule_key_deletion", dict(KeyId=key, PendingWindowInDays=7), {"keyId": key, "pendingWindowInDays": 7}),
        ("cancel_key_deletion", dict(KeyId=key), {"keyId": key}),
    ]  # fmt: skip
    for name, arguments, parameters in calls:
        answer = getattr(kms, name)(**arguments)
        line = trail.one()
        assert line["eventSource"] == "kms.amazonaws.com", name
        assert line["eventName"].lower() == name.replace("_", ""), name
        assert line["requestParameters"] == parameters, name
        assert line["requestID"] == answer["ResponseMetadata"]["RequestId"]
        if line["readOnly"]:
            assert line["responseElements"] is None, name

    e = refused(kms.encrypt, KeyId=arn, Plaintext=b"x")
    line = trail.one()
    assert e.message.startswith(arn)
    assert (line["errorCode"], line["errorMessage"]) == (e.code, e.message.replace(arn, f"key/{key}"))

def shown(when):
    """A time as answers in the audit have it."""
    return when.astimezone(datetime.timezone.utc).strftime("%b %-d, %Y %-I:%M:%S %p")


def test_iam(trail):
    iam = trail.iam
    trail.lines()
    trust = json.dumps(TRUST)
    policy = allow("ebs:*", resource="arn:aws:ec2:*::snapshot/*")
    calls = [
        ("create_user", dict(UserName="alice", Path="/ops/"), {"userName": "alice", "path": "/ops/"}, "User"),
        ("get_user", dict(UserName="alice"), {"userName": "alice"}, None),
        ("list_users", dict(PathPrefix="/ops/", MaxItems=10), {"pathPrefix": "/ops/", "maxItems": 10}, None),
        ("put_user_policy", dict(UserName="alice", PolicyName="p", PolicyDocument=policy),
         {"userName": "alice", "policyName": "p", "policyDocument": policy}, None),
        ("get_user_policy", dict(UserName="alice", PolicyName="p"), {"userName": "alice", "policyName": "p"}, None),
        ("list_user_policies", dict(UserName="alice"), {"userName": "alice"}, None),
        ("delete_user_policy", dict(UserName="alice", PolicyName="p"), {"userName": "alice", "policyName": "p"}, None),
        ("list_access_keys", dict(UserName="alice"), {"userName": "alice"}, None),
        ("create_role", dict(RoleName="worker", Description="works", AssumeRolePolicyDocument=trust, MaxSessionDuration=7200),
         {"roleName": "worker", "description": "works", "assumeRolePolicyDocument": trust, "maxSessionDuration": 7200}, "Role"),
        ("get_role", dict(RoleName="worker"), {"roleName": "worker"}, None),
        ("list_roles", {}, {}, None),
        ("update_assume_role_policy", dict(RoleName="worker", PolicyDocument=trust),
         {"roleName": "worker", "policyDocument": trust}, None),
        ("put_role_policy", dict(RoleName="worker", PolicyName="p", PolicyDocument=policy),
         {"roleName": "worker", "policyName": "p", "policyDocument": policy}, None),
        ("get_role_policy", dict(RoleName="worker", PolicyName="p"), {"roleName": "worker", "policyName": "p"}, None),
        ("list_role_policies", dict(RoleName="worker"), {"roleName": "worker"}, None),
        ("delete_role_policy", dict(RoleName="worker", PolicyName="p"), {"roleName": "worker", "policyName": "p"}, None),
        ("delete_role", dict(RoleName="worker"), {"roleName": "worker"}, None),
        ("delete_user", dict(UserName="alice"), {"userName": "alice"}, None),
    ]  # fmt: skip
    for name, arguments, parameters, title in calls:
        answer = getattr(iam, name)(**arguments)
        line = trail.one()
        assert (line["eventSource"], line["eventName"].lower()) == ("iam.amazonaws.com", name.replace("_", ""))
        assert line["managementEvent"] and line["readOnly"] == name.startswith(("get", "list")), name
        assert line["requestParameters"] == parameters, name
        assert line["requestID"] == answer["ResponseMetadata"]["RequestId"] and "errorCode" not in line
        if title is None:
            assert line["responseElements"] is None, name
            continue
        made, (got,) = answer[title], line["responseElements"].values()
        assert list(line["responseElements"]) == [title.lower()]
        assert got.pop("createDate") == shown(made["CreateDate"])
        assert got.pop(title.lower() + "Id") == made[title + "Id"]
        assert got.pop("arn") == made["Arn"]
        assert got.pop(title.lower() + "Name") == made[title + "Name"]
        if title == "Role":
            assert json.loads(got.pop("assumeRolePolicyDocument")) == TRUST
            assert got == {"path": "/", "description": "works", "maxSessionDuration": 7200}
        else:
            assert got == {"path": "/ops/"}

    iam.create_user(UserName="bob")
    trail.lines()
    key = iam.create_access_key(UserName="bob")["AccessKey"]
    line = trail.one()
    assert (line["readOnly"], line["requestParameters"]) == (False, {"userName": "bob"})
    assert line["responseElements"] == {
        "accessKey": {
            "userName": "bob",
            "accessKeyId": key["AccessKeyId"],
            "status": "Active",
            "createDate": shown(key["CreateDate"]),
        }
    }
    iam.update_access_key(UserName="bob", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    line = trail.one()
    assert line["requestParameters"] == {"userName": "bob", "accessKeyId": key["AccessKeyId"], "status": "Inactive"}
    assert line["responseElements"] is None
    iam.delete_access_key(UserName="bob", AccessKeyId=key["AccessKeyId"])
    assert trail.one()["requestParameters"] == {"userName": "bob", "accessKeyId": key["AccessKeyId"]}


def test_iam_refused(trail):
    server, iam = trail.server, trail.iam
    trail.lines()
    for call, arguments, parameters in [
        (iam.get_user, dict(UserName="nobody"), {"userName": "nobody"}),
        (iam.create_user, dict(UserName="a b"), {"userName": "a b"}),
        (iam.list_users, dict(Marker="bWFya2VyIG9mIG5vIGxpc3Q"), {"marker": HIDDEN}),
        (iam.list_users, dict(MaxItems=0), {"maxItems": 0}),
        (trail.sts.assume_role, dict(RoleArn="arn:aws:iam::111122223333:role/none", RoleSessionName="s", ExternalId="a shared\x01one"),
         {"roleArn": "arn:aws:iam::111122223333:role/none", "roleSessionName": "s", "externalId": HIDDEN}),
    ]:  # fmt: skip
        e = refused(call, **arguments)
        line = trail.one()
        assert (line["errorCode"], line["errorMessage"]) == (e.code, e.message), arguments
        assert (line["requestParameters"], line["responseElements"]) == (parameters, None)

    def spoil(request):
        request.headers.replace_header("Authorization", request.headers["Authorization"][:-1] + "x")

    for service, action in (("iam", "DeleteUser"), ("sts", "AssumeRole")):
        body = f"Action={action}&UserName=root&Version=1".encode()
        reply = server.signed("POST", "/", body=body, service=service, edit=spoil)
        line = trail.one()
        assert (reply.status, line["errorCode"], line["eventName"]) == (403, "SignatureDoesNotMatch", action)
        assert line["eventSource"] == service + ".amazonaws.com" and line["requestParameters"] is None
        assert line["userIdentity"]["type"] == "Unknown" and line["userIdentity"]["accountId"] == line["recipientAccountId"]
    server.signed("POST", "/", body=b"Action=CreateGroup&GroupName=g", service="iam")
    line = trail.one()
    assert (line["eventName"], line["errorCode"], line["requestParameters"]) == ("Unknown", "InvalidAction", None)


def test_user(trail):
    """Who a user is, what he is denied, and what becomes of his upload when his key is disabled."""
    server, iam = trail.server, trail.iam
    user = iam.create_user(UserName="carol", Path="/ops/")["User"]
    iam.put_user_policy(UserName="carol", PolicyName="p", PolicyDocument=allow("ebs:StartSnapshot", "ebs:PutSnapshotBlock"))
    key = iam.create_access_key(UserName="carol")["AccessKey"]
    account = user["Arn"].split(":")[4]
    identity = {
        "type": "IAMUser",
        "principalId": user["UserId"],
        "arn": f"arn:aws:iam::{account}:user/ops/carol",
        "accountId": account,
        "accessKeyId": key["AccessKeyId"],
        "userName": "carol",
    }
    ebs = client_of(server, "ebs", key)
    trail.lines()
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    line = trail.one()
    assert line["userIdentity"] == identity and "errorCode" not in line
    assert line["responseElements"]["snapshotId"] == snapshot
    put(ebs, snapshot, 0, A)
    line = trail.one()
    assert line["userIdentity"] == identity and line["responseElements"]["checksum"] == checksum(A)

    e = refused(ebs.list_snapshot_blocks, SnapshotId=make(trail.ebs, trail.ec2, {0: A}))
    line = trail.lines()[-1]
    assert (line["eventName"], line["userIdentity"]) == ("ListSnapshotBlocks", identity)
    assert (line["errorCode"], line["errorMessage"]) == ("AccessDeniedException", e.message)

    # Denied from here on, the upload in the middle included.
    iam.delete_user_policy(UserName="carol", PolicyName="p")
    trail.lines()
    for call, name, parameters in [
        (lambda: ebs.start_snapshot(VolumeSize=2, ClientToken="two"), "StartSnapshot",
         {"volumeSize": 2, "clientToken": "two"}),
        (lambda: put(ebs, snapshot, 1, B), "PutSnapshotBlock",
         {"snapshotId": snapshot, "blockIndex": 1, "dataLength": BLOCK_SIZE, "checksum": checksum(B), "checksumAlgorithm": "SHA256"}),
        (lambda: client_of(server, "iam", key).create_user(UserName="dave"), "CreateUser", {"userName": "dave"}),
    ]:  # fmt: skip
        e = refused(call)
        line = trail.one()
        assert (line["eventName"], line["userIdentity"]) == (name, identity)
        assert line["errorCode"] == e.code and e.code.startswith("AccessDenied")
        assert line["errorMessage"] == e.message and identity["arn"] in e.message
        assert line["managementEvent"] == (name != "PutSnapshotBlock")
        assert (line["requestParameters"], line["responseElements"]) == (parameters, None)

    iam.put_user_policy(UserName="carol", PolicyName="p", PolicyDocument=allow("ebs:*"))
    put(ebs, snapshot, 1, B)
    iam.update_access_key(UserName="carol", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    trail.lines()
    e = refused(put, ebs, snapshot, 2, A)
    line = trail.one()
    assert (line["eventName"], line["errorCode"], line["errorMessage"]) == ("PutSnapshotBlock", e.code, e.message)
    assert e.code == "UnrecognizedClientException"
    assert line["userIdentity"] == {"type": "Unknown", "accessKeyId": key["AccessKeyId"]}


def test_sessions(trail):
    """Sessions of a role and of a user: how they begin, and who they are."""
    server, iam = trail.server, trail.iam
    role = iam.create_role(RoleName="uploader", Path="/x/", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    iam.put_role_policy(RoleName="uploader", PolicyName="p", PolicyDocument=allow("ebs:StartSnapshot"))
    iam.create_user(UserName="erin")
    iam.put_user_policy(UserName="erin", PolicyName="p", PolicyDocument=allow("sts:AssumeRole", "ebs:StartSnapshot"))
    key = iam.create_access_key(UserName="erin")["AccessKey"]
    sts = client_of(server, "sts", key)
    trail.lines()
    bound = allow("ebs:*")
    made = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="nightly", DurationSeconds=900, Policy=bound)
    line = trail.one()
    session = made["Credentials"]
    assert (line["eventSource"], line["eventName"], line["readOnly"]) == ("sts.amazonaws.com", "AssumeRole", True)
    assert (line["userIdentity"]["type"], line["userIdentity"]["userName"]) == ("IAMUser", "erin")
    assert line["requestParameters"] == {
        "roleArn": role["Arn"],
        "roleSessionName": "nightly",
        "durationSeconds": 900,
        "policy": bound,
    }
    credentials = {"accessKeyId": session["AccessKeyId"], "expiration": shown(session["Expiration"])}
    assert line["responseElements"] == {
        "credentials": credentials,
        "assumedRoleUser": {"assumedRoleId": made["AssumedRoleUser"]["AssumedRoleId"], "arn": made["AssumedRoleUser"]["Arn"]},
        "packedPolicySize": made["PackedPolicySize"],
    }

    client_of(server, "ebs", session).start_snapshot(VolumeSize=1)
    line = trail.one()
    began = line["userIdentity"]["sessionContext"]["attributes"].pop("creationDate")
    assert datetime.datetime.strptime(began, "%Y-%m-%dT%H:%M:%S%z") == session["Expiration"] - datetime.timedelta(seconds=900)
    account = line["recipientAccountId"]
    assert line["userIdentity"] == {
        "type": "AssumedRole",
        "principalId": role["RoleId"] + ":nightly",
        "arn": f"arn:aws:sts::{account}:assumed-role/uploader/nightly",
        "accountId": account,
        "accessKeyId": session["AccessKeyId"],
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": role["RoleId"],
                "arn": f"arn:aws:iam::{account}:role/x/uploader",
                "accountId": account,
                "userName": "uploader",
            },
            "attributes": {"mfaAuthenticated": "false"},
        },
    }
    assert line["eventName"] == "StartSnapshot" and "errorCode" not in line

    session = sts.get_session_token(DurationSeconds=900)["Credentials"]
    line = trail.one()
    assert (line["eventName"], line["requestParameters"]) == ("GetSessionToken", {"durationSeconds": 900})
    assert line["responseElements"] == {
        "credentials": {"accessKeyId": session["AccessKeyId"], "expiration": shown(session["Expiration"])}
    }
    client_of(server, "sts", session).get_caller_identity()
    line = trail.one()
    assert (line["eventName"], line["requestParameters"], line["responseElements"]) == ("GetCallerIdentity", {}, None)
    assert (line["userIdentity"]["type"], line["userIdentity"]["accessKeyId"]) == ("IAMUser", session["AccessKeyId"])
    assert list(line["userIdentity"]["sessionContext"]) == ["attributes"]
    e = refused(client_of(server, "ebs", session).list_snapshot_blocks, SnapshotId=NONE)
    line = trail.one()
    assert line["errorCode"] == e.code and line["userIdentity"]["userName"] == "erin"



def test_refused(trail):
    server = trail.server
    own = server.credentials()
    e = refused(trail.ebs.start_snapshot, VolumeSize=0)
    line = trail.one()
    assert (line["errorCode"], line["errorMessage"]) == (e.code, e.message)
    assert line["requestParameters"]["volumeSize"] == 0 and line["responseElements"] is None
    account = line["recipientAccountId"]

    # A wrong signature: the key is known, and nothing shows that it is its owner's.
    def spoil(request):
        request.headers.replace_header("Authorization", request.headers["Authorization"][:-1] + "x")

    reply = server.signed("POST", "/snapshots", body=b'{"VolumeSize":1}', edit=spoil)
    line = trail.one()
    assert reply.status == 403 and line["errorCode"] == reply.code
    assert line["eventName"] == "StartSnapshot" and line["requestParameters"] is None
    assert line["userIdentity"] == {"type": "Unknown", "accountId": account, "accessKeyId": own.access_key}

    # A key that does not exist, another service, another region.
    nobody = type(own)("AKIAAAAAAAAAAAAAAAAA", own.secret_key)
    server.signed("POST", "/snapshots", body=b"{}", credentials=nobody)
    line = trail.one()
    assert line["userIdentity"] == {"type": "Unknown", "accessKeyId": "AKIAAAAAAAAAAAAAAAAA"}
    assert (line["errorCode"], "recipientAccountId" in line) == ("UnrecognizedClientException", False)
    server.signed("DELETE", "/bucket/key", service="s3")
    line = trail.one()
    assert (line["eventName"], line["eventSource"], line["errorCode"]) == ("Unknown", "ebs.amazonaws.com", "InvalidSignatureException")
    server.signed("POST", "/snapshots", body=b"{}", region="mars-north-1")
    line = trail.one()
    assert (line["awsRegion"], line["errorCode"]) == ("us-east-1", "InvalidSignatureException")

    # An action by any way of writing it.
    server.signed("POST", "/", body=b"%41ction=D%65leteSnapshot&SnapshotId=" + NONE.encode(), service="ec2")
    line = trail.one()
    assert (line["eventName"], line["requestParameters"]) == ("DeleteSnapshot", {"snapshotId": NONE})
    server.signed("POST", "/", body=b"Action=RunInstances", service="ec2")
    line = trail.one()
    assert (line["eventName"], line["errorCode"]) == ("Unknown", "InvalidAction")


def test_presigned_and_bearer(trail):
    server = trail.server
    snapshot = make(trail.ebs, trail.ec2, {0: A})
    trail.lines()
    path = server.presigned(f"/snapshots/{snapshot}/blocks")
    assert server.send("GET", path).status == 200
    line = trail.one()
    assert (line["eventName"], line["userIdentity"]["type"]) == ("ListSnapshotBlocks", "Root")
    altered = path[:-1] + ("0" if path[-1] != "0" else "1")
    assert server.send("GET", altered).status == 403
    assert trail.one()["errorCode"] == "InvalidSignatureException"

    bearer = subprocess.run(
        [SHALE, "token", "create", "--data-dir", server.data_dir, "--name", "t"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert server.send("GET", f"/snapshots/{snapshot}", {"Authorization": "Bearer " + bearer}).status == 200
    line = trail.one()
    assert (line["eventSource"], line["eventName"]) == ("ec2.amazonaws.com", "DescribeSnapshots")
    assert (line["userIdentity"]["type"], "accessKeyId" in line["userIdentity"]) == ("Root", False)
    assert line["additionalEventData"] == {"operation": "DescribeSnapshot", "authenticationMethod": "BearerToken"}
    assert server.send("GET", "/snapshots", {"Authorization": "Bearer " + bearer[:-1]}).status == 401
    line = trail.one()
    assert (line["errorCode"], line["userIdentity"]) == ("UNAUTHENTICATED", {"type": "Unknown"})


def test_plain(trail):
    plain = trail.server.plain
    nobody = {"type": "AWSAccount", "accountId": "ANONYMOUS_PRINCIPAL"}
    made = plain("POST", "/snapshots", {"volume_size": 1, "tags": {"a": "b"}}).json["data"]["id"]
    line = trail.one()
    assert (line["eventName"], line["userIdentity"]) == ("StartSnapshot", nobody)
    assert line["requestParameters"] == {"volumeSize": 1, "tags": [{"key": "a", "value": "b"}]}
    assert line["responseElements"]["snapshotId"] == made and "additionalEventData" not in line
    assert plain("PUT", f"/snapshots/{made}/blocks/0", A).status == 201
    assert trail.one()["requestParameters"] == {"snapshotId": made, "blockIndex": 0}
    assert plain("GET", f"/snapshots/{made}/blocks?state=pending").status == 200
    assert trail.one()["requestParameters"] == {"snapshotId": made}
    plain("POST", f"/snapshots/completion/{made}", headers={"x-amz-ChangedBlocksCount": "1"})
    assert trail.one()["eventName"] == "CompleteSnapshot"
    deadline = datetime.datetime.now() + datetime.timedelta(seconds=30)
    while plain("GET", f"/snapshots/{made}").json["data"]["status"] != "completed":
        assert datetime.datetime.now() < deadline
    trail.lines()
    base, resources = f"/snapshots/{made}", items({"resourceId": made})
    for method, path, body, headers, source, name, parameters in [
        ("GET", base + "/image", None, {"Range": "bytes=0-3"}, "ebs", "GetSnapshotBlock", {"snapshotId": made, "range": "bytes=0-3"}),
        ("HEAD", base + "/image", None, {}, "ebs", "GetSnapshotBlock", {"snapshotId": made}),
        ("GET", base + "/extents", None, {}, "ebs", "ListSnapshotBlocks", {"snapshotId": made}),
        ("GET", f"{base}/diff?from={made}", None, {}, "ebs", "ListChangedBlocks", {"firstSnapshotId": made, "secondSnapshotId": made}),
        ("GET", "/snapshots?limit=5&tag:a=b", None, {}, "ec2", "DescribeSnapshots", {"maxResults": 5, "tag:a": "b"}),
        ("PUT", base + "/tags", {"c": "d"}, {}, "ec2", "CreateTags",
         {"resourcesSet": resources, "tagSet": items({"key": "c", "value": "d"})}),
        ("DELETE", base + "/tags?key=c", None, {}, "ec2", "DeleteTags", {"resourcesSet": resources, "tagSet": items({"key": "c"})}),
        ("DELETE", base, None, {}, "ec2", "DeleteSnapshot", {"snapshotId": made}),
    ]:  # fmt: skip
        assert plain(method, path, body, headers).status < 300, path
        line = trail.one()
        assert (line["eventSource"], line["eventName"]) == (source + ".amazonaws.com", name), path
        assert line["requestParameters"] == parameters, path
        assert line["managementEvent"] == (source == "ec2") and line["additionalEventData"]["operation"], path
    assert plain("GET", base).status == 404
    assert trail.one()["errorCode"] == "NOT_FOUND"


def test_silence(trail):
    trail.lines()
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/_test/clock"):
        assert trail.server.plain("GET", path).status == 200
    assert trail.lines() == []


def test_no_secrets(trail):
    """All that the tests of this file did, searched for what must not be in it."""
    server, ebs, kms = trail.server, trail.ebs, trail.kms
    own = server.credentials()
    key = kms.create_key()["KeyMetadata"]
    plain = b"a plain text that tells"
    sealed = kms.encrypt(KeyId=key["KeyId"], Plaintext=plain)["CiphertextBlob"]
    kms.decrypt(CiphertextBlob=sealed)
    data = kms.generate_data_key(KeyId=key["KeyId"], KeySpec="AES_256")
    snapshot = make(ebs, trail.ec2, {0: A, 1: B}, KmsKeyArn=key["Arn"])
    page = ebs.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100)
    wrong = page["Blocks"][0]["BlockToken"]
    refused(ebs.list_snapshot_blocks, SnapshotId=snapshot, NextToken=wrong)
    refused(trail.ec2.describe_snapshots, NextToken=wrong)
    refused(kms.list_keys, Marker=wrong)
    server.plain("GET", f"/snapshots/{snapshot}/blocks?page_token={wrong}&blockToken={wrong}&pageToken={wrong}")
    server.plain("GET", f"/snapshots?cursor={wrong}")
    refused(ebs.start_snapshot, VolumeSize=1, KmsKeyArn=key["Arn"], Encrypted=False)
    refused(ebs.start_snapshot, VolumeSize=1, KmsKeyArn=key["Arn"] + "\n")
    kms.disable_key(KeyId=key["Arn"])
    refused(ebs.start_snapshot, VolumeSize=1, KmsKeyArn=key["Arn"])
    refused(ebs.get_snapshot_block, SnapshotId=snapshot, BlockIndex=0, BlockToken=wrong)
    mallory = allow("ebs:*", "kms:*", "iam:*", "sts:*", resource=[key["Arn"], "*"])
    trail.iam.create_user(UserName="mallory")
    trail.iam.put_user_policy(UserName="mallory", PolicyName="p", PolicyDocument=mallory)
    trail.iam.get_user_policy(UserName="mallory", PolicyName="p")
    lasting = trail.iam.create_access_key(UserName="mallory")["AccessKey"]
    trust = json.loads(json.dumps(TRUST))
    trust["Statement"][0]["Condition"] = {"StringNotLike": {"aws:SourceArn": key["Arn"]}}
    role = trail.iam.create_role(RoleName="mole", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    sts = client_of(server, "sts", lasting)
    sessions = [
        sts.assume_role(RoleArn=role, RoleSessionName="mole", Policy=mallory, ExternalId="the-external-ID")["Credentials"],
        sts.get_session_token()["Credentials"],
        trail.sts.get_session_token()["Credentials"],
    ]
    refused(sts.assume_role, RoleArn=role, RoleSessionName="mole", ExternalId="the-external-ID\n")
    for credentials in [lasting, *sessions]:
        with contextlib.suppress(ClientError):  # the role may do nothing
            client_of(server, "ebs", credentials).start_snapshot(VolumeSize=1)
        broken = dict(credentials, SessionToken=credentials.get("SessionToken", "") + "x")
        refused(client_of(server, "sts", broken).get_caller_identity)
        refused(client_of(server, "ebs", broken).start_snapshot, VolumeSize=1)
    url = server.presigned(f"/snapshots/{snapshot}/blocks")
    server.send("GET", url)
    signature = re.search("X-Amz-Signature=([0-9a-f]+)", url)[1]
    copy = f"Action=CopySnapshot&SourceRegion=us-east-1&SourceSnapshotId={snapshot}&PresignedUrl={signature}&X-Amz-Signature={signature}"
    server.signed("POST", "/", body=copy.encode(), service="ec2")
    server.send("GET", "/snapshots", {"Authorization": "Bearer sht_a-bearer-token-that-is-none"})
    text = trail.file.read_text()
    assert all(c["AccessKeyId"] in text for c in [lasting, *sessions])
    assert "CopySnapshot" in text and key["KeyId"] in text  # it is looked for in the right place
    for name, secret in {
        "secret key": own.secret_key, "key ARN": key["Arn"], "an ARN": "arn:aws:kms", "block token": wrong, "signature": signature,
        "signed": "X-Amz-Signature", "bearer": "a-bearer-token", "plaintext": plain.decode(),
        "plaintext in base64": base64.b64encode(plain).decode(), "ciphertext": base64.b64encode(sealed).decode(),
        "a user's key": lasting["SecretAccessKey"], "external ID": "the-external-ID",
        **{f"{member} of session {i}": c[member] for i, c in enumerate(sessions) for member in ("SecretAccessKey", "SessionToken")},
        "data key": base64.b64encode(data["Plaintext"]).decode(), "bytes of a block": "AAAAAAAAAAAAAAAAAAAAAAAA",
    }.items():  # fmt: skip
        assert secret not in text, name


def test_management_only(tmp_path):
    trail = Trail(tmp_path)
    snapshot = make(trail.ebs, trail.ec2, {0: A})
    token = trail.ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"][0]["BlockToken"]
    trail.ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=token)
    trail.server.plain("GET", f"/snapshots/{snapshot}/image", headers={"Range": "bytes=0-3"})
    names = {line["eventName"] for line in trail.lines()}
    assert names == {"StartSnapshot", "CompleteSnapshot", "DescribeSnapshots"}
    assert trail.file.stat().st_mode & 0o777 == 0o600

    # It goes on where it ended.
    trail.server.restart()
    trail.server.client("ec2").describe_snapshots()
    assert trail.one()["eventName"] == "DescribeSnapshots"
    assert trail.server.stop() == 0


def failures(server):
    with urllib.request.urlopen(server.url + "/metrics") as answer:
        return float(re.search(r"^shale_audit_failures_total (\S+)$", answer.read().decode(), re.M)[1])


def test_full_disk(tmp_path):
    """What cannot be written is seen, and refuses nothing."""
    server = Server(tmp_path / "data", "--anonymous", "--audit", "/dev/full")
    for _ in range(3):
        assert server.plain("GET", "/snapshots").status == 200
    assert failures(server) == 3
    log = server.log.read_text()
    assert log.count("the audit loses lines") == 1 and "no space left" in log
    assert server.stop() == 0


def test_stdout(tmp_path):
    """The lines go to stdout, and the server outlives whoever reads them."""
    process = subprocess.Popen(
        [SHALE, "serve", "--data-dir", tmp_path / "data", "--listen", "127.0.0.1:0", "--anonymous", "--audit", "-"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = re.search(rb"http://\S+", process.stdout.readline())[0].decode()
        urllib.request.urlopen(url + "/snapshots").close()
        assert json.loads(process.stdout.readline())["eventName"] == "DescribeSnapshots"
        process.stdout.close()
        for _ in range(2):
            urllib.request.urlopen(url + "/snapshots").close()
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize("flags", [["--audit-data"], ["--audit", "x", "--audit-keep", "0"]])
def test_flags(tmp_path, flags):
    done = subprocess.run([SHALE, "serve", "--data-dir", tmp_path / "data", *flags], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and flags[-1 if len(flags) == 1 else -2] in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_two_servers(tmp_path):
    trail = Trail(tmp_path)
    done = subprocess.run(
        [SHALE, "serve", "--data-dir", tmp_path / "other", "--listen", "127.0.0.1:0", "--audit", trail.file],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "another process" in done.stderr
    assert trail.server.stop() == 0
    assert Path(tmp_path / "audit.json").exists()
