"""Hands every transcript of a dialect to the tests that ask for ``transcript``."""

import pytest

from . import transcripts


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "transcript" in metafunc.fixturenames and metafunc.cls is not None:
        metafunc.parametrize("transcript", transcripts.names(metafunc.cls.dialect.name))
