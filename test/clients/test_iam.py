"""IAM: users, keys, policies and roles. Source: IAM API Reference; Spec: ebs-direct §1.1, §11."""

import datetime
import json
import uuid

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import Credentials

from harness import A, B, Server, complete, put, refused


def allow(*actions, resource="*"):
    """A policy that allows the actions."""
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resource}]})


TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}]}


def client_of(server, service, key, **config):
    """A client that signs with a key, as CreateAccessKey or AssumeRole has given it."""
    return boto3.client(
        service,
        endpoint_url=server.url,
        region_name=config.pop("region", "us-east-1"),
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        aws_session_token=key.get("SessionToken"),
        config=Config(retries={"max_attempts": 0}, parameter_validation=False, **config),
    )


@pytest.fixture(scope="module")
def iam(server):
    # What the SDK would refuse by itself is for the server to refuse.
    return server.client("iam", parameter_validation=False)


@pytest.fixture
def user(iam):
    """The name of a user who is there for one test."""
    name = "user-" + uuid.uuid4().hex[:12]
    iam.create_user(UserName=name)
    yield name
    for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
        iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    for policy in iam.list_user_policies(UserName=name)["PolicyNames"]:
        iam.delete_user_policy(UserName=name, PolicyName=policy)
    iam.delete_user(UserName=name)


def seen(call, *args, **kwargs):
    e = refused(call, *args, **kwargs)
    return e.status, e.code


def test_life_of_a_user(iam):
    made = iam.create_user(UserName="Zoe@x", Path="/team/a/")["User"]
    account = made["Arn"].split(":")[4]
    assert made["Arn"] == f"arn:aws:iam::{account}:user/team/a/Zoe@x"
    assert (made["Path"], made["UserName"]) == ("/team/a/", "Zoe@x")
    assert made["UserId"].startswith("AIDA") and len(made["UserId"]) == 21
    assert abs(made["CreateDate"] - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(minutes=5)
    assert iam.get_user(UserName="Zoe@x")["User"] == made
    assert iam.list_users(PathPrefix="/team/")["Users"] == [made]
    e = refused(iam.create_user, UserName="zoe@X")
    assert (e.status, e.code, e.message) == (409, "EntityAlreadyExists", "User with name zoe@X already exists.")

    key = iam.create_access_key(UserName="Zoe@x")["AccessKey"]
    assert (key["UserName"], key["Status"]) == ("Zoe@x", "Active")
    e = refused(iam.delete_user, UserName="Zoe@x")
    assert (e.status, e.code, e.message) == (409, "DeleteConflict", "Cannot delete entity, must delete access keys first.")
    iam.delete_access_key(UserName="Zoe@x", AccessKeyId=key["AccessKeyId"])
    iam.put_user_policy(UserName="Zoe@x", PolicyName="p", PolicyDocument=allow("ebs:*"))
    e = refused(iam.delete_user, UserName="Zoe@x")
    assert (e.code, e.message) == ("DeleteConflict", "Cannot delete entity, must delete policies first.")
    iam.delete_user_policy(UserName="Zoe@x", PolicyName="p")
    iam.delete_user(UserName="Zoe@x")
    e = refused(iam.get_user, UserName="Zoe@x")
    assert (e.status, e.code, e.message) == (404, "NoSuchEntity", "The user with name Zoe@x cannot be found.")


def test_pages(iam):
    names = [f"paged-{i}" for i in range(5)]
    for name in names:
        iam.create_user(UserName=name, Path="/paged/")
    pages = list(iam.get_paginator("list_users").paginate(PathPrefix="/paged/", PaginationConfig={"PageSize": 2}))
    assert [[u["UserName"] for u in page["Users"]] for page in pages] == [names[:2], names[2:4], names[4:]]
    assert seen(iam.list_users, Marker="nonsense") == (400, "ValidationError")
    assert seen(iam.list_users, MaxItems=0) == (400, "ValidationError")
    for name in names:
        iam.delete_user(UserName=name)
    assert iam.list_users(PathPrefix="/paged/")["Users"] == []


def test_access_keys(server, iam, user):
    key = iam.create_access_key(UserName=user)["AccessKey"]
    assert key["AccessKeyId"].startswith("AKIA") and len(key["SecretAccessKey"]) == 40
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=allow("iam:*AccessKey*", "iam:GetUser"))
    own = client_of(server, "iam", key)
    assert own.get_user()["User"]["UserName"] == user
    second = own.create_access_key()["AccessKey"]
    assert second["UserName"] == user
    e = refused(own.create_access_key)
    assert (e.status, e.code, e.message) == (409, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2")
    found = own.list_access_keys()["AccessKeyMetadata"]
    assert {k["AccessKeyId"] for k in found} == {key["AccessKeyId"], second["AccessKeyId"]}
    assert not any("SecretAccessKey" in k for k in found)

    own.update_access_key(AccessKeyId=second["AccessKeyId"], Status="Inactive")
    assert [k["Status"] for k in own.list_access_keys()["AccessKeyMetadata"] if k["AccessKeyId"] == second["AccessKeyId"]] == ["Inactive"]
    assert seen(client_of(server, "iam", second).get_user) == (403, "InvalidClientTokenId")
    own.update_access_key(AccessKeyId=second["AccessKeyId"], Status="Active")
    assert client_of(server, "iam", second).get_user()["User"]["UserName"] == user
    own.delete_access_key(AccessKeyId=second["AccessKeyId"])
    assert seen(client_of(server, "iam", second).get_user) == (403, "InvalidClientTokenId")
    e = refused(own.delete_access_key, AccessKeyId=second["AccessKeyId"])
    assert (e.status, e.code) == (404, "NoSuchEntity")
    assert seen(own.update_access_key, AccessKeyId=key["AccessKeyId"], Status="Sleeping") == (400, "ValidationError")

    # The key in DIR/credentials is the root user's, and is not IAM's to change.
    assert len(iam.list_access_keys()["AccessKeyMetadata"]) == 1
    assert seen(iam.create_access_key) == (400, "ValidationError")


def test_policies(iam, user):
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "ebs:*", "Resource": "*"}]}
    iam.put_user_policy(UserName=user, PolicyName="one", PolicyDocument=json.dumps(document))
    found = iam.get_user_policy(UserName=user, PolicyName="one")
    assert (found["UserName"], found["PolicyName"], found["PolicyDocument"]) == (user, "one", document)
    iam.put_user_policy(UserName=user, PolicyName="another", PolicyDocument=allow("ebs:*"))
    assert iam.list_user_policies(UserName=user)["PolicyNames"] == ["another", "one"]
    page = iam.list_user_policies(UserName=user, MaxItems=1)
    assert (page["PolicyNames"], page["IsTruncated"]) == (["another"], True)
    assert iam.list_user_policies(UserName=user, Marker=page["Marker"])["PolicyNames"] == ["one"]
    iam.delete_user_policy(UserName=user, PolicyName="one")
    e = refused(iam.get_user_policy, UserName=user, PolicyName="one")
    assert (e.status, e.code, e.message) == (404, "NoSuchEntity", "The user policy with name one cannot be found.")


