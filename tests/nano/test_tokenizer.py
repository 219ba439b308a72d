"""nano's tokenizer: one token per word of the world, bytes for all other text, reproducible."""

from qtablate.model.load import load
from qtablate.nano.tokenizer import build, world_words


def test_every_word_of_the_world_is_one_token_and_other_text_round_trips():
    words = world_words()
    tokenizer = build(words)
    assert all(len(tokenizer(w.replace("Ġ", " "), add_special_tokens=False).input_ids) == 1 for w in words if w[0] == "Ġ")
    for text in ("which way does the red square move?", "a person's 17 äpfel, 电影!"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids).strip() == text


def test_shipped_tokenizer_is_the_one_built_from_the_world():
    _, encoder = load("nano")
    assert encoder.tokenizer.get_vocab() == build(world_words()).get_vocab()
