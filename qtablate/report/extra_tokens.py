"""States in which extra query tokens are of no use (frozen, copies), and what to do about each."""

FROZEN, COPIES = "frozen", "copies"
FROZEN_RATIO = 0.1
"""Extra tokens are frozen where they moved less than this multiple of how far the base ones did."""
COPIES_COSINE = 0.95
"""Extra tokens are copies of one another where the mean cosine of their pairs is above this."""


def extra_state(moved_relative: float | None, *cosines: float | None) -> str:
    """Return `frozen` or `copies`; empty for sound tokens.

    Args:
        moved_relative: how far the extra tokens moved, as a multiple of the base tokens.
        cosines: mean cosines of pairs of extra tokens, of the queries or of what leaves the Q-Former.
    """
    if moved_relative is not None and moved_relative < FROZEN_RATIO:
        return FROZEN
    return COPIES if any(cosine is not None and cosine > COPIES_COSINE for cosine in cosines) else ""


def remedy(state: str, extra_init: str, extra_lr: float) -> str:
    """Say what to do about extra tokens in this state; empty for sound ones.

    Args:
        state: `frozen`, `copies` or empty.
        extra_init: how their initial values were chosen.
        extra_lr: their learning rate as a multiple of that of the base tokens.
    """
    if state == COPIES:
        if extra_init != "normal":
            return "Use --extra-init normal."
        return "They started apart and became alike: fewer tokens may be enough."
    if state != FROZEN:
        return ""
    if extra_lr < 1:
        return "Use --extra-lr 1."
    if extra_init != "normal":
        return "Use --extra-init normal or a larger --warmup-ratio."
    return "A larger --warmup-ratio or a larger --extra-lr may help."
