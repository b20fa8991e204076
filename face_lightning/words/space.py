"""What mapping and alignment share: the vocabulary, the entities' texts, and the losses of words."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.mapping.anchoring import LexicalTargets, lexical_anchoring
from face_lightning.mapping.mapper import Mapped
from face_lightning.structures import Embeddings
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vocabulary import build_codebook, load_codebook, word_vectors
from face_lightning.words.entity_texts import EntityProfiles, entity_vectors
from face_lightning.words.retrieval import CANDIDATES, picking_accuracy
from face_lightning.words.targets import around_the_middle, crowd, lexical_targets


class WordSpace:
    """The frozen side of FACE: vocabulary, text encoder, prompts, and the texts of all entities.

    A plain object on purpose: a stage that holds it neither trains it nor writes it to checkpoints.

    Args:
        extra_words: Words of the catalogue's own texts to let into the vocabulary.
        encoder: Frozen text encoder; all-MiniLM-L6-v2 if not given.
        num_frequent: How many of the most frequent words of the word list are looked at.
        word_list: Own list of words to choose from (csv or txt); open sources if null.
        blocklist: File of words that are never descriptors; "default" is the package's, null blocks none.
        user_prompt: Sentence around a user's descriptors, with `{words}`; `{domain}` is the kind of item.
        item_prompt: Sentence around an item's descriptors.
        num_targets: Words that together say what a text says and serve as its targets, W; as many as descriptors.
        target_pool: Words nearest to the text among which they are chosen: the more, the better they say together
            which entities are alike, and the more of them read as far-fetched.
        anchoring_temperature: Temperature of the softmax over the codebook in lexical anchoring.
        anchoring_negatives: Words that estimate its denominator; all if null.
        retrieval_limit: Users, and items, that take part in the retrieval test, at most.
        codebook: Codebook that `face vocab build` made of the encoder's model, to take as it is; one is built
            from the arguments above if null.
        centre: Whether sentence vectors are seen from the middle of their kind (texts of users, of items, sentences of
            words); null does so where texts crowd, their mean similarity being above 0.7, as those of a model
            that was never trained to tell sentences apart.

    Raises:
        ConfigurationError: If `num_targets` is not positive, or `target_pool` less than it.
    """

    def __init__(
        self,
        extra_words: Sequence[str] = (),
        encoder: TextEncoder | None = None,
        num_frequent: int = 20_000,
        word_list: Path | None = None,
        blocklist: str | None = "default",
        user_prompt: str = "A user who likes: {words}",
        item_prompt: str = "A {domain}: {words}",
        num_targets: int = 16,
        target_pool: int = 32,
        anchoring_temperature: float = 0.07,
        anchoring_negatives: int | None = 2048,
        retrieval_limit: int = 4096,
        codebook: Path | None = None,
        centre: bool | None = None,
    ) -> None:
        check_range("num_targets", num_targets, least=1, usual="16")
        check_range("target_pool", target_pool, least=num_targets, usual="32")
        self.encoder = encoder or TextEncoder()
        if codebook is not None:
            self.codebook, self.report = load_codebook(codebook, self.encoder)
        else:
            self.codebook, self.report = build_codebook(
                self.encoder,
                num_frequent=num_frequent,
                word_list=word_list,
                block="default" if blocklist == "default" else None if blocklist is None else Path(blocklist),
                extra_words=extra_words,
            )
        self.anchoring_temperature = anchoring_temperature
        self.anchoring_negatives = anchoring_negatives
        self.retrieval_limit = retrieval_limit
        self._num_targets, self._target_pool = num_targets, target_pool
        self._prompt_templates = user_prompt, item_prompt
        self._centre = centre
        self.num_users = 0
        self.labels: list[str] = []
        self.texts: list[str | None] = []
        self.vectors = torch.empty(0, self.encoder.width)
        self.present = torch.empty(0, dtype=torch.bool)
        self.classes = torch.empty(0, dtype=torch.long)
        self.word_vectors = torch.empty(0, self.encoder.width)
        self.middles: Tensor | None = None  # of the sentences of users' and items' words
        self.targets = LexicalTargets(torch.empty(0, 0, dtype=torch.long), torch.empty(0, 0))

    def read(
        self,
        profiles: EntityProfiles,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take in the texts of all entities.

        Args:
            profiles: Texts, or vectors in place of them, of users and items.
            device: Where tensors go.

        Raises:
            DataError: If there is no text at all, or given vectors have another width than the encoder's.
        """
        self.num_users = len(profiles.user_texts)
        self.labels = [*profiles.user_labels, *profiles.item_labels]
        self.texts = [*profiles.user_texts, *profiles.item_texts]
        vectors = entity_vectors(self.encoder, profiles)
        kinds = vectors.split([self.num_users, len(vectors) - self.num_users])
        targets = self._find_targets(kinds)
        self.encoder.to(device)
        self.prompts = [
            self.encoder.prompt(template.replace("{domain}", profiles.domain)) for template in self._prompt_templates
        ]
        self.targets = LexicalTargets(*(tensor.to(device) for tensor in targets))
        self.word_vectors = self.word_vectors.to(device)
        self.present = (~vectors.isnan().any(1)).to(device)
        self.token_embeddings = self.codebook.token_embeddings.to(device)
        self.middles = None
        if self._centre or (self._centre is None and any(crowd(kind) for kind in kinds)):
            vectors = torch.cat([around_the_middle(kind) for kind in kinds])
            self.middles = self._middles()
        self.vectors = vectors.nan_to_num().to(device)
        self.classes = torch.unique(self.vectors, dim=0, return_inverse=True)[1]

    def _find_targets(self, kinds: Sequence[Tensor]) -> list[Tensor]:
        """Target words, users apart from items: each kind's texts share a sentence pattern of their own."""
        spoken = word_vectors(self.encoder, self.codebook)
        self.word_vectors = F.normalize(spoken - spoken.mean(0), dim=1)
        found = [lexical_targets(kind, spoken, self._num_targets, self._target_pool) for kind in kinds]
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    @torch.no_grad()
    def _middles(self, num_sentences: int = 128) -> Tensor:
        """Mean vectors of the sentences of random words, of users and of items `(2, E)`, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(len(self.token_embeddings), (num_sentences, self._num_targets), generator=generator)
        words = self.token_embeddings[drawn.to(self.token_embeddings.device)]
        kinds = (words.new_full((num_sentences,), kind, dtype=torch.long) for kind in range(len(self.prompts)))
        return torch.stack([self.encoder.encode_descriptors(words, self.prompts, kind).mean(0) for kind in kinds])

    def losses(self, mapped: Mapped, entity_ids: Tensor, anchor: bool) -> dict[str, Tensor]:
        """Reconstruction, quantization and anchoring losses of mapped entities, unweighted.

        `reconstruction = mean ||e^ - e||^2 / D` in the normalised space; `codebook` and `commitment` are
        the quantizer's.

        Args:
            mapped: Mapper's output for the entities.
            entity_ids: `(B,)`.
            anchor: Whether to compute `anchoring`.
        """
        losses = {
            "reconstruction": (mapped.reconstruction - mapped.target).square().mean(),
            "codebook": mapped.quantized.codebook_loss,
            "commitment": mapped.quantized.commitment_loss,
        }
        if anchor:
            targets = self.targets.rows(entity_ids)
            losses["anchoring"] = lexical_anchoring(
                mapped.concepts, mapped.codes, targets, self.anchoring_temperature, self.anchoring_negatives
            )
        return losses

    def meanings(self, descriptors: Tensor) -> Tensor:
        """What the words of each entity mean together, as `told_apart` has it `(N, E)`.

        Args:
            descriptors: `(N, S)`.
        """
        return told_apart(torch.cat([self.word_vectors[rows].mean(1) for rows in descriptors.split(4096)]))

    def expected_vectors(self, concepts: Tensor, codes: Tensor, near: Tensor) -> Tensor:
        """Mean over slots of the word vector that each expects, `(N, E)`.

        A slot expects its near words as anchoring does: by a softmax of their inner products.

        Args:
            concepts: `(N, S, d)`.
            codes: `(V, d)`.
            near: Words that may be meant, `(N, S, K)`.
        """
        logits = torch.einsum("nsd,nskd->nsk", concepts, F.embedding(near, codes)) / self.anchoring_temperature
        probabilities = logits.softmax(-1) / concepts.shape[1]
        return F.embedding_bag(
            near.flatten(1), self.word_vectors, mode="sum", per_sample_weights=probabilities.flatten(1)
        )

    def encode_words(self, words: Tensor, entity_ids: Tensor) -> Tensor:
        """Sentence vectors `(B, E)` of token embeddings `(B, S, T)`, each in the prompt of its entity."""
        kinds = (entity_ids >= self.num_users).long()
        spoken = self.encoder.encode_descriptors(words, self.prompts, kinds)
        return spoken if self.middles is None else F.normalize(spoken - self.middles[kinds], dim=1)

    @torch.no_grad()
    def encode_descriptors(self, descriptors: Tensor, entity_ids: Tensor, batch_size: int = 256) -> Tensor:
        """Sentence vectors `(N, E)` of descriptors `(N, S)`, tile by tile."""
        tiles = zip(descriptors.split(batch_size), entity_ids.split(batch_size), strict=True)
        return torch.cat([self.encode_words(self.token_embeddings[words], ids) for words, ids in tiles])

    def sample(self, descriptors: Tensor, num_items: int = 8, num_users: int = 4) -> str:
        """Words of the first items and users as a Markdown table.

        Args:
            descriptors: Descriptors of all entities `(U + I, S)`.
            num_items: Items to show.
            num_users: Users to show.
        """
        rows = [*range(self.num_users, self.num_users + num_items), *range(min(num_users, self.num_users))]
        rows = rows[: len(descriptors)]
        lines = ["| entity | words |", "|---|---|"]
        for row, words in zip(rows, self.spell(descriptors[rows]), strict=True):
            lines.append(f"| {self.labels[row]} | {' '.join(words)} |")
        return "\n".join(lines)

    def spell(self, descriptors: Tensor) -> list[list[str]]:
        """Words of entities as a person reads them: first those that agree best with what all of them mean together.

        Args:
            descriptors: `(N, S)`, one word of each slot.
        """
        ordered = []
        for rows in descriptors.to(self.word_vectors.device).split(1024):
            meant = self.word_vectors[rows]
            agreement = torch.einsum("nse,ne->ns", meant, meant.mean(1))
            ordered += rows.gather(1, agreement.argsort(dim=1, descending=True, stable=True)).tolist()
        return [[self.codebook.words[token] for token in row] for row in ordered]

    def retrieval(self, descriptors: Tensor, num_candidates: Sequence[int] = CANDIDATES) -> dict[str, Tensor]:
        """How often words pick their own entity out of random candidates of its kind by its text.

        Args:
            descriptors: Descriptors of all entities `(U + I, S)`.
            num_candidates: Entities to choose from, the right one among them; several n.

        Returns:
            `retrieval_users@n` and `retrieval_items@n`, where there are enough entities with text.
        """
        result: dict[str, Tensor] = {}
        for kind, members in self.retrieved().items():
            if len(members) >= min(num_candidates):
                spoken = self.encode_descriptors(descriptors[members], members)
                picked = picking_accuracy(spoken, self.vectors[members], self.classes[members], num_candidates)
                result |= {f"retrieval_{kind}@{count}": share for count, share in picked.items()}
        return result

    def retrieved(self) -> dict[str, Tensor]:
        """Ids of the `users` and `items` that take part in the retrieval test.

        Those with text; evenly spaced ones where a kind has more than `retrieval_limit` of them.
        """
        ids = torch.arange(len(self.present), device=self.present.device)
        found = {}
        for kind, members in (("users", ids[: self.num_users]), ("items", ids[self.num_users :])):
            members = members[self.present[members]]
            found[kind] = members[:: max(1, -(-len(members) // self.retrieval_limit))]
        return found


def told_apart(means: Tensor) -> Tensor:
    """Unit vectors `(N, E)` of means of word vectors, centred: what all have in common tells none from another."""
    return F.normalize(means - means.mean(0), dim=1)


def gather_entities(embeddings: Embeddings, entity_ids: Tensor) -> Tensor:
    """Embeddings `(B, D)` of entities in ascending order, without joining the two tables."""
    num_users = len(embeddings.users)
    users = entity_ids[entity_ids < num_users]
    items = entity_ids[entity_ids >= num_users] - num_users
    return torch.cat([embeddings.users[users], embeddings.items[items]])
