"""LangChain's standard tests, with `langchain-openai` as anybody installs it, against the real daemon.

Every test of the suites runs. What does not apply is left out by the suite itself or marked here, and
stands in `LEFT_OUT` with the reason; the last test compares that table with what happened.
"""

import subprocess
import sys
from typing import Any, ClassVar

import conftest
import pytest
from harness import Host, examples
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests, EmbeddingsUnitTests
from pydantic import BaseModel

# Which standard tests do not apply, and why.
RECORDING = "it measures the client against a recording, without a server"
ANTHROPIC_FORM = "it sends Anthropic's form of messages through OpenAI's API"
LEFT_OUT = {
    "TestChatUnit::test_serdes": "it compares the client's own form on disk with a recording of it",
    "TestChat::test_anthropic_inputs": ANTHROPIC_FORM,
    "TestChat::test_stream_time": RECORDING,
    "TestResponses::test_anthropic_inputs": ANTHROPIC_FORM,
    "TestResponses::test_stream_time": RECORDING,
    "TestMessages::test_audio_inputs": "Anthropic's API has no sounds, and the client refuses to send them",
    "TestMessages::test_stream_time": RECORDING,
}


class Scripted:
    """What the scripted models can do: everything that travels through OpenAI's API."""

    chat_model_class = ChatOpenAI
    chat_model_params: ClassVar[dict[str, Any]] = {
        "model": "scripted-chat",
        "stream_usage": True,
        "max_retries": 0,
    }
    has_tool_calling = True
    has_tool_choice = True
    has_structured_output = True
    supports_json_mode = True
    supports_image_inputs = True
    supports_image_urls = True
    supports_image_tool_message = True
    supports_pdf_inputs = True
    supports_pdf_tool_message = True
    supports_audio_inputs = True
    supports_video_inputs = True
    supports_model_override = True
    model_override_value = "scripted-slow"
    returns_usage_metadata = True


class TestChatUnit(Scripted, ChatModelUnitTests):
    """What the suite asks of the client alone."""

    init_from_env_params = (
        {"OPENAI_API_KEY": "the key", "OPENAI_API_BASE": "http://127.0.0.1:1/v1"},
        {"model": "scripted-chat"},
        {"openai_api_key": "the key", "openai_api_base": "http://127.0.0.1:1/v1"},
    )

    @pytest.mark.xfail(reason=LEFT_OUT["TestChatUnit::test_serdes"], strict=True)
    def test_serdes(self, model: BaseChatModel, snapshot: Any) -> None:
        super().test_serdes(model, snapshot)


class TestChat(Scripted, ChatModelIntegrationTests):
    """What the suite asks of a client and a model."""


class TestResponses(Scripted, ChatModelIntegrationTests):
    """The same through `/v1/responses`."""

    chat_model_params: ClassVar[dict[str, Any]] = {**Scripted.chat_model_params, "use_responses_api": True}


class TestMessages(Scripted, ChatModelIntegrationTests):
    """The same through `/v1/messages`, with `langchain-anthropic`."""

    chat_model_class = ChatAnthropic
    chat_model_params: ClassVar[dict[str, Any]] = {"model": "scripted-chat", "max_retries": 0}
    supports_anthropic_inputs = True
    supports_audio_inputs = False


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    """What the suite asks of the client alone."""

    @property
    def embeddings_class(self) -> Any:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "scripted-embed"}


class TestEmbeddings(EmbeddingsIntegrationTests):
    """What the suite asks of a client and a model."""

    @property
    def embeddings_class(self) -> Any:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        # Without this the client wants a tokenizer for the model, which it fetches from another site.
        return {"model": "scripted-embed", "check_embedding_ctx_length": False}


@pytest.mark.parametrize(
    ("client", "options", "begins"),
    [
        (ChatOpenAI, {}, "chatcmpl-"),
        (ChatOpenAI, {"use_responses_api": True}, "resp_"),
        (ChatAnthropic, {}, "msg_"),
    ],
    ids=["chat", "responses", "messages"],
)
def test_each_client_speaks_the_interface_that_it_should(
    client: type[BaseChatModel], options: dict[str, Any], begins: str
) -> None:
    answer = client(model="scripted-chat", **options).invoke("hello")
    assert answer.text == "You said: hello"
    assert answer.response_metadata["id"].startswith(begins)


class Trip(BaseModel):
    """A trip to a place."""

    city: str
    days: int


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_every_way_to_a_structured_answer_works(method: str) -> None:
    model: BaseChatModel = ChatOpenAI(model="scripted-chat")
    schema: Any = Trip.model_json_schema() if method == "json_mode" else Trip
    asked = "city=Bern for 3 days, as JSON with 'city' and 'days'"
    answer = model.with_structured_output(schema, method=method).invoke(asked)
    if method == "json_mode":
        assert isinstance(answer, dict)
        assert answer.keys() == {"city", "days"}
    else:
        assert answer == Trip(city="Bern", days=3)


def test_usage_is_what_the_model_counted(host: Host) -> None:
    answer = ChatOpenAI(model="scripted-chat").invoke("where is Bern?")
    line = host.served("scripted")[-1]
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == line["promptTokens"]
    assert answer.usage_metadata["output_tokens"] == line["completionTokens"]


def test_the_example_of_the_documentation_runs(host: Host) -> None:
    (example,) = examples("applications.md", "python", "langchain_openai", host.url)
    for name, other in {"stand-in-embed": "scripted-embed", "stand-in": "scripted-chat"}.items():
        example = example.replace(name, other)
    ran = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60)
    assert ran.stdout.splitlines() == ["You said: Where is Bern?", "8"], ran.stderr


def test_the_table_says_what_was_left_out(request: pytest.FixtureRequest) -> None:
    left_out = request.config.stash[conftest.LEFT_OUT]
    assert left_out.keys() - LEFT_OUT.keys() == set(), left_out
    passed = request.config.stash[conftest.PASSED]
    assert passed & LEFT_OUT.keys() == set()
