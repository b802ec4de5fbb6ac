"""Fixtures: servers and clients."""

import os
import sys
from pathlib import Path

import pytest

from harness import SHALE, Server

# What shale_fixture needs, which people copy as it is.
os.environ["SHALE_BIN"] = SHALE
sys.path.append(str(Path(__file__).parents[2] / "shaletest"))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for all tests that leave its clock and its process alone."""
    server = Server(tmp_path_factory.mktemp("shale") / "data", "--anonymous")
    yield server
    assert server.stop() == 0


@pytest.fixture
def fresh(tmp_path):
    """A server of the test's own, whose clock it may move and which it may restart."""
    server = Server(tmp_path / "data", "--anonymous", "--test-controls")
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def ebs(server):
    # What the SDK would refuse by itself is for the server to refuse.
    return server.client("ebs", parameter_validation=False, max_pool_connections=64)


@pytest.fixture(scope="session")
def ec2(server):
    return server.client("ec2", parameter_validation=False)


def pytest_terminal_summary(terminalreporter):
    """Names what was not run on this machine, by the runners before this one too."""
    names = [name for name in os.environ.get("SHALE_NOT_RUN", "").splitlines() if name]
    names += [f"{report.nodeid}: {report.longrepr[2]}" for report in terminalreporter.stats.get("skipped", [])]
    for name in names:
        terminalreporter.write_line(f"not run here: {name}")
