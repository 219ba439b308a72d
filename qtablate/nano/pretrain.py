"""nano, the embedded default: a VideoChat2-shaped model of a million parameters, pretrained on the procedural world.

    python -m qtablate.nano.pretrain --out build/nano

Three stages that mirror the original's: the vision encoder from dense labels; then the language model, reading
captions and conversations through a Q-Former whose number of queries changes from step to step; last, the Q-Former,
its queries and the projection are thrown away. What ships is a base that sees and reads but whose bridge is new, so
that a cell is an alignment-stage run (starting from converged queries, extra ones were not taken up).
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import InstructBlipQFormerConfig, LlamaConfig, VideoMAEConfig

from qtablate.datatypes import IMAGE, VIDEO, Clips, Sample
from qtablate.evaluate.score import score
from qtablate.model.encode import Encoder
from qtablate.model.features import CHUNK, encoded
from qtablate.model.initialise import initialise, normal
from qtablate.model.preprocess import normalised
from qtablate.model.videochat2 import VideoChat2Config, VideoChat2Model
from qtablate.nano.labels import CLASSES, dense_labels
from qtablate.nano.muon import Muon
from qtablate.nano.tokenizer import build, world_words
from qtablate.prompts.segments import NANO_FORM
from qtablate.seeds import Rng
from qtablate.train.batches import micro_batch, text_loss_sum, visual_tokens
from qtablate.world.benchmark import ITEMS_A_TASK, WorldBench, WorldTraining
from qtablate.world.scenarios import LEVELS, PRIMER, simulate, still_life
from qtablate.world.scene import FRAMES, SIDE, render

WIDTH = 96
QUERIES = (4, 8, 16, 32, 64)  # of which one number is drawn at each step
BASE_QUERIES = 2
REPORTED = 32  # queries of the base whose scores are shipped with it
DECAY = 0.02
MUON_PEAK = 0.02
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def config(vocabulary: int, num_query_tokens: int) -> VideoChat2Config:
    """nano's shape. Few base queries, so that no extra ones is a true bottleneck."""
    return VideoChat2Config(
        vision_config=VideoMAEConfig(
            image_size=SIDE,
            patch_size=8,
            tubelet_size=1,
            num_frames=FRAMES,
            hidden_size=WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=2 * WIDTH,
            layer_norm_eps=1e-6,
            use_mean_pooling=False,
            attention_probs_dropout_prob=0.0,
            hidden_dropout_prob=0.0,
        ).to_dict(),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=1,
            max_position_embeddings=1,
            pad_token_id=None,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=2 * WIDTH,
            cross_attention_frequency=1,
            encoder_hidden_size=WIDTH,
            attention_probs_dropout_prob=0.0,
            hidden_dropout_prob=0.0,
        ).to_dict(),
        text_config=LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=2 * WIDTH,
            tie_word_embeddings=True,
            max_position_embeddings=1024,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        ).to_dict(),
        num_query_tokens=num_query_tokens,
        position_frames=FRAMES,
        num_frames=FRAMES,
        image_mean=MEAN,
        image_std=STD,
        query_init_std=1.0,
        learning_rate=4e-3,
        fresh_parts=["qformer", "query_tokens", "projection"],
    )


def trapezoid(step: int, steps: int) -> float:
    """Share of the peak rate: up within some steps, level, and over the last 30 % down to a fiftieth."""
    up, down = (step + 1) / min(60, steps), (steps - step) / (0.3 * steps)
    return min(1.0, up, 0.02 + 0.98 * down)


def one_cycle(step: int, steps: int) -> float:
    """Share of the peak rate: up over a tenth of the steps, then a cosine to a hundredth."""
    done = (step + 1) / steps
    return done / 0.1 if done < 0.1 else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))


