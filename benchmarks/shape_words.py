"""Measures how much a shapes model has learned of the words for shapes, by its error.

    python benchmarks/shape_words.py --workdir=runs/shapes/shapes

Shows it new pictures of single things, noised, with their own sentence and with one
that names another shape. One line of JSON for each log-SNR: the square error of x0 in
[-1, 1] with either sentence, and what the wrong word costs. With nothing but noise to
see, the best a model can draw is the mean picture of its sentence; the first line, of
log-SNR null, has what that mean reaches, estimated from drawings. The cost rises long
before whole pictures pass the checker, so short runs can be compared by it.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np

from imagen_jax.data.sources.shapes import SHAPES, Scene, caption, draw_scene
from imagen_jax.data.sources.shapes_drawing import draw
from imagen_jax.diffusion.process import diffuse
from imagen_jax.interfaces import Conditioning
from imagen_jax.loading import load

LOGSNRS = (-9.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 2.0)
SEED = 5  # of the scenes; training takes others
DRAWINGS = 60  # in each mean picture


def main() -> None:
    """Loads the model and prints the lines."""
    parser = argparse.ArgumentParser(description="Measure the words for shapes.")
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--num", type=int, default=96, help="pictures")
    flags = parser.parse_args()
    scenes = [draw_scene(SEED, i, "seen", "single") for i in range(flags.num)]
    wrong = [renamed(scene, 1 + i % 3) for i, scene in enumerate(scenes)]
    model = load(flags.workdir)
    stage, params = model.stages[0].stage, model.stages[0].load_params()
    size = stage.config.resolution
    x0 = np.stack([picture(scene, size, i, 0) for i, scene in enumerate(scenes)])
    if stage.config.diffusion.prediction != "x0":
        parser.error("the stage of --workdir does not predict x0")
    means = (mean_pictures(group, size) for group in (scenes, wrong))
    say(None, *(float(np.square(mean - x0).mean()) for mean in means))
    noise = jax.random.normal(jax.random.key(0), x0.shape)

    @jax.jit
    def error(text, logsnr):
        z = diffuse(x0, noise, logsnr)
        output = stage.denoiser(params)(z, logsnr, Conditioning(*text))
        return jnp.square(output - x0).mean()

    texts = [model.text([caption(s) for s in group]) for group in (scenes, wrong)]
    with jax.set_mesh(model.mesh):
        for logsnr in LOGSNRS:
            levels = jnp.full(flags.num, logsnr)
            say(logsnr, *(float(error(text, levels)) for text in texts))


def renamed(scene: Scene, by: int) -> Scene:
    """Returns the scene with another shape."""
    colour, shape = scene.things[0]
    other = SHAPES[(SHAPES.index(shape) + by) % len(SHAPES)]
    return scene._replace(things=((colour, other),))


def picture(scene: Scene, size: int, *seed: int) -> np.ndarray:
    """Returns a drawing of it in [-1, 1]."""
    return draw(scene, (SEED, *seed), size).astype(np.float32) / 127.5 - 1.0


def mean_pictures(scenes: list[Scene], size: int) -> np.ndarray:
    """Returns the mean of `DRAWINGS` new drawings of each scene."""
    return np.stack(
        [
            np.mean([picture(scene, size, i, 1 + j) for j in range(DRAWINGS)], axis=0)
            for i, scene in enumerate(scenes)
        ]
    )


def say(logsnr: float | None, own: float, other: float) -> None:
    """Prints one line."""
    figures = {"own_words": own, "wrong_shape": other, "cost": other - own}
    rounded = {name: round(value, 5) for name, value in figures.items()}
    print(json.dumps({"logsnr": logsnr, **rounded}), flush=True)


if __name__ == "__main__":
    main()
