"""Formats in which a graph is written: bytes, and a function that runs them."""

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Protocol, cast

import pyro
import torch
import torch.nn as nn
from torch import Tensor

from pyrovae.recipes.refusal import Refusal

Run = Callable[[Tensor], list[Tensor]]


class Format(Protocol):
    """suffix: of its files. facts: what a reader should know of the format."""

    name: str
    suffix: str

    def write(self, graph: nn.Module, example: Tensor, names: Sequence[str]) -> bytes: ...
    def load(self, content: bytes) -> Run: ...
    def facts(self) -> dict[str, object]: ...


class Onnx:
    """An ONNX model in one file; needs onnx, onnxscript and onnxruntime (`pip install
    pyrovae[export]`)."""

    name = "onnx"
    suffix = ".onnx"
    opset = 18

    def __init__(self) -> None:
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise Refusal(
                f"--format onnx needs {error.name}, which is not installed: pip install "
                "onnx onnxruntime onnxscript."
            ) from error

    def write(self, graph: nn.Module, example: Tensor, names: Sequence[str]) -> bytes:
        program = exported(graph, example)
        with redirect_stdout(io.StringIO()):
            made = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=self.opset,
                input_names=names[:1],
                output_names=names[1:],
                verbose=False,
            )
        return cast(torch.onnx.ONNXProgram, made).model_proto.SerializeToString()

    def load(self, content: bytes) -> Run:
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (name,) = (one.name for one in session.get_inputs())
        return lambda x: [torch.from_numpy(out) for out in session.run(None, {name: x.numpy()})]

    def facts(self) -> dict[str, object]:
        import onnx
        import onnxruntime

        versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
        return {"format": self.name, "opset": self.opset, "versions": versions}


class TorchExport:
    """A program of `torch.export`, for `torch.export.load`."""

    name = "torch-export"
    suffix = ".pt2"

    def write(self, graph: nn.Module, example: Tensor, names: Sequence[str]) -> bytes:
        content = io.BytesIO()
        torch.export.save(exported(graph, example), content)
        return content.getvalue()

    def load(self, content: bytes) -> Run:
        module = torch.export.load(io.BytesIO(content)).module()

        def run(x: Tensor) -> list[Tensor]:
            out = module(x)
            return [out] if isinstance(out, Tensor) else list(out)

        return run

    def facts(self) -> dict[str, object]:
        versions = {"torch": str(torch.__version__)}
        return {"format": self.name, "opset": None, "versions": versions}


def exported(graph: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The operations of a graph, for any number of rows."""
    rows = torch.export.Dim("batch", min=1)
    with torch.no_grad(), pyro.validation_enabled(False):
        return torch.export.export(graph, (example,), dynamic_shapes=({0: rows},), strict=False)


FORMATS: dict[str, Callable[[], Format]] = {"onnx": Onnx, "torch-export": TorchExport}
