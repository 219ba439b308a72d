"""Scoring by likelihood, letter and generation: batched over clips, questions and options equals each alone."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from precision import in_fp64

from qtablate.datatypes import IMAGE, Item
from qtablate.evaluate import prefix_cache
from qtablate.evaluate.prefix_cache import batch_limits
from qtablate.evaluate.score import fitting_items, score
from qtablate.evaluate.scores import Scores
from qtablate.model.encode import ConversationEncoder
from qtablate.model.packing import enable_packing
from qtablate.model.videochat2 import VideoChat2Model
from qtablate.prompts.mvbench import MAX_NEW_TOKENS, SCORERS, first_line
from qtablate.prompts.registry import FORMATS

OPTIONS = ("left", "red left moves", "right?", "what moves red left right what")


@pytest.fixture(params=[False, True], ids=["padded", "in rows"])
def tiny(tiny, request) -> VideoChat2Model:
    """The tiny model, whose options are read as padded continuations, and in rows (option_rows.py)."""
    if request.param:
        enable_packing(tiny.language_model)
    return tiny


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
    form, table = encoder.format, model.language_model.get_input_embeddings()
    before = encoder.token_ids(form.opening + form.media[item.medium][0])
    told = encoder.token_ids(option) + encoder.token_ids(form.end)
    after = encoder.token_ids(form.media[item.medium][1]) + encoder.token_ids(form.human) + encoder.token_ids(item.question)
    after = after + encoder.token_ids(form.assistant) + told
    visual = model.visual_tokens(features[None])[0]
    embeds = torch.cat([table(torch.tensor(before)), visual, table(torch.tensor(after))])
    log_probs = model.language_model(inputs_embeds=embeds[None]).logits[0].log_softmax(-1)
    first = len(embeds) - len(told)
    return sum(float(log_probs[first + n - 1, token]) for n, token in enumerate(told)), len(told)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_batched_scores_equal_one_by_one(tiny, encoder, dtype, tolerance):
    model = (in_fp64(tiny) if dtype == torch.float64 else tiny).eval()
    shown = features_of(items(), dtype)
    found = [one for group in score(model, encoder, items(), shown.__getitem__) for one in group]
    assert {one.item.id for one in found} == {item.id for item in items()}
    with torch.no_grad():
        for one in found:
            expected = [alone(model, encoder, one.item, shown[one.item.clip], option) for option in one.item.options]
            assert list(one.log_likelihoods) == pytest.approx([total for total, _ in expected], rel=tolerance, abs=tolerance)
            assert list(one.token_counts) == [tokens for _, tokens in expected]


def test_length_normalisation_changes_the_choice_where_it_should(tiny, encoder):
    shown = features_of(items())
    found = [one for group in score(tiny, encoder, items(), shown.__getitem__) for one in group]
    for one in found:
        assert one.predicted == max(range(len(one.log_likelihoods)), key=one.log_likelihoods.__getitem__)
        means = [total / tokens for total, tokens in zip(one.log_likelihoods, one.token_counts, strict=True)]
        assert one.predicted_per_token == max(range(len(means)), key=means.__getitem__)
    assert any(one.predicted != one.predicted_per_token for one in found)


def test_scores_depend_on_the_clip(tiny, encoder):
    shown = features_of(items())
    other = {name: -value for name, value in shown.items()}
    first, second = (
        [one.log_likelihoods for group in score(tiny, encoder, items(), source.__getitem__) for one in group]
        for source in (shown, other)
    )
    assert first != second


def prompt_of(model, encoder, item: Item, features: torch.Tensor) -> torch.Tensor:
    asked = encoder.encode_item(item, with_letters=True)
    table = model.language_model.get_input_embeddings()
    visual = model.visual_tokens(features[None])[0]
    return torch.cat([table(torch.tensor(asked.prefix)), visual, table(torch.tensor(asked.context))])[None]


def by_scorer(model, encoder, shown, how) -> dict[tuple[str, str], Scores]:
    return {(one.scorer, one.item.id): one for group in score(model, encoder, items(), shown.__getitem__, how) for one in group}


def test_letters_are_read_from_the_logits_behind_the_prompt(tiny, encoder):
    """The reference: the whole prompt at once, no cache."""
    model = in_fp64(tiny).eval()
    shown = features_of(items(), torch.float64)
    found = by_scorer(model, encoder, shown, ("letter",))
    for item in items():
        asked = encoder.encode_item(item, with_letters=True)
        assert [len(ids) for ids in asked.options] == [1] * len(item.options)
        with torch.no_grad():
            logits = model.language_model(inputs_embeds=prompt_of(model, encoder, item, shown[item.clip])).logits[0, -1]
        expected = logits.log_softmax(-1)[torch.tensor([ids[0] for ids in asked.options])]
        assert list(found["letter", item.id].log_likelihoods) == pytest.approx(expected.tolist(), rel=1e-12)


@pytest.mark.parametrize("tiny", [False], ids=["padded"], indirect=True)  # generation reads no options
def test_generation_is_transformers_own_greedy_one(tiny, encoder):
    model = in_fp64(tiny).eval()
    shown = features_of(items(), torch.float64)
    found = by_scorer(model, encoder, shown, ("generate",))
    texts = []
    for item in items():
        with torch.no_grad():
            ids = model.language_model.generate(
                inputs_embeds=prompt_of(model, encoder, item, shown[item.clip]),
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                pad_token_id=1,
                eos_token_id=encoder.tokenizer.eos_token_id,
            )
        text = encoder.decode([one for one in ids[0].tolist() if one != encoder.tokenizer.eos_token_id])
        texts.append(found["generate", item.id].text)
        assert texts[-1] == first_line(text)
    assert any(texts)  # something was said


def test_all_scorers_together_give_what_each_gives_alone(tiny, encoder):
    shown = features_of(items())
    together = by_scorer(tiny, encoder, shown, SCORERS)
    assert len(together) == len(SCORERS) * len(items())
    for how in SCORERS:
        for key, one in by_scorer(tiny, encoder, shown, (how,)).items():
            assert list(together[key].log_likelihoods) == pytest.approx(list(one.log_likelihoods), abs=1e-4)
            assert (together[key].text, together[key].rotation_choices) == (one.text, one.rotation_choices)


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
        assert list(one.rotation_choices) == chosen
        assert one.predicted == (chosen[0] if len(set(chosen)) == 1 else -1)


def test_what_generation_says_is_read_strictly():
    item = items()[0]
    assert Scores(item, (), (), "generate", "B) x").predicted == 1
    assert Scores(item, (), (), "generate", "").predicted == -1
    assert Scores(item, (), (), "generate", "").predicted_per_token == -1


LONG = "what moves left " * 1250  # 20,000 characters


def passes(model, encoder, item_list, shown, monkeypatch, how=("likelihood",)) -> tuple[list[Scores], list[tuple[int, int]]]:
    """Scores, and (rows, tokens that each holds in the end) of every pass of the language model."""
    seen, inner = [], model.logits_at

    def spied(embeds, at, **arguments):
        held = arguments.get("past_key_values")
        seen.append((len(embeds), embeds.shape[1] + (held.get_seq_length() if held else 0)))
        return inner(embeds, at, **arguments)

    monkeypatch.setattr(model, "logits_at", spied)
    return [one for group in score(model, encoder, item_list, shown.__getitem__, how) for one in group], seen


def test_texts_that_fit_are_batched_as_ever_and_longer_ones_by_memory(tiny, encoder, monkeypatch):
    shown = features_of(items())
    monkeypatch.setattr(prefix_cache, "MAX_ROWS", 8)
    _, ordinary = passes(tiny, encoder, items(), shown, monkeypatch)
    asked = "what moves right?"  # no item's question: its row would hold the long option too
    answered = [replace(item, id=f"long {item.id}", question=asked) for item in items()[:6]]
    long = [replace(item, options=(*item.options, LONG[:16_000] + "left")) for item in answered]
    long += [replace(item, id=f"asked {item.id}", question=LONG[:16_000]) for item in items()[:6]]
    found, seen = passes(tiny, encoder, [*items(), *long], shown, monkeypatch)
    assert max(rows for rows, _ in ordinary) == 8
    assert max(rows for rows, length in seen if length <= 512) == 8
    assert max(length for _, length in seen) > 3000
    assert all(rows == 1 or rows * length <= 8 * 512 for rows, length in seen)
    assert {one.item.id for one in found} == {item.id for item in [*items(), *long]}


def test_scores_do_not_depend_on_how_long_texts_are_batched(tiny, encoder, monkeypatch):
    """The reference: every row at once, and everything that questions have in common told once a clip."""
    model, some = in_fp64(tiny).eval(), items()[:3]
    long = [replace(item, question="what moves left " * 150, options=("left", "right " * 400)) for item in some]
    shown = features_of(some, torch.float64)
    found, _ = passes(model, encoder, long, shown, monkeypatch)
    monkeypatch.setattr(prefix_cache, "ROW_TOKENS", 1 << 20)
    whole, _ = passes(model, encoder, long, shown, monkeypatch)
    for one, other in zip(found, whole, strict=True):
        assert (one.item, one.token_counts) == (other.item, other.token_counts)
        assert list(one.log_likelihoods) == pytest.approx(list(other.log_likelihoods), rel=1e-12)


def test_a_long_text_takes_little_memory(tiny, encoder, monkeypatch):
    """What is held for 40 items of 20,000 characters is no more than for as many rows as fit at once of 512 tokens."""
    shown = features_of(items())
    many = [replace(items()[0], id=f"i{n}", options=tuple(LONG + str(k) for k in range(4))) for n in range(40)]
    left, problems = fitting_items(tiny, encoder, many)
    assert (left, len(problems)) == ([], 40)  # a sweep would not even ask
    short = [replace(item, options=tuple(option[:6000] for option in item.options)) for item in many]
    _, seen = passes(tiny, encoder, short[:4], shown, monkeypatch)
    rows = batch_limits(tiny)[1]
    assert max(count * length for count, length in seen) <= rows * 512


def test_items_longer_than_the_models_places_are_named(tiny, encoder):
    tiny.config.text_config.max_position_embeddings = tiny.language_model.config.max_position_embeddings = 256
    long = {
        "question": replace(items()[0], id="question", question=LONG),
        "candidate": replace(items()[0], id="candidate", options=("left", LONG)),
    }
    left, problems = fitting_items(tiny, encoder, [items()[0], *long.values(), items()[1]])
    assert left == items()[:2]
    assert [(one.subject, one.kind) for one in problems] == [("question", "text too long"), ("candidate", "text too long")]
    asked = encoder.encode_item(long["question"])
    text, answer = len(asked.prefix) + len(asked.context), max(map(len, asked.options))
    assert problems[0].detail == (
        f"{5 + text + answer:,} tokens (5 visual, {text:,} of the prompt, {answer:,} of the longest answer); "
        "the language model has 256 places"
    )


@pytest.mark.parametrize("how", SCORERS)
def test_the_last_place_is_used_and_none_behind_it(tiny, encoder, how, monkeypatch):
    item = items()[0]
    asked = encoder.encode_item(item, with_letters=how != "likelihood")
    answer = MAX_NEW_TOKENS if how == "generate" else max(map(len, asked.options))
    needed = tiny.num_visual_tokens + len(asked.prefix) + len(asked.context) + answer
    for places, kept in ((needed, [item]), (needed - 1, [])):
        tiny.language_model.config.max_position_embeddings = places
        assert fitting_items(tiny, encoder, [item], (how,))[0] == kept
    monkeypatch.setattr(tiny.language_model, "config", SimpleNamespace())  # which names no limit
    assert fitting_items(tiny, encoder, [replace(item, question=LONG)], (how,))[1] == []


def test_all_scorers_ask_the_same_items(tiny, encoder):
    """One that is too long for generation is asked by none, so that their answers can be compared."""
    item = items()[0]
    generating = encoder.encode_item(item, with_letters=True)
    needed = tiny.num_visual_tokens + len(generating.prefix) + len(generating.context) + MAX_NEW_TOKENS
    tiny.language_model.config.max_position_embeddings = needed - 1
    assert fitting_items(tiny, encoder, [item], ("likelihood", "letter", "circular"))[0] == [item]
    assert fitting_items(tiny, encoder, [item], SCORERS)[0] == []


def test_a_question_with_the_markers_of_a_clip_is_named(tiny, tokenizer):
    """Where its visual tokens go could not be told: an error of the whole cell else."""
    mistral = ConversationEncoder(tokenizer, replace(FORMATS["videochat2_mistral"], bos="none"))
    item = replace(items()[0], question="what <Video></Video> moves?")
    left, problems = fitting_items(tiny, mistral, [items()[0], item, items()[1]])
    assert left == items()[:2]
    assert [(one.subject, one.kind) for one in problems] == [("i0", "unusable text")]
    assert "expected <Video></Video> once in the conversation, found it 2 times" in problems[0].detail


def test_training_texts_of_any_length_are_cut(encoder):
    """By tokens, as ever; tokenising a million characters is no matter."""
    from qtablate.datatypes import Sample
    from qtablate.model.encode import collate

    told = collate(encoder, [Sample("0", "video", "c", (("what moves?", LONG * 50),))], [5], 64)
    assert (told.input_ids.shape, told.truncated) == ((1, 69), 1)
