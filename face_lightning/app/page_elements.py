"""Elements of the page; their texts are shown as text, never as HTML."""

from collections.abc import Callable

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement


class Slider(ui.slider):
    """A slider that keeps the value of a hand that moves it: the server does not send back an older one."""

    LOOPBACK = False


def heading(level: str, text: str) -> None:
    """A heading, `h1` to `h6`."""
    with ui.element(level):
        ui.label(text).style("display: inline")


def pane(name: str) -> ui.element:
    """A section with a frame, and a name for screen readers."""
    return ui.element("section").classes("pane").props(f'aria-label="{name}"')


class LinkButton(TextElement):
    """A button of HTML that looks like a link: a list of Quasar's takes the browser many times as long.

    Args:
        text: Its text.
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
    """A word or a name in a frame, that can be removed and clicked where there is an action for it."""
    shown = ui.chip(text, color=None, removable=on_remove is not None, on_click=on_click)
    if on_remove is not None:
        shown.on("remove", lambda: on_remove())
    return shown
