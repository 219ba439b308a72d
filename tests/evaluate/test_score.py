"""Scoring by likelihood, letter and generation: batched over clips, questions and options equals each alone."""

from dataclasses import replace

import pytest
import torch

from qtablate.bench.items import IMAGE, Item
from qtablate.bench.protocol import MOST_TOKENS, SCORERS, first_line
from qtablate.evaluate.score import Scores, score

OPTIONS = ("left", "red left moves", "right?", "what moves red left right what")


def items() -> list[Item]:
    out = []
    for number in range(11):
        medium = IMAGE if number % 4 == 3 else "video"
        options = OPTIONS[: 2 + number % 3]
        question = "what moves?" if number % 2 else "what red moves left what moves right?"
        out.append(Item(f"i{number}", f"task{number % 2}", f"{medium}{number // 2}{medium}", question, options, 0, medium))
    return out


def features_of(item_list, dtype=torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {i.clip: torch.randn(4 if i.medium == IMAGE else 16, 24, generator=generator).to(dtype) for i in item_list}


def alone(model, encoder, item: Item, features: torch.Tensor, option: str) -> tuple[float, int]:
    """The reference: one sequence, no cache, no padding, log-softmax by hand."""
    form, table = encoder.form, model.language_model.get_input_embeddings()
    before = encoder.ids(form.opening + form.media[item.medium][0])
    told = encoder.ids(option) + encoder.ids(form.end)
    after = encoder.ids(form.media[item.medium][1]) + encoder.ids(form.human) + encoder.ids(item.question)
    after = after + encoder.ids(form.assistant) + told
    visual = model.visual_tokens(features[None])[0]
    embeds = torch.cat([table(torch.tensor(before)), visual, table(torch.tensor(after))])
    log_probs = model.language_model(inputs_embeds=embeds[None]).logits[0].log_softmax(-1)
    first = len(embeds) - len(told)
    return sum(float(log_probs[first + n - 1, token]) for n, token in enumerate(told)), len(told)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
def test_batched_scores_equal_one_by_one(tiny, encoder, dtype, tolerance):
    model = tiny.to(dtype).eval()
    shown = features_of(items(), dtype)
    found = [one for group in score(model, encoder, items(), shown.__getitem__) for one in group]
    assert {one.item.id for one in found} == {item.id for item in items()}
    with torch.no_grad():
        for one in found:
            expected = [alone(model, encoder, one.item, shown[one.item.clip], option) for option in one.item.options]
            assert list(one.total) == pytest.approx([total for total, _ in expected], rel=tolerance, abs=tolerance)
            assert list(one.tokens) == [tokens for _, tokens in expected]


def test_length_normalisation_changes_the_choice_where_it_should(tiny, encoder):
    shown = features_of(items())
    found = [one for group in score(tiny, encoder, items(), shown.__getitem__) for one in group]
    for one in found:
        assert one.predicted == max(range(len(one.total)), key=one.total.__getitem__)
        means = [total / tokens for total, tokens in zip(one.total, one.tokens, strict=True)]
        assert one.predicted_per_token == max(range(len(means)), key=means.__getitem__)
    assert any(one.predicted != one.predicted_per_token for one in found)


def test_scores_depend_on_the_clip(tiny, encoder):
    shown = features_of(items())
    other = {name: -value for name, value in shown.items()}
    first, second = (
        [one.total for group in score(tiny, encoder, items(), source.__getitem__) for one in group] for source in (shown, other)
    )
    assert first != second


def prompt_of(model, encoder, item: Item, features: torch.Tensor) -> torch.Tensor:
    asked = encoder.asked(item, lettered=True)
    table = model.language_model.get_input_embeddings()
    visual = model.visual_tokens(features[None])[0]
    return torch.cat([table(torch.tensor(asked.before)), visual, table(torch.tensor(asked.context))])[None]


def by_scorer(model, encoder, shown, how) -> dict[tuple[str, str], Scores]:
    return {(one.how, one.item.id): one for group in score(model, encoder, items(), shown.__getitem__, how) for one in group}


def test_letters_are_read_from_the_logits_behind_the_prompt(tiny, encoder):
    """The reference: the whole prompt at once, no cache."""
    model = tiny.double().eval()
    shown = features_of(items(), torch.float64)
    found = by_scorer(model, encoder, shown, ("letter",))
    for item in items():
        asked = encoder.asked(item, lettered=True)
        assert [len(ids) for ids in asked.options] == [1] * len(item.options)
        with torch.no_grad():
            logits = model.language_model(inputs_embeds=prompt_of(model, encoder, item, shown[item.clip])).logits[0, -1]
        expected = logits.log_softmax(-1)[torch.tensor([ids[0] for ids in asked.options])]
        assert list(found["letter", item.id].total) == pytest.approx(expected.tolist(), rel=1e-11)


def test_generation_is_transformers_own_greedy_one(tiny, encoder):
    model = tiny.double().eval()
    shown = features_of(items(), torch.float64)
    found = by_scorer(model, encoder, shown, ("generate",))
    texts = []
    for item in items():
        with torch.no_grad():
            ids = model.language_model.generate(
                inputs_embeds=prompt_of(model, encoder, item, shown[item.clip]), max_new_tokens=MOST_TOKENS, do_sample=False,
                pad_token_id=1, eos_token_id=encoder.tokenizer.eos_token_id,
            )  # fmt: skip
        text = encoder.text([one for one in ids[0].tolist() if one != encoder.tokenizer.eos_token_id])
        texts.append(found["generate", item.id].text)
        assert texts[-1] == first_line(text)
    assert any(texts)  # something was said


def test_all_scorers_together_give_what_each_gives_alone(tiny, encoder):
    shown = features_of(items())
    together = by_scorer(tiny, encoder, shown, SCORERS)
    assert len(together) == len(SCORERS) * len(items())
    for how in SCORERS:
        for key, one in by_scorer(tiny, encoder, shown, (how,)).items():
            assert list(together[key].total) == pytest.approx(list(one.total), abs=1e-4)
            assert (together[key].text, together[key].rotated) == (one.text, one.rotated)


def test_circular_is_right_only_where_every_rotation_is(tiny, encoder):
    shown = features_of(items())
    found = by_scorer(tiny, encoder, shown, ("circular",))
    for item in items():
        chosen = []
        for first in range(len(item.options)):
            turned = replace(item, options=item.options[first:] + item.options[:first])
            [[one]] = score(tiny, encoder, [turned], shown.__getitem__, ("letter",))
            chosen.append(item.options.index(turned.options[one.predicted]))
        one = found["circular", item.id]
        assert list(one.rotated) == chosen
        assert one.predicted == (chosen[0] if len(set(chosen)) == 1 else -1)


def test_what_generation_says_is_read_strictly():
    item = items()[0]
    assert Scores(item, (), (), "generate", "B) x").predicted == 1
    assert Scores(item, (), (), "generate", "").predicted == -1
    assert Scores(item, (), (), "generate", "").predicted_per_token == -1
