"""Runs the class in my_class_plugin.py as a plugin; its `execute` answers `my-plugin.execute`."""

from bkg_sdk.wrap import run

if __name__ == "__main__":
    run("my_class_plugin.py", "my-plugin.execute")
