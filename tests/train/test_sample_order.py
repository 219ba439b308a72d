"""Which samples in which order: by sample, whatever the micro-batch and the window (property 10 of accumulation.md)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter

import pytest
from settings import config, settings

from qtablate import grid
from qtablate.axes import Condition
from qtablate.cell.sample_order import sample_order, training_samples
from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.errors import DataError
from qtablate.grid import Cell, Fingerprints
from qtablate.prompts.registry import FORMATS
from qtablate.prompts.types import IGNORE
from qtablate.train.sample_order import SampleOrder, media_order
from qtablate.train.sample_order import order_samples as order


def samples(videos: int, images: int) -> list[Sample]:
    return [
        Sample(f"{medium}-{n}", medium, "", ()) for medium, count in ((VIDEO, videos), (IMAGE, images)) for n in range(count)
    ]


def cells(mixing: str, hold: str, accum: Sequence[int], batches: Sequence[int], budget: int = 96) -> list[Cell]:
    axes = config(accum=tuple(accum), batch_size=tuple(batches), seeds=(5,), mixing=(mixing,), batch_size_is=hold).grid
    return grid.cells(axes, settings(samples=budget), lambda _: Fingerprints("", "", ""), 8)


def windows(cell: Cell, of: Sequence[Sample] = (), tell: Callable[[Sample], str] = attrgetter("id")) -> list[list[list[str]]]:
    """Windows of micro-batches of ids, cut as a loop would cut them."""
    shared, condition = cell.settings, cell.condition
    plan = media_order(sample_order(cell), shared.samples)
    ids = [tell(sample) for sample in order(of or samples(50, 20), plan, cell.seed)]
    size, accum = condition.micro_batch_size, condition.accumulate_grad_batches
    micro = [ids[start : start + size] for start in range(0, len(ids), size)]
    return [micro[start : start + accum] for start in range(0, len(micro), accum)]


def media(count: int, image_ratio: float, mixing: str, block: int, seed: int) -> list[str]:
    return media_order(SampleOrder(seed, mixing, image_ratio, block), count)


def flat(window: list[list[str]]) -> list[str]:
    return [name for micro in window for name in micro]


@pytest.mark.parametrize("mixing", ["mixed", "random"])
@pytest.mark.parametrize("budget", [96, 90])
def test_splitting_a_batch_leaves_each_window_the_same(mixing, budget):
    whole, *split = [windows(cell) for cell in cells(mixing, "effective-batch", (1, 2, 4), (16,), budget)]
    assert [len(window[0]) for window in whole] == [16] * (budget // 16) + ([budget % 16] if budget % 16 else [])
    for other in split:
        assert [flat(window) for window in other] == [flat(window) for window in whole]


def test_multi_order_depends_on_neither_micro_batch_nor_window():
    orders = [
        [name for window in windows(cell) for name in flat(window)] for cell in cells("mixed", "micro-batch", (1, 3, 4), (4, 8))
    ]
    assert len(orders) == 6
    assert all(one == orders[0] for one in orders)


@pytest.mark.parametrize(("micro", "accum"), [(4, 4), (8, 2), (16, 1)])
def test_same_window_of_samples_for_b_times_a(micro, accum):
    (split,) = cells("mixed", "micro-batch", (accum,), (micro,))
    (whole,) = cells("mixed", "micro-batch", (1,), (16,))
    assert [flat(window) for window in windows(split)] == [flat(window) for window in windows(whole)]


@pytest.mark.parametrize("percent", [1, 5, 10, 20, 25, 29, 40, 50, 60, 75, 80, 90, 95])
def test_multi_puts_both_media_into_every_micro_batch_that_can_hold_them(percent):
    plan = media(400, percent / 100, "mixed", 8, 1)
    least = -(-100 // min(percent, 100 - percent))
    for start in range(400 - least + 1):  # anywhere, not only where micro-batches happen to begin
        assert set(plan[start : start + least]) == {IMAGE, VIDEO}, start


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("mixing", ["mixed", "random"])
def test_one_medium_alone(share, mixing):
    assert media(50, share, mixing, 8, 1) == [IMAGE if share else VIDEO] * 50


def test_single_makes_every_block_one_medium_in_random_order():
    plan = media(320, 0.25, "random", 8, 1)
    blocks = [plan[start : start + 8] for start in range(0, 320, 8)]
    assert all(len(set(block)) == 1 for block in blocks)
    kinds = [block[0] for block in blocks]
    assert Counter(kinds) == {IMAGE: 10, VIDEO: 30}
    assert kinds not in (sorted(kinds), sorted(kinds, reverse=True))


@pytest.mark.parametrize(("share", "block"), [(0.25, 8), (0.5, 4), (0.1, 2), (0.2, 16), (0.75, 4)])
@pytest.mark.parametrize("seed", [1, 2])
def test_both_mixings_hold_as_many_images(share, block, seed):
    budget = 3 * block * 20
    for mixing in ("mixed", "random"):
        plan = media(budget, share, mixing, block, seed)
        assert len(plan) == budget
        assert plan.count(IMAGE) == round(budget * share)


@pytest.mark.parametrize("share", [0.29, 0.57, 0.58])
def test_both_mixings_hold_as_many_images_at_shares_that_binary_rounds(share):
    assert media(100, share, "mixed", 1, 1).count(IMAGE) == media(100, share, "random", 1, 1).count(IMAGE)


def test_each_sample_once_an_epoch_and_a_new_order_in_the_next():
    plan = [VIDEO, IMAGE, VIDEO] * 20  # 40 videos, 20 images
    ids = [sample.id for sample in order(samples(10, 5), plan, 3)]
    for medium, size in ((VIDEO, 10), (IMAGE, 5)):
        mine = [name for name in ids if name.startswith(medium)]
        epochs = [mine[start : start + size] for start in range(0, len(mine), size)]
        assert len(epochs) == 4
        assert all(len(set(epoch)) == size for epoch in epochs)
        assert len(set(map(tuple, epochs))) == 4


def test_order_follows_the_plan_of_media():
    plan = media(60, 0.25, "random", 4, 9)
    assert [sample.medium for sample in order(samples(7, 3), plan, 9)] == plan


def test_seeds_differ_and_repeat():
    plan = [VIDEO] * 30
    first, again, other = (order(samples(30, 0), plan, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert media(320, 0.25, "random", 8, 1) != media(320, 0.25, "random", 8, 2)


def test_one_mediums_order_does_not_depend_on_the_other_medium():
    """Image share is a factor too: cells that differ by it are still paired in their videos."""
    few, many = (order(samples(40, 40), media(40, share, "mixed", 8, 1), 1) for share in (0.1, 0.5))
    videos = [[sample.id for sample in some if sample.medium == VIDEO] for some in (few, many)]
    assert videos[0][: len(videos[1])] == videos[1]


def of_sources(**counts: int) -> list[Sample]:
    return [Sample(f"{name}{n}", VIDEO, "", (), source=name) for name, count in counts.items() for n in range(count)]


def test_sources_are_drawn_by_their_weights_at_every_point():
    found = [one.source for one in order(of_sources(a=10, b=200), [VIDEO] * 120, 1, {"a": 3.0, "b": 1.0})]
    for end in range(4, 121, 4):
        assert Counter(found[:end]) == {"a": 3 * end // 4, "b": end // 4}


def test_a_source_without_a_weight_counts_its_samples():
    found = Counter(one.source for one in order(of_sources(a=10, b=30), [VIDEO] * 120, 1, {"a": 10.0}))
    assert found == {"a": 30, "b": 90}


def test_without_weights_sources_change_nothing():
    mixed = [one.id for one in order(of_sources(a=5, b=5), [VIDEO] * 25, 1)]
    plain = [one.id for one in order([Sample(s.id, VIDEO, "", ()) for s in of_sources(a=5, b=5)], [VIDEO] * 25, 1)]
    assert mixed == plain
    assert Counter(mixed[:10]) == Counter(mixed[10:20])  # every sample once an epoch


def test_every_sample_of_a_weighted_source_is_seen_before_any_again():
    found = [one.id for one in order(of_sources(a=6, b=6), [VIDEO] * 24, 1, {"a": 1.0, "b": 1.0}) if one.source == "a"]
    assert len(set(found[:6])) == len(set(found[6:12])) == 6


@pytest.mark.parametrize("accum", [2, 3, 4, 8])
def test_aligned_blocks_give_every_window_the_stated_share_to_within_a_block(accum):
    plan = media(960, 0.25, "interleaved", 8, seed=1)
    blocks = [set(plan[at : at + 8]) for at in range(0, 960, 8)]
    assert all(len(block) == 1 for block in blocks)
    images = [block == {IMAGE} for block in blocks]
    for start in range(0, len(blocks) - accum + 1):
        assert abs(sum(images[start : start + accum]) - accum / 4) < 1
    if accum % 4 == 0:
        assert {sum(images[at : at + accum]) for at in range(0, len(blocks), accum)} == {accum // 4}
    loose = media(960, 0.25, "random", 8, seed=1)
    assert loose.count(IMAGE) == plan.count(IMAGE)
    mixes = {loose[at : at + 8 * accum].count(IMAGE) for at in range(0, 960, 8 * accum)}
    assert len(mixes) > 2  # not so where the order is random


def budgeted(size, samples, count, mixing="mixed", accum=1, micro=4):
    condition = Condition(0, accum, micro, mixing, "none")
    cell = Cell(condition, 3, micro, settings(**{"samples": 40, **size}), Fingerprints("m", "t", "b"))
    return training_samples(cell, samples, {}, count)


def test_a_budget_of_tokens_ends_with_the_sample_that_reaches_it():
    some = [Sample(str(n), IMAGE if n % 4 == 0 else VIDEO, f"clip{n}", (("q", "a"),)) for n in range(40)]
    count = {sample.id: 3 + int(sample.id) % 5 for sample in some}
    for wanted in (90, 150, 199, 200, 1000):  # the last needs epochs
        size = {"budget": "tokens", "budget_size": wanted}
        found = budgeted(size, some, lambda sample: count[sample.id])
        total = sum(count[sample.id] for sample in found)
        assert total >= wanted > total - count[found[-1].id]
        assert found == budgeted(size, some, lambda sample: count[sample.id], accum=4)
    with pytest.raises(DataError, match=r"tokens 10 is reached by \d samples, less than one window of 16"):
        budgeted({"budget": "tokens", "budget_size": 10}, some, lambda sample: count[sample.id], accum=4)
    with pytest.raises(DataError, match="no supervised token"):
        budgeted(size, some, lambda _: 0)


def test_a_budget_of_steps_gives_every_condition_as_many():
    some = [Sample(str(n), VIDEO, f"clip{n}", (("q", "a"),)) for n in range(40)]
    size = {"image_ratio": 0.0, "budget": "steps", "budget_size": 9}
    found = [len(budgeted(size, some, None, accum=accum, micro=micro)) for accum, micro in ((1, 4), (3, 4), (2, 1))]
    assert found == [36, 108, 18]


PAIRS = tuple((f"q{n}", f"a{n}") for n in range(5))


def conversations(videos: int, images: int = 0) -> list[Sample]:
    return [replace(sample, pairs=PAIRS, shuffle_pairs=True) for sample in samples(videos, images)]


def said(sample: Sample) -> str:
    return f"{sample.id}: {' '.join(question for question, _ in sample.pairs)}"


@pytest.mark.parametrize(("micro", "accum"), [(4, 4), (8, 2), (16, 1)])
@pytest.mark.parametrize("mixing", ["mixed", "random"])
def test_pairs_are_in_the_same_order_however_a_batch_is_split(micro, accum, mixing):
    [split] = [cell for cell in cells(mixing, "effective-batch", (accum,), (16,)) if cell.condition.micro_batch_size == micro]
    [whole] = cells(mixing, "effective-batch", (1,), (16,))
    of = conversations(20, 10)
    assert [flat(one) for one in windows(split, of, said)] == [flat(one) for one in windows(whole, of, said)]


def test_pairs_are_shuffled_anew_at_each_visit_and_by_the_seed():
    first, again, other = (order(conversations(10), [VIDEO] * 40, seed) for seed in (1, 1, 2))
    assert first == again
    visits: dict[str, list[tuple[tuple[str, str], ...]]] = {}
    for sample in first:
        assert sorted(sample.pairs) == list(PAIRS)
        visits.setdefault(sample.id, []).append(sample.pairs)
    assert {len(told) for told in visits.values()} == {4}
    assert sum(len(set(told)) for told in visits.values()) > 36  # of 40; equal ones in 1 of 120
    assert len({told[0] for told in visits.values()}) > 8  # each sample by its own
    assert {said(one) for one in first[:10]} != {said(one) for one in other[:10]}


def test_order_of_pairs_leaves_that_of_samples():
    plan = media(60, 0.25, "mixed", 8, 1)
    shuffled, plain = order(conversations(20, 10), plan, 1), order([replace(s, pairs=PAIRS) for s in samples(20, 10)], plan, 1)
    assert [one.id for one in shuffled] == [one.id for one in plain]
    assert all(one.pairs == PAIRS for one in plain)
    assert any(one.pairs != PAIRS for one in shuffled)


def test_a_shuffled_sample_supervises_its_own_answers():
    [sample] = [one for one in order(conversations(1), [VIDEO], 3) if one.pairs != PAIRS]
    told = FORMATS["videochat2_mistral"].encode_conversation(VIDEO, "", sample.pairs, str.split)
    kept = [one for one in told.labels if one != IGNORE]
    assert kept == [word for _, answer in sample.pairs for word in (answer, "</s>")]
