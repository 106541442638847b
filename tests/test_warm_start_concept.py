"""What the script that teaches a 17th concept draws, asks for and counts."""

import json

import numpy as np
import pytest

from imagen_jax.data.images import box_downsample, encode_png
from imagen_jax.data.sources import openmoji
from imagen_jax.data.sources.folder import FolderSource
from tests.warm_start_concept import (
    asked_prompts,
    draw_new_concept,
    new_pairs,
    score_folder,
    summarise,
    verdict,
)


def test_the_held_out_pair_is_asked_for_and_never_drawn(tmp_path):
    assert draw_new_concept(tmp_path, 2) == 6
    source = FolderSource(str(tmp_path))
    drawn = {source[i].caption for i in range(len(source))}
    (held_out,) = [pair.caption for pair in new_pairs() if pair.held_out]
    assert len(source) == 6
    assert drawn == {pair.caption for pair in new_pairs()} - {held_out}
    prompts = asked_prompts()
    assert len(prompts) == len(set(prompts)) == 17 + 3
    assert held_out in prompts
    assert drawn < set(prompts)


@pytest.mark.parametrize("knows_the_new_one", [True, False])
def test_accuracies_of_old_and_new_are_counted_apart(tmp_path, knows_the_new_one):
    """A model that draws a panda for what it does not know."""
    pair_of = {pair.caption: pair for pair in openmoji.pairs("default17")}
    lines = []
    for number, prompt in enumerate(asked_prompts()):
        pair = pair_of[prompt]
        if pair in new_pairs() and not knows_the_new_one:
            pair = pair._replace(concept="panda")
        picture = openmoji.compose_variant(pair, 0, "test", 256)
        file = f"{number}.png"
        (tmp_path / file).write_bytes(encode_png(box_downsample(picture, 4)))
        entry = {"file": file, "prompt": prompt, "seed": number, "stage": "base"}
        lines.append(json.dumps(entry))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    score, pairs = score_folder(tmp_path)
    assert (score.found >= 0).all()
    summary = summarise(score, pairs)
    assert (summary["old"], summary["ground"]) == (1.0, 1.0)
    new = 1.0 if knows_the_new_one else 0.0
    assert (summary["new_held_out"], summary["new_trained"]) == (new, new)
    assert len(summary["per_concept"]) == 17
    assert summary["per_concept"]["unicorn"] == new
    assert np.mean(list(summary["per_concept"].values())) == pytest.approx(
        (16 + new) / 17
    )


@pytest.mark.parametrize(
    ("minutes", "new", "old", "missed"),
    [
        (4.0, 0.6, 0.71, []),
        (5.1, 0.6, 0.71, ["minutes"]),
        (4.0, 0.59, 0.71, ["new_held_out"]),
        (4.0, 0.6, 0.7, ["old_loss"]),
    ],
)
def test_a_missed_target_is_told(minutes, new, old, missed):
    before, after = {"old": 0.8}, {"old": old, "new_held_out": new}
    targets, met = verdict(before, after, minutes)
    assert [name for name, entry in targets.items() if not entry["met"]] == missed
    assert met == (not missed)
