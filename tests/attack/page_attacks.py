"""Pages by raw protocol: every page as every role, other people's ids, and buttons pressed by who may no longer.

A page is asked for as Streamlit's own script asks, over the websocket: with any name, any query and any widget's id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attack_site import ROLES, Figures, Site, rooms
from page_socket import PageSocket
from record_site import Somebody, picture
from websockets.exceptions import WebSocketException

from core.records.people import accounts, sessions
from core.records.people.permissions import LocalTerminal
from core.records.reads import reads, studies
from core.server.guards import SESSION_COOKIE

OUR_FAULT = "that is our fault"
STRANGE = (
    "%00", "0" * 32, "../../etc/passwd", "' OR 1=1 --", "x" * 5000, "%F0%9F%92%A9", "<script>alert(1)</script>", "",
    "1&study=2",
)  # fmt: skip


class Pages:
    """Opens pages of the site as anybody."""

    def __init__(self, url: str, site: Site, figures: Figures) -> None:
        self.url, self.site, self.figures = url, site, figures

    def socket(self, token: str) -> PageSocket:
        return PageSocket(self.url, {SESSION_COOKIE: token} if token else {})

    def look(self, page: PageSocket, role: str, what: str) -> str:
        """What always holds for what a page shows; its text."""
        self.figures.asked("pages (websocket)", role)
        text = page.text
        own = self.site.people[role].name if role in self.site.people and self.site.is_living(role) else ""
        if OUR_FAULT in text:
            self.figures.wrong.append(f"{role} {what}: {text[-400:]}")
        if leaked := [word for word in self.site.leaked(text, role) if word != own]:
            self.figures.wrong.append(f"{role} {what}: shows {leaked}")
        return text


SIGN_IN = '<button type="submit">sign in</button>'


def every_page(pages: Pages, roles: Iterable[str] = tuple(ROLES)) -> None:
    """Who sees which page: its menu is that of the table, and who may not see a page is told so or is shown another."""
    site = pages.site
    for role in roles:
        with pages.socket(site.tokens[role]) as page:
            for name, action in rooms():
                page.open(name)
                pages.look(page, role, f"/{name}")
                may = not action or (site.is_living(role) and (name == "account" or site.may(role, action)))
                if (name in page.pages) != may:
                    pages.figures.wrong.append(
                        f"{role}: {name} is {'' if may else 'not '}theirs, and its menu says otherwise"
                    )
                if not may:
                    # The address stays, so that who signs in comes to it: the form is drawn there, or a sentence.
                    words = "ask an administrator" if site.is_living(role) else SIGN_IN
                    is_refused = page.shown != name or words in page.text.lower()
                    pages.figures.held(
                        "pages asked for by who may not", is_refused, f"{role} {name}: {page.text[-300:]}"
                    )


def strange_queries(pages: Pages, roles: Iterable[str] = ("nobody", "reader", "administrator", "researcher")) -> None:
    """Addresses with what no page ever puts there."""
    for role in roles:
        with pages.socket(pages.site.tokens[role]) as page:
            for name in ("read", "truth", "models", "cases", "invitation", "sign_in", "second_factor", "../app", "%00"):
                for strange in STRANGE:
                    key = {"invitation": "link", "sign_in": "said", "models": "model"}.get(name, "study")
                    page.open(name, f"{key}={strange}")
                    pages.look(page, role, f"/{name}?{key}={strange[:30]}")
                    pages.figures.held("strange addresses of pages", "<script>alert" not in page.text)


def others_ids(pages: Pages) -> None:
    """Another's study before its read is one's own: nothing of the read, nothing of the AI."""
    mine, other = pages.site.studies
    for role, study in (
        ("reader", other),
        ("other reader", mine),
        ("researcher", mine),
        ("demoted", other),
        ("nobody", mine),
    ):
        with pages.socket(pages.site.tokens[role]) as page:
            for name in ("read", "truth", "worklist"):
                page.open(name, f"study={study}")
                text = pages.look(page, role, f"/{name}?study=another's")
                pages.figures.held("reads of others, before one's own", "BI-RADS 2" not in text, text[-300:])


def pressed_too_late(pages: Pages) -> None:
    """A page that is open while its person is signed out, demoted or disabled: its buttons do nothing any more."""
    site, db = pages.site, pages.site.db
    chief, reader = site.people["administrator"], site.people["reader"]
    ends: dict[str, tuple[Callable[[Somebody], None], Callable[[Somebody], None]]] = {
        "signed out": (lambda who: accounts.sign_out_everywhere(db, site.terminal, who.id), lambda who: None),
        "demoted": (
            lambda who: accounts.set_roles(db, site.terminal, who.id, ["researcher"]),
            lambda who: accounts.set_roles(db, site.terminal, who.id, sorted(who.roles)),
        ),
        "disabled": (
            lambda who: accounts.disable_person(db, site.terminal, who.id),
            lambda who: accounts.enable_person(db, site.terminal, who.id),
        ),
    }  # fmt: skip
    for how, (end, mend) in ends.items():
        with pages.socket(sessions.start_session(db, chief)) as page:
            page.open("people")
            name, press = page.widget("text_input", "Name"), page.widget("button", "Add, and make a link")
            end(chief)
            before = _people(site)
            page.act({name: "Eve Evil"}, press=press)
            pages.look(page, "administrator" if how != "demoted" else "researcher", f"people, {how}")
            pages.figures.held("people added by who is administrator no more", _people(site) == before, how)
            mend(chief)
        study = studies.create_study(
            db, LocalTerminal(reader.id), display_name="Case Bittern", images=[picture(10 + len(how))]
        )
        with pages.socket(sessions.start_session(db, reader)) as page:
            page.open("read", f"study={study}")
            page.act({page.widget("button_group", "Right breast: BI-RADS"): ["2"]})
            press, delete = page.widget("button", "Save first impression"), page.widget("button", "Delete this study")
            end(reader)
            page.act(press=press)
            page.open("read", f"study={study}").act(press=delete)
            is_unread = not reads.reads_of(db, site.terminal, study) and _is_there(site, study)
            pages.figures.held("reads saved and studies deleted by who is reader no more", is_unread, how)
            mend(reader)
    site.tokens["administrator"], site.tokens["reader"] = site.new_token("administrator"), site.new_token("reader")


def others_buttons(pages: Pages) -> None:
    """The ids of an administrator's widgets, pressed in everybody else's tab."""
    site = pages.site
    with pages.socket(site.tokens["administrator"]) as page:
        found = {}
        for name in ("people", "site_settings", "data_sets", "training", "releases", "audit"):
            page.open(name)
            found[name] = [one.id for kind in ("button", "download_button") for one in page.of_kind(kind)]
    before = site.state()
    for role in ROLES:
        if role == "administrator":
            continue
        with pages.socket(site.tokens[role]) as page:
            for name, ids in found.items():
                for one in ids:
                    page.open(name)
                    page.act(press=one)
                    pages.look(page, role, f"a button of /{name}")
                    pages.figures.held("buttons of an administrator in another's tab", True)
    pages.figures.held("nothing changed by any of them", site.state() == before)


def nonsense(pages: Pages) -> None:
    """Messages that no browser sends: the tab may end, the server goes on."""
    for role in ("nobody", "reader"):
        for content in (b"", b"\xff" * 10, b"\x00" * 1000, b"{}", b"x" * 2_000_000):
            pages.figures.asked("websocket", role)
            try:
                with pages.socket(pages.site.tokens[role]) as page:
                    page.socket.send(content)
                    page.open("about")
            except (WebSocketException, OSError, TimeoutError):
                pass  # closed: as good as an answer
            with pages.socket(pages.site.tokens[role]) as page:
                pages.figures.held("messages that are none", "SecondRead" in page.open("about").text)


def _people(site: Site) -> list[str]:
    return [row.name for row in accounts.list_people(site.db, site.terminal)]


def _is_there(site: Site, study: str) -> bool:
    return studies.load_study(site.db, site.terminal, study).row.id == study
