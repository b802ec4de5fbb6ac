"""The OpenAPI document, by tools of others. Spec: plain-json, What this dialect adds."""

import os
import subprocess
import sys

import openapi_spec_validator
import pytest
import requests
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from harness import Server


@pytest.fixture(scope="module")
def document(server):
    answer = requests.get(f"{server.url}/openapi.json", timeout=20)
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json()


def test_it_is_valid(document):
    assert document["openapi"] == "3.1.0"
    openapi_spec_validator.validate(document)


def test_every_example_is_of_its_schema(document):
    registry = Registry().with_resource("urn:doc", Resource.from_contents(document, default_specification=_draft()))
    checked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                for content in response.get("content", {}).values():
                    for name, example in content.get("examples", {}).items():
                        if "value" not in example:
                            continue  # bytes of a block
                        schema = _absolute(content["schema"])
                        errors = list(Draft202012Validator(schema, registry=registry).iter_errors(example["value"]))
                        assert not errors, (path, method, status, name, errors)
                        checked += 1
    assert checked > 40


def test_what_ec2_made_is_as_described(server, document):
    """Copies and locks are made through EC2; this dialect shows them all the same."""
    registry = Registry().with_resource("urn:doc", Resource.from_contents(document, default_specification=_draft()))
    ec2, ebs = server.client("ec2"), server.client("ebs")

    def ask(method, snapshot):
        answer = requests.request(method, f"{server.url}/snapshots/{snapshot}", timeout=20)
        response = document["paths"]["/snapshots/{id}"][method.lower()]["responses"][str(answer.status_code)]
        schema = _absolute(response["content"]["application/json"]["schema"])
        Draft202012Validator(schema, registry=registry).validate(answer.json())
        return answer

    copy = ec2.copy_snapshot(SourceRegion="us-east-1", SourceSnapshotId="snap-01234567")["SnapshotId"]
    assert ask("GET", copy).json()["data"]["volume_size"] == 0
    locked = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    ec2.lock_snapshot(SnapshotId=locked, LockMode="governance", LockDuration=1)
    assert ask("DELETE", locked).json()["error"]["code"] == "CONFLICT"
    ec2.unlock_snapshot(SnapshotId=locked)
    assert ask("DELETE", locked).status_code == 200


def _draft():
    from referencing.jsonschema import DRAFT202012

    return DRAFT202012


def _absolute(schema):
    """The schema with references that begin at the document."""
    if isinstance(schema, dict):
        return {k: "urn:doc" + v if k == "$ref" else _absolute(v) for k, v in schema.items()}
    if isinstance(schema, list):
        return [_absolute(v) for v in schema]
    return schema


def test_schemathesis(tmp_path):
    """Requests made up from the document: answered as it says, and never with a 5xx."""
    server = Server(tmp_path / "data", "--anonymous")
    try:
        checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method"
        command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run", f"{server.url}/openapi.json",
                   "--checks", checks, "--phases", "examples,fuzzing,stateful", "--max-examples", "10", "--max-time", "60",
                   "--seed", "1", "--suppress-health-check", "all", "--no-color"]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout
        assert "level=ERROR" not in server.log.read_text()
    finally:
        assert server.stop() == 0
