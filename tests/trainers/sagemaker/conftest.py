"""Fixtures of this folder's tests."""

from tests.support.aws.account import account_fixture as account_fixture
from tests.support.aws.account import shared_fixture as shared_fixture
