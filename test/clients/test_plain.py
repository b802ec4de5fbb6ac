"""The plain JSON dialect, unsigned, with curl and http.client. Spec: plain-json."""

import json
import subprocess
import time

import pytest

from harness import A, B, BLOCK_SIZE, Server, checksum

COUNT = "x-amz-ChangedBlocksCount"


def data(reply, status):
    assert reply.status == status, reply
    assert reply.json["success"] is True
    assert list(reply.json) == ["success", "data"]
    assert reply.headers["content-type"].startswith("application/json")
    return reply.json["data"]


def error(reply, status, code):
    assert reply.status == status, reply
    assert reply.json["success"] is False
    assert reply.json["error"]["code"] == code, reply
    assert reply.json["error"]["message"]
    assert reply.json["error"]["request_id"]
    return reply.json["error"]


def make(server, blocks, **members):
    """Makes a completed snapshot; returns its ID."""
    snapshot = data(server.plain("POST", "/snapshots", {"volume_size": 1, **members}), 201)["id"]
    for index, body in blocks.items():
        reply = server.plain("PUT", f"/snapshots/{snapshot}/blocks/{index}", body)
        assert data(reply, 201) == {"checksum": checksum(body)}
    reply = server.plain("POST", f"/snapshots/completion/{snapshot}", headers={COUNT: str(len(blocks))})
    assert data(reply, 202) == {"status": "pending"}
    while data(server.plain("GET", f"/snapshots/{snapshot}"), 200)["status"] == "pending":
        time.sleep(0.02)
    return snapshot


@pytest.mark.parametrize("host", ["ebs.us-east-1.localhost", "127.0.0.1"])
def test_the_request_of_the_source_document(server, host):
    """Word for word, but for the address: no body is answered by what is missing."""
    curl = ["curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", "--request", "POST",
            "--url", f"http://{host}:{server.port}/snapshots",
            "--header", "accept: application/json", "--header", "content-type: application/json"]  # fmt: skip
    body, status = subprocess.run(curl, capture_output=True, text=True, check=True).stdout.rsplit("\n", 1)
    assert status == "400"
    answer = json.loads(body)
    assert answer["success"] is False
    assert answer["error"]["code"] == "VALIDATION_ERROR"
    assert answer["error"]["field"] == "volume_size"

    curl += ["--data", '{"VolumeSize": 1}']
    body, status = subprocess.run(curl, capture_output=True, text=True, check=True).stdout.rsplit("\n", 1)
    assert status == "201"
    answer = json.loads(body)
    assert answer["success"] is True
    assert list(answer["data"])[:2] == ["id", "created_at"]
    assert answer["data"]["id"].startswith("snap-0")
    assert answer["data"]["created_at"].endswith("Z")


def test_region_of_the_host(server):
    reply = server.plain("GET", "/snapshots", headers={"Host": f"ebs.us-east-1.localhost:{server.port}"})
    assert reply.status == 200
    reply = server.plain("GET", "/snapshots", headers={"Host": f"ebs.mars-north-1.localhost:{server.port}"})
    assert reply.status >= 400
    assert reply.json["success"] is False


def test_a_snapshot_comes_back_as_it_went_in(server, ebs):
    snapshot = make(server, {0: A, 9: B}, description="plain", tags={"k": "v"})
    found = data(server.plain("GET", f"/snapshots/{snapshot}"), 200)
    assert list(found)[:2] == ["id", "created_at"]
    assert found["id"] == snapshot
    assert (found["status"], found["progress"]) == ("completed", 100)
    assert (found["volume_size"], found["block_size"]) == (1, BLOCK_SIZE)
    assert (found["description"], found["tags"], found["encrypted"]) == ("plain", {"k": "v"}, False)
    assert found["full_bytes"] == 2 * BLOCK_SIZE
    assert "parent_snapshot_id" not in found
    assert None not in found.values()

    listing = data(server.plain("GET", f"/snapshots/{snapshot}/blocks"), 200)
    assert [b["block_index"] for b in listing["blocks"]] == [0, 9]
    assert (listing["volume_size"], listing["block_size"]) == (1, BLOCK_SIZE)
    assert listing["expiry_time"].endswith("Z")
    assert "next_token" not in listing
    for block, body in zip(listing["blocks"], [A, B]):
        reply = server.plain("GET", f"/snapshots/{snapshot}/blocks/{block['block_index']}?blockToken={block['block_token']}")
        assert (reply.status, reply.body) == (200, body)
        assert reply.headers["x-amz-checksum"] == checksum(body)
    assert ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]  # one service below both dialects


