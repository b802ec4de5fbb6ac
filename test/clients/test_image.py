"""Images, extents, diffs and bearer tokens, by clients that know nothing of shale.

Spec: plain-json, What this dialect adds; Which dialect a request gets.
"""

import hashlib
import json
import re
import shutil
import subprocess
import time

import pytest
import requests

from harness import A, B, BLOCK_SIZE, SHALE, Server, Z
from test_plain import data, make

GIB = 1 << 30


def needs(program, package):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}, of Debian's {package}")


@pytest.fixture(scope="module")
def image(server):
    """A snapshot, its URL and its bytes."""
    snapshot = make(server, {0: A, 3: Z, 4: B, 2047: A})
    content = bytearray(GIB)
    for index, block in {0: A, 4: B, 2047: A}.items():
        content[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE] = block
    return snapshot, f"{server.url}/snapshots/{snapshot}/image", bytes(content)


def run(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, timeout=120, **more).stdout


def test_curl_gets_the_volume(image, tmp_path):
    _, url, content = image
    run("curl", "--silent", "--fail", "--output", tmp_path / "disk", url)
    assert (tmp_path / "disk").read_bytes() == content


def test_curl_resumes(image, tmp_path):
    _, url, content = image
    disk = tmp_path / "disk"
    disk.write_bytes(content[:-1000])
    run("curl", "--silent", "--fail", "--continue-at", "-", "--output", disk, url)
    assert hashlib.sha256(disk.read_bytes()).digest() == hashlib.sha256(content).digest()


def test_requests_ranges(image):
    _, url, content = image
    head = requests.head(url, timeout=20)
    assert (head.status_code, int(head.headers["Content-Length"]), head.headers["Accept-Ranges"]) == (200, GIB, "bytes")
    tag = head.headers["ETag"]
    one = requests.get(url, headers={"Range": "bytes=2097100-2097200", "If-Range": tag}, timeout=20)
    assert (one.status_code, one.headers["Content-Range"]) == (206, f"bytes 2097100-2097200/{GIB}")
    assert one.content == content[2097100:2097201]
    several = requests.get(url, headers={"Range": "bytes=0-9,2097152-2097161,-5"}, timeout=20)
    boundary = re.fullmatch(r"multipart/byteranges; boundary=(\S+)", several.headers["Content-Type"])[1].encode()
    parts = several.content.split(b"--" + boundary)[1:-1]
    assert [p.split(b"\r\n\r\n", 1)[1][:-2] for p in parts] == [A[:10], B[:10], A[:5]]
    assert requests.get(url, headers={"If-None-Match": tag}, timeout=20).status_code == 304
    with requests.get(url, headers={"Range": "bytes=0-9", "If-Range": '"another"'}, stream=True, timeout=20) as whole:
        assert (whole.status_code, int(whole.headers["Content-Length"])) == (200, GIB)
    beyond = requests.get(url, headers={"Range": f"bytes={GIB}-"}, timeout=20)
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{GIB}")
    assert beyond.json()["error"]["code"] == "VALIDATION_ERROR"


def test_extents_name_what_the_image_has(server, image):
    snapshot, _, content = image
    answer = requests.get(f"{server.url}/snapshots/{snapshot}/extents", timeout=20)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    runs = [json.loads(line) for line in answer.text.splitlines()]
    assert [r["state"] for r in runs] == ["data", "zero", "data", "data"]
    rebuilt = bytearray(GIB)
    for r in runs:
        end = r["offset"] + r["length"]
        rebuilt[r["offset"] : end] = content[r["offset"] : end]
    assert rebuilt == content


def test_a_diff_makes_one_image_the_other(server, image):
    snapshot, _, content = image
    other = make(server, {0: B, 3: A, 4: B, 100: B})  # of another lineage
    old = requests.get(f"{server.url}/snapshots/{other}/image", timeout=60).content
    patched = bytearray(old)
    changed = 0
    for line in requests.get(f"{server.url}/snapshots/{snapshot}/diff", {"from": other}, timeout=20).text.splitlines():
        r = json.loads(line)
        end = r["offset"] + r["length"]
        patched[r["offset"] : end] = content[r["offset"] : end] if r["state"] == "data" else bytes(r["length"])
        changed += r["length"]
    assert patched == content
    assert changed == 4 * BLOCK_SIZE


@needs("qemu-img", "qemu-utils and qemu-block-extra")
def test_qemu_img_converts(image, tmp_path):
    _, url, content = image
    source = "json:" + json.dumps({"driver": "raw", "file": {"driver": "http", "url": url}})
    # One coroutine: with several, qemu 7.2 waits for seconds between requests, whatever the server.
    command = ["qemu-img", "convert", "-m", "1", "-O", "raw", source, str(tmp_path / "disk")]
    converted = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "Unknown driver" in converted.stderr or "Unknown protocol" in converted.stderr:
        pytest.skip("needs qemu's curl driver, of Debian's qemu-block-extra")
    assert converted.returncode == 0, converted.stderr
    assert (tmp_path / "disk").read_bytes() == content


