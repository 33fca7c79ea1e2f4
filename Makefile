# Every target is one line of scripts/dev.py, which Windows can call without make.
PYTHON ?= python3

.PHONY: venv demo test check docs
venv demo test check docs:
	@$(PYTHON) scripts/dev.py $@
