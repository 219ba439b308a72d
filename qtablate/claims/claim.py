"""Taking a claim, and keeping it."""

import errno
import json
import math
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from qtablate.claims.holder import Holder, all_holders, files_of, highest, read
from qtablate.claims.owner import Owner
from qtablate.files import atomic_path, temporary_path

_TRIES = 20
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV)


@dataclass(frozen=True, slots=True)
class Held:
    """A claim that is held, so that another process can act for its owner."""

    key: str
    generation: int
    token: str
    owner: Owner


class Claim:
    """A claim that this process holds, or acts for."""

    def __init__(self, folder: Path, held: Held, about: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.about = dict(about)
        """What others are told of it from the next beat on."""
        self._folder, self._held, self._beat = folder, held, 0

    @property
    def key(self) -> str:
        """Of what is claimed."""
        return self._held.key

    @property
    def held_as(self) -> Held:
        """For a process that acts for this one."""
        return self._held

    @property
    def _path(self) -> Path:
        return self._folder / f"{self.key}.{self._held.generation}.json"

    def create(self) -> bool:
        """Create the file; False where another process has just done so. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(self._path)
        try:
            temporary.write_bytes(self._content())
            os.link(temporary, self._path)
        except FileExistsError:  # or a network file system has lost its answer to the first try
            return self._is_own()
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._create_without_links()
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True

    def _create_without_links(self) -> bool:
        """Create the file where the file system has no hard links: for a moment it is there and empty."""
        try:
            with self._path.open("xb") as file:
                file.write(self._content())
        except FileExistsError:
            return self._is_own()
        return True

    def beat(self) -> bool:
        """Count on; False where the claim was lost, and nothing is written then. Where it cannot be written, as on a full disk,
        that is no loss: others see no new count, and may take the claim over."""
        holder = highest(self._folder, self.key)
        if not is_own(holder, self._held.token):
            self.release()  # the count before may have been written when another had just taken over
            return False
        if holder and holder.token:  # a process that acts for this one may have sealed it
            self._held = replace(self._held, generation=holder.generation)
        self._beat += 1
        with suppress(OSError), atomic_path(self._path, durable=False) as temporary:
            temporary.write_bytes(self._content())
        return True

    def held(self) -> bool:
        """Whether it is still this process's: nobody has taken it over."""
        return is_own(highest(self._folder, self.key), self._held.token)

    def seal(self) -> bool:
        """Prove that nobody has taken it over, by creating the next generation before anybody else; False where it is lost.

        What a client of a network file system reads may be a minute old; of two that create one file, one does. So this is
        called before anything is written that a claim stands for. Raises OSError where no file can be created.
        """
        holder = highest(self._folder, self.key)
        if not is_own(holder, self._held.token):
            return False
        generation = max(self._held.generation, holder.generation if holder else 0)
        following = Claim(self._folder, replace(self._held, generation=generation + 1), holder.about if holder else {})
        if not following.create():
            return False
        self._held = following.held_as
        self._remove_own(up_to=generation)
        return True

    def release(self) -> None:
        """Give it up. A claim that was lost is left to the one who has it."""
        self._remove_own()

    def _remove_own(self, up_to: float = math.inf) -> None:
        for generation, path in files_of(self._folder, self.key):
            found = read(path, self.key, generation)
            if generation <= up_to and found is not None and found.token == self._held.token:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _is_own(self) -> bool:
        found = read(self._path, self.key, self._held.generation)
        return found is not None and found.token == self._held.token

    def _content(self) -> bytes:
        held = self._held
        content = {"token": held.token, "beat": self._beat, "owner": asdict(held.owner), "about": self.about}
        return (json.dumps(content, sort_keys=True) + "\n").encode()


class Claims:
    """The claims of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(
        self, key: str, owner: Owner, about: Mapping[str, Any] = MappingProxyType({}), stale: Holder | None = None
    ) -> Claim | Holder:
        """Claim something, or say who holds it.

        Args:
            key: of what is claimed.
            owner: this process.
            about: what others are told.
            stale: a holder that was watched and is gone; one that has counted since then is not.

        Raises:
            OSError: the folder cannot be written.
        """
        for _ in range(_TRIES):
            holder = self.holder(key)
            if holder and not _gone(holder, owner, stale):
                return holder
            claim = Claim(self.folder, Held(key, holder.generation + 1 if holder else 0, uuid.uuid4().hex, owner), about)
            try:
                created = claim.create()
            except FileNotFoundError:  # the folder was empty, and its last user has just removed it
                continue
            if created:
                self._remove_older(key, holder.generation if holder else -1)
                return claim
        return self.holder(key) or Holder(key, 0)  # others were quicker every time

    def _remove_older(self, key: str, generation: int) -> None:
        for number, path in files_of(self.folder, key):
            if number <= generation:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def forget(self, holder: Holder) -> None:
        """Remove a claim whose owner is known to have ended, as from its scheduler."""
        self._remove_older(holder.key, holder.generation)

    def acting_for(self, held: Held) -> Claim:
        """Return a claim that another process holds, to act for it."""
        return Claim(self.folder, held)

    def holder(self, key: str) -> Holder | None:
        """Who holds a key; None where it is free."""
        return highest(self.folder, key)

    def all(self) -> dict[str, Holder]:
        """Every holder by key."""
        return all_holders(self.folder)

    def tidy(self) -> None:
        """Remove the claims of processes of this machine that have ended, and the folder where nothing is claimed then."""
        for key, holder in self.all().items():
            if holder.owner and holder.owner.ended:
                self._remove_older(key, holder.generation)
        with suppress(OSError):
            self.folder.rmdir()


def _gone(holder: Holder, owner: Owner, stale: Holder | None) -> bool:
    if stale and (stale.token, stale.beat, stale.generation) == (holder.token, holder.beat, holder.generation):
        return True
    return holder.owner is not None and (holder.owner.ended or (bool(owner.job) and holder.owner.job == owner.job))


def is_own(holder: Holder | None, token: str) -> bool:
    """Whether a claim with this token still holds. One that cannot be read is taken for it, and so is none at all: somebody may
    have removed the folder, and nobody else works on the same thing then."""
    return holder is None or holder.token in ("", token)
