"""Every stack that has a file, planned once for all the tests of a process."""

from collections.abc import Mapping
from functools import cache

from infra.files import stack_files
from infra.offline import graphs
from infra.recording import Graph


@cache
def every_stack() -> Mapping[str, Graph]:
    return graphs(stack_files())
