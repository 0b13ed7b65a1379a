"""chat_cli in a terminal and in a pipe; the flags and the end of chat_web."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from chat_models import ANSWERS, babbling_folder, taught_folder

from course_lib.scripts import chat_web
from course_lib.scripts.chat_cli import main
from course_lib.serve.terminal import TerminalChat, printable

pytestmark = pytest.mark.slow

WAIT = 60  # seconds: far more than anything here takes


def chat_cli_with(folder):
    return [sys.executable, "-m", "course_lib.scripts.chat_cli", "--temperature", "0", "--checkpoint", str(folder)]


@pytest.fixture(scope="module")
def command():
    return chat_cli_with(taught_folder())


@pytest.fixture(scope="module")
def babbling():
    """A program whose replies take seconds: "abab…"."""
    return [*chat_cli_with(babbling_folder()), "--max-tokens", "4000"]


def run(command, text="", code=0, **arguments):
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=WAIT, **arguments)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, command):
        self.pid, self.file = pty.fork()
        if not self.pid:
            os.environ["TERM"] = "xterm"
            os.execv(command[0], command)
        self.seen = ""

    def until(self, pattern):
        """Read until the pattern has come; what came up to its end."""
        end = time.monotonic() + WAIT
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, self.seen
            if select.select([self.file], [], [], 0.1)[0]:
                self.seen += os.read(self.file, 65536).decode(errors="replace")
        before, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return before

    def interrupt_until(self, pattern):
        """Ctrl-C, again after each second: readline misses one that comes between two of its waits."""
        for _ in range(WAIT):
            self.type("\x03")
            end = time.monotonic() + 1
            while time.monotonic() < end and not re.search(pattern, self.seen):
                if select.select([self.file], [], [], 0.1)[0]:
                    self.seen += os.read(self.file, 65536).decode(errors="replace")
            if re.search(pattern, self.seen):
                break
        self.until(pattern)

    def type(self, text):
        os.write(self.file, text.encode())

    def end(self):
        """The exit code."""
        while True:
            try:
                if not os.read(self.file, 65536):
                    break
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def open_terminal():
    opened = []

    def start(command):
        opened.append(Terminal(command))
        opened[-1].until("you> ")
        return opened[-1]

    yield start
    for terminal in opened:
        os.close(terminal.file)


def test_a_single_prompt_prints_the_reply_and_nothing_else(command):
    assert run([*command, "-p", "Hi"]) == (ANSWERS["Hi"] + "\n", "")


def test_tool_calls_are_legible_and_special_tokens_are_not_shown(command):
    assert run([*command, "-p", "6*7?"])[0] == "Let me see: [6*7 = 42] It is 42.\n"


def test_a_pipe_is_answered_line_by_line_with_commands(command, tmp_path):
    lines = ["Hi", "/clear", "Smile", "/temperature 3", "/temperature 1.5", "/temperature", "/what"]
    lines += ["/save talk.json", "/save talk.json", "/save", "/save no/such/folder"]
    lines += ["/save ~no-such-user/x", f"/save {'x' * 300}", "/save a\0b", "/help", "/quit", "Hi"]
    out, about = run(command, "\n".join(lines) + "\n", cwd=tmp_path)
    assert out.splitlines()[:3] == [ANSWERS["Hi"], "forgotten", ANSWERS["Smile"]]
    assert out.count(ANSWERS["Hi"]) == 1, "it went on after /quit"
    assert "temperature 1.5" in out and "is not between 0 and 2; keeping 0" in out and "/what is not known" in out
    assert "exists already" in out and "give a name" in out and "cannot write" in out and "Ctrl-C" in out
    saved = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert saved == [{"role": "user", "content": "Smile"}, {"role": "assistant", "content": ANSWERS["Smile"]}]
    assert "home folder" in out and "too long" in out and "names no file" in out
    assert len(re.findall(r"\(\d+ tokens, \d+ tokens/s\)", about)) == 2


def test_bad_bytes_and_a_line_that_is_too_long_end_nothing(command):
    done = subprocess.run(
        command, input=b"\xff\xfe\xc3\n" + b"x " * 3000 + b"\n/clear\nHi\n", capture_output=True, timeout=WAIT
    )
    assert done.returncode == 0
    assert "send a shorter one" in done.stderr.decode() and ANSWERS["Hi"] in done.stdout.decode()


def test_a_terminal_streams_answers_edits_lines_and_keeps_history(open_terminal, command):
    terminal = open_terminal([*command, "--max-tokens", "300"])
    terminal.type("Hj\x7fi\n")  # a backspace
    assert ANSWERS["Hi"] in terminal.until("tokens/s")
    terminal.until("you> ")
    terminal.type("/clear\n")
    terminal.until("you> ")
    terminal.type("\x1b[A\x1b[A\n")  # twice up: Hi again
    assert ANSWERS["Hi"] in terminal.until("tokens/s")
    terminal.until("you> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_ctrl_c_stops_the_reply_and_not_the_program(open_terminal, babbling):
    terminal = open_terminal(babbling)
    terminal.type("Hi\n")
    terminal.until("[ab]{5}")
    terminal.type("\x03")
    text = terminal.until("you> ")
    assert "stopped" in text and len(re.findall("[ab]", text)) < 3900
    terminal.type("half a line")
    terminal.until("half a line")
    terminal.interrupt_until(r"Ctrl-D leaves\)")
    terminal.type("/clear\n")
    terminal.until("forgotten")
    terminal.type("Hi\n")
    terminal.until("[ab]{5}")
    terminal.type("\x03")
    assert "stopped" in terminal.until("you> ")
    terminal.type("/quit\n")
    assert terminal.end() == 0


def test_sigterm_during_a_reply_ends_the_program_with_its_code(babbling):
    process = subprocess.Popen([*babbling, "-p", "Hi"], stdout=subprocess.PIPE)
    assert set(process.stdout.read(5)) <= set(b"ab")
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.wait(WAIT) == 143
    assert len(rest) < 3900


def test_a_second_turn_reads_only_what_is_new(command, monkeypatch, capsys):
    from course_lib.generate.engine import Engine
    from course_lib.train.checkpoint import load_model

    model, tokenizer, _ = load_model(taught_folder())
    read = []
    engine = Engine(model, tokenizer)
    find = engine.prefixes.find

    def noting(ids):
        cache = find(ids)
        read.append(len(ids) - (cache.lengths[0] if cache else 0))
        return cache

    monkeypatch.setattr(engine.prefixes, "find", noting)
    talk = TerminalChat(engine, temperature=0.0, top_k=50, max_tokens=100, seed=1)
    talk.say("Hi")
    talk.say("Smile")
    capsys.readouterr()
    new = len(tokenizer.encode("Smile")) + 5
    assert read[1] <= new, read


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (["--tag", "nothing-here"], 1, "speedrun --minutes 5"),
        (["--tag", "a", "--checkpoint", "b"], 2, "one of them"),
        (["--temperature", "3"], 2, "expected 0 to 2"),
        (["--top-k", "0"], 2, "--top-k"),
        (["--tag", "../x"], 1, "cannot name a run"),
    ],
)
def test_wrong_flags_are_told_in_a_sentence(flags, code, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == code
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (["--port", "70000"], 2, "0 to 65535"),
        (["--top-k", "201"], 2, "1 to 200"),
        (["--api-key", ""], 2, "--api-key"),
        (["--max-rows", "0"], 2, "--max-rows"),
        (["--trusted-proxy", "nginx"], 2, "IP address or a network"),
        (["--port", "0", "--host", "no.such.host.invalid"], 1, "cannot listen"),
        (["--port", "0", "--tag", "nothing-here"], 1, "speedrun --minutes 5"),
    ],
)
def test_wrong_flags_of_chat_web_are_told_in_a_sentence(flags, code, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        chat_web.main(flags)
    assert ended.value.code == code
    assert sentence in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_in_a_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(SystemExit):
            chat_web.main(["--port", str(taken.getsockname()[1])])
    assert "choose another --port" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_chat_web_serves_until_it_is_asked_to_end(number):
    flags = ["--checkpoint", str(taught_folder()), "--port", "0"]
    process = subprocess.Popen([sys.executable, "-m", "course_lib.scripts.chat_web", *flags], stdout=subprocess.PIPE)
    address = re.search(rb"http://127\.0\.0\.1:\d+", process.stdout.readline())[0].decode()
    body = {"messages": [{"role": "user", "content": "6*7?"}], "temperature": 0}
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=WAIT).json()
    assert answer["choices"][0]["message"]["content"] == "Let me see: It is 42."
    assert answer["model"] == "taught-sft"
    body = {"messages": [{"role": "user", "content": "Count"}], "temperature": 2, "max_tokens": 4096}
    with httpx.stream("POST", f"{address}/chat/completions", json=body, timeout=WAIT) as response:
        process.send_signal(number)
        response.read()
    assert process.wait(WAIT) == 0
    assert process.stdout.read() == b"ended\n"


def test_a_key_from_the_environment_and_the_end_while_a_body_is_half_sent():
    flags = ["--checkpoint", str(taught_folder()), "--port", "0"]
    command = [sys.executable, "-m", "course_lib.scripts.chat_web", *flags]
    environment = {**os.environ, "COURSE_API_KEY": "sesame"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    address = re.search(rb"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
    url = f"{address[0].decode()}/v1/models/taught-sft"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"authorization": "Bearer sesame"}).json()["id"] == "taught-sft"
    head = b"POST /chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\n"
    halves = [
        b"Content-Length: 1000\r\n\r\n{",
        b"Content-Length: 1000\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    ]
    connections = [socket.create_connection(("127.0.0.1", int(address[1])), timeout=WAIT) for _ in halves]
    for connection, half in zip(connections, halves, strict=True):
        connection.sendall(head + half)
    time.sleep(0.5)  # they are being read; nothing tells when
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=WAIT)
    assert (process.returncode, output, errors) == (0, b"ended\n", b"")
    for connection in connections:
        assert connection.recv(20).startswith(b"HTTP/1.1 503 ")
        connection.close()


def test_what_a_model_writes_cannot_steer_the_terminal():
    assert printable("a\x1b[2Jb\x07\x9bc\r\n\td😀") == "a[2Jbc\n\td😀"
