"""Encryption by default and the default key. Spec: ec2-snapshots §7."""

import pytest

from harness import refused


@pytest.fixture
def ec2(fresh):
    return fresh.client("ec2")


@pytest.fixture
def keys(ec2):
    """What ResetEbsDefaultKmsKeyId gives."""
    return ec2.reset_ebs_default_kms_key_id()["KmsKeyId"]


def test_before_any_change(fresh, ec2):
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    assert ec2.disable_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    assert fresh.aws("ec2", "get-ebs-default-kms-key-id") == {"KmsKeyId": "alias/aws/ebs"}
    assert fresh.aws("ec2", "get-ebs-encryption-by-default")["EbsEncryptionByDefault"] is False


def test_dry_run(ec2):
    for call, args in [
        (ec2.get_ebs_encryption_by_default, {}),
        (ec2.enable_ebs_encryption_by_default, {}),
        (ec2.disable_ebs_encryption_by_default, {}),
        (ec2.get_ebs_default_kms_key_id, {}),
        (ec2.modify_ebs_default_kms_key_id, {"KmsKeyId": "alias/any"}),
        (ec2.reset_ebs_default_kms_key_id, {}),
    ]:
        assert refused(call, DryRun=True, **args).code == "DryRunOperation"


def test_enable(fresh, ec2, keys):
    fresh.account("other")
    for _ in range(2):
        assert ec2.enable_ebs_encryption_by_default()["EbsEncryptionByDefault"] is True
    assert fresh.client("ec2", "other").get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    fresh.restart()
    ec2 = fresh.client("ec2")
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is True
    assert fresh.aws("ec2", "disable-ebs-encryption-by-default")["EbsEncryptionByDefault"] is False
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False


def test_default_key(ec2, keys):
    assert keys.startswith("arn:aws:kms:us-east-1:") and ":key/" in keys
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    for name in ["alias/aws/ebs", keys, keys.rpartition("/")[2]]:
        assert ec2.modify_ebs_default_kms_key_id(KmsKeyId=name)["KmsKeyId"] == keys
        assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == keys
    found = refused(ec2.modify_ebs_default_kms_key_id, KmsKeyId="alias/none")
    assert (found.status, found.code) == (400, "InvalidParameterValue")
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == keys
