"""Command `doctor`: examines a scan before the work."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from pcdistill.cli.words import OptionalPath, Overrides, make_console


def doctor(
    scan: Positional[Path],
    out: OptionalPath = None,
    part: str = "",
    set_: Overrides = (),
) -> int:
    """Look at a scan before the work and say in words what is wrong with it.

    Args:
        scan: Folder or file of a scan.
        out: Folder for doctor.json and pictures; by default doctor-SCAN here.
        part: Which of several scans.
        set_: How to read it, such as depth_scale=5000 or up_axis=y.
    """
    from pcdistill.cli.doctor_output import examine_scan, print_report

    report = examine_scan(scan, out, part, set_)
    print_report(make_console(), report)
    return 0 if report.diagnosis.healthy else 1
