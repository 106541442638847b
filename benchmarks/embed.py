"""Captions per second of our text encoders against transformers + torch, on a CPU.

    python benchmarks/embed.py --out=benchmarks/results/embed.json

Both sides turn the same captions into the valid tokens' embeddings, bfloat16 in numpy,
in float32 arithmetic, with the same weights, vocabulary, batch size and threads, and
tokenizing counts. Each does its best: the peer sorts the captions by length, pads a
batch to its longest and runs under inference_mode; ours does as `imagen_jax.embed` with
so many captions that a program for each length pays off. Before all that the two
results are compared.

Rounds alternate, so that a busy machine slows both; the figure is the median. On a busy
machine --threads=1 and the CPU seconds are fairer, as torch's threads wait for each
other by spinning.

The models are MiniLM and a T5 v1.1 of random weights, with a vocabulary made from the
captions. Last come the bytes of a stored caption at the width of T5-XXL, and what int8
loses: the smallest cosine between a token and what is read back.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from worker import limit_threads

WORDS = (
    "a the one two some old young small large bright dark red green blue yellow white "
    "fox owl cat panda horse boat house tree mountain river street lamp clock chair "
    "sitting standing flying sleeping running on under behind beside near over with "
    "background photograph painting drawing sketch watercolour evening morning winter"
).split()
XXL_WIDTH = 4096
XXL_TOKENS = 20  # of a typical caption

Embed = Callable[[list[str]], dict[str, np.ndarray]]


def make_captions(count: int) -> list[str]:
    """Returns distinct captions of 3 to 40 words, mostly short, as real ones are."""
    rng = random.Random(0)
    captions: set[str] = set()
    while len(captions) < count:
        length = min(40, 3 + int(rng.expovariate(1 / 9)))
        captions.add(" ".join(rng.choices(WORDS, k=length)))
    return sorted(captions)


def write_t5(folder: Path, captions: list[str]) -> None:
    """Writes a T5 v1.1 small of random weights, with a vocabulary of the captions."""
    import sentencepiece
    import torch
    import transformers

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions),
        model_prefix=str(folder / "spiece"),
        vocab_size=200,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=32128,
        d_model=512,
        d_kv=64,
        d_ff=1024,
        num_layers=8,
        num_heads=6,
        feed_forward_proj="gated-gelu",
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)


def our_embed(name: str, folder: Path, batch_size: int) -> Embed:
    """Returns what `imagen_jax.embed` does with a shard's captions."""
    from imagen_jax.embedding.encoding import encode_captions
    from imagen_jax.embedding.machine import load_here

    encoder = load_here(name, 128, batch_size, weights=str(folder))
    return lambda captions: dict(encode_captions(encoder, captions, batch_size, step=1))


def peer_embed(folder: Path, batch_size: int) -> Embed:
    """Returns the same by transformers and torch."""
    import torch
    import transformers

    if (folder / "spiece.model").exists():
        model = transformers.T5EncoderModel.from_pretrained(folder)
        tokenizer = transformers.T5Tokenizer.from_pretrained(folder, extra_ids=0)
    else:
        model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]"
        )
    model = model.eval().to(torch.float32)

    @torch.inference_mode()
    def embed(captions: list[str]) -> dict[str, np.ndarray]:
        ids = tokenizer(captions, truncation=True, max_length=128)["input_ids"]
        order = sorted(range(len(captions)), key=lambda i: len(ids[i]))
        embeddings = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer.pad(
                {"input_ids": [ids[i] for i in rows]}, return_tensors="pt"
            )
            states = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).last_hidden_state
            for row, state in zip(rows, states, strict=True):
                valid = state[: len(ids[row])].numpy()
                embeddings[captions[row]] = valid.astype(ml_dtypes.bfloat16)
        return embeddings

    return embed


def race(
    captions: list[str], ours: Embed, peers: Embed, rounds: int
) -> dict[str, float]:
    """Returns captions per second of wall and CPU time, and how the results differ."""
    mine, theirs = ours(captions), peers(captions)  # compiles, and warms up
    difference = max(
        float(np.abs(mine[c].astype(np.float32) - theirs[c].astype(np.float32)).max())
        for c in captions
    )
    wall: dict[str, list[float]] = {"ours": [], "peer": []}
    cpu: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for side, embed in (("ours", ours), ("peer", peers)):
            start = time.perf_counter(), time.process_time()
            embed(captions)
            wall[side].append(time.perf_counter() - start[0])
            cpu[side].append(time.process_time() - start[1])
    rates = {"difference": difference}
    for kind, seconds in (("wall", wall), ("cpu", cpu)):
        for side, times in seconds.items():
            rates[f"{side}_{kind}"] = len(captions) / statistics.median(times)
        rates[f"ratio_{kind}"] = rates[f"ours_{kind}"] / rates[f"peer_{kind}"]
    return rates


def storage(embed: np.ndarray | None = None) -> dict[str, float]:
    """Returns bytes and cosine of int8 against bfloat16.

    Args:
      embed: a caption's tokens; None draws normal ones at the width of T5-XXL.
    """
    from imagen_jax.data.store_records import decode_record, encode_record

    if embed is None:
        rng = np.random.default_rng(0)
        embed = rng.normal(size=(XXL_TOKENS, XXL_WIDTH)).astype(ml_dtypes.bfloat16)
    whole, small = encode_record("", embed), encode_record("", embed, "int8")
    a = embed.astype(np.float64)
    b = decode_record(small, embed.shape[1], "int8")[1].astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return {
        "bfloat16_bytes": len(whole),
        "int8_bytes": len(small),
        "ratio": len(small) / len(whole),
        "cosine": float(((a * b).sum(axis=1) / norms).min()),
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=1024, help="captions")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="writes the figures as JSON")
    flags = parser.parse_args()

    limit_threads(flags.threads)  # before JAX starts

    import jax
    import torch

    from imagen_jax.text import minilm

    torch.set_num_threads(flags.threads)
    captions = make_captions(flags.num)
    figures: dict[str, Any] = {
        "devices": len(jax.devices()),
        **{key: value for key, value in vars(flags).items() if key != "out"},
    }
    print("| encoder | captions a | ours | torch | ratio | largest difference |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        write_t5(Path(scratch), captions)
        for name, folder in (("minilm", minilm.fetch()), ("random_t5", Path(scratch))):
            ours = our_embed(name, folder, flags.batch_size)
            result = race(
                captions, ours, peer_embed(folder, flags.batch_size), flags.rounds
            )
            figures[name] = result
            for kind in ("wall", "cpu"):
                print(
                    f"| {name} | {kind} second | {result[f'ours_{kind}']:.0f} | "
                    f"{result[f'peer_{kind}']:.0f} | {result[f'ratio_{kind}']:.2f} | "
                    f"{result['difference']:.3f} |",
                    flush=True,
                )
            if name == "minilm":
                tokens = np.concatenate(list(ours(captions).values()))
    print("\n| tokens | bf16, bytes | int8, bytes | ratio | least cosine |")
    print("|---|---|---|---|---|")
    for kind, result in (
        (f"{XXL_TOKENS} normal ones of width {XXL_WIDTH}", storage()),
        ("those of MiniLM, width 384", storage(tokens)),
    ):
        figures[kind] = result
        print(
            f"| {kind} | {result['bfloat16_bytes']} | {result['int8_bytes']} | "
            f"{result['ratio']:.4f} | {result['cosine']:.6f} |"
        )
    if flags.out:
        flags.out.parent.mkdir(parents=True, exist_ok=True)
        flags.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
