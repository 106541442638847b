"""The page: a prompt and its settings, three ways to draw, pictures as they come."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from imagen_jax.app.events import View, follow
from imagen_jax.app.studio import Studio
from imagen_jax.app.visit import (
    Session,
    between_fields,
    capital,
    caption,
    common_fields,
    edit_fields,
    forget,
    plain_fields,
    remember,
    show_status,
)
from imagen_jax.optional import import_optional
from imagen_jax.sampling.plan import MAX_SEED

import_optional("gradio", "app")  # a sentence where it is missing

import gradio as gr  # noqa: E402

CACHE_SEC = (3600, 24 * 3600)  # how often files are looked through; how old they become
SYSTEM_FONT = ("system-ui", "sans-serif")  # nothing is loaded for it
STYLE = Path(__file__).with_name("style.css")
TAKE = Path(__file__).with_name("take.js")


class Controls(NamedTuple):
    """What a visitor sets for every way of drawing."""

    prompt: gr.Textbox
    negative: gr.Textbox
    seed: gr.Number
    num: gr.Slider
    guidance: gr.Slider
    steps: gr.Dropdown


class Outputs(NamedTuple):
    """What drawing changes."""

    status: gr.HTML
    pictures: gr.Gallery
    stages: gr.Gallery
    history: gr.Gallery
    session: gr.State


def make_page(studio: Studio, credit: str = "") -> gr.Blocks:
    """Returns the page.

    Args:
      studio: draws.
      credit: whom the model's pictures are owed to; at the foot of the page.
    """
    with gr.Blocks(
        title="imagen_jax", analytics_enabled=False, delete_cache=CACHE_SEC
    ) as page:
        sizes = " → ".join(map(str, resolutions(studio)))
        gr.Markdown(f"# imagen_jax\nText to pictures, {sizes} pixels.")
        with gr.Row(elem_id="main"):
            with gr.Column(elem_id="ask"):
                prompt = _make_prompt(
                    studio, "Prompt", "a panda on a blue background", autofocus=True
                )
                with gr.Tabs(elem_id="ways"):
                    with gr.Tab("Draw"):
                        draw = gr.Button("Draw", variant="primary")
                    with gr.Tab("Edit"):
                        editor, strength, edit = _make_editor()
                    with gr.Tab("Between seeds"):
                        other_seed, between = _make_between()
            with gr.Column(elem_id="show"):
                outputs, stop, take = _make_outputs(studio)
            with gr.Column(elem_id="set"):
                controls = _make_controls(studio, prompt)
        if credit:
            gr.Markdown(credit, elem_id="credit")
        run = _Runner(studio, controls, outputs)
        running = [
            run.on([draw.click, controls.prompt.submit], [], plain_fields),
            run.on([edit.click], [editor, strength], edit_fields),
            run.on([between.click], [other_seed], between_fields),
        ]
        stop.click(
            lambda: show_status(resolutions(studio), View("Stopped.")),
            None,
            outputs.status,
            cancels=running,
            api_visibility="private",
        )
        take.click(None, js=TAKE.read_text("utf-8"))
    return page.queue(api_open=False)


def resolutions(studio: Studio) -> list[int]:
    """Returns the stages' resolutions, from the base up."""
    return [loaded.stage.config.resolution for loaded in studio.model.stages]


def _make_prompt(
    studio: Studio, label: str, example: str, **settings: Any
) -> gr.Textbox:
    return gr.Textbox(
        label=label,
        placeholder=example,
        lines=1,
        max_lines=4,
        max_length=studio.limits.num_letters,
        **settings,
    )


def _make_controls(studio: Studio, prompt: gr.Textbox) -> Controls:
    limits = studio.limits
    own = studio.model.plan("").samplers[0]
    negative = _make_prompt(studio, "Negative prompt", "what to be led away from")
    with gr.Row():
        seed = gr.Number(
            0, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, min_width=120
        )
        again = gr.Button("Another seed", min_width=120, elem_id="again")
        again.click(
            lambda: random.randint(0, MAX_SEED), None, seed, api_visibility="private"
        )
    num = gr.Slider(1, limits.num_pictures, 1, step=1, label="Pictures")
    guidance = gr.Slider(
        0, 15, own.guidance_weight, step=0.5, label="Guidance of the first stage"
    )
    steps = gr.Dropdown(
        [("the stages' own", 0), *((str(steps), steps) for steps in limits.steps)],
        value=0,
        label="Steps",
        info="Each number is compiled at its first use.",
    )
    return Controls(prompt, negative, seed, num, guidance, steps)


