"""The converted model computes what VideoChat2 VideoChat2 does: its weights, its inputs, its numbers (tests/golden).

Everything goes the way that a user's model goes: qtablate convert, the loaded directory, the batches of training. As a
script this prints the table of differences: `python tests/model/test_golden.py`.
"""

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.model.convert import ConversionSettings, convert
from qtablate.model.encode import ConversationEncoder, collate
from qtablate.model.load import load
from qtablate.model.query_resize import resize_extra_queries
from qtablate.model.videochat2 import VideoChat2Model
from qtablate.model.videochat2_checkpoint import translate
from qtablate.prompts.registry import FORMATS
from qtablate.prompts.types import IGNORE
from qtablate.prompts.videochat2 import MISTRAL
from qtablate.train.batches import text_loss_sum

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = load_file(GOLDEN / "cases.safetensors")
INPUTS = json.loads((GOLDEN / "inputs.json").read_text())
AVX2 = torch.backends.cpu.get_cpu_capability() == "AVX2"
FEATURES, LOSS, GRADIENTS = 1e-10, 1e-5, 1e-9 if AVX2 else 1e-6
"""Its logits are fp32, so the loss is told to 1e-5, and gradients only where fp32 is rounded as there (conftest.py)."""


@dataclass(frozen=True)
class Difference:
    case: str
    quantity: str
    difference: float
    tolerance: float


@dataclass(frozen=True)
class Visual:
    weights: str
    clips: int
    frames: int
    texts: tuple[str, ...] | None
    extra: int = 16


VIDEOS, IMAGES = tuple(INPUTS["video_instructions"]), tuple(INPUTS["image_instructions"])
VISUAL = {
    "it_vid4": Visual("stage3", 3, 4, VIDEOS),
    "it_vid8": Visual("stage3", 3, 8, VIDEOS),
    "it_vid16": Visual("stage3", 3, 16, VIDEOS),
    "it_vid8_single0": Visual("stage3", 3, 8, VIDEOS[:1]),
    "it_img1": Visual("stage3", 2, 1, IMAGES),
    "it_noextra": Visual("stage3", 3, 8, VIDEOS, extra=0),
    "it_notext": Visual("stage3", 3, 8, None),
    "it_lora_vid8_eval": Visual("stage3_lora", 3, 8, VIDEOS),
    "pt_vid4": Visual("stage2", 2, 4, None),
}


@cache
def converted(weights: str, text: bool, compatibility_flags: bool) -> str:
    folder = Path(tempfile.mkdtemp()) / weights
    settings = ConversionSettings(
        vision_heads=4, qformer_heads=4, lora_alpha=8, text=text, dtype="float16", compatibility_flags=compatibility_flags
    )
    convert([GOLDEN / f"{weights}.pth"], GOLDEN / "mistral-tiny", folder, GOLDEN / "bert-base-uncased", settings)
    return str(folder)


def opened(case: Visual, compatibility_flags: bool = True) -> tuple[VideoChat2Model, ConversationEncoder]:
    """In fp64; its language model was rounded to fp16, as VideoChat2 loads it."""
    model, encoder = load(converted(case.weights, case.texts is not None, compatibility_flags))
    if not case.extra:
        resize_extra_queries(model, 0, "zeros", 0)
    model = model.double().eval()
    model._tables.clear()
    return model, encoder


def pixels(clips: int, frames: int) -> torch.Tensor:
    made = torch.randn(clips, frames, 3, 224, 224, generator=torch.Generator().manual_seed(7)).double()
    assert float(made.sum()) == pytest.approx(INPUTS["pixels"][f"B={clips},T={frames}"]["checksum"], rel=1e-9)
    return made


def shown(case: Visual) -> torch.Tensor:
    return pixels(case.clips, case.frames)[: len(case.texts) if case.texts else case.clips]


def apart(mine: torch.Tensor, golden: torch.Tensor) -> float:
    return float((mine.detach() - golden).abs().max())


