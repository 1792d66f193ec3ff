"""The list of models, and single models whose ids contain slashes."""

from urllib.parse import quote

import openai
import pytest
from harness import Host


def test_the_list_names_every_model_and_its_owner(host: Host) -> None:
    models = {model.id: model for model in host.openai().models.list()}
    assert {"stand-in", "stand-in-embed", "base-echo", "test/frame", "test/slow"} <= models.keys()
    assert {model.object for model in models.values()} == {"model"}
    assert all(isinstance(model.created, int) for model in models.values())
    assert models["test/frame"].owned_by == "tests"


@pytest.mark.parametrize("model", ["stand-in", "base-echo", "test/frame"])
def test_the_sdk_gets_a_model_by_its_id(host: Host, model: str) -> None:
    assert host.openai().models.retrieve(model).id == model


@pytest.mark.parametrize("path", ["test/frame", quote("test/frame", safe="")])
def test_an_id_with_a_slash_is_found_encoded_or_not(host: Host, path: str) -> None:
    answer = host.http("GET", f"/v1/models/{path}")
    assert (answer.status, answer.json()["id"]) == (200, "test/frame")


@pytest.mark.parametrize("model", ["nothing-here", "test/nothing", "test%2Fnothing"])
def test_a_model_that_nobody_serves_is_not_found(host: Host, model: str) -> None:
    answer = host.http("GET", f"/v1/models/{model}")
    assert (answer.status, answer.error()["code"]) == (404, "model_not_found")


def test_the_sdk_raises_not_found(host: Host) -> None:
    with pytest.raises(openai.NotFoundError):
        host.openai().models.retrieve("nothing-here")
