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
get_encoder reads them; train_bpe learns a vocabulary of any size from a text of one's own, and
format_encoder makes the contents of its two files. The algorithm and the names are those of
OpenAI's src/encoder.py (github.com/openai/gpt-2), and the ids are the same for every text.
"""

import codecs
import heapq
import json
import operator
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import regex

END_OF_TEXT = "<|endoftext|>"  # stands between documents; GPT-2's only token that no merge makes
MAX_FILE = 2**27  # bytes: GPT-2's own files, of 50,257 tokens, have a hundredth of it

# No token reaches across one of these cuts; otherwise "dog", "dog." and "dog!" would all be learned
# as different tokens. In this order: English contractions; letters, digits or other signs, with at
# most one space before them; white space, the last of it left to the word after it where possible.
# Letters and digits are those of the regex package's Unicode version; a tokenizer with older tables
# may cut at a character that was assigned since.
WORDS = regex.compile(r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

# Models that were trained further may have more tokens that no merge makes, such as <|user|>, <pad>
# or [SEP]. Any other token without a merge is a sign of a vocab.bpe that lacks lines.
SPECIAL = regex.compile(r"<[!-;=?-~]+>|\[[!-Z\\^-~]+\]")  # ASCII without spaces

# Text repeats its words, so remembering their ids makes encoding several times faster. Both limits
# bound the memory: how many words are remembered, and how many characters such a word may have.
CACHED_WORDS, CACHED_CHARACTERS = 2**16, 32


class EncoderError(ValueError):
    """A text, an id or a vocabulary that cannot be used; the message is one line and says why.

    problem: what is wrong
    file: which file it is wrong with, encoder.json or vocab.bpe, None where it is neither; the
        message begins with it
    """

    def __init__(self, problem, file=None):
        super().__init__(problem if file is None else f"{file}: {problem}")
        self.problem, self.file = problem, file


def bytes_to_unicode():
    """{byte: character}: a visible character for each of the 256 bytes.

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

    A pair's place in that order is its rank. Learning (train_bpe) began with bytes, merged the most
    frequent pair of neighbours in a large text into a new token, counted again, and so on. Encoding
    repeats these merges in the same order, so that it cuts a word as learning did.

    Attributes: encoder, decoder {id: token}, bpe_ranks {(left, right): rank}, n_vocab; special
    {token: id}, of the tokens that no merge makes; and eot, the id of <|endoftext|> (None in a
    vocabulary without it). Raises EncoderError, which names the file and the first bad entry,
    unless the two fit together.
    """

    def __init__(self, encoder, bpe_merges):
        bpe_merges = list(bpe_merges)
        self.special = check_vocabulary(encoder, bpe_merges)
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
        """The tokens of a word, a string in the byte alphabet: "Ġdonkeys" is ["Ġdon", "keys"].

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
        """The ids of one word of a text, which are remembered."""
        symbols = self.bpe("".join([self.byte_encoder[byte] for byte in word.encode("utf-8")]))
        ids = tuple([self.encoder[symbol] for symbol in symbols])
        if len(word) <= CACHED_CHARACTERS:
            if len(self.cache) >= CACHED_WORDS:
                self.cache.clear()  # frequent words are soon back; dropping single ones costs more
            self.cache[word] = ids
        return ids

    def encode(self, text, allowed_special=()):
        """The ids of a text (str): a list of int.

        "<|endoftext|>" in the text is ordinary text, since a text from elsewhere must not be able
        to end the document; with allowed_special={"<|endoftext|>"} it becomes the one id eot, and
        so does any other of the special tokens. Raises EncoderError for what has no UTF-8 (half a
        surrogate pair) or is no str.
        """
        check_text(text)
        ids = []
        if not isinstance(allowed_special, str):
            allowed_special = set(allowed_special)
        for piece in self._split_special(text, allowed_special):
            if piece in allowed_special:
                ids.append(self.special[piece])
                continue
            for word in WORDS.findall(piece):
                try:
                    ids += self.cache[word]
                except KeyError:
                    ids += self._encode_word(word)
        return ids

    def _split_special(self, text, allowed):
        """The text in pieces, of which those special tokens that are allowed are pieces alone."""
        if not allowed:
            return [text]
        if isinstance(allowed, str):
            raise EncoderError(f"allowed_special={allowed!r:.80}: give a set of special tokens")
        for token in allowed:
            if token not in self.special:
                problem = f"this vocabulary has no special token {token!r:.40}"
                raise EncoderError(f"allowed_special={allowed!r:.80}: {problem}")
        return regex.split(f"({'|'.join(map(regex.escape, allowed))})", text)

    def decode_bytes(self, ids):
        """The bytes that ids stand for, any iterable of integers: they are UTF-8 or a piece of it.
        Raises EncoderError for an id that is not in the vocabulary."""
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
        """The text of ids, any iterable of integers; NumPy's will do.

        Ids can be cut or sampled so that their bytes are not UTF-8: U+FFFD then stands in the text.
        Raises EncoderError for an id that is not in the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_stream(self, ids):
        """Yield the text of each id as soon as it comes; all together equal decode(ids).

        A character can be spread over several tokens: all but the last then yield "". Only if its
        bytes are still incomplete after the last id does one more str follow, which is U+FFFD.
        """
        utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for i in ids:
            yield utf8.decode(self.decode_bytes([i]))
        if rest := utf8.decode(b"", final=True):
            yield rest


def check_text(text):
    """Raise EncoderError unless text is a str that has UTF-8."""
    if not isinstance(text, str):
        raise EncoderError(f"a text is a str, not {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EncoderError(
            f"the character at position {error.start}, U+{ord(text[error.start]):04X}, is half "
            "of a surrogate pair, which has no UTF-8; was the text read in the right encoding?"
        ) from None


def check_vocabulary(encoder, bpe_merges):
    """{token: id} of the special tokens of a vocabulary. Raises EncoderError that names the first
    bad entry unless its two parts fit together."""
    check_tokens(encoder)
    file = "vocab.bpe"
    ranks = {}
    made = {*bytes_to_unicode().values()}
    for rank, pair in enumerate(bpe_merges):
        if len(pair) != 2:
            raise EncoderError(f"{' '.join(pair)!r:.80} is not two tokens and a space", file)
        left, right = pair
        for token in (left, right, left + right):
            if token not in encoder:
                raise EncoderError(
                    f"merge {left + ' ' + right!r:.80} of rank {rank} needs the token "
                    f"{token!r:.80}, which is not in encoder.json",
                    file,
                )
        if ranks.setdefault((left, right), rank) != rank:
            raise EncoderError(f"merge {left + ' ' + right!r:.80} is there twice", file)
        made.add(left + right)
    special = {token: i for token, i in encoder.items() if token not in made}
    for token in special:
        if not SPECIAL.fullmatch(token):
            raise EncoderError(f"no merge makes {token!r:.80}, which is in encoder.json", file)
    return special


def check_tokens(encoder):
    """Raise EncoderError unless the ids are 0, 1, ... and every byte is among the tokens."""
    file = "encoder.json"
    if not isinstance(encoder, dict):
        raise EncoderError(f"not an object {{token: id}} but {encoder!r:.40}", file)
    alphabet = set(bytes_to_unicode().values())
    last = len(encoder) - 1
    decoder = {}
    for token, i in encoder.items():
        if not token or not alphabet.issuperset(token):
            raise EncoderError(f"{token!r:.80} is not written in the byte alphabet", file)
        if type(i) is not int or not 0 <= i <= last:
            problem = f"{token!r:.80} has id {i!r:.40}, but ids are 0 to {last}, no gaps"
            raise EncoderError(problem, file)
        if decoder.setdefault(i, token) != token:
            problem = f"{token!r:.80} and {decoder[i]!r:.80} have the same id, {i}"
            raise EncoderError(problem, file)
    for byte, character in bytes_to_unicode().items():
        if character not in encoder:
            raise EncoderError(f"{character!r}, the token of byte {byte}, is missing", file)


def get_encoder(model_dir):
    """The Encoder of a model folder, from its encoder.json and vocab.bpe, both UTF-8.

    Raises EncoderError that names the file, with its path, and what is wrong; where that is the
    system's, which could not read it, its OSError is the cause.
    """
    try:
        json_text, bpe_text = (
            read_utf8(Path(model_dir, file), file) for file in ("encoder.json", "vocab.bpe")
        )
        return parse_encoder(json_text, bpe_text)
    except EncoderError as error:
        raise EncoderError(error.problem, Path(model_dir, error.file)) from error.__cause__


def read_utf8(path, file):
    """The text of a file. Raises EncoderError, which calls it `file`; an OSError is its cause."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise EncoderError(error.strerror, file) from error
    if len(content) > MAX_FILE:
        raise EncoderError(f"larger than any vocabulary's file ({MAX_FILE} bytes)", file)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EncoderError(f"not UTF-8 from byte {error.start} on", file) from None


