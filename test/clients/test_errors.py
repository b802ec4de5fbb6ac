"""The rows of the specification's error tables, as boto3 sees them. Spec: ebs-direct §2.3–§5, §8."""

import pytest

from harness import A, B, BLOCK_SIZE, checksum, list_blocks, list_changed, make, put, refused

UNKNOWN = "snap-0123456789abcdef0"
KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def framework(*violations):
    """The message of the framework's refusal of some values."""
    n = len(violations)
    return f"{n} validation error{'s' if n > 1 else ''} detected: " + "; ".join(
        f"Value {'null' if value is None else repr(value)} at '{field}' failed to satisfy constraint: Member must {rule}"
        for field, value, rule in violations
    )


def check(e, status, code, reason, message=None):
    assert (e.status, e.code, e.reason) == (status, code, reason), e
    if message is not None:
        assert e.message == message


@pytest.fixture(scope="module")
def pending(ebs):
    return ebs.start_snapshot(VolumeSize=1)["SnapshotId"]


@pytest.fixture(scope="module")
def parent(ebs, ec2):
    return make(ebs, ec2, {0: A, 2: B}, size=2)


@pytest.fixture(scope="module")
def child(ebs, ec2, parent):
    return make(ebs, ec2, {i: A for i in range(4, 154)}, size=2, ParentSnapshotId=parent)


# --- StartSnapshot ---

PATTERN = "satisfy regular expression pattern: "
START_FRAMEWORK = [
    (dict(VolumeSize=0), ("volumeSize", "0", "have value greater than or equal to 1")),
    (dict(VolumeSize=-1), ("volumeSize", "-1", "have value greater than or equal to 1")),
    (dict(VolumeSize=None), ("volumeSize", None, "not be null")),
    (dict(Timeout=9), ("timeout", "9", "have value greater than or equal to 10")),
    (dict(Timeout=4321), ("timeout", "4321", "have value less than or equal to 4320")),
    (dict(ClientToken="x" * 256), ("clientToken", "x" * 256, "have length less than or equal to 255")),
    (dict(ClientToken="a b"), ("clientToken", "a b", PATTERN + r"^[\S]+$")),
    (dict(Description="x" * 256), ("description", "x" * 256, "have length less than or equal to 255")),
    (dict(ParentSnapshotId="vol-1"), ("parentSnapshotId", "vol-1", PATTERN + "^snap-[0-9a-f]+$")),
    (dict(ParentSnapshotId="snap-XYZ"), ("parentSnapshotId", "snap-XYZ", PATTERN + "^snap-[0-9a-f]+$")),
]


@pytest.mark.parametrize("change, violation", START_FRAMEWORK, ids=lambda v: str(v)[:40])
def test_start_framework(ebs, change, violation):
    args = {k: v for k, v in {"VolumeSize": 1, **change}.items() if v is not None}
    check(refused(ebs.start_snapshot, **args), 400, "ValidationException", None, framework(violation))


@pytest.mark.parametrize(
    "change",
    [
        dict(Description=""),
        dict(ClientToken=""),
        dict(ParentSnapshotId="snap-" + "0" * 60),
        dict(KmsKeyArn="alias/aws/ebs"),
        dict(KmsKeyArn="1234abcd-12ab-34cd-56ef-1234567890ab"),
        dict(KmsKeyArn=""),
        dict(Tags=[{"Key": "k" * 128, "Value": "v"}]),
        dict(Tags=[{"Key": "k", "Value": "v" * 256}]),
        dict(Tags=[{"Key": "", "Value": "v"}]),
    ],
    ids=lambda v: str(v)[:40],
)
def test_start_framework_without_recorded_text(ebs, change):
    e = refused(ebs.start_snapshot, **{"VolumeSize": 1, **change})
    check(e, 400, "ValidationException", None)
    assert "validation error detected: " in e.message


def test_start_names_every_violation(ebs):
    e = refused(ebs.start_snapshot, VolumeSize=0, Timeout=9)
    check(e, 400, "ValidationException", None)
    assert e.message.startswith("2 validation errors detected: ")
    for part in framework(
        ("volumeSize", "0", "have value greater than or equal to 1"),
        ("timeout", "9", "have value greater than or equal to 10"),
    ).split(": ", 1)[1].split("; "):
        assert part in e.message


