"""Quotas, and what the clients' own retries make of them. Spec: ebs-direct §9, §10."""

import json
import subprocess
import threading
import time

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from harness import A, B, BLOCK_SIZE, C, SHALE, Z, Refusal, Server, complete, get, list_blocks, make, put, read_all, refused


@pytest.fixture
def limited(tmp_path):
    """Starts a server of the test's own with quotas."""
    servers = []

    def start(*settings, flags=()):
        servers.append(Server(tmp_path / f"data{len(servers)}", "--anonymous", *flags, *(f"--quota={s}" for s in settings)))
        return servers[-1]

    yield start
    for server in servers:
        assert server.stop() == 0


def at_once(call, *args, **kwargs):
    """The first refusal of a call that is repeated without a pause."""
    for _ in range(1000):
        try:
            call(*args, **kwargs)
        except ClientError as e:
            return Refusal(e)
    raise AssertionError("was never refused")


def metric(server, operation):
    """How many requests of an operation were refused for a quota."""
    lines = server.send("GET", "/metrics").body.decode().splitlines()
    name = f'shale_throttled_requests_total{{operation="{operation}"}} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_boto3_backs_off_and_finishes(limited, mode):
    server = limited("put-block-rate=6", "get-block-rate-per-snapshot=6", "ec2-rate=5", "start-snapshot-rate=1")
    config = Config(retries={"mode": mode, "total_max_attempts": 12})
    ebs, ec2 = (server.session().client(service, config=config) for service in ("ebs", "ec2"))
    blocks = {i: (A, B, C, Z)[i % 4] for i in range(12)}
    for _ in range(2):  # StartSnapshot, too, comes too soon
        snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    writers = [threading.Thread(target=put, args=(ebs, snapshot, i, data)) for i, data in blocks.items()]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    assert complete(ebs, ec2, snapshot, len(blocks))["State"] == "completed"
    assert read_all(ebs, snapshot) == blocks
    assert sum(metric(server, o) for o in ("StartSnapshot", "PutSnapshotBlock", "GetSnapshotBlock"))


def test_shale_upload_backs_off_and_finishes(limited, tmp_path):
    server = limited("put-block-rate=6", "get-block-rate=6", "list-blocks-rate=1")
    image = b"".join(bytes([i + 1]) * BLOCK_SIZE for i in range(14))
    (tmp_path / "image").write_bytes(image)

    def shale(*args):
        return subprocess.run([SHALE, *args, "--json"], env=server.env(), capture_output=True, text=True, check=True).stdout

    snapshot = json.loads(shale("upload", str(tmp_path / "image")))["snapshot_id"]
    shale("download", snapshot, str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == image
    assert metric(server, "PutSnapshotBlock") and metric(server, "GetSnapshotBlock")


def test_refusals(limited):
    server = limited(
        "put-block-rate=3", "put-block-rate-per-snapshot=1", "list-blocks-rate=1", "list-changed-blocks-rate=1",
        "get-block-rate-per-snapshot=1", "complete-snapshot-rate=2", "kms-rate=1",
    )
    ebs, ec2, kms = (server.client(service) for service in ("ebs", "ec2", "kms"))
    done = make(ebs, ec2, {0: A})
    token = list_blocks(ebs, done)[0]["BlockToken"]
    get(ebs, done, 0, token)
    ebs.list_changed_blocks(FirstSnapshotId=done, SecondSnapshotId=done)
    kms.list_keys()
    opened = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]

    for e in (
        at_once(ebs.list_snapshot_blocks, SnapshotId=done),
        at_once(ebs.list_changed_blocks, FirstSnapshotId=done, SecondSnapshotId=done),
        at_once(ebs.complete_snapshot, SnapshotId=done, ChangedBlocksCount=1),
    ):
        assert (e.status, e.code, e.message, e.reason) == (400, "ThrottlingException", "Rate exceeded", None)
    for e in (
        at_once(put, ebs, opened, 0, A),
        at_once(ebs.get_snapshot_block, SnapshotId=done, BlockIndex=0, BlockToken=token),
    ):
        assert (e.status, e.code, e.reason) == (400, "RequestThrottledException", "RESOURCE_LEVEL_THROTTLE")
    e = at_once(kms.list_keys)
    assert (e.status, e.code) == (400, "ThrottlingException")


