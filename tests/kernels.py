"""A real Jupyter kernel for tests: cells go in, what they show comes out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Shown:
    """What one cell has shown: its last value, its pictures in their order, its error."""

    value: dict[str, str] = field(default_factory=dict)
    pictures: list[dict[str, str]] = field(default_factory=list)
    n_outputs: int = 0
    text: str = ""
    error: str = ""


class Kernel:
    """A kernel that was started in a folder."""

    def __init__(self, **options: Any) -> None:
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel(startup_timeout=120, **options)

    def run(self, code: str, *, on_picture: Callable[[int], None] | None = None) -> Shown:
        """Run a cell to its end; `on_picture` is told how many pictures there are so far."""
        shown = Shown()

        def take(message: dict[str, Any]) -> None:
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                shown.text += content["text"]
            elif kind == "error":
                shown.error = f"{content['ename']}: {content['evalue']}"
            elif kind == "execute_result":
                shown.value = content["data"]
            elif kind in ("display_data", "update_display_data"):
                shown.n_outputs += kind == "display_data"
                shown.pictures.append(content["data"])
                if on_picture is not None:
                    on_picture(len(shown.pictures))

        self.client.execute_interactive(code, timeout=240, output_hook=take)
        return shown

    def interrupt(self) -> None:
        """Do what the notebook's button does."""
        self.manager.interrupt_kernel()

    def end(self) -> None:
        """End the kernel and close what it talked through."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
