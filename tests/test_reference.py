"""The reference pages are what the code says, and the code says it of everything."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import reference

from raftlog import config, errors, types
from raftlog.client.consumer.options import ConsumerOptions
from raftlog.client.producer.options import ProducerOptions
from raftlog.protocol import apis


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    assert (reference.FOLDER / name).read_text() == reference.PAGES[name]() + "\n", "run scripts/docs"


def test_every_page_is_made_from_the_code() -> None:
    assert {path.name for path in reference.FOLDER.iterdir()} == set(reference.PAGES)


@pytest.mark.parametrize("name, cls", inspect.getmembers(errors, inspect.isclass))
def test_every_error_says_what_it_means(name: str, cls: type) -> None:
    if issubclass(cls, errors.RaftlogError):
        assert len(cls.__dict__["__doc__"] or "") > 20, name


@pytest.mark.parametrize("api", apis.APIS, ids=repr)
def test_every_request_says_what_it_means(api: apis.Api[Any, Any]) -> None:
    assert len(api.request.__dict__["__doc__"] or "") > 20


def test_every_code_has_its_error() -> None:
    """But for the two that stand for no error of their own."""
    missing = [code for code in errors.ErrorCode if type(errors.error_for(code)) is errors.RaftlogError]
    assert missing == [errors.ErrorCode.UNKNOWN_SERVER_ERROR, errors.ErrorCode.NONE]


def test_every_topic_setting_has_bounds_and_a_meaning() -> None:
    assert set(types.TopicConfig.__struct_fields__) == {*config.BOUNDS, *config.WORDS}
    assert not [name for name, *_, meaning in reference.topic_settings() if not meaning]


@pytest.mark.parametrize("cls", [ProducerOptions, ConsumerOptions])
def test_every_option_of_a_client_has_a_meaning(cls: type) -> None:
    rows = list(reference.client_options(cls))
    assert len(rows) > 10
    assert not [name for name, _, meaning in rows if not meaning]