def as_given(texts: list[str], instructions: tuple[str, ...], medium: str) -> list[Sample]:
    """Samples whose whole conversation is already written, for the format below."""
    return [
        Sample(str(n), medium, f"clip {n}", (("", text),), instruction)
        for n, (text, instruction) in enumerate(zip(texts, instructions, strict=True))
    ]


GIVEN = replace(MISTRAL, write=lambda _, shown, pairs: pairs[0][1])
CONVERSATIONS = {
    "it_vid4": (INPUTS["video_texts"], VIDEO),
    "it_vid8": (INPUTS["video_texts"], VIDEO),
    "it_vid16": (INPUTS["video_texts"], VIDEO),
    "it_vid8_single0": (INPUTS["video_texts"][:1], VIDEO),
    "it_img1": (INPUTS["image_texts"], IMAGE),
    "it_noextra": (INPUTS["video_texts"], VIDEO),
    "it_notext": (INPUTS["video_texts"], VIDEO),
    "it_lora_vid8_eval": (INPUTS["video_texts"], VIDEO),
}
CAPTIONS = [
    Sample(str(n), VIDEO, f"clip {n}", (("Describe the video in details.", caption),))
    for n, caption in enumerate(INPUTS["captions"])
]


def samples_of(case: str) -> list[Sample]:
    if case == "pt_vid4":
        return CAPTIONS
    texts, medium = CONVERSATIONS[case]
    return as_given(texts, (VISUAL[case].texts or VIDEOS)[: len(texts)], medium)


def differences(case: str, packed: bool) -> Iterator[Difference]:
    """Every quantity that the golden file has of a case, the way training computes it: with the language model's sequences
    packed, or padded as VideoChat2 pads them."""
    model, encoder = opened(VISUAL[case])
    if not packed:
        model.language_model.set_attn_implementation("sdpa")
    if case == "pt_vid4":
        encoder.format, encoder.bos_as_value, encoder.supervise_end = FORMATS["videochat2_mistral_caption"], False, False
    else:
        encoder.format = GIVEN
    samples = samples_of(case)
    queries = model.num_queries
    text = collate(encoder, samples, [queries] * len(samples), 512)
    seen: dict[str, torch.Tensor] = {}
    model.qformer.register_forward_hook(lambda *found: seen.update(qformer=found[-1].last_hidden_state))
    features = model.vision_features(shown(VISUAL[case]))
    visual = model.visual_tokens(features, text=text.qformer_inputs)
    yield Difference(case, "visual features", apart(features[:, ::97], CASES[f"{case}.vision_rows"]), FEATURES)
    read = torch.ones(CASES[f"{case}.qformer"].shape[:2], dtype=torch.bool)
    if text.qformer_inputs:
        read[:, queries:] = text.qformer_inputs.attention_mask.bool()
    yield Difference(case, "Q-Former outputs", apart(seen["qformer"][read], CASES[f"{case}.qformer"][read]), FEATURES)
    yield Difference(case, "visual tokens", apart(visual, CASES[f"{case}.proj"]), FEATURES)

    fed: dict[str, torch.Tensor] = {}
    inner = model.language_model.get_decoder()
    inner.register_forward_pre_hook(lambda _, a, k: fed.update(embeds=k["inputs_embeds"]), with_kwargs=True)
    mask, golden = CASES[f"{case}.attention_mask"].bool(), CASES[f"{case}.inputs_embeds"]
    assert text.labels.shape == CASES[f"{case}.labels"].shape
    yield Difference(case, "labels", float((text.labels != CASES[f"{case}.labels"]).sum()), 0.0)
    model.logits_at = with_fp32_logits(model.logits_at)  # type: ignore[method-assign]
    loss = text_loss_sum(model, text, list(visual)) / (text.labels[:, 1:] != IGNORE).sum()
    held = mask[:, :-1]
    if packed:  # the last token of each sequence predicts nothing, and is left out
        held = torch.arange(held.shape[1]) < mask.sum(1, keepdim=True) - 1
        assert fed["embeds"].shape[:2] == (1, held.sum())
    mine = fed["embeds"][0] if packed else fed["embeds"][held]
    yield Difference(case, "inputs of the language model", apart(mine, golden[:, :-1][held]), FEATURES)
    yield Difference(case, "loss", abs(float(loss.detach()) - CASES[f"{case}.loss"].item()), LOSS)
    if any(name.startswith(f"{case}.gradnorm.") for name in CASES):
        loss.backward()
        yield from gradient_differences(model, case)


