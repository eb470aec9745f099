"""Scaling and search against full traces."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from voxplan.planning.memory import DoesNotFitError, MemoryModel, largest_batch, largest_patch
from voxplan.planning.memory.request import Request

GIB = 2**30


@pytest.mark.parametrize(
    ("name", "options", "sizes"),
    [
        ("unet", {"precision": "fp16"}, [((64, 96, 128), 1), ((128,) * 3, 4)]),
        ("mednext_s", {"precision": "bf16", "checkpointing": True}, [((32,) * 3, 1), ((80, 160, 160), 2)]),
        ("basic_unet", {"dimensions": 2, "precision": "fp32"}, [((48, 64), 1), ((512, 512), 16)]),
        ("monai_unet", {"device": "cpu", "precision": "fp32"}, [((96, 64, 128), 3)]),
    ],
)
def test_scaled_totals_are_those_of_a_trace(name: str, options: dict[str, Any], sizes: list[Any]) -> None:
    model = MemoryModel(name, **options)
    for patch_size, batch_size in sizes:
        confirmed = model.confirm(patch_size, batch_size).total
        assert model.total(patch_size, batch_size) == pytest.approx(confirmed, rel=0.003)


def test_a_network_whose_operators_depend_on_the_size_is_traced_each_time() -> None:
    class Pyramid(nn.Module):
        """Halves until eight voxels are left: more operators for larger patches."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 2, 1)

        def forward(self, image: Tensor) -> Tensor:
            out: Tensor = self.layer(image)
            total = out.mean((2, 3), keepdim=True)
            while image.shape[-1] > 8:
                image = nn.functional.avg_pool2d(image, 2)
                total = total + self.layer(image).mean((2, 3), keepdim=True)
            return out + total

    model = MemoryModel(Pyramid, dimensions=2, patch_unit=(32, 32))
    for patch_size in ((64, 64), (512, 512)):
        assert model.total(patch_size, 2) == model.confirm(patch_size, 2).total


def test_largest_batch_is_the_largest() -> None:
    model = MemoryModel("basic_unet")
    found = largest_batch(model, (64,) * 3, 8 * GIB)
    assert found.estimate.total <= 8 * GIB
    assert found.estimate.total == model.confirm((64,) * 3, found.batch_size).total
    assert model.confirm((64,) * 3, found.batch_size + 1).total > 8 * GIB
    with pytest.raises(DoesNotFitError, match="needs") as caught:
        largest_batch(model, (256,) * 3, 2 * GIB)
    assert caught.value.needed == model.confirm((256,) * 3, 1).total


def test_largest_patch_grows_along_the_aspect() -> None:
    model = MemoryModel("basic_unet")
    minimum = model.minimum_patch
    found = largest_patch(
        model, 8 * GIB, batch_size=2, step=(16,) * 3, minimum=minimum, maximum=(64, 256, 256)
    )
    assert found.estimate.total <= 8 * GIB
    z, y, x = found.patch_size
    assert abs(y - x) <= 16
    assert z / 64 == pytest.approx(y / 256, abs=0.26)
    everything = largest_patch(
        model, 999 * GIB, batch_size=2, step=(16,) * 3, minimum=minimum, maximum=(64, 100, 96)
    )
    assert everything.patch_size == (64, 96, 96)
    with pytest.raises(ValueError, match=r"minimum .* must not exceed maximum"):
        largest_patch(model, GIB, batch_size=2, step=(16,) * 3, minimum=(64,) * 3, maximum=(32,) * 3)


def test_totals_name_the_argument_that_does_not_work() -> None:
    model = MemoryModel("basic_unet")
    with pytest.raises(ValueError, match="batch_size"):
        model.total((64,) * 3, 0)
    with pytest.raises(ValueError, match="patch_size"):
        model.total((65, 64, 64), 2)


def test_a_search_costs_two_small_traces_and_one_to_confirm(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[tuple[tuple[int, ...], int]] = []
    real = Request.trace

    def counted(self: Request, **options: Any) -> Any:
        traced.append((self.patch_size, self.batch_size))
        return real(self, **options)

    monkeypatch.setattr(Request, "trace", counted)
    model = MemoryModel("basic_unet", dimensions=2)
    found = largest_batch(model, (256, 256), 4 * GIB)
    assert found.batch_size > 16
    assert len(traced) == 3
    assert traced[2] == ((256, 256), found.batch_size)
    assert all(batch * edges[0] * edges[1] < 256 * 256 for edges, batch in traced[:2])
    # Another question to the same model costs a confirmation only.
    largest_batch(model, (512, 512), 4 * GIB)
    assert len(traced) == 4
