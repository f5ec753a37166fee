"""A real browser for worlds made of pages: Chromium by way of Playwright, which never outlives its owner."""

from turnwise.envs.browser.browser import Browser, borrow_browser, return_browser
from turnwise.envs.browser.page import BrowserPage
from turnwise.envs.browser.tree import Element, Tree

__all__ = ["Browser", "BrowserPage", "Element", "Tree", "borrow_browser", "return_browser"]
