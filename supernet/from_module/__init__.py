"""A user's own torch module as a search space and a supernet.

The module is traced (`tracing`), its calls become declared layers (`recorder`, `calls`), the
user's choices are laid over them (`options`), and the result is a search space like any other
(`module_space`), whose JSON carries the layers.
"""

from supernet.from_module.load import elastic_space, elastic_supernet, load_module
from supernet.from_module.module_space import ModuleSpace, TracedLayer

__all__ = ["ModuleSpace", "TracedLayer", "elastic_space", "elastic_supernet", "load_module"]
