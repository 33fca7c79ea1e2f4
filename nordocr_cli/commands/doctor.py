"""`nordocr doctor`: what this machine has, and what is missing for which job."""

from nordocr_cli import options
from nordocr_cli.console import Console


def doctor(as_json: options.Json = False) -> None:
    """Check the installation: libraries, programs, GPU, PATH, disk.

    Example: nordocr doctor
    """
    from nordocr_cli.core.doctor import diagnose

    console = Console(as_json=as_json)
    findings = diagnose()
    if as_json:
        console.json([finding.to_json() for finding in findings])
        return
    rows = [(finding.mark, finding.what, finding.found, finding.advice) for finding in findings]
    console.table("nordocr doctor", ("", "what", "found", "advice"), rows)
    console.next(
        "make demo"
        if all(finding.ok for finding in findings if finding.needed)
        else "mend the rows marked ✗ first"
    )
