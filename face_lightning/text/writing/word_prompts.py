"""Prompts about words: why an item suits a user, and what an item with certain words is like."""

from typing import Literal

from face_lightning.text.cache import content_key
from face_lightning.text.summaries import template_environment
from face_lightning.text.writing.prompts import Prompts

Task = Literal["explanation", "generation"]


class WordPrompts(Prompts):
    """Builds prompts from words of users and items, for the same writers as those of summaries.

    Templates are `text/templates/prompts/{task}.facts.j2` and `{task}.question.j2`. Requests have the fields `title`,
    `item_words`, `user_words` and `domain`; missing fields are skipped.

    Args:
        task: "explanation" asks why an item is recommended to a user, "generation" for the description of an item.
        domain: Kind of items, as in "a {domain}".
        max_words: Maximum number of words of an answer.
    """

    def __init__(self, task: Task, domain: str = "item", max_words: int = 40) -> None:
        super().__init__(domain, "text", max_words)
        environment = template_environment()
        question = environment.get_template(f"prompts/{task}.question.j2")
        facts = environment.get_template(f"prompts/{task}.facts.j2")
        self._system = "You write short texts for a recommender system, in plain words. You keep to what you are told."
        self._questions = dict.fromkeys(
            self._questions, question.render({"domain": domain, "max_words": max_words}).strip()
        )
        self._facts = dict.fromkeys(self._facts, facts)
        self.identity = content_key(["words", task, domain, str(max_words), self._system, *self._questions.values()])