def _make_editor() -> tuple[gr.ImageEditor, gr.Slider, gr.Button]:
    gr.Markdown(
        "Paint over what is to be drawn anew; without paint the whole picture is "
        "changed."
    )
    editor = gr.ImageEditor(
        label="Picture",
        sources=("upload", "clipboard"),
        transforms=None,
        layers=False,
        brush=gr.Brush(colors=["#ff2f92"], color_mode="fixed"),
        canvas_size=(512, 512),
        format="png",
        elem_id="editor",
    )
    strength = gr.Slider(
        0, 1, 0.6, step=0.05, label="Strength", info="0 keeps it, 1 draws it anew"
    )
    return editor, strength, gr.Button("Edit", variant="primary")


def _make_between() -> tuple[gr.Number, gr.Button]:
    gr.Markdown("Pictures from the seed to another one in equal steps, 2 at least.")
    other = gr.Number(1, label="Other seed", precision=0, minimum=0, maximum=MAX_SEED)
    return other, gr.Button("Draw between", variant="primary")


def _make_outputs(studio: Studio) -> tuple[Outputs, gr.Button, gr.Button]:
    idle = show_status(resolutions(studio), View("Type a prompt and press Draw."))
    status = gr.HTML(idle, elem_id="status")
    pictures = gr.Gallery(
        label="Pictures",
        show_label=False,
        columns=2,
        object_fit="contain",
        height="auto",
        buttons=["download", "fullscreen"],
        elem_id="pictures",
    )
    with gr.Row():
        stop = gr.Button("Stop", min_width=120)
        take = gr.Button("Edit this", min_width=120)
    rest: dict[str, gr.Gallery] = {}
    for name, label in (
        ("stages", "Every stage"),
        ("history", "History of this session"),
    ):
        with gr.Accordion(label, open=False):
            rest[name] = gr.Gallery(
                show_label=False,
                columns=4,
                object_fit="contain",
                height="auto",
                buttons=["download", "fullscreen"],
                elem_id=name,
            )
    session = gr.State(Session(), delete_callback=forget)
    return Outputs(status, pictures, session=session, **rest), stop, take


class _Runner:
    """Wires buttons to drawing."""

    def __init__(self, studio: Studio, controls: Controls, outputs: Outputs):
        self._studio = studio
        self._controls = controls
        self._outputs = outputs

    def on(
        self, triggers: list[Any], inputs: list[Any], fields_fn: Callable[..., Any]
    ) -> Any:
        """Returns the event that draws what `fields_fn(common, *inputs)` asks for."""
        common = [*self._controls, self._outputs.session]

        async def draw(*values: Any) -> AsyncIterator[dict[Any, Any]]:
            asked = dict(zip(Controls._fields, values, strict=False))
            session, rest = values[len(asked)], values[len(common) :]
            fields = fields_fn(
                common_fields(asked, len(self._studio.model.names)), *rest
            )
            async for view in follow(self._studio, fields):
                if view.is_refused:
                    gr.Warning(capital(view.text))
                yield self._updates(view, asked, session)

        return gr.on(
            triggers,
            draw,
            [*common, *inputs],
            list(self._outputs),
            show_progress="hidden",
            concurrency_limit=None,  # the studio has the queue
            api_visibility="private",
        )

    def _updates(
        self, view: View, asked: Mapping[str, Any], session: Session
    ) -> dict[Any, Any]:
        out = self._outputs
        updates: dict[Any, Any] = {
            out.status: show_status(resolutions(self._studio), view)
        }
        if view.pictures:
            captioned = [(str(file), caption(file)) for file in view.pictures]
            columns = min(int(asked["num"]), 2)
            updates[out.pictures] = gr.Gallery(
                captioned, columns=columns, selected_index=None
            )
        if view.drawn is not None:
            session = remember(session, view.drawn, asked["prompt"])
            files = [file for stage in view.drawn.stages for file in stage]
            updates[out.stages] = [(str(file), caption(file)) for file in files]
            updates[out.history] = [*session.pictures]
            updates[out.session] = session
        return updates
