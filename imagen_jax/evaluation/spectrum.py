"""How far a picture's spectrum is from that of true pictures, in dB: needs no weights.

P_k is the mean power of band k: frequencies whose distance from 0 lies in
[2^k, 2^(k+1)) cycles per picture, over both axes and the three channels. With r_k the
mean over true pictures of 10 log10 P_k, the distance of a picture is

  sqrt(mean_k (10 log10 P_k - r_k)^2)

Noise has too much power in the high bands, a blurred or empty picture too little. It is
blind to what is shown, so it finds gross faults only; it is no FID and not comparable
with one. A true picture has a distance too, above 0: that is what a stage is held
against.
"""

import numpy as np
from jaxtyping import Float, UInt8

# The power of rounding to 8 bits: what is weaker cannot be told from 0.
MIN_POWER = 1.0 / 12.0


def band_powers(
    pictures: UInt8[np.ndarray, "b s s 3"],
) -> Float[np.ndarray, "b k"]:
    """Returns 10 log10 of each picture's power in each octave, in dB.

    Args:
      pictures: square, of side s at least 2; k = log2(s), rounded down.
    """
    size = pictures.shape[1]
    waves = np.fft.fft2(pictures.astype(np.float64), axes=(1, 2)) / size
    power = (np.abs(waves) ** 2).mean(axis=-1)
    cycles = np.fft.fftfreq(size, 1.0 / size)
    distance = np.hypot(cycles[:, None], cycles[None, :])
    bands = [
        power[:, (distance >= 2**k) & (distance < 2 ** (k + 1))].mean(axis=1)
        for k in range(size.bit_length() - 1)
    ]
    return 10.0 * np.log10(np.maximum(np.stack(bands, axis=1), MIN_POWER))


def spectrum_distances(
    pictures: UInt8[np.ndarray, "b s s 3"], truth: UInt8[np.ndarray, "n s s 3"]
) -> Float[np.ndarray, " b"]:
    """Returns each picture's distance from the true pictures, in dB, at least 0."""
    difference = band_powers(pictures) - band_powers(truth).mean(axis=0)
    return np.sqrt((difference**2).mean(axis=1))


def true_distances(
    truth: UInt8[np.ndarray, "n s s 3"],
) -> Float[np.ndarray, " n"]:
    """Returns each true picture's distance from the other ones, in dB.

    Args:
      truth: at least 2.
    """
    powers = band_powers(truth)
    others = (powers.sum(axis=0) - powers) / (len(powers) - 1)
    return np.sqrt(((powers - others) ** 2).mean(axis=1))
