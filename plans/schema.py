"""What a plans file may say: the frozen model of ``plans.json``. No torch here.

Axis order is ZYX (YX in 2D plans). Memory is in bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT_VERSION = 1
IGNORE_INDEX = -1
"""Value of ignored voxels in semantic targets (class indices)."""
IGNORE_BINARY = 255
"""Value of ignored voxels in targets of zeros and ones (affinity, boundary, overlapping regions)."""

Task = Literal["semantic", "affinity", "boundary"]
Precision = Literal["fp32", "tf32", "fp16", "bf16"]
Fold = int | Literal["all"]
"""One of the plan's splits, or all data in both parts: nothing is held back."""
Limit = Literal["memory", "median shape", "dataset share", "compute", "recipe", "user"]
"""What keeps a patch or a batch from being larger.

``memory``: the next larger one exceeds the budget. ``median shape``: the patch covers it.
``dataset share``: a batch may cover 5 % of the data set's voxels, and is at least 2. ``compute``: a CPU step
should take seconds. ``recipe``: no optimizer recipe holds beyond 512 samples. ``user``: set by the user.
"""
DecidedBy = Literal["rule", "data", "hardware", "architecture", "user"]
Ints = tuple[int, ...]
Floats = tuple[float, ...]
Positive = Annotated[int, Field(gt=0)]


