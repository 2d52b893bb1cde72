"""Programs: conditionals wired into Pyro sample sites."""
from pyrovae.programs.graph import Guide, Joint, Model, Node, Value
from pyrovae.programs.interop import as_svi

__all__ = ["Guide", "Joint", "Model", "Node", "Value", "as_svi"]
