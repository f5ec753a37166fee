"""Rewards for shopping: milestones, the parts of the purchase, actions beside reference actions, and gates."""
