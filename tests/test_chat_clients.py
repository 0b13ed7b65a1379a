"""What clients of OpenAI's API send, and what they are told: bodies and headers as those programs write them."""

import asyncio
import contextlib
import socket
from dataclasses import replace

import httpx
import mlx.core as mx
import openai
import pytest
from chat_models import ANSWERS, taught, writes_letters
from test_chat_server import COUNT, HI, WAIT, error_of, events, post, serving, until

from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_for_completion
from course_lib.generate.engine import Engine
from course_lib.serve import transport
from course_lib.serve.api import ChatRequest, ChatSettings, Refused
from course_lib.serve.gate import Brake, origin_is_own
from course_lib.serve.replies import Chat

V1 = "/v1/chat/completions"


@pytest.fixture(scope="module")
def address():
    with serving(*taught(), name="taught", temperature=0.0, tool=use_calculator) as (address, _):
        yield address


@pytest.fixture(scope="module")
def slow_model():
    tokenizer = taught()[1]
    return writes_letters(tokenizer, sequence_len=4096, n_layer=4), tokenizer


@pytest.fixture(params=["/v1", ""], ids=["with /v1", "without /v1"])
def client(request, address):
    return openai.OpenAI(base_url=address + request.param, api_key="none", max_retries=0, timeout=WAIT)


def content(response):
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


# ---- requests of well-known programs

JSON = {"content-type": "application/json", "authorization": "Bearer sk-none"}
OPEN_WEBUI = {
    "stream": False,
    "model": "taught",
    "messages": [{"role": "user", "content": "Hi"}],
    "temperature": 0.0,
    "top_p": 0.9,
    "min_p": 0.05,
    "max_tokens": 100_000,
    "frequency_penalty": 1.1,
    "presence_penalty": 0.0,
    "reasoning_effort": "medium",
    "seed": -1,
    "stop": ["<|im_end|>", "</s>"],
    "logit_bias": {"1712": -100},
    "response_format": None,
    "top_k": 40,
    "repeat_penalty": 1.1,
    "num_ctx": 2048,
}
LIBRECHAT = {  # through LangChain's client for JavaScript
    "model": "taught",
    "temperature": 0,
    "top_p": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "n": 1,
    "user": "665f0c2b8a7d4e0012345678",
    "stream": False,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
}
LANGCHAIN = {  # ChatOpenAI
    "messages": [{"content": "Hi", "role": "user", "name": "ada"}],
    "model": "taught",
    "max_completion_tokens": 65_536,
    "temperature": 0.0,
    "stream": False,
    "logprobs": True,
    "top_logprobs": 2,
    "parallel_tool_calls": False,
    "tools": [],
}
LLM = {"messages": [*HI], "model": "taught", "stream": False, "temperature": 0, "max_tokens": -1, "logit_bias": {}}


