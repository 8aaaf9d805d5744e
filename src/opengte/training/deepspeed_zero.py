"""DeepSpeed's ZeRO, stages 1 to 3: moments, then gradients, then weights held in parts.

Rajbhandari et al. 2020 (arXiv:1910.02054). DeepSpeed averages gradients over ranks where we add
them up, so they go in multiplied by the number of ranks. Micro-batches are always recomputed,
unless there is a single one: its hooks expect every backward pass right behind its forward pass.
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from opengte.errors import ConfigError, MissingExtraError
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.optimizer import LossScaler, Updater, make_optimizer
from opengte.training.parallel import SingleProcess, agree_on_passes, copy_from_first

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder
    from opengte.models.packing import PackedTokens

EXPONENTIAL_AVERAGES = ("exp_avg", "exp_avg_sq")


def import_deepspeed(device: torch.device) -> Any:
    """DeepSpeed, told which device it is for before it looks for one itself.

    Raises:
        MissingExtraError: it is absent.
    """
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    try:
        import deepspeed
    except ImportError as error:
        raise MissingExtraError("deepspeed", extra="deepspeed") from error
    return deepspeed


class DeepSpeedZero(SingleProcess):
    """Trains a copy of an encoder under a DeepSpeed engine.

    Args:
        world: the ranks.
        stage: what is held in parts: 1 moments, 2 gradients too, 3 weights too.

    Raises:
        ConfigError: there is one rank only.
        MissingExtraError: DeepSpeed is absent.
    """

    def __init__(self, world: World, *, stage: Literal[1, 2, 3]) -> None:
        super().__init__(world)
        if world.size == 1:
            raise ConfigError(
                "strategy deepspeed shares memory between ranks, but there is one; "
                "start several with torchrun, or use strategy single"
            )
        self.stage = stage
        self.deepspeed = import_deepspeed(world.device)
        self.gradient_factor = float(world.size)
        self.engine: Any = None

    def wrap(self, encoder: Encoder) -> Encoder:
        """A copy with the weights of rank 0."""
        copy_from_first(encoder)
        self.original = encoder
        tokenizer = {id(encoder.tokenizer): encoder.tokenizer}  # shared, not copied
        self.encoder = copy.deepcopy(encoder, tokenizer)
        return self.encoder

    def make_updater(
        self,
        parameters: Mapping[str, nn.Parameter],
        decayed: set[str],
        config: TrainingConfig,
        scaler: LossScaler,
    ) -> Updater:
        """AdamW inside a DeepSpeed engine.

        Raises:
            ConfigError: float16, or a loss with parameters of its own.
        """
        if scaler.enabled:
            raise ConfigError("strategy deepspeed takes precision bfloat16 or float32, got float16")
        if any(name.startswith("loss.") for name in parameters):
            raise ConfigError("strategy deepspeed cannot train a loss's own parameters; use ddp")
        optimizer = make_optimizer(parameters, decayed, config)
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # DeepSpeed takes a step to make the moments: it must move nothing
        self.engine = self.deepspeed.initialize(
            model=self.encoder, optimizer=optimizer, config=self._settings(config)
        )[0]
        return ZeroUpdater(self, dict(parameters), optimizer)

    def _settings(self, config: TrainingConfig) -> dict[str, Any]:
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {
                "stage": self.stage,
                "overlap_comm": False,
                "stage3_param_persistence_threshold": 0,
            },
            "gradient_clipping": config.max_grad_norm or 0.0,
            "steps_per_print": 2**31,
        }

    def forward(self, packed: PackedTokens) -> Tensor:
        """Through the engine, whose hooks expect the backward pass."""
        output: Tensor = self.engine(packed)
        return output

    @contextlib.contextmanager
    def around(self, is_last: bool) -> Iterator[None]:
        """Ranks add up their gradients in the last backward pass alone (stage 1)."""
        self.engine.set_gradient_accumulation_boundary(is_last)
        yield

    def agree(self, num_kept: int, num_micro_batches: int) -> tuple[int, int]:
        """One pass on every rank may keep its activations; several are recomputed."""
        kept, passes = agree_on_passes(self.world, num_kept, num_micro_batches)
        return (kept if passes == 1 else 0), passes

    def whole(self, tensor: Tensor) -> Tensor:
        """Gather; every rank must ask."""
        if self.stage < 3:
            return tensor.detach()
        whole: Tensor = self.deepspeed.utils.safe_get_full_fp32_param(tensor)
        return whole

    def fill(self, tensor: Tensor, values: Tensor) -> None:
        """Put in the whole values: into the weight, and into the part that is stepped."""
        values = values.to(self.world.device)
        gathered = self.deepspeed.zero.GatheredParameters(
            [tensor], modifier_rank=0, enabled=self.stage == 3
        )
        with gathered, torch.no_grad():
            tensor.copy_(values)
        self.deepspeed.utils.safe_set_full_fp32_param(tensor, values)

    @contextlib.contextmanager
    def whole_encoder(self) -> Iterator[Encoder]:
        """In stage 3 the encoder that was copied, with the weights of this moment."""
        if self.stage < 3:
            yield self.encoder
            return
        self._bring_back()
        yield self.original

    def finish(self) -> None:
        """Bring the weights back into the encoder that was copied."""
        self._bring_back()
        self.engine.destroy()

    def _bring_back(self) -> None:
        own = dict(self.original.named_parameters())
        with torch.no_grad():
            for name, parameter in self.encoder.named_parameters():
                if parameter.requires_grad:
                    own[name].copy_(self.whole(parameter))


class ZeroUpdater:
    """Steps of a DeepSpeed engine, and the moments it holds in parts.

    Args:
        zero: with its engine.
        parameters: by name.
        optimizer: the AdamW that the engine drives.
    """

    def __init__(
        self,
        zero: DeepSpeedZero,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.zero, self.parameters, self.optimizer = zero, parameters, optimizer
        self.num_steps = 0
        self._make_moments()

    def update(self, learning_rate: float) -> float:
        """Take a step and forget the gradients."""
        engine = self.zero.engine
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate
        engine.step()
        self.num_steps += 1
        norm = engine.get_global_grad_norm()
        return math.nan if norm is None else float(norm)

    def moments(self) -> Iterator[tuple[str, Tensor]]:
        """Whole tensors by name; every rank must ask."""
        get = self.zero.deepspeed.utils.safe_get_full_optimizer_state
        for name, parameter in self.parameters.items():
            yield f"{name}/step", torch.tensor(float(self.num_steps))
            for key in EXPONENTIAL_AVERAGES:
                yield f"{name}/{key}", get(parameter, key)

    def load_moments(self, values: Mapping[str, Tensor]) -> None:
        """Put back what ``moments`` gave."""
        put = self.zero.deepspeed.utils.safe_set_full_optimizer_state
        for name, parameter in self.parameters.items():
            for key in EXPONENTIAL_AVERAGES:
                put(parameter, values[f"{name}/{key}"].to(self.zero.world.device), key)
            self.num_steps = int(values[f"{name}/step"])
        for state in self.optimizer.state.values():
            state["step"].fill_(self.num_steps)

    def _make_moments(self) -> None:
        """Make the moments of all groups before the first step, and let ZeRO 1 and 2 find them.

        They look for them once, behind the step of the first group, and would never see those
        of the second (DeepSpeed 0.19.8).
        """
        zero = self.zero.engine.optimizer
        parts = (
            zero.fp32_partitioned_groups_flat
            if self.zero.stage == 3
            else zero.single_partition_of_fp32_groups
        )
        for part in parts:
            self.optimizer.state[part] = {
                "step": torch.zeros((), dtype=torch.float32, device=part.device),
                **{key: torch.zeros_like(part) for key in EXPONENTIAL_AVERAGES},
            }
        if self.zero.stage < 3:
            zero._lazy_init_hp_params_optimizer_state()
