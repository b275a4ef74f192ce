"""Write a model as another kind of folder: python -m files.convert MODEL FOLDER --to huggingface

The other kind is openai. What is done is in command_line/convert.py.
"""

if __name__ == "__main__":
    from command_line import start

    raise SystemExit(start("convert"))
