"""Hands the dialects' transcripts and calls to the tests that ask for them, and prints the matrix."""

import pytest

from . import transcripts
from .conformance import FORMS, Conformance
from .matrix import pytest_terminal_summary  # noqa: F401 - for runs of this folder alone


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not isinstance(metafunc.cls, type) or not issubclass(metafunc.cls, Conformance):
        return
    dialect = metafunc.cls.dialect
    folder = metafunc.cls.folder
    cases = {
        "transcript": lambda: transcripts.names(dialect.name, folder),
        "form": lambda: [name for name, form in FORMS.items() if not form.missing(dialect.capabilities)],
        "missing_form": lambda: [name for name, form in FORMS.items() if form.missing(dialect.capabilities)],
    }
    for name in cases.keys() & {*metafunc.fixturenames}:
        metafunc.parametrize(name, cases[name]())