class Descent:
    """AdamW, and Muon for the matrices of layers where there are any: it taught the vision encoder the same in less than
    half of the steps, and the language model more slowly (results/nano). One step is one gradient, clipped at 1."""

    def __init__(self, parameters: Iterable[nn.Parameter], peak: float, layers: Sequence[nn.Module] = ()) -> None:
        parameters = list(parameters)
        tables = {one.weight for layer in layers for one in layer.modules() if isinstance(one, nn.Embedding)}
        linear = (cast(nn.Parameter, one.weight) for layer in layers for one in layer.modules() if isinstance(one, nn.Linear))
        matrices = [weight for weight in linear if weight not in tables]  # tied to a table, a head is one too
        mine = set(matrices)
        others = [one for one in parameters if one not in mine]
        self._parameters = parameters
        self._peaks: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=DECAY), peak)
        ]
        if matrices:
            self._peaks.append((Muon(matrices, lr=0.0, weight_decay=DECAY), MUON_PEAK))

    def step(self, loss: Tensor, share: float) -> None:
        """Down the loss, at this share of the peak rates."""
        for optimizer, _ in self._peaks:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer, peak in self._peaks:
            for group in optimizer.param_groups:
                group["lr"] = share * peak
            optimizer.step()


def train_vision(
    model: VideoChat2Model, steps: int, primer: int, clips: int, peak: float, seed: int
) -> Iterator[dict[str, float]]:
    """Stage 1: every patch token names the thing it shows, what that thing does in the whole clip, and where it is. The
    first `primer` steps see things that start on patch middles: what was learned there carries over, and from scratch
    the world proper is learned many times more slowly (results/nano)."""
    heads = nn.ModuleDict({name: nn.Linear(WIDTH, n) for name, n in CLASSES.items()})
    initialise(heads, seed, "heads")
    descent = Descent([*model.vision.parameters(), *heads.parameters()], peak, [model.vision])
    model.vision.train()
    for step in range(steps):
        frames = 1 if step % 8 == 7 else FRAMES  # images too: VideoChat2 sees both media
        rng = [Rng("pretrain", "vision", seed, step, i) for i in range(clips if frames > 1 else 2 * clips)]
        level = PRIMER if step < primer else LEVELS["normal"]
        scenes = [simulate(one, level, even=True) if frames > 1 else still_life(one, level) for one in rng]
        labels = torch.from_numpy(np.stack([dense_labels(scene, frames) for scene in scenes]))  # (B, N, heads)
        features = model.vision_features(normalised([render(scene, frames) for scene in scenes], MEAN, STD))
        loss, right = torch.zeros(()), {}
        for column, (name, head) in enumerate(heads.items()):
            gold = labels[..., column].flatten()
            known = gold >= 0
            if not known.any():
                continue
            logits = head(features.flatten(0, 1)[known])
            loss = loss + nn.functional.cross_entropy(logits, gold[known])
            right[name] = (logits.argmax(-1) == gold[known]).float().mean().item()
        descent.step(loss, trapezoid(step, steps))
        if frames > 1:
            yield {"step": step, "loss": loss.item(), **right}


def frozen_features(model: VideoChat2Model, source: Clips) -> dict[str, Tensor]:
    """Features of every clip, a few hundred clips' frames at a time."""
    clips, out = source.clips(), dict[str, Tensor]()
    for start in range(0, len(clips), CHUNK):
        out |= encoded(model, {name: source.frames(name) for name in clips[start : start + CHUNK]})
    return out


class Pool:
    """Clips of the pretraining split with their frozen features; conversations are told anew at each visit."""

    def __init__(self, model: VideoChat2Model, videos: int, images: int) -> None:
        self.world = WorldTraining(videos, images, split="pretrain")
        self.features = frozen_features(model, self.world)

    def samples(self, rng: Rng, n: int) -> list[Sample]:
        images = n // 8
        counts = ((VIDEO, self.world.videos, n - images), (IMAGE, self.world.images, images))
        return [
            self.world.sample(medium, rng.randrange(total), visit=rng.randrange(1 << 30))
            for medium, total, wanted in counts
            for _ in range(wanted)
        ]


def train_language(
    model: VideoChat2Model, pool: Pool, encoder: Encoder, steps: int, clips: int, peak: float, seed: int
) -> Iterator[dict[str, float]]:
    """Stages 2 and 3: captions and conversations through a Q-Former whose number of queries is drawn at each step, so
    that the language model learns to read visual prefixes of any length and no number is its favourite."""
    table = model.query_tokens
    parts = (model.qformer, model.projection, model.language_model)
    descent = Descent([table, *(p for part in parts for p in part.parameters())], peak)
    for step in range(steps):
        rng = Rng("pretrain", "language", seed, step)
        n = rng.choice(QUERIES)
        micro = micro_batch(pool.samples(rng, clips), pool.features.__getitem__, encoder, n, 1024)
        tokens = visual_tokens(model, micro.features, table[:, :n])
        loss = text_loss_sum(model, micro.text, tokens) / micro.supervised_tokens
        descent.step(loss, one_cycle(step, steps))
        yield {"step": step, "queries": n, "length": micro.text.input_ids.shape[1], "loss": loss.item()}


