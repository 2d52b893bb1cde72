# What a contributor runs before a commit; `.ci/run` calls the same.
.PHONY: lint type test format

lint:
	ruff check .
	ruff format --check .

type:
	mypy pyrovae

test:
	pytest

format:
	ruff check --fix .
	ruff format .
