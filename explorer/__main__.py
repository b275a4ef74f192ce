"""A prompt on its way through the code, in a browser: python -m explorer

What is done is in command_line/explore.py and in the modules beside this one.
"""

if __name__ == "__main__":
    from command_line import start

    raise SystemExit(start("explore"))
