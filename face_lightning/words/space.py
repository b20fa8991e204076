"""Frozen texts, word vectors, targets and encoder that words are trained and evaluated with."""

from dataclasses import dataclass

import torch

from face_lightning.mapping.anchoring import LexicalTargets
from face_lightning.text.vocabulary import Codebook, word_vectors
from face_lightning.words.centering import is_anisotropic
from face_lightning.words.descriptor_encoder import DescriptorEncoder
from face_lightning.words.entity_texts import EntityProfiles, EntityTexts, collect_texts, text_vectors
from face_lightning.words.settings import WordSettings
from face_lightning.words.targets import lexical_targets
from face_lightning.words.word_vectors import WordVectors


@dataclass(frozen=True)
class WordSpace:
    """Frozen data that words are trained and evaluated with, on the device of a stage.

    Deliberately not a module, so that a stage that holds it neither trains it nor writes it to checkpoints.

    Attributes:
        texts: Texts of users and items with their vectors.
        targets: Target words of each entity.
        word_vectors: Vectors of the vocabulary's words.
        descriptors: Encoder of descriptors in their prompts.
    """

    texts: EntityTexts
    targets: LexicalTargets
    word_vectors: WordVectors
    descriptors: DescriptorEncoder


def build_word_space(
    settings: WordSettings, codebook: Codebook, profiles: EntityProfiles, device: torch.device | str = "cpu"
) -> WordSpace:
    """Encode the texts of all entities and the words of the vocabulary, and choose target words.

    Args:
        settings: Encoder, prompts and number of targets.
        codebook: The vocabulary.
        profiles: Texts of users and items, or precomputed vectors.
        device: Device of the tensors.

    Raises:
        DataError: If there is no text at all, or the width of precomputed vectors is not that of the encoder.
    """
    encoder = settings.encoder.to(device)
    vectors = text_vectors(encoder, profiles)
    num_users = len(profiles.user_texts)
    kinds = vectors.split([num_users, len(vectors) - num_users])
    words = word_vectors(encoder, codebook)
    sizes = settings.num_targets, settings.target_pool
    # Separately for users and items, since lexical_targets centers texts, and each kind has its own sentence pattern.
    targets = [lexical_targets(kind, words, *sizes, codebook.lemmas) for kind in kinds]
    centered = any(map(is_anisotropic, kinds)) if settings.center is None else settings.center
    return WordSpace(
        texts=collect_texts(profiles, vectors, device, centered),
        targets=LexicalTargets(*(torch.cat(parts).to(device) for parts in zip(*targets, strict=True))),
        word_vectors=WordVectors(codebook.words, words.to(device), settings.anchoring_temperature, codebook.lemmas),
        descriptors=DescriptorEncoder(
            encoder,
            codebook.token_embeddings.to(device),
            [template.replace("{domain}", profiles.domain) for template in settings.prompts],
            num_users,
            settings.num_targets if centered else None,
            settings.separator,
        ),
    )
