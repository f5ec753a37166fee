"""Sessions of the site: whose page an address shows. No HTTP is spoken here.

Every page that a customer has been shown has a number, and the address of a page ends in it. So the browser's own
"back" shows a page as it was, and puts the customer there.
"""

from __future__ import annotations

import secrets

from turnwise.envs.webshop.shop import Page
from turnwise.envs.webshop.visit import Visit

_TOKEN_BYTES = 16


class Session:
    """A visit to the shop by way of the site.

    Attributes:
        visit: The visit.
        moves: What the site was asked for since :meth:`take_moves`, as commands of the text world.
        failure: What went wrong in the site's own code, or None: the customer's page then says nothing of use.
    """

    def __init__(self, visit: Visit) -> None:
        """Show the first page of ``visit``."""
        self.visit = visit
        self.moves: list[str] = []
        self.failure: Exception | None = None
        self._pages = [visit.page]

    @property
    def last(self) -> int:
        """Number of the newest page."""
        return len(self._pages) - 1

    def take_moves(self) -> list[str]:
        """Return the moves since this was last called."""
        moves, self.moves = self.moves, []
        return moves

    def show(self, number: int) -> Page | None:
        """Put the customer on a page that was shown before; returns None where there is none of this number.

        After the purchase there is only the last page.
        """
        if not 0 <= number < len(self._pages):
            return None
        if self.visit.bought is not None:
            return self.visit.page
        self.visit.customer = self.visit.customer._replace(page=self._pages[number])
        return self._pages[number]

    def search(self, number: int, keywords: str) -> int | None:
        """Search from a page; returns the number of the page that follows."""
        if self.show(number) is None:
            return None
        if self.visit.bought is None:
            self.moves.append(f"search[{keywords}]")
            self.visit.search(keywords)
            self._pages.append(self.visit.page)
        return self.last

    def click(self, number: int, label: str) -> int | None:
        """Click something on a page; returns the number of the page that follows: the same for an option."""
        page = self.show(number)
        if page is None:
            return None
        if self.visit.bought is not None:
            return self.last
        if not self.visit.click(label):
            return None
        self.moves.append(f"click[{label}]")
        if self.visit.page.kind == page.kind == "item" and self.visit.page.row == page.row:
            self._pages[number] = self.visit.page
            return number
        self._pages.append(self.visit.page)
        return self.last


class Sessions:
    """The sessions of a server, each under a token that nobody can guess."""

    def __init__(self) -> None:
        """Hold none."""
        self._sessions: dict[str, Session] = {}

    def open(self, visit: Visit) -> tuple[str, Session]:
        """Begin a session; returns its token and it."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._sessions[token] = session = Session(visit)
        return token, session

    def get(self, token: str) -> Session | None:
        """Return a session, or None."""
        return self._sessions.get(token)

    def close(self, token: str) -> None:
        """Forget a session; fine if there is none."""
        self._sessions.pop(token, None)

    def __len__(self) -> int:
        """Number of open sessions."""
        return len(self._sessions)
