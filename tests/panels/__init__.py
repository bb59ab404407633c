import pytest

# The suite asserts in a module that pytest would not rewrite by itself.
pytest.register_assert_rewrite("tests.panels.conformance")