@pytest.mark.parametrize(
    ("body", "ignored"),
    [
        (OPEN_WEBUI, "frequency_penalty, reasoning_effort, logit_bias, repeat_penalty, num_ctx"),
        (LIBRECHAT, "user"),
        (LANGCHAIN, None),
        (LLM, None),
        ({"messages": HI, "top_logprobs": 3}, "top_logprobs"),
        ({"messages": HI, "a\r\nset-cookie: b": 1, "ä": 1}, None),
    ],
    ids=["Open WebUI", "LibreChat", "LangChain", "llm", "half of log-probabilities", "no header may come of it"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_programs_send_is_served_and_what_is_not_done_is_named(address, body, ignored, stream):
    body = {**body, "stream": stream} | ({"stream_options": {"include_usage": True}} if stream else {})
    response = post(address, body, V1, headers=JSON)
    assert response.headers.get("x-ignored-fields") == ignored
    if not stream:
        assert content(response) == ANSWERS["Hi"]
    else:
        deltas = [choice["delta"].get("content", "") for event in events(response) for choice in event["choices"]]
        assert "".join(deltas) == ANSWERS["Hi"]


@pytest.mark.parametrize("value", [-1, 0, None, 1_000_000])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_length_that_is_off_or_too_large_is_what_fits(address, field, value):
    assert content(post(address, {"messages": HI, field: value}, V1)) == ANSWERS["Hi"]


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"messages": [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}, *HI]}, "calls no tools"),
        (
            {"messages": [*HI, {"role": "tool", "tool_call_id": "1", "content": None}]},
            "messages.1: this model calls no",
        ),
        ({"messages": [*HI, {"role": "assistant", "content": None}, *HI]}, "messages.1: the content is null"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0: the content is 5"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}]}, "'image_url'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
            "messages.0.content.0.text: input",
        ),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages.0.content.0.type: field required"),
        ({"stop": list("abcde")}, "stop: list should have at most 4 items"),
        ({"stop": [""]}, "stop.0: string should have at least 1 character"),
        ({"stop": ["a", 5]}, "stop.1: input should be a valid string"),
        ({"tools": [CALL]}, "does not support tools="),
        ({"functions": [{"name": "f"}]}, "does not support functions="),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "does not support response_format="),
        ({"n": 0}, "n: input should be greater"),
    ],
)
def test_the_sentence_is_about_what_the_client_meant(address, change, sentence):
    for path in (V1, "/chat/completions"):
        assert sentence in error_of(post(address, {"messages": HI, **change}, path), 400)


@pytest.mark.parametrize(
    "headers", [{"content-type": "application/x-www-form-urlencoded"}, {}, {"content-type": "text/plain"}]
)
def test_a_body_without_its_content_type_is_told_which(address, headers):
    response = httpx.post(address + V1, content=b'{"messages": [{"role": "user", "content": "Hi"}]}', headers=headers)
    assert "'Content-Type: application/json'" in error_of(response, 400)


# ---- the openai client


def test_messages_in_a_row_from_one_side_are_one(address):
    said = [("system", "a"), ("system", "b"), ("user", "c"), ("user", "d"), ("assistant", "e"), ("user", "f")]
    request = ChatRequest.model_validate({"messages": [{"role": role, "content": text} for role, text in said]})
    (prompt,) = request.question(ChatSettings()).prompts
    assert [(each["role"], each["content"]) for each in prompt] == [
        ("system", "a\n\nb"),
        ("user", "c\n\nd"),
        ("assistant", "e"),
        ("user", "f"),
    ]
    wrong = {"messages": [{"role": "assistant", "content": "e"}, {"role": "user", "content": "f"}]}
    assert "expected 'user'" in error_of(post(address, wrong), 400)


