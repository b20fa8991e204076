"""Held-out texts: what words of entities without a text are judged by."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from face_lightning.data.interactions import Interactions
from face_lightning.data.profiles import Facts, Profiles
from face_lightning.data.readers.records import DERIVED_USER_FIELDS, write_profiles
from face_lightning.errors import DataError
from face_lightning.text.summaries import TemplateWriter, short_title


def hold_out_texts(
    interactions: Interactions, profiles: Profiles, share: float, seed: int
) -> tuple[Profiles, Profiles]:
    """Hide the texts of a share of users and items, and all that other texts say of the hidden items.

    Who is held out depends on a hash of the original id and the seed alone. Users' texts name items and are made of
    their tags, so those by template are written again without the held-out items; a user's text of another origin is
    hidden too where it names a held-out training item of the user by its title.

    Args:
        interactions: Ids, and the training items of users.
        profiles: Texts of all users and items.
        share: Expected share of users, and of items, in 0..1.
        seed: Seed of the hash.

    Returns:
        Profiles to learn from, and profiles that have the texts of the held-out entities alone, in their full form.

    Raises:
        DataError: If text vectors of a file take the place of texts.
    """
    if profiles.user_vectors is not None or profiles.item_vectors is not None:
        raise DataError(
            "held_out_texts: expected texts, got text vectors of a file, which cannot be written again without the "
            "held-out items; remove the vector files, or set it to 0"
        )
    users = held_out("user", interactions.user_ids.tolist(), share, seed)
    items = held_out("item", interactions.item_ids.tolist(), share, seed)
    user_texts = profiles.user_texts
    if profiles.facts is not None:
        user_texts = _without_items(interactions, profiles, profiles.facts, items)
    visible = replace(
        profiles, user_texts=_only(user_texts, ~users), item_texts=_only(profiles.item_texts, ~items), facts=None
    )
    hidden = replace(
        profiles, user_texts=_only(profiles.user_texts, users), item_texts=_only(profiles.item_texts, items), facts=None
    )
    return visible, hidden


def held_out(kind: str, ids: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Which entities are held out `(N,)`: the first 8 bytes of SHA-256 of kind, id and seed lie below the share."""
    digests = (hashlib.sha256(f"{kind} {name} {seed}".encode()).digest()[:8] for name in ids)
    return np.array([int.from_bytes(digest, "big") < share * 2**64 for digest in digests], dtype=bool)


def _only(texts: Sequence[str | None], kept: np.ndarray) -> tuple[str | None, ...]:
    return tuple(text if keep else None for text, keep in zip(texts, kept.tolist(), strict=True))


def _without_items(
    interactions: Interactions, profiles: Profiles, facts: Facts, hidden: np.ndarray
) -> tuple[str | None, ...]:
    """Texts of users that say nothing of the hidden items."""
    records = [{} if hide else fields for fields, hide in zip(facts.items, hidden.tolist(), strict=True)]
    own = [{key: value for key, value in user.items() if key not in DERIVED_USER_FIELDS} for user in facts.users]
    rewritten = write_profiles(interactions, records, profiles.domain, own).user_texts
    writer = TemplateWriter(profiles.domain)
    titles = [short_title(str(fields.get("title") or "")).casefold() for fields in facts.items]
    texts: list[str | None] = []
    for user, text in enumerate(profiles.user_texts):
        if text is None or text == writer.write("user", facts.users[user]):
            texts.append(rewritten[user] if text is not None else None)
            continue
        seen = interactions.train.indices[interactions.train.indptr[user] : interactions.train.indptr[user + 1]]
        names = [titles[item] for item in seen.tolist() if hidden[item] and titles[item]]
        named = any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text.casefold()) for name in names)
        texts.append(None if named else text)
    return tuple(texts)
