"""Conversion to llama.cpp's files, and the requirements of converting and serving."""

#: Packages that serving requires.
SERVING = ("llama-cpp-python>=0.3.20",)
#: Packages that converting requires.
CONVERTING = (*SERVING, "gguf>=0.17")
