"""What tests of encrypted connections share: an authority, and the certificates of node 1."""

from __future__ import annotations

import pytest

from raftlog.security.credentials import Credentials
from tests.security.made import Made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def one(made: Made) -> Credentials:
    return Credentials.of_node(made.node(1), 1)
