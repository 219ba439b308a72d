"""nano's tokenizer: one token a word of the world, bytes for everything else, the same file every time."""

from qtablate.model.load import load
from qtablate.nano.tokenizer import build, world_words


def test_every_word_of_the_world_is_one_token_and_text_survives():
    words = world_words()
    tokenizer = build(words)
    assert all(len(tokenizer(w.replace("Ġ", " "), add_special_tokens=False).input_ids) == 1 for w in words if w[0] == "Ġ")
    for text in ("which way does the red square move?", "a person's 17 äpfel, 电影!"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids).strip() == text


def test_shipped_tokenizer_is_the_one_that_the_world_gives():
    _, encoder = load("nano")
    assert encoder.tokenizer.get_vocab() == build(world_words()).get_vocab()
