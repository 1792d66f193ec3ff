"""`bkg chat`: one question for scripts, a conversation for people."""

import json
import os
import signal
import subprocess
from collections.abc import Callable

import pytest
from harness import BINARIES, Host, llmserver, misbehave, until
from terminal import CTRL_C, CTRL_D, Terminal


def whole(host: Host, question: str) -> str:
    """What the official client gets as the answer."""
    answer = host.openai().chat.completions.create(
        model="stand-in", messages=[{"role": "user", "content": question}]
    )
    return answer.choices[0].message.content or ""


def test_a_question_prints_its_answer_and_nothing_else(guarded: Host) -> None:
    expected = whole(guarded, "where is Bern?") + "\n"
    for arguments, typed in [
        (("--model", "stand-in", "where is Bern?"), "not for this"),
        (("--model", "stand-in"), "where is Bern?"),
        (("--model", "stand-in", "-"), "where is Bern?"),
    ]:
        done = guarded.command_line("chat", *arguments, typed=typed)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_a_question_in_json_is_answered_as_the_daemon_does(guarded: Host) -> None:
    done = guarded.command_line("chat", "--json", "--model", "stand-in", "--system", "be brief", "hello")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["object"]) == (0, "chat.completion")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--model", "nobody-has-this", "hello"), 1, "`nobody-has-this`"),
        (("--model", "test/refuses", "hello"), 1, "try again in"),
        (("--model", "stand-in"), 2, "there is no question"),
    ],
)
def test_a_question_that_is_not_answered_fails(
    guarded: Host, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = guarded.command_line("chat", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr, done.stderr


def test_an_answer_that_breaks_off_is_a_failure_after_what_came(guarded: Host) -> None:
    done = guarded.command_line("chat", "--model", "test/breaks", "one two three four five six")
    assert done.returncode == 1
    assert done.stdout.strip() != ""
    assert "the answer broke off" in done.stderr, done.stderr


def asking(host: Host, model: str, question: str) -> subprocess.Popen[bytes]:
    """A `bkg chat` that asks one question and goes on beside the test."""
    return subprocess.Popen(
        [str(BINARIES / "bkg"), "--data-dir", str(host.data), "chat", "--model", model, question],
        env=host.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_plugin_that_dies_in_the_middle_breaks_the_answer_off(start_host: Callable[..., Host]) -> None:
    host = start_host(misbehave())
    with asking(host, "test/slow", "a " * 99) as chat:
        assert chat.stdout is not None
        first = chat.stdout.read(1)
        os.kill(host.instance("misbehave")["pid"], signal.SIGKILL)
        rest, error = chat.communicate(timeout=30)
    assert (chat.returncode, first + rest != b"") == (1, True)
    assert b"broke off" in error, error


def test_a_conversation_goes_on_until_ctrl_d(guarded: Host) -> None:
    with Terminal(guarded, "chat", "--model", "stand-in") as terminal:
        terminal.until("talking with stand-in")
        terminal.until("> ")
        terminal.type("where is Bern?\n")
        assert "where is Bern?" in terminal.until("\n> ")
        terminal.type("/models\n")
        assert "* stand-in" in terminal.until("\n> ")
        terminal.type("/model test/slow\n")
        terminal.until("talking with test/slow")
        terminal.until("> ")
        terminal.type("/nothing\n")
        terminal.until("there is no `/nothing`")
        terminal.until("> ")
        terminal.type("/clear\n")
        terminal.until("forgotten")
        terminal.until("> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0


def test_what_was_said_before_goes_along(start_host: Callable[..., Host]) -> None:
    host = start_host(misbehave())
    with Terminal(host, "chat", "--model", "test/frame", "--system", "be brief") as terminal:
        terminal.until("> ")
        terminal.type("the first\n")
        assert '"role":"system"' in terminal.until("\n> ")
        terminal.type("the second\n")
        frame = terminal.until("\n> ")
        for said in ('"role":"assistant"', "the first", "the second"):
            assert said in frame, frame
        terminal.type(CTRL_D)
        assert terminal.end() == 0


@pytest.mark.parametrize("model", ["test/slow", "test/stall"])
def test_ctrl_c_stops_the_answer_and_not_the_conversation(
    start_host: Callable[..., Host], model: str
) -> None:
    host = start_host(llmserver(), misbehave())
    with Terminal(host, "chat", "--model", model) as terminal:
        terminal.until("> ")
        terminal.type("tell me a long story " * 20 + "\n")
        until(lambda: host.instance("misbehave")["inFlight"] == 1, "the request is at the plugin")
        terminal.type(CTRL_C)
        terminal.until("stopped")
        until(lambda: host.instance("misbehave")["inFlight"] == 0, "the request is cancelled")
        terminal.until("> ")
        terminal.type(CTRL_C)
        terminal.until("Ctrl-D leaves")
        terminal.until("> ")
        terminal.type("/model stand-in\n")
        terminal.until("talking with stand-in")
        terminal.until("> ")
        terminal.type("hello\n")
        assert "stand-in" in terminal.until("\n> ")
        terminal.type(CTRL_D)
        assert terminal.end() == 0


def test_ctrl_c_ends_a_question_for_a_script(start_host: Callable[..., Host]) -> None:
    host = start_host(misbehave())
    with asking(host, "test/stall", "hello") as chat:
        until(lambda: host.instance("misbehave")["inFlight"] == 1, "the request is at the plugin")
        chat.send_signal(signal.SIGINT)
        assert chat.wait(30) == -signal.SIGINT
    until(lambda: host.instance("misbehave")["inFlight"] == 0, "the request is cancelled")
