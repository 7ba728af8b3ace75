"""Imported by early.py."""


def load(n):
    if n:
        load(n - 1)


load(1)
