"""Everything that is given hostile inputs."""

from __future__ import annotations

from tests.torture.fuzzing import Target
from tests.torture.targets import commands, folders, memory, native, readers

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (readers, memory, folders, commands, native)
    for target in module.targets()
}
