"""Fixtures of this folder's tests."""

from tests.support.stores import stored_fixture as stored_fixture
