"""One call from prompts to pictures; every tool that samples goes through it.

    import imagen_jax

    model = imagen_jax.load("docs/demo")
    pictures = model("a panda on a blue background", seeds=[0, 1])  # uint8 [2 h w 3]

`Pipeline.plan` settles what is drawn and refuses what cannot be; `Pipeline.draw` draws
it, stage after stage. Calling the pipeline does both and gives the last stage's.

A picture's noise follows from its seed alone, and its prompt is embedded by itself. So
another batch size, order of prompts or number of devices changes only how sums are
rounded. A PNG's recipe holds these too, and `Pipeline.plan_like` repeats the picture
bitwise on equal devices.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8

from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import num_batch_shards
from imagen_jax.parallel.sharding import batch_sharding
from imagen_jax.prompt_text import PromptText
from imagen_jax.sampler_choice import choose_samplers
from imagen_jax.sampler_config import SamplerConfig
from imagen_jax.sampling.cascade import CascadeStage, Part, Texts, sample_cascade
from imagen_jax.sampling.editing import (
    Editing,
    check_editing,
    describe_editing,
    edit_cascade,
    fit_editing,
)
from imagen_jax.sampling.grid import make_grid
from imagen_jax.sampling.plan import Plan, check_limits, match_prompts, one_per_picture
from imagen_jax.sampling.recipe import (
    ENCODER,
    Recipe,
    check_recipe,
    config_sha256,
    devices_of,
    versions,
)
from imagen_jax.sampling.sampler import Sampler
from imagen_jax.stage import Params, Stage

BATCH_SIZE = 16  # of a call that does not say

Pictures = UInt8[np.ndarray, "b h w 3"]


class LoadedStage(NamedTuple):
    """A stage of a pipeline.

    Attributes:
      stage: the stage.
      load_params: () -> its averaged parameters, on the mesh.
      origin: which weights they are; see `averages.Averages`.
    """

    stage: Stage
    load_params: Callable[[], Params]
    origin: Mapping[str, str | int]


class Pipeline:
    """A cascade that draws prompts.

    Attributes:
      stages: from the base up.
      text: prompts to embeddings.
      mesh: the devices it runs on.
      say: called with remarks.
    """

    def __init__(
        self,
        stages: Sequence[LoadedStage],
        text: PromptText,
        mesh: Mesh,
        say: Callable[[str], None] = warnings.warn,
    ):
        """Joins what `load` has found; nothing is compiled yet."""
        self.stages = tuple(stages)
        self.text = text
        self.mesh = mesh
        self.say = say
        self._samplers: dict[tuple[int, str, str, int], Sampler] = {}

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        report: Callable[[Part], None] = lambda part: None,
        **options: Any,
    ) -> Pictures:
        """Returns the last stage's pictures, uint8.

        Args:
          prompts: one, or one per picture.
          report: called with each stage's pictures as they come.
          **options: seeds, negative, second, blend, guidance, steps, sampler,
            aug_level, threshold, batch_size and more; see `plan`.

        Raises:
          UserError: as `plan`.
        """
        drawn = self.draw(self.plan(prompts, **options), report)
        return drawn[self.names[-1]]

    def edit(
        self,
        prompts: str | Sequence[str],
        editing: Editing,
        *,
        report: Callable[[Part], None] = lambda part: None,
        **options: Any,
    ) -> Pictures:
        """Returns a picture changed by each prompt, or pictures between two seeds.

        Args:
          prompts: one, or one per result.
          editing: picture and mask of any size, strength, seeds to mix.
          report: called with each stage's pictures as they come.
          **options: as for a call.

        Raises:
          UserError: as `plan`, or the parts of the editing do not fit each other.
        """
        editing = self.fit(editing)
        return self.draw(self.plan(prompts, **options), report, editing)[self.names[-1]]

    def fit(self, editing: Editing) -> Editing:
        """Returns an editing, checked, at the resolution of the last stage."""
        check_editing(editing)
        resolution = self.stages[-1].stage.config.resolution
        return fit_editing(editing, resolution, self.say)

    def every_stage(
        self,
        prompts: str | Sequence[str],
        *,
        report: Callable[[Part], None] = lambda part: None,
        **options: Any,
    ) -> dict[str, Pictures]:
        """Returns the pictures of every stage by its name; otherwise as calling it."""
        return self.draw(self.plan(prompts, **options), report)

    def plan(
        self,
        prompts: str | Sequence[str],
        *,
        seeds: int | Sequence[int] = 0,
        negative: str | Sequence[str] = "",
        second: str | Sequence[str] = "",
        blend: float = 0.5,
        guidance: Any = None,
        guidance_kind: Any = None,
        steps: Any = None,
        sampler: Any = None,
        aug_level: Any = None,
        threshold: Any = None,
        batch_size: int | None = None,
        **settings: Any,
    ) -> Plan:
        """Returns what a call with these arguments draws.

        One value of a sampler's setting serves all stages; a list has one per stage,
        None in it leaving that stage's own.

        Args:
          prompts: one, or one per picture; "" is the null text.
          seeds: one per picture, or the first one, s: picture i takes s + i. One prompt
            with several seeds gives as many pictures.
          negative: what guidance leads away from, one or one per picture; "" is the
            null text.
          second: prompts to blend with the first, one or one per picture; "" is none.
          blend: share of the second, in [0, 1].
          guidance: weight w, 1 = none.
          guidance_kind: "constant" or "oscillating", `SamplerConfig.guidance`.
          steps: number of sampler steps.
          sampler: "ddpm", "ddim", "dpmpp_2m", "unipc" or "heun".
          aug_level: noise put on the low-res pictures, in [0, 1]; the base has none.
          threshold: "none", "static", "dynamic" or "capped".
          batch_size: pictures in a call of a stage, rounded up to the data axis and
            padded where there are fewer; None takes them all, at most 16.
          **settings: other fields of `sampler_config.SamplerConfig`.

        Raises:
          UserError: an unknown setting, a value that is not allowed, or lists whose
            lengths do not fit.
        """
        texts, numbers = match_prompts(prompts, seeds)
        check_limits(blend, batch_size)
        named = {
            "guidance_weight": guidance,
            "guidance": guidance_kind,
            "num_steps": steps,
            "kind": sampler,
            "aug_level": aug_level,
            "threshold": threshold,
        }
        settings |= {name: value for name, value in named.items() if value is not None}
        shards = num_batch_shards(self.mesh)
        size = batch_size or min(len(texts), BATCH_SIZE)
        return Plan(
            texts,
            one_per_picture("negative", negative, len(texts)),
            one_per_picture("second", second, len(texts)),
            float(blend),
            numbers,
            self._choose(settings),
            -(-size // shards) * shards,
        )

    def plan_like(self, recipe: Recipe) -> Plan:
        """Returns the plan whose picture `recipe.row` is the one of a PNG.

        Args:
          recipe: of the PNG.

        Raises:
          UserError: another model drew it, or on other devices in batches that these
            cannot split.
        """
        return self._plan_again([recipe] * recipe.batch_size)

    def plan_sheet(self, recipes: Sequence[Recipe]) -> Plan:
        """Returns the plan that draws the pictures of a sheet, in their order.

        They are bitwise those of the sheet where it shows all that was drawn, and else
        may differ by rounding: their places in the batches are others.

        Args:
          recipes: of the sheet's pictures, at least one.

        Raises:
          UserError: as `plan_like`, or they were drawn with different settings.
        """
        own = {"prompt", "negative", "second", "seed", "row"}
        shared = [
            {name: value for name, value in recipe._asdict().items() if name not in own}
            for recipe in recipes
        ]
        if any(settings != shared[0] for settings in shared):
            raise UserError(
                "the sheet's pictures were drawn with different settings; draw each "
                "by its own PNG, prompt and seed"
            )
        return self._plan_again(recipes)

    def _plan_again(self, recipes: Sequence[Recipe]) -> Plan:
        """Returns the plan of pictures that share all but prompts and seeds."""
        recipe = recipes[0]
        check_recipe(recipe, self.model, self.mesh, self.say)
        trees = [recipe.samplers[name] for name in self.names]
        settings = {name: [tree.get(name) for tree in trees] for name in trees[0]}
        count, shards = recipe.batch_size, num_batch_shards(self.mesh)
        if count % shards:
            raise UserError(
                f"the picture was drawn in a batch of {count}, which {shards} devices "
                f"cannot split; draw it on {recipe.devices}"
            )
        check_limits(recipe.blend, count)
        return Plan(
            tuple(each.prompt for each in recipes),
            tuple(each.negative for each in recipes),
            tuple(each.second for each in recipes),
            recipe.blend,
            tuple(each.seed for each in recipes),
            self._choose(settings),
            count,
        )

    def recipe(
        self, plan: Plan, index: int, stage: str, editing: Editing | None = None
    ) -> Recipe:
        """Returns what a picture of a plan follows from.

        Args:
          plan: from `plan`.
          index: of the picture.
          stage: name of the stage that drew it.
          editing: as given to `draw`.
        """
        samplers = map(dataclasses.asdict, plan.samplers)
        return Recipe(
            plan.prompts[index],
            plan.negatives[index],
            plan.seconds[index],
            plan.blend,
            plan.seeds[index],
            stage,
            dict(zip(self.names, samplers, strict=True)),
            {} if editing is None else describe_editing(editing, index),
            self.model,
            plan.batch_size,
            index % plan.batch_size,
            devices_of(self.mesh),
            versions(),
        )

    def draw(
        self,
        plan: Plan,
        report: Callable[[Part], None] = lambda part: None,
        editing: Editing | None = None,
    ) -> dict[str, Pictures]:
        """Returns the pictures of every stage by its name.

        Args:
          plan: from `plan`.
          report: called with each stage's pictures as they come.
          editing: from `fit`; None draws plainly.
        """
        self.text.remark(plan.prompts)
        seconds = None
        if any(plan.seconds):  # blended with itself, a prompt stays what it is
            pairs = zip(plan.prompts, plan.seconds, strict=True)
            seconds = self.text([second or prompt for prompt, second in pairs])
        texts = Texts(
            self.text(plan.prompts), self.text(plan.negatives), seconds, plan.blend
        )
        with jax.set_mesh(self.mesh):
            sample = sample_cascade
            if editing is not None:
                sample = functools.partial(edit_cascade, editing=editing)
            drawn = sample(
                self.cascade(plan.samplers),
                texts,
                np.array(plan.seeds, np.uint32),
                batch_size=plan.batch_size,
                put=lambda rows: jax.device_put(rows, batch_sharding(self.mesh)),
                report=report,
            )
        return dict(zip(self.names, drawn, strict=True))

    def cascade(self, samplers: Sequence[SamplerConfig]) -> list[CascadeStage]:
        """Returns the stages, ready to run with these settings.

        A stage is compiled once for its kind of sampler, number of steps, thresholding
        and batch size; all other settings are values.

        Args:
          samplers: settings of each stage, from the base up.
        """
        stages = []
        for i, config in enumerate(samplers):
            stage, load_params, _ = self.stages[i]
            key = (i, config.kind, config.threshold, config.num_steps)
            if key not in self._samplers:
                self._samplers[key] = Sampler(stage, config)
            grid = make_grid(stage, config)
            sampler = self._samplers[key]
            stages.append(CascadeStage(sampler, load_params, config, grid))
        return stages

    @property
    def names(self) -> tuple[str, ...]:
        """The stages' names, from the base up."""
        return tuple(loaded.stage.config.name for loaded in self.stages)

    @property
    def num_traces(self) -> int:
        """How often a stage was traced: once per sampler, steps and batch size."""
        return sum(sampler.num_traces for sampler in self._samplers.values())

    @functools.cached_property
    def model(self) -> dict[str, dict[str, str | int]]:
        """By stage, the hash of its config and which weights; and the encoder's."""
        stages = {
            loaded.stage.config.name: {
                "config_sha256": config_sha256(loaded.stage.config),
                **loaded.origin,
            }
            for loaded in self.stages
        }
        return {**stages, ENCODER: dict(self.text.identity)}

    def _choose(self, choices: Mapping[str, Any]) -> tuple[SamplerConfig, ...]:
        """Returns each stage's settings; more steps than it has are refused."""
        configs = [loaded.stage.config for loaded in self.stages]
        samplers = choose_samplers(configs, choices)
        for loaded, config in zip(self.stages, samplers, strict=True):
            make_grid(loaded.stage, config)
        return samplers
