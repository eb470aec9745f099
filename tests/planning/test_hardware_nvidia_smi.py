"""``nvidia-smi``'s text, as drivers print it."""

from __future__ import annotations

from voxplan.planning.nvidia_smi import SmiGpu, parse_mig, parse_query, visible, with_slices

MIB, GIB = 1024**2, 1024**3
QUERY = """\
GPU-11111111-aaaa-bbbb-cccc-000000000001, NVIDIA GeForce RTX 3090, 24576, 22210, 8.6
GPU-22222222-aaaa-bbbb-cccc-000000000002, NVIDIA A100-SXM4-40GB, 40960, 40511, 8.0
GPU-33333333-aaaa-bbbb-cccc-000000000003, NVIDIA GH200, [N/A], [N/A], 9.0
GPU-44444444-aaaa-bbbb-cccc-000000000004, Tesla K80, 11441, 11441, [N/A]
"""
LISTING = """\
GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-11111111-aaaa-bbbb-cccc-000000000001)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-22222222-aaaa-bbbb-cccc-000000000002)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 1g.5gb      Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
"""


def test_query_counts_other_processes() -> None:
    cards = parse_query(QUERY)
    assert [card.name for card in cards] == ["NVIDIA GeForce RTX 3090", "NVIDIA A100-SXM4-40GB", "Tesla K80"]
    assert cards[0] == SmiGpu(
        uuid="GPU-11111111-aaaa-bbbb-cccc-000000000001",
        name="NVIDIA GeForce RTX 3090",
        total=24576 * MIB,
        free=22210 * MIB,
        compute_capability=(8, 6),
    )
    assert cards[2].compute_capability is None


def test_garbage_is_no_gpu() -> None:
    assert (
        parse_query("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n") == ()
    )
    assert parse_query("") == ()


def test_mig_slices_stand_for_their_card() -> None:
    devices = with_slices(parse_query(QUERY), parse_mig(LISTING))
    assert [(device.name, device.total // GIB) for device in devices] == [
        ("NVIDIA GeForce RTX 3090", 24),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 20),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 5),
        ("Tesla K80", 11),
    ]
    assert devices[2].uuid == "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d"
    assert devices[2].compute_capability == (8, 0)


def test_visible_devices() -> None:
    devices = with_slices(parse_query(QUERY), parse_mig(LISTING))

    def names(variable: str | None) -> list[str]:
        return [device.name.split()[-1] for device in visible(devices, variable)]

    assert names(None) == ["3090", "3g.20gb", "1g.5gb", "K80"]
    assert names("3,0") == ["K80", "3090"]
    assert names("MIG-a28ad590,GPU-1111") == ["1g.5gb", "3090"]
    assert names("0,7,1") == ["3090"]
    assert names("-1") == []
    assert names("") == []
