"""The cases of torture_python.py."""
