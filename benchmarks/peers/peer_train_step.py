"""One training step of a peer U-Net: noise, forward, MSE, backward, Adam (fused), EMA. Prints one JSON line.

python peer_train_step.py --lib imagen-pytorch --model base64 --dtype bf16 --compile --channels-last
(--serve: speak pair.py's protocol instead)
"""

import argparse
import peer_common as pc
import torch
import torch.nn.functional as F

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
if a.channels_last:
    unet = unet.to(memory_format=torch.channels_last)
params = [p for p in unet.parameters() if p.requires_grad]
ema = [p.detach().clone() for p in params]
opt = torch.optim.Adam(params, lr=1e-4, fused=True)
batch = pc.inputs(a.model, a.batch, a.channels_last)
noise = torch.randn_like(batch["x"])
fwd = lambda: pc.call(a.lib, unet, batch, drop=0.1)
flops = pc.count_flops(
    lambda: F.mse_loss(fwd(), noise).backward()
)  # forward + backward
run = torch.compile(fwd) if a.compile else fwd


def step():
    with pc.autocast(a.dtype):
        loss = F.mse_loss(run().float(), noise)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    torch._foreach_lerp_(ema, params, 1e-3)


warm = pc.timed(step, 2)
meta = dict(
    task="train",
    lib=a.lib,
    model=a.model,
    batch=a.batch,
    dtype=a.dtype,
    compile=a.compile,
    channels_last=a.channels_last,
    threads=a.threads,
    params=sum(p.numel() for p in params),
    flops_per_step=flops,
    first_step_s=round(warm[0][0], 2),
    config=config,
)
pc.serve(step, meta) if a.serve else pc.report(step, meta, a.steps)
