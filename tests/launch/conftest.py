"""The fixture of the tests of launch/."""

from pathlib import Path

import pytest

from tests.launch.fake_tools import FakeTools


@pytest.fixture
def tools(tmp_path: Path) -> FakeTools:
    return FakeTools(tmp_path)
