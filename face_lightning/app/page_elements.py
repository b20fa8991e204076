"""Elements of the page; their texts are rendered as text, never as HTML."""

from collections.abc import Callable

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement


class Slider(ui.slider):
    """A slider whose value the server does not echo, so that no older value arrives while the user moves it."""

    LOOPBACK = False


def heading(level: str, text: str) -> None:
    """A heading, `h1` to `h6`."""
    with ui.element(level):
        ui.label(text).style("display: inline")


def pane(name: str) -> ui.element:
    """A framed section, with a name for screen readers."""
    return ui.element("section").classes("pane").props(f'aria-label="{name}"')


class LinkButton(TextElement):
    """A plain HTML button that looks like a link; a list of Quasar's buttons is many times slower to render.

    Args:
        text: Text of the button.
        action: Called on a click.
    """

    def __init__(self, text: str, action: Callable[[], object]) -> None:
        super().__init__(tag="button", text=text)
        self.props("type=button").classes("link").on("click", lambda: action(), [])


def button(text: str, action: Callable[[], object], icon: str) -> ui.button:
    """A button without a frame."""
    return ui.button(text, on_click=action, icon=icon, color=None).props("flat no-caps dense").classes("plain")


def chip(
    text: str, on_remove: Callable[[], object] | None = None, on_click: Callable[[], object] | None = None
) -> ui.chip:
    """A chip with a word or a name, which can be removed or clicked if there is an action for it."""
    element = ui.chip(text, color=None, removable=on_remove is not None, on_click=on_click)
    if on_remove is not None:
        element.on("remove", lambda: on_remove())
    return element
