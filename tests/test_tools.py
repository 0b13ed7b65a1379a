"""The calculator answers what is in its language and nothing else, and the engine forces its results into a row."""

import ast
import random
import re
import sys
import threading
import time
import warnings
from fractions import Fraction
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from course_lib.chat import calculator as tools
from course_lib.chat import expressions as shape
from course_lib.chat.calculator import use_calculator
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.generate.rows import Request, Row
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.serve.batch_engine import BatchEngine

# What is in the language

VALUES = {
    "1+1": "2",
    "5": "5",
    " 1 + 1 ": "2",
    "10/5": "2.0",
    "7/2": "3.5",
    "7//2": "3",
    "7.0//2": "3.0",
    "2*(3+4)": "14",
    "2-3-4": "-5",
    "-3": "-3",
    "--3": "3",
    "+3": "3",
    "2*-1": "-2",
    "-(2+3)": "-5",
    "1.5*2": "3.0",
    "1.": "1.0",
    ".5+.5": "1.0",
    "0.1+0.2": "0.30000000000000004",
    "00": "0",
    "1,000*2": "2000",
    "12,345,678+1": "12345679",
    "1,234.5": "1234.5",
    "9" * 40 + "+1": "1" + "0" * 40,
    "((((1))))": "1",
    "10* 2": "20",
    "'strawberry'.count('r')": "3",
    '"strawberry".count("r")': "3",
    "('strawberry').count('r')": "3",
    "'strawberry'.count('r') + 1": "4",
    '"a,b,c".count(",")': "2",
    '"it\'s".count("\'")': "1",
    "'**'.count('*')": "2",
    "'import os'.count('o')": "2",
    "'naïve ï'.count('ï')": "2",
    "'abc'.count('')": "4",
    "'aaa'.count('aa')": "1",
}


@pytest.mark.parametrize("expression", VALUES)
def test_what_is_in_the_language_has_pythons_value(expression):
    assert use_calculator(expression) == VALUES[expression]


DEEP = shape.MAX_DEPTH + 20
NASTY = [
    "",
    " ",
    "()",
    "+",
    "1+",
    "1 2",
    "(1",
    "1)",
    "((",
    "1(2)",
    "(1)(2)",
    "1,2,",
    "(1, 2)",
    ",1",
    "1,,2",
    "2**3",
    "9**9**9**9",
    "2* *3",
    "5%2",
    "1<<9999999999",
    "~1",
    "1 if 1 else 2",
    "1if 1else 2",
    "1or 2",
    "True",
    "None",
    "...",
    "x",
    "1e5",
    "1j",
    "0x10",
    "1_000",
    "007",
    "1..real",
    "１+１",
    "٣+٣",
    "1÷2",
    "1×2",
    "1\n+1",
    "\t1",
    "\x0c1",
    "1\x00",
    "'\x00'.count('a')",
    "'\ud800'.count('a')",
    "1 # 2",
    "1;2",
    "a:=1",
    "[1]",
    "{1}",
    "lambda: 1",
    "print(1)",
    "exit()",
    "__import__('os').getpid()",
    "().__class__.__bases__[0].__subclasses__()",
    "'a'.__class__",
    "'{0.__class__}'.format(1)",
    "'a'",
    "'a'+'b'",
    "'a'*999999999",
    "'a'.count",
    "'a'.count()",
    "'a'.count(1)",
    "'a'.count('a', 0)",
    "'a'.count(*'a')",
    "'a'.count(sub='a')",
    "'a'.count('a').count('b')",
    "'a'.count('a'*9)",
    "'a'.upper()",
    "'a'.upper().count('A')",
    "('a'+'b').count('a')",
    "(1).count('a')",
    "1 .count('a')",
    "1.count('a')",
    "'a'.count.count('a')",
    "f'{1+1}'.count('2')",
    "b'a'.count(b'a')",
    "r'a'.count('a')",
    "'\\x61'.count('a')",
    "'\\d'.count('d')",
    "'''a'''.count('a')" + "'",
    "'a\n'.count('a')",
    "'a'.count('a",
    "1/0",
    "1//0",
    "0.0/0.0",
    "1.0/0",
    "9" * 400 + "/1",
    "9" * 400 + ".0",
    "9" * 400 + ".0-" + "9" * 400 + ".0",
    "(" * DEEP + "1" + ")" * DEEP,
    "(" * 900,
    "-" * 900 + "1",
    "(-" * 400,
    "1+" * 400 + "1",
    "1*(" * 300,
    "'a'.count(" * 90,
    "1" * (shape.MAX_CHARS + 1),
    "1" * 10_000_000,
    "(" * 1_000_000,
    "'" * 1_000_000,
    None,
    7,
    b"1+1",
    ["1+1"],
]


