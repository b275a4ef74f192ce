"""The explorer: a page on which the source of the forward pass is the interface.

    python -m explorer                                  serves the page on this machine
    python -m explorer "prompt" --out page.html         writes it as one file

source.py     gpt2_numpy.py as it stands, and which of its names can be opened
steps.py      a forward pass, line by line: every value that every variable had
run.py        a prompt's way through the code, as the page asks for it
axes.py       what the axes of its arrays are called, from the comments at the ends of the lines
why.py        how a number came about: its line of source, with numbers for names
views.py      the residual stream, layer norm, the logit lens, surprise
what_if.py    the model with something changed, from outside
gradients.py  a position's loss on its way back along the residual stream
answers.py    all that the page may ask
server.py     HTTP, and nothing else
page.py       the page as one file that answers itself
static/       the page: HTML, style sheet, JavaScript

The command line is in command_line/explore.py.
"""
