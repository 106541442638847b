"""One sampling step of a peer with classifier-free guidance (two network evaluations per image), dynamic
thresholding and the DDPM update, each the way its own library does it. Prints one JSON line.

  python peer_sample_step.py --lib diffusers --model base64 --dtype bf16 --compile --channels-last
"""

import argparse
import peer_common as pc
import torch

ap = argparse.ArgumentParser()
ap.add_argument(
    "--lib", choices=["imagen-pytorch", "diffusers"], default="imagen-pytorch"
)
ap.add_argument("--model", choices=["base64", "sr256"], default="base64")
ap.add_argument("--batch", type=int)
ap.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
ap.add_argument("--compile", action="store_true")
ap.add_argument("--channels-last", action="store_true")
ap.add_argument("--steps", type=int, default=5)
ap.add_argument("--threads", type=int, default=torch.get_num_threads())
ap.add_argument("--serve", action="store_true")
a = ap.parse_args()
torch.set_num_threads(a.threads)
a.batch = a.batch or pc.BATCH[a.model]

unet, config = pc.build(a.lib, a.model)
unet.eval().requires_grad_(False)
if a.channels_last:
    unet = unet.to(memory_format=torch.channels_last)
batch = pc.inputs(a.model, a.batch, a.channels_last)

if a.lib == "imagen-pytorch":
    from imagen_pytorch import Imagen
    from imagen_pytorch.imagen_pytorch import NullUnet

    sr = a.model == "sr256"
    imagen = Imagen(
        unets=(NullUnet(), unet) if sr else (unet,),
        image_sizes=(64, 256) if sr else (64,),
        timesteps=1000,
        text_embed_dim=pc.TEXT_DIM,
    )
    net = imagen.unets[-1].eval().requires_grad_(False)
    if a.channels_last:
        net = net.to(memory_format=torch.channels_last)
    if a.compile:
        net.forward = torch.compile(net.forward)
    t, t_next = torch.full((a.batch,), 0.5), torch.full((a.batch,), 0.499)
    low = (
        dict(
            lowres_cond_img=batch["low"], lowres_noise_times=torch.full((a.batch,), 0.2)
        )
        if sr
        else {}
    )

    def sample():
        return imagen.p_sample(
            net,
            batch["x"],
            t,
            t_next=t_next,
            noise_scheduler=imagen.noise_schedulers[-1],
            text_embeds=batch["text"],
            cond_scale=5.0,
            **low,
        )[0]
else:
    from diffusers import DDPMScheduler

    sched = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
    )
    net = torch.compile(unet) if a.compile else unet
    text2 = torch.cat([torch.zeros_like(batch["text"]), batch["text"]])
    x2 = (
        batch["x"] if batch["low"] is None else torch.cat([batch["x"], batch["low"]], 1)
    )
    x2 = torch.cat([x2, x2])
    kw = (
        {}
        if batch["low"] is None
        else dict(class_labels=torch.full((2 * a.batch,), 200.0))
    )

    def sample():
        e = net(x2, 500, encoder_hidden_states=text2, return_dict=False, **kw)[
            0
        ].float()
        null, cond = e.chunk(2)
        return sched.step(
            null + 5.0 * (cond - null), 500, batch["x"], return_dict=False
        )[0]


def step():
    with torch.no_grad(), pc.autocast(a.dtype):
        sample()


with torch.no_grad():
    plain = pc.count_flops(lambda: pc.call(a.lib, unet, batch))
warm = pc.timed(step, 2)
meta = dict(
    task="sample",
    lib=a.lib,
    model=a.model,
    batch=a.batch,
    dtype=a.dtype,
    compile=a.compile,
    channels_last=a.channels_last,
    threads=a.threads,
    params=sum(p.numel() for p in unet.parameters()),
    flops_per_step=2 * plain,
    first_step_s=round(warm[0][0], 2),
    config=config,
)
pc.serve(step, meta) if a.serve else pc.report(step, meta, a.steps)