def test_the_openai_client_is_served_with_and_without_v1(client):
    assert client.chat.completions.create(model="taught", messages=HI).choices[0].message.content == ANSWERS["Hi"]
    chunks = client.chat.completions.create(model="taught", messages=HI, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWERS["Hi"]
    with pytest.raises(openai.BadRequestError, match="take turns"):
        client.chat.completions.create(
            model="taught", messages=[{"role": "assistant", "content": "a"}, *HI], stream=True
        )
    if client.base_url.path == "/v1/":
        assert client.models.retrieve("taught").id == "taught"
        with pytest.raises(openai.NotFoundError, match="only 'taught'"):
            client.models.retrieve("org/gpt 9")
    else:
        with pytest.raises(openai.NotFoundError, match="below /v1"):
            client.models.list()


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_are_those_of_a_forward_pass(client, stream):
    """Of the model itself: temperature and top-k play no part. Forced tokens of the calculator have theirs, too."""
    model, tokenizer = taught()
    question = [{"role": "user", "content": "6*7?"}]
    settings = {"logprobs": True, "top_logprobs": 3, "temperature": 0.7, "seed": 3, "extra_body": {"top_k": 2}}
    answer = client.chat.completions.create(model="taught", messages=question, stream=stream, **settings)
    if stream:
        entries = [entry for chunk in answer for entry in (chunk.choices[0].logprobs or NONE).content or []]
    else:
        entries = answer.choices[0].logprobs.content
        assert len(entries) == answer.usage.completion_tokens
    prompt = render_for_completion(tokenizer, question)
    (alone,) = Engine(model, tokenizer, use_calculator).generate_batch([prompt], 512, temperature=0.7, top_k=2, seed=3)
    assert 0 in alone.masks
    logits = model(mx.array([prompt + alone.ids]))[0, len(prompt) - 1 : -1]
    expected = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    for token, row, entry in zip(alone.ids, expected, entries, strict=True):
        assert bytes(entry.bytes) == tokenizer.token(token)
        assert entry.logprob == pytest.approx(row[token].item(), abs=1e-3)
        best = sorted(row.tolist())[:-4:-1]
        assert [other.logprob for other in entry.top_logprobs] == pytest.approx(best, abs=1e-3)


class NONE:
    content = None


@pytest.mark.parametrize("stream", [False, True])
def test_n_replies_are_those_of_n_seeds(address, stream):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=WAIT)
    settings = {"model": "taught", "messages": COUNT, "temperature": 2, "max_tokens": 20}
    alone = [client.chat.completions.create(seed=5 + n, **settings).choices[0].message.content for n in range(3)]
    answer = client.chat.completions.create(seed=5, n=3, stream=stream, logprobs=True, **settings)
    if stream:
        found, ends = ["", "", ""], []
        for chunk in answer:
            for choice in chunk.choices:
                found[choice.index] += choice.delta.content or ""
                ends += [choice.index] if choice.finish_reason else []
        assert sorted(ends) == [0, 1, 2]
    else:
        found = [choice.message.content for choice in answer.choices]
        prompt = client.chat.completions.create(**settings).usage.prompt_tokens
        assert answer.usage.prompt_tokens == prompt and answer.usage.completion_tokens <= 60
    assert found == alone and len(set(alone)) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_plain_text_is_gone_on_with(address, stream):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=WAIT)
    model, tokenizer = taught()
    settings = {"max_tokens": 12, "temperature": 0}
    (alone,) = Engine(model, tokenizer).generate_batch([tokenizer.encode("Hello", bos=True)], **settings)
    answer = client.completions.create(model="taught", prompt="Hello", stream=stream, **settings)
    chunks = list(answer) if stream else [answer]
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    shown = tokenizer.decode(token for token in alone.ids if token < tokenizer.bos)
    assert text == shown and chunks[-1].choices[0].finish_reason in ("stop", "length")
    both = client.completions.create(model="taught", prompt=["Hello", "Hi"], n=2, **settings)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3] and both.choices[1].text == text
    with pytest.raises(openai.BadRequestError, match="shorten it"):
        client.completions.create(model="taught", prompt="ä" * 2000, **settings)


def test_replies_that_nobody_reads_free_all_their_rows(slow_model):
    with serving(*slow_model, max_rows=4) as (address, chat):
        body = {"messages": HI, "max_tokens": 4000, "n": 3, "stream": True}
        with httpx.stream("POST", address + V1, json=body, timeout=WAIT):
            until(lambda: chat.engine.load == (3, 0))
        until(lambda: chat.engine.load == (0, 0))