def test_ec2_and_plain(limited):
    server = limited("ec2-rate=1", "list-blocks-rate=1")
    ec2 = server.client("ec2")
    e = at_once(ec2.describe_snapshots, OwnerIds=["self"])
    assert (e.status, e.code, e.message) == (503, "RequestLimitExceeded", "Request limit exceeded.")
    while (reply := server.plain("GET", "/snapshots")).status == 200:
        pass
    assert (reply.status, reply.json["error"]["code"], reply.headers["retry-after"]) == (429, "THROTTLED", "1")
    time.sleep(1)
    assert server.plain("GET", "/snapshots").status == 200


def test_the_101st_pending_snapshot(limited):
    server = limited("aws", "start-snapshot-rate=1000")
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    snapshots = [ebs.start_snapshot(VolumeSize=1, ClientToken=f"t{i}")["SnapshotId"] for i in range(100)]
    e = refused(ebs.start_snapshot, VolumeSize=1)
    assert (e.status, e.code, e.reason) == (400, "ConcurrentLimitExceededException", None)
    assert "100" in e.message
    assert ebs.start_snapshot(VolumeSize=1, ClientToken="t7")["SnapshotId"] == snapshots[7]
    reply = server.plain("POST", "/snapshots", {"volume_size": 1}, {"content-type": "application/json"})
    assert (reply.status, reply.json["error"]["code"]) == (402, "QUOTA_EXCEEDED")
    made = complete(ebs, ec2, snapshots[0], 0)
    assert made["State"] == "completed"
    ebs.start_snapshot(VolumeSize=1)
    ec2.delete_snapshot(SnapshotId=snapshots[1])
    ebs.start_snapshot(VolumeSize=1)
    assert refused(ebs.start_snapshot, VolumeSize=1).code == "ConcurrentLimitExceededException"
    assert len(ec2.describe_snapshots(Filters=[{"Name": "status", "Values": ["pending"]}])["Snapshots"]) == 100


def test_starts_that_race_for_the_last_place(limited):
    server = limited("pending-snapshots=5", "snapshots=5")
    ebs, ec2 = server.client("ebs", max_pool_connections=20), server.client("ec2")
    outcomes = []

    def start():
        try:
            outcomes.append(ebs.start_snapshot(VolumeSize=1)["SnapshotId"])
        except ebs.exceptions.ConcurrentLimitExceededException:
            outcomes.append(None)

    racers = [threading.Thread(target=start) for _ in range(20)]
    for r in racers:
        r.start()
    for r in racers:
        r.join()
    assert len(outcomes) == 20 and len([o for o in outcomes if o]) == 5
    assert len(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]) == 5


def test_the_number_of_snapshots(limited):
    server = limited("snapshots=2", "copies=1")
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    source = make(ebs, ec2, {0: A})
    ec2.copy_snapshot(SourceRegion="us-east-1", SourceSnapshotId=source)
    e = refused(ebs.start_snapshot, VolumeSize=1)
    assert (e.status, e.code, e.reason) == (402, "ServiceQuotaExceededException", "DEPENDENCY_SERVICE_QUOTA_EXCEEDED")
    ec2.get_waiter("snapshot_completed").wait(WaiterConfig={"Delay": 1})
    e = refused(ec2.copy_snapshot, SourceRegion="us-east-1", SourceSnapshotId=source)
    assert (e.status, e.code) == (400, "SnapshotLimitExceeded")
    ec2.delete_snapshot(SnapshotId=source)
    ebs.start_snapshot(VolumeSize=1)


@pytest.mark.parametrize(
    "setting, words",
    [("snapshot=3", "is the name of no quota; those are start-snapshot-rate"), ("snapshots=0", "is not a number from 1"), ("all", "neither aws nor NAME=N")],
)
def test_settings_that_are_refused(tmp_path, setting, words):
    with pytest.raises(RuntimeError, match=words) as refusal:
        Server(tmp_path / "data", f"--quota={setting}")
    assert "exited 2" in str(refusal.value)
    assert not (tmp_path / "data").exists()
