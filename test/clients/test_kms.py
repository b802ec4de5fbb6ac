"""KMS: keys, aliases, policies, and what is encrypted with them. Source: AWS KMS API Reference; Spec: ebs-direct §1.1."""

import base64
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import SHALE, refused

AWS = str(Path(sys.executable).with_name("aws"))
NONE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def kms(server):
    # What the SDK would refuse by itself is for the server to refuse.
    return server.client("kms", parameter_validation=False)


@pytest.fixture
def key(kms):
    return kms.create_key()["KeyMetadata"]["KeyId"]


def code(call, *args, **kwargs):
    e = refused(call, *args, **kwargs)
    return e.status, e.code


def test_life_of_a_key(kms):
    made = kms.create_key(Description="disks", Tags=[{"TagKey": "team", "TagValue": "storage"}])["KeyMetadata"]
    key = made["KeyId"]
    assert made["Arn"] == f"arn:aws:kms:us-east-1:{made['AWSAccountId']}:key/{key}"
    assert (made["Enabled"], made["KeyState"], made["KeyManager"], made["Origin"]) == (True, "Enabled", "CUSTOMER", "AWS_KMS")
    assert (made["KeyUsage"], made["KeySpec"]) == ("ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT")
    assert abs(made["CreationDate"] - datetime.datetime.now(datetime.timezone.utc)) < datetime.timedelta(minutes=5)
    assert kms.describe_key(KeyId=made["Arn"])["KeyMetadata"] == made
    assert kms.list_resource_tags(KeyId=key)["Tags"] == [{"TagKey": "team", "TagValue": "storage"}]

    kms.disable_key(KeyId=key)
    e = refused(kms.generate_data_key, KeyId=key, KeySpec="AES_256")
    assert (e.status, e.code, e.message) == (400, "DisabledException", f"{made['Arn']} is disabled.")
    kms.enable_key(KeyId=key)
    kms.update_key_description(KeyId=key, Description="other disks")
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["Description"] == "other disks"
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is False

    answer = kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    assert (answer["KeyId"], answer["KeyState"], answer["PendingWindowInDays"]) == (made["Arn"], "PendingDeletion", 7)
    e = refused(kms.encrypt, KeyId=key, Plaintext=b"x")
    assert (e.code, e.message) == ("KMSInvalidStateException", f"{made['Arn']} is pending deletion.")
    assert code(kms.tag_resource, KeyId=key, Tags=[{"TagKey": "a", "TagValue": "b"}]) == (400, "KMSInvalidStateException")
    assert kms.cancel_key_deletion(KeyId=key)["KeyId"] == made["Arn"]
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Disabled"


def test_encryption(kms, key):
    context = {"aws:ebs:id": "vol-1", "übel": "ja"}
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    sealed = kms.encrypt(KeyId=key, Plaintext=b"secret" * 600, EncryptionContext=context)
    opened = kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context)
    assert opened["Plaintext"] == b"secret" * 600
    assert opened["KeyId"] == sealed["KeyId"]
    moved = kms.re_encrypt(
        CiphertextBlob=sealed["CiphertextBlob"], SourceEncryptionContext=context, DestinationKeyId=other
    )
    assert kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], KeyId=other)["Plaintext"] == b"secret" * 600

    data = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context)
    assert len(data["Plaintext"]) == 32
    assert kms.decrypt(CiphertextBlob=data["CiphertextBlob"], EncryptionContext=context)["Plaintext"] == data["Plaintext"]
    assert len(kms.generate_data_key(KeyId=key, NumberOfBytes=1024)["Plaintext"]) == 1024
    blind = kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_128")
    assert "Plaintext" not in blind
    assert len(kms.decrypt(CiphertextBlob=blind["CiphertextBlob"])["Plaintext"]) == 16

    with pytest.raises(kms.exceptions.InvalidCiphertextException):
        kms.decrypt(CiphertextBlob=data["CiphertextBlob"])
    with pytest.raises(kms.exceptions.IncorrectKeyException):
        kms.decrypt(CiphertextBlob=data["CiphertextBlob"], KeyId=other, EncryptionContext=context)
    with pytest.raises(kms.exceptions.DryRunOperationException):
        kms.decrypt(CiphertextBlob=data["CiphertextBlob"], EncryptionContext=context, DryRun=True)