@needs("qemu-io", "qemu-utils and qemu-block-extra")
def test_qemu_io_reads_in_the_middle(image):
    _, url, _ = image
    source = "json:" + json.dumps({"driver": "raw", "file": {"driver": "http", "url": url}})
    done = subprocess.run(
        ["qemu-io", "-r", "-c", "read -P 0x42 2097152 524288", "-c", "read -P 0 2621440 4096", source],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if "Unknown driver" in done.stderr:
        pytest.skip("needs qemu's curl driver, of Debian's qemu-block-extra")
    assert done.returncode == 0 and "verification failed" not in done.stdout, done


@needs("nbdkit", "nbdkit")
@needs("nbdcopy", "libnbd-bin")
def test_nbdkit_serves_a_snapshot(image, tmp_path):
    _, url, content = image
    if subprocess.run(["nbdkit", "--dump-plugin", "curl"], capture_output=True).returncode != 0:
        pytest.skip("needs nbdkit's curl plugin")
    run("nbdkit", "-U", "-", "--readonly", "curl", f"url={url}", "--run", f'nbdcopy "$uri" {tmp_path / "disk"}')
    assert (tmp_path / "disk").read_bytes() == content


def test_usage_is_counted(tmp_path):
    server = Server(tmp_path / "data", "--anonymous")
    try:
        parent = make(server, {0: A, 1: B, 2: Z})
        child = make(server, {1: A}, parent_snapshot_id=parent)
        deadline = time.monotonic() + 60
        while True:
            found = [data(server.plain("GET", f"/snapshots/{s}"), 200) for s in (parent, child)]
            if all("usage_at" in f for f in found) and found[0]["unique_bytes"]:
                break
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        assert [(f["full_bytes"], f["unique_bytes"], f["shared_bytes"]) for f in found] == [
            (3 * BLOCK_SIZE, BLOCK_SIZE, BLOCK_SIZE),
            (3 * BLOCK_SIZE, 0, BLOCK_SIZE),
        ]
    finally:
        server.stop()


def test_an_interrupted_upload_goes_on(server):
    snapshot = data(server.plain("POST", "/snapshots", {"volume_size": 1}), 201)["id"]
    for index, block in {0: A, 7: B}.items():
        data(server.plain("PUT", f"/snapshots/{snapshot}/blocks/{index}", block), 201)
    received = data(server.plain("GET", f"/snapshots/{snapshot}/blocks?state=pending"), 200)
    assert [b["block_index"] for b in received["blocks"]] == [0, 7]
    data(server.plain("PUT", f"/snapshots/{snapshot}/blocks/8", A), 201)
    data(server.plain("POST", f"/snapshots/completion/{snapshot}", headers={"x-amz-ChangedBlocksCount": "3"}), 202)
    while data(server.plain("GET", f"/snapshots/{snapshot}"), 200)["status"] == "pending":
        time.sleep(0.02)
    reply = server.plain("GET", f"/snapshots/{snapshot}/blocks?state=pending")
    assert (reply.status, reply.json["error"]["code"]) == (409, "CONFLICT")


def test_a_bearer_token_is_an_account(tmp_path):
    server = Server(tmp_path / "data")
    try:
        url = f"{server.url}/snapshots"
        assert requests.get(url, timeout=20).headers["WWW-Authenticate"] == "Bearer"
        token = run(SHALE, "token", "create", "--data-dir", server.data_dir, text=True).strip()
        headers = {"Authorization": f"Bearer {token}"}
        made = requests.post(url, json={"volume_size": 1}, headers=headers, timeout=20)
        assert made.status_code == 201
        assert requests.get(url, headers=headers | {"Origin": "https://example.com"}, timeout=20).status_code == 200
        assert requests.get(url, headers={"Origin": "https://example.com"}, timeout=20).status_code == 403
        listed = json.loads(run(SHALE, "token", "list", "--data-dir", server.data_dir, "--json"))["tokens"]
        run(SHALE, "token", "revoke", "--data-dir", server.data_dir, listed[0]["id"])
        assert requests.get(url, headers=headers, timeout=20).status_code == 401
        assert token not in server.log.read_text()
        assert server.signed("GET", f"/snapshots/{made.json()['data']['id']}/blocks?state=pending").code == "ResourceNotFoundException"
        assert server.signed("GET", f"/snapshots/{made.json()['data']['id']}/image").code == "UnknownOperationException"
    finally:
        assert server.stop() == 0
