# What a contributor runs before a commit; `.ci/run` calls the same.
.PHONY: lint type test format docs

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

# The site, in docs/_build/html: a warning, a broken link or a page that raises fails it.
docs:
	sphinx-build -W --keep-going -j auto -d docs/_build/doctrees docs docs/_build/html
	python docs/check_site.py docs/_build/html
