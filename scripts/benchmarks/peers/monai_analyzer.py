"""MONAI's Auto3DSeg DataAnalyzer over an nnU-Net raw data set, for timing. Runs in an environment with monai.

usage: monai_analyzer.py DATASET_FOLDER JOBS
"""

import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    from monai.apps.auto3dseg.data_analyzer import DataAnalyzer

    folder, jobs = Path(sys.argv[1]), int(sys.argv[2])
    cases = [
        {"image": f"imagesTr/{path.name}", "label": f"labelsTr/{path.name.replace('_0000', '')}"}
        for path in sorted((folder / "imagesTr").glob("*.nii.gz"))
    ]
    with tempfile.TemporaryDirectory() as scratch:
        analyzer = DataAnalyzer(
            {"training": cases},
            str(folder),
            output_path=str(Path(scratch) / "stats.yaml"),
            device="cpu",
            worker=jobs,
            image_key="image",
            label_key="label",
        )
        analyzer.get_all_case_stats()
