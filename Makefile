.PHONY: lint bench campaign soak

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
	python benchmarks/gateway.py

campaign:
	THINKSCALE_TEST_DRAWS=20000 python -m pytest tests/engines/http/test_faults.py -k campaign
	THINKSCALE_TEST_REQUESTS=10000 python -m pytest -s tests/serve/test_campaign.py

soak:
	THINKSCALE_TEST_SECONDS=1800 python -m pytest -s --show-capture=no tests/serve/test_campaign.py