def with_fp32_logits(logits_at: Callable) -> Callable:
    """As VideoChat2 computes its loss: fp32 logits."""

    def rounded(*arguments, **named):
        logits, kept = logits_at(*arguments, **named)
        return logits.float(), kept

    return rounded


def gradient_differences(model: VideoChat2Model, case: str) -> Iterator[Difference]:
    """Of every gradient by norm, relative, and of some whole. Those that are nothing are left out: a key's bias shifts all
    scores alike."""
    gradients = {name.replace(".base_layer.", "."): parameter.grad for name, parameter in model.named_parameters()}
    kinds: dict[str, list[float]] = {}
    for name in (name.removeprefix(f"{case}.gradnorm.") for name in CASES if name.startswith(f"{case}.gradnorm.")):
        golden = CASES[f"{case}.gradnorm.{name}"].item()
        found = translate({name: torch.zeros(3)})  # three where q, k and v were one
        adapter = [f"language_model.{name.removeprefix('base_model.model.')}" for name in found.adapter]
        if golden > 1e-12:
            mine = math.hypot(*(float(gradients[new].norm()) for new in (*found.weights, *adapter)))
            kinds.setdefault("adapter" if adapter else "others", []).append(abs(mine - golden) / golden)
    assert len(kinds["others"]) > 120
    for kind, apart_by in kinds.items():
        yield Difference(case, f"norms of {len(apart_by)} gradients ({kind}), relative", max(apart_by), GRADIENTS)
    for name in (name.removeprefix(f"{case}.grad.") for name in CASES if name.startswith(f"{case}.grad.")):
        whole, [new] = CASES[f"{case}.grad.{name}"], translate({name: torch.zeros(1)}).weights
        yield Difference(
            case, f"gradient of {name}, relative", float((gradients[new] - whole).norm() / whole.norm()), GRADIENTS
        )


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("case", VISUAL)
def test_every_number_is_videochat2s(case, packed):
    found = list(differences(case, packed))
    assert len(found) >= 6
    assert [one for one in found if not one.difference <= one.tolerance] == []


def test_the_text_that_is_written_is_videochat2s():
    """Those of the golden conversations that say nothing of sampled frames, which is an option there."""
    watch = Sample("", VIDEO, "", (("What color is the cube?", "red"),), VIDEOS[1])
    more = ("What does she do then?", "She picks up the cup, then puts it down near the table."), ("Is there a dog?", "yes")
    written = MISTRAL.conversation_text(VIDEO, watch.instruction, (*watch.pairs, *more))
    assert written == INPUTS["video_texts"][1]
    assert (
        MISTRAL.conversation_text(IMAGE, IMAGES[0], [("Describe the image.", "A blue object near a table.")])
        == INPUTS["image_texts"][0]
    )
    assert MISTRAL.conversation_text(IMAGE, "", [("", "a dog")]) == INPUTS["image_texts"][1]


def test_greedy_generation_is_videochat2s():
    model, encoder = opened(VISUAL["it_vid8"])
    with torch.inference_mode():
        text = encoder.qformer_tokenizer.encode(["Watch the video and answer the question."])
        visual = model.visual_tokens(model.vision_features(pixels(3, 8)[:1]), text=text)
        assert visual.shape == (1, 24, 64)
        found = model.language_model.generate(
            inputs_embeds=CASES["gen.prefix_embeds"],
            attention_mask=torch.ones(1, 42, dtype=torch.long),
            max_new_tokens=24,
            do_sample=False,
            pad_token_id=2,
        )
    assert found.tolist() == CASES["gen.output_ids"].tolist()
    place = (CASES["gen.prefix_embeds"][0, :, None] - visual[0, None]).abs().amax(-1) < FEATURES
    assert place.any(0).all()  # the prefix holds these visual tokens


