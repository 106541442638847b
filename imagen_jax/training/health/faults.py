"""What can be found wrong with a run: the name of each fault, and what to do next."""

from typing import NamedTuple

NEXT_STEPS = {
    "pictures in [0, 1]": (
        "give the stage bytes from 0 to 255, which the step scales to [-1, 1]; pictures"
        " stored as 0 to 1 are multiplied by 255 before they are rounded"
    ),
    "pictures scaled wrongly": (
        "bytes 0 to 255 stand for -1 to 1 (diffusion.augmentation.to_unit); look for a "
        "second scaling between data.source and the train step"
    ),
    "all text masks empty": (
        "check the store that data.store names (python -m imagen_jax.embed --verify) "
        "and the captions of data.source, and embed them again"
    ),
    "most captions empty": (
        "look at the captions of data.source: a wrong field or column gives empty ones;"
        " filter pictures without a caption"
    ),
    "wrong conditioning dropout": (
        "set diffusion.cond_drop_prob to the share that is wanted, 0.1 in the paper, "
        "and look for a second place that drops captions"
    ),
    "low-res of another picture": (
        "keep the picture and its low-res picture in one record, and shuffle records, "
        "not lists of pictures"
    ),
    "low-res not of its picture": (
        "make low-res pictures by data.images.box_downsample, before cropping, with "
        "crop offsets that are multiples of the reduction"
    ),
    "aug_level inverted": (
        "aug_level is 0 for clean and 1 for noise, at each place where it is drawn, "
        "used to add noise, or told to the network"
    ),
    "wrong augmentation noise": (
        "scale the low-res picture to [-1, 1] first, then add the noise of "
        "diffusion.aug_schedule once, and tell the network that log-SNR"
    ),
    "learning rate 0": (
        "set optimizer.learning_rate above 0 (1e-4 in the paper); with a cosine, the "
        "end of train.num_steps may have been reached"
    ),
    "updates not finite": (
        "lower optimizer.learning_rate or set optimizer.clip_norm to 1; if the first "
        "step fails already, look for pictures or embeddings that are not finite"
    ),
    "updates not applied": (
        "see that the step returns the new parameters, and that optimizer.freeze does "
        "not match all of them"
    ),
    "EMA frozen": (
        "average the new parameters in every step (training.ema.update_ema); a decay "
        "in train.ema_decays must be below 1"
    ),
    "no gradient": (
        "see that the named blocks are on the way from the network's input to its "
        "output, and that nothing stops the gradient"
    ),
    "target sign flipped": (
        "compare diffusion.parameterization.target with to_prediction: z = alpha x0 + "
        "sigma eps and v = alpha eps - sigma x0"
    ),
    "loss and sampler disagree": (
        "train and sample with one diffusion.prediction, and compare "
        "diffusion.parameterization.target with to_prediction"
    ),
    "nothing learned": (
        "raise optimizer.learning_rate tenfold; if that changes nothing, look whether "
        "pictures and captions belong together"
    ),
    "colour drift": (
        "train longer or on larger batches, and see that the low-res pictures are "
        "scaled as the pictures are"
    ),
    "not overfitted": (
        "look at the pictures (--out=grid.png); try a larger network, "
        "diffusion.prediction=v, or more sampler.num_steps; where all samples look "
        "alike, the text does not reach the network"
    ),
}


class Finding(NamedTuple):
    """A sentence about one topic.

    Attributes:
      topic: what was looked at.
      text: what was seen, with its figures.
      fault: a name of `NEXT_STEPS` if something is wrong, else "".
    """

    topic: str
    text: str
    fault: str = ""

    @property
    def lines(self) -> list[str]:
        """The finding in words; a fault also says what to do."""
        if not self.fault:
            return [f"  {self.topic}: {self.text}"]
        return [
            f"  FAULT {self.fault}: {self.topic}: {self.text}",
            f"    next: {NEXT_STEPS[self.fault]}",
        ]
