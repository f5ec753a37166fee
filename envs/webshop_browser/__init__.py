"""The web shop as a real site in a real browser: the engine and the reward of ``turnwise.envs.webshop`` underneath."""

from turnwise.envs.webshop_browser.env import WebShopBrowserEnv

__all__ = ["WebShopBrowserEnv"]
