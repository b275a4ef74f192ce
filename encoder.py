"""Byte-level byte-pair encoding: GPT-2's way from text to token ids and back.

A language model reads a sequence of integers. One integer per character makes long sequences out
of 150,000 different signs; one per word makes short ones, but no list of words is ever complete.
Byte-pair encoding (BPE) lies between. It starts from small symbols and glues frequent neighbours
together, so that a common word becomes one token and a rare word a few.

Its smallest symbols are the 256 bytes of UTF-8. Every text in every script is a sequence of bytes:
nothing is ever unknown, and every text can be restored exactly. The way to ids, in four steps:

    " don't"   ->  " don", "'t"            split into words, each with the space before it
    " don"     ->  Ġ d o n                 UTF-8 bytes, written in an alphabet of visible characters
    Ġ d o n    ->  Ġ d on, Ġd on, Ġdon     neighbours merged, in the order in which it was learned
    Ġdon       ->  836                     looked up in the vocabulary

A vocabulary is two files: vocab.bpe lists the pairs to merge and encoder.json the id of each token.
The algorithm and the names are those of OpenAI's src/encoder.py (github.com/openai/gpt-2), and the
ids are the same for every text.
"""

import codecs
import heapq
import json
import operator
from itertools import pairwise
from pathlib import Path

import regex

END_OF_TEXT = "<|endoftext|>"  # stands between documents; the only token that no merge makes

# No token reaches across one of these cuts; otherwise "dog", "dog." and "dog!" would all be learned
# as different tokens. In this order: English contractions; letters, digits or other signs, with at
# most one space before them; white space, the last of it left to the word after it where possible.
# Letters and digits are those of the regex package's Unicode version; a tokenizer with older tables
# may cut at a character that was assigned since.
WORDS = regex.compile(
    r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)

# Text repeats its words, so remembering their ids makes encoding several times faster. Both limits
# bound the memory: how many words are remembered, and how many characters such a word may have.
CACHED_WORDS, CACHED_CHARACTERS = 2**16, 32


class EncoderError(ValueError):
    """A text, an id or a vocabulary that cannot be used; the message is one line and says why."""


