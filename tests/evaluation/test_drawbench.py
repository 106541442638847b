"""Lists of prompts by category, other systems' folders, and the job around them."""

import csv
import http.server
import itertools
import json
import threading
import tomllib

import numpy as np
import pytest
from PIL import Image

from imagen_jax.errors import UserError
from imagen_jax.evaluate import command
from imagen_jax.evaluate import drawbench as job
from imagen_jax.evaluation.prompt_lists import Listed, read_prompt_list
from imagen_jax.raters.study import check_pictures, read_study
from tests.cascades import write_cascade_files
from tests.commands.command import run as run_command

ROWS = [
    Listed("the red fox", "Colours"),
    Listed("a cat on the owl", "Places"),
    Listed("a blue cat", "Colours"),
]


def table(path, header="prompt,category", rows=ROWS, delimiter=","):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


def save(path, value=0, size=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(path)


@pytest.fixture
def other(tmp_path):
    """Another system's folder: two pictures of each prompt, grey by their number."""
    for prompt in range(3):
        for sample in range(2):
            value = 40 * prompt + 10 * sample
            save(tmp_path / "other" / f"{prompt:05d}_{sample}.png", value)
    return tmp_path / "other"


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(job, "keep_compiled", lambda: None)
    listed = table(tmp_path / "list.csv")
    shared = [f"--prompts={listed}", "--num=2", f"--out={tmp_path / 'out'}"]

    def call(*flags):
        return run_command(monkeypatch, capfd, command, "drawbench", *shared, *flags)

    return call


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("prompt,category", ","),
        ("Prompts,Category", ","),
        ("Prompt,Category,Challenge,Note", "\t"),
    ],
)
def test_the_forms_in_which_lists_are_published(tmp_path, header, delimiter):
    extra = [""] * (header.count(",") - 1)
    rows = [(f"{text} ", f" {category} ", *extra) for text, category in ROWS]
    path = table(tmp_path / "list", header, rows, delimiter)
    listed = read_prompt_list(str(path))
    assert listed.prompts == tuple(ROWS)
    assert listed.categories == ("Colours", "Places")


def test_quotation_marks_of_a_tab_separated_list_are_part_of_the_prompt(tmp_path):
    path = tmp_path / "list.tsv"
    text = 'Prompt\tCategory\n"Hi" on a sign\tText\n"open\tText\na cat\tAnimals\n'
    path.write_text(text)
    prompts = [each.prompt for each in read_prompt_list(str(path)).prompts]
    assert prompts == ['"Hi" on a sign', '"open', "a cat"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_breaks_of_a_list(tmp_path, end):
    rows = ["prompt,category", '"a fox', 'in snow",Places', "an\u2028owl,Places", ""]
    path = tmp_path / "list.csv"
    path.write_bytes(end.join(rows).encode())
    prompts = [each.prompt for each in read_prompt_list(str(path)).prompts]
    assert prompts == ["a fox in snow", "an\u2028owl"]


@pytest.mark.parametrize("url", ["http://a b/list.csv", "http://[::1/list.csv"])
def test_what_is_no_address(tmp_path, monkeypatch, url):
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="could not be fetched"):
        read_prompt_list(url)


def test_a_repeated_prompt_is_left_out_and_counted(run, tmp_path, other):
    table(tmp_path / "list.csv", rows=[*ROWS, ROWS[0], ("a blue cat", "Places")])
    listed = read_prompt_list(str(tmp_path / "list.csv"))
    assert listed.prompts == (*ROWS, Listed("a blue cat", "Places"))
    for sample in range(2):
        save(other / f"00003_{sample}.png")
    status, said, _ = run("--system", f"X={other}")
    assert (status, "1 prompts repeat one before" in said) == (0, True)
    result = json.loads((tmp_path / "out" / "drawbench.json").read_text())
    assert (result["prompts"], result["repeated_prompts_left_out"]) == (4, 1)


def test_a_list_of_the_web_is_fetched_once(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))
    data = table(tmp_path / "list.csv").read_bytes()
    asked = []
    bodies = [b"<html>sign in</html>", data]  # what is no list is not kept

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200 if "list" in self.path else 404)
            self.end_headers()
            self.wfile.write(bodies.pop(0) if bodies else b"")

        def log_message(self, *given):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(UserError, match="must have prompt and category"):
            read_prompt_list(f"{url}/list.csv")
        first, again = (read_prompt_list(f"{url}/list.csv") for _ in range(2))
        with pytest.raises(UserError, match="could not be fetched"):
            read_prompt_list(f"{url}/gone")
        server.shutdown()
    assert asked == ["/list.csv", "/list.csv", "/gone"]
    assert first == again
    assert first.prompts == tuple(ROWS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("text,kind\na,b\n", "has the columns text, kind"),
        ("", "has the columns none"),
        ("prompt,category\n", "no prompt below"),
        ("prompt,category\na fox\n", "line 2 of .* has 1 cells"),
        ("prompt,category\na fox,\n", "no prompt or no category"),
        ('prompt,category\na "red" fox,"b\n', "malformed"),
        ("prompt,category\n\udcff,b\n", "no UTF-8"),
    ],
)
def test_bad_lists(tmp_path, text, words):
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=words):
        read_prompt_list(str(path))