def seconds_of(expression):
    """The value, and the processor time that it took: how busy the machine is does not count."""
    start = time.thread_time()
    value = use_calculator(expression)
    return value, time.thread_time() - start


@pytest.mark.parametrize("expression", NASTY, ids=lambda e: repr(e)[:40])
def test_what_is_not_in_the_language_is_none_and_soon(expression):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a parser that warns would print into the chat
        value, seconds = seconds_of(expression)
    assert value is None and seconds < 0.1


@pytest.mark.parametrize(
    "expression",
    ["'a'.count(sub='a')", "'a'.count('a', sub='a')", "'a'.count(*'a')", "x", "f()", "2**3", "True", "1j", "5%2"],
)
def test_a_tree_that_is_not_in_the_language_has_no_value_whoever_parsed_it(expression):
    with pytest.raises(ValueError, match="not in the language"):
        tools.value_of(ast.parse(expression, mode="eval").body)


def test_the_longest_work_within_the_bounds_is_short():
    nines = "9" * ((shape.MAX_CHARS - 1) // 2)
    product, seconds = seconds_of(f"{nines}*{nines}")
    assert product == str(int(nines) ** 2) and seconds < 0.1
    depth = shape.MAX_DEPTH
    assert use_calculator("(" * depth + "1" + ")" * depth) == "1"
    assert use_calculator("+".join("1" * depth)) == str(depth)
    text = "a" * (shape.MAX_CHARS - 13)
    assert use_calculator(f"'{text}'.count('a')"[: shape.MAX_CHARS]) == str(len(text))


def test_a_deep_stack_gives_a_value_or_none_and_never_an_error():
    def below(levels):
        return use_calculator("(1+2)*3") if levels == 0 else below(levels - 1)

    found = set()
    for levels in range(sys.getrecursionlimit() - 300, sys.getrecursionlimit(), 2):
        try:
            found.add(below(levels))
        except RecursionError:  # of this test's own frames: they leave no room for a call
            break
    assert found == {"9", None}


def test_a_result_of_more_digits_than_python_prints_is_none():
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert use_calculator(f"{'9' * 400}*{'9' * 400}") is None
    finally:
        sys.set_int_max_str_digits(before)


PIECES = [
    *"0123456789+-*/()., '\"\\\n\x00",
    "**",
    "//",
    ".count(",
    "'a'",
    '"b,"',
    "count",
    "__",
    "e",
    "lambda",
    "9" * 50,
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@example("1" + ",1" * 400)
def test_fuzzed_pieces_of_the_language_never_raise_and_are_never_slow(expression):
    value, seconds = seconds_of(expression)
    assert seconds < 0.1 and (value is None or isinstance(value, str))
    if value is not None:  # then it is what Python makes of an expression that does no harm
        assert "**" not in re.sub(shape.STRING, "", expression)
        assert value == str(eval(shape.without_commas(expression.strip()), {"__builtins__": {}}))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_fuzzed_text_never_raises(expression):
    value, seconds = seconds_of(expression)
    assert seconds < 0.1 and (value is None or isinstance(value, str))


numbers = st.one_of(st.integers(0, 10**9).map(str), st.decimals(0, 999, places=2).map(str))
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map("".join),
        inner.map(lambda e: f"({e})"),
        inner.map(lambda e: f"-({e})"),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(expressions)
def test_every_sum_has_the_value_that_python_gives_it(expression):
    try:
        expected = str(eval(expression))
    except ZeroDivisionError:
        expected = None
    assert use_calculator(expression) == expected


def test_nothing_is_run(monkeypatch):
    """No call of the interpreter's own evaluation is made, for anything on the lists above."""
    seen = []
    monkeypatch.setattr("builtins.eval", lambda *_: seen.append("eval"))
    monkeypatch.setattr("builtins.exec", lambda *_: seen.append("exec"))
    for expression in [*VALUES, *NASTY]:
        use_calculator(expression)
    assert seen == []
    for module in (tools, shape):
        source = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(source) if isinstance(node, ast.Name)}
        assert names & {"ast", "re"} and not names & {"eval", "exec", "compile", "getattr", "globals"}


def test_an_attack_that_eval_falls_for_does_nothing_here(tmp_path):
    file = tmp_path / "made by the attack"
    attack = f"().__class__.__base__.__subclasses__()[0] and open({str(file)!r}, 'w').close()"
    assert use_calculator(attack) is None and not file.exists()
    eval(attack)
    assert file.exists(), "the attack is a real one"


def test_exact_arithmetic_of_whole_numbers():
    generator = random.Random(0)
    for _ in range(200):
        a, b = generator.getrandbits(200), generator.getrandbits(200)
        op = generator.choice("+-*")
        assert Fraction(use_calculator(f"{a}{op}{b}")) == eval(f"Fraction({a}){op}Fraction({b})")


# The engine


TOKENIZER = Tokenizer.train(["0123456789 + - * / ="] * 4, 265)
START, END = TOKENIZER.special("<|python_start|>"), TOKENIZER.special("<|python_end|>")
OUT, OUT_END = TOKENIZER.special("<|output_start|>"), TOKENIZER.special("<|output_end|>")
STOP = TOKENIZER.special("<|assistant_end|>")


def chain_model(chain: dict[int, int]) -> GPT:
    """A GPT that writes chain[t] after token t: one-hot embeddings, blocks that add nothing, a head that looks up."""
    V = TOKENIZER.vocab_size
    model = GPT(GPTConfig(128, V, 1, 1, 1, 272))
    model.transformer.wte.weight = mx.eye(V, 272)
    head = mx.zeros((V, 272))
    for before, after in chain.items():
        head[after, before] = 1.0
    model.lm_head.weight = head
    return model


def letters(text: str) -> list[int]:
    ids = [TOKENIZER.encode(each)[0] for each in text]
    assert len(set(ids)) == len(ids), "a chain has each token once"
    return ids


def chain_of(*runs: list[int]) -> dict[int, int]:
    return {before: after for run in runs for before, after in zip(run, run[1:], strict=False)}


PROMPT = [TOKENIZER.bos]


def engine_for(expression: str, tool=use_calculator, after="ok") -> Engine:
    """Writes the expression as a call, then, whatever the result was, `after`, and ends."""
    call = [*PROMPT, START, *letters(expression), END]
    said = [*letters(after), STOP]
    return Engine(chain_model(chain_of(call, [END, *said], [OUT_END, *said])), TOKENIZER, tool)


def written(engine, **settings):
    (generation,) = engine.generate_batch([PROMPT], temperature=0, **settings)
    return generation


def test_the_engine_forces_the_result_behind_the_call_and_marks_it():
    generation = written(engine_for("12+34"))
    call, result = [START, *letters("12+34"), END], [OUT, *TOKENIZER.encode("46"), OUT_END]
    assert generation.ids == [*call, *result, *letters("ok")]
    assert generation.masks == [1] * len(call) + [0] * len(result) + [1] * 2
    assert generation.finish_reason == "stop"


def test_the_stream_says_which_tokens_were_forced():
    columns = list(engine_for("12+34").generate(PROMPT, num_samples=3, temperature=0))
    masks = [mask for _, (mask, *_) in columns]
    assert masks == [1] * 7 + [0] * 4 + [1] * 3
    assert all(len(set(ids)) == 1 and len(set(masks)) == 1 for ids, masks in columns), "all samples alike"


def test_the_model_reads_what_was_forced():
    """What follows <|output_end|> comes from it: the cache holds the forced tokens."""
    said = written(engine_for("12+34", after="ok")).ids
    assert TOKENIZER.decode(said).endswith("<|output_start|>46<|output_end|>ok")


@pytest.mark.parametrize("expression", ["12+", "1(2)", "9/0"])
def test_a_call_without_a_value_gets_no_output(expression):
    generation = written(engine_for(expression))
    assert generation.ids == [START, *letters(expression), END, *letters("ok")] and set(generation.masks) == {1}


def test_a_result_of_no_characters_is_forced_as_one():
    generation = written(engine_for("12", tool=lambda expression: ""))
    assert generation.ids == [START, *letters("12"), END, OUT, OUT_END, *letters("ok")]


def test_an_expression_that_never_ends_ends_with_max_tokens_and_calls_nothing():
    seen = []
    one, two = letters("12")
    model = chain_model(chain_of([*PROMPT, START, one, two, one]))
    generation = written(Engine(model, TOKENIZER, seen.append), max_tokens=60)
    assert generation.finish_reason == "max_tokens" and len(generation.ids) == 60 and seen == []
    room = written(Engine(model, TOKENIZER, seen.append), max_tokens=1000)
    assert room.finish_reason == "sequence_len" and len(room.ids) == 128 and seen == []


def test_max_tokens_may_fall_into_a_forced_result():
    whole = written(engine_for("12*40"))
    for count in range(1, len(whole.ids) + 1):
        part = written(engine_for("12*40"), max_tokens=count)
        assert part.ids == whole.ids[:count] and part.masks == whole.masks[:count]
        assert part.finish_reason == "max_tokens", count


def take(tokens: list[int], tool=use_calculator) -> tuple[Row, list[str]]:
    """A row that has taken these sampled tokens, and the expressions that the tool was given."""
    seen = []

    def noted(expression):
        seen.append(expression)
        return tool(expression)

    row = Row(Engine(chain_model({}), TOKENIZER, noted), Request(PROMPT))
    for token in tokens:
        row.take(token)
    return row, seen


def test_an_end_without_a_start_calls_nothing():
    row, seen = take([END, *letters("1"), END])
    assert seen == [] and set(row.masks) == {1} and row.finish_reason is None


def test_an_expression_begins_behind_the_last_start():
    assert take([START, *letters("12"), START, *letters("3"), END])[1] == ["3"]


def test_other_special_tokens_make_an_expression_that_has_no_value():
    row, seen = take([START, *letters("1"), OUT, *letters("2"), END])
    assert seen == ["1<|output_start|>2"] and use_calculator(seen[0]) is None and 0 not in row.masks


def test_an_end_of_the_reply_within_an_expression_ends_it():
    row, seen = take([START, *letters("1"), STOP])
    assert row.finish_reason == "stop" and seen == []


def test_what_the_model_would_say_while_a_result_is_forced_is_dropped():
    sampled = [START, *letters("1+2"), END, STOP, START, TOKENIZER.bos, *letters("9")]
    row, _ = take(sampled)
    assert TOKENIZER.decode(row.ids) == "<|python_start|>1+2<|python_end|><|output_start|>3<|output_end|>9"
    assert row.masks == [1] * 5 + [0] * 3 + [1]


def test_two_calls_in_one_reply_each_get_their_result():
    a, b = letters("12")
    script = {PROMPT[0]: START, START: a, a: END, END: STOP, OUT_END: b, b: STOP}
    generation = written(Engine(chain_model(script), TOKENIZER, use_calculator))
    assert TOKENIZER.decode(generation.ids) == "<|python_start|>1<|python_end|><|output_start|>1<|output_end|>2"


def test_rows_with_and_without_calls_are_written_together_as_they_are_alone():
    """Prompts end with different digits; each leads to a call of its own, of its own length, or to none."""
    d = dict(zip("0123456789", letters("0123456789"), strict=True))
    plus = letters("+")[0]
    chain = {
        d["1"]: START,  # 1 -> call "2+3"
        START: d["2"],
        d["2"]: plus,
        plus: d["3"],
        d["3"]: END,
        END: STOP,
        OUT_END: STOP,
        d["6"]: d["7"],  # 6 -> "789"
        d["7"]: d["8"],
        d["8"]: d["9"],
        d["9"]: STOP,
        d["5"]: STOP,
    }
    engine = Engine(chain_model(chain), TOKENIZER, use_calculator)
    prompts = [[TOKENIZER.bos, d[each]] for each in "6151268"] + [[d["6"]] * 40 + [d["1"]]]
    together = engine.generate_batch(prompts, temperature=0, max_rows=3)
    texts = [TOKENIZER.decode(each.ids) for each in together]
    call = "<|python_start|>2+3<|python_end|><|output_start|>5<|output_end|>"
    rest = "+3<|python_end|>"
    assert texts == ["789", call, "", call, rest, "789", "9", call]
    for prompt, generation in zip(prompts, together, strict=True):
        assert engine.generate_batch([prompt], temperature=0) == [generation]
    with BatchEngine(engine.model, TOKENIZER, use_calculator, max_rows=3) as server:
        handles = [server.submit(Request(prompt, temperature=0)) for prompt in prompts]
        assert [handle.result(timeout=20) for handle in handles] == together


def test_a_tool_that_fails_ends_its_own_row_and_no_other():
    def tool(expression):
        raise RuntimeError("the tool is broken")

    call = [*PROMPT, START, *letters("12"), END]
    chain = chain_of(call, [END, STOP], letters("34") + [STOP])
    model, three = chain_model(chain), letters("3")[0]
    with BatchEngine(model, TOKENIZER, tool) as server:
        broken = server.submit(Request(PROMPT, temperature=0))
        other = server.submit(Request([three], temperature=0))
        assert TOKENIZER.decode(other.result(timeout=20).ids) == "4"
        with pytest.raises(RuntimeError, match="the tool is broken"):
            broken.result(timeout=20)


def test_the_calculator_may_be_called_from_several_threads():
    found = []
    threads = [threading.Thread(target=lambda n=n: found.append(use_calculator(f"{n}*{n}"))) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, found)) == [n * n for n in range(20)]
