"""Peer models (imagen-pytorch, diffusers) at the fixed configs used for racing imagen_jax.

Runs in the peer venv (made by ../race.sh): torch==2.13.0 (CPU), imagen-pytorch, diffusers, transformers,
and NO torchvision (its PyPI build is CUDA-only and makes `import imagen_pytorch` crash on CPU torch).
"""

import importlib.machinery
import json
import os
import resource
import statistics
import sys
import time
import types

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import torch.nn.functional as F

TEXT_LEN, TEXT_DIM = 64, 512  # 64 text tokens of a 512-d frozen encoder

# ---------------------------------------------------------------- configs
# "base64": 64x64 base U-Net, "sr256": 64->256 efficient (down-sample-first) U-Net.
IMAGEN_PYTORCH = {
    "base64": dict(
        dim=64,
        dim_mults=(1, 2, 3, 4),
        num_resnet_blocks=2,
        cond_dim=256,
        text_embed_dim=TEXT_DIM,
        max_text_len=TEXT_LEN,
        attn_heads=4,
        attn_dim_head=64,
        ff_mult=2.0,
        layer_attns=(False, True, True, True),
        layer_cross_attns=(False, True, True, True),
        memory_efficient=False,
    ),
    "sr256": dict(
        dim=32,
        dim_mults=(1, 2, 4, 6),
        num_resnet_blocks=(2, 2, 3, 3),
        cond_dim=256,
        text_embed_dim=TEXT_DIM,
        max_text_len=TEXT_LEN,
        attn_heads=4,
        attn_dim_head=64,
        ff_mult=2.0,
        layer_attns=(False, False, False, True),
        layer_cross_attns=(False, False, False, True),
        memory_efficient=True,
        lowres_cond=True,
    ),
}
# DeepFloyd-IF layout (stage I and stage II UNet2DConditionModel), scaled down.
_IF = dict(
    act_fn="gelu",
    addition_embed_type="text",
    addition_embed_type_num_heads=4,
    attention_head_dim=64,
    cross_attention_dim=256,
    cross_attention_norm="group_norm",
    encoder_hid_dim=TEXT_DIM,
    encoder_hid_dim_type="text_proj",
    norm_num_groups=32,
    resnet_time_scale_shift="scale_shift",
    resnet_skip_time_act=True,
    resnet_out_scale_factor=1,
    mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    time_embedding_act_fn="gelu",
    freq_shift=0,
    flip_sin_to_cos=True,
)
DIFFUSERS = {
    "base64": dict(
        _IF,
        sample_size=64,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(64, 128, 192, 256),
        down_block_types=("ResnetDownsampleBlock2D",)
        + ("SimpleCrossAttnDownBlock2D",) * 3,
        up_block_types=("SimpleCrossAttnUpBlock2D",) * 3 + ("ResnetUpsampleBlock2D",),
    ),
    "sr256": dict(
        _IF,
        sample_size=256,
        in_channels=6,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(32, 64, 128, 192),
        class_embed_type="timestep",
        down_block_types=("ResnetDownsampleBlock2D",) * 3
        + ("SimpleCrossAttnDownBlock2D",),
        up_block_types=("SimpleCrossAttnUpBlock2D",) + ("ResnetUpsampleBlock2D",) * 3,
    ),
}
SIZE = {"base64": 64, "sr256": 256}
BATCH = {"base64": 8, "sr256": 1}


def _stand_in_attr(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return object


def _imagen_unet_class():
    """Import imagen_pytorch.Unet with an empty stand-in for torchvision (used only for image files)."""
    try:
        import torchvision  # noqa: F401  (a working GPU box has it)
    except Exception:
        import accelerate, kornia, transformers  # noqa: F401  import before the stand-in, they probe for it

        for name in (
            "torchvision",
            "torchvision.transforms",
            "torchvision.utils",
            "torchvision.datasets",
        ):
            m = types.ModuleType(name)
            m.__spec__ = importlib.machinery.ModuleSpec(name, None)
            m.__path__ = []
            m.__getattr__ = _stand_in_attr
            sys.modules[name] = m
        sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
        sys.modules["torchvision"].utils = sys.modules["torchvision.utils"]
    # `import imagen_pytorch` asks the Hugging Face hub for a T5 config (a default argument): answer it here
    from transformers import T5Config

    real, T5Config.from_pretrained = (
        T5Config.from_pretrained,
        lambda *a, **k: T5Config(d_model=768),
    )
    try:
        from imagen_pytorch import Unet
    finally:
        T5Config.from_pretrained = real
    return Unet


def build(lib, which):
    torch.manual_seed(0)
    if lib == "imagen-pytorch":
        return _imagen_unet_class()(**IMAGEN_PYTORCH[which]), IMAGEN_PYTORCH[which]
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**DIFFUSERS[which]), DIFFUSERS[which]


def inputs(which, batch, channels_last=False):
    g = torch.Generator().manual_seed(1)
    s = SIZE[which]
    x = torch.randn(batch, 3, s, s, generator=g)
    low = torch.randn(batch, 3, s, s, generator=g) if which == "sr256" else None
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
        low = None if low is None else low.contiguous(memory_format=torch.channels_last)
    text = torch.randn(batch, TEXT_LEN, TEXT_DIM, generator=g)
    t = torch.rand(batch, generator=g)
    return dict(x=x, t=t, text=text, low=low)


def call(lib, unet, b, drop=None):
    """One network evaluation; drop: None = plain conditional, else conditioning-dropout probability."""
    if lib == "imagen-pytorch":
        kw = dict(text_embeds=b["text"], cond_drop_prob=0.0 if drop is None else drop)
        if b["low"] is not None:
            kw.update(lowres_cond_img=b["low"], lowres_noise_times=b["t"])
        return unet(b["x"], b["t"], **kw)
    x = b["x"] if b["low"] is None else torch.cat([b["x"], b["low"]], 1)
    text = b["text"]
    if drop:  # what train scripts do: zero the text of dropped samples
        text = text * (torch.rand(text.shape[0], 1, 1) >= drop)
    kw = dict(class_labels=b["t"] * 1000) if b["low"] is not None else {}
    return unet(x, b["t"] * 1000, encoder_hidden_states=text, return_dict=False, **kw)[
        0
    ]


def autocast(dtype):
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16")


def count_flops(fn):
    """Multiply-adds counted as 2 FLOPs, by torch.utils.flop_counter (matmul, bmm, conv, sdpa only)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as c:
        fn()
    return int(c.get_total_flops())


def peak_rss_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def timed(fn, n):
    """[(wall seconds, process CPU seconds)] of n calls; on a shared machine trust the CPU seconds of 1 thread."""
    out = []
    for _ in range(n):
        w, c = time.perf_counter(), time.process_time()
        fn()
        out.append((time.perf_counter() - w, time.process_time() - c))
    return out


def serve(fn, meta):
    """Worker for pair.py: print READY, then for every line 'N' run N steps and print their times."""
    print("READY " + json.dumps(meta), flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(fn, int(line))), flush=True)


def report(fn, meta, steps):
    times = timed(fn, steps)
    wall, cpu = zip(*times)
    meta.update(
        median_step_s=round(statistics.median(wall), 4),
        min_step_s=round(min(wall), 4),
        median_cpu_s=round(statistics.median(cpu), 4),
        min_cpu_s=round(min(cpu), 4),
        steps=steps,
        peak_rss_mb=peak_rss_mb(),
        torch=torch.__version__,
    )
    print(json.dumps(meta))