class Model(BaseModel):
    """Frozen; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Decision(Model):
    """Why a value is what it is."""

    by: DecidedBy
    why: str
    """One sentence."""


class ArchitectureChoice(Model):
    """A registered name and the arguments that its ``build`` takes; never an import path."""

    name: str
    arguments: dict[str, Any]


class OptimizerChoice(Model):
    """An optimizer of ``torch.optim`` by its lower-case name."""

    name: Literal["adamw", "sgd"]
    lr: float = Field(gt=0)
    weight_decay: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    eps: float = 1e-8
    betas: tuple[float, float] = (0.9, 0.999)


class ScheduleChoice(Model):
    """Learning rate over the training."""

    name: Literal["poly", "cosine", "constant"]
    epochs: Positive
    steps_per_epoch: Positive
    """Optimizer steps."""
    power: float = 0.9
    """Exponent of ``poly``: lr * (1 - step / total) ** power."""
    warmup_steps: int = 0


class LossChoice(Model):
    """The loss that training runs and that the memory was traced with (``dice_bce``: overlapping regions)."""

    name: Literal["dice_ce", "dice_bce", "bce"]
    batch_dice: bool = False
    deep_supervision_weights: Floats = (1.0,)
    """One weight an output, full resolution first; they sum to 1."""


class LoaderChoice(Model):
    """Loader workers and caching."""

    workers: int = Field(ge=0)
    cache: Literal["none", "ram", "disk"]
    pin_memory: bool
    oversample_foreground: float = 1 / 3
    """Share of patches that are centred on foreground (nnU-Net's third)."""


class InferenceChoice(Model):
    """Sliding window."""

    window: Ints
    overlap: float = 0.5
    batch_size: Positive = 1
    memory: int | None = None
    """Predicted bytes of the process on the GPU."""


class MemoryPrediction(Model):
    """Predicted peak of one eager training step on one device, in bytes."""

    allocated: int
    reserved: int
    context: int
    total: int
    """What the driver would show for the process: reserved + context."""
    parts: dict[str, int]
    """``parameters``, ``gradients``, ``optimizer``, ``activations``, ``workspace`` at the peak."""
    budget: int
    fits: bool
    device: str
    """What the budget belongs to: a GPU's name, or ``cpu``."""
    measured: dict[str, int] | None = None
    """Filled by ``--verify``."""


class Alternative(Model):
    """A candidate that was considered."""

    patch_size: Ints
    batch_size: int
    total: int
    """Predicted bytes."""
    fits: bool
    verdict: str
    """Why it was taken or not."""


class ExperimentPlan(Model):
    """One network on one resolution."""

    architecture: ArchitectureChoice
    dimensions: Literal[2, 3]
    spacing: Floats | None
    """Target spacing of the patch axes in the dataset's unit; None: plan in voxels."""
    median_shape: Ints
    """Median shape of the patch axes at that spacing."""
    patch_size: Ints
    batch_size: Positive
    """Samples per GPU and step."""
    global_batch_size: Positive
    """Over all GPUs, accumulation not counted."""
    accumulation: Positive = 1
    precision: Precision
    checkpointing: bool = False
    """Gradient checkpointing."""
    compile: bool = False
    """Estimates are for eager execution."""
    deep_supervision: bool
    loss: LossChoice
    optimizer: OptimizerChoice
    schedule: ScheduleChoice
    loader: LoaderChoice
    inference: InferenceChoice
    memory: MemoryPrediction
    limits: dict[Literal["patch_size", "batch_size"], Limit] = {}
    """What keeps each from being larger; where it is not ``memory``, some of the budget may stay unused."""
    alternatives: tuple[Alternative, ...] = ()
    decisions: dict[str, Decision]
    """By field name; every value that was chosen has one."""
    warnings: tuple[str, ...] = ()


class ChannelNormalization(Model):
    """How one channel's intensities become network input.

    ``ct``: clip to the 0.5 and 99.5 percentile of the foreground, then (x - mean) / std, all of the data set.
    ``zscore``: each case's own mean and std (over its non-zero voxels if ``masked``).
    ``scale``: (x - low) / (high - low), the same for every case, e.g. uint8 EM by 0 and 255.
    ``none``: unchanged.
    """

    channel: str
    scheme: Literal["ct", "zscore", "scale", "none"]
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    masked: bool = False


class CaseNumbers(Model):
    """Per-case mean and std of each channel, for schemes that need them (crop box; masked: non-zero)."""

    mean: Floats
    std: Floats


class SpatialBlock(Model):
    """A half-open range along one axis (ZYX index) of one case."""

    case: str
    axis: int
    start: int
    stop: int


class Split(Model):
    """One fold: whole cases, or blocks inside cases where there are fewer than five."""

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    train_blocks: tuple[SpatialBlock, ...] = ()
    validation_blocks: tuple[SpatialBlock, ...] = ()


class DatasetPlan(Model):
    """What all plans of the file share about the data."""

    name: str
    task: Task
    offsets: tuple[tuple[int, int, int], ...] = ()
    """Affinity offsets, ZYX."""
    channel_names: tuple[str, ...]
    classes: dict[str, tuple[int, ...]]
    """Name to label values, background included; empty for affinity and boundary."""
    object_ids: bool = False
    """Label maps hold ids of objects, and all above 0 (but ``ignore``) are the class of value 1."""
    ignore: int | None
    out_channels: Positive
    target_spacing: tuple[float, float, float] | None
    spacing_unit: str
    median_shape: tuple[int, int, int]
    """At the target spacing, ZYX."""
    training_voxels: Positive | None = None
    """Of all training cases at the target spacing, by their median shape (nnU-Net's count): what the 5 % of a
    batch are counted of."""
    transpose: tuple[int, int, int] = (0, 1, 2)
    """Axis order that nnU-Net's rule would train in; the patch axes here stay ZYX."""
    normalization: tuple[ChannelNormalization, ...]
    case_numbers: dict[str, CaseNumbers]
    """By case id; empty where no scheme needs them."""
    splits: tuple[Split, ...]
    decisions: dict[str, Decision]
    warnings: tuple[str, ...] = ()

    @property
    def in_channels(self) -> int:
        """Number of image channels."""
        return len(self.channel_names)


class Gpu(Model):
    """One graphics card."""

    name: str
    total_memory: int
    """Bytes, as the driver reports them or as the catalogue states."""
    free_memory: int
    """Bytes that no process holds; equal to ``total_memory`` for an absent card."""
    compute_capability: tuple[int, int] | None
    present: bool
    """False for a card named by the user."""
    backend: Literal["cuda", "rocm", "mps"] = "cuda"


class Hardware(Model):
    """The machine that the plans are for."""

    gpus: tuple[Gpu, ...]
    ram: int
    """Usable bytes of main memory (cgroup limits counted)."""
    ram_available: int
    cores: int
    """Usable cores (affinity, cgroup and SLURM counted)."""
    shared_memory: int | None
    """Bytes of /dev/shm, where loader workers hand over batches; None: there is none, or it is not known."""
    stated: bool
    """True where any of it was stated by the user instead of detected."""
    notes: tuple[str, ...] = ()
    """What was assumed, or found but is not modelled."""


class Provenance(Model):
    """How the file came about."""

    program: str
    version: str
    created: str
    options: dict[str, str]
    torch_version: str
    fingerprint: str


class PlansDocument(Model):
    """The whole of ``plans.json``."""

    format_version: int = FORMAT_VERSION
    provenance: Provenance
    dataset: DatasetPlan
    hardware: Hardware
    plans: dict[str, ExperimentPlan]
    """By ``<architecture>/<configuration>``, e.g. ``unet/3d_fullres``."""
    failures: dict[str, str] = {}
    """Architectures that got no plan, and what they would need."""
    recommended: str | None
