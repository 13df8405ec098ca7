"""WordLlama's own arithmetic over the files of its package: a token's vector is looked up, a text's is their mean.

Model: WordLlama l2_supercat (https://github.com/dleemiller/WordLlama). Its package's loader keeps the weights as 32-bit
numbers in memory and imports what it needs for other work: 100 MB. Here they stay the file's 16-bit numbers, of which
the operating system keeps what is used, for every process of the machine together: 20 MB, most of them the tokenizer.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

import numpy as np
import orjson
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from app.errors import ConfigError
from app.knowledge.base import Vectors

DIMENSION: Final = 256
BATCH: Final = 32
_WEIGHTS: Final = f"weights/l2_supercat_{DIMENSION}.safetensors"
_TOKENIZER: Final = "tokenizers/l2_supercat_tokenizer_config.json"
_TENSOR: Final = "embedding.weight"


class WordVectors:
    """Mean vectors of texts, not of length 1; a text without a token has zeros."""

    def __init__(self, weights: NDArray[np.float16], tokenizer: Tokenizer) -> None:
        self._weights = weights
        self._tokenizer = tokenizer

    @classmethod
    def open(cls) -> Self:
        """Raises ConfigError where the package or its files are missing."""
        spec = find_spec("wordllama")
        if spec is None or spec.origin is None:
            raise ConfigError("The wordllama package is not installed: install it.")
        package = Path(spec.origin).parent
        try:
            weights = _mapped(package / _WEIGHTS)
            described = (package / _TOKENIZER).read_text("utf-8")
        except FileNotFoundError as error:
            raise ConfigError("The wordllama package is installed without its weights: reinstall it.") from error
        tokenizer = Tokenizer.from_str(described)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(weights, tokenizer)

    def embed(self, texts: Sequence[str]) -> Vectors:
        means = np.zeros((len(texts), DIMENSION), np.float32)
        for start in range(0, len(texts), BATCH):
            self._fill(means[start : start + BATCH], texts[start : start + BATCH])
        return means

    def _fill(self, means: Vectors, texts: Sequence[str]) -> None:
        tokens = [encoding.ids for encoding in self._encode(texts)]
        rows = [row for row, ids in enumerate(tokens) if ids]
        if not rows:
            return
        counts = np.array([len(tokens[row]) for row in rows])
        ids = np.concatenate([np.asarray(tokens[row], np.intp) for row in rows])
        vectors = self._weights[np.minimum(ids, len(self._weights) - 1)].astype(np.float32)
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        means[rows] = np.add.reduceat(vectors, starts, axis=0) / counts[:, np.newaxis]

    def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        # A batch wakes the tokenizer's threads, which costs more than one short text does.
        if len(texts) == 1:
            return [self._tokenizer.encode(texts[0], add_special_tokens=False)]
        return self._tokenizer.encode_batch(list(texts), add_special_tokens=False)


def _mapped(path: Path) -> NDArray[np.float16]:
    """The one matrix of a safetensors file (https://github.com/huggingface/safetensors#format), mapped, not read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        tensor = orjson.loads(file.read(length))[_TENSOR]
    if tensor["dtype"] != "F16" or tensor["shape"][1] != DIMENSION:
        raise ConfigError(f"The weights of the wordllama package are of another form ({tensor}): reinstall it.")
    offset = 8 + length + tensor["data_offsets"][0]
    # As a plain array: looking rows up in a memmap costs twice as much.
    return np.asarray(np.memmap(path, np.float16, mode="r", offset=offset, shape=tuple(tensor["shape"])))
