"""All options of a question in one row: scores equal those of each option alone, and what repeats is read once."""

from dataclasses import replace

import pytest
import torch
from conftest import tiny_config
from precision import in_fp64
from transformers import LlamaConfig, MistralConfig, Phi3Config, Qwen2Config

from qtablate.datatypes import Item
from qtablate.evaluate import option_rows, prefix_cache
from qtablate.evaluate.option_rows import score_in_rows
from qtablate.evaluate.prefix_cache import encode_prefix
from qtablate.evaluate.prompt import LIKELIHOOD, Prompt
from qtablate.evaluate.score import score
from qtablate.evaluate.scores import Scores
from qtablate.model.encode import ConversationEncoder
from qtablate.model.initialize import initialize, normal
from qtablate.model.packing import PACKABLE_TYPES, enable_packing
from qtablate.model.videochat2 import VideoChat2Model
from qtablate.prompts.types import EncodedQuestion

CONFIGS = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config, "phi3": Phi3Config}
CLIPS = 3
BEFORE, COMMON = [2, 5], [7, 8]
QUESTIONS = ([9], [10, 11, 9], [10, 11, 9, 12, 4, 3])
"""Their token ids behind COMMON."""
OPTIONS = ([21], [21, 22], [21, 22, 23], [21, 22, 23, 24, 25, 26], [27, 22, 23, 24], [22, 21, 23, 24, 25], [30])
"""Of 1 to 6 tokens; some are prefixes of others, some differ in their first token alone."""


@pytest.fixture(scope="module")
def build_tiny(tokenizer):
    """Builds a fresh tiny model that can be packed, in fp64, whose weights are large enough for attention to matter."""

    def build(kind: str = "llama", **settings: object) -> VideoChat2Model:
        sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        ids = {"vocab_size": len(tokenizer), "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 1}
        text = CONFIGS[kind](**{**sizes, **ids, "num_key_value_heads": 4, "max_position_embeddings": 512, **settings})
        model = VideoChat2Model(tiny_config(len(tokenizer), text_config=text.to_dict()))
        initialize(model, 0, "rows")
        model.query_tokens.data = normal(tuple(model.query_tokens.shape), 1.0, "rows", "base")
        for name, parameter in model.language_model.named_parameters():
            if parameter.ndim == 2:
                parameter.data = normal(tuple(parameter.shape), 0.3, "rows", name)
        enable_packing(model.language_model)
        return in_fp64(model).eval()

    return build


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(CLIPS, 16, 24, generator=torch.Generator().manual_seed(5)).double()


def prompts(options=OPTIONS) -> list[Prompt]:
    """Every question about every clip; each with other options, and all of them together."""
    out = []
    for clip in range(CLIPS):
        for number, question in enumerate(QUESTIONS):
            item = Item(f"{clip} {number}", "task", f"clip{clip}", "asked", tuple(map(str, options)), 0, "video")
            turned = [*options[number:], *options[:number]]
            out.append(Prompt(item, clip, LIKELIHOOD, EncodedQuestion(BEFORE, COMMON + question, turned)))
    return out


def in_rows(model, encoder, features, posed: list[Prompt], max_rows: int = 192) -> list[Scores]:
    items = [Item(f"{clip}", "task", f"clip{clip}", "", (), 0, "video") for clip in range(CLIPS)]
    with torch.inference_mode():
        prefix = encode_prefix(model, encoder, features, items, BEFORE, COMMON)
        return score_in_rows(model, prefix, posed, len(COMMON), max_rows)


def alone(model, features: torch.Tensor, prompt: Prompt, option: list[int]) -> float:
    """The reference: one sequence, no cache, no mask, log-softmax by hand."""
    table = model.language_model.get_input_embeddings()
    visual = model.visual_tokens(features[prompt.context][None])[0]
    behind = table(torch.tensor(prompt.question.context + option))
    embeds = torch.cat([table(torch.tensor(BEFORE)), visual, behind])
    log_probs = model.language_model(inputs_embeds=embeds[None]).logits[0].log_softmax(-1)
    first = len(embeds) - len(option) - 1
    return sum(float(log_probs[first + n, token]) for n, token in enumerate(option))


def expected(model, features: torch.Tensor, posed: list[Prompt]) -> list[list[float]]:
    with torch.inference_mode():
        return [[alone(model, features, prompt, option) for option in prompt.question.options] for prompt in posed]


def assert_equal(found: list[Scores], wanted: list[list[float]], posed: list[Prompt]) -> None:
    for one, totals, prompt in zip(found, wanted, posed, strict=True):
        assert one.item is prompt.item
        assert list(one.log_likelihoods) == pytest.approx(totals, rel=1e-12)
        assert one.token_counts == tuple(map(len, prompt.question.options))


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("kind", PACKABLE_TYPES)
def test_scores_in_rows_equal_those_of_every_option_alone(build_tiny, encoder, features, kind, heads):
    model, posed = build_tiny(kind, num_key_value_heads=heads), prompts()
    wanted = expected(model, features, posed)
    assert_equal(in_rows(model, encoder, features, posed), wanted, posed)
    assert len({round(total, 6) for totals in wanted for total in totals}) == CLIPS * len(QUESTIONS) * len(OPTIONS)


def test_options_of_one_token_need_no_place_of_their_own(build_tiny, encoder, features, monkeypatch):
    """A letter is read from the logits behind its question."""
    model, posed = build_tiny(), prompts(([21], [22], [30]))
    read = spy(model, monkeypatch)
    assert_equal(in_rows(model, encoder, features, posed), expected(model, features, posed), posed)
    assert [shape for shape in read if shape[0] != CLIPS] == [(CLIPS * len(QUESTIONS), max(map(len, QUESTIONS)))]


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(lambda branch: torch.ones(*branch.shape, branch.shape[1]).bool().tril(), id="all before"),
        pytest.param(lambda branch: (branch[:, None] == branch[:, :, None]).tril(), id="own branch alone"),
    ],
)
def test_a_mask_without_its_branch_condition_changes_scores(build_tiny, encoder, features, monkeypatch, seen):
    """The negative control: options that see one another, and options that do not see their question."""
    model, posed = build_tiny(), prompts()

    def incorrect(branch: torch.Tensor, before: int) -> torch.Tensor:
        own = seen(branch)
        return torch.cat([own.new_ones(*own.shape[:2], before), own], dim=2)[:, None]

    right = in_rows(model, encoder, features, posed)
    monkeypatch.setattr(option_rows, "_visible", incorrect)
    wrong = in_rows(model, encoder, features, posed)
    assert largest_change(wrong, right) > 1e-2
    for one, other in zip(wrong, right, strict=True):  # what is read from the question's last place sees no option
        for a, b, tokens in zip(one.log_likelihoods, other.log_likelihoods, one.token_counts, strict=True):
            assert tokens > 1 or a == pytest.approx(b, rel=1e-12)


