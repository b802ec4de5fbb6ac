"""Who is asking: SigV4 in its forms and failures. Spec: ebs-direct §1.1, §2.1, §9.4."""

import datetime
import hashlib

import botocore.auth
import pytest
from botocore.credentials import Credentials

from harness import A, checksum, list_blocks, make

PUT_HEADERS = {
    "X-Amz-Data-Length": "524288",
    "X-Amz-Checksum": checksum(A),
    "X-Amz-Checksum-Algorithm": "SHA256",
}
LIST = "/snapshots/snap-0123456789abcdef0/blocks"  # 404 once the signature is right


@pytest.fixture(scope="module")
def block(ebs):
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    return f"/snapshots/{snapshot}/blocks/0"


def test_signature_over_the_body(server, block):
    """As the SDK for Java does on plain HTTP."""
    digest = hashlib.sha256(A).hexdigest()
    reply = server.signed("PUT", block, {**PUT_HEADERS, "X-Amz-Content-SHA256": digest}, A)
    assert reply.status == 201, reply
    reply = server.signed("PUT", block, PUT_HEADERS, A)  # signed, but not sent as a header
    assert reply.status == 201, reply


def test_unsigned_payload_is_for_put_only(server, block):
    headers = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    assert server.signed("PUT", block, {**PUT_HEADERS, **headers}, A).status == 201
    reply = server.signed("POST", "/snapshots", headers, b'{"VolumeSize":1}')
    assert (reply.status, reply.code) == (403, "InvalidSignatureException")


def test_a_digest_header_with_every_operation(server):
    """As the SDK for JavaScript does."""
    reply = server.signed("GET", LIST, {"X-Amz-Content-SHA256": hashlib.sha256(b"").hexdigest()})
    assert reply.status == 404


def test_other_bytes_than_were_signed(server, block):
    def tamper(request):
        request.headers.replace_header("X-Amz-Content-SHA256", hashlib.sha256(A).hexdigest())

    headers = {**PUT_HEADERS, "X-Amz-Content-SHA256": hashlib.sha256(A).hexdigest()}
    reply = server.signed("PUT", block, {**headers, "X-Amz-Checksum": checksum(b"B" * len(A))}, b"B" * len(A), edit=tamper)
    assert (reply.status, reply.code) == (403, "InvalidSignatureException")


def test_presigned(server, ebs, ec2):
    snapshot = make(ebs, ec2, {0: A})
    reply = server.send("GET", server.presigned(f"/snapshots/{snapshot}/blocks"))
    assert (reply.status, len(reply.json["Blocks"])) == (200, 1)
    token = list_blocks(ebs, snapshot)[0]["BlockToken"]
    reply = server.send("GET", server.presigned(f"/snapshots/{snapshot}/blocks/0?blockToken={token}"))
    assert (reply.status, reply.body) == (200, A)
    reply = server.send("GET", server.presigned(f"/snapshots/{snapshot}/blocks", expires=-1))
    assert reply.status in (400, 403)


@pytest.mark.parametrize("minutes, status", [(-14, 404), (14, 404), (-16, 403), (16, 403)])
def test_clock_skew(server, monkeypatch, minutes, status):
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: at)
    reply = server.signed("GET", LIST)
    assert reply.status == status
    if status == 403:
        assert reply.code == "InvalidSignatureException"


def unsign_host(request):
    value = request.headers["Authorization"].replace("SignedHeaders=host;", "SignedHeaders=")
    request.headers.replace_header("Authorization", value)


def no_signature(request):
    value = request.headers["Authorization"].split(", Signature=")[0]
    request.headers.replace_header("Authorization", value)


def wrong_signature(request):
    value = request.headers["Authorization"]
    request.headers.replace_header("Authorization", value[:-1] + ("0" if value[-1] != "0" else "1"))


def other_terminator(request):
    value = request.headers["Authorization"]
    request.headers.replace_header("Authorization", value.replace("aws4_request", "aws3_request"))


@pytest.mark.parametrize(
    "change, code",
    [
        (dict(edit=wrong_signature), "InvalidSignatureException"),
        (dict(edit=unsign_host), "InvalidSignatureException"),
        (dict(edit=other_terminator), "InvalidSignatureException"),
        (dict(service="ec2"), "InvalidSignatureException"),
        (dict(region="eu-west-7"), "InvalidSignatureException"),
        (dict(credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "x" * 40)), "UnrecognizedClientException"),
        (dict(edit=no_signature), "IncompleteSignatureException"),
    ],
    ids=["signature", "host unsigned", "terminator", "service", "region", "unknown key", "incomplete"],
)
def test_refused_signatures(server, change, code):
    reply = server.signed("GET", LIST, **change)
    assert (reply.status, reply.code) == (403, code)
    assert list(reply.json) == ["message"]


def test_wrong_secret(server):
    right = server.credentials()
    reply = server.signed("GET", LIST, credentials=Credentials(right.access_key, "x" * 40))
    assert (reply.status, reply.code) == (403, "InvalidSignatureException")


def test_session_tokens_are_not_issued_here(server):
    right = server.credentials()
    reply = server.signed("GET", LIST, credentials=Credentials(right.access_key, right.secret_key, "a-session-token"))
    assert (reply.status, reply.code) == (403, "UnrecognizedClientException")
    assert reply.json["message"] == "The security token included in the request is invalid."


def test_signature_comes_before_everything_else(server):
    bad = Credentials("AKIAIOSFODNN7EXAMPLE", "x" * 40)
    for method, path in [("GET", "/snapshots/nonsense/blocks"), ("PUT", "/snapshots/x/blocks/-1"), ("POST", "/snapshots")]:
        assert server.signed(method, path, credentials=bad).code == "UnrecognizedClientException"


def test_a_refused_put_reaches_a_client_that_is_still_sending(server, block):
    reply = server.signed("PUT", block, PUT_HEADERS, A, credentials=Credentials("AKIAIOSFODNN7EXAMPLE", "x" * 40))
    assert (reply.status, reply.code) == (403, "UnrecognizedClientException")


def test_content_encoding(server, block):
    reply = server.signed("PUT", block, {**PUT_HEADERS, "Content-Encoding": "gzip"}, A)
    assert (reply.status, reply.code, reply.json["Reason"]) == (400, "ValidationException", "INVALID_CONTENT_ENCODING")
    assert server.signed("PUT", block, {**PUT_HEADERS, "Content-Encoding": "identity"}, A).status == 201


def test_health_needs_no_signature(server):
    assert server.send("GET", "/healthz").status == 200
    assert server.send("GET", "/readyz").status == 200
