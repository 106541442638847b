"""The held-out loss against closed forms, and that only the weights move it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagen_jax.config import MeshConfig
from imagen_jax.data import images
from imagen_jax.data.crops import CropSpec
from imagen_jax.data.records import BadRecordError, Record
from imagen_jax.data.synthetic import SyntheticSource
from imagen_jax.diffusion.process import alpha_sigma
from imagen_jax.errors import UserError
from imagen_jax.interfaces import TextEmbeddings, TextTokens
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import constrain_batch, tree_shardings
from imagen_jax.stage import Stage, build_stage
from imagen_jax.training.heldout import EvenlySpaced, HeldoutLoss
from imagen_jax.training.heldout_draws import draw_times
from imagen_jax.training.logsnr_bins import bin_members, schedule_edges
from tests.tiny import TOKENS, WIDTH, tiny_config, tiny_stage

# Bins of the cosine schedule: from log-SNR -20, clipped, to 8.8 at t = 0.
BINS = ((-20, -15), (-15, -10), (-10, -5), (-5, 0), (0, 5), (5, 10))
GAIN = {"gain": jnp.ones(())}


class Noise:
    """Pictures of independent random bytes: mean 0 and variance 1/3 in [-1, 1]."""

    def __init__(self, num, size=8):
        self.num, self.size, self.read = num, size, []

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        self.read.append(index)
        rng = np.random.default_rng(index)
        picture = rng.integers(0, 256, (self.size, self.size, 3), np.uint8)
        return Record(images.encode_png(picture), f"caption {index}", str(index))


def captions_to_zeros(captions):
    embed = np.zeros((len(captions), TOKENS, WIDTH), np.float32)
    return TextEmbeddings(embed, np.ones(embed.shape[:2], bool))


def stub_stage(formula, kind="base", **changes):
    """Returns a stage whose network is a formula; it counts how often it is traced."""

    class Stub(Stage):
        num_traces = 0

        def denoiser(self, params):
            Stub.num_traces += 1
            return lambda *inputs: params["gain"] * formula(*inputs)

    stage = tiny_stage(kind, **changes)
    return Stub(*(getattr(stage, field.name) for field in dataclasses.fields(Stage)))


def loss_of(stage, source, mesh=None, text_fn=captions_to_zeros, **named):
    return HeldoutLoss(stage, mesh or make_mesh(), source, text_fn, **named)


def gaussian_eps(z, logsnr, cond):
    """The best linear guess of eps, with variance 1/3 known."""
    alpha, sigma = (x[:, None, None, None] for x in alpha_sigma(logsnr))
    return sigma * z / (alpha**2 / 3 + sigma**2)


def mean_in_t(schedule, function, low, high):
    """Returns the mean of function(logsnr) over the times with log-SNR low to high."""
    start, stop = (float(schedule.t(jnp.float32(x))) for x in (high, low))
    stop = 1.0 if low == -20 else stop  # the clipped end belongs to the lowest bin
    t = jnp.linspace(start, stop, 20_001)
    return float(np.mean(function(schedule.logsnr(t))))


def test_losses_are_the_closed_form_of_a_gaussian_denoiser():
    """2 averages: the best denoiser, and one that says 0; 19 pictures on 8 devices."""
    stage = stub_stage(gaussian_eps, heldout={"count": 19, "times": 40})
    values = loss_of(stage, Noise(19))({"0.9": GAIN, "0.99": {"gain": jnp.zeros(())}})
    names = ["heldout/loss", *(f"heldout/loss_logsnr_{a}_{b}" for a, b in BINS)]
    assert list(values) == [*names, "heldout/0.99/loss"]

    def error(logsnr):  # E|eps - best guess|^2 = alpha^2 v / (alpha^2 v + sigma^2)
        snr = np.exp(np.asarray(logsnr, np.float64)) / 3
        return snr / (snr + 1)

    expected = [mean_in_t(stage.schedule, error, *b) for b in BINS]
    got = [values[name] for name in names[1:]]
    np.testing.assert_allclose(got, expected, rtol=0.04)
    whole = mean_in_t(stage.schedule, error, -20, 30)
    assert values["heldout/loss"] == pytest.approx(whole, rel=0.02)
    assert values["heldout/0.99/loss"] == pytest.approx(1.0, rel=0.02)


@pytest.mark.slow
def test_a_network_that_says_zero_has_the_loss_of_its_target():
    """v = alpha eps - sigma x0, so |v|^2 = alpha^2 + sigma^2 / 3."""
    stage = stub_stage(
        lambda z, logsnr, cond: jnp.zeros_like(z),
        diffusion={"prediction": "v"},
        heldout={"count": 24, "times": 32},
    )
    values = loss_of(stage, Noise(24))({"0.9": GAIN, "0.99": GAIN})
    for low, high in BINS:
        expected = mean_in_t(
            stage.schedule, lambda x: 1 / 3 + jax.nn.sigmoid(x) * 2 / 3, low, high
        )
        got = values[f"heldout/loss_logsnr_{low}_{high}"]
        assert got == pytest.approx(expected, rel=0.04)


def test_mesh_and_microbatches_change_no_draw():
    """Taken 8 at once by 1 device; 6 at once by 3, which leaves 5 places over."""
    got = []
    for devices, parts in ((1, 1), (3, 2)):
        stage = stub_stage(
            gaussian_eps,
            train={"batch_size": 8, "microbatches": parts},
            heldout={"count": 13, "times": 2},
        )
        mesh = make_mesh(MeshConfig(devices), jax.devices()[:devices])
        got.append(loss_of(stage, Noise(40), mesh)({"0.9": GAIN, "0.99": GAIN}))
    assert got[1] == pytest.approx(got[0], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "sr"])
def test_networks_give_the_same_on_a_mesh(kind, fill_params, monkeypatch):
    monkeypatch.setattr("imagen_jax.parallel.sharding.MIN_FSDP_SIZE", 64)
    one = {"channel_mults": [1], "num_res_blocks": [1], "attention": [True]}
    config = tiny_config(
        kind,
        network=one if kind == "base" else {},
        heldout={"count": 13, "times": 2},
        train={"ema_decays": [0.9]},
    )
    init = build_stage(config).init_params
    params = fill_params(jax.eval_shape(init, jax.random.key(0)), 0)
    stage = build_stage(config, constrain=constrain_batch)
    got = []
    for shape in ((1, 1, 1), (2, 2, 2)):
        mesh = make_mesh(MeshConfig(*shape), jax.devices()[: np.prod(shape)])
        with jax.set_mesh(mesh):
            spread = jax.device_put(params, tree_shardings(params, mesh))
            source = SyntheticSource(40, config.resolution)
            got.append(loss_of(stage, source, mesh)({"0.9": spread}))
    assert got[1] == pytest.approx(got[0], rel=1e-5)


@pytest.mark.slow
def test_every_call_draws_the_same_and_compiles_once():
    def value_of(seed):
        stage = stub_stage(gaussian_eps, seed=seed, heldout={"count": 20, "times": 3})
        heldout = loss_of(stage, Noise(20))
        calls = [heldout({"0.9": GAIN, "0.99": GAIN}) for _ in range(2)]
        assert calls[0] == calls[1]
        assert calls[0]["heldout/loss"] == calls[0]["heldout/0.99/loss"]
        assert stage.num_traces == 1  # 3 batches, 3 times, 2 averages, 2 calls
        return calls[0]["heldout/loss"]

    assert value_of(0) != value_of(1)


def test_pictures_are_evenly_spaced_and_each_counts_once():
    """Red if the pictures that fill the last batch up count: their loss is 0."""
    source = Noise(100)
    chosen = EvenlySpaced(source, 5)
    assert [chosen[i].name for i in range(len(chosen))] == ["0", "24", "49", "74", "99"]
    assert len(EvenlySpaced(source, 1000)) == 100
    source.read.clear()
    stage = stub_stage(
        lambda z, *_: jnp.zeros_like(z), heldout={"count": 9, "times": 2}
    )
    values = loss_of(stage, source)({"0.9": GAIN, "0.99": GAIN})
    assert set(source.read) == set(np.linspace(0, 99, 9).astype(int))
    assert values["heldout/loss"] == pytest.approx(1.0, rel=0.1)


@pytest.mark.slow
def test_a_picture_has_other_noise_at_each_time():
    """Red if not: |eps|^2 of the one picture would be the same in all bins."""
    stage = stub_stage(
        lambda z, *_: jnp.zeros_like(z), heldout={"count": 1, "times": 24}
    )
    values = loss_of(stage, Noise(1))({"0.9": GAIN, "0.99": GAIN})
    losses = [value for name, value in values.items() if "logsnr" in name]
    assert len(set(losses)) == len(BINS)
    assert np.ptp(losses) > 1e-3


@pytest.mark.slow
def test_a_loss_that_is_not_finite_shows_in_its_bin_only():
    def formula(z, logsnr, cond):
        return jnp.where(logsnr[:, None, None, None] > 5, jnp.nan, z)

    stage = stub_stage(formula, heldout={"count": 8, "times": 16})
    values = loss_of(stage, Noise(8))({"0.9": GAIN, "0.99": GAIN})
    broken = {name for name, value in values.items() if not np.isfinite(value)}
    assert broken == {
        *("heldout/loss", "heldout/0.99/loss", "heldout/loss_logsnr_5_10")
    }


@pytest.mark.slow
@pytest.mark.parametrize("crop", [None, CropSpec(8, 2)])
def test_super_resolution_gets_its_own_low_res_picture(crop):
    """The low-res picture taken for x0: far off only for another picture's."""
    stage = stub_stage(
        lambda z, logsnr, cond: cond.low_res,
        "sr",
        diffusion={"prediction": "x0", "aug_level_max": 1e-3},
        heldout={"count": 16, "times": 2},
        sampler={"aug_level": 0.0},
    )
    values = loss_of(stage, SyntheticSource(64, 16), crop=crop)(
        {"0.9": GAIN, "0.99": {"gain": jnp.zeros(())}}
    )
    assert values["heldout/loss"] < 0.1 * values["heldout/0.99/loss"]


