"""Panel beside the scene: choices, legend, answer, and why a point has its label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pcdistill.viewer import markup
from pcdistill.viewer.frame_crops import crop_sheet
from pcdistill.viewer.scene_content import ANSWER, SCAN
from pcdistill.viewer.view_state import LAYOUTS, MAX_PANES
from pcdistill.viewer.viewer_session import Explanation, ViewerSession

Callback = Callable[[Any], None]
_HIDDEN = (222, 224, 228)
"""Colour of the button of a class that is not drawn."""
_MAX_CLASSES = 60
"""Buttons of classes; rarer ones cannot be hidden one by one."""
_BUDGET = (50_000, 2_000_000)
"""Fewest and most points that can be asked for."""


class Actions(Protocol):
    """What the panel makes happen."""

    def show_scene(self) -> None:
        """Draw another scene."""

    def show_layout(self) -> None:
        """Draw other copies of the scene."""

    def draw(self) -> None:
        """Bring the scene up to date."""

    def ask(self, text: str) -> None:
        """Answer a question."""

    def guarded(self, work: Callback) -> Callback:
        """A callback whose errors are told in the panel."""

    def clear_marks(self) -> None:
        """Take marks of clicked points away."""

    def take_picture(self, event: Any) -> None:
        """Send a picture."""

    def share_page(self, event: Any) -> None:
        """Send a page."""

    def share_glb(self, event: Any) -> None:
        """Send a mesh or cloud."""


class Panel:
    """Builds the panel, and keeps it like the session.

    Args:
        gui: viser's panel.
        session: what is chosen.
        actions: what the panel makes happen.
    """

    def __init__(self, gui: Any, session: ViewerSession, actions: Actions) -> None:
        self._gui = gui
        self._session = session
        self._actions = actions
        self._classes: list[Any] = []
        self._legend_of: object = None
        self._why: list[Any] = []
        self._beside: dict[str, Any] = {}
        self.status = gui.add_html("")
        if len(session.scenes) > 1:
            chooser = gui.add_dropdown("Scene", session.scenes, initial_value=session.content.name)
            chooser.on_update(self._then(lambda e: self._choose_scene(chooser.value)))
        self._find = gui.add_text("Find", "", hint="In plain words, such as: a place to sleep")
        self._find.on_update(lambda event: actions.ask(self._find.value))
        self.answer = gui.add_html("")
        with gui.add_folder("Show"):
            self._build_views()
        with gui.add_folder("Why") as self._why_folder:
            self._hint = gui.add_html(markup.note("Click a point to see why it has its class."))
        with gui.add_folder("Legend") as self._legend_folder:
            self._legend = gui.add_html("")
        with gui.add_folder("Measure", expand_by_default=False):
            self._measuring = gui.add_checkbox("Clicks measure", False)
            self._distance = gui.add_html(markup.note("Click two points."))
            self._measuring.on_update(self._then(lambda e: self._begin_measuring()))
        with gui.add_folder("Drawing", expand_by_default=False):
            self._build_drawing()
        with gui.add_folder("Share", expand_by_default=False):
            for label, action in (
                ("Picture (.png)", actions.take_picture),
                ("Page (.html)", actions.share_page),
                ("Model (.glb)", actions.share_glb),
            ):
                gui.add_button(label).on_click(self._then(action))

    @property
    def is_measuring(self) -> bool:
        """Whether clicks are ends of a distance."""
        return bool(self._measuring.value)

    def rebuild(self) -> None:
        """Offer what another scene has."""
        self._offer_views()
        self.explain(None)

    def update(self) -> None:
        """Show what the session says now: views, answer and legend."""
        self._offer_views()
        session = self._session
        if session.answer is None:
            self.answer.content = ""
        else:
            ignored = session.ignored_words()
            self.answer.content = markup.answer_box(
                session.text, session.answered_by, session.response, ignored
            )
        self._update_legend()
        self.status.content = ""

    def count(self, drawn: int, total: int) -> None:
        """Tell how many points are drawn."""
        self.drawn.content = markup.note(f"{drawn:,} of {total:,} points are drawn")

    def tell_distance(self, metres: float | None) -> None:
        """Show a distance; None while an end is missing."""
        text = "Click the other end." if metres is None else f"{metres:.2f} m"
        self._distance.content = markup.note(text)

    def explain(self, found: Explanation | None) -> None:
        """Show why a point has its label; None empties the folder."""
        for one in self._why:
            one.remove()
        self._why = []
        self._hint.visible = found is None
        if found is None:
            return
        box = markup.explanation_box(found.teachers, found.said, found.source_position)
        with self._why_folder:
            self._why.append(self._gui.add_html(box))
            names = [f"{crop.frame} ({crop.distance:.1f} m)" for crop in found.crops]
            text = f"frames: {', '.join(names)}" if names else "no frame sees the point"
            self._why.append(self._gui.add_html(markup.note(text)))
            if found.crops:
                self._why.append(self._gui.add_image(crop_sheet(found.crops).numpy()))

    def _build_views(self) -> None:
        gui, session = self._gui, self._session
        views = session.views
        self._layout = gui.add_dropdown("Layout", LAYOUTS, initial_value=session.state.layout)
        self._view = gui.add_dropdown("View", views, initial_value=session.state.view)
        self._other = gui.add_dropdown("Other side", views, initial_value=session.state.other)
        self._wipe = gui.add_slider("Wipe", 0.0, 1.0, 0.01, session.state.wipe)
        self._layout.on_update(self._then(lambda e: self._choose_layout()))
        for control, name in ((self._view, "view"), (self._other, "other"), (self._wipe, "wipe")):
            control.on_update(self._then(self._setter(control, name)))
        self._beside_folder = gui.add_folder("Side by side")
        self._offer_views()

    def _build_drawing(self) -> None:
        gui, state = self._gui, self._session.state
        ceiling = gui.add_checkbox("Hide the ceiling", state.hide_ceiling)
        walls = gui.add_checkbox("Hide walls seen from behind", state.hide_walls)
        budget = gui.add_slider("Points at most", *_BUDGET, 50_000, state.budget)
        size = gui.add_slider("Size of points", 0.3, 3.0, 0.1, state.size)
        self.drawn = gui.add_html("")
        for control, name in (
            (ceiling, "hide_ceiling"),
            (walls, "hide_walls"),
            (budget, "budget"),
            (size, "size"),
        ):
            control.on_update(self._then(self._setter(control, name)))

    def _offer_views(self) -> None:
        """Let the choices be those that there are, at what is chosen."""
        session, state = self._session, self._session.state
        for control, value in ((self._view, state.view), (self._other, state.other)):
            if tuple(control.options) != session.views:
                control.options = session.views
            if control.value != value:
                control.value = value
        beside = state.layout == "side by side"
        self._view.visible, self._beside_folder.visible = not beside, beside
        self._other.visible = self._wipe.visible = state.layout == "wipe"
        if tuple(self._beside) != session.views:
            for one in self._beside.values():
                one.remove()
            with self._beside_folder:
                self._beside = {view: self._offer_beside(view) for view in session.views}
        for view, box in self._beside.items():
            if box.value != (view in state.beside):
                box.value = view in state.beside

    def _offer_beside(self, view: str) -> Any:
        box = self._gui.add_checkbox(view, view in self._session.state.beside)
        box.on_update(self._then(lambda e: self._choose_beside()))
        return box

    def _choose_scene(self, name: str) -> None:
        self._session.choose_scene(name)
        self._actions.show_scene()

    def _choose_layout(self) -> None:
        session, layout = self._session, self._layout.value
        beside = session.state.beside or _first_beside(session)
        session.change(layout=layout, beside=beside)
        self._actions.show_layout()

    def _choose_beside(self) -> None:
        chosen = tuple(view for view, box in self._beside.items() if box.value)
        self._change(self._actions.show_layout, beside=chosen)

    def _begin_measuring(self) -> None:
        self._session.measured = []
        self._distance.content = markup.note("Click two points.")
        self._actions.clear_marks()

    def _change(self, then: Callable[[], None], **choices: Any) -> None:
        self._session.change(**choices)
        then()

    def _setter(self, control: Any, name: str) -> Callback:
        """Sets a choice of the state to the value of a control."""
        return lambda event: self._change(self._actions.draw, **{name: control.value})

    def _update_legend(self) -> None:
        """A button for every class that occurs; it hides its points, or shows them again."""
        session, coloring = self._session, self._session.labelled
        heat = session.answer.scores if session.answer and ANSWER in session.state.views else None
        self._legend.content = markup.heat_bar(*heat) if heat else ""
        self._legend_folder.visible = heat is not None or coloring is not None
        shown_of = (session.content.name, None if coloring is None else id(coloring.labels))
        if shown_of != self._legend_of:
            self._legend_of = shown_of
            for button, _ in self._classes:
                button.remove()
            shares = [] if coloring is None else session.class_shares(coloring)
            with self._legend_folder:
                self._classes = [self._add_class(*one) for one in shares[:_MAX_CLASSES]]
        palette = session.run.artifacts.words.label_set.palette.tolist()
        for button, index in self._classes:
            color = _HIDDEN if index in session.state.hidden else tuple(palette[index])
            if button.color != color:
                button.color = color

    def _add_class(self, index: int, share: float) -> tuple[Any, int]:
        session = self._session
        color = tuple(session.run.artifacts.words.label_set.palette[index].tolist())
        name = session.run.class_names[index]
        button = self._gui.add_button(f"{name}, {100 * share:.1f} %", color=color)

        def toggle(event: Any) -> None:
            hidden = session.state.hidden ^ {index}
            self._change(self._actions.draw, hidden=hidden)

        button.on_click(self._then(toggle))
        return button, index

    def _then(self, work: Callback) -> Callback:
        """A guarded callback for what a browser does, not for what the panel itself sets."""
        guarded = self._actions.guarded(work)
        return lambda event: None if event.client is None else guarded(event)


def _first_beside(session: ViewerSession) -> tuple[str, ...]:
    """What stands side by side until something else is chosen: scan, truth, teachers, best."""
    content = session.content
    usual = (SCAN, "truth", *(v for v in content.views if v.startswith("teacher:")))
    best = (content.best_method,) if content.best_method else ()
    chosen = [view for view in (*usual, "fused", *best) if view in content.views]
    return tuple(dict.fromkeys(chosen))[:MAX_PANES]
