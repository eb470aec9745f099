"""Printing a plan in the documented words."""

from __future__ import annotations

from .result import AutoPlanResult


def print_result(architecture: str, result: AutoPlanResult) -> None:
    """Print the values, the notes and the warnings."""
    from voxplan.profiling.report.console import safe_console

    console = safe_console(markup=False, soft_wrap=True)
    for line in result_lines(architecture, result):
        console.print(line)


def result_lines(architecture: str, result: AutoPlanResult) -> list[str]:
    """What :func:`print_result` prints."""
    memory = "none needed (CPU)"
    if result.available_gpu_memory_gb:
        memory = (
            f"{result.estimated_gpu_memory_gb:.1f} of {result.available_gpu_memory_gb:.1f} GB free, "
            f"{result.gpu_memory_per_sample_gb:.1f} GB a sample"
        )
    rows = {
        "patch size": " x ".join(map(str, result.patch_size)),
        "batch size": str(result.batch_size),
        "accumulate": str(result.accumulate_grad_batches),
        "precision": result.precision,
        "learning rate": f"{result.lr:g}",
        "features": f"{result.base_features} to {result.max_features}",
        "workers": str(result.num_workers),
        "GPU memory": memory,
    }
    lines = [f"Automatic plan for {architecture}"]
    lines += [f"  {name:<14} {value}" for name, value in rows.items()]
    lines += ["Notes:"] + [f"  - {note}" for note in result.planning_notes]
    if result.warnings:
        lines += ["Warnings:"] + [f"  ! {warning}" for warning in result.warnings]
    return lines
