"""Runs pytorch-fid's own network and distance, in a process of its own.

    python pytorch_fid_oracle.py WHEELS WEIGHTS.npz PICTURES.npz WEIGHTS.pth OUT.npz

Its wheel and torchvision's are imported as they were downloaded: installed, torchvision
would have to fit the build of torch, and transformers would use it. Its compiled
operators are not needed, and are not there.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch


def main(wheels, weights_in, pictures_in, weights_out, out):
    sys.path[:0] = [str(path) for path in Path(wheels).glob("*.whl")]
    unneeded = "torchvision._meta_registrations"
    sys.modules[unneeded] = types.ModuleType(unneeded)
    from pytorch_fid import fid_score, inception

    state = {
        name: torch.from_numpy(array) for name, array in np.load(weights_in).items()
    }
    torch.save(state, weights_out)
    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights_out)
    network = inception.InceptionV3(resize_input=False).eval()
    arrays = np.load(pictures_in)
    x = torch.from_numpy(arrays["pictures"]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        features = network(x.float())[0][:, :, 0, 0].numpy()
    distances = []
    for i in range(int(arrays["num_pairs"])):
        pair = [arrays[f"{name}_{i}"] for name in ("m1", "c1", "m2", "c2")]
        distances.append(fid_score.calculate_frechet_distance(*pair))
    np.savez(out, features=features, distances=distances)


if __name__ == "__main__":
    main(*sys.argv[1:])
