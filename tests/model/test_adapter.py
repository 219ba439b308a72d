"""LoRA: peft's own model is the reference."""

import copy
import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from qtablate.datatypes import VIDEO, Sample
from qtablate.errors import ModelError
from qtablate.model.adapter import (
    DROPOUT,
    TARGETS,
    adapter_weights,
    disable_lora_dropout,
    lora_targets,
    new_adapter,
    save_adapter,
)
from qtablate.model.directory import ADAPTER
from qtablate.model.dropout import has_dropout
from qtablate.model.load import load
from qtablate.train.batches import loss_sum, make_micro_batch
from qtablate.train.trainable import choose_trainable

pytestmark = pytest.mark.filterwarnings("ignore:.*checkpointing.* is deprecated:FutureWarning")  # peft's own models use it

SAMPLES = [Sample(str(n), VIDEO, f"clip{n}", (("what moves?", "red left"),)) for n in range(3)]
FEATURES = {s.clip: torch.randn(16, 24, generator=torch.Generator().manual_seed(n)) for n, s in enumerate(SAMPLES)}


def loss(model, encoder) -> torch.Tensor:
    return loss_sum(model, make_micro_batch(SAMPLES, FEATURES.__getitem__, encoder, model.count_visual_tokens, 256))


def test_a_new_adapter_changes_nothing_and_learns(tiny, encoder):
    tiny.eval()
    before = loss(tiny, encoder).detach()
    new_adapter(tiny, 4, seed=1)
    tiny.eval()
    assert torch.equal(loss(tiny, encoder).detach(), before)
    trained = choose_trainable(tiny, language_model=False, adapter=True)
    lora = {name for name in trained if ".lora_" in name}
    assert len(lora) == 2 * (2 * 7 + 1)  # two layers with seven matrices each, and the head
    assert not any(name.startswith("language_model") for name in trained.keys() - lora)
    loss(tiny, encoder).backward()
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
    for name in lora:  # B is zero, so A has no gradient yet
        assert bool(trained[name].grad.any()) == (".lora_B." in name), name
    assert all(p.grad is None for name, p in tiny.named_parameters() if name not in trained)


def test_it_is_not_trained_where_it_is_not_asked_for(tiny):
    new_adapter(tiny, 4, seed=1)
    assert not any(".lora_" in name for name in choose_trainable(tiny, language_model=False))


def test_masks_of_its_dropout_are_noticed(tiny):
    assert not has_dropout(tiny)
    new_adapter(tiny, 4, seed=1)
    assert has_dropout(tiny)
    assert DROPOUT == 0.1  # VideoChat2's


def test_values_come_from_the_seed_alone(tiny):
    first, second, third = (copy.deepcopy(tiny) for _ in range(3))
    torch.manual_seed(1)
    new_adapter(first, 4, seed=5)
    torch.manual_seed(2)
    new_adapter(second, 4, seed=5)
    new_adapter(third, 4, seed=6)
    one, other, foreign = (adapter_weights(model) for model in (first, second, third))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not all(torch.equal(value, foreign[name]) for name, value in one.items())
    peft = get_peft_model(copy.deepcopy(tiny.language_model), LoraConfig(r=4, lora_alpha=8, target_modules=list(TARGETS)))
    ours, theirs = (
        torch.cat([p.flatten() for name, p in named if ".lora_A." in name]).detach().std()
        for named in (one.items(), peft.named_parameters())
    )
    assert float(ours) == pytest.approx(float(theirs), rel=0.1)  # at its own scale


def test_logits_and_gradients_are_pefts_own(tiny):
    reference = get_peft_model(
        copy.deepcopy(tiny.language_model), LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=list(TARGETS))
    )
    new_adapter(tiny, 4, seed=1)
    mine = adapter_weights(tiny)
    with torch.no_grad():
        for parameter in mine.values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
        for name, parameter in reference.named_parameters():
            if ".lora_" in name:
                parameter.copy_(mine[name.removeprefix("base_model.model.")])
    embeds = torch.randn(2, 6, 24, generator=torch.Generator().manual_seed(1))
    tiny.eval()
    out = [model(inputs_embeds=embeds).logits for model in (tiny.language_model, reference)]
    assert torch.allclose(*out, atol=1e-6)
    for one in out:
        one.square().sum().backward()
    for name, parameter in reference.named_parameters():
        if ".lora_" in name:
            assert torch.allclose(parameter.grad, mine[name.removeprefix("base_model.model.")].grad, rtol=1e-5), name


