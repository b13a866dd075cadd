"""Fixtures of this folder's tests."""

from tests.support.stores import store_fixture as store_fixture