@pytest.mark.parametrize(
    "document",
    [
        "{",
        allow("ebs:*")[:-1],
        allow(),
        json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ebs:*", "Resource": "*", "Condition": {"StringSomehow": {"aws:username": "x"}}}]}),
        json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ebs:*", "Resource": "*", "Principal": "*"}]}),
        json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ebs:*", "Resource": "*"}] * 10_000}),
    ],
    ids=["no JSON", "cut", "no actions", "unknown operator", "a principal", "10,000 statements"],
)
def test_policies_that_are_none(iam, user, document):
    # Refused when it is set: nothing is there to be ignored later.
    status, code = seen(iam.put_user_policy, UserName=user, PolicyName="p", PolicyDocument=document)
    assert (status, code) in [(400, "MalformedPolicyDocument"), (400, "ValidationError"), (413, "RequestEntityTooLarge")]
    assert iam.list_user_policies(UserName=user)["PolicyNames"] == []


def test_policy_of_1_mib(iam, user):
    assert seen(iam.put_user_policy, UserName=user, PolicyName="p", PolicyDocument=allow("ebs:" + "x" * (1 << 20)))[0] in (400, 413)
    e = refused(iam.put_user_policy, UserName=user, PolicyName="p", PolicyDocument=allow("ebs:" + "x" * 2048))
    assert (e.status, e.code, e.message) == (409, "LimitExceeded", f"Maximum policy size of 2048 bytes exceeded for user {user}")


