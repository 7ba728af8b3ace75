"""Allocates while the interpreter shuts down: Last.__del__ makes 8 MiB resident."""


class Last:
    def __del__(self):
        block = bytearray(8 << 20)
        for at in range(0, len(block), 4096):
            block[at] = 1


LAST = Last()
