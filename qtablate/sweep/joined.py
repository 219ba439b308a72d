"""Sweeps that run in one folder at the same time: of the same settings they share its work, others are refused."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from qtablate.claims.claim import Claim
from qtablate.claims.heart import Heart
from qtablate.claims.holder import Holder
from qtablate.claims.owner import this_process
from qtablate.config import SweepConfig, fields
from qtablate.errors import StoreError
from qtablate.store import Store

_PREFIX = "sweep-"  # of the name of a running sweep's claim
_DECIDING = ("grid", "train", "eval", "data")  # sections that decide which cells there are


@contextmanager
def joined(store: Store, config: SweepConfig) -> Iterator[None]:
    """Run a sweep in a folder within the block, known to others as long as it runs.

    Which of several processes runs a cell is settled cell by cell (execute/claimed.py).

    Raises:
        StoreError: a sweep of other settings runs there, or nothing can be written.
    """
    store.open()
    settings = deciding_settings(config)
    with Heart().beating() as heart:
        try:
            claim = store.claims.take(f"{_PREFIX}{uuid.uuid4().hex[:12]}", this_process(), {"settings": settings})
        except OSError as error:
            raise store.unwritable(store.claims.folder, error) from None
        assert isinstance(claim, Claim)  # nobody else has its name
        heart.keep(claim)
        _forget_dead(store)
        try:
            _refuse_others(store, claim.key, settings)
            yield
        finally:
            heart.release(claim.key)
            _forget_dead(store)
            store.claims.tidy()


def deciding_settings(config: SweepConfig) -> dict[str, str]:
    """Return everything that decides which cells there are, as text, by the name of its option."""
    options = {option.flag: (section, name) for (section, name), option in fields().items() if section in _DECIDING}
    values = {flag: getattr(getattr(config, section), name) for flag, (section, name) in options.items()}
    values |= {"conditions": config.grid.conditions, "--confirm": config.run.confirm}
    values["--until-decided"] = config.run.until_decided
    return {name: _text(value) for name, value in values.items()}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def running_sweeps(store: Store) -> list[Holder]:
    """Return the sweeps that run in a folder now, as far as can be told."""
    return [holder for key, holder in store.claims.all().items() if key.startswith(_PREFIX) and holder.live]


def _forget_dead(store: Store) -> None:
    """Remove what sweeps have left that were killed, also on other machines. One that lives after all, and whose clock is off,
    writes its claim anew."""
    for key, holder in store.claims.all().items():
        if key.startswith(_PREFIX) and not holder.live:
            store.claims.forget(holder)


def _refuse_others(store: Store, own: str, settings: Mapping[str, str]) -> None:
    for other in running_sweeps(store):
        theirs: Mapping[str, str] = other.about.get("settings", {})
        differing = [name for name in dict.fromkeys([*settings, *theirs]) if settings.get(name) != theirs.get(name)]
        if other.key != own and differing:
            shown = "; ".join(f"{name}: {theirs.get(name)} there, {settings.get(name)} here" for name in differing)
            raise StoreError(
                f"another sweep runs in {store.root} ({other.owner}) with other settings ({shown}): wait for it or stop it, "
                "give the same settings to share its work, or use another --out"
            )
