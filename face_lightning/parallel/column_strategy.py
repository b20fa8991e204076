"""Lightning's strategy of column parallelism: checkpoints hold whole tables, processes their columns."""

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor
from torch.optim import Optimizer

from face_lightning.parallel.column_shards import ColumnShards, own_columns, whole_columns
from face_lightning.parallel.table_layout import TABLE, TableLayout, WholeTables


class ColumnParallelStrategy(DDPStrategy):
    """`--trainer.strategy column_parallel`: stages 1 and 2 with the tables' columns spread over processes.

    Checkpoints hold whole tables, and are the same as those of one process.
    """

    shares_columns = True

    def configure_ddp(self) -> None:
        """Leave the module unwrapped: tables share no gradient, and the stage averages those of other parameters."""

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """State with whole tables on the first process; the others' is not written."""
        return {name: self._whole(name, value) for name, value in super().lightning_module_state_dict().items()}

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:  # noqa: ANN401
        """Load this process's columns of whole tables."""
        state = {name: self._own(name, value) for name, value in checkpoint["state_dict"].items()}
        super().load_model_state_dict({**checkpoint, "state_dict": state}, strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """State of whole tables on the first process."""
        return _map_tables(super().optimizer_state(optimizer), self._table_indices(optimizer), whole_columns)

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:  # noqa: ANN401
        """Load this process's columns of the optimizer's state."""
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
    def _whole(name: str, value: Tensor) -> Tensor:
        return whole_columns(value) if name.endswith(TABLE) else value

    @staticmethod
    def _own(name: str, value: Tensor) -> Tensor:
        return own_columns(value) if name.endswith(TABLE) else value


StrategyRegistry.register("column_parallel", ColumnParallelStrategy, description="shares columns of the tables")


def layout_of(trainer: L.Trainer) -> TableLayout:
    """How the tables lie over the processes of a Trainer, as its strategy has it."""
    return ColumnShards() if getattr(trainer.strategy, "shares_columns", False) else WholeTables()


def _map_tables(state: dict[str, Any], indices: set[int], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """An optimizer's state with the matrices that belong to the parameters at `indices` changed."""
    moments = dict(state["state"])
    for number in indices & moments.keys():
        values = moments[number].items()
        moments[number] = {
            key: change(value) if isinstance(value, Tensor) and value.dim() == 2 else value for key, value in values
        }
    return {**state, "state": moments}
