"""Using a plan in training: network, loss, optimizer, schedule, normalization and loader, as the plan says.

    from voxplan.plans import load_plans

    plan = load_plans("plans.json")["unet/3d_fullres"]
    network = plan.build_network(device="cuda")

Loading imports no torch and executes nothing from the file; torch comes with the first ``build_``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .architectures import get_architecture
from .document import read_document
from .schedule import learning_rate_factor
from .schema import (
    IGNORE_INDEX,
    ArchitectureChoice,
    DatasetPlan,
    Decision,
    ExperimentPlan,
    Floats,
    Fold,
    Hardware,
    InferenceChoice,
    Ints,
    LoaderChoice,
    LossChoice,
    MemoryPrediction,
    OptimizerChoice,
    PlansDocument,
    Precision,
    ScheduleChoice,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

    from voxplan.profiling.formats.base import CaseSource, ReadOptions

    from .data import PatchDataset

GRADIENT_CLIP_NORM = 12.0
"""Largest norm of all gradients together (nnU-Net 2.8.1, ``train_step``)."""
LIGHTNING_PRECISIONS: dict[Precision, str] = {
    "fp32": "32-true",
    "tf32": "32-true",
    "fp16": "16-mixed",
    "bf16": "bf16-mixed",
}
"""What ``lightning.Trainer`` calls them; TF32 is no precision there, see :meth:`Plan.trainer_kwargs`."""


class Plan:
    """One plan of a file, ready to build from.

    Every field of :class:`~voxplan.plans.schema.ExperimentPlan` is an attribute (``plan.patch_size``).
    """

    architecture: ArchitectureChoice
    dimensions: Literal[2, 3]
    spacing: Floats | None
    median_shape: Ints
    patch_size: Ints
    batch_size: int
    global_batch_size: int
    accumulation: int
    precision: Precision
    checkpointing: bool
    compile: bool
    deep_supervision: bool
    loss: LossChoice
    optimizer: OptimizerChoice
    schedule: ScheduleChoice
    loader: LoaderChoice
    inference: InferenceChoice
    memory: MemoryPrediction
    decisions: dict[str, Decision]
    warnings: tuple[str, ...]

    def __init__(self, name: str, experiment: ExperimentPlan, dataset: DatasetPlan) -> None:
        self.name = name
        self.experiment = experiment
        self.dataset = dataset

    def __getattr__(self, field: str) -> Any:
        """Fields of the experiment; called only for names that are not set here."""
        if field in ExperimentPlan.model_fields:
            return getattr(self.experiment, field)
        msg = f"a plan has no {field!r}; its fields: {', '.join(ExperimentPlan.model_fields)}"
        raise AttributeError(msg)

    def __repr__(self) -> str:
        return f"Plan({self.name!r}, patch_size={self.patch_size}, batch_size={self.batch_size})"

    @property
    def devices(self) -> int:
        """GPUs that the plan trains on; 1 for a CPU."""
        return self.global_batch_size // self.batch_size

    def with_batch(self, batch_size: int, accumulation: int, *, why: str) -> Plan:
        """This plan with another batch per GPU and accumulation; its memory stays that of the planned one."""
        decision = Decision(by="hardware", why=why)
        changes = {
            "batch_size": batch_size,
            "global_batch_size": batch_size * self.devices,
            "accumulation": accumulation,
            "decisions": {**self.decisions, "batch_size": decision, "accumulation": decision},
        }
        return Plan(self.name, self.experiment.model_copy(update=changes), self.dataset)

    def build_network(self, device: torch.device | str | None = None) -> nn.Module:
        """The network, on ``device`` (torch's default device if None); ``"meta"`` allocates nothing.

        Raises:
            ValueError: the architecture is unknown, its arguments are wrong, or the patch does not fit it.
        """
        import torch

        architecture = get_architecture(self.architecture.name)
        arguments = self.architecture.arguments
        architecture.validate(arguments, dimensions=self.dimensions, patch_size=self.patch_size)
        with torch.device(device if device is not None else torch.get_default_device()):
            return architecture.build(
                arguments,
                dimensions=self.dimensions,
                in_channels=self.dataset.in_channels,
                out_channels=self.dataset.out_channels,
                deep_supervision=self.deep_supervision,
                checkpointing=self.checkpointing,
            )

    def build_loss(self) -> nn.Module:
        """The loss, called as ``loss(outputs, target)``; see :mod:`voxplan.plans.losses`."""
        from .losses import build_loss

        return build_loss(
            self.loss,
            task=self.dataset.task,
            out_channels=self.dataset.out_channels,
            ignore_index=None if self.dataset.ignore is None else IGNORE_INDEX,
        )

    def build_optimizer(self, parameters: nn.Module | Iterable[nn.Parameter]) -> Optimizer:
        """The optimizer of a network, or of the parameters given."""
        from torch import nn
        from torch.optim import SGD, AdamW

        if isinstance(parameters, nn.Module):
            parameters = parameters.parameters()
        choice = self.optimizer
        if choice.name == "sgd":
            return SGD(
                parameters,
                lr=choice.lr,
                momentum=choice.momentum,
                nesterov=choice.nesterov,
                weight_decay=choice.weight_decay,
            )
        return AdamW(
            parameters, lr=choice.lr, betas=choice.betas, eps=choice.eps, weight_decay=choice.weight_decay
        )

    def build_scheduler(self, optimizer: Optimizer) -> LambdaLR:
        """The learning rate's course; call ``step()`` after every optimizer step (not every epoch).

        nnU-Net steps once an epoch: at the first step of each epoch the rates are the same.
        """
        from torch.optim.lr_scheduler import LambdaLR

        schedule = self.schedule
        return LambdaLR(optimizer, lambda step: learning_rate_factor(schedule, step))

    def normalize(self, volume: NDArray[Any], case_id: str | None = None) -> NDArray[np.float32]:
        """Intensities as the network takes them, float32 ``(C, *shape)``.

        Args:
            volume: image ``(C, *shape)`` with slope and intercept applied, or ``(Z, Y, X)`` for one channel.
            case_id: which case of the data set it belongs to, for schemes with numbers by case. None, or new:
                ``volume`` is the whole image, and its own numbers are measured.

        Raises:
            ValueError: the channels are not the plan's.
        """
        from .normalization import normalize

        return normalize(volume, self.dataset, case_id=case_id)

    def make_dataset(
        self,
        cases: Sequence[CaseSource],
        training: bool = True,
        seed: int = 0,
        fold: Fold = 0,
        *,
        read: ReadOptions | None = None,
        cache_folder: Path | None = None,
    ) -> PatchDataset:
        """Patches of these cases, read lazily; see :class:`voxplan.plans.data.PatchDataset`.

        Files that do not state their spacing need ``read``, as the commands need ``--spacing``, ``--unit``.
        """
        from voxplan.profiling.formats.base import ReadOptions

        from .data import make_dataset

        return make_dataset(
            self,
            cases,
            training=training,
            seed=seed,
            fold=fold,
            read=ReadOptions() if read is None else read,
            cache_folder=cache_folder,
        )

    def trainer_kwargs(self) -> dict[str, Any]:
        """Arguments of ``lightning.Trainer`` that train this plan.

        For ``tf32`` call ``torch.set_float32_matmul_precision("high")`` beside: Lightning has no name for it.
        The schedule of :meth:`build_scheduler` belongs in ``{"scheduler": ..., "interval": "step"}``.
        """
        kwargs: dict[str, Any] = {
            "accelerator": "cpu" if self.memory.device == "cpu" else "gpu",
            "devices": self.devices,
            "precision": LIGHTNING_PRECISIONS[self.precision],
            "accumulate_grad_batches": self.accumulation,
            "gradient_clip_val": GRADIENT_CLIP_NORM,
            "gradient_clip_algorithm": "norm",
            "max_epochs": self.schedule.epochs,
            "limit_train_batches": self.schedule.steps_per_epoch * self.accumulation,
        }
        if self.devices > 1:
            unused_head = 0.0 in self.loss.deep_supervision_weights
            kwargs["strategy"] = "ddp_find_unused_parameters_true" if unused_head else "ddp"
        return kwargs


class Plans(Mapping[str, Plan]):
    """The plans of a file by name (``unet/3d_fullres``), best first as the planner ranked them."""

    def __init__(self, document: PlansDocument) -> None:
        self.document = document

    @property
    def dataset(self) -> DatasetPlan:
        """What all plans share about the data."""
        return self.document.dataset

    @property
    def hardware(self) -> Hardware:
        """The machine that the plans were made for."""
        return self.document.hardware

    @property
    def recommended(self) -> Plan | None:
        """The plan that the planner recommends, if any plan could be made."""
        name = self.document.recommended
        return None if name is None else self[name]

    def __getitem__(self, name: str) -> Plan:
        """A plan by its full name.

        Raises:
            KeyError: listing the known names.
        """
        if name not in self.document.plans:
            msg = f"no plan {name!r}; known: {', '.join(self.document.plans) or 'none'}"
            raise KeyError(msg)
        return Plan(name, self.document.plans[name], self.document.dataset)

    def __contains__(self, name: object) -> bool:
        return name in self.document.plans

    def __iter__(self) -> Iterator[str]:
        return iter(self.document.plans)

    def __len__(self) -> int:
        return len(self.document.plans)

    def __repr__(self) -> str:
        return f"Plans({', '.join(self)})"


def load_plans(path: Path | str) -> Plans:
    """Load ``plans.json``.

    Raises:
        FileNotFoundError: there is no such file.
        voxplan.plans.document.PlansError: it is no valid plans file, naming every problem.
    """
    return Plans(read_document(path))
