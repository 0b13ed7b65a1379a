"""Several models on one chat server: which are there, when they are loaded, and that they never fill the memory."""

import threading
from contextlib import contextmanager

import httpx
import openai
import pytest
from chat_models import ANSWERS, babbling_folder, taught, taught_folder, writes_letters
from test_chat_server import HI, WAIT, error_of, post, until

from course_lib.host.errors import CourseError
from course_lib.serve.api import ChatSettings
from course_lib.serve.app import create_app
from course_lib.serve.models import chat_models
from course_lib.serve.transport import serve

V1 = "/v1/chat/completions"


class Shelf:
    """Models by name, and which of them were loaded, in order."""

    def __init__(self):
        self.loaded = []

    def loader(self, name, make):
        def load():
            self.loaded.append(name)
            return make()

        return name, load


def letters():
    tokenizer = taught()[1]
    return writes_letters(tokenizer, 4096, 4), tokenizer


def broken():
    raise CourseError("/home/ada/secret/step_000060 is damaged")


@contextmanager
def serving(shelf, **makers):
    others = dict(shelf.loader(name, make) for name, make in makers.items())
    app = create_app(*taught(), ChatSettings(name="first", temperature=0), others)
    with serve(app) as address:
        yield address, app.state.models


def said(address, **body):
    response = post(address, {"messages": HI, **body}, V1)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"], response.json()["model"]


def test_the_model_of_the_request_answers_and_is_loaded_once_and_only_then():
    shelf = Shelf()
    with serving(shelf, second=letters) as (address, _):
        listed = httpx.get(f"{address}/v1/models").json()["data"]
        assert [model["id"] for model in listed] == ["first", "second"]
        assert httpx.get(f"{address}/v1/models/second").json()["id"] == "second"
        assert said(address) == said(address, model="first") == (ANSWERS["Hi"], "first")
        assert shelf.loaded == []
        for _ in range(2):
            text, name = said(address, model="second", max_tokens=5)
            assert set(text) <= {"a", "b"} and name == "second"
        assert shelf.loaded == ["second"]
        assert said(address) == (ANSWERS["Hi"], "first")
        assert httpx.get(f"{address}/stats").json()["replies"] == 5


@pytest.mark.parametrize("name", ["third", "../first", "", None, "x" * 500])
def test_only_what_is_listed_can_be_asked_for(name):
    shelf = Shelf()
    with serving(shelf, second=letters) as (address, _):
        response = post(address, {"messages": HI, "model": name, "max_tokens": 1}, V1)
        if name:
            assert "'first', 'second'" in error_of(response, 404)
        else:
            assert response.json()["model"] == "first"
    assert shelf.loaded == []


def test_nothing_is_loaded_for_a_request_that_is_refused():
    shelf = Shelf()
    with serving(shelf, second=letters) as (address, _):
        for wrong in ({"temperature": 3}, {"n": 99}, {"messages": [{"role": "user", "content": "x" * 9000}]}):
            error_of(post(address, {"messages": HI, "model": "second", **wrong}, V1), 400)
    assert shelf.loaded == []


def test_one_other_at_a_time_and_never_one_that_is_in_use():
    shelf = Shelf()
    with serving(shelf, second=letters, third=letters) as (address, models):
        said(address, model="second", max_tokens=2)
        second = models._other
        until(lambda: not second.busy)
        second._preparing += 1  # as if it were making a prompt, for as long as this takes
        refused = post(address, {"messages": HI, "model": "third", "max_tokens": 2}, V1)
        assert "'second' is in use" in error_of(refused, 503) and refused.headers["retry-after"]
        assert said(address)[1] == "first", "the first answers meanwhile"
        second._preparing -= 1
        assert said(address, model="third", max_tokens=2)[1] == "third"
        assert not second.engine._thread.is_alive(), "the second has left"
        assert said(address, model="second", max_tokens=2)[1] == "second"
        assert shelf.loaded == ["second", "third", "second"]


def test_a_model_that_writes_is_in_use_and_counted():
    with serving(Shelf(), second=letters) as (address, models):
        body = {"messages": HI, "model": "second", "max_tokens": 4000, "stream": True}
        with httpx.stream("POST", address + V1, json=body, timeout=WAIT):
            second = models._other
            assert second.busy and models.counters()["running"] == 1
        until(lambda: not second.busy)


def test_many_who_ask_at_once_for_a_model_load_it_once():
    shelf, found = Shelf(), []
    with serving(shelf, second=letters) as (address, _):
        ask = lambda: found.append(said(address, model="second", max_tokens=3)[1])  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    assert found == ["second"] * 6 and shelf.loaded == ["second"]


def test_a_model_that_cannot_be_loaded_harms_nobody_and_no_path_is_told(capfd):
    with serving(Shelf(), second=broken) as (address, _):
        sentence = error_of(post(address, {"messages": HI, "model": "second"}, V1), 503)
        assert "cannot be loaded" in sentence and "ada" not in sentence
        assert said(address)[1] == "first"
    assert "step_000060 is damaged" in capfd.readouterr().err


def test_the_end_of_the_server_ends_all_models():
    with serving(Shelf(), second=letters) as (address, models):
        said(address, model="second", max_tokens=2)
        engines = [models.first.engine, models._other.engine]
    assert not any(engine._thread.is_alive() for engine in engines)


def test_the_openai_client_lists_and_picks():
    with serving(Shelf(), second=letters) as (address, _):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=WAIT)
        assert [model.id for model in client.models.list()] == ["first", "second"]
        answer = client.chat.completions.create(model="second", messages=HI, max_tokens=3)
        assert answer.model == "second"
        chunks = client.chat.completions.create(
            model="second", messages=HI, max_tokens=3, stream=True, stream_options={"include_usage": True}
        )
        assert {chunk.model for chunk in chunks} == {"second"}


def test_models_for_chat_are_those_that_are_trained_for_it():
    folders = [taught_folder(), babbling_folder()]
    found = chat_models()
    assert {f"{folder.name}-sft" for folder in folders} <= set(found)
    assert not any(name.endswith("-base") for name in found)
    assert list(found)[-1] == "starter-sft", "the model of the course comes last"
    model, tokenizer = found["taught-sft"]()
    assert model.config.vocab_size >= tokenizer.vocab_size