def test_positions_that_go_on_from_option_to_option_change_scores(build_tiny, encoder, features, monkeypatch):
    """The negative control: only the first option of a row would stand behind its question then."""
    model, posed = build_tiny(), prompts()
    right, inner = in_rows(model, encoder, features, posed), model.logits_at

    def counted(embeds, at, **arguments):
        if "position_ids" in arguments:
            first = arguments["position_ids"][:, :1]
            arguments["position_ids"] = first + torch.arange(embeds.shape[1])
        return inner(embeds, at, **arguments)

    monkeypatch.setattr(model, "logits_at", counted)
    wrong = in_rows(model, encoder, features, posed)
    assert largest_change(wrong, right) > 1e-2
    for one, other in zip(wrong, right, strict=True):
        assert one.log_likelihoods[0] == pytest.approx(other.log_likelihoods[0], rel=1e-12)


def largest_change(wrong: list[Scores], right: list[Scores]) -> float:
    """The largest relative difference of a score."""
    changed, kept = (torch.tensor([list(one.log_likelihoods) for one in scores]) for scores in (wrong, right))
    return float(((changed - kept) / kept).abs().max())


def test_equal_options_are_read_once_and_have_equal_scores(build_tiny, encoder, features, monkeypatch):
    model, options = build_tiny(), (OPTIONS[3], OPTIONS[1], OPTIONS[3], OPTIONS[3])
    posed = prompts(options)
    read = spy(model, monkeypatch)
    found = in_rows(model, encoder, features, posed)
    twice = list(read)
    read.clear()
    in_rows(model, encoder, features, prompts(options[:2]))
    assert twice == read
    assert_equal(found, expected(model, features, posed), posed)
    for one, prompt in zip(found, posed, strict=True):
        repeated = {total for total, ids in zip(one.log_likelihoods, prompt.question.options, strict=True) if ids == OPTIONS[3]}
        assert len(repeated) == 1


def test_questions_that_repeat_about_one_clip_share_a_row(build_tiny, encoder, features, monkeypatch):
    """Whatever their options are; the same question about another clip has a row of its own."""
    model = build_tiny()
    posed = [replace(prompt, question=replace(prompt.question, options=OPTIONS[:4])) for prompt in prompts()]
    other = [replace(prompt, question=replace(prompt.question, options=OPTIONS[2:])) for prompt in prompts()]
    read = spy(model, monkeypatch)
    found = in_rows(model, encoder, features, [*posed, *other, *posed])
    assert [rows for rows, _ in read] == [CLIPS, CLIPS * len(QUESTIONS)]
    assert_equal(found, expected(model, features, [*posed, *other, *posed]), [*posed, *other, *posed])


