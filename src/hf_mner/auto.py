"""Tables of the systems and backbones, and their registration with transformers as soon as transformers is used.

`import hf_mner` must be cheap and must still make `AutoModel` know our models. So nothing of transformers is imported
here; each Auto class is told of them right after the module that defines it has been imported, by us or by you.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple, TypeVar


class System(NamedTuple):
    """The class names of one system; the first model is the whole system."""

    config: str
    models: tuple[str, ...]
    processor: str


SYSTEMS: dict[str, System] = {
    "scanner": System(
        "ScannerConfig",
        ("ScannerForMultimodalNer", "ScannerForSpanDetection", "ScannerForEntityRecognition"),
        "ScannerProcessor",
    ),
    "mmavk": System("MmavkConfig", ("MmavkForTokenClassification",), "MmavkProcessor"),
    "ham_learning": System("HamLearningConfig", ("HamLearningForTokenClassification",), "HamLearningProcessor"),
    "mner_qg": System("MnerQgConfig", ("MnerQgForMultimodalNer", "MnerQgForVisualGrounding"), "MnerQgProcessor"),
}


class Backbone(NamedTuple):
    """The class names of one image backbone that transformers does not have."""

    config: str
    model: str


Named = TypeVar("Named", System, Backbone)

BACKBONES: dict[str, Backbone] = {"darknet53": Backbone("Darknet53Config", "Darknet53Backbone")}


PIPELINE_MODULE = "hf_mner.pipelines.multimodal_ner"

# Modules that are being imported at this moment; what they define does not exist yet.
LOADING: set[str] = set()


def module_name(model_type: str, kind: str) -> str:
    """Name the `configuration`, `modeling` or `processing` module of a system or backbone."""
    return f"hf_mner.models.{model_type}.{kind}_{model_type}"


def load_class(model_type: str, kind: str, name: str) -> type:
    """Import a class of a system or backbone."""
    return getattr(import_module(module_name(model_type, kind)), name)


def loadable(table: dict[str, Named], *kinds: str) -> list[tuple[str, Named]]:
    """List the lines of a table whose modules are not being imported just now; the others follow afterwards."""
    return [
        (model_type, line)
        for model_type, line in table.items()
        if not LOADING & {module_name(model_type, kind) for kind in kinds}
    ]


def register_configs() -> None:
    """Tell `AutoConfig` of every system and backbone."""
    from transformers.models.auto.configuration_auto import AutoConfig

    lines: list[tuple[str, Any]] = [*loadable(SYSTEMS, "configuration"), *loadable(BACKBONES, "configuration")]
    for model_type, line in lines:
        AutoConfig.register(model_type, load_class(model_type, "configuration", line.config), exist_ok=True)


def register_models() -> None:
    """Tell `AutoModel` and `AutoModelForTokenClassification` of every system, `AutoBackbone` of every backbone.

    A tuple of heads lets the Auto classes choose by the `architectures` of the saved configuration.
    `AutoModel` knows the backbones as well: their `hidden_states` are feature maps, as those of other image models.
    """
    from transformers.models.auto.modeling_auto import AutoBackbone, AutoModel, AutoModelForTokenClassification

    for model_type, backbone in loadable(BACKBONES, "configuration", "modeling"):
        config = load_class(model_type, "configuration", backbone.config)
        for auto_class in (AutoModel, AutoBackbone):
            auto_class.register(config, load_class(model_type, "modeling", backbone.model), exist_ok=True)
    for model_type, system in loadable(SYSTEMS, "configuration", "modeling"):
        config = load_class(model_type, "configuration", system.config)
        models: Any = tuple(load_class(model_type, "modeling", name) for name in system.models)
        for auto_class in (AutoModel, AutoModelForTokenClassification):
            auto_class.register(config, models, exist_ok=True)


def register_processors() -> None:
    """Tell `AutoProcessor` of every system."""
    from transformers.models.auto.processing_auto import AutoProcessor

    for model_type, system in loadable(SYSTEMS, "configuration", "processing"):
        config = load_class(model_type, "configuration", system.config)
        AutoProcessor.register(config, load_class(model_type, "processing", system.processor), exist_ok=True)


def register_pipeline() -> None:
    """Tell `transformers.pipeline` of the task `multimodal-ner` and its embedded default model."""
    if PIPELINE_MODULE not in LOADING:
        import_module(PIPELINE_MODULE).register()


REGISTRATIONS: dict[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": register_configs,
    "transformers.models.auto.modeling_auto": register_models,
    "transformers.models.auto.processing_auto": register_processors,
    "transformers.pipelines": register_pipeline,
    PIPELINE_MODULE: register_pipeline,
    **{module_name(model_type, "configuration"): register_configs for model_type in (*SYSTEMS, *BACKBONES)},
    **{module_name(model_type, "modeling"): register_models for model_type in (*SYSTEMS, *BACKBONES)},
    **{module_name(model_type, "processing"): register_processors for model_type in SYSTEMS},
}


class RegisteringLoader(Loader):
    """Runs a module as its own loader would, then registers the systems."""

    def __init__(self, loader: Any, register: Callable[[], None]):
        self.loader, self.register = loader, register

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave the creation to the module's own loader."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then register."""
        LOADING.add(module.__name__)
        try:
            self.loader.exec_module(module)
        finally:
            LOADING.discard(module.__name__)
        module.__loader__ = self.loader
        self.register()

    def __getattr__(self, name: str) -> Any:
        """Answer everything else (`get_source`, `is_package`, ...) as the module's own loader."""
        return getattr(self.loader, name)


class RegisteringFinder(MetaPathFinder):
    """Finds the modules of `REGISTRATIONS` where everybody finds them, and adds the registration."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's usual spec with a registering loader; `None` for all other modules."""
        register = REGISTRATIONS.get(fullname)
        if register is None:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)) and spec.loader:
                spec.loader = RegisteringLoader(spec.loader, register)
                return spec
        return None


def register_on_use() -> None:
    """Register now what transformers has already imported, and the rest when it does; safe to call again."""
    if any(isinstance(finder, RegisteringFinder) for finder in sys.meta_path):
        return
    if find_spec("transformers") is None:
        raise ImportError("hf_mner needs transformers; install it with `pip install hf-mner`.")
    sys.meta_path.insert(0, RegisteringFinder())
    for module, register in REGISTRATIONS.items():
        if module in sys.modules:
            register()
