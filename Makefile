.PHONY: lint bench campaign

lint:
	ruff check
	ruff format --check
	mypy
	lint-imports --no-logo

bench:
	python benchmarks/start.py
	python benchmarks/session.py
	python benchmarks/decode.py
	python benchmarks/over_http.py

campaign:
	THINKSCALE_TEST_DRAWS=20000 python -m pytest tests/engines/http/test_faults.py -k campaign