@pytest.mark.slow
def test_tokens_are_encoded_as_in_training():
    """Captions travel as ids, and the network sees what `encode_fn` makes of them."""

    def formula(z, logsnr, cond):
        return jnp.ones_like(z) * cond.text_embed.mean(axis=(1, 2))[:, None, None, None]

    def tokenize(captions):
        ids = np.array([[int(c.split()[1])] * TOKENS for c in captions], np.int32)
        return TextTokens(ids, np.ones(ids.shape, bool))

    def encode(tokens):
        embed = jnp.repeat(tokens.ids[..., None] * 1.0, WIDTH, axis=-1)
        return TextEmbeddings(embed, tokens.mask)

    stage = stub_stage(formula, heldout={"count": 8, "times": 32})
    heldout = loss_of(stage, Noise(8), text_fn=tokenize, encode_fn=encode)
    values = heldout({"0.9": GAIN, "0.99": GAIN})
    expected = 1 + np.mean(np.arange(8.0) ** 2)  # E|eps - i|^2 for caption i
    assert values["heldout/loss"] == pytest.approx(expected, rel=0.05)


def test_times_are_stratified():
    """Each draw has a stratum of its own, each picture one of each range of them."""
    schedule = tiny_stage().schedule
    edges = schedule_edges(schedule)
    times, importance = draw_times(schedule, edges, (8, 50), seed=3)
    assert times.shape == importance.shape == (8, 50)
    in_order = np.sort(times, axis=None)
    np.testing.assert_array_equal(np.sort(times, axis=1).reshape(-1), in_order)
    # A weighted mean of something that varies with t a lot: the integral, closely.
    assert importance.mean() == pytest.approx(1.0, rel=0.01)
    assert np.mean(importance * times**2) == pytest.approx(1 / 3, rel=0.01)
    members = bin_members(schedule.logsnr(jnp.asarray(in_order)), edges)
    assert members.sum(axis=1).min() >= 400 // 2 // len(BINS)


