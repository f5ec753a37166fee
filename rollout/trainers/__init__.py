"""Adapters to trainers: one episode, handed to each in the form it takes. None is imported before it is used."""
