"""Comparing two recognizers on a document against ground truth or the answers of a vision-language
model.
"""