def parse_encoder(json_text, bpe_text):
    """The Encoder of a vocabulary, from the contents of encoder.json and of vocab.bpe (str).

    vocab.bpe is a first line "#version: 0.2" (some writers leave it out) and a line for each merge,
    two tokens with a space between them. Raises EncoderError.
    """
    # Not splitlines(), which also cuts at eight other characters, and only a file's own line ends.
    lines = bpe_text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if lines[0].startswith("#version"):
        del lines[0]
    try:
        encoder = json.loads(json_text)
    except (ValueError, RecursionError) as error:
        raise EncoderError(f"not JSON: {error}", "encoder.json") from None
    return Encoder(encoder, [tuple(line.split(" ")) for line in lines])


def format_encoder(encoder):
    """The contents of encoder.json and of vocab.bpe for an Encoder, two str.

    They look like OpenAI's files: parse_encoder reads them, and so does any GPT-2 tokenizer.
    """
    ids = dict(sorted(encoder.encoder.items(), key=lambda item: item[1]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in encoder.bpe_merges)]
    return json.dumps(ids), "\n".join(lines) + "\n"


def train_bpe(text, n_vocab):
    """Learn a vocabulary of n_vocab tokens from a text (str): its Encoder.

    Each round learns the most frequent pair of neighbours in the text, as the merges so far cut it.
    Of equally frequent pairs that is the one whose left token has the lowest id, and of these the
    one whose right token has. What occurs only once is no pattern and is not learned. Source:
    Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units"
    (2016), algorithm 1; here on bytes, as in GPT-2.

    The ids are in GPT-2's order: the 256 bytes, the new tokens as they are learned, <|endoftext|>.
    Where that stands in the text, one document ends and another begins: it is not counted, and no
    word reaches across it.

    Raises EncoderError if n_vocab is not an integer from 257 on, or if the text is not a str with
    UTF-8, is empty, or has too few pairs; the message says how many tokens they allow.
    """
    try:
        n_vocab = operator.index(n_vocab)
    except TypeError:
        raise EncoderError(f"n_vocab is an integer, not {type(n_vocab).__name__}") from None
    if n_vocab < 257:
        raise EncoderError(f"n_vocab={n_vocab}: 256 bytes and {END_OF_TEXT} make at least 257")

    pairs = Pairs(count_words(text))
    tokens, bpe_merges = [*bytes_to_unicode().values()], []
    while len(tokens) < n_vocab - 1:
        pair = pairs.pop_most_frequent()
        if pair is None:
            raise EncoderError(
                f"n_vocab={n_vocab}: the text allows {len(tokens) + 1} tokens, then no pair occurs "
                f"twice; ask for n_vocab={len(tokens) + 1} or less, or learn from a longer text"
            )
        left, right = pair
        pairs.merge(left, right, len(tokens))
        bpe_merges.append((tokens[left], tokens[right]))
        # Never a token that is there already. Two pairs for one token, "a" "bc" and "ab" "c", would
        # need two places with the same bytes that the merges so far have cut differently. But none
        # of these merges reached across the ends of either place, so they cut both alike.
        tokens.append(tokens[left] + tokens[right])
    tokens.append(END_OF_TEXT)
    return Encoder({token: i for i, token in enumerate(tokens)}, bpe_merges)


