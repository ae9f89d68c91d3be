"""`python -m raftlog`: the command `raftlog`, for where its script is not on the PATH."""

from raftlog_cli.main import main

if __name__ == "__main__":
    main()