def test_parity_bites():
    """Without the interpolated positions, or with the wrong eps, or without the text's mask, the numbers are others."""
    case = VISUAL["it_vid8"]
    model, encoder = opened(case)
    text = encoder.qformer_tokenizer.encode(list(case.texts))
    with torch.inference_mode():
        features = model.vision_features(shown(case))
        unmasked = model.visual_tokens(features, text=text._replace(attention_mask=torch.ones_like(text.attention_mask)))
        assert (unmasked - CASES["it_vid8.proj"]).abs().max() > 1e-3
        model.config.position_frames = 8
        model._tables.clear()
        assert (model.vision_features(shown(case))[:, ::97] - CASES["it_vid8.vision_rows"]).abs().max() > 0.1
        model.config.position_frames = 4
        model._tables.clear()
        model.vision.layernorm.eps = 1e-6
        assert (model.vision_features(shown(case))[:, ::97] - CASES["it_vid8.vision_rows"]).abs().max() > FEATURES


def test_a_clips_tokens_depend_on_what_it_is_batched_with_only_where_the_compatibility_flag_is_on():
    """VideoChat2 pads the text on the left and its positions ignore the mask: alone, the first clip has other tokens."""
    assert (CASES["it_vid8.proj"][:1] - CASES["it_vid8_single0.proj"]).abs().max() > 0.01
    case = VISUAL["it_vid8"]
    model, encoder = opened(case, compatibility_flags=False)
    with torch.inference_mode():
        features = model.vision_features(shown(case))
        together = model.visual_tokens(features, text=encoder.qformer_tokenizer.encode(list(case.texts)))
        assert apart(together[:1], CASES["it_vid8_single0.proj"]) <= FEATURES
        for row, text in enumerate(case.texts):
            alone = model.visual_tokens(features[row : row + 1], text=encoder.qformer_tokenizer.encode([text]))
            assert apart(together[row], alone[0]) <= FEATURES


def test_a_real_bos_embedding_unless_the_compatibility_flag_is_on():
    for compatibility_flags, first in ((True, 1.0), (False, None)):
        _, encoder = opened(VISUAL["it_vid8"], compatibility_flags)
        assert collate(encoder, CAPTIONS, [24, 24], 512).first_embedding_value == first


def test_text_beyond_max_txt_len_is_cut_as_videochat2_cuts_it():
    """The sequence holds max_txt_len tokens beside the visual ones, bos among them; the end is lost."""
    _, encoder = opened(VISUAL["it_vid8"])
    encoder.format = GIVEN
    samples = samples_of("it_vid8")
    whole, short = collate(encoder, samples, [24] * 3, 512), collate(encoder, samples, [24] * 3, 40)
    assert (whole.truncated, short.truncated, short.labels.shape[1]) == (0, 2, 64)
    assert torch.equal(short.labels, whole.labels[:, :64])
    assert torch.equal(short.input_ids, whole.input_ids[:, :64])
    assert torch.equal(short.visual_mask, whole.visual_mask[:, :64])
    ids, mask = encoder.qformer_tokenizer.encode([VIDEOS[1]])
    encoder.qformer_tokenizer.tokenizer.truncation_side = "right"
    some, _ = type(encoder.qformer_tokenizer)(encoder.qformer_tokenizer.tokenizer, 8, True).encode([VIDEOS[1]])
    assert some.shape == (1, 8)
    assert some[0, 1:].tolist() == ids[0, -7:].tolist()  # the Q-Former's text loses its beginning, but for [CLS]
    assert int(mask.sum()) == ids.shape[1]


if __name__ == "__main__":
    print("| case | quantity | difference | tolerance |\n| --- | --- | ---: | ---: |")
    for name in VISUAL:
        for one in differences(name, packed=True):
            print(f"| {one.case} | {one.quantity} | {one.difference:.1e} | {one.tolerance:.0e} |")
