"""What pytest leaves alone here: conf.py is Sphinx's, which only the extra docs installs."""

collect_ignore = ["conf.py"]
