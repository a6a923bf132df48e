.PHONY: lint bench

lint:
	ruff check
	ruff format --check
	mypy
	lint-imports --no-logo

bench:
	python benchmarks/start.py
	python benchmarks/session.py
	python benchmarks/decode.py
