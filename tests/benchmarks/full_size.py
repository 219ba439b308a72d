"""Measures parameters, memory and FLOPs of a training step of VideoChat2-Mistral at full size, at 0 and 64 extra query tokens.

    python tests/benchmarks/full_size.py [--batch-size 4] > results/real/full_size.md

The model is on the meta device, so nothing is computed and no weight exists: parameters are counted, FLOPs are those that
PyTorch's counter records for one forward and backward pass, and activations are the sizes of all tensors that autograd saves.
With --run and a GPU, one step also runs with random weights; its time and torch's peak memory fill the last columns.
"""

import argparse
import time
from collections.abc import Iterator

import torch
import transformers.masking_utils
from torch.utils.flop_counter import FlopCounterMode
from transformers import InstructBlipQFormerConfig, MistralConfig, VideoMAEConfig

from qtablate.model.adapter import new_adapter
from qtablate.model.encode import QFormerInputs
from qtablate.model.videochat2 import VideoChat2Config, VideoChat2Model
from qtablate.train.accumulate import token_loss_sum
from qtablate.train.device import compute_context
from qtablate.train.trainable import choose_trainable

TEXT, SUPERVISED, LORA = 128, 32, 16  # tokens of a conversation, supervised ones among them, and VideoChat2's LoRA rank
FRAMES, SIDE = 8, 224
GIB = 2**30
COLUMNS = (
    "extra tokens",
    "visual",
    "recompute",
    "trained M",
    "frozen M",
    "weights GiB",
    "gradients and moments GiB",
    "activations GiB",
    "sum GiB",
    "TFLOPs",
    "measured GiB",
    "measured s",
)


def config(extra: int) -> VideoChat2Config:
    """Configuration of UMT-L, BERT-base and Mistral-7B-Instruct-v0.2; sizes as published."""
    return VideoChat2Config(
        vision_config=VideoMAEConfig(
            image_size=SIDE,
            patch_size=16,
            tubelet_size=1,
            num_frames=4,
            hidden_size=1024,
            num_hidden_layers=23,
            num_attention_heads=16,
            intermediate_size=4096,
            layer_norm_eps=1e-6,
            use_mean_pooling=False,
        ).to_dict(),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=30523,
            hidden_size=768,
            num_hidden_layers=12,
            num_attention_heads=12,
            intermediate_size=3072,
            cross_attention_frequency=2,
            encoder_hidden_size=1024,
        ).to_dict(),
        text_config=MistralConfig(
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=32768,
            sliding_window=None,
            tie_word_embeddings=False,
        ).to_dict(),
        num_query_tokens=32,
        extra_num_query_tokens=extra,
        num_frames=FRAMES,
        qformer_text=True,
    )


def built(extra: int, device: str) -> tuple[VideoChat2Model, dict[str, torch.nn.Parameter]]:
    """Build the model with LoRA in the language model; frozen parts are bf16, trained ones fp32."""
    with torch.device(device):
        model = VideoChat2Model(config(extra))
        new_adapter(model, LORA, 0) if device != "meta" else _meta_adapter(model)
    trained = choose_trainable(model, language_model=False, adapter=True)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if name in trained else torch.bfloat16)
    return model, trained


def _meta_adapter(model: VideoChat2Model) -> None:
    """Add LoRA on the meta device, where no values can be copied."""
    from peft import LoraConfig, inject_adapter_in_model

    from qtablate.model.adapter import lora_targets

    inject_adapter_in_model(
        LoraConfig(r=LORA, lora_alpha=2 * LORA, target_modules=lora_targets(model.language_model)), model.language_model
    )


