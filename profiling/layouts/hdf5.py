"""Container files (HDF5, Zarr) that hold image and label under keys: one file, one case."""

from __future__ import annotations

from ..fingerprint import Failure
from ..formats.base import CaseSource, FormatError
from .assemble import assemble
from .base import DiscoveredDataset, Layout, LayoutRequest
from .containers import choose_keys, is_container
from .keyed import failure_of
from .pairing import is_label_name
from .volumes import data_name, volumes_of_data


class KeysLayout(Layout):
    """Every volume file is a container, and none is called a label: the labels lie inside."""

    name = "keys"

    def matches(self, request: LayoutRequest) -> bool:
        """Containers only, and no name that says label."""
        if request.data is None:
            return False
        volumes = volumes_of_data(request.data, request.exclude)[0].volumes
        if not volumes or not all(is_container(volume.source.paths[0]) for volume in volumes):
            return False
        return request.label_key is not None or not any(is_label_name(volume.name) for volume in volumes)

    def discover(self, request: LayoutRequest) -> DiscoveredDataset:
        """One case a file; which key is which, :mod:`.containers` says."""
        assert request.data is not None
        found, listing = volumes_of_data(request.data, request.exclude)
        cases: list[CaseSource] = []
        failures: list[Failure] = []
        for volume in found.volumes:
            path = volume.source.paths[0]
            try:
                image, label = choose_keys(
                    path, request.image_key, request.label_key, use_labels=request.use_labels
                )
            except FormatError as error:
                failures.append(failure_of(volume.name, path, error))
                continue
            cases.append(CaseSource(id=volume.name, images=(image,), label=label))
        return assemble(
            layout=self.name,
            root=listing.root,
            cases=cases,
            listing=listing,
            failures=failures,
            notes=found.notes,
            name=data_name(request.data),
        )