def bytes_to_unicode():
    """Return {byte: character}: each of the 256 bytes gets a visible character of its own.

    A token is any sequence of bytes, but the vocabulary's files are text, with white space between
    the tokens. So bytes that are visible characters in Latin-1 stand for themselves, and the other
    68 (space, control characters, ...) are given the characters from U+0100 on, in order: the
    newline, byte 10, becomes Ċ (U+010A), and the space, byte 32, becomes Ġ (U+0120).
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    visible += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in visible]
    alphabet = {byte: chr(byte) for byte in visible}
    return alphabet | {byte: chr(0x100 + i) for i, byte in enumerate(others)}


class Encoder:
    """A vocabulary, and the ways from text to ids and back.

    encoder: {token: id}, the content of encoder.json; tokens are written in the alphabet of
        bytes_to_unicode, ids are the integers from 0 to n_vocab - 1
    bpe_merges: [(left, right), ...], the content of vocab.bpe; pairs of tokens in the order in
        which they were learned

    A pair's place in that order is its rank. Learning began with bytes, merged the most frequent
    pair of neighbours in a large text into a new token, counted again, and so on. Encoding repeats
    these merges in the same order, so that it cuts a word as learning did.

    Attributes: encoder, decoder {id: token}, bpe_ranks {(left, right): rank}, n_vocab, and eot, the
    id of <|endoftext|> (None in a vocabulary without it). Raises EncoderError, which names the file
    and the first bad entry, unless the two fit together.
    """

    def __init__(self, encoder, bpe_merges):
        bpe_merges = list(bpe_merges)
        check_vocabulary(encoder, bpe_merges)
        self.byte_encoder = bytes_to_unicode()
        self.byte_decoder = {character: byte for byte, character in self.byte_encoder.items()}
        self.encoder = encoder
        self.decoder = {i: token for token, i in encoder.items()}
        self.bpe_merges = bpe_merges
        self.bpe_ranks = {(left, right): rank for rank, (left, right) in enumerate(bpe_merges)}
        self.n_vocab = len(encoder)
        self.eot = encoder.get(END_OF_TEXT)
        self.cache = {}

    def bpe(self, word):
        """Merge a word, a string in the byte alphabet: "Ġdonkeys" to ["Ġdon", "keys"].

        As long as any two neighbours are a pair with a rank, the pair of the lowest rank is merged
        wherever it stands, from left to right. To search the whole word for that pair every time
        would take time quadratic in its length. So the symbols are a linked list here, and a heap
        knows where the pairs with a rank stand: n symbols take O(n log n).
        """
        n = len(word)
        symbols = [*word, None]  # the None closes the list to a ring; it is in no pair
        before, after = list(range(-1, n)), list(range(1, n + 1))
        ranks = self.bpe_ranks
        # Rank and place in one integer: the smallest is the leftmost place of the lowest rank.
        heap = [ranks[pair] * n + i for i, pair in enumerate(pairwise(word)) if pair in ranks]
        heapq.heapify(heap)
        while heap:
            rank = heap[0] // n
            left, right = self.bpe_merges[rank]
            places = []  # all of them, before a merge can push a pair of a lower rank
            while heap and heap[0] // n == rank:
                places.append(heapq.heappop(heap) % n)
            for i in places:
                j = after[i]
                if symbols[i] != left or symbols[j] != right:
                    continue  # an earlier merge took one of the two
                symbols[i], symbols[j] = left + right, None
                h, k = before[i], after[j]
                after[i], before[k] = k, i
                if (pair := (symbols[h], symbols[i])) in ranks:
                    heapq.heappush(heap, ranks[pair] * n + h)
                if (pair := (symbols[i], symbols[k])) in ranks:
                    heapq.heappush(heap, ranks[pair] * n + i)
        return [symbol for symbol in symbols if symbol is not None]

    def _encode_word(self, word):
        """Return the ids of one word of a text, and remember them."""
        symbols = self.bpe("".join([self.byte_encoder[byte] for byte in word.encode("utf-8")]))
        ids = tuple([self.encoder[symbol] for symbol in symbols])
        if len(word) <= CACHED_CHARACTERS:
            if len(self.cache) >= CACHED_WORDS:
                self.cache.clear()  # frequent words are soon back; dropping single ones costs more
            self.cache[word] = ids
        return ids

    def encode(self, text, allowed_special=()):
        """Return the list of the ids of a text (str).

        "<|endoftext|>" in the text is ordinary text, since a text from elsewhere must not be able
        to end the document; with allowed_special={"<|endoftext|>"} it becomes the one id eot.
        Raises EncoderError for what has no UTF-8 (half a surrogate pair) or is no str.
        """
        if not isinstance(text, str):
            raise EncoderError(f"only a str can be encoded, not {type(text).__name__}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise EncoderError(
                f"the character at position {error.start}, U+{ord(text[error.start]):04X}, is half "
                "of a surrogate pair, which has no UTF-8; was the text read in the right encoding?"
            ) from None
        if not {END_OF_TEXT}.issuperset(allowed_special):
            raise EncoderError(
                f"allowed_special={allowed_special!r:.80}: can only be {{{END_OF_TEXT!r}}} or empty"
            )
        if allowed_special and self.eot is None:
            raise EncoderError(f"this vocabulary has no {END_OF_TEXT}")

        ids = []
        for n_before, document in enumerate(text.split(END_OF_TEXT) if allowed_special else [text]):
            if n_before:
                ids.append(self.eot)
            for word in WORDS.findall(document):
                try:
                    ids += self.cache[word]
                except KeyError:
                    ids += self._encode_word(word)
        return ids

    def _decode_bytes(self, ids):
        """Return the bytes that ids stand for; raise EncoderError for what is not a token's id."""
        tokens = []
        for i in ids:
            try:
                tokens.append(self.decoder[operator.index(i)])
            except TypeError:
                raise EncoderError(f"an id is an integer, not {type(i).__name__}") from None
            except KeyError:
                raise EncoderError(f"id {i} is not one of 0 to {self.n_vocab - 1}") from None
        return bytes([self.byte_decoder[character] for character in "".join(tokens)])

    def decode(self, ids):
        """Return the text of ids, any iterable of integers; NumPy's will do.

        Ids can be cut or sampled so that their bytes are not UTF-8: U+FFFD then stands in the text.
        Raises EncoderError for an id that is not in the vocabulary.
        """
        return self._decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_stream(self, ids):
        """Yield the text of each id as soon as it comes; all together equal decode(ids).

        A character can be spread over several tokens: all but the last then yield "". Only if its
        bytes are still incomplete after the last id does one more str follow, which is U+FFFD.
        """
        utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for i in ids:
            yield utf8.decode(self._decode_bytes([i]))
        if rest := utf8.decode(b"", final=True):
            yield rest


