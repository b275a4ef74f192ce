"""What follows a prompt, as it grows token by token, and where it ends."""

import codecs

LENGTH, STOP, END_OF_TEXT = "length", "stop", "end of text"


class Continuation:
    """A continuation that grows.

    ids            its tokens so far, without <|endoftext|>
    log_probs      the log-probability of each, where they are wanted
    text           what is certain of its text: a stop text, what follows it, and what may still
                   become one are no part of it
    finish_reason  None while it grows, then LENGTH, STOP or END_OF_TEXT

    stops: texts before the first of which it ends. Of several in one place the one that is complete
    first counts, so it does not matter how the text is cut into tokens.
    """

    def __init__(self, encoder, stops=()):
        self.encoder, self.stops = encoder, stops
        self.ids, self.log_probs, self.text, self.finish_reason = [], [], "", None
        self.utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.held = ""  # the end of the text, as long as it may be the beginning of a stop text

    def add(self, token_id, log_prob=None):
        """Take the next token in; return the text that is certain by now and was not before."""
        if token_id == self.encoder.eot:  # what follows is another, unrelated document
            return self.end(END_OF_TEXT)
        self.ids.append(token_id)
        if log_prob is not None:
            self.log_probs.append(log_prob)
        return self.grow(self.utf8.decode(self.encoder.decode_bytes([token_id])))

    def end(self, reason):
        """Let it end; return the rest of its text."""
        piece = self.grow(self.utf8.decode(b"", final=True))  # half a character is U+FFFD
        if self.finish_reason is None:
            self.finish_reason = reason
            piece += self.held
            self.text, self.held = self.text + self.held, ""
        return piece

    def grow(self, text):
        """Append text; return what is certain."""
        text = self.held + text
        found = [
            (text.index(stop) + len(stop), text.index(stop)) for stop in self.stops if stop in text
        ]
        if found:
            self.finish_reason = STOP
            piece, self.held = text[: min(found)[1]], ""
        else:
            n_held = max((count_begun(text, stop) for stop in self.stops), default=0)
            piece, self.held = text[: len(text) - n_held], text[len(text) - n_held :]
        self.text += piece
        return piece


def count_begun(text, stop):
    """How many characters at the end of the text are the beginning of a stop text."""
    return next(n for n in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:n]))
