"""Pretrain nano, the embedded default model, on the procedural world: VideoChat2's architecture with a million parameters.

    python -m qtablate.nano.pretrain --out build/nano

The stages mirror VideoChat2's. First the vision encoder learns from dense labels. Then the language model learns captions and
conversations through a Q-Former whose number of queries changes from step to step. Last, the Q-Former, its queries and the
projection are discarded. The shipped base has a trained vision encoder and language model but a new connector, so that a cell
is an alignment-stage run: a base with converged queries made no use of extra ones.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import InstructBlipQFormerConfig, LlamaConfig, PreTrainedTokenizerFast, VideoMAEConfig

from qtablate.datatypes import IMAGE, VIDEO, Clips, Sample
from qtablate.evaluate.score import score
from qtablate.model.encode import ConversationEncoder
from qtablate.model.features import CHUNK, encode_clips
from qtablate.model.initialize import initialize, normal
from qtablate.model.preprocess import normalize_frames
from qtablate.model.videochat2 import VideoChat2Config, VideoChat2Model
from qtablate.nano.labels import CLASSES, dense_labels
from qtablate.nano.muon import Muon
from qtablate.nano.tokenizer import build, world_words
from qtablate.prompts.registry import NANO_FORMAT
from qtablate.seeds import Rng
from qtablate.train.batches import make_micro_batch, text_loss_sum, visual_tokens
from qtablate.world.benchmark import ITEMS_PER_TASK, WorldBench, WorldTraining
from qtablate.world.levels import CURRICULUM, LEVELS
from qtablate.world.scenarios import random_scene, static_scene
from qtablate.world.scene import FRAMES, IMAGE_SIZE, render

WIDTH = 96
"""Hidden size of vision encoder, Q-Former and language model."""
QUERIES = (4, 8, 16, 32, 64)
"""Numbers of query tokens in the language stage; each step draws one."""
BASE_QUERIES = 2
"""Number of query tokens of the shipped base."""
PRETRAINED_QFORMER = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 2 * WIDTH}
"""The Q-Former that the language stage is trained with; it is not shipped."""
BASE_QFORMER = {"hidden_size": 2 * WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": WIDTH}
"""The Q-Former that every cell starts anew: of the shapes that were tried, the one that learns most in a short run
(results/nano)."""
REPORTED = 32
"""Number of query tokens of the pretrained model whose scores ship with the base."""
WEIGHT_DECAY = 0.02
MUON_PEAK = 0.02
"""Peak learning rate of Muon."""
VISION_PEAK, LANGUAGE_PEAK = 1.5e-3, 2e-3
"""Peak learning rates of AdamW in the two stages."""
VISION_CLIPS, LANGUAGE_CLIPS = 24, 32
"""Clips per step of the two stages."""
LOG_EVERY = 50
"""Steps between two lines of the log."""
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
"""Normalization of pixels in [0, 1], by channel."""


def config(vocabulary: int, num_query_tokens: int, qformer: Mapping[str, Any]) -> VideoChat2Config:
    """Return nano's configuration. Base queries are few, so that 0 extra ones is a true bottleneck."""
    return VideoChat2Config(
        vision_config=VideoMAEConfig(
            image_size=IMAGE_SIZE,
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
            cross_attention_frequency=1,
            encoder_hidden_size=WIDTH,
            attention_probs_dropout_prob=0.0,
            hidden_dropout_prob=0.0,
            **qformer,
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
        learning_rate=2.5e-3,
        fresh_parts=["qformer", "query_tokens", "projection"],
    )


def trapezoid(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: 60 steps of warm-up, constant, over the last 30 % linearly down to 2 %."""
    up, down = (step + 1) / min(60, steps), (steps - step) / (0.3 * steps)
    return min(1.0, up, 0.02 + 0.98 * down)


def one_cycle(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: linear warm-up over 10 % of the steps, then a cosine to 1 %."""
    done = (step + 1) / steps
    return done / 0.1 if done < 0.1 else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))


