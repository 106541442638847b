import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_jax.errors import UserError
from imagen_jax.prompts import Prompt, first_seed, plan_pictures, read_prompts


def read(tmp_path, name, text):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_prompts(tmp_path / name)


def test_a_prompt_a_line(tmp_path):
    prompts = read(tmp_path, "a.txt", "\ufeffa fox\n\n  \na caf\xe9, red\r\n")
    assert prompts == [Prompt("a fox"), Prompt("a caf\xe9, red")]


def test_a_table_with_all_columns(tmp_path):
    text = 'seed,prompt,num,negative,id\n7,"a fox, red",2,dark,x\n\n,,,,y\n'
    expected = [Prompt("a fox, red", "dark", 7, 2), Prompt("")]
    assert read(tmp_path, "a.csv", text) == expected
    tabs = "seed\tprompt\tnum\tnegative\n7\ta fox, red\t2\tdark\n\t\t\t\n"
    assert read(tmp_path, "a.tsv", tabs) == expected


def test_objects_with_any_of_the_fields(tmp_path):
    text = '{"prompt": "a fox", "seed": 0}\n\n{"prompt": "", "num": 3, "x": []}\n'
    assert read(tmp_path, "a.jsonl", text) == [
        Prompt("a fox", seed=0),
        Prompt("", num=3),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "\n \n", "has no prompt"),
        ("a.txt", b"caf\xe9", "cannot be read"),
        ("a.json", "[]", "ends in .json; give a .txt, .csv, .tsv or .jsonl"),
        ("a.csv", "caption\na fox\n", "must have one column prompt"),
        ("a.csv", "", "names none"),
        ("a.csv", "prompt,prompt\na,b\n", "must have one column prompt"),
        ("a.csv", "prompt,seed\na fox\n", "line 2 has 1 columns"),
        ("a.csv", 'prompt\n"a" fox\n', "line 2 is malformed"),
        ("a.csv", "prompt,seed\na fox,-1\n", "line 2: seed is '-1'"),
        ("a.csv", "prompt,seed\na fox,4294967296\n", "seed is 4294967296"),
        ("a.csv", "prompt,num\na fox,0\n", "num is 0; it must be a whole number"),
        ("a.csv", "prompt\n", "has no prompt"),
        ("a.jsonl", "a fox\n", "line 1 is not JSON"),
        ("a.jsonl", '"a fox"\n', "line 1 is not an object with a field prompt"),
        ("a.jsonl", '{"prompt": 3}\n', "prompt is 3; it must be a text"),
        ("a.jsonl", '{"prompt": "\\ud800"}\n', "must be a text"),
        ("a.jsonl", '{"prompt": "a", "seed": 1.5}\n', "seed is 1.5"),
        ("a.jsonl", '{"prompt": "a", "num": true}\n', "num is True"),
    ],
)
def test_malformed_files_are_refused(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, text)


def test_more_pictures_than_a_run_may_have_are_refused_before_they_are_listed():
    with pytest.raises(UserError, match="4294967296 pictures are asked for, at most"):
        plan_pictures([Prompt("a fox", num=2**32 - 1), Prompt("a cat")], 1)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_prompts(tmp_path / "a.csv")


NAMES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6)


@given(NAMES, st.integers(1, 3), st.integers(0, 5), st.randoms())
def test_a_pictures_seed_does_not_depend_on_the_order(names, num, base_seed, rng):
    """Nor on which other prompts there are."""
    prompts = [Prompt(name) for name in names]
    planned = plan_pictures(prompts, num, base_seed)
    assert len(set(planned)) == len(planned) == num * len(names)
    shuffled = prompts.copy()
    random.Random(rng.random()).shuffle(shuffled)
    assert sorted(plan_pictures(shuffled, num, base_seed)) == sorted(planned)
    alone = [Prompt(name) for name in names if name == names[0]]
    of_first = [picture for picture in planned if picture.prompt == names[0]]
    assert plan_pictures(alone, num, base_seed) == of_first


def test_seeds_are_published():
    """They stand in files that people keep, so they must never change."""
    assert first_seed("a fox") == 1872692458
    assert first_seed("a fox", 1) == 3929094689
    assert first_seed("") == 706684826
    seeds = [picture.seed for picture in plan_pictures([Prompt("a fox")], 2)]
    assert seeds == [1872692458, 1872692459]


def test_given_seeds_are_counted_on_and_wrap():
    prompts = [
        Prompt("a", seed=2**32 - 1, num=2),
        Prompt("a", "dark", seed=5),
        Prompt("a", seed=2**32 - 1, num=1),
    ]
    planned = plan_pictures(prompts, 1)
    assert [picture.seed for picture in planned] == [2**32 - 1, 0, 5, 1]
    assert [picture.negative for picture in planned] == ["", "", "dark", ""]
