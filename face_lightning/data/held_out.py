"""Held-out texts, which evaluate the words of entities whose text was not used in training."""

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
    """Hold out the texts of a share of users and items, and what other texts reveal about the held-out items.

    The selection depends only on a hash of the original id and the seed. Users' texts contain titles and tags of their
    items: template texts are rewritten without the held-out items, and other texts are held out as well if they contain
    the title of a held-out training item of the user.

    Args:
        interactions: Ids, and the training items of users.
        profiles: Texts of all users and items.
        share: Expected share of users, and of items, in 0..1.
        seed: Seed of the hash.

    Returns:
        Profiles for training, and profiles with the complete texts of the held-out entities only.

    Raises:
        DataError: If the profiles have precomputed text vectors.
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
    """Select held-out entities `(N,)`: the first 8 bytes of SHA-256 of kind, id and seed lie below the share."""
    digests = (hashlib.sha256(f"{kind} {name} {seed}".encode()).digest()[:8] for name in ids)
    return np.array([int.from_bytes(digest, "big") < share * 2**64 for digest in digests], dtype=bool)


def _only(texts: Sequence[str | None], kept: np.ndarray) -> tuple[str | None, ...]:
    return tuple(text if keep else None for text, keep in zip(texts, kept.tolist(), strict=True))


def _without_items(
    interactions: Interactions, profiles: Profiles, facts: Facts, hidden: np.ndarray
) -> tuple[str | None, ...]:
    """Return the texts of users without information about the hidden items."""
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