def count_words(text):
    """{word: how often the text has it}, of the words that encode cuts."""
    check_text(text)
    words = Counter()
    for document in text.split(END_OF_TEXT):
        words.update(match[0] for match in WORDS.finditer(document))
    if not words:
        raise EncoderError("the text is empty; there is nothing to learn from it")
    return words


class Pairs:
    """The pairs of neighbours in the words of a text, and how often each occurs. Symbols are ids.

    words: {word: how often the text has it}

    Two things make learning fast. A word that the text has 1,000 times is here once, and its pairs
    count 1,000 times. And nothing is counted again: a merge changes the counts of the pairs that it
    touches, and no others. All words are one linked list, as in Encoder.bpe, with a None between
    them. In "aaa" the pair of two a's is counted twice, though only one of the two can be merged.
    """

    def __init__(self, words):
        id_of_byte = {byte: i for i, byte in enumerate(bytes_to_unicode())}
        self.symbols, self.frequencies = [None], [0]
        for word, frequency in words.items():
            ids = [id_of_byte[byte] for byte in word.encode("utf-8")]
            self.symbols += [*ids, None]
            self.frequencies += [frequency] * (len(ids) + 1)
        n = len(self.symbols)
        self.before, self.after = list(range(-1, n - 1)), list(range(1, n + 1))
        self.counts, self.places = Counter(), defaultdict(list)
        self.heap = []
        self._push({self._count(i, +1) for i in range(n - 1)})

    def _count(self, i, sign):
        """Count the pair whose left symbol stands at i, or uncount it with sign -1: that pair."""
        pair = self.symbols[i], self.symbols[self.after[i]]
        if None not in pair:
            self.counts[pair] += sign * self.frequencies[i]
            if sign > 0:
                self.places[pair].append(i)
        return pair

    def _push(self, pairs):
        """Put those pairs that occur at least twice into the heap, the most frequent at its top."""
        for pair in pairs:
            if self.counts[pair] >= 2:
                heapq.heappush(self.heap, (-self.counts[pair], pair))

    def pop_most_frequent(self):
        """Take the most frequent pair out of the heap; None if no pair occurs twice.

        The heap knows the count that a pair had when it went in. Later merges can only have lowered
        it, so such a pair comes out too early, never too late, and goes in again where it belongs.
        """
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            if -count == self.counts[pair]:
                return pair
            self._push([pair])
        return None

    def merge(self, left, right, merged):
        """Merge a pair into the symbol merged wherever it stands, from left to right.

        Of the symbols at h, i, j and k, in a row, those at i and j become one: three pairs go, two
        come. This holds for equal symbols as well, where some of the three are the same pair.
        """
        made = set()
        for i in self.places.pop((left, right)):
            j = self.after[i]
            if self.symbols[i] != left or self.symbols[j] != right:
                continue  # an earlier merge took one of the two
            h, k = self.before[i], self.after[j]
            for place in (h, i, j):
                self._count(place, -1)
            self.symbols[i], self.symbols[j] = merged, None
            self.after[i], self.before[k] = k, i
            made |= {self._count(h, +1), self._count(i, +1)}
        self._push(made)
