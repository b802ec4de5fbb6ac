"""STS: who one is, and sessions that end. Source: AWS STS API Reference; Spec: ebs-direct §1.1, §2.1, §9.4."""

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import SHALE, A, put, refused
from test_iam import TRUST, allow, client_of, seen, user  # noqa: F401 (a fixture)

AWS = str(Path(sys.executable).with_name("aws"))


@pytest.fixture(scope="module")
def iam(server):
    return server.client("iam", parameter_validation=False)


@pytest.fixture(scope="module")
def sts(server):
    return server.client("sts", parameter_validation=False)


@pytest.fixture
def role(iam):
    made = iam.create_role(RoleName="worker", Path="/x/", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    iam.put_role_policy(RoleName="worker", PolicyName="p", PolicyDocument=allow("ebs:*", "ec2:*", "iam:GetUser"))
    yield made
    for policy in iam.list_role_policies(RoleName="worker")["PolicyNames"]:
        iam.delete_role_policy(RoleName="worker", PolicyName=policy)
    iam.delete_role(RoleName="worker")


def key_of(iam, user, *actions):
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=allow(*actions))
    return iam.create_access_key(UserName=user)["AccessKey"]


def test_get_caller_identity(server, sts, iam, user, role):  # noqa: F811
    me = server.aws("sts", "get-caller-identity")
    assert me == {"UserId": me["Account"], "Account": me["Account"], "Arn": f"arn:aws:iam::{me['Account']}:root"}
    key = iam.create_access_key(UserName=user)["AccessKey"]
    found = iam.get_user(UserName=user)["User"]
    theirs = client_of(server, "sts", key)
    for policy in (None, json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]})):
        if policy:  # it is told to everybody, whatever policies say
            iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=policy)
        answer = theirs.get_caller_identity()
        assert (answer["UserId"], answer["Account"], answer["Arn"]) == (found["UserId"], me["Account"], found["Arn"])
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=allow("sts:AssumeRole"))
    session = theirs.assume_role(RoleArn=role["Arn"], RoleSessionName="s1")
    answer = client_of(server, "sts", session["Credentials"]).get_caller_identity()
    assert answer["Arn"] == session["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{me['Account']}:assumed-role/worker/s1"
    assert answer["UserId"] == session["AssumedRoleUser"]["AssumedRoleId"] == role["RoleId"] + ":s1"


def test_session_of_a_user(server, iam, sts, user):  # noqa: F811
    key = key_of(iam, user, "ebs:*", "iam:*")
    credentials = client_of(server, "sts", key).get_session_token(DurationSeconds=900)["Credentials"]
    left = credentials["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(minutes=14) < left <= datetime.timedelta(minutes=15)
    assert credentials["AccessKeyId"].startswith("ASIA") and len(credentials["SessionToken"]) <= 4096
    ebs = client_of(server, "ebs", credentials)
    put(ebs, ebs.start_snapshot(VolumeSize=1)["SnapshotId"], 0, A)
    assert seen(client_of(server, "iam", credentials).get_user) == (403, "InvalidClientTokenId")
    e = refused(client_of(server, "sts", credentials).get_session_token)
    assert (e.status, e.code, e.message) == (403, "AccessDenied", "Cannot call GetSessionToken with session credentials")
    for duration in (899, 129_601):
        assert seen(sts.get_session_token, DurationSeconds=duration) == (400, "ValidationError")
    assert seen(sts.get_session_token, SerialNumber="arn:aws:iam::1:mfa/x", TokenCode="123456") == (400, "ValidationError")
    # The session does not need the key that it was begun with, but its user.
    iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    ebs.start_snapshot(VolumeSize=1)


def test_tokens_that_are_none(server, iam, user):  # noqa: F811
    key = key_of(iam, user, "ebs:*")
    sts = client_of(server, "sts", key)
    one, two = (sts.get_session_token()["Credentials"] for _ in range(2))
    token = one["SessionToken"]
    altered = token[:50] + ("A" if token[50] != "A" else "B") + token[51:]
    for what, bad in {
        "another's": dict(one, SessionToken=two["SessionToken"]),
        "altered": dict(one, SessionToken=altered),
        "none": dict(one, SessionToken=None),
        "for a lasting key": dict(key, SessionToken=token),
        "huge": dict(one, SessionToken=token + "A" * 5000),
    }.items():
        e = refused(client_of(server, "ebs", bad).start_snapshot, VolumeSize=1)
        assert (e.status, e.code) == (403, "UnrecognizedClientException"), what
        assert seen(client_of(server, "sts", bad).get_caller_identity) == (403, "InvalidClientTokenId"), what
        assert seen(client_of(server, "kms", bad).list_keys) == (400, "UnrecognizedClientException"), what
        assert seen(client_of(server, "ec2", bad).describe_snapshots) == (401, "AuthFailure"), what
    client_of(server, "ebs", one).start_snapshot(VolumeSize=1)


def test_session_of_a_deleted_user(server, iam):
    iam.create_user(UserName="gone")
    key = key_of(iam, "gone", "ebs:*")
    session = client_of(server, "sts", key).get_session_token()["Credentials"]
    iam.delete_access_key(UserName="gone", AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName="gone", PolicyName="p")
    iam.delete_user(UserName="gone")
    for credentials in (key, session):
        assert seen(client_of(server, "ebs", credentials).start_snapshot, VolumeSize=1) == (403, "UnrecognizedClientException")
    iam.create_user(UserName="gone")  # another one
    assert seen(client_of(server, "ebs", session).start_snapshot, VolumeSize=1) == (403, "UnrecognizedClientException")
    iam.delete_user(UserName="gone")


def test_assume_role(server, iam, sts, user, role):  # noqa: F811
    key = key_of(iam, user, "sts:AssumeRole")
    theirs = client_of(server, "sts", key)
    session = theirs.assume_role(RoleArn=role["Arn"], RoleSessionName="s1", DurationSeconds=900, Policy=allow("ebs:StartSnapshot"))
    assert 0 < session["PackedPolicySize"] < 100
    worker = client_of(server, "ebs", session["Credentials"])
    worker.start_snapshot(VolumeSize=1)
    e = refused(client_of(server, "iam", session["Credentials"]).get_user)
    assert (e.status, e.code) == (400, "ValidationError")  # it has to say whom
    e = refused(client_of(server, "iam", session["Credentials"]).get_user, UserName=user)
    assert e.code == "AccessDenied" and "no session policy allows" in e.message  # the role alone would
    e = refused(sts.assume_role, RoleArn=role["Arn"], RoleSessionName="s1")
    assert (e.status, e.code, e.message) == (403, "AccessDenied", "Roles may not be assumed by root accounts.")
    arn = iam.get_user(UserName=user)["User"]["Arn"]
    for missing in (role["Arn"] + "x", role["Arn"].replace("/x/", "/")):
        e = refused(theirs.assume_role, RoleArn=missing, RoleSessionName="s1")
        assert e.message == f"User: {arn} is not authorized to perform: sts:AssumeRole on resource: {missing}"
    for more in (
        {"DurationSeconds": 3601},
        {"DurationSeconds": 899},
        {"DurationSeconds": 43_201},
        {"RoleSessionName": "no blanks"},
        {"Tags": [{"Key": "a", "Value": "b"}]},
        {"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}]},
        {"SourceIdentity": "me"},
        {"SerialNumber": "arn:aws:iam::1:mfa/x", "TokenCode": "123456"},
    ):
        assert seen(theirs.assume_role, **{"RoleArn": role["Arn"], "RoleSessionName": "s1", **more}) == (400, "ValidationError"), more
    assert seen(theirs.assume_role, RoleArn=role["Arn"], RoleSessionName="s1", Policy="{") == (400, "MalformedPolicyDocument")
    assert seen(theirs.assume_role, RoleArn=role["Arn"], RoleSessionName="s1", Policy=allow("ebs:" + "x" * 2048)) == (400, "PackedPolicyTooLarge")
    assert seen(theirs.get_federation_token, Name="n") == (400, "InvalidAction")


def test_assume_role_of_another_account(server, iam, role):
    server.account("neighbour")
    other = server.client("iam", "neighbour")
    number = other.get_user()["User"]["UserId"]
    trust = json.loads(json.dumps(TRUST).replace('"*"', f'"{number}"'))
    trust["Statement"][0]["Condition"] = {"StringEquals": {"sts:ExternalId": "word"}}
    iam.update_assume_role_policy(RoleName="worker", PolicyDocument=json.dumps(trust))
    other.create_user(UserName="eve")
    key = other.create_access_key(UserName="eve")["AccessKey"]
    eve = client_of(server, "sts", key)
    assume = dict(RoleArn=role["Arn"], RoleSessionName="s1", ExternalId="word")
    assert seen(eve.assume_role, **assume) == (403, "AccessDenied")
    other.put_user_policy(UserName="eve", PolicyName="p", PolicyDocument=allow("sts:AssumeRole"))
    assert seen(eve.assume_role, **dict(assume, ExternalId="sword")) == (403, "AccessDenied")
    session = eve.assume_role(**assume)["Credentials"]
    assert client_of(server, "sts", session).get_caller_identity()["Account"] == role["Arn"].split(":")[4]
    snapshot = client_of(server, "ebs", session).start_snapshot(VolumeSize=1)
    assert snapshot["OwnerId"] == role["Arn"].split(":")[4]


def test_expired_session(fresh):
    iam = fresh.client("iam")
    iam.create_user(UserName="alice")
    key = key_of(iam, "alice", "ebs:*")
    session = client_of(fresh, "sts", key).get_session_token(DurationSeconds=900)["Credentials"]
    ebs = client_of(fresh, "ebs", session)
    fresh.advance(minutes=14)
    ebs.start_snapshot(VolumeSize=1)
    fresh.advance(minutes=1)
    e = refused(ebs.start_snapshot, VolumeSize=1)
    assert (e.status, e.code, e.message) == (403, "ExpiredTokenException", "The security token included in the request is expired")
    assert seen(client_of(fresh, "sts", session).get_caller_identity) == (403, "ExpiredToken")
    assert seen(client_of(fresh, "ec2", session).describe_snapshots) == (400, "RequestExpired")
    assert seen(client_of(fresh, "kms", session).list_keys) == (400, "ExpiredTokenException")
    client_of(fresh, "ebs", key).start_snapshot(VolumeSize=1)  # signatures go by the real clock


def test_sessions_outlive_a_restart(fresh):
    session = fresh.client("sts").get_session_token()["Credentials"]
    fresh.restart()
    assert client_of(fresh, "sts", session).get_caller_identity()["Arn"].endswith(":root")


def test_bearer_token_of_a_user(server, iam, user):  # noqa: F811
    def token(*more):
        return subprocess.run(
            [SHALE, "token", "create", "--data-dir", server.data_dir, *more], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    key_of(iam, user, "ebs:*", "ec2:*")
    made = token("--user", user, "--name", "theirs")
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": "Bearer " + made.stdout.strip()}
    assert server.plain("GET", "/snapshots", headers=headers).status == 200
    arn = iam.get_user(UserName=user)["User"]["Arn"]
    assert f"caller={arn} ".encode() in server.log.read_bytes()
    listed = subprocess.run([SHALE, "token", "list", "--data-dir", server.data_dir, "--json"], stdin=subprocess.DEVNULL, capture_output=True)
    assert [t["user"] for t in json.loads(listed.stdout)["tokens"] if t.get("name") == "theirs"] == [user]
    assert "there is no user" in token("--user", "nobody").stderr
    log = server.log.read_text()
    assert made.stdout.strip() not in log


def test_command_line(server, iam, user, role):  # noqa: F811
    key = key_of(iam, user, "sts:AssumeRole")
    session = client_of(server, "sts", key).get_session_token()["Credentials"]
    assert server.aws("sts", "get-session-token", "--duration-seconds", "900")["Credentials"]["AccessKeyId"].startswith("ASIA")
    assert server.aws("sts", "get-caller-identity")["Arn"].endswith(":root")
    env = dict(
        server.env(), AWS_ACCESS_KEY_ID=session["AccessKeyId"], AWS_SECRET_ACCESS_KEY=session["SecretAccessKey"], AWS_SESSION_TOKEN=session["SessionToken"]
    )
    env.pop("AWS_PROFILE", None)
    done = subprocess.run(
        [AWS, "sts", "assume-role", "--role-arn", role["Arn"], "--role-session-name", "cli"], env=env, stdin=subprocess.DEVNULL, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["AssumedRoleUser"]["Arn"].endswith("/worker/cli")