def test_roles(iam):
    made = iam.create_role(
        RoleName="reader", Path="/x/", AssumeRolePolicyDocument=json.dumps(TRUST), Description="reads", MaxSessionDuration=7200
    )["Role"]
    assert made["RoleId"].startswith("AROA") and made["Arn"].endswith(":role/x/reader")
    assert (made["AssumeRolePolicyDocument"], made["Description"], made["MaxSessionDuration"]) == (TRUST, "reads", 7200)
    assert iam.get_role(RoleName="reader")["Role"] == made
    assert iam.list_roles(PathPrefix="/x/")["Roles"] == [made]
    iam.put_role_policy(RoleName="reader", PolicyName="p", PolicyDocument=allow("ebs:Get*"))
    assert iam.get_role_policy(RoleName="reader", PolicyName="p")["PolicyDocument"] == json.loads(allow("ebs:Get*"))
    assert iam.list_role_policies(RoleName="reader")["PolicyNames"] == ["p"]
    changed = json.loads(json.dumps(TRUST).replace("*", made["Arn"].split(":")[4]))
    iam.update_assume_role_policy(RoleName="reader", PolicyDocument=json.dumps(changed))
    assert iam.get_role(RoleName="reader")["Role"]["AssumeRolePolicyDocument"] == changed
    assert seen(iam.update_assume_role_policy, RoleName="reader", PolicyDocument=allow("sts:AssumeRole")) == (400, "MalformedPolicyDocument")
    assert seen(iam.delete_role, RoleName="reader") == (409, "DeleteConflict")
    iam.delete_role_policy(RoleName="reader", PolicyName="p")
    iam.delete_role(RoleName="reader")
    assert seen(iam.get_role, RoleName="reader") == (404, "NoSuchEntity")
    assert seen(iam.create_role, RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST), MaxSessionDuration=60) == (400, "ValidationError")


def test_what_is_not_served(iam, user):
    e = refused(iam.create_group, GroupName="g")
    assert (e.status, e.code) == (400, "InvalidAction") and "CreateGroup" in e.message
    for more in ({"Tags": [{"Key": "a", "Value": "b"}]}, {"PermissionsBoundary": "arn:aws:iam::aws:policy/ReadOnlyAccess"}):
        e = refused(iam.create_user, UserName="bound", **more)
        assert (e.status, e.code) == (400, "ValidationError") and "not supported" in e.message
    e = refused(iam.create_user, UserName="no blanks")
    assert e.message == (
        "1 validation error detected: Value 'no blanks' at 'userName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [\\w+=,.@-]+"
    )
    assert seen(iam.create_user) == (400, "ValidationError")


def test_users_are_bound(server, iam, user):
    key = iam.create_access_key(UserName=user)["AccessKey"]
    own = client_of(server, "iam", key)
    arn = iam.get_user(UserName=user)["User"]["Arn"]
    e = refused(own.get_user)
    assert (e.status, e.code) == (403, "AccessDenied")
    assert e.message.startswith(f"User: {arn} is not authorized to perform: iam:GetUser on resource: {arn} because no identity-based policy")
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=allow("iam:*", resource="arn:aws:iam::*:user/mine/*"))
    own.create_user(UserName="theirs", Path="/mine/")
    assert seen(own.create_user, UserName="theirs") == (403, "AccessDenied")
    assert seen(own.list_users) == (403, "AccessDenied")
    assert [u["UserName"] for u in own.list_users(PathPrefix="/mine/")["Users"]] == ["theirs"]
    own.delete_user(UserName="theirs")


