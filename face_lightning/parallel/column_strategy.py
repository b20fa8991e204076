"""Lightning strategy for column parallelism: processes hold columns of tables, checkpoints full tables."""

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor
from torch.optim import Optimizer

from face_lightning.parallel.column_shards import ColumnShards, own_columns, whole_columns
from face_lightning.parallel.table_layout import TABLE, TableLayout, WholeTables


class ColumnParallelStrategy(DDPStrategy):
    """`--trainer.strategy column_parallel`: stages 1 and 2 with the columns of tables sharded over processes.

    Checkpoints contain full tables, and are identical to those of a single process.
    """

    shares_columns = True

    def configure_ddp(self) -> None:
        """Do not wrap the module: tables share no gradients, and the stage averages those of other parameters."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """State of the module, with full tables on rank 0, which alone writes checkpoints."""
        return {name: self._gather(name, value) for name, value in super().lightning_module_state_dict().items()}

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:  # noqa: ANN401
        """Load the columns of this process from full tables."""
        state = {name: self._shard(name, value) for name, value in checkpoint["state_dict"].items()}
        super().load_model_state_dict({**checkpoint, "state_dict": state}, strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """State of the optimizer, for full tables on rank 0."""
        return _map_tables(super().optimizer_state(optimizer), self._table_indices(optimizer), whole_columns)

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:  # noqa: ANN401
        """Load the columns of this process from the optimizer's state."""
        states = [
            _map_tables(state, self._table_indices(optimizer), own_columns)
            for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
        ]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": states})

    def _table_indices(self, optimizer: Optimizer) -> set[int]:
        """Indices of the tables among an optimizer's parameters."""
        assert self.lightning_module is not None
        tables = {id(value) for name, value in self.lightning_module.named_parameters() if name.endswith(TABLE)}
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return {number for number, parameter in enumerate(parameters) if id(parameter) in tables}

    @staticmethod
    def _gather(name: str, value: Tensor) -> Tensor:
        return whole_columns(value) if name.endswith(TABLE) else value

    @staticmethod
    def _shard(name: str, value: Tensor) -> Tensor:
        return own_columns(value) if name.endswith(TABLE) else value


StrategyRegistry.register("column_parallel", ColumnParallelStrategy, description="shares columns of the tables")


def layout_of(trainer: L.Trainer) -> TableLayout:
    """Layout of the tables over the processes of a Trainer, by its strategy."""
    return ColumnShards() if getattr(trainer.strategy, "shares_columns", False) else WholeTables()


def _map_tables(state: dict[str, Any], indices: set[int], function: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Apply a function to the matrices in an optimizer's state that belong to the parameters at `indices`."""
    moments = dict(state["state"])
    for number in indices & moments.keys():
        values = moments[number].items()
        moments[number] = {
            key: function(value) if isinstance(value, Tensor) and value.dim() == 2 else value for key, value in values
        }
    return {**state, "state": moments}