def step(model: VideoChat2Model, batch: int, device: str) -> torch.Tensor:
    """Compute the loss of one micro-batch from cached features, as a cell does."""
    features = torch.zeros(batch, FRAMES * (SIDE // 16) ** 2, 1024, device=device, dtype=torch.bfloat16)
    read = torch.ones(batch, 32, dtype=torch.long, device=device)
    with torch.autocast("cpu" if device == "meta" else device, torch.bfloat16):
        if device == "meta":  # a mask of ones has no effect, but its values cannot be read here
            queries = model.queries().expand(batch, -1, -1)
            seen = model.qformer(input_ids=read, query_embeds=queries, encoder_hidden_states=features).last_hidden_state
            visual = model.projection(seen[:, : model.num_queries])
        else:
            visual = model.visual_tokens(features, text=QFormerInputs(read, read))
        words = model.language_model.get_input_embeddings()(torch.zeros(batch, TEXT, dtype=torch.long, device=device))
        embeds = torch.cat([visual.to(words.dtype), words], dim=1)
        out = model.language_model.get_decoder()(inputs_embeds=embeds, use_cache=False).last_hidden_state
        logits = model.language_model.get_output_embeddings()(out[:, -SUPERVISED:].flatten(0, 1))
        return token_loss_sum(logits, torch.zeros(len(logits), dtype=torch.long, device=device))


class Saved:
    """Counts the bytes of all tensors that autograd saves for the backward pass, each storage once."""

    def __init__(self, model: VideoChat2Model) -> None:
        self._counted = {p.untyped_storage()._cdata for p in model.parameters()}
        self._seen: list[torch.Tensor] = []
        self.bytes = 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._counted:
            self._counted.add(storage._cdata)
            self._seen.append(tensor)  # alive, so that no other storage takes its number
            self.bytes += storage.nbytes()
        return tensor


def rows(extra: int, batch: int, run: bool) -> Iterator[str]:
    model, trained = built(extra, "meta")
    trainable = sum(p.numel() for p in trained.values())
    frozen = sum(p.numel() for p in model.parameters()) - trainable
    weights, gradients, moments = (4 * trainable + 2 * frozen) / GIB, 4 * trainable / GIB, 8 * trainable / GIB
    for checkpointing in (False, True):
        model, _ = built(extra, "meta")
        model.train()
        if checkpointing:
            _checkpointed(model)
        saved = Saved(model)
        with FlopCounterMode(display=False) as flops:
            with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda kept: kept):
                loss = step(model, batch, "meta")
            loss.backward()
        kept = saved.bytes / GIB
        measured = _measured(extra, batch, checkpointing) if run else ("", "")
        yield (
            f"| {extra} | {32 + extra} | {'yes' if checkpointing else 'no'} | {trainable / 1e6:.1f} | {frozen / 1e6:.1f} | "
            f"{weights:.1f} | {gradients + moments:.1f} | {kept:.1f} | {weights + gradients + moments + kept:.1f} | "
            f"{flops.get_total_flops() / 1e12:.1f} | {measured[0]} | {measured[1]} |"
        )


def _checkpointed(model: VideoChat2Model) -> None:
    for part in (model.qformer, model.language_model):
        part.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})


def _measured(extra: int, batch: int, checkpointing: bool) -> tuple[str, str]:
    """(peak GiB, seconds of a step) on a GPU, after one step of warm-up."""
    model, trained = built(extra, "cuda")
    spot = compute_context(model, "bf16", checkpointing)
    model.train()
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-6)
    for _ in range(2):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        step(model, batch, "cuda").backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
    return f"{spot.peak_memory_mb() / 1024:.1f}", f"{time.perf_counter() - began:.2f}"


def main() -> None:
    # transformers reads the values of positions to find packed sequences; on the meta device there are none
    transformers.masking_utils.find_packed_sequence_indices = lambda *_: None
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--run", action="store_true", help="also run a step on a GPU")
    asked = parser.parse_args()
    print(f"""# VideoChat2-Mistral at full size, one micro-batch of {asked.batch_size} clips

`python tests/benchmarks/full_size.py --batch-size {asked.batch_size}`; torch {torch.__version__}, meta device: nothing was
computed. Frozen vision features are cached (8 frames, 1,568 patches a clip), the Q-Former reads 32 tokens of text, the
language model {TEXT} beside the visual ones. Frozen parts bf16, trained parts (Q-Former, queries, projection, LoRA of rank
{LORA}) fp32; AdamW's two moments. Activations: all that autograd saves (with recomputation, what it saves of the first pass; a
layer at a time comes on top in the backward pass). TFLOPs of forward and backward, recomputation counted. The last
two columns are filled by --run, where a GPU is at hand.

| {" | ".join(COLUMNS)} |
| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |""")
    for extra in (0, 64):
        for row in rows(extra, asked.batch_size, asked.run):
            print(row)


if __name__ == "__main__":
    main()
