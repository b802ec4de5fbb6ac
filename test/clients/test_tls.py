"""boto3 and the AWS CLI over TLS, with a certificate that is its own authority.

They are told of it by `ca_bundle` in the data folder's config, and by nothing else.
"""

import subprocess

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import SSLError

from harness import A, B, Server, make, read_all


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=shale", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    server = Server(folder / "data", "--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
    yield server
    assert server.stop() == 0


def test_boto3(secure):
    ebs, ec2 = secure.client("ebs"), secure.client("ec2")
    assert ebs.meta.endpoint_url == f"https://127.0.0.1:{secure.port}"
    snapshot = make(ebs, ec2, {0: A, 7: B})
    assert read_all(ebs, snapshot) == {0: A, 7: B}


def test_the_aws_cli(secure):
    secure.account("other")
    assert secure.aws("ec2", "describe-snapshots", "--owner-ids", "self", profile="other")["Snapshots"] == []
    started = secure.aws("ebs", "start-snapshot", "--volume-size", "1")
    assert started["Status"] == "pending"


def test_who_does_not_know_the_authority_does_not_connect(secure):
    found = secure.credentials()
    client = boto3.Session(found.access_key, found.secret_key, region_name="us-east-1").client(
        "ebs", endpoint_url=f"https://127.0.0.1:{secure.port}", config=Config(retries={"max_attempts": 0}), verify=True
    )
    with pytest.raises(SSLError):
        client.start_snapshot(VolumeSize=1)
