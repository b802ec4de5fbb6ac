"""A pytest plugin that runs moto's own tests against shale instead of moto.

moto's decorator is made to do nothing, and boto3's clients get, for each test,
a new server in the region that the test names. What has no place in shale, a
volume to take a snapshot of, is stood in for on the client's side: it is a size,
and CreateSnapshot of it is an empty snapshot made by the EBS direct APIs.
selection.toml says which tests are run.
"""

import fnmatch
import os
import sys
import tomllib
import uuid
from collections import Counter
from pathlib import Path

import boto3
import moto
import pytest
from botocore.awsrequest import AWSResponse

sys.path.append(str(Path(__file__).parents[1] / "clients"))
from harness import Server, settled  # noqa: E402

SELECTION = tomllib.loads((Path(__file__).parent / "selection.toml").read_text())

# The test modules take it from here when they are imported, which comes later.
moto.mock_aws = lambda function: function
os.environ["MOTO_TEST_ALLOW_AWS_REQUEST"] = "true"  # and leave that of aws_verified out


left_out = Counter()


def pytest_collection_modifyitems(items):
    chosen, used = [], set()
    for item in items:
        path, name = item.nodeid.split("::")
        names = [name, name.split("[")[0]]
        patterns = SELECTION[path]
        pattern = next((p for p in patterns if any(fnmatch.fnmatchcase(n, p) for n in names)), None)
        if pattern is None:
            raise pytest.UsageError(f"selection.toml does not say whether to run {path}::{name}")
        used.add((path, pattern))
        if patterns[pattern] is True:
            chosen.append(item)
        else:
            left_out[path, patterns[pattern]] += 1
    idle = {(path, pattern) for path, patterns in SELECTION.items() for pattern in patterns} - used
    if idle:
        raise pytest.UsageError(f"selection.toml has patterns that fit no test: {idle}")
    items[:] = chosen


def pytest_terminal_summary(terminalreporter):
    for (path, reason), count in sorted(left_out.items()):
        terminalreporter.write_line(f"left out: {count} of {path}: {reason}")


@pytest.fixture(autouse=True)
def shale(tmp_path, monkeypatch):
    """Points boto3 at a server of the test's own."""
    account = Account(tmp_path / "data")
    monkeypatch.setattr(boto3, "client", account.client)
    monkeypatch.setattr(boto3, "resource", account.resource)
    yield account
    account.close()


@pytest.fixture(autouse=True)
def own_account(request, shale, monkeypatch):
    """The tests name moto's account number; they get the server's."""
    for name in ("ACCOUNT_ID", "OWNER_ID"):
        if hasattr(request.module, name):
            monkeypatch.setattr(request.module, name, shale)


class Account:
    """What a test sees as its AWS account: a server, started in the region that it asks for first."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        self.server = self.region = None
        self.volumes = {}

    def __format__(self, spec):
        return format(self.number(), spec)

    def __eq__(self, other):
        return self.number() == other

    def number(self):
        return self.server.session().client("ebs").start_snapshot(VolumeSize=1)["OwnerId"]

    def session(self, region):
        if self.server is None:
            self.region = region
            self.server = Server(self.data_dir, "--region", region)
        assert region == self.region, f"a server has one region, {self.region}, and the test wants {region}"
        return self.server.session()

    def close(self):
        if self.server:
            assert self.server.stop() == 0

    def client(self, service, region_name):
        return self.equipped(self.session(region_name).client(service))

    def resource(self, service, region_name):
        resource = self.session(region_name).resource(service)
        self.equipped(resource.meta.client)
        return resource

    def equipped(self, client):
        """Lets this class answer what shale has no place for."""
        if client.meta.service_model.service_name == "ec2":
            for operation, answer in {"CreateVolume": self.create_volume, "CreateSnapshot": self.create_snapshot}.items():
                client.meta.events.register(f"before-parameter-build.ec2.{operation}", keep_parameters)
                client.meta.events.register(f"before-call.ec2.{operation}", stand_in(answer))
        return client

    def create_volume(self, params):
        volume = f"vol-{uuid.uuid4().hex[:17]}"
        self.volumes[volume] = {"VolumeSize": params["Size"], "Encrypted": params.get("Encrypted", False)}
        return {"VolumeId": volume, "Size": params["Size"], "State": "available", "Encrypted": self.volumes[volume]["Encrypted"]}

    def create_snapshot(self, params):
        if params.get("DryRun"):
            return None
        volume = self.volumes[params["VolumeId"]]
        request = {"VolumeSize": volume["VolumeSize"]}
        if volume["Encrypted"]:
            request["Encrypted"] = True
        if "Description" in params:
            request["Description"] = params["Description"]
        if "TagSpecifications" in params:
            request["Tags"] = params["TagSpecifications"][0]["Tags"]
        session = self.server.session()
        ebs, ec2 = self.equipped(session.client("ebs")), session.client("ec2")
        started = ebs.start_snapshot(**request)
        ebs.complete_snapshot(SnapshotId=started["SnapshotId"], ChangedBlocksCount=0)
        found = settled(ec2, started["SnapshotId"])
        assert found["State"] == "completed", found
        return {**found, "VolumeId": params["VolumeId"], "Tags": started.get("Tags", [])}


def keep_parameters(params, context, **_):
    context["shale.params"] = params


def stand_in(answer):
    """A handler that answers an operation instead of the server; None from answer is EC2's DryRunOperation."""

    def before_call(context, **_):
        found = answer(context["shale.params"])
        status = 412 if found is None else 200
        error = {"Error": {"Code": "DryRunOperation", "Message": "Request would have succeeded, but DryRun flag is set."}}
        metadata = {"RequestId": str(uuid.uuid4()), "HTTPStatusCode": status}
        return AWSResponse(None, status, {}, None), {**(found or error), "ResponseMetadata": metadata}

    return before_call
