"""Settings of vocabulary, text encoder, prompts and target words."""

from pathlib import Path

from face_lightning.errors import check_range
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.sentence_encoder import SentenceEncoder
from face_lightning.text.vocabulary import VocabularySettings


class WordSettings:
    """Settings of the vocabulary, the text encoder, the prompts of descriptors, and the target words.

    Args:
        encoder: Frozen text encoder; all-MiniLM-L6-v2 if null.
        num_frequent: Number of most frequent words of the word list to consider.
        word_list: Custom word list (csv or txt); open sources if null.
        blocklist: File of words that are never used; "default" is the package's list, null blocks none.
        user_prompt: Prompt template of users, with `{words}` for the descriptors; `{domain}` is the kind of item.
        item_prompt: Prompt template of items.
        separator: Text between two descriptors in addition to white space: "," in the paper's prompts.
        num_targets: Number of target words per text, W; normally the number of descriptors.
        target_pool: Number of words nearest to a text from which its targets are chosen. With a larger pool, targets
            reflect the similarity of entities better, but more of them seem far-fetched.
        missing_ridge: Ridge of the kernel regression that predicts target words of entities without text from their
            embeddings and the texts of their neighbours in the graph; at 0 such entities have no target words.
        anchoring_temperature: Temperature of the softmax over the codebook in lexical anchoring.
        anchoring_negatives: Number of sampled words in its denominator; all words if null.
        retrieval_limit: Maximum number of users, and of items, in the retrieval test.
        codebook: Codebook written by `face vocab build` or an earlier run; if null, one is built from the arguments
            above.
        center: Whether to center sentence vectors separately for texts of users, texts of items, and descriptors. If
            null, vectors are centered when those of the texts are anisotropic (mean similarity above 0.7), as from
            models that were not trained on sentence similarity.

    Raises:
        ConfigurationError: If `num_targets` is not positive, `target_pool` less than it, or `missing_ridge` negative.
    """

    def __init__(
        self,
        encoder: TextEncoder | SentenceEncoder | None = None,  # the command line defaults to the first class
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