class Optimizers:
    """AdamW for all parameters, or Muon for the linear layers of some modules and AdamW for the rest.

    With Muon the vision encoder learned the same in less than half of the steps; the language model learned more slowly
    (results/nano). Gradients are clipped at norm 1.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], peak: float, muon_modules: Sequence[nn.Module] = ()) -> None:
        """Create the optimizers.

        Args:
            parameters: All trained parameters.
            peak: Peak learning rate of AdamW.
            muon_modules: Modules whose linear layers are trained with Muon.
        """
        self._parameters = list(parameters)
        layers = [layer for module in muon_modules for layer in module.modules()]
        embeddings = {layer.weight for layer in layers if isinstance(layer, nn.Embedding)}
        linear = [cast(nn.Parameter, layer.weight) for layer in layers if isinstance(layer, nn.Linear)]
        matrices = [weight for weight in linear if weight not in embeddings]  # a head tied to an embedding is no matrix
        by_muon = set(matrices)
        others = [parameter for parameter in self._parameters if parameter not in by_muon]
        self._peaks: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY), peak)
        ]
        if matrices:
            self._peaks.append((Muon(matrices, lr=0.0, weight_decay=WEIGHT_DECAY), MUON_PEAK))

    def step(self, loss: Tensor, share: float) -> None:
        """Run the backward pass and update all parameters at this share of the peak learning rates."""
        for optimizer, _ in self._peaks:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimizer, peak in self._peaks:
            for group in optimizer.param_groups:
                group["lr"] = share * peak
            optimizer.step()


def train_vision(
    model: VideoChat2Model, steps: int, curriculum_steps: int, clips: int, peak: float, seed: int
) -> Iterator[dict[str, float]]:
    """Train the vision encoder (stage 1): each patch feature predicts the labels of `dense_labels`.

    In the first `curriculum_steps` steps objects start on patch centers. What is learned there carries over; without these
    steps the vision encoder learns many times more slowly (results/nano).

    Yields:
        Step, loss and the accuracy of each label, for every step on videos.
    """
    heads = nn.ModuleDict({name: nn.Linear(WIDTH, n) for name, n in CLASSES.items()})
    initialize(heads, seed, "heads")
    optimizers = Optimizers([*model.vision.parameters(), *heads.parameters()], peak, [model.vision])
    model.vision.train()
    for step in range(steps):
        frames = 1 if step % 8 == 7 else FRAMES  # images too, as in VideoChat2
        rngs = [Rng("pretrain", "vision", seed, step, i) for i in range(clips if frames > 1 else 2 * clips)]
        level = CURRICULUM if step < curriculum_steps else LEVELS["normal"]
        scenes = [random_scene(rng, level, even=True) if frames > 1 else static_scene(rng, level) for rng in rngs]
        labels = torch.from_numpy(np.stack([dense_labels(scene, frames) for scene in scenes]))  # (B, N, heads)
        features = model.vision_features(normalize_frames([render(scene, frames) for scene in scenes], MEAN, STD))  # (B, N, D)
        loss, accuracy = torch.zeros(()), {}
        for column, (name, head) in enumerate(heads.items()):
            gold = labels[..., column].flatten()
            labeled = gold >= 0
            if not labeled.any():
                continue
            logits = head(features.flatten(0, 1)[labeled])
            loss = loss + nn.functional.cross_entropy(logits, gold[labeled])
            accuracy[name] = (logits.argmax(-1) == gold[labeled]).float().mean().item()
        optimizers.step(loss, trapezoid(step, steps))
        if frames > 1:
            yield {"step": step, "loss": loss.item(), **accuracy}


def frozen_features(model: VideoChat2Model, source: Clips) -> dict[str, Tensor]:
    """Return the vision features (N, D) of every clip, encoded a few hundred clips at a time."""
    clips, out = source.clips(), dict[str, Tensor]()
    for start in range(0, len(clips), CHUNK):
        out |= encode_clips(model, {name: source.frames(name) for name in clips[start : start + CHUNK]})
    return out


class ClipPool:
    """Clips of the pretraining split with frozen vision features. Each visit of a clip has a new conversation."""

    def __init__(self, model: VideoChat2Model, videos: int, images: int) -> None:
        """Encode all clips."""
        self.world = WorldTraining(videos, images, split="pretrain")
        self.features = frozen_features(model, self.world)

    def samples(self, rng: Rng, n: int) -> list[Sample]:
        """Draw n samples with replacement, an eighth of them images."""
        images = n // 8
        counts = ((VIDEO, self.world.videos, n - images), (IMAGE, self.world.images, images))
        return [
            self.world.sample(medium, rng.randrange(total), visit=rng.randrange(1 << 30))
            for medium, total, wanted in counts
            for _ in range(wanted)
        ]


def train_language(
    model: VideoChat2Model, pool: ClipPool, encoder: ConversationEncoder, steps: int, clips: int, peak: float, seed: int
) -> Iterator[dict[str, float]]:
    """Train Q-Former, projection and language model (stages 2 and 3) on captions and conversations.

    Each step draws the number of queries, so that the language model learns visual prefixes of any length.

    Yields:
        Step, number of queries, length of the text in tokens and loss, for every step.
    """
    table = model.query_tokens
    modules = (model.qformer, model.projection, model.language_model)
    optimizers = Optimizers([table, *(parameter for module in modules for parameter in module.parameters())], peak)
    for step in range(steps):
        rng = Rng("pretrain", "language", seed, step)
        n = rng.choice(QUERIES)
        micro = make_micro_batch(pool.samples(rng, clips), pool.features.__getitem__, encoder, n, 1024)
        tokens = visual_tokens(model, micro.features, table[:, :n])
        loss = text_loss_sum(model, micro.text, tokens) / micro.supervised_tokens
        optimizers.step(loss, one_cycle(step, steps))
        yield {"step": step, "queries": n, "length": micro.text.input_ids.shape[1], "loss": loss.item()}


def base_scores(model: VideoChat2Model, encoder: ConversationEncoder, bench: WorldBench) -> dict[str, dict[str, float]]:
    """Return the accuracy of the pretrained model on a benchmark: number of queries -> task -> accuracy."""
    features = frozen_features(model, bench)
    table, out = model.query_tokens.data, {}
    for n in QUERIES:
        model.query_tokens.data = table[:, :n]
        correct: dict[str, list[bool]] = {}
        for group in score(model, encoder, bench.items, features.__getitem__):
            for scored in group:
                correct.setdefault(scored.item.task, []).append(scored.predicted == scored.item.answer)
        out[str(n)] = {task: sum(correct[task]) / len(correct[task]) for task in bench.tasks}
    model.query_tokens.data = table
    return out


def _log(path: Path, stage: str, rows: Iterator[dict[str, float]]) -> None:
    """Train by exhausting `rows`; write every LOG_EVERY-th row to the log and to standard error."""
    start = time.process_time()
    with path.open("a") as out:
        for number, row in enumerate(rows):
            if number % LOG_EVERY == 0:
                entry = {"stage": stage, "seconds": round(time.process_time() - start, 1)}
                entry |= {key: round(value, 4) for key, value in row.items()}
                out.write(json.dumps(entry) + "\n")
                out.flush()
                print(json.dumps(entry), file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--vision-steps", type=int, default=8500)
    parser.add_argument(
        "--curriculum-steps", type=int, default=2500, help="first vision steps, in which objects start on patch centers"
    )
    parser.add_argument("--language-steps", type=int, default=5000)
    parser.add_argument("--pool", type=int, default=16000, help="videos and images that the language stage draws from")
    parser.add_argument("--items", type=int, default=ITEMS_PER_TASK, help="items per task that the base is scored on")
    return parser.parse_args()


def main() -> None:
    """Pretrain nano. A stage whose weights are in the folder already is not repeated."""
    arguments = _arguments()
    torch.set_num_threads(1)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    log, seed = out / "log.jsonl", arguments.seed
    tokenizer = build(world_words())
    model = VideoChat2Model(config(len(tokenizer), QUERIES[-1], PRETRAINED_QFORMER))
    initialize(model, seed, "model")
    model.query_tokens.data = normal(tuple(model.query_tokens.shape), 1.0, "init", seed, "queries")

    vision_weights = out / "vision.safetensors"
    if not vision_weights.exists():
        rows = train_vision(model, arguments.vision_steps, arguments.curriculum_steps, VISION_CLIPS, VISION_PEAK, seed)
        _log(log, "vision", rows)
        save_file(model.vision.state_dict(), vision_weights)
    model.vision.load_state_dict(load_file(vision_weights))

    encoder = ConversationEncoder(tokenizer, NANO_FORMAT)
    all_weights = out / "pretrained.safetensors"
    if not all_weights.exists():
        images = arguments.pool // 8
        pool = ClipPool(model, arguments.pool - images, images)
        _log(
            log, "language", train_language(model, pool, encoder, arguments.language_steps, LANGUAGE_CLIPS, LANGUAGE_PEAK, seed)
        )
        save_file({name: value.clone() for name, value in model.state_dict().items()}, all_weights)  # clones untie weights
    model.load_state_dict(load_file(all_weights))
    bench = WorldBench(arguments.items)
    scores = base_scores(model, encoder, bench)
    save_base(model, tokenizer, seed, out / "nano")
    for name, accuracy in (("nano/scores.json", scores[str(REPORTED)]), ("scores.json", scores)):
        text = json.dumps({"benchmark": bench.fingerprint, "accuracy": accuracy}, indent=1)
        (out / name).write_text(text + "\n")


def save_base(
    model: VideoChat2Model,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    directory: Path,
    qformer: Mapping[str, Any] = BASE_QFORMER,
) -> None:
    """Write the base: vision encoder, language model and tokenizer of the pretrained model with a new connector.

    Every cell reinitializes the connector; the one in the file has initial values of its own.
    """
    base = VideoChat2Model(config(len(tokenizer), BASE_QUERIES, qformer))
    initialize(base, seed, "shipped")
    base.query_tokens.data = normal(tuple(base.query_tokens.shape), 1.0, "init", seed, "shipped")
    base.vision.load_state_dict(model.vision.state_dict())
    base.language_model.load_state_dict(model.language_model.state_dict())
    base.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    main()
