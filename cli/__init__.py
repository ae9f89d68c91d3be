"""The command line, installed as raftlog_cli: one file per noun. The only package that imports click and rich."""