def base_scores(model: VideoChat2Model, encoder: Encoder, bench: WorldBench) -> dict[str, dict[str, float]]:
    """Accuracy of the pretrained base on the default benchmark, by number of queries and task."""
    shown = frozen_features(model, bench)
    table, out = model.query_tokens.data, {}
    for n in QUERIES:
        model.query_tokens.data = table[:, :n]
        right: dict[str, list[bool]] = {}
        for group in score(model, encoder, bench.items, shown.__getitem__):
            for one in group:
                right.setdefault(one.item.task, []).append(one.predicted == one.item.answer)
        out[str(n)] = {task: sum(right[task]) / len(right[task]) for task in bench.tasks}
    model.query_tokens.data = table
    return out


def _log(path: Path, stage: str, rows: Iterator[dict[str, float]], every: int) -> None:
    start = time.process_time()
    with path.open("a") as out:
        for number, row in enumerate(rows):
            if number % every == 0:
                entry = {"stage": stage, "seconds": round(time.process_time() - start, 1)}
                entry |= {key: round(value, 4) for key, value in row.items()}
                out.write(json.dumps(entry) + "\n")
                out.flush()
                print(json.dumps(entry), file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--vision-steps", type=int, default=8500)
    parser.add_argument("--primer-steps", type=int, default=2500, help="vision steps that see things on patch middles")
    parser.add_argument("--language-steps", type=int, default=5000)
    parser.add_argument("--pool", type=int, default=16000, help="clips and images that the language stage draws from")
    parser.add_argument("--items", type=int, default=ITEMS_A_TASK, help="items a task that the base is scored on")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    log = out / "log.jsonl"
    tokenizer = build(world_words())
    model = VideoChat2Model(config(len(tokenizer), QUERIES[-1]))
    initialise(model, arguments.seed, "model")
    model.query_tokens.data = normal(tuple(model.query_tokens.shape), 1.0, "init", arguments.seed, "queries")

    seen = out / "vision.safetensors"  # a stage that is done is not done again
    if not seen.exists():
        _log(log, "vision", train_vision(model, arguments.vision_steps, arguments.primer_steps, 24, 1.5e-3, arguments.seed), 50)
        save_file(model.vision.state_dict(), seen)
    model.vision.load_state_dict(load_file(seen))

    encoder = Encoder(tokenizer, NANO_FORM)
    whole = out / "whole.safetensors"
    if not whole.exists():
        images = arguments.pool // 8
        pool = Pool(model, arguments.pool - images, images)
        _log(log, "language", train_language(model, pool, encoder, arguments.language_steps, 32, 2e-3, arguments.seed), 50)
        save_file({name: value.clone() for name, value in model.state_dict().items()}, whole)  # tied ones apart
    model.load_state_dict(load_file(whole))
    bench = WorldBench(arguments.items)
    scores = base_scores(model, encoder, bench)
    shipped = VideoChat2Model(config(len(tokenizer), BASE_QUERIES))
    initialise(shipped, arguments.seed, "shipped")  # what a cell makes anew anyway ships with plain initial values
    shipped.query_tokens.data = normal(tuple(shipped.query_tokens.shape), 1.0, "init", arguments.seed, "shipped")
    shipped.vision.load_state_dict(model.vision.state_dict())
    shipped.language_model.load_state_dict(model.language_model.state_dict())
    shipped.save_pretrained(out / "nano")
    tokenizer.save_pretrained(out / "nano")
    for name, note in (("nano/scores.json", scores[str(REPORTED)]), ("scores.json", scores)):
        text = json.dumps({"benchmark": bench.fingerprint, "accuracy": note}, indent=1)
        (out / name).write_text(text + "\n")


if __name__ == "__main__":
    main()