def check_vocabulary(encoder, bpe_merges):
    """Raise EncoderError that names the first bad entry unless the two parts fit together."""
    if not isinstance(encoder, dict):
        raise EncoderError(f"encoder.json: not an object {{token: id}} but {encoder!r:.40}")
    alphabet = set(bytes_to_unicode().values())
    last = len(encoder) - 1
    decoder = {}
    for token, i in encoder.items():
        if not token or not alphabet.issuperset(token):
            raise EncoderError(f"encoder.json: {token!r:.80} is not written in the byte alphabet")
        if type(i) is not int or not 0 <= i <= last:
            raise EncoderError(
                f"encoder.json: {token!r:.80} has id {i!r:.40}, but ids are 0 to {last}, no gaps"
            )
        if decoder.setdefault(i, token) != token:
            raise EncoderError(
                f"encoder.json: {token!r:.80} and {decoder[i]!r:.80} have the same id, {i}"
            )
    for byte, character in bytes_to_unicode().items():
        if character not in encoder:
            raise EncoderError(f"encoder.json: {character!r}, the token of byte {byte}, is missing")

    ranks = {}
    made = alphabet | {END_OF_TEXT}
    for rank, pair in enumerate(bpe_merges):
        if len(pair) != 2:
            raise EncoderError(f"vocab.bpe: {' '.join(pair)!r:.80} is not two tokens and a space")
        left, right = pair
        for token in (left, right, left + right):
            if token not in encoder:
                raise EncoderError(
                    f"vocab.bpe: merge {left + ' ' + right!r:.80} of rank {rank} needs the token "
                    f"{token!r:.80}, which is not in encoder.json"
                )
        if ranks.setdefault((left, right), rank) != rank:
            raise EncoderError(f"vocab.bpe: merge {left + ' ' + right!r:.80} is there twice")
        made.add(left + right)
    for token in encoder:
        if token not in made:
            raise EncoderError(f"vocab.bpe: no merge makes {token!r:.80}, which is in encoder.json")


def get_encoder(model_dir):
    """Return the Encoder of a model folder, from its encoder.json and vocab.bpe, both UTF-8.

    vocab.bpe is a first line "#version: 0.2" (some writers leave it out) and a line for each merge,
    two tokens with a space between them. Raises EncoderError that names the file and what is wrong.
    """

    def read(name):
        path = Path(model_dir, name)
        try:
            return path.read_bytes().decode("utf-8")
        except OSError as error:
            raise EncoderError(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise EncoderError(f"{path}: not UTF-8 from byte {error.start} on") from None

    json_text = read("encoder.json")
    # Not splitlines(), which also cuts at eight other characters, and only a file's own line ends.
    lines = read("vocab.bpe").replace("\r\n", "\n").rstrip("\n").split("\n")
    if lines[0].startswith("#version"):
        del lines[0]
    try:
        encoder = json.loads(json_text)
    except (ValueError, RecursionError) as error:
        raise EncoderError(f"{Path(model_dir, 'encoder.json')}: not JSON: {error}") from None
    try:
        return Encoder(encoder, [tuple(line.split(" ")) for line in lines])
    except EncoderError as error:
        file, _, problem = str(error).partition(": ")
        raise EncoderError(f"{Path(model_dir, file)}: {problem}") from None
