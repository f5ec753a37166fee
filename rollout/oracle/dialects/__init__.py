"""The trainers' own ways to ask for a reward, each a thin adapter to the oracle."""
