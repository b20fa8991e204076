"""The page: search, a subject with its words, its recommendations, and a map."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from nicegui import run, ui
from nicegui.events import ValueChangeEventArguments
from starlette.middleware.trustedhost import TrustedHostMiddleware

from face_lightning.app.explorer import Entity, Explorer, Kind
from face_lightning.app.map_chart import map_options
from face_lightning.app.page_elements import LinkButton, Slider, button, chip, heading, pane
from face_lightning.app.visit import MOST_WEIGHT, Row, Visit
from face_lightning.errors import FaceError

_STYLE = (Path(__file__).parent / "page.css").read_text("utf-8")
_NAMES: dict[Kind, str] = {"item": "Items", "user": "Users"}
_SHOWN_WORDS = 6
MINUS = "\N{MINUS SIGN}"
_MAP_HELP = (
    "The most popular {:,} items and some of the most used words. Items near each other are liked by the same users. "
    "Choose a point to open it."
)


def build_server(explorer: Explorer, hosts: list[str]) -> FastAPI:
    """Build the ASGI application of the page.

    Args:
        explorer: The run to explore.
        hosts: Host names that requests may address, `*` for any. Others are rejected to prevent DNS rebinding, where a
            foreign page reads this one through a host name of its own that resolves to this machine.
    """
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    server.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)

    @ui.page("/", title=f"{explorer.title}: face_lightning")
    def index(item: str = "", user: str = "") -> None:
        page = Page(explorer)
        page.build()
        if item or user:
            page.open("item" if item else "user", [item or user])

    ui.run_with(server, dark=None, tailwind=False, language="en-US", show_welcome_message=False)
    return server


class Page:
    """The page of one visitor.

    Args:
        explorer: The run to explore.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.visit = explorer, Visit(explorer)
        self.kind: Kind = "item"

    def build(self) -> None:
        """Lay out the page."""
        ui.add_css(_STYLE)
        self.dark = ui.dark_mode(value=None)
        with ui.element("header").classes("top"):
            with ui.element("div").classes("bar"):
                heading("h1", self.explorer.title)
                with ui.tabs().props("dense no-caps inline-label") as tabs:
                    explore, mapped = ui.tab("Explore"), ui.tab("Map")
                button("New visitor", lambda: self.open("new", []), "person_add")
                ui.button(icon="contrast", on_click=self._toggle_dark).props('flat round aria-label="Light or dark"')
            with ui.element("div").classes("bar"):
                self.search = ui.input(on_change=self._show_results).classes("search")
                self.search.props('outlined dense clearable aria-label="Search" label="Search by name or id"')
                self.search.on("keydown.enter", self._open_first)
                ui.toggle(_NAMES, value="item", on_change=self._switch).props("dense no-caps unelevated")
            self.results = ui.element("div").classes("results").props('role="list"')
        with ui.tab_panels(tabs, value=explore).props("animated=false").style("background: transparent"):
            with ui.tab_panel(explore).style("padding: 0"), ui.element("div").classes("panes"):
                with pane("Subject"):
                    self._build_subject()
                self.list = pane("Recommendations").classes("list").props('aria-live="polite"')
                self.alike = pane("Most similar").classes("alike")
            with ui.tab_panel(mapped).style("padding: 0"):
                self.map = ui.element("div").classes("mapping")
        tabs.on_value_change(lambda event: self._draw_map() if event.value == "Map" else None)
        self.tabs = tabs
        self.open("new", [])

    def _build_subject(self) -> None:
        """Lay out the subject; its changing parts are filled in later, so that input fields keep the focus."""
        self.head, self.words = ui.element("div"), ui.element("div")
        with ui.element("div") as self.editing:
            heading("h3", "Your changes")
            self.changes = ui.element("div").classes("chips").props('data-testid="changes"')
            self.word = ui.input(on_change=self._suggest)
            self.word.props('outlined dense label="Add a word" aria-label="Add a word"')
            self.word.on("keydown.enter", self._add)
            self.suggestions = ui.element("div").classes("chips")
            with ui.element("div").classes("strength") as self.strength:
                ui.label("Strength").classes("soft")
                slider = Slider(min=0, max=1, step=0.05, value=self.visit.strength)
                slider.props('aria-label="Strength of changed words"')
                slider.on_value_change(lambda event: self._strengthen(event.value))
                ui.label().bind_text_from(slider, "value", lambda value: f"{value:.0%}").classes("soft")
        self.editing.visible = self.explorer.can_steer

    def open(self, kind: Kind | str, ids: list[str]) -> None:
        """Show another user or item, or a new user with some items."""
        if self._try(lambda: self.visit.open(kind, ids)):  # type: ignore[arg-type]
            self.search.value = ""
            self.tabs.value = "Explore"
            self._show()

    def _show(self) -> None:
        self._show_subject()
        self._show_list()
        self._show_neighbours()

    def _show_subject(self) -> None:
        visit = self.visit
        self.head.clear()
        with self.head:
            if visit.kind == "new":
                heading("h2", "New visitor")
                ui.label("Pick items by the search above, or type words.").classes("soft")
                with ui.element("div").classes("chips"):
                    for item in self.explorer.entities("item", visit.ids):
                        chip(item.label, on_remove=partial(self._drop, item))
            else:
                (entity,) = self.explorer.entities(visit.kind, visit.ids)
                heading("h2", entity.label)
                ui.label(f"{visit.kind} {entity.id}" if entity.label != entity.id else visit.kind).classes("soft")
                ui.label(self.explorer.text(visit.kind, entity.id)).classes("soft")
        self._show_words()
        self._show_changes()

    def _show_words(self) -> None:
        """Show the unchanged words of the subject, each of which can be removed, or clicked for more of it."""
        self.words.clear()
        left = [word for word in self.visit.own_words if word not in self.visit.weights]
        if left:
            with self.words:
                heading("h3", "Words")
                with ui.element("div").classes("chips"):
                    for word in left:
                        less, more = partial(self._change, word, -1), partial(self._change, word, 1)
                        chip(word, *((less, more) if self.explorer.can_steer else ()))

    def _show_changes(self) -> None:
        """Show the changed words, each of which can be reset, or clicked for a larger weight."""
        weights = self.visit.weights
        self.strength.visible = bool(weights)
        self.changes.clear()
        with self.changes:
            for word, weight in weights.items():
                sign = 1 if weight > 0 else -1
                times = f" \N{MULTIPLICATION SIGN}{abs(weight)}" if abs(weight) > 1 else ""
                heavier = weight + sign if abs(weight) < MOST_WEIGHT else sign
                reset, increase = partial(self._change, word, 0), partial(self._change, word, heavier)
                element = chip(f"{'+' if sign > 0 else MINUS} {word}{times}", on_remove=reset, on_click=increase)
                element.classes("more" if sign > 0 else "less")
            if not weights:
                ui.label("None yet: remove a word, choose one for more of it, or add one.").classes("soft")

    def _show_neighbours(self) -> None:
        neighbours = self.visit.neighbours()
        self.alike.clear()
        self.alike.visible = bool(neighbours)
        with self.alike:
            heading("h3", "Most similar")
            for other in neighbours:
                with ui.element("div"):
                    LinkButton(other.label, partial(self.open, other.kind, [other.id]))
                    ui.label(" ".join(other.words[:_SHOWN_WORDS])).classes("soft").style("padding: 0 .3rem")

    def _show_list(self) -> None:
        rows = self.visit.recommend()
        titles = {"user": "Recommendations", "item": "For users who like only this", "new": "Recommendations"}
        self.list.clear()
        with self.list:
            heading("h2", titles[self.visit.kind])
            if not rows:
                ui.label("Pick an item or add a word to get recommendations.").classes("soft")
            for row in rows:
                self._show_row(row)

    def _show_row(self, row: Row) -> None:
        with ui.element("div").classes("row-of-list").props('data-testid="recommended"'):
            ui.label(str(row.rank)).classes("rank")
            if self.visit.weights and self.visit.ids:
                text, style = _movement(row)
                ui.label(text).classes(f"move {style}")
            else:
                ui.label("")
            LinkButton(row.item.label, partial(self.open, "item", [row.item.id]))
            if row.item.words:
                with ui.element("div").classes("whys"):
                    for word in row.shared:
                        ui.label(word).classes("shared")
                    others = [word for word in row.item.words if word not in row.shared]
                    ui.label(" ".join(others[: max(0, _SHOWN_WORDS - len(row.shared))]))

    async def _draw_map(self) -> None:
        self.map.clear()
        with self.map:
            ui.spinner(size="lg").props('aria-label="Drawing the map"')
        try:
            await run.io_bound(self.explorer.warm_up_map)
        except FaceError as error:
            self.map.clear()
            ui.notify(str(error), type="negative")
            return
        found = self.explorer.map
        labels = self.explorer.labels_of(found.rows)
        self.map.clear()
        with self.map:
            ui.label(_MAP_HELP.format(len(labels))).classes("soft")
            chart = ui.echart(map_options(found, labels))
            chart.classes("chart").props('role="img" aria-label="Map of items and words"')
            chart.on_point_click(lambda event: self._open_point(event.series_index, event.data_index))

    def _open_point(self, series: int, place: int) -> None:
        if series == 0:
            self.open("item", [self.explorer.ids_of(self.explorer.map.rows[place : place + 1])[0]])

    def _show_results(self) -> None:
        found = self.explorer.search(self.kind, self.search.value or "")
        self.results.clear()
        with self.results:
            for entity in found:
                label = entity.label if entity.label == entity.id else f"{entity.label} ({entity.id})"
                LinkButton(label, partial(self._choose, entity)).props('role="listitem" data-testid="result"')
            if not found and (self.search.value or "").strip():
                ui.label("Nothing found.").classes("soft")

    def _open_first(self) -> None:
        found = self.explorer.search(self.kind, self.search.value or "", 1)
        if found:
            self._choose(found[0])

    def _choose(self, entity: Entity) -> None:
        """Open a search result; for a new visitor, add an item to the history instead."""
        if self.visit.kind == "new" and entity.kind == "item":
            weights = self.visit.weights
            self.open("new", list(dict.fromkeys([*self.visit.ids, entity.id])))
            self.visit.weights = weights
            self._show()
            return
        self.open(entity.kind, [entity.id])

    def _drop(self, item: Entity) -> None:
        weights = self.visit.weights
        self.visit.open("new", [one for one in self.visit.ids if one != item.id])
        self.visit.weights = weights
        self._show()

    def _switch(self, event: ValueChangeEventArguments[Kind]) -> None:
        self.kind = event.value
        self._show_results()

    def _suggest(self) -> None:
        self.suggestions.clear()
        with self.suggestions:
            for word in self.explorer.suggest(self.word.value or ""):
                chip(word, on_click=partial(self._add_word, word)).props('data-testid="suggestion"')

    def _change(self, word: str, weight: int) -> None:
        if word.strip() and self._try(lambda: self.visit.change(word, weight)):
            self._show_list()
            self._show_words()
            self._show_changes()

    def _add(self) -> None:
        self._add_word(self.word.value or "")

    def _add_word(self, word: str) -> None:
        self._change(word, 1)
        if word.strip().lower() in self.visit.weights:
            self.word.value = ""

    def _strengthen(self, strength: float) -> None:
        self.visit.strength = strength
        if self.visit.weights:
            self._show_list()

    def _toggle_dark(self) -> None:
        self.dark.value = {None: True, True: False, False: None}[self.dark.value]

    def _try(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except FaceError as error:
            ui.notify(str(error), type="negative")
            return False
        return True


def _movement(row: Row) -> tuple[str, str]:
    """Change of an item's rank as text, and its style."""
    if row.before is None:
        return "new", "new"
    moved = row.before - row.rank
    return (f"▲ {moved}", "up") if moved > 0 else (f"▼ {-moved}", "down") if moved < 0 else ("=", "")