def test_changes(server):
    parent = make(server, {0: A, 1: A})
    child = make(server, {1: B, 2: B}, parent_snapshot_id=parent)
    assert data(server.plain("GET", f"/snapshots/{child}"), 200)["parent_snapshot_id"] == parent
    changed = data(server.plain("GET", f"/snapshots/{child}/changedblocks?firstSnapshotId={parent}"), 200)["changed_blocks"]
    assert [c["block_index"] for c in changed] == [1, 2]
    assert "first_block_token" in changed[0] and "second_block_token" in changed[0]
    assert "first_block_token" not in changed[1]
    listed = data(server.plain("GET", f"/snapshots?parent={parent}"), 200)["snapshots"]
    assert [s["id"] for s in listed] == [child]


def test_list_filters_and_pages(server):
    made = [
        data(server.plain("POST", "/snapshots", {"VolumeSize": 1, "tags": [{"Key": "plain-page", "Value": str(i % 2)}]}), 201)["id"]
        for i in range(6)
    ]
    listed, cursor = [], ""
    while cursor is not None:
        page = data(server.plain("GET", f"/snapshots?tag:plain-page=0&status=pending&limit=2{cursor}"), 200)
        assert len(page["snapshots"]) <= 2
        listed += [s["id"] for s in page["snapshots"]]
        cursor = f"&cursor={page['next_cursor']}" if "next_cursor" in page else None
    assert listed == made[::2]
    assert data(server.plain("GET", "/snapshots?tag:plain-page=0&status=completed"), 200)["snapshots"] == []


def test_delete(server):
    snapshot = make(server, {0: A})
    assert data(server.plain("DELETE", f"/snapshots/{snapshot}"), 200) == {"id": snapshot}
    for method in ["GET", "DELETE"]:
        assert error(server.plain(method, f"/snapshots/{snapshot}"), 404, "NOT_FOUND")["reason"] == "SNAPSHOT_NOT_FOUND"


def test_writes_check_what_they_are_given(server):
    snapshot = data(server.plain("POST", "/snapshots", {"volume_size": 1}), 201)["id"]
    path = f"/snapshots/{snapshot}/blocks/0"
    pair = {"x-amz-Checksum": checksum(A), "x-amz-Checksum-Algorithm": "SHA256"}
    assert data(server.plain("PUT", path, A, pair), 201) == {"checksum": checksum(A)}
    error(server.plain("PUT", path, B, pair), 403, "CHECKSUM_MISMATCH")
    error(server.plain("PUT", path, A[:-1]), 400, "VALIDATION_ERROR")
    assert error(server.plain("PUT", f"/snapshots/{snapshot}/blocks/2048", A), 400, "VALIDATION_ERROR")["reason"] == "INVALID_BLOCK"
    assert error(server.plain("PUT", f"/snapshots/{snapshot}/blocks/-1", A), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "body, field",
    [
        (b"", "volume_size"),
        (b"{}", "volume_size"),
        (b'{"volume_size":0}', "volume_size"),
        (b'{"volume_size":65537}', "volume_size"),
        (b'{"VolumeSize":1,"volume_size":1}', "volume_size"),
        (b'{"volume_size":"1"}', "volume_size"),
        (b'{"volume_size":1,"timeout":5}', "timeout"),
        (b'{"volume_size":1,"volume_size":1}', None),
        (b'{"volume_size":1,"description":"\xff"}', None),
        (b"[1]", None),
        (b"{", None),
    ],
)
def test_start_refused(server, body, field):
    e = error(server.plain("POST", "/snapshots", body), 400, "VALIDATION_ERROR")
    if field:
        assert e["field"] == field


def test_other_refusals(server):
    data(server.plain("POST", "/snapshots", {"volume_size": 2, "client_token": "plain"}), 201)
    error(server.plain("POST", "/snapshots", {"volume_size": 1, "client_token": "plain"}), 409, "CONFLICT")
    error(server.plain("GET", "/snapshots/snap-0123456789abcdef0"), 404, "NOT_FOUND")
    error(server.plain("PUT", "/snapshots", {"volume_size": 1}), 405, "METHOD_NOT_ALLOWED")
    error(server.plain("GET", "/snapshots", headers={"Origin": "http://example.com"}), 403, "ACCESS_DENIED")
    error(server.plain("GET", "/snapshots", headers={"Authorization": "Bearer nonsense"}), 401, "UNAUTHENTICATED")


def test_a_signed_request_never_sees_an_envelope(server):
    for authorization in ["AWS4-HMAC-SHA256 nonsense", "AWS nonsense"]:
        reply = server.plain("GET", "/snapshots", headers={"Authorization": authorization, "Accept": "application/json"})
        assert reply.status == 403
        assert reply.code == "IncompleteSignatureException"
        assert "success" not in reply.json


def test_without_anonymous_a_request_needs_credentials(tmp_path):
    server = Server(tmp_path / "data")
    try:
        error(server.plain("POST", "/snapshots", {"volume_size": 1}), 401, "UNAUTHENTICATED")
    finally:
        server.stop()