def test_aliases(kms, key):
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/team/disks", TargetKeyId=key)
    with pytest.raises(kms.exceptions.AlreadyExistsException):
        kms.create_alias(AliasName="alias/team/disks", TargetKeyId=other)
    assert kms.describe_key(KeyId="alias/team/disks")["KeyMetadata"]["KeyId"] == key
    listed = kms.list_aliases(KeyId=key)["Aliases"]
    assert [(a["AliasName"], a["TargetKeyId"]) for a in listed] == [("alias/team/disks", key)]
    assert kms.describe_key(KeyId=listed[0]["AliasArn"])["KeyMetadata"]["KeyId"] == key
    kms.update_alias(AliasName="alias/team/disks", TargetKeyId=other)
    assert kms.describe_key(KeyId="alias/team/disks")["KeyMetadata"]["KeyId"] == other
    for call, args, expected in [
        (kms.enable_key, dict(KeyId="alias/team/disks"), "NotFoundException"),
        (kms.enable_key, dict(KeyId=listed[0]["AliasArn"]), "InvalidArnException"),
        (kms.create_alias, dict(AliasName="alias/aws/mine", TargetKeyId=key), "InvalidAliasNameException"),
        (kms.create_alias, dict(AliasName="mine", TargetKeyId=key), "ValidationException"),
        (kms.create_alias, dict(AliasName="alias/two", TargetKeyId="alias/team/disks"), "ValidationException"),
        (kms.update_alias, dict(AliasName="alias/none", TargetKeyId=key), "NotFoundException"),
        (kms.delete_alias, dict(AliasName="alias/none"), "NotFoundException"),
    ]:
        assert code(call, **args) == (400, expected), (call, args)
    kms.delete_alias(AliasName="alias/team/disks")
    assert code(kms.describe_key, KeyId="alias/team/disks") == (400, "NotFoundException")


def test_default_key(kms):
    made = kms.describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]
    assert made["KeyManager"] == "AWS"
    assert kms.describe_key(KeyId="alias/aws/ebs")["KeyMetadata"] == made
    key = made["KeyId"]
    for call, args in [
        (kms.disable_key, {}),
        (kms.schedule_key_deletion, {}),
        (kms.put_key_policy, dict(Policy="{}")),
        (kms.tag_resource, dict(Tags=[{"TagKey": "a", "TagValue": "b"}])),
        (kms.update_key_description, dict(Description="mine")),
    ]:
        assert code(call, KeyId=key, **args) == (400, "AccessDeniedException"), call
    assert code(kms.create_alias, AliasName="alias/mine", TargetKeyId=key) == (400, "AccessDeniedException")


def test_policies(kms, key):
    account = kms.describe_key(KeyId=key)["KeyMetadata"]["AWSAccountId"]
    assert kms.list_key_policies(KeyId=key)["PolicyNames"] == ["default"]
    policy = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
    assert policy["Statement"][0]["Principal"] == {"AWS": f"arn:aws:iam::{account}:root"}
    own = policy["Statement"][0]
    deny = {"Effect": "Deny", "Principal": "*", "Action": "kms:Encrypt", "Resource": "*"}

    def put(*statements, **more):
        return kms.put_key_policy(KeyId=key, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}), **more)

    put(own, deny)
    e = refused(kms.encrypt, KeyId=key, Plaintext=b"x")
    assert (e.code, e.message.endswith("with an explicit deny in a resource-based policy")) == ("AccessDeniedException", True)
    kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    for bad in [
        [{**own, "Condition": {"StringEquals": {"kms:ViaService": "ec2.us-east-1.amazonaws.com"}}}],
        [{**own, "Principal": {"AWS": f"arn:aws:iam::{account}:role/nobody"}}],
        [{**own, "NotAction": "kms:Decrypt"}],
        [deny],
    ]:
        with pytest.raises(kms.exceptions.MalformedPolicyDocumentException):
            put(*bad)
    put(own)
    kms.encrypt(KeyId=key, Plaintext=b"x")


def test_pages(fresh):
    kms = fresh.client("kms")
    keys = sorted(kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(7))
    for i, key in enumerate(keys):
        kms.create_alias(AliasName=f"alias/{i}", TargetKeyId=key)
    kms.tag_resource(KeyId=keys[0], Tags=[{"TagKey": f"t{i:02}", "TagValue": ""} for i in range(50)])

    def pages(operation, member, size, **args):
        found = list(kms.get_paginator(operation).paginate(**args, PaginationConfig={"PageSize": size}))
        assert [p["Truncated"] for p in found] == [True] * (len(found) - 1) + [False]
        return [len(p[member]) for p in found], [e for p in found for e in p[member]]

    sizes, found = pages("list_keys", "Keys", 3)
    assert (sizes, [k["KeyId"] for k in found]) == ([3, 3, 1], keys)
    sizes, found = pages("list_aliases", "Aliases", 4)
    assert (sizes, [a["AliasName"] for a in found]) == ([4, 3], [f"alias/{i}" for i in range(7)])
    sizes, found = pages("list_resource_tags", "Tags", 20, KeyId=keys[0])
    assert (sizes, [t["TagKey"] for t in found]) == ([20, 20, 10], [f"t{i:02}" for i in range(50)])
    assert pages("list_key_policies", "PolicyNames", 1, KeyId=keys[0]) == ([1], ["default"])
    with pytest.raises(kms.exceptions.InvalidMarkerException):
        kms.list_keys(Marker="elsewhere")


