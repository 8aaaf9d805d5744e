"""The ``strategy`` of a recipe -> the way ranks share the work."""

from __future__ import annotations

from opengte.errors import ConfigError
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.parallel import Parallelism, Replicated, SingleProcess


def make_parallelism(config: TrainingConfig, world: World) -> Parallelism:
    """What ``config.strategy`` names, for as many ranks as there are.

    Raises:
        ConfigError: ``single`` with several ranks.
        MissingExtraError: DeepSpeed is absent.
    """
    if config.strategy == "single" and world.size > 1:
        raise ConfigError(
            f"strategy is single, but torchrun started {world.size} ranks; "
            "use auto, ddp or fsdp, or start one process"
        )
    if config.strategy == "deepspeed":
        from opengte.training.deepspeed_zero import DeepSpeedZero

        return DeepSpeedZero(world, stage=config.deepspeed_stage)
    if world.size == 1:
        return SingleProcess(world)
    if config.strategy != "fsdp":
        return Replicated(world)
    from opengte.training.sharded import Sharded  # brings half of torch's compiler along

    return Sharded(world)