def test_prompts_that_are_being_made_count_as_waiting():
    """A long conversation takes a while to encode; who comes meanwhile must not pile up in front of the queue."""
    chat = Chat(*taught(), ChatSettings(max_rows=1, max_waiting=1))
    question = replace(ChatRequest(messages=HI).question(chat.settings), max_tokens=2)

    async def crowd():
        await chat._turn.acquire()  # as if a prompt were being made
        waiting = [asyncio.ensure_future(chat.reply(question)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="wait already") as refused:
            await asyncio.wait_for(chat.reply(question), WAIT)
        chat._turn.release()
        for reply in await asyncio.gather(*waiting):
            assert [choice async for _, choice, _ in reply.news()][-1].finish_reason
        return refused.value.status

    assert asyncio.run(crowd()) == 429
    chat.close()


# ---- who may ask


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        ({}, {"host": "host.docker.internal:8000"}, 403),
        ({"allow_host": ("host.docker.internal",)}, {"host": "host.docker.internal:8000"}, 200),
        (
            {"allow_host": ("chat.example.com",)},
            {"host": "chat.example.com:443", "origin": "https://chat.example.com"},
            200,
        ),
        ({}, {"origin": "https://x-8000.app.github.dev"}, 403),
        ({"allow_origin": ("https://x-8000.app.github.dev/",)}, {"origin": "https://x-8000.app.github.dev"}, 200),
        ({"allow_origin": ("https://a.example",)}, {"origin": "https://b.example"}, 403),
        ({}, {"x-forwarded-host": "localhost", "origin": "http://localhost"}, 403),
        (
            {"trusted_proxy": ("127.0.0.0/8",), "allow_host": ("chat.example.com",)},
            {"x-forwarded-host": "evil.example, chat.example.com", "origin": "https://chat.example.com"},
            200,
        ),
        (
            {"trusted_proxy": ("127.0.0.1",)},
            {"x-forwarded-host": "evil.example", "origin": "https://evil.example"},
            403,
        ),
        ({"trusted_proxy": ("10.0.0.1",)}, {"x-forwarded-host": "localhost", "origin": "http://localhost"}, 403),
    ],
)
def test_names_pages_and_proxies_are_believed_as_far_as_the_flags_say(slow_model, settings, headers, status):
    with serving(*slow_model, **settings) as (address, _):
        response = post(address, {"messages": HI, "max_tokens": 1}, headers=headers)
        assert response.status_code == status, response.text
        if status == 403:
            assert "--allow-" in error_of(response, 403)
        if "allow_origin" in settings:
            asked = {**headers, "access-control-request-method": "POST"}
            allowed = httpx.options(address + V1, headers=asked).headers.get("access-control-allow-origin")
            assert allowed == (headers["origin"] if status == 200 else None)


def test_a_port_that_goes_without_saying_is_no_other_origin():
    assert origin_is_own("https://a.example", "a.example:443") and origin_is_own("http://a.example:80", "a.example")
    for origin in ("https://a.example", "http://a.example:443", "ftp://a.example", "http://a.example:8080"):
        assert not origin_is_own(origin, "a.example:80"), origin


def test_who_guesses_keys_is_slowed_down_and_others_are_not(slow_model, monkeypatch):
    monkeypatch.setattr(Brake, "TRIES", 3)
    proxy = {"trusted_proxy": ("127.0.0.1",)}
    with serving(*slow_model, api_key="sesame", **proxy) as (address, _):

        def status(key, sender):
            headers = {"authorization": f"Bearer {key}", "x-forwarded-for": f"1.1.1.1, {sender}"} if key else {}
            return httpx.get(f"{address}/v1/models", headers=headers).status_code

        assert [status(None, "") for _ in range(5)] == [401] * 5  # no guess
        assert [status(f"guess {n}", "7.7.7.7") for n in range(5)] == [401] * 3 + [429] * 2
        assert status("sesame", "7.7.7.7") == 429, "or a guesser would know the right one by its answer"
        assert status("sesame", "7.7.7.8") == 200
        monkeypatch.setattr(Brake, "SECONDS", 0.0)
        assert status("sesame", "7.7.7.7") == 200


def test_connections_that_ask_nothing_make_room_and_others_stay(slow_model, monkeypatch):
    monkeypatch.setattr(transport, "MAX_CONNECTIONS", 5)
    with serving(*slow_model) as (address, chat), contextlib.ExitStack() as stack:
        host, port = address.removeprefix("http://").split(":")
        body = {"messages": HI, "max_tokens": 4000}
        stack.enter_context(httpx.stream("POST", f"{address}/chat/completions", json=body, timeout=WAIT))
        idle = [stack.enter_context(socket.create_connection((host, int(port)), timeout=5)) for _ in range(120)]
        for _ in range(3):
            assert httpx.get(f"{address}/health").status_code == 200
        with contextlib.suppress(ConnectionResetError):
            assert idle[0].recv(1) == b"", "the oldest was closed"
        assert chat.engine.load == (1, 0), "and the one that reads was not"
