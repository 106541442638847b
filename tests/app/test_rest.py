"""The REST endpoint in this process, mostly on a tiny base stage alone."""

import base64
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from imagen_jax.app.guard import Guard
from imagen_jax.app.rest import make_rest
from imagen_jax.data.images import encode_png
from imagen_jax.sampling.png_text import read_png
from tests.app.three_stages import SIZES, STEPS, make_studio, write_three_stages
from tests.cascades import LONG, write_cascade_files

NUM_BYTES = 50_000


@pytest.fixture(scope="module")
def studio(tmp_path_factory, fill_params):
    folder = write_cascade_files(tmp_path_factory.mktemp("stages"), fill_params)
    studio = make_studio([folder / "base"], tmp_path_factory.mktemp("files"))
    yield studio
    studio.queue.close()


@pytest.fixture(scope="module")
def client(studio):
    return TestClient(Guard(make_rest(studio), NUM_BYTES))


@pytest.fixture
def full(studio):
    """The queue is full until the test ends."""
    gate = threading.Event()
    number = studio.queue.limit + 1
    jobs = [studio.queue.submit(lambda job: gate.wait(60)) for _ in range(number)]
    yield
    gate.set()
    for job in jobs:
        job.done.result(10)


def pixels(picture):
    with Image.open(io.BytesIO(base64.b64decode(picture["png"]))) as image:
        return np.asarray(image)


