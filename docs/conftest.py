"""What pytest leaves alone here: conf.py is Sphinx's, which only the extra docs installs, and what Sphinx writes."""

collect_ignore = ["conf.py", "_build", "gallery"]
