"""Fixtures for all tests. What tests import lies in modules with names of their own: a conftest of
a folder would hide this one."""

pytest_plugins = ["browser", "postgresql", "running_server"]