@pytest.mark.parametrize(
    ("max_rows", "row_tokens", "most"),
    [(1, 40, 1), (2, 40, 2), (5, 40, 5), (192, 40, 9), (2, 12, 2), (5, 12, 5), (192, 12, 57)],
)
def test_rows_are_split_by_memory_and_scores_do_not_depend_on_it(
    build_tiny, encoder, features, monkeypatch, max_rows, row_tokens, most
):
    """Rows hold about 25 to 30 tokens here: where ROW_TOKENS is less, most options have a row of their own, and fewer rows
    take the memory of max_rows."""
    model, posed = build_tiny(), prompts()
    whole = in_rows(model, encoder, features, posed)
    monkeypatch.setattr(prefix_cache, "ROW_TOKENS", row_tokens)
    read = spy(model, monkeypatch, held=True)
    found = in_rows(model, encoder, features, posed, max_rows)
    rows = read[1:]  # behind the clips themselves
    in_all = len(posed) if row_tokens == 40 else 57
    assert (sum(count for count, _ in rows), max(count for count, _ in rows)) == (in_all, most)
    assert all(count == 1 or count * max(length, row_tokens) <= max_rows * row_tokens for count, length in rows)
    for one, other in zip(found, whole, strict=True):
        assert list(one.log_likelihoods) == pytest.approx(list(other.log_likelihoods), rel=1e-12)


def spy(model, monkeypatch, held: bool = False) -> list[tuple[int, int]]:
    """(rows, places) of every pass of the language model from now on; with what is in its cache where that is asked for."""
    read: list[tuple[int, int]] = []
    inner = model.logits_at

    def spied(embeds, at, **arguments):
        cache = arguments.get("past_key_values") if held else None
        read.append((len(embeds), embeds.shape[1] + (cache.get_seq_length() if cache else 0)))
        return inner(embeds, at, **arguments)

    monkeypatch.setattr(model, "logits_at", spied)
    return read


def blind(times: int) -> list[Item]:
    """A benchmark that asks three questions with the same options again and again, of clips that are not shown."""
    words = ("left", "right", "red left moves right", "what red")
    return [
        Item(f"{time} {number}", "task", "video", question, words[time % 4 :] + words[: time % 4], 0, "video")
        for time in range(times)
        for number, question in enumerate(("what moves?", "what moves left?", "red?"))
    ]


def tokens_read(
    model, encoder: ConversationEncoder, items: list[Item], monkeypatch
) -> tuple[int, dict[tuple[str, str], float]]:
    """Positions that the language model computes, and the score of every option's text of every item."""
    with monkeypatch.context() as patch:
        read = spy(model, patch)
        shown = {"video": torch.randn(16, 24, generator=torch.Generator().manual_seed(5)).double()}
        found = [one for group in score(model, encoder, items, shown.__getitem__) for one in group]
    scores = {
        (one.item.id, text): total for one in found for text, total in zip(one.item.options, one.log_likelihoods, strict=True)
    }
    return sum(rows * length for rows, length in read), scores


def test_without_clips_a_benchmark_that_repeats_its_questions_is_read_once(build_tiny, encoder, monkeypatch):
    model = build_tiny()
    once, _ = tokens_read(model, encoder, blind(1), monkeypatch)
    often, scores = tokens_read(model, encoder, blind(12), monkeypatch)
    assert often == once
    model.language_model.set_attn_implementation("sdpa")
    each, wanted = tokens_read(model, encoder, blind(12), monkeypatch)
    assert each > 10 * often
    assert scores == pytest.approx(wanted, rel=1e-12)


def test_where_a_window_is_shorter_than_a_row_options_are_read_as_ever(build_tiny, encoder, monkeypatch):
    """A row holds more tokens than its positions tell, so the window would reach elsewhere. The reference: transformers' own
    attention, which knows windows."""
    asked = blind(2)
    model = build_tiny("mistral", sliding_window=6)
    calls: list[int] = []
    inner = option_rows._read
    monkeypatch.setattr(option_rows, "_read", lambda *arguments: calls.append(1) or inner(*arguments))
    _, scores = tokens_read(model, encoder, asked, monkeypatch)
    assert not calls
    model.language_model.set_attn_implementation("sdpa")
    assert scores == pytest.approx(tokens_read(model, encoder, asked, monkeypatch)[1], rel=1e-12)
    _, unlimited = tokens_read(build_tiny("mistral", sliding_window=None), encoder, asked, monkeypatch)
    assert calls
    assert max(abs(scores[key] - total) for key, total in unlimited.items()) > 1e-2  # such a window matters


def test_a_row_is_bounded_however_many_options_its_question_has(build_tiny, encoder, monkeypatch):
    """Attention in a row is quadratic, and items that ask the same of the same clip share rows."""
    model, asked = build_tiny(), blind(1)[:1]
    asked = [replace(asked[0], id=str(n), options=tuple(f"{n} {k}" for k in range(4))) for n in range(300)]
    lengths: list[int] = []
    inner = model.logits_at

    def spied(embeds, at, **arguments):
        held = arguments.get("past_key_values")
        lengths.append(embeds.shape[1] + (held.get_seq_length() if held else 0))
        return inner(embeds, at, **arguments)

    monkeypatch.setattr(model, "logits_at", spied)
    _, scores = tokens_read(model, encoder, asked, monkeypatch)
    assert max(lengths) <= prefix_cache.ROW_TOKENS
    monkeypatch.setattr(prefix_cache, "ROW_TOKENS", 1 << 16)
    _, unbounded = tokens_read(model, encoder, asked, monkeypatch)
    assert scores == pytest.approx(unbounded, rel=1e-12)
    assert max(lengths) > 6000
