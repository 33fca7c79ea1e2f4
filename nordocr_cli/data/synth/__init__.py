"""Renders lines of Nordic business documents for training: texts, fonts, drawing, damage.
torch-free.
"""
