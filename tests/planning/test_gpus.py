"""The catalogue of GPUs, and how names are found in it."""

from __future__ import annotations

import pytest

from voxplan.planning.gpus import UnknownGpuError, catalogue, find_gpu, has_tensor_cores, stated_gpu

GENERATIONS = {
    "Pascal": {(6, 0), (6, 1)},
    "Volta": {(7, 0)},
    "Turing": {(7, 5)},
    "Ampere": {(8, 0), (8, 6)},
    "Ada Lovelace": {(8, 9)},
    "Hopper": {(9, 0)},
    "Blackwell": {(10, 0), (10, 3), (12, 0)},
}
"""Compute capabilities by generation, as NVIDIA's table of CUDA GPUs has them."""


def test_enough_cards_each_with_its_source() -> None:
    assert len(catalogue()) >= 40
    assert len({gpu.name for gpu in catalogue()}) == len(catalogue())
    for gpu in catalogue():
        assert "NVIDIA" in gpu.source, gpu.name
        assert gpu.compute_capability in GENERATIONS[gpu.generation], gpu.name
        assert 4 <= gpu.memory_gb <= 288, gpu.name
        assert gpu.usable_mib is None, "usable memory stands only where it was measured"


@pytest.mark.parametrize("gpu", [gpu for gpu in catalogue() if gpu.mig], ids=lambda gpu: gpu.name)
def test_mig_slices_are_named_by_their_memory(gpu) -> None:  # type: ignore[no-untyped-def]
    for profile, memory in gpu.mig.items():
        assert profile.endswith(f".{memory}gb")
        assert memory <= gpu.memory_gb
    assert gpu.compute_capability >= (8, 0)


def test_every_card_is_found_by_every_one_of_its_names() -> None:
    for gpu in catalogue():
        for name in (gpu.name, f"NVIDIA {gpu.name}", gpu.name.lower(), *gpu.aliases):
            assert find_gpu(name) is gpu, name


@pytest.mark.parametrize(
    ("written", "name", "capability"),
    [
        ("RTX 3090", "GeForce RTX 3090", (8, 6)),
        ("rtx3090ti", "GeForce RTX 3090 Ti", (8, 6)),
        ("NVIDIA GeForce RTX 4090", "GeForce RTX 4090", (8, 9)),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB", (8, 0)),
        ("v100 32 GB", "V100 32GB", (7, 0)),
        ("2080ti", "GeForce RTX 2080 Ti", (7, 5)),
        ("h100", "H100 80GB", (9, 0)),
    ],
)
def test_however_it_is_written(written: str, name: str, capability: tuple[int, int]) -> None:
    found = find_gpu(written)
    assert (found.name, found.compute_capability) == (name, capability)


@pytest.mark.parametrize(
    ("written", "candidates"),
    [
        ("A100", ("A100 80GB", "A100 40GB")),
        ("RTX 6000", ("Quadro RTX 6000", "RTX 6000 Ada Generation", "RTX PRO 6000 Blackwell")),
        ("3060", ("GeForce RTX 3060 Ti", "GeForce RTX 3060 12GB", "GeForce RTX 3060 8GB")),
    ],
)
def test_ambiguous_names_list_their_meanings(written: str, candidates: tuple[str, ...]) -> None:
    with pytest.raises(UnknownGpuError) as caught:
        find_gpu(written)
    assert all(candidate in str(caught.value) for candidate in candidates)


@pytest.mark.parametrize("written", ["", "GPU", "Radeon RX 7900", "RTX 9999"])
def test_unknown_names_say_what_to_do(written: str) -> None:
    with pytest.raises(UnknownGpuError, match="--gpu-memory"):
        find_gpu(written)


def test_abilities_follow_from_the_capability() -> None:
    assert not find_gpu("V100 32GB").bf16
    assert not find_gpu("T4").tf32
    assert find_gpu("A100 40GB").bf16
    assert find_gpu("RTX 4090").tf32


@pytest.mark.parametrize(
    "name",
    [
        "GeForce GTX 1660 Ti",
        "NVIDIA GeForce GTX 1650 with Max-Q Design",
        "GTX 1660 SUPER",
        "NVIDIA GeForce GTX 1630",
        "NVIDIA GeForce MX450",
        "Quadro T2000",
        "NVIDIA T1000 8GB",
        "NVIDIA T600 Laptop GPU",
    ],
)
def test_small_turing_chips_have_no_tensor_cores(name: str) -> None:
    """TU116 and TU117; their capability is that of cards that have them."""
    assert not has_tensor_cores(name, (7, 5))


def test_cards_with_tensor_cores_and_older_ones() -> None:
    for gpu in catalogue():
        small = gpu.name == "GeForce GTX 1660 Ti"
        assert has_tensor_cores(gpu.name, gpu.compute_capability) == (
            gpu.generation != "Pascal" and not small
        ), gpu.name
    assert has_tensor_cores("GeForce RTX 2060", (7, 5))
    assert has_tensor_cores("Tesla T4", (7, 5))
    assert has_tensor_cores("AMD Instinct MI250X", None)
    assert not has_tensor_cores("GeForce GTX 1080 Ti", (6, 1))


def test_mig_slice_of_a_card() -> None:
    sliced = stated_gpu("NVIDIA A100 80GB 3g.40gb")
    assert sliced.total_memory == 40 * 1024**3
    assert sliced.name == "A100 80GB MIG 3g.40gb"
    assert stated_gpu("H100 MIG 1g.10gb").total_memory == 10 * 1024**3
    assert stated_gpu("NVIDIA B300 SXM6 AC MIG 2g.67gb").total_memory == 67 * 1024**3
    assert stated_gpu("GH200 480GB MIG 1g.12gb").total_memory == 12 * 1024**3
    with pytest.raises(UnknownGpuError, match=r"its slices: 1g\.6gb, 2g\.12gb, 4g\.24gb"):
        stated_gpu("A30 1g.5gb")
    with pytest.raises(UnknownGpuError, match="none"):
        stated_gpu("RTX 3090 1g.5gb")


@pytest.mark.parametrize("suffix", ["+me", "+gfx", "+me.all", "-me"])
def test_mig_slices_with_media_engines_or_without_have_the_same_memory(suffix: str) -> None:
    assert stated_gpu(f"RTX PRO 6000 MIG 1g.24gb{suffix}").total_memory == 24 * 1024**3


def test_a_slice_tells_which_of_several_cards_is_meant() -> None:
    assert stated_gpu("A100 MIG 1g.5gb").name == "A100 40GB MIG 1g.5gb"
    assert stated_gpu("A100 7g.80gb").name == "A100 80GB MIG 7g.80gb"
    with pytest.raises(UnknownGpuError, match="A100 80GB, A100 40GB"):
        stated_gpu("A100 1g.10gb")
    with pytest.raises(UnknownGpuError, match="A100 80GB, A100 40GB"):
        stated_gpu("A100 1g.99gb")


def test_what_the_driver_reports_is_within_the_default_memory_fraction() -> None:
    # MiB as nvidia-smi lists them for an idle card; the default plans with 0.9 of the nominal memory.
    reported = {
        "B300": 275040,
        "H200": 143771,
        "H100 80GB": 81559,
        "A100 40GB": 40960,
        "L4": 23034,
        "T4": 15360,
    }
    for name, mib in reported.items():
        assert 0.9 * find_gpu(name).memory <= 0.97 * mib * 1024**2, name