def test_a_folder_is_pefts_and_comes_back(tiny, tiny_directory):
    new_adapter(tiny, 4, seed=1)
    with torch.no_grad():
        for parameter in adapter_weights(tiny).values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    named = {f"base_model.model.{name}": value for name, value in adapter_weights(tiny).items()}
    save_adapter(tiny_directory / ADAPTER, named, alpha=8, dropout=0.1)
    model, _ = load(str(tiny_directory))
    assert all(torch.equal(value, adapter_weights(tiny)[name]) for name, value in adapter_weights(model).items())
    embeds = torch.randn(2, 6, 24)
    bare = copy.deepcopy(model.language_model)
    (tiny_directory / ADAPTER).rename(tiny_directory / "kept")
    theirs = PeftModel.from_pretrained(load(str(tiny_directory))[0].language_model, tiny_directory / "kept").eval()
    assert torch.allclose(bare.eval()(inputs_embeds=embeds).logits, theirs(inputs_embeds=embeds).logits, atol=1e-6)
    new_adapter(model, 4, seed=9)  # it has one of that rank: that one goes on
    assert all(torch.equal(value, adapter_weights(tiny)[name]) for name, value in adapter_weights(model).items())
    with pytest.raises(ModelError, match="adapter of rank 4; --lora 8 asks for another"):
        new_adapter(model, 8, seed=9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "no LoRA that can be read: KeyError"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "no LoRA that can be read"),
        (lambda folder: changed(folder, r=5), r"is \(4, 24\), expected \(5, 24\)"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 99), "no LoRA that can be read"),
        (lambda folder: changed(folder, use_rslora=True), "a LoRA with use_rslora is not"),
        (lambda folder: changed(folder, alpha_pattern={"q_proj": 3}), "a LoRA with alpha_pattern is not"),
        (lambda folder: changed(folder, bias="all"), "a LoRA with bias is not"),
        (lambda folder: changed(folder, target_modules="all-linear"), "target_modules as a text is not"),
        (lambda folder: changed(folder, target_modules=None), "no LoRA that can be read: ValueError: target_modules is not"),
        (lambda folder: changed(folder, trainable_token_indices=[1]), "a LoRA with trainable_token_indices is not"),
        (lambda folder: changed(folder, init_lora_weights="pissa"), "a LoRA with init_lora_weights is not"),
        (lambda folder: changed(folder, an_option_of_tomorrow=0.5), "a LoRA with an_option_of_tomorrow is not"),
        (lambda folder: changed(folder, use_dora=True, lora_bias=True), "a LoRA with use_dora, lora_bias is not"),
        (lambda folder: changed(folder, peft_type="LOHA"), "a LOHA adapter is not"),
        (
            lambda folder: changed(folder, target_modules=["q_proj"]),
            "does not fit the language model: 26 names are in one alone",
        ),
    ],
)
def test_a_broken_folder_says_what_is_wrong(tiny, tiny_directory, change, message):
    new_adapter(tiny, 4, seed=1)
    named = {f"base_model.model.{name}": value for name, value in adapter_weights(tiny).items()}
    save_adapter(tiny_directory / ADAPTER, named, alpha=8, dropout=0.1)
    change(tiny_directory / ADAPTER)
    with pytest.raises(ModelError, match=message):
        load(str(tiny_directory))


def changed(folder, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_pefts_own_files_say_beside_is_no_reason_to_refuse(tiny, tiny_directory):
    """A folder that peft wrote, with all its options at their defaults and its metadata; weights in half precision."""
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=list(TARGETS), init_lora_weights=False)
    reference = get_peft_model(copy.deepcopy(tiny.language_model), config).to(torch.bfloat16)
    reference.save_pretrained(tiny_directory / ADAPTER, save_embedding_layers=False)
    assert json.loads((tiny_directory / ADAPTER / "adapter_config.json").read_text())["peft_version"]
    model, _ = load(str(tiny_directory))
    weights = adapter_weights(model)
    named = {f"base_model.model.{name}": value for name, value in weights.items()}
    theirs = {name: value for name, value in reference.named_parameters() if ".lora_" in name}
    assert named.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name].float()) for name, value in named.items())
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert all(value.requires_grad for value in weights.values())  # choose_trainable decides


def test_weights_are_read_from_safetensors_alone(tiny, tiny_directory):
    """peft would fall back to a pickled file."""
    new_adapter(tiny, 4, seed=1)
    named = {f"base_model.model.{name}": value for name, value in adapter_weights(tiny).items()}
    save_adapter(tiny_directory / ADAPTER, named, alpha=8, dropout=0.1)
    (tiny_directory / ADAPTER / "adapter_model.safetensors").unlink()
    torch.save(named, tiny_directory / ADAPTER / "adapter_model.bin")
    with pytest.raises(ModelError, match="no LoRA that can be read"):
        load(str(tiny_directory))


def test_a_language_model_with_other_names_is_refused(tiny):
    assert lora_targets(tiny.language_model) == list(TARGETS)
    tiny.language_model.config.tie_word_embeddings = True
    assert lora_targets(tiny.language_model) == [name for name in TARGETS if name != "lm_head"]
    with pytest.raises(ModelError, match="this language model has dense"):
        lora_targets(torch.nn.ModuleDict({"dense": torch.nn.Linear(2, 2)}))


def test_an_adapter_that_is_not_trained_has_no_dropout(tiny):
    new_adapter(tiny, 4, seed=1)
    with torch.no_grad():
        for name, parameter in adapter_weights(tiny).items():
            if ".lora_B." in name:
                parameter.fill_(1.0)
    tiny.train()
    embeds = torch.randn(1, 6, 24, generator=torch.Generator().manual_seed(1))
    first, second = (tiny.language_model(inputs_embeds=embeds).logits for _ in range(2))
    assert not torch.equal(first, second)
    disable_lora_dropout(tiny)
    tiny.train()
    first, second = (tiny.language_model(inputs_embeds=embeds).logits for _ in range(2))
    assert torch.equal(first, second)
    assert not has_dropout(tiny)