@pytest.mark.slow
def test_drawn_here_beside_another_system(run, tmp_path, fill_params, other):
    files = write_cascade_files(tmp_path / "files", fill_params)
    flags = [f"--workdirs={files / 'base'}", "--name=ours", "--batch_size=4"]
    flags += ["--system", f"DALL-E 2={other}"]
    status, said, errors = run(*flags)
    assert status == 0, errors
    out = tmp_path / "out"
    assert said.endswith(
        f"3 prompts in 2 categories, 2 pictures each, of ours, DALL-E 2: {out}\n"
    )
    result = json.loads((out / "drawbench.json").read_text())
    assert result["categories"] == {"Colours": 2, "Places": 1}
    assert [each["prompt"] for each in result["pictures"]] == [p for p, _ in ROWS]
    assert sorted(path.name for path in out.glob("*.png")) == [
        "00_colours.png",
        "01_places.png",
    ]
    drawn = result["pictures"][1]["files"]["ours"]
    texts = [Image.open(path).text["prompt"] for path in drawn]
    assert texts == ["a cat on the owl"] * 2
    times = {path: path.stat().st_mtime_ns for path in out.rglob("samples/*/*.png")}
    assert len(times) == 6
    assert run(*flags)[0] == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_a_sheet_shows_each_prompt_under_its_system(run, tmp_path, other):
    status, _, errors = run("--system", f"X={other}")
    assert status == 0, errors
    sheet = np.asarray(Image.open(tmp_path / "out" / "00_colours.png").convert("L"))
    # Prompts 0 and 2 are of this category; 1, with 40 and 50, is not.
    flat = {int(v) for v in np.unique(sheet) if (sheet == v).sum() >= 80 * 80}
    assert {10, 80, 90} <= flat
    assert not {40, 50} & flat


@pytest.mark.parametrize("layout", ["folders", "table"])
def test_other_layouts_of_a_system(run, tmp_path, layout):
    folder = tmp_path / layout
    rows = []
    for prompt, (text, _) in enumerate(ROWS):
        for sample in range(3):
            save(folder / f"{prompt}" / f"s{sample}.png", 10 * prompt + sample)
            rows.append((f"{prompt}/s{sample}.png", text))
    if layout == "table":
        table(folder / "captions.csv", "file,caption", rows[::-1])
    assert run("--system", f"X={folder}")[0] == 0
    result = json.loads((tmp_path / "out" / "drawbench.json").read_text())
    names = [[path[-8:] for path in each["files"]["X"]] for each in result["pictures"]]
    first = ["s2.png", "s1.png"] if layout == "table" else ["s0.png", "s1.png"]
    assert names == [[f"{i}/{name}" for name in first] for i in range(3)]


def test_two_systems_as_a_study_for_raters(run, tmp_path, other):
    for prompt, sample in itertools.product(range(3), range(8)):
        name = f"{prompt:05d}_{sample}.png"
        save(tmp_path / "third" / name, 200)
        save(other / name, 40 * prompt + 10 * min(sample, 1))
    flags = [
        "--num=8",
        "--system",
        f'say "A"={other}',
        "--system",
        f"B={tmp_path / 'third'}",
    ]
    assert run(*flags, '--study=B,say "A"')[0] == 0
    study = tmp_path / "out" / "study"
    settings = tomllib.loads((study / "study.toml").read_text())
    assert (settings["a"]["name"], settings["b"]["name"]) == ("B", 'say "A"')
    assert np.asarray(Image.open(study / "a" / "00001" / "0.png")).max() == 200
    assert np.asarray(Image.open(study / "b" / "00001" / "1.png")).max() == 50
    check_pictures(read_study(study))  # raises where a study is not as it must be
    status, _, errors = run(*flags, '--study=B,say "A"')
    assert status == 2
    assert "may hold raters' answers" in errors[-1]


def lacking(folder):
    (folder / "00001_1.png").unlink()


def mixed(folder):
    save(folder / "00001_1.png", size=20)


def corrupt(folder):
    (folder / "00001_1.png").write_bytes(b"no picture")


def unnamed(folder):
    for path in folder.iterdir():
        path.rename(folder / f"x{path.name}")


@pytest.mark.parametrize(
    ("damage", "flags", "words"),
    [
        (lacking, [], "fewer than 2 pictures for 1 of 3 prompts (of number 1"),
        (mixed, [], "several sizes: 12x12"),
        (corrupt, [], "00001_1.png cannot be read"),
        (unnamed, [], "no pictures named PROMPT_SAMPLE.png"),
        (None, ["--num=0"], "--num=0"),
        (None, ["--system", "X"], "is not NAME=FOLDER"),
        (None, ["--system", "Y=/nowhere"], "/nowhere is no folder"),
        (None, ["--system", "X=/nowhere"], "names one twice"),
        (None, ["--study=X,Y"], "must name two of X"),
        (None, ["--system", "Y=/", "--study=X,Y"], "give --num=8"),
        (None, ["--prompts=/nowhere.csv"], "/nowhere.csv cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(run, other, damage, flags, words):
    if damage:
        damage(other)
    status, _, errors = run("--system", f"X={other}", *flags)
    assert status == 2
    assert words in errors[-1]
    assert not any("Traceback" in line for line in errors)


def test_nothing_to_show(run):
    status, _, errors = run()
    assert (status, "nothing to show" in errors[-1]) == (2, True)