def test_tags(kms, key):
    kms.tag_resource(KeyId=key, Tags=[{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": "2"}])
    kms.untag_resource(KeyId=key, TagKeys=["a"])
    assert kms.list_resource_tags(KeyId=key)["Tags"] == [{"TagKey": "b", "TagValue": "2"}]
    fifty = [{"TagKey": f"t{i}", "TagValue": ""} for i in range(50)]
    with pytest.raises(kms.exceptions.LimitExceededException):
        kms.tag_resource(KeyId=key, Tags=fifty)
    with pytest.raises(kms.exceptions.LimitExceededException):
        kms.create_key(Tags=[*fifty, {"TagKey": "one more", "TagValue": ""}])
    with pytest.raises(kms.exceptions.TagException):
        kms.tag_resource(KeyId=key, Tags=[{"TagKey": "aws:mine", "TagValue": ""}])
    assert kms.list_resource_tags(KeyId=key)["Tags"] == [{"TagKey": "b", "TagValue": "2"}]


def test_names_that_lead_nowhere(kms, key):
    arn = kms.describe_key(KeyId=key)["KeyMetadata"]["Arn"]
    for name, expected, message in [
        (NONE, "NotFoundException", f"Key '{arn.replace(key, NONE)}' does not exist"),
        ("mine", "NotFoundException", "Invalid keyId 'mine'"),
        (arn.replace("us-east-1", "eu-west-3"), "NotFoundException", "Invalid arn eu-west-3"),
        (f"arn:aws:kms:us-east-1:999999999999:key/{key}", "AccessDeniedException", None),
        ("arn:aws:s3:::bucket", "InvalidArnException", None),
        ("", "ValidationException", None),
        ("x" * 2049, "ValidationException", None),
    ]:
        e = refused(kms.describe_key, KeyId=name)
        assert (e.status, e.code) == (400, expected), name
        assert message is None or e.message == message
    assert code(kms.describe_key) == (400, "ValidationException")


@pytest.mark.parametrize(
    "args, expected",
    [
        (dict(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY"), "UnsupportedOperationException"),
        (dict(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC"), "UnsupportedOperationException"),
        (dict(Origin="EXTERNAL"), "UnsupportedOperationException"),
        (dict(MultiRegion=True), "UnsupportedOperationException"),
        (dict(CustomKeyStoreId="cks-1234567890abcdef0"), "UnsupportedOperationException"),
        (dict(KeySpec="AES"), "ValidationException"),
        (dict(Policy="nonsense"), "MalformedPolicyDocumentException"),
        (dict(Description="d" * 8193), "ValidationException"),
    ],
    ids=str,
)
def test_keys_that_are_not_made(kms, args, expected):
    assert code(kms.create_key, **args) == (400, expected)


def test_not_served(kms, key):
    assert code(kms.enable_key_rotation, KeyId=key) == (400, "UnsupportedOperationException")
    assert code(kms.list_grants, KeyId=key) == (400, "UnsupportedOperationException")
    assert code(kms.generate_random, NumberOfBytes=8) == (400, "UnsupportedOperationException")


def test_time_and_restarts(fresh):
    kms = fresh.client("kms")
    kept = kms.create_key(Description="kept")["KeyMetadata"]
    doomed = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName="alias/doomed", TargetKeyId=doomed["KeyId"])
    blob = kms.encrypt(KeyId=kept["KeyId"], Plaintext=b"x")["CiphertextBlob"]
    file = Path(fresh.data_dir, "keys", "kms", doomed["KeyId"])
    wrapped = file.read_bytes()[32:92]
    kms.schedule_key_deletion(KeyId=doomed["KeyId"], PendingWindowInDays=7)
    fresh.restart()
    kms = fresh.client("kms")
    assert kms.describe_key(KeyId=kept["KeyId"])["KeyMetadata"] == kept
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    fresh.advance(days=6, hours=23)
    assert kms.describe_key(KeyId="alias/doomed")["KeyMetadata"]["KeyState"] == "PendingDeletion"
    assert wrapped in file.read_bytes()
    fresh.advance(hours=1)
    e = refused(kms.describe_key, KeyId=doomed["KeyId"])
    assert (e.code, e.message) == ("NotFoundException", f"Key '{doomed['Arn']}' does not exist")
    for path in Path(fresh.data_dir).rglob("*"):
        assert path.is_dir() or wrapped not in path.read_bytes(), path
    fresh.restart()
    kms = fresh.client("kms")
    assert code(kms.cancel_key_deletion, KeyId=doomed["KeyId"]) == (400, "NotFoundException")
    assert [k["KeyId"] for k in kms.list_keys()["Keys"]] == [kept["KeyId"]]


def test_signatures(server):
    target = {"X-Amz-Target": "TrentService.ListKeys", "Content-Type": "application/x-amz-json-1.1"}
    reply = server.signed("POST", "/", target, b"{}", service="kms")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-amz-json-1.1")
    reply = server.signed("POST", "/", target, b"{}", service="ebs")
    assert (reply.status, reply.json["__type"]) == (400, "InvalidSignatureException")
    reply = server.send("POST", "/", target, b"{}")
    assert (reply.status, reply.json["__type"]) == (403, "MissingAuthenticationTokenException")
    reply = server.signed("POST", "/", target, b"{", service="kms")
    assert (reply.status, reply.json["__type"]) == (400, "SerializationException")


def test_nothing_secret_is_logged(fresh):
    kms = fresh.client("kms", parameter_validation=False)
    key = kms.create_key(Policy='{"Statement":[{"Sid":"hidden sid","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}')
    key = key["KeyMetadata"]["KeyId"]
    data = kms.generate_data_key(KeyId=key, KeySpec="AES_256")
    refused(kms.encrypt, KeyId=key, Plaintext=b"hidden" * 1000)
    refused(kms.decrypt, CiphertextBlob=b"hidden" * 2000)
    refused(kms.put_key_policy, KeyId=key, Policy="hidden \u2603")
    log = fresh.log.read_text()
    assert "op=kms:GenerateDataKey" in log
    for secret in ["hidden", "aGlkZGVu", base64.b64encode(data["Plaintext"]).decode(), base64.b64encode(data["CiphertextBlob"]).decode()]:
        assert secret not in log


@pytest.fixture
def aws(fresh, tmp_path):
    def run(*args):
        done = subprocess.run(
            ["bash", "-c", 'eval "$("$0" env --data-dir "$1")"; shift; exec "$@"', SHALE, fresh.data_dir, AWS, "kms", *args],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


def test_awscli(aws, fresh, tmp_path):
    """A key as a person uses it, and the exchange of the root key."""
    key = aws("create-key", "--description", "disks", "--tags", "TagKey=a,TagValue=b")["KeyMetadata"]["KeyId"]
    aws("create-alias", "--alias-name", "alias/disks", "--target-key-id", key)
    (tmp_path / "plain").write_bytes(b"secret")
    blob = aws("encrypt", "--key-id", "alias/disks", "--plaintext", "fileb://plain", "--encryption-context", "k=v")["CiphertextBlob"]

    assert fresh.stop() == 0
    subprocess.run([SHALE, "key", "rotate-root", "--data-dir", fresh.data_dir], check=True, capture_output=True)
    new = tmp_path / "root"
    done = subprocess.run(
        [SHALE, "key", "rotate-root", "--data-dir", fresh.data_dir, "--new-root-key-file", str(new)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert ": 1 KMS key" in done.stdout and "--root-key-file" in done.stderr
    with pytest.raises(RuntimeError, match="keys/root"):
        fresh.start()
    fresh.flags += ("--root-key-file", str(new))
    fresh.start()

    (tmp_path / "blob").write_bytes(base64.b64decode(blob))
    opened = aws("decrypt", "--ciphertext-blob", "fileb://blob", "--encryption-context", "k=v")
    assert opened["Plaintext"] == "c2VjcmV0"
    assert [k["KeyId"] for k in aws("list-keys")["Keys"]] == [key]
    assert aws("list-aliases", "--key-id", key)["Aliases"][0]["AliasName"] == "alias/disks"
    assert aws("schedule-key-deletion", "--key-id", key, "--pending-window-in-days", "7")["KeyState"] == "PendingDeletion"
