"""Which ablations there are: each a question and the arms that answer it.

An arm is a set of config overrides, so what differs between two arms is what the table
says and nothing else. All arms of an ablation get the same number of steps, the same
pictures in the same order and the same seeds.
"""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from imagen_jax.ablations.encoders import STAND_INS
from imagen_jax.errors import UserError


class Arm(NamedTuple):
    """One way to do it.

    Attributes:
      name: of its folder and row.
      overrides: KEY=VALUE of the stage's config.
      sampling: settings of the sampler of the stage, as `Pipeline.plan` names them.
      encoder: text encoder, as `encoders.find_encoder` names it; "" takes --store.
    """

    name: str
    overrides: tuple[str, ...] = ()
    sampling: tuple[tuple[str, float | str], ...] = ()
    encoder: str = ""


class Ablation(NamedTuple):
    """A question.

    Attributes:
      question: in words, with what the paper says.
      config: file in configs/ of the stage that is trained; "" trains nothing and
        draws with the weights of docs/demo.
      figure: of `scoring.FIGURES` or `TRAINING_FIGURES`, what the question is about.
      arms: the first is the one that the others are compared with.
      overrides: KEY=VALUE of every arm's config.
      steps: training steps of each run.
      reworded: whether `wordings.csv` is drawn too, whose words are not trained on.
    """

    question: str
    config: str
    figure: str
    arms: tuple[Arm, ...]
    overrides: tuple[str, ...] = ()
    steps: int = 0
    reworded: bool = False


# What a picture shows is learned, and drawn, at a quarter of the cost.
_SMALL = (
    "resolution=32",
    "optimizer.warmup_steps=10",
    "sampler.kind=dpmpp_2m",
    "sampler.num_steps=8",
)
_HIGH_GUIDANCE = ("guidance", 10.0)

ABLATIONS = {
    "conditioning": Ablation(
        "Does cross-attention to the text follow prompts better than one vector of it, "
        "pooled by attention or by the mean? The paper (section 4.4): yes.",
        "quickstart_base.py",
        "object_accuracy",
        (
            Arm("cross_attention"),
            Arm("attention_pooling", ("network.text_attention=False",)),
            Arm(
                "mean_pooling",
                ("network.text_attention=False", "network.text_pooling=mean"),
            ),
        ),
        _SMALL,
        steps=150,
    ),
    "thresholding": Ablation(
        "At guidance weight 10, does dynamic thresholding saturate less than static "
        "or none? The paper (section 2.3, Fig. A.8): yes.",
        "",
        "saturated_share",
        tuple(
            Arm(kind, sampling=(_HIGH_GUIDANCE, ("threshold", kind)))
            for kind in ("dynamic", "static", "none")
        ),
    ),
    "augmentation": Ablation(
        "On generated low-res pictures, is super-resolution better if it was trained "
        "with noise on them? The paper (section 4.4): yes.",
        "quickstart_sr256.py",
        "object_accuracy",
        (
            Arm("noised"),
            # The level must be above 0; at this one the noise is below 1/255.
            Arm("clean", ("diffusion.aug_level_max=1e-6",)),
        ),
        steps=280,
    ),
    "text": Ablation(
        "With a larger language model as the frozen text encoder, are prompts followed "
        "better, those in words new to training too? The paper (section 4.4): yes. "
        "Here stand-ins of one small model, so no direction is promised.",
        "quickstart_base.py",
        "object_accuracy_reworded",
        tuple(Arm(name, encoder=name) for name in STAND_INS),
        _SMALL,
        steps=100,
        reworded=True,
    ),
    "order": Ablation(
        "With the same parameters, is a step of the Efficient U-Net, which downsamples "
        "before its convolutions, quicker than one of the usual order, at equal loss? "
        "The paper (appendix B.1): quicker, and no worse.",
        "quickstart_sr256.py",
        "step_sec",
        (Arm("efficient"), Arm("usual", ("network.resampling=last",))),
        steps=160,
    ),
}


def find_ablation(name: str) -> Ablation:
    """Returns the ablation of that name.

    Raises:
      UserError: there is none.
    """
    if name not in ABLATIONS:
        near = difflib.get_close_matches(name, ABLATIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(
            f"--only={name!r} is no ablation{hint} They are: {', '.join(ABLATIONS)}"
        )
    return ABLATIONS[name]


def with_encoders(ablation: Ablation, names: Sequence[str]) -> Ablation:
    """Returns the ablation of text encoders with others.

    Raises:
      UserError: it is another ablation, or there are not two different ones.
    """
    if not ablation.arms[0].encoder:
        raise UserError("--encoders goes with --only=text; leave it out")
    if len(set(names)) < max(len(names), 2):
        raise UserError(f"--encoders={','.join(names)}; give at least 2 different ones")
    return ablation._replace(arms=tuple(Arm(name, encoder=name) for name in names))
