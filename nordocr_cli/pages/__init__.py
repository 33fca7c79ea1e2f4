"""Pages: finding the lines of text on a page, their reading order and turn, and cutting them out
along their outline.

torch-free: NumPy, OpenCV and, for the text detector alone, ONNX Runtime.
"""
