#!/usr/bin/env python
import os
import sys

from fraudsite.command_line import main

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
    main(sys.argv)