START_REFUSED = {
    "65537 GiB": (dict(VolumeSize=65537), "INVALID_VOLUME_SIZE", "Invalid volume size: 65537"),
    "far too large": (dict(VolumeSize=99999999999), "INVALID_VOLUME_SIZE", "Invalid volume size: 99999999999"),
    "unknown key": (dict(KmsKeyArn=KEY), "INVALID_CUSTOMER_KEY", None),
    "encrypted with unknown key": (dict(Encrypted=True, KmsKeyArn=KEY), "INVALID_CUSTOMER_KEY", None),
    "key of another region": (dict(KmsKeyArn=KEY.replace("us-east-1", "eu-west-1")), "INVALID_CUSTOMER_KEY", None),
    "key but not encrypted": (
        dict(Encrypted=False, KmsKeyArn=KEY),
        "INVALID_PARAMETER_VALUE",
        "Encrypt cannot be false when KmsKeyArn is specified",
    ),
    "control character": (dict(Description="a\x01b"), "INVALID_PARAMETER_VALUE", None),
    "noncharacter": (dict(Description="a\uffff"), "INVALID_PARAMETER_VALUE", None),
    "control character in tag": (dict(Tags=[{"Key": "k", "Value": "\x02"}]), "INVALID_TAG", None),
    "reserved tag": (dict(Tags=[{"Key": "aws:x", "Value": "v"}]), "INVALID_TAG", None),
    "tag twice": (dict(Tags=[{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}]), "INVALID_TAG", None),
    "51 tags": (dict(Tags=[{"Key": f"k{i}", "Value": ""} for i in range(51)]), "INVALID_TAG", None),
}


@pytest.mark.parametrize("change, reason, message", START_REFUSED.values(), ids=START_REFUSED)
def test_start_refused(ebs, change, reason, message):
    check(refused(ebs.start_snapshot, **{"VolumeSize": 1, **change}), 400, "ValidationException", reason, message)


@pytest.mark.parametrize(
    "change",
    [
        dict(VolumeSize=65536),
        dict(Timeout=10),
        dict(Timeout=4320),
        dict(ClientToken="y" * 255),
        dict(Description="ü" * 255),  # lengths count characters
        dict(Description="line\nbreak\ttab"),
        dict(Encrypted=False),
        dict(Tags=[{"Key": "ü" * 127, "Value": "v" * 255}, {"Key": "K"}, {"Key": "k"}]),
        dict(Tags=[{"Key": f"k{i}", "Value": ""} for i in range(50)]),
        # boto3 escapes each of these characters as twelve bytes.
        pytest.param(
            dict(Tags=[{"Key": f"{i:02}" + "\U0001f4be" * 125, "Value": "\U0001f4be" * 255} for i in range(50)]), id="largest tags"
        ),
    ],
    ids=lambda v: str(v)[:40],
)
def test_start_accepted_at_the_limit(ebs, change):
    ebs.start_snapshot(**{"VolumeSize": 1, **change})


def test_start_parent(ebs, pending, parent):
    check(
        refused(ebs.start_snapshot, VolumeSize=2, ParentSnapshotId=UNKNOWN),
        404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", f"The snapshot '{UNKNOWN}' does not exist.",
    )  # fmt: skip
    check(
        refused(ebs.start_snapshot, VolumeSize=2, ParentSnapshotId=pending),
        400, "ValidationException", "INVALID_SNAPSHOT_ID", f"Source snapshot ({pending}) is not complete.",
    )  # fmt: skip
    check(
        refused(ebs.start_snapshot, VolumeSize=1, ParentSnapshotId=parent),
        400, "ValidationException", "INVALID_VOLUME_SIZE",
    )  # fmt: skip
    for more, message in [
        (dict(KmsKeyArn=KEY), "ParentSnapshotId and KmsKeyArn cannot be specified together"),
        (dict(KmsKeyArn=KEY, Encrypted=True), "ParentSnapshotId and KmsKeyArn cannot be specified together"),
        (dict(Encrypted=True), "ParentSnapshotId and Encrypt cannot be specified together"),
        (dict(Encrypted=False), "ParentSnapshotId and Encrypt cannot be specified together"),
    ]:
        check(
            refused(ebs.start_snapshot, VolumeSize=2, ParentSnapshotId=parent, **more),
            400, "ValidationException", "INVALID_PARAMETER_VALUE", message,
        )  # fmt: skip


# --- PutSnapshotBlock ---

