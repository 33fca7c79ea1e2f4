# Every target is one line of scripts/dev.py, which Windows can call without make.
PYTHON ?= python3

.PHONY: venv demo test check docs site campaign
venv demo test check docs site campaign:
	@$(PYTHON) scripts/dev.py $@
