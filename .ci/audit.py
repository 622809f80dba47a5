"""Audits locked dependencies for known vulnerabilities; what could not be looked up is said, and fails nothing."""

from __future__ import annotations

import json
import subprocess
import sys


def main(lock: str) -> int:
    """Print what was found; 1 if anything was."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--disable-pip", "--require-hashes"]
    result = subprocess.run(  # noqa: S603  # fixed words
        [*command, "--format", "json", "--progress-spinner", "off"], check=False, capture_output=True, text=True
    )
    try:
        found = json.loads(result.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"audit: nothing was audited: {result.stderr.strip()[-300:]}")
        return 0
    left_out = [package for package in found if "skip_reason" in package]
    vulnerable = [package for package in found if package.get("vulns")]
    for package in vulnerable:
        for vulnerability in package["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "none yet"
            print(f"audit: {package['name']} {package['version']}: {vulnerability['id']}, fixed in: {fixed}")
    print(f"audit: {len(found) - len(left_out)} of {len(found)} packages audited, {len(vulnerable)} vulnerable")
    if left_out:
        print(f"audit: the index tells no vulnerabilities of {len(left_out)}, such as {left_out[0]['name']}")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
