"""Settings of words: vocabulary, text encoder, prompts, targets."""

from pathlib import Path

from face_lightning.errors import check_range
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.sentence_encoder import SentenceEncoder
from face_lightning.text.vocabulary import VocabularySettings


class WordSettings:
    """What words are chosen from, how they are read, and what they should say.

    Args:
        encoder: Frozen text encoder; all-MiniLM-L6-v2 if not given.
        num_frequent: How many of the most frequent words of the word list are considered.
        word_list: Own list of words to choose from (csv or txt); open sources if null.
        blocklist: File of words that are never descriptors; "default" is the package's, null blocks none.
        user_prompt: Sentence around a user's descriptors, with `{words}`; `{domain}` is the kind of item.
        item_prompt: Sentence around an item's descriptors.
        separator: What stands between two descriptors besides white space: "," in the paper's prompts.
        num_targets: Words that together say what a text says and serve as its targets, W; as many as descriptors.
        target_pool: Words nearest to the text among which targets are chosen: a larger pool says better which
            entities are alike, and holds more words that seem far-fetched.
        missing_ridge: Ridge of the kernel regression that predicts target words of entities without a text from their
            embeddings and the texts around them; at 0 such entities have no target words.
        anchoring_temperature: Temperature of the softmax over the codebook in lexical anchoring.
        anchoring_negatives: Words that estimate its denominator; all if null.
        retrieval_limit: Maximum number of users, and of items, in the retrieval test.
        codebook: Codebook that `face vocab build` or an earlier run wrote; one is built from the arguments above if
            null.
        center: Whether sentence vectors are centered by kind (texts of users, of items, sentences of words); null
            centers where vectors of texts are anisotropic, their mean similarity being above 0.7, as those of a model
            that was never trained to distinguish sentences.

    Raises:
        ConfigurationError: If `num_targets` is not positive, `target_pool` less than it, or `missing_ridge` negative.
    """

    def __init__(
        self,
        encoder: TextEncoder | SentenceEncoder | None = None,  # options without a class are those of TextEncoder
        num_frequent: int = 20_000,
        word_list: Path | None = None,
        blocklist: str | None = "default",
        user_prompt: str = "A user who likes: {words}",
        item_prompt: str = "A {domain}: {words}",
        separator: str = "",
        num_targets: int = 16,
        target_pool: int = 32,
        missing_ridge: float = 1.0,
        anchoring_temperature: float = 0.07,
        anchoring_negatives: int | None = 2048,
        retrieval_limit: int = 4096,
        codebook: Path | None = None,
        center: bool | None = None,
    ) -> None:
        check_range("num_targets", num_targets, least=1, usual="16")
        check_range("target_pool", target_pool, least=num_targets, usual="32")
        check_range("missing_ridge", missing_ridge, least=0, usual="1")
        self.encoder: SentenceEncoder = encoder or TextEncoder()
        self.vocabulary = VocabularySettings(self.encoder, num_frequent, word_list, blocklist, codebook)
        self.prompts = user_prompt, item_prompt
        self.separator = separator
        self.num_targets = num_targets
        self.target_pool = target_pool
        self.missing_ridge = missing_ridge
        self.anchoring_temperature = anchoring_temperature
        self.anchoring_negatives = anchoring_negatives
        self.retrieval_limit = retrieval_limit
        self.center = center
