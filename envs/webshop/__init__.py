"""The web shop: WebShop's rules in an engine of our own, over generated or real products."""

from turnwise.envs.webshop.env import WebShopEnv, WebShopState
from turnwise.envs.webshop.reward import PurchaseReward, purchase_reward

__all__ = ["PurchaseReward", "WebShopEnv", "WebShopState", "purchase_reward"]
