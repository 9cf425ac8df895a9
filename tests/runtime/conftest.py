import pytest

from tests.runtime.graphs import write_text_bundle


@pytest.fixture
def bundle(tmp_path):
    """A text classifier's bundle, fresh for each test to damage."""
    return write_text_bundle(tmp_path / "topic")
