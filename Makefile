# Every target is one line of scripts/dev.py, which Windows can call without make.
PYTHON ?= python3

.PHONY: venv demo test check docs site
venv demo test check docs site:
	@$(PYTHON) scripts/dev.py $@