def test_key_disabled_in_the_middle_of_an_upload(server, iam, user, ebs, ec2):
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=allow("ebs:*"))
    key = iam.create_access_key(UserName=user)["AccessKey"]
    theirs = client_of(server, "ebs", key)
    snapshot = theirs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put(theirs, snapshot, 0, A)
    iam.update_access_key(UserName=user, AccessKeyId=key["AccessKeyId"], Status="Inactive")
    e = refused(put, theirs, snapshot, 1, B)
    assert (e.status, e.code, e.message) == (403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    iam.update_access_key(UserName=user, AccessKeyId=key["AccessKeyId"], Status="Active")
    put(theirs, snapshot, 1, B)
    iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    assert seen(theirs.complete_snapshot, SnapshotId=snapshot, ChangedBlocksCount=2) == (403, "UnrecognizedClientException")
    e = refused(client_of(server, "ec2", key).describe_snapshots, SnapshotIds=[snapshot])
    assert (e.status, e.code) == (401, "AuthFailure")
    # What was acknowledged is there, for whoever may go on.
    assert complete(ebs, ec2, snapshot, 2)["State"] == "completed"


def test_scope(server, iam):
    credentials = server.credentials()
    body = b"Action=GetUser&Version=2010-05-08"
    for service, region, code in (("iam", "us-east-1", None), ("iam", "mars-1", "SignatureDoesNotMatch"), ("s3", "us-east-1", "SignatureDoesNotMatch")):
        reply = server.signed("POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}, body, service=service, region=region)
        assert (reply.status, f"<Code>{code}</Code>".encode() in reply.body) == ((200, False) if code is None else (403, True)), reply
    # EC2's action, signed for IAM, is IAM's to refuse.
    reply = server.signed("POST", "/", {}, b"Action=DescribeSnapshots&Version=2016-11-15", service="iam")
    assert reply.status == 400 and b"<Code>InvalidAction</Code>" in reply.body
    reply = server.signed("POST", "/", {}, body, service="iam", credentials=Credentials(credentials.access_key, "wrong"))
    assert reply.status == 403 and b"<ErrorResponse" in reply.body and b"<Code>SignatureDoesNotMatch</Code>" in reply.body
    assert b"<Type>Sender</Type>" in reply.body and reply.headers["x-amzn-requestid"].encode() in reply.body


def test_other_region(tmp_path):
    """SDKs that know IAM to be everywhere sign for us-east-1."""
    server = Server(tmp_path / "data", "--region", "eu-west-3")
    try:
        session = server.session()
        for service in ("iam", "sts"):
            for region in ("us-east-1", "eu-west-3"):
                client = session.client(service, region_name=region)
                assert (client.list_users if service == "iam" else client.get_caller_identity)()["ResponseMetadata"]["HTTPStatusCode"] == 200
    finally:
        assert server.stop() == 0


def test_command_line(server):
    aws = server.aws
    made = aws("iam", "create-user", "--user-name", "cli", "--path", "/cli/")["User"]
    assert aws("iam", "get-user", "--user-name", "cli")["User"] == made
    assert aws("iam", "list-users", "--path-prefix", "/cli/")["Users"] == [made]
    key = aws("iam", "create-access-key", "--user-name", "cli")["AccessKey"]["AccessKeyId"]
    aws("iam", "update-access-key", "--user-name", "cli", "--access-key-id", key, "--status", "Inactive")
    assert [k["Status"] for k in aws("iam", "list-access-keys", "--user-name", "cli")["AccessKeyMetadata"]] == ["Inactive"]
    aws("iam", "delete-access-key", "--user-name", "cli", "--access-key-id", key)
    aws("iam", "put-user-policy", "--user-name", "cli", "--policy-name", "p", "--policy-document", allow("ebs:*"))
    assert aws("iam", "get-user-policy", "--user-name", "cli", "--policy-name", "p")["PolicyDocument"] == json.loads(allow("ebs:*"))
    assert aws("iam", "list-user-policies", "--user-name", "cli")["PolicyNames"] == ["p"]
    aws("iam", "delete-user-policy", "--user-name", "cli", "--policy-name", "p")
    aws("iam", "delete-user", "--user-name", "cli")
    role = aws("iam", "create-role", "--role-name", "cli", "--path", "/cli/", "--assume-role-policy-document", json.dumps(TRUST))["Role"]
    assert aws("iam", "get-role", "--role-name", "cli")["Role"] == role
    assert aws("iam", "list-roles", "--path-prefix", "/cli/")["Roles"] == [role]
    aws("iam", "update-assume-role-policy", "--role-name", "cli", "--policy-document", json.dumps(TRUST))
    aws("iam", "put-role-policy", "--role-name", "cli", "--policy-name", "p", "--policy-document", allow("ebs:*"))
    assert aws("iam", "get-role-policy", "--role-name", "cli", "--policy-name", "p")["PolicyDocument"] == json.loads(allow("ebs:*"))
    assert aws("iam", "list-role-policies", "--role-name", "cli")["PolicyNames"] == ["p"]
    aws("iam", "delete-role-policy", "--role-name", "cli", "--policy-name", "p")
    aws("iam", "delete-role", "--role-name", "cli")
