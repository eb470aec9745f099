"""nnU-Net's own fingerprint of a raw folder, for timing. Runs in an environment with nnunetv2.

usage: nnunet_fingerprint.py RAW_FOLDER DATASET_ID JOBS
"""

import os
import sys
import tempfile

if __name__ == "__main__":
    raw, dataset_id, jobs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"nnUNet_raw": raw, "nnUNet_preprocessed": scratch, "nnUNet_results": scratch}
        from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
            DatasetFingerprintExtractor,
        )

        DatasetFingerprintExtractor(dataset_id, jobs, verbose=False).run(overwrite_existing=True)
