"""Keep pytest to the pages that people write."""

collect_ignore = ["conf.py", "_afresh.py", "_build", "auto_examples", "api/generated"]
