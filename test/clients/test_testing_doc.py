"""The snippet of docs/testing-your-tool.md, as it stands there."""

from shale_fixture import shale  # noqa: F401  a fixture


def test_throttled(shale):
    shale.behave([{"operation": "StartSnapshot", "when": {"first": 2}, "effect": {"error": "RequestThrottledException"}}])
    shale.client("ebs").start_snapshot(VolumeSize=1)
    assert shale.struck() == [2]
    shale.advance(7200)  # the snapshot times out
