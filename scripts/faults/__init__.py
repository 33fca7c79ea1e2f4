"""Fault injections of scripts/campaign.py: what is damaged, and what must come of it.

trials.py      running trials in child processes, counting what came of them
artifacts.py   damaged checkpoints, contracts, ONNX models, engines, sidecars and stores
inputs.py      damaged images, PDFs, layouts and JSON; hostile labels; answers of a VLM
commands.py    the command line: hostile files and options, kills, full disks, two at once
"""