PUT_REFUSED = {
    "past the end": (
        dict(BlockIndex=2048), 400, "ValidationException", "INVALID_BLOCK", "Block index 2048 is beyond the volume size extent",
    ),
    "largest index": (
        dict(BlockIndex=2**31 - 1), 400, "ValidationException", "INVALID_BLOCK", "Block index 2147483647 is beyond the volume size extent",
    ),
    "negative index": (
        dict(BlockIndex=-1), 400, "ValidationException", None,
        framework(("blockIndex", "-1", "have value greater than or equal to 0")),
    ),
    "index too large for an int32": (dict(BlockIndex=2**31), 400, "SerializationException", None, None),
    "short body": (
        dict(BlockData=A[:-1], Checksum=checksum(A[:-1])), 400, "ValidationException", "INVALID_PARAMETER_VALUE", "Failed to read block data",
    ),
    "short body, honest length": (
        dict(BlockData=A[:512], DataLength=512, Checksum=checksum(A[:512])),
        400, "ValidationException", "INVALID_PARAMETER_VALUE", "Failed to read block data",
    ),
    "empty body": (
        dict(BlockData=b"", Checksum=checksum(b"")), 400, "ValidationException", "INVALID_PARAMETER_VALUE", "Failed to read block data",
    ),
    "wrong Data-Length": (
        dict(DataLength=1), 400, "ValidationException", "INVALID_BLOCK", "Block data length 1 is not valid, expected 524288",
    ),
    "SHA1": (
        dict(ChecksumAlgorithm="SHA1"), 400, "ValidationException", "INVALID_PARAMETER_VALUE",
        "Unsupported Checksum Algorithm 'SHA1', supported algorithms are SHA256",
    ),
    "checksum not base64": (
        dict(Checksum="$" * 44), 400, "ValidationException", None,
        framework(("checksum", "$" * 44, PATTERN + "^[A-Za-z0-9+/=]+$")),
    ),
    "checksum of something else": (
        dict(Checksum=checksum(B)), 403, "InvalidSignatureException", None,
        "The value passed in as x-amz-Checksum does not match the computed checksum. "
        f"Computed checksum: {checksum(A)} expected checksum: {checksum(B)}",
    ),
    "no checksum": (
        dict(Checksum=None), 400, "ValidationException", None, framework(("checksum", None, "not be null")),
    ),
    "no algorithm": (
        dict(ChecksumAlgorithm=None), 400, "ValidationException", None, framework(("checksumAlgorithm", None, "not be null")),
    ),
    "no Data-Length": (
        dict(DataLength=None), 400, "ValidationException", None, framework(("dataLength", None, "not be null")),
    ),
    "progress 101": (
        dict(Progress=101), 400, "ValidationException", None,
        framework(("progress", "101", "have value less than or equal to 100")),
    ),
    "unknown snapshot": (
        dict(SnapshotId=UNKNOWN), 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", f"The snapshot '{UNKNOWN}' does not exist.",
    ),
    "malformed snapshot": (
        dict(SnapshotId="snap-xyz"), 400, "ValidationException", None,
        framework(("snapshotId", "snap-xyz", PATTERN + "^snap-[0-9a-f]+$")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("change, status, code, reason, message", PUT_REFUSED.values(), ids=PUT_REFUSED)
def test_put_refused(ebs, change, status, code, reason, message):
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    check(refused(put, ebs, snapshot, 0, A, **change), status, code, reason, message)
    # Nothing was written.
    while (status := ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=0)["Status"]) == "pending":
        pass
    assert status == "completed"


def test_put_to_a_completed_snapshot(ebs, parent):
    check(
        refused(put, ebs, parent, 1, A),
        400, "ValidationException", "INVALID_SNAPSHOT_ID", "Snapshot is already completed",
    )  # fmt: skip


# --- CompleteSnapshot ---

MISSING = "Invalid parameter combination. {} is missing."
COMPLETE_REFUSED = {
    "no count": (dict(ChangedBlocksCount=None), None, framework(("changedBlocksCount", None, "not be null"))),
    "negative count": (
        dict(ChangedBlocksCount=-1), None,
        framework(("changedBlocksCount", "-1", "have value greater than or equal to 0")),
    ),
    "checksum alone": (dict(Checksum=checksum(b"")), "INVALID_PARAMETER_VALUE", MISSING.format("Checksum algorithm")),
    "algorithm alone": (dict(ChecksumAlgorithm="SHA256"), "INVALID_PARAMETER_VALUE", MISSING.format("Snapshot checksum")),
    "method alone": (
        dict(ChecksumAggregationMethod="LINEAR"), "INVALID_PARAMETER_VALUE", MISSING.format("Snapshot checksum"),
    ),
    "no method": (
        dict(Checksum=checksum(b""), ChecksumAlgorithm="SHA256"), "INVALID_PARAMETER_VALUE",
        MISSING.format("Checksum aggregation method"),
    ),
    "SHA1": (
        dict(Checksum=checksum(b""), ChecksumAlgorithm="SHA1", ChecksumAggregationMethod="LINEAR"), None,
        framework(("checksumAlgorithm", "SHA1", "satisfy enum value set: [SHA256]")),
    ),
    "unknown method": (
        dict(Checksum=checksum(b""), ChecksumAlgorithm="SHA256", ChecksumAggregationMethod="TREE"), None,
        framework(("checksumAggregationMethod", "TREE", "satisfy enum value set: [LINEAR]")),
    ),
    "checksum not base64": (
        dict(Checksum="!", ChecksumAlgorithm="SHA256", ChecksumAggregationMethod="LINEAR"), None,
        framework(("checksum", "!", PATTERN + "^[A-Za-z0-9+/=]+$")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("change, reason, message", COMPLETE_REFUSED.values(), ids=COMPLETE_REFUSED)
def test_complete_refused(ebs, pending, change, reason, message):
    args = {"SnapshotId": pending, "ChangedBlocksCount": 0, **change}
    args = {k: v for k, v in args.items() if v is not None}
    check(refused(ebs.complete_snapshot, **args), 400, "ValidationException", reason, message)
    put(ebs, pending, 0, A)  # it is still open


def test_complete_unknown(ebs):
    e = refused(ebs.complete_snapshot, SnapshotId=UNKNOWN, ChangedBlocksCount=0)
    check(e, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", f"The snapshot '{UNKNOWN}' does not exist.")


# --- ListSnapshotBlocks, ListChangedBlocks ---

LIST_FRAMEWORK = [
    (dict(MaxResults=99), ("maxResults", "99", "have value greater than or equal to 100")),
    (dict(MaxResults=10001), ("maxResults", "10001", "have value less than or equal to 10000")),
    (dict(StartingBlockIndex=-1), ("startingBlockIndex", "-1", "have value greater than or equal to 0")),
]


@pytest.mark.parametrize("change, violation", LIST_FRAMEWORK, ids=lambda v: str(v)[:40])
def test_list_framework(ebs, parent, child, change, violation):
    for e in [
        refused(ebs.list_snapshot_blocks, SnapshotId=parent, **change),
        refused(ebs.list_changed_blocks, FirstSnapshotId=parent, SecondSnapshotId=child, **change),
    ]:
        check(e, 400, "ValidationException", None, framework(violation))


@pytest.mark.parametrize("token", ["*", "a" * 257, "%"])
def test_list_page_token_outside_its_pattern(ebs, parent, token):
    check(refused(ebs.list_snapshot_blocks, SnapshotId=parent, NextToken=token), 400, "ValidationException", None)


def test_unreadable_snapshots_do_not_exist(ebs, pending, parent):
    for snapshot in [UNKNOWN, pending]:
        for e in [
            refused(ebs.list_snapshot_blocks, SnapshotId=snapshot),
            refused(ebs.list_changed_blocks, FirstSnapshotId=snapshot, SecondSnapshotId=parent),
            refused(ebs.list_changed_blocks, FirstSnapshotId=parent, SecondSnapshotId=snapshot),
            refused(ebs.get_snapshot_block, SnapshotId=snapshot, BlockIndex=0, BlockToken="AlMB"),
        ]:
            check(e, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", f"The snapshot '{snapshot}' does not exist.")


def test_changed_without_a_first_snapshot(ebs, parent):
    for e in [
        refused(ebs.list_changed_blocks, SecondSnapshotId=parent),
        refused(ebs.list_changed_blocks, SecondSnapshotId=UNKNOWN),  # before any look-up
    ]:
        check(e, 400, "ValidationException", "INVALID_SNAPSHOT_ID", "First snapshot should not be empty or null")


def test_unrelated_snapshots(ebs, ec2, parent):
    other = make(ebs, ec2, {0: A})
    for first, second in [(parent, other), (other, parent)]:
        e = refused(ebs.list_changed_blocks, FirstSnapshotId=first, SecondSnapshotId=second)
        check(e, 400, "ValidationException", "UNRELATED_SNAPSHOTS")


def test_foreign_page_tokens(ebs, parent, child):
    blocks = ebs.list_snapshot_blocks(SnapshotId=child, MaxResults=100)
    blocks_token, block_token = blocks["NextToken"], blocks["Blocks"][0]["BlockToken"]
    changed_token = ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child, MaxResults=100)["NextToken"]
    flipped = blocks_token[:10] + ("A" if blocks_token[10] != "A" else "B") + blocks_token[11:]
    for call, token in [
        (dict(SnapshotId=child), changed_token),  # another operation's
        (dict(SnapshotId=parent), blocks_token),  # another snapshot's
        (dict(SnapshotId=child), block_token),  # another kind
        (dict(SnapshotId=child), flipped),
        (dict(SnapshotId=child), blocks_token[:-4]),
        (dict(SnapshotId=child), "AAAADARtoken"),
    ]:
        e = refused(ebs.list_snapshot_blocks, NextToken=token, **call)
        check(e, 400, "ValidationException", "INVALID_PAGE_TOKEN", f"The pagination token {token} is invalid.")
    for first, second, token in [
        (parent, child, blocks_token),
        (child, parent, changed_token),
        (child, child, changed_token),
        (parent, child, block_token),
    ]:
        e = refused(ebs.list_changed_blocks, FirstSnapshotId=first, SecondSnapshotId=second, NextToken=token)
        check(e, 400, "ValidationException", "INVALID_PAGE_TOKEN", f"The pagination token {token} is invalid.")


def test_tokens_are_safe_in_a_query(ebs, child):
    page = ebs.list_snapshot_blocks(SnapshotId=child, MaxResults=100)
    for token in [page["NextToken"], page["Blocks"][0]["BlockToken"]]:
        assert len(token) <= 256
        assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


# --- GetSnapshotBlock ---


def test_get_with_foreign_tokens(ebs, parent, child):
    of_parent = {e["BlockIndex"]: e["BlockToken"] for e in list_blocks(ebs, parent)}
    of_child = {e["BlockIndex"]: e["BlockToken"] for e in list_blocks(ebs, child)}
    page = ebs.list_snapshot_blocks(SnapshotId=child, MaxResults=100)["NextToken"]
    changed = list_changed(ebs, parent, child)[0]
    token = of_parent[0]
    flipped = token[:10] + ("A" if token[10] != "A" else "B") + token[11:]
    for snapshot, index, token in [
        (parent, 2, of_parent[0]),  # another index
        (parent, 1, of_parent[0]),  # a hole
        (parent, 4096, of_parent[0]),  # past the volume
        (child, 0, of_parent[0]),  # the parent's, for an inherited block
        (parent, 0, of_child[0]),
        (parent, 0, page),
        (parent, 4, changed["SecondBlockToken"]),
        (parent, 0, flipped),
        (parent, 0, "AAABAToken"),
    ]:
        e = refused(ebs.get_snapshot_block, SnapshotId=snapshot, BlockIndex=index, BlockToken=token)
        check(e, 400, "ValidationException", "INVALID_BLOCK_TOKEN", f"The block token {token} is invalid.")


def test_get_without_a_token(server, parent):
    reply = server.signed("GET", f"/snapshots/{parent}/blocks/0")
    assert (reply.status, reply.code) == (400, "ValidationException")
    assert reply.json == {"message": framework(("blockToken", None, "not be null"))}
    reply = server.signed("GET", f"/snapshots/{parent}/blocks/0?blockToken=")
    assert (reply.status, reply.code) == (400, "ValidationException")
    assert "Reason" not in reply.json


def test_get_ignores_ranges_and_conditions(server, ebs, parent):
    token = list_blocks(ebs, parent)[0]["BlockToken"]
    headers = {"Range": "bytes=0-9", "If-None-Match": "*", "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    reply = server.signed("GET", f"/snapshots/{parent}/blocks/0?blockToken={token}", headers)
    assert (reply.status, len(reply.body)) == (200, BLOCK_SIZE)
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["x-amz-data-length"] == "524288"


# --- the envelopes ---


def test_shapes_of_errors(server, ebs):
    modelled = server.signed("GET", f"/snapshots/{UNKNOWN}/blocks")
    assert modelled.status == 404
    assert modelled.json == {"Message": f"The snapshot '{UNKNOWN}' does not exist.", "Reason": "SNAPSHOT_NOT_FOUND"}
    assert modelled.headers["x-amzn-requestid"]
    assert modelled.headers["content-type"] == "application/json"
    of_framework = server.signed("GET", "/snapshots/snap-/blocks")
    assert (of_framework.status, list(of_framework.json)) == (400, ["message"])


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/snapshots/completion/snap-0a"),
        ("PATCH", "/snapshots"),
        ("GET", "/snapshots"),  # of the plain dialect only
        ("DELETE", f"/snapshots/{UNKNOWN}"),
        ("POST", f"/snapshots/{UNKNOWN}/blocks"),
        ("GET", f"/snapshots/{UNKNOWN}/nothing"),
        ("GET", "/nothing"),
    ],
)
def test_unknown_operations(server, method, path):
    reply = server.signed(method, path)
    assert (reply.status, reply.code) == (404, "UnknownOperationException")