def ask(client, **fields):
    answer = client.post("/api/pictures", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def check_pictures(client, studio, folder, guidance):
    """Asks for three pictures; they must be those of a call, bitwise."""
    fields = {"negative": "a cat", "seeds": [5, 0, 2], "guidance": guidance}
    answer = ask(client, prompt="the red fox", **fields)
    made = answer["pictures"]
    expected = studio.model("the red fox", batch_size=2, **fields)
    np.testing.assert_array_equal([pixels(picture) for picture in made], expected)
    assert [picture["seed"] for picture in made] == [5, 0, 2]
    for i, picture in enumerate(made):
        path = folder / f"{i}.png"
        path.write_bytes(base64.b64decode(picture["png"]))
        recipe = read_png(path)[1]
        assert json.loads(json.dumps(recipe._asdict())) == picture["recipe"]
        again = studio.model.draw(studio.model.plan_like(recipe))[recipe.stage]
        np.testing.assert_array_equal(again[recipe.row], expected[i])
    assert answer["remarks"] == []
    assert answer["seconds"] > 0


def test_pictures_are_those_of_a_call_and_carry_their_recipes(client, studio, tmp_path):
    check_pictures(client, studio, tmp_path, [2.5])


@pytest.mark.slow
def test_pictures_of_three_stages_are_those_of_a_call(
    tmp_path_factory, fill_params, tmp_path
):
    folders = write_three_stages(tmp_path_factory.mktemp("stages"), fill_params)
    studio = make_studio(folders, tmp_path_factory.mktemp("files"))
    check_pictures(TestClient(make_rest(studio)), studio, tmp_path, [2.5, None, 1])
    told = TestClient(make_rest(studio)).get("/api/model").json()
    assert [stage["resolution"] for stage in told["stages"]] == list(SIZES)
    studio.queue.close()


@pytest.mark.slow
def test_only_the_number_of_steps_compiles_anew_and_no_file_stays(client, studio):
    ask(client, prompt="the red fox")
    before = studio.model.num_traces
    ask(client, prompt="the owl", seeds=[4, 3, 2, 1], guidance=7, aug_level=0.3)
    ask(client, prompt="", negative="a cat", seeds=9)
    assert studio.model.num_traces == before
    ask(client, prompt="the red fox", steps=STEPS[0])
    assert studio.model.num_traces > before
    assert not list(studio._folder.iterdir())


@pytest.mark.slow
def test_an_empty_and_a_long_prompt_are_said_so_to_everybody(client):
    for _ in range(2):
        answers = [
            ask(client, **fields)["remarks"]
            for fields in (
                {"prompt": ""},
                {"prompt": LONG},
                {"prompt": "the owl", "negative": LONG},
                {"prompt": "the owl"},
            )
        ]
        assert "is empty" in answers[0][0]
        assert "is cut" in answers[1][0]
        assert "is cut" in answers[2][0]
        assert [*map(len, answers)] == [1, 1, 1, 0]


def test_an_edit_of_strength_0_gives_the_picture_back(client):
    picture = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    text = base64.b64encode(encode_png(picture)).decode()
    answer = ask(client, prompt="the red fox", picture=text, strength=0)
    (made,) = answer["pictures"]
    np.testing.assert_array_equal(pixels(made), picture[:, 4:12])
    assert made["recipe"]["edit"]["strength"] == 0
    assert "the central square" in answer["remarks"][0]


def test_the_model_is_described(client, studio):
    told = client.get("/api/model").json()
    (stage,) = told["stages"]
    assert (stage["name"], stage["resolution"], stage["steps"]) == ("base", 8, 3)
    assert (stage["sampler"], stage["guidance"]) == ("ddpm", 3.0)
    assert "weights_sha256" in stage
    limits = {"pictures": 4, "letters": 1000, "bytes": 16 * 2**20, "steps": [2, 4]}
    assert told["limits"] == limits


def test_a_full_queue_is_refused_with_the_time_to_come_back(client, full):
    health = client.get("/api/health").json()
    assert (health["status"], health["drawing"]) == ("ok", True)
    assert health["waiting"] == health["queue_limit"] == 2
    answer = client.post("/api/pictures", json={"prompt": "the owl"})
    assert answer.status_code == 503
    assert "the queue is full" in answer.json()["error"]
    assert int(answer.headers["retry-after"]) >= 1


def test_a_free_queue_is_healthy(client):
    health = client.get("/api/health").json()
    assert health == {
        "status": "ok",
        "drawing": False,
        "waiting": 0,
        "queue_limit": 2,
    }


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"{", JSON, 422, "the request is not JSON"),
        (b"\xff\xff", JSON, 422, "the request is not JSON"),
        (b"[" * 40_000, JSON, 422, "the request is not JSON"),
        (b"", JSON, 422, "the request is not JSON"),
        (b"[1]", JSON, 422, "it must be an object"),
        (b'{"prompt": 1}', JSON, 422, "prompt is 1"),
        (b'{"prompt": "a", "guidance": NaN}', JSON, 422, "guidance is nan"),
        (b'{"prompt": "a", "steps": 3}', JSON, 422, "steps is 3; it must be 2 or 4"),
        (b'{"prompt": "a"}', {}, 415, "Content-Type: application/json"),
        (b'{"prompt": "a"}', {"Content-Type": "text/plain"}, 415, "Content-Type"),
        (b" " * (NUM_BYTES + 1), JSON, 413, "larger than 50000 bytes"),
    ],
)
def test_a_bad_request_is_one_sentence(client, body, headers, status, message):
    answer = client.post("/api/pictures", content=body, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert message in answer.json()["error"]


def test_a_body_larger_than_it_says_is_refused(client):
    def chunks():
        for _ in range(60):
            yield b" " * 1000

    answer = client.post("/api/pictures", content=chunks(), headers=JSON)
    assert answer.status_code == 413
    assert "larger than 50000 bytes" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/pictures"), ("POST", "/api/model"), ("GET", "/api/nothing")],
)
def test_other_addresses_are_404(client, method, path):
    answer = client.request(method, path)
    assert answer.status_code == 404
    assert "POST /api/pictures" in answer.json()["error"]


def test_a_fault_of_ours_is_500_without_its_details(client, studio, monkeypatch, capfd):
    def fail(*args):
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(studio.model, "draw", fail)
    answer = client.post("/api/pictures", json={"prompt": "the owl"})
    assert answer.status_code == 500
    assert "see the log" in answer.json()["error"]
    assert "secret" not in answer.text
    assert "a secret" in capfd.readouterr().err
    assert not list(studio._folder.iterdir())


def test_every_answer_has_the_safe_headers(client):
    for path in ("/api/health", "/api/nothing"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "http:" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
