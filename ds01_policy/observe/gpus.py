"""The host's GPUs: the driver's library where it answers, the `nvidia-smi` command where it does not.

Owns which way is tried first and what is said about the other. Asks neither itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ds01_policy.observe.ports import Inventory, SourceError
from ds01_policy.policy import GpuSettings


class NoGpuStack(SourceError):
    """The host has no NVIDIA driver: neither its library nor its command. Not a failure where there is no GPU."""


@dataclass(frozen=True, slots=True)
class HostGpus:
    """The driver, asked as `gpu` in settings.yaml says. A ports.GpuSource."""

    settings: GpuSettings

    def inventory(self) -> Inventory:
        """List GPUs and MIG devices; `notes` says what failed first, and which GPUs cannot be read.

        Raises:
            NoGpuStack: when there is neither library nor command.
            SourceError: when neither answers.

        """
        return self._command() if self.settings.nvml == "never" else self._library_then_command()

    def _library_then_command(self) -> Inventory:
        from ds01_policy.observe import gpm, nvml
        from ds01_policy.observe.bounded import NotInstalled

        try:
            return gpm.measured(nvml.inventory(self.settings.timeout), self.settings.timeout)
        except SourceError as error:
            first = error
        try:
            found = self._command()
        except SourceError as second:
            if isinstance(first, nvml.NoLibrary) and isinstance(second, (NotInstalled, NoGpuStack)):
                raise NoGpuStack(
                    "this host has no NVIDIA driver: neither libnvidia-ml.so.1 nor nvidia-smi is installed"
                ) from None
            raise SourceError(f"{first}; {second}") from None
        return replace(found, notes=(f"{first}; asked nvidia-smi instead", *found.notes))

    def _command(self) -> Inventory:
        from ds01_policy.observe import gpm, nvidia_smi

        try:
            found = nvidia_smi.inventory(self.settings.nvidia_smi, self.settings.timeout)
            return gpm.unmeasured(found, "nvidia-smi tells nothing of MIG instances")
        except nvidia_smi.NotInstalled as error:
            if self.settings.nvml == "never" and "/" not in self.settings.nvidia_smi:
                raise NoGpuStack(f"{error}, and gpu.nvml is `never` in settings.yaml") from None
            raise