@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [
        ({}, -20, 10),
        ({"shift": -5.55}, -20, 5),
        ({"kind": "cosine_truncated"}, -20, 20),
        ({"kind": "linear"}, -15, 20),
    ],
)
def test_bins_enclose_the_schedule(changes, low, high):
    schedule = tiny_stage(diffusion={"schedule": changes}).schedule
    edges = schedule_edges(schedule)
    assert edges == tuple(range(low, high + 1, 5))


def test_values_on_and_beyond_edges_have_one_bin():
    members = bin_members(
        jnp.array([-9.0, 0.0, 4.9, 5.0, 10.0, 99.0]), (0.0, 5.0, 10.0)
    )
    np.testing.assert_array_equal(members, [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])


class Broken(Noise):
    def __getitem__(self, index):
        raise BadRecordError("corrupt picture")


def unknown_captions(captions):
    raise UserError(f"the store lacks {captions[0]!r}; embed it first")


@pytest.mark.parametrize(
    ("source", "text_fn", "message"),
    [
        (Noise(0), captions_to_zeros, r"holds no record; prepare the data first"),
        (Noise(5), unknown_captions, r"the store lacks 'caption \d'; embed it first"),
        (Broken(5), captions_to_zeros, r"all after it are bad \(corrupt picture: 5\)"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(source, text_fn, message):
    stage = stub_stage(gaussian_eps, heldout={"source": "folder:x"})
    with pytest.raises(UserError, match=rf"^heldout.source 'folder:x': .*{message}"):
        loss_of(stage, source, text_fn=text_fn)
